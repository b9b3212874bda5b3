"""Meter events: taking them in, and adding them up.

An event that counts is kept under its meter, customer and day, so a sum reads only the days it is
about, however many events there are.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sandbox.errors import ApiError
from sandbox.ids import random_text
from sandbox.meters import rejecting
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.timeline import clock_of

IDENTIFIER_UNIQUE_FOR = 24 * 3600
OLDEST = 35 * 86400
NEWEST = 5 * 60
CANCELLABLE_FOR = 24 * 3600
DAY = 86400
WINDOWS = {"hour": 3600, "day": DAY}
DIGITS = 15


@dataclass(frozen=True)
class Report:
    """A meter event as it came in. `timestamp` is in unix seconds, None for now."""

    event_name: str
    payload: dict[str, str]
    identifier: str | None = None
    timestamp: int | None = None


# How the checks that /v2 makes at once name what is otherwise reported later.
CHECKED = {
    "archived_meter": "archived_meter",
    "meter_event_invalid_value": "payload_invalid_value",
    "meter_event_no_customer_defined": "payload_no_customer_defined",
    "meter_event_value_not_found": "payload_no_value_defined",
    "meter_event_value_too_many_digits": "payload_invalid_value",
    "no_meter": "no_meter",
}
REFUSALS = {
    "archived_meter": "The meter of this event name is not active.",
    "no_meter": "No meter has this event name.",
    "payload_invalid_value": "The value in the payload must be a whole number and not negative.",
    "payload_no_customer_defined": "The payload lacks the meter's customer mapping key.",
    "payload_no_value_defined": "The payload lacks the meter's value key.",
}


class Refused(ApiError):
    """A duplicate, or a timestamp out of bounds; `late_code` is how the stream reports the latter."""

    late_code: str | None = None


def take(state: Sandbox, report: Report) -> Object:
    """Keep a meter event and return its row.

    Raises Refused for an identifier used in the last 24 hours and for a timestamp outside the window.
    An event that cannot count (no such meter or customer, a value that is no whole number) is taken
    all the same; its row says why under `rejected`, and an error report follows.
    """
    row, now = _row(state, report)
    _check_time(row["timestamp"], now=now)
    _check_identifier(state, row)
    _keep(state, row)
    return row


def take_checked(state: Sandbox, report: Report) -> Object:
    """Keep a meter event that passes the checks /v2 makes at once, and return its row.

    Raises ApiError for what `take` refuses and for an event without a meter, a customer or a fit value.
    """
    row, now = _row(state, report)
    code = CHECKED.get(row["rejected"])
    if code is None and row["value"] is not None and row["value"] < 0:
        code = "payload_invalid_value"
    if code is not None:
        raise ApiError(REFUSALS[code], code=code)
    _check_time(row["timestamp"], now=now)
    _check_identifier(state, row, code="duplicate_meter_event")
    _keep(state, row)
    return row


def take_streamed(state: Sandbox, report: Report) -> None:
    """Take in an event of the stream, which refuses nothing: what is wrong is reported later.

    An event whose identifier was used in the last 24 hours is passed over.
    """
    row, now = _row(state, report)
    try:
        _check_identifier(state, row)
        _check_time(row["timestamp"], now=now)
    except Refused as error:
        if error.late_code is None:
            return
        row["rejected"] = row["rejected"] or error.late_code
    _keep(state, row)


def _row(state: Sandbox, report: Report) -> tuple[Object, int]:
    """Return the row an event would be kept as, and the time its customer lives in."""
    meter = find_meter(state, report.event_name)
    customer = owner_of(meter, report.payload)
    now = _now_of(state, customer)
    row = {
        "identifier": report.identifier if report.identifier is not None else random_text(24).lower(),
        "event_name": report.event_name,
        "payload": report.payload,
        "timestamp": now if report.timestamp is None else report.timestamp,
        "created": state.clock.now(),
        "meter": meter["id"] if meter else None,
        "customer": customer,
        "value": None,
        "rejected": judge(state, meter, report.payload),
    }
    if row["rejected"] is None and meter is not None:
        value = report.payload.get(meter["value_settings"]["event_payload_key"])
        row["value"] = int(value) if value is not None else 1
    return row, now


def _keep(state: Sandbox, row: Object) -> None:
    if row["rejected"] is None:
        _count(state, row)
    else:
        rejecting.note(state, row)


def find_meter(state: Sandbox, event_name: str) -> Object | None:
    """Return the meter of an event name: the active one, else the last that had the name."""
    named = [each for each in state.every("billing.meter") if each["event_name"] == event_name]
    active = [each for each in named if each["status"] == "active"]
    found = active or named
    return found[-1] if found else None


def owner_of(meter: Object | None, payload: dict[str, str]) -> str | None:
    key = meter["customer_mapping"]["event_payload_key"] if meter else "stripe_customer_id"
    return payload.get(key)


def judge(state: Sandbox, meter: Object | None, payload: dict[str, str]) -> str | None:
    """Return the code of the error Stripe reports for an event, or None for one that counts."""
    if meter is None:
        return "no_meter"
    if meter["status"] != "active":
        return "archived_meter"
    customer = owner_of(meter, payload)
    if customer is None:
        return "meter_event_no_customer_defined"
    found = state.find("customer", customer)
    if found is None or found.get("deleted"):
        return "meter_event_customer_not_found"
    return _judge_value(meter, payload.get(meter["value_settings"]["event_payload_key"]))


def _judge_value(meter: Object, value: str | None) -> str | None:
    if value is None:
        return None if meter["default_aggregation"]["formula"] == "count" else "meter_event_value_not_found"
    if not re.fullmatch(r"-?[0-9]+", value):
        return "meter_event_invalid_value"
    return None if len(value.lstrip("-")) <= DIGITS else "meter_event_value_too_many_digits"


def _now_of(state: Sandbox, customer: str | None) -> int:
    """Return the time a customer lives in: its test clock's, or the sandbox's own."""
    found = state.find("customer", customer) if customer else None
    with state.on_clock(clock_of(state, found)):
        return state.now()


def _check_time(at: int, *, now: int) -> None:
    if at < now - OLDEST:
        refused = Refused(
            "The timestamp is too far in the past: it must be within the past 35 days.", param="timestamp"
        )
        refused.late_code = "timestamp_too_far_in_past"
        raise refused
    if at > now + NEWEST:
        refused = Refused(
            "The timestamp is in the future: it must be at most 5 minutes ahead.", param="timestamp"
        )
        refused.late_code = "timestamp_in_future"
        raise refused


def _check_identifier(state: Sandbox, row: Object, *, code: str | None = None) -> None:
    known = state.find("_meter_identifier", row["identifier"])
    if known is not None and known["at"] > row["created"] - IDENTIFIER_UNIQUE_FOR:
        raise Refused(
            f"An event already exists with identifier {row['identifier']}.",
            code=code,
            headers={"Stripe-Should-Retry": "false"},
        )


def _count(state: Sandbox, row: Object) -> None:
    # An identifier may come again after a day, so the rows have keys of their own.
    key = f"{row['created']}-{row['identifier']}"
    kind = _kind(row["meter"], row["customer"], row["timestamp"] // DAY)
    state.store.put(kind, key, row)
    state.store.put("_meter_identifier", row["identifier"], {"at": row["created"], "kind": kind, "row": key})
    shelf = f"_meter_days:{row['meter']}"
    days = state.store.find(shelf, row["customer"])
    day = row["timestamp"] // DAY
    if days is None or not days["first"] <= day <= days["last"]:
        span = (day, *(() if days is None else (days["first"], days["last"])))
        known = {"customer": row["customer"], "first": min(span), "last": max(span)}
        state.store.put(shelf, row["customer"], known)


def _kind(meter: str, customer: str, day: int) -> str:
    return f"_meter_event:{meter}:{customer}:{day}"


def cancel(state: Sandbox, *, event_name: str, identifier: str) -> None:
    """Take an event back. Raises ApiError for an unknown one or one that came more than 24 hours ago."""
    known = state.find("_meter_identifier", identifier)
    row = state.find(known["kind"], known["row"]) if known else None
    if known is None or row is None or row["event_name"] != event_name:
        raise ApiError(f"No meter event found with identifier {identifier}.", param="cancel[identifier]")
    if row["created"] <= state.clock.now() - CANCELLABLE_FOR:
        raise ApiError(
            "Meter events can only be cancelled within 24 hours of Stripe receiving them.",
            param="cancel[identifier]",
        )
    state.store.put(known["kind"], known["row"], {**row, "cancelled": True})


def counted(state: Sandbox, meter: Object, *, customer: str, start: int, end: int) -> Iterator[Object]:
    """Yield a customer's events that count on a meter from `start` up to and without `end`."""
    days = state.store.find(f"_meter_days:{meter['id']}", customer)
    if days is None:
        return
    for day in range(max(start // DAY, days["first"]), min((end - 1) // DAY, days["last"]) + 1):
        for each in state.every(_kind(meter["id"], customer, day)):
            if start <= each["timestamp"] < end and not each.get("cancelled"):
                yield each


def customers_of(state: Sandbox, meter: Object) -> list[str]:
    """Return the customers that a meter has ever counted anything for."""
    return [each["customer"] for each in state.every(f"_meter_days:{meter['id']}")]


def aggregate(meter: Object, events: list[Object]) -> int:
    """Return the sum, the number, or the last value by timestamp of a set of events; 0 for none.

    Where the meter takes pre-aggregated events, only the newest of each hour or day (UTC) stands.
    """
    # Of two at one second the one that came later is the newer; sorting keeps the order they came in.
    events = sorted(events, key=lambda each: (each["timestamp"], each["created"]))
    if meter["event_time_window"]:
        step = WINDOWS[meter["event_time_window"]]
        events = list({each["timestamp"] // step: each for each in events}.values())
    formula = meter["default_aggregation"]["formula"]
    if formula == "count":
        return len(events)
    if formula == "last":
        return int(events[-1]["value"]) if events else 0
    return sum(each["value"] for each in events)


def usage_between(state: Sandbox, meter: Object, *, customer: str, start: int, end: int) -> int:
    """Return what to bill from `start` up to and without `end`, in the meter's units; never below 0."""
    return max(aggregate(meter, list(counted(state, meter, customer=customer, start=start, end=end))), 0)
