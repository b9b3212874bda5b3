"""Metered usage: billed for the period that closed, at 10 cents a unit unless said otherwise."""

from collections.abc import Callable

from tests.sandbox.worked.life import Life, amounts, at


def quantities(invoice) -> list[int]:
    return [line.quantity for line in invoice.lines.data]


def test_usage_is_billed_when_its_month_has_closed(life: Life) -> None:
    # 120 + 30 = 150 units × 10 = 1500 on 1 May; nothing is billed at the start.
    life.subscribe(life.metered_price(life.meter()))
    assert life.invoices() == []
    life.use(120, "2026-04-01T00:00:00")
    life.advance("2026-04-20")
    life.use(30)
    life.advance("2026-05-01T01:00:00")

    [invoice] = life.invoices()
    assert (invoice.total, invoice.status) == (1500, "paid")
    [line] = invoice.lines.data
    assert (line.quantity, line.period.start, line.period.end) == (150, at("2026-04-01"), at("2026-05-01"))


def test_the_second_on_the_boundary_belongs_to_the_new_month(life: Life) -> None:
    # 23:59:59 on 30 April is April's: 5 × 10 = 50. 00:00:00 on 1 May is May's: 7 × 10 = 70.
    life.subscribe(life.metered_price(life.meter()))
    life.advance("2026-05-01T00:10:00")
    life.use(5, "2026-04-30T23:59:59")
    life.use(7, "2026-05-01T00:00:00")
    life.advance("2026-06-01T01:00:00")

    assert life.totals() == [50, 70]


def test_a_month_without_usage_is_a_line_of_nothing(life: Life) -> None:
    life.subscribe(life.metered_price(life.meter()))
    life.advance("2026-05-01T01:00:00")

    [invoice] = life.invoices()
    assert (invoice.total, invoice.status) == (0, "paid")
    assert amounts(invoice) == [0]


def test_usage_of_the_old_month_counts_until_the_invoice_is_final(life: Life) -> None:
    # During the draft hour 8 more of April's come in: (4 + 8) × 10 = 120.
    life.subscribe(life.metered_price(life.meter()))
    life.use(4)
    life.advance("2026-05-01T00:30:00")
    life.use(8, "2026-04-30T12:00:00")
    life.advance("2026-05-01T01:00:00")

    assert life.totals() == [120]
    assert quantities(life.last()) == [12]


def test_usage_that_comes_after_finalisation_is_never_billed(life: Life) -> None:
    # 4 × 10 = 40 for April; 8 of April's come too late and are not May's either.
    life.subscribe(life.metered_price(life.meter()))
    life.use(4)
    life.advance("2026-05-01T01:00:00")
    life.use(8, "2026-04-30T12:00:00")
    life.advance("2026-06-01T01:00:00")

    assert life.totals() == [40, 0]


def test_usage_taken_back_is_not_billed(life: Life) -> None:
    # 4 + 8 − 8 = 4 units: 40.
    life.subscribe(life.metered_price(life.meter()))
    life.use(4)
    life.use(8, identifier="a-mistake")
    life.api.billing.meter_event_adjustments.create(
        {"event_name": "requests", "type": "cancel", "cancel": {"identifier": "a-mistake"}}
    )
    life.advance("2026-05-01T01:00:00")

    assert life.totals() == [40]


def test_an_allowance_is_a_first_tier_at_nothing(life: Life) -> None:
    # 30,000 requests, 10,000 of them free: 20,000 × 0.05 = 1000.
    tiers = [{"up_to": 10_000, "unit_amount": 0}, {"up_to": "inf", "unit_amount_decimal": "0.05"}]
    life.subscribe(
        life.metered_price(life.meter(), billing_scheme="tiered", tiers_mode="graduated", tiers=tiers)
    )
    life.use(30_000)
    life.advance("2026-05-01T01:00:00")

    assert life.totals() == [1000]


def test_usage_up_to_the_allowance_costs_nothing_and_one_more_its_fraction(life: Life) -> None:
    # April: exactly 10,000 → 0. May: 10,009 → 9 × 0.05 = 0.45 → 0. June: 10,010 → 0.5 → 1.
    tiers = [{"up_to": 10_000, "unit_amount": 0}, {"up_to": "inf", "unit_amount_decimal": "0.05"}]
    life.subscribe(
        life.metered_price(life.meter(), billing_scheme="tiered", tiers_mode="graduated", tiers=tiers)
    )
    life.use(10_000)
    life.advance("2026-05-02")
    life.use(10_009)
    life.advance("2026-06-02")
    life.use(10_010)
    life.advance("2026-07-02")

    assert life.totals() == [0, 0, 1]


def test_a_meter_may_count_events_or_keep_the_last_value(begin: Callable[..., Life]) -> None:
    # Three events of 5, 9 and 7: 3 of them × 10 = 30; the last value, 7 × 10 = 70.
    totals = {}
    for formula in ("count", "last"):
        life = begin()
        meter = life.meter(formula)
        life.subscribe(life.metered_price(meter))
        for value, when in ((5, "2026-04-01T00:01"), (9, "2026-04-01T00:02"), (7, "2026-04-01T00:03")):
            life.use(value, when)
        life.advance("2026-05-01T01:00:00")
        totals[formula] = life.totals()
        life.api.billing.meters.deactivate(meter.id)

    assert totals == {"count": [30], "last": [70]}


