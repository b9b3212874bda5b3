"""What a period will come to, reckoned by hand."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import ceil
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.models import Entitlement, Meter
from tests.usage.cast import make_event
from usage.days import sum_days
from usage.forecast import MICROSECOND, Forecast, Pace, forecast, pace, rate_window
from usage.ledger import store

START, END = datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


@pytest.fixture
def entitlement(organization) -> Entitlement:
    """1,000 units from 1 April to 1 May."""
    entitlement = organization.entitlement
    entitlement.quotas = {"requests": {"included": 1000, "overage": "block"}}
    entitlement.period_start, entitlement.period_end = START, END
    return entitlement


@pytest.fixture
def meter(plans) -> Meter:
    return Meter.objects.get(slug="requests")


def use(entitlement: Entitlement, at: datetime, units: int, period_start: datetime = START) -> None:
    store(
        [
            make_event(
                organization_id=entitlement.organization_id, at=at, units=units, period_start=period_start
            )
        ]
    )


@pytest.mark.django_db
def test_nothing_used_gives_no_forecast(entitlement, meter):
    use(entitlement, START - DAY, 500, period_start=START - 31 * DAY)

    assert forecast(entitlement, meter, now=START + 10 * DAY) == Forecast(None, None, None)


@pytest.mark.django_db
def test_the_rate_is_that_of_the_last_seven_whole_days(entitlement, meter):
    use(entitlement, START, 200)  # Eleven days ago: no part of the rate.
    for day in range(4, 11):
        use(entitlement, START + day * DAY + HOUR, 70)
    now = START + 11 * DAY + 12 * HOUR
    use(entitlement, now, 10)  # Today is no whole day: used, and no part of the rate.

    found = forecast(entitlement, meter, now=now)

    # 700 used; 70 a day for the 18.5 days that are left.
    assert found.expected == 700 + 1295
    # 300 more at 70 a day: in 4 days, 6:51:25.7142857…, rounded up.
    assert found.runs_out_at == datetime(2026, 4, 16, 18, 51, 25, 714286, tzinfo=UTC)
    assert found.cap_reached_at is None


@pytest.mark.django_db
def test_on_the_first_day_the_rate_is_that_of_the_period_so_far(entitlement, meter):
    use(entitlement, START + HOUR, 24)

    found = forecast(entitlement, meter, now=START + 12 * HOUR)

    assert found.expected == 24 + 24 * 59  # 24 in 12 hours, of which 59 are left.
    assert found.runs_out_at == START + 12 * HOUR + 976 * timedelta(minutes=30)


@pytest.mark.django_db
def test_the_first_minutes_are_taken_for_an_hour(entitlement, meter):
    use(entitlement, START, 1)

    assert forecast(entitlement, meter, now=START + timedelta(seconds=1)).expected == 1 + 719


@pytest.mark.django_db
def test_days_before_the_organization_signed_up_say_nothing(entitlement, meter):
    entitlement.organization.created_at = START + 20 * DAY + 12 * HOUR
    use(entitlement, START + 20 * DAY + 13 * HOUR, 60)

    assert forecast(entitlement, meter, now=START + 20 * DAY + 18 * HOUR).expected == 60 + 10 * (9 * 24 + 6)


@pytest.mark.django_db
@pytest.mark.parametrize("summed_up", [False, True])
@pytest.mark.parametrize("since", [0, 6])
def test_what_was_used_before_the_sign_up_is_no_part_of_the_rate_of_the_first_day(
    entitlement, meter, since, summed_up
):
    """As where the operator sends in the month's usage so far."""
    opened = START + 20 * DAY + 9 * HOUR + timedelta(minutes=30)
    entitlement.organization.created_at = opened
    for day in range(20):
        use(entitlement, START + day * DAY, 5)
    use(entitlement, START + 20 * DAY + 8 * HOUR, 10)
    if since:
        use(entitlement, opened + timedelta(minutes=10), since)
    now = opened + 6 * HOUR
    if summed_up:
        sum_days(now=now, since=START)

    found = forecast(entitlement, meter, now=now)

    left = END - now
    assert found.expected == 110 + since + since * left // (6 * HOUR)
    assert found.runs_out_at is None


