"""Coupons, promotion codes, and what they take off an invoice's lines."""

from collections.abc import Callable
from typing import Any

import pytest
import stripe

from sandbox import Sandbox
from sandbox.catalog import discounting
from sandbox.errors import ApiError
from tests.sandbox.helpers import Shop

DAY = 86400


@pytest.fixture
def redeem(sandbox: Sandbox, shop: Shop) -> Callable[..., str]:
    """Redeem a coupon or a code for a customer; returns the discount's id."""

    def redeem(given: dict[str, str], *, customer: str | None = None, **more: Any) -> str:
        with sandbox.change():
            (made,) = discounting.new_discounts(sandbox, [given], customer=customer, **more)
            return made

    return redeem


def line(amount: int, *discounts: str, product: str = "prod_a", **fields: Any) -> dict[str, Any]:
    return {
        "amount": amount,
        "discount_amounts": [],
        "discountable": True,
        "discounts": list(discounts),
        "pricing": {"price_details": {"price": "price_1", "product": product}},
        **fields,
    }


def discounted(
    sandbox: Sandbox,
    lines: list[dict[str, Any]],
    *discounts: str,
    at: int | None = None,
    currency: str = "usd",
) -> dict[str, Any]:
    invoice = {"currency": currency, "discounts": list(discounts), "lines": {"data": lines}}
    discounting.discount_lines(sandbox, invoice, at=sandbox.now() if at is None else at)
    return invoice


def taken(invoice: dict[str, Any]) -> list[list[int]]:
    """Return each line's discounts, in minor units."""
    return [[each["amount"] for each in row["discount_amounts"]] for row in invoice["lines"]["data"]]


def refused(call: Callable[[], Any]) -> stripe.StripeError:
    with pytest.raises(stripe.InvalidRequestError) as caught:
        call()
    return caught.value


def test_a_percentage_is_rounded_half_up_on_each_line(sandbox: Sandbox, shop: Shop, redeem: Any) -> None:
    third = redeem({"coupon": shop.api.coupons.create({"percent_off": 33.33}).id})

    invoice = discounted(sandbox, [line(1000), line(50)], third)

    # 1000 * 0.3333 = 333.3 -> 333; 50 * 0.3333 = 16.665 -> 17
    assert taken(invoice) == [[333], [17]]
    assert invoice["total_discount_amounts"] == [{"amount": 350, "discount": third}]


def test_half_a_cent_goes_to_the_customer(sandbox: Sandbox, shop: Shop, redeem: Any) -> None:
    half = redeem({"coupon": shop.api.coupons.create({"percent_off": 50}).id})
    # 999 * 0.5 = 499.5 -> 500
    assert taken(discounted(sandbox, [line(999)], half)) == [[500]]


def test_an_amount_off_is_shared_in_proportion_and_to_the_cent(
    sandbox: Sandbox, shop: Shop, redeem: Any
) -> None:
    ten = redeem({"coupon": shop.api.coupons.create({"amount_off": 1000, "currency": "usd"}).id})

    invoice = discounted(sandbox, [line(3333), line(3333), line(3334)], ten)

    # Of 10000: 333.3, 333.3 and 333.4. Whole parts make 999; the largest remainder gets the last cent.
    assert taken(invoice) == [[333], [333], [334]]


def test_an_amount_off_never_exceeds_what_there_is(sandbox: Sandbox, shop: Shop, redeem: Any) -> None:
    ten = redeem({"coupon": shop.api.coupons.create({"amount_off": 1000, "currency": "usd"}).id})
    assert taken(discounted(sandbox, [line(300), line(200)], ten)) == [[300], [200]]


