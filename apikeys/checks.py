"""What the doctor looks for around keys. Importing this registers the checks."""

from collections.abc import Iterator
from functools import partial

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from djstripe import models as djstripe

from accounts import clock
from accounts.models import Organization
from apikeys import cache
from apikeys.models import APIKey, CounterReading
from billing.doctor import Finding, Fix, Severity, check
from billing.entitlements import compute, lock_entitlement, refresh_entitlement
from billing.models import Entitlement
from billing.subscriptions import LIVE

BATCH = 500


@check(
    "gate-copy",
    "Organizations of which the gate knows something else than the database: their keys go by it.",
)
def stale_copies() -> Iterator[Finding]:
    refs = Organization.objects.filter(entitlement__isnull=False).order_by("pk").values_list("ref", flat=True)
    for batch in batches(refs):
        held = cache.find_facts(batch)
        entitlements = Entitlement.objects.filter(organization__ref__in=held).select_related("organization")
        for entitlement in entitlements:
            organization = entitlement.organization
            if differing(entitlement, held[organization.ref]):
                fields = differing_under_lock(organization)
                if fields:
                    yield stale(organization, fields)


def batches(refs: QuerySet[Organization, str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for ref in refs.iterator(chunk_size=BATCH):
        batch.append(ref)
        if len(batch) == BATCH:
            yield batch
            batch = []
    yield batch


def differing(entitlement: Entitlement, held: dict[str, str]) -> list[str]:
    """Return the names of the facts that differ. A copy whose time is up is read anew by the next call.

    So is one that says there is no such organization: it lasts a minute and lets nobody in.
    """
    if clock.now() >= entitlement.valid_until or "absent" in held:
        return []
    due = cache.facts_of(entitlement)
    names = due.keys() | held.keys() - {cache.BORN}
    return sorted(name for name in names if due.get(name) != held.get(name))


def differing_under_lock(organization: Organization) -> list[str]:
    """Compare again while nobody changes either: what was read before may have been on its way."""
    with transaction.atomic():
        entitlement = lock_entitlement(organization)
        held = cache.find_facts([organization.ref])
        return differing(entitlement, held[organization.ref]) if held else []


def stale(organization: Organization, fields: list[str]) -> Finding:
    keys = sum(name.startswith("key:") for name in fields)
    said = [name for name in fields if not name.startswith("key:")]
    said += [f"{keys} keys"] if keys else []
    return Finding(
        slug="gate-copy",
        severity=Severity.ERROR,
        subject=organization.ref,
        sentence=f"The gate lets {organization} in by old facts: {', '.join(said)}.",
        fix=Fix("Drop the gate's copy: the next call reads the database.", partial(drop, organization)),
        organization=organization,
    )


def drop(organization: Organization) -> None:
    # Under the lock, so that nobody who read before writes after.
    with transaction.atomic():
        lock_entitlement(organization)
        cache.drop(organization.ref)


@check("live-keys", "Live keys whose access comes from a subscription that has ended.")
def keys_under_dead_subscriptions() -> Iterator[Finding]:
    dead = djstripe.Subscription.objects.filter(id=OuterRef("subscription_id"), stripe_data__status__in=LIVE)
    claiming = Entitlement.objects.exclude(subscription_id="").filter(~Exists(dead))
    keys = APIKey.objects.active().filter(organization=OuterRef("organization"))
    for entitlement in claiming.filter(Exists(keys)).select_related("organization", "plan"):
        organization = entitlement.organization
        due = compute(organization, now=clock.now())
        if due["subscription_id"] == entitlement.subscription_id:
            continue  # Staff's policy gives that much after the end, too.
        number = APIKey.objects.active().filter(organization=organization).count()
        yield Finding(
            slug="live-keys",
            severity=Severity.ERROR,
            subject=organization.ref,
            sentence=f"{number} live keys of {organization} have the limits of {entitlement.plan} by subscription "
            f"{entitlement.subscription_id}, which has ended.",
            fix=Fix(
                "Compute the entitlement anew and drop the gate's copy.",
                partial(refresh_and_drop, organization),
            ),
            organization=organization,
        )


def refresh_and_drop(organization: Organization) -> None:
    with transaction.atomic():
        refresh_entitlement(organization)
        cache.drop(organization.ref)


@check(
    "counter-drift", "Quotas' counters that have differed from the ledger for hours and could not be mended."
)
def unmended_counters() -> Iterator[Finding]:
    for reading in CounterReading.objects.unmended(now=clock.now()).select_related("organization"):
        organization = reading.organization
        way = "above" if reading.difference > 0 else "below"
        yield Finding(
            slug="counter-drift",
            severity=Severity.WARNING,
            subject=f"{organization.ref}/{reading.meter}",
            sentence=f"The counter of {organization}'s {reading.meter} was {abs(reading.difference):,} units {way} the "
            f"ledger, and has differed since {reading.differs_since:%Y-%m-%d %H:%M} UTC. {reading.note}".strip(),
            advice="The task that measures runs every five minutes: see that Celery's beat, a worker and a drain run. "
            "An organization that always has calls of more than five minutes on their way is not compared.",
            organization=organization,
        )
