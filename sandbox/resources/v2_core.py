"""Event destinations and thin events, under /v2."""

from sandbox.errors import ApiError, missing_parameter
from sandbox.events import thin
from sandbox.events.event_types import snapshot_types, thin_types
from sandbox.events.listening import DESTINATION, PING, THIN
from sandbox.params import Enum, ListOf, Obj, Str, Type, unsupported
from sandbox.resources.webhook_endpoints import check_target
from sandbox.routing import Call, delete, get, post, within
from sandbox.state import Sandbox
from sandbox.store import Object, copied
from sandbox.v2 import PAGE, Metadata, Time, iso, merge_metadata, page
from sandbox.wire import API_VERSION, check_version

MOST = 16
SECRET, URL = "webhook_endpoint.signing_secret", "webhook_endpoint.url"
WEBHOOK: Type = Obj({"url!": Str()})
INCLUDE_URL: dict[str, Type] = {"include": ListOf(Enum(URL))}


@post(
    "/v2/core/event_destinations",
    {
        "description": Str(),
        "enabled_events!": ListOf(Str()),
        "event_payload!": Enum("snapshot", "thin"),
        "events_from": ListOf(Enum("@self", "@accounts", "@organization_members")),
        "include": ListOf(Enum(SECRET, URL)),
        "metadata": Metadata(),
        "name!": Str(),
        "snapshot_api_version": Str(),
        "type!": Enum("amazon_eventbridge", "azure_event_grid", "webhook_endpoint"),
        "webhook_endpoint": WEBHOOK,
        **unsupported("amazon_eventbridge", "azure_event_grid"),
    },
)
def create(call: Call) -> Object:
    state, params = call.state, call.params
    if params["type"] != "webhook_endpoint":
        raise ApiError(
            f"The sandbox does not support destinations of type {params['type']} (Stripe does).",
            code="sandbox_unsupported",
            param="type",
        )
    if "webhook_endpoint" not in params:
        raise missing_parameter("webhook_endpoint")
    if params.get("events_from", ["@self"]) != ["@self"]:
        raise ApiError(
            "The sandbox has one account: events come from @self.",
            code="sandbox_unsupported",
            param="events_from",
        )
    if state.store.count(DESTINATION) >= MOST:
        raise ApiError(f"You have reached the maximum of {MOST} event destinations.")
    payload = params["event_payload"]
    version = _version(params.get("snapshot_api_version"), payload)
    now = state.clock.now()
    destination = {
        "id": state.new_id(DESTINATION),
        "object": DESTINATION,
        "created": iso(now),
        "description": params.get("description", ""),
        "enabled_events": _events(params["enabled_events"], payload),
        "event_payload": payload,
        "events_from": ["@self"],
        "livemode": False,
        "metadata": merge_metadata({}, params.get("metadata", {})),
        "name": params["name"],
        "status": "enabled",
        "type": "webhook_endpoint",
        "updated": iso(now),
        "_secret": state.new_id("webhook_secret"),
        "_url": check_target(params["webhook_endpoint"]["url"], param="webhook_endpoint[url]"),
    }
    if version is not None:
        destination["snapshot_api_version"] = version
    return _shown(state.put(destination), params)


def _version(asked: str | None, payload: str) -> str | None:
    if payload == "thin":
        if asked is not None:
            raise ApiError(
                "snapshot_api_version goes with the snapshot payload only.", param="snapshot_api_version"
            )
        return None
    return check_version(asked) if asked is not None else API_VERSION


def _events(names: list[str], payload: str) -> list[str]:
    if not names:
        raise ApiError("You must enable at least one event.", param="enabled_events")
    known = thin_types() if payload == "thin" else snapshot_types()
    for index, each in enumerate(names):
        if each != "*" and each not in known:
            raise ApiError(
                f"Invalid enabled_events[{index}]: {each} does not come as a {payload} event.",
                param=f"enabled_events[{index}]",
            )
    return list(dict.fromkeys(names))


