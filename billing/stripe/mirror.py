"""dj-stripe's mirror beside what Stripe answers: what differs, and making it the same."""

import json
from dataclasses import dataclass
from typing import Any

import stripe
from django.db import models, transaction

# Stripe makes these anew with each answer: another one is no news.
VOLATILE = frozenset({"hosted_invoice_url", "invoice_pdf", "url"})
# Stripe changes these without an event: they are copied, and nobody missed any news.
QUIET = frozenset({"currency", "next_invoice_sequence"})
NOUNS = {
    "customer": "Customer",
    "invoice": "Invoice",
    "payment_method": "Payment method",
    "price": "Price",
    "product": "Product",
    "subscription": "Subscription",
    "subscription_schedule": "Schedule",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """An object that the mirror now holds as Stripe has it. `held` is what it held before, None for nothing."""

    kind: str
    id: str
    held: dict[str, Any] | None
    found: dict[str, Any]
    fields: tuple[str, ...]

    @property
    def sentence(self) -> str:
        name = f"{NOUNS[self.kind]} {self.id}"
        status = str(self.found.get("status", "")).replace("_", " ")
        if self.held is None:
            return f"{name} was missing here" + (f"; it is {status} at Stripe." if status else ".")
        if "status" in self.fields:
            before = str(self.held.get("status", "")).replace("_", " ")
            return f"{name} was {before} here and {status} at Stripe."
        return f"{name} was out of date here: {', '.join(self.fields)}."


def plain(data: stripe.StripeObject) -> dict[str, Any]:
    """Return Stripe's object as plain JSON values, the way that dj-stripe stores it."""
    values: dict[str, Any] = json.loads(str(data))
    return values


def copy(model: type[models.Model], data: stripe.StripeObject) -> Difference | None:
    """Make the mirror hold an object as Stripe has it; return what differed, None where it is no news.

    What is the same is not written again. Raises what dj-stripe raises, with the transaction around still whole.
    """
    found = plain(data)
    row = model._default_manager.filter(id=found["id"]).first()
    held: dict[str, Any] | None = getattr(row, "stripe_data", None) or None
    fields = differing(held, found) if held is not None else ()
    if held is not None and not fields:
        return None
    with transaction.atomic():
        model.sync_from_stripe_data(data)  # type: ignore[attr-defined]
    news = tuple(name for name in fields if name not in QUIET)
    return None if fields and not news else Difference(found["object"], found["id"], held, found, news)


def differing(held: dict[str, Any], found: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of the fields that say something else, in Stripe's words.

    A field that only one of them has is no difference: dj-stripe asks for some to be expanded, and adds its own.
    """
    shared = (held.keys() & found.keys()) - VOLATILE
    return tuple(sorted(name for name in shared if not same_field(name, held[name], found[name])))


def same_field(name: str, held: Any, found: Any) -> bool:
    # The keys of metadata are data: one that is gone is a difference.
    return bool(held == found) if name == "metadata" else same(held, found)


def same(held: Any, found: Any) -> bool:
    """Return whether two values say the same, be an object in them expanded or named by its id."""
    if isinstance(held, dict) and isinstance(found, dict):
        return not differing(held, found)
    if isinstance(held, list) and isinstance(found, list):
        return len(held) == len(found) and all(same(a, b) for a, b in zip(held, found, strict=True))
    for one, other in ((held, found), (found, held)):
        if isinstance(one, dict) and isinstance(other, str):
            return bool(one.get("id") == other)
    return bool(held == found)
