import itertools
import json
import pathlib
import time
from typing import Any

import pytest
import stripe
from werkzeug.test import Client

from sandbox import Sandbox
from sandbox.events.webhooks import BACK_OFF
from sandbox.transport import SandboxHTTPClient
from tests.sandbox.helpers import KEY, Shop

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


def test_an_endpoint_can_be_changed_switched_off_and_on(shop: Shop, sandbox: Sandbox) -> None:
    endpoint = listen(shop, "product.created")
    endpoints = shop.api.webhook_endpoints
    changed = endpoints.update(
        endpoint.id,
        {
            "enabled_events": ["customer.created"],
            "url": URL + "/2",
            "description": "Second",
            "metadata": {"a": "1"},
        },
    )
    assert (changed.url, changed.enabled_events, changed.description) == (
        URL + "/2",
        ["customer.created"],
        "Second",
    )
    shop.customer()
    assert [each.url for each in sandbox.webhooks.pending()] == [URL + "/2"]
    assert endpoints.update(endpoint.id, {"disabled": True}).status == "disabled"
    shop.customer()
    assert sandbox.webhooks.pending() == []
    assert endpoints.update(endpoint.id, {"disabled": False}).status == "enabled"
    # What waited goes out; what happened meanwhile was never queued.
    assert len(sandbox.webhooks.pending()) == 1


@pytest.mark.parametrize("events", [[], ["customer.sneezed"], ["v1.billing.meter.error_report_triggered"]])
def test_an_endpoint_for_no_known_event_is_refused(shop: Shop, events: list[Any]) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        shop.api.webhook_endpoints.create({"url": URL, "enabled_events": events})
    assert (refused.value.param or "").startswith("enabled_events")


def test_a_lost_webhook_is_never_sent_and_stays_pending_until_sent_by_hand(
    shop: Shop, sandbox: Sandbox
) -> None:
    listen(shop)
    sandbox.faults.add("webhook_lost", event_type="customer.*", times=1)
    shop.customer()
    assert sandbox.webhooks.pending() == []
    (event,) = shop.api.events.list({"delivery_success": False}).data
    assert event.pending_webhooks == 1
    sandbox.webhooks.resend(event.id)
    assert sandbox.webhooks.deliver(lambda url, body, headers: 200) == [200]
    assert shop.api.events.retrieve(event.id).pending_webhooks == 0


def test_a_doubled_webhook_is_sent_twice(shop: Shop, sandbox: Sandbox) -> None:
    listen(shop)
    sandbox.faults.add("webhook_doubled", times=1)
    shop.customer()
    shop.customer()
    ids = [each.event_id for each in sandbox.webhooks.pending()]
    assert len(ids) == 3
    assert len(set(ids)) == 2
    sandbox.webhooks.deliver(lambda url, body, headers: 200)
    assert {each.pending_webhooks for each in shop.api.events.list().data} == {0}


def test_shuffled_webhooks_come_in_the_order_of_the_seed() -> None:
    def order(seed: int) -> list[int]:
        sandbox = Sandbox()
        shop = Shop(stripe.StripeClient(KEY, http_client=SandboxHTTPClient(sandbox)))
        listen(shop)
        sandbox.faults.add("webhook_shuffled", seed=seed)
        names = [shop.customer().id for _ in range(8)]
        bodies = [json.loads(each.body) for each in sandbox.webhooks.pending()]
        return [names.index(each["data"]["object"]["id"]) for each in bodies]

    assert order(1) == order(1) != order(2)
    assert order(1) != sorted(order(1)) == list(range(8))


def test_a_delayed_webhook_comes_when_its_seconds_are_over(shop: Shop, sandbox: Sandbox) -> None:
    listen(shop)
    sandbox.set_clock(frozen_at=1_780_000_000)
    sandbox.faults.add("webhook_delayed", seconds=3600, times=1)
    shop.customer()
    sandbox.set_clock(advance=3599)
    assert sandbox.webhooks.pending() == []
    sandbox.set_clock(advance=1)
    assert len(sandbox.webhooks.pending()) == 1


def test_an_event_is_sent_again_to_one_endpoint_or_to_all(
    shop: Shop, sandbox: Sandbox, browser: Client
) -> None:
    one, other = listen(shop), listen(shop, "product.created", "customer.created")
    shop.customer()
    sandbox.webhooks.deliver(lambda url, body, headers: 200)
    event = shop.api.events.list().data[0].id
    assert [each.endpoint for each in sandbox.webhooks.resend(event)] == [one.id, other.id]
    answer = browser.post(f"/sandbox/events/{event}/resend", json={"endpoint": other.id})
    assert len((answer.json or {})["queued"]) == 1
    deaf = listen(shop, "product.created")
    refused = browser.post(f"/sandbox/events/{event}/resend", json={"endpoint": deaf.id})
    assert refused.status_code == 400
    assert browser.post("/sandbox/events/evt_none/resend").status_code == 404


def test_the_log_keeps_answers_and_gives_up_after_the_last_try(
    shop: Shop, sandbox: Sandbox, browser: Client
) -> None:
    listen(shop)
    shop.customer()
    sandbox.webhooks.deliver(lambda url, body, headers: (503, "Down for repairs"))
    (row,) = browser.get("/sandbox/deliveries").json or []
    assert (row["status"], row["last_status"], row["answer"]) == ("pending", 503, "Down for repairs")
    for _ in BACK_OFF:
        sandbox.webhooks.deliver(lambda url, body, headers: 500)
    (row,) = browser.get("/sandbox/deliveries").json or []
    assert (row["status"], row["attempts"]) == ("failed", len(BACK_OFF) + 1)
    assert sandbox.webhooks.pending() == []
    assert shop.api.events.list().data[0].pending_webhooks == 1


def test_each_try_waits_longer_than_the_one_before(shop: Shop, sandbox: Sandbox) -> None:
    listen(shop)
    shop.customer()
    waits = []
    for _ in BACK_OFF:
        before = time.time()
        sandbox.webhooks.deliver(lambda url, body, headers: 500)
        waits.append(round(sandbox.webhooks.log()[0]["due_at"] - before))
    assert all(before < after for before, after in itertools.pairwise(waits[:-1]))
    assert waits == list(BACK_OFF)


def test_events_keep_the_sandboxs_time_and_signatures_real_time(shop: Shop, sandbox: Sandbox) -> None:
    secret = listen(shop).secret
    sandbox.set_clock(frozen_at=1_600_000_000)
    shop.customer()
    (delivery,) = sandbox.webhooks.pending()
    event = stripe.Webhook.construct_event(
        delivery.body, delivery.headers["Stripe-Signature"], secret, tolerance=5
    )
    assert event.created == 1_600_000_000


def test_what_waits_is_sent_after_a_restart(tmp_path: pathlib.Path) -> None:
    sandbox = Sandbox(path=tmp_path / "state.sqlite3")
    shop = Shop(stripe.StripeClient(KEY, http_client=SandboxHTTPClient(sandbox)))
    listen(shop)
    sandbox.faults.add("webhook_lost")
    shop.customer()
    sandbox.faults.clear()
    shop.customer()
    sandbox.close()
    again = Sandbox(path=tmp_path / "state.sqlite3")
    assert len(again.webhooks.pending()) == 1
    assert again.faults.all() == []
