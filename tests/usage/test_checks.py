"""Each thing that can be wrong with usage on its way to Stripe: broken by hand, seen by name, mended, and gone."""

from datetime import timedelta
from typing import Any

import pytest

from accounts import clock
from accounts.models import Organization
from billing import doctor
from billing.models import Meter
from billing.stripe.client import get_client
from billing.stripe.customers import ensure_customer
from tests.billing.cast import publish_all
from tests.billing.doctoring import found, mend, only
from tests.billing.troubles import move, sandbox_time
from tests.usage.cast import make_event
from usage import ledger, reports
from usage.models import MeterReport, UsageRollup
from usage.tasks import report_usage

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
def hands(sandbox):
    with clock.standing_at(sandbox_time(sandbox)) as hands:
        yield hands


@pytest.fixture
def customer(sandbox, hands, organization, drain) -> Organization:
    """Acme, a customer, with Stripe's meter published."""
    publish_all()
    ensure_customer(organization)
    return organization


def use(organization: Organization, *, units: int, meter: str = "requests") -> None:
    ledger.store([make_event(organization_id=organization.pk, at=clock.now(), units=units, meter=meter)])


def counted(organization: Organization) -> int:
    """Return what Stripe's meter holds for the organization."""
    meter = Meter.objects.get(slug="requests")
    summaries = get_client().v1.billing.meters.event_summaries.list(
        meter.stripe_meter_id,
        {
            "customer": ensure_customer(organization).id,
            "start_time": int((clock.now() - 60 * DAY).timestamp()) // 60 * 60,
            "end_time": int((clock.now() + HOUR).timestamp()) // 60 * 60,
        },
    )
    return sum(int(each.aggregated_value) for each in summaries.auto_paging_iter())


def send_without_an_answer(sandbox: Any, *, arrives: bool) -> None:
    kind = "timeout_after" if arrives else "timeout_before"
    fault = sandbox.faults.add(kind, path="/v1/billing/meter_events")
    report_usage()
    sandbox.faults.remove(fault.id)
    assert MeterReport.objects.get(state=MeterReport.State.UNKNOWN)


def test_where_all_was_reported_nothing_is_found(sandbox, hands, customer):
    use(customer, units=5)
    report_usage()
    move(sandbox, hands, 3 * DAY)

    checks = ["stuck-reports", "unanswered-reports", "rejected-reports", "ageing-usage"]

    assert doctor.examine(checks) == []


def test_a_report_that_nobody_sent_for_20_hours_is_sent(sandbox, hands, customer):
    use(customer, units=5)
    reports.make_reports()
    move(sandbox, hands, 19 * HOUR)
    assert found("stuck-reports") == []
    move(sandbox, hands, 2 * HOUR)

    finding = only("stuck-reports")

    assert finding.sentence.startswith("Reports of 5 calls of Acme, the oldest of ")
    mend(finding)
    assert counted(customer) == 5


def test_a_report_whose_sender_died_long_ago_is_in_doubt_and_not_sent_blindly(sandbox, hands, customer):
    use(customer, units=5)
    reports.make_reports()
    reports.claim(MeterReport.objects.get().pk)
    move(sandbox, hands, 21 * HOUR)

    mend(only("stuck-reports"))

    assert counted(customer) == 0
    assert only("unanswered-reports").fix.sentence == "Send them again."


def test_a_report_without_an_answer_is_never_sent_again_unasked(sandbox, hands, customer):
    use(customer, units=5)
    send_without_an_answer(sandbox, arrives=True)
    move(sandbox, hands, 21 * HOUR)

    finding = only("unanswered-reports")
    treatment = doctor.mend([finding])

    assert (treatment.mended, treatment.failed) == ([], [])
    assert only("unanswered-reports").key == finding.key
    assert counted(customer) == 5


