"""Report usage to Stripe's meters, and read back what Stripe counted."""

from datetime import datetime

from billing.errors import StripeRejected
from billing.stripe.client import get_client, translated_errors


def send_meter_event(
    *, event_name: str, customer_id: str, value: int, identifier: str, timestamp: datetime
) -> bool:
    """Report `value` units used at `timestamp`, once per `identifier` however often this is called.

    Return whether Stripe took it just now: False where it had the identifier already.

    Stripe answers a repeated identifier with HTTP 400 and no code, told apart by its words alone: the
    event is there, which is what the caller wants. No idempotency key of ours goes with it: Stripe would
    repeat a failure of its own under the same key for a day, and the identifier does the work.
    Raises StripeUnavailable (the event may or may not have been counted: repeat it) or StripeRejected.
    """
    try:
        with translated_errors():
            get_client().v1.billing.meter_events.create(
                {
                    "event_name": event_name,
                    "payload": {"stripe_customer_id": customer_id, "value": str(value)},
                    "identifier": identifier,
                    "timestamp": int(timestamp.timestamp()),
                }
            )
    except StripeRejected as error:
        if "already exists with identifier" not in str(error.__cause__):
            raise
        return False
    return True


def summed_usage(*, meter_id: str, customer_id: str, start: datetime, end: datetime) -> int:
    """Return the units that Stripe's summaries hold from `start` to `end`, which they widen to whole minutes."""
    begin = int(start.timestamp()) // 60 * 60
    finish = -(-int(end.timestamp()) // 60) * 60
    with translated_errors():
        summaries = get_client().v1.billing.meters.event_summaries.list(
            meter_id, {"customer": customer_id, "start_time": begin, "end_time": finish, "limit": 100}
        )
        return sum(int(summary.aggregated_value) for summary in summaries.auto_paging_iter())


def cancel_meter_event(*, event_name: str, identifier: str) -> None:
    """Have Stripe take an event back, which it does for 24 hours after it came. May be repeated.

    Raises StripeUnavailable, or StripeRejected where it is too old or unknown.
    """
    with translated_errors():
        get_client().v1.billing.meter_event_adjustments.create(
            {"event_name": event_name, "type": "cancel", "cancel": {"identifier": identifier}}
        )
