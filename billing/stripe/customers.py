from djstripe import models as djstripe

from accounts.models import Organization
from billing.locks import customer_lock
from billing.stripe.client import get_client, metadata_of, translated_errors

METADATA_KEY = "tollgate_organization"


def find_customer(organization: Organization) -> djstripe.Customer | None:
    return djstripe.Customer.objects.filter(subscriber=organization).order_by("djstripe_created").first()


def ensure_customer(organization: Organization) -> djstripe.Customer:
    """Return the organization's Stripe customer, creating it at most once.

    The idempotency key comes from the organization, so two workers racing here, or a retry after a lost
    answer, get the same customer back. Stripe forgets keys after a day: a customer that an older try left
    behind is found by its metadata. Raises StripeUnavailable where trying again may help, else StripeRejected.
    """
    customer = find_customer(organization)
    if customer:
        return customer
    key = str(organization.pk)
    with translated_errors():
        known = get_client().v1.customers.list({"email": organization.email, "limit": 100})
        data = next((c for c in known.data if metadata_of(c).get(METADATA_KEY) == key), None)
        if data is None:
            data = get_client().v1.customers.create(
                {
                    "email": organization.email,
                    "name": organization.name,
                    "metadata": {METADATA_KEY: key, "tollgate_ref": organization.ref},
                },
                {"idempotency_key": f"tollgate-customer-{key}"},
            )
        with customer_lock(data.id):
            customer = djstripe.Customer.sync_from_stripe_data(data)
            customer.subscriber = organization
            customer.save(update_fields=["subscriber"])
    return customer
