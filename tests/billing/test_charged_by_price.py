"""What units cost is decided by the price that the customer is on, whatever the plan or an override includes."""

import pytest

from accounts import clock
from apikeys.gate import admit
from apikeys.models import APIKey
from billing.letters import write_letter
from billing.models import Meter, Notice, NoticeKind, PlanOverride, PlanQuota
from billing.spend_caps import cap_state, set_spend_cap
from tests.billing.acme import Acme
from usage.reports import make_reports
from usage.summaries import meter_usage
from usage.tasks import report_usage

pytestmark = pytest.mark.django_db


def include(acme: Acme, meter: Meter, units: int | None, *, overage: str = "block") -> None:
    override = PlanOverride.objects.create(organization=acme.organization, reason="a favour")
    override.quotas.create(meter=meter, included=units, overage=overage)
    acme.see()


def usage(acme: Acme, meter: Meter):
    return meter_usage(acme.entitlement(), meter, now=clock.now())


@pytest.mark.parametrize("units", [1_000, None])
def test_an_override_that_includes_more_does_not_hide_what_the_price_charges(
    metered, requests, browser, units
):
    include(metered, requests, units)
    metered.use(600)
    report_usage()

    found = usage(metered, requests).overage
    page = browser.get("/dashboard/usage/").content.decode()
    metered.wait_until(metered.entitlement().period_end)
    metered.wait(hours=2)

    assert (found.units, found.amount, found.within) == (500, 1_000, True)
    assert "500 of them are billed at the price you are on: $10 so far" in page
    assert sum(line.amount for line in metered.last_invoice().lines.data if line.quantity == 500) == 1_000


def test_so_it_is_where_the_plan_includes_more_than_an_older_price(metered, requests):
    PlanQuota.objects.filter(plan__slug="pro").update(included=1_000)
    metered.see()
    metered.use(600)

    found = usage(metered, requests).overage

    assert (found.units, found.amount, found.within) == (500, 1_000, True)


@pytest.mark.parametrize("units", [1_000, None])
def test_a_spend_cap_holds_under_an_override_too(metered, requests, units):
    set_spend_cap(metered.organization, requests, amount=100, currency="usd")
    include(metered, requests, units)
    _, secret = APIKey.objects.issue(organization=metered.organization, name="k")

    assert metered.entitlement().quotas["requests"]["spend_cap"] == 150
    assert "It is reached with 150 calls" in cap_state(metered.organization, requests).sentence
    assert admit(secret, cost=150).admitted
    assert admit(secret).reason == "spend_cap_reached"


@pytest.mark.parametrize("units", [1_000, None])
def test_it_is_told_of_as_its_money_is_spent(metered, requests, units):
    set_spend_cap(metered.organization, requests, amount=100, currency="usd")
    include(metered, requests, units)

    metered.use(100)
    make_reports()
    assert not Notice.objects.filter(kind=NoticeKind.SPEND_REACHED).exists()
    metered.use(25)
    make_reports()

    assert Notice.objects.get(kind=NoticeKind.SPEND_REACHED).context["level"] == 50


def test_a_cap_can_be_set_where_an_override_bills_nothing_but_the_price_does(metered, requests):
    include(metered, requests, 1_000)

    assert cap_state(metered.organization, requests).can_be_set


def test_an_override_within_what_the_price_gives_leaves_nothing_to_cap(metered, requests):
    include(metered, requests, 80)
    set_spend_cap(metered.organization, requests, amount=100, currency="usd")

    assert "spend_cap" not in metered.entitlement().quotas["requests"]
    assert not cap_state(metered.organization, requests).can_be_set


def test_in_a_trial_nothing_is_said_to_be_billed(acme, plans, requests, browser):
    acme.bill_overage(plans.pro, included=100, cents="2")
    acme.subscribe(plans.pro, trial_period_days=14)
    set_spend_cap(acme.organization, requests, amount=100, currency="usd")
    acme.use(120)
    make_reports()

    found = usage(acme, requests)
    notice = Notice.objects.get(kind=NoticeKind.QUOTA_REACHED)
    overview, page = (browser.get(path).content.decode() for path in ("/dashboard/", "/dashboard/usage/"))

    assert (found.goes_on, found.is_billed, found.overage) == (True, False, None)
    assert "further calls cost nothing at present" in overview
    assert "more costs nothing at present" in page
    assert "is billed" not in page
    assert cap_state(acme.organization, requests).sentence.endswith(
        "It waits: in the trial nothing is billed."
    )
    assert "Further calls are let through and cost nothing while your trial lasts." in letter(notice, acme)


def test_at_an_older_price_that_is_free_nothing_is_said_to_be_billed(acme, plans, requests, browser):
    acme.subscribe(plans.pro)
    acme.bill_overage(plans.pro, included=100, cents="2")
    acme.see()
    acme.use(120)
    make_reports()

    notice = Notice.objects.get(kind=NoticeKind.QUOTA_REACHED)

    assert usage(acme, requests).overage is None
    assert "further calls cost nothing at present" in browser.get("/dashboard/").content.decode()
    assert "Further calls are let through and cost nothing." in letter(notice, acme)


def letter(notice: Notice, acme: Acme) -> str:
    return " ".join(write_letter(notice, acme.entitlement(), now=clock.now()).text.split())
