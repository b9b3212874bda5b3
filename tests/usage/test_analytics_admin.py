"""What staff see of usage."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from accounts import clock
from accounts.models import Organization
from tests.billing.staffing import staff
from tests.usage.cast import make_event
from usage.counting import NO_KEY
from usage.days import sum_days
from usage.ledger import store
from usage.most_used import most_used

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 4, 12, 10, 30, tzinfo=UTC)
OVERVIEW = "/admin/usage/usagerollup/overview/"
NOBODY = "00000000-0000-0000-0000-000000000009"


def use(organization: Organization, at: datetime, units: int = 1, **kind: Any) -> None:
    store([make_event(organization_id=organization.pk, at=at, units=units, **kind)])


@pytest.fixture(autouse=True)
def in_april(organization):
    with clock.standing_at(NOW):
        entitlement = organization.entitlement
        entitlement.period_start, entitlement.period_end = (
            datetime(2026, 4, 1, tzinfo=UTC),
            datetime(2026, 5, 1, tzinfo=UTC),
        )
        entitlement.valid_until = entitlement.period_end
        entitlement.save()
        yield


@pytest.fixture
def rival(outsider) -> Organization:
    return outsider.memberships.get().organization


@pytest.mark.parametrize("summed_up", [False, True])
def test_the_overview_ranks_who_used_most_of_a_meter_this_month(organization, rival, summed_up):
    rival.time_zone = "Asia/Kolkata"
    rival.save()
    use(organization, NOW, 30)
    use(rival, datetime(2026, 4, 1, tzinfo=UTC), 50, status=404)
    use(rival, datetime(2026, 4, 3, tzinfo=UTC), 20)
    use(rival, datetime(2026, 3, 31, 23, tzinfo=UTC), 999)
    if summed_up:
        sum_days(now=NOW, since=datetime(2026, 3, 25, tzinfo=UTC))

    (table,) = most_used(datetime(2026, 4, 1, tzinfo=UTC))

    assert (table.units, table.count) == (100, 2)
    assert [
        (user.organization.name, user.units, user.share, user.calls, user.errors) for user in table.users
    ] == [
        ("Rival", 70, 70, 2, 1),
        ("Acme", 30, 30, 1, 0),
    ]
    page = staff("view_usagerollup").get(OVERVIEW).content.decode()
    assert page.index("Rival") < page.index("Acme")
    assert "999" in staff("view_usagerollup").get(f"{OVERVIEW}?month=2026-03").content.decode()


@pytest.mark.parametrize("summed_up", [False, True])
def test_the_overview_counts_calls_whose_status_is_not_known_and_no_events_sent_in(organization, summed_up):
    use(organization, datetime(2026, 4, 3, tzinfo=UTC), 2, status=0)  # Charged by keys/verify.
    use(organization, datetime(2026, 4, 3, tzinfo=UTC), 5, status=0, api_key_id=NO_KEY)
    use(organization, datetime(2026, 4, 3, tzinfo=UTC), 1)
    if summed_up:
        sum_days(now=NOW, since=datetime(2026, 3, 25, tzinfo=UTC))

    (table,) = most_used(datetime(2026, 4, 1, tzinfo=UTC))

    assert [(user.units, user.calls) for user in table.users] == [(8, 2)]


def test_an_organization_s_page_shows_what_the_customer_sees(organization, api_key):
    use(organization, NOW, 30, api_key_id=api_key.key.pk)
    use(organization, datetime(2026, 3, 5, tzinfo=UTC), 12)

    page = (
        staff("view_usagerollup")
        .get(f"/admin/usage/usagerollup/of/{organization.pk}/?by=key")
        .content.decode()
    )

    assert "Usage of Acme" in page
    assert "30 of 100 calls" in page
    assert "Sun 12 Apr" in page
    assert ">test</th>" in page
    past = {"period": "2026-03-01T00:00:00+00:00", "interval": "month"}
    page = staff("view_usagerollup").get(f"/admin/usage/usagerollup/of/{organization.pk}/", past)
    assert "12 calls" in page.content.decode()


def test_of_calls_whose_answers_are_not_known_it_says_so(organization):
    address = f"/admin/usage/usagerollup/of/{organization.pk}/"
    assert "<dd>no calls</dd>" in staff("view_usagerollup").get(address).content.decode()

    use(organization, NOW, status=0)  # Charged by keys/verify.

    assert "<dd>not known</dd>" in staff("view_usagerollup").get(address).content.decode()


def test_events_that_were_sent_in_have_a_column_where_there_are_some(organization):
    address = f"/admin/usage/usagerollup/of/{organization.pk}/"
    use(organization, NOW, 3)
    assert "Events sent in" not in staff("view_usagerollup").get(address).content.decode()

    use(organization, NOW, 5, status=0, api_key_id=NO_KEY)

    page = staff("view_usagerollup").get(address).content.decode()
    # Over time, and by endpoint, key and status.
    assert page.count(">Events sent in</th>") == 4
    day = page.rsplit("Sun 12 Apr", 1)[1].split("</tr>", 1)[0]
    assert re.findall(r">(\d+)</td>", day) == ["8", "1", "1", "0"]


def test_it_is_for_staff_who_may_look_at_usage_and_nothing_can_be_changed(organization, browser):
    address = f"/admin/usage/usagerollup/of/{organization.pk}/"
    for path in (address, OVERVIEW):
        assert staff("view_plan").get(path).status_code == 403
        assert browser.get(path).status_code == 302  # A customer is sent to the log-in.
    assert staff("view_usagerollup").get(address.replace(str(organization.pk), NOBODY)).status_code == 404


def test_the_customer_s_page_leads_there(organization):
    page = staff("view_billingcustomer", "view_usagerollup").get(
        f"/admin/billing/billingcustomer/{organization.pk}/change/"
    )

    assert f"/admin/usage/usagerollup/of/{organization.pk}/" in page.content.decode()
