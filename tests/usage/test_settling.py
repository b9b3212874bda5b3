"""Reports without an answer for too long: what Stripe counted in their minute tells whether they arrived."""

from datetime import timedelta
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts import clock
from billing.errors import StripeUnavailable
from billing.models import Meter
from billing.stripe.catalog import publish_meter
from billing.stripe.client import get_client
from billing.stripe.customers import ensure_customer
from sandbox.meters.metering_settings import configure
from tests.billing.doctoring import found, only
from tests.billing.troubles import move, sandbox_time
from tests.usage.outbox import companies, counted, requests_to, use
from usage import reports
from usage.evidence import some_that_sum_up, which_sum_up
from usage.models import MeterReport
from usage.settling import settle_unanswered
from usage.tasks import report_usage, settle_reports

pytestmark = pytest.mark.django_db

State = MeterReport.State
METER_EVENTS = "/v1/billing/meter_events"
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
def hands(sandbox):
    with clock.standing_at(sandbox_time(sandbox)) as hands:
        yield hands


@pytest.fixture
def customer(sandbox, hands, organization):
    """Acme, a customer, with Stripe's meter published."""
    publish_meter(Meter.objects.get(slug="requests"))
    ensure_customer(organization)
    return organization


def report_in_vain(sandbox, *, arrives: bool) -> MeterReport:
    """Have the new report sent without an answer."""
    reports.make_reports()
    report = MeterReport.objects.get(state=State.PENDING)
    send_in_vain(sandbox, report, arrives=arrives)
    return report


def send_in_vain(sandbox, report: MeterReport, *, arrives: bool) -> None:
    fault = sandbox.faults.add("timeout_after" if arrives else "timeout_before", path=METER_EVENTS)
    claimed = reports.claim(report.pk)
    assert claimed
    reports.send(claimed[0], customer_id=claimed[1])
    sandbox.faults.remove(fault.id)
    report.refresh_from_db()
    assert report.state == State.UNKNOWN


def give_up_on(*given_up: MeterReport) -> None:
    """Let the time be over in which the reports are tried again, so that those behind them have their turn."""
    MeterReport.objects.filter(pk__in=[each.pk for each in given_up]).update(to_settle=True)


class TestARetryAfter24HoursIsNotBilledTwice:
    def test_because_what_arrived_is_not_sent_again(self, sandbox, hands, customer):
        use(customer, units=5)
        report = report_in_vain(sandbox, arrives=True)
        move(sandbox, hands, 25 * HOUR)  # Stripe may have forgotten the identifier.

        report_usage()
        assert settle_reports() == {"arrived": 1, "rejected": 0}
        report_usage()

        report.refresh_from_db()
        assert (report.state, report.tries) == (State.SENT, 1)
        assert report.sent_at == report.claimed_at
        assert report.settled_as.startswith("arrived: of ")
        assert report.settled_as.endswith("Stripe counts 5; 0 were taken for certain")
        assert counted(customer) == 5

    def test_because_what_is_lost_is_sent_once(self, sandbox, hands, customer):
        use(customer, units=5)
        report = report_in_vain(sandbox, arrives=False)
        identifier = report.identifier
        move(sandbox, hands, 25 * HOUR)

        assert settle_reports() == {"lost": 1, "rejected": 0}
        assert report_usage() == 1

        report.refresh_from_db()
        assert (report.state, report.identifier) == (State.SENT, identifier)
        assert report.settled_as.startswith("lost: of ")
        assert counted(customer) == 5
        assert settle_reports() == {"rejected": 0}


def test_a_verdict_that_was_wrong_bills_nothing_twice_while_stripe_knows_the_identifier(
    sandbox, hands, customer
):
    configure(sandbox, lag=2 * 86400)  # More than anybody expects: it looks as if nothing arrived.
    use(customer, units=5)
    report_in_vain(sandbox, arrives=True)
    move(sandbox, hands, 21 * HOUR)

    assert settle_unanswered() == {"lost": 1}
    report_usage()
    move(sandbox, hands, 3 * DAY)

    assert counted(customer) == 5


def test_within_20_hours_nothing_is_decided(sandbox, hands, customer):
    use(customer, units=5)
    report_in_vain(sandbox, arrives=True)
    move(sandbox, hands, 19 * HOUR)

    assert settle_unanswered() == {}


def test_a_refused_retry_is_decided_as_soon_as_the_summaries_can_tell(sandbox, hands, customer):
    use(customer, units=5)
    give_up_on(report_in_vain(sandbox, arrives=True))
    assert settle_unanswered() == {}
    move(sandbox, hands, HOUR)

    assert settle_unanswered() == {"arrived": 1}


