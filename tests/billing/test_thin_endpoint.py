"""Thin events: taken in once, whoever else knocks, and their details fetched behind the answer."""

import json
import logging
import time
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from accounts.clock import standing_at
from billing import tasks
from billing.errors import StripeUnavailable
from billing.models import EventDestination, ThinEvent
from billing.stripe.client import get_client
from billing.stripe.event_destinations import ping_destination, settle_event_destination
from billing.thin_events import fetch_details, unacknowledged_meter_errors
from sandbox.events.webhooks import Delivery, sign
from tests.billing.cast import deliver, publish_all

pytestmark = pytest.mark.django_db


@pytest.fixture
def destination(sandbox: Any, plans: Any) -> EventDestination:
    publish_all()
    settle_event_destination()
    return EventDestination.objects.get()


@pytest.fixture(autouse=True)
def queued(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was queued for a worker: the ids of the events whose details are to be fetched."""
    ids: list[str] = []
    monkeypatch.setattr(tasks.fetch_thin_event, "delay", ids.append)
    return ids


def reject_usage(sandbox: Any, *, event_name: str = "tollgate_requests", **params: Any) -> Delivery:
    """Report usage that does not count, and return what Stripe then sends."""
    get_client().v1.billing.meter_events.create(
        {
            "event_name": event_name,
            "payload": {"stripe_customer_id": "cus_nobody", "value": "5"},
            "identifier": "report-1",
            **params,
        }
    )
    sandbox.set_clock(advance=10)
    (delivery,) = [each for each in sandbox.webhooks.pending() if "/stripe/thin/" in each.url]
    return delivery


def post(path: str, body: bytes, signature: str | None) -> int:
    headers = {} if signature is None else {"Stripe-Signature": signature}
    return Client().post(path, body, content_type="application/json", headers=headers).status_code


def path_of(destination: EventDestination) -> str:
    return f"/stripe/thin/{destination.uuid}/"


def test_rejected_usage_is_taken_in_and_its_details_fetched_by_a_worker(
    sandbox, destination, queued, django_capture_on_commit_callbacks
):
    delivery = reject_usage(sandbox)

    with django_capture_on_commit_callbacks(execute=True):
        assert deliver(sandbox, [delivery]) == [200]

    event = ThinEvent.objects.get()
    assert (event.type, event.is_meter_error) == ("v1.billing.meter.error_report_triggered", True)
    assert event.data == {}
    assert queued == [event.id]

    tasks.fetch_thin_event(event.id)

    event.refresh_from_db()
    assert event.error_count == 1
    assert event.codes == {"meter_event_customer_not_found": 1}
    (sample,) = event.samples
    assert (sample.identifier, sample.code) == ("report-1", "meter_event_customer_not_found")
    assert "cus_nobody" in sample.message
    assert event.summary == "There is 1 invalid event"
    assert list(unacknowledged_meter_errors()) == [event]


def test_usage_for_no_meter_names_no_meter(sandbox, destination):
    deliver(sandbox, [reject_usage(sandbox, event_name="tollgate_forgotten")])

    event = ThinEvent.objects.get()
    assert (event.type, event.related_id) == ("v1.billing.meter.no_meter_found", "")
    fetch_details(event.id)
    assert ThinEvent.objects.get().codes == {"no_meter": 1}


def test_taking_an_event_in_asks_nothing_of_stripe(sandbox, destination):
    delivery = reject_usage(sandbox)
    sandbox.faults.add("server_error")

    assert deliver(sandbox, [delivery]) == [200]


def test_an_event_that_comes_twice_is_stored_and_fetched_once(
    sandbox, destination, queued, django_capture_on_commit_callbacks
):
    delivery = reject_usage(sandbox)

    with django_capture_on_commit_callbacks(execute=True):
        assert deliver(sandbox, [delivery, delivery]) == [200, 200]

    assert ThinEvent.objects.count() == 1
    assert len(queued) == 1


@pytest.mark.parametrize("flaw", ["forged", "stale", "missing", "garbled", "changed"])
def test_what_stripe_did_not_just_sign_gets_400_and_is_not_stored(sandbox, destination, flaw):
    delivery = reject_usage(sandbox)
    body, now = delivery.body, int(time.time())
    signature = {
        "forged": sign(body, secret="whsec_guessed", at=now),
        "stale": sign(body, secret=destination.secret, at=now - 301),
        "missing": None,
        "garbled": "t=1,v1=zz",
        "changed": sign(body + b" ", secret=destination.secret, at=now),
    }[flaw]

    assert post(path_of(destination), body, signature) == 400
    assert not ThinEvent.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b'{"id": "evt_1", "object": "event", "type": "invoice.paid", "data": {"object": {}}}',
        b'{"id": "evt_1", "object": "v2.core.event", "type": "v1.billing.meter.no_meter_found"}',
    ],
)
def test_what_is_signed_and_no_thin_event_gets_400(destination, body):
    signature = sign(body, secret=destination.secret, at=int(time.time()))

    assert post(path_of(destination), body, signature) == 400
    assert not ThinEvent.objects.exists()


def test_an_unknown_address_is_not_found(destination):
    assert post(f"/stripe/thin/{uuid4()}/", b"{}", "t=1,v1=zz") == 404


def test_only_posts_are_taken(destination):
    assert Client().get(path_of(destination)).status_code == 405


def test_an_event_of_one_destination_is_refused_at_another(sandbox, destination):
    other = EventDestination.objects.create(id="ed_other", secret="whsec_other")
    delivery = reject_usage(sandbox)

    assert post(path_of(other), delivery.body, delivery.headers["Stripe-Signature"]) == 400


def test_a_ping_is_stored_and_is_nothing_to_see_to(sandbox, destination, queued):
    ping_destination(destination.id)

    assert deliver(sandbox)[-1] == 200

    event = ThinEvent.objects.get()
    assert event.type == "v2.core.event_destination.ping"
    assert not unacknowledged_meter_errors().exists()
    assert queued == []


def test_details_that_could_not_be_fetched_are_fetched_by_the_sweep(sandbox, destination, queued):
    deliver(sandbox, [reject_usage(sandbox)])
    event = ThinEvent.objects.get()
    sandbox.faults.add("server_error", path="/v2/core/events/*")
    with pytest.raises(StripeUnavailable):
        fetch_details(event.id)
    sandbox.faults.clear()

    tasks.fetch_thin_events()
    assert queued == [event.id]
    fetch_details(event.id)

    queued.clear()
    tasks.fetch_thin_events()
    assert queued == []
    assert ThinEvent.objects.get().error_count == 1


def test_details_that_stripe_no_longer_has_are_noted_and_not_asked_for_again(sandbox, destination, queued):
    deliver(sandbox, [reject_usage(sandbox)])
    event = ThinEvent.objects.get()
    with sandbox.change():
        sandbox.store.remove("v2.core.event", event.id)

    fetch_details(event.id)

    event.refresh_from_db()
    assert event.fetch_error
    assert "would not give the details" in event.summary
    assert event.error_count is None
    tasks.fetch_thin_events()
    assert queued == []
    assert list(unacknowledged_meter_errors()) == [event]


def test_an_acknowledged_error_keeps_its_first_note_and_is_no_longer_listed(sandbox, destination, owner):
    deliver(sandbox, [reject_usage(sandbox)])
    event = ThinEvent.objects.get()

    with standing_at(event.received_at):
        assert event.acknowledge(by=owner, note="Billed by hand.")
        assert not event.acknowledge(by=owner, note="Again.")

    assert (event.note, event.acknowledged_by, event.acknowledged_at) == (
        "Billed by hand.",
        owner,
        event.received_at,
    )
    assert not unacknowledged_meter_errors().exists()


def test_no_secret_reaches_the_log(sandbox, destination, caplog):
    caplog.set_level(logging.DEBUG)
    delivery = reject_usage(sandbox)
    deliver(sandbox, [delivery])
    post(path_of(destination), delivery.body, sign(delivery.body, secret="whsec_guessed", at=1))

    assert destination.secret not in caplog.text
    assert json.loads(delivery.body)["id"] in caplog.text
