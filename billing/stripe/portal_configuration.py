"""What customers may do in Stripe's customer portal: one configuration of ours, kept as Tollgate wants it."""

from typing import Any

import stripe
from django.conf import settings

from billing.locks import setup_lock
from billing.models import BillingSettings
from billing.stripe.client import get_client, metadata_of, translated_errors
from billing.stripe.webhook_endpoints import CREATED, Settled

MARK = "tollgate_portal"


def wanted() -> dict[str, Any]:
    """Return the configuration as it should be.

    Plans are changed in Tollgate, which previews to the cent and grants only what is paid: the portal cannot, and
    refuses subscriptions of several items. The e-mail address is the organization's, so it is changed there too.
    """
    return {
        "business_profile": {"headline": "Your payment details, invoices and subscription"},
        "default_return_url": f"{settings.FRONTEND_URL}/dashboard/billing/",
        "features": {
            "customer_update": {"enabled": True, "allowed_updates": ["address", "name", "tax_id"]},
            "invoice_history": {"enabled": True},
            "payment_method_update": {"enabled": True},
            "subscription_cancel": {"enabled": True, "mode": "at_period_end", "proration_behavior": "none"},
            "subscription_update": {"enabled": False},
        },
        "metadata": {MARK: settings.FRONTEND_URL},
    }


def settle_portal_configuration() -> Settled:
    """Make our configuration exist at Stripe as `wanted`, keep its id, and say what that took.

    Where the id is lost, the configuration is found by its metadata. Raises StripeUnavailable or StripeRejected.
    """
    with translated_errors(), setup_lock("portal-configuration"):
        row = BillingSettings.load()
        configurations = get_client().v1.billing_portal.configurations
        found = find_configuration(row.portal_configuration_id)
        done = []
        params: Any = wanted()
        if found is None:
            found = configurations.create(params)
            done.append(CREATED)
        elif not holds(found.to_dict(), params):
            configurations.update(found.id, params)
            done.append("brought it up to date")
        if row.portal_configuration_id != found.id:
            if CREATED not in done:
                done.append("found it again")
            BillingSettings.objects.filter(pk=row.pk).update(portal_configuration_id=found.id)
    return Settled(found.id, tuple(done))


def find_configuration(known_id: str) -> stripe.billing_portal.Configuration | None:
    configurations = get_client().v1.billing_portal.configurations
    if known_id:
        try:
            known = configurations.retrieve(known_id)
        except stripe.InvalidRequestError as error:
            if error.code != "resource_missing":
                raise
        else:
            if known.active:
                return known
    listed = configurations.list({"active": True, "limit": 100}).auto_paging_iter()
    return next((c for c in listed if metadata_of(c).get(MARK) == settings.FRONTEND_URL), None)


def holds(actual: Any, expected: Any) -> bool:
    """Return whether `actual` says all that `expected` says, and whatever else. Lists are compared as sets."""
    if isinstance(expected, dict):
        return isinstance(actual, dict) and all(
            holds(actual.get(name), value) for name, value in expected.items()
        )
    if isinstance(expected, list):
        return isinstance(actual, list) and sorted(actual) == sorted(expected)
    return bool(actual == expected)
