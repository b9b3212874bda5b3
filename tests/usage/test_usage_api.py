"""Customers' programs read their usage."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest
from django.test import Client

from accounts import clock
from accounts.models import Organization, time_zones
from apikeys.models import APIKey
from billing.models import Meter
from tests.billing.api import Program, problem
from tests.usage.cast import make_event
from usage.analytics import Latency
from usage.api.usage import percentiles
from usage.latency import bucket
from usage.ledger import store
from usage.tasks import report_usage

pytestmark = pytest.mark.django_db

DAY = datetime(2026, 4, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def program(organization) -> Program:
    return Program(organization)


@pytest.fixture
def rival(outsider) -> Program:
    return Program(outsider.memberships.get().organization)


def use(organization: Organization, at: datetime, units: int = 1, **kind: Any) -> None:
    store([make_event(organization_id=organization.pk, at=at, units=units, **kind)])


def series(program: Program, **query: str) -> Any:
    return program.get(f"usage/timeseries?{urlencode(query)}")


@pytest.fixture
def in_april(organization):
    """It is 12 April 2026, and Acme is on Free for April."""
    with clock.standing_at(DAY + 2 * timedelta(days=1)):
        entitlement = organization.entitlement
        entitlement.period_start, entitlement.period_end = (
            DAY.replace(day=1),
            datetime(2026, 5, 1, tzinfo=UTC),
        )
        entitlement.valid_until = entitlement.period_end
        entitlement.save()
        yield


def test_the_period_so_far_of_every_meter(organization, program, in_april):
    use(organization, DAY, 30)
    use(organization, DAY + HOUR, 40)
    use(organization, DAY - timedelta(days=20), 999)  # Last month's.

    found = program.get("usage").json()

    assert (found["period_start"], found["period_end"]) == ("2026-04-01T00:00:00Z", "2026-05-01T00:00:00Z")
    assert found["data"] == [
        {
            "meter": "requests",
            "name": "Requests",
            "unit": "call",
            "used": 70,
            "included": 100,
            "remaining": 30,
            "percent": 70,
            "overage": None,
            "stops_at": None,
            # 70 in seven whole days: 10 a day for 19 days; 30 more are gone in three.
            "forecast": {"expected": 260, "runs_out_at": "2026-04-15T00:00:00Z", "cap_reached_at": None},
            "latency": {"p50": 5.05, "p95": 5.05, "p99": 5.05},
        }
    ]


def test_overage_is_told_in_units_and_money(acme, plans):
    acme.bill_overage(plans.pro, included=10, cents="2.5")
    acme.subscribe(plans.pro)
    acme.wait(days=1)
    acme.use(13)

    (found,) = Program(acme.organization).get("usage").json()["data"]

    assert (found["used"], found["included"], found["remaining"]) == (13, 10, 0)
    assert found["overage"] == {"units": 3, "amount": 8, "currency": "usd"}  # 7.5 cents, rounded half up.
    report_usage()
    acme.wait(days=31)
    invoiced = {line.quantity: line.amount for line in acme.invoices()[-1].lines.data}
    assert (invoiced[10], invoiced[3]) == (0, 8)  # The month's invoice says the same.


def test_percentiles_are_told_within_2_percent_of_any_response_time():
    for response_ms in (*range(1, 3_000), 60_000, 2_147_483_647):
        told = percentiles(Latency.of(Counter({bucket(response_ms): 1})))

        assert told["p50"] == told["p99"] == pytest.approx(response_ms, rel=0.020001)


def test_a_series_by_hour_has_every_hour(organization, program, in_april):
    use(organization, DAY, 3)
    use(organization, DAY + 2 * HOUR, 4, status=404)

    found = series(
        program, interval="hour", **{"from": "2026-04-10T00:00:00Z", "to": "2026-04-10T03:00:00Z"}
    ).json()

    assert [(point["start"], point["units"], point["errors"]) for point in found["data"]] == [
        ("2026-04-10T00:00:00+00:00", 3, 0),
        ("2026-04-10T01:00:00+00:00", 0, 0),
        ("2026-04-10T02:00:00+00:00", 4, 1),
    ]
    assert found["totals"] == {"units": 7, "calls": 2, "sent_in": 0, "errors": 1, "mean_ms": 5.0}
    assert found["latency"]["p99"] == 5.05
    assert found["groups"] == []


def test_days_are_the_organization_s_own_unless_another_zone_is_asked_for(organization, program, in_april):
    organization.time_zone = "Europe/Berlin"
    organization.save()
    use(organization, DAY - HOUR, 5)  # On the 10th in Berlin, on the 9th in UTC.

    def days(**query: str) -> list[tuple[str, int]]:
        found = series(program, **{"from": "2026-04-09", "to": "2026-04-11"}, **query).json()
        return [(point["start"], point["units"]) for point in found["data"]]

    assert days() == [("2026-04-09T00:00:00+02:00", 0), ("2026-04-10T00:00:00+02:00", 5)]
    assert days(time_zone="UTC") == [("2026-04-09T00:00:00+00:00", 5), ("2026-04-10T00:00:00+00:00", 0)]


def test_days_of_23_and_25_hours_are_whole(organization, program):
    organization.time_zone = "Europe/Berlin"
    organization.save()
    for hour in range(-2, 30):
        use(organization, datetime(2026, 3, 29, tzinfo=UTC) + hour * HOUR)

    found = series(program, **{"from": "2026-03-29", "to": "2026-03-30"}).json()

    assert [(point["start"], point["end"], point["units"]) for point in found["data"]] == [
        ("2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00", 23)
    ]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns"])
def test_an_hour_is_in_the_answer_of_one_day_also_where_midnight_cuts_it_in_two(organization, program, zone):
    organization.time_zone = zone
    organization.save()
    first = datetime(2026, 11, 23, tzinfo=UTC)
    moments = [first + half * HOUR / 2 for half in range(4 * 48)]
    store([make_event(organization_id=organization.pk, at=at) for at in moments])

    days = [
        series(program, interval="hour", **{"from": f"2026-11-{day}", "to": f"2026-11-{day + 1}"}).json()
        for day in (24, 25)
    ]
    both = series(program, interval="hour", **{"from": "2026-11-24", "to": "2026-11-26"}).json()

    assert [day["totals"]["units"] for day in days] == [48, 48]
    assert days[0]["to"] == days[1]["from"]
    assert days[0]["data"] + days[1]["data"] == both["data"]
    # By day each day has the same.
    by_day = series(program, **{"from": "2026-11-24", "to": "2026-11-26"}).json()["data"]
    assert [point["units"] for point in by_day] == [48, 48]


def test_months_of_a_leap_year_begin_on_their_first(organization, program):
    for month, day in ((1, 31), (2, 29), (3, 1)):
        use(organization, datetime(2024, month, day, 12, tzinfo=UTC), day)

    found = series(program, interval="month", **{"from": "2024-01-31", "to": "2024-03-02"}).json()

    assert [(point["start"][:10], point["end"][:10], point["units"]) for point in found["data"]] == [
        ("2024-01-01", "2024-02-01", 31),
        ("2024-02-01", "2024-03-01", 29),
        ("2024-03-01", "2024-04-01", 1),
    ]


def test_groups_are_named_and_aligned_with_the_data(organization, program, api_key, in_april):
    use(organization, DAY, 3, api_key_id=api_key.key.pk)
    use(organization, DAY + HOUR, 4)

    query = {"interval": "hour", "from": "2026-04-10T00:00:00Z", "to": "2026-04-10T02:00:00Z"}
    nameless, named = series(program, group_by="key", **query).json()["groups"]

    assert (nameless["units"], nameless["name"]) == ([0, 4], None)
    assert (named["value"], named["name"], named["prefix"]) == (
        str(api_key.key.pk),
        "test",
        api_key.key.prefix,
    )
    assert (named["units"], named["calls"], named["totals"]["units"]) == ([3, 0], [1, 0], 3)
    (status,) = series(program, group_by="status", **query).json()["groups"]
    assert (status["value"], status["totals"]["units"]) == ("200", 7)


@pytest.mark.parametrize(
    ("query", "units"),
    [
        ({}, 31),
        ({"endpoint": "/api/v1/maps"}, 2),
        ({"status": "404"}, 4),
        ({"status": "4xx"}, 12),
        ({"status": "0"}, 16),
        ({"status": "2xx", "endpoint": "/api/v1/echo"}, 1),
        ({"meter": "tokens"}, 32),
        ({"endpoint": "/no/such"}, 0),
    ],
)
def test_a_series_can_be_narrowed(organization, program, in_april, query, units):
    Meter.objects.create(slug="tokens", name="Tokens", unit="token")
    for n, kind in enumerate(
        [
            {},
            {"endpoint": "/api/v1/maps"},
            {"status": 404},
            {"status": 429},
            {"status": 0},
            {"meter": "tokens"},
        ]
    ):
        use(organization, DAY, 2**n, **kind)

    assert series(program, **query).json()["totals"]["units"] == units


@pytest.mark.parametrize("endpoint", [" lead", "trail ", " "])
def test_an_endpoint_is_asked_for_with_the_spaces_that_it_is_listed_with(
    organization, program, in_april, endpoint
):
    use(organization, DAY, 3, endpoint=endpoint)
    use(organization, DAY, 4, endpoint="lead")

    (listed,) = [
        group["value"]
        for group in series(program, group_by="endpoint").json()["groups"]
        if group["value"] != "lead"
    ]

    assert listed == endpoint
    assert series(program, endpoint=listed).json()["totals"]["units"] == 3


def test_a_series_can_be_narrowed_to_a_key_of_one_s_own(organization, program, api_key, rival, in_april):
    use(organization, DAY, 1)
    use(organization, DAY, 2, api_key_id=api_key.key.pk)

    assert series(program, key=str(api_key.key.pk)).json()["totals"]["units"] == 2
    refused = problem(series(rival, key=str(api_key.key.pk)))
    assert refused["errors"] == {"key": ["You have no such API key."]}


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"metre": "requests"}, "metre"),
        ({"meter": "nonesuch"}, "meter"),
        ({"meter": "\0"}, "meter"),
        ({"interval": "week"}, "interval"),
        ({"group_by": "colour"}, "group_by"),
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-04-31"}, "from"),
        ({"from": "2026-04-01T10:00:00"}, "from"),  # Of which zone?
        ({"from": "0001-01-01"}, "from"),
        ({"from": "2026-04-01T10:00:00+05:99"}, "from"),
        ({"from": "2026-04-13"}, "from"),  # It is to come.
        ({"from": "2026-04-02", "to": "2026-04-02"}, "to"),
        ({"from": "2026-04-02", "to": "2026-04-01"}, "to"),
        ({"from": "2025-01-01", "to": "2026-04-01"}, "from"),
        ({"interval": "hour", "from": "2026-03-01", "to": "2026-04-02"}, "from"),
        ({"interval": "month", "from": "2022-01-01", "to": "2026-04-01"}, "from"),
        ({"key": "mine"}, "key"),
        ({"key": "00000000-0000-0000-0000-000000000009"}, "key"),
        ({"status": "teapot"}, "status"),
        ({"status": "999"}, "status"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"time_zone": "America"}, "time_zone"),
        ({"time_zone": "localtime"}, "time_zone"),  # Of whom?
        ({"time_zone": "../../etc/passwd"}, "time_zone"),
        ({"time_zone": "right/UTC"}, "time_zone"),  # It counts leap seconds: its days begin 27 seconds late.
        ({"format": "csv"}, "format"),
        ({"time_zone": "Asia/Tokyo", "from": "2026-01-01", "to": "2026-04-12"}, "time_zone"),
        ({"endpoint": "x" * 201}, "endpoint"),
        ({"endpoint": ""}, "endpoint"),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(program, in_april, query, named):
    refused = problem(series(program, **query))

    assert (refused["status"], refused["code"]) == (400, "invalid")
    assert list(refused["errors"]) == [named]


def test_the_names_of_time_zones_are_looked_for_once(program, in_april, monkeypatch):
    """That opens hundreds of files, which takes as long as all the rest."""
    names = {"Asia/Tokyo"}
    monkeypatch.setattr("zoneinfo.available_timezones", lambda: {names.pop()})
    time_zones.cache_clear()

    try:
        answers = [series(program, time_zone="Asia/Tokyo").status_code for _ in range(2)]
    finally:
        time_zones.cache_clear()

    assert answers == [200, 200]


def test_a_parameter_given_twice_is_refused(program):
    assert problem(program.get("usage/timeseries?status=200&status=404"))["errors"] == {
        "status": ["Give it once."]
    }
    assert problem(program.get("usage/proof?limit=1&limit=2"))["errors"] == {"limit": ["Give it once."]}
    assert problem(program.get("usage?meter=requests"))["errors"] == {"meter": ["There is no such field."]}


@pytest.mark.parametrize(
    "query", [{"interval": "day", "to": "2026-04-01"}, {"interval": "hour"}, {"interval": "month"}]
)
def test_the_widest_ranges_are_answered(program, in_april, query):
    begins = {"day": "2025-02-25", "hour": "2026-03-12", "month": "2023-05-15"}[query["interval"]]

    found = series(program, **query, **{"from": begins}).json()

    assert len(found["data"]) in {400, 31 * 24, 36}


def test_others_usage_is_not_shown(organization, program, rival, in_april):
    use(organization, DAY, 5)

    assert rival.get("usage").json()["data"][0]["used"] == 0
    assert series(rival).json()["totals"]["units"] == 0
    assert len(rival.get("usage/export").getvalue().splitlines()) == 1
    assert series(program).json()["totals"]["units"] == 5


@pytest.mark.parametrize("path", ["usage", "usage/timeseries", "usage/export"])
def test_reading_usage_needs_a_key_with_the_scope(organization, path):
    program = Program(organization)
    _, program.secret = APIKey.objects.issue(organization=organization, name="narrow", scopes=["keys:read"])
    assert problem(program.get(path))["code"] == "insufficient_scope"
    _, program.secret = APIKey.objects.issue(organization=organization, name="reader", scopes=["usage:read"])
    assert program.get(path).status_code == 200
    assert problem(Client().get(f"/api/v1/{path}"))["status"] == 401


def test_a_key_whose_quota_is_used_up_still_reads_usage(organization, program, in_april):
    use(organization, DAY, 100)

    assert program.get("usage").json()["data"][0]["remaining"] == 0


@pytest.mark.parametrize("path", ["timeseries", "export"])
def test_an_empty_meter_is_no_meter(program, in_april, path):
    response = program.get(f"usage/{path}?meter=")

    assert response.status_code == 400
    assert "There is no such meter." in str(problem(response))
    assert "null" not in str(problem(response))


def test_a_series_takes_the_key_of_what_was_sent_in(organization, program, in_april):
    use(organization, DAY, 5, status=0, api_key_id=UUID(int=0))
    use(organization, DAY, 3)
    listed = [group["value"] for group in series(program, group_by="key").json()["groups"]]

    totals = series(program, key=listed[0]).json()["totals"]

    assert (totals["units"], totals["calls"], totals["sent_in"]) == (5, 0, 1)
