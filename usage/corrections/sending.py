"""Put corrections on customers' next invoices: each once, whatever happens on the way."""

import logging
from datetime import timedelta
from uuid import UUID

from django.db import transaction

from accounts import clock
from accounts.models import Organization
from billing.errors import StripeRejected, StripeUnavailable
from billing.stripe.customers import find_customer
from billing.stripe.invoice_items import ensure_invoice_item
from billing.subscriptions import find_live_subscription
from usage.models import Correction

logger = logging.getLogger(__name__)

State = Correction.State
LEASE = timedelta(minutes=3)
NO_INVOICE = "The customer has no subscription, so no invoice is to come."


def send_due(*, organization: Organization | None = None, limit: int = 200) -> int:
    """Send what is due, and what got no answer once more; return how many Stripe has now."""
    now = clock.now()
    abandoned = Correction.objects.filter(state=State.SENDING, claimed_at__lt=now - LEASE)
    abandoned.update(state=State.UNKNOWN)
    # The least tried first: some for which no invoice is to come must not stand before the others.
    due = Correction.objects.filter(state__in=[State.PENDING, State.UNKNOWN]).order_by("tries", "created_at")
    if organization:
        due = due.filter(organization=organization)
    return sum(send(pk).state == State.SENT for pk in list(due.values_list("pk", flat=True)[:limit]))


def send(correction_id: UUID) -> Correction:
    """Put a correction on the next invoice, and return it as it is then. Safe to repeat, and in two processes.

    One of which nobody knows whether Stripe has it is looked for there first.
    """
    claimed = claim(correction_id)
    if claimed is None:
        return Correction.objects.get(pk=correction_id)
    correction, customer_id = claimed
    try:
        correction.invoice_item = ensure_invoice_item(
            customer_id=customer_id,
            key=f"tollgate-correction-{correction.pk}",
            metadata={Correction.METADATA_KEY: str(correction.pk)},
            amount=correction.amount,
            currency=correction.currency,
            description=correction.description,
            start=correction.billed_from or correction.period_start,
            end=correction.billed_to or correction.period_start,
        )
        correction.state, correction.sent_at, correction.last_error = State.SENT, clock.now(), ""
    except StripeUnavailable as error:
        correction.state, correction.last_error = State.UNKNOWN, str(error)[:500]
    except StripeRejected as error:
        correction.state, correction.last_error = State.FAILED, str(error)[:500]
        logger.error("Stripe refused correction %s: %s", correction.pk, error)
    outcome = {n: getattr(correction, n) for n in ("state", "sent_at", "last_error", "invoice_item")}
    mine = Correction.objects.filter(pk=correction.pk, claimed_at=correction.claimed_at, state=State.SENDING)
    mine.update(**outcome)
    return correction


def claim(correction_id: UUID) -> tuple[Correction, str] | None:
    """Mark a correction as being sent; None where it is not due, another has it, or no invoice is to come."""
    with transaction.atomic():
        due = Correction.objects.filter(pk=correction_id, state__in=[State.PENDING, State.UNKNOWN])
        correction = (
            due.select_for_update(skip_locked=True, of=("self",)).select_related("organization").first()
        )
        if correction is None:
            return None
        customer = find_customer(correction.organization)
        correction.tries += 1
        if customer is None or find_live_subscription(correction.organization) is None:
            correction.last_error = NO_INVOICE
            correction.save(update_fields=["tries", "last_error"])
            return None
        correction.state, correction.claimed_at = State.SENDING, clock.now()
        correction.save(update_fields=["tries", "state", "claimed_at"])
    return correction, customer.id


def try_again(correction: Correction) -> Correction:
    """Send one that Stripe refused once more, after what it complained of was mended."""
    Correction.objects.filter(pk=correction.pk, state=State.FAILED).update(state=State.PENDING, last_error="")
    return send(correction.pk)
