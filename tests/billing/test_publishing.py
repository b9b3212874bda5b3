"""Publish from our rows to Stripe: the list beforehand, exactly that list done, and what stays as it is."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from billing.errors import PreviewOutdated
from billing.models import Meter, Plan, PublishedPrice
from billing.publication import UpdateProduct
from billing.stripe.catalog import preview_publication, publish, publish_plan
from billing.stripe.client import get_client
from tests.billing.cast import publish_all, subscribe
from tests.billing.catalogue import (
    at_stripe,
    bill_overage,
    everything,
    fee_of,
    overage_of,
    sentences,
    set_fee,
    writes,
)

pytestmark = pytest.mark.django_db


def test_the_list_says_each_thing_that_would_be_made(sandbox, plans):
    assert sentences(plans.pro) == [
        "Create the meter Requests, which counts calls.",
        "Create the product Pro.",
        "Create the product Requests.",
        "Create the price Pro, $29 a month, under the lookup key tollgate_pro_month_usd.",
        "Create the price Pro, Requests in usd: free of charge, under the lookup key "
        "tollgate_pro_requests_month_usd.",
    ]


def test_looking_at_the_list_changes_nothing(sandbox, plans):
    preview_publication([plans.pro])

    assert writes(sandbox) == 0
    assert not PublishedPrice.objects.exists()
    assert fee_of(plans.pro).stripe_price is None


def test_what_the_list_says_is_done_and_the_next_list_is_empty(sandbox, plans):
    listed = preview_publication([plans.pro, plans.team])

    done = publish([plans.pro, plans.team], digest=listed.digest)

    assert done.changes == listed.changes
    assert writes(sandbox) == len(listed.changes)
    assert preview_publication([plans.pro, plans.team]).is_empty
    assert all(price.is_published for price in plans.pro.prices.all())


def test_publishing_again_writes_nothing(sandbox, plans):
    publish([plans.pro])
    before, written = everything(sandbox), writes(sandbox)

    assert publish([plans.pro]).is_empty
    assert writes(sandbox) == written
    assert everything(sandbox) == before


def test_a_meter_that_two_plans_share_is_made_once(sandbox, plans):
    publish([plans.pro, plans.team, plans.enterprise])

    assert [meter["event_name"] for meter in sandbox.every("billing.meter")] == ["tollgate_requests"]


def test_a_plan_without_prices_needs_nothing_of_stripe(sandbox, plans):
    assert publish_plan(plans.free) == []
    assert len(sandbox.requests) == 0


def test_a_list_that_is_not_the_one_agreed_to_is_not_carried_out(sandbox, plans):
    agreed = preview_publication([plans.pro])
    set_fee(plans.pro, 3900)

    with pytest.raises(PreviewOutdated):
        publish([plans.pro], digest=agreed.digest)

    assert writes(sandbox) == 0


def test_a_list_is_outdated_where_stripe_changed_meanwhile(sandbox, plans):
    publish([plans.pro])
    set_fee(plans.pro, 3900)
    agreed = preview_publication([plans.pro])
    get_client().v1.products.update("tollgate_pro", {"name": "Renamed at Stripe"})

    with pytest.raises(PreviewOutdated):
        publish([plans.pro], digest=agreed.digest)


def test_a_new_subscriber_does_not_make_a_list_another_one(sandbox, organization, plans):
    publish_all()
    set_fee(plans.pro, 3900)
    agreed = preview_publication([plans.pro])
    fee = set_fee(plans.pro, 2900)
    subscribe(sandbox, organization, plan=plans.pro)
    assert fee.is_published
    set_fee(plans.pro, 3900)

    assert publish([plans.pro], digest=agreed.digest).changes == agreed.changes


def test_a_double_click_does_it_once(sandbox, plans):
    agreed = preview_publication([plans.pro])
    publish([plans.pro], digest=agreed.digest)
    written = writes(sandbox)

    with pytest.raises(PreviewOutdated):
        publish([plans.pro], digest=agreed.digest)

    assert writes(sandbox) == written


@pytest.mark.django_db(transaction=True)
def test_of_ten_who_publish_at_once_one_does(sandbox, plans):
    agreed = preview_publication([plans.pro, plans.team])

    def press() -> bool:
        try:
            publish([plans.pro, plans.team], digest=agreed.digest)
        except PreviewOutdated:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(10) as staff:
        outcomes = list(staff.map(lambda _: press(), range(10)))

    assert outcomes.count(True) == 1
    assert writes(sandbox) == len(agreed.changes)
    assert preview_publication([plans.pro, plans.team]).is_empty


def test_a_new_amount_is_a_new_price_and_subscribers_stay_on_theirs(sandbox, organization, plans):
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    old = fee_of(plans.pro).stripe_price_id
    set_fee(plans.pro, 3900)

    assert sentences(plans.pro) == [
        "Create the price Pro, $39 a month, under the lookup key tollgate_pro_month_usd. "
        "1 subscriber stays on the older one, $29 a month."
    ]
    assert publish_plan(plans.pro) == ["tollgate_pro_month_usd"]

    assert at_stripe(sandbox, "tollgate_pro_month_usd")["unit_amount"] == 3900
    assert {item["price"] for item in sandbox.every("subscription_item")} >= {old}
    assert get_client().v1.subscriptions.retrieve(subscription.id)["items"].data[0].price.id == old


def test_tiers_are_graduated_at_stripe_with_the_included_units_first_and_free(sandbox, plans):
    bill_overage(plans.pro, (50_000, "0.2"), (None, "0.15"))
    publish([plans.pro])

    price = at_stripe(sandbox, "tollgate_pro_requests_month_usd")
    assert (price["billing_scheme"], price["tiers_mode"]) == ("tiered", "graduated")
    assert [(tier["up_to"], tier["unit_amount_decimal"]) for tier in price["_tiers"]] == [
        (10_000, "0"),
        (50_000, "0.2"),
        (None, "0.15"),
    ]
    assert preview_publication([plans.pro]).is_empty


def test_a_changed_tier_is_a_new_price(sandbox, plans):
    bill_overage(plans.pro, (None, "0.2"))
    publish([plans.pro])
    price = bill_overage(plans.pro, (None, "0.25"))

    assert not price.is_published
    assert publish_plan(plans.pro) == ["tollgate_pro_requests_month_usd"]
    assert overage_of(plans.pro).is_published


def test_other_included_units_are_another_price_where_units_beyond_them_cost(sandbox, plans):
    bill_overage(plans.pro, (None, "0.2"))
    publish([plans.pro])
    plans.pro.quotas.update(included=20_000)

    assert sentences(plans.pro) == [
        "Create the price Pro, Requests in usd: 20,000 calls included, then $0.002 a call, under the lookup key "
        "tollgate_pro_requests_month_usd. Nobody is on the older one, 10,000 calls included, then $0.002 a call."
    ]


def test_who_stays_on_an_older_overage_price_has_the_plan_s_new_limits_at_it(sandbox, organization, plans):
    subscribe(sandbox, organization, plan=plans.pro)
    bill_overage(plans.pro, (None, "0.2"))

    assert sentences(plans.pro) == [
        "Create the price Pro, Requests in usd: 10,000 calls included, then $0.002 a call, under the lookup key "
        "tollgate_pro_requests_month_usd. 1 subscriber stays on the older one, free of charge: the limits that the "
        "plan has now hold for them too, at that price, until you move them."
    ]


def test_yearly_fees_and_other_currencies_are_prices_of_the_same_product(sandbox, plans):
    plans.pro.prices.create(interval="year", unit_amount=29_000)
    plans.pro.prices.create(interval="month", currency="eur", unit_amount=2_500)
    plans.pro.arrange_metered_prices()
    publish([plans.pro])

    sold = {
        (price["lookup_key"], price["unit_amount"])
        for price in sandbox.every("price")
        if price["product"] == "tollgate_pro"
    }
    assert sold == {
        ("tollgate_pro_month_usd", 2900),
        ("tollgate_pro_year_usd", 29_000),
        ("tollgate_pro_month_eur", 2_500),
    }
    assert at_stripe(sandbox, "tollgate_pro_requests_month_eur")["currency"] == "eur"


def test_an_amount_taken_back_is_the_older_price_again(sandbox, plans):
    publish([plans.pro])
    first = fee_of(plans.pro).stripe_price_id
    set_fee(plans.pro, 3900)
    publish([plans.pro])
    set_fee(plans.pro, 2900)

    publish([plans.pro])

    assert fee_of(plans.pro).stripe_price_id == first
    assert at_stripe(sandbox, "tollgate_pro_month_usd")["id"] == first
    assert preview_publication([plans.pro]).is_empty


def test_a_new_name_and_description_are_given_to_the_product(sandbox, plans):
    publish([plans.pro])
    Plan.objects.filter(slug="pro").update(name="Professional", description="For pros.")
    plan = Plan.objects.get(slug="pro")

    (change,) = publish([plan]).changes

    assert isinstance(change, UpdateProduct)
    assert change.sentence == "Change the product Pro: call it “Professional”, describe it as “For pros.”."
    assert get_client().v1.products.retrieve("tollgate_pro").name == "Professional"


def test_a_meter_s_new_name_is_given_to_meter_and_product(sandbox, plans):
    publish([plans.pro])
    Meter.objects.update(name="API calls")

    assert sentences(plans.pro) == [
        "Rename the meter API calls from “Requests”.",
        "Change the product Requests: call it “API calls”.",
    ]
    publish([plans.pro])
    assert [meter["display_name"] for meter in sandbox.every("billing.meter")] == ["API calls"]