@pytest.mark.parametrize(
    ("arrives", "conclusion"),
    [(True, ("12", "Note that they arrived.")), (False, ("7", "Send them again."))],
)
def test_what_stripe_counted_tells_a_person_what_to_do(sandbox, hands, customer, arrives, conclusion):
    use(customer, units=7)
    report_usage()
    use(customer, units=5)
    send_without_an_answer(sandbox, arrives=arrives)
    move(sandbox, hands, 2 * DAY)  # Stripe may have forgotten the identifier by now.

    finding = only("unanswered-reports")

    count, way_out = conclusion
    assert f"Stripe has counted {count}; 7 were taken for certain, 5 are in doubt." in finding.sentence
    assert (finding.fix.sentence, finding.fix.is_safe) == (way_out, False)
    doctor.treat(finding)
    assert found("unanswered-reports") == []
    assert counted(customer) == 12


def test_what_was_used_in_the_period_before_and_dated_in_this_one_is_no_sign_of_an_arrival(
    sandbox, hands, customer
):
    now = clock.now()
    of_before, of_now = (
        make_event(organization_id=customer.pk, at=now, units=5, period_start=start)
        for start in (now - 20 * DAY, now - HOUR)
    )
    ledger.store([of_before])
    report_usage()
    ledger.store([of_now])
    send_without_an_answer(sandbox, arrives=False)
    move(sandbox, hands, 2 * DAY)

    finding = only("unanswered-reports")

    assert "Stripe has counted 5; 5 were taken for certain, 5 are in doubt." in finding.sentence
    assert finding.fix.sentence == "Send them again."


def test_figures_that_fit_neither_way_are_left_to_a_person(sandbox, hands, customer):
    use(customer, units=5)
    send_without_an_answer(sandbox, arrives=False)
    meter = Meter.objects.get(slug="requests")
    get_client().v1.billing.meter_events.create(
        {
            "event_name": meter.event_name,
            "payload": {"stripe_customer_id": ensure_customer(customer).id, "value": "3"},
            "identifier": "of-somebody-else",
        }
    )
    move(sandbox, hands, 21 * HOUR)

    finding = only("unanswered-reports")

    assert finding.fix is None
    assert "fit neither way" in finding.advice


def test_a_rejected_report_is_named_with_stripe_s_words_and_can_be_sent_again(sandbox, hands, customer):
    use(customer, units=5)
    reports.make_reports()
    report = MeterReport.objects.get()
    MeterReport.objects.update(state=MeterReport.State.REJECTED, last_error="No such meter.")

    finding = only("rejected-reports")

    assert finding.sentence.endswith("were refused by Stripe: No such meter.")
    assert finding.fix is not None
    assert not finding.fix.is_safe
    doctor.treat(finding)
    report.refresh_from_db()
    assert (report.state, counted(customer)) == (MeterReport.State.SENT, 5)


def test_usage_that_was_never_put_in_a_report_is_reported_before_it_is_too_old(sandbox, hands, customer):
    use(customer, units=5)
    move(sandbox, hands, 29 * DAY)
    assert found("ageing-usage") == []
    move(sandbox, hands, 2 * DAY)
    use(customer, units=2)

    finding = only("ageing-usage")

    assert finding.sentence == "5 requests of Acme have not reached Stripe; the oldest are 31 days old."
    assert finding.advice == ""
    mend(finding)
    assert counted(customer) == 7


def test_a_report_that_waits_too_long_is_ageing_too(sandbox, hands, customer):
    use(customer, units=5)
    reports.make_reports()
    move(sandbox, hands, 31 * DAY)

    mend(only("ageing-usage"))

    assert counted(customer) == 5


def test_usage_that_is_too_old_is_said_to_need_an_invoice_item(sandbox, hands, customer):
    use(customer, units=5)
    move(sandbox, hands, 36 * DAY)

    finding = only("ageing-usage")

    assert "invoice item" in finding.advice
    doctor.mend([finding])
    assert UsageRollup.objects.unreported().count() == 0
    finding = only("rejected-reports")
    assert finding.sentence.endswith("are on no invoice: Stripe takes usage of the last 35 days.")
    assert finding.fix is None


def test_of_what_a_deleted_meter_counted_it_is_said_that_nobody_can_report_it(sandbox, hands, customer):
    use(customer, units=5, meter="gone")
    move(sandbox, hands, 36 * DAY)

    finding = only("ageing-usage")

    assert finding.advice.startswith("There is no meter gone any more")
    assert finding.fix is None
