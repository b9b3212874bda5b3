"""Stripe going wrong while it is published to: the next publication completes it, and nothing is there twice."""

import pytest

from billing.errors import StripeUnavailable
from billing.models import Meter, PlanPrice, PublishedPrice
from billing.publication import ArchivePrice, CreatePrice, KeepPrice
from billing.stripe.catalog import preview_publication, publish
from billing.stripe.client import get_client
from tests.billing.catalogue import (
    at_stripe,
    bill_overage,
    everything,
    fee_of,
    later,
    set_fee,
    writes,
)
from tests.billing.faults import every_fault

pytestmark = [pytest.mark.django_db, pytest.mark.long]


@pytest.mark.exhaustive
def test_a_first_publication_cut_off_anywhere_is_completed_by_the_next(sandbox, plans):
    bill_overage(plans.pro, (50_000, "0.2"), (None, "0.1"))

    def look():
        meters, products, prices = everything(sandbox)
        assert len(meters) == 1
        assert sorted(product["id"] for product in products) == ["tollgate_meter_requests", "tollgate_pro"]
        assert len(prices) == 2
        assert preview_publication([plans.pro]).is_empty
        assert all(price.is_published for price in plans.pro.prices.all())
        assert PublishedPrice.objects.count() == 2

    calls = every_fault(sandbox, flow=lambda: publish_pro(plans), look=look)

    assert len(calls) >= 9


@pytest.mark.exhaustive
def test_a_new_price_cut_off_anywhere_is_made_once(sandbox, plans):
    def prepare():
        publish([plans.pro])
        set_fee(plans.pro, 3900)

    def look():
        amounts = sorted(p["unit_amount"] for p in sandbox.every("price") if p["product"] == "tollgate_pro")
        assert amounts == [2900, 3900]
        assert at_stripe(sandbox, "tollgate_pro_month_usd")["unit_amount"] == 3900
        assert preview_publication([plans.pro]).is_empty
        known = PublishedPrice.objects.filter(meter=None)
        assert [(price.terms["unit_amount"], price.retired_at is None) for price in known] == [
            (2900, False),
            (3900, True),
        ]

    every_fault(sandbox, prepare=prepare, flow=lambda: publish_pro(plans), look=look)


def publish_pro(plans) -> None:
    """What a publication says it did is what was left to do: it differs from try to try."""
    publish([plans.pro])


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
