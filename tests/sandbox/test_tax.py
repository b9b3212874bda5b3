"""Tax: by rates set by hand, by registrations, and as a calculation."""

from collections.abc import Callable
from typing import Any

import pytest
import stripe

from sandbox import Sandbox
from sandbox.catalog import taxing
from sandbox.errors import ApiError
from tests.sandbox.helpers import Shop

DAY = 86400
BERLIN = {"country": "DE", "city": "Berlin", "postal_code": "10115", "line1": "Chausseestr. 1"}
PARIS = {"country": "FR", "city": "Paris", "postal_code": "75002", "line1": "10 rue de la Paix"}
DUBLIN = {"country": "IE", "city": "Dublin", "postal_code": "D02", "line1": "1 Grand Canal Street"}
SAAS = "txcd_10103001"


def refused(call: Callable[[], Any]) -> stripe.StripeError:
    with pytest.raises(stripe.InvalidRequestError) as caught:
        call()
    return caught.value


def rate(shop: Shop, percentage: float, *, inclusive: bool = False, **params: Any) -> str:
    return shop.api.tax_rates.create(
        {"display_name": "VAT", "percentage": percentage, "inclusive": inclusive, **params}
    ).id


def line(amount: int, *, rates: list[str] | None = None, off: int = 0, price: Any = None) -> dict[str, Any]:
    details = {"price": price.id, "product": price.product} if price else {"price": "", "product": ""}
    return {
        "amount": amount,
        "discount_amounts": [{"amount": off, "discount": "di_1"}] if off else [],
        "pricing": {"price_details": details},
        "_tax_rates": rates or [],
    }


def taxed(sandbox: Sandbox, *lines: dict[str, Any], rates: list[str] | None = None, **fields: Any) -> Any:
    invoice = {
        "automatic_tax": {"enabled": False, "provider": None, "status": None},
        "currency": "usd",
        "customer": "cus_1",
        "customer_address": None,
        "customer_shipping": None,
        "customer_tax_exempt": "none",
        "default_tax_rates": rates or [],
        "lines": {"data": list(lines)},
        **fields,
    }
    with sandbox.change():
        taxing.tax_lines(sandbox, invoice)
    return invoice


def automatic(sandbox: Sandbox, *lines: dict[str, Any], address: dict[str, Any] | None, **fields: Any) -> Any:
    tax = {"enabled": True, "provider": None, "status": None}
    return taxed(sandbox, *lines, automatic_tax=tax, customer_address=address, **fields)


@pytest.fixture
def irish(shop: Shop) -> Shop:
    """A seller in Ireland that sells in the whole of the EU."""
    settle(shop, "IE")
    register(shop, "IE", type="oss_union")
    register(shop, "IE", type="standard", standard={"place_of_supply_scheme": "standard"})
    return shop


def settle(shop: Shop, country: str, *, behavior: str = "exclusive", **address: str) -> Any:
    return shop.api.tax.settings.update(
        {
            "defaults": {"tax_behavior": behavior, "tax_code": SAAS},
            "head_office": {"address": {"country": country, **address}},
        }
    )


def register(shop: Shop, country: str, **options: Any) -> Any:
    return shop.api.tax.registrations.create(
        {"country": country, "country_options": {country.lower(): options}, "active_from": "now"}
    )


def test_exclusive_tax_comes_on_top_of_what_discounts_leave(sandbox: Sandbox, shop: Shop) -> None:
    vat = rate(shop, 19)

    invoice = taxed(sandbox, line(4900, off=490), line(1000), rates=[vat])

    # (4900 - 490) * 0.19 = 837.9 -> 838; 1000 * 0.19 = 190
    assert [each["taxes"][0]["amount"] for each in invoice["lines"]["data"]] == [838, 190]
    assert taxing.added(invoice) == 1028
    assert invoice["total_taxes"] == [
        {
            "amount": 1028,
            "tax_behavior": "exclusive",
            "tax_rate_details": {"tax_rate": vat},
            "taxability_reason": "not_available",
            "taxable_amount": 5410,
            "type": "tax_rate_details",
        }
    ]


