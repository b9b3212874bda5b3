"""A reservation through keys/verify, and what it came to through keys/verify/settle."""

from datetime import timedelta

import pytest

from accounts import clock
from apikeys import reservations
from apikeys.gate import admit
from apikeys.models import APIKey, ServiceToken
from apikeys.reservations import Hold
from apikeys.tasks import bill_unsettled
from tests.apikeys.cast import CountingRedis, include_tokens, ledger, restrict, service_token
from tests.apikeys.reserving import SETTLE, overdue, read

pytestmark = pytest.mark.django_db


def test_reserving_charges_the_counter_and_bills_nothing_yet(server, drain):
    before = clock.now()
    content = server.reserve(cost=40)

    assert (content["used"], content["remaining"]) == (40, 60)
    assert before + timedelta(minutes=9) < overdue(content) < clock.now() + timedelta(minutes=11)
    assert content["settle_by"] == overdue(content).isoformat(timespec="milliseconds")
    assert ledger(drain) == []
    assert server.used == 40


def test_settling_bills_what_it_did_cost_and_gives_the_rest_back(server, drain, api_key):
    reserved = server.reserve(cost=40, endpoint="/v1/chat", method="post")
    response = server.finish(reserved, units=12, status=200, response_ms=840)

    assert (response.status_code, response["Cache-Control"]) == (200, "no-store")
    assert response.json() == {
        "units": 12,
        "given_back": 28,
        "meter": "requests",
        "organization": server.organization.ref,
        "livemode": True,
    }
    (event,) = ledger(drain)
    assert (event.units, event.status, event.endpoint, event.method) == (12, 200, "/v1/chat", "POST")
    assert (event.response_ms, event.api_key_id) == (840, api_key.key.pk)
    assert event.period_start == server.organization.entitlement.period_start
    assert server.used == 12
    assert server.held == {}


def test_what_is_not_said_is_what_the_verification_said_and_all_of_it(server, drain):
    assert server.finish(server.reserve(cost=7)).json()["units"] == 7

    (event,) = ledger(drain)
    assert (event.units, event.status, event.endpoint, event.method) == (7, 0, "verify", "")


def test_route_and_method_may_be_said_at_the_end(server, drain):
    server.finish(server.reserve(endpoint="/early"), endpoint="/late|r", method="put")

    (event,) = ledger(drain)
    assert (event.endpoint, event.method) == ("/late|r", "PUT")


@pytest.mark.parametrize(
    ("fields", "units"),
    [
        ({"status": 500}, 0),
        ({"status": 503, "units": 3}, 0),
        ({"status": 429, "units": 3}, 0),
        ({"status": 200, "units": 0}, 0),
        ({"status": 404}, 0),
        ({"status": 404, "units": 3}, 3),
        ({"status": 302}, 40),
    ],
)
def test_what_a_call_costs_goes_by_the_rule_of_a_view(server, drain, fields, units):
    assert server.finish(server.reserve(), **fields).json()["units"] == units

    assert [event.units for event in ledger(drain)] == ([units] if units else [])
    assert server.used == units
    assert server.held == {}


def test_settling_twice_with_the_same_values_says_the_same_and_changes_nothing(server):
    reserved = server.reserve()
    first, second = (server.finish(reserved, units=12, status=200) for _ in range(2))

    assert first.json() == second.json()
    assert (server.used, server.billed) == (12, 12)


@pytest.mark.parametrize("change", [{"units": 13}, {"status": 201}, {"endpoint": "/x"}, {"response_ms": 1}])
def test_settling_again_with_other_values_is_refused(server, change):
    reserved = server.reserve()
    server.finish(reserved, units=12, status=200)
    response = server.finish(reserved, **({"units": 12, "status": 200} | change))

    assert (response.status_code, response.json()["code"]) == (409, "reservation_settled")
    assert response.json()["units"] == 12
    assert (server.used, server.billed) == (12, 12)


def test_what_was_given_back_in_full_cannot_be_billed_later(server):
    reserved = server.reserve()
    server.finish(reserved, status=500)

    assert server.finish(reserved, units=12).json()["code"] == "reservation_settled"
    assert (server.used, server.billed) == (0, 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("units", 41),
        ("units", -1),
        ("units", "many"),
        ("status", 99),
        ("status", 600),
        ("endpoint", "a\nb"),
        ("method", "G T"),
        ("response_ms", -1),
        ("reservation", "nonsense"),
        ("reservation", ""),
        ("unit", 3),
    ],
)
def test_a_field_that_is_wrong_is_named_and_nothing_is_settled(server, field, value):
    reserved = server.reserve(cost=40)
    response = server.post(SETTLE, **({"reservation": reserved["reservation"]} | {field: value}))

    assert (response.status_code, response.json()["code"]) == (400, "invalid")
    assert list(response.json()["errors"]) == [field]
    assert server.finish(reserved, units=12).status_code == 200


def test_a_reservation_cannot_be_made_up_or_changed(server):
    content, signature = server.reserve()["reservation"].split(":", 1)
    changed = f"{content[:-2]}{'A' if content[-2] != 'A' else 'B'}{content[-1]}:{signature}"

    assert server.post(SETTLE, reservation=changed).json()["errors"] == {
        "reservation": ["This is no reservation of Tollgate's."]
    }


def test_reserving_nothing_is_refused(server):
    response = server.verify(cost=0, reserve=True)

    assert response.json()["errors"] == {"cost": ["Reserve 1 unit or more."]}


