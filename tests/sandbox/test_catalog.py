"""Products and prices: what they cost in each currency, how they are found, what may not be done to them."""

import decimal
from collections.abc import Callable
from typing import Any

import pytest
import stripe

from sandbox import Sandbox
from sandbox.catalog import pricing
from sandbox.catalog.amounts import amount_in, line_amount, money_text, unit_text
from sandbox.errors import ApiError
from tests.sandbox.helpers import Shop


def refused(call: Callable[[], Any]) -> stripe.StripeError:
    with pytest.raises(stripe.InvalidRequestError) as caught:
        call()
    return caught.value


def test_a_price_costs_its_own_amount_in_each_currency(sandbox: Sandbox, shop: Shop) -> None:
    made = shop.price(
        4900,
        currency_options={
            "eur": {"unit_amount": 4500, "tax_behavior": "inclusive"},
            "jpy": {"unit_amount_decimal": "7250.5"},
        },
        expand=["currency_options"],
    )
    assert {name: each.unit_amount for name, each in made.currency_options.items()} == {
        "usd": 4900,
        "eur": 4500,
        "jpy": None,
    }
    price = sandbox.get("price", made.id)
    assert line_amount(price, 3) == 14_700
    assert line_amount(price, 3, currency="usd") == 14_700
    assert line_amount(price, 3, currency="eur") == 13_500
    # 3 * 7250.5 = 21751.5, half up
    assert line_amount(price, 3, currency="jpy") == 21_752
    assert amount_in(price, "eur")["tax_behavior"] == "inclusive"
    assert amount_in(price, "gbp") is None
    with pytest.raises(ApiError, match="only supports `usd`"):
        pricing.subscribable_price(price, "gbp", param="items[0][price]")


def test_tiers_have_their_amounts_in_each_currency(sandbox: Sandbox, shop: Shop) -> None:
    def tiers(first: int, second: int) -> list[dict[str, Any]]:
        return [{"up_to": 10, "unit_amount": first}, {"up_to": "inf", "unit_amount": second}]

    made = shop.api.prices.create(
        {
            "product": shop.api.products.create({"name": "Seats"}).id,
            "currency": "usd",
            "billing_scheme": "tiered",
            "tiers_mode": "graduated",
            "tiers": tiers(500, 300),
            "currency_options": {"eur": {"tiers": tiers(450, 250)}},
            "recurring": {"interval": "month"},
            "expand": ["currency_options", "tiers"],
        }
    )
    assert made.currency_options["eur"].tiers[1].unit_amount == 250
    price = sandbox.get("price", made.id)
    # Twelve: ten of the first tier and two of the second.
    assert line_amount(price, 12) == 10 * 500 + 2 * 300
    assert line_amount(price, 12, currency="eur") == 10 * 450 + 2 * 250


def test_currency_options_change_one_by_one_or_go_together(shop: Shop) -> None:
    made = shop.price(4900, currency_options={"eur": {"unit_amount": 4500}})

    changed = shop.api.prices.update(
        made.id, {"currency_options": {"gbp": {"unit_amount": 3900}}, "expand": ["currency_options"]}
    )
    assert sorted(dict(changed.currency_options)) == ["eur", "gbp", "usd"]
    bare = shop.api.prices.update(made.id, {"currency_options": "", "expand": ["currency_options"]})
    assert sorted(dict(bare.currency_options)) == ["usd"]


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"usd": {"unit_amount": 1}}, "currency_options[usd]"),
        ({"xxx": {"unit_amount": 1}}, "currency_options[xxx]"),
        ({"eur": {"tax_behavior": "inclusive"}}, "currency_options[eur][unit_amount]"),
        ({"eur": {"unit_amount": -1}}, "currency_options[eur][unit_amount]"),
        ({"eur": {"tiers": [{"up_to": "inf", "unit_amount": 1}]}}, "currency_options[eur][tiers]"),
        ({"eur": {"price": 1}}, "currency_options[eur][price]"),
        ({"ugx": {"unit_amount": 150}}, "currency_options[ugx][unit_amount]"),
    ],
)
def test_an_amount_in_another_currency_must_fit(shop: Shop, options: dict[str, Any], param: str) -> None:
    error = refused(lambda: shop.price(4900, currency_options=options))
    assert (error.http_status, error.param) == (400, param)


@pytest.mark.parametrize(
    ("currency", "amount", "shown"),
    [
        ("usd", 123_456, "$1,234.56"),
        ("jpy", 5000, "¥5,000"),
        ("krw", 5000, "5,000 KRW"),
        ("chf", -2900, "-29.00 CHF"),
        ("ugx", 500, "5 UGX"),
        ("isk", 150_000, "1,500 ISK"),
        ("kwd", 5120, "5.120 KWD"),
    ],
)
def test_money_is_read_as_its_currency_is_written(currency: str, amount: int, shown: str) -> None:
    assert money_text(amount, currency) == shown


