"""The staff's page of one customer: what it shows, what may be done there, and by whom."""

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from djstripe import models as djstripe

from accounts.models import Organization
from billing.dossier import dashboard_url
from billing.entitlements import refresh_entitlement
from billing.models import BillingCustomer, Entitlement, PlanOverride
from billing.standing import find_standing
from billing.stripe.client import get_client
from billing.stripe.customers import ensure_customer
from billing.stripe.reconciling import reconcile
from tests.billing.cast import subscribe
from tests.billing.staffing import said, staff

pytestmark = pytest.mark.django_db

LIST = "admin:billing_billingcustomer_changelist"
SEE, MANAGE, MEND = "view_billingcustomer", "manage_subscription", "mend"
DEEDS = {
    "reconcile": MEND,
    "end-with-period": MANAGE,
    "resume": MANAGE,
    "undo-change": MANAGE,
    "end-now": MANAGE,
}


@pytest.fixture
def subscribed(sandbox, organization, plans):
    """Acme on Pro."""
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    refresh_entitlement(organization)
    return subscription


def page_of(organization: Organization) -> str:
    return reverse("admin:billing_billingcustomer_change", args=[organization.pk])


def do(client: Client, organization: Organization, deed: str) -> Any:
    address = reverse("admin:billing_billingcustomer_do", args=[organization.pk, deed])
    return client.post(address, follow=True)


def plan_page(organization: Organization) -> str:
    return reverse("admin:billing_billingcustomer_plan", args=[organization.pk])


def found(client: Client, **params: str) -> list[str]:
    page = client.get(reverse(LIST), params)
    return sorted(customer.name for customer in page.context["cl"].result_list)


class TestList:
    def test_it_shows_plan_status_and_access(self, subscribed):
        page = staff(SEE).get(reverse(LIST)).text

        assert "Acme" in page
        assert subscribed.customer_id in page
        assert "active" in page

    def test_it_takes_no_query_for_each_customer(self, sandbox, subscribed, owner):
        client = staff(SEE)
        client.get(reverse(LIST))
        with CaptureQueriesContext(connection) as few:
            client.get(reverse(LIST))
        for number in range(5):
            ensure_customer(Organization.objects.open(name=f"No. {number}", owner=owner))
        with CaptureQueriesContext(connection) as many:
            client.get(reverse(LIST))

        assert len(many) == len(few)

    def test_customers_are_found_by_whatever_names_them(self, subscribed, organization, outsider):
        client = staff(SEE)
        for words in (
            "acme",
            organization.ref,
            "owner@acme.example",
            subscribed.customer_id,
            subscribed.id,
        ):
            assert found(client, q=words) == ["Acme"]
        assert found(client, q="outsider@rival.example") == ["Rival"]
        assert found(client) == ["Acme", "Rival"]

    def test_customers_are_filtered_by_plan_status_and_access(
        self, subscribed, organization, outsider, plans
    ):
        client = staff(SEE)

        assert found(client, entitlement__plan__id__exact=str(plans.pro.pk)) == ["Acme"]
        assert found(client, entitlement__status="none") == ["Rival"]
        assert found(client, entitlement__access__exact="full") == ["Acme"]

    def test_a_plan_that_was_bought_and_is_not_given_is_shown_beside_the_one_that_is(
        self, subscribed, organization
    ):
        subscribed.stripe_data = {**subscribed.stripe_data, "status": "unpaid"}
        subscribed.save()
        refresh_entitlement(organization)

        assert "Free (bought Pro)" in staff(SEE).get(reverse(LIST)).text

    def test_a_customer_is_not_made_or_deleted_here(self, organization):
        client = staff(SEE, "add_billingcustomer", "delete_billingcustomer", "change_billingcustomer")

        assert client.get(reverse("admin:billing_billingcustomer_add")).status_code == 403
        delete = reverse("admin:billing_billingcustomer_delete", args=[organization.pk])
        assert client.post(delete, {"post": "yes"}).status_code == 403


