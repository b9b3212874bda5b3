"""Taking away what probes have made, found by its name."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import stripe

from billing.stripe.client import metadata_of

PREFIX = "tollgate-check-"
# A second look finds what the first one failed at, such as for an answer that was lost.
TRIES = 3

Removal = tuple[str, Callable[[], object]]


def clear(
    client: stripe.StripeClient, mark: str = PREFIX, *, since: int = 0, pause: float = 2.0
) -> list[str]:
    """Remove whatever a name that begins with `mark` was given to; return sentences for what could not be removed.

    Without a mark that is what all runs have left. `since` spares going through an account's older products.
    Prices, products, meters and portal configurations cannot be deleted at Stripe once they were used: they are
    archived or deactivated. Raises nothing of Stripe's.
    """
    left = [*failures(client, mark, since)]
    for _ in range(TRIES - 1):
        if not left:
            break
        time.sleep(pause)  # A test clock that is on its way cannot be deleted.
        left = [*failures(client, mark, since)]
    return left


def failures(client: stripe.StripeClient, mark: str, since: int) -> Iterator[str]:
    """Remove what there is, and yield what went wrong."""
    # The clocks first: their customers and subscriptions go with them, and hold on to prices and meters.
    for what, find in (
        ("test clocks", test_clocks),
        ("customers", customers),
        ("portal configurations", configurations),
        ("prices and products", partial(products, since=since)),
        ("meters", meters),
    ):
        try:
            removals = list(find(client, mark))
        except stripe.StripeError as error:
            yield f"{what}: they could not be listed ({said(error)})"
            continue
        for name, remove in removals:
            try:
                remove()
            except stripe.StripeError as error:
                if error.http_status != 404:  # Gone already: an earlier try's answer was lost.
                    yield f"{name} ({said(error)})"


def said(error: stripe.StripeError) -> str:
    return error.user_message or str(error) or type(error).__name__


def test_clocks(client: stripe.StripeClient, mark: str) -> Iterator[Removal]:
    clocks: Any = client.v1.test_helpers.test_clocks
    for clock in clocks.list({"limit": 100}).auto_paging_iter():
        if (clock.name or "").startswith(mark):
            for customer in client.v1.customers.list({"test_clock": clock.id, "limit": 100}).data:
                yield from checkout_pages(client, customer.id)
            yield f"test clock {clock.id}", partial(clocks.delete, clock.id)


def checkout_pages(client: stripe.StripeClient, customer: str) -> Iterator[Removal]:
    sessions = client.v1.checkout.sessions
    for session in sessions.list({"customer": customer, "status": "open", "limit": 100}).data:
        yield f"Checkout page {session.id}", partial(sessions.expire, session.id)


def customers(client: stripe.StripeClient, mark: str) -> Iterator[Removal]:
    # Of one run they are looked up by their address, of all runs by going through the newest.
    params: Any = {"limit": 100} | ({} if mark == PREFIX else {"email": f"{mark}@example.com"})
    for customer in client.v1.customers.list(params).data:
        if (customer.name or "").startswith(mark):
            yield f"customer {customer.id}", partial(client.v1.customers.delete, customer.id)


def configurations(client: stripe.StripeClient, mark: str) -> Iterator[Removal]:
    found = client.v1.billing_portal.configurations
    for each in found.list({"active": True, "limit": 100}).auto_paging_iter():
        if metadata_of(each).get("tollgate_check", "").startswith(mark):
            yield f"portal configuration {each.id}", partial(found.update, each.id, {"active": False})


def products(client: stripe.StripeClient, mark: str, *, since: int) -> Iterator[Removal]:
    listed = client.v1.products.list({"active": True, "created": {"gte": since}, "limit": 100})
    for product in listed.auto_paging_iter():
        if not product.id.startswith(mark):
            continue
        for price in client.v1.prices.list({"product": product.id, "active": True, "limit": 100}).data:
            yield f"price {price.id}", partial(client.v1.prices.update, price.id, {"active": False})
        yield f"product {product.id}", partial(client.v1.products.update, product.id, {"active": False})


def meters(client: stripe.StripeClient, mark: str) -> Iterator[Removal]:
    name = mark.replace("-", "_")
    for meter in client.v1.billing.meters.list({"status": "active", "limit": 100}).auto_paging_iter():
        if meter.event_name.startswith(name):
            yield f"meter {meter.id}", partial(client.v1.billing.meters.deactivate, meter.id)
