"""Checkout in each of its modes, and as Stripe's command line drives it."""

from typing import Any

import pytest
import stripe
from werkzeug.test import Client

from sandbox import Sandbox
from tests.sandbox.checkouts import authenticate, one_time
from tests.sandbox.helpers import CHALLENGED, DECLINED_CARD, GOOD_CARD, Shop


class TestSubscriptionMode:
    def test_a_one_time_price_is_on_the_first_invoice_only(self, shop: Shop, browser: Client) -> None:
        session = shop.checkout(
            customer=shop.customer().id,
            lines=[
                {"price": shop.price().id, "quantity": 1},
                {"price": one_time(shop).id, "quantity": 2},
            ],
        )
        assert session.amount_total == 7900
        browser.post(session.url, data=GOOD_CARD)
        done = shop.api.checkout.sessions.retrieve(session.id, {"expand": ["subscription", "invoice"]})
        assert len(done.subscription["items"].data) == 1
        assert sorted(line.amount for line in done.invoice.lines.data) == [3000, 4900]
        lines = shop.api.checkout.sessions.line_items.list(session.id).data
        assert [line.amount_total for line in lines] == [4900, 3000]

    def test_only_one_time_prices_make_no_subscription(self, shop: Shop) -> None:
        with pytest.raises(stripe.InvalidRequestError, match="at least one recurring price"):
            shop.checkout(lines=[{"price": one_time(shop).id, "quantity": 1}])

    def test_another_currency_than_the_customer_s_is_refused(self, shop: Shop, browser: Client) -> None:
        customer = shop.customer().id
        browser.post(shop.checkout(customer=customer).url, data=GOOD_CARD)
        euros = [{"price": shop.price(currency="eur").id, "quantity": 1}]

        with pytest.raises(stripe.InvalidRequestError, match="combine currencies"):
            shop.checkout(customer=customer, lines=euros)

    def test_another_currency_than_that_of_an_open_page_is_refused(self, shop: Shop) -> None:
        customer = shop.payer()
        session = shop.checkout(customer=customer.id)
        price = shop.price(currency="eur")

        with pytest.raises(stripe.InvalidRequestError, match="combine currencies"):
            shop.subscription(customer, price)
        shop.api.checkout.sessions.expire(session.id)
        assert shop.subscription(customer, price).currency == "eur"

    def test_an_anchor_shortens_the_first_period_and_its_price(
        self, shop: Shop, browser: Client, sandbox: Sandbox
    ) -> None:
        sandbox.set_clock(frozen_at=1_767_225_600)  # 1 January 2026; its month has 31 days.
        session = shop.checkout(
            customer=shop.customer().id,
            lines=[{"price": shop.price(3100).id, "quantity": 1}],
            subscription_data={"billing_cycle_anchor": 1_767_225_600 + 10 * 86400},
        )
        # 3100 × 10 / 31 = 1000
        assert session.amount_total == 1000
        browser.post(session.url, data=GOOD_CARD)
        done = shop.api.checkout.sessions.retrieve(session.id, {"expand": ["invoice"]})
        assert done.invoice.total == 1000

    def test_a_price_made_in_passing_is_sold(self, shop: Shop, browser: Client) -> None:
        session = shop.checkout(
            customer=shop.customer().id,
            lines=[
                {
                    "price_data": {
                        "currency": "usd",
                        "unit_amount": 700,
                        "recurring": {"interval": "month"},
                        "product_data": {"name": "Tiny"},
                    },
                    "quantity": 1,
                }
            ],
        )
        assert browser.post(session.url, data=GOOD_CARD).status_code == 303

    def test_the_customer_s_balance_is_used_first(self, shop: Shop, browser: Client) -> None:
        customer = shop.customer()
        shop.api.customers.balance_transactions.create(customer.id, {"amount": -900, "currency": "usd"})
        session = shop.checkout(customer=customer.id)
        page = browser.get(session.url).text
        assert "Applied balance" in page
        assert "$40.00" in page
        browser.post(session.url, data=GOOD_CARD)
        assert [each.amount for each in shop.api.charges.list().data] == [4000]


