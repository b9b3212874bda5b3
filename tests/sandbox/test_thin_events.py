"""Event destinations and the thin events they get."""

import json
from typing import Any

import pytest
import stripe
from werkzeug.test import Client

from sandbox import Sandbox
from sandbox.events.webhooks import Delivery
from tests.sandbox.helpers import Shop
from tests.sandbox.test_v2 import destination

INCLUDE = ["webhook_endpoint.signing_secret", "webhook_endpoint.url"]


def report(shop: Shop, customer: str, value: str = "5", **params: Any) -> Any:
    payload = {"stripe_customer_id": customer, "value": value}
    return shop.api.billing.meter_events.create({"event_name": "requests", "payload": payload, **params})


def signature(delivery: Delivery) -> str:
    return delivery.headers["Stripe-Signature"]


def test_meter_errors_arrive_thin_and_signed_and_lead_to_their_event_and_meter(
    client: stripe.StripeClient, shop: Shop, sandbox: Sandbox
) -> None:
    secret = destination(client, include=INCLUDE).webhook_endpoint.signing_secret
    meter, customer = shop.meter(), shop.customer().id
    report(shop, "cus_nobody", identifier="one")
    report(shop, customer, "1.5", identifier="two")
    report(shop, customer, "x", identifier="three")
    assert sandbox.webhooks.pending() == []
    sandbox.set_clock(advance=10)
    (delivery,) = sandbox.webhooks.pending()
    assert "data" not in json.loads(delivery.body)
    told = client.parse_event_notification(delivery.body, signature(delivery), secret)
    assert told.type == "v1.billing.meter.error_report_triggered"
    assert told.fetch_related_object().id == meter.id
    data = told.fetch_event()["data"]
    assert data["developer_message_summary"] == "There are 3 invalid events"
    assert data["reason"]["error_count"] == 3
    kinds = {each["code"]: each for each in data["reason"]["error_types"]}
    assert {code: each["error_count"] for code, each in kinds.items()} == {
        "meter_event_customer_not_found": 1,
        "meter_event_invalid_value": 2,
    }
    samples = kinds["meter_event_invalid_value"]["sample_errors"]
    assert [each["request"]["identifier"] for each in samples] == ["two", "three"]
    assert all(each["error_message"] for each in samples)
    assert data["validation_start"] < data["validation_end"]


def test_an_event_for_no_meter_is_told_of_by_itself(
    client: stripe.StripeClient, shop: Shop, sandbox: Sandbox
) -> None:
    shop.meter()
    report(shop, "cus_nobody")
    report(shop, shop.customer().id, event_name="unheard-of", identifier="lost")
    sandbox.set_clock(advance=10)
    told = {each.type: each for each in client.v2.core.events.list().data}
    assert set(told) == {"v1.billing.meter.no_meter_found", "v1.billing.meter.error_report_triggered"}
    event = told["v1.billing.meter.no_meter_found"]
    assert "related_object" not in event
    assert event["data"]["reason"]["error_types"][0]["code"] == "no_meter"


def test_each_window_has_its_own_report(client: stripe.StripeClient, shop: Shop, sandbox: Sandbox) -> None:
    shop.meter()
    for _ in range(2):
        report(shop, "cus_nobody")
        sandbox.set_clock(advance=10)
    events = client.v2.core.events.list().data
    assert [each["data"]["reason"]["error_count"] for each in events] == [1, 1]


def test_a_report_samples_five_of_many_errors(
    client: stripe.StripeClient, shop: Shop, sandbox: Sandbox
) -> None:
    shop.meter()
    for _ in range(7):
        report(shop, "cus_nobody")
    sandbox.set_clock(advance=10)
    (kind,) = client.v2.core.events.list().data[0]["data"]["reason"]["error_types"]
    assert (kind["error_count"], len(kind["sample_errors"])) == (7, 5)


def test_webhook_endpoints_get_snapshots_and_thin_destinations_thin_events_only(
    client: stripe.StripeClient, shop: Shop, sandbox: Sandbox
) -> None:
    shop.api.webhook_endpoints.create({"url": "http://127.0.0.1:9/old", "enabled_events": ["*"]})
    destination(client)
    destination(client, event_payload="snapshot", webhook_endpoint={"url": "http://127.0.0.1:9/snap"})
    shop.meter()
    report(shop, "cus_nobody")
    sandbox.set_clock(advance=10)
    sent = sorted((each.url.rsplit("/", 1)[1], each.event_type) for each in sandbox.webhooks.pending())
    assert sent == [
        ("old", "billing.meter.created"),
        ("snap", "billing.meter.created"),
        ("thin", "v1.billing.meter.error_report_triggered"),
    ]


def test_a_snapshot_destination_is_sent_what_construct_event_reads(
    client: stripe.StripeClient, shop: Shop, sandbox: Sandbox
) -> None:
    made = destination(client, event_payload="snapshot", enabled_events=["customer.created"], include=INCLUDE)
    customer = shop.customer()
    shop.price()
    (delivery,) = sandbox.webhooks.pending()
    event = client.construct_event(delivery.body, signature(delivery), made.webhook_endpoint.signing_secret)
    assert event.data.object["id"] == customer.id
    assert made.snapshot_api_version == stripe.api_version


