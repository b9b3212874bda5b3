"""Customers: where they are, what clock they live by, what they hold, and how they go."""

from collections.abc import Callable
from typing import Any

import pytest
import stripe

from sandbox import Sandbox
from tests.sandbox.helpers import Shop

NEW_YEAR = 1_767_225_600  # 2026-01-01 00:00 UTC


def refused(call: Callable[[], Any]) -> stripe.StripeError:
    with pytest.raises(stripe.InvalidRequestError) as caught:
        call()
    return caught.value


def clock(sandbox: Sandbox, at: int = NEW_YEAR) -> str:
    """Return a test clock, made beside the API so that only customers are under test."""
    with sandbox.change():
        made = sandbox.new(
            "test_helpers.test_clock", frozen_time=at, name=None, status="ready", status_details={}
        )
        return sandbox.put(made)["id"]


def test_a_customer_on_a_test_clock_lives_by_it(sandbox: Sandbox, shop: Shop) -> None:
    made = clock(sandbox)
    customer = shop.customer(test_clock=made)
    assert (customer.test_clock, customer.created) == (made, NEW_YEAR)


def test_customers_on_a_clock_are_listed_only_by_that_clock(sandbox: Sandbox, shop: Shop) -> None:
    made = clock(sandbox)
    clocked, plain = shop.customer(test_clock=made), shop.customer()
    assert [each.id for each in shop.api.customers.list().data] == [plain.id]
    assert [each.id for each in shop.api.customers.list({"test_clock": made}).data] == [clocked.id]
    assert shop.api.customers.retrieve(clocked.id).id == clocked.id


def test_a_clock_that_is_not_there_is_refused(shop: Shop) -> None:
    error = refused(lambda: shop.customer(test_clock="clock_none"))
    assert (error.http_status, error.code, error.param) == (400, "resource_missing", "test_clock")


def test_a_clock_takes_three_customers(sandbox: Sandbox, shop: Shop) -> None:
    made = clock(sandbox)
    for _ in range(3):
        shop.customer(test_clock=made)
    assert refused(lambda: shop.customer(test_clock=made)).param == "test_clock"


def test_a_balance_set_at_once_is_explained_by_a_transaction(shop: Shop) -> None:
    customer = shop.customer(balance=-500)
    assert customer.balance == -500
    changed = shop.api.customers.update(customer.id, {"balance": 200, "name": "Ada"})
    assert (changed.balance, changed.name) == (200, "Ada")
    history = shop.api.customers.balance_transactions.list(customer.id).data
    assert [(each.type, each.amount, each.ending_balance) for each in history] == [
        ("adjustment", 700, 200),
        ("initial", -500, -500),
    ]
    assert shop.event_types() == ["customer.created", "customer.updated"]


def test_tax_ids_come_with_the_customer(shop: Shop) -> None:
    customer = shop.customer(
        tax_id_data=[{"type": "eu_vat", "value": "DE123456789"}, {"type": "us_ein", "value": "12-3456789"}],
        expand=["tax_ids"],
    )
    assert sorted(each.type for each in customer.tax_ids.data) == ["eu_vat", "us_ein"]
    assert shop.event_types()[:3] == [
        "customer.created",
        "customer.tax_id.created",
        "customer.tax_id.created",
    ]


def test_a_bad_tax_id_stops_the_customer(shop: Shop) -> None:
    error = refused(
        lambda: shop.customer(
            tax_id_data=[
                {"type": "eu_vat", "value": "DE123456789"},
                {"type": "eu_vat", "value": "DE1"},
            ]
        )
    )
    assert (error.code, error.param) == ("tax_id_invalid", "tax_id_data[1][value]")
    assert shop.api.customers.list().data == []
    assert shop.event_types() == []


