"""Meter events, their adjustments and their summaries, under /v1."""

from sandbox.errors import missing_parameter
from sandbox.meters.metering import Report, cancel, take
from sandbox.meters.summarizing import summaries
from sandbox.params import ID, TIME, Enum, Obj, Str, Strings
from sandbox.routing import Call, lists, post
from sandbox.store import Object

IDENTIFIER = Str(max=100)
EVENT_NAME = Str(max=100)


@post(
    "/v1/billing/meter_events",
    {"event_name!": EVENT_NAME, "identifier": IDENTIFIER, "payload!": Strings(max=100), "timestamp": TIME},
)
def create(call: Call) -> Object:
    row = take(call.state, Report(**call.params))
    return {
        "object": "billing.meter_event",
        "created": row["created"],
        "event_name": row["event_name"],
        "identifier": row["identifier"],
        "livemode": False,
        "payload": row["payload"],
        "timestamp": row["timestamp"],
    }


@post(
    "/v1/billing/meter_event_adjustments",
    {"cancel": Obj({"identifier": IDENTIFIER}), "event_name!": EVENT_NAME, "type!": Enum("cancel")},
)
def adjust(call: Call) -> Object:
    params = call.params
    if "identifier" not in params.get("cancel", {}):
        raise missing_parameter("cancel[identifier]")
    cancel(call.state, event_name=params["event_name"], identifier=params["cancel"]["identifier"])
    return {
        "object": "billing.meter_event_adjustment",
        "cancel": params["cancel"],
        "event_name": params["event_name"],
        "livemode": False,
        "status": "pending",
        "type": "cancel",
    }


@lists(
    "/v1/billing/meters/<id>/event_summaries",
    {
        "customer!": ID,
        "end_time!": TIME,
        "start_time!": TIME,
        "value_grouping_window": Enum("hour", "day"),
    },
)
def index_summaries(call: Call) -> Object:
    state, params = call.state, call.params
    meter = state.get("billing.meter", call.args["id"], noun="meter")
    customer = state.get_customer(params["customer"])
    return call.page(
        summaries(
            state,
            meter,
            customer=customer["id"],
            start=params["start_time"],
            end=params["end_time"],
            window=params.get("value_grouping_window"),
        )
    )
