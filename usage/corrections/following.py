"""Follow a correction's item to a paid invoice: one that is deleted, or on a void invoice, bills nobody."""

import logging
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F, Q, QuerySet

from accounts import clock
from accounts.models import Organization
from billing.errors import StripeRejected, StripeUnavailable
from billing.stripe.customers import find_customer, is_deleted
from billing.stripe.invoice_items import Placed, find_placed
from usage.models import Correction

logger = logging.getLogger(__name__)

State = Correction.State
ASK_AGAIN = timedelta(hours=1)
# Of an upgrade or a new subscription: void once it came to nothing, and what else it took up is still owed.
CAME_TO_NOTHING = frozenset({"subscription_update", "subscription_create"})


def follow(*, organization: Organization | None = None, limit: int = 200) -> None:
    """Ask what became of items that are not on a paid invoice yet, and see to those that bill nobody.

    Safe to repeat, and in two processes. An invoice that is open may still be void one day: so one is asked for until
    it is paid.
    """
    now = clock.now()
    due = Correction.objects.filter(
        Q(asked_at=None) | Q(asked_at__lte=now - ASK_AGAIN), state=State.SENT, billed_at=None
    ).exclude(invoice_item="")
    due = due.filter(organization=organization) if organization else due
    oldest = due.order_by(F("asked_at").asc(nulls_first=True), "created_at")
    for pk in list(oldest.values_list("pk", flat=True)[:limit]):
        try:
            follow_one(pk)
        except StripeUnavailable as error:
            logger.warning("It could not be asked what became of corrections: %s", error)
            return
        except StripeRejected as error:
            logger.error("It could not be asked what became of correction %s: %s", pk, error)
            Correction.objects.filter(pk=pk).update(asked_at=now)


def follow_one(correction_id: UUID) -> None:
    """Ask for one correction's item, and note or do what follows. Raises StripeUnavailable or StripeRejected."""
    correction = Correction.objects.select_related("organization").get(pk=correction_id)
    if correction.state != State.SENT:
        return
    # Of one from before that was kept: it was the first one.
    first = None if correction.stripe_customer_id else find_customer(correction.organization)
    customer_id = str(first.id) if first else correction.stripe_customer_id
    item = correction.invoice_item
    placed = find_placed(item, customer_id=customer_id)
    if placed is None:
        fail(correction, f"Its invoice item {item} was deleted at Stripe.")
    elif not placed.invoice_id and is_deleted(placed.customer_id):
        fail(
            correction,
            f"The customer {placed.customer_id}, whose next invoice was to have it, was deleted at Stripe.",
        )
    elif placed.status != "void":
        note(correction, placed)
    elif placed.billing_reason in CAME_TO_NOTHING:
        make_anew(correction)
    else:
        fail(correction, f"The invoice {placed.invoice_id} that had its item {item} is void.")


def note(correction: Correction, placed: Placed) -> None:
    """Keep where the item is."""
    now = clock.now()
    kept: dict[str, Any] = {
        "asked_at": now,
        "billed_at": now if placed.status == "paid" else None,
        "stripe_customer_id": placed.customer_id,
    }
    if correction.own_invoice and not placed.invoice_id:
        # Its draft was deleted, and the item waits again: with the same key Stripe would answer with that draft.
        kept |= {"own_invoice": "", "round": F("round") + 1}
    as_it_was(correction).update(**kept)


def make_anew(correction: Correction) -> None:
    """Have the correction sent once more, on whatever invoice is to come now."""
    try:
        with transaction.atomic():
            leave_behind(correction, state=State.PENDING, reason="")
    except IntegrityError:
        # Another one of its period is under way, of which there is one at a time: at the next look.
        logger.info("Correction %s waits for another one before it is made anew", correction.pk)


def fail(correction: Correction, reason: str) -> None:
    """Leave it to a person: somebody took it off the bill at Stripe, and may have meant that."""
    if leave_behind(correction, state=State.FAILED, reason=f"{reason} Nobody is charged for it."):
        logger.error("Correction %s is on no invoice: %s", correction.pk, reason)


def leave_behind(correction: Correction, *, state: str, reason: str) -> int:
    """Forget an item that can bill nobody any more. Of two that saw it gone only the first does."""
    return as_it_was(correction).update(
        state=state,
        last_error=reason,
        invoice_item="",
        own_invoice="",
        stripe_customer_id="",
        round=F("round") + 1,
        asked_at=None,
    )


def as_it_was(correction: Correction) -> "QuerySet[Correction]":
    return Correction.objects.filter(
        pk=correction.pk,
        state=State.SENT,
        invoice_item=correction.invoice_item,
        own_invoice=correction.own_invoice,
    )
