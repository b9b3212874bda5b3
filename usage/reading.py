"""A reader of a Redis stream in a consumer group: page by page, in bytes, the next page on its way meanwhile."""

import logging
import uuid
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import chain, count
from typing import Any, NamedTuple

from hiredis import Reader as Replies
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import NoScriptError, RedisError, ResponseError

from usage.holds import SCRIPT, SHA, key_of
from usage.lines import Argument, Line
from usage.redis_client import get_redis, is_cluster

logger = logging.getLogger(__name__)

Id = bytes

PAGE = 1000  # Entries a command: Redis answers nobody else while it hands them out, half a millisecond or so.
# How long a reader may have a batch in hand before what others have stored meanwhile is taken out one by one. Up to
# then they leave it, because taking out all that is older than anybody's batch is ten times quicker.
STALLED_MS = 5_000
NOW, LONG_AGO = "", 0  # Since when something is held.


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
    """Reads `stream` as `consumer` of `group`, which it makes where it is missing. Every method raises RedisError.

    It holds what it reads (see `usage.holds`) until that is acknowledged.
    """

    def __init__(self, stream: str, group: str, consumer: str) -> None:
        self.stream, self.group, self.consumer = stream, group, consumer
        self.holds = key_of(stream)
        self.held: dict[str, list[Id]] = {}
        self.tokens = (f"{uuid.uuid4().hex}-{number}" for number in count())
        self.cursor: Argument = "0"
        self.line: RawLine | None = None
        self.asked: str | None = None
        self.ensure_group()

    def ensure_group(self) -> None:
        answer = self.ask("XGROUP", "CREATE", self.stream, self.group, "0", "MKSTREAM")
        if not isinstance(answer, Exception):
            return
        if not str(answer).startswith("BUSYGROUP"):
            raise answer
        if adopted := self.act("adopt", next(self.tokens), self.consumer):
            logger.warning(
                "%d entries of %s that an older version had in hand are looked at anew", adopted, self.stream
            )

    def read(self, *, block_ms: int | None = None) -> Page:
        """Return the next page of what nobody has taken yet; wait for its first entry up to `block_ms`."""
        if block_ms is not None:
            self.call("XREAD", "COUNT", 1, "BLOCK", block_ms, "STREAMS", self.stream, self.cursor)
        token = self.hold()
        return self.take(token, self.call(*self.next_page())) if token else Page([], [])

    def begin_reading(self) -> None:
        """Ask for a page that `finish_reading` returns."""
        if is_cluster():
            return
        self.asked = self.hold()
        if self.asked:
            self.open().say(self.next_page())

    def finish_reading(self) -> Page:
        if not self.asked:
            return self.read()
        token, self.asked = self.asked, None
        try:
            answer = self.open().hear()
        except BaseException:
            self.close()
            raise
        return self.take(token, raised(answer))

    def next_page(self) -> tuple[Argument, ...]:
        whose = ("XREADGROUP", "GROUP", self.group, self.consumer, "COUNT", PAGE)
        return (*whose, "NOACK", "STREAMS", self.stream, ">")

    def hold(self) -> str | None:
        """Hold what is to be read next, so that it can be found again; return its token, or None of nothing."""
        token = next(self.tokens)
        self.cursor, *is_held = self.act("hold", token, self.consumer)
        return token if is_held else None

    def take(self, token: str, answer: Any) -> Page:
        """Return the page that was read, and say exactly what is held."""
        page = page_of(answer[0][1]) if answer else Page([], [])
        if page.ids:
            self.act("put", token, page.ids[0], page.ids[-1], len(page.ids), NOW, self.consumer)
            self.held[token] = list(page.ids)
        else:
            self.call("HDEL", self.holds, token)
        return page

    def claim(self, *, idle_ms: int, of: str = "") -> Page:
        """Take over what a reader, or the one named `of`, has had in hand for `idle_ms`: a page of it or a little more.

        What is no longer in the stream, because somebody else has trimmed it, is given up with an error in the log.
        """
        found = Page([], [])
        while not found.ids:
            parts = self.act("claim", self.consumer, idle_ms, of, PAGE)
            if not parts:
                break
            for token, first, last, size in zip(*[iter(parts)] * 4, strict=True):
                found.add(self.look_up(token.decode(), first, last, size))
        return found

    def look_up(self, token: str, first: Id, last: Id, size: int) -> Page:
        """Return what a hold holds that was taken over: a page of it at most, the rest is held anew."""
        limit = size or PAGE
        page = page_of(self.call("XRANGE", self.stream, first, last, "COUNT", limit))
        if len(page.ids) < size and self.call("HEXISTS", self.holds, token):
            # If it were gone, its reader would not have been dead after all, and would have stored them.
            lost = size - len(page.ids)
            logger.error("%d entries were removed from %s before they were stored", lost, self.stream)
        if not page.ids:
            self.call("HDEL", self.holds, token)
            return page
        if not size and len(page.ids) == limit:
            known = (token, page.ids[0], page.ids[-1], limit, NOW, self.consumer)
            self.act(
                "put", *known, next(self.tokens), following(page.ids[-1]), last, 0, LONG_AGO, self.consumer
            )
        self.held[token] = list(page.ids)
        return page

    def acknowledge(self, ids: list[Id]) -> None:
        """Be done with entries, in the stream's order, and take out of it what all readers are done with."""
        if not ids:
            return
        kept: dict[str, list[Id]] = {}
        done = list(self.held)
        if list(chain(*self.held.values())) != ids:
            done, kept = self.sort_out(set(ids))
        for token, (id_,) in kept.items():
            self.act("put", token, id_, id_, 1, NOW, self.consumer)
        waits_for = self.act("release", *done)
        for token in done:
            del self.held[token]
        self.held |= kept
        if waits_for and waits_for[1] > STALLED_MS:
            first = order_of(waits_for[0])
            later = [id_ for id_ in ids if order_of(id_) > first]
            self.call_all(("XDEL", self.stream, *some) for some in in_pages(later))

    def sort_out(self, ids: Container[Id]) -> tuple[list[str], dict[str, list[Id]]]:
        """Return the tokens of the holds that any of these ids are in, and new ones for what else those hold."""
        done = [token for token, some in self.held.items() if any(id_ in ids for id_ in some)]
        rest = (id_ for token in done for id_ in self.held[token] if id_ not in ids)
        return done, {next(self.tokens): [id_] for id_ in rest}

    def remove(self, consumer: str = "", *, idle_ms: int = 0) -> int:
        """Take a reader's name off the group, or all that were not heard of for `idle_ms`; return how many.

        Those who have entries in hand stay.
        """
        removed: int = self.act("remove", consumer, idle_ms)
        return removed

    def act(self, what: str, *arguments: Argument) -> Any:
        """Do something with holds, as the script has it."""
        said = (2, self.stream, self.holds, what, self.group, *arguments)
        try:
            return self.call("EVALSHA", SHA, *said)
        except ResponseError as error:
            # redis-py has a class for it, and takes the word away; hiredis by itself has the word.
            if not isinstance(error, NoScriptError) and not str(error).startswith("NOSCRIPT"):
                raise
        return self.call("EVAL", SCRIPT, *said)

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
        line, self.line, self.asked = self.line, None, None
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


def following(entry_id: Id) -> str:
    milliseconds, number = order_of(entry_id)
    return f"{milliseconds}-{number + 1}"


def order_of(entry_id: Id) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition(b"-")
    return int(milliseconds), int(sequence or 0)
