"""The hosted invoice page: what it says, how it is paid, and its PDF."""

import re
from typing import Any

import pytest
import stripe
from werkzeug.test import Client

from sandbox.pages.pdf import width, wrapped
from tests.sandbox.helpers import DECLINED_CARD, GOOD_CARD, Shop

CHALLENGED = {**GOOD_CARD, "number": "4000002500003155"}


def bill(
    shop: Shop, customer: stripe.Customer, *, amount: int = 12_500, currency: str = "usd", **params: Any
) -> Any:
    """Return an open invoice that its customer is to pay."""
    invoice = shop.api.invoices.create(
        {
            "customer": customer.id,
            "currency": currency,
            "collection_method": "send_invoice",
            "days_until_due": 14,
            **params,
        }
    )
    shop.api.invoice_items.create(
        {
            "customer": customer.id,
            "invoice": invoice.id,
            "amount": amount,
            "currency": currency,
            "description": "Consulting (two days)",
        }
    )
    return shop.api.invoices.finalize_invoice(invoice.id)


def text_of(pdf: bytes) -> list[str]:
    """Return the texts of a PDF of ours, in order."""
    found = re.findall(rb"\((.*?)(?<!\\)\) Tj", pdf)
    return [each.decode("cp1252").replace("\\(", "(").replace("\\)", ")") for each in found]


def test_an_open_invoice_is_paid_on_its_page(shop: Shop, browser: Client) -> None:
    invoice = bill(shop, shop.customer())
    assert "Pay $125.00" in browser.get(invoice.hosted_invoice_url).text

    answer = browser.post(invoice.hosted_invoice_url, data=GOOD_CARD)

    assert answer.location == invoice.hosted_invoice_url
    paid = shop.api.invoices.retrieve(invoice.id)
    assert (paid.status, paid.amount_paid) == ("paid", 12_500)
    page = browser.get(invoice.hosted_invoice_url).text
    assert "Paid with thanks" in page
    assert "Visa ending in 4242" in page
    assert "Pay $" not in page


def test_paying_twice_charges_once(shop: Shop, browser: Client) -> None:
    invoice = bill(shop, shop.customer())
    for _ in range(2):
        assert browser.post(invoice.hosted_invoice_url, data=GOOD_CARD).status_code == 303
    assert len(shop.api.charges.list().data) == 1


def test_a_declined_card_says_why_and_leaves_it_open(shop: Shop, browser: Client) -> None:
    invoice = bill(shop, shop.customer())
    answer = browser.post(invoice.hosted_invoice_url, data=DECLINED_CARD)
    assert (answer.status_code, "Your card was declined." in answer.text) == (402, True)
    assert shop.api.invoices.retrieve(invoice.id).status == "open"
    assert "invoice.payment_failed" in shop.event_types()


def test_a_bad_number_is_pointed_out(shop: Shop, browser: Client) -> None:
    answer = browser.post(
        bill(shop, shop.customer()).hosted_invoice_url, data={**GOOD_CARD, "number": "4242"}
    )
    assert (answer.status_code, '<a href="#number">Your card number is invalid.</a>' in answer.text) == (
        422,
        True,
    )


@pytest.mark.parametrize(("result", "status"), [("complete", "paid"), ("fail", "open")])
def test_a_challenged_card_goes_through_the_bank(
    shop: Shop, browser: Client, result: str, status: str
) -> None:
    invoice = bill(shop, shop.customer())
    asked = browser.post(invoice.hosted_invoice_url, data=CHALLENGED)
    back = browser.get(browser.post(asked.location, data={"result": result}).location)
    assert ("unable to authenticate" in back.text) == (result == "fail")
    assert shop.api.invoices.retrieve(invoice.id).status == status


def test_the_saved_card_is_offered(shop: Shop, browser: Client) -> None:
    customer = shop.payer()
    invoice = bill(shop, customer)
    assert "Visa ending in 4242" in browser.get(invoice.hosted_invoice_url).text
    card = customer.invoice_settings.default_payment_method
    browser.post(invoice.hosted_invoice_url, data={"saved": card})
    assert shop.api.invoices.retrieve(invoice.id).status == "paid"


def test_a_past_due_subscription_is_brought_back_by_paying(shop: Shop, browser: Client) -> None:
    customer = shop.payer("pm_card_chargeCustomerFail")
    subscription = shop.subscription(customer, shop.price(), payment_behavior="default_incomplete")
    invoice = shop.api.invoices.retrieve(subscription.latest_invoice)
    browser.post(invoice.hosted_invoice_url, data={**GOOD_CARD, "saved": "new"})
    assert shop.api.subscriptions.retrieve(subscription.id).status == "active"


