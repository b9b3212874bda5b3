"""What the scenes share: their register, and how they begin."""

from collections.abc import Callable
from typing import Any

from djstripe import models as djstripe

from billing.models import Plan
from billing.stripe.client import get_client
from tests.billing.stage import BAD_CARD, HOUR, Stage

Scene = Callable[[Stage], None]
SCENES: dict[str, Scene] = {}


def brings(event_type: str) -> Callable[[Scene], Scene]:
    def register(scene: Scene) -> Scene:
        SCENES[event_type] = scene
        return scene

    return register


def plan(slug: str) -> Plan:
    return Plan.objects.get(slug=slug)


def subscribed(stage: Stage, slug: str = "pro", **params: Any) -> str:
    """Put Acme on a plan, and let what Stripe tells from now on be lost unless it is asked for."""
    subscription = stage.subscribe(plan(slug), **params)
    stage.hears = False
    return subscription


def fail_renewal(stage: Stage, card: str = BAD_CARD) -> None:
    """Let the month pass and its payment fail."""
    stage.use_card(card)
    stage.go(stage.entitlement.period_end + 2 * HOUR)


def mirrored(identifier: str, model: Any = djstripe.Subscription) -> dict[str, Any]:
    data: dict[str, Any] = model.objects.get(id=identifier).stripe_data
    return data


def state(stage: Stage) -> tuple[str, str, str]:
    entitlement = stage.entitlement
    return entitlement.status, entitlement.access, entitlement.plan.slug


def open_invoice(stage: Stage) -> str:
    (invoice,) = get_client().v1.invoices.list({"customer": stage.customer, "status": "open"}).data
    return invoice.id
