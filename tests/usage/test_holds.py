"""What drains have in hand: never less than what they read and did not store, whatever dies and whenever."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.crc import key_slot
from redis.exceptions import ConnectionError as Lost

from usage import reading, stream
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
    """A reader whose process dies at one of its commands: before Redis carries it out, after, or long before."""

    def __init__(self, name: str, *, lives_for: int, when: str, ghosts: list[Callable[[], object]]) -> None:
        self.left, self.when, self.ghosts = 1_000, when, ghosts
        super().__init__(STREAM, GROUP, name)
        self.left = lives_for

    def ask(self, *command: Any) -> Any:
        self.left -= 1
        if self.left > 0:
            return super().ask(*command)
        if self.left == 0 and self.when == "after":
            super().ask(*command)
        if self.left == 0 and self.when == "long before":
            self.ghosts.append(lambda: get_redis().execute_command(*command))
        raise Lost("It is dead.")


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


def test_a_reader_that_finds_nothing_holds_nothing_and_writes_nothing(own_redis):
    one = reader("one")
    before = get_redis().info("persistence")["rdb_changes_since_last_save"]

    assert one.read().ids == []
    assert one.read(block_ms=1).ids == []
    assert get_redis().info("persistence")["rdb_changes_since_last_save"] == before


def test_a_reader_whose_taking_was_not_heard_of_is_taken_over():
    append(*"ab")
    one = Mortal("one", lives_for=2, when="after", ghosts=[])
    with pytest.raises(Lost):
        one.read()
    append("c")

    assert in_letters(reader("two").claim(idle_ms=0)) == "ab"
    assert in_letters(reader("two").read()) == "c"


def test_a_page_is_taken_by_one_reader_however_many_have_looked_at_it():
    append(*"abcdefgh")
    one, two = reader("one"), reader("two")
    one.begin_reading()
    two.begin_reading()

    assert [in_letters(each.finish_reading()) for each in (two, one, two)] == ["abc", "def", "gh"]


def test_a_page_is_not_taken_once_other_entries_have_come_in_its_place():
    append(*"abc")
    one = reader("one")
    one.begin_reading()
    (first, *_), *_ = get_redis().xrange(STREAM)
    get_redis().xdel(STREAM, first)

    assert in_letters(one.finish_reading()) == "bc"
    assert [hold.size for hold in holds_of(STREAM)] == [2]


def test_a_page_that_is_taken_twice_over_a_bad_connection_is_taken_once():
    append(*"abcd")
    one = reader("one")
    ask = one.ask
    one.ask = lambda *command: (ask(*command), ask(*command))[1]

    assert [in_letters(one.read()) for _ in range(3)] == ["abc", "d", ""]
    assert [hold.size for hold in sorted(holds_of(STREAM))] == [3, 1]


def test_with_redis_full_a_drain_begins_and_ends(own_redis):
    redis = get_redis()
    append(*"abcd")
    redis.config_set("maxmemory", 1)
    reader("before")  # Makes the group, too.
    one = reader("one")
    assert one.remove("before") == 1
    page = one.read()
    one.acknowledge(page.without({page.ids[1]}).ids)

    assert (in_letters(page), [hold.size for hold in holds_of(STREAM)]) == ("abc", [1])
    assert [fields["e"] for _, fields in redis.xrange(STREAM)] == ["b", "d"]
    assert in_letters(one.claim(idle_ms=0)) == "b"
    redis.config_set("maxmemory", 0)


def test_a_drain_that_waits_is_seen_and_keeps_its_name(redis):
    one = stream.Drain(consumer="one")
    one.run_once(block_ms=1)
    assert stream.state().consumers == 1

    one.clean_up(idle_ms=1_000)
    assert stream.state().consumers == 1


def test_what_was_just_taken_over_is_not_taken_over_again():
    append(*"ab")
    reader("one").read()
    assert in_letters(reader("two").claim(idle_ms=0)) == "ab"

    assert reader("three").claim(idle_ms=1_000).ids == []
    assert [hold.consumer for hold in holds_of(STREAM)] == ["two"]


def test_entries_that_are_kept_stay_held_and_the_others_do_not():
    append(*"abcde")
    one = reader("one")
    page = one.read()
    page.add(one.read())
    one.acknowledge(page.without({page.ids[1], page.ids[3]}).ids)

    assert [(hold.first, hold.last, hold.size) for hold in sorted(holds_of(STREAM))] == [
        (page.ids[place].decode(), page.ids[place].decode(), 1) for place in (1, 3)
    ]
    assert in_letters(reader("two").claim(idle_ms=0)) == "bd"


def test_many_entries_that_are_kept_are_one_hold(monkeypatch):
    monkeypatch.setattr(reading, "PAGE", 100)
    append(*map(str, range(60)))
    one = reader("one")
    page = one.read()
    one.acknowledge(page.ids[::2])

    assert [(hold.first, hold.last, hold.size) for hold in holds_of(STREAM)] == [
        (page.ids[1].decode(), page.ids[59].decode(), 0)
    ]
    assert reader("two").claim(idle_ms=0).ids == page.ids[1::2]


def test_a_reader_that_was_taken_over_lets_go_of_nothing_that_is_another_s_now():
    append(*"abc")
    slow, other = reader("slow"), reader("other")
    page = slow.read()
    other.claim(idle_ms=0)
    slow.acknowledge(page.ids[:2])
    assert [(hold.consumer, hold.size) for hold in holds_of(STREAM)] == [("other", 3)]

    other.acknowledge(page.ids)
    assert (holds_of(STREAM), get_redis().xlen(STREAM)) == ([], 0)


def test_what_was_stored_while_a_stalled_reader_held_older_entries_is_freed_in_the_end(monkeypatch):
    append(*"abcdef")
    reader("stalls").read()
    one = reader("one")
    one.acknowledge(one.read().ids)
    assert get_redis().xlen(STREAM) == 6

    one.free()
    assert [fields["e"] for _, fields in get_redis().xrange(STREAM)] == ["a", "b", "c"]


def test_what_a_drain_of_version_0_1_had_in_hand_is_taken_over(caplog):
    append(*"abcd")
    reader("old")
    get_redis().xreadgroup(GROUP, "old", {STREAM: ">"}, count=2)
    new = reader("new")

    assert in_letters(new.claim(idle_ms=0)) == "ab"
    assert in_letters(new.read()) == "cd"
    assert get_redis().xpending(STREAM, GROUP)["pending"] == 0
    assert "2 entries of letters were in hand of an older version" in caplog.text


def test_the_hash_of_holds_lies_where_a_cluster_keeps_the_stream():
    assert key_slot(key_of("tollgate:usage:events").encode()) == key_slot(b"tollgate:usage:events")


def test_a_script_that_redis_has_forgotten_is_sent_anew():
    append("a")
    one = reader("one")
    get_redis().script_flush()

    assert in_letters(one.read()) == "a"


names = st.sampled_from("abc")
deaths = st.sampled_from(["before", "after", "long before"])
acts = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 5)),
    st.tuples(st.sampled_from(["look", "read", "claim", "store", "die"]), names),
    st.tuples(st.just("store some"), names, st.integers(0, 9)),
    st.tuples(st.just("dies at"), names, st.integers(1, 9), deaths),
    st.tuples(st.just("what was late comes")),
)


class Play:
    """Readers, the pages that each has in hand, and what was ever stored."""

    def __init__(self) -> None:
        self.readers: dict[str, Reader] = {}
        self.pages: dict[str, Page] = {}
        self.appended: list[str] = []
        self.stored: set[str] = set()
        self.late: list[Callable[[], object]] = []

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
        if what == "what was late comes":
            while self.late:
                self.late.pop(0)()
            return
        name = how[0]
        if name in self.readers and self.readers[name].is_asked and what != "die":
            self.had(name, self.readers[name].finish_reading())
        if what == "die":
            self.die(name)
        elif what == "dies at":
            self.die(name)
            self.readers[name] = Mortal(name, lives_for=how[1], when=how[2], ghosts=self.late)
            self.pages[name] = Page([], [])
        elif what == "look":
            self.reader(name).begin_reading()
        elif what == "store":
            self.store(name, lambda page: page)
        elif what == "store some":
            self.store(name, lambda page: page.without(set(page.ids[how[1] :: 3])))
        else:
            one = self.reader(name)
            self.had(name, one.read() if what == "read" else one.claim(idle_ms=0))

    def had(self, name: str, found: Page) -> None:
        self.pages[name].add(found.without(set(self.pages[name].ids)))

    def end(self) -> Iterator[Page]:
        """Have one more reader do all that is left, as a drain does."""
        last = reader("last")
        for attempt in (lambda: last.claim(idle_ms=0), last.read):
            while (page := attempt()).ids:
                yield page
                last.acknowledge(page.ids)


@pytest.mark.long
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
            play.act("what was late comes")
            for page in play.end():
                play.stored |= {text.decode() for text in page.texts}
    finally:
        reading.STALLED_MS = stalled
        for name in list(play.readers):
            play.die(name)

    assert play.stored == set(play.appended)
    assert (get_redis().xlen(STREAM), holds_of(STREAM)) == (0, [])
    assert caplog.text == ""
