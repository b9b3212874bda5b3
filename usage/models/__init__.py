"""How much was used: events, their hourly sums, and what was told to Stripe."""

from usage.models.days import DayLatency, DaySum, SummedDay
from usage.models.ingested import DistinctValue, IngestedEvent, PeriodPeak
from usage.models.ledger import UsageEvent
from usage.models.reports import MeterReport, MeterReportQuerySet
from usage.models.rollups import UsageRollup, UsageRollupQuerySet

__all__ = [
    "DayLatency",
    "DaySum",
    "DistinctValue",
    "IngestedEvent",
    "MeterReport",
    "MeterReportQuerySet",
    "PeriodPeak",
    "SummedDay",
    "UsageEvent",
    "UsageRollup",
    "UsageRollupQuerySet",
]
