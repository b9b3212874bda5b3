"""Tax on real invoices: with discounts, on top and inside, by rates and by registrations."""

from typing import Any

import pytest
import stripe

from tests.sandbox.helpers import Shop

SAAS = "txcd_10103001"


def vat(shop: Shop, percentage: float, *, inclusive: bool = False) -> str:
    return shop.api.tax_rates.create(
        {"display_name": "VAT", "percentage": percentage, "inclusive": inclusive}
    ).id


@pytest.fixture
def seller(shop: Shop) -> Shop:
    """A seller in Ireland that collects VAT in the whole of the EU."""
    shop.api.tax.settings.update(
        {
            "defaults": {"tax_behavior": "exclusive", "tax_code": SAAS},
            "head_office": {"address": {"country": "IE"}},
        }
    )
    shop.api.tax.registrations.create(
        {"country": "IE", "country_options": {"ie": {"type": "oss_union"}}, "active_from": 1_700_000_000}
    )
    return shop


def first_invoice(shop: Shop, customer: stripe.Customer, price: stripe.Price, **params: Any) -> Any:
    return shop.subscription(customer, price, expand=["latest_invoice"], **params).latest_invoice


def test_a_rate_is_added_to_what_the_discount_leaves(shop: Shop) -> None:
    coupon = shop.api.coupons.create({"percent_off": 10}).id
    invoice = first_invoice(
        shop,
        shop.payer(),
        shop.price(4900),
        default_tax_rates=[vat(shop, 19)],
        discounts=[{"coupon": coupon}],
    )
    # 4900 - 490 = 4410; 19 % of it is 837.9, so 838.
    assert invoice.subtotal == 4900
    assert invoice.total_excluding_tax == 4410
    assert [each.amount for each in invoice.total_taxes] == [838]
    assert (invoice.total, invoice.amount_paid) == (5248, 5248)


def test_an_inclusive_rate_changes_no_total(shop: Shop) -> None:
    rate = vat(shop, 19, inclusive=True)
    invoice = first_invoice(shop, shop.payer(), shop.price(11_900), default_tax_rates=[rate])
    assert (invoice.total, invoice.total_excluding_tax, invoice.total_taxes[0].amount) == (
        11_900,
        10_000,
        1900,
    )


def test_an_item_s_rates_are_its_own(shop: Shop) -> None:
    created = shop.api.subscriptions.create(
        {
            "customer": shop.payer().id,
            "items": [
                {"price": shop.price(1000).id},
                {"price": shop.price(1000).id, "tax_rates": [vat(shop, 5.5)]},
            ],
            "default_tax_rates": [vat(shop, 20)],
            "expand": ["latest_invoice"],
        }
    )
    lines = created.latest_invoice.lines.data
    assert [each.taxes[0].amount for each in lines] == [200, 55]
    assert created.latest_invoice.total == 2255


def test_vat_is_worked_out_and_the_preview_agrees(seller: Shop) -> None:
    customer = seller.payer()
    seller.api.customers.update(customer.id, {"address": {"country": "FR"}})
    price = seller.price(4900)
    preview = seller.api.invoices.create_preview(
        {
            "customer": customer.id,
            "automatic_tax": {"enabled": True},
            "subscription_details": {"items": [{"price": price.id}]},
        }
    )
    invoice = first_invoice(seller, customer, price, automatic_tax={"enabled": True})

    # France: 20 % of 4900 is 980.
    assert (preview.total, invoice.total) == (5880, 5880)
    assert invoice.automatic_tax.status == "complete"
    assert invoice.total_taxes[0].taxability_reason == "standard_rated"
    assert (
        preview.total_taxes[0].tax_rate_details.tax_rate == invoice.total_taxes[0].tax_rate_details.tax_rate
    )


def test_a_business_abroad_is_invoiced_without_vat_under_its_number(seller: Shop) -> None:
    customer = seller.payer()
    seller.api.customers.update(customer.id, {"address": {"country": "DE"}})
    seller.api.customers.tax_ids.create(customer.id, {"type": "eu_vat", "value": "DE123456789"})
    invoice = first_invoice(seller, customer, seller.price(4900), automatic_tax={"enabled": True})
    assert invoice.total == 4900
    assert invoice.total_taxes[0].taxability_reason == "reverse_charge"
    assert [(each.type, each.value) for each in invoice.customer_tax_ids] == [("eu_vat", "DE123456789")]


def test_automatic_tax_is_refused_where_it_cannot_work(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError) as caught:
        shop.subscription(shop.payer(), shop.price(4900), automatic_tax={"enabled": True})
    assert caught.value.code == "stripe_tax_inactive"


def test_automatic_tax_needs_to_know_where_the_customer_is(seller: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError) as caught:
        seller.subscription(seller.payer(), seller.price(4900), automatic_tax={"enabled": True})
    assert caught.value.code == "customer_tax_location_invalid"


def test_an_exempt_customer_is_invoiced_without_tax(shop: Shop) -> None:
    customer = shop.payer()
    shop.api.customers.update(customer.id, {"tax_exempt": "exempt"})
    invoice = first_invoice(shop, customer, shop.price(4900), default_tax_rates=[vat(shop, 19)])
    assert (invoice.total, invoice.total_taxes[0].taxability_reason) == (4900, "customer_exempt")
