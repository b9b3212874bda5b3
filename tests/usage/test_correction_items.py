"""A correction is settled by a paid invoice alone: what its item comes to at Stripe is followed until then."""

import pytest
from djstripe import models as djstripe

from accounts import clock
from billing.doctor import examine
from billing.errors import PaymentDeclined
from billing.stripe.changing import change_plan, undo_change
from tests.billing.acme import CHALLENGES, FAILS
from tests.usage.proving import MAY, of_april, use_late
from usage import corrections
from usage.corrections import following, sending
from usage.models import Correction, Proof
from usage.repair import repair
from usage.tasks import report_usage, send_corrections

pytestmark = pytest.mark.django_db
State = Correction.State


@pytest.fixture
def sent(april) -> Correction:
    """A correction of $1.20 that waits for the next invoice."""
    use_late(april, units=12)
    report_usage()
    repair(april.organization)
    made = Correction.objects.get()
    assert (made.state, made.amount) == (State.SENT, 120)
    april.wait(days=3)
    return made


def charged(acme) -> int:
    """Return the cents of corrections on invoices that are paid, or are to be."""
    lines = [line for each in acme.invoices() if each.status in {"paid", "open"} for line in each.lines.data]
    return sum(line.amount for line in lines if (line.description or "").startswith("Correction"))


def go_on(acme) -> None:
    """Let a month and a half pass, with what runs meanwhile."""
    for _ in range(3):
        acme.wait(days=15)
        acme.see()
        report_usage()
        send_corrections()
        repair(acme.organization)


def decline_an_upgrade(acme, plans) -> None:
    """Try an upgrade with a card that is declined: its invoice takes up what waits, and is voided."""
    acme.pay_with(FAILS)
    with pytest.raises(PaymentDeclined):
        change_plan(acme.organization, plan=plans.team)
    acme.pay_with("pm_card_visa")
    acme.see()


def items_of(acme) -> list[str]:
    """Return the ids of the corrections' items at Stripe."""
    items = acme.api.invoice_items.list({"customer": acme.customer_id, "limit": 100}).data
    return [each.id for each in items if Correction.METADATA_KEY in each.metadata]


class TestWhereAChangeCameToNothing:
    def test_what_the_invoice_of_a_declined_upgrade_took_up_is_on_the_next_one(self, april, plans, sent):
        decline_an_upgrade(april, plans)
        assert april.last_invoice().status == "void"

        send_corrections()

        again = Correction.objects.get()
        assert (again.state, again.round) == (State.SENT, 1)
        assert again.invoice_item != sent.invoice_item
        go_on(april)
        assert (charged(april), of_april(april).status) == (120, Proof.Status.PROVEN)

    def test_so_is_what_that_of_an_upgrade_took_up_that_was_given_up(self, april, plans, sent):
        april.pay_with(CHALLENGES)
        assert change_plan(april.organization, plan=plans.team).payment_url
        undo_change(april.organization)
        april.pay_with("pm_card_visa")
        april.see()

        go_on(april)

        assert (charged(april), of_april(april).status) == (120, Proof.Status.PROVEN)

    def test_that_of_a_subscription_that_was_never_paid_leaves_it_for_an_invoice_of_its_own(
        self, april, plans, sent
    ):
        april.api.subscriptions.cancel(april.subscription_id)
        april.see()
        april.subscribe(plans.pro, payment_behavior="default_incomplete")
        april.wait(days=2)
        april.see()
        assert april.subscription().status == "incomplete_expired"

        go_on(april)

        assert (charged(april), of_april(april).status) == (120, Proof.Status.PROVEN)
        own = Correction.objects.get().own_invoice
        assert april.api.invoices.retrieve(own).billing_reason == "manual"

    def test_it_is_made_anew_each_time(self, april, plans, sent):
        for _ in range(3):
            decline_an_upgrade(april, plans)
            april.wait(hours=2)
            send_corrections()

        go_on(april)

        assert Correction.objects.get().round == 3
        assert (charged(april), of_april(april).status) == (120, Proof.Status.PROVEN)

    @pytest.mark.parametrize("fault", ["timeout_after", "timeout_before", "server_error_after"])
    def test_without_an_answer_it_is_made_anew_once(self, april, plans, sent, sandbox, fault):
        decline_an_upgrade(april, plans)
        trouble = sandbox.faults.add(fault, method="POST", path="/v1/invoiceitems")
        send_corrections()
        sandbox.faults.remove(trouble.id)
        assert Correction.objects.get().state == State.UNKNOWN
        # Stripe may have forgotten the idempotency key by then.
        april.wait(days=2)

        send_corrections()

        assert len(items_of(april)) == 2
        go_on(april)
        assert (charged(april), of_april(april).status) == (120, Proof.Status.PROVEN)

    def test_a_process_that_died_before_it_was_sent_anew_leaves_it_to_be_sent(self, april, plans, sent):
        decline_an_upgrade(april, plans)
        following.follow()
        assert (Correction.objects.get().state, of_april(april).status) == ("pending", Proof.Status.WAITING)

        go_on(april)

        assert (charged(april), of_april(april).status) == (120, Proof.Status.PROVEN)

    def test_it_waits_while_another_correction_of_its_month_is_under_way(self, april, plans, sent):
        use_late(april, units=3)
        report_usage()
        second = corrections.make(corrections.propose(of_april(april)))
        decline_an_upgrade(april, plans)

        following.follow()

        sent.refresh_from_db()
        assert (sent.state, sent.round) == (State.SENT, 0)
        corrections.send(second.pk)
        go_on(april)
        assert (charged(april), of_april(april).status) == (150, Proof.Status.PROVEN)


