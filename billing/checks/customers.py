from collections.abc import Iterator
from datetime import timedelta
from functools import partial

from django.db.models import Count, Q
from djstripe import models as djstripe

from accounts import clock
from accounts.models import Organization
from billing.checks.mending import reconcile_in_full
from billing.doctor import CouldNotMend, Finding, Fix, Severity, check
from billing.stripe.customers import ensure_customer
from billing.stripe.orphans import Orphan, adopt, find_orphans, live_subscriptions_of

# A worker makes a new organization's customer within a minute or two.
PATIENCE = timedelta(minutes=15)
ACTIVE = Q(djstripe_customers__date_purged=None)


@check("no-customer", "Organizations without a customer at Stripe: their usage cannot be reported.")
def without_customer() -> Iterator[Finding]:
    old = Organization.objects.filter(created_at__lt=clock.now() - PATIENCE)
    counted = old.annotate(customers=Count("djstripe_customers", filter=ACTIVE))
    for organization in counted.filter(customers=0):
        yield Finding(
            slug="no-customer",
            severity=Severity.WARNING,
            subject=organization.ref,
            sentence=f"{organization} has no customer at Stripe.",
            fix=Fix("Make it one, or find the one that it lost.", partial(ensure_customer, organization)),
            organization=organization,
        )


@check("two-customers", "Organizations with two customers at Stripe.")
def two_customers() -> Iterator[Finding]:
    counted = Organization.objects.annotate(customers=Count("djstripe_customers", filter=ACTIVE))
    for organization in counted.filter(customers__gt=1):
        ids = djstripe.Customer.objects.filter(subscriber=organization, date_purged=None).order_by(
            "djstripe_id"
        )
        names = ", ".join(ids.values_list("id", flat=True))
        yield Finding(
            slug="two-customers",
            severity=Severity.ERROR,
            subject=organization.ref,
            sentence=f"{organization} has several customers: {names}. Usage is reported for the first.",
            advice="Keep the one with the subscription, and delete the others at Stripe once they owe nothing.",
            organization=organization,
        )


@check("orphaned-customers", "Customers at Stripe that name an organization which does not have them.")
def orphaned_customers() -> Iterator[Finding]:
    """Goes through all customers at Stripe, a hundred to a call."""
    for orphan in find_orphans():
        yield Finding(
            slug="orphaned-customers",
            severity=Severity.ERROR if orphan.organization else Severity.WARNING,
            subject=orphan.customer_id,
            sentence=orphan.sentence,
            advice="" if orphan.is_adoptable else advice_on(orphan),
            fix=Fix("Give it back, with all that it has.", partial(give_back, orphan))
            if orphan.is_adoptable
            else None,
            organization=orphan.organization,
        )


def advice_on(orphan: Orphan) -> str:
    if orphan.organization is None:
        return (
            "Another installation may share this Stripe account, or the organization's data was deleted. "
            "Where it is neither wanted nor owed anything, delete the customer at Stripe."
        )
    if orphan.holder:
        return "Somebody changed the metadata at Stripe. Put it right there; nothing here goes by it."
    live = live_subscriptions_of(orphan.customer_id)
    if live:
        return (
            f"It is being charged for {', '.join(live)}, which give nothing here. "
            "Cancel them at Stripe, refund what was paid, and delete the customer."
        )
    return "It has no live subscription: delete it at Stripe once its invoices are settled."


def give_back(orphan: Orphan) -> None:
    if not adopt(orphan) or orphan.organization is None:
        raise CouldNotMend(f"Customer {orphan.customer_id} is not free any more.")
    reconcile_in_full(orphan.organization)
