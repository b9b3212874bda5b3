from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.periods import Period, anchored_month, calendar_month

moments = st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def test_a_period_holds_its_start_and_not_its_end():
    period = Period(utc(2026, 1, 1), utc(2026, 2, 1))

    assert utc(2026, 1, 1) in period
    assert utc(2026, 2, 1) not in period


def test_a_period_that_ends_before_it_starts_is_refused():
    with pytest.raises(ValueError, match="end after it starts"):
        Period(utc(2026, 1, 1), utc(2026, 1, 1))


@pytest.mark.parametrize(
    ("moment", "start", "end"),
    [
        # Anchored on the 31st: short months end on their last day, and the 31st comes back.
        (utc(2026, 2, 1), utc(2026, 1, 31, 9), utc(2026, 2, 28, 9)),
        (utc(2026, 2, 28, 8), utc(2026, 1, 31, 9), utc(2026, 2, 28, 9)),
        (utc(2026, 2, 28, 9), utc(2026, 2, 28, 9), utc(2026, 3, 31, 9)),
        (utc(2026, 4, 30, 9), utc(2026, 4, 30, 9), utc(2026, 5, 31, 9)),
        (utc(2028, 2, 29, 9), utc(2028, 2, 29, 9), utc(2028, 3, 31, 9)),
        (utc(2026, 1, 31, 9), utc(2026, 1, 31, 9), utc(2026, 2, 28, 9)),
    ],
)
def test_months_of_an_anchor_on_the_31st(moment, start, end):
    assert anchored_month(utc(2025, 12, 31, 9), moment) == Period(start, end)


@given(anchor=moments, wait=st.timedeltas(timedelta(0), timedelta(days=4000)))
def test_the_month_holds_the_moment_and_follows_on_the_one_before(anchor, wait):
    moment = anchor + wait
    period = anchored_month(anchor, moment)

    assert moment in period
    assert anchored_month(anchor, period.end).start == period.end
    assert timedelta(days=28) <= period.end - period.start <= timedelta(days=31)


def test_a_moment_before_the_anchor_is_refused():
    with pytest.raises(ValueError, match="anchor"):
        anchored_month(utc(2026, 1, 2), utc(2026, 1, 1))


@given(moment=moments)
def test_calendar_months_begin_at_midnight_utc_on_the_first(moment):
    month = calendar_month(moment)

    assert moment in month
    assert (month.start.day, month.start.hour, month.end.day, month.end.hour) == (1, 0, 1, 0)
