"""What is taken from a customer's balance, and what tax adds."""

from typing import Any

from tests.sandbox.worked.life import Life


def rate(life: Life, percentage: str, *, inclusive: bool = False) -> str:
    made = life.api.tax_rates.create(
        {"display_name": "VAT", "percentage": float(percentage), "inclusive": inclusive}
    )
    return made.id


def owe(life: Life, amount: int) -> None:
    life.api.customers.balance_transactions.create(life.customer.id, {"amount": amount, "currency": "usd"})


def taxes(invoice: Any) -> list[int]:
    return [each.amount for each in invoice.total_taxes]


def test_a_credit_lowers_what_is_due(life: Life) -> None:
    # 4900 − 2000 = 2900 are charged; the balance is used up.
    owe(life, -2000)
    life.subscribe(life.price(4900))

    invoice = life.last()
    assert (invoice.total, invoice.starting_balance, invoice.amount_due, invoice.amount_paid) == (
        4900,
        -2000,
        2900,
        2900,
    )
    assert (invoice.ending_balance, life.balance()) == (0, 0)


def test_a_credit_larger_than_the_invoice_is_used_up_month_by_month(life: Life) -> None:
    # 10000: 4900 for April leave 5100; 4900 for May leave 200; 4900 − 200 = 4700 are charged for June.
    owe(life, -10_000)
    life.subscribe(life.price(4900))
    assert (life.last().amount_due, life.last().status, life.balance()) == (0, "paid", -5100)
    life.advance("2026-05-01T01:00:00")
    assert (life.last().amount_due, life.balance()) == (0, -200)
    life.advance("2026-06-01T01:00:00")

    assert (life.last().amount_due, life.last().amount_paid, life.balance()) == (4700, 4700, 0)


def test_a_debit_is_collected_with_the_next_invoice(life: Life) -> None:
    # 4900 + 500 = 5400.
    owe(life, 500)
    life.subscribe(life.price(4900))

    assert (life.last().total, life.last().amount_due, life.balance()) == (4900, 5400, 0)


def test_the_balance_is_the_sum_of_its_transactions(life: Life) -> None:
    owe(life, -10_000)
    owe(life, 700)
    life.subscribe(life.price(4900))

    # −10000 + 700 + 4900 = −4400.
    rows = life.api.customers.balance_transactions.list(life.customer.id).data
    assert [each.amount for each in rows] == [4900, 700, -10_000]
    assert [each.ending_balance for each in rows] == [-4400, -9300, -10_000]
    assert life.balance() == -4400


def test_exclusive_tax_comes_on_top(life: Life) -> None:
    # 19 % of 4900 = 931: 5831.
    life.subscribe(life.price(4900), default_tax_rates=[rate(life, "19")])

    invoice = life.last()
    assert (invoice.subtotal, taxes(invoice), invoice.total, invoice.amount_paid) == (4900, [931], 5831, 5831)
    assert invoice.total_excluding_tax == 4900


def test_inclusive_tax_is_inside(life: Life) -> None:
    # 4900 − 4900 / 1.19 = 4900 − 4117.65 = 782.35 → 782.
    life.subscribe(life.price(4900), default_tax_rates=[rate(life, "19", inclusive=True)])

    invoice = life.last()
    assert (invoice.subtotal, taxes(invoice), invoice.total) == (4900, [782], 4900)
    assert invoice.total_excluding_tax == 4118


def test_two_taxes_are_each_counted_from_the_price(life: Life) -> None:
    # 5 % of 4900 = 245; 9.975 % of 4900 = 488.775 → 489: 5634.
    life.subscribe(life.price(4900), default_tax_rates=[rate(life, "5"), rate(life, "9.975")])

    assert sorted(taxes(life.last())) == [245, 489]
    assert life.totals() == [5634]


def test_tax_is_counted_after_the_discount(life: Life) -> None:
    # 4900 − 20 % = 3920; 19 % of 3920 = 744.8 → 745: 4665.
    twenty = life.api.coupons.create({"percent_off": 20, "duration": "once"})
    life.subscribe(life.price(4900), default_tax_rates=[rate(life, "19")], discounts=[{"coupon": twenty.id}])

    invoice = life.last()
    assert (invoice.subtotal, taxes(invoice), invoice.total) == (4900, [745], 4665)


def test_an_item_may_have_a_tax_of_its_own(life: Life) -> None:
    # 10 % of 3000 = 300; the other 1000 are taxed at 19 % = 190: 4490.
    life.subscribe(
        {"price": life.price(3000).id, "tax_rates": [rate(life, "10")]},
        life.price(1000),
        default_tax_rates=[rate(life, "19")],
    )

    assert sorted(taxes(life.last())) == [190, 300]
    assert life.totals() == [4490]


def test_a_proration_is_taxed_as_its_price_is(life: Life) -> None:
    # −1500 + 3000 with 15 of 30 days left; 10 % of each: −150 + 300. 1500 + 150 = 1650.
    subscription = life.subscribe(life.price(3000), default_tax_rates=[rate(life, "10")])
    life.advance("2026-04-16")
    life.change(subscription, life.price(6000), proration_behavior="always_invoice")

    assert life.totals() == [3300, 1650]


def test_an_exempt_customer_pays_no_tax(life: Life) -> None:
    life.api.customers.update(life.customer.id, {"tax_exempt": "exempt"})
    life.subscribe(life.price(4900), default_tax_rates=[rate(life, "19")])

    assert life.totals() == [4900]


def test_a_balance_is_used_after_tax(life: Life) -> None:
    # 4900 + 931 = 5831, less 1000: 4831.
    owe(life, -1000)
    life.subscribe(life.price(4900), default_tax_rates=[rate(life, "19")])

    assert (life.last().total, life.last().amount_due) == (5831, 4831)
