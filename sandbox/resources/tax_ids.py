"""Tax ids of customers, and the account's own."""

from typing import Any

from sandbox import ranks
from sandbox.agenda import due
from sandbox.catalog.identifying import TYPES, VERIFIED, check_tax_id, country_of, verified
from sandbox.errors import ApiError, missing_parameter, missing_resource
from sandbox.params import ID, Enum, Obj, Str, Table, unsupported
from sandbox.render import expandable
from sandbox.routing import Call, delete, get, lists, post
from sandbox.state import Sandbox
from sandbox.store import Object

DATA: Table = {"type!": Enum(*TYPES), "value!": Str()}
OWNER = Obj(
    {
        "customer": ID,
        "type!": Enum("account", "application", "customer", "self"),
        **unsupported("account", "customer_account"),
    }
)

expandable("tax_id", {"customer": "customer", "owner.customer": "customer"})


def new_tax_id(
    state: Sandbox, *, type: str, value: str, customer: str | None, param: str = "value"
) -> Object:
    """Store and tell of a tax id of a customer, or of the account. Raises ApiError for a bad value."""
    kept = check_tax_id(type, value, param=param)
    owner: Object = {"type": "self"} if customer is None else {"customer": customer, "type": "customer"}
    tax_id = state.new(
        "tax_id",
        country=country_of(type, kept),
        customer=customer,
        customer_account=None,
        owner=owner,
        type=type,
        value=kept,
        verification=_verification("pending" if type in VERIFIED else "unavailable"),
    )
    state.create(tax_id, event="customer.tax_id.created" if customer else None)
    if type in VERIFIED:
        # A register is asked in real time, whatever clock the customer lives by.
        with state.on_clock(None):
            state.agenda.set("tax_id_verification", tax_id["id"], state.now())
    return tax_id


def _verification(status: str) -> Object:
    return {"status": status, "verified_address": None, "verified_name": None}


@due("tax_id_verification", rank=ranks.EXPIRY)
def verify(state: Sandbox, identifier: str) -> None:
    """Note what the register says of a tax id."""
    tax_id = state.find("tax_id", identifier)
    if tax_id is None:
        return
    before = state.render(tax_id)
    tax_id["verification"] = _verification(verified(tax_id["value"]))
    if tax_id["customer"]:
        state.update(tax_id, before=before, event="customer.tax_id.updated")
    else:
        state.put(tax_id)


def _of_customer(call: Call) -> Object:
    customer = call.state.get_customer(call.args["customer"], status=404)
    found = call.state.find("tax_id", call.args["id"])
    if found is None or found["customer"] != customer["id"]:
        raise missing_resource("tax_id", call.args["id"])
    return found


def _remove(state: Sandbox, tax_id: Object) -> Object:
    if tax_id["customer"]:
        state.emit("customer.tax_id.deleted", tax_id)
    state.agenda.drop("tax_id_verification", identifier=tax_id["id"])
    state.store.remove("tax_id", tax_id["id"])
    return {"id": tax_id["id"], "object": "tax_id", "deleted": True}


@post("/v1/customers/<customer>/tax_ids", DATA)
def create_for_customer(call: Call) -> Object:
    customer = call.state.get_customer(call.args["customer"], status=404)
    return new_tax_id(call.state, **call.params, customer=customer["id"])


@get("/v1/customers/<customer>/tax_ids/<id>")
def retrieve_of_customer(call: Call) -> Object:
    return _of_customer(call)


@delete("/v1/customers/<customer>/tax_ids/<id>")
def remove_from_customer(call: Call) -> Object:
    return _remove(call.state, _of_customer(call))


@lists("/v1/customers/<customer>/tax_ids")
def index_of_customer(call: Call) -> Object:
    customer = call.state.get_customer(call.args["customer"], status=404)
    return call.page([each for each in call.state.newest("tax_id") if each["customer"] == customer["id"]])


def _owner(state: Sandbox, params: dict[str, Any]) -> str | None:
    """Return the customer a request speaks of, None for the account itself."""
    owner = params.get("owner", {"type": "self"})
    if owner["type"] in ("account", "application"):
        raise ApiError(
            f"The sandbox has no owner of type {owner['type']} (Stripe does).",
            code="sandbox_unsupported",
            param="owner[type]",
        )
    if owner["type"] == "self":
        if "customer" in owner:
            raise ApiError("`owner[customer]` needs `owner[type]=customer`.", param="owner[customer]")
        return None
    if "customer" not in owner:
        raise missing_parameter("owner[customer]")
    return str(state.get_customer(owner["customer"], param="owner[customer]")["id"])


@post("/v1/tax_ids", {**DATA, "owner": OWNER})
def create(call: Call) -> Object:
    params = call.params
    owner = _owner(call.state, params)
    return new_tax_id(call.state, type=params["type"], value=params["value"], customer=owner)


@get("/v1/tax_ids/<id>")
def retrieve(call: Call) -> Object:
    return call.state.get("tax_id", call.args["id"])


@delete("/v1/tax_ids/<id>")
def remove(call: Call) -> Object:
    return _remove(call.state, call.state.get("tax_id", call.args["id"]))


@lists("/v1/tax_ids", {"owner": OWNER})
def index(call: Call) -> Object:
    owner = _owner(call.state, call.params)
    return call.page([each for each in call.state.newest("tax_id") if each["customer"] == owner])
