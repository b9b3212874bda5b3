"""Staff set Stripe up, look at how it fares and see to its complaints, each only where they may."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from djstripe import models as djstripe

from accounts.models import User
from billing.models import BillingSettings, EventDestination, SetupRun, ThinEvent
from billing.overview import overview
from billing.setting_up import set_up
from billing.stripe.client import get_client
from billing.thin_events import fetch_details, unacknowledged_meter_errors
from tests.billing.cast import deliver
from tests.billing.test_setting_up import HEAD_OFFICE
from tests.billing.test_thin_endpoint import reject_usage

pytestmark = pytest.mark.django_db

STRIPE = "/admin/billing/setuprun/"
SET_UP = f"{STRIPE}set-up/"
BACKEND = "allauth.account.auth_backends.AuthenticationBackend"


@pytest.fixture
def staff(client: Client) -> Any:
    """Sign in as staff with these permissions and no others."""

    def sign_in(*codenames: str) -> Client:
        user = User.objects.create_user("staff@tollgate.example", "correct horse battery", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        assert user.user_permissions.count() == len(codenames)
        client.force_login(user, backend=BACKEND)
        return client

    return sign_in


@pytest.fixture
def error(sandbox: Any, plans: Any) -> ThinEvent:
    """A meter error that came in, with its details."""
    set_up()
    deliver(sandbox, [reject_usage(sandbox)])
    event = ThinEvent.objects.get()
    fetch_details(event.id)
    event.refresh_from_db()
    return event


def page_of(event: ThinEvent) -> str:
    return reverse("admin:billing_thinevent_change", args=[quote(event.pk)])


def facts(name: str) -> dict[str, tuple[str, str]]:
    (part,) = [part for part in overview() if part.name == name]
    return {fact.label: (fact.value, fact.tone) for fact in part.facts}


def test_staff_set_stripe_up_without_a_shell(admin_client, sandbox, plans):
    before = admin_client.get(STRIPE).text
    assert "not set up yet" in before
    assert "Nothing has been set up yet." in before

    page = admin_client.post(SET_UP, follow=True).text

    assert "Stripe is set up" in page
    assert sandbox.account_id in page
    assert "New prices: tollgate_pro_month_usd" in page
    run = SetupRun.objects.get()
    assert (run.by.is_superuser, run.has_failed) == (True, False)
    assert len(list(sandbox.every("webhook_endpoint"))) == 1
    assert "Nothing had to be changed" in admin_client.post(SET_UP, follow=True).text


def test_a_set_up_that_fails_says_what_failed(admin_client, sandbox, plans):
    sandbox.faults.add("timeout_before", path="/v1/billing_portal/*")

    page = admin_client.post(SET_UP, follow=True).text

    assert "The set-up is not complete" in page
    assert "run it again to go on" in page


def test_looking_needs_one_permission_and_doing_another(staff, sandbox, plans):
    client = staff("view_setuprun")

    assert client.get(STRIPE).status_code == 200
    assert "Set up</button>" not in client.get(STRIPE).text
    assert client.post(SET_UP).status_code == 403
    assert client.post(f"{STRIPE}do/replace-endpoint/", {"id": "we_1"}).status_code == 403
    assert list(sandbox.every("webhook_endpoint")) == []


def test_staff_without_the_permission_see_nothing_of_it(staff, sandbox, plans):
    client = staff("view_plan")

    assert client.get(STRIPE).status_code == 403
    assert client.get("/admin/billing/billingsettings/").status_code == 403
    assert client.get(reverse("admin:billing_thinevent_changelist")).status_code == 403


def test_whoever_may_set_up_may(staff, sandbox, plans):
    client = staff("view_setuprun", "set_up_stripe")

    assert client.post(SET_UP).status_code == 302
    assert client.get(SET_UP).status_code == 403  # A link must not do it.
    assert SetupRun.objects.get().by.email == "staff@tollgate.example"


def test_customers_do_not_get_in(browser, sandbox):
    assert browser.get(STRIPE).status_code == 302
    assert browser.post(SET_UP).status_code == 302
    assert not SetupRun.objects.exists()


def test_the_page_says_how_each_part_fares(sandbox, plans, webhook_endpoint):
    set_up()
    get_client().v1.customers.create({"email": "ada@example.com"})
    get_client().v1.products.create({"name": "Another"})
    get_client().v1.products.update("tollgate_pro", {"name": "Professional"})
    pending = len({delivery.event_id for delivery in sandbox.webhooks.pending()})
    assert pending > 0
    assert facts("webhooks")["Pending at Stripe"] == (f"{pending} events", "")
    assert facts("webhooks")["Last received"] == ("never", "")

    assert set(deliver(sandbox)) == {200}

    webhooks = facts("webhooks")
    assert webhooks["Endpoint"] == (webhook_endpoint.id, "")
    assert webhooks["Pending at Stripe"] == ("0 events", "")
    assert webhooks["At Stripe"] == ("enabled", "good")
    assert str(datetime.now(UTC).year) in webhooks["Last received"][0]
    assert facts("key")["Account"] == (f"{sandbox.account_id} Sandbox", "")
    assert facts("key")["Mode"] == ("test", "")
    assert facts("thin")["At Stripe"] == ("enabled", "good")
    assert facts("portal")["At Stripe"] == ("as it should be", "good")
    assert facts("tax") == {"Automatic tax": ("off", "")}


def test_the_page_shows_what_is_wrong(sandbox, plans):
    set_up()
    endpoint, destination = djstripe.WebhookEndpoint.objects.get(), EventDestination.objects.get()
    client = get_client()
    client.v1.webhook_endpoints.update(endpoint.id, {"disabled": True})
    client.v2.core.event_destinations.delete(destination.id)
    configuration = BillingSettings.load().portal_configuration_id
    client.v1.billing_portal.configurations.update(configuration, {"active": False})
    BillingSettings.objects.update(automatic_tax=True)

    assert facts("webhooks")["At Stripe"] == ("disabled: set up again", "bad")
    assert facts("thin")["At Stripe"] == ("gone: set up again", "bad")
    assert facts("portal")["At Stripe"] == ("gone or changed: set up again", "bad")
    assert facts("tax")["Stripe Tax"][1] == "bad"

    client.v1.webhook_endpoints.update(endpoint.id, {"disabled": False, "enabled_events": ["invoice.paid"]})
    assert facts("webhooks")["At Stripe"][0].startswith("asks for other events")


def test_webhooks_that_failed_are_counted(sandbox, plans, webhook_endpoint):
    djstripe.WebhookEventTrigger.objects.create(
        remote_ip="127.0.0.1", headers={}, valid=True, exception="Broken", webhook_endpoint=webhook_endpoint
    )

    assert facts("webhooks")["Failed in 7 days"] == ("1", "bad")


def test_the_page_comes_up_where_stripe_does_not_answer_and_waits_once(admin_client, sandbox, plans):
    set_up()
    sandbox.requests.clear()
    sandbox.faults.add("timeout_before")

    page = admin_client.get(STRIPE)

    assert page.status_code == 200
    assert "Stripe could not be asked" in page.text
    assert djstripe.WebhookEndpoint.objects.get().id in page.text
    assert len({line.path for line in sandbox.requests}) == 1


def test_no_secret_is_on_the_page(admin_client, sandbox, plans, settings):
    set_up()
    settings.STRIPE_WEBHOOK_SECRET = "whsec_thatTheOperatorGave0123456789"

    page = admin_client.get(STRIPE).text

    assert djstripe.WebhookEndpoint.objects.get().secret not in page
    assert EventDestination.objects.get().secret not in page
    assert settings.STRIPE_SECRET_KEY not in page
    assert settings.STRIPE_WEBHOOK_SECRET not in page


def test_staff_replace_the_endpoint_once_however_often_the_form_is_sent(admin_client, sandbox, plans):
    set_up()
    old = djstripe.WebhookEndpoint.objects.get().id
    for _ in range(2):
        page = admin_client.post(f"{STRIPE}do/replace-endpoint/", {"id": old}, follow=True).text
        assert "is the webhook endpoint now" in page

    assert len(list(sandbox.every("webhook_endpoint"))) == 2
    assert facts("webhooks")["Being replaced"] == (old, "")
    assert facts("webhooks")["Endpoint"][0] != old


def test_staff_replace_the_destination_and_have_a_test_event_sent(admin_client, sandbox, plans):
    set_up()
    old = EventDestination.objects.get().id
    admin_client.post(f"{STRIPE}do/replace-destination/", {"id": old})
    new = EventDestination.objects.get(replaced_at=None).id
    assert new != old

    admin_client.post(f"{STRIPE}do/ping/", {"id": new})

    assert set(deliver(sandbox)) == {200}
    assert ThinEvent.objects.get().type == "v2.core.event_destination.ping"


def test_a_deed_that_stripe_refuses_is_shown_and_an_unknown_one_refused(admin_client, sandbox, plans):
    page = admin_client.post(f"{STRIPE}do/ping/", {"id": "ed_none"}, follow=True).text
    assert "No such event destination" in page
    assert admin_client.post(f"{STRIPE}do/everything/").status_code == 403


def test_a_runs_own_page_keeps_what_was_done(admin_client, sandbox, plans):
    run = set_up()
    page = admin_client.get(reverse("admin:billing_setuprun_change", args=[run.pk])).text
    assert "Webhook endpoint [changed]" in page


SETTINGS = "/admin/billing/billingsettings/1/change/"


def test_billing_settings_are_one_form_that_is_always_there(admin_client):
    assert admin_client.get("/admin/billing/billingsettings/").headers["Location"] == SETTINGS
    assert admin_client.get("/admin/billing/billingsettings/add/").status_code == 403
    assert admin_client.post("/admin/billing/billingsettings/1/delete/").status_code == 403

    admin_client.post(
        SETTINGS, {"collect_tax_ids": "on", "retry_days": "3, 5 7", "after_retries": "unpaid"}, follow=True
    )

    row = BillingSettings.load()
    assert (row.retry_days, row.after_retries) == ([3, 5, 7], "unpaid")
    assert (row.collect_tax_ids, row.allow_promotion_codes) == (True, False)
    assert 'value="3, 5, 7"' in admin_client.get(SETTINGS).text


@pytest.mark.parametrize(
    ("days", "said"),
    [("soon", "as numbers"), ("5, 3", "must rise"), ("0", "after the failed payment"), ("3, 3", "must rise")],
)
def test_retry_days_that_make_no_sense_are_refused_in_the_form(admin_client, days, said):
    page = admin_client.post(SETTINGS, {"retry_days": days, "after_retries": "unpaid"})

    assert page.status_code == 200
    assert said in page.text
    assert BillingSettings.load().retry_days == []


def test_turning_automatic_tax_on_says_at_once_what_stripe_still_wants(admin_client, sandbox):
    fields = {"automatic_tax": "on", "after_retries": "canceled"}

    page = admin_client.post(SETTINGS, fields, follow=True).text
    assert "the address of your head office" in page
    assert BillingSettings.load().automatic_tax

    get_client().v1.tax.settings.update(HEAD_OFFICE)
    BillingSettings.objects.update(automatic_tax=False)
    assert "has no registration" in admin_client.post(SETTINGS, fields, follow=True).text


def test_staff_go_on_without_tax_where_stripe_is_not_ready_for_it(admin_client, sandbox, plans):
    BillingSettings.objects.update_or_create(pk=1, defaults={"automatic_tax": True})
    page = admin_client.post(SET_UP, follow=True).text
    assert "until then nobody can subscribe" in page
    assert "Turn automatic tax off and set up" in page

    page = admin_client.post(SET_UP, {"without_tax": "1"}, follow=True).text

    assert not BillingSettings.load().automatic_tax
    assert "Turn automatic tax off and set up" not in page


def test_meter_errors_are_listed_with_what_stripe_says(admin_client, error):
    page = admin_client.get(reverse("admin:billing_thinevent_changelist")).text
    assert "Usage rejected" in page
    assert "Requests" in page
    assert "There is 1 invalid event" in page

    page = admin_client.get(page_of(error)).text
    assert "report-1" in page
    assert "meter_event_customer_not_found" in page


def test_the_list_asks_as_often_for_many_errors_as_for_one(admin_client, error):
    listing = reverse("admin:billing_thinevent_changelist")
    admin_client.get(listing)
    with CaptureQueriesContext(connection) as for_one:
        admin_client.get(listing)
    for number in range(20):
        ThinEvent.objects.create(
            id=f"evt_{number}", type=error.type, created=error.created, related_id=error.related_id
        )

    with CaptureQueriesContext(connection) as for_many:
        assert "Requests" in admin_client.get(listing).text

    assert len(for_many) == len(for_one)


def test_staff_acknowledge_an_error_with_a_note(admin_client, error):
    (path,) = re.findall(r'href="([^"]+/acknowledge/?)"', admin_client.get(page_of(error)).text)
    assert "What was done about it" in admin_client.get(path).text
    assert "This field is required" in admin_client.post(path, {"note": " "}).text
    assert unacknowledged_meter_errors().exists()

    assert admin_client.post(path, {"note": "Billed by hand."}).headers["Location"] == page_of(error)

    error.refresh_from_db()
    assert (error.note, error.acknowledged_by.is_superuser) == ("Billed by hand.", True)
    assert not unacknowledged_meter_errors().exists()
    assert "acknowledged already" in admin_client.get(path).text


def test_staff_acknowledge_several_at_once(admin_client, error):
    other = ThinEvent.objects.create(
        id="evt_other", type="v1.billing.meter.no_meter_found", created=error.created
    )
    chosen = {"action": "acknowledge_selected", "_selected_action": [error.pk, other.pk]}
    listing = reverse("admin:billing_thinevent_changelist")
    assert "What was done about it" in admin_client.post(listing, chosen).text

    admin_client.post(listing, chosen | {"note": "Both are test data."})

    assert set(ThinEvent.objects.values_list("note", flat=True)) == {"Both are test data."}


def test_acknowledging_needs_its_permission(staff, error):
    client = staff("view_thinevent")
    path = reverse("admin:billing_thinevent_acknowledge_one", args=[quote(error.pk)])

    assert client.get(reverse("admin:billing_thinevent_changelist")).status_code == 200
    assert client.post(path, {"note": "Never mind."}).status_code == 403
    assert unacknowledged_meter_errors().exists()


def test_nobody_writes_thin_events_by_hand(admin_client, error):
    assert admin_client.get(reverse("admin:billing_thinevent_add")).status_code == 403
    delete = reverse("admin:billing_thinevent_delete", args=[quote(error.pk)])
    assert admin_client.post(delete).status_code == 403
