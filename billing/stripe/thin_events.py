"""Thin events as Stripe sends them, and the details that are fetched for them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import stripe

from billing.errors import NotSigned
from billing.stripe.client import get_client, translated_errors


@dataclass(frozen=True, slots=True)
class Notification:
    """What a thin event says of itself. `related_id` is empty where it is about no object."""

    id: str
    type: str
    created: datetime
    related_id: str


def read_notification(body: bytes, signature: str, *, secret: str) -> Notification:
    """Return what Stripe sent. Raises NotSigned for anything that is no thin event signed with `secret` just now."""
    try:
        told: Any = get_client().parse_event_notification(body, signature, secret)
        related = getattr(told, "related_object", None)
        return Notification(
            told.id, told.type, datetime.fromisoformat(told.created), related.id if related else ""
        )
    except stripe.SignatureVerificationError as error:
        raise NotSigned("The signature does not hold.") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # Signed, and no thin event: a snapshot event, or bytes that are no text.
        raise NotSigned("This is no thin event.") from error


def fetch_event_data(event_id: str) -> dict[str, Any]:
    """Return an event's data, {} where it has none. Raises StripeUnavailable, or StripeRejected where it is gone."""
    with translated_errors():
        event: Any = get_client().v2.core.events.retrieve(event_id)
    data = getattr(event, "data", None)
    return dict(data.to_dict()) if data is not None else {}
