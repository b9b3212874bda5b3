"""Staff see what differs first and why, check it anew, repair it, and give credits: each only where they may."""

import re

import pytest
from django.contrib.admin.models import LogEntry

from accounts.models import Organization
from tests.billing.staffing import said, staff
from tests.usage.proving import (
    APRIL,
    MAY,
    copy_report,
    event_at_stripe,
    of_april,
    only_cause,
    use_in,
    use_late,
)
from usage.checks.proofs import usage_proof
from usage.models import Correction, Proof, UsageRollup
from usage.proof import prove
from usage.proof.telling import list_proofs
from usage.repair import repair
from usage.tasks import report_usage

pytestmark = pytest.mark.django_db
LIST = "/admin/usage/proof/"
SEES = "view_proof"


def page_of(proof: Proof) -> str:
    return f"{LIST}{proof.pk}/change/"


def do(client, proof: Proof, deed: str, **form):
    return client.post(f"{LIST}{proof.pk}/do/{deed}/", form, follow=True)


@pytest.fixture
def late(april) -> Proof:
    use_late(april, units=12)
    report_usage()
    return of_april(april)


@pytest.fixture
def doubled(overbilled) -> Proof:
    return of_april(overbilled)


def test_what_differs_comes_first_with_its_units(april, late):
    use_in(april, MAY, units=3, period_start=MAY)
    prove(april.organization)

    page = staff(SEES).get(LIST)

    assert [row.status for row in page.context["cl"].result_list] == ["differs", "running"]
    assert "12 missing on invoices" in page.text
    only = staff(SEES).get(f"{LIST}?status__exact=running").context["cl"].result_list
    assert [row.status for row in only] == ["running"]


def test_the_page_has_the_figures_the_causes_and_the_way_to_the_rest(late):
    client = staff(SEES, "view_billingcustomer", "view_meterreport", "view_usagerollup", "view_correction")

    page = client.get(page_of(late)).text

    assert re.search(r'id="ledger">142<', page)
    assert re.search(r'id="invoiced">130<', page)
    assert "before 12 units were reported" in page
    links = re.findall(r'<li><a [^>]*href="([^"]+)"', page)
    assert len(links) == 4
    for link in links:
        assert client.get(link.replace("&amp;", "&")).status_code == 200


def test_checking_counts_anew_and_says_what_came_of_it(april, late):
    Proof.objects.update(status="proven", causes=[])

    answer = do(staff(SEES, "repair"), late, "check")

    assert said(answer) == "Counted anew: differs."
    assert Proof.objects.get().status == "differs"
    assert "Proof check" in LogEntry.objects.get().change_message


def test_repairing_charges_where_one_may_correct_and_only_there(april, late):
    do(staff(SEES, "repair"), late, "repair")
    assert not Correction.objects.exists()

    answer = do(staff(SEES, "repair", "make_correction"), late, "repair")

    assert "Charge $1.20 on the next invoice" in said(answer)
    assert Correction.objects.get().amount == 120
    assert Proof.objects.get().status == "proven"


def test_repairing_mends_counts(april):
    UsageRollup.objects.filter(units=30).update(units=29, reported_units=29)
    proof = of_april(april)

    answer = do(staff(SEES, "repair"), proof, "repair")

    assert "anew from the ledger: +1 unit" in said(answer)


def test_a_credit_is_given_by_whoever_says_yes_to_what_was_shown(doubled):
    client = staff(SEES, "make_correction")
    page = client.get(page_of(doubled)).text
    assert "Credit $12 on the next invoice" in page
    form = dict(re.findall(r'name="(after|units|amount)" value="([^"]+)"', page))
    assert form == {"after": "0", "units": "-120", "amount": "-1200"}

    do(client, doubled, "correct", **form)

    made = Correction.objects.get()
    assert (made.amount, made.state) == (-1200, "sent")
    assert made.made_by.endswith("@staff.example")
    assert "Credit it" not in client.get(page_of(doubled)).text


def test_a_credit_of_other_figures_than_were_shown_is_not_given(doubled):
    answer = do(staff(SEES, "make_correction"), doubled, "correct", after="0", units="-100", amount="-1000")

    assert said(answer) == "The figures have changed. Nothing was done: look again."
    assert not Correction.objects.exists()


def test_a_form_sent_twice_gives_the_credit_once(doubled):
    client = staff(SEES, "make_correction")
    form = {"after": "0", "units": "-120", "amount": "-1200"}
    for _ in range(2):
        do(client, doubled, "correct", **form)

    assert Correction.objects.count() == 1


