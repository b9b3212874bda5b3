"""When a subscription is billed, and for which time."""

from collections.abc import Callable

import pytest

from tests.sandbox.worked.life import HOUR, Life, amounts, at, period


def test_the_first_invoice_is_for_the_month_ahead(life: Life) -> None:
    # 1 × 49.00 from 1 April to 1 May, paid at once.
    subscription = life.subscribe(life.price(4900))

    [invoice] = life.invoices()
    assert subscription.status == "active"
    assert (invoice.status, invoice.billing_reason) == ("paid", "subscription_create")
    assert (invoice.subtotal, invoice.total, invoice.amount_paid, invoice.amount_remaining) == (
        4900,
        4900,
        4900,
        0,
    )
    [line] = invoice.lines.data
    assert (line.period.start, line.period.end) == (at("2026-04-01"), at("2026-05-01"))


def test_a_renewal_is_drafted_at_the_end_of_the_period_and_charged_an_hour_later(life: Life) -> None:
    subscription = life.subscribe(life.price(4900))

    life.advance("2026-04-30T23:59:59")
    assert len(life.invoices()) == 1
    life.advance("2026-05-01")
    draft = life.last()
    assert (draft.status, draft.billing_reason, draft.created) == (
        "draft",
        "subscription_cycle",
        at("2026-05-01"),
    )
    # The line is for May; the invoice itself speaks of the period that closed.
    [line] = draft.lines.data
    assert (line.period.start, line.period.end) == (at("2026-05-01"), at("2026-06-01"))
    assert (draft.period_start, draft.period_end) == (at("2026-04-01"), at("2026-05-01"))
    assert draft.automatically_finalizes_at == at("2026-05-01") + HOUR

    life.advance("2026-05-01T00:59:59")
    assert life.last().status == "draft"
    life.advance("2026-05-01T01:00:00")
    assert (life.last().status, life.last().amount_paid) == ("paid", 4900)
    assert life.last().status_transitions.finalized_at == at("2026-05-01T01:00:00")
    assert period(life.again(subscription)) == ("2026-05-01", "2026-06-01")


@pytest.mark.parametrize(
    ("start", "ends"),
    [
        # Common year: February has 28 days, and the day of the anchor comes back in March.
        ("2027-01-29", ["2027-02-28", "2027-03-29", "2027-04-29"]),
        ("2027-01-30", ["2027-02-28", "2027-03-30", "2027-04-30"]),
        ("2027-01-31", ["2027-02-28", "2027-03-31", "2027-04-30", "2027-05-31"]),
        # Leap year: February has 29 days.
        ("2028-01-29", ["2028-02-29", "2028-03-29"]),
        ("2028-01-30", ["2028-02-29", "2028-03-30"]),
        ("2028-01-31", ["2028-02-29", "2028-03-31", "2028-04-30", "2028-05-31"]),
    ],
)
def test_a_monthly_anchor_late_in_the_month_is_shortened_by_short_months_only(
    begin: Callable[..., Life], start: str, ends: list[str]
) -> None:
    life = begin(start)
    subscription = life.subscribe(life.price(3100))
    seen = [period(subscription)]
    for each in ends[:-1]:
        life.advance(each)
        seen.append(period(life.again(subscription)))

    assert seen == list(zip([start, *ends[:-1]], ends, strict=True))
    # A whole period costs the whole price, however many days it has.
    assert life.totals() == [3100] * len(ends)


def test_a_year_begun_on_29_february_ends_on_the_28th_until_the_next_leap_year(
    begin: Callable[..., Life],
) -> None:
    life = begin("2028-02-29")
    life.stride = 366 * 24 * HOUR
    subscription = life.subscribe(life.price(30000, interval="year"))
    seen = [period(subscription)[1]]
    for each in ("2029-02-28", "2030-02-28", "2031-02-28"):
        life.advance(each)
        seen.append(period(life.again(subscription))[1])

    assert seen == ["2029-02-28", "2030-02-28", "2031-02-28", "2032-02-29"]
    assert life.totals() == [30000] * 4


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2026-03-01T12:00:00", "2026-04-01T12:00:00"),  # Clocks go forward: 8 March (US), 29 March (EU).
        ("2026-10-15T12:00:00", "2026-11-15T12:00:00"),  # Clocks go back: 25 October (EU), 1 November (US).
    ],
)
def test_daylight_saving_moves_no_period(begin: Callable[..., Life], start: str, end: str) -> None:
    life = begin(start)
    item = life.subscribe(life.price())["items"].data[0]

    # 31 days of 86,400 seconds, neither an hour more nor less: 2,678,400.
    assert (item.current_period_start, item.current_period_end) == (at(start), at(end))
    assert item.current_period_end - item.current_period_start == 2_678_400