class TestWhereSomebodyTookItOff:
    def test_an_item_that_went_with_its_customer_is_missing_again(self, april, sent):
        april.api.customers.delete(april.customer_id)
        djstripe.Customer.objects.update(subscriber=None, date_purged=clock.now())

        send_corrections()

        assert Correction.objects.get().state == State.FAILED
        assert of_april(april).status == Proof.Status.DIFFERS

    def test_an_item_that_was_deleted_is_missing_again_and_staff_are_told(self, april, sent):
        april.api.invoice_items.delete(sent.invoice_item)

        go_on(april)

        failed = Correction.objects.get()
        assert failed.state == State.FAILED
        assert failed.last_error == (
            f"Its invoice item {sent.invoice_item} was deleted at Stripe. Nobody is charged for it."
        )
        assert (charged(april), of_april(april).status) == (0, Proof.Status.DIFFERS)
        (finding,) = examine(["usage-corrections"])
        assert failed.last_error in finding.sentence

    def test_so_is_one_whose_invoice_was_voided(self, april, sent):
        april.api.subscriptions.cancel(april.subscription_id)
        for method in april.api.payment_methods.list({"customer": april.customer_id}).data:
            april.api.payment_methods.detach(method.id)
        april.see()
        send_corrections()
        own = Correction.objects.get().own_invoice
        april.wait(hours=2)
        send_corrections()
        assert (april.api.invoices.retrieve(own).status, of_april(april).status) == ("open", "proven")

        april.api.invoices.void_invoice(own)
        go_on(april)

        failed = Correction.objects.get()
        assert (failed.state, own in failed.last_error) == (State.FAILED, True)
        assert (charged(april), of_april(april).status) == (0, Proof.Status.DIFFERS)

    def test_it_is_charged_once_where_staff_send_it_again(self, april, sent):
        april.api.invoice_items.delete(sent.invoice_item)
        send_corrections()

        again = corrections.try_again(Correction.objects.get())

        # Within the day, in which Stripe answers the first key with what was deleted.
        assert (again.state, items_of(april)) == (State.SENT, [again.invoice_item])
        go_on(april)
        assert (charged(april), of_april(april).status) == (120, Proof.Status.PROVEN)

    def test_where_the_draft_that_had_it_was_deleted_it_gets_another(self, april, sent):
        april.api.subscriptions.cancel(april.subscription_id)
        april.see()
        send_corrections()
        april.api.invoices.delete(Correction.objects.get().own_invoice)
        april.wait(hours=2)

        send_corrections()
        april.wait(hours=2)

        assert (charged(april), len(items_of(april))) == (120, 1)


def test_an_invoice_is_noted_only_for_the_item_that_it_has(april, sent, monkeypatch):
    def answer_late(correction, customer_id):
        Correction.objects.update(invoice_item="ii_of_the_next_round", round=1)
        return "in_of_the_first"

    monkeypatch.setattr(sending, "ensure_own_invoice", answer_late)
    sending.invoice_left(sent.pk)

    sent.refresh_from_db()
    assert (sent.invoice_item, sent.own_invoice) == ("ii_of_the_next_round", "")


def test_what_is_on_a_paid_invoice_is_not_asked_for_any_more(april, sent, monkeypatch):
    april.wait_until(MAY.replace(month=6, day=2))
    send_corrections()
    sent.refresh_from_db()
    assert sent.billed_at

    monkeypatch.setattr(following, "follow_one", lambda pk: pytest.fail("It was asked for."))
    april.wait(days=2)
    send_corrections()


def test_with_the_key_of_another_account_nothing_is_taken_for_deleted(april, sent):
    Correction.objects.update(invoice_item="ii_elsewhere", stripe_customer_id="cus_elsewhere")

    send_corrections()

    sent.refresh_from_db()
    assert sent.state == State.SENT


def test_where_stripe_does_not_answer_it_stays_as_it_is(april, plans, sent, sandbox):
    decline_an_upgrade(april, plans)
    sandbox.faults.add("timeout_before", method="GET", path="/v1/invoiceitems/*")

    send_corrections()

    sent.refresh_from_db()
    assert (sent.state, sent.asked_at) == (State.SENT, None)
