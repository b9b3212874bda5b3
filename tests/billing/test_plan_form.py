"""The plan's form in the back office: what it takes, and what it refuses with a sentence."""

from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from django.forms import modelform_factory
from django.test import Client
from django.urls import reverse

from billing.admin.plan_forms import FeeForm
from billing.admin.tiers import read_tiers, write_tiers
from billing.entitlements import refresh_entitlement
from billing.limits import describe_limits
from billing.models import Meter, Plan, PlanOverride, PlanPrice
from billing.stripe.catalog import publish
from tests.billing.catalogue import at_stripe, fee_of, overage_of
from tests.billing.plan_form import Fields, add_row, delete_row, form_of, page, rows

pytestmark = pytest.mark.django_db


@pytest.fixture
def save(admin_client: Client, plans: SimpleNamespace) -> Callable[..., Any]:
    """Send Pro's form; return the answer."""

    def send(fields: Fields) -> Any:
        return admin_client.post(page(plans.pro), fields)

    return send


def test_the_form_saves_limits_prices_trial_and_tiers(save, plans):
    fields = form_of(plans.pro, rate_per_minute="120", trial_days="14", **{"quotas-0-overage": "bill"})
    fields["overages-0-tiers"] = "up to 50,000: 0.2\nbeyond: 0.1"
    fields = add_row(fields, "fees", interval="year", currency="usd", unit_amount="29000", lookup_key="")

    assert save(fields).status_code == 302

    plan = Plan.objects.get(slug="pro")
    assert (plan.rate_per_minute, plan.trial_days) == (120, 14)
    assert {(fee.interval, fee.unit_amount) for fee in plan.fees()} == {("month", 2900), ("year", 29_000)}
    assert overage_of(plan).stripe_tiers() == [
        {"up_to": 10_000, "unit_amount_decimal": "0"},
        {"up_to": 50_000, "unit_amount_decimal": "0.2"},
        {"up_to": "inf", "unit_amount_decimal": "0.1"},
    ]


def test_bursts_and_keys_reach_the_entitlements_and_leave_what_is_sold_alone(
    save, plans, sandbox, organization, django_capture_on_commit_callbacks
):
    publish([plans.pro])
    PlanOverride.objects.create(organization=organization, plan=plans.pro, reason="A friend")

    with django_capture_on_commit_callbacks(execute=True):
        page = save(form_of(plans.pro, burst="20", api_key_limit="3"))

    assert page.status_code == 302
    entitlement = refresh_entitlement(organization)
    assert (entitlement.rate_per_minute, entitlement.burst, entitlement.api_key_limit) == (100, 20, 3)
    assert describe_limits(entitlement)[0] == "100 calls a minute, 20 at once"
    assert describe_limits(entitlement)[-1] == "3 API keys"
    assert all(price.is_published for price in plans.pro.prices.all())


def test_saving_an_unchanged_form_changes_nothing(save, plans, sandbox):
    publish([plans.pro])
    before = list(PlanPrice.objects.values())

    assert save(form_of(plans.pro)).status_code == 302

    assert list(PlanPrice.objects.values()) == before


def test_neither_slug_nor_default_can_be_sent(save, plans):
    save(form_of(plans.pro, slug="renamed", is_default="on"))

    plan = Plan.objects.get(pk=plans.pro.pk)
    assert (plan.slug, plan.is_default) == ("pro", False)


def test_a_fee_in_another_currency_gets_a_free_metered_price_by_itself(save, plans):
    fields = form_of(plans.pro)

    save(add_row(fields, "fees", interval="month", currency="eur", unit_amount="2500", lookup_key=""))

    metered = plans.pro.prices.get(meter__slug="requests", currency="eur")
    assert (metered.unit_amount, metered.stripe_tiers()) == (0, [])


def test_a_fee_of_nothing_has_to_be_said(save, plans):
    untouched = add_row(form_of(plans.pro), "fees", interval="month", currency="usd", unit_amount="")
    save(untouched)
    assert [fee.currency for fee in Plan.objects.get(slug="pro").fees()] == ["usd"]

    save(
        add_row(form_of(plans.pro), "fees", interval="month", currency="eur", unit_amount="0", lookup_key="")
    )

    assert {(fee.currency, fee.unit_amount) for fee in Plan.objects.get(slug="pro").fees()} == {
        ("usd", 2900),
        ("eur", 0),
    }


