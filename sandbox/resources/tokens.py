"""Tokens: card details given once, to be used once."""

from sandbox.errors import missing_parameter
from sandbox.params import STR, Enum, Obj, OneOf, unsupported
from sandbox.payments.cards import COUNTRIES, FUNDING, brand_of, number_of
from sandbox.payments.methods import checked_number, fingerprint_of
from sandbox.routing import Call, get, post
from sandbox.state import Sandbox
from sandbox.store import Object

ADDRESS = (
    "address_city",
    "address_country",
    "address_line1",
    "address_line2",
    "address_state",
    "address_zip",
)
# What this older object calls a brand.
BRANDS = {
    "amex": "American Express",
    "diners": "Diners Club",
    "discover": "Discover",
    "jcb": "JCB",
    "mastercard": "MasterCard",
    "unionpay": "UnionPay",
    "visa": "Visa",
}


@post(
    "/v1/tokens",
    {
        "card": OneOf(
            Obj(
                {
                    "number!": STR,
                    "exp_month!": STR,
                    "exp_year!": STR,
                    "cvc": STR,
                    "currency": STR,
                    "name": STR,
                    "networks": Obj({"preferred": Enum("cartes_bancaires", "mastercard", "visa")}),
                    **dict.fromkeys(ADDRESS, STR),
                }
            ),
            STR,
        ),
        **unsupported("account", "bank_account", "customer", "cvc_update", "person", "pii"),
    },
)
def create(call: Call) -> Object:
    card = call.params.get("card")
    if not isinstance(card, dict):
        # A card by id belongs to Connect, which the sandbox has none of.
        raise missing_parameter("card")
    return new_token(call.state, checked_number(call.state, card), card)


def new_token(state: Sandbox, number: str, given: Object) -> Object:
    """Store and return a token of a card; `given` holds its expiry and perhaps name, cvc and address."""
    brand = brand_of(number)
    year = int(given["exp_year"])
    card: Object = {
        "id": state.new_id("card"),
        "object": "card",
        **{part: given.get(part) for part in ADDRESS},
        "address_line1_check": "pass" if "address_line1" in given else None,
        "address_zip_check": "pass" if "address_zip" in given else None,
        "brand": BRANDS[brand],
        "country": COUNTRIES.get(number, "US"),
        "cvc_check": "unchecked" if "cvc" in given else None,
        "dynamic_last4": None,
        "exp_month": int(given["exp_month"]),
        "exp_year": year + 2000 if year < 100 else year,
        "fingerprint": fingerprint_of(state, number),
        "funding": FUNDING.get(number, "credit"),
        "last4": number[-4:],
        "metadata": {},
        "name": given.get("name"),
        "networks": {"preferred": given.get("networks", {}).get("preferred")},
        "regulated_status": "unregulated",
        "tokenization_method": None,
    }
    return state.put(state.new("token", card=card, client_ip=None, type="card", used=False, _number=number))


@get("/v1/tokens/<id>")
def retrieve(call: Call) -> Object:
    state, identifier = call.state, call.args["id"]
    number = number_of(identifier) if identifier.startswith("tok_") else None
    if number is not None:
        return new_token(state, number, {"exp_month": 12, "exp_year": state.clock.today().year + 3})
    return state.get("token", identifier, param="token")
