from datetime import UTC, datetime, timedelta
from io import StringIO
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import F, Sum
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts import clock
from tests.usage.cast import make_event
from tests.usage.proving import copy_in_ledger
from usage import latency
from usage.ledger import store
from usage.models import MeterReport, UsageEvent, UsageRollup
from usage.rebuilding import compare, rebuild
from usage.reports import make_reports

pytestmark = pytest.mark.django_db
AT = datetime(2026, 11, 15, 12, 30, tzinfo=UTC)
HOUR = AT.replace(minute=0)


@pytest.fixture(autouse=True)
def hands():
    with clock.standing_at(AT) as hands:
        yield hands


def fill(organization, *, calls=6):
    """Store calls of two keys and three statuses, in two hours; return what the rollups are."""
    store(
        [
            make_event(
                organization_id=organization.pk,
                at=AT - timedelta(minutes=30 * (n % 3), microseconds=n),
                units=n + 1,
                status=[200, 404, 201][n % 3],
                api_key_id=UUID(int=n % 2),
                period_start=HOUR - timedelta(days=1) if n % 4 else None,
            )
            for n in range(calls)
        ]
    )
    return rollups()


def rollups():
    fields = [
        "hour",
        "period_start",
        "api_key_id",
        "endpoint",
        "status",
        "units",
        "calls",
        "response_ms",
        "latency",
    ]
    return sorted(
        (*sums, sorted(latency.decode(histogram).items()))
        for *sums, histogram in UsageRollup.objects.values_list(*fields)
    )


def reported():
    rows = UsageRollup.objects.values("hour", "period_start").annotate(reported=Sum("reported_units"))
    return {(row["hour"], row["period_start"]): row["reported"] for row in rows}


def test_rollups_that_agree_with_the_ledger_are_left_alone(organization):
    fill(organization)
    ids = set(UsageRollup.objects.values_list("pk", flat=True))

    assert list(compare()) == []
    assert rebuild().found == []
    assert set(UsageRollup.objects.values_list("pk", flat=True)) == ids


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        (lambda rows: rows.delete(), "units"),
        (lambda rows: rows.update(units=F("units") + 1), "units"),
        (lambda rows: rows.update(calls=F("calls") + 1), "calls"),
        (lambda rows: rows.update(response_ms=0), "response times"),
        (lambda rows: rows.update(latency=[]), "parts"),
        (lambda rows: rows.update(status=500), "parts"),
    ],
)
def test_hours_rebuild_from_the_ledger_to_the_same_numbers(organization, harm, what):
    right = fill(organization)
    harm(UsageRollup.objects.filter(pk=UsageRollup.objects.first().pk))

    assert [difference.what for difference in compare()] == [what]
    assert len(rebuild().mended) == 1
    assert rollups() == right
    assert list(compare()) == []


def test_rows_of_before_the_upgrade_get_their_statuses_and_histograms(organization):
    right = fill(organization)
    rows = UsageRollup.objects.values(
        "organization_id", "meter", "hour", "period_start", "api_key_id", "endpoint"
    )
    old = list(rows.annotate(units=Sum("units"), calls=Sum("calls"), response_ms=Sum("response_ms")))
    UsageRollup.objects.all().delete()
    UsageRollup.objects.bulk_create(UsageRollup(**row) for row in old)
    make_reports()
    told = reported()

    rebuild()
    assert rollups() == right
    assert reported() == told
    assert make_reports() == 0


def test_what_was_reported_stays_reported(organization):
    fill(organization)
    make_reports()
    store([make_event(organization_id=organization.pk, at=AT, units=7)])
    told = reported()
    UsageRollup.objects.update(units=F("reported_units"))

    rebuild()
    assert reported() == told
    make_reports()
    assert MeterReport.objects.aggregate(total=Sum("units"))["total"] == 1 + 2 + 3 + 4 + 5 + 6 + 7


def test_sums_that_were_lost_count_as_reported_as_far_as_their_reports_hold_them(organization):
    fill(organization)
    make_reports()
    told = reported()
    UsageRollup.objects.all().delete()
    store([make_event(organization_id=organization.pk, at=AT, units=7)])

    rebuild()
    assert sum(reported().values()) == sum(told.values())
    make_reports()
    assert MeterReport.objects.aggregate(total=Sum("units"))["total"] == 1 + 2 + 3 + 4 + 5 + 6 + 7


