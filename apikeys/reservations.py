"""Units that were charged for a call which has yet to say what it came to.

Redis holds an organization's reservations in one hash, by id, in the slot of its other keys. A record is
"<state>|<due>|<mode>|<event>": open, the event is of all that was reserved, and due when it will be billed so;
settled, the event is the one to store, and due when somebody else stores it who finds it still here. Once the
event is with the ledger the record goes. What the reservation came to is kept beside it, under a key of its own,
until an hour after the deadline.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from django.core import signing
from redis.exceptions import RedisError

from accounts import clock
from apikeys.instants import from_microseconds, to_microseconds
from apikeys.scripts import Script
from usage import stream
from usage.events import Event, uuid7
from usage.lines import lines
from usage.redis_client import get_redis

TERM = timedelta(minutes=10)
FINISH_AFTER = timedelta(seconds=10)  # How long who settles may take to hand the event over.
SALT = "apikeys.reservations"
# Which organizations may have reservations: ref -> when the latest ends. One key for all, so in another slot.
INDEX = "tollgate:reservations"
SCAN = 1000
CONCLUDE = Script("settle.lua")
WITHDRAWN = "withdrawn|0"


class Names(NamedTuple):
    """Two Redis keys: of an organization's reservations, and of what one of them came to."""

    held: str
    outcome: str


def names(ref: str, id: str) -> Names:
    return Names(f"tollgate:{{{ref}}}:reservations", f"tollgate:{{{ref}}}:settled:{id}")


def used_by(ref: str) -> str:
    """Return the name of the hash of counters, which `apikeys.cache` keeps."""
    return f"tollgate:{{{ref}}}:used"


class Hold(NamedTuple):
    """What the gate has to know to make a reservation. The id is that of its event."""

    id: str
    endpoint: str
    method: str

    @classmethod
    def of(cls, *, endpoint: str, method: str) -> "Hold":
        return cls(uuid7(clock.now()).hex, endpoint, method)

    @property
    def args(self) -> list[str | int]:
        """What gate.lua takes: an event's status is not known (0), nor its time."""
        return [self.id, TERM // timedelta(microseconds=1), f"{self.method}|0|0|{self.endpoint}"]


@dataclass(frozen=True, slots=True)
class Reservation:
    """A reservation as its record says it: in Redis, or in the token that whoever asked the gate was given."""

    ref: str
    record: str
    state: str
    due: datetime
    livemode: bool
    event: Event

    @classmethod
    def read(cls, ref: str, record: str) -> "Reservation":
        """Raises ValueError for what is no record."""
        state, due, mode, event = record.split("|", 3)
        return cls(ref, record, state, from_microseconds(due), mode == "live", Event.decode(event))

    @classmethod
    def from_token(cls, token: str) -> "Reservation":
        """Raises django.core.signing.BadSignature for a token that is none of ours."""
        return cls.read(*signing.loads(token, salt=SALT))

    @property
    def token(self) -> str:
        return signing.dumps([self.ref, self.record], salt=SALT)

    @property
    def id(self) -> str:
        return self.event.id.hex

    @property
    def cost(self) -> int:
        return self.event.units


def announce(ref: str) -> None:
    """Have the sweep look at this organization from now on. Raises RedisError.

    Before a reservation is made: an organization without any costs the sweep one look.
    """
    ends = to_microseconds(clock.now() + TERM)
    lines.call("ZADD", INDEX, "GT", ends, ref)


def held_by(ref: str) -> Iterator[tuple[str, str]]:
    """Yield the ids and records of an organization's reservations. Raises RedisError."""
    found: Any = get_redis().hscan_iter(names(ref, "").held, count=SCAN)
    yield from found


def uncounted_events(ref: str) -> list[Event]:
    """Return the events that live reservations stand for: charged, and maybe not on the stream yet.

    Read before the stream, as the stream before the ledger, none is missed on its way. Raises RedisError.
    """
    held = [Reservation.read(ref, record) for _, record in held_by(ref)]
    return [each.event for each in held if each.livemode]


def moment() -> str | int:
    """The time as the scripts take it: the Redis server's own, unless the process's clock stands."""
    now = clock.find_standing()
    return to_microseconds(now) if now else ""


def forget(ref: str, id: str) -> None:
    """Let go of a record whose event is with the ledger. Raises RedisError."""
    get_redis().hdel(names(ref, id).held, id)


def withdraw(ref: str, hold: Hold) -> None:
    """See to it that a question which Redis left without an answer reserves nothing, done before or yet to be done."""
    stream.retry_later(partial(try_withdrawing, ref, hold.id, until=clock.now() + TERM))


def try_withdrawing(ref: str, id: str, *, until: datetime) -> bool:
    """Return whether there is nothing more to do."""
    if clock.now() >= until:
        return True  # If it was made, it has been billed.
    try:
        conclude(ref, id, how="withdraw", outcome=WITHDRAWN)
    except RedisError:
        return False
    return True


def conclude(
    ref: str, id: str, *, how: str, outcome: str, units: int = 0, begun: str = "", left: str = ""
) -> list[str]:
    """Return what settle.lua answers: it alone decides what a reservation came to. Raises RedisError."""
    keys = [*names(ref, id), used_by(ref)]
    answer: list[str] = CONCLUDE.run(keys, [id, outcome, units, begun, left, how, moment()])
    return answer
