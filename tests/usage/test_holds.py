"""What drains have in hand: never less than what they read and did not store, whatever dies and whenever."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.crc import key_slot
from redis.exceptions import ConnectionError as Lost

from usage import reading
from usage.holds import holds_of, key_of
from usage.reading import Page, Reader
from usage.redis_client import get_redis

STREAM, GROUP = "letters", "readers"


@pytest.fixture(autouse=True)
def small_pages(redis, monkeypatch):
    monkeypatch.setattr(reading, "PAGE", 3)


def reader(name: str = "a") -> Reader:
    return Reader(STREAM, GROUP, name)


def append(*texts: str) -> None:
    for text in texts:
        get_redis().xadd(STREAM, {"e": text})


def in_letters(page: Page) -> str:
    return b"".join(page.texts).decode()


class Mortal(Reader):
    """A reader whose process dies at its so-and-so-manieth command, before Redis has carried it out or after."""

    def __init__(self, name: str, *, lives_for: int, is_heard: bool) -> None:
        self.left, self.is_heard = 1_000, is_heard
        super().__init__(STREAM, GROUP, name)
        self.left = lives_for

    def ask(self, *command: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise Lost("Dead.")
        if self.left == 0:
            if self.is_heard:
                super().ask(*command)
            raise Lost("It dies.")
        return super().ask(*command)


def test_a_reader_holds_exactly_what_it_has_read_until_it_is_done_with_it():
    append(*"abcde")
    ids = [id_ for id_, _ in get_redis().xrange(STREAM)]
    one = reader("one")

    page = one.read()
    (hold,) = holds_of(STREAM)
    assert (in_letters(page), hold[:3], hold.consumer) == ("abc", (ids[0], ids[2], 3), "one")
    one.acknowledge(page.ids)

    assert holds_of(STREAM) == []
    assert get_redis().xlen(STREAM) == 2


def test_a_reader_that_finds_nothing_holds_nothing_and_writes_nothing():
    one = reader("one")
    before = get_redis().info("persistence")["rdb_changes_since_last_save"]

    assert one.read().ids == []
    assert one.read(block_ms=1).ids == []
    assert get_redis().info("persistence")["rdb_changes_since_last_save"] == before


def test_a_reader_that_died_before_it_heard_what_it_had_read_is_taken_over():
    append(*"ab")
    one = reader("one")
    one.hold()
    one.call(*one.next_page())
    (hold,) = holds_of(STREAM)
    assert (hold.last, hold.size) == ("", 0)
    append("c")

    assert in_letters(reader("two").claim(idle_ms=0)) == "ab"
    assert in_letters(reader("two").read()) == "c"


def test_a_hold_of_nobody_knows_how_much_is_taken_over_page_by_page():
    append(*"abcdefgh")
    one = reader("one")
    one.hold()
    for _ in range(3):
        one.call(*one.next_page())
    two = reader("two")

    found = []
    while page := two.claim(idle_ms=0, of="two" if found else ""):
        if not page.ids:
            break
        found.append(in_letters(page))
        two.acknowledge(page.ids)
    assert found == ["abc", "def", "gh"]
    assert (holds_of(STREAM), get_redis().xlen(STREAM)) == ([], 0)


def test_what_was_just_taken_over_is_not_taken_over_again():
    append(*"ab")
    reader("one").read()
    assert in_letters(reader("two").claim(idle_ms=0)) == "ab"

    assert reader("three").claim(idle_ms=1_000).ids == []
    assert [hold.consumer for hold in holds_of(STREAM)] == ["two"]


def test_entries_that_are_kept_stay_held_one_by_one_and_the_others_do_not():
    append(*"abcde")
    one = reader("one")
    page = one.read()
    page.add(one.read())
    one.acknowledge(page.without({page.ids[1], page.ids[3]}).ids)

    assert [(hold.first, hold.last) for hold in sorted(holds_of(STREAM))] == [
        (page.ids[place].decode(), page.ids[place].decode()) for place in (1, 3)
    ]
    assert in_letters(reader("two").claim(idle_ms=0)) == "bd"


def test_what_a_drain_of_version_0_1_had_in_hand_is_taken_over(caplog):
    append(*"abcd")
    reader("old")
    get_redis().xreadgroup(GROUP, "old", {STREAM: ">"}, count=2)
    new = reader("new")

    assert in_letters(new.claim(idle_ms=30_000)) == "ab"
    assert in_letters(new.read()) == "cd"
    assert get_redis().xpending(STREAM, GROUP)["pending"] == 0
    assert "2 entries of letters that an older version had in hand are looked at anew" in caplog.text


def test_the_hash_of_holds_lies_where_a_cluster_keeps_the_stream():
    assert key_slot(key_of("tollgate:usage:events").encode()) == key_slot(b"tollgate:usage:events")


def test_a_script_that_redis_has_forgotten_is_sent_anew():
    append("a")
    one = reader("one")
    get_redis().script_flush()

    assert in_letters(one.read()) == "a"


names = st.sampled_from("abc")
acts = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 5)),
    st.tuples(st.just("read"), names),
    st.tuples(st.just("read ahead"), names),
    st.tuples(st.just("claim"), names),
    st.tuples(st.just("store"), names),
    st.tuples(st.just("store some"), names, st.integers(0, 9)),
    st.tuples(st.just("die"), names),
    st.tuples(st.just("dies at"), names, st.integers(1, 9), st.booleans()),
)


class Play:
    """Readers, the pages that each has in hand, and what was ever stored."""

    def __init__(self) -> None:
        self.readers: dict[str, Reader] = {}
        self.pages: dict[str, Page] = {}
        self.appended: list[str] = []
        self.stored: set[str] = set()

    def reader(self, name: str) -> Reader:
        if name not in self.readers:
            self.readers[name] = reader(name)
            self.pages[name] = Page([], [])
        return self.readers[name]

    def die(self, name: str) -> None:
        old = self.readers.pop(name, None)
        self.pages.pop(name, None)
        if old:
            old.close()

    def store(self, name: str, ids: Callable[[Page], Page]) -> None:
        one, page = self.reader(name), self.pages[name]
        some = ids(page)
        self.stored |= {text.decode() for text in some.texts}
        self.pages[name] = page.without(set(some.ids))
        one.acknowledge(some.ids)

    def act(self, what: str, *how: Any) -> None:
        if what == "append":
            new = [f"{len(self.appended) + number}," for number in range(how[0])]
            self.appended += new
            append(*new)
            return
        name = how[0]
        if what == "die":
            self.die(name)
        elif what == "dies at":
            self.die(name)
            self.readers[name] = Mortal(name, lives_for=how[1], is_heard=how[2])
            self.pages[name] = Page([], [])
        elif what == "store":
            self.store(name, lambda page: page)
        elif what == "store some":
            self.store(name, lambda page: page.without(set(page.ids[how[1] :: 3])))
        else:
            one = self.reader(name)
            if what == "read ahead":
                one.begin_reading()
                found = one.finish_reading()
            else:
                found = one.read() if what == "read" else one.claim(idle_ms=0)
            fresh = found.without(set(self.pages[name].ids))
            self.pages[name].add(fresh)

    def end(self) -> Iterator[Page]:
        """Have one more reader do all that is left, as a drain does."""
        last = reader("last")
        for attempt in (lambda: last.claim(idle_ms=0), last.read):
            while (page := attempt()).ids:
                yield page
                last.acknowledge(page.ids)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(acts, max_size=40), st.booleans())
def test_whoever_dies_at_whichever_command_every_entry_is_stored_and_none_stays(caplog, steps, stalls):
    get_redis().delete(STREAM, key_of(STREAM))
    caplog.clear()
    stalled, reading.STALLED_MS = reading.STALLED_MS, -1 if stalls else 1_000_000
    play = Play()
    try:
        with caplog.at_level(logging.ERROR):
            for what, *how in steps:
                try:
                    play.act(what, *how)
                except Lost:
                    play.die(how[0])
            for page in play.end():
                play.stored |= {text.decode() for text in page.texts}
    finally:
        reading.STALLED_MS = stalled
        for name in list(play.readers):
            play.die(name)

    assert play.stored == set(play.appended)
    assert (get_redis().xlen(STREAM), holds_of(STREAM)) == (0, [])
    assert caplog.text == ""
