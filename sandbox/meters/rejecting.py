"""Meter events that were taken but cannot count, and the thin events that report them.

Errors of one meter are gathered over a short window and told of in one event.
"""

from sandbox import ranks
from sandbox.agenda import due
from sandbox.events import thin
from sandbox.meters.metering_settings import settings
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.v2 import iso

KIND = "_meter_rejected"
SAMPLES = 5
NO_METER = "none"
MESSAGES = {
    "archived_meter": "The meter for event name {event_name} is not active.",
    "meter_event_customer_not_found": "No customer found for the customer mapping key's value {customer}.",
    "meter_event_invalid_value": "The event's value is not a whole number.",
    "meter_event_no_customer_defined": "The payload lacks the meter's customer mapping key.",
    "meter_event_value_not_found": "The payload lacks the meter's value key.",
    "meter_event_value_too_many_digits": "The event's value has more than 15 digits.",
    "no_meter": "No meter found for event name {event_name}.",
    "timestamp_in_future": "The event's timestamp is more than 5 minutes in the future.",
    "timestamp_too_far_in_past": "The event's timestamp is more than 35 days in the past.",
}


def note(state: Sandbox, row: Object) -> None:
    """Keep a rejected event and see to it that it is reported."""
    key = f"{row['created']}-{row['identifier']}"
    state.store.put(KIND, key, row)
    state.store.put("_meter_identifier", row["identifier"], {"at": row["created"], "kind": KIND, "row": key})
    # An event that names no meter that works is about no meter at all.
    subject = row["meter"] if row["meter"] and row["rejected"] != "no_meter" else NO_METER
    waiting = state.store.find("_meter_report", subject) or {"since": row["created"], "codes": {}}
    found = waiting["codes"].setdefault(row["rejected"], {"count": 0, "samples": []})
    found["count"] += 1
    if len(found["samples"]) < SAMPLES:
        message = MESSAGES[row["rejected"]].format(**row)
        found["samples"].append({"error_message": message, "request": {"identifier": row["identifier"]}})
    state.store.put("_meter_report", subject, waiting)
    # Validation is the account's business, whatever clock the customer is on.
    with state.on_clock(None):
        if state.agenda.find("meter_report", subject) is None:
            state.agenda.set("meter_report", subject, row["created"] + settings(state)["report_after"])


def rejected(state: Sandbox) -> list[Object]:
    """Return the rejected events, newest first, to be read and not changed."""
    return state.newest(KIND)


@due("meter_report", rank=ranks.METER_REPORT)
def report(state: Sandbox, subject: str) -> None:
    """Tell of the errors gathered for one meter, or of the events that have none."""
    waiting = state.store.find("_meter_report", subject)
    if waiting is None:
        return
    state.store.remove("_meter_report", subject)
    data = _data(waiting["codes"], start=waiting["since"], end=state.now())
    meter = state.find("billing.meter", subject)
    if meter is None:
        thin.tell(state, "v1.billing.meter.no_meter_found", data=data)
    else:
        thin.tell(state, "v1.billing.meter.error_report_triggered", related=meter, data=data)


def _data(codes: dict[str, Object], *, start: int, end: int) -> Object:
    count = sum(each["count"] for each in codes.values())
    return {
        "developer_message_summary": f"There {'is' if count == 1 else 'are'} {count} invalid "
        f"event{'' if count == 1 else 's'}",
        "reason": {
            "error_count": count,
            "error_types": [
                {"code": code, "error_count": each["count"], "sample_errors": each["samples"]}
                for code, each in codes.items()
            ],
        },
        "validation_end": iso(end),
        "validation_start": iso(start),
    }
