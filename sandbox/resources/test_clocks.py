"""Test clocks: a time of their own for the customers on them."""

from sandbox.clock import boundary_after
from sandbox.errors import ApiError, missing_parameter
from sandbox.params import ID, TIME, Str
from sandbox.routing import Call, delete, get, lists, post
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.leaving import part_with
from sandbox.subscriptions.subscribing import ENDED, items_of
from sandbox.timeline import CLOCK

KEPT_FOR = 30 * 86400


@post("/v1/test_helpers/test_clocks", {"frozen_time!": TIME, "name": Str(max=300), "customer": ID})
def create(call: Call) -> Object:
    state, params = call.state, call.params
    if "customer" in params:
        raise ApiError(
            "The sandbox puts customers on a clock when they are created only: pass `test_clock` there.",
            code="sandbox_unsupported",
            param="customer",
        )
    clock = state.new(
        CLOCK,
        # A clock's own dates are those of the world outside it.
        deletes_after=state.clock.now() + KEPT_FOR,
        frozen_time=params["frozen_time"],
        name=params.get("name"),
        status="ready",
        status_details={},
        _target=None,
    )
    return state.create(clock, event="test_helpers.test_clock.created")


def _get(call: Call) -> Object:
    return call.state.get(CLOCK, call.args["id"], noun="testclock", param="test_clock")


@get("/v1/test_helpers/test_clocks/<id>")
def retrieve(call: Call) -> Object:
    return _get(call)


@post("/v1/test_helpers/test_clocks/<id>/advance", {"frozen_time!": TIME})
def advance(call: Call) -> Object:
    """Set off towards a later time. What falls due on the way is done before the next request is answered."""
    state, target = call.state, call.params.get("frozen_time")
    if target is None:
        raise missing_parameter("frozen_time")
    clock = _get(call)
    if clock["status"] != "ready":
        raise ApiError("Test clock advancement underway - cannot perform modifications.", status=429)
    if target <= clock["frozen_time"]:
        raise ApiError(
            "The new frozen_time must be after the clock's current frozen_time.", param="frozen_time"
        )
    furthest = _furthest(state, clock)
    if furthest is not None and target > furthest:
        raise ApiError(
            "Cannot advance the test clock by more than two intervals of the shortest subscription on it: "
            f"at most to {furthest}.",
            param="frozen_time",
        )
    clock.update(status="advancing", status_details={"advancing": {"target_frozen_time": target}})
    clock["_target"] = target
    state.put(clock)
    state.emit("test_helpers.test_clock.advancing", clock)
    return clock


def _furthest(state: Sandbox, clock: Object) -> int | None:
    """Return two intervals ahead by the shortest live price on the clock, None where there is none."""
    ends = []
    for subscription in state.every("subscription"):
        if subscription["test_clock"] != clock["id"] or subscription["status"] in ENDED:
            continue
        for item in items_of(state, subscription):
            recurring = state.get("price", item["price"])["recurring"]
            ends.append(
                boundary_after(
                    clock["frozen_time"],
                    interval=recurring["interval"],
                    count=2 * recurring["interval_count"],
                    after=clock["frozen_time"],
                )
            )
    return min(ends, default=None)


@delete("/v1/test_helpers/test_clocks/<id>")
def remove(call: Call) -> Object:
    """Delete the clock with the customers on it, as Stripe does; their subscriptions end."""
    state, clock = call.state, _get(call)
    with state.on_clock(clock["id"]):
        for customer in list(state.every("customer")):
            if customer.get("test_clock") != clock["id"]:
                continue
            part_with(state, customer)
            state.emit("customer.deleted", state.get("customer", customer["id"]))
            state.put({"id": customer["id"], "object": "customer", "deleted": True})
    state.agenda.forget_clock(clock["id"])
    state.emit("test_helpers.test_clock.deleted", clock)
    state.store.remove(CLOCK, clock["id"])
    return {"id": clock["id"], "object": CLOCK, "deleted": True}


@lists("/v1/test_helpers/test_clocks")
def index(call: Call) -> Object:
    return call.page(call.state.newest(CLOCK))