@pytest.mark.parametrize(
    ("end", "words", "payable"),
    [("void_invoice", "This invoice is void.", False), ("mark_uncollectible", "You can still pay it.", True)],
)
def test_an_invoice_given_up_says_so(
    shop: Shop, browser: Client, end: str, words: str, payable: bool
) -> None:
    invoice = bill(shop, shop.customer())
    getattr(shop.api.invoices, end)(invoice.id)
    page = browser.get(invoice.hosted_invoice_url).text
    assert words in page
    assert ("Pay $125.00" in page) == payable


def test_a_draft_has_no_page(shop: Shop, browser: Client) -> None:
    assert browser.get("/i/nothing").status_code == 404


def test_discount_tax_balance_and_period_are_shown(shop: Shop, browser: Client) -> None:
    customer = shop.payer()
    shop.api.customers.balance_transactions.create(customer.id, {"amount": -500, "currency": "usd"})
    coupon = shop.api.coupons.create({"percent_off": 10, "duration": "once", "name": "Welcome"})
    rate = shop.api.tax_rates.create({"display_name": "VAT", "percentage": 20, "inclusive": False})
    subscription = shop.subscription(
        customer, shop.price(10_000), discounts=[{"coupon": coupon.id}], default_tax_rates=[rate.id]
    )
    invoice = shop.api.invoices.retrieve(subscription.latest_invoice)

    page = browser.get(invoice.hosted_invoice_url).text
    pdf = text_of(browser.get(invoice.invoice_pdf).data)

    # 10000 - 10% = 9000; + 20% = 10800; - 500 of balance = 10300
    assert invoice.amount_due == 10_300
    for said in (
        "$100.00",
        "Welcome (10% off)",
        "-$10.00",
        "VAT (20%)",
        "$18.00",
        "$108.00",
        "-$5.00",
        "$103.00",
    ):
        assert said in page
        assert said in pdf
    line = invoice.lines.data[0]
    assert line.description in pdf
    assert any("–" in each for each in pdf)


@pytest.mark.parametrize(
    ("currency", "amount", "said"),
    [("jpy", 5000, "¥5,000"), ("kwd", 12_340, "12.340 KWD"), ("eur", 1234, "€12.34")],
)
def test_money_is_written_with_the_places_its_currency_has(
    shop: Shop, browser: Client, currency: str, amount: int, said: str
) -> None:
    invoice = bill(shop, shop.customer(), amount=amount, currency=currency)
    assert f"Pay {said}" in browser.get(invoice.hosted_invoice_url).text
    assert said in text_of(browser.get(invoice.invoice_pdf).data)


def test_the_pdf_is_a_file_that_readers_can_open(shop: Shop, browser: Client) -> None:
    answer = browser.get(bill(shop, shop.customer(name="Łódź (Café)")).invoice_pdf)
    data = answer.data
    assert answer.content_type == "application/pdf"
    assert data.startswith(b"%PDF-1.4")
    assert data.endswith(b"%%EOF\n")
    # Each entry of the cross-reference table leads to its object.
    start = int(re.findall(rb"startxref\n(\d+)", data)[0])
    assert data[start:].startswith(b"xref")
    offsets = [int(each) for each in re.findall(rb"(\d{10}) 00000 n", data[start:])]
    for number, offset in enumerate(offsets, start=1):
        assert data[offset:].startswith(f"{number} 0 obj".encode())
    assert "Consulting (two days)" in text_of(data)


def test_a_long_invoice_fills_several_pages(shop: Shop, browser: Client) -> None:
    customer = shop.customer()
    for number in range(40):
        shop.api.invoice_items.create(
            {"customer": customer.id, "amount": 100, "currency": "usd", "description": f"Hour {number}"}
        )
    invoice = bill(shop, customer, pending_invoice_items_behavior="include")
    data = browser.get(invoice.invoice_pdf).data
    assert re.findall(rb"/Count (\d+)", data) != [b"1"]
    assert {f"Hour {number}" for number in range(40)} <= set(text_of(data))


def test_a_word_too_long_for_its_column_goes_on_below() -> None:
    lines = wrapped("Donau" + "dampf" * 60, within=300, size=10)
    assert len(lines) > 1
    assert all(width(line, 10) <= 300 for line in lines)
    assert "".join(lines) == "Donau" + "dampf" * 60
