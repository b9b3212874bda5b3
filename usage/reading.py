"""A reader of a Redis stream in a consumer group: page by page, in bytes, the next page on its way meanwhile."""

import logging
import uuid
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import chain, count, groupby
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
# For how many pages a reader that has looked ahead in vain, as another was quicker, no longer does.
CROWDED = 50
MOST_RUNS = 10  # Of a page of which entries are kept, each a hold.
BEGINNING = b"0-0"  # Where a reader that has not looked yet takes the group to be.


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


class Kept(NamedTuple):
    """What is left of a hold, `size` entries in all or 0 where others lie between them."""

    origin: str
    token: str
    ids: list[Id]
    size: int

    def said(self) -> tuple[Argument, ...]:
        return self.origin, self.token, self.ids[0], self.ids[-1], self.size


class Reader:
    """Reads `stream` as `consumer` of `group`, which it makes where it is missing. Every method raises RedisError.

    It holds what it reads (see `usage.holds`) until that is acknowledged.
    """

    def __init__(self, stream: str, group: str, consumer: str) -> None:
        self.stream, self.group, self.consumer = stream, group, consumer
        self.holds_key = key_of(stream)
        self.held: dict[str, list[Id]] = {}
        self.tokens = (f"{uuid.uuid4().hex}-{number}" for number in count())
        self.cursor = BEGINNING
        self.line: RawLine | None = None
        self.is_asked = False
        self.crowded = 0
        self.unfreed: list[list[Id]] = []
        self.ensure_group()

    def ensure_group(self) -> None:
        """Make the group, where there is none, and take a place in it."""
        raised(self.run("make"))
        if adopted := raised(self.run("adopt", self.consumer, next(self.tokens), PAGE)):
            logger.warning("%d entries of %s were in hand of an older version", adopted, self.stream)
        self.show()

    def show(self) -> None:
        """Be seen among the group's consumers: with what it has in hand by the group's own account, nothing."""
        whose = ("XREADGROUP", "GROUP", self.group, self.consumer, "COUNT", 1)
        self.call(*whose, "STREAMS", self.stream, "0")

    def read(self, *, block_ms: int | None = None) -> Page:
        """Return the next page of what nobody has taken yet; wait for its first entry up to `block_ms`."""
        if block_ms is not None:
            self.call("XREAD", "COUNT", 1, "BLOCK", block_ms, "STREAMS", self.stream, self.cursor)
        return self.take(page_of(self.call(*self.next_page())))

    def begin_reading(self) -> None:
        """Have a look at a page that `finish_reading` takes, if nobody does before."""
        self.crowded = max(self.crowded - 1, 0)
        if is_cluster() or self.crowded:
            return
        line, self.is_asked = self.open(), True
        try:
            line.say(self.next_page())
        except BaseException:
            self.close()
            raise

    def finish_reading(self) -> Page:
        if not self.is_asked:
            return self.read()
        self.is_asked = False
        try:
            answer = self.open().hear()
        except BaseException:
            self.close()
            raise
        return self.take(page_of(raised(answer)))

    def next_page(self) -> tuple[Argument, ...]:
        return ("XRANGE", self.stream, b"(" + self.cursor, "+", "COUNT", PAGE)

    def take(self, page: Page) -> Page:
        """Hold the page that was looked at, and return it; or the one that comes now, where somebody was quicker."""
        while True:
            token, after = next(self.tokens), self.cursor
            ends = (page.ids[0], page.ids[-1], len(page.ids)) if page.ids else ()
            self.cursor, *is_held = self.act("take", token, self.consumer, after, *ends)
            if is_held:
                self.held[token] = list(page.ids)
                return page
            if self.cursor == after and not page.ids:
                return page
            if page.ids and after != BEGINNING:
                self.crowded = CROWDED
            page = page_of(self.call(*self.next_page()))

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
        """Return what a hold holds that was taken over."""
        page = page_of(self.call("XRANGE", self.stream, first, last))
        # Where the hold is gone its reader was not dead after all, and has stored it all.
        if len(page.ids) < size and self.call("HEXISTS", self.holds_key, token):
            lost = size - len(page.ids)
            logger.error("%d entries were removed from %s before they were stored", lost, self.stream)
        if page.ids:
            self.held[token] = list(page.ids)
        else:
            self.call("HDEL", self.holds_key, token)
        return page

    def acknowledge(self, ids: list[Id]) -> None:
        """Be done with entries, in the stream's order, and take out of it what all readers are done with."""
        if not ids:
            return
        done: list[str] = list(self.held)
        kept: list[Kept] = []
        if list(chain(*self.held.values())) != ids:
            done, kept = self.sort_out(set(ids))
        for start in range(0, len(kept), PAGE):
            said = (each.said() for each in kept[start : start + PAGE])
            self.act("keep", self.consumer, *chain(*said))
        waits_for = self.act("release", self.consumer, *done)
        for token in done:
            del self.held[token]
        self.held |= {each.token: each.ids for each in kept}
        # What lies behind the first that somebody has in hand stays on the stream for the time being.
        first = order_of(waits_for[0]) if waits_for else None
        self.unfreed = [some for some in (*self.unfreed, ids) if first and order_of(some[-1]) > first]
        if waits_for and (kept or waits_for[1] > STALLED_MS):
            self.free()

    def free(self) -> None:
        """Take out of the stream, one by one, what was acknowledged and is still there."""
        unfreed, self.unfreed = self.unfreed, []
        self.call_all(("XDEL", self.stream, *some) for ids in unfreed for some in in_pages(ids))

    def sort_out(self, ids: Container[Id]) -> tuple[list[str], list[Kept]]:
        """Return the tokens of the holds that any of these ids are in, and what else those hold."""
        done = [token for token, some in self.held.items() if any(id_ in ids for id_ in some)]
        kept: list[Kept] = []
        for token in done:
            runs = [list(run) for is_done, run in groupby(self.held[token], ids.__contains__) if not is_done]
            if len(runs) > MOST_RUNS:
                # What lies between is stored once more, which changes nothing.
                kept.append(Kept(token, next(self.tokens), list(chain(*runs)), 0))
            else:
                kept += (Kept(token, next(self.tokens), run, len(run)) for run in runs)
        return done, kept

    def remove(self, consumer: str = "", *, idle_ms: int = 0) -> int:
        """Take a reader's name off the group, or all that did not show for `idle_ms`; return how many.

        Those who have entries in hand stay.
        """
        removed: int = self.act("remove", consumer, idle_ms)
        return removed

    def act(self, what: str, *arguments: Argument) -> Any:
        """Do something with holds, as the script has it. A group that is missing is made anew: Redis was emptied."""
        answer = self.run(what, *arguments)
        if is_without_group(answer):
            logger.warning("The consumer group of %s is missing, and is made anew", self.stream)
            self.ensure_group()
            answer = self.run(what, *arguments)
        return raised(answer)

    def run(self, what: str, *arguments: Argument) -> Any:
        """Return the script's answer, a ResponseError too."""
        said = (2, self.stream, self.holds_key, what, self.group, *arguments)
        answer = self.ask("EVALSHA", SHA, *said)
        # redis-py has a class for it, and takes the word away; hiredis by itself has the word.
        is_unknown = isinstance(answer, ResponseError) and str(answer).startswith("NOSCRIPT")
        if is_unknown or isinstance(answer, NoScriptError):
            return self.ask("EVAL", SCRIPT, *said)
        return answer

    def call(self, *command: Argument) -> Any:
        return raised(self.ask(*command))

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
        line, self.line, self.is_asked = self.line, None, False
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


def is_without_group(answer: Any) -> bool:
    return isinstance(answer, ResponseError) and str(answer).startswith("NOGROUP")


def order_of(entry_id: Id) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition(b"-")
    return int(milliseconds), int(sequence or 0)
