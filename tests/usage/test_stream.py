from uuid import UUID

import pytest
from redis.exceptions import ConnectionError as Unreachable

from tests.holding import take
from tests.usage.cast import make_event, serve
from usage import ledger, stream
from usage.metering import record
from usage.models import UsageEvent, UsageRollup

pytestmark = pytest.mark.django_db


def test_served_calls_reach_the_ledger_and_leave_the_stream(api_key, drain, redis):
    serve(api_key, calls=7)

    assert drain.run_once() == 7
    assert UsageEvent.objects.count() == 7
    assert UsageRollup.objects.get().units == 7
    assert redis.xlen(stream.STREAM) == 0


def test_a_batch_whose_storing_failed_comes_again(api_key, drain, monkeypatch):
    serve(api_key, calls=3)
    with monkeypatch.context() as patch:
        patch.setattr(stream, "store_new", lambda batch, rows: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            drain.run_once()

    other = stream.Drain(consumer="other")
    assert other.run_once() == 0
    assert other.take_over(idle_ms=0) == 3
    assert UsageEvent.objects.count() == 3


def test_a_batch_stored_but_not_acknowledged_is_stored_once(api_key, drain, redis):
    events = serve(api_key, calls=3)
    take("dies here")
    ledger.store(events)

    assert drain.take_over(idle_ms=0) == 3
    assert UsageRollup.objects.get().units == 3


def test_two_drains_share_the_work(api_key, drain):
    other = stream.Drain(consumer="other")
    serve(api_key, calls=2)
    first = drain.run_once()
    serve(api_key, calls=3)

    assert (first, other.run_once(), drain.run_once()) == (2, 3, 0)
    assert UsageRollup.objects.get().units == 5


def test_an_unreadable_entry_is_set_aside_and_stops_nobody(api_key, drain, redis):
    serve(api_key, calls=1)
    redis.xadd(stream.STREAM, {"e": '["not","an","event"]'})
    serve(api_key, calls=1)

    assert drain.run_once() == 3
    assert UsageEvent.objects.count() == 2
    assert [fields for _, fields in redis.xrange(stream.REFUSED)] == [{"e": '["not","an","event"]'}]


def test_with_redis_out_of_reach_a_call_goes_straight_to_the_ledger(api_key, monkeypatch):
    (event,) = serve(api_key, calls=1)

    def fail(event: object, *, failed: object) -> None:
        raise Unreachable

    monkeypatch.setattr(stream, "append", fail)
    record(event)

    assert UsageEvent.objects.get().id == event.id


def test_a_reader_that_leaves_takes_its_name_off_the_group(api_key, drain, redis):
    drain.run_once()
    drain.leave()

    assert redis.xinfo_consumers(stream.STREAM, stream.GROUP) == []


def test_an_event_that_cannot_be_stored_is_set_aside_and_stops_nobody(api_key, drain, redis):
    good = serve(api_key, calls=2)
    nobody_s = make_event(organization_id=UUID(int=42), at=good[0].occurred_at)
    record(nobody_s)
    too_long = make_event(organization_id=good[0].organization_id, at=good[0].occurred_at, endpoint="x" * 300)
    record(too_long)

    assert drain.run_once() == 4
    assert set(UsageEvent.objects.values_list("id", flat=True)) == {event.id for event in good}
    assert [fields["e"] for _, fields in redis.xrange(stream.REFUSED)] == [
        nobody_s.encode(),
        too_long.encode(),
    ]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *((0, "0" * 31), (1, str(10**18)), (2, str(2**31)), (3, "x" * 32), (5, "m" * 41), (5, "m\0")),
        *((6, str(2**63)), (6, "-1"), (7, str(-(10**17))), (7, str(10**18)), (8, "G\0"), (8, "GET" * 4)),
        *((9, "-1"), (9, "70000"), (9, str(10**30)), (10, "/" * 201), (10, "/\0")),
    ],
)
def test_an_entry_with_a_part_that_is_out_of_bounds_is_set_aside_and_stops_nobody(
    organization, drain, redis, place, value
):
    good, bad = (make_event(organization_id=organization.pk, at=organization.created_at) for _ in range(2))
    parts = bad.encode().split("|")
    parts[place] = value
    redis.xadd(stream.STREAM, {"e": "|".join(parts)})
    redis.xadd(stream.STREAM, {"e": good.encode()})

    drain.run_once()

    assert UsageEvent.objects.get().id == good.id
    assert redis.xlen(stream.REFUSED) == 1
    assert redis.xlen(stream.STREAM) == 0
