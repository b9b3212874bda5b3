"""One organization compared with Stripe: what its lost webhooks would have told is here afterwards."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from djstripe import models as djstripe

from accounts import clock
from apikeys.gate import admit
from billing.entitlements import refresh_entitlement
from billing.errors import StripeUnavailable
from billing.models import Access, Entitlement, Reconciliation
from billing.stripe import mirror
from billing.stripe.client import get_client
from billing.stripe.customers import find_customer
from billing.stripe.reconciling import reconcile
from tests.billing.cast import deliver, subscribe
from tests.billing.faults import every_fault
from tests.billing.troubles import discount_of, move, sandbox_time
from tests.exhaustive import some

pytestmark = [pytest.mark.django_db, pytest.mark.long]

MIRRORED = [
    djstripe.Customer,
    djstripe.Subscription,
    djstripe.SubscriptionSchedule,
    djstripe.Invoice,
    djstripe.PaymentMethod,
    djstripe.Price,
    djstripe.Product,
]
COMPUTED = ["plan_id", "bought_plan_id", "status", "status_since", "access", "policy_id", "subscription_id"]
COMPUTED += ["period_start", "period_end", "grace_end", "valid_until", "quotas", "rate_per_minute"]


@pytest.fixture
def pass_days(sandbox):
    """Moves Stripe's clock and ours together, a day at a time."""
    with clock.standing_at(sandbox_time(sandbox)) as hands:

        def pass_days(days: int) -> None:
            for _ in range(days):
                move(sandbox, hands, timedelta(days=1))

        yield pass_days


@pytest.fixture
def subscribed(sandbox, webhook_endpoint, pass_days, organization, plans):
    """Acme on Pro, with every webhook so far delivered."""
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    assert set(deliver(sandbox)) == {200}
    return subscription


def state() -> dict[str, Any]:
    """All that the mirror holds, and what follows from it."""
    held: dict[str, Any] = {
        f"{model.__name__} {row.id}": row.stripe_data for model in MIRRORED for row in model.objects.all()
    }
    for entitlement in Entitlement.objects.all():
        held[f"Entitlement {entitlement.pk}"] = {name: getattr(entitlement, name) for name in COMPUTED}
    return held


