"""Of a customer without a subscription: what is on no invoice gets one of its own, once."""

from datetime import UTC, datetime, timedelta

import pytest

from billing.stripe.ending import cancel_now
from billing.stripe.subscriptions import sync_subscriptions
from tests.usage.proving import (
    APRIL,
    MAY,
    of_april,
    refuse,
    use_in,
    use_late,
)
from usage import corrections
from usage.corrections import CannotCorrect
from usage.models import Correction, Proof
from usage.tasks import report_usage

pytestmark = [pytest.mark.django_db, pytest.mark.long]
State = Correction.State
JUNE = datetime(2026, 6, 1, tzinfo=UTC)


def correct(acme) -> Correction:
    """Make and send the correction that April needs."""
    return corrections.send(corrections.make(corrections.propose(of_april(acme))).pk)


def go_on_to_june(acme):
    acme.wait_until(JUNE)
    acme.wait(hours=2)
    acme.see()


def last_correction(acme):
    """Return the customer's last invoice, closed, and what it has of corrections, in cents."""
    acme.wait(hours=2)
    acme.see()
    invoice = acme.last_invoice()
    lines = [each for each in invoice.lines.data if (each.description or "").startswith("Correction")]
    return invoice, sum(line.amount for line in lines)


class TestOfACustomerWhoseSubscriptionHasEnded:
    @pytest.fixture
    def made(self, april):
        """A correction of $1.20, not sent, of an Acme that has left since."""
        use_late(april, units=12)
        report_usage()
        made = corrections.make(corrections.propose(of_april(april)))
        april.api.subscriptions.cancel(april.subscription_id)
        april.see()
        return made

    def test_it_gets_an_invoice_of_its_own_that_the_card_is_charged_for(self, april, made):
        sent = corrections.send(made.pk)

        invoice, cents = last_correction(april)
        assert (sent.state, sent.own_invoice) == (State.SENT, invoice.id)
        assert (invoice.status, invoice.billing_reason, cents) == ("paid", "manual", 120)
        assert invoice.amount_paid == 120
        assert invoice.description == "Correction: 12 calls of 1-30 April 2026, reported late"
        assert invoice.metadata["tollgate_correction"] == str(made.pk)
        assert of_april(april).status == Proof.Status.PROVEN

    def test_where_no_card_can_be_charged_the_invoice_is_sent(self, april, made):
        for method in april.api.payment_methods.list({"customer": april.customer_id}).data:
            april.api.payment_methods.detach(method.id)

        corrections.send(made.pk)

        invoice, _ = last_correction(april)
        assert (invoice.status, invoice.collection_method) == ("open", "send_invoice")
        assert invoice.due_date - invoice.status_transitions.finalized_at <= 14 * 86400

    @pytest.mark.parametrize("fault", ["timeout_after", "timeout_before", "server_error_after"])
    def test_without_an_answer_no_second_invoice_is_made(self, april, made, sandbox, fault):
        before = len(april.invoices())
        trouble = sandbox.faults.add(fault, method="POST", path="/v1/invoices")
        assert corrections.send(made.pk).state == State.UNKNOWN
        sandbox.faults.remove(trouble.id)
        # Stripe may have forgotten the idempotency key by then.
        april.wait(days=2)

        assert corrections.send_due() == 1
        assert len(april.api.invoice_items.list({"customer": april.customer_id, "pending": True}).data) == 0
        assert len(april.invoices()) == before + 1
        assert last_correction(april)[1] == 120

    def test_one_that_was_to_go_on_the_next_invoice_gets_its_own_once_none_is_to_come(self, april):
        use_late(april, units=12)
        report_usage()
        sent = correct(april)
        april.api.subscriptions.cancel(april.subscription_id)
        april.see()

        corrections.send_due()
        corrections.send_due()

        sent.refresh_from_db()
        invoice, cents = last_correction(april)
        assert (invoice.id, cents) == (sent.own_invoice, 120)

    def test_one_that_the_last_invoice_took_up_gets_no_other(self, april):
        use_late(april, units=12)
        report_usage()
        sent = correct(april)
        go_on_to_june(april)
        last = april.last_invoice().id
        cancel_now(april.organization)
        april.see()
        before = len(april.invoices())

        corrections.send_due()

        sent.refresh_from_db()
        assert sent.own_invoice == last
        assert len(april.invoices()) == before

    def test_nothing_is_made_while_an_invoice_is_to_come(self, april):
        use_late(april, units=12)
        report_usage()
        sent = correct(april)
        before = len(april.invoices())

        corrections.send_due()

        sent.refresh_from_db()
        assert (sent.own_invoice, len(april.invoices())) == ("", before)

    def test_a_credit_becomes_the_customer_s_balance(self, overbilled):
        overbilled.api.subscriptions.cancel(overbilled.subscription_id)
        overbilled.see()
        proposal = corrections.propose(of_april(overbilled))
        corrections.send(corrections.make(proposal, by="ann@staff.example").pk)

        invoice, cents = last_correction(overbilled)
        assert (invoice.status, cents) == ("paid", -1200)
        assert overbilled.balance() == -1200


