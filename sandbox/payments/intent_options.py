"""What payment intents and setup intents take alike: ways of paying, return addresses, secrets, 3-D Secure."""

import hmac
from typing import Any

from sandbox.catalog.amounts import money_text
from sandbox.errors import ApiError, unsupported_parameter
from sandbox.params import (
    ADDRESS,
    BOOL,
    STR,
    TIME,
    EmptyOr,
    Enum,
    ListOf,
    Obj,
    Str,
    Table,
    unsupported,
)
from sandbox.payments.methods import address
from sandbox.store import Object

# In minor units; half a major unit in most currencies.
SMALLEST = {"gbp": 30, "jpy": 50}
LARGEST = 99_999_999
AUTOMATIC = Obj({"enabled!": BOOL, "allow_redirects": Enum("always", "never")})
DESCRIPTOR = Str(max=22)
METHOD_TYPES = ListOf(STR)
MANDATE_DATA = EmptyOr(
    Obj(
        {
            "customer_acceptance!": Obj(
                {
                    "type!": Enum("offline", "online"),
                    "accepted_at": TIME,
                    "offline": Obj({}),
                    "online": Obj({"ip_address": STR, "user_agent": STR}),
                }
            )
        }
    )
)
SHIPPING = EmptyOr(
    Obj({"address!": ADDRESS, "name!": STR, "carrier": STR, "phone": STR, "tracking_number": STR})
)
NETWORK = Enum(
    "amex",
    "cartes_bancaires",
    "diners",
    "discover",
    "eftpos_au",
    "girocard",
    "interac",
    "jcb",
    "link",
    "mastercard",
    "unionpay",
    "unknown",
    "visa",
)
CARD_OPTIONS: Table = {
    "request_three_d_secure": Enum("any", "automatic", "challenge"),
    "network": NETWORK,
    **unsupported("mandate_options", "three_d_secure"),
}


def method_options(card: Table, *, others: tuple[str, ...]) -> Obj:
    """Return the type of payment_method_options, of which the sandbox knows the card's."""
    return Obj({"card": EmptyOr(Obj(card)), **unsupported(*others)})


def shipping(given: dict[str, Any] | None) -> Object | None:
    if given is None:
        return None
    names = ("carrier", "name", "phone", "tracking_number")
    return {"address": address(given["address"]), **{name: given.get(name) for name in names}}


def automatic_methods(params: dict[str, Any]) -> Object | None:
    """Return automatic_payment_methods as a new intent has it: on, unless types are listed by hand.

    Raises ApiError where both are given, or a type other than card.
    """
    given = params.get("automatic_payment_methods")
    types = params.get("payment_method_types")
    if types is not None:
        if given is not None and given["enabled"]:
            raise ApiError(
                "You may only specify one of these parameters: automatic_payment_methods, "
                "payment_method_types."
            )
        if any(each != "card" for each in types):
            raise unsupported_parameter("payment_method_types")
        return None
    if given is not None and not given["enabled"]:
        return None
    return {"allow_redirects": (given or {}).get("allow_redirects", "always"), "enabled": True}


def check_return_url(intent: Object) -> None:
    """Raise ApiError where an intent that may redirect its payer is confirmed without a return_url."""
    automatic = intent["automatic_payment_methods"]
    redirects = automatic is not None and automatic["allow_redirects"] == "always"
    if redirects and intent["_return_url"] is None and not intent["_use_stripe_sdk"]:
        noun = "PaymentIntent" if intent["object"] == "payment_intent" else "SetupIntent"
        raise ApiError(
            f"This {noun} is configured to accept payment methods enabled in your Dashboard. Because some of "
            "these payment methods might redirect your customer off of your page, you must provide a "
            "`return_url`. If you don't want to accept redirect-based payment methods, set "
            "`automatic_payment_methods[enabled]` to `true` and `automatic_payment_methods[allow_redirects]` "
            "to `never` when creating Setup Intents and Payment Intents."
        )


def check_secret(intent: Object, params: dict[str, Any]) -> None:
    """Raise ApiError where a client_secret is given that is not the intent's."""
    given = params.get("client_secret")
    if given is not None and not hmac.compare_digest(given.encode(), intent["client_secret"].encode()):
        noun = "PaymentIntent" if intent["object"] == "payment_intent" else "SetupIntent"
        raise ApiError(
            f"The client_secret provided does not match the client_secret associated with the {noun}.",
            code=f"{intent['object']}_invalid_parameter",
            param="client_secret",
        )


def only_with_confirm(params: dict[str, Any], *names: str) -> None:
    """Raise ApiError where a parameter of the confirmation comes with an intent that is not confirmed yet."""
    if params.get("confirm"):
        return
    for name in names:
        if name in params:
            raise ApiError(f"You may only specify `{name}` when `confirm` is `true`.", param=name)


def apply_card_options(intent: Object, params: dict[str, Any]) -> None:
    card = (params.get("payment_method_options") or {}).get("card")
    if card:
        intent["payment_method_options"]["card"].update(card)


def check_amount(amount: int, currency: str) -> None:
    """Raise ApiError (400) for an amount that Stripe charges no card: too small, or too large."""
    if amount < 1:
        raise ApiError(
            "This value must be greater than or equal to 1.",
            code="parameter_invalid_integer",
            param="amount",
        )
    least = SMALLEST.get(currency, 50)
    if amount < least:
        text = money_text(least, currency)
        raise ApiError(f"Amount must be at least {text} {currency}", code="amount_too_small", param="amount")
    if amount > LARGEST:
        text = money_text(LARGEST, currency)
        raise ApiError(f"Amount must be no more than {text}", code="amount_too_large", param="amount")
