"""An entitlement's limits in words, for e-mails and for staff."""

from typing import Any

from billing.models import Entitlement, Meter, PlanQuota


def describe_limits(entitlement: Entitlement) -> list[str]:
    """Return one line a limit: “100 calls a minute”, “10,000 calls a month, then billed”."""
    units = dict(Meter.objects.values_list("slug", "unit"))
    return [
        rate_line(entitlement.rate_per_minute, burst=entitlement.burst),
        *(quota_line(quota, unit=units.get(slug, slug)) for slug, quota in entitlement.quotas.items()),
        *key_lines(entitlement.api_key_limit),
    ]


def rate_line(rate: int | None, *, burst: int | None = None) -> str:
    at_once = "" if burst is None else f", {burst:,} at once"
    return "no rate limit" if rate is None else f"{counted(rate, 'call')} a minute{at_once}"


def key_lines(limit: int | None) -> list[str]:
    return [] if limit is None else [counted(limit, "API key")]


def quota_line(quota: dict[str, Any], *, unit: str) -> str:
    """Return a quota's line. `quota` is one of Entitlement.quotas."""
    after = ", then billed" if quota["overage"] == PlanQuota.Overage.BILL else ""
    if quota.get("spend_cap") is not None:
        after += f", at most {counted(quota['spend_cap'], unit)} by the spend cap"
    if quota["included"] is None:
        return f"unlimited {unit}s{after}"
    return f"{counted(quota['included'], unit)} a month{after}"


def counted(number: int, unit: str) -> str:
    return f"{number:,} {unit}{'' if number == 1 else 's'}"
