import json
from typing import Any

import pytest
import stripe
from werkzeug.test import Client

from sandbox import Sandbox
from tests.sandbox.helpers import Shop

URL = "http://127.0.0.1:9/hook"


def listen(shop: Shop, *events: str) -> Any:
    return shop.api.webhook_endpoints.create({"url": URL, "enabled_events": list(events or ("*",))})


def test_a_delivery_carries_a_signature_stripe_accepts(shop: Shop, sandbox: Sandbox) -> None:
    secret = listen(shop).secret
    customer = shop.customer()
    (delivery,) = sandbox.webhooks.pending()
    event = stripe.Webhook.construct_event(delivery.body, delivery.headers["Stripe-Signature"], secret)
    assert (delivery.url, event.type, event.data.object.id) == (URL, "customer.created", customer.id)
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(delivery.body, delivery.headers["Stripe-Signature"], "whsec_other")


def test_the_secret_is_shown_once(shop: Shop) -> None:
    endpoint = listen(shop)
    assert endpoint.secret.startswith("whsec_")
    assert "secret" not in shop.api.webhook_endpoints.retrieve(endpoint.id)
    assert "secret" not in shop.api.webhook_endpoints.list().data[0]


@pytest.mark.parametrize(
    "url", ["https://example.com/hook", "http://169.254.169.254/", "http://127.0.0.1.example.com/"]
)
def test_webhooks_never_leave_this_machine(shop: Shop, url: str) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="this machine only"):
        shop.api.webhook_endpoints.create({"url": url, "enabled_events": ["*"]})


def test_only_wanted_events_are_sent(shop: Shop, sandbox: Sandbox) -> None:
    listen(shop, "product.created")
    shop.customer()
    shop.api.products.create({"name": "Pro"})
    assert [each.event_type for each in sandbox.webhooks.pending()] == ["product.created"]


def test_a_failed_delivery_stays_pending_until_it_arrives(shop: Shop, sandbox: Sandbox) -> None:
    listen(shop)
    shop.customer()

    def refuse(url: str, body: bytes, headers: dict[str, str]) -> int:
        raise ConnectionRefusedError

    assert sandbox.webhooks.deliver(lambda url, body, headers: 500) == [500]
    assert sandbox.webhooks.deliver(refuse) == [0]
    assert [each.attempt for each in sandbox.webhooks.pending()] == [3]
    assert shop.api.events.list().data[0].pending_webhooks == 1
    assert sandbox.webhooks.deliver(lambda url, body, headers: 204) == [204]
    assert sandbox.webhooks.pending() == []
    assert shop.api.events.list().data[0].pending_webhooks == 0


def test_deliveries_can_be_dropped_doubled_and_shuffled(shop: Shop, sandbox: Sandbox) -> None:
    listen(shop)
    for name in ("a", "b", "c"):
        shop.api.products.create({"name": name})
    first, second, third = sandbox.webhooks.pending()
    seen = []

    def receive(url: str, body: bytes, headers: dict[str, str]) -> int:
        seen.append(json.loads(body)["data"]["object"]["name"])
        return 200

    sandbox.webhooks.deliver(receive, [third, first, first])
    assert seen == ["c", "a", "a"]
    assert [each.id for each in sandbox.webhooks.pending()] == [second.id]


def test_an_event_can_be_sent_again(shop: Shop, sandbox: Sandbox, browser: Client) -> None:
    listen(shop)
    shop.customer()
    sandbox.webhooks.deliver(lambda url, body, headers: 200)
    event = shop.api.events.list().data[0]
    assert browser.post(f"/sandbox/events/{event.id}/resend").status_code == 200
    assert [each.event_id for each in sandbox.webhooks.pending()] == [event.id]


def test_an_update_says_what_changed_and_an_empty_one_is_no_event(shop: Shop) -> None:
    customer = shop.customer(metadata={"a": "1"})
    shop.api.customers.update(customer.id, {"name": "Ada", "metadata": {"b": "2"}})
    shop.api.customers.update(customer.id, {"name": "Ada"})
    (event,) = shop.api.events.list({"type": "customer.updated"}).data
    assert event.data.previous_attributes.to_dict() == {"name": None, "metadata": {"b": None}}


def test_an_event_names_the_request_behind_it(shop: Shop) -> None:
    customer = shop.api.customers.create({"email": "a@b.co"}, {"idempotency_key": "key-1"})
    event = shop.api.events.list().data[0]
    assert event["request"]["id"] == customer.last_response.headers["Request-Id"]
    assert event["request"]["idempotency_key"] == "key-1"


def test_a_deleted_endpoint_gets_nothing_more(shop: Shop, sandbox: Sandbox) -> None:
    endpoint = listen(shop)
    shop.customer()
    shop.api.webhook_endpoints.delete(endpoint.id)
    shop.customer()
    assert sandbox.webhooks.pending() == []
