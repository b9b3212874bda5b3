"""Schedules: what changes on a date agreed before."""

from typing import Any

from tests.sandbox.worked.life import Life, amounts, at, period


def phase(price: Any, start: str | int, end: str | int | None = None, **params: Any) -> dict[str, Any]:
    """Return a phase with one price."""
    bounds = {"start_date": at(start) if isinstance(start, str) else start}
    if end is not None:
        bounds["end_date"] = at(end) if isinstance(end, str) else end
    return {"items": [{"price": price.id, "quantity": 1}], **bounds, **params}


def test_a_downgrade_waits_for_the_end_of_the_month(life: Life) -> None:
    # April at 60.00 to its end; from 1 May 30.00. Nothing is credited or charged in between.
    dear, cheap = life.price(6000), life.price(3000)
    subscription = life.subscribe(dear)
    schedule = life.api.subscription_schedules.create({"from_subscription": subscription.id})
    life.api.subscription_schedules.update(
        schedule.id,
        {
            "end_behavior": "release",
            "phases": [phase(dear, "2026-04-01", "2026-05-01"), phase(cheap, "2026-05-01", "2026-06-01")],
        },
    )
    life.advance("2026-04-30T23:00:00")
    assert life.again(subscription)["items"].data[0].price.id == dear.id
    life.advance("2026-05-01T01:00:00")

    assert life.again(subscription)["items"].data[0].price.id == cheap.id
    assert life.totals() == [6000, 3000]
    assert amounts(life.last()) == [3000]
    life.advance("2026-07-01T01:00:00")
    assert life.totals() == [6000, 3000, 3000, 3000]
    assert life.api.subscription_schedules.retrieve(schedule.id).status == "released"
    assert life.again(subscription).schedule is None


def test_a_schedule_begins_a_subscription_on_its_day(life: Life) -> None:
    price = life.price(3000)
    schedule = life.api.subscription_schedules.create(
        {
            "customer": life.customer.id,
            "start_date": at("2026-04-10"),
            "end_behavior": "cancel",
            "phases": [
                {
                    "items": [{"price": price.id, "quantity": 1}],
                    "duration": {"interval": "month", "interval_count": 2},
                }
            ],
        }
    )
    assert (schedule.status, schedule.subscription) == ("not_started", None)
    life.advance("2026-04-10T01:00:00")
    begun = life.api.subscription_schedules.retrieve(schedule.id)
    assert begun.status == "active"
    subscription = life.api.subscriptions.retrieve(begun.subscription)
    assert period(subscription) == ("2026-04-10", "2026-05-10")
    life.advance("2026-06-11")

    # Two months and no more: 10 April and 10 May.
    assert life.totals() == [3000, 3000]
    assert life.again(subscription).status == "canceled"
    assert life.api.subscription_schedules.retrieve(schedule.id).status == "completed"


def test_a_released_schedule_changes_nothing_any_more(life: Life) -> None:
    dear, cheap = life.price(6000), life.price(3000)
    subscription = life.subscribe(dear)
    schedule = life.api.subscription_schedules.create({"from_subscription": subscription.id})
    life.api.subscription_schedules.update(
        schedule.id,
        {"phases": [phase(dear, "2026-04-01", "2026-05-01"), phase(cheap, "2026-05-01", "2026-06-01")]},
    )
    life.api.subscription_schedules.release(schedule.id)
    life.advance("2026-05-01T01:00:00")

    assert life.totals() == [6000, 6000]


def test_a_phase_that_begins_in_mid_month_is_prorated(life: Life) -> None:
    # On 16 April 15 of 30 days are left: −1500 + 3000 wait; on 1 May: 6000 + 1500 = 7500.
    cheap, dear = life.price(3000), life.price(6000)
    subscription = life.subscribe(cheap)
    schedule = life.api.subscription_schedules.create({"from_subscription": subscription.id})
    life.api.subscription_schedules.update(
        schedule.id,
        {
            "phases": [
                phase(cheap, "2026-04-01", "2026-04-16"),
                phase(dear, "2026-04-16", "2026-06-01"),
            ]
        },
    )
    life.advance("2026-05-01T01:00:00")

    assert life.totals() == [3000, 7500]


