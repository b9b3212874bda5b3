"""Meter events under /v2: one at a time, adjusted, and streamed with a session's token."""

from sandbox.errors import ApiError
from sandbox.meters.metering import Report, cancel, take_checked, take_streamed
from sandbox.meters.metering_session import STREAM, open_session
from sandbox.params import Enum, ListOf, Obj, Str
from sandbox.routing import Call, post
from sandbox.store import Object
from sandbox.v2 import Texts, Time, iso

MOST_AT_ONCE = 100
EVENT = {
    "event_name!": Str(max=100),
    "identifier": Str(max=100),
    "payload!": Texts(max=100),
    "timestamp": Time(),
}


@post("/v2/billing/meter_events", EVENT)
def create(call: Call) -> Object:
    row = take_checked(call.state, Report(**call.params))
    return {
        "object": "v2.billing.meter_event",
        "created": iso(row["created"]),
        "event_name": row["event_name"],
        "identifier": row["identifier"],
        "livemode": False,
        "payload": row["payload"],
        "timestamp": iso(row["timestamp"]),
    }


@post("/v2/billing/meter_event_session")
def create_session(call: Call) -> Object:
    return open_session(call.state)


@post(STREAM, {"events!": ListOf(Obj(EVENT))})
def stream(call: Call) -> Object:
    events = call.params["events"]
    if not 1 <= len(events) <= MOST_AT_ONCE:
        raise ApiError(f"A request carries 1 to {MOST_AT_ONCE} events, not {len(events)}.", param="events")
    for each in events:
        take_streamed(call.state, Report(**each))
    return {}


@post(
    "/v2/billing/meter_event_adjustments",
    {"cancel!": Obj({"identifier!": Str(max=100)}), "event_name!": Str(max=100), "type!": Enum("cancel")},
)
def adjust(call: Call) -> Object:
    state, params = call.state, call.params
    cancel(state, event_name=params["event_name"], identifier=params["cancel"]["identifier"])
    kind = "v2.billing.meter_event_adjustment"
    return {
        "id": state.new_id(kind),
        "object": kind,
        "cancel": params["cancel"],
        "created": iso(state.clock.now()),
        "event_name": params["event_name"],
        "livemode": False,
        "status": "pending",
        "type": "cancel",
    }
