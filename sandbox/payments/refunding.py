"""Giving money back: a refund of a charge, in whole or in part."""

from sandbox.agenda import due
from sandbox.catalog.amounts import money_text
from sandbox.errors import ApiError
from sandbox.ids import random_text
from sandbox.payments.cards import REFUND_FAILS, REFUND_PENDS
from sandbox.payments.charging import money_out
from sandbox.ranks import EXPIRY
from sandbox.state import Sandbox
from sandbox.store import Object

# How long a bank takes over a refund that it does not answer at once.
BANK_TAKES = 86400


def check_refundable(charge: Object, amount: int | None, *, param: str = "amount") -> int:
    """Return what to refund: `amount`, or all that is left. Raises ApiError for more than there is."""
    if charge["status"] != "succeeded" or not charge["captured"]:
        raise ApiError(
            f"Charge {charge['id']} has not been captured or did not succeed, so it cannot be refunded.",
            param="charge",
        )
    left = charge["amount"] - charge["amount_refunded"]
    if left == 0:
        raise ApiError(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
    if amount is None:
        return left
    if amount < 1:
        raise ApiError(
            "This value must be greater than or equal to 1.",
            code="parameter_invalid_integer",
            param=param,
        )
    if amount > left:
        currency = charge["currency"]
        raise ApiError(
            f"Refund amount ({money_text(amount, currency)}) is greater than "
            + (
                f"unrefunded amount on charge ({money_text(left, currency)})"
                if charge["amount_refunded"]
                else f"charge amount ({money_text(left, currency)})"
            ),
            param=param,
        )
    return amount


def refund_charge(
    state: Sandbox, charge: Object, *, amount: int, reason: str | None = None, metadata: Object | None = None
) -> Object:
    """Store and return a refund of `amount` minor units, which the caller has checked against what is left."""
    pends = charge["_number"] == REFUND_PENDS
    refund = state.new(
        "refund",
        amount=amount,
        balance_transaction=None,
        charge=charge["id"],
        currency=charge["currency"],
        destination_details={
            "card": {
                "reference_status": "pending",
                "reference_type": "acquirer_reference_number",
                "type": "refund",
            },
            "type": "card",
        },
        metadata=metadata or {},
        payment_intent=charge["payment_intent"],
        reason=reason,
        receipt_number=None,
        source_transfer_reversal=None,
        status="pending" if pends else "succeeded",
        transfer_reversal=None,
    )
    del refund["livemode"]
    if pends:
        refund["pending_reason"] = "processing"
    refund["balance_transaction"] = money_out(state, refund)["id"]
    state.put(refund)
    state.emit("refund.created", refund)
    before = state.render(charge)
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount"]
    state.update(charge, before=before, event="charge.refunded")
    if pends or charge["_number"] == REFUND_FAILS:
        state.agenda.set("refund.answer", refund["id"], state.now() + BANK_TAKES)
    return refund


@due("refund.answer", rank=EXPIRY)
def hear_from_bank(state: Sandbox, identifier: str) -> None:
    """Settle a refund that was pending, or fail one that had seemed to go well and take the money back."""
    refund = state.get("refund", identifier)
    before = state.render(refund)
    if refund["status"] == "pending":
        refund["status"] = "succeeded"
        del refund["pending_reason"]
        refund["destination_details"]["card"].update(reference=random_text(15), reference_status="available")
        _tell(state, refund, before=before, events=("refund.updated", "charge.refund.updated"))
        return
    returned = money_out(state, refund, type="refund_failure", amount=refund["amount"])
    refund.update(
        status="failed", failure_reason="expired_or_canceled_card", failure_balance_transaction=returned["id"]
    )
    charge = state.get("charge", refund["charge"])
    charge["amount_refunded"] -= refund["amount"]
    charge["refunded"] = False
    state.put(charge)
    _tell(state, refund, before=before, events=("refund.updated", "charge.refund.updated", "refund.failed"))


def _tell(state: Sandbox, refund: Object, *, before: Object, events: tuple[str, ...]) -> None:
    for event in events:
        state.update(refund, before=before, event=event)
