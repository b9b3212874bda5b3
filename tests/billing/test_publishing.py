"""Publish from our rows to Stripe: the list beforehand, exactly that list done, and what stays as it is."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection

from accounts import clock
from billing.errors import PreviewOutdated, PublicationRefused, StripeUnavailable
from billing.models import Meter, Plan, PlanPrice, PlanQuota, PublishedPrice
from billing.publication import ArchivePrice, CreatePrice, KeepPrice, UpdateMeter, UpdateProduct
from billing.stripe.catalog import preview_publication, publish, publish_meter, publish_plan
from billing.stripe.client import get_client
from tests.billing.cast import publish_all, subscribe
from tests.billing.trouble import KINDS, fail_at_every_call

pytestmark = pytest.mark.django_db

DAY = 86_400


def fee_of(plan: Plan) -> PlanPrice:
    return plan.prices.get(meter=None, interval="month", currency="usd")


def overage_of(plan: Plan) -> PlanPrice:
    return plan.prices.get(meter__slug="requests", currency="usd")


def set_fee(plan: Plan, amount: int) -> PlanPrice:
    price = fee_of(plan)
    price.unit_amount = amount
    price.save()
    return price


def bill_overage(plan: Plan, *tiers: tuple[int | None, str]) -> PlanPrice:
    plan.quotas.update(overage=PlanQuota.Overage.BILL)
    price = overage_of(plan)
    price.set_tiers((up_to, Decimal(amount)) for up_to, amount in tiers)
    return price


def sentences(*plans: Plan) -> list[str]:
    return [change.sentence for change in preview_publication(plans).changes]


def at_stripe(sandbox, key: str):
    (found,) = [price for price in sandbox.every("price") if price["lookup_key"] == key]
    return found


def writes(sandbox) -> int:
    return sum(request.method != "GET" for request in sandbox.requests)


def everything(sandbox):
    return [list(sandbox.every(kind)) for kind in ("billing.meter", "product", "price")]


def later(**passing: float):
    """The process's own clock, so long after now."""
    return clock.standing_at(clock.now() + timedelta(**passing))


# The list


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


# What agreeing to a list is worth


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


# New prices


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


# Names


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


# What somebody did at Stripe


def test_a_product_archived_at_stripe_is_brought_back(sandbox, plans):
    publish([plans.pro])
    get_client().v1.products.update("tollgate_pro", {"active": False})

    assert sentences(plans.pro) == ["Change the product Pro: bring it back, since it is archived."]
    publish([plans.pro])
    assert get_client().v1.products.retrieve("tollgate_pro").active


def test_a_price_archived_at_stripe_is_sold_again(sandbox, plans):
    publish([plans.pro])
    price_id = fee_of(plans.pro).stripe_price_id
    get_client().v1.prices.update(price_id, {"active": False})

    assert sentences(plans.pro) == [
        "Keep the price Pro, $29 a month, which Stripe has already: it is archived, and can be bought again then."
    ]
    publish([plans.pro])
    assert get_client().v1.prices.retrieve(price_id).active
    assert preview_publication([plans.pro]).is_empty


def test_a_lookup_key_taken_off_at_stripe_is_put_back(sandbox, plans):
    publish([plans.pro])
    price_id = fee_of(plans.pro).stripe_price_id
    get_client().v1.prices.update(price_id, {"lookup_key": ""})

    assert sentences(plans.pro) == [
        "Keep the price Pro, $29 a month, which Stripe has already: it gets the lookup key tollgate_pro_month_usd."
    ]
    publish([plans.pro])
    assert at_stripe(sandbox, "tollgate_pro_month_usd")["id"] == price_id


def test_a_deactivated_meter_counts_again_and_its_prices_stay(sandbox, plans):
    publish([plans.pro])
    meter = Meter.objects.get()
    price_id = overage_of(plans.pro).stripe_price_id
    get_client().v1.billing.meters.deactivate(meter.stripe_meter_id)

    (change,) = publish([plans.pro]).changes

    assert isinstance(change, UpdateMeter)
    assert change.sentence == "Reactivate the meter Requests."
    assert get_client().v1.billing.meters.retrieve(meter.stripe_meter_id).status == "active"
    assert overage_of(plans.pro).stripe_price_id == price_id


