"""200 callers in four processes, all at once."""

import random

import pytest
from django.conf import settings
from django.db import connection

from apikeys.gate import admit
from apikeys.instants import to_microseconds
from tests.apikeys import callers
from tests.apikeys.test_gate import NOON, set_limits, used

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long]
CALLERS = 200
MINUTE = 60_000_000


@pytest.fixture(scope="module")
def crowd(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        database = connection.settings_dict["NAME"]
    with callers.running(count=4, database=database, redis_url=settings.REDIS_URL) as crowd:
        yield crowd


@pytest.mark.parametrize("left", [0, 1, 17, 1000])
def test_200_callers_at_a_quota_get_exactly_what_is_left(crowd, organization, api_key, left):
    set_limits(organization, rate=None, quota=1200)
    admit(api_key.secret, cost=1200 - left)

    _, reasons = crowd.call(api_key.secret, callers=CALLERS, calls=8)

    assert reasons["admitted"] == left
    assert reasons["quota_exceeded"] == CALLERS * 8 - left
    assert used(organization) == 1200


def test_200_callers_of_different_costs_never_pass_the_quota(crowd, organization, api_key):
    set_limits(organization, rate=None, quota=500)

    for cost in (7, 3, 1):
        crowd.call(api_key.secret, callers=CALLERS, calls=1, cost=cost)

    assert used(organization) == 500


def test_200_callers_that_find_the_gate_cold_fill_it_once_and_pass_no_quota(
    crowd, organization, api_key, redis
):
    set_limits(organization, rate=None, quota=40)
    redis.flushdb()

    _, reasons = crowd.call(api_key.secret, callers=CALLERS, calls=1)

    assert reasons == {"admitted": 40, "quota_exceeded": 160}


def test_200_callers_at_a_rate_get_exactly_the_minute_s_calls(crowd, organization, api_key):
    set_limits(organization, rate=100, quota=None)

    _, reasons = crowd.call(api_key.secret, callers=CALLERS, calls=3, moments=[to_microseconds(NOON)])

    assert reasons == {"admitted": 100, "rate_limited": 500}


def test_200_callers_over_ten_minutes_never_pass_the_rate_in_any_window(crowd, organization, api_key):
    """Their clocks are one, as the gate's is; it moves by a random step each time that all have called."""
    set_limits(organization, rate=50, quota=None)
    chance = random.Random(5)  # noqa: S311
    moment, admitted = to_microseconds(NOON), []
    for _ in range(40):
        times, _ = crowd.call(api_key.secret, callers=CALLERS, calls=1, moments=[moment])
        admitted += times
        moment += chance.choice([1, 1_000_000, 7_500_000, 29_999_999, 30_000_000])

    assert len(admitted) > 200
    assert max(sum(start <= other < start + MINUTE for other in admitted) for start in admitted) == 50


def test_a_key_is_refused_in_every_process_from_the_moment_that_it_is_revoked(crowd, organization, api_key):
    set_limits(organization, rate=None, quota=None)
    _, before = crowd.call(api_key.secret, callers=CALLERS, calls=1)

    api_key.key.revoke()

    _, after = crowd.call(api_key.secret, callers=CALLERS, calls=1)
    assert (before, after) == ({"admitted": CALLERS}, {"invalid_key": CALLERS})
