import pytest
import stripe
from werkzeug.test import Client

from tests.sandbox.helpers import Shop


def test_a_subscription_starts_active_and_paid(shop: Shop) -> None:
    subscription = shop.subscription(shop.payer(), shop.price(), expand=["latest_invoice.payments"])
    item = subscription["items"].data[0]
    assert subscription.status == "active"
    assert "current_period_end" not in subscription
    assert item.current_period_end > item.current_period_start
    assert subscription.billing_mode.type == "flexible"
    payment = subscription.latest_invoice.payments.data[0]
    intent = shop.api.payment_intents.retrieve(payment.payment.payment_intent, {"expand": ["latest_charge"]})
    assert (intent.status, intent.latest_charge.amount) == ("succeeded", 4900)


def test_a_metered_subscription_starts_with_no_invoice(shop: Shop) -> None:
    subscription = shop.subscription(shop.payer(), shop.metered_price(shop.meter()))
    assert (subscription.status, subscription.latest_invoice) == ("active", None)


def test_a_subscription_without_a_card_is_refused(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="no attached payment source"):
        shop.subscription(shop.customer(), shop.price())


def test_a_failing_card_leaves_an_incomplete_subscription_or_an_error(shop: Shop) -> None:
    payer, price = shop.payer("pm_card_chargeCustomerFail"), shop.price()
    subscription = shop.subscription(payer, price, expand=["latest_invoice"])
    assert (subscription.status, subscription.latest_invoice.status) == ("incomplete", "open")
    with pytest.raises(stripe.CardError) as refused:
        shop.subscription(payer, price, payment_behavior="error_if_incomplete")
    assert (refused.value.code, refused.value.error.decline_code) == ("card_declined", "generic_decline")
    assert len(shop.api.subscriptions.list({"status": "all"}).data) == 1


def test_an_incomplete_subscription_becomes_active_by_paying_its_invoice(shop: Shop) -> None:
    customer = shop.customer()
    subscription = shop.subscription(
        customer,
        shop.price(),
        payment_behavior="default_incomplete",
        expand=["latest_invoice.confirmation_secret"],
    )
    assert subscription.latest_invoice.confirmation_secret.client_secret.startswith("pi_")
    method = shop.api.payment_methods.attach("pm_card_visa", {"customer": customer.id})
    shop.api.invoices.pay(subscription.latest_invoice.id, {"payment_method": method.id})
    assert shop.api.subscriptions.retrieve(subscription.id).status == "active"


def test_a_cancelled_subscription_is_over_at_once(shop: Shop) -> None:
    subscription = shop.subscription(shop.payer(), shop.price())
    cancelled = shop.api.subscriptions.cancel(subscription.id)
    assert cancelled.status == "canceled"
    assert cancelled.ended_at is not None
    assert shop.event_types()[-1] == "customer.subscription.deleted"
    assert shop.api.subscriptions.list().data == []
    assert [each.id for each in shop.api.subscriptions.list({"status": "all"}).data] == [subscription.id]
    with pytest.raises(stripe.InvalidRequestError):
        shop.api.subscriptions.cancel(subscription.id)


def test_a_cancel_at_period_end_is_announced_and_can_be_taken_back(shop: Shop) -> None:
    subscription = shop.subscription(shop.payer(), shop.price())
    ending = shop.api.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    assert ending.cancel_at == ending["items"].data[0].current_period_end
    event = shop.api.events.list({"type": "customer.subscription.updated"}).data[0]
    assert event.data.previous_attributes["cancel_at_period_end"] is False
    resumed = shop.api.subscriptions.update(subscription.id, {"cancel_at_period_end": False})
    assert (resumed.cancel_at, resumed.canceled_at) == (None, None)


def test_an_upgrade_is_prorated_and_invoiced_when_asked(shop: Shop) -> None:
    subscription = shop.subscription(shop.payer(), shop.price(4900))
    item = subscription["items"].data[0]
    changed = shop.api.subscriptions.update(
        subscription.id,
        {
            "items": [{"id": item.id, "price": shop.price(19900).id}],
            "proration_behavior": "always_invoice",
            "proration_date": (item.current_period_start + item.current_period_end) // 2,
            "expand": ["latest_invoice"],
        },
    )
    assert [line.amount for line in changed.latest_invoice.lines.data] == [-2450, 9950]
    assert (changed.latest_invoice.status, changed.latest_invoice.amount_paid) == ("paid", 7500)
    assert changed["items"].data[0].price.unit_amount == 19900


def test_subscriptions_are_listed_by_customer_price_and_status(shop: Shop) -> None:
    price = shop.price()
    payer = shop.payer()
    wanted = shop.subscription(payer, price)
    shop.subscription(shop.payer(), shop.price())
    for params in ({"customer": payer.id}, {"price": price.id}, {"customer": payer.id, "status": "active"}):
        assert [each.id for each in shop.api.subscriptions.list(params).data] == [wanted.id]
    assert shop.api.subscriptions.list({"customer": payer.id, "status": "canceled"}).data == []


def test_a_declined_card_cannot_be_attached(shop: Shop) -> None:
    customer = shop.customer()
    with pytest.raises(stripe.CardError):
        shop.api.payment_methods.attach("pm_card_chargeDeclined", {"customer": customer.id})
    assert shop.api.customers.payment_methods.list(customer.id).data == []


def test_the_invoice_page_and_pdf_open(shop: Shop, browser: Client) -> None:
    subscription = shop.subscription(shop.payer(), shop.price(), expand=["latest_invoice"])
    assert "$49.00" in browser.get(subscription.latest_invoice.hosted_invoice_url).text
    assert browser.get(subscription.latest_invoice.invoice_pdf).data.startswith(b"%PDF-")


def test_the_control_page_cancels(shop: Shop, browser: Client) -> None:
    subscription = shop.subscription(shop.payer(), shop.price())
    assert subscription.id in browser.get("/").text
    browser.post(f"/sandbox/subscriptions/{subscription.id}/cancel")
    assert shop.api.subscriptions.retrieve(subscription.id).status == "canceled"


def test_a_discount_taken_off_a_subscription_is_answered_as_a_deleted_one(shop: Shop) -> None:
    coupon = shop.api.coupons.create({"percent_off": 10, "duration": "repeating", "duration_in_months": 3})
    subscription = shop.subscription(shop.payer(), shop.price(), discounts=[{"coupon": coupon.id}])
    gone = shop.api.subscriptions.delete_discount(subscription.id)
    assert (gone.deleted, gone.subscription) == (True, subscription.id)
    assert shop.api.subscriptions.retrieve(subscription.id).discounts == []
