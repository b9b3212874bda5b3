"""Events: what happened, newest first."""

from sandbox.errors import ApiError
from sandbox.params import BOOL, RANGE, STR, ListOf
from sandbox.routing import Call, get, lists
from sandbox.store import Object


@get("/v1/events/<id>")
def retrieve(call: Call) -> Object:
    return call.state.get("event", call.args["id"])


@lists("/v1/events", {"created": RANGE, "delivery_success": BOOL, "type": STR, "types": ListOf(STR)})
def index(call: Call) -> Object:
    params = call.params
    if "type" in params and "types" in params:
        raise ApiError("You may only specify one of these parameters: type, types.")
    wanted = params.get("types") or ([params["type"]] if "type" in params else None)
    return call.page(
        [
            each
            for each in call.state.newest("event")
            if (wanted is None or any(_meets(each["type"], pattern) for pattern in wanted))
            and (
                "delivery_success" not in params
                or (each["pending_webhooks"] == 0) is params["delivery_success"]
            )
        ]
    )


def _meets(type: str, pattern: str) -> bool:
    return type == pattern or (pattern.endswith("*") and type.startswith(pattern[:-1]))
