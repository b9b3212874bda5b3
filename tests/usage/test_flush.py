"""Usage reaches Stripe before the invoice that is to hold it, and is dated so that exactly one holds it."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from django.db.models import F
from redis.exceptions import ConnectionError as Unreachable

from accounts import clock
from accounts.models import Organization
from billing.errors import ChangeRefused, UsageNotReported
from billing.models import Meter
from billing.signals import invoice_closing
from billing.stripe.catalog import publish_meter
from billing.stripe.changing import change_plan, undo_change
from billing.stripe.customers import ensure_customer
from billing.stripe.ending import cancel_now
from billing.stripe.metering import summed_usage
from tests.billing.acme import CHALLENGES, prices_of
from tests.holding import take
from tests.usage.cast import make_event, serve
from usage import reports, stream
from usage.flush import flush_usage
from usage.ledger import store
from usage.models import MeterReport
from usage.tasks import report_usage

pytestmark = pytest.mark.django_db
State = MeterReport.State
NO_TIME = timedelta()


@pytest.fixture
def customer(sandbox, organization):
    """Acme as Stripe knows it, with the meter published."""
    publish_meter(Meter.objects.get(slug="requests"))
    return ensure_customer(organization)


def counted_by_stripe(customer) -> int:
    now = clock.now()
    meter = Meter.objects.get(slug="requests")
    return summed_usage(
        meter_id=meter.stripe_meter_id,
        customer_id=customer.id,
        start=now - timedelta(days=32),
        end=now + timedelta(days=1),
    )


class TestFlushing:
    def test_calls_that_were_just_served_are_at_stripe(self, organization, api_key, customer):
        serve(api_key, calls=7)

        assert flush_usage(organization) == 1
        assert counted_by_stripe(customer) == 7

    def test_a_report_that_got_no_answer_is_sent_once_more_and_counts_once(
        self, organization, api_key, customer, sandbox
    ):
        serve(api_key, calls=7)
        sandbox.faults.add("timeout_after", path="/v1/billing/meter_events", times=3)
        with pytest.raises(UsageNotReported):
            flush_usage(organization)
        assert MeterReport.objects.get().state == State.UNKNOWN

        assert flush_usage(organization) == 1
        assert counted_by_stripe(customer) == 7

    def test_nothing_to_report_is_no_trouble(self, organization, customer):
        assert flush_usage(organization) == 0

    def test_an_organization_that_stripe_does_not_know_has_nothing_to_report(self, organization, api_key):
        serve(api_key, calls=1)

        assert flush_usage(organization) == 0

    def test_others_usage_waits_for_its_own_turn(self, organization, outsider, customer):
        rival = outsider.memberships.get().organization
        ensure_customer(rival)
        store([make_event(organization_id=rival.pk, at=clock.now(), units=3)])

        assert flush_usage(organization) == 0
        assert not MeterReport.objects.exists()

    def test_with_redis_out_of_reach_nobody_knows_what_was_used(self, organization, customer, monkeypatch):
        def unreachable():
            raise Unreachable

        monkeypatch.setattr(stream, "get_redis", unreachable)
        with pytest.raises(UsageNotReported, match="try again"):
            flush_usage(organization)

    def test_what_another_reader_has_in_hand_is_waited_for(self, organization, api_key, customer, redis):
        serve(api_key, calls=3)
        stream.Drain(consumer="other")
        take("other")

        with pytest.raises(UsageNotReported):
            flush_usage(organization, within=NO_TIME)

        stream.Drain(consumer="other").take_over(idle_ms=0)
        assert flush_usage(organization, within=NO_TIME) == 1

    def test_calls_served_after_the_start_are_not_waited_for(self, organization, api_key, customer, redis):
        serve(api_key, calls=3)
        newest = stream.last_id()
        stream.Drain(consumer="reader").run_once()
        serve(api_key, calls=1)
        take("slow")

        assert stream.is_stored(newest)
        assert not stream.is_stored(stream.last_id())

    def test_what_another_sender_has_in_hand_is_waited_for(self, organization, customer):
        store([make_event(organization_id=organization.pk, at=clock.now(), units=3)])
        report_usage()
        MeterReport.objects.update(state=State.SENDING, claimed_at=clock.now())

        with pytest.raises(UsageNotReported):
            flush_usage(organization, within=NO_TIME)

        # A sender that died: its claim has run out, and Stripe tells that it has the report.
        MeterReport.objects.update(claimed_at=clock.now() - MeterReport.LEASE)
        assert flush_usage(organization, within=NO_TIME) == 1
        assert counted_by_stripe(customer) == 3

    def test_of_more_than_can_be_sent_in_time_the_rest_is_left_for_the_next_try(self, organization, customer):
        for hours in (3, 2, 1):
            at = clock.now() - timedelta(hours=hours)
            store([make_event(organization_id=organization.pk, at=at, units=hours)])

        for left in (2, 1):
            with pytest.raises(UsageNotReported):
                flush_usage(organization, within=NO_TIME)
            assert MeterReport.objects.filter(state=State.PENDING).count() == left
        assert flush_usage(organization, within=NO_TIME) == 1
        assert counted_by_stripe(customer) == 6

    def test_a_retry_that_is_refused_has_had_its_answer(self, organization, customer):
        """Whether the try before arrived is found out an hour later: nobody can flush it meanwhile."""
        store([make_event(organization_id=organization.pk, at=clock.now() - timedelta(days=36), units=3)])
        store([make_event(organization_id=organization.pk, at=clock.now(), units=4)])
        reports.make_reports()
        in_vain = MeterReport.objects.filter(units=3)
        in_vain.update(state=State.UNKNOWN, first_sent_at=clock.now(), dated_at=F("hour"))

        assert flush_usage(organization) == 1
        assert counted_by_stripe(customer) == 4

    def test_what_waits_for_a_person_holds_nobody_up(self, organization, customer):
        store([make_event(organization_id=organization.pk, at=clock.now(), units=3)])
        report_usage()
        long_ago = clock.now() - MeterReport.RESEND_LIMIT
        for state in (State.REJECTED, State.UNKNOWN):
            MeterReport.objects.update(state=state, first_sent_at=long_ago)

            assert flush_usage(organization, within=NO_TIME) == 0


@pytest.fixture
def metered(acme, plans):
    """Acme on a Pro and a Team that bill what goes beyond 100 units, at half past ten on the 11th."""
    acme.bill_overage(plans.pro, included=100, cents="10")
    acme.bill_overage(plans.team, included=100, cents="5")
    acme.subscribe(plans.pro)
    acme.wait(days=10, hours=10, minutes=30)
    return acme


@contextmanager
def used_in_between(acme, units):
    """Have calls served after usage was reported and before Stripe makes the change."""

    def serve_more(sender, **kwargs):
        acme.use(units)

    invoice_closing.connect(serve_more, sender=Organization)
    yield
    invoice_closing.disconnect(serve_more, sender=Organization)


def go_on_to_may(acme):
    """Let the month end, with usage reported as the worker does; return the units of each invoice."""
    report_usage()
    acme.wait_until(datetime(2026, 5, 1, tzinfo=UTC))
    acme.wait(hours=2)
    meter = Meter.objects.get(slug="requests")
    lines = [
        [
            line.quantity
            for line in invoice.lines.data
            if line.pricing.price_details.product == meter.product_id
        ]
        for invoice in acme.invoices()
        if invoice.status != "void"
    ]
    return [sum(quantities) for quantities in lines]


class TestEveryUnitIsOnOneInvoice:
    def test_across_an_upgrade_in_mid_hour(self, metered, plans):
        metered.use(130)
        with used_in_between(metered, 7):
            change_plan(metered.organization, plan=plans.team)
        metered.wait(minutes=10)
        metered.use(150)

        # Of the first period, the upgrade and the rest of the month, where 57 cost 5 cents each.
        assert go_on_to_may(metered) == [0, 130, 157]
        assert metered.last_invoice().amount_paid == 9900 + 57 * 5

    def test_across_two_upgrades_within_an_hour(self, metered, plans):
        metered.use(10)
        change_plan(metered.organization, plan=plans.team)
        metered.wait(minutes=5)
        metered.use(20)
        change_plan(metered.organization, plan=plans.enterprise)
        metered.wait(minutes=5)
        metered.use(40)

        assert go_on_to_may(metered) == [0, 10, 20, 40]

    def test_across_the_end(self, metered):
        metered.use(130)

        cancel_now(metered.organization)

        assert go_on_to_may(metered) == [0, 130]
        # 30 units at 10 cents; the rest of the fee, 2900 × 19.5625 days of 30, comes back: 1891.
        assert metered.invoices()[1].total == 300 - 1891

    def test_across_the_end_in_the_first_second_of_an_hour(self, metered):
        metered.wait(minutes=30)
        metered.use(130)

        cancel_now(metered.organization)

        assert go_on_to_may(metered) == [0, 130]

    def test_across_an_upgrade_to_a_year(self, metered, plans):
        metered.use(130)
        with used_in_between(metered, 7):
            change_plan(metered.organization, plan=plans.pro, interval="year")
        metered.wait(minutes=10)
        metered.use(40)
        report_usage()
        metered.wait_until(datetime(2026, 5, 12, tzinfo=UTC))

        assert metered.invoiced_units() == 177
        assert MeterReport.objects.filter(state=State.SENT).count() == 3

    @pytest.mark.parametrize("paid", [True, False])
    def test_across_an_upgrade_that_waits_for_the_customer(self, metered, plans, paid):
        metered.use(130)
        metered.pay_with(CHALLENGES)
        with used_in_between(metered, 7):
            url = change_plan(metered.organization, plan=plans.team).payment_url
        metered.wait(minutes=10)
        metered.use(40)
        report_usage()
        if paid:
            metered.confirm(url)
            metered.see()
        else:
            undo_change(metered.organization)
        metered.pay_with("pm_card_visa")
        metered.wait(minutes=5)
        metered.use(20)

        assert go_on_to_may(metered) == ([0, 130, 67] if paid else [0, 197])

    def test_a_declined_upgrade_leaves_usage_to_the_month(self, metered, plans):
        metered.use(130)
        metered.pay_with("pm_card_chargeCustomerFail")
        with pytest.raises(Exception, match="declined"):
            change_plan(metered.organization, plan=plans.team)
        metered.pay_with("pm_card_visa")
        metered.use(20)

        assert go_on_to_may(metered) == [0, 150]

    def test_usage_reported_late_stays_in_the_month_that_it_was_of(self, metered):
        metered.wait_until(datetime(2026, 4, 30, 23, 50, tzinfo=UTC))
        metered.use(30)
        entitlement_of_april = metered.entitlement()
        metered.wait_until(datetime(2026, 5, 1, 0, 10, tzinfo=UTC))
        metered.see()
        metered.use(5)
        report_usage()
        metered.wait(hours=2)

        assert [each.timestamp for each in MeterReport.objects.order_by("hour")] == [
            datetime(2026, 4, 30, 23, tzinfo=UTC),
            datetime(2026, 5, 1, tzinfo=UTC),
        ]
        assert entitlement_of_april.period_end == datetime(2026, 5, 1, tzinfo=UTC)
        assert metered.invoiced_units() == 30

    def test_what_was_used_before_subscribing_is_never_billed(self, acme, plans):
        acme.bill_overage(plans.pro, included=100, cents="10")
        acme.wait(days=10, hours=10, minutes=15)
        acme.use(50)
        acme.wait(minutes=15)
        acme.subscribe(plans.pro)
        acme.use(20)
        report_usage()
        acme.wait(days=31)

        assert acme.invoiced_units() == 20

    @pytest.fixture
    def first(self, acme, plans) -> str:
        """Acme's subscription to a Team, of two days; a Pro bills usage too."""
        acme.bill_overage(plans.pro, included=100, cents="10")
        acme.bill_overage(plans.team, included=100, cents="5")
        first = acme.subscribe(plans.team)
        acme.wait(days=2)
        return str(first)

    def test_that_of_before_a_second_subscription_is_on_the_first_one_s(self, first, acme, plans):
        acme.use(130)
        acme.wait(hours=2)
        acme.subscribe(plans.pro)
        report_usage()
        acme.wait(days=35)

        assert acme.entitlement().subscription_id == first
        assert acme.invoiced_units() == 130

    def test_that_of_before_a_change_of_it_is_on_the_first_one_s_though_there_is_a_second(
        self, first, acme, plans
    ):
        (fee,) = [each for each in plans.pro.offered_prices(interval="month") if not each.meter]
        acme.subscribe(plans.pro, items=[{"price": fee.stripe_price_id}])
        acme.wait(hours=3)
        acme.use(130)
        acme.wait(hours=3)
        of_team = acme.api.subscriptions.retrieve(first)["items"].data
        removed = [{"id": item.id, "deleted": True} for item in of_team]
        added = [{"price": price} for price in prices_of(plans.enterprise)]
        change = {"items": removed + added, "proration_behavior": "always_invoice"}
        acme.api.subscriptions.update(first, change)
        acme.see()
        report_usage()
        acme.wait(days=35)

        assert acme.entitlement().subscription_id == first
        assert acme.invoiced_units() == 130

    def test_an_upgrade_is_not_made_while_usage_cannot_be_reported(self, metered, plans, sandbox):
        metered.use(130)
        sandbox.faults.add("server_error", path="/v1/billing/meter_events")

        with pytest.raises(UsageNotReported):
            change_plan(metered.organization, plan=plans.team)
        assert len(metered.invoices()) == 1

    def test_a_downgrade_closes_nothing_now_and_needs_no_report(self, metered, plans, sandbox):
        sandbox.faults.add("server_error", path="/v1/billing/meter_events")
        metered.use(130)

        with pytest.raises(ChangeRefused):
            change_plan(metered.organization, plan=plans.pro)
        assert change_plan(metered.organization, plan=plans.free).state == "scheduled"
