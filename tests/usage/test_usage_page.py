"""The customer's usage page."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree

import pytest
from django.test import Client

from accounts import clock
from accounts.models import Organization
from billing.models import Meter
from tests.usage.cast import make_event
from usage.charts import stack
from usage.counting import NO_KEY
from usage.ledger import store
from usage.templatetags.figures import breakable

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 4, 12, 10, 30, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def in_april(organization):
    """It is 12 April 2026, and Acme is on Free for April: 100 calls."""
    with clock.standing_at(NOW):
        entitlement = organization.entitlement
        entitlement.period_start, entitlement.period_end = (
            datetime(2026, 4, 1, tzinfo=UTC),
            datetime(2026, 5, 1, tzinfo=UTC),
        )
        entitlement.valid_until = entitlement.period_end
        entitlement.save()
        yield


def use(organization: Organization, at: datetime, units: int = 1, **kind: Any) -> None:
    store([make_event(organization_id=organization.pk, at=at, units=units, **kind)])


def page_of(browser: Client, query: str = "") -> str:
    response = browser.get(f"/dashboard/usage/{query}")
    assert response.status_code == 200
    return response.content.decode()


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>|&nbsp;", " ", html).split())


def figures(html: str) -> list[list[str]]:
    """Return the cells of the table beside the chart, its rows as they stand."""
    section = html[html.index('id="figures"') :]
    rows = re.findall(r"<tr>(.*?)</tr>", section[: section.index("</table>")], re.DOTALL)
    return [
        [text_of(cell) for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row, re.DOTALL)] for row in rows
    ]


def bars(html: str) -> list[str]:
    """Return what the chart's bars say, left to right. Reads the SVG as XML, which it has to be."""
    svg = html[html.index('<svg class="chart"') :]
    tree = ElementTree.fromstring(svg[: svg.index("</svg>") + 6])  # noqa: S314  # It is our own.
    assert tree.find("title").text
    assert tree.find("desc").text
    assert tree.get("aria-labelledby") == "chart-title chart-text"
    return [group.find("title").text for group in tree.findall("g")]


def test_an_organization_that_used_nothing_is_told_so(browser):
    html = page_of(browser)

    assert "Nothing used in this period yet" in html
    assert "None yet: nothing was used." in html


def test_tiles_tell_used_forecast_run_out_and_response_time(browser, organization):
    for day in range(4, 12):
        use(organization, datetime(2026, 4, day, 9, tzinfo=UTC), 7)

    text = text_of(page_of(browser))

    assert "Used 56 of 100 calls" in text
    # 7 a day for 18 days and 13.5 hours: 129.9, beside 56.
    assert "Forecast 185 calls by 1 May" in text
    assert "The quota lasts until 18 April, 17:21" in text
    assert "5 ms or less for 95 % of calls" in text


def test_the_chart_has_every_day_of_the_period_and_the_table_every_day_so_far(browser, organization):
    use(organization, NOW, 3)
    use(organization, NOW - DAY, 1000, status=404)

    html = page_of(browser)

    assert len(bars(html)) == 30
    assert bars(html)[10:12] == ["Sat 11 Apr: 1,000", "Sun 12 Apr: 3"]
    table = figures(html)
    assert table[:3] == [
        ["Day", "Units", "Calls", "Errors"],
        ["Sun 12 Apr by hour", "3", "1", "0"],
        ["Sat 11 Apr by hour", "1,000", "1", "1"],
    ]
    assert len(table) == 1 + 12 + 1
    assert table[-1] == ["Together", "1,003", "2", "1"]


def test_days_are_the_organization_s_own(browser, organization):
    organization.time_zone = "America/New_York"
    organization.save()
    use(organization, datetime(2026, 4, 11, 3, tzinfo=UTC), 5)

    html = page_of(browser)

    assert ["Fri 10 Apr by hour", "5", "1", "0"] in figures(html)
    assert "time zone America/New_York" in html
    assert "31 March 2026, 20:00 to 30 April 2026, 20:00" in html  # The period's own days are UTC's.


