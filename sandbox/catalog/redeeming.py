"""Whether a coupon or a promotion code may be redeemed, and what it is worth."""

from typing import Any

from sandbox.errors import ApiError, missing_resource
from sandbox.state import Sandbox
from sandbox.store import Object


def redeemable(
    state: Sandbox,
    given: dict[str, Any],
    *,
    customer: str | None,
    subtotal: int | None = None,
    currency: str | None = None,
    param: str = "discounts[0]",
) -> tuple[Object, Object | None]:
    """Return the coupon, and the promotion code if one was given, that may be redeemed now.

    Raises ApiError (400) where Stripe would refuse; nothing is redeemed by this.
    """
    code = None
    if "promotion_code" in given:
        name = f"{param}[promotion_code]"
        code = state.find("promotion_code", given["promotion_code"])
        if code is None:
            raise missing_resource("promotion code", given["promotion_code"], param=name, status=400)
        _check_code(state, code, customer=customer, subtotal=subtotal, currency=currency, param=name)
        coupon = state.get("coupon", code["promotion"]["coupon"], param=name, status=400)
    else:
        name = f"{param}[coupon]"
        coupon = state.get("coupon", given["coupon"], param=name, status=400)
    if coupon["redeem_by"] is not None and state.now() > coupon["redeem_by"]:
        raise ApiError(f"Coupon expired: {coupon['id']}", code="coupon_expired", param=name)
    if used_up(coupon):
        raise ApiError(
            f"Coupon {coupon['id']} is used up and cannot be applied.", code="coupon_expired", param=name
        )
    if currency is not None and coupon["percent_off"] is None and amount_off(coupon, currency) is None:
        raise ApiError(
            f"The coupon {coupon['id']} has no amount in {currency}: its currency is {coupon['currency']}.",
            param=name,
        )
    return coupon, code


def is_valid(state: Sandbox, coupon: Object) -> bool:
    """Return whether a coupon may still be redeemed."""
    expired = coupon["redeem_by"] is not None and state.now() > coupon["redeem_by"]
    return not expired and not used_up(coupon)


def used_up(redeemed: Object) -> bool:
    return (
        redeemed["max_redemptions"] is not None and redeemed["times_redeemed"] >= redeemed["max_redemptions"]
    )


def is_active(state: Sandbox, code: Object) -> bool:
    """Return whether a promotion code may still be redeemed."""
    coupon = state.find("coupon", code["promotion"]["coupon"])
    expired = code["expires_at"] is not None and state.now() >= code["expires_at"]
    return bool(code["_active"] and not expired and not used_up(code) and coupon and is_valid(state, coupon))


def amount_off(coupon: Object, currency: str) -> int | None:
    """Return what a coupon or a discount's terms take off in a currency, None for not sold in it."""
    if coupon["currency"] == currency:
        return coupon["amount_off"]
    return coupon["_amounts"].get(currency)


def _check_code(
    state: Sandbox,
    code: Object,
    *,
    customer: str | None,
    subtotal: int | None,
    currency: str | None,
    param: str,
) -> None:
    cannot = "This promotion code cannot be redeemed because"
    if code["expires_at"] is not None and state.now() >= code["expires_at"]:
        raise ApiError(f"{cannot} it has expired.", code="coupon_expired", param=param)
    if used_up(code):
        raise ApiError(f"{cannot} it has been used up.", code="coupon_expired", param=param)
    if not is_active(state, code):
        raise ApiError(f"{cannot} it is not active.", param=param)
    if code["customer"] is not None and code["customer"] != customer:
        raise ApiError(f"{cannot} it belongs to another customer.", param=param)
    restrictions = code["restrictions"]
    if restrictions["first_time_transaction"]:
        if customer is None:
            raise ApiError(
                f"{cannot} it needs a customer to be checked for prior transactions.",
                code="promotion_code_customer_missing_first_time",
                param=param,
            )
        if _has_bought(state, customer):
            raise ApiError(
                f"{cannot} the associated customer has prior transactions.",
                code="promotion_code_customer_not_first_time",
                param=param,
            )
    minimum = minimum_amount(code, currency)
    if subtotal is not None and minimum is not None and subtotal < minimum:
        raise ApiError(
            f"{cannot} the associated purchase does not meet the minimum amount requirement.", param=param
        )
    if subtotal is not None and minimum is None and restrictions["minimum_amount"] is not None:
        raise ApiError(f"{cannot} its minimum amount is not in the purchase's currency.", param=param)


def minimum_amount(code: Object, currency: str | None) -> int | None:
    """Return the least purchase a promotion code asks for in a currency, in minor units, None for none."""
    restrictions = code["restrictions"]
    if restrictions["minimum_amount_currency"] == currency:
        return restrictions["minimum_amount"]
    option = code["_minimums"].get(currency)
    return int(option) if option is not None else None


def _has_bought(state: Sandbox, customer: str) -> bool:
    # Any invoice that was finalized counts, paid or not: Stripe refuses after an open one too.
    return any(
        each["customer"] == customer and each["status"] in ("open", "paid", "uncollectible")
        for each in state.every("invoice")
    ) or any(each["customer"] == customer and each["status"] == "succeeded" for each in state.every("charge"))
