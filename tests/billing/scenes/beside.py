"""Cards, catalogue and schedules: what stands beside a subscription."""

from datetime import timedelta
from typing import Any

from djstripe import models as djstripe
from werkzeug.test import Client as SandboxBrowser

from billing.stripe.catalog import publish_plan
from billing.stripe.client import get_client
from sandbox.app import create_app
from tests.billing.scenes.steps import brings, fail_renewal, mirrored, plan, subscribed
from tests.billing.stage import DAY, Stage, lines_of


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
