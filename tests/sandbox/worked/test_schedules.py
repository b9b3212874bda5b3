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
