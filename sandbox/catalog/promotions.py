"""Promotion codes as people type them."""

from sandbox.catalog.redeeming import is_active, redeemable
from sandbox.errors import ApiError
from sandbox.state import Sandbox
from sandbox.store import Object


def find_promotion_code(state: Sandbox, text: str, *, customer: str | None) -> Object | None:
    """Return the promotion code a customer may redeem by these letters, whatever their case, or None.

    A code made for one customer comes before one for all; to others it does not exist.
    """
    wanted = text.strip().lower()
    found = [
        each
        for each in state.every("promotion_code")
        if each["code"].lower() == wanted and each["customer"] in (None, customer) and is_active(state, each)
    ]
    found.sort(key=lambda each: each["customer"] is None)
    return found[0] if found else None


def refusal_of_code(
    state: Sandbox, text: str, *, customer: str | None, subtotal: int, currency: str
) -> tuple[Object | None, str | None]:
    """Return the code to redeem for a purchase of `subtotal` minor units, or why there is none."""
    code = find_promotion_code(state, text, customer=customer)
    if code is None:
        return None, "This code is invalid."
    try:
        redeemable(
            state, {"promotion_code": code["id"]}, customer=customer, subtotal=subtotal, currency=currency
        )
    except ApiError as error:
        return None, _plain(error)
    return code, None


def _plain(error: ApiError) -> str:
    code = error.body["error"].get("code")
    if code == "promotion_code_customer_not_first_time":
        return "This code is only valid for a first purchase."
    if code == "promotion_code_customer_missing_first_time":
        return "Enter your e-mail address before this code."
    return str(error.body["error"]["message"])
