"""What came too late for its invoice is on the next one, once, at what it would have cost."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, transaction
from djstripe import models as djstripe
from hypothesis import given
from hypothesis import strategies as st

from accounts import clock
from billing.errors import StripeRejected
from billing.models import Meter, MeterErrorSample, ThinEvent
from billing.stripe.changing import change_plan
from billing.stripe.client import get_client
from tests.usage.proving import APRIL, MAY, invoice_april, of_april, refuse, use_in, use_late
from usage import corrections, reports
from usage.corrections import CannotCorrect, sending
from usage.corrections.making import days
from usage.corrections.pricing import charge
from usage.models import Correction, MeterReport, Proof
from usage.rejections import note_rejected
from usage.settling import send_again
from usage.tasks import report_usage

pytestmark = pytest.mark.django_db
State = Correction.State
JUNE = datetime(2026, 6, 1, tzinfo=UTC)
TIERS = [{"up_to": 100, "unit_amount_decimal": "0"}, {"up_to": "inf", "unit_amount_decimal": "10"}]


def correct(acme) -> Correction:
    """Make and send the correction that April needs."""
    return corrections.send(corrections.make(corrections.propose(of_april(acme))).pk)


def go_on_to_june(acme):
    acme.wait_until(JUNE)
    acme.wait(hours=2)
    acme.see()


class TestWhatItCosts:
    @pytest.mark.parametrize(("units", "cents"), [(0, 0), (100, 0), (101, 10), (130, 300)])
    def test_the_tiers_decide(self, units, cents):
        assert charge(units, TIERS) == cents

    def test_each_tier_is_a_line_of_its_own_that_is_rounded_half_up(self):
        tiers = [{"up_to": 1, "unit_amount_decimal": "0.5"}, {"up_to": "inf", "unit_amount_decimal": "0.3"}]

        assert [charge(units, tiers) for units in (1, 2, 3, 6)] == [1, 1, 2, 3]

    @given(
        st.lists(st.tuples(st.integers(1, 30), st.integers(0, 99_999)), min_size=1, max_size=4),
        st.integers(0, 150),
    )
    def test_it_is_what_adding_unit_by_unit_comes_to(self, steps, units):
        tiers, upper = [], 0
        for width, price in steps:
            upper += width
            tiers.append({"up_to": upper, "unit_amount_decimal": f"{price / 1000:.3f}"})
        tiers[-1]["up_to"] = "inf"
        thousandths = [0] * len(tiers)
        for unit in range(1, units + 1):
            place = next(n for n, t in enumerate(tiers) if t["up_to"] == "inf" or unit <= t["up_to"])
            thousandths[place] += steps[place][1]

        assert charge(units, tiers) == sum((each + 500) // 1000 for each in thousandths)


def test_calls_reported_late_are_on_the_next_invoice_as_a_correction(april):
    use_late(april, units=12)
    report_usage()

    made = correct(april)

    assert (made.state, made.units, made.amount, made.currency) == (State.SENT, 12, 120, "usd")
    assert of_april(april).status == Proof.Status.PROVEN
    go_on_to_june(april)
    (line,) = [
        each for each in april.last_invoice().lines.data if (each.description or "").startswith("Corr")
    ]
    assert line.description == "Correction: 12 calls of 1-30 April 2026, reported late"
    assert line.amount == 120
    assert line.metadata["tollgate_correction"] == str(made.pk)
    assert (line.period.start, line.period.end) == (int(APRIL.timestamp()), int(MAY.timestamp()))


def test_a_corrected_month_says_so_and_all_of_it_adds_up(april):
    use_late(april, units=12)
    report_usage()
    correct(april)

    proof = of_april(april)

    assert (proof.ledger, proof.stripe, proof.invoiced, proof.corrected) == (142, 142, 130, 12)
    (cause,) = proof.causes
    assert (cause["code"], cause["settled"]) == ("late", True)
    assert cause["sentence"].startswith(
        "12 units came too late for the invoice. It was settled by a correction of $1.20"
    )


def test_late_calls_within_what_is_included_are_settled_without_a_charge(subscribed):
    subscribed.use(50)
    report_usage()
    invoice_april(subscribed)
    use_late(subscribed, units=20)
    report_usage()

    made = correct(subscribed)

    assert (made.state, made.amount, made.invoice_item) == (State.FREE, 0, "")
    assert not subscribed.api.invoice_items.list({"customer": subscribed.customer_id}).data
    assert of_april(subscribed).status == Proof.Status.PROVEN


def test_only_what_goes_beyond_the_included_units_is_charged(subscribed):
    subscribed.use(90)
    report_usage()
    invoice_april(subscribed)
    use_late(subscribed, units=20)
    report_usage()

    assert correct(subscribed).amount == 100


def test_a_second_correction_goes_on_where_the_first_ended(april):
    for units in (12, 5):
        use_late(april, units=units)
        report_usage()
        correct(april)

    made = Correction.objects.order_by("number").values_list("number", "units", "total", "amount")
    assert list(made) == [(1, 12, 12, 120), (2, 5, 17, 50)]
    assert of_april(april).status == Proof.Status.PROVEN


def test_what_stripe_refused_is_billed_by_a_correction_and_never_sent_again(april):
    use_late(april, units=12)
    refuse()

    made = correct(april)

    report = MeterReport.objects.get(state="rejected")
    assert (made.units, made.amount, made.state) == (12, 120, State.SENT)
    assert report.correction == made
    send_again(april.organization, [report.pk])
    report.refresh_from_db()
    assert report.state == MeterReport.State.REJECTED
    assert of_april(april).status == Proof.Status.PROVEN


@pytest.fixture
def late_and_refused(april) -> MeterReport:
    """A report of 12 that came too late, was billed by a correction, and is refused by Stripe after all."""
    get_client().v1.billing.meters.deactivate(Meter.objects.get(slug="requests").stripe_meter_id)
    use_late(april, units=12)
    report_usage()
    report = MeterReport.objects.get(units=12)
    assert report.state == MeterReport.State.SENT
    correct(april)
    event = ThinEvent.objects.create(id="evt_1", created=clock.now())
    note_rejected(event, [MeterErrorSample("archived_meter", "It is not active.", report.identifier)])
    return report


def test_what_stripe_refuses_after_it_was_corrected_as_late_is_not_billed_again(april, late_and_refused):
    made = Correction.objects.get()

    proposal = corrections.propose(of_april(april))

    assert proposal.sentence == "1 refused report is billed by a correction that was made before."
    assert corrections.make(proposal) == made
    assert Correction.objects.count() == 1
    send_again(april.organization, [late_and_refused.pk])
    assert of_april(april).status == Proof.Status.PROVEN


def test_what_is_refused_beside_it_is_billed_alone(april, late_and_refused):
    use_in(april, APRIL + timedelta(days=3), units=5)
    refuse()

    assert correct(april).units == 5
    assert of_april(april).status == Proof.Status.PROVEN


def test_staff_are_told_of_the_refused_ones_that_nothing_bills_yet(april, late_and_refused):
    corrections.make(corrections.propose(of_april(april)))
    use_in(april, APRIL + timedelta(days=3), units=5)
    refuse("It is five.")

    (cause,) = of_april(april).differences

    assert cause["sentence"] == "1 report of 5 units was refused by Stripe: It is five."


def test_refused_calls_of_a_free_plan_are_settled_without_a_charge(acme):
    use_in(acme, APRIL + timedelta(days=3), units=7)
    refuse()
    acme.wait_until(MAY)
    acme.see()

    made = correct(acme)

    assert (made.state, made.amount) == (State.FREE, 0)
    assert of_april(acme).status == Proof.Status.PROVEN


def test_after_a_change_of_plan_each_part_is_priced_by_its_own_price(subscribed, plans):
    subscribed.use(130)
    change_plan(subscribed.organization, plan=plans.team)
    subscribed.wait(hours=1)
    subscribed.use(150)
    report_usage()
    invoice_april(subscribed)
    assert of_april(subscribed).status == Proof.Status.PROVEN
    use_in(subscribed, APRIL + timedelta(days=2), units=10)
    use_late(subscribed, units=20)
    reports.make_reports()
    MeterReport.objects.filter(state="pending").update(state="rejected")

    made = [correct(subscribed), correct(subscribed)]

    # Ten of the Pro's part at 10 cents, twenty of the Team's at 5.
    assert [(each.units, each.amount) for each in made] == [(10, 100), (20, 100)]
    assert of_april(subscribed).status == Proof.Status.PROVEN


def test_what_another_month_s_invoice_lacks_is_not_charged_for_a_month_whose_invoice_is_missing_here(april):
    april.use(120)
    report_usage()
    go_on_to_june(april)
    use_in(april, JUNE - timedelta(minutes=30), units=12, period_start=MAY)
    report_usage()
    of_the_first = djstripe.Invoice.objects.filter(stripe_data__lines__data__contains=[{"quantity": 30}])
    assert of_the_first.delete()[0]
    april.wait(days=2)

    with pytest.raises(CannotCorrect, match="look for the one that is missing"):
        corrections.propose(of_april(april))


class TestNeverTwice:
    def test_of_two_that_found_the_same_units_one_is_refused(self, april):
        use_late(april, units=12)
        report_usage()
        first, second = (corrections.propose(of_april(april)) for _ in range(2))
        corrections.make(first)

        with pytest.raises(CannotCorrect, match="made meanwhile"):
            corrections.make(second)
        assert Correction.objects.count() == 1

    def test_also_where_the_first_one_is_settled_already(self, april):
        use_late(april, units=12)
        report_usage()
        first, second = (corrections.propose(of_april(april)) for _ in range(2))
        corrections.send(corrections.make(first).pk)

        with pytest.raises(CannotCorrect, match="made meanwhile"):
            corrections.make(second)

    def test_the_database_refuses_a_second_one_under_way(self, april):
        use_late(april, units=12)
        report_usage()
        corrections.make(corrections.propose(of_april(april)))
        copy = Correction.objects.get()
        copy.pk, copy.number = Correction._meta.pk.get_default(), 2

        with pytest.raises(IntegrityError), transaction.atomic():
            copy.save(force_insert=True)

    @pytest.mark.parametrize("fault", ["timeout_after", "timeout_before", "server_error_after"])
    def test_without_an_answer_it_is_looked_for_before_it_is_made(self, april, sandbox, fault):
        use_late(april, units=12)
        report_usage()
        made = corrections.make(corrections.propose(of_april(april)))
        trouble = sandbox.faults.add(fault, method="POST", path="/v1/invoiceitems")
        assert corrections.send(made.pk).state == State.UNKNOWN
        sandbox.faults.remove(trouble.id)
        # Stripe may have forgotten the idempotency key by then.
        april.wait(days=2)

        assert corrections.send_due() == 1
        assert len(april.api.invoice_items.list({"customer": april.customer_id}).data) == 1

    def test_a_sender_that_died_is_taken_over_once_its_lease_is_up(self, april):
        use_late(april, units=12)
        report_usage()
        made = corrections.make(corrections.propose(of_april(april)))
        Correction.objects.update(state=State.SENDING, claimed_at=clock.now())
        assert corrections.send_due() == 0

        april.wait(minutes=4)

        assert corrections.send_due() == 1
        made.refresh_from_db()
        assert made.state == State.SENT

    def test_nothing_is_corrected_while_something_of_the_month_is_on_its_way(self, april):
        use_late(april, units=12)
        report_usage()
        use_late(april, units=1)

        with pytest.raises(CannotCorrect, match="1 unit of the period is still on the way"):
            corrections.propose(of_april(april))

    def test_what_came_in_between_proposal_and_making_stops_it(self, april):
        use_late(april, units=12)
        report_usage()
        proposal = corrections.propose(of_april(april))
        use_late(april, units=1)

        with pytest.raises(CannotCorrect, match="still on their way"):
            corrections.make(proposal)
        assert not Correction.objects.exists()

    def test_a_refused_report_that_somebody_sends_again_is_not_billed_as_well(self, april):
        use_late(april, units=12)
        refuse()
        proposal = corrections.propose(of_april(april))
        MeterReport.objects.filter(state="rejected").update(state="pending")

        with pytest.raises(CannotCorrect, match="being sent again"):
            corrections.make(proposal)

    def test_a_month_that_runs_is_not_corrected(self, subscribed):
        subscribed.use(12)
        refuse()

        with pytest.raises(CannotCorrect, match="not over"):
            corrections.propose(of_april(subscribed))


def test_one_that_stripe_refuses_is_kept_and_no_other_is_made(april, monkeypatch):
    def refuse_item(**item):
        raise StripeRejected("No such customer.", code="resource_missing")

    use_late(april, units=12)
    report_usage()
    made = corrections.make(corrections.propose(of_april(april)))
    with monkeypatch.context() as patch:
        patch.setattr(sending, "ensure_invoice_item", refuse_item)
        assert corrections.send(made.pk).state == State.FAILED
    with pytest.raises(CannotCorrect, match="refused by Stripe"):
        corrections.propose(of_april(april))

    assert corrections.try_again(made).state == State.SENT


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        ((2026, 9, 1), (2026, 10, 1), "1-30 September 2026"),
        ((2026, 9, 11, 10, 30), (2026, 10, 11, 10, 30), "11 September to 11 October 2026"),
        ((2026, 12, 5), (2027, 1, 5), "5 December 2026 to 4 January 2027"),
        ((2026, 9, 1), (2026, 9, 1, 12), "1 September 2026"),
    ],
)
def test_the_invoice_says_which_days_it_is_about(start, end, words):
    assert days(datetime(*start, tzinfo=UTC), datetime(*end, tzinfo=UTC)) == words