def test_the_discounts_of_a_line_come_before_those_of_the_invoice(
    sandbox: Sandbox, shop: Shop, redeem: Any
) -> None:
    five = redeem({"coupon": shop.api.coupons.create({"amount_off": 500, "currency": "usd"}).id})
    tenth = redeem({"coupon": shop.api.coupons.create({"percent_off": 10}).id})

    invoice = discounted(sandbox, [line(2000, five), line(1000)], tenth)

    # First line: 2000 - 500 = 1500, and 10 % of that is 150. Second: 10 % of 1000 is 100.
    assert taken(invoice) == [[500, 150], [100]]
    assert invoice["total_discount_amounts"] == [
        {"amount": 500, "discount": five},
        {"amount": 250, "discount": tenth},
    ]


def test_each_discount_works_on_what_the_one_before_left(sandbox: Sandbox, shop: Shop, redeem: Any) -> None:
    fifth = redeem({"coupon": shop.api.coupons.create({"percent_off": 20}).id})
    five = redeem({"coupon": shop.api.coupons.create({"amount_off": 500, "currency": "usd"}).id})

    # 20 % of 4900 is 980, leaving 3920; 20 % after 5.00 off is 20 % of 4400 = 880.
    assert taken(discounted(sandbox, [line(4900)], fifth, five)) == [[980, 500]]
    assert taken(discounted(sandbox, [line(4900)], five, fifth)) == [[500, 880]]


def test_credits_and_lines_not_discountable_are_left_alone(sandbox: Sandbox, shop: Shop, redeem: Any) -> None:
    half = redeem({"coupon": shop.api.coupons.create({"percent_off": 50}).id})
    lines = [line(1000), line(-400), line(800, discountable=False)]
    assert taken(discounted(sandbox, lines, half)) == [[500], [], []]


def test_a_coupon_for_some_products_leaves_the_others(sandbox: Sandbox, shop: Shop, redeem: Any) -> None:
    pro = shop.api.products.create({"name": "Pro"}).id
    coupon = shop.api.coupons.create(
        {"amount_off": 1000, "currency": "usd", "applies_to": {"products": [pro]}, "expand": ["applies_to"]}
    )
    assert coupon.applies_to.products == [pro]
    discount = redeem({"coupon": coupon.id})

    lines = [line(5000, product="prod_other"), line(3000, product=pro), line(1000, product=pro)]

    # 1000 over 3000 and 1000: 750 and 250.
    assert taken(discounted(sandbox, lines, discount)) == [[], [750], [250]]


def test_a_coupon_has_its_own_amount_in_each_currency(sandbox: Sandbox, shop: Shop, redeem: Any) -> None:
    coupon = shop.api.coupons.create(
        {
            "amount_off": 1000,
            "currency": "usd",
            "currency_options": {"eur": {"amount_off": 900}},
            "expand": ["currency_options"],
        }
    )
    assert coupon.currency_options["usd"].amount_off == 1000
    discount = redeem({"coupon": coupon.id}, currency="eur")

    assert taken(discounted(sandbox, [line(5000)], discount, currency="eur")) == [[900]]
    with pytest.raises(ApiError, match="no amount in gbp"):
        redeem({"coupon": coupon.id}, currency="gbp")


def test_a_repeating_discount_ends_after_its_months(sandbox: Sandbox, shop: Shop, redeem: Any) -> None:
    sandbox.set_clock(frozen_at=1_767_225_600)  # 2026-01-01 00:00 UTC
    coupon = shop.api.coupons.create({"percent_off": 25, "duration": "repeating", "duration_in_months": 3})
    discount = redeem({"coupon": coupon.id})
    april = 1_775_001_600  # 2026-04-01 00:00 UTC: January has 31 days, February 28, March 31

    assert sandbox.get("discount", discount)["end"] == april == 1_767_225_600 + (31 + 28 + 31) * DAY
    assert discounting.is_live(sandbox, discount, at=april - 1)
    assert not discounting.is_live(sandbox, discount, at=april)
    assert taken(discounted(sandbox, [line(1000)], discount, at=april - 1)) == [[250]]
    assert taken(discounted(sandbox, [line(1000)], discount, at=april)) == [[]]