def test_a_unit_price_below_a_cent_is_read_exactly() -> None:
    assert unit_text(decimal.Decimal("0.05"), "usd") == "$0.0005"
    assert unit_text(decimal.Decimal("0.5"), "jpy") == "¥0.5"
    assert unit_text(decimal.Decimal("0.5"), "kwd") == "0.0005 KWD"


@pytest.mark.parametrize(
    ("currency", "bad", "good"), [("ugx", 550, 500), ("isk", 1, 100), ("kwd", 5125, 5120)]
)
def test_fractions_that_cannot_be_charged_are_refused(shop: Shop, currency: str, bad: int, good: int) -> None:
    assert refused(lambda: shop.price(bad, currency=currency)).param == "unit_amount"
    assert shop.price(good, currency=currency).unit_amount == good


def test_an_unknown_currency_is_refused(shop: Shop) -> None:
    error = refused(lambda: shop.price(100, currency="zzz"))
    assert error.param == "currency"
    assert "Invalid currency: zzz" in error.user_message


def test_packages_of_a_price_round_up_or_down(sandbox: Sandbox, shop: Shop) -> None:
    for round_, amount in (("up", 3 * 700), ("down", 2 * 700)):
        made = shop.price(700, transform_quantity={"divide_by": 10, "round": round_})
        # 21 in tens: 3 begun, 2 full.
        assert line_amount(sandbox.get("price", made.id), 21) == amount


def test_the_default_price_of_a_product_cannot_be_archived(shop: Shop) -> None:
    product = shop.api.products.create(
        {
            "name": "Pro",
            "default_price_data": {
                "currency": "usd",
                "unit_amount": 4900,
                "recurring": {"interval": "month"},
                "currency_options": {"eur": {"unit_amount": 4500}},
            },
            "expand": ["default_price.currency_options"],
        }
    )
    price = product.default_price
    assert price.currency_options["eur"].unit_amount == 4500
    assert refused(lambda: shop.api.prices.update(price.id, {"active": False})).param == "active"

    other = shop.price(5900, product=product.id)
    shop.api.products.update(product.id, {"default_price": other.id})

    assert shop.api.prices.update(price.id, {"active": False}).active is False
    error = refused(lambda: shop.api.products.update(product.id, {"default_price": price.id}))
    assert error.param == "default_price"
    stranger = shop.price(100)
    error = refused(lambda: shop.api.products.update(product.id, {"default_price": stranger.id}))
    assert (error.code, error.param) == ("resource_missing", "default_price")


def test_a_product_with_prices_cannot_be_deleted(shop: Shop) -> None:
    product = shop.api.products.create({"name": "Pro"})
    shop.price(product=product.id)
    assert (
        "one or more user-created prices"
        in refused(lambda: shop.api.products.delete(product.id)).user_message
    )

    bare = shop.api.products.create({"name": "Bare"})
    assert shop.api.products.delete(bare.id).deleted is True
    assert refused(lambda: shop.api.products.retrieve(bare.id)).http_status == 404


def test_a_product_keeps_what_is_said_of_it(shop: Shop) -> None:
    product = shop.api.products.create(
        {
            "name": "Box",
            "package_dimensions": {"height": 1.5, "length": 2, "weight": 3, "width": 4},
            "marketing_features": [{"name": "Fast"}],
            "tax_code": "txcd_10103001",
            "shippable": True,
        }
    )
    assert (product.package_dimensions.height, product.marketing_features[0].name) == (1.5, "Fast")
    assert shop.api.products.update(product.id, {"package_dimensions": ""}).package_dimensions is None
    assert shop.api.products.features.list(product.id).data == []
    for params, param in (
        ({"tax_code": "saas"}, "tax_code"),
        ({"images": ["https://example.com/a.png"] * 9}, "images"),
        ({"package_dimensions": {"height": 1}}, "package_dimensions[length]"),
    ):
        assert refused(lambda params=params: shop.api.products.update(product.id, params)).param == param
    assert refused(lambda: shop.api.products.features.list("prod_none")).http_status == 404


def test_a_price_s_tax_behavior_is_settled_once(shop: Shop) -> None:
    price = shop.price()
    assert shop.api.prices.update(price.id, {"tax_behavior": "inclusive"}).tax_behavior == "inclusive"
    assert refused(lambda: shop.api.prices.update(price.id, {"tax_behavior": "exclusive"})).param == (
        "tax_behavior"
    )


