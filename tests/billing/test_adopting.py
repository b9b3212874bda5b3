"""Prices that Stripe had before Tollgate become the fees of plans, by their id, lookup key or the environment."""

import pytest
from djstripe import models as djstripe

from billing.entitlements import refresh_entitlement
from billing.errors import PublicationRefused
from billing.models import Plan, PlanPrice, PlanQuota, PublishedPrice
from billing.publication import AdoptPrice, KeepPrice
from billing.stripe.catalog import preview_publication, publish, publish_plan
from billing.stripe.catalog_reading import find_price_id
from billing.stripe.client import get_client
from billing.subscriptions import find_plan
from tests.billing.cast import subscribe
from tests.billing.catalogue import (
    at_stripe,
    fee_of,
    later,
    make_price,
    set_fee,
    subscribe_at_stripe,
    writes,
)
from tests.billing.faults import every_fault

pytestmark = pytest.mark.django_db


@pytest.fixture
def price_id(sandbox) -> str:
    return make_price()


def adopt(plan: Plan, price_id: str):
    return publish([plan], adopting={plan.slug: price_id})


def test_the_price_becomes_the_plan_s_fee(sandbox, plans, price_id):
    adopt(plans.pro, price_id)

    fee = fee_of(plans.pro)
    assert (fee.stripe_price_id, fee.unit_amount, fee.is_published) == (price_id, 2500, True)
    plan = Plan.objects.get(slug="pro")
    assert plan.stripe_product.stripe_data["name"] == "API access"
    assert preview_publication([plan]).is_empty


def test_what_adopting_does_is_shown_first(sandbox, plans, price_id):
    listed = preview_publication([plans.pro], adopting={"pro": price_id})

    assert [type(change) for change in listed.changes][:1] == [AdoptPrice]
    assert listed.changes[0].sentence == (
        f"Adopt {price_id} of the product “API access”, $25 a month, as the fee of Pro, in the place of $29 a month."
    )
    assert (
        "Keep the price Pro, $25 a month, which Stripe has already: it gets the lookup key tollgate_pro_month_usd."
    ) in [change.sentence for change in listed.changes]
    assert fee_of(plans.pro).unit_amount == 2900
    assert not djstripe.Price.objects.exists()


def test_the_price_gets_the_plan_s_lookup_key(sandbox, plans, price_id):
    adopt(plans.pro, price_id)

    assert at_stripe(sandbox, "tollgate_pro_month_usd")["id"] == price_id


def test_a_lookup_key_of_its_own_is_kept_and_taken_over_here(sandbox, plans):
    price_id = make_price(lookup_key="pro_monthly")

    adopt(plans.pro, price_id)

    assert fee_of(plans.pro).lookup_key == "pro_monthly"
    assert at_stripe(sandbox, "pro_monthly")["id"] == price_id


def test_a_price_is_found_by_its_lookup_key_or_its_id(sandbox):
    price_id = make_price(lookup_key="pro_monthly")

    assert find_price_id("pro_monthly") == price_id
    assert find_price_id(price_id) == price_id
    assert find_price_id("nobodys") is None


def test_a_plan_whose_row_names_the_lookup_key_adopts_the_price_by_publishing(sandbox, plans):
    price_id = make_price(lookup_key="pro_monthly")
    plans.pro.prices.filter(meter=None).update(lookup_key="pro_monthly", unit_amount=2500)

    done = publish([plans.pro])

    (noted,) = [change for change in done.changes if isinstance(change, KeepPrice)]
    assert noted.sentence == "Adopt the price Pro, $25 a month, which Stripe has already."
    assert fee_of(plans.pro).stripe_price_id == price_id
    assert PublishedPrice.objects.get(stripe_price_id=price_id).is_adopted


def test_an_adopted_product_keeps_its_name(sandbox, plans, price_id):
    adopt(plans.pro, price_id)
    Plan.objects.filter(slug="pro").update(name="Professional")

    assert preview_publication([Plan.objects.get(slug="pro")]).is_empty


def test_a_yearly_price_in_another_currency_is_a_fee_beside_those_at_stripe(sandbox, plans):
    publish([plans.pro])
    price_id = make_price(currency="eur", unit_amount=25_000, recurring={"interval": "year"})

    adopt(plans.pro, price_id)

    fee = plans.pro.prices.get(meter=None, interval="year", currency="eur")
    assert (fee.stripe_price_id, fee.unit_amount) == (price_id, 25_000)
    assert fee_of(plans.pro).is_published
    assert plans.pro.prices.get(meter__slug="requests", currency="eur").is_published


