"""What of metering is set by hand: how far summaries lag and how long errors are gathered."""

from sandbox.errors import ApiError
from sandbox.state import Sandbox

# Stripe's own example of an error report spans ten seconds.
DEFAULTS = {"lag": 0, "report_after": 10}
LONGEST = 7 * 86400


def settings(state: Sandbox) -> dict[str, int]:
    """Return {lag, report_after}, both in seconds of the sandbox's clock."""
    return {**DEFAULTS, **(state.find("_settings", "metering") or {})}


def configure(state: Sandbox, *, lag: int | None = None, report_after: int | None = None) -> dict[str, int]:
    """Change settings and return them all. Raises ApiError for a number out of bounds."""
    chosen = {"lag": lag, "report_after": report_after}
    given = {name: value for name, value in chosen.items() if value is not None}
    for name, value in given.items():
        if not 0 <= value <= LONGEST:
            raise ApiError(f"Invalid {name}: from 0 to {LONGEST} seconds", param=name)
    with state.change():
        state.store.put("_settings", "metering", {**settings(state), **given})
    return settings(state)
