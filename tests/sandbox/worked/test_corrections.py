"""Money given back: credit notes and refunds."""

from typing import Any

from tests.sandbox.worked.life import Life


def paid_charge(life: Life) -> Any:
    [charge] = life.api.charges.list({"customer": life.customer.id, "limit": 1}).data
    return charge


def test_part_of_a_taxed_line_is_credited_with_its_tax(life: Life) -> None:
    # 1000 of 4900 and 19 % of it, 190: 1190 go back to the card.
    rate = life.api.tax_rates.create({"display_name": "VAT", "percentage": 19, "inclusive": False})
    life.subscribe(life.price(4900), default_tax_rates=[rate.id])
    invoice = life.last()
    line = {"type": "invoice_line_item", "invoice_line_item": invoice.lines.data[0].id, "amount": 1000}
    note = life.api.credit_notes.create({"invoice": invoice.id, "lines": [line], "refund_amount": 1190})

    assert (note.subtotal, [each.amount for each in note.total_taxes], note.total) == (1000, [190], 1190)
    assert note.type == "post_payment"
    assert paid_charge(life).amount_refunded == 1190
    again = life.last()
    assert (again.total, again.amount_paid, again.post_payment_credit_notes_amount) == (5831, 5831, 1190)


def test_a_credit_note_may_go_to_the_balance(life: Life) -> None:
    # 1500 of 4900 to the balance; the next invoice charges 4900 − 1500 = 3400.
    life.subscribe(life.price(4900))
    life.api.credit_notes.create({"invoice": life.last().id, "amount": 1500, "credit_amount": 1500})
    assert life.balance() == -1500
    life.advance("2026-05-01T01:00:00")

    assert (life.last().amount_due, life.last().amount_paid, life.balance()) == (3400, 3400, 0)


def test_a_credit_note_on_an_open_invoice_lowers_what_remains(life: Life) -> None:
    # 4900 − 1000 = 3900 remain, then are paid.
    life.pay_with("pm_card_chargeCustomerFail")
    subscription = life.subscribe(life.price(4900))
    assert subscription.status == "incomplete"
    invoice = life.last()
    note = life.api.credit_notes.create({"invoice": invoice.id, "amount": 1000})

    assert note.type == "pre_payment"
    lowered = life.last()
    assert (lowered.status, lowered.amount_remaining, lowered.pre_payment_credit_notes_amount) == (
        "open",
        3900,
        1000,
    )
    life.pay_with("pm_card_visa")
    paid = life.api.invoices.pay(invoice.id)
    assert (paid.status, paid.amount_paid, paid.amount_remaining) == ("paid", 3900, 0)


def test_a_credit_note_for_all_of_an_open_invoice_leaves_it_paid(life: Life) -> None:
    life.pay_with("pm_card_chargeCustomerFail")
    life.subscribe(life.price(4900))
    life.api.credit_notes.create({"invoice": life.last().id, "amount": 4900})

    assert (life.last().status, life.last().amount_remaining, life.last().amount_paid) == ("paid", 0, 0)


def test_refunds_go_up_to_the_charge_and_no_further(life: Life) -> None:
    # 4900: 1000 and then the remaining 3900; a cent more is refused.
    life.subscribe(life.price(4900))
    charge = paid_charge(life)
    life.api.refunds.create({"charge": charge.id, "amount": 1000})
    assert (paid_charge(life).amount_refunded, paid_charge(life).refunded) == (1000, False)
    rest = life.api.refunds.create({"charge": charge.id})

    assert rest.amount == 3900
    assert (paid_charge(life).amount_refunded, paid_charge(life).refunded) == (4900, True)
    # A refund alone leaves the invoice as it was paid.
    assert (life.last().status, life.last().amount_paid) == ("paid", 4900)


def test_a_voided_credit_note_raises_what_remains_again(life: Life) -> None:
    life.pay_with("pm_card_chargeCustomerFail")
    life.subscribe(life.price(4900))
    note = life.api.credit_notes.create({"invoice": life.last().id, "amount": 1000})
    voided = life.api.credit_notes.void_credit_note(note.id)

    assert voided.status == "void"
    assert life.last().amount_remaining == 4900
