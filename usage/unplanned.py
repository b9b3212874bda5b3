"""Meters that the plan does not know, and that were used in a period all the same: the plan knew them before."""

from django.db.models import Exists, OuterRef

from billing.models import Entitlement, Meter
from usage.models import UsageRollup
from usage.quota_periods import QuotaPeriod


def unplanned_meters(entitlement: Entitlement, period: QuotaPeriod) -> list[Meter]:
    """Return them by slug. One query, which looks for a first rollup of each and reads no other."""
    rollups = UsageRollup.objects.filter(
        organization=entitlement.organization_id, meter=OuterRef("slug"), period_start__in=period.charged
    )
    others = Meter.objects.exclude(slug__in=entitlement.quotas)
    return [meter for meter in others.annotate(is_used=Exists(rollups)) if meter.is_used]
