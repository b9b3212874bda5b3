"""What staff see of one customer, gathered from here alone: Stripe is not asked."""

from dataclasses import dataclass

from django.conf import settings

from accounts import clock
from accounts.models import Organization
from billing.invoices import Invoice, list_invoices
from billing.limits import describe_limits
from billing.models import Entitlement, Notice, Plan, PlanOverride, PlanPrice, Reconciliation, Trial
from billing.outlook import describe_fee, describe_next_charge, describe_outlook
from billing.spend_caps import CapState, cap_states
from billing.standing import Standing, find_standing
from billing.stripe.client import is_elsewhere
from billing.stripe.customers import find_customer

SHOWN = 12


@dataclass(frozen=True, slots=True)
class Choice:
    """A plan and interval that the subscription could change to."""

    plan: Plan
    interval: str

    @property
    def value(self) -> str:
        return f"{self.plan.slug}:{self.interval}"

    @property
    def label(self) -> str:
        if self.plan.is_default:
            return f"{self.plan.name}, when the period ends"
        return f"{self.plan.name}, by the {self.interval}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dossier:
    organization: Organization
    entitlement: Entitlement
    limits: list[str]
    spend_caps: list[CapState]
    customer_id: str
    dashboard_url: str
    standing: Standing | None
    fee: str
    next_charge: str
    outlook: list[str]
    invoices: list[Invoice]
    overrides: list[PlanOverride]
    trials: list[Trial]
    notices: list[Notice]
    reconciliation: Reconciliation | None
    choices: list[Choice]


def open_dossier(organization: Organization) -> Dossier:
    entitlement = Entitlement.objects.select_related("plan", "bought_plan", "policy").get(
        organization=organization
    )
    customer = find_customer(organization)
    standing = find_standing(organization)
    overrides = organization.plan_overrides.ending_after(clock.now()).select_related("plan", "author")
    return Dossier(
        organization=organization,
        entitlement=entitlement,
        limits=describe_limits(entitlement),
        spend_caps=[state for state in cap_states(organization) if state.cap],
        customer_id=customer.id if customer else "",
        dashboard_url=dashboard_url(customer.id) if customer else "",
        standing=standing,
        fee=describe_fee(standing) if standing else "",
        next_charge=describe_next_charge(standing) if standing else "",
        outlook=describe_outlook(standing) if standing else [],
        invoices=list_invoices(organization, limit=SHOWN).invoices,
        overrides=list(overrides),
        trials=list(Trial.objects.filter(organization=organization).select_related("plan")[:SHOWN]),
        notices=list(Notice.objects.filter(organization=organization)[:5]),
        reconciliation=Reconciliation.objects.filter(organization=organization).first(),
        choices=choices_for(standing) if standing else [],
    )


def dashboard_url(customer_id: str) -> str:
    """Return the customer's page on Stripe's dashboard; empty where a stand-in answers, which has none."""
    if is_elsewhere():
        return ""
    mode = "" if settings.STRIPE_LIVE_MODE else "test/"
    return f"https://dashboard.stripe.com/{mode}customers/{customer_id}"


def choices_for(standing: Standing) -> list[Choice]:
    """Return what can be bought in the subscription's currency, and the plan of last resort, which ends it.

    Plans that are not public too: which of them a customer may have is for staff to say.
    """
    fees = PlanPrice.objects.filter(meter=None, currency=standing.currency, stripe_price__isnull=False)
    sold = [
        Choice(price.plan, price.interval)
        for price in fees.select_related("plan").order_by("plan__order", "interval")
    ]
    every = [Choice(Plan.objects.of_last_resort(), standing.interval), *sold]
    return [each for each in every if (each.plan, each.interval) != (standing.plan, standing.interval)]
