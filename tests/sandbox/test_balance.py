import pytest
import stripe

from tests.sandbox.helpers import Shop


def adjust(shop: Shop, customer: stripe.Customer, amount: int, **params: object) -> object:
    return shop.api.customers.balance_transactions.create(
        customer.id, {"amount": amount, "currency": "usd", **params}
    )


def test_credit_given_lowers_the_balance_and_settles_the_currency(shop):
    customer = shop.customer()

    given = adjust(shop, customer, -2500, description="Sorry", metadata={"ticket": "7"})

    assert (given.type, given.amount, given.ending_balance) == ("adjustment", -2500, -2500)
    assert (given.description, given.metadata["ticket"]) == ("Sorry", "7")
    customer = shop.api.customers.retrieve(customer.id)
    assert (customer.balance, customer.currency) == (-2500, "usd")
    assert shop.event_types()[-1] == "customer.updated"


def test_transactions_add_up_and_are_listed_newest_first(shop):
    customer = shop.customer()
    adjust(shop, customer, -2500)
    second = adjust(shop, customer, 1000)

    listed = shop.api.customers.balance_transactions.list(customer.id).data

    assert second.ending_balance == -1500
    assert [each.amount for each in listed] == [1000, -2500]
    found = shop.api.customers.balance_transactions.retrieve(customer.id, second.id, {"expand": ["customer"]})
    assert found.customer.balance == -1500


def test_only_words_of_a_transaction_can_be_changed(shop):
    customer = shop.customer()
    given = adjust(shop, customer, -2500, metadata={"a": "1"})

    changed = shop.api.customers.balance_transactions.update(
        customer.id, given.id, {"description": "Goodwill", "metadata": {"b": "2"}}
    )

    assert changed.description == "Goodwill"
    assert changed.metadata.to_dict() == {"a": "1", "b": "2"}
    assert shop.api.customers.retrieve(customer.id).balance == -2500


def test_balance_is_held_in_one_currency(shop):
    customer = shop.customer()
    adjust(shop, customer, -2500)

    with pytest.raises(stripe.InvalidRequestError) as refused:
        adjust(shop, customer, -100, currency="eur")

    assert refused.value.http_status == 400
    assert refused.value.param == "currency"
    assert shop.api.customers.retrieve(customer.id).balance == -2500


def test_transaction_needs_amount_and_currency(shop):
    customer = shop.customer()

    for given, missing in (({"currency": "usd"}, "amount"), ({"amount": -1}, "currency")):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            shop.api.customers.balance_transactions.create(customer.id, given)
        assert refused.value.code == "parameter_missing"
        assert refused.value.param == missing


def test_another_customers_transaction_is_not_found(shop):
    given = adjust(shop, shop.customer(), -2500)

    with pytest.raises(stripe.InvalidRequestError) as refused:
        shop.api.customers.balance_transactions.retrieve(shop.customer().id, given.id)

    assert refused.value.http_status == 404
    assert refused.value.code == "resource_missing"
