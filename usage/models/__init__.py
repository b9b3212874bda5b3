"""How much was used: events, their hourly sums, and what was told to Stripe."""

from usage.models.ingested import DistinctValue, IngestedEvent, PeriodPeak
from usage.models.ledger import DroppedMonth, UsageEvent
from usage.models.reports import MeterReport, MeterReportQuerySet
from usage.models.rollups import UsageRollup, UsageRollupQuerySet

__all__ = [
    "DistinctValue",
    "DroppedMonth",
    "IngestedEvent",
    "MeterReport",
    "MeterReportQuerySet",
    "PeriodPeak",
    "UsageEvent",
    "UsageRollup",
    "UsageRollupQuerySet",
]
