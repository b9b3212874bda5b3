"""Upgrades whose payment is not settled: Stripe holds them back until their invoice is paid."""

import logging
from dataclasses import dataclass
from typing import Any

import stripe
from djstripe import models as djstripe

from billing.changes import Target
from billing.errors import PaymentDeclined, StripeUnavailable
from billing.stripe.acting import INVOICE_EXPANDED, sync_invoice, sync_subscription
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
    Empty where it could not be taken back because it was paid for in that very moment.
    """
    payment = payment_of(subscription.data["latest_invoice"])
    if payment.waits:
        return payment.url
    if not void(subscription.data["latest_invoice"]):
        sync_subscription(subscription.id)
        return ""
    try:
        check_dropped(subscription)
    except stripe.StripeError:
        # The upgrade went with its invoice. That it did not go through is what has to be said.
        logger.warning(
            "Subscription %s could not be looked at after its upgrade was declined", subscription.id
        )
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
    voided = void(subscription.data["latest_invoice"])
    check_dropped(subscription)
    return voided


def void(invoice_id: str) -> bool:
    """Void an invoice. False where it is neither open nor void."""
    try:
        data = get_client().v1.invoices.void_invoice(invoice_id, {"expand": INVOICE_EXPANDED})
    except stripe.StripeError:
        # Paid meanwhile, or void already: by a try before, whose answer was lost.
        invoice = sync_invoice(invoice_id)
        if invoice["status"] == "open":
            raise
        return bool(invoice["status"] == "void")
    djstripe.Invoice.sync_from_stripe_data(data)
    return True


def check_dropped(subscription: PlanSubscription) -> None:
    """Fetch the subscription. Raises StripeUnavailable where its upgrade waits though the invoice is void."""
    data = sync_subscription(subscription.id)
    if data["pending_update"] and data["latest_invoice"] == subscription.data["latest_invoice"]:
        logger.error("Subscription %s still waits for an invoice that is void", subscription.id)
        raise StripeUnavailable("The earlier change could not be taken back yet. Please try again.")


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
