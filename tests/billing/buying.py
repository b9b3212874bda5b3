"""Steps of subscribing beyond `cast`: what a customer's own page does with a client secret, and what to look at."""

from typing import Any

from accounts.models import Organization, User
from billing.models import BillingSettings, Plan
from billing.stripe.catalog import publish_plan
from billing.stripe.checkout import CheckoutOutcome, finish_checkout
from billing.stripe.client import get_client
from billing.subscriptions import plan_subscriptions
from sandbox.state import Sandbox
from tests.billing.cast import CARD, open_checkout, pay, session_id_of

SECOND_ATTEMPT = "00000000-0000-4000-8000-000000000002"
BERLIN = {"line1": "Hauptstr. 1", "city": "Berlin", "postal_code": "10115", "country": "DE"}


def confirm(client_secret: str, *, card: str = "pm_card_visa") -> None:
    """Do what Stripe's script in the customer's browser does with a client secret."""
    intent = client_secret.split("_secret_", maxsplit=1)[0]
    where = {"payment_method": card, "return_url": "http://127.0.0.1:8000/"}
    api = get_client().v1
    if intent.startswith("seti_"):
        api.setup_intents.confirm(intent, where)
    else:
        api.payment_intents.confirm(intent, where)


def offer_trial(plan: Plan, *, days: int = 14) -> None:
    plan.trial_days = days
    plan.save()


def sell(plan: Plan, **price: Any) -> None:
    """Publish a further price of the plan, with what it needs beside it in that currency."""
    metered = plan.prices.exclude(meter=None).first()
    plan.prices.create(**price)
    if (
        metered
        and not plan.prices.filter(meter=metered.meter, currency=price.get("currency", "usd")).exists()
    ):
        plan.prices.create(meter=metered.meter, currency=price["currency"], unit_amount=0)
    publish_plan(Plan.objects.get(pk=plan.pk))


def settings(**values: Any) -> None:
    row = BillingSettings.load()
    for name, value in values.items():
        setattr(row, name, value)
    row.save()


def charge_tax_in_germany() -> None:
    """Let automatic tax charge 19% to buyers in Germany."""
    api = get_client().v1
    api.tax.settings.update(
        {
            "head_office": {"address": {**BERLIN}},
            "defaults": {"tax_behavior": "exclusive", "tax_code": "txcd_10103001"},
        }
    )
    standard: Any = {"type": "standard", "standard": {"place_of_supply_scheme": "standard"}}
    api.tax.registrations.create({"country": "DE", "country_options": {"de": standard}, "active_from": "now"})


def another_organization(*, email: str, name: str = "Rival") -> Organization:
    owner = User.objects.create_user(email, "correct horse battery")
    return Organization.objects.open(name=name, owner=owner)


def statuses(sandbox: Sandbox) -> list[str]:
    """Return the statuses of all subscriptions at Stripe, sorted."""
    return sorted(each["status"] for each in sandbox.every("subscription"))


def open_pages(sandbox: Sandbox) -> list[dict[str, Any]]:
    return [each for each in sandbox.every("checkout.session") if each["status"] == "open"]


def paid(sandbox: Sandbox) -> int:
    """Return what all cards have paid together, in minor units."""
    return sum(each["amount"] for each in sandbox.every("charge") if each["status"] == "succeeded")


def mirrored(organization: Organization) -> dict[str, Any]:
    """Return Stripe's object of the organization's live subscription, else its newest, as the mirror has it."""
    return plan_subscriptions(organization)[0].data


def take_trial(
    sandbox: Sandbox, organization: Organization, plan: Plan, *, card: str = CARD
) -> CheckoutOutcome:
    """Go through Checkout and come back; return what came of it."""
    return finish_checkout(
        organization,
        session_id=session_id_of(pay(sandbox, open_checkout(organization, plan=plan), card=card)),
    )
