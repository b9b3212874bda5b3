"""Meter event summaries, and how far they lag behind the events."""

from sandbox.errors import ApiError
from sandbox.meters.metering import WINDOWS, aggregate, counted
from sandbox.meters.metering_settings import settings
from sandbox.state import Sandbox
from sandbox.store import Object

MINUTE = 60


def summaries(
    state: Sandbox, meter: Object, *, customer: str, start: int, end: int, window: str | None
) -> list[Object]:
    """Return usage from `start` up to and without `end`, in one piece or by hour or day, latest first.

    Events younger than the lag are left out, all of them and everywhere. Raises ApiError where the
    times do not align with the minute, hour or day.
    """
    step = WINDOWS.get(window or "", MINUTE)
    for name, at in (("start_time", start), ("end_time", end)):
        if at % step:
            raise ApiError(f"The {name} must align with {window or 'minute'} boundaries.", param=name)
    if end <= start:
        raise ApiError("The end_time must be after the start_time.", param="end_time")
    length = WINDOWS[window] if window else end - start
    seen_until = state.clock.now() - settings(state)["lag"]
    buckets: dict[int, list[Object]] = {begin: [] for begin in range(start, end, length)}
    for event in counted(state, meter, customer=customer, start=start, end=end):
        if event["created"] <= seen_until:
            buckets[start + (event["timestamp"] - start) // length * length].append(event)
    return [
        {
            # Stable, so that a page can start after one.
            "id": f"mtrusg_test_61{meter['id'][-8:]}{customer[-8:]}{begin:x}",
            "object": "billing.meter_event_summary",
            "aggregated_value": aggregate(meter, events),
            "end_time": begin + length,
            "livemode": False,
            "meter": meter["id"],
            "start_time": begin,
        }
        for begin, events in sorted(buckets.items(), reverse=True)
    ]
