from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from accounts import clock
from accounts.models import Organization
from billing.checks.mending import by_refreshing
from billing.doctor import Finding, Fix, Severity, check
from billing.entitlements import compute, lock_entitlement, refresh_entitlement
from billing.models import Entitlement

# They are refreshed every hour.
OVERDUE = timedelta(hours=2)


@check("entitlement", "Entitlements that are not what subscriptions, plans, overrides and policy give.")
def wrong_entitlements() -> Iterator[Finding]:
    now = clock.now()
    current = Entitlement.objects.filter(valid_until__gt=now).select_related("organization")
    for entitlement in current.iterator(chunk_size=500):
        organization = entitlement.organization
        # Again under the lock: a change may have come between the two looks.
        if differing(entitlement, now=now) and (fields := differing_under_lock(organization, now=now)):
            said = ", ".join(
                f"{name} is {written(held)}, not {written(due)}" for name, (held, due) in fields.items()
            )
            yield Finding(
                slug="entitlement",
                severity=Severity.ERROR,
                subject=organization.ref,
                sentence=f"The entitlement of {organization} is wrong: {said}.",
                fix=by_refreshing(organization),
                organization=organization,
            )


def written(value: Any) -> str:
    return f"{value:%Y-%m-%d %H:%M} UTC" if isinstance(value, datetime) else str(value)


def differing(entitlement: Entitlement, *, now: datetime) -> dict[str, tuple[Any, Any]]:
    """Return the fields that are wrong, each with what it holds and what it ought to."""
    due = compute(entitlement.organization, now=now)
    return {
        name: (getattr(entitlement, name), value)
        for name, value in due.items()
        if getattr(entitlement, name) != value
    }


def differing_under_lock(organization: Organization, *, now: datetime) -> dict[str, tuple[Any, Any]]:
    with transaction.atomic():
        return differing(lock_entitlement(organization), now=now)


@check("overdue-entitlements", "Entitlements whose time is up and that nothing has computed anew.")
def overdue_entitlements() -> Iterator[Finding]:
    overdue = Entitlement.objects.filter(valid_until__lt=clock.now() - OVERDUE).order_by("valid_until")
    oldest = overdue.first()
    if oldest:
        yield Finding(
            slug="overdue-entitlements",
            severity=Severity.WARNING,
            subject="",
            sentence=f"{overdue.count()} entitlements ought to have been computed anew, "
            f"the oldest on {oldest.valid_until:%Y-%m-%d at %H:%M} UTC.",
            advice="The gate does it by itself at the next call of each. But the hourly task did not: "
            "see that Celery's beat and a worker run.",
            fix=Fix("Compute them now.", refresh_overdue),
        )


def refresh_overdue() -> None:
    overdue = Entitlement.objects.filter(valid_until__lt=clock.now()).select_related("organization")
    for entitlement in overdue.iterator(chunk_size=500):
        refresh_entitlement(entitlement.organization)