class TestPaymentMode:
    def test_a_purchase_is_one_payment_and_no_customer(self, shop: Shop, browser: Client) -> None:
        session = shop.checkout(
            mode="payment",
            lines=[{"price": one_time(shop).id, "quantity": 2}],
            payment_intent_data={"description": "Order 7", "metadata": {"order": "7"}},
        )
        assert (session.amount_total, session.payment_intent, session.customer_creation) == (
            3000,
            None,
            "if_required",
        )
        assert "Pay · $30.00" in browser.get(session.url).text

        browser.post(session.url, data={**GOOD_CARD, "email": "a@b.co"})

        done = shop.api.checkout.sessions.retrieve(session.id, {"expand": ["payment_intent"]})
        assert (done.status, done.payment_status, done.customer, done.invoice) == (
            "complete",
            "paid",
            None,
            None,
        )
        assert (done.payment_intent.amount_received, done.payment_intent.description) == (3000, "Order 7")
        assert done.payment_intent.metadata.to_dict() == {"order": "7"}
        assert done.customer_details.email == "a@b.co"

    def test_a_declined_purchase_can_be_tried_again(self, shop: Shop, browser: Client) -> None:
        session = shop.checkout(
            mode="payment",
            customer=shop.customer().id,
            lines=[{"price": one_time(shop).id, "quantity": 1}],
        )
        assert browser.post(session.url, data=DECLINED_CARD).status_code == 402
        assert browser.post(session.url, data=GOOD_CARD).status_code == 303
        assert [each.paid for each in shop.api.charges.list().data] == [True, False]

    def test_an_invoice_is_made_where_the_seller_wants_one(self, shop: Shop, browser: Client) -> None:
        coupon = shop.api.coupons.create({"percent_off": 10, "duration": "once"})
        session = shop.checkout(
            mode="payment",
            lines=[{"price": one_time(shop).id, "quantity": 1}],
            invoice_creation={"enabled": True, "invoice_data": {"footer": "Thank you"}},
            discounts=[{"coupon": coupon.id}],
        )
        browser.post(session.url, data={**GOOD_CARD, "email": "a@b.co"})
        done = shop.api.checkout.sessions.retrieve(session.id, {"expand": ["invoice"]})
        assert (done.invoice.status, done.invoice.total, done.amount_total) == ("paid", 1350, 1350)
        assert (done.invoice.customer, done.invoice.footer) == (done.customer, "Thank you")
        assert len(shop.api.payment_intents.list().data) == 1

    def test_an_amount_held_is_not_paid_yet(self, shop: Shop, browser: Client) -> None:
        session = shop.checkout(
            mode="payment",
            customer=shop.customer().id,
            lines=[{"price": one_time(shop).id, "quantity": 1}],
            payment_intent_data={"capture_method": "manual"},
        )
        browser.post(session.url, data=GOOD_CARD)
        done = shop.api.checkout.sessions.retrieve(session.id, {"expand": ["payment_intent"]})
        assert (done.status, done.payment_status) == ("complete", "unpaid")
        assert done.payment_intent.status == "requires_capture"

    @pytest.mark.parametrize(
        ("params", "words"),
        [
            ({"subscription_data": {"description": "x"}}, "subscription_data"),
            ({"payment_method_collection": "if_required"}, "payment_method_collection"),
        ],
    )
    def test_what_belongs_to_another_mode_is_refused(
        self, shop: Shop, params: dict[str, Any], words: str
    ) -> None:
        with pytest.raises(stripe.InvalidRequestError) as refused:
            shop.checkout(mode="payment", lines=[{"price": one_time(shop).id, "quantity": 1}], **params)
        assert refused.value.param == words

    def test_a_recurring_price_is_refused(self, shop: Shop) -> None:
        with pytest.raises(stripe.InvalidRequestError, match="passed a recurring price"):
            shop.checkout(mode="payment")

    def test_less_than_can_be_charged_is_refused(self, shop: Shop) -> None:
        with pytest.raises(stripe.InvalidRequestError) as refused:
            shop.checkout(mode="payment", lines=[{"price": one_time(shop, 49).id, "quantity": 1}])
        assert refused.value.code == "amount_too_small"


