"""What becomes of prices at Stripe: changed there by somebody, of the past, with the key of another."""

import pytest

from billing.errors import PublicationRefused
from billing.models import Meter, Plan, PlanPrice, PlanQuota
from billing.publication import ArchivePrice, UpdateMeter
from billing.stripe.catalog import preview_publication, publish, publish_meter, publish_plan
from billing.stripe.client import get_client
from tests.billing.cast import subscribe
from tests.billing.catalogue import (
    at_stripe,
    fee_of,
    later,
    overage_of,
    sentences,
    set_fee,
)

pytestmark = pytest.mark.django_db


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