def test_a_base_and_its_usage_share_the_renewal(life: Life) -> None:
    # 1 April: the base of 49.00. 1 May: 49.00 for May and 100 units of April × 10 = 1000: 5900.
    life.subscribe(life.price(4900), life.metered_price(life.meter()))
    assert life.totals() == [4900]
    life.use(100)
    life.advance("2026-05-01T01:00:00")

    assert life.totals() == [4900, 5900]
    spans = {line.amount: (line.period.start, line.period.end) for line in life.last().lines.data}
    assert spans == {
        4900: (at("2026-05-01"), at("2026-06-01")),
        1000: (at("2026-04-01"), at("2026-05-01")),
    }


def test_a_yearly_base_is_billed_once_and_its_usage_every_month(begin: Callable[..., Life]) -> None:
    # 1 January 2026: 120,000 for the year. Each month m: m units × 10 on the first of the next month.
    # 1 January 2027: December's 12 × 10 = 120 and the next year's 120,000 on one invoice.
    life = begin("2026-01-01")
    life.subscribe(life.price(120_000, interval="year"), life.metered_price(life.meter()))
    for month in range(1, 13):
        life.use(month)
        following = f"2026-{month + 1:02d}-01" if month < 12 else "2027-01-01"
        life.advance(f"{following}T02:00:00")

    assert life.totals() == [120_000, *(10 * month for month in range(1, 12)), 120_120]
    assert amounts(life.last()) == [120, 120_000]


def test_each_item_of_a_mixed_subscription_has_its_own_period(begin: Callable[..., Life]) -> None:
    life = begin("2026-01-31")
    subscription = life.subscribe(life.price(120_000, interval="year"), life.metered_price(life.meter()))
    life.advance("2026-03-01")

    ends = {
        each.price.recurring.interval: (each.current_period_start, each.current_period_end)
        for each in life.again(subscription)["items"].data
    }
    assert ends == {
        "year": (at("2026-01-31"), at("2027-01-31")),
        "month": (at("2026-02-28"), at("2026-03-31")),
    }


def test_usage_before_the_subscription_is_not_billed(begin: Callable[..., Life]) -> None:
    # 9 units before, 4 after: 4 × 10 = 40.
    life = begin("2026-04-10")
    meter = life.meter()
    life.use(9, "2026-04-09T12:00:00")
    life.subscribe(life.metered_price(meter))
    life.use(4)
    life.advance("2026-05-10T01:00:00")

    assert life.totals() == [40]


def test_cancelling_with_a_last_invoice_bills_the_usage_so_far(life: Life) -> None:
    # 25 units × 10 = 250, on the day of the cancellation.
    subscription = life.subscribe(life.metered_price(life.meter()))
    life.use(25)
    life.advance("2026-04-16")
    life.api.subscriptions.cancel(subscription.id, {"invoice_now": True})

    assert life.totals() == [250]


def test_a_subscription_that_ends_with_its_month_still_bills_the_usage(life: Life) -> None:
    # 25 units × 10 = 250; the base is not renewed.
    subscription = life.subscribe(life.price(4900), life.metered_price(life.meter()))
    life.use(25)
    life.api.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    life.advance("2026-05-01T02:00:00")

    assert life.again(subscription).status == "canceled"
    assert life.totals() == [4900, 250]


def test_usage_told_of_after_a_change_of_price_is_billed_at_the_price_of_its_day(life: Life) -> None:
    # 7 units until the 11th at 10 = 70, reported on the 12th; 3 units after it at 20 = 60.
    meter = life.meter()
    subscription = life.subscribe(life.metered_price(meter))
    life.advance("2026-04-11")
    life.change(subscription, life.metered_price(meter, unit_amount_decimal="20"))
    life.advance("2026-04-12")
    life.use(7, "2026-04-05T12:00:00")
    life.use(3)
    life.advance("2026-05-01T02:00:00")

    assert amounts(life.last()) == [60, 70]


def test_usage_before_a_change_of_price_without_proration_is_never_billed(life: Life) -> None:
    # 7 units until the 11th are given away; 3 units after it at 20 = 60.
    meter = life.meter()
    subscription = life.subscribe(life.metered_price(meter))
    life.use(7)
    life.advance("2026-04-11")
    life.change(subscription, life.metered_price(meter, unit_amount_decimal="20"), proration_behavior="none")
    life.use(3)
    life.advance("2026-05-01T02:00:00")

    assert amounts(life.last()) == [60]


def test_usage_of_the_draft_hour_moves_the_discount_and_the_credit_with_it(life: Life) -> None:
    # 10.00 off a base of 30.00 and 300 units at 0.10, told of in the hour of the draft: 5.00 each, 25.00 for May.
    # On 16 May, 12 hours in, 15.5 of 31 days are left: −12.50.
    off = life.api.coupons.create({"amount_off": 1000, "currency": "usd", "duration": "forever"})
    subscription = life.subscribe(
        life.price(3000), life.metered_price(life.meter()), discounts=[{"coupon": off.id}]
    )
    life.advance("2026-05-01T00:30:00")
    life.use(300, "2026-04-20T12:00:00")
    life.advance("2026-05-01T02:00:00")
    assert life.totals() == [2000, 5000]
    life.advance("2026-05-16T12:00:00")
    life.api.subscriptions.cancel(subscription.id, {"prorate": True, "invoice_now": True})

    assert min(amounts(life.last())) == -1250
