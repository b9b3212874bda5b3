"""Fixes that several checks offer."""

from functools import partial

from accounts.models import Organization
from billing.doctor import CouldNotMend, Fix
from billing.entitlements import refresh_entitlement
from billing.stripe.reconciling import reconcile


def by_reconciling(organization: Organization) -> Fix:
    return Fix("Fetch all that Stripe knows of the organization.", partial(reconcile_in_full, organization))


def reconcile_in_full(organization: Organization) -> None:
    outcome = reconcile(organization)
    if outcome.problems:
        raise CouldNotMend(" ".join(outcome.problems))


def by_refreshing(organization: Organization) -> Fix:
    return Fix("Compute the entitlement anew.", partial(refresh_entitlement, organization))