def test_a_day_s_hours_can_be_seen_and_those_of_its_neighbours(browser, organization):
    use(organization, NOW - DAY, 2)

    html = page_of(browser, "?interval=hour&day=2026-04-11")

    assert len(bars(html)) == 24
    assert ["10:00", "2", "1", "0"] in figures(html)
    assert "day=2026-04-10" in html
    assert "day=2026-04-12" in html
    assert "Day after" not in page_of(browser, "?interval=hour")


def test_a_day_of_25_hours_says_by_which_clock_its_hours_are(browser, organization):
    organization.time_zone = "Europe/Berlin"
    organization.save()
    with clock.standing_at(datetime(2026, 10, 25, 20, tzinfo=UTC)):
        entitlement = organization.entitlement
        entitlement.period_start, entitlement.period_end = (
            datetime(2026, 10, 1, tzinfo=UTC),
            datetime(2026, 11, 1, tzinfo=UTC),
        )
        entitlement.valid_until = entitlement.period_end
        entitlement.save()
        use(organization, datetime(2026, 10, 25, 0, 30, tzinfo=UTC), 1)
        use(organization, datetime(2026, 10, 25, 1, 30, tzinfo=UTC), 2)

        found = bars(page_of(browser, "?interval=hour"))

    assert len(found) == 25
    assert found[2:4] == ["02:00 CEST: 1", "02:00 CET: 2"]


def test_months_show_a_year_over_all_periods(browser, organization):
    use(organization, datetime(2026, 2, 28, 12, tzinfo=UTC), 28)
    use(organization, NOW, 4)

    html = page_of(browser, "?interval=month")

    assert len(bars(html)) == 12
    assert bars(html)[-3:] == ["February 2026: 28", "March 2026: 0", "April 2026: 4"]


def test_a_split_chart_names_its_parts_and_the_table_has_a_column_of_each(browser, organization, api_key):
    use(organization, NOW, 5, api_key_id=api_key.key.pk)
    use(organization, NOW, 3)

    html = page_of(browser, "?by=key")

    assert figures(html)[0] == ["Day", "Units", "test", "No key", "Calls", "Errors"]
    assert figures(html)[1][1:4] == ["8", "5", "3"]
    assert re.findall(r"</svg> <span>([^<]+)</span></li>", html) == ["test", "No key"]


def test_a_chart_is_split_into_five_parts_at_most_and_a_table_has_eleven_rows(browser, organization):
    for number in range(30):
        use(organization, NOW, 1000 - number, endpoint=f"/api/v1/{number}")

    html = page_of(browser, "?by=endpoint")

    assert figures(html)[0][2:7] == ["/api/v1/0", "/api/v1/1", "/api/v1/2", "/api/v1/3", "All others"]
    by_endpoint = html[html.index('id="by-endpoint"') : html.index('id="by-key"')]
    assert by_endpoint.count('<th scope="row">') == 11
    assert "All others" in by_endpoint


def test_statuses_say_what_they_mean(browser, organization):
    use(organization, NOW, status=404)
    use(organization, NOW, status=0, api_key_id=NO_KEY)

    text = text_of(page_of(browser))

    assert "404 Not Found" in text
    assert "Sent in" in text
    assert "Status not known" not in text


def test_a_call_that_a_key_was_charged_for_before_it_was_answered_was_not_sent_in(browser, organization):
    use(organization, NOW, status=0)

    html = page_of(browser)

    assert "Status not known" in text_of(html)
    assert "sent in" not in text_of(html).lower()
    assert "Response time Not known." in text_of(html)
    assert figures(html)[1][1:] == ["1", "1", "0"]
    use(organization, NOW, status=0, api_key_id=NO_KEY)
    assert "Sent in or Status not known" in text_of(page_of(browser))


def test_events_that_were_sent_in_have_a_column(browser, organization):
    use(organization, NOW, 5, status=0, api_key_id=NO_KEY)
    use(organization, NOW, 3)

    html = page_of(browser)

    assert figures(html)[0] == ["Day", "Units", "Calls", "Events sent in", "Errors"]
    assert figures(html)[1][1:] == figures(html)[-1][1:] == ["8", "1", "1", "0"]
    assert "Units Share Calls Events sent in Errors" in text_of(html)


