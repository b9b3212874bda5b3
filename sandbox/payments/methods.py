"""Card payment methods: making them, finding them, giving them to customers."""

import hashlib
from typing import Any

from sandbox.errors import ApiError, missing_resource
from sandbox.payments.cards import (
    COUNTRIES,
    FUNDING,
    NOT_FOR_TESTS,
    brand_of,
    decline_of,
    is_card_number,
    is_test_number,
    number_of,
)
from sandbox.state import Sandbox
from sandbox.store import Object

ADDRESS_PARTS = ("city", "country", "line1", "line2", "postal_code", "state")
# A card that paid once without being saved, or that was taken off its customer, is spent.
SPENT = (
    "This PaymentMethod was previously used without being attached to a Customer or was detached from a "
    "Customer, and may not be used again."
)


def address(given: dict[str, Any] | None) -> Object:
    return {part: (given or {}).get(part) for part in ADDRESS_PARTS}


def billing_details(given: dict[str, Any] | None = None) -> Object:
    given = given or {}
    return {
        "address": address(given.get("address")),
        "email": given.get("email"),
        "name": given.get("name"),
        "phone": given.get("phone"),
        "tax_id": given.get("tax_id"),
    }


def fingerprint_of(state: Sandbox, number: str) -> str:
    # One number is one fingerprint within an account, which is how a card is recognised again.
    return hashlib.sha256(f"{state.account_id}{number}".encode()).hexdigest()[:16]


def new_card(
    state: Sandbox,
    number: str,
    *,
    exp_month: int = 12,
    exp_year: int | None = None,
    details: dict[str, Any] | None = None,
) -> Object:
    """Store and return a card payment method that belongs to nobody yet."""
    brand = brand_of(number)
    return state.put(
        state.new(
            "payment_method",
            allow_redisplay="unspecified",
            billing_details=billing_details(details),
            card={
                "brand": brand,
                "checks": {
                    "address_line1_check": None,
                    "address_postal_code_check": None,
                    "cvc_check": "pass",
                },
                "country": COUNTRIES.get(number, "US"),
                "display_brand": brand,
                "exp_month": exp_month,
                "exp_year": exp_year or state.clock.today().year + 3,
                "fingerprint": fingerprint_of(state, number),
                "funding": FUNDING.get(number, "credit"),
                "generated_from": None,
                "last4": number[-4:],
                "networks": {"available": [brand], "preferred": None},
                "regulated_status": "unregulated",
                "three_d_secure_usage": {"supported": True},
                "wallet": None,
            },
            customer=None,
            customer_account=None,
            metadata={},
            type="card",
            _number=number,
        )
    )


def resolve(state: Sandbox, identifier: str, *, param: str = "payment_method", status: int = 400) -> Object:
    """Return a payment method by id, or a new card for a test name. Raises ApiError (`resource_missing`)."""
    found = state.find("payment_method", identifier)
    if found is not None:
        return found
    number = number_of(identifier) if identifier.startswith("pm_card_") else None
    if number is None:
        raise missing_resource("PaymentMethod", identifier, param=param, status=status)
    return new_card(state, number)


def get_attached(state: Sandbox, identifier: str, *, customer: str, param: str) -> Object:
    """Return a customer's payment method. Raises ApiError (400) for one that is another's or nobody's."""
    method = state.find("payment_method", identifier)
    if method is None and number_of(identifier) is None:
        raise missing_resource("PaymentMethod", identifier, param=param, status=400)
    if method is None or method["customer"] != customer:
        raise _not_attached(identifier, param=param)
    return method


def _not_attached(identifier: str, *, param: str) -> ApiError:
    return ApiError(
        f"The customer does not have a payment method with the ID {identifier}. The payment method must be "
        "attached to the customer.",
        code="resource_missing",
        param=param,
    )


def usable(state: Sandbox, identifier: str, *, customer: str | None, on: str = "PaymentIntent") -> Object:
    """Return the card an intent may use: its customer's, or one that is nobody's yet.

    Raises ApiError (400) for one that is not there, another's, or spent.
    """
    method = resolve(state, identifier)
    if method["customer"] is not None and method["customer"] != customer:
        if customer is not None:
            raise _not_attached(identifier, param="payment_method")
        raise ApiError(
            f"The provided PaymentMethod {identifier} belongs to the Customer {method['customer']}. Please "
            f"include the Customer in the `customer` parameter on the {on}.",
            param="payment_method",
        )
    if method["customer"] is None and method.get("_detached"):
        raise ApiError(SPENT, param="payment_method")
    return method


