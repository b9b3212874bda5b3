"""Put corrections on customers' next invoices, or on one of their own: each once, whatever happens on the way."""

import logging
from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import F

from accounts import clock
from accounts.models import Organization
from billing.errors import StripeRejected, StripeUnavailable
from billing.stripe.customers import find_customer, knows_customer
from billing.stripe.invoice_items import ensure_invoice_item
from billing.stripe.own_invoices import ensure_invoice
from billing.subscriptions import plan_subscriptions, plan_subscriptions_of
from usage.corrections.following import follow
from usage.models import Correction

logger = logging.getLogger(__name__)

State = Correction.State
LEASE = timedelta(minutes=3)
NO_CUSTOMER = "Stripe does not know the customer any more, so no invoice is to come."


def send_due(*, organization: Organization | None = None, limit: int = 200) -> int:
    """Send what is due, what got no answer and what came to nothing once more; return how many Stripe has now."""
    follow(organization=organization, limit=limit)
    now = clock.now()
    abandoned = Correction.objects.filter(state=State.SENDING, claimed_at__lt=now - LEASE)
    abandoned.update(state=State.UNKNOWN)
    # The least tried first: some whose customers Stripe does not know must not stand before the others.
    due = Correction.objects.filter(state__in=[State.PENDING, State.UNKNOWN]).order_by("tries", "created_at")
    if organization:
        due = due.filter(organization=organization)
    sent = sum(send(pk).state == State.SENT for pk in list(due.values_list("pk", flat=True)[:limit]))
    for pk in left_waiting(organization)[:limit]:
        invoice_left(pk)
    return sent


def left_waiting(organization: Organization | None = None) -> list[UUID]:
    """Return the corrections that were put on a next invoice, and whose customers have no subscription since.

    Of those that an invoice took up before the end it is learnt once, and noted.
    """
    sent = Correction.objects.filter(state=State.SENT, own_invoice="").exclude(invoice_item="")
    sent = sent.filter(organization=organization) if organization else sent
    rows = list(
        sent.order_by("tries", "created_at").values_list("pk", "organization_id", "stripe_customer_id")
    )
    served = customers_served({owner for _, owner, _ in rows})
    return [
        pk for pk, owner, customer in rows if not (customer in served[owner] if customer else served[owner])
    ]


def customers_served(organization_ids: set[UUID]) -> dict[UUID, set[str]]:
    """Return Stripe's ids of the organizations' customers that have a subscription, and so an invoice to come."""
    found = plan_subscriptions_of(organization_ids) if organization_ids else {}
    return {
        owner: {str(each.data["customer"]) for each in found.get(owner, []) if each.is_live}
        for owner in organization_ids
    }


def invoice_left(correction_id: UUID) -> None:
    """Have an invoice made for a correction that waits for one that will not come. Safe to repeat."""
    correction = Correction.objects.select_related("organization").get(pk=correction_id)
    customer_id = find_payer(correction)
    if customer_id is None:
        return
    # Another process may have seen the item come to nothing meanwhile, and have sent another one.
    mine = Correction.objects.filter(
        pk=correction.pk, state=State.SENT, invoice_item=correction.invoice_item, own_invoice=""
    )
    try:
        invoice = ensure_own_invoice(correction, customer_id)
    except (StripeUnavailable, StripeRejected) as trouble:
        logger.error("No invoice could be made for correction %s: %s", correction.pk, trouble)
        mine.update(last_error=str(trouble)[:500], tries=F("tries") + 1)
    else:
        mine.update(own_invoice=invoice, last_error="", tries=F("tries") + 1)


def find_payer(correction: Correction) -> str | None:
    """Return Stripe's id of the customer whose invoice takes the correction, None where Stripe knows none.

    Of several it is the one with the subscription. But where it was put, or may have been, it stays: somewhere else
    it would be looked for in vain and made once more.
    """
    organization, kept = correction.organization, correction.stripe_customer_id
    if kept and knows_customer(organization, kept):
        return kept
    if not correction.invoice_item and correction.state != State.UNKNOWN:
        live = [each for each in plan_subscriptions(organization) if each.is_live]
        # One that waits for its first payment may come to nothing.
        chosen = max(live, key=lambda each: each.has_begun, default=None)
        if chosen and knows_customer(organization, str(chosen.data["customer"])):
            return str(chosen.data["customer"])
    customer = find_customer(organization)
    return str(customer.id) if customer else None


def ensure_own_invoice(correction: Correction, customer_id: str) -> str:
    """Return the id of the invoice that has the correction's item, made where there is none."""
    return ensure_invoice(
        customer_id=customer_id,
        item_id=correction.invoice_item,
        key=correction.idempotency_key,
        metadata=correction.metadata,
        currency=correction.currency,
        description=correction.description,
    )


def send(correction_id: UUID) -> Correction:
    """Put a correction on the next invoice, and return it as it is then. Safe to repeat, and in two processes.

    A customer without a subscription has none to come: there it gets one of its own. What nobody knows whether
    Stripe has is looked for there first.
    """
    claimed = claim(correction_id)
    if claimed is None:
        return Correction.objects.get(pk=correction_id)
    correction, customer_id = claimed
    try:
        correction.invoice_item = ensure_invoice_item(
            customer_id=customer_id,
            key=correction.idempotency_key,
            metadata=correction.metadata,
            amount=correction.amount,
            currency=correction.currency,
            description=correction.description,
            start=correction.billed_from or correction.period_start,
            end=correction.billed_to or correction.period_start,
            is_net=correction.is_net,
        )
        if customer_id not in customers_served({correction.organization_id})[correction.organization_id]:
            correction.own_invoice = ensure_own_invoice(correction, customer_id)
        correction.state, correction.sent_at, correction.last_error = State.SENT, clock.now(), ""
    except StripeUnavailable as error:
        correction.state, correction.last_error = State.UNKNOWN, str(error)[:500]
    except StripeRejected as error:
        correction.state, correction.last_error = State.FAILED, str(error)[:500]
        logger.error("Stripe refused correction %s: %s", correction.pk, error)
    kept = ("state", "sent_at", "last_error", "invoice_item", "own_invoice")
    outcome = {name: getattr(correction, name) for name in kept}
    mine = Correction.objects.filter(pk=correction.pk, claimed_at=correction.claimed_at, state=State.SENDING)
    mine.update(**outcome)
    return correction


def claim(correction_id: UUID) -> tuple[Correction, str] | None:
    """Mark a correction as being sent; None where it is not due, another has it, or Stripe knows no customer."""
    with transaction.atomic():
        due = Correction.objects.filter(pk=correction_id, state__in=[State.PENDING, State.UNKNOWN])
        correction = (
            due.select_for_update(skip_locked=True, of=("self",)).select_related("organization").first()
        )
        if correction is None:
            return None
        customer_id = find_payer(correction)
        correction.tries += 1
        if customer_id is None:
            correction.last_error = NO_CUSTOMER
            correction.save(update_fields=["tries", "last_error"])
            return None
        correction.state, correction.claimed_at = State.SENDING, clock.now()
        correction.stripe_customer_id = customer_id
        correction.save(update_fields=["tries", "state", "claimed_at", "stripe_customer_id"])
    return correction, customer_id


def try_again(correction: Correction) -> Correction:
    """Send one that Stripe refused once more, after what it complained of was mended."""
    Correction.objects.filter(pk=correction.pk, state=State.FAILED).update(state=State.PENDING, last_error="")
    return send(correction.pk)