def _shown(destination: Object, params: Object) -> Object:
    """Return the destination with what the request asked to include."""
    included = {
        part.split(".")[1]: destination["_secret" if part == SECRET else "_url"]
        for part in params.get("include", [])
    }
    return {**destination, "webhook_endpoint": included} if included else destination


def _get(state: Sandbox, identifier: str) -> Object:
    return state.get(DESTINATION, identifier, noun="event destination")


@get("/v2/core/event_destinations/<id>", INCLUDE_URL)
def retrieve(call: Call) -> Object:
    return _shown(_get(call.state, call.args["id"]), call.params)


@post(
    "/v2/core/event_destinations/<id>",
    {
        **INCLUDE_URL,
        "description": Str(),
        "enabled_events": ListOf(Str()),
        "metadata": Metadata(unsets=True),
        "name": Str(),
        "webhook_endpoint": WEBHOOK,
    },
)
def update(call: Call) -> Object:
    state, params = call.state, call.params
    destination = _get(state, call.args["id"])
    for name in ("description", "name"):
        destination[name] = params.get(name, destination[name])
    if "enabled_events" in params:
        destination["enabled_events"] = _events(params["enabled_events"], destination["event_payload"])
    if "webhook_endpoint" in params:
        url = params["webhook_endpoint"]["url"]
        destination["_url"] = check_target(url, param="webhook_endpoint[url]")
    destination["metadata"] = merge_metadata(destination["metadata"], params.get("metadata", {}))
    destination["updated"] = iso(state.clock.now())
    return _shown(state.put(destination), params)


@post("/v2/core/event_destinations/<id>/disable")
def disable(call: Call) -> Object:
    return _switch(call, status="disabled", details={"disabled": {"reason": "user"}})


@post("/v2/core/event_destinations/<id>/enable")
def enable(call: Call) -> Object:
    return _switch(call, status="enabled", details=None)


def _switch(call: Call, *, status: str, details: Object | None) -> Object:
    destination = copied(_get(call.state, call.args["id"]))
    destination.pop("status_details", None)
    if details is not None:
        destination["status_details"] = details
    destination.update(status=status, updated=iso(call.state.clock.now()))
    return call.state.put(destination)


@post("/v2/core/event_destinations/<id>/ping")
def ping(call: Call) -> Object:
    destination = _get(call.state, call.args["id"])
    if destination["event_payload"] != "thin":
        # A snapshot destination cannot be sent a thin event.
        return thin.make(call.state, PING, related=destination)
    return thin.tell(call.state, PING, related=destination)


@delete("/v2/core/event_destinations/<id>")
def remove(call: Call) -> Object:
    destination = _get(call.state, call.args["id"])
    call.state.store.remove(DESTINATION, destination["id"])
    call.state.webhooks.forget(destination["id"])
    return {"id": destination["id"], "object": DESTINATION}


@get("/v2/core/event_destinations", {**PAGE, **INCLUDE_URL})
def index(call: Call) -> Object:
    return page(call, [_shown(each, call.params) for each in call.state.newest(DESTINATION)])


@get("/v2/core/events/<id>")
def retrieve_event(call: Call) -> Object:
    return call.state.get(THIN, call.args["id"], noun="event")


@get(
    "/v2/core/events",
    {
        **PAGE,
        "created": Obj({"gt": Time(), "gte": Time(), "lt": Time(), "lte": Time()}),
        "object_id": Str(),
        "types": ListOf(Str()),
    },
)
def index_events(call: Call) -> Object:
    params = call.params
    types = params.get("types")
    if types is not None and len(types) > 20:
        raise ApiError("You can give up to 20 types.", param="types")
    return page(
        call,
        [
            each
            for each in call.state.newest(THIN)
            if (types is None or each["type"] in types)
            and params.get("object_id") in (None, each.get("related_object", {}).get("id"))
            and within(each["_at"], params.get("created", {}))
        ],
    )
