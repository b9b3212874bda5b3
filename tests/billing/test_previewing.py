"""What a change costs, worked out by hand, and held against the invoice that then comes."""

from datetime import UTC, datetime

import pytest

from billing.errors import ChangeRefused, NoSubscription, NotPublished
from billing.models import PlanPrice
from billing.stripe.changing import change_plan
from billing.stripe.previewing import preview_change

pytestmark = pytest.mark.django_db


def amounts(preview):
    return [line.amount for line in preview.lines]


def upgraded(acme, preview):
    """Make the change as shown, and return the invoice that it made."""
    outcome = change_plan(
        acme.organization, plan=preview.plan, interval=preview.interval, token=preview.token
    )
    assert outcome.state == "done"
    return acme.last_invoice()


def assert_exact(preview, invoice):
    assert invoice.amount_due == preview.amount_due == sum(amounts(preview))
    assert [line.amount for line in invoice.lines.data] == amounts(preview)[: len(invoice.lines.data)]
    assert [line.description for line in invoice.lines.data] == [
        line.description for line in preview.lines[: len(invoice.lines.data)]
    ]


def fee_after(acme, preview):
    """Let the next fee fall due, be finalized and paid; return its invoice."""
    known = {invoice.id for invoice in acme.invoices()}
    acme.wait_until(preview.next_at)
    acme.wait(hours=2)
    later = [
        each
        for each in acme.invoices()
        if each.id not in known and each.created >= preview.next_at.timestamp()
    ]
    return later[0]


def test_an_upgrade_costs_the_difference_for_the_days_that_are_left(acme, plans):
    acme.subscribe(plans.pro)
    acme.wait(days=10)

    preview = preview_change(acme.organization, plan=plans.team)

    # 20 of 30 days: 2900 × 20/30 = 1933.33 back, 9900 × 20/30 = 6600.
    assert (preview.kind, amounts(preview), preview.amount_due) == ("upgrade", [-1933, 6600, 0], 4667)
    assert (preview.next_amount, preview.next_at) == (9900, datetime(2026, 5, 1, tzinfo=UTC))
    assert_exact(preview, upgraded(acme, preview))
    assert fee_after(acme, preview).amount_due == 9900


def test_a_running_discount_is_in_what_comes_back_and_in_what_is_charged(acme, plans):
    coupon = acme.api.coupons.create({"percent_off": 20, "duration": "repeating", "duration_in_months": 3})
    acme.subscribe(plans.pro, discounts=[{"coupon": coupon.id}])
    acme.wait(days=10)

    preview = preview_change(acme.organization, plan=plans.team)

    # 2900 less 20 % is 2320, and 9900 is 7920: 2320 × 20/30 = 1546.67 back, 7920 × 20/30 = 5280.
    assert (amounts(preview), preview.amount_due) == ([-1547, 5280, 0], 3733)
    assert preview.next_amount == 7920
    assert [line.amount for line in preview.next_lines] == [9900, -1980]
    assert_exact(preview, upgraded(acme, preview))
    assert fee_after(acme, preview).amount_due == 7920


def test_a_discount_that_ends_before_the_next_fee_is_not_in_it(acme, plans):
    coupon = acme.api.coupons.create({"percent_off": 20, "duration": "repeating", "duration_in_months": 1})
    acme.subscribe(plans.pro, discounts=[{"coupon": coupon.id}])
    acme.wait(days=10)

    preview = preview_change(acme.organization, plan=plans.team)

    assert (preview.amount_due, preview.next_amount) == (3733, 9900)
    upgraded(acme, preview)
    assert fee_after(acme, preview).amount_due == 9900


@pytest.fixture
def taxed(acme):
    """Acme, who lives in Germany, buys from a seller in Ireland with VAT on top: 19 %."""
    acme.api.tax.settings.update(
        {
            "defaults": {"tax_behavior": "exclusive", "tax_code": "txcd_10103001"},
            "head_office": {"address": {"country": "IE"}},
        }
    )
    acme.api.tax.registrations.create(
        {"country": "IE", "country_options": {"ie": {"type": "oss_union"}}, "active_from": 1_700_000_000}
    )
    acme.api.customers.update(acme.customer_id, {"address": {"country": "DE", "postal_code": "10115"}})
    return acme


def test_tax_is_shown_and_charged(taxed, plans):
    taxed.subscribe(plans.pro, automatic_tax={"enabled": True})
    taxed.wait(days=10)

    preview = preview_change(taxed.organization, plan=plans.team)

    # 19 % of -1933 is -367.27, of 6600 it is 1254: 4667 + 887.
    assert [(line.description, line.amount) for line in preview.lines[3:]] == [("Tax", 887)]
    assert preview.amount_due == 5554
    # 9900 and 1881 of tax.
    assert preview.next_amount == 11_781
    assert_exact(preview, upgraded(taxed, preview))
    assert fee_after(taxed, preview).amount_due == 11_781


