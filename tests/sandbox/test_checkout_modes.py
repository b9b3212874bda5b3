"""Checkout in each of its modes, and what its page asks, reckons and refuses."""

from typing import Any

import pytest
import stripe
from werkzeug.test import Client

from sandbox import Sandbox
from tests.sandbox.helpers import DECLINED_CARD, GOOD_CARD, Shop

CHALLENGED = {**GOOD_CARD, "number": "4000002500003155"}
BERLIN = {"line1": "Hauptstr. 1", "city": "Berlin", "postal_code": "10115", "country": "DE"}


def one_time(shop: Shop, amount: int = 1500, **params: Any) -> stripe.Price:
    product = shop.api.products.create({"name": "Setup"})
    return shop.api.prices.create({"product": product.id, "currency": "usd", "unit_amount": amount, **params})


def code(shop: Shop, *, text: str = "SAVE25", promotion: dict[str, Any] | None = None, **coupon: Any) -> Any:
    made = shop.api.coupons.create({"percent_off": 25, "duration": "once", **coupon})
    return shop.api.promotion_codes.create(
        {"promotion": {"type": "coupon", "coupon": made.id}, "code": text, **(promotion or {})}
    )


def charge_tax_in_germany(shop: Shop) -> None:
    """Let automatic tax charge 19% to buyers in Germany."""
    shop.api.tax.settings.update(
        {
            "head_office": {
                "address": {"country": "DE", "line1": "x", "city": "Berlin", "postal_code": "10115"}
            },
            "defaults": {"tax_behavior": "exclusive", "tax_code": "txcd_10103001"},
        }
    )
    shop.api.tax.registrations.create(
        {
            "country": "DE",
            "country_options": {
                "de": {"type": "standard", "standard": {"place_of_supply_scheme": "standard"}}
            },
            "active_from": "now",
        }
    )


def authenticate(browser: Client, answer: Any, *, result: str) -> Any:
    """Go through the bank's page and back to the one that asked for it."""
    return browser.get(browser.post(answer.location, data={"result": result}).location)


def test_a_card_that_passes_3d_secure_completes_the_session_with_one_payment(
    shop: Shop, browser: Client
) -> None:
    session = shop.checkout(customer=shop.customer().id)
    asked = browser.post(session.url, data=CHALLENGED)
    assert (asked.status_code, "/3ds/" in asked.location) == (303, True)
    assert shop.api.subscriptions.list({"status": "all"}).data == []

    back = authenticate(browser, asked, result="complete")

    assert back.location == f"http://127.0.0.1/done?session={session.id}"
    done = shop.api.checkout.sessions.retrieve(session.id, {"expand": ["subscription", "invoice.payments"]})
    assert (done.status, done.subscription.status, done.invoice.amount_paid) == ("complete", "active", 4900)
    (intent,) = shop.api.payment_intents.list().data
    (payment,) = done.invoice.payments.data
    assert (payment.payment.payment_intent, payment.status, intent.status) == (intent.id, "paid", "succeeded")
    told = shop.event_types()
    assert told.count("payment_intent.created") == 1
    assert told.index("payment_intent.succeeded") < told.index("customer.subscription.created")


def test_a_card_that_fails_3d_secure_comes_back_to_the_page_with_the_reason(
    shop: Shop, browser: Client
) -> None:
    session = shop.checkout(customer=shop.customer().id)

    back = authenticate(browser, browser.post(session.url, data=CHALLENGED), result="fail")

    assert back.status_code == 402
    assert "We are unable to authenticate your payment method." in back.text
    assert shop.api.subscriptions.list({"status": "all"}).data == []
    assert browser.post(session.url, data=GOOD_CARD).status_code == 303


def test_a_payer_whose_browser_never_returns_from_the_bank_has_still_bought(
    shop: Shop, browser: Client
) -> None:
    session = shop.checkout(customer=shop.customer().id)
    asked = browser.post(session.url, data=CHALLENGED)

    browser.post(asked.location, data={"result": "complete"})

    assert shop.api.checkout.sessions.retrieve(session.id).status == "complete"


def test_a_session_that_expires_gives_up_the_payment_that_waits(
    shop: Shop, browser: Client, sandbox: Sandbox
) -> None:
    session = shop.checkout(customer=shop.customer().id)
    browser.post(session.url, data=CHALLENGED)
    sandbox.set_clock(advance=24 * 3600 + 1)
    (intent,) = shop.api.payment_intents.list().data
    assert (shop.api.checkout.sessions.retrieve(session.id).status, intent.status) == ("expired", "canceled")


