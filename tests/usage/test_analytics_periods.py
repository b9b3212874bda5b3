"""Periods that end on the 29th to 31st, in leap years and in time zones: each has its own usage, once."""

import html
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.core.management import CommandError, call_command

from accounts import clock
from accounts.models import Organization
from billing.models import Entitlement
from billing.periods import anchored_month
from tests.billing.api import Program
from tests.billing.staffing import staff
from tests.usage.cast import make_event
from tests.usage.proving import MAY, stop_paying
from usage.analytics import Dimension, breakdown, series, total
from usage.days import sum_days
from usage.ledger import store
from usage.local_time import Interval, local_day
from usage.models import Proof, SummedDay
from usage.proof import prove
from usage.quota_periods import MOST_PERIODS, current_period, quota_periods
from usage.tasks import report_usage, sum_usage_days

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)
JUNE = datetime(2026, 6, 1, tzinfo=UTC)


def entitlement_of(organization: Organization, start: datetime, end: datetime) -> Entitlement:
    entitlement = organization.entitlement
    entitlement.period_start, entitlement.period_end, entitlement.carried_from = start, end, []
    return entitlement


@pytest.mark.parametrize(
    "zone", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Auckland"]
)
@pytest.mark.parametrize(("year", "day"), [(2024, 29), (2024, 31), (2026, 29), (2026, 30), (2026, 31)])
def test_each_period_of_a_subscription_begun_late_in_a_month_has_its_own_usage(organization, zone, day, year):
    """As Stripe counts them: 31 January, 29 February of a leap year or the 28th, 31 March again."""
    organization.time_zone = zone
    organization.save()
    anchor = datetime(year, 1, day, 10, 17, tzinfo=UTC)
    periods = [anchored_month(anchor, anchor + timedelta(days=32 * n)) for n in range(5)]
    for number, period in enumerate(periods):
        # The first and the last moments of the period; the boundary cuts an hour in two.
        for at in (period.start, period.end - timedelta(microseconds=1)):
            store(
                [
                    make_event(
                        organization_id=organization.pk, at=at, units=10**number, period_start=period.start
                    )
                ]
            )
    sum_days(now=periods[2].end, since=anchor)
    entitlement = entitlement_of(organization, periods[-1].start, periods[-1].end)

    found = quota_periods(entitlement, "requests")

    assert [(each.start, each.end) for each in found] == [
        (each.start, each.end) for each in reversed(periods)
    ]
    for number, period in enumerate(reversed(found)):
        scope = period.scope(organization, "requests")
        by_day = series(scope, Interval.DAY)
        assert by_day.totals.units == 2 * 10**number
        assert total(group.measures for group in breakdown(scope)[Dimension.STATUS]).units == 2 * 10**number
        local = ZoneInfo(zone)
        assert local_day(by_day.points[0].start, local) == local_day(period.start, local)
        assert local_day(by_day.points[-1].start, local) == local_day(
            period.end - timedelta(microseconds=1), local
        )
    # By calendar months nothing is lost or counted twice either.
    first = found[-1].scope(organization, "requests")
    months = series(
        type(first)(
            organization,
            "requests",
            datetime(year, 1, 1, tzinfo=ZoneInfo(zone)).astimezone(UTC),
            datetime(year + 1, 1, 1, tzinfo=ZoneInfo(zone)).astimezone(UTC),
            zone,
        ),
        Interval.MONTH,
    )
    assert len(months.points) == 12
    assert months.totals.units == 2 * 11111


