"""Tax ids: their form, what a register says of them, and whose they are."""

from collections.abc import Callable
from typing import Any

import pytest
import stripe

from sandbox import Sandbox
from sandbox.catalog import taxing
from tests.sandbox.helpers import Shop


def refused(call: Callable[[], Any]) -> stripe.StripeError:
    with pytest.raises(stripe.InvalidRequestError) as caught:
        call()
    return caught.value


def test_a_tax_id_is_looked_up_in_its_register(sandbox: Sandbox, shop: Shop) -> None:
    customer = shop.customer().id
    tax_ids = shop.api.customers.tax_ids
    good = tax_ids.create(customer, {"type": "eu_vat", "value": "de 123 456 789"})
    unknown = tax_ids.create(customer, {"type": "eu_vat", "value": "DE111111111"})
    waiting = tax_ids.create(customer, {"type": "gb_vat", "value": "GB222222222"})
    other = tax_ids.create(customer, {"type": "us_ein", "value": "12-3456789"})
    assert (good.value, good.country, good.verification.status) == ("DE123456789", "DE", "pending")
    assert other.verification.status == "unavailable"

    sandbox.run_due()

    seen = [tax_ids.retrieve(customer, each.id).verification.status for each in (good, unknown, waiting)]
    assert seen == ["verified", "unverified", "pending"]
    assert shop.event_types().count("customer.tax_id.updated") == 2
    assert taxing.tax_ids_of(sandbox, customer)[0] == {"type": "eu_vat", "value": "DE123456789"}


@pytest.mark.parametrize(
    ("type", "value"),
    [("eu_vat", "DE12345"), ("eu_vat", "US123456789"), ("gb_vat", "123"), ("us_ein", "1"), ("ch_vat", "CHE")],
)
def test_a_tax_id_of_the_wrong_form_is_refused(shop: Shop, type: str, value: str) -> None:
    customer = shop.customer().id
    error = refused(lambda: shop.api.customers.tax_ids.create(customer, {"type": type, "value": value}))
    assert (error.code, error.param, error.http_status) == ("tax_id_invalid", "value", 400)
    assert error.user_message == f"Invalid value for {type}."


def test_tax_ids_are_listed_and_deleted_by_their_owner(shop: Shop) -> None:
    ada, bob = shop.customer().id, shop.customer().id
    made = shop.api.customers.tax_ids.create(ada, {"type": "eu_vat", "value": "DE123456789"})
    own = shop.api.tax_ids.create({"type": "us_ein", "value": "123456789"})
    of_bob = shop.api.tax_ids.create(
        {"type": "gb_vat", "value": "GB123456789", "owner": {"type": "customer", "customer": bob}}
    )

    assert [each.id for each in shop.api.tax_ids.list().data] == [own.id]
    assert [each.id for each in shop.api.customers.tax_ids.list(bob).data] == [of_bob.id]
    listed = shop.api.tax_ids.list({"owner": {"type": "customer", "customer": ada}}).data
    assert [each.id for each in listed] == [made.id]
    assert refused(lambda: shop.api.customers.tax_ids.retrieve(bob, made.id)).http_status == 404
    assert refused(lambda: shop.api.customers.tax_ids.delete(bob, made.id)).http_status == 404
    assert shop.api.customers.tax_ids.delete(ada, made.id).deleted is True
    assert shop.api.tax_ids.delete(own.id).deleted is True
    assert shop.event_types()[-1] == "customer.tax_id.deleted"
    assert refused(lambda: shop.api.tax_ids.retrieve(made.id)).http_status == 404


def test_a_tax_id_is_retrieved_by_itself_or_through_its_owner(shop: Shop) -> None:
    customer = shop.customer()
    made = shop.api.customers.tax_ids.create(customer.id, {"type": "eu_vat", "value": "DE123456789"})
    assert shop.api.tax_ids.retrieve(made.id).value == "DE123456789"
    assert shop.api.customers.tax_ids.retrieve(customer.id, made.id).owner.customer == customer.id
