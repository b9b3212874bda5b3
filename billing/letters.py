"""What the e-mails say: a notice put into words, with the state of the moment it is sent in."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from email.utils import parseaddr
from typing import Any
from urllib.parse import urljoin
from zoneinfo import ZoneInfo

from django.conf import settings
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from djstripe import models as djstripe

from accounts.models import Organization
from billing.ceilings import metered_price, tiers_of
from billing.limits import counted, describe_limits
from billing.models import Access, Entitlement, Meter, Notice, NoticeKind, Plan, Trial
from billing.subscriptions import PlanSubscription, find_live_subscription, owed_invoices
from billing.templatetags.money import money, unit_money

WITH_LIMITS = frozenset(
    {NoticeKind.ACCESS_REDUCED, NoticeKind.RECOVERED, NoticeKind.CANCELLED, NoticeKind.PLAN_CHANGED}
)


@dataclass(frozen=True, slots=True)
class Letter:
    """A rendered e-mail."""

    recipient: str
    subject: str
    text: str
    html: str


@dataclass(frozen=True, slots=True)
class Action:
    """What the customer can do about it, and where."""

    label: str
    url: str


def write_letter(notice: Notice, entitlement: Entitlement, *, now: datetime) -> Letter:
    """Return the e-mail of a notice. Every link is absolute, and none signs anybody in.

    Dates are in the organization's own time zone.
    """
    organization = notice.organization
    folder = "billing/email/"
    with timezone.override(ZoneInfo(organization.time_zone)):
        context = common_context(notice, entitlement) | CONTEXTS[NoticeKind(notice.kind)](notice, entitlement)
        subject = " ".join(render_to_string(f"{folder}{notice.kind}_subject.txt", context).split())
        body = render_to_string(f"{folder}{notice.kind}.txt", context).strip()
        parts = context | {"subject": subject, "body": body}
        return Letter(
            recipient=organization.email,
            subject=subject,
            text=render_to_string(f"{folder}letter.txt", parts),
            html=render_to_string(f"{folder}letter.html", parts),
        )


def common_context(notice: Notice, entitlement: Entitlement) -> dict[str, Any]:
    sender, _ = parseaddr(settings.DEFAULT_FROM_EMAIL)
    return {
        "organization": notice.organization,
        "entitlement": entitlement,
        "plan": notice.context.get("plan_name") or entitlement.plan.name,
        "limited_to": Plan.objects.of_last_resort().name,
        "limits": describe_limits(entitlement),
        "show_limits": notice.kind in WITH_LIMITS and entitlement.access != Access.NONE,
        "sender": sender or "Tollgate",
        "action": Action("Open your billing page", page("billing")),
    }


def of_payment(notice: Notice, entitlement: Entitlement) -> dict[str, Any]:
    """Add what is owed and where it is paid: Stripe's page of the invoice, else our own billing page."""
    subscription = find_live_subscription(notice.organization)
    owed = owed_invoices(subscription, notice.organization) if subscription else []
    if not owed:
        return {}
    invoice, url = owed[0], owed[0].get("hosted_invoice_url")
    amount = money(invoice["amount_remaining"], invoice["currency"])
    found: dict[str, Any] = {"amount": amount, "number": invoice["number"], "owed": len(owed)}
    return found | ({"action": Action(f"Pay {amount} now", url)} if url else {})


def of_trial(notice: Notice, entitlement: Entitlement) -> dict[str, Any]:
    """Add what happens when the trial ends: a first payment, an end, or nothing for want of a card."""
    subscription = find_live_subscription(notice.organization)
    if subscription is None:
        return {}
    ends_at = subscription.trial_ends_at
    label = "Cancel or change your plan"
    if not has_card(subscription, notice.organization):
        label = "Add a card"
    return {
        "plan": subscription.plan.name,
        "ends_at": ends_at,
        "is_cancelled": bool(ends_at and subscription.cancels_at and subscription.cancels_at <= ends_at),
        "has_card": has_card(subscription, notice.organization),
        "price": price_of(subscription),
        "interval": subscription.interval,
        "action": Action(label, page("billing")),
    }


def of_plan(notice: Notice, entitlement: Entitlement) -> dict[str, Any]:
    subscription = find_live_subscription(notice.organization)
    return {
        "old_plan": notice.context.get("old_plan", ""),
        "trial_ends_at": subscription.trial_ends_at if subscription else None,
    }