def test_a_meter_that_counts_otherwise_is_not_taken_for_ours(sandbox, plans):
    get_client().v1.billing.meters.create(
        {
            "display_name": "Theirs",
            "event_name": "tollgate_requests",
            "default_aggregation": {"formula": "count"},
        }
    )

    publication = preview_publication([plans.pro])

    assert publication.changes == ()
    assert publication.faults == (
        "Pro cannot be published. Stripe's meter tollgate_requests does not add up units by customer: deactivate "
        "it at Stripe first.",
    )
    with pytest.raises(PublicationRefused, match="does not add up"):
        publish_meter(Meter.objects.get())


def test_a_meter_whose_id_was_lost_is_found_by_its_event_name(sandbox, plans):
    first = publish_meter(Meter.objects.get())
    Meter.objects.update(stripe_meter_id="")

    assert publish_meter(Meter.objects.get()) == first
    assert len(list(sandbox.every("billing.meter"))) == 1


def test_a_lookup_key_of_another_price_is_not_stolen(sandbox, plans):
    client = get_client().v1
    product = client.products.create({"name": "Something else"}).id
    theirs = client.prices.create(
        {
            "product": product,
            "currency": "usd",
            "unit_amount": 700,
            "recurring": {"interval": "month"},
            "lookup_key": "pro_monthly",
        }
    )
    plans.pro.prices.filter(meter=None).update(lookup_key="pro_monthly")

    publication = preview_publication([plans.pro])

    assert publication.faults == (
        "Pro cannot be published. Stripe has another price under the lookup key pro_monthly, $7 a month: adopt "
        "that one, or choose another lookup key.",
    )
    assert client.prices.retrieve(theirs.id).lookup_key == "pro_monthly"


def test_one_plan_s_fault_does_not_keep_the_others_from_being_published(sandbox, plans):
    plans.pro.quotas.update(overage=PlanQuota.Overage.BILL)

    done = publish([plans.pro, plans.team])

    assert done.faults == (
        "Pro cannot be published. Say what a call beyond the included 10,000 costs in usd.",
    )
    assert fee_of(plans.team).is_published
    assert not fee_of(plans.pro).is_published


def test_publishing_one_plan_with_a_fault_says_what_to_mend(sandbox, plans):
    plans.pro.quotas.update(overage=PlanQuota.Overage.BILL)

    with pytest.raises(PublicationRefused, match="Say what a call beyond the included 10,000 costs in usd"):
        publish_plan(plans.pro)


# Prices of the past


def replace_fee(plan: Plan) -> str:
    """Publish, then publish another amount; return the id of the price of the past."""
    publish([plan])
    old = fee_of(plan).stripe_price_id
    set_fee(plan, 3900)
    publish([plan])
    assert old is not None
    return old


def test_a_price_that_nobody_is_on_is_archived_a_day_after_it_was_last_sold(sandbox, plans):
    old = replace_fee(plans.pro)
    assert preview_publication([plans.pro]).is_empty

    with later(hours=25):
        (change,) = publish([plans.pro]).changes
        again = preview_publication([plans.pro])

    assert isinstance(change, ArchivePrice)
    assert change.sentence == (
        "Archive the price Pro, $29 a month, which is sold no more and which nobody is on."
    )
    assert not get_client().v1.prices.retrieve(old).active
    assert again.is_empty


def test_a_price_that_somebody_is_on_is_not_archived(sandbox, organization, plans):
    subscribe(sandbox, organization, plan=plans.pro)
    replace_fee(plans.pro)

    with later(hours=25):
        assert preview_publication([plans.pro]).is_empty


def test_a_price_that_a_stranger_is_on_is_not_archived(sandbox, plans):
    publish([plans.pro])
    client = get_client().v1
    customer = client.customers.create({"name": "Not ours", "payment_method": "pm_card_visa"})
    client.customers.update(
        customer.id,
        {
            "invoice_settings": {
                "default_payment_method": client.payment_methods.list({"customer": customer.id}).data[0].id
            }
        },
    )
    client.subscriptions.create(
        {"customer": customer.id, "items": [{"price": fee_of(plans.pro).stripe_price_id}]}
    )
    replace_fee(plans.pro)

    with later(hours=25):
        assert preview_publication([plans.pro]).is_empty


def test_a_price_that_a_downgrade_leads_to_is_not_archived(sandbox, organization, plans):
    subscription = subscribe(sandbox, organization, plan=plans.team)
    client = get_client().v1
    schedule = client.subscription_schedules.create({"from_subscription": subscription.id})
    (running,) = schedule.phases
    client.subscription_schedules.update(
        schedule.id,
        {
            "phases": [
                {
                    "items": [{"price": item.price} for item in running["items"]],
                    "start_date": running.start_date,
                    "end_date": running.end_date,
                },
                {
                    "items": [{"price": price.stripe_price_id} for price in plans.pro.offered_prices()],
                    "duration": {"interval": "month", "interval_count": 1},
                },
            ]
        },
    )
    replace_fee(plans.pro)

    with later(hours=25):
        assert preview_publication([plans.pro]).is_empty


