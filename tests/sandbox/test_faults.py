"""What goes wrong on order, and what a client sees of it."""

import pytest
import stripe
from werkzeug.test import Client

from sandbox import Sandbox
from sandbox.errors import ApiError
from sandbox.faults import forced_decline
from sandbox.transport import SandboxHTTPClient
from tests.sandbox.helpers import KEY, Shop


def customers(shop: Shop) -> int:
    return len(shop.api.customers.list({"limit": 100}).data)


@pytest.fixture
def patient(transport: SandboxHTTPClient, monkeypatch: pytest.MonkeyPatch) -> stripe.StripeClient:
    """A client that tries again twice, without waiting."""
    monkeypatch.setattr(transport, "_sleep_time_seconds", lambda *args, **kwargs: 0)
    return stripe.StripeClient(KEY, http_client=transport, max_network_retries=2)


def test_too_many_requests_is_a_429_that_is_not_retried_and_changes_nothing(
    shop: Shop, sandbox: Sandbox, patient: stripe.StripeClient
) -> None:
    sandbox.faults.add("rate_limit", method="POST", times=1)
    with pytest.raises(stripe.RateLimitError) as refused:
        patient.v1.customers.create({"email": "a@b.co"})
    assert refused.value.error is not None
    assert (refused.value.http_status, refused.value.error.code) == (429, "rate_limit")
    assert customers(shop) == 0


def test_a_500_before_the_change_leaves_nothing_and_its_key_free(shop: Shop, sandbox: Sandbox) -> None:
    sandbox.faults.add("server_error", path="/v1/customers", method="POST", times=1)
    with pytest.raises(stripe.APIError) as failed:
        shop.api.customers.create({"email": "a@b.co"}, {"idempotency_key": "one"})
    assert failed.value.error is not None
    assert (failed.value.http_status, failed.value.error.type) == (500, "api_error")
    assert customers(shop) == 0
    shop.api.customers.create({"email": "a@b.co"}, {"idempotency_key": "one"})
    assert customers(shop) == 1


def test_a_500_after_the_change_is_given_again_under_its_key(shop: Shop, sandbox: Sandbox) -> None:
    sandbox.faults.add("server_error_after", method="POST", times=1)
    for _ in range(2):
        with pytest.raises(stripe.APIError) as failed:
            shop.api.customers.create({"email": "a@b.co"}, {"idempotency_key": "one"})
    assert failed.value.headers["Idempotent-Replayed"] == "true"
    assert customers(shop) == 1


def test_a_time_out_before_the_change_is_mended_by_trying_again(
    shop: Shop, sandbox: Sandbox, patient: stripe.StripeClient
) -> None:
    sandbox.faults.add("timeout_before", method="POST", times=2)
    patient.v1.customers.create({"email": "a@b.co"})
    assert customers(shop) == 1
    assert [each.status for each in sandbox.requests][1:4] == [200, 0, 0]


def test_a_time_out_after_the_change_makes_one_thing_where_the_key_is_sent_again(
    shop: Shop, sandbox: Sandbox, patient: stripe.StripeClient
) -> None:
    sandbox.faults.add("timeout_after", method="POST", times=1)
    created = patient.v1.customers.create({"email": "a@b.co"})
    assert created.last_response.headers["Idempotent-Replayed"] == "true"
    assert customers(shop) == 1


def test_a_time_out_after_the_change_makes_two_where_it_is_not(shop: Shop, sandbox: Sandbox) -> None:
    sandbox.faults.add("timeout_after", method="POST", times=1)
    with pytest.raises(stripe.APIConnectionError):
        shop.api.customers.create({"email": "a@b.co"})
    shop.api.customers.create({"email": "a@b.co"})
    assert customers(shop) == 2


def test_a_slow_request_takes_its_seconds_and_then_answers(shop: Shop, sandbox: Sandbox) -> None:
    slept: list[float] = []
    sandbox.faults.sleep = slept.append
    sandbox.faults.add("slow", seconds=7.5, path="/v1/customers*")
    shop.customer()
    shop.price()
    assert slept == [7.5]


def test_a_key_in_use_by_a_slow_request_is_a_409(shop: Shop, sandbox: Sandbox) -> None:
    caught: list[stripe.StripeError] = []
    options: stripe.RequestOptions = {"idempotency_key": "one"}

    def meanwhile(seconds: float) -> None:
        try:
            shop.api.customers.create({"email": "a@b.co"}, options)
        except stripe.StripeError as error:
            caught.append(error)

    sandbox.faults.sleep = meanwhile
    sandbox.faults.add("slow", seconds=5, method="POST", times=1)
    shop.api.customers.create({"email": "a@b.co"}, options)
    (conflict,) = caught
    assert conflict.error is not None
    assert (conflict.http_status, conflict.error.code) == (409, "idempotency_key_in_use")
    assert conflict.error.type == "idempotency_error"
    assert customers(shop) == 1
    again = shop.api.customers.create({"email": "a@b.co"}, options)
    assert again.last_response.headers["Idempotent-Replayed"] == "true"