def test_a_lookup_key_moves_only_when_told_to(shop: Shop) -> None:
    first = shop.price(lookup_key="pro_monthly")
    assert refused(lambda: shop.price(lookup_key="pro_monthly")).param == "lookup_key"
    second = shop.price()
    assert (
        refused(lambda: shop.api.prices.update(second.id, {"lookup_key": "pro_monthly"})).param
        == "lookup_key"
    )

    shop.api.prices.update(second.id, {"lookup_key": "pro_monthly", "transfer_lookup_key": True})

    assert shop.api.prices.retrieve(first.id).lookup_key is None
    assert [each.id for each in shop.api.prices.list({"lookup_keys": ["pro_monthly"]}).data] == [second.id]
    assert shop.event_types()[-2:] == ["price.updated", "price.updated"]


def names(found: Any) -> list[str]:
    return sorted(each.name for each in found.data)


def test_products_are_searched_in_stripe_s_language(shop: Shop) -> None:
    for name, tier in (("Basic plan", "1"), ("Pro plan", "2"), ("Add-on", None)):
        shop.api.products.create({"name": name, "metadata": {"tier": tier} if tier else {}})
    asked = {
        "name~'plan'": ["Basic plan", "Pro plan"],
        "name:'pro PLAN'": ["Pro plan"],
        "name~'plan' -metadata['tier']:'1'": ["Pro plan"],
        'name:\'Add-on\' OR metadata["tier"]:"2"': ["Add-on", "Pro plan"],
        "metadata['tier']:null": ["Add-on"],
        "-metadata['tier']:null AND active:'true'": ["Basic plan", "Pro plan"],
        "active:'false'": [],
    }
    for query, wanted in asked.items():
        assert names(shop.api.products.search({"query": query})) == wanted, query


def test_prices_are_searched_by_what_they_are(shop: Shop) -> None:
    euro = shop.price(currency="eur", lookup_key="pro_eur", metadata={"plan": "pro"})
    once = shop.api.prices.create({"product": euro.product, "currency": "usd", "unit_amount": 900})
    asked = {
        "currency:'eur'": [euro.id],
        "lookup_key~'pro'": [euro.id],
        "type:'one_time'": [once.id],
        f"product:'{euro.product}' AND active:'true'": [once.id, euro.id],
        "metadata['plan']:'pro'": [euro.id],
    }
    for query, wanted in asked.items():
        assert [each.id for each in shop.api.prices.search({"query": query}).data] == wanted, query


def test_search_pages_on(shop: Shop) -> None:
    for index in range(3):
        shop.api.products.create({"name": f"Plan {index}"})
    first = shop.api.products.search({"query": "name~'Plan'", "limit": 2})
    assert (len(first.data), first.has_more) == (2, True)
    rest = shop.api.products.search({"query": "name~'Plan'", "limit": 2, "page": first.next_page})
    assert (names(rest), rest.has_more) == (["Plan 0"], False)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", "cannot be unset"),
        ("asdf", "unable to parse your search query"),
        ("name:'a' AND", "unable to parse your search query"),
        ("AND name:'a'", "unable to parse your search query"),
        ("(name:'a')", "unable to parse your search query"),
        ("foo:'bar'", "Field `foo` is an unsupported search field for resource `products`."),
        ("name:'a' AND url:'b' OR url:'c'", "combine AND and OR"),
        ("name:'a' url:'b' OR url:'c'", "combine AND and OR"),
        ("name>'a'", "operator `>` cannot be used"),
        ("active~'true'", "operator `~` cannot be used"),
        ("name~'ab'", "at least 3 characters"),
        (" ".join(["name:'a'"] * 11), "at most 10 clauses"),
    ],
)
def test_a_search_that_cannot_be_read_is_refused(shop: Shop, query: str, words: str) -> None:
    error = refused(lambda: shop.api.products.search({"query": query}))
    assert (error.http_status, error.param) == (400, "query")
    assert words in error.user_message


@pytest.mark.parametrize("comparison", ["created>100", "created>=1", 'created<"9999999999"', "-created:1"])
def test_times_are_compared(shop: Shop, comparison: str) -> None:
    customer = shop.customer()
    found = shop.api.customers.search({"query": comparison})
    assert [each.id for each in found.data] == [customer.id]
    assert refused(lambda: shop.api.customers.search({"query": "created:'soon'"})).param == "query"


def test_stripe_s_tax_codes_are_listed(shop: Shop) -> None:
    listed = shop.api.tax_codes.list({"limit": 100}).data
    assert "txcd_10103001" in [each.id for each in listed]
    assert shop.api.tax_codes.retrieve("txcd_00000000").name == "Nontaxable"
    assert refused(lambda: shop.api.tax_codes.retrieve("txcd_1")).http_status == 404


def test_a_product_is_retrieved_with_its_default_price(shop: Shop) -> None:
    made = shop.api.products.create(
        {"name": "Pro", "default_price_data": {"currency": "usd", "unit_amount": 900}}
    )
    product = shop.api.products.retrieve(made.id, {"expand": ["default_price"]})
    assert (product.name, product.default_price.unit_amount) == ("Pro", 900)
