"""Steps that several tests of reports share: companies that use something, and what Stripe counted of it."""

from datetime import datetime, timedelta
from typing import Any

from accounts import clock
from accounts.models import Organization, User
from billing.models import Meter
from billing.stripe.customers import ensure_customer
from billing.stripe.metering import summed_usage
from tests.usage.cast import make_event
from usage.ledger import store


def use(
    organization: Organization,
    *,
    units: int,
    at: datetime | None = None,
    meter: str = "requests",
    period_start: datetime | None = None,
) -> None:
    """Have the units in the ledger, at `at` or now."""
    event = make_event(
        organization_id=organization.pk,
        at=at or clock.now(),
        units=units,
        meter=meter,
        period_start=period_start,
    )
    store([event])


def companies(count: int) -> list[Organization]:
    """Open organizations that Stripe knows."""
    people = (User.objects.create_user(f"owner{n}@rivals.example", "x") for n in range(count))
    opened = [Organization.objects.open(name=f"Rival {owner.pk}", owner=owner) for owner in people]
    for organization in opened:
        ensure_customer(organization)
    return opened


def counted(organization: Organization, *, meter: str = "requests") -> int:
    """Return what Stripe's meter holds for the organization of the last 60 days."""
    return summed_usage(
        meter_id=Meter.objects.get(slug=meter).stripe_meter_id,
        customer_id=ensure_customer(organization).id,
        start=clock.now() - timedelta(days=60),
        end=clock.now() + timedelta(hours=1),
    )


def requests_to(sandbox: Any, path: str) -> int:
    """Return how many of the last requests went there."""
    return sum(each.path == path for each in sandbox.requests)
