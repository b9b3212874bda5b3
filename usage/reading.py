"""A reader of a Redis stream in a consumer group: page by page, in bytes, the next page on its way meanwhile."""

import logging
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from hiredis import Reader as Replies
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import RedisError, ResponseError

from usage.lines import Argument, Line
from usage.redis_client import get_redis, is_cluster

logger = logging.getLogger(__name__)

Id = bytes

PAGE = 1000  # Entries a command: Redis answers nobody else while it hands them out, two milliseconds or so.
# How long a reader may have a batch in hand before what others have stored meanwhile is taken out one by one. Up to
# then they leave it, because taking out all that is older than anybody's batch is ten times quicker.
STALLED_MS = 5_000
# Removing a reader's name takes what hangs on it out of the group, so nothing may come in between.
REMOVE = """
local removed = 0
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    local about = {}
    for place = 1, #consumer, 2 do about[consumer[place]] = consumer[place + 1] end
    local meant = about.name == ARGV[2] or (ARGV[2] == '' and about.idle > tonumber(ARGV[3]))
    if meant and about.pending == 0 then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], about.name)
        removed = removed + 1
    end
end
return removed
"""

# Takes out all that every reader is done with, which is quick, because whole nodes go at once: what was handed out
# before the first entry that somebody still has in hand. Returns that one's id, and for how long it has been so.
TRIM = """
local function parts(id)
    local ms, seq = string.match(id, '(%d+)-(%d+)')
    return tonumber(ms), tonumber(seq)
end
local ms, seq
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local about = {}
    for place = 1, #group, 2 do about[group[place]] = group[place + 1] end
    if about.name == ARGV[1] then
        ms, seq = parts(about['last-delivered-id'])
        seq = seq + 1
    end
end
local first = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1)[1]
if first then
    local first_ms, first_seq = parts(first[1])
    if first_ms < ms or first_ms == ms and first_seq < seq then ms, seq = first_ms, first_seq end
end
redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f-%.0f', ms, seq))
return first and {first[1], first[3]} or false
"""


class Page(NamedTuple):
    """Entries in the order of the stream: their ids, and the value of the one field that each has."""

    ids: list[Id]
    texts: list[bytes]

    def add(self, other: "Page") -> None:
        self.ids.extend(other.ids)
        self.texts.extend(other.texts)

    def without(self, ids: Container[Id]) -> "Page":
        return Page.of((id_, text) for id_, text in zip(*self, strict=True) if id_ not in ids)

    @classmethod
    def of(cls, entries: Iterable[tuple[Id, bytes]]) -> "Page":
        pairs = list(entries)
        return cls([id_ for id_, _ in pairs], [text for _, text in pairs])