def test_the_fee_that_a_plan_was_seeded_with_makes_way_for_one_in_another_currency(sandbox, plans):
    adopt(plans.pro, make_price(currency="eur"))

    assert {(price.currency, price.meter_id is None) for price in plans.pro.prices.all()} == {
        ("eur", True),
        ("eur", False),
    }
    assert not [price for price in sandbox.every("price") if price["currency"] == "usd"]


def test_overage_that_has_no_price_in_the_new_currency_is_asked_for(sandbox, plans):
    plans.pro.quotas.update(overage=PlanQuota.Overage.BILL)
    plans.pro.prices.get(meter__slug="requests").set_tiers([(None, 1)])

    listed = preview_publication([plans.pro], adopting={"pro": make_price(currency="eur")})

    assert any("Say what a call beyond the included 10,000 costs in eur." in fault for fault in listed.faults)


def test_subscribers_of_the_price_that_the_plan_had_stay_on_it(sandbox, organization, plans, price_id):
    subscribe(sandbox, organization, plan=plans.pro)
    old = fee_of(plans.pro).stripe_price_id

    done = adopt(Plan.objects.get(slug="pro"), price_id)

    assert done.changes[0].sentence.endswith("; 1 subscriber stays on the price that it had.")
    assert old in {item["price"] for item in sandbox.every("subscription_item")}
    subscription = djstripe.Subscription.objects.get()
    assert find_plan(subscription.stripe_data) == plans.pro


def test_who_subscribed_before_tollgate_is_not_touched(sandbox, organization, plans, price_id):
    subscription = subscribe_at_stripe(organization, price_id)
    before = get_client().v1.subscriptions.retrieve(subscription).to_dict()

    adopt(plans.pro, price_id)

    after = get_client().v1.subscriptions.retrieve(subscription).to_dict()
    for each in (before, after):
        each["items"]["data"][0]["price"].pop("lookup_key")
    assert after == before


def test_who_subscribes_to_an_adopted_price_has_the_plan(sandbox, organization, plans, price_id):
    subscribe_at_stripe(organization, price_id)
    adopt(plans.pro, price_id)

    assert refresh_entitlement(organization).plan == plans.pro


def test_who_subscribes_to_an_older_price_of_the_adopted_product_has_the_plan(sandbox, organization, plans):
    older = make_price(unit_amount=1900)
    product = get_client().v1.prices.retrieve(older).product
    adopt(plans.pro, make_price(product=product))
    subscribe_at_stripe(organization, older)

    assert refresh_entitlement(organization).plan == plans.pro


def test_a_product_of_two_plans_does_not_tell_them_apart_but_its_prices_do(sandbox, organization, plans):
    pro = make_price()
    product = get_client().v1.prices.retrieve(pro).product
    team = make_price(product=product, unit_amount=9500)
    stray = make_price(product=product, unit_amount=100)
    adopt(plans.pro, pro)
    adopt(plans.team, team)

    def plan_of(price_id):
        price = {"id": price_id, "product": product}
        return find_plan({"items": {"data": [{"price": price}]}})

    assert (plan_of(pro), plan_of(team), plan_of(stray)) == (plans.pro, plans.team, None)


def test_a_subscriber_keeps_the_plan_when_another_product_is_adopted(sandbox, organization, plans):
    first = make_price()
    subscribe_at_stripe(organization, first)
    adopt(plans.pro, first)
    adopt(Plan.objects.get(slug="pro"), make_price(unit_amount=3500))

    assert refresh_entitlement(organization).plan == plans.pro


def test_a_newer_price_of_an_adopted_plan_is_of_the_adopted_product(sandbox, plans, price_id):
    adopt(plans.pro, price_id)
    set_fee(plans.pro, 3500)

    publish([Plan.objects.get(slug="pro")])

    product = get_client().v1.prices.retrieve(price_id).product
    assert at_stripe(sandbox, "tollgate_pro_month_usd")["product"] == product
    with later(hours=25):
        # Not ours to archive: something else of the operator's may still sell it.
        assert preview_publication([Plan.objects.get(slug="pro")]).is_empty


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"recurring": None}, "is paid once"),
        ({"recurring": {"interval": "week"}}, "is not charged monthly or yearly"),
        ({"recurring": {"interval": "month", "interval_count": 3}}, "is not charged monthly or yearly"),
        ({"unit_amount": None, "unit_amount_decimal": "2500.5"}, "fractions"),
        ({"transform_quantity": {"divide_by": 10, "round": "up"}}, "for packages of units"),
        (
            {
                "unit_amount": None,
                "billing_scheme": "tiered",
                "tiers_mode": "volume",
                "tiers": [{"up_to": "inf", "unit_amount": 5}],
            },
            "has tiers",
        ),
        ({"active": False}, "is archived"),
    ],
)
def test_a_price_that_is_no_plain_fee_is_refused_with_a_sentence(sandbox, plans, params, reason):
    price_id = make_price(**params)
    written = writes(sandbox)

    listed = preview_publication([plans.pro], adopting={"pro": price_id})

    assert listed.changes == ()
    (fault,) = listed.faults
    assert fault.startswith(f"Pro cannot be published. The price {price_id} ")
    assert reason in fault
    assert fault.endswith(".")
    assert adopt(plans.pro, price_id).faults == listed.faults
    assert writes(sandbox) == written
    assert fee_of(plans.pro).unit_amount == 2900


