"""What is kept of Stripe's news, and for how long."""

import logging
from datetime import datetime, timedelta

from django.db import models
from django.db.models import Q
from djstripe import models as djstripe

from accounts import clock
from billing.models import METER_ERROR_TYPES, SetupRun, ThinEvent

logger = logging.getLogger(__name__)

TRIGGERS_FOR = timedelta(days=30)
# What could not be processed is kept as long as the events: it says what the mirror may have missed.
FAILURES_FOR = timedelta(days=90)
EVENTS_FOR = timedelta(days=90)
THIN_EVENTS_FOR = timedelta(days=90)
BATCH = 1_000
MOST_BATCHES = 500  # A night's work: what is left is taken the next night.


def purge_history(
    *, now: datetime | None = None, batch: int = BATCH, most: int = MOST_BATCHES
) -> dict[str, int]:
    """Delete what is past its time, in batches that are committed one by one; return how many of each were deleted.

    A webhook that Stripe signed and that could not be processed outlasts the others. A meter error stays until
    somebody has acknowledged it.
    """
    now = now or clock.now()
    triggers = djstripe.WebhookEventTrigger.objects.filter(created__lt=now - TRIGGERS_FOR)
    settled = Q(valid=False) | Q(processed=True) | Q(created__lt=now - FAILURES_FOR)
    thin = ThinEvent.objects.filter(received_at__lt=now - THIN_EVENTS_FOR)
    seen_to = ~Q(type__in=METER_ERROR_TYPES) | Q(acknowledged_at__lt=now - THIN_EVENTS_FOR)
    newest = SetupRun.objects.order_by("-started_at", "-pk").values("pk")[:1]
    past = {
        "webhook triggers": triggers.filter(settled),
        "events": djstripe.Event.objects.filter(created__lt=now - EVENTS_FOR),
        "thin events": thin.filter(seen_to),
        "set-ups": SetupRun.objects.filter(started_at__lt=now - EVENTS_FOR).exclude(pk__in=newest),
    }
    deleted = {what: delete_in_batches(rows, batch=batch, most=most) for what, rows in past.items()}
    logger.info("Deleted %s", ", ".join(f"{count} {what}" for what, count in deleted.items()))
    return deleted


def delete_in_batches(rows: "models.QuerySet[models.Model]", *, batch: int, most: int) -> int:
    """Delete the rows, the oldest first, at most `most` batches; return how many went."""
    deleted = 0
    for _ in range(most):
        keys = list(rows.order_by("pk").values_list("pk", flat=True)[:batch])
        if not keys:
            break
        rows.model._default_manager.filter(pk__in=keys).delete()
        deleted += len(keys)
    return deleted