def test_a_second_meter_event_of_a_customer_while_one_is_taken_in_is_a_429(
    shop: Shop, sandbox: Sandbox
) -> None:
    shop.meter()
    ada, bea = shop.customer().id, shop.customer().id
    refused: list[stripe.StripeError] = []

    def report(customer: str) -> None:
        payload = {"stripe_customer_id": customer, "value": "1"}
        shop.api.billing.meter_events.create({"event_name": "requests", "payload": payload})

    def meanwhile(seconds: float) -> None:
        report(bea)
        try:
            report(ada)
        except stripe.StripeError as error:
            refused.append(error)

    sandbox.faults.sleep = meanwhile
    sandbox.faults.add("slow", seconds=5, path="/v1/billing/meter_events", times=1)
    report(ada)
    assert [type(each) for each in refused] == [stripe.RateLimitError]
    report(ada)


def test_the_next_cards_are_declined_as_asked(sandbox: Sandbox) -> None:
    sandbox.faults.add("declined", times=1, decline_code="insufficient_funds")
    declined = forced_decline(sandbox)
    assert declined is not None
    assert declined.decline_code == "insufficient_funds"
    assert forced_decline(sandbox) is None


def test_a_chance_repeats_with_its_seed() -> None:
    def struck(seed: int) -> list[bool]:
        sandbox = Sandbox()
        sandbox.faults.add("rate_limit", probability=0.5, seed=seed)
        return [sandbox.faults.strike("rate_limit") is not None for _ in range(40)]

    assert struck(1) == struck(1) != struck(2)
    assert 5 < sum(struck(1)) < 35


def test_only_what_a_fault_names_goes_wrong(shop: Shop, sandbox: Sandbox) -> None:
    sandbox.faults.add("server_error", method="GET", path="/v1/customers/*")
    customer = shop.customer()
    with pytest.raises(stripe.APIError):
        shop.api.customers.retrieve(customer.id)
    assert customers(shop) == 1
    sandbox.faults.clear()
    assert shop.api.customers.retrieve(customer.id).id == customer.id


@pytest.mark.parametrize(
    ("fault", "param"),
    [
        ({"kind": "earthquake"}, "kind"),
        ({"kind": "slow"}, "seconds"),
        ({"kind": "rate_limit", "seconds": 3}, "seconds"),
        ({"kind": "rate_limit", "times": 0}, "times"),
        ({"kind": "rate_limit", "probability": 0}, "probability"),
        ({"kind": "rate_limit", "method": "PATCH"}, "method"),
        ({"kind": "rate_limit", "path": "customers"}, "path"),
        ({"kind": "rate_limit", "event_type": "invoice.*"}, "event_type"),
        ({"kind": "webhook_lost", "path": "/v1/*"}, "path"),
        ({"kind": "declined", "decline_code": "too_poor"}, "decline_code"),
        ({"kind": "slow", "seconds": 1, "decline_code": "lost_card"}, "decline_code"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused_by_name(
    sandbox: Sandbox, browser: Client, fault: dict[str, object], param: str
) -> None:
    with pytest.raises(ApiError):
        sandbox.faults.add(**fault)  # type: ignore[arg-type]
    answer = browser.post("/sandbox/faults", json=fault)
    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["error"]["param"] == param
    assert browser.get("/sandbox/faults").json == []


def test_faults_are_ordered_listed_and_cleared_by_json(shop: Shop, browser: Client) -> None:
    first = browser.post("/sandbox/faults", json={"kind": "rate_limit", "times": 3}).json
    second = browser.post("/sandbox/faults", json={"kind": "slow", "seconds": 0.5, "path": "/v1/x*"}).json
    assert first is not None
    assert second is not None
    with pytest.raises(stripe.RateLimitError):
        shop.customer()
    listed = browser.get("/sandbox/faults").json or []
    assert [(each["kind"], each["hits"], each["left"]) for each in listed] == [
        ("rate_limit", 1, 2),
        ("slow", 0, None),
    ]
    assert browser.delete(f"/sandbox/faults/{first['id']}").status_code == 200
    assert browser.delete(f"/sandbox/faults/{first['id']}").status_code == 404
    assert browser.delete("/sandbox/faults").status_code == 200
    assert browser.get("/sandbox/faults").json == []
    assert browser.post("/sandbox/faults", json={"kind": "rate_limit", "colour": 1}).status_code == 400
    assert browser.post("/sandbox/faults", json={}).status_code == 400