def test_who_is_refused_has_no_reservation(server):
    content = server.verify(cost=101, reserve=True).json()

    assert (content["code"], content["reservation"], content["settle_by"]) == ("quota_exceeded", None, None)
    assert (server.held, server.used) == ({}, 0)


def test_what_is_reserved_is_not_there_for_others(server):
    reserved = server.reserve(cost=90)
    assert server.verify(cost=20).json()["code"] == "quota_exceeded"

    server.finish(reserved, units=10)
    assert server.verify(cost=20).json()["used"] == 30


def test_another_meter(server, drain):
    include_tokens(server.organization)
    reserved = server.reserve(meter="tokens", cost=400)

    assert server.finish(reserved, units=31).json()["meter"] == "tokens"
    (event,) = ledger(drain)
    assert (event.meter, event.units) == ("tokens", 31)


def test_a_test_key_reserves_and_gives_back_and_is_not_billed(server, api_key):
    restrict(api_key, mode="test")
    reserved = server.reserve(cost=40)

    response = server.finish(reserved, units=12)

    assert (response.json()["livemode"], response.json()["given_back"]) == (False, 28)
    assert server.verify(cost=0).json()["used"] == 12
    assert server.finish(reserved, units=13).json()["code"] == "reservation_settled"
    assert (server.billed, server.held) == (0, {})


@pytest.mark.parametrize("authorization", [None, "Bearer nonsense"])
def test_without_a_service_token_nothing_is_settled(server, authorization):
    response = server.post(SETTLE, authorization, reservation=server.reserve()["reservation"])

    assert response.json()["code"] == "invalid_service_token"
    assert len(server.held) == 1


def test_an_outsider_cannot_settle_with_a_key_or_another_token(server, outsider):
    reserved = server.reserve()
    rival = outsider.memberships.get().organization
    _, secret = APIKey.objects.issue(organization=rival, name="rival")
    other = service_token(ServiceToken.Scope.AUTHORIZE)

    assert server.post(SETTLE, f"Bearer {secret}", reservation=reserved["reservation"]).status_code == 401
    assert server.post(SETTLE, f"Bearer {other}", reservation=reserved["reservation"]).status_code == 403


def test_nobody_settles_and_all_of_it_is_billed(server, drain):
    reserved = server.reserve(cost=40, endpoint="/v1/chat")
    with clock.standing_at(overdue(reserved) - timedelta(microseconds=1)):
        assert bill_unsettled() == 0
    with clock.standing_at(overdue(reserved)):
        assert [bill_unsettled(), bill_unsettled()] == [1, 0]
        response = server.finish(reserved, units=12)

    assert (response.status_code, response.json()["code"]) == (409, "reservation_expired")
    assert response.json()["units"] == 40
    (event,) = ledger(drain)
    assert (event.units, event.status, event.endpoint) == (40, 0, "/v1/chat")
    assert (server.used, server.held) == (40, {})


def test_a_test_key_that_nobody_settles_is_over_too(server, api_key):
    restrict(api_key, mode="test")
    reserved = server.reserve()
    with clock.standing_at(overdue(reserved)):
        assert bill_unsettled() == 1
        assert server.finish(reserved, units=1).json()["code"] == "reservation_expired"
    assert (server.held, server.billed) == ({}, 0)


def test_who_is_late_and_before_the_sweep_settles_still(server):
    reserved = server.reserve()
    with clock.standing_at(overdue(reserved) + timedelta(minutes=1)):
        assert server.finish(reserved, units=12).status_code == 200
        assert bill_unsettled() == 0
    assert (server.used, server.billed) == (12, 12)


def test_the_event_is_in_the_period_and_hour_of_the_call(server, drain):
    reserved = server.reserve()
    with clock.standing_at(overdue(reserved)):
        server.finish(reserved)

    (event,) = ledger(drain)
    assert event.occurred_at == read(reserved).event.occurred_at < overdue(reserved)


def test_a_call_without_a_reservation_asks_redis_for_nothing_more(server, api_key, counted_redis):
    server.reserve()
    count = CountingRedis(counted_redis)
    plain = count(lambda: admit(api_key.secret))
    held = count(lambda: admit(api_key.secret, hold=Hold.of(endpoint="verify", method="")))

    more = {name: calls - plain.get(name, 0) for name, calls in held.items() if calls > plain.get(name, 0)}
    assert more == {"cmdstat_exists": 1, "cmdstat_hget": 1, "cmdstat_hset": 1, "cmdstat_zadd": 1}
    assert held["cmdstat_evalsha"] == 1


def test_organizations_leave_the_index_when_they_have_none(server, redis):
    server.finish(server.reserve())
    assert redis.zscore(reservations.INDEX, server.organization.ref)
    with clock.standing_at(clock.now() + timedelta(minutes=21)):
        bill_unsettled()
        assert redis.zscore(reservations.INDEX, server.organization.ref) is None


def test_an_index_that_is_lost_is_made_anew(server, redis):
    reserved = server.reserve()
    bill_unsettled()
    redis.delete(reservations.INDEX)
    with clock.standing_at(overdue(reserved)):
        assert bill_unsettled() == 1
    assert server.billed == 40


def test_a_record_that_cannot_be_read_stops_nobody_else(server, redis, caplog):
    reserved = server.reserve()
    redis.hset(reservations.names(server.organization.ref, "").held, "a", "nonsense")
    with clock.standing_at(overdue(reserved)):
        assert bill_unsettled() == 1
    assert "cannot be read" in caplog.text