def test_a_challenged_card_is_set_up_before_a_trial(shop: Shop, browser: Client) -> None:
    session = shop.checkout(customer=shop.customer().id, subscription_data={"trial_period_days": 14})
    back = authenticate(browser, browser.post(session.url, data=CHALLENGED), result="complete")
    assert back.status_code == 303
    done = shop.api.checkout.sessions.retrieve(session.id, {"expand": ["subscription"]})
    assert (done.subscription.status, done.payment_status) == ("trialing", "no_payment_required")
    assert done.subscription.default_payment_method is not None


class TestPromotionCodes:
    def test_a_code_lowers_the_total_and_the_invoice_alike(self, shop: Shop, browser: Client) -> None:
        promotion = code(shop)
        session = shop.checkout(customer=shop.customer().id, allow_promotion_codes=True)

        page = browser.post(session.url, data={"action": "apply", "promotion_code": "save25"})

        # 4900 - 25% = 3675
        assert "$36.75" in page.text
        known = shop.api.checkout.sessions.retrieve(session.id, {"expand": ["total_details.breakdown"]})
        assert (known.amount_subtotal, known.amount_total, known.total_details.amount_discount) == (
            4900,
            3675,
            1225,
        )
        assert known.discounts[0].promotion_code == promotion.id
        assert known.total_details.breakdown.discounts[0].amount == 1225
        assert shop.api.promotion_codes.retrieve(promotion.id).times_redeemed == 0
        browser.post(session.url, data=GOOD_CARD)
        done = shop.api.checkout.sessions.retrieve(session.id, {"expand": ["invoice", "line_items"]})
        assert (done.invoice.subtotal, done.invoice.total, done.invoice.amount_paid) == (4900, 3675, 3675)
        assert done.line_items.data[0].amount_discount == 1225
        assert shop.api.promotion_codes.retrieve(promotion.id).times_redeemed == 1

    @pytest.mark.parametrize("typed", ["NONSENSE", ""])
    def test_a_wrong_code_is_refused_at_its_field(self, shop: Shop, browser: Client, typed: str) -> None:
        session = shop.checkout(allow_promotion_codes=True)
        page = browser.post(session.url, data={"action": "apply", "promotion_code": typed})
        assert page.status_code == 422
        assert 'id="promotion_code-error"' in page.text
        assert shop.api.checkout.sessions.retrieve(session.id).amount_total == 4900

    def test_a_code_with_a_minimum_asks_for_a_larger_purchase(self, shop: Shop, browser: Client) -> None:
        code(
            shop,
            promotion={"restrictions": {"minimum_amount": 10_000, "minimum_amount_currency": "usd"}},
        )
        session = shop.checkout(allow_promotion_codes=True)
        page = browser.post(session.url, data={"action": "apply", "promotion_code": "SAVE25"})
        assert "does not meet the minimum amount" in page.text

    def test_a_code_can_be_taken_off_again(self, shop: Shop, browser: Client) -> None:
        code(shop)
        session = shop.checkout(allow_promotion_codes=True)
        browser.post(session.url, data={"action": "apply", "promotion_code": "SAVE25"})
        browser.post(session.url, data={"action": "remove"})
        assert shop.api.checkout.sessions.retrieve(session.id).amount_total == 4900

    def test_a_session_that_allows_none_has_no_field_and_takes_none(
        self, shop: Shop, browser: Client
    ) -> None:
        code(shop)
        session = shop.checkout()
        assert "Promotion code" not in browser.get(session.url).text
        browser.post(session.url, data={"action": "apply", "promotion_code": "SAVE25"})
        assert shop.api.checkout.sessions.retrieve(session.id).amount_total == 4900

    def test_a_discount_given_by_the_seller_is_there_from_the_start(
        self, shop: Shop, browser: Client
    ) -> None:
        coupon = shop.api.coupons.create({"amount_off": 900, "currency": "usd", "duration": "forever"})
        session = shop.checkout(customer=shop.customer().id, discounts=[{"coupon": coupon.id}])
        assert (session.amount_total, session.total_details.amount_discount) == (4000, 900)
        browser.post(session.url, data=GOOD_CARD)
        done = shop.api.checkout.sessions.retrieve(session.id, {"expand": ["subscription", "invoice"]})
        assert done.invoice.total == 4000
        assert len(done.subscription.discounts) == 1

    def test_codes_and_a_given_discount_exclude_each_other(self, shop: Shop) -> None:
        coupon = shop.api.coupons.create({"percent_off": 10, "duration": "once"})
        with pytest.raises(stripe.InvalidRequestError, match="only specify one of these parameters"):
            shop.checkout(allow_promotion_codes=True, discounts=[{"coupon": coupon.id}])

    def test_a_plan_that_costs_nothing_at_first_takes_no_card_where_none_is_required(
        self, shop: Shop, browser: Client
    ) -> None:
        coupon = shop.api.coupons.create({"percent_off": 100, "duration": "once"})
        session = shop.checkout(
            customer=shop.customer().id,
            discounts=[{"coupon": coupon.id}],
            payment_method_collection="if_required",
        )
        assert "Card number" not in browser.get(session.url).text
        assert browser.post(session.url, data={}).status_code == 303
        assert shop.api.checkout.sessions.retrieve(session.id).payment_status == "no_payment_required"


