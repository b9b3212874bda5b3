"""What lowers and raises the total of a Checkout: promotion codes and tax."""

import pytest
import stripe
from werkzeug.test import Client

from tests.sandbox.checkouts import BERLIN, charge_tax_in_germany, code
from tests.sandbox.helpers import GOOD_CARD, Shop


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
