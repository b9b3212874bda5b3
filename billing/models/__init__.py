"""Plans and what they entitle to. Money lives in Stripe; limits live here."""

from billing.models.customers import BillingCustomer
from billing.models.entitlements import Access, Entitlement, PlanOverride, QuotaOverride, StatusPolicy
from billing.models.idempotency import IdempotencyKey
from billing.models.meters import Meter
from billing.models.moves import PriceMove, SubscriberMove
from billing.models.notices import Notice, NoticeKind, NoticeState
from billing.models.operations import SetupRun
from billing.models.plans import Plan, PlanPrice, PlanQuota, PriceTier
from billing.models.published import PublishedPrice
from billing.models.repairs import ReconcileRun, Reconciliation
from billing.models.settings import BillingSettings
from billing.models.spend_caps import SpendCap
from billing.models.thin_events import METER_ERROR_TYPES, EventDestination, MeterErrorSample, ThinEvent
from billing.models.trials import Trial, TrialMark

__all__ = [
    "METER_ERROR_TYPES",
    "Access",
    "BillingCustomer",
    "BillingSettings",
    "Entitlement",
    "EventDestination",
    "IdempotencyKey",
    "Meter",
    "MeterErrorSample",
    "Notice",
    "NoticeKind",
    "NoticeState",
    "Plan",
    "PlanOverride",
    "PlanPrice",
    "PlanQuota",
    "PriceMove",
    "PriceTier",
    "PublishedPrice",
    "QuotaOverride",
    "ReconcileRun",
    "Reconciliation",
    "SetupRun",
    "SpendCap",
    "StatusPolicy",
    "SubscriberMove",
    "ThinEvent",
    "Trial",
    "TrialMark",
]