def test_inclusive_tax_is_inside_the_amount(sandbox: Sandbox, shop: Shop) -> None:
    invoice = taxed(sandbox, line(11900), rates=[rate(shop, 19, inclusive=True)])

    # 11900 * 19 / 119 = 1900
    (tax,) = invoice["total_taxes"]
    assert (tax["amount"], tax["taxable_amount"], tax["tax_behavior"]) == (1900, 10000, "inclusive")
    assert taxing.added(invoice) == 0


def test_each_line_and_rate_is_rounded_half_up_by_itself(sandbox: Sandbox, shop: Shop) -> None:
    state, county = rate(shop, 6.25), rate(shop, 1.5)

    invoice = taxed(sandbox, line(1000), line(40), rates=[state, county])

    # 62.5 -> 63 and 2.5 -> 3; 15 and 0.6 -> 1. Together they would have been 65 and 15.6.
    assert [each["amount"] for each in invoice["total_taxes"]] == [66, 16]


def test_the_tax_of_a_credit_is_a_credit(sandbox: Sandbox, shop: Shop) -> None:
    # -2450 * 0.2 = -490
    invoice = taxed(sandbox, line(-2450), rates=[rate(shop, 20)])
    assert taxing.added(invoice) == -490


def test_the_rates_of_a_line_replace_those_of_the_invoice(sandbox: Sandbox, shop: Shop) -> None:
    full, reduced = rate(shop, 20), rate(shop, 5.5)

    invoice = taxed(sandbox, line(1000, rates=[reduced]), line(1000), rates=[full])

    assert [each["taxes"][0]["amount"] for each in invoice["lines"]["data"]] == [55, 200]


def test_inclusive_rates_share_the_amount_and_exclusive_ones_are_on_the_rest(
    sandbox: Sandbox, shop: Shop
) -> None:
    rates = [rate(shop, 10, inclusive=True), rate(shop, 5)]
    # 1100 holds 100 of inclusive tax; 5 % of the remaining 1000 is 50.
    invoice = taxed(sandbox, line(1100), rates=rates)
    assert [each["amount"] for each in invoice["total_taxes"]] == [100, 50]


@pytest.mark.parametrize(("exempt", "reason"), [("exempt", "customer_exempt"), ("reverse", "reverse_charge")])
def test_an_exempt_customer_pays_no_tax(sandbox: Sandbox, shop: Shop, exempt: str, reason: str) -> None:
    invoice = taxed(sandbox, line(1000), rates=[rate(shop, 20)], customer_tax_exempt=exempt)
    (tax,) = invoice["total_taxes"]
    assert (tax["amount"], tax["taxability_reason"]) == (0, reason)


def test_an_archived_rate_cannot_be_used(sandbox: Sandbox, shop: Shop) -> None:
    vat = rate(shop, 20)
    assert taxing.get_tax_rates(sandbox, [vat], param="default_tax_rates") == [vat]
    shop.api.tax_rates.update(vat, {"active": False})
    with pytest.raises(ApiError) as caught:
        taxing.get_tax_rates(sandbox, [vat], param="default_tax_rates")
    assert caught.value.body["error"]["param"] == "default_tax_rates[0]"


def test_a_tax_rate_may_be_renamed_but_its_percentage_stays(shop: Shop) -> None:
    vat = rate(shop, 25.5, country="fi", tax_type="vat", jurisdiction="FI")
    shown = shop.api.tax_rates.update(vat, {"display_name": "ALV", "metadata": {"a": "1"}})
    assert (shown.display_name, shown.percentage, shown.country) == ("ALV", 25.5, "FI")
    assert refused(lambda: shop.api.tax_rates.update(vat, {"percentage": 24})).code == "parameter_unknown"
    assert [each.id for each in shop.api.tax_rates.list({"inclusive": False, "active": True}).data] == [vat]
    assert shop.api.tax_rates.list({"inclusive": True}).data == []
    for percentage in (-1, 100.5, "1.23456"):
        assert refused(lambda percentage=percentage: rate(shop, percentage)).param == "percentage"
    assert shop.event_types() == ["tax_rate.created", "tax_rate.updated"]


