"""Customers at Stripe that carry our mark and belong to nobody here."""

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from djstripe import models as djstripe

from accounts.models import Organization
from billing.locks import customer_lock
from billing.stripe import mirror
from billing.stripe.client import get_client, metadata_of, translated_errors
from billing.stripe.customers import METADATA_KEY, find_customer
from billing.subscriptions import LIVE


@dataclass(frozen=True, slots=True)
class Orphan:
    """A customer at Stripe whose metadata names `organization_id`, and which the mirror gives to no one or another.

    `organization` is None where there is none of that id; `holder` is whom the mirror gives the customer to;
    `other` is the customer that the organization has instead.
    """

    customer_id: str
    organization_id: str
    organization: Organization | None
    holder: Organization | None
    other: str

    @property
    def is_adoptable(self) -> bool:
        return self.organization is not None and self.holder is None and not self.other

    @property
    def sentence(self) -> str:
        """What is the matter with it; that it was lost, where it may be adopted."""
        name = f"Customer {self.customer_id}"
        if self.organization is None:
            return f"{name} at Stripe names organization {self.organization_id}, which is not here."
        if self.holder:
            return f"{name} is {self.holder.name}'s here, and its metadata at Stripe names {self.organization.name}."
        if self.other:
            return f"{name} at Stripe names {self.organization.name}, which has customer {self.other}."
        return f"{self.organization.name} had lost its customer {self.customer_id}."


def find_orphans() -> Iterator[Orphan]:
    """Go through all customers at Stripe. Those that never were ours are passed over. Raises StripeUnavailable."""
    owners = dict(djstripe.Customer.objects.filter(date_purged=None).values_list("id", "subscriber_id"))
    with translated_errors():
        for data in get_client().v1.customers.list({"limit": 100}).auto_paging_iter():
            named = metadata_of(data).get(METADATA_KEY)
            if named and str(owners.get(data.id)) != named:
                yield describe(data.id, named, holder_id=owners.get(data.id))


def describe(customer_id: str, named: str, *, holder_id: UUID | None) -> Orphan:
    organization = find_organization(named)
    other = find_customer(organization) if organization else None
    holder = Organization.objects.filter(pk=holder_id).first() if holder_id else None
    return Orphan(customer_id, named, organization, holder, other.id if other else "")


def find_organization(pk: str) -> Organization | None:
    try:
        return Organization.objects.filter(pk=UUID(pk)).first()
    except ValueError:
        return None


def adopt(orphan: Orphan) -> bool:
    """Make a customer at Stripe its organization's; return whether it is so now: one that has another keeps that.

    Under the lock that `ensure_customer` takes, so that no second one is made meanwhile.
    Raises StripeUnavailable or StripeRejected.
    """
    organization, customer_id = orphan.organization, orphan.customer_id
    if organization is None:
        return False
    with translated_errors(), customer_lock(str(organization.pk)):
        known = find_customer(organization)
        if known:
            return bool(known.id == customer_id)
        data = get_client().v1.customers.retrieve(customer_id)
        if getattr(data, "deleted", False) or metadata_of(data).get(METADATA_KEY) != str(organization.pk):
            return False
        mirror.copy(djstripe.Customer, data)
        djstripe.Customer.objects.filter(id=customer_id, subscriber=None).update(subscriber=organization)
    return True


def live_subscriptions_of(customer_id: str) -> list[str]:
    """Return the ids of what Stripe may still charge this customer for. Raises StripeUnavailable or StripeRejected."""
    with translated_errors():
        listed = get_client().v1.subscriptions.list({"customer": customer_id, "limit": 100})
        return [each.id for each in listed.auto_paging_iter() if each.status in LIVE]