def test_a_quota_that_goes_takes_its_free_metered_price_with_it(save, plans):
    save(delete_row(form_of(plans.pro), "quotas", 0))

    assert not plans.pro.prices.exclude(meter=None).exists()


def test_a_lookup_key_can_be_chosen_until_the_price_is_published(save, plans, sandbox):
    save(form_of(plans.pro, **{"fees-0-lookup_key": "pro_monthly"}))
    assert fee_of(plans.pro).lookup_key == "pro_monthly"
    publish([plans.pro])

    changes = {"fees-0-lookup_key": "other", "fees-0-currency": "eur", "fees-0-interval": "year"}
    assert save(form_of(plans.pro, **changes)).status_code == 302

    assert fee_of(plans.pro).lookup_key == "pro_monthly"


def test_saving_does_not_forget_what_was_published_meanwhile(plans, sandbox):
    form = modelform_factory(PlanPrice, form=FeeForm, fields=["unit_amount", "lookup_key"])
    read = form({"unit_amount": 3900, "lookup_key": "tollgate_pro_month_usd"}, instance=fee_of(plans.pro))
    publish([plans.pro])

    read.save()

    fee = fee_of(plans.pro)
    assert (fee.unit_amount, fee.published_terms["unit_amount"]) == (3900, 2900)
    assert fee.stripe_price_id == at_stripe(sandbox, "tollgate_pro_month_usd")["id"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"rate_per_minute": "0"}, "Use 1 or more, or leave it empty for unlimited: 0 would let nobody in."),
        (
            {"quotas-0-included": "0"},
            "Use 1 or more, or leave it empty for unlimited: 0 would let nobody in.",
        ),
        ({"burst": "101"}, "A burst is at most the 100 calls that a minute allows."),
        (
            {"burst": "5", "rate_per_minute": ""},
            "A burst needs calls a minute: without a rate any number may come at once.",
        ),
        (
            {"burst": "0"},
            "Use 1 or more, or leave it empty for unlimited: 0 would let nobody in.",
        ),
        (
            {"api_key_limit": "0"},
            "Use 1 or more, or leave it empty for unlimited: 0 would let nobody in.",
        ),
        ({"trial_days": "0"}, "Use 1 or more, or leave it empty for no trial."),
        ({"trial_days": "731"}, "Stripe allows trials of at most 730 days."),
        ({"quotas-0-meter": ""}, "Choose what is counted: a quota needs a meter."),
        ({"overages-0-meter": ""}, "Choose what is counted: an overage price needs a meter."),
        ({"fees-0-unit_amount": "-1"}, "A price cannot be negative: use a coupon to give money off."),
        ({"fees-0-currency": "US$"}, "Use a three-letter ISO 4217 code in small letters, such as usd."),
        (
            {"quotas-0-included": "", "quotas-0-overage": "bill"},
            "Unlimited units leave nothing to bill: say how many are included.",
        ),
        (
            {"quotas-0-overage": "bill"},
            "Say what a call beyond the included 10,000 costs in usd.",
        ),
        (
            {"quotas-0-overage": "bill", "overages-0-tiers": "beyond: -0.2"},
            "A price cannot be negative: “beyond: -0.2”.",
        ),
        (
            {
                "quotas-0-overage": "bill",
                "overages-0-tiers": "up to 50,000: 0.2\nup to 20,000: 0.1\nbeyond: 0.05",
            },
            "Requests in usd: Tiers are out of order: 20,000 does not lie beyond the tier before it, 50,000.",
        ),
        (
            {"quotas-0-overage": "bill", "overages-0-tiers": "up to 9,000: 0.2\nbeyond: 0.1"},
            "Requests in usd: Tiers are out of order: 9,000 does not lie beyond the 10,000 units that are included.",
        ),
        (
            {"quotas-0-overage": "bill", "overages-0-tiers": "beyond: 0.2\nup to 20,000: 0.1"},
            "Requests in usd: Only the last tier may have no end: the tiers after it would never be reached.",
        ),
        (
            {"quotas-0-overage": "bill", "overages-0-tiers": "up to 20,000: 0.1"},
            "Requests in usd: What does a unit beyond 20,000 cost? Leave the last tier&#x27;s end empty.",
        ),
        (
            {"quotas-0-overage": "bill", "overages-0-tiers": "twenty cents"},
            "“twenty cents” is no tier. Write “up to 50,000: 0.2”, and on the last line “beyond: 0.1”.",
        ),
        (
            {"overages-0-tiers": "beyond: 0.2"},
            "Requests in usd: calls beyond the included 10,000 are refused, so nothing can be charged for them. "
            "Bill further units, or empty the tiers.",
        ),
        (
            {"quotas-0-included": "", "overages-0-tiers": "beyond: 0.2"},
            "Requests in usd: The plan includes unlimited units: there is nothing for tiers to price.",
        ),
    ],
)
def test_the_form_refuses_with_a_sentence(save, plans, changes, sentence):
    before = list(PlanPrice.objects.values()), list(Plan.objects.values())

    response = save(form_of(plans.pro, **changes))

    assert response.status_code == 200
    assert sentence in response.text
    assert (list(PlanPrice.objects.values()), list(Plan.objects.values())) == before


