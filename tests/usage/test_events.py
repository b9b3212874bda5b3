from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


OLD = (
    '["019aa5cf7f787000800000000000000a","2026-11-22T10:20:30.456789+00:00","00000000000000000000000000000007",'
    '"00000000000000000000000000000001","requests",12,"2026-11-01T00:00:00+00:00","/π/<int:id>","GET",404,5]'
)


def test_an_entry_of_the_last_release_is_read():
    event = Event.decode(OLD)

    assert (event.id.hex, event.occurred_at) == ("019aa5cf7f787000800000000000000a", AT)
    assert (event.organization_id, event.api_key_id) == (UUID(int=7), UUID(int=1))
    assert (event.meter, event.units, event.period_start) == (
        "requests",
        12,
        datetime(2026, 11, 1, tzinfo=UTC),
    )
    assert (event.endpoint, event.method, event.status, event.response_ms) == ("/π/<int:id>", "GET", 404, 5)
    assert Event.decode(event.encode()) == event


def test_an_event_as_the_gate_reserves_it_is_read():
    reserved = f"{UUID(int=5).hex}|{10**15}|{UUID(int=7)}|{UUID(int=1)}|requests|12|{10**14}|GET|0|0|/a|b"

    event = Event.decode(reserved)
    assert (event.organization_id, event.api_key_id) == (UUID(int=7), UUID(int=1))
    assert (event.units, event.method, event.status, event.response_ms) == (12, "GET", 0, 0)
    assert event.endpoint == "/a|b"
    assert Event.decode(event.encode()) == event


@pytest.mark.parametrize("fields", [1, 2, 3, 9, 10])
def test_an_entry_cut_short_is_refused(fields):
    event = make_event(organization_id=UUID(int=7), at=AT)
    ends = "|".join(event.encode().split("|")[:fields])

    with pytest.raises(ValueError, match="Not a usage event"):
        Event.decode(ends)


def test_an_old_entry_without_a_time_zone_is_refused():
    with pytest.raises(ValueError, match="Not a usage event"):
        Event.decode(OLD.replace("+00:00", ""))


def served(**changes):
    fields = {
        "occurred": 1,
        "organization": str(UUID(int=7)),
        "api_key": str(UUID(int=1)),
        "meter": "requests",
    }
    fields |= {"units": 1, "period": 0, "endpoint": "/a", "method": "GET", "status": 200, "response_ms": 5}
    return Event.of_call(**(fields | changes))


@given(
    occurred=st.integers(0, 2**52),
    units=st.integers(0, 2**40),
    endpoint=st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
    method=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
def test_whatever_a_client_makes_up_survives_the_stream_and_fits_the_ledger(
    occurred, units, endpoint, method
):
    event = served(occurred=occurred, units=units, endpoint=endpoint, method=method)
    again = Event.decode(event.encode())

    assert again == event
    assert (again.units, again.endpoint) == (units, endpoint[:200])
    assert len(again.method) <= 10
    assert again.occurred_at == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=occurred)
    assert again.id.version == 7


def test_a_method_is_a_word_or_it_is_another():
    assert [served(method=method).method for method in ("POST", "M-SEARCH", "", "GET|1")] == [
        "POST",
        "OTHER",
        "",
        "OTHER",
    ]
