"""Credit notes line by line: quantities, discounts and taxes."""

import itertools
from decimal import Decimal

import pytest
import stripe
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import Sandbox
from sandbox.contract.recorder import Recorder
from sandbox.transport import SandboxHTTPClient
from tests.sandbox.credits import bill, credit, fresh, refused, vat
from tests.sandbox.helpers import KEY, Shop


def test_line_is_credited_by_quantity_with_its_tax(shop):
    # Two at 50.00 with 20 % on top: one of them is 50.00 and 10.00 tax.
    rate = vat(shop)
    customer = shop.payer()
    invoice = shop.api.invoices.create({"customer": customer.id, "default_tax_rates": [rate.id]})
    shop.api.invoice_items.create(
        {
            "customer": customer.id,
            "invoice": invoice.id,
            "pricing": {"price": one_off(shop, 5000).id},
            "quantity": 2,
        }
    )
    invoice = shop.api.invoices.finalize_invoice(invoice.id)
    assert invoice.total == 12_000
    line = invoice.lines.data[0]

    note = credit(
        shop,
        invoice,
        lines=[{"type": "invoice_line_item", "invoice_line_item": line.id, "quantity": 1}],
    )

    assert (note.subtotal, note.total, note.total_excluding_tax) == (5000, 6000, 5000)
    made = note.lines.data[0]
    assert (made.amount, made.quantity, made.invoice_line_item) == (5000, 1, line.id)
    assert [each.id for each in made.tax_rates] == [rate.id]
    assert [(each.amount, each.taxable_amount) for each in note.total_taxes] == [(1000, 5000)]
    assert fresh(shop, invoice).amount_remaining == 6000


def one_off(shop: Shop, amount: int) -> stripe.Price:
    product = shop.api.products.create({"name": "Hat"}).id
    return shop.api.prices.create({"product": product, "currency": "usd", "unit_amount": amount})


def test_discount_and_tax_are_credited_in_proportion_and_the_last_takes_the_rest(shop):
    # 10.00 less 10 % is 9.00; 19 % on it is 1.71. A third of the line (3.33) has a discount of
    # 0.333, rounded 0.33, and tax of 0.56943, rounded 0.57; the rest has 0.67 and 1.14.
    rate = vat(shop, 19)
    coupon = shop.api.coupons.create({"percent_off": 10})
    invoice = bill(shop, 1000, default_tax_rates=[rate.id], discounts=[{"coupon": coupon.id}])
    assert invoice.total == 1071
    line = invoice.lines.data[0].id

    first = credit(
        shop, invoice, lines=[{"type": "invoice_line_item", "invoice_line_item": line, "amount": 333}]
    )
    assert (first.subtotal, first.discount_amount, first.total) == (333, 33, 333 - 33 + 57)
    assert first.total_taxes[0].amount == 57
    assert first.discount_amounts[0].discount == invoice.discounts[0]

    rest = credit(
        shop, invoice, lines=[{"type": "invoice_line_item", "invoice_line_item": line, "amount": 667}]
    )
    assert (rest.discount_amount, rest.total_taxes[0].amount) == (67, 114)
    assert first.total + rest.total == 1071
    assert fresh(shop, invoice).status == "paid"


