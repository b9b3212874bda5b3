"""A correction costs, or gives back, what its units would have cost with the discounts of their own month."""

from datetime import UTC, datetime
from fractions import Fraction

import pytest

from billing.errors import DiscountUnclear
from tests.usage.proving import event_at_stripe, invoice_april, of_april, use_late
from usage import corrections
from usage.corrections.pricing import net
from usage.models import Correction, Proof
from usage.repair import repair
from usage.tasks import report_usage, send_corrections

pytestmark = pytest.mark.django_db
JUNE = datetime(2026, 6, 1, 2, tzinfo=UTC)
FEE = 2900
EACH = [{"up_to": "inf", "unit_amount_decimal": "1"}]


@pytest.fixture
def subscribe(acme, plans):
    """Have Acme on a Pro at 10 cents beyond 100 units, with a coupon, and units used in April."""

    def begin(*, units: int = 130, **coupon):
        acme.bill_overage(plans.pro, included=100, cents="10")
        made = acme.api.coupons.create({"duration": "forever", **coupon})
        acme.subscribe(plans.pro, discounts=[{"coupon": made.id}])
        acme.wait(days=10)
        acme.use(units)
        report_usage()
        return made.id

    return begin


@pytest.fixture
def halved(acme, subscribe):
    """Acme at half price: each unit beyond 100 costs 5 cents net of 10."""
    subscribe(percent_off=50)
    return acme


def correct_late(acme, *, units: int = 12) -> list[int]:
    """Use units that come too late, repair, and return the cents of all corrections."""
    use_late(acme, units=units)
    report_usage()
    repair(acme.organization)
    return list(Correction.objects.order_by("number").values_list("amount", flat=True))


def due_in_june(acme) -> int:
    acme.wait_until(JUNE)
    acme.see()
    return int(acme.last_invoice().amount_due)


def test_several_of_a_period_come_to_what_one_for_all_would():
    once = net(7, EACH, share=Fraction(1, 2))

    steps = [net(n + 1, EACH, share=Fraction(1, 2)) - net(n, EACH, share=Fraction(1, 2)) for n in range(7)]

    assert sum(steps) == once == 4


class TestAtHalfPrice:
    def test_no_more_is_given_back_than_was_paid(self, halved):
        event_at_stripe(halved, units=120)
        invoice_april(halved)
        assert halved.last_invoice().amount_paid == (FEE + 1500) // 2
        proposal = corrections.propose(of_april(halved))

        corrections.send(corrections.make(proposal, by="ann@staff.example").pk)

        assert due_in_june(halved) == FEE // 2 - 600

    def test_what_came_late_costs_half_and_is_not_halved_again(self, halved):
        invoice_april(halved)

        assert correct_late(halved) == [60]
        assert due_in_june(halved) == FEE // 2 + 60
        assert of_april(halved).status == Proof.Status.PROVEN

    def test_also_where_nothing_was_charged_on_the_invoice(self, acme, subscribe):
        subscribe(percent_off=50, units=90)
        invoice_april(acme)

        assert correct_late(acme, units=20) == [50]

    def test_also_for_one_who_has_left(self, halved):
        invoice_april(halved)
        halved.api.subscriptions.cancel(halved.subscription_id)
        halved.see()

        assert correct_late(halved) == [60]
        halved.wait(hours=2)
        assert halved.last_invoice().amount_due == 60

    def test_also_for_a_last_period_without_an_invoice(self, halved):
        halved.api.subscriptions.cancel(halved.subscription_id)
        halved.see()
        halved.wait(days=2)
        halved.see()

        repair(halved.organization)
        halved.wait(hours=2)

        assert halved.last_invoice().amount_due == 150

    def test_also_where_the_discount_has_ended_since(self, acme, subscribe):
        subscribe(percent_off=50, duration="repeating", duration_in_months=1)
        acme.wait_until(datetime(2026, 4, 30, tzinfo=UTC))
        acme.api.subscriptions.cancel(acme.subscription_id, {"invoice_now": True})
        acme.wait(days=5)
        acme.see()
        assert acme.last_invoice().amount_paid == 150

        use_late(acme, units=12)
        report_usage()

        assert corrections.propose(of_april(acme)).amount == 60

    def test_a_discount_that_came_later_takes_nothing_off(self, april):
        made = correct_late(april)
        coupon = april.api.coupons.create({"percent_off": 50, "duration": "forever"})
        april.api.subscriptions.update(april.subscription_id, {"discounts": [{"coupon": coupon.id}]})

        assert made == [120]
        assert due_in_june(april) == FEE // 2 + 120


class TestOtherDiscounts:
    def test_all_of_it_off_is_settled_without_a_charge(self, acme, subscribe):
        subscribe(percent_off=100)
        invoice_april(acme)

        assert correct_late(acme) == [0]
        assert Correction.objects.get().state == Correction.State.FREE

    def test_one_for_another_product_changes_nothing(self, acme, subscribe, plans):
        subscribe(percent_off=50, applies_to={"products": ["tollgate_pro"]})
        invoice_april(acme)

        assert correct_late(acme) == [120]

    def test_an_amount_that_was_taken_off_in_full_leaves_what_comes_late_at_its_price(self, acme, subscribe):
        subscribe(amount_off=500, currency="usd")
        invoice_april(acme)

        assert correct_late(acme) == [120]

    @pytest.mark.parametrize("too_many", [0, 120])
    def test_an_amount_that_was_not_is_left_to_a_person(self, acme, subscribe, too_many):
        subscribe(amount_off=50_000 if not too_many else 500, currency="usd")
        if too_many:
            event_at_stripe(acme, units=too_many)
        invoice_april(acme)
        if not too_many:
            use_late(acme, units=12)
            report_usage()

        said, _ = repair(acme.organization).left

        assert said.endswith("cannot be told here: settle it at Stripe, and accept it.")
        assert not Correction.objects.exists()

    def test_a_coupon_that_was_deleted_leaves_it_to_a_person(self, acme, subscribe):
        acme.api.coupons.delete(subscribe(percent_off=50))
        invoice_april(acme)
        use_late(acme, units=12)
        report_usage()

        with pytest.raises(DiscountUnclear):
            corrections.propose(of_april(acme))


def test_one_that_was_made_before_at_the_full_price_is_discounted_by_the_invoice(halved):
    invoice_april(halved)
    use_late(halved, units=12)
    report_usage()
    corrections.make(corrections.propose(of_april(halved)))
    Correction.objects.update(amount=120, is_net=False)

    send_corrections()

    assert due_in_june(halved) == FEE // 2 + 60