class TestPage:
    def test_it_tells_all_there_is(self, subscribed, organization, api_key, owner):
        PlanOverride.objects.create(organization=organization, reason="A pilot.", author=owner)
        reconcile(organization)
        page = staff(SEE, MANAGE, MEND, "add_planoverride", "view_entitlement").get(page_of(organization))

        assert page.status_code == 200
        for words in (
            "Pro, $29 a month",
            "100 calls a minute; 10,000 calls a month",
            "Visa ending in 4242",
            "A pilot.",
            subscribed.id,
            subscribed.customer_id,
            djstripe.Invoice.objects.get().stripe_data["number"],
            "Reconcile now",
            "Preview the change",
            reverse("admin:billing_entitlement_timeline", args=[organization.pk]),
            f"{reverse('admin:billing_planoverride_add')}?organization={organization.pk}",
        ):
            assert words in page.text, words
        assert page.context["live_keys"] == 1

    def test_one_without_a_subscription_is_shown_too(self, organization):
        page = staff(SEE, MANAGE).get(page_of(organization)).text

        assert "not known to Stripe yet" in page
        assert "It has none." in page
        assert "Preview the change" not in page

    def test_who_may_only_look_is_offered_nothing_to_do(self, subscribed, organization):
        page = staff(SEE).get(page_of(organization)).text

        assert "Reconcile now" not in page
        assert "End the subscription" not in page
        assert reverse("admin:billing_planoverride_add") not in page

    def test_whoever_may_not_look_is_refused(self, subscribed, organization):
        assert staff().get(page_of(organization)).status_code == 403
        assert staff().get(reverse(LIST)).status_code == 403

    def test_a_customer_s_own_people_are_no_staff(self, browser, subscribed, organization):
        for address in (page_of(organization), reverse(LIST), plan_page(organization)):
            assert "/admin/login/" in browser.get(address).headers["Location"]

    def test_nobody_s_page_is_not_found(self, organization):
        nobody = "00000000-0000-4000-8000-00000000dead"
        client = staff(SEE, MANAGE, MEND)

        assert (
            client.get(reverse("admin:billing_billingcustomer_do", args=[nobody, "resume"])).status_code
            == 403
        )
        assert (
            client.post(reverse("admin:billing_billingcustomer_do", args=[nobody, "resume"])).status_code
            == 404
        )
        assert (
            client.post(
                reverse("admin:billing_billingcustomer_do", args=[organization.pk, "rob"])
            ).status_code
            == 404
        )

    def test_stripe_s_dashboard_is_linked_where_stripe_is_the_real_one(self, settings):
        assert dashboard_url("cus_1") == ""
        settings.STRIPE_API_BASE = "https://api.stripe.com"

        assert dashboard_url("cus_1") == "https://dashboard.stripe.com/test/customers/cus_1"
        settings.STRIPE_LIVE_MODE = True
        assert dashboard_url("cus_1") == "https://dashboard.stripe.com/customers/cus_1"


