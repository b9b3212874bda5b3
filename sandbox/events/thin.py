"""Thin events: what happened and to which object, and nothing of the object itself."""

from typing import Any

from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.v2 import iso

KIND = "v2.core.event"
# Where each kind of object that thin events are about is found.
URLS = {
    "billing.meter": "/v1/billing/meters/{id}",
    "v2.core.event_destination": "/v2/core/event_destinations/{id}",
}


def make(state: Sandbox, type: str, *, related: Object | None = None, data: Any = None) -> Object:
    """Return a stored thin event about an object, or about none."""
    event: Object = {
        "id": state.new_id(KIND),
        "object": KIND,
        "created": iso(state.now()),
        "livemode": False,
        "type": type,
        "_at": state.now(),
    }
    if state.origin.request_id is not None:
        request = {"id": state.origin.request_id, "idempotency_key": state.origin.idempotency_key or ""}
        event["reason"] = {"type": "request", "request": request}
    if related is not None:
        event["related_object"] = {
            "id": related["id"],
            "type": related["object"],
            "url": URLS[related["object"]].format(id=related["id"]),
        }
    if data is not None:
        event["data"] = data
    return state.put(event)


def tell(state: Sandbox, type: str, *, related: Object | None = None, data: Any = None) -> Object:
    """Store a thin event in the same change as its cause and queue it for the destinations that want it."""
    event = make(state, type, related=related, data=data)
    state.webhooks.enqueue(event)
    for observer in state.observers:
        observer(event)
    return event