class RawLine(Line):
    """A line whose answers are bytes: most of them only pass through."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = Replies(protocolError=Lost, replyError=ResponseError)


class Reader:
    """Reads `stream` as `consumer` of `group`, which it makes where it is missing. Every method raises RedisError."""

    def __init__(self, stream: str, group: str, consumer: str) -> None:
        self.stream, self.group, self.consumer = stream, group, consumer
        self.line: RawLine | None = None
        self.asked = False
        self.ensure_group()

    def ensure_group(self) -> None:
        answer = self.ask("XGROUP", "CREATE", self.stream, self.group, "0", "MKSTREAM")
        if isinstance(answer, Exception) and not str(answer).startswith("BUSYGROUP"):
            raise answer

    def read(self, *, block_ms: int | None = None) -> Page:
        """Return the next page of what nobody has taken yet; wait for its first entry up to `block_ms`."""
        if block_ms is None:
            return self.page(self.call(*self.next_page()))
        return self.page(self.call(*self.next_page("BLOCK", block_ms)))

    def begin_reading(self) -> None:
        """Ask for a page that `finish_reading` returns."""
        if is_cluster():
            return
        self.open().say(self.next_page())
        self.asked = True

    def finish_reading(self) -> Page:
        if not self.asked:
            return self.read()
        self.asked = False
        try:
            answer = self.open().hear()
        except BaseException:
            self.close()
            raise
        return self.page(raised(answer))

    def next_page(self, *options: Argument) -> tuple[Argument, ...]:
        whose = ("XREADGROUP", "GROUP", self.group, self.consumer, "COUNT", PAGE)
        return (*whose, *options, "STREAMS", self.stream, ">")

    def page(self, answer: Any) -> Page:
        return page_of(answer[0][1]) if answer else Page([], [])

    def claim(self, *, idle_ms: int, of: str | None = None) -> Page:
        """Take over what a reader, or the one named `of`, has had in hand for `idle_ms`: a page of it.

        What is no longer in the stream, because somebody else has trimmed it, is given up with an error in the log.
        """
        whose = [of] if of else []
        found = self.call("XPENDING", self.stream, self.group, "IDLE", idle_ms, "-", "+", PAGE, *whose)
        ids: list[Id] = [each[0] for each in found]
        if not ids:
            return Page([], [])
        claimed = self.call("XCLAIM", self.stream, self.group, self.consumer, idle_ms, *ids)
        page = page_of([each for each in claimed if each and each[1]])
        had = set(page.ids)
        self.give_up([id_ for id_ in ids if id_ not in had])
        return page

    def give_up(self, ids: Sequence[Id]) -> None:
        """Acknowledge those of the entries that are gone. Another reader may have claimed, or stored, the others."""
        lost = 0
        for id_ in ids:
            if not self.call("XRANGE", self.stream, id_, id_):
                lost += self.call("XACK", self.stream, self.group, id_)
        if lost:
            logger.error("%d entries were removed from %s before they were stored", lost, self.stream)

    def acknowledge(self, ids: Sequence[Id]) -> None:
        """Be done with entries, in the stream's order, and take out of it what all readers are done with."""
        if not ids:
            return
        self.call_all(("XACK", self.stream, self.group, *some) for some in in_pages(ids))
        waits_for = self.call("EVAL", TRIM, 1, self.stream, self.group)
        if waits_for and waits_for[1] > STALLED_MS:
            first = order_of(waits_for[0])
            later = [id_ for id_ in ids if order_of(id_) > first]
            self.call_all(("XDEL", self.stream, *some) for some in in_pages(later))

    def remove(self, consumer: str = "", *, idle_ms: int = 0) -> int:
        """Take a reader's name off the group, or all that were not heard of for `idle_ms`; return how many.

        Those who have entries in hand stay.
        """
        removed: int = self.call("EVAL", REMOVE, 1, self.stream, self.group, consumer, idle_ms)
        return removed

    def call(self, *command: Argument) -> Any:
        """Return the answer. A group that is missing, because Redis was emptied, is made anew first."""
        answer = self.ask(*command)
        if isinstance(answer, ResponseError) and str(answer).startswith("NOGROUP"):
            logger.warning("The consumer group of %s is missing, and is made anew", self.stream)
            self.ensure_group()
            answer = self.ask(*command)
        return raised(answer)

    def call_all(self, commands: Iterable[tuple[Argument, ...]]) -> None:
        """Carry out several commands in one round trip, where Redis is no cluster."""
        if is_cluster():
            for command in commands:
                self.call(*command)
            return
        line = self.open()
        try:
            said = 0
            for command in commands:
                line.say(command)
                said += 1
            answers = [line.hear() for _ in range(said)]
        except BaseException:
            self.close()
            raise
        for answer in answers:
            raised(answer)

    def ask(self, *command: Argument) -> Any:
        """Return the answer, a ResponseError too."""
        if is_cluster():
            try:
                return get_redis().execute_command(*command, NEVER_DECODE=True)
            except ResponseError as error:
                return error
        line = self.open()
        try:
            return line.call(command)
        except BaseException:
            self.close()
            raise

    def open(self) -> RawLine:
        if self.line is None:
            self.line = RawLine()
        return self.line

    def close(self) -> None:
        line, self.line, self.asked = self.line, None, False
        if line is not None:
            line.close()


def in_pages(ids: Sequence[Id]) -> Iterator[Sequence[Id]]:
    return (ids[start : start + PAGE] for start in range(0, len(ids), PAGE))


def raised(answer: Any) -> Any:
    if isinstance(answer, RedisError):
        raise answer
    return answer


def page_of(answer: Sequence[Any]) -> Page:
    ids = [entry[0] for entry in answer]
    if answer and isinstance(answer[0][1], dict):  # From redis-py's client.
        return Page(ids, [next(iter(fields.values())) for _, fields in answer])
    return Page(ids, [entry[1][1] for entry in answer])


def order_of(entry_id: Id) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition(b"-")
    return int(milliseconds), int(sequence or 0)