def test_a_deleted_coupon_goes_on_for_those_who_have_it(sandbox: Sandbox, shop: Shop, redeem: Any) -> None:
    coupon = shop.api.coupons.create({"id": "SPRING", "percent_off": 10})
    discount = redeem({"coupon": "SPRING"})

    assert shop.api.coupons.delete("SPRING").deleted is True
    error = refused(lambda: shop.api.coupons.retrieve(coupon.id))
    assert (error.http_status, error.code, error.param) == (404, "resource_missing", "coupon")
    shop.api.coupons.create({"id": "SPRING", "percent_off": 90})

    assert taken(discounted(sandbox, [line(1000)], discount)) == [[100]]


def test_redeeming_counts_and_is_told(sandbox: Sandbox, shop: Shop, redeem: Any) -> None:
    customer = shop.customer().id
    coupon = shop.api.coupons.create({"percent_off": 10, "max_redemptions": 1})
    code = shop.api.promotion_codes.create({"promotion": {"type": "coupon", "coupon": coupon.id}})

    redeem({"promotion_code": code.id}, customer=customer, subscription="sub_1")

    coupon = shop.api.coupons.retrieve(coupon.id)
    assert (coupon.times_redeemed, coupon.valid) == (1, False)
    code = shop.api.promotion_codes.retrieve(code.id, {"expand": ["promotion.coupon"]})
    assert (code.times_redeemed, code.active, code.promotion.coupon.id) == (1, False, coupon.id)
    assert shop.event_types()[-3:] == [
        "coupon.updated",
        "promotion_code.updated",
        "customer.discount.created",
    ]
    with pytest.raises(ApiError, match="is used up and cannot be applied"):
        redeem({"coupon": coupon.id})


def test_an_expired_coupon_is_refused(sandbox: Sandbox, shop: Shop, redeem: Any) -> None:
    sandbox.set_clock(frozen_at=1_800_000_000)
    coupon = shop.api.coupons.create({"percent_off": 10, "redeem_by": 1_800_000_000 + DAY})
    assert coupon.valid is True

    sandbox.set_clock(advance=DAY + 1)

    assert shop.api.coupons.retrieve(coupon.id).valid is False
    with pytest.raises(ApiError) as caught:
        redeem({"coupon": coupon.id})
    assert caught.value.body["error"]["code"] == "coupon_expired"
    assert caught.value.body["error"]["param"] == "discounts[0][coupon]"


def test_no_such_coupon_names_the_parameter(shop: Shop, redeem: Any) -> None:
    with pytest.raises(ApiError, match="No such coupon: 'NOPE'") as caught:
        redeem({"coupon": "NOPE"}, param="items[1][discounts]")
    assert caught.value.status == 400
    assert caught.value.body["error"]["param"] == "items[1][discounts][0][coupon]"


def code_of(shop: Shop, **params: Any) -> stripe.PromotionCode:
    coupon = shop.api.coupons.create({"percent_off": 10})
    return shop.api.promotion_codes.create({"promotion": {"type": "coupon", "coupon": coupon.id}, **params})


def test_a_code_for_first_purchases_asks_who_buys(sandbox: Sandbox, shop: Shop, redeem: Any) -> None:
    code = code_of(shop, restrictions={"first_time_transaction": True})
    customer = shop.customer().id
    with pytest.raises(ApiError) as caught:
        redeem({"promotion_code": code.id})
    assert caught.value.body["error"]["code"] == "promotion_code_customer_missing_first_time"

    redeem({"promotion_code": code.id}, customer=customer)
    with sandbox.change():
        sandbox.put({"id": "in_1", "object": "invoice", "customer": customer, "status": "paid"})

    with pytest.raises(ApiError, match="has prior transactions") as caught:
        redeem({"promotion_code": code.id}, customer=customer)
    assert caught.value.body["error"]["code"] == "promotion_code_customer_not_first_time"
    assert caught.value.body["error"]["param"] == "discounts[0][promotion_code]"


