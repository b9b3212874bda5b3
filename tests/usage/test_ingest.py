"""What is taken of the events that operators' services send, what is refused, and that each counts once, for good."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from accounts import clock
from billing.entitlements import refresh_entitlement
from billing.periods import calendar_month
from tests.usage.ingesting import event, sell, send, statuses
from usage.ingest.items import key_of
from usage.ingest.units import LARGEST
from usage.models import IngestedEvent, UsageEvent, UsageRollup
from usage.partitions import ensure_partition, partition_name

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 15, 12, 30, tzinfo=UTC)


@pytest.fixture
def hands(organization):
    """15 November 2026, on a clock that the test moves; Acme is on Free, whose periods are calendar months."""
    with clock.standing_at(NOW) as hands:
        refresh_entitlement(organization)
        organization.entitlement.refresh_from_db()
        yield hands


def units(organization) -> int:
    return UsageRollup.objects.filter(organization=organization).units()


class TestTaking:
    def test_an_event_lands_in_the_ledger_in_its_hour_and_in_its_period(self, organization, hands):
        assert statuses(send(event(organization, time="2026-11-03T04:05:06.789Z", value=7))) == ["accepted"]

        stored, rollup = UsageEvent.objects.get(), UsageRollup.objects.get()
        assert stored.occurred_at == datetime(2026, 11, 3, 4, 5, 6, 789_000, tzinfo=UTC)
        assert (stored.units, stored.period_start) == (7, datetime(2026, 11, 1, tzinfo=UTC))
        assert (rollup.units, rollup.calls) == (7, 1)
        assert rollup.hour == datetime(2026, 11, 3, 4, tzinfo=UTC)

    def test_an_event_without_a_time_is_of_now(self, organization, hands):
        send(event(organization))

        assert UsageEvent.objects.get().occurred_at == NOW

    @pytest.mark.parametrize(
        "time", ["2026-11-15T13:00:00+01:00", "2026-11-15t12:00:00z", "2026-11-15 12:00:00.000000000Z"]
    )
    def test_times_are_as_in_rfc_3339(self, organization, hands, time):
        assert statuses(send(event(organization, time=time))) == ["accepted"]
        assert UsageEvent.objects.get().occurred_at == datetime(2026, 11, 15, 12, tzinfo=UTC)

    def test_a_number_that_is_whole_may_be_written_with_a_fraction(self, organization, hands):
        assert (
            statuses(send(event(organization, value=5.0), event(organization, "2", value=1e3)))
            == ["accepted"] * 2
        )
        assert units(organization) == 1005

    def test_a_value_of_nothing_is_an_event_of_no_units(self, organization, hands):
        assert statuses(send(event(organization, value=0))) == ["accepted"]
        assert UsageEvent.objects.get().units == 0

    def test_a_long_source_is_cut_where_it_is_shown_and_names_the_event_whole(self, organization, hands):
        sources = ["s" * 254 + each for each in "ab"]

        assert statuses(send(*(event(organization, source=each) for each in sources))) == ["accepted"] * 2
        assert set(UsageEvent.objects.values_list("endpoint", flat=True)) == {"s" * 200}

    def test_organizations_in_one_batch_each_get_their_own(self, organization, outsider, hands):
        rival = outsider.memberships.get().organization

        sent = send(
            event(organization, value=3), event(rival, "2", value=4), event(organization, "3", value=5)
        )

        assert statuses(sent) == ["accepted"] * 3
        assert (units(organization), units(rival)) == (8, 4)


class TestRefusing:
    @pytest.mark.parametrize(
        ("fields", "code", "names"),
        [
            (
                {"organization": "nobody0000"},
                "unknown_organization",
                "organization: no customer has",
            ),
            ({"meter": "gold"}, "unknown_meter", "meter: no meter has the slug gold."),
            ({"value": -1}, "negative", "value"),
            ({"value": -0.5}, "negative", "value"),
            ({"value": float("nan")}, "not_finite", "value"),
            ({"value": float("inf")}, "not_finite", "value"),
            ({"value": 1.5}, "not_whole", "value"),
            ({"value": LARGEST + 1}, "too_large", "value"),
            ({"value": 1e300}, "too_large", "value"),
            ({"value": 10**60}, "too_large", "value"),
            ({"value": True}, "invalid", "value"),
            ({"value": "5"}, "invalid", "value"),
            ({"value": {"n": 5}}, "invalid", "value"),
            ({"value": None}, "missing", "value"),
            ({"value": ...}, "missing", "value"),
            ({"source": ...}, "missing", "source"),
            ({"id": ...}, "missing", "id"),
            ({"id": ""}, "missing", "id"),
            ({"id": 5}, "invalid", "id"),
            ({"id": "x" * 256}, "oversized", "id"),
            ({"id": "a\0b"}, "invalid", "id"),
            ({"id": "half \ud800"}, "invalid", "surrogate"),
            ({"organization": ...}, "missing", "organization"),
            ({"organization": ["x"]}, "invalid", "organization"),
            ({"meter": ...}, "missing", "meter"),
            ({"tiem": "2026-11-15T12:00:00Z"}, "invalid", "tiem"),
            ({"\ud800\0": 1}, "invalid", "??"),
            ({"time": "2026-11-15T12:00:00"}, "invalid", "offset"),
            ({"time": "2026-11-15"}, "invalid", "RFC 3339"),
            ({"time": "20261115T120000Z"}, "invalid", "RFC 3339"),
            ({"time": "2026-11-15T12:00:00+05:99"}, "invalid", "RFC 3339"),
            ({"time": "2026-11-31T12:00:00Z"}, "invalid", "no time that there is"),
            ({"time": "2026-11-15T12:00:60Z"}, "invalid", "no time that there is"),
            ({"time": 1_763_200_000}, "invalid", "RFC 3339"),
            ({"time": "2026-11-15T12:35:00.000001Z"}, "in_future", "5 minutes"),
            ({"time": "9999-12-31T23:59:59-23:59"}, "in_future", "5 minutes"),
            ({"time": "2026-10-31T23:59:59.999999Z"}, "too_old", "correction"),
            ({"time": "0001-01-01T00:00:00+23:59"}, "too_old", "correction"),
        ],
    )
    def test_what_cannot_be_taken_is_refused_with_its_reason_and_the_rest_is_taken(
        self, organization, hands, fields, code, names
    ):
        outcomes = send(
            event(organization, "before"), event(organization, **fields), event(organization, "after")
        )

        assert statuses(outcomes) == ["accepted", code, "accepted"]
        assert names in outcomes[1].detail
        assert units(organization) == 2
        assert IngestedEvent.objects.count() == 2

    @pytest.mark.parametrize("sent", [None, 5, "event", [], True])
    def test_what_is_no_object_is_refused(self, organization, hands, sent):
        assert statuses(send(sent, event(organization))) == ["invalid", "accepted"]

    def test_a_meter_that_the_plan_does_not_include_is_refused(self, organization, outsider, hands):
        sell(organization, "tokens")
        rival = outsider.memberships.get().organization

        sent = send(event(organization, meter="tokens"), event(rival, meter="tokens"))

        assert statuses(sent) == ["accepted", "conflict"]
        assert statuses(send(event(rival, "2", meter="tokens"))) == ["not_in_plan"]

    def test_the_largest_value_is_taken(self, organization, hands):
        assert statuses(send(event(organization, value=LARGEST))) == ["accepted"]
        assert units(organization) == LARGEST

    def test_five_minutes_ahead_is_taken(self, organization, hands):
        assert statuses(send(event(organization, time=NOW + timedelta(minutes=5)))) == ["accepted"]

    def test_what_was_refused_may_be_sent_again_put_right(self, organization, hands):
        assert statuses(send(event(organization, value=-5))) == ["negative"]
        assert statuses(send(event(organization, value=5))) == ["accepted"]


class TestOnceForGood:
    """Complaints 2, 3 and 4 of the field notes."""

    def test_an_event_sent_again_counts_once(self, organization, hands):
        sent = event(organization, value=5)

        assert statuses([*send(sent), *send(sent), *send(sent, sent)]) == ["accepted", *["duplicate"] * 3]
        assert units(organization) == 5

    def test_twice_in_one_batch_it_counts_once(self, organization, hands):
        sent = event(organization, value=5)

        assert statuses(send(sent, event(organization, "2"), sent)) == ["accepted", "accepted", "duplicate"]
        assert units(organization) == 6

    def test_the_same_id_of_another_source_is_another_event(self, organization, hands):
        pairs = [("ab", "c"), ("a", "bc"), ("abc", "c")]

        sent = [event(organization, id, source=source) for source, id in pairs]
        assert statuses(send(*sent)) == ["accepted"] * 3

    @pytest.mark.parametrize(
        "other",
        [
            {"value": 6},
            {"meter": "tokens"},
            {"time": "2026-11-15T12:00:01Z"},
            {"time": ...},
            {"value": "5"},
        ],
    )
    def test_an_id_that_was_used_for_something_else_is_a_conflict(self, organization, hands, other):
        sell(organization, "tokens")
        first = event(organization, value=5, time="2026-11-15T12:00:00Z")
        send(first)

        assert statuses(send({name: v for name, v in (first | other).items() if v is not ...})) == [
            "conflict"
        ]
        assert units(organization) == 5

    def test_the_same_said_otherwise_is_a_duplicate(self, organization, hands):
        send(event(organization, value=5, time="2026-11-15T12:00:00Z"))

        again = event(organization, value=5.0, time="2026-11-15T13:00:00.000+01:00")
        assert statuses(send(again)) == ["duplicate"]

    def test_an_event_without_a_time_is_the_same_when_it_is_sent_later(self, organization, hands):
        sent = event(organization)
        send(sent)
        hands.move(NOW + timedelta(hours=30))

        assert statuses(send(sent)) == ["duplicate"]
        assert units(organization) == 1

    @pytest.mark.parametrize("later", [timedelta(days=1, seconds=1), timedelta(days=31), timedelta(days=400)])
    def test_a_retry_after_any_time_is_a_duplicate_also_when_its_period_is_closed(
        self, organization, hands, later
    ):
        sent = event(organization, time=NOW)
        send(sent)
        hands.move(NOW + later)

        assert statuses(send(sent)) == ["duplicate"]
        assert units(organization) == 1

    def test_a_retry_after_the_ledger_s_month_was_dropped_is_a_duplicate(self, organization, hands):
        sent = event(organization, time=NOW)
        send(sent)
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE {partition_name(calendar_month(NOW))}")
        hands.move(NOW + timedelta(days=200))
        ensure_partition(clock.now())

        assert statuses(send(sent)) == ["duplicate"]
        assert (units(organization), UsageEvent.objects.count()) == (1, 0)

    def test_what_was_taken_stays_taken_when_the_plan_includes_its_meter_no_more(self, organization, hands):
        sell(organization, "tokens")
        sent = event(organization, meter="tokens")
        send(sent)
        organization.entitlement.quotas.pop("tokens")
        organization.entitlement.save()

        assert statuses(send(sent)) == ["duplicate"]

    def test_a_failure_before_the_commit_leaves_nothing_and_the_retry_counts(
        self, organization, hands, monkeypatch
    ):
        sent = event(organization, value=5)

        def fail(cursor):
            raise RuntimeError("The process dies here.")

        with monkeypatch.context() as dying:
            dying.setattr("usage.ledger.store_staged", fail)
            with pytest.raises(RuntimeError):
                send(sent)

        assert IngestedEvent.objects.count() == 0
        assert statuses(send(sent)) == ["accepted"]
        assert units(organization) == 5


@given(st.text(min_size=1), st.text(min_size=1), st.text(min_size=1), st.text(min_size=1))
def test_two_events_share_a_key_where_source_and_id_are_the_same_and_nowhere_else(
    source, id, other, other_id
):
    if (source, id) == (other, other_id):
        assert key_of(source, id) == key_of(other, other_id)
    else:
        assert key_of(source, id) != key_of(other, other_id)
    assert key_of(source, id).version == 8


def test_a_batch_costs_no_query_for_each_event(organization, hands, django_assert_max_num_queries):
    send(event(organization, "warm"))
    with django_assert_max_num_queries(25):
        send(*(event(organization, str(number)) for number in range(1000)))

    assert units(organization) == 1001


def test_events_survive_json(organization, hands):
    sent = event(organization, value=3, time=NOW)

    assert statuses(send(sent, json.loads(json.dumps(sent)))) == ["accepted", "duplicate"]
