"""Usage as CSV."""

import csv
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import Organization
from apikeys.models import APIKey
from billing.models import Meter
from tests.billing.api import Program, problem
from tests.usage.cast import make_event
from usage import export
from usage.cells import Scope
from usage.counting import NO_KEY
from usage.days import sum_days
from usage.ledger import store
from usage.local_time import Interval

pytestmark = pytest.mark.django_db

DAY = datetime(2026, 4, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
APRIL = "from=2026-04-01&to=2026-05-01"


@pytest.fixture
def program(organization) -> Program:
    return Program(organization)


def use(organization: Organization, at: datetime, units: int = 1, **kind: Any) -> None:
    store([make_event(organization_id=organization.pk, at=at, units=units, **kind)])


def rows(response: Any) -> list[dict[str, str]]:
    assert response.status_code == 200, response.content
    return list(csv.DictReader(StringIO(b"".join(response.streaming_content).decode(), newline="")))


def test_a_row_says_when_what_by_whom_and_how_much(organization, program, api_key):
    organization.time_zone = "Europe/Berlin"
    organization.save()
    use(organization, DAY + HOUR, 3, api_key_id=api_key.key.pk, status=404)
    use(organization, DAY + HOUR, 4, api_key_id=api_key.key.pk, status=404)

    response = program.get(f"usage/export?interval=hour&{APRIL}")

    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Disposition"] == (
        f'attachment; filename="usage-{organization.ref}-2026-04-01-2026-05-01.csv"'
    )
    assert rows(response) == [
        {
            "start": "2026-04-10T03:00:00+02:00",
            "meter": "requests",
            "period_start": "2026-04-01T00:00:00+00:00",
            "key_id": str(api_key.key.pk),
            "key_name": "test",
            "endpoint": "/api/v1/echo",
            "status": "404",
            "units": "7",
            "calls": "2",
            "sent_in": "0",
            "errors": "2",
            "mean_ms": "5.0",
        }
    ]


def test_days_put_their_hours_together_and_periods_apart(organization, program):
    for hour in range(24):
        use(organization, DAY + hour * HOUR, period_start=DAY - 30 * 24 * HOUR if hour < 10 else DAY)
    use(organization, DAY, 5, status=0, api_key_id=NO_KEY)

    found = rows(program.get(f"usage/export?{APRIL}"))

    assert [(row["start"], row["status"], row["units"], row["calls"], row["sent_in"]) for row in found] == [
        ("2026-04-10T00:00:00+00:00", "200", "10", "10", "0"),
        ("2026-04-10T00:00:00+00:00", "0", "5", "0", "1"),
        ("2026-04-10T00:00:00+00:00", "200", "14", "14", "0"),
    ]


def test_what_was_sent_in_is_asked_for_by_the_key_that_it_is_listed_by(organization, program, api_key):
    use(organization, DAY, 5, status=0, api_key_id=NO_KEY)
    use(organization, DAY, 3, api_key_id=api_key.key.pk)
    (listed,) = {row["key_id"] for row in rows(program.get(f"usage/export?{APRIL}"))} - {str(api_key.key.pk)}

    found = rows(program.get(f"usage/export?{APRIL}&key={listed}"))

    assert [(row["key_id"], row["units"], row["sent_in"]) for row in found] == [(listed, "5", "1")]


def test_a_call_whose_status_is_not_known_was_not_sent_in(organization, program, api_key):
    use(organization, DAY, 5, status=0, api_key_id=api_key.key.pk)

    (row,) = rows(program.get(f"usage/export?{APRIL}"))

    assert (row["status"], row["calls"], row["sent_in"], row["mean_ms"]) == ("0", "1", "0", "")


def test_days_that_are_summed_up_are_exported_the_same(organization, program):
    for hour in range(0, 24 * 5, 7):
        use(organization, DAY + hour * HOUR, hour, status=200 + hour % 3)
    before = rows(program.get(f"usage/export?{APRIL}"))

    sum_days(now=DAY + 3.5 * 24 * HOUR, since=DAY)

    assert rows(program.get(f"usage/export?{APRIL}")) == before