def test_a_ping_reaches_its_destination_alone(client: stripe.StripeClient, sandbox: Sandbox) -> None:
    wanted = destination(client, enabled_events=["v1.billing.meter.no_meter_found"], include=INCLUDE)
    destination(client)
    event = client.v2.core.event_destinations.ping(wanted.id)
    (delivery,) = sandbox.webhooks.pending()
    told = client.parse_event_notification(
        delivery.body, signature(delivery), wanted.webhook_endpoint.signing_secret
    )
    assert (told.id, told.type) == (event.id, "v2.core.event_destination.ping")
    assert told.fetch_related_object().id == wanted.id
    assert told.reason is not None
    assert told.reason.request is not None
    assert told.reason.request.id == event.last_response.headers["Request-Id"]


def test_a_secret_and_url_show_only_where_included(client: stripe.StripeClient) -> None:
    assert "webhook_endpoint" not in destination(client)
    made = destination(client, include=INCLUDE)
    assert made.webhook_endpoint.signing_secret.startswith("whsec_")
    destinations = client.v2.core.event_destinations
    assert "webhook_endpoint" not in destinations.retrieve(made.id)
    shown = destinations.retrieve(made.id, {"include": ["webhook_endpoint.url"]})
    assert shown.webhook_endpoint is not None
    assert shown.webhook_endpoint.url == "http://127.0.0.1:9/thin"
    with pytest.raises(stripe.InvalidRequestError):
        destinations.retrieve(made.id, {"include": ["webhook_endpoint.signing_secret"]})  # type: ignore[list-item]


def test_a_destination_is_changed_switched_and_deleted(
    client: stripe.StripeClient, shop: Shop, sandbox: Sandbox
) -> None:
    destinations = client.v2.core.event_destinations
    made = destination(client, metadata={"a": "1", "b": "2"}, description="First")
    changed = destinations.update(
        made.id,
        {
            "name": "Renamed",
            "metadata": {"a": None, "c": "3"},
            "webhook_endpoint": {"url": "http://127.0.0.1:9/new"},
            "enabled_events": ["v1.billing.meter.error_report_triggered"],
            "include": ["webhook_endpoint.url"],
        },
    )
    assert (changed.name, changed.description) == ("Renamed", "First")
    assert changed.metadata is not None
    assert dict(changed.metadata) == {"b": "2", "c": "3"}
    assert changed.webhook_endpoint is not None
    assert changed.webhook_endpoint.url == "http://127.0.0.1:9/new"
    off = destinations.disable(made.id)
    assert off.status == "disabled"
    assert off["status_details"]["disabled"]["reason"] == "user"
    shop.meter()
    report(shop, "cus_nobody")
    sandbox.set_clock(advance=10)
    assert sandbox.webhooks.pending() == []
    assert destinations.enable(made.id).status == "enabled"
    assert destinations.delete(made.id).id == made.id
    with pytest.raises(stripe.InvalidRequestError):
        destinations.retrieve(made.id)


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"enabled_events": ["invoice.paid"]}, "enabled_events[0]"),
        ({"enabled_events": []}, "enabled_events"),
        ({"event_payload": "fat"}, "event_payload"),
        ({"snapshot_api_version": "2026-05-27.dahlia"}, "snapshot_api_version"),
        ({"webhook_endpoint": {"url": "https://example.com/hook"}}, "webhook_endpoint[url]"),
        ({"type": "amazon_eventbridge"}, "type"),
        ({"metadata": {"a": None}}, "metadata"),
        ({"events_from": ["@accounts"]}, "events_from"),
    ],
)
def test_a_destination_that_cannot_work_is_refused_by_name(
    client: stripe.StripeClient, params: dict[str, Any], param: str
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        destination(client, **params)
    assert refused.value.param == param


def test_events_are_found_by_type_object_and_time(
    client: stripe.StripeClient, shop: Shop, sandbox: Sandbox
) -> None:
    sandbox.set_clock(frozen_at=1_780_000_000)
    meter = shop.meter()
    report(shop, "cus_nobody")
    report(shop, "cus_nobody", event_name="unheard-of")
    sandbox.set_clock(advance=10)
    events = client.v2.core.events
    assert [each.type for each in events.list({"object_id": meter.id}).data] == [
        "v1.billing.meter.error_report_triggered"
    ]
    assert [each.type for each in events.list({"types": ["v1.billing.meter.no_meter_found"]}).data] == [
        "v1.billing.meter.no_meter_found"
    ]
    assert len(events.list({"created": {"gte": "2026-05-28T20:26:50Z"}}).data) == 2
    assert events.list({"created": {"lt": "2026-05-28T20:26:50Z"}}).data == []


def test_a_thin_event_can_be_sent_again(
    client: stripe.StripeClient, sandbox: Sandbox, browser: Client
) -> None:
    made = destination(client)
    event = client.v2.core.event_destinations.ping(made.id)
    sandbox.webhooks.deliver(lambda url, body, headers: 200)
    assert browser.post(f"/sandbox/events/{event.id}/resend").status_code == 200
    assert [each.event_id for each in sandbox.webhooks.pending()] == [event.id]


def test_a_meter_is_renamed_and_told_of(shop: Shop) -> None:
    meter = shop.meter()
    assert shop.api.billing.meters.update(meter.id, {"display_name": "Calls"}).display_name == "Calls"
    assert shop.api.billing.meters.retrieve(meter.id).display_name == "Calls"
    assert [each.id for each in shop.api.billing.meters.list({"status": "active"}).data] == [meter.id]
    assert shop.event_types()[-1] == "billing.meter.updated"
