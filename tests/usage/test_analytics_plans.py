"""Pages and answers about usage read sums: no plan touches the ledger, and more events mean no more queries."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts import clock
from billing.models import Meter
from tests.billing.staffing import staff
from tests.usage.cast import make_event
from tests.usage.plans import explained, statements
from usage.days import sum_days
from usage.ledger import store

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 4, 20, 12, tzinfo=UTC)
READS = [
    "/dashboard/",
    "/dashboard/usage/",
    "/dashboard/usage/?by=endpoint",
    "/dashboard/usage/?interval=hour&by=key",
    "/dashboard/usage/?interval=month&by=status",
    "/dashboard/usage/?period=2026-03-01T00:00:00%2B00:00",
    "/api/v1/usage",
    "/api/v1/usage/timeseries",
    "/api/v1/usage/timeseries?group_by=key&status=2xx",
    "/api/v1/usage/timeseries?interval=hour&group_by=endpoint",
    "/api/v1/usage/timeseries?interval=month&group_by=status",
    "/api/v1/usage/export",
    "/api/v1/usage/export?interval=hour",
]


@pytest.fixture
def in_april(organization) -> Iterator[None]:
    with clock.standing_at(NOW):
        entitlement = organization.entitlement
        entitlement.period_start, entitlement.period_end = (
            NOW.replace(day=1, hour=0),
            datetime(2026, 5, 1, tzinfo=UTC),
        )
        entitlement.valid_until = entitlement.period_end
        entitlement.save()
        yield


def read(client: Any, path: str) -> list[tuple[str, Any]]:
    with statements() as made:
        response = client.get(path)
        assert response.status_code == 200, (path, response.content)
        if response.streaming:
            b"".join(response.streaming_content)
    return [(sql, params) for sql, params in made if sql.lstrip().startswith(("SELECT", "WITH"))]


def use(organization: Any, *, events: int) -> None:
    store(
        [
            make_event(
                organization_id=organization.pk,
                at=NOW - timedelta(hours=n % 900),
                endpoint=f"/{n % 4}",
                status=(200, 404, 0)[n % 3],
            )
            for n in range(events)
        ]
    )


@pytest.mark.parametrize("path", READS)
def test_no_plan_reads_the_ledger(organization, browser, in_april, path):
    use(organization, events=500)
    sum_days(now=NOW - timedelta(hours=10), since=NOW - timedelta(days=40))

    tables = explained(read(browser, path))

    assert not {table for table in tables if table.startswith("usage_event")}
    assert "usage_rollup" in tables


@pytest.mark.parametrize("path", READS)
def test_more_events_take_no_more_queries(organization, browser, in_april, path):
    use(organization, events=90)
    read(browser, path)
    few = len(read(browser, path))
    use(organization, events=2500)
    sum_days(now=NOW, since=NOW - timedelta(days=2))

    many = read(browser, path)

    # An export reads its rows a page at a time.
    assert len(many) <= few + (3 if "export" in path else 0)
    assert len(many) < 60


@pytest.mark.parametrize("path", ["/api/v1/usage", "/dashboard/usage/"])
def test_more_meters_that_the_plan_dropped_take_no_more_queries(organization, browser, in_april, path):
    def use_dropped(slug):
        Meter.objects.create(slug=slug, name=slug, unit="unit")
        store([make_event(organization_id=organization.pk, at=NOW, meter=slug)])

    use_dropped("dropped")
    few = len(read(browser, path))
    for number in range(4):
        use_dropped(f"dropped-{number}")

    made = read(browser, path)

    assert len(made) == few
    assert not {table for table in explained(made) if table.startswith("usage_event")}


def test_staff_read_no_ledger_either(organization, in_april):
    use(organization, events=200)
    browser = staff("view_usagerollup", "view_billingcustomer")

    for path in ("/admin/usage/usagerollup/overview/", f"/admin/usage/usagerollup/of/{organization.pk}/"):
        tables = explained(read(browser, path))
        assert not {table for table in tables if table.startswith("usage_event")}
        assert "usage_rollup" in tables


@pytest.mark.parametrize("path", ["/api/v1/usage", "/dashboard/"])
def test_more_meters_take_no_more_queries(organization, browser, in_april, path):
    use(organization, events=90)
    read(browser, path)
    few = len(read(browser, path))
    for number in range(4):
        meter = Meter.objects.create(slug=f"more-{number}", name=f"More {number}", unit="unit")
        organization.entitlement.quotas[meter.slug] = {"included": 50, "overage": "block"}
    organization.entitlement.save()

    assert len(read(browser, path)) == few


def test_more_past_periods_take_no_more_queries(organization, browser, in_april):
    starts = [datetime(2026 - n // 12, 12 - n % 12, 1, tzinfo=UTC) for n in range(10, 50, 2)]

    def queries_with(periods: list[datetime]) -> int:
        store([make_event(organization_id=organization.pk, at=at) for at in periods])
        read(browser, "/dashboard/usage/")
        made = read(browser, f"/dashboard/usage/?period={periods[0].isoformat().replace('+', '%2B')}")
        assert "usage_rollup" in explained(made)
        return len(made)

    assert queries_with(starts[:1]) == queries_with(starts)


def test_meters_that_are_read_together_are_kept_apart(organization, browser, in_april):
    for number, slug in enumerate(("jobs", "tokens", "idle")):
        Meter.objects.create(slug=slug, name=slug, unit="unit")
        organization.entitlement.quotas[slug] = {"included": 1000, "overage": "block"}
        # One of them summed up by day, one of them not, and one of them not used.
        if slug != "idle":
            for day in (3, 4, 20):
                store(
                    [
                        make_event(
                            organization_id=organization.pk,
                            at=NOW.replace(day=day, hour=9),
                            units=10 * (number + 1),
                            meter=slug,
                        )
                    ]
                )
        if slug == "jobs":
            sum_days(now=NOW, since=NOW - timedelta(days=20))
    organization.entitlement.save()

    found = {each["meter"]: each for each in browser.get("/api/v1/usage").json()["data"]}

    assert {slug: each["used"] for slug, each in found.items()} == {
        "requests": 0,
        "jobs": 30,
        "tokens": 60,
        "idle": 0,
    }
    assert found["idle"]["latency"] == {"p50": None, "p95": None, "p99": None}
    assert found["jobs"]["latency"]["p50"] == pytest.approx(5, rel=0.02)
