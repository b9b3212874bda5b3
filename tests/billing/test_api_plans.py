"""GET /plans: what is on offer, to everybody."""

from decimal import Decimal

import pytest

from billing.models import PlanQuota
from tests.billing.buying import offer_trial, sell
from tests.billing.cast import publish_all

pytestmark = pytest.mark.django_db


@pytest.fixture
def listed(client):
    """The plans by slug, as the API lists them now."""

    def listed() -> dict:
        return {plan["slug"]: plan for plan in client.get("/api/v1/plans").json()["data"]}

    return listed


def test_the_plans_are_public_and_in_order(sandbox, plans, listed):
    publish_all()
    limits = [(slug, plan["rate_per_minute"], plan["quotas"]["requests"]) for slug, plan in listed().items()]

    assert limits == [
        ("free", 10, 100),
        ("pro", 100, 10_000),
        ("team", 500, 100_000),
        ("enterprise", None, None),
    ]
    assert listed()["pro"]["prices"] == [{"currency": "usd", "interval": "month", "unit_amount": 2900}]
    assert listed()["free"]["prices"] == []
    assert [plan["api_key_limit"] for plan in listed().values()] == [5, 20, 100, None]
    assert listed()["pro"]["burst"] is None


def test_a_plan_that_is_not_public_is_not_listed(sandbox, plans, listed):
    plans.team.is_public = False
    plans.team.save()

    assert list(listed()) == ["free", "pro", "enterprise"]


def test_every_interval_and_currency_that_can_be_bought_is_listed(sandbox, plans, listed):
    publish_all()
    sell(plans.pro, interval="year", currency="eur", unit_amount=27_000)

    assert {"currency": "eur", "interval": "year", "unit_amount": 27_000} in listed()["pro"]["prices"]


def test_a_price_that_stripe_does_not_have_is_not_listed(sandbox, plans, listed):
    publish_all()
    plans.pro.prices.filter(meter=None).update(unit_amount=4_900)

    assert listed()["pro"]["prices"] == []


def test_trials_are_listed(sandbox, plans, listed):
    offer_trial(plans.pro)

    assert (listed()["pro"]["trial_days"], listed()["team"]["trial_days"]) == (14, None)


def test_what_further_units_cost_is_listed_exactly(sandbox, plans, listed):
    plans.pro.quotas.update(overage=PlanQuota.Overage.BILL)
    metered = plans.pro.prices.get(meter__slug="requests")
    metered.tiers.create(up_to=50_000, unit_amount=Decimal("0.2"))
    metered.tiers.create(up_to=None, unit_amount=Decimal("0.000000000001"))
    publish_all()

    assert listed()["pro"]["overage"] == [
        {
            "meter": "requests",
            "currency": "usd",
            "tiers": [
                {"up_to": 50_000, "unit_amount": "0.200000000000"},
                {"up_to": None, "unit_amount": "0.000000000001"},
            ],
        }
    ]
    assert listed()["team"]["overage"] == []
