"""What a client is told about its limits: true at every boundary, and enough to never be refused."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts import clock
from apikeys import cache
from apikeys.decision import Decision, Verdict
from apikeys.gate import admit
from apikeys.headers import rate_headers
from apikeys.models import APIKey
from apikeys.refusals import refusal
from billing.entitlements import refresh_entitlement
from billing.models import Meter, PlanQuota
from tests.apikeys.cast import include_tokens

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 25, 12, 0, 0, 250_000, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
MANY = {"max_examples": 20, "deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}
FEW = st.none() | st.integers(1, 6)
RATES = {"rate": FEW, "burst": FEW, "cap": FEW}
LIMITS = st.fixed_dictionaries(RATES | {"quota": st.none() | st.integers(1, 12)})


@pytest.fixture
def sell(plans, organization, api_key, redis):
    """Make these the limits of Acme's plan and of its key, with nothing used."""

    def sell(*, rate=None, burst=None, cap=None, quota=None):
        redis.flushdb()
        plans.free.rate_per_minute = rate
        plans.free.burst = min(burst, rate) if burst and rate else None
        plans.free.save()
        PlanQuota.objects.filter(plan=plans.free).update(included=quota)
        APIKey.objects.filter(pk=api_key.key.pk).update(rate_per_minute=cap)
        refresh_entitlement(organization)

    return sell


@pytest.fixture
def call(client, api_key):
    return lambda: client.get("/api/v1/echo", headers={"Authorization": f"Bearer {api_key.secret}"})


def parsed(header: str) -> dict[str, dict[str, int]]:
    """Read a List of Items with Integer parameters (RFC 9651), as the draft has it."""
    found = {}
    for item in header.split(", "):
        match = re.fullmatch(r'"([a-z_]+)"((?:;[a-z]+=(?:\d+|"[a-z_]+"))+)', item)
        assert match, item
        pairs = dict(pair.split("=") for pair in match[2][1:].split(";"))
        found[match[1]] = {name: int(value) for name, value in pairs.items() if name != "qu"}
    return found


@pytest.mark.long
@settings(**MANY)
@given(limits=LIMITS, pauses=st.lists(st.integers(0, 40_000_000), min_size=4, max_size=14))
def test_a_client_that_reads_ratelimit_and_obeys_is_never_refused(sell, call, limits, pauses):
    with clock.standing_at(NOON) as hands:
        sell(**limits)
        for pause in pauses:
            response = call()
            assert response.status_code == 200, response.json()
            now = clock.now()
            if "RateLimit" in response:
                waits = [each["t"] for each in parsed(response["RateLimit"]).values() if each["r"] == 0]
                hands.move(now + max([timedelta(microseconds=pause), *(timedelta(seconds=t) for t in waits)]))


@pytest.mark.long
@settings(**MANY)
@given(limits=LIMITS, pauses=st.lists(st.integers(0, 5_000_000), min_size=4, max_size=14))
def test_a_client_that_waits_for_retry_after_is_never_refused_twice(sell, call, limits, pauses):
    with clock.standing_at(NOON) as hands:
        sell(**limits)
        for pause in pauses:
            response = call()
            if response.status_code == 429:
                content = response.json()
                policy = parsed(response["RateLimit"])[content["policy"]]
                assert policy["t"] == int(response["Retry-After"]) == content["retry_after"]
                resets_at = datetime.fromisoformat(content["resets_at"])
                assert (
                    timedelta()
                    <= clock.now() + timedelta(seconds=policy["t"]) - resets_at
                    < timedelta(seconds=1)
                )
                hands.move(min(resets_at, clock.now() + timedelta(seconds=policy["t"])))
                assert call().status_code == 200
            hands.move(clock.now() + timedelta(microseconds=pause))


