"""Tax rates that a seller sets by hand."""

from typing import Any

from sandbox.errors import ApiError
from sandbox.params import (
    BOOL,
    DEC,
    METADATA,
    NEW_METADATA,
    RANGE,
    STR,
    Enum,
    Str,
    Table,
    merge_metadata,
)
from sandbox.routing import Call, get, lists, post
from sandbox.store import Object

WRITABLE: Table = {
    "active": BOOL,
    "country": Str(max=2, pattern="[A-Za-z]{2}"),
    "description": STR,
    "display_name": Str(max=50),
    "jurisdiction": Str(max=50),
    "metadata": METADATA,
    "state": Str(max=2),
    "tax_type": Enum(
        "amusement_tax",
        "communications_tax",
        "gst",
        "hst",
        "igst",
        "jct",
        "lease_tax",
        "pst",
        "qst",
        "retail_delivery_fee",
        "rst",
        "sales_tax",
        "service_tax",
        "vat",
    ),
}


@post(
    "/v1/tax_rates",
    {
        **WRITABLE,
        "metadata": NEW_METADATA,
        "display_name!": Str(max=50),
        "inclusive!": BOOL,
        "percentage!": DEC,
    },
)
def create(call: Call) -> Object:
    params = call.params
    percentage = params["percentage"]
    if not 0 <= percentage <= 100:
        raise ApiError("Invalid percentage: must be between 0 and 100.", param="percentage")
    if -percentage.as_tuple().exponent > 4:
        raise ApiError("Invalid percentage: at most four decimal places are allowed.", param="percentage")
    rate = call.state.new(
        "tax_rate",
        active=True,
        country=None,
        description=None,
        display_name=params["display_name"],
        effective_percentage=None,
        flat_amount=None,
        inclusive=params["inclusive"],
        jurisdiction=None,
        jurisdiction_level=None,
        metadata={},
        percentage=float(percentage),
        rate_type="percentage",
        state=None,
        tax_type=None,
    )
    _apply(rate, params)
    return call.state.create(rate, event="tax_rate.created")


def _apply(rate: Object, params: dict[str, Any]) -> None:
    for name in WRITABLE:
        if name == "metadata" and name in params:
            rate["metadata"] = merge_metadata(rate["metadata"], params["metadata"])
        elif name == "country" and name in params:
            rate["country"] = params["country"].upper()
        elif name in params:
            rate[name] = params[name]


@get("/v1/tax_rates/<id>")
def retrieve(call: Call) -> Object:
    return call.state.get("tax_rate", call.args["id"], param="tax_rate")


@post("/v1/tax_rates/<id>", WRITABLE)
def update(call: Call) -> Object:
    """Change what a rate is called, or archive it. Its percentage never changes."""
    rate = call.state.get("tax_rate", call.args["id"], param="tax_rate")
    before = call.state.render(rate)
    _apply(rate, call.params)
    return call.state.update(rate, before=before, event="tax_rate.updated")


@lists("/v1/tax_rates", {"active": BOOL, "created": RANGE, "inclusive": BOOL})
def index(call: Call) -> Object:
    params = call.params
    return call.page(
        [
            each
            for each in call.state.newest("tax_rate")
            if not each.get("_automatic")
            and all(each[name] is params[name] for name in ("active", "inclusive") if name in params)
        ]
    )
