import pytest
import stripe

from sandbox import Sandbox
from tests.sandbox.helpers import Shop


def test_the_same_key_and_parameters_get_the_same_answer(shop: Shop) -> None:
    options = {"idempotency_key": "one"}
    first = shop.api.customers.create({"email": "a@example.com"}, options)
    again = shop.api.customers.create({"email": "a@example.com"}, options)
    assert again.id == first.id
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.last_response.headers
    assert len(shop.api.customers.list().data) == 1


def test_the_same_key_with_other_parameters_is_refused(shop: Shop) -> None:
    options = {"idempotency_key": "one"}
    shop.api.customers.create({"email": "a@example.com"}, options)
    with pytest.raises(stripe.IdempotencyError) as refused:
        shop.api.customers.create({"email": "b@example.com"}, options)
    assert refused.value.http_status == 400
    with pytest.raises(stripe.IdempotencyError):
        shop.api.products.create({"name": "a"}, options)


def test_a_failure_is_repeated_and_a_malformed_request_is_not(shop: Shop) -> None:
    options = {"idempotency_key": "one"}
    params = {"customer": "cus_x"}
    for _ in range(2):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            shop.api.payment_methods.attach("pm_card_visa", params, options)
    assert refused.value.headers["idempotent-replayed"] == "true"
    with pytest.raises(stripe.InvalidRequestError):
        shop.api.products.create({"nam": "Pro"}, {"idempotency_key": "two"})
    assert shop.api.products.create({"name": "Pro"}, {"idempotency_key": "two"}).name == "Pro"


def test_a_key_is_forgotten_after_24_hours(shop: Shop, sandbox: Sandbox) -> None:
    first = shop.api.customers.create({"email": "a@example.com"}, {"idempotency_key": "one"})
    sandbox.set_clock(advance=24 * 3600 - 5)
    assert shop.api.customers.create({"email": "a@example.com"}, {"idempotency_key": "one"}).id == first.id
    sandbox.set_clock(advance=10)
    assert shop.api.customers.create({"email": "a@example.com"}, {"idempotency_key": "one"}).id != first.id


def test_keys_age_by_the_sandboxes_clock_and_not_by_a_customers_test_clock(
    shop: Shop, sandbox: Sandbox
) -> None:
    ahead = sandbox.now() + 365 * 86400
    clock = shop.api.test_helpers.test_clocks.create({"frozen_time": ahead})
    customer = shop.customer(test_clock=clock.id)
    options: stripe.RequestOptions = {"idempotency_key": "one"}
    shop.api.customers.update(customer.id, {"name": "Ada"}, options)
    sandbox.set_clock(advance=24 * 3600 + 1)
    again = shop.api.customers.update(customer.id, {"name": "Ada"}, options)
    assert "Idempotent-Replayed" not in again.last_response.headers