class TestTax:
    def test_the_address_settles_the_tax_of_page_and_invoice(self, shop: Shop, browser: Client) -> None:
        charge_tax_in_germany(shop)
        session = shop.checkout(automatic_tax={"enabled": True})
        assert session.automatic_tax.status == "requires_location_inputs"
        assert "Enter your address" in browser.get(session.url).text

        page = browser.post(session.url, data={"action": "update", "country": "DE", "email": "a@b.co"})

        # 4900 × 19% = 931
        assert "$9.31" in page.text
        assert "$58.31" in page.text
        assert shop.api.checkout.sessions.retrieve(session.id).amount_total == 5831
        browser.post(session.url, data={**GOOD_CARD, "email": "a@b.co", "country": "DE"})
        done = shop.api.checkout.sessions.retrieve(session.id, {"expand": ["invoice", "customer"]})
        assert (done.invoice.total, done.total_details.amount_tax, done.automatic_tax.status) == (
            5831,
            931,
            "complete",
        )
        assert done.customer.address.country == "DE"

    def test_a_total_that_changed_on_the_way_is_shown_before_it_is_charged(
        self, shop: Shop, browser: Client
    ) -> None:
        charge_tax_in_germany(shop)
        session = shop.checkout(automatic_tax={"enabled": True})
        form = {**GOOD_CARD, "email": "a@b.co", "country": "DE"}

        page = browser.post(session.url, data={**form, "expected": "4900"})

        assert page.status_code == 422
        assert "The total has changed" in page.text
        assert shop.api.charges.list().data == []
        assert browser.post(session.url, data={**form, "expected": "5831"}).status_code == 303

    def test_a_business_abroad_gives_its_tax_id_and_pays_no_tax(self, shop: Shop, browser: Client) -> None:
        charge_tax_in_germany(shop)
        session = shop.checkout(automatic_tax={"enabled": True}, tax_id_collection={"enabled": True})
        form = {
            **GOOD_CARD,
            "email": "a@b.co",
            **BERLIN,
            "country": "FR",
            "city": "Paris",
            "business": "yes",
            "business_name": "Ada SARL",
        }

        wrong = browser.post(session.url, data={**form, "tax_id": "nonsense"})
        assert (wrong.status_code, 'id="tax_id-error"' in wrong.text) == (422, True)
        browser.post(session.url, data={**form, "tax_id": "FR12345678901"})

        done = shop.api.checkout.sessions.retrieve(session.id, {"expand": ["customer.tax_ids"]})
        assert (done.amount_total, done.customer.name) == (4900, "Ada SARL")
        assert done.customer_details.tax_ids[0].to_dict() == {"type": "eu_vat", "value": "FR12345678901"}
        assert done.customer.tax_ids.data[0].value == "FR12345678901"

    def test_tax_rates_of_the_seller_are_charged(self, shop: Shop, browser: Client) -> None:
        rate = shop.api.tax_rates.create({"display_name": "VAT", "percentage": 20, "inclusive": False})
        session = shop.checkout(
            customer=shop.customer().id, subscription_data={"default_tax_rates": [rate.id]}
        )
        assert (session.amount_total, session.total_details.amount_tax) == (5880, 980)
        browser.post(session.url, data=GOOD_CARD)
        done = shop.api.checkout.sessions.retrieve(session.id, {"expand": ["invoice"]})
        assert done.invoice.total == 5880

    def test_automatic_tax_needs_a_place_it_can_go_by(self, shop: Shop) -> None:
        charge_tax_in_germany(shop)
        customer = shop.customer()
        with pytest.raises(stripe.InvalidRequestError) as refused:
            shop.checkout(customer=customer.id, automatic_tax={"enabled": True})
        assert refused.value.code == "customer_tax_location_invalid"
        shop.checkout(
            customer=customer.id, automatic_tax={"enabled": True}, customer_update={"address": "auto"}
        )

    def test_collecting_tax_ids_needs_the_right_to_rename_the_customer(self, shop: Shop) -> None:
        with pytest.raises(stripe.InvalidRequestError, match=r"customer_update\[name\]"):
            shop.checkout(customer=shop.customer().id, tax_id_collection={"enabled": True})


