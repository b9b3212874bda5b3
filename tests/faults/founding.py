"""What an operator does once: tables, plans, Stripe's side of them, a service token. And an organization's way in."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.management import call_command
from django.test.utils import override_settings

from accounts.models import Organization, User
from apikeys.models import APIKey, ServiceToken
from billing.entitlements import refresh_entitlement
from billing.models import Meter, Plan, PlanQuota
from billing.seeds import seed_plans, seed_policies
from billing.stripe.catalog import publish_plan
from billing.stripe.client import get_client
from billing.stripe.customers import ensure_customer
from billing.stripe.subscriptions import sync_subscriptions
from usage.tables import complete_tables

METER = "requests"
# Small enough to be driven into; what goes beyond is refused.
HARD_QUOTAS = {"free": 40, "pro": 90}
# Bill what goes beyond, by the unit.
BILLED = {"team": (25, "3"), "enterprise": (60, "2")}


class NoMigrations(dict[str, None]):
    def __contains__(self, app: object) -> bool:
        return True

    def __getitem__(self, app: str) -> None:
        return None


def found() -> None:
    """Make an empty installation one that sells plans, without limits on rates. Takes some seconds."""
    make_tables()
    seed_plans()
    seed_policies()
    Plan.objects.update(rate_per_minute=None, burst=None, api_key_limit=None)
    for slug, units in HARD_QUOTAS.items():
        PlanQuota.objects.filter(plan__slug=slug).update(included=units, overage=PlanQuota.Overage.BLOCK)
    for slug, (included, cents) in BILLED.items():
        plan = Plan.objects.get(slug=slug)
        PlanQuota.objects.filter(plan=plan).update(included=included, overage=PlanQuota.Overage.BILL)
        price = plan.prices.get(meter__slug=METER)
        price.tiers.all().delete()
        price.tiers.create(up_to=None, unit_amount=cents)
    call_command("stripe_setup", verbosity=0)
    for plan in Plan.objects.all():
        publish_plan(plan)


def make_tables() -> None:
    with override_settings(MIGRATION_MODULES=NoMigrations()):
        call_command("migrate", run_syncdb=True, verbosity=0, interactive=False)
    complete_tables()


def issue_token() -> str:
    return ServiceToken.objects.issue(name="faults", scopes=ServiceToken.Scope.values)[1]


def meter_id() -> str:
    return str(Meter.objects.get(slug=METER).stripe_meter_id)


def meter_product() -> str:
    return str(Meter.objects.get(slug=METER).product_id)


@dataclass(frozen=True)
class Customer:
    """An organization of a schedule, as whoever plays it has to know it. `plan` is what it begins with.

    `pays_since` is in unix seconds; None where it does not.
    """

    id: UUID
    ref: str
    name: str
    plan: str
    secret: str
    key_id: UUID
    stripe_id: str
    subscription_id: str
    pays_since: int | None


def take_in(name: str, *, plan: str, renews_at: datetime) -> Customer:
    """Open an organization with a key and subscribe it to `plan`, which renews at `renews_at`, a whole second."""
    owner = User.objects.create_user(f"{name}@customers.example", None)
    organization = Organization.objects.open(name=name, owner=owner)
    stripe_id = str(ensure_customer(organization).id)
    subscription_id, pays_since = "", None
    if plan != "free":
        subscription_id, pays_since = subscribe(organization, stripe_id, plan, renews_at)
    key, secret = APIKey.objects.issue(organization=organization, name="load")
    return Customer(
        organization.pk,
        organization.ref,
        name,
        plan,
        secret,
        key.pk,
        stripe_id,
        subscription_id,
        pays_since,
    )


def subscribe(organization: Organization, stripe_id: str, slug: str, renews_at: datetime) -> tuple[str, int]:
    api: Any = get_client().v1
    method = api.payment_methods.attach("pm_card_visa", {"customer": stripe_id})
    created = api.subscriptions.create(
        {
            "customer": stripe_id,
            "items": [
                {"price": price.stripe_price_id} for price in Plan.objects.get(slug=slug).offered_prices()
            ],
            "metadata": {"tollgate_plan": slug},
            "default_payment_method": method.id,
            "billing_cycle_anchor": int(renews_at.timestamp()),
            "proration_behavior": "none",
        }
    )
    sync_subscriptions(stripe_id)
    refresh_entitlement(organization)
    return str(created.id), int(created.start_date)
