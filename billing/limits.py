"""An entitlement's limits in words, for e-mails and for staff."""

from typing import Any

from billing.models import Entitlement, Meter, PlanQuota


def describe_limits(entitlement: Entitlement) -> list[str]:
    """Return one line a limit: “100 calls a minute”, “10,000 calls a month, then billed”."""
    units = dict(Meter.objects.values_list("slug", "unit"))
    return [
        rate_line(entitlement.rate_per_minute),
        *(quota_line(quota, unit=units.get(slug, slug)) for slug, quota in entitlement.quotas.items()),
    ]


def rate_line(rate: int | None) -> str:
    return "no rate limit" if rate is None else f"{counted(rate, 'call')} a minute"


def quota_line(quota: dict[str, Any], *, unit: str) -> str:
    """Return a quota's line. `quota` is one of Entitlement.quotas."""
    if quota["included"] is None:
        return f"unlimited {unit}s"
    after = ", then billed" if quota["overage"] == PlanQuota.Overage.BILL else ""
    return f"{counted(quota['included'], unit)} a month{after}"


def counted(number: int, unit: str) -> str:
    return f"{number:,} {unit}{'' if number == 1 else 's'}"
