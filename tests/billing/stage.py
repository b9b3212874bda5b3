"""Acme's life with its subscription, day by day: Stripe's clock and the product's stand still and move together."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core import mail

from accounts import clock
from accounts.clock import Hands
from accounts.models import Organization, User
from billing import delivery
from billing.entitlements import refresh_entitlement
from billing.models import Entitlement, Notice, Plan, PlanPrice
from billing.stripe.catalog import publish_plan
from billing.stripe.client import get_client
from billing.stripe.customers import ensure_customer
from billing.stripe.subscriptions import sync_subscriptions
from billing.tasks import refresh_due_entitlements
from config.celery import app
from sandbox.events.webhooks import Delivery
from sandbox.state import Sandbox
from tests.billing.cast import deliver

START = datetime(2027, 3, 10, 9, 30, tzinfo=UTC)
GOOD_CARD = "pm_card_visa"
# Can be attached, and fails whenever it is charged.
BAD_CARD = "pm_card_chargeCustomerFail"
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@contextmanager
def open_stage(sandbox: Sandbox, owner: User, *, start: datetime = START) -> Iterator["Stage"]:
    """Let it be `start` everywhere, with Acme just signed up."""
    sandbox.set_clock(frozen_at=int(start.timestamp()))
    with clock.standing_at(start) as hands:
        yield Stage(sandbox, hands, Organization.objects.open(name="Acme", owner=owner))


@contextmanager
def tasks_at_once() -> Iterator[None]:
    """Run tasks where they are queued, as a worker would a moment later, and let their failures be seen."""
    before = app.conf.task_always_eager, app.conf.task_eager_propagates
    app.conf.task_always_eager = app.conf.task_eager_propagates = True
    try:
        yield
    finally:
        app.conf.task_always_eager, app.conf.task_eager_propagates = before


class Stage:
    def __init__(self, sandbox: Sandbox, hands: Hands, organization: Organization) -> None:
        self.sandbox, self.hands, self.organization = sandbox, hands, organization
        # Called after each step of the clock.
        self.observers: list[Callable[[], None]] = []
        self.hears = True

    @property
    def now(self) -> datetime:
        return clock.now()

    @property
    def entitlement(self) -> Entitlement:
        return Entitlement.objects.select_related("plan", "bought_plan", "policy").get(
            organization=self.organization
        )

    @property
    def customer(self) -> str:
        return str(ensure_customer(self.organization).id)

    @property
    def subscription(self) -> dict[str, Any]:
        """The newest one, as Stripe has it."""
        return self.sandbox.newest("subscription")[0]

    def subscribe(
        self,
        plan: Plan,
        *,
        interval: str = "month",
        card: str | None = GOOD_CARD,
        trial_days: int | None = None,
        **params: Any,
    ) -> str:
        """Subscribe Acme at Stripe, and know of it as after a return from Checkout. Returns the subscription's id."""
        if interval == "year" and not plan.prices.filter(interval="year").exists():
            PlanPrice.objects.create(plan=plan, interval="year", unit_amount=29_000)
        publish_plan(plan)
        plan = Plan.objects.get(pk=plan.pk)
        if card:
            self.use_card(card)
            self.hear()
        wanted: dict[str, Any] = {
            "customer": self.customer,
            "items": lines_of(plan, interval=interval),
            **params,
        }
        if trial_days:
            wanted["trial_period_days"] = trial_days
        created = get_client().v1.subscriptions.create(wanted)
        self.catch_up()
        return created.id

    def use_card(self, card: str) -> None:
        """Let Acme's charges go to another card from now on."""
        api = get_client().v1
        method = api.payment_methods.attach(card, {"customer": self.customer})
        api.customers.update(self.customer, {"invoice_settings": {"default_payment_method": method.id}})

    def pay(self) -> None:
        """Pay what is open, as the customer does on Stripe's page."""
        self.use_card(GOOD_CARD)
        for invoice in get_client().v1.invoices.list({"customer": self.customer, "status": "open"}).data:
            get_client().v1.invoices.pay(invoice.id)
        self.hear()

    def catch_up(self) -> None:
        """Fetch what Stripe has, and let the webhooks that tell of it be lost: a dozen that tests need not wait for."""
        sync_subscriptions(self.customer)
        refresh_entitlement(self.organization)
        for row in list(self.sandbox.every("_delivery")):
            self.sandbox.store.remove("_delivery", row["id"])

    def hear(self, deliveries: list[Delivery] | None = None) -> None:
        """Take in what Stripe has to tell."""
        self.sandbox.run_due()
        if self.hears:
            statuses = set(deliver(self.sandbox, deliveries))
            assert statuses <= {200}, statuses

    def hear_only(self, event_type: str) -> None:
        """Take in the events of one type, and let all others be lost."""
        deliveries = [each for each in self.sandbox.webhooks.pending() if each.event_type == event_type]
        assert deliveries, f"Stripe had no {event_type} to tell."
        assert set(deliver(self.sandbox, deliveries)) == {200}

    def hear_of(self, prefix: str) -> None:
        """Take in the events whose type begins so, and let all others be lost."""
        wanted = [
            each for each in self.sandbox.webhooks.pending() if each.event_type.startswith(f"{prefix}.")
        ]
        assert set(deliver(self.sandbox, wanted)) == {200}

    def go(self, to: datetime | timedelta) -> None:
        """Let time pass: all that falls due happens at its own moment, and is heard of at once."""
        target = to if isinstance(to, datetime) else self.now + to
        while self.now < target:
            self.arrive(min([target, *(stop for stop in self.stops(target) if stop > self.now)]))

    def stops(self, until: datetime) -> Iterator[datetime]:
        """Yield when Stripe has something to do next, and when the entitlement has to be looked at again."""
        entry = self.sandbox.agenda.next(clock=None, until=int(until.timestamp()))
        if entry is not None:
            yield datetime.fromtimestamp(entry["at"], UTC)
        yield self.entitlement.valid_until

    def skip(self, to: datetime) -> None:
        """Let time pass without hearing of what happens, and then catch up with it."""
        self.hears = False
        self.go(to)
        self.hears = True
        self.catch_up()

    def arrive(self, moment: datetime) -> None:
        self.hands.move(moment)
        self.sandbox.set_clock(frozen_at=int(moment.timestamp()))
        self.hear()
        for observe in self.observers:
            observe()

    def beat(self) -> None:
        """Run what the scheduler runs every minute for access and e-mails."""
        assert refresh_due_entitlements() == 0
        self.post()

    def post(self) -> list[str]:
        """Send what is to be sent; return the subjects."""
        before = len(mail.outbox)
        for notice in Notice.objects.due(self.now).order_by("created_at"):
            delivery.send(str(notice.pk))
        return [message.subject for message in mail.outbox[before:]]

    def notices(self) -> list[str]:
        """Return the kinds of all notices, oldest first."""
        return list(Notice.objects.order_by("created_at", "pk").values_list("kind", flat=True))


def lines_of(plan: Plan, *, interval: str = "month") -> list[Any]:
    """Return a plan's prices as Stripe takes them: a metered one has no quantity."""
    return [
        {"price": price.stripe_price_id} | ({} if price.meter_id else {"quantity": 1})
        for price in plan.offered_prices(interval=interval)
    ]


def links_in(text: str) -> list[str]:
    return re.findall(r"https?://\S+", text)
