"""One event as it was sent, and what became of it."""

import hashlib
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from usage.events import EPOCH

Value = int | float | str | None


class Refused(Exception):
    """An event is not taken. `code` is for programs, the message a sentence for people."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Outcome(NamedTuple):
    """What became of an event: accepted, duplicate or refused; `code` and `detail` say why it was refused."""

    status: str
    code: str | None = None
    detail: str | None = None

    @classmethod
    def of(cls, refused: Refused) -> "Outcome":
        return cls("refused", refused.code, str(refused))


ACCEPTED = Outcome("accepted")
DUPLICATE = Outcome("duplicate")


class Names(NamedTuple):
    """What the sender calls the parts of an event: refusals name them so."""

    source: str = "source"
    id: str = "id"
    organization: str = "organization"
    meter: str = "meter"
    time: str = "time"
    value: str = "value"


PLAIN = Names()
CLOUD = Names(organization="subject", meter="type", value="data.value")


class Item(NamedTuple):
    """An event whose parts are what they should be; whether they name anything is not known yet.

    `organization` is a ref, `meter` a slug. `time` is in microseconds since 1970, None where none was sent. `key`
    names the event in the whole installation, and `fingerprint` all that it says.
    """

    key: UUID
    fingerprint: UUID
    source: str
    organization: str
    meter: str
    time: int | None
    value: Value
    names: Names


def make_item(
    *, source: str, id: str, organization: str, meter: str, time: int | None, value: Value, names: Names
) -> Item:
    """Return the event of these parts, none of which has a NUL. Raises UnicodeEncodeError where one is no Unicode."""
    # By what was sent: an event without a time is the same event when it is sent again later.
    told = "\0".join((organization, meter, "" if time is None else str(time), mark(value)))
    return Item(
        key_of(source, id),
        UUID(bytes=hashlib.sha256(told.encode()).digest()[:16]),
        source,
        organization,
        meter,
        time,
        value,
        names,
    )


def key_of(source: str, id: str) -> UUID:
    """Return the ledger's id of what a sender calls `id`: a UUIDv8 (RFC 9562, 5.8), which no call's UUIDv7 equals."""
    name = source.encode()
    # With the length before it "ab" + "c" is not "a" + "bc".
    digest = hashlib.sha256(b"%d:%b%b" % (len(name), name, id.encode())).digest()
    number = int.from_bytes(digest[:16])
    # The version, 8, is bits 48 to 51, and the variant, 10, the two after bit 64.
    return UUID(int=number & ~(0xF << 76 | 0b11 << 62) | 8 << 76 | 0b10 << 62)


def mark(value: Value) -> str:
    """Return a text that only this value has, of this type: 5 and "5" are two."""
    return "" if value is None else f"{type(value).__name__[0]}{value!r}"


def moment_of(time: int) -> datetime:
    return EPOCH + timedelta(microseconds=time)
