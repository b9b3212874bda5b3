"""Webhook endpoints. Their targets must be on this machine, which the sandbox never leaves."""

import ipaddress
import urllib.parse

from sandbox.errors import ApiError
from sandbox.events.event_types import snapshot_types
from sandbox.params import BOOL, METADATA, STR, EmptyOr, ListOf, merge_metadata, unsupported
from sandbox.routing import Call, delete, get, lists, post
from sandbox.store import Object
from sandbox.wire import check_version

MOST = 16


def check_target(url: str, *, param: str = "url") -> str:
    """Return the URL. Raises ApiError unless it is http(s) to a loopback address."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ApiError(f"Invalid URL: {url}", code="url_invalid", param=param) from None
    if parts.scheme not in ("http", "https") or not host:
        raise ApiError(f"Invalid URL: {url}", code="url_invalid", param=param)
    if not is_loopback(host):
        raise ApiError(
            f"The sandbox delivers webhooks to this machine only. {host} is not a loopback host: use "
            "127.0.0.1, [::1] or localhost.",
            code="url_invalid",
            param=param,
        )
    return url


def is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@post(
    "/v1/webhook_endpoints",
    {
        "api_version": STR,
        "description": EmptyOr(STR),
        "enabled_events!": ListOf(STR),
        "metadata": METADATA,
        "url!": STR,
        **unsupported("connect"),
    },
)
def create(call: Call) -> Object:
    state, params = call.state, call.params
    version = params.get("api_version")
    if version is not None:
        check_version(version)
    if state.store.count("webhook_endpoint") >= MOST:
        raise ApiError(f"You have reached the maximum of {MOST} test webhook endpoints.")
    endpoint = state.put(
        state.new(
            "webhook_endpoint",
            api_version=version,
            application=None,
            description=params.get("description"),
            enabled_events=_events(params["enabled_events"]),
            metadata=merge_metadata({}, params.get("metadata") or {}),
            status="enabled",
            url=check_target(params["url"]),
            _secret=state.new_id("webhook_secret"),
        )
    )
    # Shown this once; from here on it is only used to sign.
    return {**endpoint, "secret": endpoint["_secret"]}


def _events(names: list[str]) -> list[str]:
    if not names:
        raise ApiError("You must enable at least one event.", param="enabled_events")
    for index, each in enumerate(names):
        if each != "*" and each not in snapshot_types():
            raise ApiError(
                f"Invalid enabled_events[{index}]: {each} is not an event type that webhook endpoints take.",
                param=f"enabled_events[{index}]",
            )
    return list(dict.fromkeys(names))


@get("/v1/webhook_endpoints/<id>")
def retrieve(call: Call) -> Object:
    return call.state.get("webhook_endpoint", call.args["id"])


@post(
    "/v1/webhook_endpoints/<id>",
    {
        "description": EmptyOr(STR),
        "disabled": BOOL,
        "enabled_events": ListOf(STR),
        "metadata": METADATA,
        "url": STR,
    },
)
def update(call: Call) -> Object:
    endpoint, params = call.state.get("webhook_endpoint", call.args["id"]), call.params
    if "url" in params:
        endpoint["url"] = check_target(params["url"])
    if "enabled_events" in params:
        endpoint["enabled_events"] = _events(params["enabled_events"])
    if "metadata" in params:
        endpoint["metadata"] = merge_metadata(endpoint["metadata"], params["metadata"])
    if "disabled" in params:
        endpoint["status"] = "disabled" if params["disabled"] else "enabled"
    endpoint["description"] = params.get("description", endpoint["description"])
    return call.state.put(endpoint)


@delete("/v1/webhook_endpoints/<id>")
def remove(call: Call) -> Object:
    endpoint = call.state.get("webhook_endpoint", call.args["id"])
    call.state.store.remove("webhook_endpoint", endpoint["id"])
    call.state.webhooks.forget(endpoint["id"])
    return {"id": endpoint["id"], "object": "webhook_endpoint", "deleted": True}


@lists("/v1/webhook_endpoints")
def index(call: Call) -> Object:
    return call.page(call.state.newest("webhook_endpoint"))
