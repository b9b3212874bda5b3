"""Plans and what they entitle to. Money lives in Stripe; limits live here."""

from billing.models.entitlements import Access, Entitlement, PlanOverride, QuotaOverride, StatusPolicy
from billing.models.idempotency import IdempotencyKey
from billing.models.plans import Meter, Plan, PlanPrice, PlanQuota, PriceTier
from billing.models.settings import BillingSettings
from billing.models.trials import Trial, TrialMark

__all__ = [
    "Access",
    "BillingSettings",
    "Entitlement",
    "IdempotencyKey",
    "Meter",
    "Plan",
    "PlanOverride",
    "PlanPrice",
    "PlanQuota",
    "PriceTier",
    "QuotaOverride",
    "StatusPolicy",
    "Trial",
    "TrialMark",
]