def test_a_code_with_a_minimum_asks_for_it_in_each_currency(shop: Shop, redeem: Any) -> None:
    code = code_of(
        shop,
        restrictions={
            "minimum_amount": 5000,
            "minimum_amount_currency": "usd",
            "currency_options": {"eur": {"minimum_amount": 4000}},
        },
        expand=["restrictions.currency_options"],
    )
    assert code.restrictions.currency_options["eur"].minimum_amount == 4000

    for subtotal, currency in ((4999, "usd"), (3999, "eur")):
        with pytest.raises(ApiError, match="does not meet the minimum amount requirement"):
            redeem({"promotion_code": code.id}, subtotal=subtotal, currency=currency)
    with pytest.raises(ApiError, match="not in the purchase's currency"):
        redeem({"promotion_code": code.id}, subtotal=9999, currency="gbp")
    redeem({"promotion_code": code.id}, subtotal=5000, currency="usd")
    redeem({"promotion_code": code.id}, subtotal=4000, currency="eur")


def test_a_code_of_one_customer_is_no_other_s(shop: Shop, redeem: Any) -> None:
    ada, bob = shop.customer().id, shop.customer().id
    code = code_of(shop, customer=ada)
    with pytest.raises(ApiError, match="another customer"):
        redeem({"promotion_code": code.id}, customer=bob)
    redeem({"promotion_code": code.id}, customer=ada)


def test_a_code_expires_and_may_be_switched_off(sandbox: Sandbox, shop: Shop, redeem: Any) -> None:
    sandbox.set_clock(frozen_at=1_800_000_000)
    code, other = code_of(shop, expires_at=1_800_000_000 + DAY), code_of(shop)
    shop.api.promotion_codes.update(other.id, {"active": False})
    with pytest.raises(ApiError, match="not active"):
        redeem({"promotion_code": other.id})

    sandbox.set_clock(advance=DAY)

    assert shop.api.promotion_codes.retrieve(code.id).active is False
    with pytest.raises(ApiError, match="has expired"):
        redeem({"promotion_code": code.id})
    refused(lambda: shop.api.promotion_codes.update(code.id, {"active": True}))


def test_active_codes_are_unique_whatever_their_case(shop: Shop) -> None:
    first = code_of(shop, code="SPRING")
    error = refused(lambda: code_of(shop, code="spring"))
    assert error.user_message == "An active promotion code with `code: spring` already exists."
    assert error.param == "code"

    shop.api.promotion_codes.update(first.id, {"active": False})
    second = code_of(shop, code="spring")

    found = shop.api.promotion_codes.list({"code": "Spring"}).data
    assert [each.id for each in found] == [second.id, first.id]
    found = shop.api.promotion_codes.list({"code": "SPRING", "active": True}).data
    assert [each.id for each in found] == [second.id]
    refused(lambda: shop.api.promotion_codes.update(first.id, {"active": True}))


