"""The plan's page in the back office as a browser sends it."""

from typing import Any

from django.urls import reverse

from billing.admin.tiers import write_tiers
from billing.models import Plan

Fields = dict[str, Any]


def page(plan: Plan, name: str = "change") -> str:
    return reverse(f"admin:billing_plan_{name}", args=[plan.pk])


def rows(prefix: str, *entries: Fields, old: int = 0) -> Fields:
    """What a table of the form sends: `entries`, the first `old` of which were there before."""
    fields = {f"{prefix}-TOTAL_FORMS": str(len(entries)), f"{prefix}-INITIAL_FORMS": str(old)}
    for number, entry in enumerate(entries):
        fields |= {f"{prefix}-{number}-{name}": str(value) for name, value in entry.items()}
    return fields


def form_of(plan: Plan, **changes: Any) -> Fields:
    """What the plan's form sends when nothing was changed, but for `changes` by the names of fields."""
    plan = Plan.objects.get(pk=plan.pk)
    quotas = [
        {
            "id": quota.pk,
            "plan": plan.pk,
            "meter": quota.meter_id,
            "included": quota.included or "",
            "overage": quota.overage,
        }
        for quota in plan.quotas.all()
    ]
    prices = list(plan.prices.order_by("pk"))
    fees = [
        {
            "id": price.pk,
            "plan": plan.pk,
            "interval": price.interval,
            "currency": price.currency,
            "unit_amount": price.unit_amount,
            "lookup_key": price.lookup_key,
        }
        for price in prices
        if not price.meter_id
    ]
    overages = [
        {
            "id": price.pk,
            "plan": plan.pk,
            "meter": price.meter_id,
            "currency": price.currency,
            "tiers": write_tiers((tier.up_to, tier.unit_amount) for tier in price.tiers.all()),
            "lookup_key": price.lookup_key,
        }
        for price in prices
        if price.meter_id
    ]
    fields = {
        "name": plan.name,
        "description": plan.description,
        "rate_per_minute": plan.rate_per_minute or "",
        "burst": plan.burst or "",
        "api_key_limit": plan.api_key_limit or "",
        "trial_days": plan.trial_days or "",
        "order": plan.order,
        "is_public": "on",
        **rows("quotas", *quotas, old=len(quotas)),
        **rows("fees", *fees, old=len(fees)),
        **rows("overages", *overages, old=len(overages)),
    }
    return fields | changes


def add_row(fields: Fields, prefix: str, **entry: Any) -> Fields:
    number = int(fields[f"{prefix}-TOTAL_FORMS"])
    added = {f"{prefix}-{number}-{name}": value for name, value in entry.items()}
    return {**fields, **added, f"{prefix}-TOTAL_FORMS": str(number + 1)}


def delete_row(fields: Fields, prefix: str, number: int) -> Fields:
    return {**fields, f"{prefix}-{number}-DELETE": "on"}
