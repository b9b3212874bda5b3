"""The doctor's page and the list of reconciliations, in the back office."""

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from billing.models import Entitlement, ReconcileRun
from billing.reconciliation import reconcile_all
from billing.stripe.client import get_client
from billing.stripe.customers import ensure_customer
from tests.billing.cast import publish_all
from tests.billing.staffing import said, staff

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("durable_redis")]

PAGE = "admin:billing_doctor"
SEE, MEND = "view_reconcilerun", "mend"


@pytest.fixture
def wrong(organization) -> str:
    """An entitlement changed by hand; the key of what is found."""
    Entitlement.objects.update(rate_per_minute=7)
    return f"entitlement:{organization.ref}"


def mend(client, finding: str, *, asked: str = ""):
    return client.post(
        reverse("admin:billing_doctor_mend"), {"finding": finding, "asked": asked}, follow=True
    )


def test_opening_it_lists_the_checks_and_examines_nothing(wrong):
    page = staff(SEE).get(reverse(PAGE))

    assert page.context["findings"] is None
    assert "Entitlements that are not what subscriptions, plans, overrides and policy give." in page.text


def test_it_shows_what_one_check_finds(wrong):
    page = staff(SEE).get(reverse(PAGE), {"check": "entitlement"})

    assert "The entitlement of Acme is wrong: rate_per_minute is 7, not 10." in page.text
    assert "1 finding by the check entitlement" in page.text


def test_it_examines_everything_when_asked(sandbox, wrong, organization):
    ensure_customer(organization)
    page = staff(SEE).get(reverse(PAGE), {"check": "everything"})

    assert {each.slug for each in page.context["findings"]} == {
        "entitlement",
        "webhook-endpoint",
        "event-destination",
    }


def test_each_look_is_a_new_one(wrong):
    client = staff(SEE)
    assert client.get(reverse(PAGE), {"check": "entitlement"}).context["findings"]
    Entitlement.objects.update(rate_per_minute=10)

    assert "Nothing is wrong" in client.get(reverse(PAGE), {"check": "entitlement"}).text


def test_an_unknown_check_is_said_to_be_one(db):
    assert "There is no check nonsense" in said(staff(SEE).get(reverse(PAGE), {"check": "nonsense"}))


def test_a_finding_is_mended_and_kept_in_the_customer_s_history(wrong, organization):
    response = mend(staff(SEE, MEND), wrong)

    assert said(response).startswith("Mended: The entitlement of Acme is wrong")
    assert response.context["findings"] == []
    assert Entitlement.objects.get().rate_per_minute == 10
    assert LogEntry.objects.get().object_id == str(organization.pk)


def test_what_is_no_longer_so_is_not_mended_again(wrong):
    client = staff(SEE, MEND)
    mend(client, wrong)

    assert said(mend(client, wrong)) == "That is not so any more."
    assert LogEntry.objects.count() == 1


def test_mending_takes_the_permission_to(wrong):
    client = staff(SEE)

    assert mend(client, wrong).status_code == 403
    assert Entitlement.objects.get().rate_per_minute == 7
    page = client.get(reverse(PAGE), {"check": "entitlement"}).text
    assert reverse("admin:billing_doctor_mend") not in page


def test_mending_takes_a_form(wrong):
    assert staff(SEE, MEND).get(reverse("admin:billing_doctor_mend"), {"finding": wrong}).status_code == 403


def test_looking_takes_the_permission_to(db):
    assert staff(MEND).get(reverse(PAGE)).status_code == 403


def test_nonsense_is_not_mended(db):
    assert "There is no check nonsense" in said(mend(staff(SEE, MEND), "nonsense:1"))


def test_a_fix_that_fails_says_why(sandbox, plans):
    finding = "webhook-endpoint:"
    outage = sandbox.faults.add("server_error", method="POST")

    assert "It could not be mended: The payment provider has a problem" in said(
        mend(staff(SEE, MEND), finding)
    )

    sandbox.faults.remove(outage.id)
    assert said(mend(staff(SEE, MEND, "view_plan"), finding)).startswith("Mended: No webhook endpoint")


def test_what_needs_a_person_has_no_button(sandbox, plans):
    publish_all()
    price = plans.pro.prices.get(meter=None, interval="month").stripe_price_id
    get_client().v1.prices.update(price, {"active": False})

    page = staff(SEE, MEND).get(reverse(PAGE), {"check": "archived-prices"}).text

    assert "press Publish on the plan" in page
    assert reverse("admin:billing_doctor_mend") not in page


def test_reconciliations_are_listed_and_tell_what_they_found(sandbox, organization):
    ensure_customer(organization)
    get_client().v1.customers.update(organization.djstripe_customers.get().id, {"name": "Renamed"})
    run = reconcile_all()
    client = staff(SEE, "view_billingcustomer")

    listed = client.get(reverse("admin:billing_reconcilerun_changelist")).text
    page = client.get(reverse("admin:billing_reconcilerun_change", args=[run.pk])).text

    assert "complete" in listed
    assert "was out of date here: name." in page
    assert reverse("admin:billing_billingcustomer_change", args=[organization.pk]) in page


def test_reconciliations_are_never_edited(sandbox, organization):
    run = ReconcileRun.objects.create()
    client = staff(SEE, "change_reconcilerun", "add_reconcilerun", "delete_reconcilerun")
    page = reverse("admin:billing_reconcilerun_change", args=[run.pk])

    assert client.post(page, {"organizations": "5"}).status_code == 403
    assert client.get(reverse("admin:billing_reconcilerun_add")).status_code == 403
