import datetime

import pytest
import stripe

from sandbox import Sandbox
from tests.sandbox.helpers import Shop


def paid(shop: Shop, amount: int = 5000, card: str = "pm_card_visa") -> stripe.PaymentIntent:
    return shop.api.payment_intents.create(
        {
            "amount": amount,
            "currency": "usd",
            "payment_method": card,
            "payment_method_types": ["card"],
            "confirm": True,
        }
    )


def refusal(shop: Shop, **params: object) -> stripe.InvalidRequestError:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        shop.api.refunds.create(params)
    return refused.value


def test_whole_payment_is_given_back(shop):
    intent = paid(shop)

    refund = shop.api.refunds.create(
        {"payment_intent": intent.id, "reason": "requested_by_customer", "metadata": {"ticket": "7"}}
    )

    assert (refund.amount, refund.status, refund.reason) == (5000, "succeeded", "requested_by_customer")
    assert (refund.charge, refund.metadata["ticket"]) == (intent.latest_charge, "7")
    charge = shop.api.charges.retrieve(intent.latest_charge, {"expand": ["refunds"]})
    assert (charge.amount_refunded, charge.refunded) == (5000, True)
    assert [each.id for each in charge.refunds.data] == [refund.id]
    assert shop.event_types()[-2:] == ["refund.created", "charge.refunded"]


def test_parts_are_given_back_until_nothing_is_left(shop):
    charge = paid(shop).latest_charge
    shop.api.refunds.create({"charge": charge, "amount": 2000})
    assert not shop.api.charges.retrieve(charge).refunded

    error = refusal(shop, charge=charge, amount=3001)
    assert (error.http_status, error.param) == (400, "amount")
    assert error.user_message == (
        "Refund amount ($30.01) is greater than unrefunded amount on charge ($30.00)"
    )

    rest = shop.api.refunds.create({"charge": charge})
    assert rest.amount == 3000
    assert shop.api.charges.retrieve(charge).refunded
    error = refusal(shop, charge=charge)
    assert (error.http_status, error.code) == (400, "charge_already_refunded")


def test_no_more_is_given_back_than_was_paid(shop):
    error = refusal(shop, charge=paid(shop).latest_charge, amount=5001)

    assert error.user_message == "Refund amount ($50.01) is greater than charge amount ($50.00)"


def test_refund_leaves_the_accounts_balance_without_the_fee_coming_back(shop):
    refund = shop.api.refunds.create({"payment_intent": paid(shop).id, "amount": 1000})

    row = shop.api.balance_transactions.retrieve(refund.balance_transaction)

    assert (row.amount, row.fee, row.net, row.type) == (-1000, 0, -1000, "refund")
    assert row.source == refund.id


def test_only_a_payment_that_went_through_is_given_back(shop):
    intent = shop.api.payment_intents.create({"amount": 5000, "currency": "usd"})

    error = refusal(shop, payment_intent=intent.id)
    assert "does not have a successful charge to refund" in error.user_message
    assert refusal(shop).http_status == 400
    error = refusal(shop, charge="ch_missing")
    assert (error.code, error.param) == ("resource_missing", "charge")
    assert refusal(shop, charge=paid(shop).latest_charge, amount=0).param == "amount"
    assert refusal(shop, charge=paid(shop).latest_charge, reason="boredom").param == "reason"


def test_refunds_are_listed_by_charge_and_payment(shop):
    first, second = paid(shop), paid(shop)
    one = shop.api.refunds.create({"payment_intent": first.id, "amount": 1})
    two = shop.api.refunds.create({"payment_intent": first.id, "amount": 2})
    shop.api.refunds.create({"payment_intent": second.id})

    for params in ({"payment_intent": first.id}, {"charge": first.latest_charge}):
        assert [each.id for each in shop.api.refunds.list(params).data] == [two.id, one.id]
    assert len(shop.api.refunds.list().data) == 3
    found = shop.api.refunds.retrieve(one.id, {"expand": ["charge", "payment_intent"]})
    assert found.charge.amount_refunded == 3
    assert found.payment_intent.id == first.id


def test_refund_takes_metadata_and_tells_of_it(shop):
    refund = shop.api.refunds.create({"payment_intent": paid(shop).id})

    changed = shop.api.refunds.update(refund.id, {"metadata": {"ticket": "7"}})

    assert changed.metadata["ticket"] == "7"
    assert shop.event_types()[-2:] == ["refund.updated", "charge.refund.updated"]


def test_refund_to_a_card_cannot_be_canceled(shop):
    refund = shop.api.refunds.create({"payment_intent": paid(shop).id})

    with pytest.raises(stripe.InvalidRequestError) as refused:
        shop.api.refunds.cancel(refund.id)

    assert refused.value.http_status == 400
    with pytest.raises(stripe.InvalidRequestError) as missing:
        shop.api.refunds.retrieve("re_missing")
    assert missing.value.http_status == 404


def test_slow_bank_settles_a_refund_a_day_later(shop, sandbox: Sandbox):
    sandbox.clock.freeze(datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC))
    refund = shop.api.refunds.create({"payment_intent": paid(shop, card="pm_card_pendingRefund").id})
    assert (refund.status, refund.pending_reason) == ("pending", "processing")

    sandbox.set_clock(advance=86400)

    assert shop.api.refunds.retrieve(refund.id).status == "succeeded"
    assert shop.event_types()[-2:] == ["refund.updated", "charge.refund.updated"]


def test_refund_that_the_bank_sends_back_fails_a_day_later(shop, sandbox: Sandbox):
    sandbox.clock.freeze(datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC))
    intent = paid(shop, card="pm_card_refundFail")
    refund = shop.api.refunds.create({"payment_intent": intent.id})
    assert refund.status == "succeeded"

    sandbox.set_clock(advance=86400)

    refund = shop.api.refunds.retrieve(refund.id, {"expand": ["failure_balance_transaction"]})
    assert (refund.status, refund.failure_balance_transaction.amount) == ("failed", 5000)
    charge = shop.api.charges.retrieve(intent.latest_charge)
    assert (charge.amount_refunded, charge.refunded) == (0, False)
    assert shop.event_types()[-1] == "refund.failed"


def test_refunds_are_reached_through_their_charge(client, shop):
    intent = shop.api.payment_intents.create(
        {
            "amount": 2000,
            "currency": "usd",
            "payment_method": "pm_card_visa",
            "payment_method_types": ["card"],
            "confirm": True,
        }
    )
    refund = shop.api.refunds.create({"payment_intent": intent.id, "amount": 500})
    path = f"/v1/charges/{intent.latest_charge}/refunds"

    listed = client.raw_request("get", path).data["data"]
    one = client.raw_request("get", f"{path}/{refund.id}").data

    assert [each["id"] for each in listed] == [one["id"]] == [refund.id]
    assert one["amount"] == 500