@pytest.mark.django_db
def test_days_are_the_organization_s_own(entitlement, meter):
    entitlement.organization.time_zone = "Europe/Berlin"
    midnight = datetime(2026, 4, 10, tzinfo=ZoneInfo("Europe/Berlin")).astimezone(UTC)
    for day in range(1, 8):
        use(entitlement, midnight - day * DAY, 7)
    use(entitlement, midnight, 1000)

    assert pace(entitlement, meter, now=midnight + HOUR) == Pace(1049, 49, 7 * DAY, whole_days=7)


def test_a_week_in_which_clocks_change_is_an_hour_shorter_or_longer():
    berlin = ZoneInfo("Europe/Berlin")
    first = datetime(2026, 3, 20, tzinfo=UTC)

    start, end = rate_window(first, datetime(2026, 4, 2, 12, tzinfo=UTC), berlin)

    assert (start, end) == (datetime(2026, 3, 25, 23, tzinfo=UTC), datetime(2026, 4, 1, 22, tzinfo=UTC))
    assert end - start == 7 * DAY - HOUR


@pytest.mark.django_db
def test_a_spend_cap_has_a_run_out_of_its_own(entitlement, meter):
    entitlement.quotas = {"requests": {"included": 1000, "overage": "bill", "spend_cap": 1100}}
    use(entitlement, START + HOUR, 100)
    now = START + DAY

    found = forecast(entitlement, meter, now=now)

    assert found.expected == 100 + 100 * 29
    assert (found.runs_out_at, found.cap_reached_at) == (now + 9 * DAY, now + 10 * DAY)


@pytest.mark.django_db
@pytest.mark.parametrize(("used", "included"), [(1000, 1000), (40, 1000), (1200, 1000), (5, None)])
def test_what_is_used_up_already_or_not_before_the_end_has_no_run_out(entitlement, meter, used, included):
    entitlement.quotas = {"requests": {"included": included, "overage": "block"}}
    use(entitlement, START, used)

    assert forecast(entitlement, meter, now=START + 15 * DAY).runs_out_at is None


@pytest.mark.django_db
def test_what_an_earlier_part_of_the_month_carries_on_counts(entitlement, meter):
    """A change of plan on the 11th cut the period short; what was used before still counts in the quota."""
    entitlement.period_start, entitlement.carried_from = START + 10 * DAY, [START.isoformat()]
    for day in range(10):
        use(entitlement, START + day * DAY, 30)

    found = forecast(entitlement, meter, now=START + 10 * DAY)

    assert found.expected == 300 + 30 * 20


@pytest.mark.django_db
def test_the_largest_value_of_a_period_does_not_grow_with_time(entitlement, meter):
    meter.aggregation = Meter.Aggregation.MAX
    use(entitlement, START, 900)

    assert forecast(entitlement, meter, now=START + 10 * DAY) == Forecast(expected=900)


@pytest.mark.django_db
def test_in_a_leap_february_a_period_that_ends_on_the_29th_is_reckoned_to_its_end(entitlement, meter):
    entitlement.period_start = datetime(2024, 1, 31, tzinfo=UTC)
    entitlement.period_end = datetime(2024, 2, 29, tzinfo=UTC)
    for day in range(7):
        use(entitlement, entitlement.period_start + day * DAY, 10, period_start=entitlement.period_start)

    found = forecast(entitlement, meter, now=entitlement.period_start + 7 * DAY)

    assert found.expected == 70 + 10 * 22


units = st.integers(0, 10**15)
seconds = st.integers(1, 40 * 86_400)


@given(used=units, part=st.fractions(0, 1), span=seconds, left=st.integers(0, 40 * 86_400))
def test_a_forecast_is_never_below_what_is_used_and_exact(used, part, span, left):
    found = Pace(used, int(used * part), timedelta(seconds=span)).expected(timedelta(seconds=left))

    assert found >= used
    assert found == used + int(Fraction(int(used * part) * left, span))


@given(used=units, part=st.fractions(0, 1), span=seconds, left=st.integers(0, 40 * 86_400), limit=units)
def test_a_run_out_lies_before_the_end_or_is_none(used, part, span, left, limit):
    recent = int(used * part)
    rate = Pace(used, recent, timedelta(seconds=span))
    end = START + timedelta(seconds=left)

    found = rate.reaches(limit, now=START, end=end)

    if found is None:
        assert (
            used >= limit
            or not recent
            or (limit - used) * span * 10**6 / Fraction(recent) > (left * 10**6) - 1
        )
    else:
        assert START < found < end
        assert (found - START) / MICROSECOND == ceil(Fraction((limit - used) * span * 10**6, recent))
        assert rate.expected(end - START) >= limit