def test_an_hour_of_which_more_was_reported_than_the_ledger_has_is_left_for_a_person(organization):
    fill(organization, calls=1)
    make_reports()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM usage_event")
    before = rollups()

    (left,) = rebuild().left
    assert (left.ledger_units, left.rollup_units, left.reported_units, left.is_mendable) == (0, 1, 1, False)
    assert "1 were reported: a person has to see to it" in str(left)
    assert rollups() == before


def test_only_the_hours_asked_for_are_looked_at(organization, outsider):
    fill(organization)
    UsageRollup.objects.update(calls=100)
    rival = outsider.memberships.get().organization

    assert {each.hour for each in compare(start=HOUR)} == {HOUR}
    assert {each.hour for each in compare(end=HOUR)} == {HOUR - timedelta(hours=1)}
    assert {each.hour for each in compare(start=AT, end=AT + timedelta(minutes=1))} == {HOUR}
    assert list(compare(organization=rival)) == []
    assert {each.organization_id for each in compare(organization=organization)} == {organization.pk}


def test_rollups_of_a_month_that_the_ledger_does_not_have_stay(organization):
    long_ago = datetime(2020, 2, 29, tzinfo=UTC)
    UsageRollup.objects.create(
        organization=organization,
        meter="requests",
        api_key_id=UUID(int=1),
        endpoint="/a",
        hour=long_ago,
        period_start=long_ago,
        units=5,
        calls=5,
    )

    assert rebuild().found == []
    assert UsageRollup.objects.get().units == 5


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_rollups_become_what_the_ledger_says_and_keep_what_was_reported(organization, data):
    UsageRollup.objects.all().delete()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM usage_event")
    right = fill(organization, calls=8)
    ledger = {}
    for row in UsageRollup.objects.all():
        key = (row.hour, row.period_start)
        ledger[key] = ledger.get(key, 0) + row.units
    for row in UsageRollup.objects.all():
        row.units = data.draw(st.integers(0, 20))
        row.reported_units = data.draw(st.integers(0, row.units))
        row.calls += data.draw(st.integers(0, 1))
        row.status = data.draw(st.sampled_from([row.status, row.status + 1]))
        row.save()
    told = reported()
    impossible = {key for key in told if told[key] > ledger[key]}

    assert {(each.hour, each.period_start) for each in rebuild().left} == impossible
    after = reported()
    assert {key: after[key] for key in told} == told
    assert [row for row in rollups() if row[:2] not in impossible] == [
        row for row in right if row[:2] not in impossible
    ]
    assert not UsageRollup.objects.filter(reported_units__gt=F("units")).exists()
    assert {(each.hour, each.period_start) for each in compare()} == impossible


def run(*arguments):
    out = StringIO()
    try:
        call_command("rebuild_rollups", *arguments, stdout=out)
    except CommandError as error:
        out.write(str(error))
    return out.getvalue()


def test_the_command_checks_without_changing_anything(organization):
    fill(organization)
    UsageRollup.objects.update(calls=100)

    assert "still differ from the ledger" in run("--check")
    assert set(UsageRollup.objects.values_list("calls", flat=True)) == {100}
    assert "mended." in run(
        "--from", "2026-11-15", "--to", "2026-11-16T00:00", "--organization", organization.ref
    )
    assert run("--check") == "0 differ, 0 mended.\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "yesterday"], "--from yesterday is no time"),
        (["--from", "2026-02-30"], "--from 2026-02-30 is no time"),
        (["--from", "0001-01-01T00:00+05:00"], "--from 0001-01-01T00:00+05:00 is no time"),
        (["--from", "2026-11-02", "--to", "2026-11-01"], "--to must be later than --from"),
        (["--organization", "nobody"], "There is no organization nobody"),
    ],
)
def test_the_command_names_what_it_cannot_read(organization, arguments, said):
    assert said in run(*arguments)


def test_a_late_event_counts_once_in_the_ledger_and_once_in_the_bill_after_a_rebuild(organization):
    fill(organization)
    make_reports()
    rebuild()
    store([make_event(organization_id=organization.pk, at=AT, units=9)])
    make_reports()

    total = UsageEvent.objects.aggregate(total=Sum("units"))["total"]
    assert MeterReport.objects.aggregate(total=Sum("units"))["total"] == total


def test_an_hour_whose_ledger_looks_doubled_is_named_and_left_unless_asked(organization):
    fill(organization)
    copy_in_ledger(units=3)
    before = rollups()
    out = StringIO()

    with pytest.raises(CommandError, match="1 still differ"):
        call_command("rebuild_rollups", stdout=out)

    assert "rows of the ledger look doubled" in out.getvalue()
    assert rollups() == before
    call_command("rebuild_rollups", "--count-doubled", stdout=StringIO())
    assert list(compare()) == []
