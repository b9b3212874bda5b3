"""From a reservation to what is billed: exactly one outcome, stored exactly once.

The outcome is decided in Redis, by settle.lua in one step: what the reservation came to is written down, what it
did not come to goes back to the quota's counter, and its record becomes "settled", with the event that is to be
stored, or goes where nothing is. Then the event is appended to the stream, and then the record goes. Whoever comes
second finds the outcome, and hears the same answer or a refusal; nothing is given back or charged by them.

- Two who settle at once, or one and the sweep: the script runs for one of them first.
- A crash before the script: the reservation is open. It is settled by a repetition, or billed in full when due.
- A crash after it: the outcome stands. The sweep appends the event and takes the record away.
- A crash after the append: the sweep appends the event once more. Its id and its time are the reservation's, by
  which the ledger stores it once.
- Redis loses an open reservation, and its charge with it: the token says all that is needed. With the entitlement's
  row locked, as for filling a counter, the stream and then the ledger are asked for its event. If there is none, the
  outcome is decided as before, and charged to the counter, which was filled without it. Nobody bills it in full.
- Redis loses one that was settled: its event is found so, and the outcome with it. One that came to nothing has
  none, and may be settled again, with something.
- The counter is gone and the reservation is not: who fills it counts what is reserved (see
  `reservations.uncounted_events`). What is to be given back waits for the lock, so that it does not fall between
  the count and the counter.
"""

import logging
from datetime import timedelta
from typing import NamedTuple

from django.db import transaction
from redis.exceptions import RedisError

from accounts import clock
from accounts.models import Organization
from apikeys.calls import Call
from apikeys.decision import Decision, Verdict
from apikeys.errors import ReservationExpired, ReservationSettled
from apikeys.instants import from_microseconds, to_microseconds
from apikeys.reservations import FINISH_AFTER, Reservation, conclude, forget
from billing.entitlements import lock_entitlement
from usage import metering, stream
from usage.events import Event
from usage.models import UsageEvent

logger = logging.getLogger(__name__)

SETTLED, EXPIRED = "settled", "expired"
# How long after its deadline a reservation that is neither open nor known was surely lost and not settled: less
# than settle.lua remembers what reservations came to.
LATE = timedelta(minutes=50)


class Outcome(NamedTuple):
    """What a call came to. Status 0: not known."""

    units: int
    status: int
    endpoint: str
    method: str
    response_ms: int

    @property
    def text(self) -> str:
        return f"{SETTLED}|{self.units}|{self.status}|{self.response_ms}|{self.method}|{self.endpoint}"

    @classmethod
    def of_event(cls, event: Event | UsageEvent) -> "Outcome":
        return cls(event.units, event.status, event.endpoint, event.method, event.response_ms)


def units_due(reservation: Reservation, *, units: int | None, status: int) -> int:
    """Return what the call costs, by the same rule as a view's reservation: see `Call.units_due`."""
    decision = Decision(Verdict.ADMITTED, ref=reservation.ref, cost=reservation.cost)
    call = Call(decision, is_reservation=True)
    call.units = units
    return call.units_due(status)


def settle(reservation: Reservation, outcome: Outcome) -> None:
    """Let a reservation come to `outcome`. Safe to repeat.

    Raises ReservationSettled or ReservationExpired where it came to something else, RedisError or
    django.db.OperationalError where nobody can say: then ask again.
    """
    event = event_of(reservation, outcome)
    answer = claim(reservation, outcome.text, event, how="settle")
    if answer[0] in {"unknown", "cold"}:
        with transaction.atomic():
            lock_entitlement(Organization.objects.get(pk=reservation.event.organization_id))
            stored = find_event(reservation)
            if stored:
                answer = ["known", Outcome.of_event(stored).text]
            elif answer[0] == "unknown" and from_microseconds(answer[1]) >= reservation.due + LATE:
                raise ReservationExpired(
                    "This reservation ended long ago, and nothing is billed for it.", units=0
                )
            else:
                answer = claim(reservation, outcome.text, event, how="sure")
    if answer[0] == "known":
        compare(outcome, known=answer[1], reservation=reservation)
    elif event:
        deliver(reservation.ref, event)


def claim(reservation: Reservation, outcome: str, event: Event | None, *, how: str) -> list[str]:
    left = ""
    if event:
        left = f"{SETTLED}|{to_microseconds(clock.now() + FINISH_AFTER)}|live|{event.encode()}"
    units = int(outcome.split("|")[1])
    return conclude(
        reservation.ref,
        reservation.id,
        how=how,
        outcome=outcome,
        units=units,
        begun=reservation.record,
        left=left,
    )


def event_of(reservation: Reservation, outcome: Outcome) -> Event | None:
    """Return the event to store, None where the call came to nothing or was a test key's."""
    if not outcome.units or not reservation.livemode:
        return None
    reserved = reservation.event
    return Event(
        id=reserved.id,
        occurred_at=reserved.occurred_at,
        organization_id=reserved.organization_id,
        api_key_id=reserved.api_key_id,
        meter=reserved.meter,
        period_start=reserved.period_start,
        **outcome._asdict(),
    )


def find_event(reservation: Reservation) -> Event | UsageEvent | None:
    """Return the reservation's event from where it is on its way to the ledger, or is stored. Raises RedisError."""
    if not reservation.livemode:
        return None
    wanted = reservation.event
    waiting = (event for event in stream.backlog(wanted.organization_id) if event.id == wanted.id)
    stored = UsageEvent.objects.filter(id=wanted.id, occurred_at=wanted.occurred_at)
    return next(waiting, None) or stored.first()


def compare(outcome: Outcome, *, known: str, reservation: Reservation) -> None:
    if known == outcome.text:
        return
    word, units = known.split("|")[:2]
    if word == EXPIRED:
        raise ReservationExpired(
            f"Nobody settled this reservation in time: all of its {units} units are billed.", units=int(units)
        )
    raise ReservationSettled(
        f"This reservation has been settled with other values: {units} units are billed.", units=int(units)
    )


def deliver(ref: str, event: Event) -> None:
    """Hand the event of a settled reservation to the ledger, then let its record go."""
    try:
        stream.deliver(event)
        forget(ref, event.id.hex)
    except RedisError:
        # Now, because Redis may come back without what it knew. If it does not, the sweep appends the event again.
        logger.warning("Redis is unreachable: what a reservation of %s came to is stored at once", ref)
        metering.store_directly(event)


def finish(reservation: Reservation) -> bool:
    """Bill a reservation that nobody settled, or store what it came to where nobody did; return which of the two.

    Raises RedisError.
    """
    if reservation.state == SETTLED:
        deliver(reservation.ref, reservation.event)
        return False
    outcome = Outcome.of_event(reservation.event)
    event = event_of(reservation, outcome)
    text = outcome.text.replace(SETTLED, EXPIRED, 1)
    is_claimed = claim(reservation, text, event, how="overdue")[0] == "claimed"
    if is_claimed and event:
        deliver(reservation.ref, event)
    return is_claimed
