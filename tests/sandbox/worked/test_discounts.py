"""Coupons and promotion codes: how much, for how long, on what."""

from typing import Any

from tests.sandbox.worked.life import Life, at


def coupon(life: Life, **params: Any) -> list[dict[str, str]]:
    if "amount_off" in params:
        params["currency"] = "usd"
    return [{"coupon": life.api.coupons.create(params).id}]


def test_a_percentage_once_is_off_the_first_invoice_only(life: Life) -> None:
    # 25 % of 4900 = 1225: 3675, then 4900.
    life.subscribe(life.price(4900), discounts=coupon(life, percent_off=25, duration="once"))
    life.advance("2026-05-01T01:00:00")

    assert life.totals() == [3675, 4900]
    first = life.invoices()[0]
    assert (first.subtotal, [each.amount for each in first.total_discount_amounts]) == (4900, [1225])


def test_an_amount_for_three_months_is_off_three_invoices(life: Life) -> None:
    # 4900 − 1000 = 3900 in April, May and June; the discount ends on 1 July.
    subscription = life.subscribe(
        life.price(4900),
        discounts=coupon(life, amount_off=1000, duration="repeating", duration_in_months=3),
        expand=["discounts"],
    )
    assert subscription.discounts[0].end == at("2026-07-01")
    life.advance("2026-07-01T01:00:00")

    assert life.totals() == [3900, 3900, 3900, 4900]


def test_a_percentage_for_ever_is_rounded_to_the_cent_each_time(life: Life) -> None:
    # 10 % of 4999 = 499.9 → 500: 4499 each time.
    life.subscribe(life.price(4999), discounts=coupon(life, percent_off=10, duration="forever"))
    life.advance("2026-06-01T01:00:00")

    assert life.totals() == [4499, 4499, 4499]


def test_a_third_off_is_rounded_to_the_cent(life: Life) -> None:
    # 33.33 % of 1000 = 333.3 → 333: 667.
    life.subscribe(life.price(1000), discounts=coupon(life, percent_off="33.33", duration="once"))
    assert life.totals() == [667]


def test_a_promotion_code_takes_off_what_its_coupon_says(life: Life) -> None:
    # 20 % of 4900 = 980: 3920.
    twenty = life.api.coupons.create({"percent_off": 20, "duration": "once"})
    code = life.api.promotion_codes.create(
        {"promotion": {"type": "coupon", "coupon": twenty.id}, "code": "SPRING"}
    )
    life.subscribe(life.price(4900), discounts=[{"promotion_code": code.id}])

    assert life.totals() == [3920]
    assert life.api.promotion_codes.retrieve(code.id).times_redeemed == 1


def test_a_coupon_on_an_item_leaves_the_others_alone(life: Life) -> None:
    # Half of 3000 is 1500; the other item stays at 1000: 2500.
    half = coupon(life, percent_off=50, duration="forever")
    life.subscribe({"price": life.price(3000).id, "discounts": half}, life.price(1000))

    assert life.totals() == [2500]
    off = {line.amount: sum(each.amount for each in line.discount_amounts) for line in life.last().lines.data}
    assert off == {3000: 1500, 1000: 0}


def test_an_amount_is_shared_between_lines_by_their_size(life: Life) -> None:
    # 1000 off 3000 + 1000: three quarters of it, 750, and one quarter, 250. 4000 − 1000 = 3000.
    life.subscribe(
        life.price(3000), life.price(1000), discounts=coupon(life, amount_off=1000, duration="once")
    )

    assert life.totals() == [3000]
    off = {line.amount: sum(each.amount for each in line.discount_amounts) for line in life.last().lines.data}
    assert off == {3000: 750, 1000: 250}


def test_all_of_it_off_charges_no_card(life: Life) -> None:
    subscription = life.subscribe(
        life.price(4900), discounts=coupon(life, percent_off=100, duration="forever")
    )
    life.advance("2026-05-01T01:00:00")

    assert life.again(subscription).status == "active"
    assert [(each.subtotal, each.total, each.amount_due, each.status) for each in life.invoices()] == [
        (4900, 0, 0, "paid")
    ] * 2
    assert life.api.charges.list({"customer": life.customer.id}).data == []


def test_more_off_than_there_is_leaves_nothing_to_pay_and_nothing_owed(life: Life) -> None:
    # 5000 off 3000: 0, not −2000.
    life.subscribe(life.price(3000), discounts=coupon(life, amount_off=5000, duration="once"))

    assert life.totals() == [0]
    assert life.balance() == 0


def test_two_coupons_follow_each_other(life: Life) -> None:
    # 10 % of 10000 = 1000, then 20 % of the 9000 left = 1800: 7200.
    both = coupon(life, percent_off=10, duration="once") + coupon(life, percent_off=20, duration="once")
    life.subscribe(life.price(10_000), discounts=both)

    assert life.totals() == [7200]