def test_a_metered_price_is_refused(sandbox, plans):
    meter = get_client().v1.billing.meters.create(
        {"display_name": "Calls", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
    )
    metered = {"interval": "month", "usage_type": "metered", "meter": meter.id}

    listed = preview_publication([plans.pro], adopting={"pro": make_price(recurring=metered)})

    assert "is charged by usage: a plan's fee is flat." in listed.faults[0]


def test_a_price_of_an_archived_product_is_refused(sandbox, plans, price_id):
    get_client().v1.products.update(get_client().v1.prices.retrieve(price_id).product, {"active": False})

    listed = preview_publication([plans.pro], adopting={"pro": price_id})

    assert "is of an archived product" in listed.faults[0]


def test_a_price_of_another_plan_is_refused(sandbox, plans, price_id):
    adopt(plans.team, price_id)

    listed = preview_publication([plans.pro], adopting={"pro": price_id})

    assert listed.faults == (f"Pro cannot be published. The price {price_id} is a price of Team.",)


def test_a_price_that_was_once_another_plan_s_is_refused(sandbox, plans):
    publish([plans.team])
    old = fee_of(plans.team).stripe_price_id
    set_fee(plans.team, 10_900)
    publish([plans.team])

    assert "is a price of Team." in preview_publication([plans.pro], adopting={"pro": old}).faults[0]


def test_a_price_that_stripe_has_not_is_refused(sandbox, plans):
    listed = preview_publication([plans.pro], adopting={"pro": "price_missing"})

    assert listed.faults == ("Pro cannot be published. Stripe has no price price_missing.",)


@pytest.fixture
def configured(settings, price_id) -> str:
    settings.STRIPE_PRICE_IDS = {"pro": price_id, "team": "", "enterprise": ""}
    return price_id


def test_the_price_that_the_environment_names_is_adopted_by_publishing(sandbox, plans, configured):
    publish_plan(plans.pro)
    publish_plan(plans.team)

    assert fee_of(plans.pro).stripe_price_id == configured
    assert fee_of(plans.team).unit_amount == 9900


def test_publishing_again_leaves_a_price_that_staff_published_since(sandbox, plans, configured):
    publish_plan(plans.pro)
    set_fee(plans.pro, 3900)
    publish_plan(Plan.objects.get(slug="pro"))

    assert publish_plan(Plan.objects.get(slug="pro")) == []
    assert (fee_of(plans.pro).unit_amount, fee_of(plans.pro).is_published) == (3900, True)


def test_a_plan_without_a_price_gets_the_one_that_the_environment_names(sandbox, plans, configured):
    plans.pro.prices.all().delete()

    publish_plan(plans.pro)

    assert [fee.stripe_price_id for fee in plans.pro.fees()] == [configured]


def test_a_refusal_names_the_variable(sandbox, plans, configured):
    get_client().v1.prices.update(configured, {"active": False})

    with pytest.raises(PublicationRefused, match=r"STRIPE_PRICE_ID_PRO: The price price_\w+ is archived"):
        publish_plan(plans.pro)


@pytest.mark.long
@pytest.mark.exhaustive
def test_adopting_cut_off_anywhere_is_completed_by_the_next_try(sandbox, plans):
    made = []

    def prepare():
        made[:] = [make_price()]

    def look():
        assert fee_of(plans.pro).stripe_price_id == made[0]
        assert at_stripe(sandbox, "tollgate_pro_month_usd")["id"] == made[0]
        assert len([price for price in sandbox.every("price") if not price["recurring"]["meter"]]) == 1
        assert preview_publication([Plan.objects.get(slug="pro")]).is_empty
        assert PlanPrice.objects.filter(plan=plans.pro).count() == 2

    def flow():
        adopt(Plan.objects.get(slug="pro"), made[0])

    every_fault(sandbox, prepare=prepare, flow=flow, look=look)
