"""Billing meters."""

from sandbox.errors import ApiError
from sandbox.params import Enum, Obj, Str
from sandbox.routing import Call, get, lists, post
from sandbox.store import Object

PAYLOAD_KEY = Str(max=100)


@post(
    "/v1/billing/meters",
    {
        "customer_mapping": Obj({"event_payload_key!": PAYLOAD_KEY, "type!": Enum("by_id")}),
        "default_aggregation!": Obj({"formula!": Enum("sum", "count", "last")}),
        "display_name!": Str(max=250),
        "event_name!": Str(max=100),
        "value_settings": Obj({"event_payload_key!": PAYLOAD_KEY}),
        "event_time_window": Enum("hour", "day"),
    },
)
def create(call: Call) -> Object:
    state, params = call.state, call.params
    for other in state.every("billing.meter"):
        if other["status"] == "active" and other["event_name"] == params["event_name"]:
            raise ApiError(
                f"There is already an active meter with event name `{params['event_name']}`. Event "
                "names must be "
                "unique among active meters.",
                param="event_name",
            )
    return state.create(
        state.new(
            "billing.meter",
            customer_mapping=params.get(
                "customer_mapping", {"event_payload_key": "stripe_customer_id", "type": "by_id"}
            ),
            default_aggregation=params["default_aggregation"],
            display_name=params["display_name"],
            event_name=params["event_name"],
            event_time_window=params.get("event_time_window"),
            status="active",
            status_transitions={"deactivated_at": None},
            updated=state.now(),
            value_settings=params.get("value_settings", {"event_payload_key": "value"}),
        ),
        event="billing.meter.created",
    )


@get("/v1/billing/meters/<id>")
def retrieve(call: Call) -> Object:
    return call.state.get("billing.meter", call.args["id"], noun="meter")


@post("/v1/billing/meters/<id>", {"display_name": Str(max=250)})
def update(call: Call) -> Object:
    state = call.state
    meter = state.get("billing.meter", call.args["id"], noun="meter")
    before = state.render(meter)
    if call.params.get("display_name", meter["display_name"]) != meter["display_name"]:
        meter.update(display_name=call.params["display_name"], updated=state.now())
    return state.update(meter, before=before, event="billing.meter.updated")


@post("/v1/billing/meters/<id>/deactivate")
def deactivate(call: Call) -> Object:
    state = call.state
    meter = state.get("billing.meter", call.args["id"], noun="meter")
    if meter["status"] == "inactive":
        raise ApiError("This meter is already inactive.")
    meter.update(status="inactive", updated=state.now(), status_transitions={"deactivated_at": state.now()})
    return state.create(meter, event="billing.meter.deactivated")


@post("/v1/billing/meters/<id>/reactivate")
def reactivate(call: Call) -> Object:
    state = call.state
    meter = state.get("billing.meter", call.args["id"], noun="meter")
    if meter["status"] == "active":
        raise ApiError("This meter is already active.")
    for other in state.every("billing.meter"):
        if other["status"] == "active" and other["event_name"] == meter["event_name"]:
            raise ApiError(f"There is already an active meter with event name `{meter['event_name']}`.")
    meter.update(status="active", updated=state.now(), status_transitions={"deactivated_at": None})
    return state.create(meter, event="billing.meter.reactivated")


@lists("/v1/billing/meters", {"status": Enum("active", "inactive")})
def index(call: Call) -> Object:
    status = call.params.get("status")
    return call.page(
        [each for each in call.state.newest("billing.meter") if status in (None, each["status"])]
    )