@settings(**MANY)
@given(
    limits=st.fixed_dictionaries(RATES),
    pauses=st.lists(st.integers(0, 5_000_000), min_size=6, max_size=20),
)
def test_the_wait_is_exact_to_the_microsecond(sell, api_key, limits, pauses):
    sell(**limits)
    now = NOON
    for pause in pauses:
        decision = admit(api_key.secret, now=now)
        if not decision.admitted:
            assert decision.policy in {"minute", "burst", "key"}
            assert not admit(api_key.secret, now=now + decision.wait - MICROSECOND).admitted
            now += decision.wait
            assert admit(api_key.secret, now=now).admitted
        now += timedelta(microseconds=pause)


@settings(**MANY)
@given(limits=LIMITS, calls=st.integers(1, 8))
def test_the_headers_say_what_the_decision_says(sell, api_key, limits, calls):
    sell(**limits)
    for number in range(calls):
        decision = admit(api_key.secret, now=NOON + timedelta(milliseconds=137 * number))
        headers = rate_headers(decision)

        policies, states = (parsed(headers.get(name, "")) if headers else {} for name in POLICY_AND_STATE)
        assert policies.keys() == states.keys() == {limit.policy for limit in decision.limits}
        for limit in decision.limits:
            assert (policies[limit.policy]["q"], policies[limit.policy]["w"]) == (limit.limit, limit.window)
            state = states[limit.policy]
            assert state["r"] == limit.remaining
            assert 0 <= state["t"] - limit.reset < 1
        ends = decision.runs_out_at
        assert ("X-Quota-Runs-Out" in headers) == (ends is not None and ends < decision.period_end)


POLICY_AND_STATE = ("RateLimit-Policy", "RateLimit")


def test_every_policy_is_listed(sell, call):
    with clock.standing_at(NOON):
        sell(rate=10, burst=5, cap=3, quota=100)
        response = call()

    assert response["RateLimit-Policy"] == (
        '"burst";q=5;w=60, "minute";q=10;w=60, "key";q=3;w=60, "period";q=100;w=2592000'
    )
    assert (
        response["RateLimit"] == '"burst";r=4;t=6, "minute";r=9;t=60, "key";r=2;t=60, "period";r=99;t=475200'
    )
    assert response["X-RateLimit-Limit"] == "10"
    assert response["X-RateLimit-Reset"] == str(int(NOON.timestamp()) + 61)


def test_units_that_are_no_requests_are_named(organization, api_key, plans):
    PlanQuota.objects.create(
        plan=plans.free, meter=Meter.objects.create(slug="tokens", name="Tokens"), included=10
    )
    refresh_entitlement(organization)
    cache.drop(organization.ref)

    assert (
        '"period";q=10;qu="tokens";w='
        in rate_headers(admit(api_key.secret, meter="tokens"))["RateLimit-Policy"]
    )


def test_a_quota_that_will_not_last_says_when_it_runs_out(sell, call):
    start = datetime(2026, 11, 1, tzinfo=UTC)
    with clock.standing_at(start) as hands:
        sell(quota=30)
        # One in 30 a day lasts the month; two do not.
        hands.move(start + timedelta(days=1))
        assert "X-Quota-Runs-Out" not in call()
        # 2 in the first day, 28 left: at that pace gone after 15 days in all.
        assert call()["X-Quota-Runs-Out"] == "2026-11-16T00:00:00Z"


def test_a_used_up_quota_has_run_out_now(sell, call):
    with clock.standing_at(NOON):
        sell(quota=1)
        call()
        content = call().json()

    assert content["runs_out_at"] == "2026-11-25T12:00:00.250+00:00"