class TestAccepting:
    @pytest.fixture
    def stray(self, acme) -> Proof:
        """April on Free, to whose meter somebody else reported 9 units: nothing can take them off."""
        event_at_stripe(acme, units=9)
        use_in(acme, APRIL, units=5)
        report_usage()
        acme.wait_until(MAY)
        acme.wait(days=1)
        acme.see()
        return of_april(acme)

    def accept(self, proof: Proof, **form):
        page = staff(SEES, "accept").get(page_of(proof))
        form = {"seen": page.context["snapshot"], "reason": "Of a test of ours.", **form}
        return do(staff(SEES, "accept"), proof, "accept", **form)

    def test_what_nothing_can_mend_is_accepted_with_a_reason(self, acme, stray):
        assert stray.status == "differs"
        assert said(self.accept(stray)) == "Accepted as it is: Of a test of ours."

        proof = of_april(acme)
        assert (proof.status, proof.accepted_reason) == ("accepted", "Of a test of ours.")
        assert proof.accepted_by
        assert proof.accepted_figures["stripe"] == 14
        assert repair(acme.organization).left == []
        assert not list(usage_proof())
        assert "Of a test of ours." in staff(SEES).get(page_of(proof)).text
        assert LogEntry.objects.filter(change_message__contains="Of a test of ours.").exists()

    def test_it_differs_again_once_a_figure_changes(self, acme, stray):
        self.accept(stray)
        assert of_april(acme).status == "accepted"
        event_at_stripe(acme, units=1, timestamp=int(APRIL.timestamp()))

        proof = of_april(acme)

        assert proof.status == "differs"
        assert only_cause(proof)["units"] == 10

    def test_what_was_not_looked_at_is_not_accepted(self, acme, stray):
        seen = staff(SEES, "accept").get(page_of(stray)).context["snapshot"]
        event_at_stripe(acme, units=1, timestamp=int(APRIL.timestamp()))

        answer = self.accept(stray, seen=seen)

        assert said(answer) == "The figures have changed. Nothing was done: look again."
        assert of_april(acme).status == "differs"

    @pytest.mark.parametrize(
        ("form", "answer"),
        [
            ({"reason": "  "}, "Say why it is accepted."),
            ({"seen": "?"}, "It is not said what is accepted: look again."),
            ({"seen": "[" * 100_000}, "It is not said what is accepted: look again."),
            ({"reason": "A\0 test."}, "Accepted as it is: A test."),
        ],
    )
    def test_a_reason_and_the_figures_are_asked_for(self, stray, form, answer):
        assert said(self.accept(stray, **form)) == answer

    def test_what_is_accepted_is_charged_to_nobody(self, april, late):
        self.accept(late)

        assert repair(april.organization).done == []
        assert not Correction.objects.exists()

    def test_a_period_that_runs_is_not_accepted(self, subscribed):
        subscribed.use(5)
        report_usage()
        event_at_stripe(subscribed, units=9)
        proof = of_april(subscribed)

        assert said(self.accept(proof)) == "The period is not over: its figures will change."

    def test_the_customer_is_told_that_it_was_looked_into(self, acme, stray):
        self.accept(stray)

        (told,) = list_proofs(acme.organization).proofs
        assert told.message.startswith("The figures do not agree. We looked into it")


@pytest.mark.parametrize("deed", ["check", "repair", "correct", "accept"])
def test_whoever_may_only_look_does_nothing(late, deed):
    assert do(staff(SEES), late, deed).status_code == 403
    assert (
        "<button" not in staff(SEES).get(page_of(late)).text.partition("Causes")[2].partition("Elsewhere")[0]
    )


@pytest.mark.parametrize("deed", ["check", "repair", "correct", "accept"])
def test_a_deed_is_never_done_by_following_a_link(late, deed):
    client = staff(SEES, "repair", "make_correction", "accept")

    assert client.get(f"{LIST}{late.pk}/do/{deed}/").status_code == 403


def test_without_permission_there_is_no_page(late):
    client = staff("view_meterreport")

    assert client.get(LIST).status_code == 403
    assert client.get(page_of(late)).status_code == 403


def test_nothing_is_edited_by_hand(late):
    client = staff(SEES, "change_proof", "delete_proof", "add_proof", "change_correction")

    assert client.get(f"{LIST}add/").status_code == 403
    assert client.post(f"{LIST}{late.pk}/delete/", {"post": "yes"}).status_code == 403
    assert client.get("/admin/usage/correction/add/").status_code == 403


def test_a_refused_correction_is_sent_again_from_the_list(late, april):
    do(staff(SEES, "repair", "make_correction"), late, "repair")
    Correction.objects.update(state="failed", last_error="No such customer.")
    (made,) = Correction.objects.all()
    client = staff("view_correction", "make_correction")

    answer = client.post(
        "/admin/usage/correction/", {"action": "send_again", "_selected_action": [str(made.pk)]}, follow=True
    )

    assert "Stripe took 1 of 1." in said(answer)
    assert len(april.api.invoice_items.list({"customer": april.customer_id}).data) == 1


def test_a_doubled_report_is_named_on_the_page(april):
    first, second = copy_report(units=30, sent=False)
    proof = of_april(april)

    page = staff(SEES).get(page_of(proof)).text

    assert first.identifier in page
    assert second.identifier in page
    assert isinstance(april.organization, Organization)