def test_past_periods_can_be_seen(browser, organization):
    use(organization, datetime(2026, 3, 31, 23, tzinfo=UTC), 40)
    use(organization, datetime(2026, 2, 10, tzinfo=UTC), 20)
    use(organization, NOW, 3)
    html = page_of(browser)
    options = re.findall(r'<option value="(.*?)"[ a-z]*>(.*?)</option>', html)
    assert [label for _, label in options] == [
        "1 Apr 2026 to 1 May 2026, now",
        "1 Mar 2026 to 1 Apr 2026",
        "1 Feb 2026 to 1 Mar 2026",
    ]

    past = browser.get("/dashboard/usage/", {"period": options[1][0].replace("&amp;", "&")}).content.decode()

    assert "Used 40 calls" in text_of(past)
    assert "Forecast" not in past
    assert len(bars(past)) == 31
    assert "from=2026-03-01&amp;to=2026-04-01" in past  # The link to the file.


def test_the_file_that_the_page_links_to_has_the_same_units(browser, organization):
    use(organization, NOW, 30)
    use(organization, NOW - 3 * DAY, 12)

    address = re.search(r'href="(/api/v1/usage/export[^"]+)"', page_of(browser))[1].replace("&amp;", "&")
    lines = browser.get(address).getvalue().decode().splitlines()

    assert sum(int(line.split(",")[7]) for line in lines[1:]) == 42


@pytest.mark.parametrize("age", [3, 450])
def test_the_file_of_a_period_of_500_days_has_its_last_400_up_to_today(browser, organization, age):
    entitlement = organization.entitlement
    entitlement.period_start = datetime(2026, 4, 12, tzinfo=UTC) - age * DAY
    entitlement.period_end = entitlement.valid_until = entitlement.period_start + 500 * DAY
    entitlement.save()
    for at, units in ((entitlement.period_start, 5), (NOW - 2 * DAY, 12), (NOW, 30)):
        use(organization, at, units, period_start=entitlement.period_start)

    address = re.search(r'href="(/api/v1/usage/export[^"]+)"', page_of(browser))[1].replace("&amp;", "&")
    lines = browser.get(address).getvalue().decode().splitlines()

    assert address.endswith("&to=2026-04-13")
    assert [int(line.split(",")[7]) for line in lines[1:]] == ([5, 12, 30] if age == 3 else [12, 30])


def test_meters_can_be_switched_where_there_are_several(browser, organization):
    assert "tokens" not in page_of(browser)
    Meter.objects.create(slug="tokens", name="Tokens", unit="token")
    entitlement = organization.entitlement
    entitlement.quotas["tokens"] = {"included": None, "overage": "block"}
    entitlement.save()
    use(organization, NOW, 5000, meter="tokens")

    assert "?meter=tokens" in page_of(browser)
    text = text_of(page_of(browser, "?meter=tokens"))
    assert "Used 5,000 of unlimited tokens" in text
    assert "Runs out" not in text


def test_what_cannot_be_shown_gives_way_to_what_can(browser, organization):
    use(organization, NOW, 3)

    html = page_of(browser, "?meter=x&period=y&interval=z&by=w&day=v")

    assert len(bars(html)) == 30
    assert page_of(browser, "?interval=hour&day=1999-01-01")


def test_others_see_nothing_of_it(client, organization, outsider):
    use(organization, NOW, 77, endpoint="/secret")
    client.force_login(outsider, backend="allauth.account.auth_backends.AuthenticationBackend")

    assert "/secret" not in page_of(client)
    client.logout()
    assert client.get("/dashboard/usage/").status_code == 302


