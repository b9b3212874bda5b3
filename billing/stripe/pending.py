"""Upgrades whose payment is not settled: Stripe holds them back until their invoice is paid."""

import logging
from dataclasses import dataclass
from typing import Any

import stripe

from billing.changes import Target
from billing.errors import PaymentDeclined, StripeUnavailable
from billing.stripe.acting import sync_invoice, sync_subscription
from billing.stripe.client import get_client
from billing.subscriptions import PlanSubscription

logger = logging.getLogger(__name__)

NO_CARD = "There is no payment method to charge. Add one and try again."


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """How the payment of an invoice stands. It `waits` where only the customer can go on, at `url`."""

    is_open: bool
    waits: bool
    url: str
    message: str
    decline_code: str
    method: str


def payment_of(invoice_id: str) -> Payment:
    """Fetch an invoice into the mirror, and return how its payment stands."""
    invoice = sync_invoice(invoice_id)
    listed = get_client().v1.invoice_payments.list(
        {"invoice": invoice_id, "expand": ["data.payment.payment_intent"]}
    )
    payments = [each.to_dict() for each in listed.data if each["is_default"]]
    intent: dict[str, Any] = payments[0]["payment"]["payment_intent"] if payments else {}
    error: dict[str, Any] = intent.get("last_payment_error") or {}
    return Payment(
        is_open=invoice["status"] == "open",
        waits=intent.get("status") in {"requires_action", "processing"},
        url=invoice["hosted_invoice_url"] or "",
        message=error.get("message") or NO_CARD,
        decline_code=error.get("decline_code") or error.get("code") or "",
        method=(error.get("payment_method") or {}).get("id") or "",
    )


def settle(subscription: PlanSubscription) -> str:
    """Return where the customer confirms the payment that an upgrade has just asked for.

    Where there is nothing to confirm it was declined: then the upgrade is taken back and PaymentDeclined raised.
    """
    payment = payment_of(subscription.data["latest_invoice"])
    if payment.waits:
        return payment.url
    give_up(subscription)
    raise PaymentDeclined(payment.message, decline_code=payment.decline_code)


def take_up(subscription: PlanSubscription, target: Target) -> str:
    """Return where the customer confirms an upgrade to `target` that is waiting; empty where none is any longer.

    One to something else is given up. One that was declined was left behind by a try that could not finish:
    with the same card it is declined still, and PaymentDeclined is raised.
    """
    payment = payment_of(subscription.data["latest_invoice"])
    is_same = not target.is_leaving and target.fee_id in pending_prices(subscription)
    if is_same and payment.is_open and payment.waits:
        return payment.url
    if give_up(subscription) and is_same and payment.method == paying_method(subscription):
        raise PaymentDeclined(payment.message, decline_code=payment.decline_code)
    return ""


def give_up(subscription: PlanSubscription) -> bool:
    """Void the invoice that an upgrade waits for, which drops the upgrade.

    False where there was nothing left to give up: it has been paid, or has run out, in the meantime.
    """
    invoice_id = subscription.data["latest_invoice"]
    try:
        get_client().v1.invoices.void_invoice(invoice_id)
        voided = True
    except stripe.InvalidRequestError as error:
        if error.code == "resource_missing":
            raise
        voided = False
    invoice = sync_invoice(invoice_id)
    data = sync_subscription(subscription.id)
    if data["pending_update"] and invoice["status"] != "paid":
        logger.error("Subscription %s still waits for its voided invoice %s", subscription.id, invoice_id)
        raise StripeUnavailable("The earlier change could not be taken back yet. Please try again.")
    return voided


def pending_prices(subscription: PlanSubscription) -> list[str]:
    """Return the ids of the prices that a waiting upgrade would bring."""
    items = (subscription.data["pending_update"] or {}).get("subscription_items") or []
    return [item["price"]["id"] for item in items]


def paying_method(subscription: PlanSubscription) -> str:
    """Return the id of the payment method that is charged now, empty where there is none."""
    own = subscription.data["default_payment_method"]
    if own:
        return str(own)
    customer = get_client().v1.customers.retrieve(subscription.data["customer"])
    return str((customer["invoice_settings"] or {}).get("default_payment_method") or "")