def test_what_is_ahead_of_stripe_s_clock_is_sent_again_by_itself_an_hour_later(sandbox, hands, customer):
    at_stripe = clock.now().replace(minute=50) + HOUR
    move(sandbox, hands, at_stripe - clock.now())
    hands.move(at_stripe + timedelta(minutes=15))
    use(customer, units=5)
    report_usage()
    assert MeterReport.objects.get().state == State.UNKNOWN

    move(sandbox, hands, 2 * HOUR)
    assert settle_reports() == {"lost": 1, "rejected": 0}
    report_usage()

    assert counted(customer) == 5


def test_refused_retries_are_answers_and_keep_no_other_s_usage_from_being_sent(sandbox, hands, customer):
    for rival in companies(4):
        use(rival, units=5, at=clock.now() - 34 * DAY)
    reports.make_reports()
    for report in MeterReport.objects.all():
        send_in_vain(sandbox, report, arrives=False)
    MeterReport.objects.update(tries=0)  # Their turn comes before what is new.
    hands.move(clock.now() + 10 * HOUR)
    sandbox.set_clock(advance=int((2 * DAY).total_seconds()))
    use(customer, units=7)

    assert report_usage() == 1
    assert MeterReport.objects.filter(to_settle=True).count() == 4


def test_what_was_sent_just_now_in_the_same_minute_is_waited_for(sandbox, hands, customer):
    use(customer, units=5)
    give_up_on(report_in_vain(sandbox, arrives=True))
    move(sandbox, hands, 2 * HOUR)
    configure(sandbox, lag=600)
    hour_ago = MeterReport.objects.get().hour
    use(customer, units=5, at=hour_ago + timedelta(minutes=5))
    report_usage()

    # Stripe counts 5 as yet, which could be either's.
    assert settle_unanswered() == {"open": 1}
    move(sandbox, hands, HOUR)

    assert settle_unanswered() == {"arrived": 1}
    assert counted(customer) == 10


class TestSeveralInOneMinute:
    def doubtful(self, sandbox, customer, *sent: tuple[int, bool]) -> list[MeterReport]:
        """Have reports of the same hour sent in vain, each with its units and whether it arrives."""
        at = clock.now()
        made = []
        for units, arrives in sent:
            use(customer, units=units, at=at)
            report = report_in_vain(sandbox, arrives=arrives)
            give_up_on(report)
            made.append(report)
        return made

    def states(self, made: list[MeterReport]) -> list[str]:
        return [MeterReport.objects.get(pk=report.pk).state for report in made]

    def test_are_told_apart_where_one_combination_fits(self, sandbox, hands, customer):
        made = self.doubtful(sandbox, customer, (5, True), (7, False), (11, True))
        move(sandbox, hands, 21 * HOUR)

        assert settle_unanswered() == {"arrived": 2, "lost": 1}
        assert self.states(made) == [State.SENT, State.PENDING, State.SENT]
        report_usage()
        assert counted(customer) == 23

    @pytest.mark.parametrize(
        "sent",
        [
            ((5, True), (5, False), (3, True)),
            ((5, False), (5, True), (3, True)),
            ((5, False), (3, False), (8, True)),
            ((5, True), (3, True), (8, False)),
        ],
    )
    def test_are_counted_once_each_whichever_of_them_arrived_where_several_combinations_fit(
        self, sandbox, hands, customer, sent
    ):
        made = self.doubtful(sandbox, customer, *sent)
        move(sandbox, hands, 21 * HOUR)  # Stripe knows their identifiers still.

        outcomes = settle_unanswered()
        report_usage()

        assert outcomes["open"] == 0
        assert outcomes["lost"] in {1, 2}
        assert self.states(made) == [State.SENT] * len(made)
        assert counted(customer) == sum(units for units, _ in sent)

    def test_are_left_to_a_person_where_they_are_of_two_periods(self, sandbox, hands, customer):
        made = self.doubtful(sandbox, customer, (5, True), (5, False), (3, True))
        MeterReport.objects.filter(pk=made[0].pk).update(
            period_start=made[0].period_start - timedelta(seconds=1)
        )
        move(sandbox, hands, 21 * HOUR)

        # The 3 are in every combination that makes up 8.
        assert settle_unanswered() == {"arrived": 1, "open": 2}
        assert self.states(made) == [State.UNKNOWN, State.UNKNOWN, State.SENT]
        finding = only("unanswered-reports")
        assert finding.sentence.startswith("Reports of 10 calls of Acme")
        assert "Stripe has counted 8; 3 were taken for certain, 10 are in doubt." in finding.sentence
        assert "Stripe counts 8; 0 were taken for certain, which fits in several ways" in finding.sentence
        assert finding.fix is None

    def test_are_left_alone_while_one_of_them_is_still_tried_again(self, sandbox, hands, customer):
        made = self.doubtful(sandbox, customer, (5, True), (5, False))
        move(sandbox, hands, 19 * HOUR)
        MeterReport.objects.filter(pk=made[0].pk).update(to_settle=False)

        assert settle_unanswered() == {"open": 1}
        assert self.states(made) == [State.UNKNOWN] * 2

    def test_beside_certain_ones_are_decided_all_the_same(self, sandbox, hands, customer):
        at = clock.now()
        for units in (1, 2, 4):
            use(customer, units=units, at=at)
            report_usage()
        (made,) = self.doubtful(sandbox, customer, (5, True))
        move(sandbox, hands, 21 * HOUR)

        assert settle_unanswered() == {"arrived": 1}
        assert MeterReport.objects.get(pk=made.pk).settled_as.endswith("counts 12; 7 were taken for certain")


