"""What an event adds to its period, by how its meter aggregates: the units of a period are its bill."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts import clock
from billing.entitlements import refresh_entitlement
from tests.usage.ingesting import event, sell, send, statuses
from usage.models import DistinctValue, PeriodPeak, UsageEvent, UsageRollup

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 15, 12, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def hands(organization):
    with clock.standing_at(NOW) as hands:
        refresh_entitlement(organization)
        organization.entitlement.refresh_from_db()
        yield hands


@pytest.fixture
def meters(organization):
    for aggregation in ("sum", "count", "max", "unique"):
        sell(organization, aggregation, aggregation)


def units(meter, **period):
    return UsageRollup.objects.filter(meter=meter, **period).units()


def send_values(organization, meter, *values, prefix=""):
    sent = [event(organization, f"{prefix}{meter}-{n}", meter=meter, value=v) for n, v in enumerate(values)]
    return statuses(send(*sent))


def added():
    """Return the units of each event in the ledger, in the order of their ids' numbers."""
    rows = UsageEvent.objects.order_by("occurred_at", "units")
    return list(rows.values_list("units", flat=True))


def test_a_count_counts_events(organization, meters):
    assert send_values(organization, "count", ..., None, 1, 1.0) == ["accepted"] * 4
    assert units("count") == 4


@pytest.mark.parametrize("value", [0, 2, "x", -1])
def test_a_count_takes_no_other_value(organization, meters, value):
    assert send_values(organization, "count", value) == ["invalid"]


def test_a_maximum_is_what_the_largest_value_was(organization, meters):
    assert send_values(organization, "max", 3, 10, 7, 10, 12, 0) == ["accepted"] * 6

    assert units("max") == 12
    assert PeriodPeak.objects.get().value == 12
    assert sorted(UsageEvent.objects.values_list("value", "units")) == [
        (0, 0),
        (3, 3),
        (7, 0),
        (10, 0),
        (10, 7),
        (12, 2),
    ]


@pytest.mark.parametrize(("value", "code"), [(..., "missing"), (-1, "negative"), (0.5, "not_whole")])
def test_a_maximum_takes_whole_units(organization, meters, value, code):
    assert send_values(organization, "max", value) == [code]


def test_each_value_counts_once_a_period(organization, meters):
    assert send_values(organization, "unique", "ann", "bob", "ann", 7, "7", 7.0, 1.5, -3) == ["accepted"] * 8

    assert units("unique") == 5
    assert DistinctValue.objects.count() == 5
    assert UsageEvent.objects.filter(units=0).count() == 3


def test_what_counts_once_has_to_be_said(organization, meters):
    assert send_values(organization, "unique", ..., "", True, "x" * 256) == [
        *("missing", "missing", "invalid", "oversized")
    ]


def test_a_new_period_begins_anew(organization, meters, hands):
    send_values(organization, "max", 10)
    send_values(organization, "unique", "ann")
    hands.move(datetime(2026, 12, 2, tzinfo=UTC))
    send_values(organization, "max", 4, prefix="later-")
    send_values(organization, "unique", "ann", "bob", prefix="later-")

    december = {"period_start": datetime(2026, 12, 1, tzinfo=UTC)}
    assert (units("max"), units("max", **december)) == (14, 4)
    assert (units("unique"), units("unique", **december)) == (3, 2)


def test_organizations_have_maxima_and_values_of_their_own(organization, outsider, meters):
    rival = outsider.memberships.get().organization
    refresh_entitlement(rival)
    send_values(organization, "max", 10)
    send_values(organization, "unique", "ann")

    assert send_values(rival, "max", 6, prefix="r") == ["accepted"]
    assert send_values(rival, "unique", "ann", prefix="r") == ["accepted"]
    assert (units("max"), units("unique")) == (16, 2)


def test_periods_that_count_together_have_one_maximum_and_count_each_value_once(organization, meters, hands):
    """As with a change to a yearly fee in mid-month: what was used stays used, and is not used twice."""
    send_values(organization, "max", 10)
    send_values(organization, "unique", "ann", "bob")
    entitlement = organization.entitlement
    first = entitlement.period_start
    hands.move(NOW + timedelta(days=1))
    type(entitlement).objects.filter(pk=entitlement.pk).update(
        carried_from=[first.isoformat()], period_start=clock.now()
    )
    hands.move(NOW + timedelta(days=2))

    send_values(organization, "max", 8, 13, prefix="later-")
    send_values(organization, "unique", "ann", "cid", prefix="later-")

    assert (units("max", period_start=first), units("max")) == (10, 13)
    assert (units("unique", period_start=first), units("unique")) == (2, 3)


def test_a_refused_event_raises_no_maximum_and_is_no_value(organization, meters):
    send(
        event(organization, "1", meter="max", value=50, time="2026-01-01T00:00:00Z"),
        event(organization, "2", meter="unique", value="ann", time="2026-01-01T00:00:00Z"),
    )

    assert not PeriodPeak.objects.exists()
    assert not DistinctValue.objects.exists()


MONTH = datetime(2026, 11, 1, tzinfo=UTC)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["sum", "count", "max", "unique"]),
        st.integers(0, 9),  # Few values and ids, so that they meet.
        st.integers(0, 14 * 24),  # When, in hours of the month.
        st.integers(0, 20),  # By what id.
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS, cuts=st.lists(st.integers(1, 8), max_size=40), retries=st.booleans())
def test_a_period_s_units_are_its_bill_in_whatever_order_and_batches_its_events_come(
    organization, meters, events, cuts, retries
):
    """Against the slow way: all that was taken, looked at at once."""
    sent = [
        event(
            organization,
            f"{meter}-{number}",
            meter=meter,
            value=... if meter == "count" else value,
            time=MONTH + timedelta(hours=hours),
        )
        for meter, value, hours, number in events
    ]
    batches, rest = [], sent
    for cut in [*cuts, len(sent)]:
        batches.append(rest[:cut])
        rest = rest[cut:]
    first: dict[str, dict] = {}
    values = defaultdict(list)
    for each in sent:
        if first.setdefault(each["id"], each) is each:
            values[each["meter"]].append(each.get("value"))
    with transaction.atomic():
        for batch in [*batches, *(batches if retries else [])]:
            for each, outcome in zip(batch, statuses(send(*batch)), strict=True):
                assert outcome in {"accepted", "duplicate"} or first[each["id"]] != each
        assert UsageEvent.objects.count() == len(first)
        assert units("sum") == sum(values["sum"])
        assert units("count") == len(values["count"])
        assert units("max") == max(values["max"], default=0)
        assert units("unique") == len(set(values["unique"]))
        transaction.set_rollback(True)


def test_half_of_a_surrogate_pair_is_refused_as_a_value_too(organization, meters):
    assert send_values(organization, "unique", "a\ud800", "b") == ["invalid", "accepted"]


@pytest.mark.parametrize("aggregation", ["max", "unique"])
def test_a_meter_may_be_called_null(organization, aggregation):
    sell(organization, "null", aggregation)

    assert send_values(organization, "null", 3, 3) == ["accepted", "accepted"]
    assert units("null") == (3 if aggregation == "max" else 1)