def of_end(notice: Notice, entitlement: Entitlement) -> dict[str, Any]:
    return {"action": Action("Choose a plan", page("billing"))}


def of_refused_trial(notice: Notice, entitlement: Entitlement) -> dict[str, Any]:
    trial = Trial.objects.select_related("plan").get(
        organization=notice.organization, subscription_id=notice.key
    )
    return {
        "plan": trial.plan.name,
        "refusal": trial.refusal,
        "action": Action(f"Subscribe to {trial.plan.name}", page("billing")),
    }


def of_quota(notice: Notice, entitlement: Entitlement) -> dict[str, Any]:
    """Add how much of the quota is used, and what happens at its end: calls are refused, each unit costs, or none."""
    found = of_limit(notice)
    subscription = find_live_subscription(notice.organization)
    meter = Meter.objects.filter(slug=notice.context["meter"]).first()
    price = metered_price(subscription, meter) if subscription and meter else None
    tiers = tiers_of(price, meter) if price and meter else None
    amounts = [tier["unit_amount_decimal"] for tier in tiers or [] if float(tier["unit_amount_decimal"])]
    is_trial = bool(subscription and subscription.trial_ends_at)
    unit_price = unit_money(amounts[0], subscription.currency) if subscription and amounts else ""
    label = "See plans with more" if notice.context["is_blocked"] else "See your usage"
    return found | {
        "unit_price": unit_price,
        "is_trial": is_trial,
        # Not where it cannot be told, by a price that was made elsewhere.
        "is_free": not notice.context["is_blocked"]
        and (is_trial or price is None or (tiers is not None and not amounts)),
        "action": Action(label, page("billing" if notice.context["is_blocked"] else "usage")),
    }


def of_spend(notice: Notice, entitlement: Entitlement) -> dict[str, Any]:
    """Add how much of the spend cap is used."""
    amount = money(notice.context["amount"], notice.context["currency"])
    return of_limit(notice) | {"amount": amount, "action": Action("Change your spend cap", page("billing"))}


def of_limit(notice: Notice) -> dict[str, Any]:
    context = notice.context
    runs_out_at = context["runs_out_at"]
    return {
        **{name: context[name] for name in ("level", "limit", "used", "unit", "meter_name")},
        "units": counted(context["limit"], context["unit"]),
        "percent": context.get("percent"),
        "is_blocked": context.get("is_blocked"),
        "is_capped": context.get("is_capped"),
        "is_all": context["level"] == 100,
        "period_end": datetime.fromisoformat(context["period_end"]),
        "runs_out_at": datetime.fromisoformat(runs_out_at) if runs_out_at else None,
    }


CONTEXTS: dict[NoticeKind, Callable[[Notice, Entitlement], dict[str, Any]]] = {
    NoticeKind.TRIAL_ENDING: of_trial,
    NoticeKind.TRIAL_REFUSED: of_refused_trial,
    NoticeKind.PAYMENT_FAILED: of_payment,
    NoticeKind.ACCESS_REDUCED: of_payment,
    NoticeKind.REMINDER: of_payment,
    NoticeKind.RECOVERED: of_plan,
    NoticeKind.CANCELLED: of_end,
    NoticeKind.PLAN_CHANGED: of_plan,
    NoticeKind.QUOTA_REACHED: of_quota,
    NoticeKind.SPEND_REACHED: of_spend,
}


def price_of(subscription: PlanSubscription) -> str:
    """Return what the fee is before taxes and discounts, as people read it."""
    item = subscription.fee_item
    amount = (item["price"].get("unit_amount") or 0) * (item.get("quantity") or 1)
    return money(amount, subscription.currency)


def has_card(subscription: PlanSubscription, organization: Organization) -> bool:
    """Whether Stripe has something to charge: the subscription's own payment method, or the customer's."""
    if subscription.data.get("default_payment_method") or subscription.data.get("default_source"):
        return True
    customers = djstripe.Customer.objects.filter(id=subscription.data["customer"], subscriber=organization)
    return any(
        (data.get("invoice_settings") or {}).get("default_payment_method") or data.get("default_source")
        for data in customers.values_list("stripe_data", flat=True)
    )


def page(name: str) -> str:
    return urljoin(f"{settings.FRONTEND_URL}/", reverse(name))
