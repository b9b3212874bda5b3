"""The account's tax settings: where it is, and what its prices mean by default."""

from typing import Any

from sandbox.catalog.taxing import SETTINGS, missing_settings, new_settings
from sandbox.errors import ApiError
from sandbox.params import STR, Enum, Obj, Str
from sandbox.render import computed, differences
from sandbox.resources.tax_codes import check_tax_code
from sandbox.routing import Call, get, post
from sandbox.state import Sandbox
from sandbox.store import Object

OFFICE = Obj(
    {
        "address!": Obj(
            {
                "city": STR,
                "country": Str(max=2, pattern="[A-Za-z]{2}"),
                "line1": STR,
                "line2": STR,
                "postal_code": STR,
                "state": STR,
            }
        )
    }
)

computed(SETTINGS, "status", lambda state, row: "pending" if missing_settings(row) else "active")
computed(SETTINGS, "status_details", lambda state, row: _details(row))


def _details(settings: Object) -> dict[str, Any]:
    missing = missing_settings(settings)
    return {"pending": {"missing_fields": missing}} if missing else {"active": {}}


def _settings(state: Sandbox) -> Object:
    return state.find(SETTINGS, SETTINGS) or new_settings()


@get("/v1/tax/settings")
def retrieve(call: Call) -> Object:
    return _settings(call.state)


@post(
    "/v1/tax/settings",
    {
        "defaults": Obj(
            {"tax_behavior": Enum("exclusive", "inclusive", "inferred_by_currency"), "tax_code": STR}
        ),
        "head_office": OFFICE,
    },
)
def update(call: Call) -> Object:
    state, params = call.state, call.params
    settings = _settings(state)
    before = state.render(settings)
    defaults = params.get("defaults", {})
    if "tax_code" in defaults:
        check_tax_code(defaults["tax_code"], param="defaults[tax_code]")
    settings["defaults"] = {**settings["defaults"], **defaults}
    if "head_office" in params:
        given = params["head_office"]["address"]
        if not given.get("country") or (given["country"].upper() == "US" and not given.get("state")):
            raise ApiError(
                "The head office's address needs a country, and in the United States a state.",
                param="head_office[address]",
            )
        address = {
            part: given.get(part) for part in ("city", "country", "line1", "line2", "postal_code", "state")
        }
        settings["head_office"] = {"address": {**address, "country": given["country"].upper()}}
    # The settings are the one object without an id.
    state.store.put(SETTINGS, SETTINGS, settings)
    previous = differences(before, state.render(settings))
    if previous:
        state.emit("tax.settings.updated", settings, previous=previous)
    return settings
