"""Meters that the plan does not know, and plans that know no requests: what was used is shown all the same."""

import re
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from billing.entitlements import refresh_entitlement
from billing.models import Meter, PlanQuota
from tests.usage.ingesting import event, sell, send

pytestmark = pytest.mark.django_db


def meters_of(html: str) -> dict[str, bool]:
    """Return the meters that the page leads to by name, each with whether it is the one that is shown."""
    navigation = html.partition('<nav class="block" aria-label="Meter">')[2].partition("</nav>")[0]
    links = re.findall(r"<a ([^>]*)>([^<]*)<", navigation)
    return {name: "aria-current" in attributes for attributes, name in links}


def used(html: str) -> str:
    return re.search(r'id="used-units"[^>]*>([^<]*)<', html)[1]


def drop(organization: Any, slug: str) -> None:
    """Take a meter out of the plan."""
    PlanQuota.objects.filter(plan=organization.entitlement.plan, meter__slug=slug).delete()
    refresh_entitlement(organization)
    organization.entitlement.refresh_from_db()


@pytest.fixture
def tokens(organization) -> Meter:
    """700 tokens, used in this period by a plan that includes 1,000."""
    refresh_entitlement(organization)
    organization.entitlement.refresh_from_db()
    meter = sell(organization, "tokens", included=1000)
    assert [outcome.status for outcome in send(event(organization, meter="tokens", value=700))] == [
        "accepted"
    ]
    return meter


class TestAMeterThatThePlanDropped:
    @pytest.fixture(autouse=True)
    def dropped(self, organization, tokens):
        drop(organization, "tokens")

    def test_the_usage_page_leads_to_it(self, browser: Client):
        assert meters_of(browser.get("/dashboard/usage/").content.decode()) == {
            "Requests": True,
            "Tokens": False,
        }

        html = browser.get("/dashboard/usage/?meter=tokens").content.decode()

        assert (used(html), meters_of(html)) == ("700", {"Requests": False, "Tokens": True})
        assert "Your plan includes no tokens." in html

    def test_the_api_has_it_with_nothing_included(self, browser: Client):
        requests, tokens = browser.get("/api/v1/usage").json()["data"]

        assert (requests["meter"], tokens["meter"]) == ("requests", "tokens")
        told = {name: tokens[name] for name in ("name", "unit", "used", "included", "remaining", "percent")}
        assert told == {
            "name": "Tokens",
            "unit": "token",
            "used": 700,
            "included": 0,
            "remaining": 0,
            "percent": 100,
        }
        assert (tokens["overage"], tokens["stops_at"]) == (None, None)
        assert tokens["forecast"] == {"expected": 700, "runs_out_at": None, "cap_reached_at": None}

    def test_a_meter_that_nobody_used_is_shown_nowhere(self, browser: Client, organization):
        sell(organization, "images")
        drop(organization, "images")

        assert "Images" not in meters_of(browser.get("/dashboard/usage/").content.decode())
        assert len(browser.get("/api/v1/usage").json()["data"]) == 2

    def test_what_others_used_is_nobody_else_s(self, outsider: User):
        rival = Client()
        rival.force_login(outsider, backend="allauth.account.auth_backends.AuthenticationBackend")

        assert "Tokens" not in rival.get("/dashboard/usage/").content.decode()
        assert [each["meter"] for each in rival.get("/api/v1/usage").json()["data"]] == ["requests"]


class TestAPlanWithoutRequests:
    @pytest.fixture(autouse=True)
    def without_requests(self, organization, tokens):
        drop(organization, "requests")

    def test_the_usage_page_opens_on_the_plan_s_meter(self, browser: Client):
        html = browser.get("/dashboard/usage/").content.decode()

        assert used(html) == "700"
        assert "Nothing used in this period" not in html

    def test_the_overview_has_its_recent_hours(self, browser: Client):
        recent = browser.get("/dashboard/").content.decode().partition("Recent activity")[2]

        assert ">700<" in recent
        assert "Nothing in the last 24 hours" not in recent
