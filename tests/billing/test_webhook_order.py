"""Webhooks late, doubled, shuffled, lost and at once: the same end. And customers who are deleted or discounted."""

import random
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
import stripe
from django.db import connections
from djstripe import models as djstripe
from djstripe.settings import djstripe_settings

from billing.models import Access
from billing.stripe import client as stripe_client
from billing.stripe.client import get_client
from billing.stripe.customers import ensure_customer, find_customer
from sandbox.transport import SandboxHTTPClient
from tests.billing.cast import deliver, subscribe
from tests.billing.stage import BAD_CARD, DAY, HOUR, Stage, open_stage
from tests.billing.waiting import somebody_waits_for_a_lock, wait_until

pytestmark = [pytest.mark.django_db, pytest.mark.long]


@pytest.fixture
def stage(sandbox, webhook_endpoint, plans, owner):
    with open_stage(sandbox, owner) as stage:
        yield stage


def state(stage: Stage) -> tuple[Any, ...]:
    entitlement = stage.entitlement
    return (
        entitlement.status,
        entitlement.status_since,
        entitlement.access,
        entitlement.plan.slug,
        entitlement.period_start,
        entitlement.subscription_id,
    )


def live_a_little(stage: Stage, plans: Any) -> None:
    """A purchase, a renewal that fails, its payment, and another failure."""
    stage.subscribe(plans.pro)
    stage.hears = False
    stage.use_card(BAD_CARD)
    stage.go(31 * DAY + 2 * HOUR)
    stage.pay()
    stage.use_card(BAD_CARD)
    stage.go(31 * DAY)
    stage.hears = True


@pytest.mark.parametrize("seed", range(4))
def test_late_doubled_and_shuffled_webhooks_end_in_the_state_that_stripe_has(stage, plans, seed):
    live_a_little(stage, plans)
    chance = random.Random(seed)  # noqa: S311  # Repeatable is what is wanted.
    pending = stage.sandbox.webhooks.pending() * 2
    chance.shuffle(pending)

    assert set(deliver(stage.sandbox, pending)) == {200}

    invoice = stage.sandbox.get("invoice", stage.subscription["latest_invoice"])
    failed = invoice["status_transitions"]["finalized_at"]
    assert (stage.entitlement.status, stage.entitlement.access) == ("past_due", Access.FULL)
    assert stage.entitlement.status_since.timestamp() == failed


def test_an_old_event_does_not_bring_an_old_state_back(stage, plans):
    """What the payload says is never taken for what is so."""
    subscription = stage.subscribe(plans.pro)
    get_client().v1.subscriptions.update(subscription, {"description": "as it was"})
    old = stage.sandbox.webhooks.pending()
    assert '"status": "active"' in old[0].body.decode()
    get_client().v1.subscriptions.cancel(subscription)
    stage.hear([each for each in stage.sandbox.webhooks.pending() if each not in old])
    ended = state(stage)

    stage.hear(old)

    assert state(stage) == ended
    assert stage.entitlement.status == "canceled"


@pytest.mark.parametrize("kind", ["invoice", "customer.subscription"])
def test_what_one_kind_of_event_tells_is_known_though_all_others_are_lost(stage, plans, kind):
    """A payment that fails, and arrives: by the invoice's events alone, and by the subscription's alone."""
    stage.subscribe(plans.pro)
    stage.hears = False
    stage.use_card(BAD_CARD)
    failed = stage.entitlement.period_end + HOUR
    stage.go(failed)
    stage.hear_of(kind)
    assert (stage.entitlement.status, stage.entitlement.status_since) == ("past_due", failed)

    stage.pay()
    stage.hear_of(kind)
    assert (stage.entitlement.status, stage.entitlement.access) == ("active", Access.FULL)


