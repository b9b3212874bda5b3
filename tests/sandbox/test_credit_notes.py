"""Credit notes before and after payment: what they lower, give back, show and undo."""

import pytest
import stripe

from tests.sandbox.credits import bill, credit, fresh, refused


def test_credit_before_payment_lowers_what_is_left_to_pay(shop):
    invoice = bill(shop, 10_000)

    note = credit(shop, invoice, amount=2500, reason="order_change", memo="Sorry", metadata={"a": "1"})

    assert (note.total, note.type, note.status) == (2500, "pre_payment", "issued")
    assert (note.pre_payment_amount, note.post_payment_amount) == (2500, 0)
    assert (note.number, note.reason, note.memo) == (f"{invoice.number}-CN-01", "order_change", "Sorry")
    left = shop.api.invoices.retrieve(invoice.id, {"expand": ["payments"]})
    assert (left.status, left.total, left.amount_remaining, left.amount_due) == ("open", 10_000, 7500, 7500)
    assert left.pre_payment_credit_notes_amount == 2500
    assert left.payments.data[0].amount_requested == 7500
    assert shop.event_types()[-2:] == ["credit_note.created", "invoice.updated"]
    paid = shop.api.invoices.pay(
        invoice.id,
        {"payment_method": shop.api.payment_methods.list({"customer": invoice.customer}).data[0].id},
    )
    assert (paid.status, paid.amount_paid) == ("paid", 7500)
    assert shop.api.charges.list().data[0].amount == 7500


def test_credit_of_all_that_is_left_settles_the_invoice(shop):
    invoice = bill(shop, 10_000)
    credit(shop, invoice, amount=4000)

    credit(shop, invoice, amount=6000)

    settled = fresh(shop, invoice)
    assert (settled.status, settled.amount_paid, settled.amount_remaining) == ("paid", 0, 0)
    assert settled.pre_payment_credit_notes_amount == 10_000
    assert "invoice.paid" in shop.event_types()
    assert shop.api.payment_intents.list().data[0].status == "canceled"
    assert shop.api.charges.list().data == []


def test_credit_after_payment_is_refunded_credited_and_given_back_elsewhere(shop):
    invoice = bill(shop, 10_000, pay=True)

    note = credit(shop, invoice, amount=6000, refund_amount=3000, credit_amount=2000, out_of_band_amount=1000)

    assert (note.type, note.post_payment_amount, note.out_of_band_amount) == ("post_payment", 6000, 1000)
    note = shop.api.credit_notes.retrieve(
        note.id, {"expand": ["refunds.refund", "customer_balance_transaction", "customer"]}
    )
    assert note.refunds[0].refund.amount == 3000
    moved = note.customer_balance_transaction
    assert (moved.amount, moved.type, moved.credit_note, moved.ending_balance) == (
        -2000,
        "credit_note",
        note.id,
        -2000,
    )
    assert note.customer.balance == -2000
    after = fresh(shop, invoice)
    assert (after.status, after.amount_paid, after.amount_remaining) == ("paid", 10_000, 0)
    assert (after.post_payment_credit_notes_amount, after.pre_payment_credit_notes_amount) == (6000, 0)
    assert shop.api.charges.list().data[0].amount_refunded == 3000


def test_parts_given_back_must_make_the_whole(shop):
    invoice = bill(shop, 10_000, pay=True)

    error = refused(credit, shop, invoice, amount=6000, refund_amount=3000)

    assert "must equal" in error.user_message
    assert "$30.00" in error.user_message
    assert "$60.00" in error.user_message
    assert shop.api.refunds.list().data == []
    unpaid = bill(shop, 10_000)
    assert "must equal" in refused(credit, shop, unpaid, amount=100, credit_amount=100).user_message


def test_no_more_is_credited_than_was_invoiced(shop):
    invoice = bill(shop, 10_000)
    credit(shop, invoice, amount=6000)

    error = refused(credit, shop, invoice, amount=4001)

    assert error.param == "amount"
    assert "$40.01" in error.user_message
    paid = bill(shop, 10_000, pay=True)
    credit(shop, paid, amount=9999, out_of_band_amount=9999)
    assert refused(credit, shop, paid, amount=2, out_of_band_amount=2).param == "amount"


def test_no_more_is_refunded_than_was_charged(shop):
    invoice = bill(shop, 10_000, pay=True)
    shop.api.refunds.create({"charge": shop.api.charges.list().data[0].id, "amount": 9000})

    error = refused(credit, shop, invoice, amount=2000, refund_amount=2000)

    assert error.param == "refund_amount"
    assert shop.api.credit_notes.list().data == []


def test_refund_that_was_made_before_is_counted_in(shop):
    invoice = bill(shop, 10_000, pay=True)
    refund = shop.api.refunds.create({"charge": shop.api.charges.list().data[0].id, "amount": 3000})

    note = credit(shop, invoice, amount=3000, refunds=[{"refund": refund.id}])

    assert [(each.refund, each.amount_refunded) for each in note.refunds] == [(refund.id, 3000)]
    assert len(shop.api.refunds.list().data) == 1
    error = refused(credit, shop, invoice, amount=1, refunds=[{"refund": refund.id, "amount_refunded": 1}])
    assert error.param == "refunds[0][refund]"