def test_every_three_months_keeps_the_day_of_the_anchor(begin: Callable[..., Life]) -> None:
    # 30 November + 3 months is 28 February, + 6 months is 30 May.
    life = begin("2026-11-30")
    subscription = life.subscribe(life.price(9000, recurring={"interval_count": 3}))
    life.advance("2027-02-28")

    assert period(life.again(subscription)) == ("2027-02-28", "2027-05-30")
    assert life.totals() == [9000, 9000]


def test_a_weekly_price_is_billed_every_seven_days(life: Life) -> None:
    life.stride = 7 * 24 * HOUR
    life.subscribe(life.price(700, interval="week"))
    life.advance("2026-04-30")

    # 1, 8, 15, 22 and 29 April.
    starts = [invoice.lines.data[0].period.start for invoice in life.invoices()]
    assert starts == [at(f"2026-04-{each:02d}") for each in (1, 8, 15, 22, 29)]


def test_a_yen_has_no_smaller_part(life: Life) -> None:
    # ¥1,000 → ¥2,000 with 10 of 30 days left: −1000/3 = −333.3 → −333; 2000/3 = 666.7 → 667.
    subscription = life.subscribe(life.price(1000, currency="jpy"))
    life.advance("2026-04-21")
    life.change(subscription, life.price(2000, currency="jpy"), proration_behavior="always_invoice")

    assert life.totals() == [1000, 334]
    assert amounts(life.last()) == [-333, 667]
    assert life.last().currency == "jpy"


def test_a_first_period_up_to_a_chosen_anchor_is_billed_by_its_share(begin: Callable[..., Life]) -> None:
    # Begun on 16 April, anchored on 1 May: 15 of the 30 days from 1 April to 1 May: 3000 × 15/30 = 1500.
    life = begin("2026-04-16")
    subscription = life.subscribe(life.price(3000), billing_cycle_anchor=at("2026-05-01"))
    assert period(subscription) == ("2026-04-16", "2026-05-01")
    assert life.totals() == [1500]

    life.advance("2026-05-01T01:00:00")
    assert life.totals() == [1500, 3000]
    assert period(life.again(subscription)) == ("2026-05-01", "2026-06-01")


def test_a_first_period_up_to_a_chosen_anchor_is_free_without_proration(begin: Callable[..., Life]) -> None:
    life = begin("2026-04-16")
    life.subscribe(life.price(3000), billing_cycle_anchor=at("2026-05-01"), proration_behavior="none")
    assert sum(life.totals()) == 0

    life.advance("2026-05-01T01:00:00")
    assert sum(life.totals()) == 3000


def test_resetting_the_anchor_now_credits_the_rest_and_bills_a_whole_month(life: Life) -> None:
    # On 16 April, 15 of 30 days are left: −1500; a month from today: +3000; together 1500.
    subscription = life.subscribe(life.price(3000))
    life.advance("2026-04-16")
    changed = life.api.subscriptions.update(subscription.id, {"billing_cycle_anchor": "now"})

    assert period(changed) == ("2026-04-16", "2026-05-16")
    assert life.totals() == [3000, 1500]
    assert amounts(life.last()) == [-1500, 3000]


def test_a_backdated_week_is_billed_with_the_week_ahead(begin: Callable[..., Life]) -> None:
    # Backdated by exactly one week of 700: 700 for the week behind, 700 for the week ahead.
    life = begin("2026-04-08")
    subscription = life.subscribe(life.price(700, interval="week"), backdate_start_date=at("2026-04-01"))

    assert subscription.start_date == at("2026-04-01")
    assert life.totals() == [1400]
    assert amounts(life.last()) == [700, 700]


def test_a_year_of_months_costs_twelve_times_the_price(begin: Callable[..., Life]) -> None:
    # From January to December 2026 the months have 28, 30 or 31 days; each bills 12.34, 148.08 in all.
    life = begin("2026-01-01")
    life.subscribe(life.price(1234))
    life.advance("2026-12-31")

    assert life.totals() == [1234] * 12
    assert sum(life.totals()) == 14808