def test_where_a_customer_is_for_tax_is_shown_on_request(shop: Shop) -> None:
    nowhere = shop.customer(expand=["tax"])
    assert nowhere.tax.automatic_tax == "unrecognized_location"
    london = shop.customer(
        address={"country": "GB", "postal_code": "SW1A 1AA"},
        tax={"ip_address": "192.0.2.1"},
        expand=["tax"],
    )
    assert london.tax.automatic_tax == "not_collecting"
    assert (london.tax.location.country, london.tax.location.source) == ("GB", "billing_address")
    assert london.tax.ip_address == "192.0.2.1"
    assert not hasattr(london, "_ip_address")

    shop.api.tax.registrations.create(
        {"country": "GB", "country_options": {"gb": {"type": "standard"}}, "active_from": "now"}
    )
    assert shop.api.customers.retrieve(london.id, {"expand": ["tax"]}).tax.automatic_tax == "supported"


def test_a_place_that_must_be_known_at_once_is_checked(shop: Shop) -> None:
    error = refused(lambda: shop.customer(tax={"validate_location": "immediately"}))
    assert (error.code, error.http_status) == ("customer_tax_location_invalid", 400)
    shop.customer(tax={"validate_location": "immediately"}, address={"country": "DE"})
    assert (
        refused(
            lambda: shop.customer(
                tax={"validate_location": "immediately"}, address={"country": "US", "city": "Austin"}
            )
        ).code
        == "customer_tax_location_invalid"
    )


def test_no_customer_has_a_discount_of_its_own(shop: Shop) -> None:
    customer = shop.customer()
    assert customer.discount is None
    error = refused(lambda: shop.api.customers.delete_discount(customer.id))
    assert (error.http_status, error.code) == (404, "resource_missing")
    assert refused(lambda: shop.customer(coupon="SPRING")).code == "parameter_unknown"


def test_there_are_no_sources_but_asking_is_no_error(shop: Shop) -> None:
    customer = shop.customer(expand=["sources"])
    assert customer.sources.data == []
    assert shop.api.customers.payment_sources.list(customer.id).data == []


def test_an_invoice_prefix_belongs_to_one_customer(shop: Shop) -> None:
    shop.customer(invoice_prefix="ACME")
    other = shop.customer()
    assert refused(lambda: shop.customer(invoice_prefix="ACME")).param == "invoice_prefix"
    error = refused(lambda: shop.api.customers.update(other.id, {"invoice_prefix": "ACME"}))
    assert error.param == "invoice_prefix"


def test_how_invoices_show_tax_is_a_setting(shop: Shop) -> None:
    customer = shop.customer(
        invoice_settings={"rendering_options": {"amount_tax_display": "include_inclusive_tax"}}
    )
    shown = customer.invoice_settings.rendering_options
    assert (shown.amount_tax_display, shown.template) == ("include_inclusive_tax", None)
    cleared = shop.api.customers.update(customer.id, {"invoice_settings": {"rendering_options": ""}})
    assert cleared.invoice_settings.rendering_options is None


def test_a_deleted_customer_is_a_stub_that_takes_nothing_more(shop: Shop) -> None:
    customer = shop.customer()
    shop.api.customers.delete(customer.id)

    gone = shop.api.customers.retrieve(customer.id)

    assert dict(gone) == {"id": customer.id, "object": "customer", "deleted": True}
    assert shop.api.customers.retrieve(customer.id, {"expand": ["sources"]}) == gone
    for call in (
        lambda: shop.api.customers.update(customer.id, {"name": "Ada"}),
        lambda: shop.api.customers.delete(customer.id),
        lambda: shop.api.customers.tax_ids.create(customer.id, {"type": "us_ein", "value": "123456789"}),
    ):
        error = refused(call)
        assert (error.http_status, error.code) == (404, "resource_missing")
    assert shop.api.customers.search({"query": "email:'ada@example.com'"}).data == []


def test_the_name_of_a_business_is_shown_while_there_is_one(shop: Shop) -> None:
    customer = shop.customer(business_name="Analytical Engines", individual_name="Ada")
    assert (customer.business_name, customer.individual_name) == ("Analytical Engines", "Ada")
    changed = shop.api.customers.update(customer.id, {"business_name": "", "individual_name": ""}).to_dict()
    assert changed.keys().isdisjoint({"business_name", "individual_name"})
