"""The gate's script against a gate as one would write it without thinking of speed."""

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from apikeys import cache
from apikeys.gate import admit, give_back
from apikeys.models import APIKey
from billing.models import Entitlement
from usage.redis_client import get_redis

pytestmark = [pytest.mark.django_db, pytest.mark.long]
NOON = datetime.now(UTC).replace(day=15, hour=12, minute=0, second=0, microsecond=0)
MINUTE = timedelta(seconds=60)
MICROSECOND = timedelta(microseconds=1)


@dataclass
class SlowKey:
    mode: str
    cap: int | None
    expires_at: datetime | None
    networks: list[str]
    scopes: list[str]
    calls: list[datetime] = field(default_factory=list)


@dataclass
class SlowGate:
    rate: int | None
    burst: int | None
    included: int | None
    bills: bool
    spend_cap: int | None
    period_end: datetime
    calls: list[datetime] = field(default_factory=list)
    level: Fraction = Fraction(0)
    filled_at: datetime = NOON
    used: dict[str, int] = field(default_factory=lambda: {"live": 0, "test": 0})

    def __post_init__(self) -> None:
        self.level = Fraction(self.burst or 0)

    def admit(
        self, key: SlowKey, *, cost: int, now: datetime, address: str, scopes: list[str], counted: bool
    ):
        """Return the verdict, the policy that refused and how long until it would not."""
        if key.expires_at and now >= key.expires_at:
            return "expired_key", "", timedelta()
        if key.networks and not any(is_in(address, network) for network in key.networks):
            return "address_not_allowed", "", timedelta()
        if key.scopes and set(scopes) - set(key.scopes):
            return "insufficient_scope", "", timedelta()
        self.fill(now)
        refusals = list(self.refusals(key, cost=cost, now=now, counted=counted))
        if refusals:
            policy, wait = max(refusals, key=lambda refusal: refusal[1])
            verdict = {"period": "quota_exceeded", "spend_cap": "spend_cap_reached"}.get(
                policy, "rate_limited"
            )
            return verdict, policy, wait
        if counted:
            self.calls.append(now)
            key.calls.append(now)
            self.level -= 1
        self.used[key.mode] += cost
        return "admitted", "", timedelta()

    def refusals(self, key: SlowKey, *, cost: int, now: datetime, counted: bool):
        if counted:
            yield from full_window("minute", self.calls, self.rate, now)
            if self.burst is not None and self.level < 1:
                yield "burst", MICROSECOND * math.ceil((1 - self.level) * self.interval)
            yield from full_window("key", key.calls, key.cap, now)
        used = self.used[key.mode] + cost
        quota = self.included if key.mode == "test" or not self.bills else None
        cap = self.spend_cap if key.mode == "live" else None
        if cost and quota is not None and used > quota:
            yield "period", self.period_end - now
        elif cost and cap is not None and used > cap:
            yield "spend_cap", self.period_end - now

    @property
    def interval(self) -> int:
        return math.ceil(60_000_000 / self.rate)

    def fill(self, now: datetime) -> None:
        """A bucket of `burst` calls, into which one drips at each of the minute's even intervals."""
        if self.burst is not None:
            dripped = Fraction((now - self.filled_at) // MICROSECOND, self.interval)
            self.level = min(Fraction(self.burst), self.level + dripped)
            self.filled_at = now


def full_window(policy: str, calls: list[datetime], limit: int | None, now: datetime):
    inside = sorted(at for at in calls if at > now - MINUTE)
    if limit is not None and len(inside) >= limit:
        yield policy, inside[-limit] + MINUTE - now


def is_in(address: str, network: str) -> bool:
    return bool(address) and ip_address(address) in ip_network(network)


limits = st.none() | st.integers(1, 6)
networks = st.lists(
    st.sampled_from(["192.0.2.0/30", "192.0.2.7/32", "2001:db8::/64", "0.0.0.0/0", "::/0"]), max_size=2
)
addresses = st.sampled_from(["", "192.0.2.3", "192.0.2.4", "192.0.2.7", "2001:db8::5", "2001:db8:0:1::"])
scopes = st.lists(st.sampled_from(["forecast:read", "forecast", "archive:read"]), unique=True, max_size=2)
keys = st.builds(
    SlowKey,
    mode=st.sampled_from(["live", "live", "test"]),
    cap=limits,
    expires_at=st.none() | st.integers(0, 200).map(lambda seconds: NOON + timedelta(seconds=seconds)),
    networks=networks | st.just([]),
    scopes=scopes | st.just([]),
)


@st.composite
def gates(draw: st.DrawFn) -> SlowGate:
    rate = draw(limits)
    burst = draw(st.none() | st.integers(1, rate)) if rate else None
    included = draw(st.none() | st.integers(1, 12))
    bills = draw(st.booleans())
    spend_cap = draw(st.none() | st.integers(included, included + 6)) if bills and included else None
    return SlowGate(rate, burst, included, bills, spend_cap, period_end=NOON + timedelta(days=7))


steps = st.lists(
    st.tuples(
        st.integers(0, 2),  # Which key.
        st.one_of(st.just(0), st.integers(0, 30_000_000), st.integers(0, 70_000_000)),
        st.integers(0, 4),
        addresses,
        scopes,
        st.sampled_from([True, True, True, False]),
        st.integers(0, 9),  # 0: the call fails, and all of it is given back.
    ),
    max_size=30,
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(slow=gates(), slow_keys=st.lists(keys, min_size=3, max_size=3), steps=steps)
def test_the_script_decides_as_the_slow_gate_does(organization, slow, slow_keys, steps):
    get_redis().flushdb()
    secrets = lay_out(organization, slow, slow_keys)
    now = NOON
    for which, microseconds, cost, address, wanted, counted, fate in steps:
        now += timedelta(microseconds=microseconds)
        key = slow_keys[which]
        asked = {"cost": cost, "address": address, "scopes": wanted, "counted": counted}
        note(f"{now} key {which} {asked}")

        decision = admit(secrets[which], now=now, **asked)

        expected = slow.admit(key, now=now, **asked)
        assert (decision.reason, decision.policy, decision.wait) == expected
        if decision.has_limits:
            assert decision.used == slow.used[key.mode]
            assert remaining(decision) == remaining_of(slow, key, now=now)
        if decision.admitted and fate == 0:
            give_back(decision)
            slow.used[key.mode] -= cost


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(slow=gates(), cap=limits, pauses=st.lists(st.integers(0, 20_000_000), min_size=1, max_size=20))
def test_who_waits_as_long_as_it_says_is_let_in_and_not_a_microsecond_earlier(
    organization, slow, cap, pauses
):
    get_redis().flushdb()
    slow.included = slow.spend_cap = None
    (secret,) = lay_out(organization, slow, [SlowKey("live", cap, None, [], [])])
    now = NOON
    for microseconds in pauses:
        now += timedelta(microseconds=microseconds)
        decision = admit(secret, now=now)
        if not decision.admitted:
            assert not admit(secret, now=now + decision.wait - MICROSECOND).admitted
            now += decision.wait
            assert admit(secret, now=now).admitted


def lay_out(organization, slow: SlowGate, slow_keys: list[SlowKey]) -> list[str]:
    """Give the organization the slow gate's limits and keys; return the keys' secrets."""
    organization.api_keys.all().delete()
    secrets = []
    for slow_key in slow_keys:
        key, secret = APIKey.objects.issue(organization=organization, name="test")
        APIKey.objects.filter(pk=key.pk).update(
            mode=slow_key.mode,
            rate_per_minute=slow_key.cap,
            expires_at=slow_key.expires_at,
            allowed_networks=slow_key.networks,
            scopes=slow_key.scopes,
        )
        secrets.append(secret)
    # After the keys: making one brings the entitlement in line with the plan.
    entitlement = Entitlement.objects.get(organization=organization)
    entitlement.rate_per_minute, entitlement.burst = slow.rate, slow.burst
    quota = {
        "included": slow.included,
        "overage": "bill" if slow.bills else "block",
        "spend_cap": slow.spend_cap,
    }
    entitlement.quotas = {"requests": quota}
    entitlement.period_start, entitlement.period_end = NOON - timedelta(days=7), slow.period_end
    entitlement.valid_until = slow.period_end
    entitlement.save()
    cache.drop(organization.ref)
    return secrets


def remaining(decision) -> dict[str, int]:
    return {limit.policy: limit.remaining for limit in decision.limits}


def remaining_of(slow: SlowGate, key: SlowKey, *, now: datetime) -> dict[str, int]:
    left = {}
    if slow.rate is not None:
        left["minute"] = max(slow.rate - sum(at > now - MINUTE for at in slow.calls), 0)
    if slow.burst is not None:
        left["burst"] = max(math.floor(slow.level), 0)
    if key.cap is not None:
        left["key"] = max(key.cap - sum(at > now - MINUTE for at in key.calls), 0)
    quota = slow.included if key.mode == "test" or not slow.bills else None
    if quota is not None:
        left["period"] = max(quota - slow.used[key.mode], 0)
    if slow.spend_cap is not None and key.mode == "live":
        left["spend_cap"] = max(slow.spend_cap - slow.used[key.mode], 0)
    return left