class TestSetupMode:
    def setup(self, shop: Shop, **params: Any) -> Any:
        return shop.api.checkout.sessions.create(
            {
                "mode": "setup",
                "payment_method_types": ["card"],
                "success_url": "http://127.0.0.1/ok",
                **params,
            }
        )

    def test_a_card_is_saved_without_a_charge(self, shop: Shop, browser: Client) -> None:
        customer = shop.customer()
        session = self.setup(shop, customer=customer.id, setup_intent_data={"metadata": {"why": "later"}})
        assert session.amount_total is None

        assert browser.post(session.url, data=GOOD_CARD).status_code == 303

        done = shop.api.checkout.sessions.retrieve(session.id, {"expand": ["setup_intent"]})
        assert (done.status, done.payment_status, done.setup_intent.status) == (
            "complete",
            "no_payment_required",
            "succeeded",
        )
        assert done.setup_intent.metadata.to_dict() == {"why": "later"}
        (method,) = shop.api.customers.payment_methods.list(customer.id).data
        assert done.setup_intent.payment_method == method.id
        assert shop.api.charges.list().data == []

    def test_a_challenged_card_is_saved_once_its_holder_has_proved_themselves(
        self, shop: Shop, browser: Client
    ) -> None:
        customer = shop.customer()
        session = self.setup(shop, customer=customer.id)
        failed = authenticate(browser, browser.post(session.url, data=CHALLENGED), result="fail")
        assert failed.status_code == 402
        passed = authenticate(browser, browser.post(session.url, data=CHALLENGED), result="complete")
        assert passed.location == "http://127.0.0.1/ok"
        assert len(shop.api.customers.payment_methods.list(customer.id).data) == 1

    def test_it_takes_no_lines(self, shop: Shop) -> None:
        with pytest.raises(stripe.InvalidRequestError) as refused:
            self.setup(shop, line_items=[{"price": one_time(shop).id, "quantity": 1}])
        assert refused.value.param == "line_items"


class TestPaymentPages:
    """The private endpoints that Stripe's command line drives."""

    def confirm(self, client: stripe.StripeClient, session: Any, **params: Any) -> Any:
        return client.raw_request("post", f"/v1/payment_pages/{session.id}/confirm", **params)

    def test_the_command_line_completes_a_session(self, client: stripe.StripeClient, shop: Shop) -> None:
        session = shop.checkout(mode="payment", lines=[{"price": one_time(shop).id, "quantity": 2}])
        page = client.deserialize(client.raw_request("get", f"/v1/payment_pages/{session.id}"), api_mode="V1")
        assert page.amount_total == 3000
        method = shop.api.payment_methods.create(
            {"type": "card", "card": {"token": "tok_visa"}, "billing_details": {"email": "a@b.co"}}
        )
        self.confirm(client, page, payment_method=method.id, expected_amount=3000)
        assert shop.api.checkout.sessions.retrieve(session.id).payment_status == "paid"

    def test_another_amount_than_expected_is_refused(self, client: stripe.StripeClient, shop: Shop) -> None:
        session = shop.checkout(customer=shop.customer().id)
        with pytest.raises(stripe.InvalidRequestError) as refused:
            self.confirm(client, session, payment_method="pm_card_visa", expected_amount=1)
        assert refused.value.param == "expected_amount"

    def test_a_decline_is_an_error_and_keeps_the_session_open(
        self, client: stripe.StripeClient, shop: Shop
    ) -> None:
        session = shop.checkout(customer=shop.customer().id)
        with pytest.raises(stripe.CardError):
            self.confirm(client, session, payment_method="pm_card_chargeDeclined", expected_amount=4900)
        assert shop.api.checkout.sessions.retrieve(session.id).status == "open"
        assert "charge.failed" in shop.event_types()
