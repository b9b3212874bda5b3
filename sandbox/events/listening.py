"""Who is told of an event: webhook endpoints of /v1 and event destinations of /v2, as one kind of listener."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sandbox.errors import ApiError
from sandbox.store import Object

if TYPE_CHECKING:
    from sandbox.state import Sandbox

ENDPOINT = "webhook_endpoint"
DESTINATION = "v2.core.event_destination"
THIN = "v2.core.event"
# Sent to its destination alone, whatever that asked for.
PING = "v2.core.event_destination.ping"
LONGEST_ROLL = 86400


def endpoints(state: Sandbox) -> Iterator[Object]:
    yield from state.every(ENDPOINT)
    yield from state.every(DESTINATION)


def find(state: Sandbox, identifier: str) -> Object | None:
    return state.find(ENDPOINT, identifier) or state.find(DESTINATION, identifier)


def listeners(state: Sandbox, event: Object) -> list[Object]:
    """Return the enabled endpoints that asked for an event's type and take its kind of payload."""
    thin = event["object"] == THIN
    return [
        each
        for each in endpoints(state)
        if each["status"] == "enabled"
        and (each.get("event_payload") == "thin") is thin
        and _asked(each, event)
    ]


def _asked(endpoint: Object, event: Object) -> bool:
    if event["type"] == PING:
        return bool(event["related_object"]["id"] == endpoint["id"])
    wanted = endpoint["enabled_events"]
    return "*" in wanted or event["type"] in wanted


def roll_secret(state: Sandbox, identifier: str, *, keep_old: int = 0) -> str:
    """Give an endpoint another signing secret, as Stripe's dashboard does, and return it.

    The old one goes on signing beside it for `keep_old` seconds, a day at most. Raises ApiError for no such endpoint
    or for longer.
    """
    if not 0 <= keep_old <= LONGEST_ROLL:
        raise ApiError("A rolled secret can be kept for a day at most.", param="keep_old")
    with state.change():
        endpoint = find(state, identifier) or state.get(ENDPOINT, identifier)
        old = {"secret": endpoint["_secret"], "until": state.clock.now() + keep_old}
        endpoint["_older_secrets"] = [*endpoint.get("_older_secrets", []), old]
        endpoint["_secret"] = state.new_id("webhook_secret")
        state.put(endpoint)
        return str(endpoint["_secret"])


def older_secrets(state: Sandbox, endpoint: Object) -> list[str]:
    """Return the secrets before the present one that still sign."""
    now = state.clock.now()
    return [each["secret"] for each in endpoint.get("_older_secrets", []) if each["until"] > now]


def url_of(endpoint: Object) -> str:
    return str(endpoint["url"] if endpoint["object"] == ENDPOINT else endpoint["_url"])


def payload(state: Sandbox, event: Object) -> Object:
    """Return what is sent of an event. Of a thin one that leaves out its data, which is fetched."""
    shown = state.render(event)
    if event["object"] == THIN:
        return {name: value for name, value in shown.items() if name not in ("data", "changes")}
    return shown