class TestWhatThePageAsks:
    def test_a_required_address_and_phone_reach_the_customer(self, shop: Shop, browser: Client) -> None:
        session = shop.checkout(
            billing_address_collection="required", phone_number_collection={"enabled": True}
        )
        form = {**GOOD_CARD, "email": "a@b.co", **BERLIN, "phone": "+49301234"}
        missing = browser.post(session.url, data={**form, "city": "", "phone": ""})
        assert missing.status_code == 422
        assert '<a href="#city">Enter a city.</a>' in missing.text
        assert '<a href="#phone">Enter a phone number.</a>' in missing.text

        browser.post(session.url, data=form)

        done = shop.api.checkout.sessions.retrieve(session.id, {"expand": ["customer"]})
        assert (done.customer.phone, done.customer.address.city) == ("+49301234", "Berlin")
        assert done.customer_details.address.postal_code == "10115"

    def test_an_existing_customer_is_changed_only_where_the_seller_allows_it(
        self, shop: Shop, browser: Client
    ) -> None:
        for update, expected in (({}, None), ({"customer_update": {"address": "auto"}}, "Berlin")):
            customer = shop.customer()
            session = shop.checkout(customer=customer.id, billing_address_collection="required", **update)
            browser.post(session.url, data={**GOOD_CARD, **BERLIN})
            address = shop.api.customers.retrieve(customer.id).address
            assert (address.city if address else None) == expected

    def test_terms_must_be_accepted_where_they_are_required(self, shop: Shop, browser: Client) -> None:
        session = shop.checkout(
            customer=shop.customer().id, consent_collection={"terms_of_service": "required"}
        )
        assert browser.post(session.url, data=GOOD_CARD).status_code == 422
        browser.post(session.url, data={**GOOD_CARD, "terms": "yes"})
        assert shop.api.checkout.sessions.retrieve(session.id).consent.terms_of_service == "accepted"

    def test_the_quantity_may_be_changed_within_its_bounds(self, shop: Shop, browser: Client) -> None:
        session = shop.checkout(
            customer=shop.customer().id,
            lines=[
                {
                    "price": shop.price().id,
                    "quantity": 2,
                    "adjustable_quantity": {"enabled": True, "minimum": 1, "maximum": 5},
                }
            ],
        )
        line = shop.api.checkout.sessions.line_items.list(session.id).data[0]
        assert line.adjustable_quantity.maximum == 5

        page = browser.post(session.url, data={"action": "update", f"quantity_{line.id}": "3"})
        assert "$147.00" in page.text
        assert (
            browser.post(session.url, data={"action": "update", f"quantity_{line.id}": "6"}).status_code
            == 422
        )

        browser.post(session.url, data=GOOD_CARD)
        done = shop.api.checkout.sessions.retrieve(session.id, {"expand": ["subscription"]})
        assert (done.subscription["items"].data[0].quantity, done.amount_total) == (3, 14_700)

    def test_a_returning_customer_pays_with_a_saved_card(self, shop: Shop, browser: Client) -> None:
        customer = shop.payer()
        method = customer.invoice_settings.default_payment_method
        session = shop.checkout(customer=customer.id)
        # Stripe offers a card again only where it may be shown again.
        assert "ending in 4242" not in browser.get(session.url).text
        shop.api.payment_methods.update(method, {"allow_redisplay": "always"})
        assert "Visa ending in 4242" in browser.get(session.url).text

        assert browser.post(session.url, data={"saved": method}).status_code == 303

        done = shop.api.checkout.sessions.retrieve(session.id, {"expand": ["subscription"]})
        assert done.subscription.default_payment_method == method

    def test_another_customer_s_card_cannot_be_named(self, shop: Shop, browser: Client) -> None:
        stranger = shop.payer().invoice_settings.default_payment_method
        session = shop.checkout(customer=shop.customer().id)
        assert browser.post(session.url, data={"saved": stranger}).status_code == 422


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