def attach(state: Sandbox, method: Object, *, customer: Object) -> Object:
    """Attach a card. Raises ApiError: 402 for a card that declines, 400 for one that is another's."""
    if method["customer"] == customer["id"]:
        return method
    if method["customer"] is not None or method.get("_detached"):
        raise ApiError(
            SPENT
            if method.get("_detached")
            else "The payment method you provided has already been attached to a customer.",
            code=None if method.get("_detached") else "payment_method_unexpected_state",
        )
    decline = decline_of(method, charged=False)
    if decline is not None:
        raise decline.error()
    return _give(state, method, customer=customer["id"])


def _give(state: Sandbox, method: Object, *, customer: str) -> Object:
    method["customer"] = customer
    state.put(method)
    state.emit("payment_method.attached", method)
    return method


def keep(state: Sandbox, method: Object, *, customer: str | None) -> None:
    """Attach a card that was set up to the customer it is for, where it is not theirs already."""
    if customer is not None and method["customer"] is None:
        _give(state, method, customer=customer)


def keep_after_payment(state: Sandbox, method: Object, *, intent: Object) -> None:
    """Save a card that paid where the intent says so; one that nobody saves cannot be used again."""
    if method["customer"] is not None:
        return
    if intent["setup_future_usage"] is not None and intent["customer"] is not None:
        _give(state, method, customer=intent["customer"])
    elif intent["setup_future_usage"] is None:
        method["_detached"] = True
        state.put(method)


def card_error(message: str, *, code: str, param: str) -> ApiError:
    return ApiError(message, status=402, type="card_error", code=code, param=param)


def checked_number(state: Sandbox, card: dict[str, Any]) -> str:
    """Return the digits of a card given by number. Raises ApiError (402) for one that no bank issued.

    `card` holds number, exp_month, exp_year and perhaps cvc.
    """
    number = str(card["number"]).replace(" ", "").replace("-", "")
    if not is_card_number(number):
        raise card_error("Your card number is incorrect.", code="incorrect_number", param="number")
    if not is_test_number(number):
        raise NOT_FOR_TESTS.error(param="number")
    today = state.clock.today()
    month, year = int(card["exp_month"]), int(card["exp_year"])
    year += 2000 if year < 100 else 0
    if not 1 <= month <= 12 or (year == today.year and month < today.month):
        raise card_error(
            "Your card's expiration month is invalid.", code="invalid_expiry_month", param="exp_month"
        )
    if not today.year <= year <= today.year + 50:
        raise card_error(
            "Your card's expiration year is invalid.", code="invalid_expiry_year", param="exp_year"
        )
    length = 4 if brand_of(number) == "amex" else 3
    if "cvc" in card and not (card["cvc"].isdigit() and len(card["cvc"]) in (3, length)):
        raise card_error("Your card's security code is invalid.", code="invalid_cvc", param="cvc")
    return number


def of_token(state: Sandbox, token: str, *, param: str, details: dict[str, Any] | None = None) -> Object:
    """Return a new card from a token, which works once, or from a test name (`tok_visa`).

    Raises ApiError (400) for a token that is not there or was used.
    """
    number = number_of(token) if token.startswith("tok_") else None
    if number is not None:
        return new_card(state, number, details=details)
    found = state.find("token", token)
    if found is None:
        raise missing_resource("token", token, param=param, status=400)
    if found["used"]:
        raise ApiError(
            f"You cannot use a Stripe token more than once: {token}.", code="token_already_used", param=param
        )
    found["used"] = True
    state.put(found)
    card = found["card"]
    return new_card(
        state, found["_number"], exp_month=card["exp_month"], exp_year=card["exp_year"], details=details
    )


def renew(state: Sandbox, method: Object) -> Object:
    """Let the card's bank have issued it anew, for four years more, and the network have passed that on."""
    before = state.render(method)
    method["card"] = {**method["card"], "exp_year": method["card"]["exp_year"] + 4}
    return state.update(method, before=before, event="payment_method.automatically_updated")
