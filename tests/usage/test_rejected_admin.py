"""Staff look at the outbox and send again what Stripe rejected, where they may."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts import clock
from billing.models import Meter
from billing.stripe.catalog import publish_meter
from billing.stripe.customers import ensure_customer
from tests.billing.staffing import said, staff
from tests.usage.outbox import counted, use
from usage import reports
from usage.models import MeterReport
from usage.tasks import report_usage

pytestmark = pytest.mark.django_db

State = MeterReport.State
LIST = reverse("admin:usage_meterreport_changelist")


@pytest.fixture
def rejected(sandbox, organization):
    """A report of Acme's that Stripe took and does not count."""
    publish_meter(Meter.objects.get(slug="requests"))
    ensure_customer(organization)
    use(organization, units=1234)
    reports.make_reports()
    MeterReport.objects.update(
        state=State.REJECTED, last_error="No <b>such</b> meter.", refused_at=clock.now()
    )
    return MeterReport.objects.get()


@pytest.fixture
def helper():
    return staff("view_meterreport", "change_meterreport")


def ask(client: Any, *chosen: MeterReport, **form: str) -> Any:
    data = {"action": "send_again_selected", "_selected_action": [str(each.pk) for each in chosen], **form}
    return client.post(LIST, data, follow=True)


def test_sending_again_is_asked_about_first(helper, organization, rejected):
    page = ask(helper, rejected)

    assert "These 1,234 units go to Stripe once more" in page.content.decode()
    assert "No &lt;b&gt;such&lt;/b&gt; meter." in page.content.decode()
    assert MeterReport.objects.get().state == State.REJECTED


def test_what_was_confirmed_is_sent_under_a_new_identifier(helper, organization, rejected):
    assert said(ask(helper, rejected, confirmed="1")) == "Back in line: 1. They are sent within a minute."
    assert report_usage() == 1

    report = MeterReport.objects.get()
    assert (report.state, report.identifier) == (State.SENT, f"{rejected.identifier}.1")
    assert counted(organization) == 1234


@pytest.mark.parametrize("address", [LIST, reverse("admin:usage_correction_changelist")])
def test_a_choice_of_what_is_no_row_at_all_is_refused(admin_client, rejected, address):
    deed = "send_again_selected" if address == LIST else "send_again"
    form = {"action": deed, "_selected_action": "x", "index": "0", "confirmed": "1"}

    assert said(admin_client.post(address, form, follow=True)) == "“x” is not a valid UUID."
    assert MeterReport.objects.get().state == State.REJECTED


def test_confirming_twice_sends_it_once(helper, organization, rejected):
    ask(helper, rejected, confirmed="1")
    report_usage()
    ask(helper, rejected, confirmed="1")

    assert report_usage() == 0
    assert counted(organization) == 1234


def test_all_of_a_list_of_very_many_can_be_sent_again(helper, rejected):
    hours = [rejected.hour - timedelta(hours=n) for n in range(1, 1100)]
    MeterReport.objects.bulk_create(
        MeterReport(
            organization=rejected.organization,
            meter=rejected.meter,
            period_start=rejected.period_start,
            hour=hour,
            units=1,
            state=State.REJECTED,
            refused_at=clock.now(),
        )
        for hour in hours
    )

    page = ask(helper, rejected, select_across="1").content.decode()

    assert "These 2,333 units go to Stripe once more" in page
    assert "and 900 more" in page
    hidden = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page)
    form: dict[str, list[str]] = {}
    for name, value in hidden:
        form.setdefault(name, []).append(value)
    assert said(helper.post(LIST, form, follow=True)) == (
        "Back in line: 1100. They are sent within a minute."
    )
    assert not MeterReport.objects.filter(state=State.REJECTED).exists()


@pytest.mark.parametrize(
    "change",
    [
        {"state": State.SENT},
        {"state": State.UNKNOWN},  # Whether it arrived is not for a list to decide.
        {"state": State.PENDING},
        {"rejection_code": MeterReport.TOO_OLD},
    ],
)
def test_nothing_else_can_be_sent_again(helper, rejected, change):
    MeterReport.objects.update(**change)
    before = MeterReport.objects.values().get()

    ask(helper, rejected, confirmed="1")

    assert "None of these was rejected and can be sent again." in ask(helper, rejected).content.decode()
    assert MeterReport.objects.values().get() == before


def test_who_may_only_look_can_send_nothing(rejected):
    client = staff("view_meterreport")

    assert "send_again_selected" not in client.get(LIST).content.decode()
    ask(client, rejected, confirmed="1")
    assert MeterReport.objects.get().state == State.REJECTED


def test_customers_do_not_get_in(browser, rejected):
    assert browser.get(LIST).status_code == 302


def test_totals_are_of_what_is_listed(helper, organization, rejected):
    use(organization, units=5)
    report_usage()
    everything = helper.get(LIST).context["totals"]
    some = helper.get(LIST, {"state__exact": "sent"}).context["totals"]

    assert [(each["state"], each["reports"], each["units"]) for each in everything] == [
        ("sent", 1, 5),
        ("rejected", 1, 1234),
    ]
    assert [(each["state"], each["units"]) for each in some] == [("sent", 5)]


@pytest.mark.parametrize(
    ("noticed", "is_listed"),
    [("counted-not", True), ("too-old", False), ("settled", False), ("resent", False)],
)
def test_the_list_is_filtered_by_what_became_of_a_report(helper, rejected, noticed, is_listed):
    assert helper.get(LIST, {"noticed": noticed}).context["cl"].result_count == is_listed


def test_the_list_asks_as_much_however_long_it_is(helper, organization, rejected):
    def questions() -> int:
        with CaptureQueriesContext(
            connection,
        ) as asked:
            helper.get(LIST)
        return len(asked)

    few = questions()
    for hours in range(20):
        use(organization, units=1, at=clock.now() - timedelta(hours=hours))
        reports.make_reports()

    assert questions() == few


def test_a_report_s_page_links_to_its_organization_and_says_all_of_it(helper, organization, rejected):
    page = helper.get(reverse("admin:usage_meterreport_change", args=[rejected.pk])).content.decode()

    assert rejected.identifier in page
    assert "No &lt;b&gt;such&lt;/b&gt; meter." in page
    link = reverse("admin:accounts_organization_change", args=[organization.pk])
    assert link in helper.get(LIST).content.decode()