class TestWhatIsOnNoInvoiceAtAll:
    """The subscription was ended at Stripe, at once and without an invoice for what was used."""

    @pytest.fixture
    def left(self, subscribed):
        subscribed.use(130)
        report_usage()
        subscribed.api.subscriptions.cancel(subscribed.subscription_id)
        subscribed.see()
        subscribed.wait_until(MAY)
        subscribed.see()
        return subscribed

    def test_is_billed_at_the_price_that_it_was_used_at(self, left):
        made = correct(left)

        invoice, cents = last_correction(left)
        assert (made.units, made.amount, made.own_invoice) == (130, 300, invoice.id)
        assert cents == invoice.amount_paid == 300
        assert invoice.description == "Correction: 130 calls of 1-11 April 2026, on no invoice so far"
        proof = of_april(left)
        assert (proof.status, proof.ledger, proof.invoiced, proof.corrected) == ("proven", 130, None, 130)
        (cause,) = proof.causes
        assert cause["sentence"].startswith(
            "130 units were on no invoice. It was settled by a correction of $3"
        )

    def test_what_is_found_later_is_priced_on_top_of_it(self, left):
        correct(left)
        use_in(left, APRIL + timedelta(days=1), units=5)
        report_usage()

        assert (correct(left).units, made_so_far(left)) == (5, [(130, 300), (5, 50)])
        assert of_april(left).status == Proof.Status.PROVEN

    def test_so_is_what_stripe_refused(self, left):
        use_in(left, APRIL + timedelta(days=1), units=5)
        refuse()

        correct(left)
        correct(left)

        assert sorted(made_so_far(left)) == [(5, 0), (130, 350)]
        assert of_april(left).status == Proof.Status.PROVEN

    def test_is_for_an_invoice_to_come_on_the_first_day(self, subscribed):
        subscribed.wait_until(MAY - timedelta(hours=1))
        subscribed.use(130)
        report_usage()
        subscribed.api.subscriptions.cancel(subscribed.subscription_id)
        subscribed.wait_until(MAY + timedelta(hours=20))
        subscribed.see()

        assert of_april(subscribed).status == Proof.Status.WAITING
        with pytest.raises(CannotCorrect, match="nothing to correct"):
            corrections.propose(of_april(subscribed))

    def test_is_not_billed_where_stripe_has_an_invoice_that_was_missing_here(self, subscribed):
        subscribed.use(130)
        report_usage()
        subscribed.api.subscriptions.cancel(subscribed.subscription_id, {"invoice_now": True})
        sync_subscriptions(subscribed.customer_id)
        subscribed.wait_until(MAY)

        with pytest.raises(CannotCorrect, match="missing or out of date here"):
            corrections.propose(of_april(subscribed))
        assert of_april(subscribed).status == Proof.Status.PROVEN

    def test_is_left_to_a_person_where_somebody_voided_the_invoice(self, subscribed):
        subscribed.use(130)
        report_usage()
        subscribed.pay_with("pm_card_chargeCustomerFail")
        subscribed.api.subscriptions.cancel(subscribed.subscription_id, {"invoice_now": True})
        subscribed.api.invoices.void_invoice(subscribed.last_invoice().id)
        subscribed.wait_until(MAY)
        subscribed.see()

        with pytest.raises(CannotCorrect, match="look for the one that is missing"):
            corrections.propose(of_april(subscribed))


def made_so_far(acme) -> list[tuple[int, int]]:
    """Return the units and cents of all corrections there are, the first one first."""
    return list(Correction.objects.order_by("number").values_list("units", "amount"))