def test_an_existing_discount_is_used_again_as_it_is(shop: Shop, redeem: Any) -> None:
    customer = shop.customer().id
    coupon = shop.api.coupons.create({"percent_off": 10})
    discount = redeem({"coupon": coupon.id}, customer=customer)

    assert redeem({"discount": discount}, customer=customer) == discount
    assert shop.api.coupons.retrieve(coupon.id).times_redeemed == 1
    with pytest.raises(ApiError, match="No such discount"):
        redeem({"discount": discount}, customer=shop.customer().id)


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({}, "amount_off"),
        ({"percent_off": 10, "amount_off": 100, "currency": "usd"}, "percent_off"),
        ({"percent_off": 101}, "percent_off"),
        ({"percent_off": 0}, "percent_off"),
        ({"percent_off": "12.345"}, "percent_off"),
        ({"amount_off": 100}, "currency"),
        ({"amount_off": 0, "currency": "usd"}, "amount_off"),
        ({"amount_off": 100, "currency": "zzz"}, "currency"),
        ({"percent_off": 10, "duration": "repeating"}, "duration_in_months"),
        ({"percent_off": 10, "duration": "forever", "duration_in_months": 2}, "duration_in_months"),
        ({"percent_off": 10, "redeem_by": 1_000_000_000}, "redeem_by"),
        ({"percent_off": 10, "applies_to": {"products": ["prod_no"]}}, "applies_to[products][0]"),
        ({"percent_off": 10, "currency_options": {"eur": {"amount_off": 5}}}, "currency_options"),
        ({"percent_off": 10, "name": "x" * 41}, "name"),
    ],
)
def test_a_coupon_that_makes_no_sense_is_refused(shop: Shop, params: dict[str, Any], param: str) -> None:
    error = refused(lambda: shop.api.coupons.create(params))
    assert (error.http_status, error.param) == (400, param)


def test_a_coupon_may_be_renamed_but_not_changed(shop: Shop) -> None:
    coupon = shop.api.coupons.create({"id": "VIP", "percent_off": 12.5, "metadata": {"a": "1"}})
    assert coupon.percent_off == 12.5
    assert refused(lambda: shop.api.coupons.create({"id": "VIP", "percent_off": 5})).code == (
        "resource_already_exists"
    )

    coupon = shop.api.coupons.update("VIP", {"name": "Friends", "metadata": {"b": "2"}})

    assert (coupon.name, dict(coupon.metadata)) == ("Friends", {"a": "1", "b": "2"})
    assert refused(lambda: shop.api.coupons.update("VIP", {"percent_off": 5})).code == "parameter_unknown"
    assert [each.id for each in shop.api.coupons.list().data] == ["VIP"]
    assert shop.event_types() == ["coupon.created", "coupon.updated"]


def holder(sandbox: Sandbox, *discounts: str) -> dict[str, Any]:
    """Store and return the little of a subscription that holds discounts."""
    with sandbox.change():
        return sandbox.put(
            {
                "id": "sub_1",
                "object": "subscription",
                "customer": None,
                "discounts": list(discounts),
                "latest_invoice": None,
                "_items": [],
            }
        )


def test_a_discount_for_once_goes_with_the_first_invoice_it_lowers(
    sandbox: Sandbox, shop: Shop, redeem: Any
) -> None:
    customer = shop.customer().id
    coupon = shop.api.coupons.create({"percent_off": 10, "duration": "once"}).id
    discount = redeem({"coupon": coupon}, customer=customer, subscription="sub_1")
    subscription = holder(sandbox, discount)

    with sandbox.change():
        discounting.spent(sandbox, subscription, discounted(sandbox, [line(0)], discount))
    assert subscription["discounts"] == [discount]

    with sandbox.change():
        discounting.spent(sandbox, subscription, discounted(sandbox, [line(1000)], discount))
    assert subscription["discounts"] == []
    assert shop.event_types()[-1] == "customer.discount.deleted"


def test_a_discount_leaves_its_subscription_when_its_months_are_over(sandbox: Sandbox, shop: Shop) -> None:
    sandbox.set_clock(frozen_at=1_767_225_600)
    coupon = shop.api.coupons.create({"percent_off": 10, "duration": "repeating", "duration_in_months": 1})
    yearly = shop.price(recurring={"interval": "year"})
    subscription = shop.subscription(shop.payer(), yearly, discounts=[{"coupon": coupon.id}])

    sandbox.set_clock(advance=31 * DAY - 1)
    assert len(shop.api.subscriptions.retrieve(subscription.id).discounts) == 1
    sandbox.set_clock(advance=1)

    assert shop.api.subscriptions.retrieve(subscription.id).discounts == []
    assert shop.event_types()[-2:] == ["customer.discount.deleted", "customer.subscription.updated"]
