"""One organization's life on the sandbox's clock, by the ways that pages and Stripe's hosted pages take."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from djstripe import models as djstripe

from accounts.clock import Hands
from accounts.models import Organization
from apikeys.demo import desk
from apikeys.gate import Decision, admit
from billing.entitlements import refresh_entitlement
from billing.models import Plan
from billing.stripe.changing import change_plan
from billing.stripe.checkout import complete_checkout, start_checkout
from billing.stripe.client import get_client
from billing.stripe.customers import ensure_customer
from billing.stripe.previewing import preview_change
from billing.subscriptions import LIVE, from_timestamp, subscription_of
from billing.tasks import refresh_due_entitlements, send_notices
from sandbox.state import Sandbox
from tests.billing.cast import pay, session_id_of, visit_page
from tests.billing.scenarios.postman import Postman

WEEK = timedelta(days=7)
FAILING = "pm_card_chargeCustomerFail"
WORKING = "pm_card_visa"


class World:
    """Product and Stripe at one time, which moves by `go`. Webhooks come by way of `postman`."""

    def __init__(
        self,
        sandbox: Sandbox,
        hands: Hands,
        organization: Organization,
        *,
        secret: str,
        start: datetime,
        postman: Postman,
    ) -> None:
        self.sandbox = sandbox
        self.hands = hands
        self.organization = organization
        self.secret = secret
        self.now = start
        self.postman = postman
        self.attempts = 0

    def go(self, *, days: float = 0, to: str | None = None) -> None:
        """Let time pass, from one thing that Stripe does to the next, with what the beat does then."""
        target = datetime.fromisoformat(to).replace(tzinfo=UTC) if to else self.now + timedelta(days=days)
        self.postman.call()
        while self.now < target:
            self.now = self.next_stop(target)
            self.sandbox.set_clock(frozen_at=int(self.now.timestamp()))
            self.hands.move(self.now)
            self.postman.call()
            refresh_due_entitlements()
            send_notices()
            self.check()

    def next_stop(self, target: datetime) -> datetime:
        """Return the next moment at which something is due at Stripe, `target` or a week at the latest."""
        latest = min(self.now + WEEK, target)
        due = self.sandbox.agenda.next(clock=None, until=int(latest.timestamp()))
        return from_timestamp(max(due["at"], int(self.now.timestamp()) + 1)) if due else latest

    def check(self) -> None:
        live = [each for each in self.sandbox.every("subscription") if each["status"] in LIVE]
        assert len(live) <= 1

    def subscribe(self, plan: str, *, interval: str = "month", code: str = "") -> None:
        """Buy a plan on the hosted page and come back."""
        self.attempts += 1
        url = start_checkout(
            self.organization,
            plan=Plan.objects.get(slug=plan),
            interval=interval,
            attempt=str(UUID(int=self.attempts, version=4)),
            success_url="http://127.0.0.1:8000/dashboard/billing/return/?session_id={CHECKOUT_SESSION_ID}",
            cancel_url="http://127.0.0.1:8000/dashboard/billing/",
        )
        if code:
            visit_page(self.sandbox, url, {"promotion_code": code, "apply": "yes"})
        paid = pay(self.sandbox, url)
        assert complete_checkout(self.organization, session_id=session_id_of(paid))
        refresh_entitlement(self.organization)

    def change(self, plan: str, *, interval: str = "month") -> int:
        """Look at the preview, agree to it, and return what it said is due now."""
        wanted = Plan.objects.get(slug=plan)
        preview = preview_change(self.organization, plan=wanted, interval=interval)
        change_plan(self.organization, plan=wanted, interval=interval, token=preview.token)
        return preview.amount_due

    def change_card(self, card: str, *, pay_now: bool = False) -> None:
        desk.replace_card(self.organization, card=card, pay_now=pay_now)

    def call(self) -> Decision:
        """Make one call of the API, now."""
        return admit(self.secret)

    def refund(self, amount: int) -> None:
        """Staff give money back for the newest invoice that was paid, by a credit note."""
        client = get_client().v1
        customer = ensure_customer(self.organization).id
        newest = next(
            each
            for each in client.invoices.list({"customer": customer, "status": "paid", "limit": 100}).data
            if each.amount_paid >= amount
        )
        client.credit_notes.create({"invoice": newest.id, "amount": amount, "refund_amount": amount})

    def credit(self, amount: int) -> None:
        """Staff put money on the customer's balance: the next invoice takes it off."""
        customer = ensure_customer(self.organization).id
        get_client().v1.customers.balance_transactions.create(
            customer, {"amount": -amount, "currency": "usd", "description": "Sorry for the outage"}
        )

    # What is the same in the end, whatever became of the webhooks.

    def bills(self) -> list[tuple[str, str, int, int]]:
        """Return the invoices that Stripe issued over something, oldest first: date, status, total, amount paid."""
        rows = [each for each in self.sandbox.every("invoice") if each["status"] != "draft" and each["total"]]
        return [
            (
                f"{datetime.fromtimestamp(each['created'], UTC):%Y-%m-%d}",
                each["status"],
                each["total"],
                each["amount_paid"],
            )
            for each in sorted(rows, key=lambda each: (each["created"], each["number"]))
        ]

    def truth(self) -> dict[str, Any]:
        """Return the organization's state at Stripe, without its random ids."""
        return self.state_of(
            [self.sandbox.render(each) for each in self.sandbox.every("subscription")],
            [self.sandbox.render(each) for each in self.sandbox.every("invoice")],
        )

    def mirror(self) -> dict[str, Any]:
        """Return the same from dj-stripe's mirror."""
        return self.state_of(
            list(djstripe.Subscription.objects.values_list("stripe_data", flat=True)),
            list(djstripe.Invoice.objects.values_list("stripe_data", flat=True)),
        )

    def state_of(self, subscriptions: list[Any], invoices: list[Any]) -> dict[str, Any]:
        return {
            "subscriptions": sorted(
                (
                    each["created"],
                    each["status"],
                    each["cancel_at"],
                    each["ended_at"],
                    each["schedule"] is not None,
                    sorted(
                        (
                            item["price"]["lookup_key"] or "",
                            item["current_period_start"],
                            item["current_period_end"],
                        )
                        for item in each["items"]["data"]
                    ),
                )
                for each in subscriptions
            ),
            "invoices": sorted(
                (
                    each["created"],
                    each["number"] or "",
                    each["status"],
                    each["total"],
                    each["amount_paid"],
                    each["post_payment_credit_notes_amount"],
                    subscription_of(each) is not None,
                )
                for each in invoices
            ),
        }

    def entitlement(self) -> dict[str, Any]:
        row = refresh_entitlement(self.organization)
        return {
            "plan": row.plan.slug,
            "bought": row.bought_plan.slug if row.bought_plan else None,
            "status": row.status,
            "since": row.status_since,
            "access": row.access,
            "rate": row.rate_per_minute,
            "quotas": row.quotas,
            "period": (row.period_start, row.period_end),
            "carried": row.carried_from,
            "grace_end": row.grace_end,
            "valid_until": row.valid_until,
        }