def test_vat_goes_by_the_buyer_s_country(sandbox: Sandbox, irish: Shop) -> None:
    # 2500 at Germany's 19 %, France's 20 % and Ireland's own 23 %.
    for address, amount in ((BERLIN, 475), (PARIS, 500), (DUBLIN, 575)):
        invoice = automatic(sandbox, line(2500), address=address)
        (tax,) = invoice["total_taxes"]
        assert (tax["amount"], tax["taxability_reason"]) == (amount, "standard_rated")
        assert invoice["automatic_tax"]["status"] == "complete"
    shown = irish.api.tax_rates.retrieve(tax["tax_rate_details"]["tax_rate"])
    assert (shown.percentage, shown.country, shown.tax_type) == (23, "IE", "vat")


def test_a_business_abroad_in_the_eu_accounts_for_the_vat_itself(sandbox: Sandbox, irish: Shop) -> None:
    customer = irish.customer(tax_id_data=[{"type": "eu_vat", "value": "DE123456789"}])
    (tax,) = automatic(sandbox, line(2500), address=BERLIN, customer=customer.id)["total_taxes"]
    assert (tax["amount"], tax["taxability_reason"]) == (0, "reverse_charge")


def test_a_business_at_home_pays_the_vat(sandbox: Sandbox, irish: Shop) -> None:
    customer = irish.customer(tax_id_data=[{"type": "eu_vat", "value": "IE1234567FA"}])
    # 2500 * 0.23 = 575
    (tax,) = automatic(sandbox, line(2500), address=DUBLIN, customer=customer.id)["total_taxes"]
    assert tax["amount"] == 575


def test_nothing_is_collected_where_the_seller_is_not_registered(sandbox: Sandbox, irish: Shop) -> None:
    for address in ({"country": "GB"}, {"country": "US", "state": "NY"}, {"country": "JP"}):
        (tax,) = automatic(sandbox, line(2500), address=address)["total_taxes"]
        assert (tax["amount"], tax["taxable_amount"]) == (0, 0)
        assert tax["taxability_reason"] == "not_collecting"


@pytest.mark.parametrize("address", [None, {"country": None}, {"country": "US", "state": None}])
def test_without_a_usable_address_tax_waits_for_one(
    sandbox: Sandbox, irish: Shop, address: dict[str, Any] | None
) -> None:
    invoice = automatic(sandbox, line(2500), address=address)
    assert invoice["automatic_tax"]["status"] == "requires_location_inputs"
    assert invoice["total_taxes"] == []


def test_the_shipping_address_comes_first(sandbox: Sandbox, irish: Shop) -> None:
    invoice = automatic(
        sandbox, line(2500), address=BERLIN, customer_shipping={"address": PARIS, "name": "A"}
    )
    assert taxing.added(invoice) == 500


def test_a_price_that_includes_tax_holds_it_inside(sandbox: Sandbox, irish: Shop) -> None:
    price = irish.price(11900, tax_behavior="inclusive")
    invoice = automatic(sandbox, line(11900, price=price), address=BERLIN)
    # 11900 * 19 / 119
    assert (invoice["total_taxes"][0]["amount"], taxing.added(invoice)) == (1900, 0)


