"""Plans and what they entitle to. Money lives in Stripe; limits live here."""

from billing.models.entitlements import Access, Entitlement, PlanOverride, QuotaOverride, StatusPolicy
from billing.models.moves import PriceMove, SubscriberMove
from billing.models.plans import Meter, Plan, PlanPrice, PlanQuota, PriceTier
from billing.models.published import PublishedPrice
from billing.models.settings import BillingSettings

__all__ = [
    "Access",
    "BillingSettings",
    "Entitlement",
    "Meter",
    "Plan",
    "PlanOverride",
    "PlanPrice",
    "PlanQuota",
    "PriceMove",
    "PriceTier",
    "PublishedPrice",
    "QuotaOverride",
    "StatusPolicy",
    "SubscriberMove",
]