def test_credit_on_account_is_used_first(acme, plans):
    acme.subscribe(plans.pro)
    acme.wait(days=10)
    acme.api.customers.balance_transactions.create(acme.customer_id, {"amount": -1000, "currency": "usd"})

    preview = preview_change(acme.organization, plan=plans.team)

    assert [(line.description, line.amount) for line in preview.lines[3:]] == [("Credit from before", -1000)]
    assert (preview.amount_due, preview.next_amount) == (3667, 9900)
    assert_exact(preview, upgraded(acme, preview))
    assert fee_after(acme, preview).amount_due == 9900


def test_credit_that_an_upgrade_leaves_is_taken_off_the_next_fee(acme, plans):
    acme.subscribe(plans.pro)
    acme.wait(days=10)
    acme.api.customers.balance_transactions.create(acme.customer_id, {"amount": -6000, "currency": "usd"})

    preview = preview_change(acme.organization, plan=plans.team)

    # 6000 - 4667 = 1333 is left, and 9900 - 1333 = 8567.
    assert (preview.amount_due, preview.next_amount) == (0, 8567)
    assert_exact(preview, upgraded(acme, preview))
    assert fee_after(acme, preview).amount_due == 8567


def test_what_is_owed_from_before_is_charged_with_it(acme, plans):
    acme.subscribe(plans.pro)
    acme.wait(days=10)
    acme.api.customers.balance_transactions.create(acme.customer_id, {"amount": 250, "currency": "usd"})

    preview = preview_change(acme.organization, plan=plans.team)

    assert [(line.description, line.amount) for line in preview.lines[3:]] == [("Owed from before", 250)]
    assert_exact(preview, upgraded(acme, preview))


def test_from_month_to_year_a_year_is_charged_and_the_month_s_rest_comes_back(acme, plans):
    acme.subscribe(plans.pro)
    acme.wait(days=10)

    preview = preview_change(acme.organization, plan=plans.pro, interval="year")

    # 1933 back for 20 of 30 days, and a whole year: 29000.
    assert (preview.kind, preview.amount_due) == ("upgrade", 27_067)
    assert (preview.next_amount, preview.next_at) == (29_000, datetime(2027, 4, 11, tzinfo=UTC))
    assert_exact(preview, upgraded(acme, preview))
    assert acme.subscription()["items"]["data"][0]["price"]["recurring"]["interval"] == "year"
    assert fee_after(acme, preview).amount_due == 29_000


def test_a_year_is_divided_by_its_days(acme, plans):
    acme.subscribe(plans.pro, interval="year")
    acme.wait(days=73)
    acme.see()

    preview = preview_change(acme.organization, plan=plans.team, interval="year")

    # 292 of 365 days, which is 0.8: 23200 back, 79200 for the rest.
    assert (amounts(preview), preview.amount_due) == ([-23_200, 79_200, 0], 56_000)
    assert (preview.next_amount, preview.next_at) == (99_000, datetime(2027, 4, 1, tzinfo=UTC))
    assert_exact(preview, upgraded(acme, preview))


def test_an_upgrade_that_gives_back_more_than_it_costs_leaves_credit(acme, plans):
    acme.subscribe(plans.pro, interval="year")
    acme.wait(days=73)
    acme.see()

    preview = preview_change(acme.organization, plan=plans.team)

    # 23200 back, 9900 for the first month: 13300 of credit, of which the next month takes 9900.
    assert preview.amount_due == 0
    assert preview.lines[-1].description == "Kept as credit for later invoices"
    assert preview.lines[-1].amount == 13_300
    assert (preview.next_amount, preview.next_at) == (0, datetime(2026, 7, 13, tzinfo=UTC))
    assert_exact(preview, upgraded(acme, preview))
    assert acme.balance() == -13_300
    assert fee_after(acme, preview).amount_due == 0


def test_in_a_trial_any_change_costs_nothing_now(acme, plans):
    acme.subscribe(plans.team, trial_period_days=14)
    acme.wait(days=3)

    for plan, interval, fee in ((plans.pro, "month", 2900), (plans.team, "year", 99_000)):
        preview = preview_change(acme.organization, plan=plan, interval=interval)

        assert (preview.kind, preview.amount_due, preview.lines) == ("switch_in_trial", 0, [])
        assert (preview.next_amount, preview.next_at) == (fee, datetime(2026, 4, 15, tzinfo=UTC))


def test_the_first_fee_after_a_trial_is_the_one_that_was_shown(acme, plans):
    acme.subscribe(plans.team, trial_period_days=14)
    acme.wait(days=3)
    preview = preview_change(acme.organization, plan=plans.pro)

    change_plan(acme.organization, plan=plans.pro, token=preview.token)

    assert [invoice.total for invoice in acme.invoices()] == [0]
    assert fee_after(acme, preview).amount_due == 2900


def test_a_downgrade_costs_nothing_now_and_the_smaller_fee_from_the_period_s_end(acme, plans):
    acme.subscribe(plans.team)
    acme.wait(days=10)

    preview = preview_change(acme.organization, plan=plans.pro)

    may = datetime(2026, 5, 1, tzinfo=UTC)
    assert (preview.kind, preview.amount_due, preview.lines) == ("downgrade", 0, [])
    assert (preview.effective_at, preview.next_at, preview.next_amount) == (may, may, 2900)
    change_plan(acme.organization, plan=plans.pro, token=preview.token)
    assert fee_after(acme, preview).amount_due == 2900


