"""What a call costs once it has been served."""

from datetime import timedelta

from django.http import HttpRequest
from rest_framework.request import Request

from apikeys import settlement
from apikeys.decision import AT, KEY, ORGANIZATION, PERIOD_START, Decision
from apikeys.late import LATE
from usage.events import Event

TOO_MANY_REQUESTS = 429
LATE_MS = LATE // timedelta(milliseconds=1)


class CannotCharge(ValueError):
    """The units to charge are no number of units, or more than the gate has reserved for the call."""


class Call:
    """An API call on its way through a view. `units` is what the view charged, None as long as it said nothing.

    `is_served` turns true when the call has come past every check in front of the view.
    """

    __slots__ = ("decision", "is_reservation", "is_served", "units")

    def __init__(self, decision: Decision, *, is_served: bool = True, is_reservation: bool = False) -> None:
        self.decision = decision
        self.is_served = is_served
        self.is_reservation = is_reservation
        self.units: int | None = None

    def units_due(self, status: int) -> int:
        """Return what the call costs, once it was answered with `status`.

        Nothing where it was not served: the server failed it (5xx), something in front of the view or the view
        itself turned it away for its number (429), or a permission refused it before the view ran. What the view
        charged, where it did. Of a reservation that it never touched: nothing where it answered with an error,
        else all of it.
        """
        if not self.is_served or status >= 500 or status == TOO_MANY_REQUESTS:
            return 0
        if self.units is not None:
            return self.units
        return 0 if self.is_reservation and status >= 400 else self.decision.cost


def charge(request: HttpRequest | Request, units: int) -> None:
    """Let the call cost `units` instead of all that was reserved for it; what is left is given back.

    Called by a view before it answers; the last call counts. 0 makes it free: it is no event then. Raises
    CannotCharge for more than was reserved: the gate has let in no more than that, so reserve the most it may
    cost. Where nobody's key called, such as from a session, there is nothing to charge.
    """
    call: Call | None = getattr(request, "gate_call", None)
    if call is None:
        return
    if isinstance(units, bool) or not isinstance(units, int) or units < 0:
        raise CannotCharge(f"{units!r} is no number of units: charge 0 or more.")
    if units > call.decision.cost:
        raise CannotCharge(
            f"{units} {call.decision.meter} are more than the {call.decision.cost} that were reserved. "
            "Reserve the most that a call may cost."
        )
    call.units = units


def settle(call: Call, *, status: int, endpoint: str, method: str, response_ms: int) -> int:
    """Put a call that was answered with `status` into the ledger, and give back what it did not cost.

    Returns the units given back. Safe at any call: one that was refused has nothing to settle.
    """
    decision = call.decision
    if not decision.admitted or not decision.cost:
        return 0
    units, event = call.units_due(status), None
    if units and decision.livemode:
        answer = decision.answer
        occurred, period = int(answer[AT]), int(answer[PERIOD_START])
        event = Event.of_call(
            # The period comes from another clock than the call: an event never lies before its period.
            occurred=max(occurred, period),
            organization=answer[ORGANIZATION],
            api_key=answer[KEY],
            meter=decision.meter,
            units=units,
            period=period,
            endpoint=endpoint,
            method=method,
            status=status,
            response_ms=response_ms,
        )
    settlement.settle(decision, units=units, event=event, is_late=response_ms >= LATE_MS)
    return decision.cost - units
