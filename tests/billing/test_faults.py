"""The harness itself: it must find a flow that may not be repeated."""

import pytest

from billing.stripe.client import get_client, translated_errors
from tests.billing.faults import every_fault, stripe_state

pytestmark = pytest.mark.django_db
EMAIL = "ann@acme.example"


def create() -> None:
    get_client().v1.customers.create({"email": EMAIL})


def create_blindly() -> None:
    with translated_errors():
        create()


def look_then_create() -> None:
    with translated_errors():
        if not get_client().v1.customers.list({"email": EMAIL}).data:
            create()


def test_a_flow_that_looks_before_it_acts_passes(sandbox):
    calls = every_fault(sandbox, whole=True, flow=look_then_create)

    assert [str(call) for call in calls] == ["GET /v1/customers", "POST /v1/customers"]


def test_a_flow_that_acts_blindly_is_found_out(sandbox):
    with pytest.raises(AssertionError, match="server_error_after, 3 times, at call 0, POST /v1/customers"):
        every_fault(sandbox, whole=True, flow=create_blindly)


def test_a_key_of_one_s_own_is_found_out_by_stripe_s_memory_for_its_own_failures(sandbox):
    def flow() -> None:
        with translated_errors():
            get_client().v1.customers.create({"email": EMAIL}, {"idempotency_key": "acme"})

    with pytest.raises(AssertionError, match="still failing"):
        every_fault(sandbox, whole=True, flow=flow)


def test_a_flow_that_lets_stripe_s_own_exceptions_out_is_found_out(sandbox):
    with pytest.raises(Exception, match="rate limit"):
        every_fault(sandbox, whole=True, flow=create)


def test_each_play_begins_where_the_first_one_did(sandbox):
    def prepare() -> None:
        get_client().v1.customers.create({"email": "first@acme.example"})

    before = stripe_state(sandbox)
    every_fault(sandbox, whole=True, prepare=prepare, flow=look_then_create)

    assert stripe_state(sandbox) == before
