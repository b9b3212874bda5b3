from django.db.models import QuerySet
from djstripe import models as djstripe

from accounts.models import Organization
from billing.locks import customer_lock
from billing.stripe.client import get_client, metadata_of, translated_errors

METADATA_KEY = "tollgate_organization"


def find_customer(organization: Organization) -> djstripe.Customer | None:
    return known_customers(organization).order_by("djstripe_created").first()


def knows_customer(organization: Organization, customer_id: str) -> bool:
    """Whether Stripe's customer of this id is one of the organization's, and was not deleted."""
    return known_customers(organization).filter(id=customer_id).exists()


def is_deleted(customer_id: str) -> bool:
    """Whether a customer that was known here was deleted at Stripe, so that nothing more is billed to it."""
    return djstripe.Customer.objects.filter(id=customer_id).exclude(date_purged=None).exists()


def known_customers(organization: Organization) -> "QuerySet[djstripe.Customer]":
    return djstripe.Customer.objects.filter(subscriber=organization, date_purged=None)


def ensure_customer(organization: Organization) -> djstripe.Customer:
    """Return the organization's Stripe customer, creating it at most once.

    One worker at a time looks before it creates: a customer that an earlier try left behind, its answer
    lost, is found by its metadata. An idempotency key made from the organization would instead repeat for
    a day what Stripe answered first: a failure, or a customer that has been deleted since.
    Raises StripeUnavailable where trying again may help, else StripeRejected.
    """
    customer = find_customer(organization)
    if customer:
        return customer
    key = str(organization.pk)
    with translated_errors(), customer_lock(key):
        customer = find_customer(organization)
        if customer:
            return customer
        known = get_client().v1.customers.list({"email": organization.email, "limit": 100})
        data = next((c for c in known.auto_paging_iter() if metadata_of(c).get(METADATA_KEY) == key), None)
        if data is None:
            data = get_client().v1.customers.create(
                {
                    "email": organization.email,
                    "name": organization.name,
                    "metadata": {METADATA_KEY: key, "tollgate_ref": organization.ref},
                }
            )
        customer = djstripe.Customer.sync_from_stripe_data(data)
        customer.subscriber = organization
        customer.save(update_fields=["subscriber"])
    return customer