def test_meters_follow_each_other_and_filters_narrow(organization, program):
    Meter.objects.create(slug="tokens", name="Tokens", unit="token")
    use(organization, DAY, 1)
    use(organization, DAY, 2, meter="tokens", endpoint="/api/v1/maps", status=429)

    def units(query: str = "") -> list[str]:
        return [row["units"] for row in rows(program.get(f"usage/export?{APRIL}{query}"))]

    assert units() == ["1", "2"]
    assert units("&meter=tokens") == ["2"]
    assert units("&status=4xx") == ["2"]
    assert units("&endpoint=/api/v1/echo") == ["1"]
    assert units("&interval=hour&status=0") == []


@pytest.mark.parametrize("name", ["=cmd()", "+1", "-1", "@sum", "\tx", " =1", "\uff1d1", "\u00a0\uff0b1"])
def test_no_cell_begins_as_a_formula(name):
    assert export.harmless(name) == f"'{name}"


def test_names_are_quoted_as_rfc_4180_has_it(organization, program):
    key, _ = APIKey.objects.issue(organization=organization, name="x")
    APIKey.objects.filter(pk=key.pk).update(name='=HYPERLINK("http://evil.example","see"),\nmore')
    use(organization, DAY, api_key_id=key.pk, endpoint="/a,b")

    content = program.get(f"usage/export?{APRIL}").getvalue()

    assert b'"\'=HYPERLINK(""http://evil.example"",""see""),\nmore","/a,b"' in content
    assert content.count(b"\r\n") == 2
    (row,) = csv.DictReader(StringIO(content.decode(), newline=""))
    assert row["key_name"] == '\'=HYPERLINK("http://evil.example","see"),\nmore'


def test_two_days_by_hour_have_no_row_in_common_where_midnight_cuts_an_hour_in_two(organization, program):
    use(organization, datetime(2026, 4, 9, 18, 10, tzinfo=UTC))  # At 23:40 in India, in the hour from 23:30.

    found = [
        rows(program.get(f"usage/export?interval=hour&time_zone=Asia/Kolkata&from={day}&to={following}"))
        for day, following in (("2026-04-09", "2026-04-10"), ("2026-04-10", "2026-04-11"))
    ]

    assert [[row["start"] for row in day] for day in found] == [["2026-04-09T23:30:00+05:30"], []]


@pytest.mark.parametrize("interval", [Interval.HOUR, Interval.DAY])
def test_rows_are_read_a_page_at_a_time_as_they_are_written(organization, monkeypatch, interval):
    monkeypatch.setattr(export, "PAGE", 10)
    store(
        [
            make_event(organization_id=organization.pk, at=DAY + n % 3 * HOUR, endpoint=f"/{n:03}")
            for n in range(95)
        ]
    )
    scope = Scope(organization, "requests", DAY, DAY + 24 * HOUR, "UTC")

    with CaptureQueriesContext(
        connection,
    ) as queries:
        lines = export.lines([scope], interval)
        assert next(lines).startswith("start,meter")
        assert len(queries) == 0  # The first byte waits for nothing.
        assert next(lines).count("\r\n") == 10
        assert len(queries) == 2  # The keys' names, and a page.
        rest = list(lines)
    assert len(queries) == 2 + 9
    assert all(chunk.count("\r\n") <= 10 for chunk in rest)
    assert sum(chunk.count("\r\n") for chunk in rest) == 85
    written = list(csv.reader(StringIO("".join(export.lines([scope], interval)), newline="")))[1:]
    assert sorted(row[5] for row in written) == [f"/{n:03}" for n in range(95)]


def test_what_cannot_be_exported_is_refused_by_name(program):
    for query, named in (
        ("interval=month", "interval"),
        ("from=2024-01-01&to=2026-01-01", "from"),
        ("group_by=key", "group_by"),
        ("meter=nonesuch", "meter"),
    ):
        refused = problem(program.get(f"usage/export?{query}"))
        assert (refused["status"], list(refused["errors"])) == (400, [named])


def test_csv_can_be_asked_for_by_name_and_json_is_not_to_be_had(organization, program):
    def ask(accept: str, query: str = "") -> Any:
        headers = {"Authorization": f"Bearer {program.secret}", "Accept": accept}
        return program.client.get(f"/api/v1/usage/export{query}", headers=headers)

    assert ask("text/csv").status_code == ask("*/*", "?format=csv").status_code == 200
    assert problem(ask("application/json"))["status"] == 406
    assert problem(ask("text/csv", "?format=xml"))["errors"] == {"format": ['"xml" is not a valid choice.']}
