"""Every type of event that Tollgate depends on: the sandbox really tells it, and it alone brings what is hoped for."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from djstripe import models as djstripe
from djstripe.signals import WEBHOOK_SIGNALS
from werkzeug.test import Client as SandboxBrowser

from apikeys.gate import admit
from apikeys.models import APIKey
from billing.event_types import EVENT_TYPES
from billing.models import Access, Notice, Plan
from billing.stripe.catalog import publish_plan
from billing.stripe.client import get_client
from billing.stripe.customers import ensure_customer
from billing.stripe.webhook_endpoints import ENABLED_EVENTS
from sandbox.app import create_app
from sandbox.events.event_types import snapshot_types
from tests.billing.cast import open_checkout, pay, publish_all
from tests.billing.stage import BAD_CARD, DAY, GOOD_CARD, HOUR, Stage, lines_of, open_stage

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).resolve().parents[2]
# Wants the customer's consent at each payment.
CONSENT_CARD = "pm_card_authenticationRequired"
SCENES: dict[str, Callable[[Stage], None]] = {}

Scene = Callable[[Stage], None]


def brings(event_type: str) -> Callable[[Scene], Scene]:
    def register(scene: Scene) -> Scene:
        SCENES[event_type] = scene
        return scene

    return register


@pytest.fixture
def stage(sandbox, webhook_endpoint, plans, owner):
    with open_stage(sandbox, owner) as stage:
        yield stage


@pytest.mark.parametrize("event_type", sorted(EVENT_TYPES))
def test_each_type_is_told_and_brings_what_we_depend_on(stage, event_type):
    SCENES[event_type](stage)

    assert djstripe.Event.objects.filter(type=event_type).exists()


def test_the_endpoint_asks_for_the_types_of_the_table_and_no_others(sandbox, webhook_endpoint):
    (endpoint,) = sandbox.every("webhook_endpoint")

    assert sorted(endpoint["enabled_events"]) == ENABLED_EVENTS == sorted(EVENT_TYPES)


def test_stripe_and_dj_stripe_know_every_type():
    """dj-stripe raises at the start for a receiver of a type that it does not know."""
    assert set(EVENT_TYPES) <= snapshot_types()
    assert set(EVENT_TYPES) <= set(WEBHOOK_SIGNALS)


def test_the_guide_shows_the_table_as_it_is():
    rows = re.findall(
        r"^\| `([a-z_.]+)` \| (.+) \|$", (ROOT / "docs" / "access.md").read_text(), re.MULTILINE
    )

    assert rows == list(EVENT_TYPES.items())


def plan(slug: str) -> Plan:
    return Plan.objects.get(slug=slug)


def subscribed(stage: Stage, slug: str = "pro", **params: Any) -> str:
    """Put Acme on a plan, and let what Stripe tells from now on be lost unless it is asked for."""
    subscription = stage.subscribe(plan(slug), **params)
    stage.hears = False
    return subscription


def fail_renewal(stage: Stage, card: str = BAD_CARD) -> None:
    """Let the month pass and its payment fail."""
    stage.use_card(card)
    stage.go(stage.entitlement.period_end + 2 * HOUR)


def mirrored(identifier: str, model: Any = djstripe.Subscription) -> dict[str, Any]:
    data: dict[str, Any] = model.objects.get(id=identifier).stripe_data
    return data


def state(stage: Stage) -> tuple[str, str, str]:
    entitlement = stage.entitlement
    return entitlement.status, entitlement.access, entitlement.plan.slug


def open_invoice(stage: Stage) -> str:
    (invoice,) = get_client().v1.invoices.list({"customer": stage.customer, "status": "open"}).data
    return invoice.id


@brings("checkout.session.completed")
def a_paid_page(stage: Stage) -> None:
    publish_all()
    pay(stage.sandbox, open_checkout(stage.organization, plan=plan("pro")))
    stage.hear_only("checkout.session.completed")
    session = djstripe.Session.objects.get()
    assert session.stripe_data["status"] == "complete"
    assert session.stripe_data["client_reference_id"] == str(stage.organization.pk)


@brings("checkout.session.expired")
def an_expired_page(stage: Stage) -> None:
    publish_all()
    open_checkout(stage.organization, plan=plan("pro"))
    stage.hears = False
    stage.go(DAY)
    stage.hear_only("checkout.session.expired")
    assert djstripe.Session.objects.get().stripe_data["status"] == "expired"


@brings("customer.deleted")
def a_deleted_customer(stage: Stage) -> None:
    subscribed(stage)
    gone = stage.customer
    get_client().v1.customers.delete(gone)
    stage.hear_only("customer.deleted")
    assert state(stage) == ("none", Access.LIMITED, "free")
    assert ensure_customer(stage.organization).id != gone


@brings("customer.subscription.created")
def a_purchase(stage: Stage) -> None:
    publish_all()
    pay(stage.sandbox, open_checkout(stage.organization, plan=plan("pro")))
    stage.hear_only("customer.subscription.created")
    assert state(stage) == ("active", Access.FULL, "pro")


@brings("customer.subscription.deleted")
def an_end(stage: Stage) -> None:
    _, secret = APIKey.objects.issue(organization=stage.organization, name="test")
    subscription = subscribed(stage)
    assert admit(secret).rate_limit == 100
    get_client().v1.subscriptions.cancel(subscription)
    stage.hear_only("customer.subscription.deleted")
    assert admit(secret).rate_limit == 10


def paused_trial(stage: Stage) -> str:
    pausing: Any = {"end_behavior": {"missing_payment_method": "pause"}}
    subscription = subscribed(stage, trial_days=7, card=None, trial_settings=pausing)
    stage.go(8 * DAY)
    return subscription


@brings("customer.subscription.paused")
def a_pause(stage: Stage) -> None:
    paused_trial(stage)
    stage.hear_only("customer.subscription.paused")
    assert state(stage) == ("paused", Access.LIMITED, "free")


@brings("customer.subscription.resumed")
def a_resumption(stage: Stage) -> None:
    subscription = paused_trial(stage)
    stage.hear_only("customer.subscription.paused")
    stage.use_card(GOOD_CARD)
    get_client().v1.subscriptions.resume(subscription, {"billing_cycle_anchor": "now"})
    stage.hear_only("customer.subscription.resumed")
    assert state(stage) == ("active", Access.FULL, "pro")


def waiting_upgrade(stage: Stage) -> str:
    """Ask for Team with a card that fails: Stripe keeps the change until its invoice is paid."""
    subscription = subscribed(stage)
    publish_plan(plan("team"))
    stage.use_card(BAD_CARD)
    (fee, usage) = stage.subscription["_items"]
    prices = plan("team").offered_prices()
    items: Any = [{"id": fee, "price": prices[0].stripe_price_id}, {"id": usage, "deleted": True}]
    get_client().v1.subscriptions.update(
        subscription,
        {
            "items": [*items, {"price": prices[1].stripe_price_id}],
            "proration_behavior": "always_invoice",
            "payment_behavior": "pending_if_incomplete",
        },
    )
    stage.hear_only("customer.subscription.updated")
    assert mirrored(subscription)["pending_update"]
    assert state(stage) == ("active", Access.FULL, "pro")
    return subscription


@brings("customer.subscription.pending_update_applied")
def a_paid_upgrade(stage: Stage) -> None:
    waiting_upgrade(stage)
    stage.pay()
    stage.hear_only("customer.subscription.pending_update_applied")
    assert state(stage) == ("active", Access.FULL, "team")


@brings("customer.subscription.pending_update_expired")
def an_upgrade_given_up(stage: Stage) -> None:
    subscription = waiting_upgrade(stage)
    stage.go(DAY)
    stage.hear_only("customer.subscription.pending_update_expired")
    assert mirrored(subscription)["pending_update"] is None
    assert state(stage) == ("active", Access.FULL, "pro")


@brings("customer.subscription.trial_will_end")
def a_trial_that_ends_soon(stage: Stage) -> None:
    subscribed(stage, trial_days=14)
    stage.go(12 * DAY)
    stage.hear_only("customer.subscription.trial_will_end")
    assert Notice.objects.filter(kind="trial_ending").exists()


@brings("customer.subscription.updated")
def a_change(stage: Stage) -> None:
    subscribed(stage)
    renewal = stage.entitlement.period_end
    fail_renewal(stage)
    stage.hear_only("customer.subscription.updated")
    assert state(stage) == ("past_due", Access.FULL, "pro")
    # Known exactly, though no event of the invoice was heard.
    assert stage.entitlement.status_since == renewal + HOUR


@brings("customer.updated")
def another_default_card(stage: Stage) -> None:
    subscribed(stage)
    before = mirrored(stage.customer, djstripe.Customer)["invoice_settings"]["default_payment_method"]
    stage.use_card("pm_card_mastercard")
    stage.hear_only("customer.updated")
    default = mirrored(stage.customer, djstripe.Customer)["invoice_settings"]["default_payment_method"]
    assert default not in {None, before}


@brings("invoice.created")
def a_draft(stage: Stage) -> None:
    subscribed(stage)
    stage.go(stage.entitlement.period_end)
    stage.hear_only("invoice.created")
    assert djstripe.Invoice.objects.filter(stripe_data__status="draft").exists()


@brings("invoice.finalized")
def a_finalized_invoice(stage: Stage) -> None:
    subscribed(stage)
    renewal = stage.entitlement.period_end
    fail_renewal(stage)
    stage.hear_only("invoice.finalized")
    invoice = mirrored(open_invoice(stage), djstripe.Invoice)
    assert invoice["status_transitions"]["finalized_at"] == int((renewal + HOUR).timestamp())


def owing(stage: Stage) -> None:
    subscribed(stage)
    fail_renewal(stage)
    stage.hear_only("invoice.payment_failed")
    assert stage.entitlement.status == "past_due"


@brings("invoice.marked_uncollectible")
def an_invoice_written_off(stage: Stage) -> None:
    owing(stage)
    get_client().v1.invoices.mark_uncollectible(open_invoice(stage))
    stage.hear_only("invoice.marked_uncollectible")
    assert state(stage) == ("active", Access.FULL, "pro")


@brings("invoice.voided")
def an_invoice_withdrawn(stage: Stage) -> None:
    owing(stage)
    get_client().v1.invoices.void_invoice(open_invoice(stage))
    stage.hear_only("invoice.voided")
    assert mirrored(stage.subscription["latest_invoice"], djstripe.Invoice)["status"] == "void"
    assert stage.entitlement.status == stage.subscription["status"]


@brings("invoice.paid")
def a_paid_invoice(stage: Stage) -> None:
    owing(stage)
    stage.go(8 * DAY)
    stage.beat()
    assert state(stage) == ("past_due", Access.LIMITED, "free")
    stage.pay()
    stage.hear_only("invoice.paid")
    assert state(stage) == ("active", Access.FULL, "pro")


@brings("invoice.payment_action_required")
def a_payment_that_wants_consent(stage: Stage) -> None:
    subscribed(stage)
    fail_renewal(stage, CONSENT_CARD)
    stage.hear_only("invoice.payment_action_required")
    assert state(stage) == ("past_due", Access.FULL, "pro")


@brings("invoice.payment_failed")
def a_failed_payment(stage: Stage) -> None:
    owing(stage)
    assert state(stage) == ("past_due", Access.FULL, "pro")


@brings("invoice.updated")
def a_changed_invoice(stage: Stage) -> None:
    owing(stage)
    invoice = open_invoice(stage)
    assert mirrored(invoice, djstripe.Invoice)["next_payment_attempt"]
    stage.go(16 * DAY)
    stage.hear_only("invoice.updated")
    assert mirrored(invoice, djstripe.Invoice)["next_payment_attempt"] is None


def saved_card(stage: Stage) -> str:
    subscribed(stage)
    return str(mirrored(stage.customer, djstripe.Customer)["invoice_settings"]["default_payment_method"])


@brings("payment_method.attached")
def a_saved_card(stage: Stage) -> None:
    card = saved_card(stage)
    added = get_client().v1.payment_methods.attach("pm_card_mastercard", {"customer": stage.customer})
    stage.hear_only("payment_method.attached")
    assert mirrored(added.id, djstripe.PaymentMethod)["card"]["brand"] == "mastercard"
    assert added.id != card


@brings("payment_method.updated")
def a_changed_card(stage: Stage) -> None:
    card = saved_card(stage)
    get_client().v1.payment_methods.update(card, {"card": {"exp_year": 2039}})
    stage.hear_only("payment_method.updated")
    assert mirrored(card, djstripe.PaymentMethod)["card"]["exp_year"] == 2039


@brings("payment_method.automatically_updated")
def a_renewed_card(stage: Stage) -> None:
    card = saved_card(stage)
    before = mirrored(card, djstripe.PaymentMethod)["card"]["exp_year"]
    SandboxBrowser(create_app(stage.sandbox)).post(f"/sandbox/payment_methods/{card}/renew")
    stage.hear_only("payment_method.automatically_updated")
    assert mirrored(card, djstripe.PaymentMethod)["card"]["exp_year"] > before


@brings("payment_method.detached")
def a_removed_card(stage: Stage) -> None:
    card = saved_card(stage)
    get_client().v1.payment_methods.detach(card)
    stage.hear_only("payment_method.detached")
    assert djstripe.PaymentMethod.objects.get(id=card).customer is None


@brings("price.created")
def a_price_made_by_hand(stage: Stage) -> None:
    publish_plan(plan("pro"))
    price = get_client().v1.prices.create(
        {
            "product": plan("pro").product_id,
            "currency": "eur",
            "unit_amount": 2700,
            "recurring": {"interval": "month"},
        }
    )
    stage.hear_only("price.created")
    assert mirrored(price.id, djstripe.Price)["unit_amount"] == 2700


@brings("price.updated")
def an_archived_price(stage: Stage) -> None:
    publish_plan(plan("pro"))
    price = str(plan("pro").offered_prices()[0].stripe_price_id)
    get_client().v1.prices.update(price, {"active": False})
    stage.hear_only("price.updated")
    assert mirrored(price, djstripe.Price)["active"] is False


@brings("product.updated")
def a_renamed_product(stage: Stage) -> None:
    publish_plan(plan("pro"))
    get_client().v1.products.update(plan("pro").product_id, {"name": "Professional"})
    stage.hear_only("product.updated")
    assert mirrored(plan("pro").product_id, djstripe.Product)["name"] == "Professional"


def scheduled(stage: Stage, *, then: str = "release") -> tuple[str, str]:
    """Agree on Team from the next period on; return the ids of the schedule and the subscription."""
    subscription = subscribed(stage)
    publish_plan(plan("team"))
    api = get_client().v1.subscription_schedules
    schedule = api.create({"from_subscription": subscription})
    phase = schedule.phases[0]
    now: Any = lines_of(plan("pro"))
    later: Any = lines_of(plan("team"))
    behaviour: Any = then
    api.update(
        schedule.id,
        {
            "end_behavior": behaviour,
            "phases": [
                {
                    "items": now,
                    "start_date": phase.start_date,
                    "end_date": phase.end_date,
                },
                {"items": later, "duration": {"interval": "month", "interval_count": 1}},
            ],
        },
    )
    return schedule.id, subscription


def status_of(schedule: str) -> str:
    return str(mirrored(schedule, djstripe.SubscriptionSchedule)["status"])


@brings("subscription_schedule.created")
def a_schedule(stage: Stage) -> None:
    subscription = subscribed(stage)
    schedule = get_client().v1.subscription_schedules.create({"from_subscription": subscription})
    stage.hear_only("subscription_schedule.created")
    assert status_of(schedule.id) == "active"


@brings("subscription_schedule.updated")
def a_downgrade_agreed(stage: Stage) -> None:
    schedule, _ = scheduled(stage)
    stage.hear_only("subscription_schedule.updated")
    assert len(mirrored(schedule, djstripe.SubscriptionSchedule)["phases"]) == 2


@brings("subscription_schedule.released")
def a_downgrade_taken_back(stage: Stage) -> None:
    schedule, _ = scheduled(stage)
    get_client().v1.subscription_schedules.release(schedule)
    stage.hear_only("subscription_schedule.released")
    assert status_of(schedule) == "released"


@brings("subscription_schedule.canceled")
def a_schedule_that_ends_with_its_subscription(stage: Stage) -> None:
    schedule, subscription = scheduled(stage)
    get_client().v1.subscriptions.cancel(subscription)
    stage.hear_only("subscription_schedule.canceled")
    assert status_of(schedule) == "canceled"


@brings("subscription_schedule.completed")
def a_schedule_that_is_over(stage: Stage) -> None:
    schedule, _ = scheduled(stage, then="cancel")
    stage.go(timedelta(days=64))
    stage.hear_only("subscription_schedule.completed")
    assert status_of(schedule) == "completed"


@brings("subscription_schedule.aborted")
def a_schedule_that_was_not_paid_for(stage: Stage) -> None:
    schedule, _ = scheduled(stage)
    fail_renewal(stage)
    stage.go(16 * DAY)
    stage.hear_only("subscription_schedule.aborted")
    assert status_of(schedule) == "canceled"
