import pytest
import stripe
from werkzeug.test import Client

from sandbox import Sandbox
from tests.sandbox.helpers import DECLINED_CARD, GOOD_CARD, Shop


def test_paying_makes_one_active_subscription_and_returns_to_the_seller(shop: Shop, browser: Client) -> None:
    customer = shop.customer()
    meter = shop.meter()
    session = shop.checkout(
        customer=customer.id,
        client_reference_id="org-1",
        metadata={"from": "session"},
        subscription_data={"metadata": {"plan": "pro"}},
        lines=[{"price": shop.price().id, "quantity": 1}, {"price": shop.metered_price(meter).id}],
    )

    answer = browser.post(session.url, data=GOOD_CARD)

    assert answer.status_code == 303
    assert answer.location == f"http://127.0.0.1/done?session={session.id}"
    done = shop.api.checkout.sessions.retrieve(
        session.id, {"expand": ["subscription", "invoice", "line_items"]}
    )
    assert (done.status, done.payment_status, done.client_reference_id) == ("complete", "paid", "org-1")
    assert done.metadata.to_dict() == {"from": "session"}
    assert done.subscription.status == "active"
    assert done.subscription.customer == customer.id
    assert done.subscription.metadata.to_dict() == {"plan": "pro"}
    assert len(done.subscription["items"].data) == 2
    assert (done.invoice.status, done.invoice.amount_paid) == ("paid", 4900)
    assert done.invoice.parent.subscription_details.subscription == done.subscription.id
    assert [line.pricing.price_details.price for line in done.invoice.lines.data] == [
        done.subscription["items"].data[0].price.id
    ]
    assert shop.event_types()[-1] == "checkout.session.completed"


def test_pressing_twice_subscribes_once(shop: Shop, browser: Client) -> None:
    session = shop.checkout(customer=shop.customer().id)
    first, second = browser.post(session.url, data=GOOD_CARD), browser.post(session.url, data=GOOD_CARD)
    assert (first.status_code, second.status_code) == (303, 303)
    assert first.location == second.location
    assert len(shop.api.subscriptions.list({"status": "all"}).data) == 1


def test_a_declined_card_keeps_the_session_open_and_sells_nothing(shop: Shop, browser: Client) -> None:
    customer = shop.customer()
    session = shop.checkout(customer=customer.id)

    answer = browser.post(session.url, data=DECLINED_CARD)

    assert answer.status_code == 402
    assert "Your card was declined." in answer.text
    assert shop.api.checkout.sessions.retrieve(session.id).status == "open"
    assert shop.api.subscriptions.list({"customer": customer.id, "status": "all"}).data == []
    assert shop.event_types()[-2:] == ["charge.failed", "payment_intent.payment_failed"]
    assert browser.post(session.url, data=GOOD_CARD).status_code == 303


def test_a_card_without_funds_says_so(shop: Shop, browser: Client) -> None:
    answer = browser.post(
        shop.checkout().url, data={**GOOD_CARD, "email": "a@b.co", "number": "4000000000009995"}
    )
    assert "Your card has insufficient funds." in answer.text


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("number", "4242424242424241", "Your card number is invalid."),
        ("expiry", "12 / 20", "Your card&#39;s expiration date is in the past."),
        ("cvc", "1", "Your card&#39;s security code is incomplete."),
        ("name", "", "Enter the name on the card."),
        ("email", "nobody", "Enter an e-mail address."),
    ],
)
def test_a_bad_field_is_pointed_out(
    shop: Shop, browser: Client, field: str, value: str, message: str
) -> None:
    answer = browser.post(shop.checkout().url, data={**GOOD_CARD, "email": "a@b.co", field: value})
    assert answer.status_code == 422
    assert message in answer.text


def test_someone_new_becomes_a_customer_by_paying(shop: Shop, browser: Client) -> None:
    session = shop.checkout()
    browser.post(session.url, data={**GOOD_CARD, "email": "new@example.com"})
    done = shop.api.checkout.sessions.retrieve(session.id, {"expand": ["customer"]})
    assert (done.customer.email, done.customer.name) == ("new@example.com", "Ada Lovelace")


def test_a_trial_charges_nothing_today(shop: Shop, browser: Client) -> None:
    session = shop.checkout(customer=shop.customer().id, subscription_data={"trial_period_days": 14})
    assert "Start trial" in browser.get(session.url).text
    browser.post(session.url, data=GOOD_CARD)
    done = shop.api.checkout.sessions.retrieve(session.id, {"expand": ["subscription.latest_invoice"]})
    assert (done.subscription.status, done.payment_status) == ("trialing", "no_payment_required")
    assert done.subscription.latest_invoice.amount_due == 0


def test_a_session_expires_after_a_day(shop: Shop, browser: Client, sandbox: Sandbox) -> None:
    session = shop.checkout()
    sandbox.set_clock(advance=24 * 3600 - 5)
    assert shop.api.checkout.sessions.retrieve(session.id).status == "open"
    sandbox.set_clock(advance=6)
    assert shop.api.checkout.sessions.retrieve(session.id).status == "expired"
    assert "This page has expired" in browser.post(session.url, data=GOOD_CARD).text
    assert shop.event_types()[-1] == "checkout.session.expired"


def test_an_expired_session_cannot_be_paid(shop: Shop, browser: Client) -> None:
    session = shop.checkout(customer=shop.customer().id)
    shop.api.checkout.sessions.expire(session.id)
    assert browser.post(session.url, data=GOOD_CARD).status_code == 410
    assert shop.api.subscriptions.list({"status": "all"}).data == []


def test_a_metered_line_takes_no_quantity_and_a_flat_one_needs_it(shop: Shop) -> None:
    metered = shop.metered_price(shop.meter())
    for line in ({"price": metered.id, "quantity": 1}, {"price": shop.price().id}):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            shop.checkout(lines=[line])
        assert refused.value.param == "line_items[0][quantity]"


def test_the_page_shows_text_as_text(shop: Shop, browser: Client) -> None:
    product = shop.api.products.create({"name": "<script>alert(1)</script>"})
    page = browser.get(shop.checkout(lines=[{"price": shop.price(product=product.id).id, "quantity": 1}]).url)
    assert "<script>" not in page.text
    assert "script-src" not in page.headers["Content-Security-Policy"]


def test_the_page_tells_the_price_of_one_unit_however_small(shop: Shop, browser: Client) -> None:
    page = browser.get(shop.checkout(lines=[{"price": shop.metered_price(shop.meter()).id}]).url).text
    assert "Up to 10,000: included" in page
    assert "After that: $0.0005 each" in page


def test_a_form_from_another_site_is_refused(shop: Shop, browser: Client) -> None:
    session = shop.checkout(customer=shop.customer().id)
    answer = browser.post(session.url, data=GOOD_CARD, headers={"Origin": "https://elsewhere.example"})
    assert answer.status_code == 403
    assert shop.api.checkout.sessions.retrieve(session.id).status == "open"


def test_sessions_are_listed_and_carry_the_sellers_notes(shop: Shop) -> None:
    first, second = shop.checkout(metadata={"a": "1"}), shop.checkout()
    shop.api.checkout.sessions.expire(first.id)
    listed = shop.api.checkout.sessions.list
    assert [each.id for each in listed().data] == [second.id, first.id]
    assert [each.id for each in listed({"status": "expired"}).data] == [first.id]
    noted = shop.api.checkout.sessions.update(first.id, {"metadata": {"b": "2"}})
    assert noted.metadata.to_dict() == {"a": "1", "b": "2"}