@pytest.mark.parametrize("summed_up", [False, True])
@pytest.mark.parametrize(
    ("zone", "begins"),
    [("Asia/Kolkata", time(18, 45)), ("Asia/Kathmandu", time(18, 30)), ("America/St_Johns", time(2, 45))],
)
def test_a_period_that_begins_in_an_hour_that_midnight_cuts_in_two_has_all_of_its_units(
    organization, browser, zone, begins, summed_up
):
    """That hour began the evening before, and counts there."""
    organization.time_zone = zone
    organization.save()
    start = datetime.combine(date(2026, 4, 10), begins, UTC)
    entitlement = entitlement_of(organization, start, start + timedelta(days=30))
    entitlement.valid_until = entitlement.period_end
    entitlement.save()
    for at, units in ((start + timedelta(minutes=5), 40), (start + 5 * HOUR, 2)):
        store([make_event(organization_id=organization.pk, at=at, units=units, period_start=start)])
    if summed_up:
        sum_days(now=start + 24 * HOUR, since=start - 24 * HOUR)

    with clock.standing_at(start + timedelta(days=2)):
        (told,) = Program(organization).get("usage").json()["data"]
        page = browser.get("/dashboard/usage/").content.decode()
        evening = local_day(start - HOUR, ZoneInfo(zone))
        hours = browser.get("/dashboard/usage/", {"interval": "hour", "day": evening}).content.decode()
        address = html.unescape(re.search(r'href="(/api/v1/usage/export[^"]+)"', page)[1])
        rows = browser.get(address).getvalue().decode().splitlines()[1:]

    assert told["used"] == 42
    assert 'id="used-units" class="number">42<' in page
    assert re.search(r"<title>[0-9:]+: 40</title>", hours)
    assert sum(int(row.split(",")[7]) for row in rows) == 42


def test_a_period_after_a_pause_ended_a_month_after_it_began(organization):
    start = datetime(2026, 1, 31, tzinfo=UTC)
    store([make_event(organization_id=organization.pk, at=start, period_start=start)])
    entitlement = entitlement_of(
        organization, datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
    )

    _, before = quota_periods(entitlement, "requests")

    assert (before.start, before.end) == (start, datetime(2026, 2, 28, tzinfo=UTC))


@pytest.fixture
def paused(organization) -> Iterator[list[datetime]]:
    """Acme's period from 28 February to 31 March, used to its end, and nothing since; it is the 3rd of May."""
    start, ended = datetime(2026, 2, 28, tzinfo=UTC), datetime(2026, 3, 31, tzinfo=UTC)
    for at in (start, datetime(2026, 3, 29, 12, tzinfo=UTC), datetime(2026, 3, 30, 12, tzinfo=UTC)):
        store([make_event(organization_id=organization.pk, at=at, units=10, period_start=start)])
    entitlement = entitlement_of(
        organization, datetime(2026, 4, 30, tzinfo=UTC), datetime(2026, 5, 31, tzinfo=UTC)
    )
    entitlement.valid_until = entitlement.period_end
    entitlement.save()
    with clock.standing_at(datetime(2026, 5, 3, tzinfo=UTC)):
        yield [start, ended]


def prove_end(organization: Organization, start: datetime, end: datetime) -> None:
    Proof.objects.create(
        organization=organization,
        meter_id="requests",
        period_start=start,
        period_end=end,
        status=Proof.Status.PROVEN,
        checked_at=end,
    )


def test_a_past_period_ends_where_its_proof_says(organization, paused):
    prove_end(organization, *paused)

    _, before = quota_periods(organization.entitlement, "requests")

    assert [before.start, before.end] == paused


def test_a_past_period_that_has_no_proof_ends_after_its_last_use(organization, paused):
    _, before = quota_periods(organization.entitlement, "requests")

    assert before.end == datetime(2026, 3, 30, 13, tzinfo=UTC)
    assert series(before.scope(organization, "requests"), Interval.DAY).totals.units == 30


def test_a_past_period_ends_before_the_next_one_begins_whatever_its_proof_says(organization, paused):
    """As where it was proven before a change of plan cut it short."""
    cut = datetime(2026, 3, 30, 20, 30, tzinfo=UTC)
    prove_end(organization, *paused)
    store([make_event(organization_id=organization.pk, at=cut, period_start=cut)])

    assert [each.end for each in quota_periods(organization.entitlement, "requests")[1:]] == [
        organization.entitlement.period_start,
        cut,
    ]


@pytest.mark.parametrize("is_proven", [False, True])
def test_a_past_period_has_all_of_its_units_on_every_page_and_in_its_file(
    organization, browser, paused, is_proven
):
    if is_proven:
        prove_end(organization, *paused)
    query = {"period": paused[0].isoformat()}

    mine = browser.get("/dashboard/usage/", query).content.decode()
    of_staff = staff("view_usagerollup").get(f"/admin/usage/usagerollup/of/{organization.pk}/", query)

    for page in (mine, of_staff.content.decode()):
        assert re.search(r"\b30\s+calls", re.sub(r"<[^>]+>", "", page))
        assert "<title>Mon 30 Mar" in page  # Of the chart's last bar.
        assert ("28 Feb 2026 to 31 Mar 2026" if is_proven else "28 Feb 2026 to 30 Mar 2026") in page
    address = html.unescape(re.search(r'href="(/api/v1/usage/export[^"]+)"', mine)[1])
    assert address.endswith("from=2026-02-28&to=2026-03-31")
    rows = browser.get(address).getvalue().decode().splitlines()[1:]
    assert sum(int(row.split(",")[7]) for row in rows) == 30


