"""A customer whose whole billing life is told in tests: at Stripe, in the product, on one clock."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from djstripe import models as djstripe
from werkzeug.test import Client as SandboxBrowser

from accounts import clock
from accounts.models import Organization
from billing.entitlements import current_entitlement, refresh_entitlement
from billing.models import Entitlement, Meter, Plan, PlanPrice, PlanQuota, PriceTier
from billing.stripe.acting import sync_invoice
from billing.stripe.client import get_client
from billing.stripe.customers import ensure_customer
from billing.stripe.subscriptions import sync_subscriptions
from sandbox.app import create_app
from sandbox.state import Sandbox
from tests.billing.shelf import publish_plans
from tests.rows import once
from tests.usage.cast import make_event
from usage.ledger import store

# April has 30 days: a third of it is ten.
START = datetime(2026, 4, 1, tzinfo=UTC)
DAY = timedelta(days=1)
FAILS = "pm_card_chargeCustomerFail"
CHALLENGES = "pm_card_authenticationRequiredOnSetup"
YEARLY = {"pro": 29_000, "team": 99_000}


def prices_of(plan: Plan, interval: str = "month") -> set[str]:
    """Return the ids at Stripe of what a plan is sold as."""
    return {str(price.stripe_price_id) for price in plan.offered_prices(interval=interval)}


class Acme:
    """`api` is Stripe. Amounts are in cents."""

    def __init__(self, sandbox: Sandbox, organization: Organization, hands: clock.Hands) -> None:
        self.sandbox = sandbox
        self.organization = organization
        self.hands = hands
        self.subscription_id = ""

    @property
    def api(self) -> Any:
        return get_client().v1

    @property
    def customer_id(self) -> str:
        return str(ensure_customer(self.organization).id)

    def wait(self, **span: float) -> None:
        """Let time pass everywhere, as timedelta takes it."""
        self.wait_until(clock.now() + timedelta(**span))

    def wait_until(self, moment: datetime) -> None:
        self.hands.move(moment)
        self.sandbox.set_clock(frozen_at=moment)

    def sell_yearly(self) -> None:
        """Add yearly fees to the catalogue, to be published."""

        def add() -> None:
            for slug, cents in YEARLY.items():
                PlanPrice.objects.create(plan=Plan.objects.get(slug=slug), interval="year", unit_amount=cents)

        once("yearly fees", (Plan, PlanPrice), add)

    def publish(self) -> None:
        publish_plans(Plan.objects.all())

    def bill_overage(self, plan: Plan, *, included: int, cents: str) -> None:
        """Let a published plan bill what goes beyond the included units, at `cents` each."""

        def change() -> None:
            PlanQuota.objects.filter(plan=plan).update(included=included, overage=PlanQuota.Overage.BILL)
            price = plan.prices.get(meter__slug="requests", currency="usd")
            price.tiers.all().delete()
            price.tiers.create(up_to=None, unit_amount=cents)

        once(f"{plan.slug}: {cents} beyond {included}", (Plan, PlanQuota, PlanPrice, PriceTier), change)
        publish_plans([plan])

    def subscribe(
        self, plan: Plan, *, interval: str = "month", card: str | None = "pm_card_visa", **params: Any
    ) -> str:
        """Subscribe at Stripe, as a Checkout page would; return the subscription's id."""
        if card:
            self.pay_with(card)
        prices = plan.offered_prices(interval=interval)
        created = self.api.subscriptions.create(
            {
                "customer": self.customer_id,
                "items": [{"price": price.stripe_price_id} for price in prices],
                "metadata": {"tollgate_plan": plan.slug},
                **params,
            }
        )
        self.subscription_id = created.id
        self.see()
        return self.subscription_id

    def see(self) -> None:
        """Have the mirror and the entitlement follow what is true at Stripe, as webhooks would."""
        sync_subscriptions(self.customer_id)
        for invoice in self.invoices():
            sync_invoice(invoice.id)
        refresh_entitlement(self.organization)

    def pay_with(self, card: str) -> str:
        """Attach a card and make it the one that is charged."""
        method = self.api.payment_methods.attach(card, {"customer": self.customer_id})
        self.api.customers.update(
            self.customer_id, {"invoice_settings": {"default_payment_method": method.id}}
        )
        return str(method.id)

    def mirror_customer(self) -> None:
        """Have the customer and their default payment method in the mirror, as their webhooks would."""
        customer = djstripe.Customer.sync_from_stripe_data(self.api.customers.retrieve(self.customer_id))
        method = (customer.stripe_data["invoice_settings"] or {}).get("default_payment_method")
        if method:
            djstripe.PaymentMethod.sync_from_stripe_data(self.api.payment_methods.retrieve(method))

    def subscription(self) -> Any:
        return self.api.subscriptions.retrieve(self.subscription_id)

    def prices(self) -> set[str]:
        """Return the ids of the prices that are paid for now."""
        return {item["price"]["id"] for item in self.subscription()["items"]["data"]}

    def schedules(self) -> list[Any]:
        return list(self.api.subscription_schedules.list({"customer": self.customer_id}).data)

    def invoices(self) -> list[Any]:
        """Return the invoices, oldest first."""
        return list(self.api.invoices.list({"customer": self.customer_id, "limit": 100}).data[::-1])

    def last_invoice(self) -> Any:
        return self.invoices()[-1]

    def balance(self) -> int:
        return int(self.api.customers.retrieve(self.customer_id).balance)

    def invoiced_units(self) -> int:
        """Return the units of the meter on all invoices that are not void."""
        meter = Meter.objects.get(slug="requests")
        return sum(
            line.quantity
            for invoice in self.invoices()
            if invoice.status != "void"
            for line in invoice.lines.data
            if line.pricing.price_details.product == meter.product_id
        )

    def entitlement(self) -> Entitlement:
        return current_entitlement(self.organization)

    def use(self, units: int) -> None:
        """Use units now: they are in the ledger, and on their way to Stripe."""
        store(
            [
                make_event(
                    organization_id=self.organization.pk,
                    at=clock.now(),
                    units=units,
                    period_start=self.entitlement().period_start,
                )
            ]
        )

    def confirm(self, url: str, *, result: str = "complete") -> None:
        """Open the hosted invoice page, pay with the card there is, and answer the bank's challenge."""
        browser = SandboxBrowser(create_app(self.sandbox))
        invoice = next(each for each in self.invoices() if each.hosted_invoice_url == url)
        expanded = self.api.invoices.retrieve(
            invoice.id, {"expand": ["payments.data.payment.payment_intent"]}
        )
        action = expanded.payments.data[0].payment.payment_intent.next_action
        parts = urlsplit(
            action.redirect_to_url.url
            if action.type == "redirect_to_url"
            else action.use_stripe_sdk["stripe_js"]
        )
        browser.post(f"{parts.path}?{parts.query}", data={"result": result})