def test_a_day_s_hours_are_those_that_begin_in_it_where_midnight_cuts_one_in_two(browser, organization):
    Organization.objects.filter(pk=organization.pk).update(time_zone="Asia/Kolkata")
    use(organization, datetime(2026, 4, 9, 18, 10, tzinfo=UTC), 7)  # At 23:40, in the hour from 23:30.
    use(organization, datetime(2026, 4, 10, 18, 50, tzinfo=UTC), 5)

    tenth = bars(page_of(browser, "?interval=hour&day=2026-04-10"))
    ninth = bars(page_of(browser, "?interval=hour&day=2026-04-09"))

    assert [len(ninth), len(tenth)] == [24, 24]
    assert (ninth[0], ninth[-1]) == ("00:30: 0", "23:30: 7")
    assert (tenth[0], tenth[-1]) == ("00:30: 0", "23:30: 5")


def test_the_overview_tells_forecast_and_run_out(browser, organization):
    for day in range(4, 12):
        use(organization, datetime(2026, 4, day, 9, tzinfo=UTC), 7)

    text = text_of(browser.get("/dashboard/").content.decode())

    assert "Forecast: 185 by the end of the period. The quota lasts until 18 April, 17:21 ." in text


def test_the_overview_s_moments_are_all_of_the_organization_s_time_zone(browser, organization):
    Organization.objects.filter(pk=organization.pk).update(time_zone="Pacific/Auckland")
    use(organization, NOW, 7)

    text = text_of(browser.get("/dashboard/").content.decode())

    assert "Starts again on 1 May, 12:00." in text
    assert "Period ends 1 May 2026, 12:00" in text
    assert "Hour Units 12 Apr, 22:00 7" in text
    assert "Times are of the time zone Pacific/Auckland." in text
    assert "UTC" not in text


def test_what_is_coming_is_told_in_the_time_zone_of_the_page(browser, organization, plans):
    Organization.objects.filter(pk=organization.pk).update(time_zone="America/New_York")
    entitlement = organization.entitlement
    entitlement.status, entitlement.status_since = "past_due", NOW
    entitlement.grace_end = entitlement.period_end
    entitlement.save()

    text = text_of(browser.get("/dashboard/").content.decode())

    assert "Free until 30 April 2026, then" in text
    assert "Period ends 30 April 2026, 20:00" in text


def test_the_overview_leads_to_the_usage_of_each_meter(browser, organization):
    entitlement = organization.entitlement
    Meter.objects.create(slug="tokens", name="Tokens", unit="token")
    entitlement.quotas = {**entitlement.quotas, "tokens": {"included": 5, "overage": "block"}}
    entitlement.save()

    html = browser.get("/dashboard/").content.decode()

    for slug in ("requests", "tokens"):
        assert f'href="/dashboard/usage/?meter={slug}"' in html


def test_a_bar_of_few_units_beside_one_of_many_is_seen():
    (low, high) = stack((1, 10**9), 10**9 + 1)

    assert float(low.height) >= 1
    assert float(high.y) >= 0


def test_a_long_number_may_be_broken_between_its_groups_of_digits_and_nowhere_else(browser, organization):
    use(organization, NOW, 876543210123456)

    for path in ("/dashboard/usage/", "/dashboard/"):
        html = browser.get(path).content.decode()
        assert re.search(
            r'<strong[^>]* id="used-units"[^>]*>876,<wbr>543,<wbr>210,<wbr>123,<wbr>456</strong>', html
        )
    assert [breakable(units) for units in (0, 1000, 9_999_999)] == ["0", "1,000", "9,999,999"]


@pytest.mark.parametrize(
    ("age", "told"),
    [
        (timedelta(minutes=10), "At the rate of the period so far."),
        (1.5 * DAY, "At the rate of yesterday."),
        (4 * DAY, "At the rate of the last 3 days."),
        (11 * DAY, "At the rate of the last 7 days."),
    ],
)
def test_a_forecast_names_the_days_that_it_goes_by(browser, organization, age, told):
    Organization.objects.filter(pk=organization.pk).update(created_at=NOW - age)
    use(organization, NOW - min(age, HOUR), 7)

    assert told in text_of(page_of(browser))


def test_a_largest_value_is_forecast_by_no_rate(browser, organization):
    Meter.objects.filter(slug="requests").update(aggregation=Meter.Aggregation.MAX)
    use(organization, NOW, 7)

    text = text_of(page_of(browser))

    assert "Forecast 7 calls by 1 May The largest value so far" in text
