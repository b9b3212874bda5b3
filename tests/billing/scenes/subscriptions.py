"""Purchases, changes and ends."""

from typing import Any

from djstripe import models as djstripe

from apikeys.gate import admit
from apikeys.models import APIKey
from billing.models import Access, Notice
from billing.stripe.catalog import publish_plan
from billing.stripe.client import get_client
from billing.stripe.customers import ensure_customer
from tests.billing.cast import open_checkout, pay, publish_all
from tests.billing.scenes.steps import brings, fail_renewal, mirrored, plan, state, subscribed
from tests.billing.stage import BAD_CARD, DAY, GOOD_CARD, HOUR, Stage


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