class Held(SandboxHTTPClient):
    """Stripe, whose first answer about a subscription is long on its way: what it says is soon no longer so."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.asked, self.arrives, self.is_held = Event(), Event(), False

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        answer = super().request(method, url, *args, **kwargs)
        if not self.is_held and method.lower() == "get" and "/v1/subscriptions/" in url:
            self.is_held = True
            self.asked.set()
            assert self.arrives.wait(timeout=60)
        return answer


@pytest.mark.django_db(transaction=True)
def test_of_two_events_at_once_the_older_answer_does_not_win(
    sandbox, recorder, webhook_endpoint, organization, plans
):
    """Reproduced without the lock: Stripe says canceled, the mirror says active, and it stays so."""
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    deliver(sandbox)
    get_client().v1.subscriptions.update(subscription.id, {"description": "as it was"})
    (older,) = sandbox.webhooks.pending()
    slow = Held(sandbox, recorder=recorder)
    stripe_client.use_http_client(slow)

    def hear(delivery: Any) -> list[int]:
        try:
            return deliver(sandbox, [delivery])
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as stripe_itself:
        first = stripe_itself.submit(hear, older)
        assert slow.asked.wait(timeout=60)
        get_client().v1.subscriptions.cancel(subscription.id)
        newer = next(d for d in sandbox.webhooks.pending() if d.event_type == "customer.subscription.deleted")
        second = stripe_itself.submit(hear, newer)
        wait_until(lambda: second.done() or somebody_waits_for_a_lock())
        slow.arrives.set()
        assert (first.result(), second.result()) == ([200], [200])

    subscription.refresh_from_db()
    assert subscription.stripe_data["status"] == "canceled"
    organization.entitlement.refresh_from_db()
    assert organization.entitlement.plan == plans.free


def test_a_deleted_customer_is_not_brought_back_by_what_is_heard_late(stage, plans):
    stage.subscribe(plans.pro)
    gone = stage.customer
    get_client().v1.customers.update(gone, {"name": "Acme Ltd"})
    get_client().v1.subscriptions.update(stage.subscription["id"], {"description": "as it was"})
    late = stage.sandbox.webhooks.pending()
    get_client().v1.customers.delete(gone)
    stage.hear([each for each in stage.sandbox.webhooks.pending() if each not in late])
    after = state(stage)
    assert after[0] == "none"

    stage.hear(late * 2)

    assert state(stage) == after
    assert find_customer(stage.organization) is None
    assert djstripe.Customer.objects.get(id=gone).date_purged is not None


def test_after_a_deletion_a_new_customer_may_subscribe_anew(stage, plans, django_capture_on_commit_callbacks):
    stage.subscribe(plans.pro)
    gone = stage.customer
    get_client().v1.customers.delete(gone)
    with django_capture_on_commit_callbacks() as queued:
        stage.hear()
    assert "ensure_customer_of" in str(queued)

    assert ensure_customer(stage.organization).id != gone
    stage.subscribe(plans.team)
    assert stage.entitlement.plan == plans.team


def test_a_deletion_heard_of_twice_and_before_the_customer_was_known_does_no_harm(stage, plans):
    stranger = get_client().v1.customers.create({"email": "someone@else.example"})
    get_client().v1.customers.delete(stranger.id)
    pending = stage.sandbox.webhooks.pending()

    assert set(deliver(stage.sandbox, pending * 2)) == {200}
    assert stage.entitlement.status == "none"


def discounted(stage: Stage, customer: str) -> None:
    """Give a customer a discount, as Stripe's dashboard can and its API no longer does."""
    coupon = get_client().v1.coupons.create({"percent_off": 10, "duration": "forever"})
    with stage.sandbox.change() as state:
        row = state.get("customer", customer)
        row["discount"] = {
            "id": "di_1MadeByHandInTheDashboard",
            "object": "discount",
            "checkout_session": None,
            "customer": customer,
            "customer_account": None,
            "end": None,
            "invoice": None,
            "invoice_item": None,
            "promotion_code": None,
            "source": {"coupon": coupon.id, "type": "coupon"},
            "start": state.now(),
            "subscription": None,
            "subscription_item": None,
        }
        state.put(row)


def test_a_discount_on_the_customer_breaks_none_of_their_events(stage, plans):
    stage.subscribe(plans.pro)
    discounted(stage, stage.customer)
    get_client().v1.customers.update(stage.customer, {"name": "Acme Ltd"})
    get_client().v1.subscriptions.cancel(stage.subscription["id"])

    stage.hear()

    mirrored = djstripe.Customer.objects.get(id=stage.customer).stripe_data
    assert (mirrored["name"], mirrored["discount"]["source"]["type"]) == ("Acme Ltd", "coupon")
    assert stage.entitlement.status == "canceled"


def test_a_customer_who_is_first_seen_with_a_discount_is_taken_in(stage, plans):
    """Made at the dashboard, and nobody of ours: yet an event that fails for ever makes Stripe give the endpoint up."""
    stage.subscribe(plans.pro)
    price = stage.sandbox.get("subscription_item", stage.subscription["_items"][0])["price"]
    stranger = get_client().v1.customers.create(
        {"email": "else@where.example", "payment_method": "pm_card_visa"}
    )
    discounted(stage, stranger.id)
    (card,) = get_client().v1.customers.payment_methods.list(stranger.id).data
    get_client().v1.subscriptions.create(
        {"customer": stranger.id, "items": [{"price": price}], "default_payment_method": card.id}
    )

    stage.hear()

    assert djstripe.Subscription.objects.filter(customer__id=stranger.id).exists()


def test_one_api_version_is_spoken_by_all():
    """An upgrade of one of them alone is how period fields were lost elsewhere."""
    assert stripe.api_version == djstripe_settings.STRIPE_API_VERSION
