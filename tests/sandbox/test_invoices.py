"""One-off invoices and what goes on them: items come, change and go; invoices are found, sent and deleted."""

from typing import Any

import pytest
import stripe

from tests.sandbox.helpers import Shop


def item(shop: Shop, customer: stripe.Customer, amount: int = 1500, **params: Any) -> stripe.InvoiceItem:
    return shop.api.invoice_items.create(
        {"customer": customer.id, "amount": amount, "currency": "usd", **params}
    )


def draft(shop: Shop, customer: stripe.Customer, **params: Any) -> stripe.Invoice:
    return shop.api.invoices.create({"customer": customer.id, "auto_advance": False, **params})


def test_a_pending_item_is_changed_until_it_is_invoiced(shop: Shop) -> None:
    customer = shop.payer()
    waiting = item(shop, customer)
    changed = shop.api.invoice_items.update(waiting.id, {"amount": 900, "description": "Set-up"})
    assert (changed.amount, changed.description) == (900, "Set-up")
    assert shop.api.invoice_items.retrieve(waiting.id).amount == 900
    invoice = draft(shop, customer, pending_invoice_items_behavior="include")
    assert (invoice.total, invoice.lines.data[0].description) == (900, "Set-up")
    shop.api.invoices.finalize_invoice(invoice.id)
    with pytest.raises(stripe.InvalidRequestError):
        shop.api.invoice_items.update(waiting.id, {"amount": 1})
    with pytest.raises(stripe.InvalidRequestError):
        shop.api.invoice_items.delete(waiting.id)


def test_an_item_of_a_draft_changes_its_total_and_leaves_it(shop: Shop) -> None:
    customer = shop.payer()
    invoice = draft(shop, customer)
    first, _ = (item(shop, customer, amount, invoice=invoice.id) for amount in (1500, 400))
    assert shop.api.invoices.retrieve(invoice.id).total == 1900
    shop.api.invoice_items.update(first.id, {"amount": 1000})
    assert shop.api.invoices.retrieve(invoice.id).total == 1400
    assert shop.api.invoice_items.delete(first.id).deleted
    left = shop.api.invoices.retrieve(invoice.id)
    assert (left.total, [line.amount for line in left.lines.data]) == (400, [400])
    with pytest.raises(stripe.InvalidRequestError) as gone:
        shop.api.invoice_items.retrieve(first.id)
    assert gone.value.http_status == 404


def test_a_deleted_draft_lets_its_items_wait_again(shop: Shop) -> None:
    customer = shop.payer()
    item(shop, customer)
    invoice = draft(shop, customer, pending_invoice_items_behavior="include")
    assert shop.api.invoice_items.list({"customer": customer.id, "pending": True}).data == []
    assert shop.api.invoices.delete(invoice.id).deleted
    with pytest.raises(stripe.InvalidRequestError) as gone:
        shop.api.invoices.retrieve(invoice.id)
    assert gone.value.http_status == 404
    assert len(shop.api.invoice_items.list({"customer": customer.id, "pending": True}).data) == 1
    assert draft(shop, customer, pending_invoice_items_behavior="include").total == 1500


def test_only_a_draft_of_the_sellers_own_is_deleted(shop: Shop) -> None:
    customer = shop.payer()
    of_subscription = shop.subscription(customer, shop.price()).latest_invoice
    open_one = draft(shop, customer)
    shop.api.invoices.finalize_invoice(open_one.id)
    for identifier in (of_subscription, open_one.id):
        with pytest.raises(stripe.InvalidRequestError):
            shop.api.invoices.delete(identifier)


def test_the_lines_of_an_invoice_are_paged(shop: Shop) -> None:
    customer = shop.payer()
    invoice = draft(shop, customer)
    for amount in (100, 200, 300):
        item(shop, customer, amount, invoice=invoice.id)
    page = shop.api.invoices.line_items.list(invoice.id, {"limit": 2})
    assert page.has_more
    assert sorted(line.amount for line in page.auto_paging_iter()) == [100, 200, 300]


def test_an_invoice_is_sent_where_it_is_to_be_sent(shop: Shop) -> None:
    customer = shop.payer()
    invoice = draft(shop, customer, collection_method="send_invoice", days_until_due=30)
    item(shop, customer, invoice=invoice.id)
    sent = shop.api.invoices.send_invoice(invoice.id)
    assert (sent.status, sent.amount_remaining) == ("open", 1500)
    assert sent.due_date is not None
    assert "invoice.sent" in shop.event_types()
    with pytest.raises(stripe.InvalidRequestError, match="send_invoice"):
        shop.api.invoices.send_invoice(draft(shop, customer).id)


def test_invoices_are_found_by_what_they_are(shop: Shop) -> None:
    customer = shop.payer()
    paid = shop.subscription(customer, shop.price()).latest_invoice
    draft(shop, customer, metadata={"order": "7"})
    for query, expected in (
        (f"customer:'{customer.id}' AND status:'paid'", 1),
        ("metadata['order']:'7'", 1),
        ("total>4899", 1),
        ("status:'void'", 0),
    ):
        assert len(shop.api.invoices.search({"query": query}).data) == expected, query
    assert shop.api.invoices.search({"query": "status:'paid'"}).data[0].id == paid


def test_subscriptions_are_found_by_what_they_are(shop: Shop) -> None:
    wanted = shop.subscription(shop.payer(), shop.price(), metadata={"team": "a"})
    shop.api.subscriptions.cancel(shop.subscription(shop.payer(), shop.price()).id)
    for query in ("metadata['team']:'a'", "status:'active'"):
        assert [each.id for each in shop.api.subscriptions.search({"query": query}).data] == [wanted.id]


def test_a_payment_of_an_invoice_says_which_intent_settled_it(shop: Shop) -> None:
    invoice = shop.subscription(shop.payer(), shop.price()).latest_invoice
    shop.subscription(shop.payer(), shop.price())
    (payment,) = shop.api.invoice_payments.list({"invoice": invoice}).data
    assert (payment.status, payment.amount_paid) == ("paid", 4900)
    again = shop.api.invoice_payments.retrieve(payment.id, {"expand": ["payment.payment_intent"]})
    assert again.payment.payment_intent.status == "succeeded"
    wanted: Any = {"type": "payment_intent", "payment_intent": payment.payment.payment_intent}
    assert [each.id for each in shop.api.invoice_payments.list({"payment": wanted}).data] == [payment.id]


def test_an_item_keeps_its_currency(shop: Shop) -> None:
    waiting = item(shop, shop.payer())
    product = shop.api.products.create({"name": "Pen"})
    yen: Any = {"currency": "jpy", "product": product.id, "unit_amount": 4900}
    with pytest.raises(stripe.InvalidRequestError) as refused:
        shop.api.invoice_items.update(waiting.id, {"price_data": yen})
    assert (refused.value.http_status, refused.value.param) == (400, "price_data[currency]")
    assert shop.api.prices.list({"product": product.id}).data == []
