"""Whether a meter may still be changed or deleted: what refers to it would no longer be true."""

from collections.abc import Iterator

from django.db.models import Q

from billing.models import Entitlement, Meter, Plan, PublishedPrice, QuotaOverride, SpendCap
from billing.signals import meter_references
from billing.subscribers import counted


def why_fixed(meter: Meter) -> str:
    """Return a sentence on why a meter's slug and aggregation stay as they are, empty where they may change."""
    reason = reference_to(meter)
    return f"Slug and aggregation stay as they are: {reason}" if reason else ""


def why_kept(meter: Meter) -> str:
    """Return a sentence on why a meter cannot be deleted, empty where it can."""
    reason = reference_to(meter)
    return f"{meter} cannot be deleted: {reason}" if reason else ""


def reference_to(meter: Meter) -> str:
    """Return the end of a sentence on what refers to a meter, empty where nothing does.

    With the meter's row locked this stays true: whoever refers to it, or counts by it, holds it meanwhile.
    """
    return next(references_to(meter), "")


def references_to(meter: Meter) -> Iterator[str]:
    """Yield such ends, the quickest to find first."""
    if meter.stripe_meter_id:
        yield f"it is published, and Stripe keeps its meter {meter.stripe_meter_id} for good."
    plans = Plan.objects.filter(Q(quotas__meter=meter) | Q(prices__meter=meter)).distinct()
    names = list(plans.order_by("order", "name").values_list("name", flat=True))
    if names:
        yield f"{', '.join(names)} {'include' if names[1:] else 'includes'} it. Take it out first."
    if PublishedPrice.objects.filter(meter=meter).exists():
        yield "prices at Stripe are for it."
    overrides = QuotaOverride.objects.filter(meter=meter).count()
    if overrides:
        yield f"{counted(overrides, 'override')} giving a quota of it. Take it out first."
    caps = SpendCap.objects.filter(meter=meter).count()
    if caps:
        yield f"{counted(caps, 'spend cap')} set on it by customers."
    if Entitlement.objects.filter(quotas__has_key=meter.slug).exists():
        yield "organizations have a quota of it still, which is gone within the hour."
    for _, words in meter_references.send(sender=Meter, meter=meter):
        if words:
            yield f"{words}."
