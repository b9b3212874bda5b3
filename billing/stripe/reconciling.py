"""Bring the mirror of one organization in line with Stripe, whatever webhooks were lost."""

from datetime import UTC, datetime
from typing import Any

from dateutil.relativedelta import relativedelta
from djstripe import models as djstripe

from accounts import clock
from accounts.models import Organization
from billing.entitlements import refresh_entitlement
from billing.errors import StripeRejected, StripeUnavailable
from billing.locks import customer_lock
from billing.models import Entitlement, Plan, PlanPrice, Reconciliation
from billing.stripe.client import get_client, translated_errors
from billing.stripe.copying import Copier, Outcome
from billing.stripe.customers import ensure_customer
from billing.subscriptions import LIVE

INVOICES_OF = relativedelta(months=13)
# Invoices that may still change, however old they are.
UNSETTLED = frozenset({"draft", "open"})
BEFORE_STRIPE = datetime(2010, 1, 1, tzinfo=UTC)
SCHEDULED = frozenset({"not_started", "active"})


def reconcile(organization: Organization) -> Outcome:
    """Fetch everything that Stripe knows of the organization into the mirror and refresh its entitlement.

    Return what that repaired. What dj-stripe cannot take of it is a problem named there and holds up nothing
    else. Raises StripeUnavailable, with what was fetched so far kept. May be repeated: then it repairs nothing.
    """
    outcome, now = Outcome(), clock.now()
    reached = False
    try:
        for customer in customers_of(organization, outcome=outcome):
            reconcile_customer(customer, outcome=outcome)
        reached = True
    finally:
        before = gist(Entitlement.objects.get(organization=organization))
        entitlement = refresh_entitlement(organization)
        if gist(entitlement) != before:
            outcome.repaired.append(
                f"The entitlement was out of date: it is {entitlement.plan} ({entitlement.status}) now."
            )
        note(organization, outcome=outcome, now=now, reached=reached)
    return outcome


def gist(entitlement: Entitlement) -> tuple[object, ...]:
    """Return what only news from Stripe or staff can change, as against the month that time moves on."""
    return entitlement.plan_id, entitlement.bought_plan_id, entitlement.status, entitlement.access


def note(organization: Organization, *, outcome: Outcome, now: datetime, reached: bool) -> None:
    fields: dict[str, Any] = {"tried_at": now, "repaired": outcome.repaired, "problems": outcome.problems}
    if reached and not outcome.problems:
        fields["reconciled_at"] = now
    Reconciliation.objects.update_or_create(organization=organization, defaults=fields)


def customers_of(organization: Organization, *, outcome: Outcome) -> list[djstripe.Customer]:
    """Return the organization's customers: one, unless somebody made a second. Where there is none it gets one."""
    known = djstripe.Customer.objects.filter(subscriber=organization, date_purged=None)
    if known:
        return list(known.order_by("djstripe_id"))
    customer = ensure_customer(organization)
    outcome.repaired.append(f"It had no customer at Stripe: {customer.id} is its customer now.")
    return [customer]


def reconcile_customer(customer: djstripe.Customer, *, outcome: Outcome) -> None:
    """Fetch a customer with all that belongs to it. Raises StripeUnavailable, with what was fetched so far kept."""
    unavailable = None
    with customer_lock(customer.id):
        try:
            fetch_customer(customer, copier=Copier(outcome))
        except StripeUnavailable as error:
            unavailable = error
        except StripeRejected as error:
            outcome.problems.append(refusal(customer.id, error))
    # Raised outside the transaction, which would take back with it what was just learnt from Stripe.
    if unavailable:
        raise unavailable


def refusal(customer_id: str, error: StripeRejected) -> str:
    if error.code == "resource_missing":
        # Stripe answers for a deleted customer too. So nothing is taken from anybody here: a key of another
        # account would otherwise put every customer on the free plan.
        return (
            f"Stripe does not know customer {customer_id}: does STRIPE_SECRET_KEY belong to the account "
            "that this customer was made in?"
        )
    return f"Customer {customer_id}: {error}"


def fetch_customer(customer: djstripe.Customer, *, copier: Copier) -> None:
    client = get_client().v1
    with translated_errors():
        data = client.customers.retrieve(customer.id)
    if getattr(data, "deleted", False):
        bury(customer, copier=copier)
        return
    copier.take(djstripe.Customer, data)
    mine: Any = {"customer": customer.id}
    copier.take_all(
        djstripe.PaymentMethod,
        client.payment_methods,
        mine,
        held=customer.payment_methods.all(),
    )
    copier.take_all(
        djstripe.Subscription,
        client.subscriptions,
        mine | {"status": "all"},
        held=customer.subscriptions.filter(stripe_data__status__in=LIVE),
    )
    copier.take_all(
        djstripe.SubscriptionSchedule,
        client.subscription_schedules,
        mine,
        held=customer.schedules.filter(stripe_data__status__in=SCHEDULED),
    )
    fetch_invoices(customer, copier=copier)


def fetch_invoices(customer: djstripe.Customer, *, copier: Copier) -> None:
    """Fetch those that may be new since the last time, and of the older ones those that may still change."""
    since = int(invoices_since(customer).timestamp())
    mine: Any = {"customer": customer.id}
    invoices = get_client().v1.invoices
    older = copier.take_all(djstripe.Invoice, invoices, mine | {"created": {"lt": since}, "status": "open"})
    unsettled = customer.invoices.filter(stripe_data__status__in=UNSETTLED).exclude(id__in=older)
    copier.take_all(djstripe.Invoice, invoices, mine | {"created": {"gte": since}}, held=unsettled)


def fetch_invoices_of(subscription_id: str) -> Outcome:
    """Fetch all invoices of a subscription. Raises StripeUnavailable or StripeRejected."""
    copier = Copier(Outcome())
    copier.take_all(djstripe.Invoice, get_client().v1.invoices, {"subscription": subscription_id})
    return copier.outcome


def invoices_since(customer: djstripe.Customer) -> datetime:
    """Return from when on invoices are fetched: all of them the first time, for nobody knows what was lost before."""
    done = Reconciliation.objects.filter(organization=customer.subscriber_id, reconciled_at__isnull=False)
    last = done.values_list("reconciled_at", flat=True).first()
    return min(last, clock.now() - INVOICES_OF) if last else BEFORE_STRIPE


def bury(customer: djstripe.Customer, *, copier: Copier) -> None:
    """Let go of a customer that was deleted at Stripe, as its webhook would have: the next one is another."""
    subscriptions = get_client().v1.subscriptions
    for subscription in customer.subscriptions.filter(stripe_data__status__in=LIVE):
        copier.take_again(djstripe.Subscription, subscriptions, subscription.id)
    customer.subscriber, customer.date_purged = None, clock.now()
    customer.stripe_data = {**customer.stripe_data, "deleted": True}
    customer.save(update_fields=["subscriber", "date_purged", "stripe_data"])
    copier.outcome.repaired.append(f"Customer {customer.id} was deleted at Stripe.")


def reconcile_catalogue() -> Outcome:
    """Fetch the products of our plans and meters, with all their prices. Raises StripeUnavailable or StripeRejected."""
    copier, client = Copier(Outcome()), get_client().v1
    adopted = PlanPrice.objects.filter(stripe_price__isnull=False)
    ours = {
        *Plan.objects.values_list("stripe_product", flat=True),
        *adopted.values_list("stripe_price__product", flat=True),
    }
    for product_id in sorted(ours - {None}):
        copier.take_again(djstripe.Product, client.products, product_id)
        copier.take_all(djstripe.Price, client.prices, {"product": product_id})
    return copier.outcome
