"""How /v2 speaks: JSON in and out, errors of its own, pages by URL."""

import json
from typing import Any

import pytest
import stripe
from werkzeug.test import Client, TestResponse

from sandbox import Sandbox
from sandbox.contract.recorder import Recorder
from sandbox.contract.spec import Spec
from tests.sandbox.helpers import KEY, Shop

HEADERS = {"Authorization": f"Bearer {KEY}", "Stripe-Version": "2026-05-27.dahlia"}
EVENTS = "/v2/billing/meter_events"


def post(browser: Client, path: str, data: Any, **headers: str) -> TestResponse:
    return browser.post(path, json=data, headers={**HEADERS, **headers})


def destination(client: stripe.StripeClient, **params: Any) -> Any:
    return client.v2.core.event_destinations.create(
        {
            "name": "Errors",
            "type": "webhook_endpoint",
            "event_payload": "thin",
            "enabled_events": ["*"],
            "webhook_endpoint": {"url": "http://127.0.0.1:9/thin"},
            **params,
        }
    )


def test_a_request_without_its_version_is_refused(browser: Client) -> None:
    refused = browser.post(EVENTS, json={}, headers={"Authorization": f"Bearer {KEY}"})
    assert refused.status_code == 400
    assert "Stripe-Version" in refused.json["error"]["message"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("body", "mimetype"),
    [
        ("event_name=requests", "application/x-www-form-urlencoded"),
        ("{", "application/json"),
        ("[]", "application/json"),
        ("[" * 50_000, "application/json"),
        ('{"payload":' * 20 + "1" + "}" * 20, "application/json"),
    ],
)
def test_anything_but_a_json_object_is_refused(browser: Client, body: str, mimetype: str) -> None:
    refused = browser.post(EVENTS, data=body, content_type=mimetype, headers=HEADERS)
    assert refused.status_code == 400
    assert set(refused.json["error"]) >= {"code", "message", "type"}  # type: ignore[index]


def test_json_under_v1_is_refused(browser: Client) -> None:
    assert post(browser, "/v1/customers", {"email": "a@b.co"}).status_code == 400


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"event_name": "requests", "payload": {"a": "1"}, "colour": "red"}, "colour"),
        ({"event_name": "requests", "payload": {"a": 1}}, "payload"),
        ({"event_name": "requests", "payload": ["1"]}, "payload"),
        ({"event_name": 5, "payload": {"a": "1"}}, "event_name"),
        ({"event_name": None, "payload": {"a": "1"}}, "event_name"),
        ({"payload": {"a": "1"}}, "event_name"),
        ({"event_name": "requests", "payload": {"a": "1"}, "timestamp": 1780000000}, "timestamp"),
        ({"event_name": "requests", "payload": {"a": "1"}, "timestamp": "yesterday"}, "timestamp"),
        ({"event_name": "requests", "payload": {"a": "1"}, "identifier": "x" * 101}, "identifier"),
    ],
)
def test_a_wrong_field_is_refused_by_name(browser: Client, body: dict[str, Any], name: str) -> None:
    refused = post(browser, EVENTS, body)
    assert refused.status_code == 400
    assert refused.json["error"]["param"] == name  # type: ignore[index]


def test_an_unknown_field_is_refused_at_every_depth(browser: Client) -> None:
    adjustment = {"event_name": "requests", "type": "cancel", "cancel": {"identifier": "a", "why": "b"}}
    refused = post(browser, "/v2/billing/meter_event_adjustments", adjustment)
    assert refused.json["error"]["param"] == "cancel[why]"  # type: ignore[index]


def test_a_missing_thing_is_not_found(client: stripe.StripeClient, browser: Client) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v2.core.events.retrieve("evt_test_none")
    assert (refused.value.http_status, refused.value.code) == (404, "not_found")
    assert browser.get("/v2/nowhere", headers=HEADERS).status_code == 404


def test_a_wrong_key_is_a_401(browser: Client) -> None:
    headers = {**HEADERS, "Authorization": "Bearer sk_live_0123456789abcdefghijklmnop"}
    assert browser.get("/v2/core/events", headers=headers).status_code == 401


def test_pages_follow_each_other_by_url(client: stripe.StripeClient) -> None:
    ids = [destination(client, name=str(number)).id for number in range(5)][::-1]
    first = client.v2.core.event_destinations.list({"limit": 2})
    assert [each.id for each in first.data] == ids[:2]
    assert first["previous_page_url"] is None
    second = client.raw_request("get", first.next_page_url or "")
    shown = json.loads(str(second.body))
    assert [each["id"] for each in shown["data"]] == ids[2:4]
    assert shown["previous_page_url"].endswith("limit=2&page=0")
    assert [each.id for each in first.auto_paging_iter()] == ids


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "page=x", "starting_after=a"])
def test_a_page_out_of_bounds_is_refused(browser: Client, query: str) -> None:
    assert browser.get(f"/v2/core/events?{query}", headers=HEADERS).status_code == 400


def test_a_key_gives_a_success_again_and_lets_a_failure_be_tried_anew(
    client: stripe.StripeClient, shop: Shop
) -> None:
    customer = shop.customer().id
    options: stripe.RequestOptions = {"idempotency_key": "one"}
    params: Any = {
        "event_name": "requests",
        "identifier": "a",
        "payload": {"stripe_customer_id": customer, "value": "1"},
    }
    with pytest.raises(stripe.InvalidRequestError):
        client.v2.billing.meter_events.create(params, options)
    shop.meter()
    first = client.v2.billing.meter_events.create(params, options)
    again = client.v2.billing.meter_events.create(params, options)
    assert "Idempotent-Replayed" not in first.last_response.headers
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    with pytest.raises(stripe.IdempotencyError) as refused:
        client.v2.billing.meter_events.create({**params, "identifier": "b"}, options)
    assert refused.value.code == "idempotency_error"


def test_a_key_is_kept_for_thirty_days(client: stripe.StripeClient, sandbox: Sandbox) -> None:
    options: stripe.RequestOptions = {"idempotency_key": "one"}
    first = client.v2.billing.meter_event_session.create(options=options).id
    sandbox.set_clock(advance=29 * 86400)
    assert client.v2.billing.meter_event_session.create(options=options).id == first
    sandbox.set_clock(advance=86400)
    assert client.v2.billing.meter_event_session.create(options=options).id != first


def test_the_recorder_holds_json_to_the_document(spec: Spec) -> None:
    def found(sent: Any, body: Any, status: int = 200) -> list[str]:
        recorder = Recorder(spec)
        recorder.check_exchange(method="POST", path=EVENTS, pairs=[], sent=sent, status=status, body=body)
        return [each.what for each in recorder.problems]

    good = {
        "object": "v2.billing.meter_event",
        "created": "2026-05-27T00:00:00.000Z",
        "event_name": "requests",
        "identifier": "a",
        "livemode": False,
        "payload": {"value": "1"},
        "timestamp": "2026-05-27T00:00:00.000Z",
    }
    sent = {"event_name": "requests", "payload": {"value": "1"}}
    assert found(sent, good) == []
    assert found({**sent, "identifer": "a"}, good) == [
        "unknown parameter identifer (did you mean identifier?)"
    ]
    assert sorted(found({"event_name": 1, "payload": {"value": 1}}, good)) == [
        "event_name is int, not string",
        "payload.value is int, not string",
    ]
    assert found(sent, {**good, "colour": "red"}) == ["answer.colour is unknown"]
    assert found(sent, {"error": {"message": "No."}}, status=400) == ["answer.error.code is missing"]