def test_usage_that_others_reported_into_the_minute_leaves_it_to_a_person(sandbox, hands, customer):
    use(customer, units=5)
    report = report_in_vain(sandbox, arrives=False)
    get_client().v1.billing.meter_events.create(
        {
            "event_name": "tollgate_requests",
            "payload": {"stripe_customer_id": ensure_customer(customer).id, "value": "3"},
            "timestamp": int(report.dated_at.timestamp()),
        }
    )
    move(sandbox, hands, 21 * HOUR)

    assert settle_unanswered() == {"open": 1}
    assert found("unanswered-reports")


def test_a_lost_report_older_than_35_days_is_rejected_and_not_sent(sandbox, hands, customer):
    use(customer, units=5, at=clock.now() - 34 * DAY)
    report_in_vain(sandbox, arrives=False)
    move(sandbox, hands, 2 * DAY)
    before = requests_to(sandbox, METER_EVENTS)

    assert settle_unanswered() == {"lost": 1}
    report_usage()

    (report,) = MeterReport.objects.too_old()
    assert (report.state, report.rejection_code) == (State.REJECTED, "timestamp_too_far_in_past")
    assert report.settled_as.startswith("lost: ")
    assert requests_to(sandbox, METER_EVENTS) == before


def test_stripe_is_asked_about_that_minute_of_that_customer_and_meter_alone(sandbox, hands, customer):
    (rival,) = companies(1)
    use(rival, units=5)
    report_usage()
    use(customer, units=5, at=clock.now() - 2 * HOUR)
    report_usage()
    use(customer, units=5)
    report_in_vain(sandbox, arrives=False)
    move(sandbox, hands, 21 * HOUR)

    assert settle_unanswered() == {"lost": 1}


def test_a_customer_that_stripe_no_longer_has_is_left_to_a_person_and_holds_up_no_other(
    sandbox, hands, customer
):
    (rival,) = companies(1)
    use(rival, units=5)
    report_in_vain(sandbox, arrives=True)
    use(customer, units=5)
    reports.make_reports()
    send_in_vain(sandbox, MeterReport.objects.get(organization=customer), arrives=True)
    get_client().v1.customers.delete(ensure_customer(rival).id)
    move(sandbox, hands, 21 * HOUR)

    assert settle_unanswered() == {"open": 1, "arrived": 1}


def test_with_stripe_down_nothing_is_decided(sandbox, hands, customer):
    for each in (customer, *companies(3)):
        use(each, units=5)
    reports.make_reports()
    for report in MeterReport.objects.all():
        send_in_vain(sandbox, report, arrives=True)
    move(sandbox, hands, 21 * HOUR)
    fault = sandbox.faults.add("server_error", path="*/event_summaries")

    with pytest.raises(StripeUnavailable):
        settle_unanswered()
    assert MeterReport.objects.filter(state=State.UNKNOWN).count() == 4

    sandbox.faults.remove(fault.id)
    assert settle_unanswered() == {"arrived": 4}


@given(st.lists(st.integers(1, 12), min_size=1, max_size=7), st.integers(-2, 40))
def test_a_verdict_is_what_all_combinations_that_add_up_agree_on(units, total):
    fitting = [
        set(chosen)
        for size in range(len(units) + 1)
        for chosen in combinations(range(len(units)), size)
        if sum(units[each] for each in chosen) == total
    ]
    agreed = [
        True
        if all(each in chosen for chosen in fitting)
        else None
        if any(each in chosen for chosen in fitting)
        else False
        for each in range(len(units))
    ]

    assert which_sum_up(units, total) == (agreed if fitting else None)


def test_of_more_reports_than_can_be_weighed_all_or_none_is_still_told():
    units = list(range(1, 41))

    assert which_sum_up(units, sum(units)) == [True] * 40
    assert which_sum_up(units, 0) == [False] * 40
    assert which_sum_up(units, 7) == [None] * 40


@given(st.lists(st.integers(1, 12), min_size=1, max_size=12), st.integers(-2, 60))
def test_what_is_chosen_adds_up_where_anything_does(units, total):
    chosen = some_that_sum_up(units, total)

    sums = {sum(each) for size in range(len(units) + 1) for each in combinations(units, size)}
    assert (chosen is not None) == (total in sums)
    if chosen is not None:
        assert sum(own for own, is_in in zip(units, chosen, strict=True) if is_in) == total