def test_tax_behavior_may_be_inferred_from_the_currency(sandbox: Sandbox, shop: Shop) -> None:
    settle(shop, "DE", behavior="inferred_by_currency")
    register(shop, "DE", type="standard", standard={"place_of_supply_scheme": "standard"})
    dollars = automatic(sandbox, line(11900), address=BERLIN, currency="usd")
    euros = automatic(sandbox, line(11900), address=BERLIN, currency="eur")
    # On top: 11900 * 0.19 = 2261. Inside: 11900 * 19 / 119 = 1900.
    assert [each["total_taxes"][0]["amount"] for each in (dollars, euros)] == [2261, 1900]
    assert (taxing.added(dollars), taxing.added(euros)) == (2261, 0)


def test_what_is_nontaxable_bears_no_tax(sandbox: Sandbox, irish: Shop) -> None:
    product = irish.api.products.create({"name": "Gift card", "tax_code": "txcd_00000000"})
    price = irish.price(5000, product=product.id)
    (tax,) = automatic(sandbox, line(5000, price=price), address=BERLIN)["total_taxes"]
    assert (tax["amount"], tax["taxability_reason"]) == (0, "product_exempt")


def test_some_american_states_tax_software_and_some_do_not(sandbox: Sandbox, shop: Shop) -> None:
    settle(shop, "US", state="CA")
    register(shop, "US", state="NY", type="state_sales_tax")
    register(shop, "US", state="CA", type="state_sales_tax")
    # New York's own 4 % of 2500 is 100.
    for region, amount, reason in (("NY", 100, "standard_rated"), ("CA", 0, "product_exempt")):
        (tax,) = automatic(sandbox, line(2500), address={"country": "US", "state": region})["total_taxes"]
        assert (tax["amount"], tax["taxability_reason"]) == (amount, reason)


def test_a_small_seller_charges_the_tax_of_its_own_country(sandbox: Sandbox, shop: Shop) -> None:
    settle(shop, "DE")
    register(shop, "DE", type="standard", standard={"place_of_supply_scheme": "small_seller"})
    # 19 % in Paris too.
    assert taxing.added(automatic(sandbox, line(2500), address=PARIS)) == 475


def test_a_foreign_seller_leaves_a_british_business_to_account_for_vat(sandbox: Sandbox, irish: Shop) -> None:
    register(irish, "GB", type="standard")
    business = irish.customer(tax_id_data=[{"type": "gb_vat", "value": "GB123456789"}])
    person = irish.customer()
    # 2500 * 0.2 = 500
    for customer, amount in ((business, 0), (person, 500)):
        invoice = automatic(sandbox, line(2500), address={"country": "GB"}, customer=customer.id)
        assert taxing.added(invoice) == amount


def test_tax_settings_are_pending_until_complete(sandbox: Sandbox, shop: Shop) -> None:
    settings = shop.api.tax.settings.retrieve()
    assert settings.status == "pending"
    assert "head_office" in settings.status_details.pending.missing_fields
    with pytest.raises(ApiError) as caught:
        taxing.require_automatic_tax(sandbox, None)
    assert caught.value.body["error"]["code"] == "stripe_tax_inactive"

    settings = settle(shop, "IE")

    assert settings.status == "active"
    assert shop.api.tax.settings.retrieve().head_office.address.country == "IE"
    assert shop.event_types() == ["tax.settings.updated"]
    customer = sandbox.get("customer", shop.customer().id)
    with pytest.raises(ApiError) as caught:
        taxing.require_automatic_tax(sandbox, customer)
    assert caught.value.body["error"]["code"] == "customer_tax_location_invalid"


