"""Plans and what they entitle to. Money lives in Stripe; limits live here."""

from billing.models.entitlements import Access, Entitlement, PlanOverride, QuotaOverride, StatusPolicy
from billing.models.plans import Meter, Plan, PlanPrice, PlanQuota, PriceTier
from billing.models.repairs import ReconcileRun, Reconciliation
from billing.models.settings import BillingSettings
from billing.models.trials import Trial, TrialMark

__all__ = [
    "Access",
    "BillingSettings",
    "Entitlement",
    "Meter",
    "Plan",
    "PlanOverride",
    "PlanPrice",
    "PlanQuota",
    "PriceTier",
    "QuotaOverride",
    "ReconcileRun",
    "Reconciliation",
    "StatusPolicy",
    "Trial",
    "TrialMark",
]