@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(
    # The smallest part is more than rounding takes away: a note for nothing is refused.
    amount=st.integers(1_000, 100_000),
    cuts=st.lists(st.integers(1, 99), min_size=1, max_size=4, unique=True),
    off=st.integers(1, 60),
    percent=st.integers(1, 27),
    inclusive=st.booleans(),
)
def test_parts_of_a_line_always_make_the_whole(*, spec, amount, cuts, off, percent, inclusive):
    recorder = Recorder(spec)
    transport = SandboxHTTPClient(Sandbox(), recorder=recorder)
    shop = Shop(stripe.StripeClient(KEY, http_client=transport))
    rate = vat(shop, percent, inclusive=inclusive)
    coupon = shop.api.coupons.create({"percent_off": off})
    invoice = bill(shop, amount, default_tax_rates=[rate.id], discounts=[{"coupon": coupon.id}])
    edges = [0, *sorted({amount * cut // 100 for cut in cuts} - {0, amount}), amount]
    totals = []
    for low, high in itertools.pairwise(edges):
        line = {"type": "invoice_line_item", "invoice_line_item": invoice.lines.data[0].id}
        note = credit(shop, invoice, lines=[{**line, "amount": high - low}])
        totals.append((note.total, note.discount_amount, sum(each.amount for each in note.total_taxes)))

    taxes = sum(each.amount for each in invoice.total_taxes)
    off_all = sum(each.amount for each in invoice.total_discount_amounts)
    assert tuple(map(sum, zip(*totals, strict=True))) == (invoice.total, off_all, taxes)
    assert fresh(shop, invoice).amount_remaining == 0
    assert recorder.problems == []


def test_custom_line_has_tax_of_its_own(shop):
    rate = vat(shop, 19)
    invoice = bill(shop, 10_000)

    note = credit(
        shop,
        invoice,
        lines=[
            {
                "type": "custom_line_item",
                "description": "Outage",
                "quantity": 3,
                "unit_amount_decimal": "33.5",
                "tax_rates": [rate.id],
            }
        ],
    )

    # 3 x 33.5 is 100.5, rounded 101; 19 % of it is 19.19, rounded 19.
    line = note.lines.data[0]
    assert (line.amount, line.unit_amount, line.unit_amount_decimal) == (101, None, Decimal("33.5"))
    assert (note.total, note.total_taxes[0].amount) == (120, 19)


def test_tax_can_be_given_by_hand(shop):
    rate = vat(shop, 19)
    invoice = bill(shop, 10_000)

    note = credit(
        shop,
        invoice,
        lines=[
            {
                "type": "custom_line_item",
                "description": "Outage",
                "quantity": 1,
                "unit_amount": 1000,
                "tax_amounts": [{"amount": 77, "tax_rate": rate.id, "taxable_amount": 500}],
            }
        ],
    )

    assert (note.total, note.total_taxes[0].taxable_amount) == (1077, 500)


@pytest.mark.parametrize(
    ("line", "param"),
    [
        ({"type": "invoice_line_item", "amount": 1}, "lines[0][invoice_line_item]"),
        (
            {"type": "invoice_line_item", "invoice_line_item": "il_missing", "amount": 1},
            "lines[0][invoice_line_item]",
        ),
        ({"type": "invoice_line_item", "invoice_line_item": "", "amount": 1}, "lines[0][invoice_line_item]"),
        ({"type": "custom_line_item", "quantity": 1, "unit_amount": 1}, "lines[0][description]"),
        ({"type": "custom_line_item", "description": "x", "unit_amount": 1}, "lines[0][quantity]"),
        ({"type": "custom_line_item", "description": "x", "quantity": 1}, "lines[0]"),
        ({"type": "custom_line_item", "description": "x", "quantity": 1, "unit_amount": 0}, "lines[0]"),
        ({"type": "custom_line_item", "amount": 1}, "lines[0][amount]"),
        ({"type": "gift"}, "lines[0][type]"),
    ],
)
def test_line_that_makes_no_sense_is_refused_with_its_parameter(shop, line, param):
    assert refused(credit, shop, bill(shop, 10_000), lines=[line]).param == param


def test_no_more_of_a_line_is_credited_than_it_has(shop):
    invoice = bill(shop, 10_000, 10_000)
    line = {"type": "invoice_line_item", "invoice_line_item": invoice.lines.data[0].id}
    credit(shop, invoice, lines=[{**line, "amount": 6000}])

    for given_, param in (
        ({"amount": 4001}, "lines[0][amount]"),
        ({"amount": 0}, "lines[0][amount]"),
        ({"quantity": 2}, "lines[0][quantity]"),
        ({"quantity": 1}, "lines[0][quantity]"),
        ({"quantity": 1, "amount": 1}, "lines[0]"),
    ):
        assert refused(credit, shop, invoice, lines=[{**line, **given_}]).param == param
