"""Events that Stripe made for us and that never arrived."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from djstripe import models as djstripe

from billing.stripe.client import get_client, translated_errors
from billing.stripe.webhook_endpoints import ENABLED_EVENTS
from billing.subscriptions import from_timestamp

MOST_TYPES = 20  # In one call, says Stripe.


@dataclass(frozen=True, slots=True)
class MissedEvent:
    """An event of a type that we asked for and have not stored. `customer_id` is empty where it is about none."""

    id: str
    type: str
    created: datetime
    customer_id: str
    is_pending: bool


def find_missed(*, since: datetime, until: datetime) -> Iterator[MissedEvent]:
    """Compare the events that Stripe made in [since, until) with those in the mirror. Raises StripeUnavailable.

    Stripe keeps events for 30 days, the mirror for longer.
    """
    created = {"gte": int(since.timestamp()), "lt": int(until.timestamp())}
    for start in range(0, len(ENABLED_EVENTS), MOST_TYPES):
        types = ENABLED_EVENTS[start : start + MOST_TYPES]
        params: Any = {"types": types, "created": created, "limit": 100}
        with translated_errors():
            listed = {each.id: each for each in get_client().v1.events.list(params).auto_paging_iter()}
        known = set(djstripe.Event.objects.filter(id__in=listed).values_list("id", flat=True))
        for event in listed.values():
            if event.id not in known:
                yield MissedEvent(
                    event.id,
                    event.type,
                    from_timestamp(event.created),
                    customer_of(event.data["object"]),
                    event.pending_webhooks > 0,
                )


def customer_of(data: Any) -> str:
    """Return the id of the customer that an event's object is or belongs to, empty for neither."""
    found = data["id"] if data["object"] == "customer" else getattr(data, "customer", None)
    return found if isinstance(found, str) else ""
