"""What several tests of the gate share."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from apikeys import cache
from apikeys.models import APIKey, ServiceToken
from billing.models import Meter, PlanQuota
from usage.models import UsageEvent


def service_token(*scopes: str) -> str:
    """Return the secret of a new service token that may do this; anything, unless told what."""
    _, secret = ServiceToken.objects.issue(name="edge", scopes=scopes or ServiceToken.Scope.values)
    return secret


def restrict(api_key: SimpleNamespace, **fields: Any) -> None:
    """Change fields of a key, and let the gate know."""
    APIKey.objects.filter(pk=api_key.key.pk).update(**fields)
    cache.drop(api_key.key.organization.ref)


def include_tokens(organization: Any, included: int | None = 1000) -> None:
    """Let Acme's plan include tokens, a meter of its own."""
    meter = Meter.objects.create(slug="tokens", name="Tokens", unit="token")
    PlanQuota.objects.create(plan=organization.entitlement.plan, meter=meter, included=included)
    quotas = organization.entitlement.quotas | {"tokens": {"included": included, "overage": "block"}}
    organization.entitlement.quotas = quotas
    organization.entitlement.save()
    cache.drop(organization.ref)


def ledger(drain: Any) -> list[UsageEvent]:
    """Return all events, once the stream is empty."""
    while drain.run_once():
        pass
    return list(UsageEvent.objects.order_by("occurred_at"))


class CountingRedis:
    """Counts the commands that this worker's Redis carries out inside the block."""

    def __init__(self, redis: Any) -> None:
        self.redis = redis

    def commands(self) -> dict[str, int]:
        stats = self.redis.info("commandstats")
        quiet = {"cmdstat_info", "cmdstat_client|setinfo", "cmdstat_select", "cmdstat_ping"}
        return {name: each["calls"] for name, each in stats.items() if name not in quiet}

    def __call__(self, act: Callable[[], Any]) -> dict[str, int]:
        """Return how often which command ran because of `act`."""
        before = self.commands()
        act()
        after = self.commands()
        return {
            name: calls - before.get(name, 0) for name, calls in after.items() if calls > before.get(name, 0)
        }