def test_the_first_fee_after_a_downgrade_has_tax_and_the_discount_that_still_runs(taxed, plans):
    lasting = taxed.api.coupons.create({"percent_off": 20, "duration": "repeating", "duration_in_months": 3})
    ending = taxed.api.coupons.create({"percent_off": 50, "duration": "repeating", "duration_in_months": 1})
    taxed.subscribe(
        plans.team,
        automatic_tax={"enabled": True},
        discounts=[{"coupon": lasting.id}, {"coupon": ending.id}],
    )
    taxed.wait(days=10)

    preview = preview_change(taxed.organization, plan=plans.pro)

    # 2900 less 20 % is 2320; 19 % of that is 440.8.
    assert preview.next_amount == 2761
    assert [(line.description, line.amount) for line in preview.next_lines[-2:]] == [
        ("Discount", -580),
        ("Tax", 441),
    ]
    change_plan(taxed.organization, plan=plans.pro, token=preview.token)
    invoice = fee_after(taxed, preview)
    assert (invoice.amount_due, invoice.total_taxes[0].amount) == (2761, 441)
    assert sum(line.amount for line in preview.next_lines) == invoice.amount_due


def test_the_first_invoice_after_a_downgrade_has_what_was_used_before_it(acme, plans):
    acme.bill_overage(plans.team, included=100, cents="2.5")
    acme.subscribe(plans.team)
    acme.wait(days=10)
    acme.use(301)

    preview = preview_change(acme.organization, plan=plans.pro)

    # 201 units beyond the 100 at 2.5 cents: 502.5, so 503.
    assert preview.next_amount == 2900 + 503
    change_plan(acme.organization, plan=plans.pro, token=preview.token)
    invoice = fee_after(acme, preview)
    assert invoice.amount_due == preview.next_amount
    assert acme.invoiced_units() == 301


def test_a_yearly_plan_is_left_at_the_year_s_end(acme, plans):
    acme.bill_overage(plans.team, included=100, cents="2.5")
    acme.subscribe(plans.team, interval="year")
    acme.wait(days=10)
    # On this month's invoice, long before the change.
    acme.use(301)

    preview = preview_change(acme.organization, plan=plans.pro, interval="month")

    assert (preview.effective_at, preview.next_amount) == (datetime(2027, 4, 1, tzinfo=UTC), 2900)
    change_plan(acme.organization, plan=plans.pro, interval="month", token=preview.token)
    assert fee_after(acme, preview).amount_due == 2900


def test_leaving_for_the_free_plan_costs_nothing_then_either(acme, plans):
    acme.subscribe(plans.pro)
    acme.wait(days=10)

    preview = preview_change(acme.organization, plan=plans.free)

    assert (preview.kind, preview.amount_due, preview.next_amount, preview.next_at) == (
        "downgrade",
        0,
        0,
        None,
    )
    assert preview.effective_at == datetime(2026, 5, 1, tzinfo=UTC)


def test_looking_changes_nothing(acme, plans):
    acme.subscribe(plans.pro)
    acme.wait(days=10)
    before = acme.subscription().to_dict()

    preview_change(acme.organization, plan=plans.team)
    preview_change(acme.organization, plan=plans.pro, interval="year")
    preview_change(acme.organization, plan=plans.free)

    assert acme.subscription().to_dict() == before
    assert len(acme.invoices()) == 1


def test_usage_so_far_is_a_line_of_an_upgrade(acme, plans):
    acme.bill_overage(plans.pro, included=100, cents="2.5")
    acme.subscribe(plans.pro)
    acme.wait(days=10)
    acme.use(301)

    preview = preview_change(acme.organization, plan=plans.team)

    # 503 for 201 units beyond the included, beside the days that are left.
    assert preview.amount_due == 4667 + 503
    assert_exact(preview, upgraded(acme, preview))


class TestRefusals:
    def test_without_a_subscription_there_is_nothing_to_change(self, sandbox, organization, plans):
        with pytest.raises(NoSubscription):
            preview_change(organization, plan=plans.pro)

    def test_the_plan_that_is_held_is_no_change(self, acme, plans):
        acme.subscribe(plans.pro)

        with pytest.raises(ChangeRefused) as refused:
            preview_change(acme.organization, plan=plans.pro)
        assert refused.value.code == "nothing_changes"

    def test_a_price_that_is_not_published_is_not_offered(self, acme, plans):
        acme.subscribe(plans.pro)
        PlanPrice.objects.filter(plan=plans.team, meter=None).update(unit_amount=9901)

        with pytest.raises(NotPublished, match="Team"):
            preview_change(acme.organization, plan=plans.team)

    def test_a_plan_without_a_yearly_price_is_not_sold_by_the_year(self, acme, plans):
        acme.subscribe(plans.pro)

        with pytest.raises(NotPublished, match="by the year in USD"):
            preview_change(acme.organization, plan=plans.enterprise, interval="year")
