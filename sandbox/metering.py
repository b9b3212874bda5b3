"""Meter events: taking them in, telling which count, and adding them up."""

import re

from sandbox.errors import ApiError
from sandbox.ids import random_text
from sandbox.state import Sandbox
from sandbox.store import Object

IDENTIFIER_UNIQUE_FOR = 24 * 3600
OLDEST = 35 * 86400
NEWEST = 5 * 60
CANCELLABLE_FOR = 24 * 3600
WINDOWS = {"hour": 3600, "day": 86400}


def take(
    state: Sandbox, *, event_name: str, payload: dict[str, str], identifier: str | None, timestamp: int | None
) -> Object:
    """Keep a meter event and return it as Stripe shows it.

    Raises ApiError for an identifier used in the last 24 hours and for a timestamp outside the window.
    An event that cannot count (no such meter or customer, a value that is no whole number) is taken
    all the same; its row says why under `rejected`.
    """
    now = state.now()
    at = now if timestamp is None else timestamp
    if at < now - OLDEST:
        raise ApiError(
            "The timestamp is too far in the past: it must be within the past 35 days.", param="timestamp"
        )
    if at > now + NEWEST:
        raise ApiError(
            "The timestamp is in the future: it must be at most 5 minutes ahead.", param="timestamp"
        )
    name = identifier if identifier is not None else random_text(24).lower()
    known = state.find("_meter_identifier", name)
    if known is not None and known["at"] > now - IDENTIFIER_UNIQUE_FOR:
        raise ApiError(
            f"An event already exists with identifier {name}.", headers={"Stripe-Should-Retry": "false"}
        )
    meter = next(
        (
            each
            for each in state.every("billing.meter")
            if each["event_name"] == event_name and each["status"] == "active"
        ),
        None,
    )
    row = {
        "identifier": name,
        "event_name": event_name,
        "payload": payload,
        "timestamp": at,
        "created": now,
        "meter": meter["id"] if meter else None,
        "customer": None,
        "value": None,
        "cancelled": False,
        "rejected": _judge(state, meter, payload),
    }
    if meter is not None and row["rejected"] is None:
        row["customer"] = payload[meter["customer_mapping"]["event_payload_key"]]
        value = payload.get(meter["value_settings"]["event_payload_key"])
        row["value"] = int(value) if value is not None else 1
    # An identifier may come again after a day, so the rows have keys of their own.
    key = f"{now}-{name}"
    state.store.put("_meter_event", key, row)
    state.store.put("_meter_identifier", name, {"at": now, "row": key})
    return {
        "object": "billing.meter_event",
        "created": now,
        "event_name": event_name,
        "identifier": name,
        "livemode": False,
        "payload": payload,
        "timestamp": at,
    }


def _judge(state: Sandbox, meter: Object | None, payload: dict[str, str]) -> str | None:
    """Return the code of the error Stripe would report later for an event, or None for one that counts."""
    if meter is None:
        return "no_meter"
    customer = payload.get(meter["customer_mapping"]["event_payload_key"])
    if customer is None:
        return "meter_event_no_customer_defined"
    found = state.find("customer", customer)
    if found is None or found.get("deleted"):
        return "meter_event_customer_not_found"
    value = payload.get(meter["value_settings"]["event_payload_key"])
    if value is None:
        return None if meter["default_aggregation"]["formula"] == "count" else "meter_event_value_not_found"
    return None if re.fullmatch(r"-?\d{1,15}", value) else "meter_event_invalid_value"


def cancel(state: Sandbox, *, event_name: str, identifier: str) -> None:
    """Take an event back. Raises ApiError for an unknown one or one that came more than 24 hours ago."""
    known = state.find("_meter_identifier", identifier)
    row = state.find("_meter_event", known["row"]) if known else None
    if row is None or row["event_name"] != event_name:
        raise ApiError(f"No meter event found with identifier {identifier}.", param="cancel[identifier]")
    if row["created"] <= state.now() - CANCELLABLE_FOR:
        raise ApiError(
            "Meter events can only be cancelled within 24 hours of Stripe receiving them.",
            param="cancel[identifier]",
        )
    row["cancelled"] = True
    state.store.put("_meter_event", f"{row['created']}-{identifier}", row)


def counted(state: Sandbox, *, meter: str, customer: str | None = None) -> list[Object]:
    """Return the events that count on a meter, in the order they were taken."""
    return [
        each
        for each in state.every("_meter_event")
        if each["meter"] == meter
        and each["rejected"] is None
        and not each["cancelled"]
        and customer in (None, each["customer"])
    ]


def aggregate(events: list[Object], *, formula: str) -> int:
    """Return the sum, the number, or the last value by timestamp of a set of events; 0 for none."""
    if formula == "count":
        return len(events)
    if formula == "last":
        return max(events, key=lambda each: each["timestamp"])["value"] if events else 0
    return sum(each["value"] for each in events)


def usage_between(state: Sandbox, meter: Object, *, customer: str, start: int, end: int) -> int:
    """Return what a customer used from `start` up to and without `end`, in the meter's units."""
    inside = [
        each
        for each in counted(state, meter=meter["id"], customer=customer)
        if start <= each["timestamp"] < end
    ]
    return aggregate(inside, formula=meter["default_aggregation"]["formula"])


def summaries(
    state: Sandbox, meter: Object, *, customer: str, start: int, end: int, window: str | None
) -> list[Object]:
    """Return usage from `start` up to and without `end`, in one piece or by hour or day, latest first.

    Raises ApiError where the times do not align with the minute, hour or day.
    """
    step = WINDOWS.get(window or "", 60)
    for name, at in (("start_time", start), ("end_time", end)):
        if at % step:
            unit = window or "minute"
            raise ApiError(f"The {name} must align with {unit} boundaries.", param=name)
    if end <= start:
        raise ApiError("The end_time must be after the start_time.", param="end_time")
    length = WINDOWS[window] if window else end - start
    buckets: dict[int, list[Object]] = {begin: [] for begin in range(start, end, length)}
    for event in counted(state, meter=meter["id"], customer=customer):
        if start <= event["timestamp"] < end:
            buckets[start + (event["timestamp"] - start) // length * length].append(event)
    formula = meter["default_aggregation"]["formula"]
    return [
        {
            # Stable, so that a page can start after one.
            "id": f"mtrusg_test_61{meter['id'][-8:]}{customer[-8:]}{begin:x}",
            "object": "billing.meter_event_summary",
            "aggregated_value": aggregate(events, formula=formula),
            "end_time": begin + length,
            "livemode": False,
            "meter": meter["id"],
            "start_time": begin,
        }
        for begin, events in sorted(buckets.items(), reverse=True)
    ]