def test_included_units_may_not_grow_past_the_tiers_that_lie_beyond_them(save, plans):
    fields = form_of(
        plans.pro, **{"quotas-0-overage": "bill", "overages-0-tiers": "up to 50,000: 0.2\nbeyond: 0.1"}
    )
    assert save(fields).status_code == 302

    response = save(form_of(plans.pro, **{"quotas-0-included": "60000"}))

    assert "50,000 does not lie beyond the 60,000 units that are included." in response.text
    assert plans.pro.quotas.get().included == 10_000


def test_overage_needs_a_price_in_each_currency_of_a_fee(save, plans):
    fields = form_of(plans.pro, **{"quotas-0-overage": "bill", "overages-0-tiers": "beyond: 0.2"})
    fields = add_row(fields, "fees", interval="month", currency="eur", unit_amount="2500", lookup_key="")

    assert "Say what a call beyond the included 10,000 costs in eur." in save(fields).text

    meter = Meter.objects.get().pk
    fields = add_row(fields, "overages", meter=meter, currency="eur", tiers="beyond: 0.2", lookup_key="")
    assert save(fields).status_code == 302
    assert {row.currency for row in plans.pro.prices.exclude(meter=None)} == {"usd", "eur"}


def test_a_plan_without_a_fee_cannot_bill_overage(admin_client, plans):
    response = admin_client.post(page(plans.free), form_of(plans.free, **{"quotas-0-overage": "bill"}))

    assert "a plan without a fee has no invoice to put further calls on." in response.text


@pytest.mark.parametrize(
    ("prefix", "entry", "sentence"),
    [
        (
            "fees",
            {"interval": "month", "currency": "usd", "unit_amount": "100", "lookup_key": ""},
            "There are two fees for a month in usd: leave one.",
        ),
        ("quotas", {"included": "5", "overage": "block"}, "There are two quotas of Requests: leave one."),
        (
            "overages",
            {"currency": "usd", "tiers": "", "lookup_key": ""},
            "There are two overage prices of Requests in usd: leave one.",
        ),
    ],
)
def test_two_rows_for_the_same_are_refused(save, plans, prefix, entry, sentence):
    meter = {} if prefix == "fees" else {"meter": Meter.objects.get().pk}

    response = save(add_row(form_of(plans.pro), prefix, **entry, **meter))

    assert response.status_code == 200
    assert sentence in response.text


def test_tiers_of_a_meter_that_the_plan_does_not_count_are_refused(save, plans):
    tokens = Meter.objects.create(slug="tokens", name="Tokens", unit="token")
    fields = form_of(plans.pro)

    response = save(
        add_row(fields, "overages", meter=tokens.pk, currency="usd", tiers="beyond: 1", lookup_key="")
    )

    assert (
        "Tokens in usd: the plan has no quota of tokens that these tiers could lie beyond." in response.text
    )


def test_a_slug_that_would_be_taken_for_a_meter_s_product_is_refused(admin_client, plans):
    empty = {**rows("quotas"), **rows("fees"), **rows("overages")}

    response = admin_client.post(
        reverse("admin:billing_plan_add"), {"name": "Odd", "slug": "meter_requests", "order": "9", **empty}
    )

    assert "A slug may not begin with meter_" in response.text


@pytest.mark.parametrize(
    ("text", "tiers"),
    [
        ("", []),
        ("0.2", [(None, Decimal("0.2"))]),
        ("up to 50,000: 0.2\nbeyond: 0.1", [(50_000, Decimal("0.2")), (None, Decimal("0.1"))]),
        ("to 50000 0.2\n\nThen 0", [(50_000, Decimal("0.2")), (None, Decimal(0))]),
    ],
)
def test_tiers_are_read_as_people_write_them(text, tiers):
    assert read_tiers(text) == tiers
    assert read_tiers(write_tiers(tiers)) == tiers