class TestDeeds:
    @pytest.mark.parametrize(("deed", "permission"), DEEDS.items())
    def test_nothing_is_done_without_the_permission_for_it(
        self, sandbox, subscribed, organization, deed, permission
    ):
        others = {SEE, MANAGE, MEND} - {permission}
        sandbox.requests.clear()

        assert do(staff(*others), organization, deed).status_code == 403
        assert do(staff(permission), organization, deed).status_code == 403  # Who may not see it.

        assert list(sandbox.requests) == []

    @pytest.mark.parametrize("deed", DEEDS)
    def test_nothing_is_done_by_looking(self, sandbox, subscribed, organization, deed):
        client = staff(SEE, MANAGE, MEND)
        address = reverse("admin:billing_billingcustomer_do", args=[organization.pk, deed])

        assert client.get(address).status_code == 403

    @pytest.mark.parametrize("name", ["plan", "end"])
    def test_previews_are_for_those_who_may_act(self, sandbox, subscribed, organization, name):
        address = reverse(f"admin:billing_billingcustomer_{name}", args=[organization.pk])
        sandbox.requests.clear()

        assert staff(SEE, MEND).get(address, {"to": "team:month"}).status_code == 403
        assert staff(SEE, MEND).post(address, {"to": "team:month"}).status_code == 403
        assert list(sandbox.requests) == []

    def test_a_forged_form_is_refused(self, subscribed, organization):
        client = staff(SEE, MANAGE)
        strict = Client(enforce_csrf_checks=True)
        strict.cookies = client.cookies

        assert do(strict, organization, "end-now").status_code == 403

    def test_reconciling_says_what_it_repaired_and_keeps_it(self, subscribed, organization, plans):
        get_client().v1.subscriptions.cancel(subscribed.id)

        response = do(staff(SEE, MEND), organization, "reconcile")

        repaired = f"Subscription {subscribed.id} was active here and canceled at Stripe."
        assert repaired in said(response)
        assert Entitlement.objects.get().plan == plans.free
        assert repaired in LogEntry.objects.get().change_message
        assert repaired in response.text  # Under “Compared with Stripe”.
        assert (
            said(do(staff(SEE, MEND, "view_plan"), organization, "reconcile"))
            == "Nothing differed from Stripe."
        )

    def test_reconciling_in_an_outage_says_so(self, sandbox, subscribed, organization):
        sandbox.faults.add("server_error")

        assert "Please try again" in said(do(staff(SEE, MEND), organization, "reconcile"))

    def test_ending_with_the_period_and_going_on(self, sandbox, subscribed, organization):
        client = staff(SEE, MANAGE)

        assert "The subscription ends on " in said(do(client, organization, "end-with-period"))
        assert sandbox.get("subscription", subscribed.id)["cancel_at_period_end"]
        assert "Let it go on" in client.get(page_of(organization)).text

        assert said(do(client, organization, "resume")) == "The subscription goes on."
        assert not sandbox.get("subscription", subscribed.id)["cancel_at_period_end"]
        assert LogEntry.objects.count() == 2

    def test_ending_now_after_a_look_at_what_it_costs(self, sandbox, subscribed, organization, plans):
        client = staff(SEE, MANAGE)
        preview = client.get(reverse("admin:billing_billingcustomer_end", args=[organization.pk]))
        assert "What was used so far is invoiced" in preview.text

        for _ in range(2):  # A double click.
            do(client, organization, "end-now")

        assert sandbox.get("subscription", subscribed.id)["status"] == "canceled"
        assert Entitlement.objects.get().plan == plans.free
        assert "the last one is canceled" in client.get(page_of(organization)).text

    def test_an_upgrade_after_a_look_at_what_it_costs(self, sandbox, subscribed, organization, plans):
        client = staff(SEE, MANAGE)
        shown = client.get(plan_page(organization), {"to": "team:month"})
        assert "Charged now" in shown.text
        assert shown.context["preview"].amount_due > 0
        assert Entitlement.objects.get().plan == plans.pro

        form = {"to": "team:month", "token": shown.context["preview"].token}
        response = client.post(plan_page(organization), form, follow=True)

        assert said(response) == "Acme is on Team now."
        assert Entitlement.objects.get().plan == plans.team
        assert "Acme is on Team now." in LogEntry.objects.get().change_message
        paid = [each["amount_paid"] for each in sandbox.every("invoice")]
        assert paid == [2900, shown.context["preview"].amount_due]

    def test_a_downgrade_is_scheduled_and_taken_back(self, subscribed, organization, plans):
        client = staff(SEE, MANAGE)
        shown = client.get(plan_page(organization), {"to": "free:month"})
        form = {"to": "free:month", "token": shown.context["preview"].token}

        response = client.post(plan_page(organization), form, follow=True)

        assert said(response) == "Acme moves to Free when the period ends."
        assert find_standing(organization).cancels_at is not None
        assert said(do(client, organization, "undo-change")) == "The change was taken back."
        assert find_standing(organization).cancels_at is None

    def test_only_what_was_shown_is_done(self, subscribed, organization, plans):
        client = staff(SEE, MANAGE)

        response = client.post(plan_page(organization), {"to": "team:month"}, follow=True)

        assert "Nothing was changed: look again." in said(response)
        assert Entitlement.objects.get().plan == plans.pro

    @pytest.mark.parametrize("to", ["nonsense", "team:week", "nonsense:month", ""])
    def test_nonsense_is_not_found(self, subscribed, organization, to):
        assert staff(SEE, MANAGE).get(plan_page(organization), {"to": to}).status_code == 404

    def test_what_cannot_be_is_said(self, subscribed, organization):
        response = staff(SEE, MANAGE).get(plan_page(organization), {"to": "pro:month"}, follow=True)

        assert "You are on Pro" in said(response)

    def test_what_was_done_is_in_the_customer_s_history(self, subscribed, organization):
        client = staff(SEE, MANAGE)
        do(client, organization, "end-with-period")

        page = client.get(reverse("admin:billing_billingcustomer_history", args=[organization.pk]))

        assert "The subscription ends on" in page.text
        assert BillingCustomer.objects.count() == 1