def test_a_registration_begins_and_ends_by_the_clock(sandbox: Sandbox, shop: Shop) -> None:
    sandbox.set_clock(frozen_at=1_800_000_000)
    made = shop.api.tax.registrations.create(
        {
            "country": "GB",
            "country_options": {"gb": {"type": "standard"}},
            "active_from": 1_800_000_000 + DAY,
            "expires_at": 1_800_000_000 + 2 * DAY,
        }
    )
    assert made.status == "scheduled"
    assert made.country_options.gb.standard.place_of_supply_scheme == "standard"
    seen = []
    for _ in range(3):
        listed = shop.api.tax.registrations.list().data
        seen.append((shop.api.tax.registrations.retrieve(made.id).status, len(listed)))
        sandbox.set_clock(advance=DAY)

    assert seen == [("scheduled", 0), ("active", 1), ("expired", 0)]
    assert len(shop.api.tax.registrations.list({"status": "all"}).data) == 1
    ended = shop.api.tax.registrations.update(made.id, {"expires_at": ""})
    assert (ended.status, ended.expires_at) == ("active", None)
    assert shop.api.tax.registrations.update(made.id, {"expires_at": "now"}).status == "expired"


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"us": {"state": "NY", "type": "state_sales_tax"}}, "country_options[de]"),
        ({"fr": {"type": "oss_union"}}, "country_options[de]"),
        ({"de": {"type": "standard"}}, "country_options[de][standard]"),
        ({"de": {"type": "simplified"}}, "country_options[de][type]"),
        ({"de": {"type": "oss_union"}, "fr": {"type": "oss_union"}}, "country_options"),
    ],
)
def test_a_registration_that_makes_no_sense_is_refused(
    shop: Shop, options: dict[str, Any], param: str
) -> None:
    error = refused(
        lambda: shop.api.tax.registrations.create(
            {"country": "DE", "country_options": options, "active_from": "now"}
        )
    )
    assert (error.http_status, error.param) == (400, param)


def test_one_registration_is_not_made_twice(irish: Shop) -> None:
    assert refused(lambda: register(irish, "IE", type="oss_union")).param == "country_options"


def test_a_calculation_says_what_tax_a_sale_would_bear(irish: Shop) -> None:
    made = irish.api.tax.calculations.create(
        {
            "currency": "eur",
            "customer_details": {"address": BERLIN, "address_source": "billing"},
            "line_items": [
                {"amount": 10_000, "reference": "seat", "tax_behavior": "exclusive"},
                {"amount": 11_900, "reference": "usage", "tax_behavior": "inclusive"},
                {"amount": 500, "reference": "gift", "tax_code": "txcd_00000000"},
            ],
            "expand": ["line_items"],
        }
    )
    # 19 %: 1900 on top of 10000, 1900 inside 11900, none on 500.
    assert (made.tax_amount_exclusive, made.tax_amount_inclusive) == (1900, 1900)
    assert made.amount_total == 10_000 + 1900 + 11_900 + 500
    assert [each.amount_tax for each in made.line_items.data] == [1900, 1900, 0]
    assert made.tax_breakdown[0].tax_rate_details.percentage_decimal == "19"
    shown = irish.api.tax.calculations.retrieve(made.id)
    assert shown.amount_total == made.amount_total
    lines = irish.api.tax.calculations.line_items.list(made.id, {"limit": 2})
    assert ([each.reference for each in lines.data], lines.has_more) == (["seat", "usage"], True)


def test_a_calculation_for_a_customer_uses_what_is_known_of_it(irish: Shop) -> None:
    customer = irish.customer(address=PARIS, tax_id_data=[{"type": "eu_vat", "value": "FRAB123456789"}])
    made = irish.api.tax.calculations.create(
        {"currency": "eur", "customer": customer.id, "line_items": [{"amount": 1000}]}
    )
    assert (made.amount_total, made.tax_breakdown[0].taxability_reason) == (1000, "reverse_charge")
    assert (made.customer_details.address.country, made.customer_details.address_source) == ("FR", "billing")


def test_a_calculation_for_nowhere_is_refused(irish: Shop) -> None:
    error = refused(
        lambda: irish.api.tax.calculations.create(
            {"currency": "eur", "customer": irish.customer().id, "line_items": [{"amount": 1000}]}
        )
    )
    assert (error.code, error.http_status) == ("customer_tax_location_invalid", 400)
