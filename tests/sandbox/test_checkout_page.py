"""What the page of Checkout asks: of the bank, and of the payer."""

from werkzeug.test import Client

from sandbox import Sandbox
from tests.sandbox.checkouts import BERLIN, authenticate
from tests.sandbox.helpers import CHALLENGED, GOOD_CARD, Shop


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