def test_draft_and_void_invoices_are_not_credited(shop):
    customer = shop.customer()
    draft = shop.api.invoices.create({"customer": customer.id})
    void = bill(shop, 10_000)
    shop.api.invoices.void_invoice(void.id)

    for invoice in (draft, void):
        assert refused(credit, shop, invoice, amount=100).param == "invoice"


def test_neither_amount_nor_lines_is_refused(shop):
    assert "amount, lines" in refused(credit, shop, bill(shop, 10_000)).user_message


def test_preview_says_what_the_credit_note_would_be_and_changes_nothing(shop):
    invoice = bill(shop, 10_000, 5000)
    line = invoice.lines.data[0].id
    lines = [{"type": "invoice_line_item", "invoice_line_item": line, "amount": 700}]
    before = shop.event_types()

    preview = shop.api.credit_notes.preview({"invoice": invoice.id, "lines": lines, "memo": "m"})
    shown = shop.api.credit_notes.preview_lines.list({"invoice": invoice.id, "lines": lines}).data

    assert (preview.total, preview.pre_payment_amount, preview.memo) == (700, 700, "m")
    assert [each.amount for each in shown] == [700]
    assert shop.event_types() == before
    assert shop.api.credit_notes.list().data == []
    assert fresh(shop, invoice).amount_remaining == 15_000
    note = credit(shop, invoice, lines=lines)
    assert (note.total, note.number) == (preview.total, preview.number)
    assert refused(shop.api.credit_notes.preview, {"invoice": invoice.id, "amount": 14_301}).param == "amount"


def test_credit_notes_are_listed_changed_and_their_lines_paged(shop):
    first, second = bill(shop, 10_000), bill(shop, 10_000)
    lines = [
        {"type": "custom_line_item", "description": str(number), "quantity": 1, "unit_amount": 10}
        for number in range(12)
    ]
    one = credit(shop, first, lines=lines)
    two = credit(shop, second, amount=1)

    assert [each.id for each in shop.api.credit_notes.list().data] == [two.id, one.id]
    assert [each.id for each in shop.api.credit_notes.list({"invoice": first.id}).data] == [one.id]
    assert [each.id for each in shop.api.credit_notes.list({"customer": second.customer}).data] == [two.id]
    assert (len(one.lines.data), one.lines.has_more) == (10, True)
    every = shop.api.credit_notes.line_items.list(one.id, {"limit": 100}).data
    assert [each.description for each in every] == [str(number) for number in range(12)]

    changed = shop.api.credit_notes.update(one.id, {"memo": "Thanks", "metadata": {"a": "1"}})
    assert (changed.memo, changed.metadata["a"]) == ("Thanks", "1")
    assert shop.event_types()[-1] == "credit_note.updated"
    with pytest.raises(stripe.InvalidRequestError) as missing:
        shop.api.credit_notes.retrieve("cn_missing")
    assert (missing.value.http_status, missing.value.code) == (404, "resource_missing")


def test_void_gives_the_invoice_its_amount_back(shop):
    invoice = bill(shop, 10_000)
    note = credit(shop, invoice, amount=2500)

    void = shop.api.credit_notes.void_credit_note(note.id)

    assert (void.status, void.voided_at is not None) == ("void", True)
    again = fresh(shop, invoice)
    assert (again.amount_remaining, again.amount_due, again.pre_payment_credit_notes_amount) == (
        10_000,
        10_000,
        0,
    )
    assert shop.api.payment_intents.list().data[0].amount == 10_000
    assert "credit_note.voided" in shop.event_types()[-2:]
    refused(shop.api.credit_notes.void_credit_note, note.id)
    assert credit(shop, invoice, amount=10_000).number == f"{invoice.number}-CN-02"


def test_credit_of_a_paid_invoice_cannot_be_voided(shop):
    note = credit(shop, bill(shop, 10_000, pay=True), amount=100, credit_amount=100)

    assert "paid" in refused(shop.api.credit_notes.void_credit_note, note.id).user_message


def test_credit_note_opens_as_a_pdf(shop, browser):
    note = credit(shop, bill(shop, 10_000), amount=2500)

    answer = browser.get(note.pdf.split("12111")[1])

    assert answer.status_code == 200
    assert answer.data.startswith(b"%PDF")
    assert browser.get("/credit_notes/nothing/pdf").status_code == 404


def test_credit_goes_first_to_what_is_left_and_only_then_back_to_the_payer(shop):
    customer = shop.payer()
    shop.api.customers.balance_transactions.create(customer.id, {"amount": -4000, "currency": "usd"})
    invoice = shop.api.invoices.create(
        {"customer": customer.id, "collection_method": "send_invoice", "days_until_due": 30}
    )
    shop.api.invoice_items.create(
        {"customer": customer.id, "invoice": invoice.id, "amount": 10_000, "currency": "usd"}
    )
    invoice = shop.api.invoices.finalize_invoice(invoice.id)
    assert (invoice.amount_due, shop.api.customers.retrieve(customer.id).balance) == (6000, 0)

    note = credit(shop, invoice, amount=10_000, credit_amount=4000)

    assert (note.type, note.pre_payment_amount, note.post_payment_amount) == ("mixed", 6000, 4000)
    assert shop.api.customers.retrieve(customer.id).balance == -4000
    assert fresh(shop, invoice).status == "paid"


def test_nothing_is_unset_where_there_is_nothing_yet(shop):
    refusal = refused(credit, shop, bill(shop, 1000), amount=100, metadata="")
    assert (refusal.code, refusal.param) == ("parameter_invalid_empty", "metadata")