def differing(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """What differs between two states: objects only one of them has, and fields that differ."""
    missing = dict.fromkeys(one.keys() ^ other.keys(), "missing")
    fields = {name: mirror.differing(one[name], other[name]) for name in one.keys() & other.keys()}
    return missing | {name: found for name, found in fields.items() if set(found) - mirror.QUIET}


def pay_with(card: str, customer_id: str) -> None:
    client = get_client().v1
    method = client.payment_methods.attach(card, {"customer": customer_id})
    client.customers.update(customer_id, {"invoice_settings": {"default_payment_method": method.id}})
    for subscription in client.subscriptions.list({"customer": customer_id}).data:
        client.subscriptions.update(subscription.id, {"default_payment_method": method.id})


def cancels_in_the_third_month(subscription, pass_days) -> None:
    pass_days(65)
    get_client().v1.subscriptions.cancel(subscription.id)


def card_fails_and_recovers(subscription, pass_days) -> None:
    customer_id = subscription.customer_id
    pay_with("pm_card_chargeCustomerFail", customer_id)
    pass_days(33)
    pay_with("pm_card_visa", customer_id)
    (owed,) = get_client().v1.invoices.list({"customer": customer_id, "status": "open"}).data
    get_client().v1.invoices.pay(owed.id)
    pass_days(2)


def card_fails_for_good(subscription, pass_days) -> None:
    pay_with("pm_card_chargeCustomerFail", subscription.customer_id)
    pass_days(60)


def card_fails_and_is_still_being_tried(subscription, pass_days) -> None:
    pay_with("pm_card_chargeCustomerFail", subscription.customer_id)
    pass_days(33)


def asks_to_end_with_the_period(subscription, pass_days) -> None:
    pass_days(10)
    get_client().v1.subscriptions.update(subscription.id, {"cancel_at_period_end": True})


def downgrade_is_scheduled(subscription, pass_days) -> None:
    pass_days(10)
    get_client().v1.subscription_schedules.create({"from_subscription": subscription.id})


def a_year_goes_by(subscription, pass_days) -> None:
    pass_days(370)


def card_is_replaced(subscription, pass_days) -> None:
    customer = subscription.customer_id
    (old,) = get_client().v1.customers.payment_methods.list(customer).data
    pay_with("pm_card_mastercard", customer)
    get_client().v1.payment_methods.detach(old.id)


def is_deleted_at_stripe(subscription, pass_days) -> None:
    pass_days(5)
    get_client().v1.customers.delete(subscription.customer_id)


LIVES: list[Callable[..., None]] = [
    cancels_in_the_third_month,
    card_fails_and_recovers,
    card_fails_for_good,
    card_fails_and_is_still_being_tried,
    asks_to_end_with_the_period,
    downgrade_is_scheduled,
    a_year_goes_by,
    card_is_replaced,
    is_deleted_at_stripe,
]


@pytest.mark.parametrize("live", LIVES)
def test_a_life_whose_webhooks_were_all_lost_ends_as_if_they_had_come(
    sandbox, subscribed, pass_days, organization, live
):
    live(subscribed, pass_days)

    assert reconcile(organization).repaired
    reconciled = state()
    assert set(deliver(sandbox)) == {200}
    refresh_entitlement(organization)

    assert differing(reconciled, state()) == {}


@pytest.mark.exhaustive
@pytest.mark.parametrize("live", some(LIVES, of="lives", count=3))
def test_reconciling_again_repairs_nothing(sandbox, subscribed, pass_days, organization, live):
    live(subscribed, pass_days)
    reconcile(organization)
    if find_customer(organization) is None:
        reconcile(organization)  # The one that was deleted is replaced.
    version = Entitlement.objects.get().version

    outcome = reconcile(organization)

    assert (outcome.repaired, outcome.problems) == ([], [])
    assert Entitlement.objects.get().version == version


def test_where_every_webhook_came_there_is_nothing_to_repair(sandbox, subscribed, pass_days, organization):
    for _ in range(4):
        pass_days(10)
        assert set(deliver(sandbox)) <= {200}

    assert reconcile(organization).repaired == []


def test_where_nothing_differs_it_takes_six_calls(sandbox, subscribed, organization):
    reconcile(organization)
    sandbox.requests.clear()

    reconcile(organization)

    assert len(sandbox.requests) == 6


def test_it_says_what_it_repaired(subscribed, organization):
    get_client().v1.subscriptions.cancel(subscribed.id)

    assert reconcile(organization).repaired == [
        f"Subscription {subscribed.id} was active here and canceled at Stripe.",
        "The entitlement was out of date: it is Free (canceled) now.",
    ]


def test_a_subscription_cancelled_unheard_stops_working_at_the_next_call(subscribed, organization, api_key):
    assert admit(api_key.secret).rate_limit == 100
    get_client().v1.subscriptions.cancel(subscribed.id)

    reconcile(organization)

    assert admit(api_key.secret).rate_limit == 10


def test_a_subscription_made_unheard_begins_to_work(sandbox, webhook_endpoint, organization, plans):
    subscribe(sandbox, organization, plan=plans.team)
    djstripe.Subscription.objects.all().delete()
    refresh_entitlement(organization)

    reconcile(organization)

    assert Entitlement.objects.get().plan == plans.team


def test_a_price_first_met_in_a_subscription_comes_with_its_tiers(sandbox, subscribed, organization, plans):
    """dj-stripe would take it from the subscription, which shows none."""
    client = get_client().v1
    meter = client.billing.meters.list({}).data[0]
    price = client.prices.create(
        {
            "product": plans.pro.product_id,
            "currency": "usd",
            "billing_scheme": "tiered",
            "tiers_mode": "graduated",
            "tiers": [{"up_to": 100, "unit_amount": 0}, {"up_to": "inf", "unit_amount": 2}],
            "recurring": {"interval": "month", "usage_type": "metered", "meter": meter.id},
        }
    )
    (metered,) = [
        item for item in subscribed.stripe_data["items"]["data"] if item["price"]["recurring"]["meter"]
    ]
    client.subscription_items.update(metered["id"], {"price": price.id})

    assert reconcile(organization).problems == []

    assert len(djstripe.Price.objects.get(id=price.id).stripe_data["tiers"]) == 2
    assert Entitlement.objects.get().plan == plans.pro


def test_a_customer_with_a_discount_is_taken_over_whole(sandbox, subscribed, organization):
    """dj-stripe's own copying of one ends in an exception."""
    coupon = get_client().v1.coupons.create({"percent_off": 25, "duration": "forever"})
    customer_id = subscribed.customer_id
    sandbox_customer = sandbox.get("customer", customer_id)
    sandbox_customer["discount"] = discount_of(sandbox, coupon.id, customer_id)
    sandbox.put(sandbox_customer)
    get_client().v1.subscriptions.cancel(subscribed.id)

    outcome = reconcile(organization)

    assert outcome.problems == []
    assert djstripe.Customer.objects.get().stripe_data["discount"]["source"]["coupon"] == coupon.id
    assert Entitlement.objects.get().status == "canceled"


def test_what_dj_stripe_cannot_take_holds_up_nothing_else(subscribed, organization, pass_days, monkeypatch):
    pass_days(40)
    get_client().v1.subscriptions.cancel(subscribed.id)

    def refuse(data: Any, **kwargs: Any) -> None:
        raise KeyError("plan")

    monkeypatch.setattr(djstripe.PaymentMethod, "sync_from_stripe_data", refuse)
    djstripe.PaymentMethod.objects.all().delete()
    outcome = reconcile(organization)

    (problem,) = outcome.problems
    assert "could not be copied: KeyError: 'plan'" in problem
    assert Entitlement.objects.get().status == "canceled"
    row = Reconciliation.objects.get(organization=organization)
    assert (row.reconciled_at, row.problems) == (None, outcome.problems)


def test_a_key_of_another_account_takes_nothing_from_anybody(sandbox, subscribed, organization, plans):
    sandbox.store.remove("customer", subscribed.customer_id)

    (problem,) = reconcile(organization).problems

    assert "does STRIPE_SECRET_KEY belong to the account" in problem
    assert Entitlement.objects.get().plan == plans.pro


def test_a_subscription_that_stripe_does_not_know_gives_nothing_any_more(
    sandbox, subscribed, organization, plans
):
    sandbox.store.remove("subscription", subscribed.id)

    assert f"{subscribed.id} was here and is not at Stripe any more." in reconcile(organization).repaired

    assert Entitlement.objects.get().plan == plans.free


def test_a_draft_deleted_at_stripe_goes(sandbox, subscribed, organization):
    draft = get_client().v1.invoices.create({"customer": subscribed.customer_id})
    deliver(sandbox)
    get_client().v1.invoices.delete(draft.id)

    reconcile(organization)

    assert not djstripe.Invoice.objects.filter(id=draft.id).exists()


def test_an_old_invoice_that_was_still_owed_is_followed_to_its_end(
    sandbox, subscribed, organization, pass_days
):
    client = get_client().v1
    customer = {"customer": subscribed.customer_id}
    owed = client.invoices.create({**customer, "collection_method": "send_invoice", "days_until_due": 30})
    client.invoice_items.create({**customer, "invoice": owed.id, "amount": 500, "currency": "usd"})
    client.invoices.finalize_invoice(owed.id)
    deliver(sandbox)
    pass_days(450)
    client.invoices.void_invoice(owed.id)

    reconcile(organization)

    assert djstripe.Invoice.objects.get(id=owed.id).status == "void"


def test_more_than_a_page_of_invoices_is_fetched_whole(sandbox, subscribed, organization):
    client = get_client().v1
    for _ in range(120):
        client.invoices.create({"customer": subscribed.customer_id})

    reconcile(organization)

    assert djstripe.Invoice.objects.count() == len(list(sandbox.every("invoice")))


def test_an_outage_keeps_what_was_fetched_before_it(sandbox, subscribed, organization):
    get_client().v1.subscriptions.cancel(subscribed.id)
    sandbox.faults.add("server_error", path="/v1/invoices")

    with pytest.raises(StripeUnavailable):
        reconcile(organization)

    assert djstripe.Subscription.objects.get().status == "canceled"
    assert Entitlement.objects.get().status == "canceled"
    row = Reconciliation.objects.get(organization=organization)
    assert row.reconciled_at is None
    assert "was active here and canceled at Stripe" in row.repaired[0]


def test_an_organization_without_a_customer_gets_one(sandbox, organization):
    assert "It had no customer at Stripe" in reconcile(organization).repaired[0]

    assert find_customer(organization) is not None


def test_a_deleted_customer_is_let_go_and_the_next_one_is_another(sandbox, subscribed, organization, plans):
    get_client().v1.customers.delete(subscribed.customer_id)

    assert f"Customer {subscribed.customer_id} was deleted at Stripe." in reconcile(organization).repaired

    assert find_customer(organization) is None
    entitlement = Entitlement.objects.get()
    assert (entitlement.plan, entitlement.access) == (plans.free, Access.LIMITED)
    reconcile(organization)
    assert find_customer(organization).id != subscribed.customer_id


def test_another_organization_s_state_is_left_alone(sandbox, subscribed, organization, outsider):
    rival = outsider.memberships.get().organization
    get_client().v1.subscriptions.cancel(subscribed.id)

    reconcile(rival)

    assert djstripe.Subscription.objects.get().status == "active"


def test_any_fault_at_any_call_leaves_what_a_repetition_completes(
    sandbox, webhook_endpoint, organization, plans
):
    def prepare() -> None:
        subscription = subscribe(sandbox, organization, plan=plans.pro)
        get_client().v1.subscriptions.cancel(subscription.id)

    def flow() -> None:
        assert reconcile(organization).problems == []

    every_fault(
        sandbox,
        prepare=prepare,
        flow=flow,
        look=lambda: (Entitlement.objects.get().status, djstripe.Subscription.objects.get().status),
    )
