"""Stripe's tax codes: the few that sellers of software use."""

import re

from sandbox.errors import missing_resource
from sandbox.routing import Call, get, lists
from sandbox.store import Object

CODES = {
    "txcd_00000000": ("Nontaxable", "Nothing is collected on it, wherever it is sold."),
    "txcd_10000000": ("General - Electronically Supplied Services", "Digital services delivered online."),
    "txcd_10103000": ("Software as a service (SaaS) - personal use", "Online software for a person."),
    "txcd_10103001": ("Software as a service (SaaS) - business use", "Online software for a business."),
    "txcd_20030000": ("General - Services", "Services of any kind done by people."),
    "txcd_92010001": ("Shipping", "Bringing goods to the buyer."),
    "txcd_99999999": ("General - Tangible Goods", "Things that can be touched."),
}


def check_tax_code(code: str, *, param: str) -> None:
    """Raise ApiError (400) for what cannot be one of Stripe's tax codes; the sandbox knows few by name."""
    if not re.fullmatch(r"txcd_[0-9]{8}", code):
        raise missing_resource("tax code", code, param=param, status=400)


def _shown(code: str) -> Object:
    name, description = CODES[code]
    return {"id": code, "object": "tax_code", "description": description, "name": name}


@get("/v1/tax_codes/<id>")
def retrieve(call: Call) -> Object:
    if call.args["id"] not in CODES:
        raise missing_resource("tax code", call.args["id"])
    return _shown(call.args["id"])


@lists("/v1/tax_codes")
def index(call: Call) -> Object:
    return call.page([_shown(each) for each in CODES])