def two_months(life: Life, **later: Any) -> Any:
    """Return a schedule begun on 1 April with one price; `later` is more of its second month's phase."""
    items = later.pop("items", None) or [{"price": life.price(3000).id}]
    month = {"duration": {"interval": "month"}}
    first = {"items": [{"price": life.price(3000).id}], **month}
    return life.api.subscription_schedules.create(
        {
            "customer": life.customer.id,
            "start_date": "now",
            "phases": [first, {"items": items, **month, **later}],
        }
    )


def test_a_coupon_deleted_before_its_phase_takes_nothing_off(life: Life) -> None:
    coupon = life.api.coupons.create({"percent_off": 50, "duration": "forever"})
    two_months(life, discounts=[{"coupon": coupon.id}])
    life.api.coupons.delete(coupon.id)
    life.advance("2026-05-01T01:00:00")

    assert life.totals() == [3000, 3000]


def test_a_coupon_in_two_phases_is_redeemed_once(life: Life) -> None:
    # Half of 3000 in either month.
    coupon = life.api.coupons.create({"percent_off": 50, "duration": "forever", "max_redemptions": 1})
    phase = {
        "items": [{"price": life.price(3000).id}],
        "discounts": [{"coupon": coupon.id}],
        "duration": {"interval": "month"},
    }
    life.api.subscription_schedules.create(
        {"customer": life.customer.id, "start_date": "now", "phases": [phase, phase]}
    )
    life.advance("2026-05-01T01:00:00")

    assert life.totals() == [1500, 1500]
    assert life.api.coupons.retrieve(coupon.id).times_redeemed == 1


def test_a_discount_of_an_item_begins_and_ends_with_its_phase(life: Life) -> None:
    # April: 3000 less 10 % = 2700. May, at the same price without it: 3000.
    coupon = life.api.coupons.create({"percent_off": 10, "duration": "forever"})
    price, month = life.price(3000).id, {"duration": {"interval": "month"}}
    schedule = life.api.subscription_schedules.create(
        {
            "customer": life.customer.id,
            "start_date": "now",
            "phases": [
                {"items": [{"price": price, "discounts": [{"coupon": coupon.id}]}], **month},
                {"items": [{"price": price}], **month},
            ],
        }
    )
    assert schedule.phases[0]["items"][0].discounts[0].coupon == coupon.id
    life.advance("2026-05-01T01:00:00")

    assert life.totals() == [2700, 3000]


def test_a_price_archived_before_its_phase_is_billed_all_the_same(life: Life) -> None:
    later = life.price(5000)
    two_months(life, items=[{"price": later.id}])
    life.api.prices.update(later.id, {"active": False})
    life.advance("2026-05-01T01:00:00")

    assert life.totals() == [3000, 5000]


def test_a_phase_may_name_its_own_price(life: Life) -> None:
    product = life.api.products.create({"name": "Pro"})
    data = {"currency": "usd", "product": product.id, "recurring": {"interval": "month"}, "unit_amount": 4000}
    two_months(life, items=[{"price_data": data}])
    life.advance("2026-05-01T01:00:00")

    assert life.totals() == [3000, 4000]


def test_a_schedule_that_will_cancel_shows_the_date_until_it_is_released(life: Life) -> None:
    schedule = life.api.subscription_schedules.create(
        {
            "customer": life.customer.id,
            "start_date": "now",
            "end_behavior": "cancel",
            "phases": [{"items": [{"price": life.price(3000).id}], "duration": {"interval": "month"}}],
        }
    )
    subscription = life.api.subscriptions.retrieve(schedule.subscription)
    assert subscription.cancel_at == at("2026-05-01")
    life.api.subscription_schedules.release(schedule.id)
    assert life.again(subscription).cancel_at is None
    life.advance("2026-05-02")
    assert life.again(subscription).status == "active"


def test_a_released_schedules_cancellation_may_be_preserved(life: Life) -> None:
    schedule = life.api.subscription_schedules.create(
        {
            "customer": life.customer.id,
            "start_date": "now",
            "end_behavior": "cancel",
            "phases": [{"items": [{"price": life.price(3000).id}], "duration": {"interval": "month"}}],
        }
    )
    life.api.subscription_schedules.release(schedule.id, {"preserve_cancel_date": True})
    life.advance("2026-05-02")

    subscription = life.api.subscriptions.retrieve(schedule.subscription)
    assert (subscription.status, subscription.ended_at) == ("canceled", at("2026-05-01"))