def test_the_price_of_a_deleted_fee_is_archived_later_as_well(sandbox, plans):
    yearly = plans.pro.prices.create(interval="year", unit_amount=29_000)
    publish([plans.pro])
    old = yearly.stripe_price_id or PlanPrice.objects.get(pk=yearly.pk).stripe_price_id
    PlanPrice.objects.get(pk=yearly.pk).delete()

    with later(hours=25):
        (change,) = publish([plans.pro]).changes

    assert change == ArchivePrice(sentence="", price_id=old)


# Stripe going wrong


@pytest.mark.parametrize("kind", KINDS)
def test_a_first_publication_cut_off_anywhere_is_completed_by_the_next(kind, plans, monkeypatch):
    bill_overage(plans.pro, (50_000, "0.2"), (None, "0.1"))

    def check(sandbox):
        meters, products, prices = everything(sandbox)
        assert len(meters) == 1
        assert sorted(product["id"] for product in products) == ["tollgate_meter_requests", "tollgate_pro"]
        assert len(prices) == 2
        assert preview_publication([plans.pro]).is_empty
        assert all(price.is_published for price in plans.pro.prices.all())
        assert PublishedPrice.objects.count() == 2

    tried = fail_at_every_call(
        kind,
        monkeypatch=monkeypatch,
        prepare=lambda sandbox: None,
        flow=lambda sandbox: publish([plans.pro]),
        check=check,
    )
    assert tried >= 9


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_price_cut_off_anywhere_is_made_once(kind, plans, monkeypatch):
    def prepare(sandbox):
        publish([plans.pro])
        set_fee(plans.pro, 3900)

    def check(sandbox):
        amounts = sorted(p["unit_amount"] for p in sandbox.every("price") if p["product"] == "tollgate_pro")
        assert amounts == [2900, 3900]
        assert at_stripe(sandbox, "tollgate_pro_month_usd")["unit_amount"] == 3900
        assert preview_publication([plans.pro]).is_empty
        known = PublishedPrice.objects.filter(meter=None)
        assert [(price.terms["unit_amount"], price.retired_at is None) for price in known] == [
            (2900, False),
            (3900, True),
        ]

    fail_at_every_call(
        kind, monkeypatch=monkeypatch, prepare=prepare, flow=lambda s: publish([plans.pro]), check=check
    )


def test_a_price_whose_answer_was_lost_and_whose_amount_changed_again_is_replaced(
    sandbox, plans, monkeypatch
):
    monkeypatch.setattr("billing.stripe.client.RETRIES", 0)
    get_client.cache_clear()
    publish([plans.pro])
    set_fee(plans.pro, 3900)
    sandbox.faults.add("timeout_after", method="POST", path="/v1/prices", times=1)
    with pytest.raises(StripeUnavailable):
        publish([plans.pro])
    set_fee(plans.pro, 4900)

    publish([plans.pro])

    assert at_stripe(sandbox, "tollgate_pro_month_usd")["unit_amount"] == 4900
    with later(hours=25):
        archived = [change for change in publish([plans.pro]).changes if isinstance(change, ArchivePrice)]
    assert len(archived) == 2
    assert sorted(p["unit_amount"] for p in sandbox.every("price") if not p["active"]) == [2900, 3900]


def test_what_was_done_before_stripe_failed_stays_noted(sandbox, plans, monkeypatch):
    monkeypatch.setattr("billing.stripe.client.RETRIES", 0)
    get_client.cache_clear()
    sandbox.faults.add("server_error", method="POST", path="/v1/prices", times=1)

    with pytest.raises(StripeUnavailable):
        publish([plans.pro])

    assert Meter.objects.get().stripe_meter_id == next(sandbox.every("billing.meter"))["id"]
    left = preview_publication([plans.pro]).changes
    assert {type(change) for change in left} == {CreatePrice}


def test_a_price_that_stripe_has_but_we_did_not_note_is_noted_without_a_write(sandbox, plans):
    publish([plans.pro])
    PlanPrice.objects.update(stripe_price=None, published_terms={})
    written = writes(sandbox)

    changes = publish([plans.pro]).changes

    assert {type(change) for change in changes} == {KeepPrice}
    assert changes[0].sentence == "Note the price Pro, $29 a month, which Stripe has already."
    assert writes(sandbox) == written
    assert fee_of(plans.pro).is_published