@pytest.mark.parametrize("is_proven", [False, True])
def test_a_trial_of_60_days_is_a_past_period_with_all_that_was_used_in_it(acme, plans, is_proven):
    acme.subscribe(plans.pro, trial_period_days=60)
    trial = acme.entitlement()
    acme.use(10)
    acme.wait(days=45)
    acme.use(7)
    acme.wait(days=20)
    acme.see()
    acme.use(1)
    if is_proven:
        prove(acme.organization)

    _, before = quota_periods(acme.entitlement(), "requests")

    assert before.start == trial.period_start
    assert before.end == trial.period_end if is_proven else before.end > trial.period_start + 45 * 24 * HOUR
    assert series(before.scope(acme.organization, "requests"), Interval.DAY).totals.units == 17


def test_a_month_cut_short_by_a_change_of_plan_is_one_period(organization):
    start, change = datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 4, 11, tzinfo=UTC)
    for at in (start, change):
        store([make_event(organization_id=organization.pk, at=at, period_start=at)])
    entitlement = entitlement_of(organization, change, datetime(2026, 5, 11, tzinfo=UTC))
    entitlement.carried_from = [start.isoformat()]

    (period,) = quota_periods(entitlement, "requests")

    assert (period.first, period.end) == (start, entitlement.period_end)
    assert series(period.scope(organization, "requests"), Interval.DAY).totals.units == 2


def test_three_years_of_periods_are_listed_at_most(organization):
    starts = [datetime(2020 + n // 12, 1 + n % 12, 1, tzinfo=UTC) for n in range(50)]
    store([make_event(organization_id=organization.pk, at=at) for at in starts])
    entitlement = entitlement_of(
        organization, datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 4, 1, tzinfo=UTC)
    )

    assert len(quota_periods(entitlement, "requests")) == MOST_PERIODS
    assert current_period(entitlement).is_current


def test_the_worker_and_the_command_sum_up_what_is_recent_and_further_back_when_asked(organization):
    present = datetime.now(UTC)
    for hours in (5, 24 * 20):
        store([make_event(organization_id=organization.pk, at=present - hours * HOUR)])

    assert sum_usage_days() == 1
    assert sum_usage_days(look_back_days=25) == 1
    SummedDay.objects.all().delete()
    call_command("sum_usage_days", since=(present - timedelta(days=25)).date())
    assert SummedDay.objects.count() == 2


@pytest.mark.parametrize("since", ["yesterday", "2026-02-30", "0001-01-01", "1999-12-31", "2999-01-01"])
def test_the_command_refuses_what_is_no_day_that_usage_can_be_of(organization, since):
    store([make_event(organization_id=organization.pk, at=datetime.now(UTC) - 5 * HOUR)])

    with pytest.raises(CommandError, match=f"--since.*{since}"):
        call_command("sum_usage_days", "--since", since)


@pytest.mark.parametrize("is_proven", [True, False])
def test_a_period_that_goes_on_after_a_payment_was_missing_for_a_while_shows_all_that_is_billed(
    subscribed, is_proven
):
    stop_paying(subscribed)
    subscribed.use(30)
    subscribed.pay_with("pm_card_visa")
    subscribed.api.invoices.pay(subscribed.last_invoice().id)
    subscribed.see()
    subscribed.wait(days=5)
    subscribed.use(500)
    report_usage()
    subscribed.wait_until(JUNE)
    subscribed.wait(hours=2)
    subscribed.see()
    if is_proven:
        prove(subscribed.organization)

    _, limited, may, april = quota_periods(subscribed.entitlement(), "requests")

    used = [breakdown(each.scope(subscribed.organization, "requests")) for each in (april, may, limited)]
    assert [total(g.measures for g in each[Dimension.STATUS]).units for each in used] == [130, 520, 30]
    assert subscribed.invoiced_units() == 680
    assert (may.start, may.end) == (MAY, JUNE)
