"""The customer portal: cards, invoices and what is known of the customer."""

import pytest
from werkzeug.test import Client

from tests.sandbox.helpers import CHALLENGED, DECLINED_CARD, GOOD_CARD, Shop
from tests.sandbox.portals import configure, visit


class TestCards:
    def test_the_first_card_becomes_the_default(self, shop: Shop, browser: Client) -> None:
        customer = shop.customer()
        url = visit(shop, customer, configure(shop))
        assert browser.post(f"{url}/cards/add", data=GOOD_CARD).status_code == 303
        (card,) = shop.api.customers.payment_methods.list(customer.id).data
        assert shop.api.customers.retrieve(customer.id).invoice_settings.default_payment_method == card.id
        assert "Visa ending in 4242" in browser.get(url).text

    def test_a_declined_card_is_not_kept(self, shop: Shop, browser: Client) -> None:
        customer = shop.customer()
        url = visit(shop, customer, configure(shop))
        answer = browser.post(f"{url}/cards/add", data=DECLINED_CARD)
        assert (answer.status_code, "Your card was declined." in answer.text) == (402, True)
        assert shop.api.customers.payment_methods.list(customer.id).data == []

    @pytest.mark.parametrize(("result", "kept"), [("complete", 1), ("fail", 0)])
    def test_a_challenged_card_is_kept_once_its_holder_passes(
        self, shop: Shop, browser: Client, result: str, kept: int
    ) -> None:
        customer = shop.customer()
        url = visit(shop, customer, configure(shop))
        asked = browser.post(f"{url}/cards/add", data=CHALLENGED)
        back = browser.get(browser.post(asked.location, data={"result": result}).location)
        assert ("unable to authenticate" in back.text) == (result == "fail")
        assert len(shop.api.customers.payment_methods.list(customer.id).data) == kept

    def test_another_card_can_be_made_default_and_the_first_removed(
        self, shop: Shop, browser: Client
    ) -> None:
        customer = shop.payer()
        first = customer.invoice_settings.default_payment_method
        second = shop.api.payment_methods.attach("pm_card_mastercard", {"customer": customer.id}).id
        shop.subscription(customer, shop.price())
        url = visit(shop, customer, configure(shop))

        used = browser.post(f"{url}/cards/{first}/remove")
        assert "This card pays for a subscription." in used.text
        browser.post(f"{url}/cards/{second}/default")
        browser.post(f"{url}/cards/{first}/remove")

        assert [each.id for each in shop.api.customers.payment_methods.list(customer.id).data] == [second]

    def test_a_subscription_with_a_card_of_its_own_is_given_another(
        self, shop: Shop, browser: Client
    ) -> None:
        session = shop.checkout(customer=shop.customer().id)
        browser.post(session.url, data=GOOD_CARD)
        done = shop.api.checkout.sessions.retrieve(session.id, {"expand": ["subscription"]})
        card = shop.api.payment_methods.attach("pm_card_mastercard", {"customer": done.customer}).id
        url = visit(shop, shop.api.customers.retrieve(done.customer), configure(shop))
        browser.post(f"{url}/subscriptions/{done.subscription.id}/card", data={"card": card})
        assert shop.api.subscriptions.retrieve(done.subscription.id).default_payment_method == card

    def test_a_stranger_s_card_is_not_found(self, shop: Shop, browser: Client) -> None:
        stranger = shop.payer().invoice_settings.default_payment_method
        url = visit(shop, shop.payer(), configure(shop))
        browser.post(f"{url}/cards/{stranger}/remove")
        assert shop.api.payment_methods.retrieve(stranger).customer is not None


class TestDetails:
    def test_what_may_be_changed_is_changed(self, shop: Shop, browser: Client) -> None:
        customer = shop.customer()
        url = visit(shop, customer, configure(shop))
        browser.post(
            f"{url}/details",
            data={
                "name": "Ada GmbH",
                "email": "billing@example.com",
                "phone": "+49301234",
                "line1": "Hauptstr. 1",
                "city": "Berlin",
                "postal_code": "10115",
                "country": "DE",
                "tax_id": "DE123456789",
            },
        )
        now = shop.api.customers.retrieve(customer.id, {"expand": ["tax_ids"]})
        assert (now.name, now.email, now.phone, now.address.city) == (
            "Ada GmbH",
            "billing@example.com",
            "+49301234",
            "Berlin",
        )
        assert now.tax_ids.data[0].value == "DE123456789"
        browser.post(f"{url}/tax_ids/{now.tax_ids.data[0].id}/remove")
        assert shop.api.customers.tax_ids.list(customer.id).data == []

    def test_a_wrong_detail_is_pointed_out_and_nothing_saved(self, shop: Shop, browser: Client) -> None:
        customer = shop.customer()
        url = visit(shop, customer, configure(shop))
        answer = browser.post(f"{url}/details", data={"name": "New", "email": "nobody"})
        assert (answer.status_code, '<a href="#email">' in answer.text) == (422, True)
        assert shop.api.customers.retrieve(customer.id).name is None

    def test_what_may_not_be_changed_is_left_alone(self, shop: Shop, browser: Client) -> None:
        customer = shop.customer()
        rules = {"enabled": True, "allowed_updates": ["phone"]}
        url = visit(shop, customer, configure(shop, customer_update=rules))
        browser.post(f"{url}/details", data={"phone": "1", "email": "thief@example.com"})
        now = shop.api.customers.retrieve(customer.id)
        assert (now.phone, now.email) == ("1", "ada@example.com")

    def test_invoices_are_listed_with_their_pdfs(self, shop: Shop, browser: Client) -> None:
        customer = shop.payer()
        subscription = shop.subscription(customer, shop.price())
        invoice = shop.api.invoices.retrieve(subscription.latest_invoice)
        page = browser.get(visit(shop, customer, configure(shop))).text
        assert invoice.number in page
        assert invoice.invoice_pdf in page

    def test_the_way_back_is_shown(self, shop: Shop, browser: Client) -> None:
        page = browser.get(visit(shop, shop.customer(), configure(shop))).text
        assert 'href="http://127.0.0.1/dashboard"' in page
