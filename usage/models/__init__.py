"""How much was used: events, their hourly sums, and what was told to Stripe."""

from usage.models.corrections import Correction, CorrectionQuerySet
from usage.models.days import DayLatency, DaySum, DayTotal, SummedDay
from usage.models.ingested import DistinctValue, IngestedEvent, PeriodPeak
from usage.models.ledger import DroppedMonth, DroppedUnits, UsageEvent
from usage.models.proofs import Proof, ProofQuerySet
from usage.models.reports import MeterReport, MeterReportQuerySet
from usage.models.rollups import UsageRollup, UsageRollupQuerySet

__all__ = [
    "Correction",
    "CorrectionQuerySet",
    "DayLatency",
    "DaySum",
    "DayTotal",
    "DistinctValue",
    "DroppedMonth",
    "DroppedUnits",
    "IngestedEvent",
    "MeterReport",
    "MeterReportQuerySet",
    "PeriodPeak",
    "Proof",
    "ProofQuerySet",
    "SummedDay",
    "UsageEvent",
    "UsageRollup",
    "UsageRollupQuerySet",
]
