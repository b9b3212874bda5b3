"""What Stripe holds in the whole account, a hundred to a call."""

from dataclasses import dataclass

from billing.errors import StripeRejected
from billing.stripe.client import get_client, translated_errors


@dataclass(frozen=True, slots=True)
class Listed:
    """A subscription as Stripe lists it."""

    id: str
    status: str
    customer_id: str


def list_subscriptions() -> dict[str, Listed]:
    """Return, by id, all that have not been cancelled. Those on test clocks are missing. Raises StripeUnavailable."""
    with translated_errors():
        listed = get_client().v1.subscriptions.list({"limit": 100})
        return {
            each.id: Listed(each.id, each.status, str(each.customer)) for each in listed.auto_paging_iter()
        }


def find_subscription_status(subscription_id: str) -> str | None:
    """Return the status at Stripe, None where Stripe does not know the subscription. Raises StripeUnavailable."""
    try:
        with translated_errors():
            return str(get_client().v1.subscriptions.retrieve(subscription_id).status)
    except StripeRejected as error:
        if error.code == "resource_missing":
            return None
        raise


def list_active_prices(product_id: str) -> set[str]:
    """Return the ids of the product's prices that can be bought. Raises StripeUnavailable or StripeRejected."""
    with translated_errors():
        listed = get_client().v1.prices.list({"product": product_id, "active": True, "limit": 100})
        return {price.id for price in listed.auto_paging_iter()}