def test_nothing_is_told_of_limits_that_are_not_known():
    assert rate_headers(Decision(Verdict.INVALID_KEY)) == {}
    assert rate_headers(Decision(Verdict.UNAVAILABLE)) == {}


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (1, {"slug": "pro", "name": "Pro", "limit": 100}),
        (100, {"slug": "team", "name": "Team", "limit": 500}),  # An override: Pro would be no more.
        (500, {"slug": "enterprise", "name": "Enterprise", "limit": None}),
    ],
)
def test_a_rate_names_the_cheapest_plan_that_would_allow_more(sell, call, rate, expected):
    with clock.standing_at(NOON):
        sell(rate=rate)
        for _ in range(rate):
            call()
        content = call().json()

    assert content["next_plan"] == expected
    assert content["upgrade_url"].endswith("/dashboard/billing/")
    offer = "Enterprise would have no such limit." if expected["limit"] is None else "would allow"
    assert offer in content["detail"]


def test_a_quota_names_the_next_plans_quota(sell, call):
    with clock.standing_at(NOON):
        sell(quota=1)
        call()
        content = call().json()

    assert content["code"] == "quota_exceeded"
    assert content["next_plan"] == {"slug": "pro", "name": "Pro", "limit": 10_000}
    assert content["detail"].endswith("Pro would include 10000 units of requests a month.")
    assert content["resets_at"] == "2026-12-01T00:00:00.000+00:00"


def test_a_plan_that_bills_what_lies_beyond_is_a_way_out_of_a_quota(sell, call, plans):
    PlanQuota.objects.filter(plan=plans.pro).update(included=1, overage="bill")
    with clock.standing_at(NOON):
        sell(quota=5)
        for _ in range(5):
            call()

        assert call().json()["next_plan"] == {"slug": "pro", "name": "Pro", "limit": 1}


def test_a_burst_names_the_plan_that_lets_more_come_at_once(sell, call, plans):
    plans.pro.burst = 2
    plans.pro.save()
    with clock.standing_at(NOON):
        sell(rate=10, burst=2)
        for _ in range(2):
            call()
        content = call().json()

    assert (content["code"], content["policy"], content["limit"]) == ("rate_limited", "burst", 2)
    assert content["next_plan"] == {"slug": "team", "name": "Team", "limit": 500}


def test_a_plan_that_is_not_public_is_not_offered(sell, call, plans):
    plans.pro.is_public = False
    plans.pro.save()
    with clock.standing_at(NOON):
        sell(rate=1)
        call()

        assert call().json()["next_plan"]["slug"] == "team"


def test_no_plan_lifts_a_keys_own_cap(sell, call):
    with clock.standing_at(NOON):
        sell(rate=10, cap=1)
        call()
        content = call().json()

    assert (content["policy"], content["next_plan"], content["upgrade_url"]) == ("key", None, None)
    assert "This API key is limited to 1 request a minute." in content["detail"]


def test_the_largest_plan_has_no_next_one(sell, call, plans, organization):
    plans.free.order = 99
    plans.free.save()
    with clock.standing_at(NOON):
        sell(rate=1)
        call()

        assert call().json()["next_plan"] is None


def test_a_spend_cap_is_the_customers_own(organization, call):
    with clock.standing_at(NOON):
        entitlement = refresh_entitlement(organization)
        entitlement.quotas = {"requests": {"included": 1, "overage": "bill", "spend_cap": 2}}
        entitlement.save()
        cache.drop(organization.ref)
        call()
        call()
        response = call()
    content = response.json()

    assert (response.status_code, content["code"], content["policy"]) == (
        429,
        "spend_cap_reached",
        "spend_cap",
    )
    assert (content["limit"], content["used"], content["next_plan"]) == (2, 2, None)
    assert "Your own spend cap stops at 2 units" in content["detail"]


def test_a_call_that_costs_more_than_a_whole_period_has_is_not_told_to_wait(organization, api_key, plans):
    include_tokens(organization, 5)

    problem = refusal(admit(api_key.secret, meter="tokens", cost=6))

    assert (problem.status_code, problem.code) == (429, "quota_exceeded")
    assert "Retry-After" not in problem.headers
    assert str(problem.detail).startswith(
        "Your Free plan includes 5 units of tokens a period, and this call costs 6: it is never let in"
    )
