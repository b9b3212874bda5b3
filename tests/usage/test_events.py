from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from tests.usage.cast import make_event
from usage.events import Event, uuid7

AT = datetime(2026, 11, 22, 10, 20, 30, 456789, tzinfo=UTC)


def test_an_event_survives_its_way_through_the_stream():
    event = make_event(organization_id=UUID(int=7), at=AT, units=12, endpoint="/π/<int:id>")

    assert Event.decode(event.encode()) == event


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "[1,2,3,4,5,6,7,8,9,10,11]", '"x"', "[[]]"])
def test_what_is_no_event_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011  # Several messages, one meaning.
        Event.decode(text)


def test_negative_units_are_refused():
    event = make_event(organization_id=UUID(int=7), at=AT, units=-1)

    with pytest.raises(ValueError, match="Not a usage event"):
        Event.decode(event.encode())


def test_ids_are_version_7_and_sort_by_time():
    ids = [uuid7(AT + timedelta(milliseconds=n)) for n in range(200)]

    assert {(id_.version, id_.variant) for id_ in ids} == {(7, "specified in RFC 4122")}
    assert sorted(ids) == ids


def test_an_id_carries_its_millisecond():
    assert uuid7(AT).int >> 80 == int(AT.timestamp() * 1000)


def test_ids_of_one_instant_differ():
    assert len({uuid7(AT) for _ in range(10_000)}) == 10_000
