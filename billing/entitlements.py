"""From Stripe's state to what an organization may do: the only place where that is decided."""

import copy
import logging
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from django.db import transaction

from accounts import clock
from accounts.models import Organization
from billing.access import Ruling, ruling
from billing.ceilings import apply_caps, refuse_unbilled
from billing.models import Access, Entitlement, Plan, PlanOverride, StatusPolicy
from billing.periods import Period, calendar_month
from billing.signals import entitlement_changed
from billing.subscriptions import PlanSubscription, plan_subscriptions, status_since

logger = logging.getLogger(__name__)


class Judged(NamedTuple):
    """A subscription, with what the status policy says of it."""

    subscription: PlanSubscription
    since: datetime
    ruling: Ruling


def compute(
    organization: Organization, *, now: datetime, judged: Sequence[Judged] | None = None
) -> dict[str, Any]:
    """Return the entitlement's fields as they should be at `now`. Writes nothing.

    A pure function of the mirror, the plans, the overrides, the spend caps and the status policy. `judged`
    stands in for the subscriptions of the mirror where something is only imagined.
    """
    if judged is None:
        judged = judge_all(organization, now=now)
    current = choose(judged, now=now)
    default = Plan.objects.of_last_resort()
    rule = current.ruling.at(now) if current else None
    access = rule.access if rule else Access.LIMITED
    giving = current.subscription if current and access == Access.FULL else None
    if giving:
        plan, period = giving.plan, giving.period_at(now)
    else:
        # One that never began gave nothing to lose: the free month must not begin anew with each try.
        losses = [each.ruling.lost_at(now) for each in judged if each.subscription.has_begun]
        plan, period = default, free_period(losses, now=now)
    shown = current or next(iter(judged), None)
    overrides = list(
        organization.plan_overrides.ending_after(now).select_related("plan").prefetch_related("quotas__meter")
    )
    grace_end = current.ruling.grace_end(now) if current else None
    # Of every subscription: the next rule of one that does not decide now may make it the one that does.
    rules = [each.ruling.next_after(now) for each in judged]
    edges = [
        *(rule.starts_at for rule in rules if rule),
        *(each.subscription.lapses_at for each in judged),
        *(edge for each in overrides for edge in edges_of(each)),
    ]
    fields: dict[str, Any] = {
        "bought_plan": shown.subscription.plan if shown else None,
        "status": shown.subscription.status if shown else "none",
        "status_since": shown.since if shown else None,
        "access": access,
        "policy": shown.ruling.at(now).policy if shown else None,
        "subscription_id": giving.id if giving else "",
        "period_start": period.start,
        "period_end": period.end,
        "grace_end": grace_end,
        "valid_until": min([period.end, *(edge for edge in edges if edge and edge > now)]),
    }
    in_force = [each for each in overrides if each.starts_at <= now]
    fields |= limits(plan, in_force)
    if in_force:
        fields["quotas"] = refuse_unbilled(fields["quotas"], own=quotas_of(plan), subscription=giving)
    caps = list(organization.spend_caps.select_related("meter", "organization"))
    if caps:
        subscription = current.subscription if current else None
        since = counted_since(organization, fields)
        fields["quotas"] = apply_caps(fields["quotas"], caps, subscription, since=since)
    return fields


def counted_since(organization: Organization, fields: dict[str, Any]) -> datetime:
    """Return when the first of the periods began whose used units count in the one of `fields`."""
    before = Entitlement.objects.filter(organization=organization).first()
    starts = carried(before, fields) if before else []
    first: datetime = datetime.fromisoformat(starts[0]) if starts else fields["period_start"]
    return first


def judge_all(organization: Organization, *, now: datetime) -> list[Judged]:
    """Return what the policy says of each of the organization's subscriptions to our plans."""
    policies = list(StatusPolicy.objects.all())
    return [
        judge(each, organization, policies=policies, now=now) for each in plan_subscriptions(organization)
    ]


def judge(
    subscription: PlanSubscription,
    organization: Organization,
    *,
    policies: Sequence[StatusPolicy],
    now: datetime,
) -> Judged:
    """Return what the policy says of a subscription: of its status, or once it has lapsed of one that has ended.

    Then its status stays what Stripe last said, and nobody is told anything, until Stripe has been heard.
    """
    since = status_since(subscription, organization)
    lapses_at, ends_at = subscription.lapses_at, subscription.cancels_at
    if lapses_at and ends_at and lapses_at <= now:
        ended = ruling("canceled", since=ends_at, policies=policies)
        return Judged(subscription, since, ended.unsaid)
    return Judged(subscription, since, ruling(subscription.status, since=since, policies=policies))


def choose(judged: Iterable[Judged], *, now: datetime) -> Judged | None:
    """Return the subscription that decides: one with full access, else a live one, else the newest.

    One whose status leaves things unchanged is passed over: what they had before is what the others give.
    """
    counted = [each for each in judged if each.ruling.at(now).access != Access.UNCHANGED]
    return max(counted, key=partial(weight, now=now), default=None)


def weight(judged: Judged, *, now: datetime) -> tuple[bool, bool, bool, int, int]:
    """Return by what a subscription comes before others.

    Of those that have ended the latest one counts, whatever its plan was. One that never began comes after
    them: a purchase that failed must not lift what the policy holds against the one before.
    """
    subscription = judged.subscription
    is_full = judged.ruling.at(now).access == Access.FULL
    order = subscription.plan.order if is_full or subscription.is_live else 0
    return is_full, subscription.is_live, subscription.has_begun, order, subscription.data["created"]


def edges_of(override: PlanOverride) -> list[datetime | None]:
    return [override.starts_at, override.ends_at]


def limits(plan: Plan, overrides: Iterable[PlanOverride]) -> dict[str, Any]:
    """Return the plan and the limits that apply, the overrides laid over those of `plan` in their order."""
    rate, burst, quotas = plan.rate_per_minute, plan.burst, quotas_of(plan)
    for override in overrides:
        if override.plan:
            plan = override.plan
            rate, burst, quotas = plan.rate_per_minute, plan.burst, quotas_of(plan)
        if override.changes_rate:
            rate, burst = override.rate_per_minute, override.burst
        quotas |= {
            quota.meter.slug: {"included": quota.included, "overage": quota.overage}
            for quota in override.quotas.all()
        }
    return {
        "plan": plan,
        "rate_per_minute": rate,
        "burst": burst,
        "api_key_limit": plan.api_key_limit,
        "quotas": quotas,
    }


def quotas_of(plan: Plan) -> dict[str, dict[str, Any]]:
    return {
        quota.meter.slug: {"included": quota.included, "overage": quota.overage}
        for quota in plan.quotas.select_related("meter")
    }


def free_period(losses: Iterable[datetime | None], *, now: datetime) -> Period:
    """Return the calendar month, begun anew where a subscription lost its access in it.

    What was used on a paid plan would otherwise lock the customer out of the free one until next month.
    """
    month = calendar_month(now)
    latest = max((loss for loss in losses if loss and loss in month and loss <= now), default=month.start)
    return Period(latest, month.end)


def open_entitlement(organization: Organization, *, now: datetime | None = None) -> Entitlement:
    """Create the entitlement of a new organization."""
    return Entitlement.objects.create(
        organization=organization, **compute(organization, now=now or clock.now())
    )


def refresh_entitlement(organization: Organization, *, now: datetime | None = None) -> Entitlement:
    """Bring the entitlement in line with the mirror, under its row lock, and tell who cached it.

    Safe to call at any time and any number of times: it changes nothing where nothing changed.
    """
    with transaction.atomic():
        entitlement = lock_entitlement(organization)
        fields = moved_on(entitlement, now=now or clock.now())
        changed = [name for name, value in fields.items() if getattr(entitlement, name) != value]
        if changed:
            before = copy.copy(entitlement)
            for name in changed:
                setattr(entitlement, name, fields[name])
            entitlement.version += 1
            entitlement.changed_at = clock.now()
            entitlement.save()
            logger.info(
                "Entitlement of %s is now %s (%s), version %d",
                organization.ref,
                entitlement.plan.slug,
                entitlement.status,
                entitlement.version,
            )
            entitlement_changed.send(sender=Entitlement, entitlement=entitlement, before=before)
    return entitlement


def moved_on(before: Entitlement, *, now: datetime) -> dict[str, Any]:
    """Return the fields that the entitlement `before` should have at `now`. Writes nothing."""
    fields = compute(before.organization, now=now)
    fields["carried_from"] = carried(before, fields)
    begins = fields["period_start"]
    if begins != before.period_start and not fields["carried_from"]:
        fields["previous_starts"] = [*before.carried_from, before.period_start.isoformat()]
        fields["previous_end"] = min(before.period_end, begins)
    return fields


def carried(before: Entitlement, after: dict[str, Any]) -> list[str]:
    """Return the starts of the periods whose used units count in the new one too.

    Where a change of a paid subscription resets its billing anchor in mid-month, such as from monthly to
    yearly, used units stay used. A trial that ends is no such change: the paid month is a new one.
    """
    if after["period_start"] == before.period_start:
        return list(before.carried_from)
    is_cut_short = before.period_start < after["period_start"] < before.period_end
    is_same = before.subscription_id != "" and before.subscription_id == after["subscription_id"]
    ends_trial = before.status == "trialing" and after["status"] != "trialing"
    if is_cut_short and is_same and not ends_trial:
        return [*before.carried_from, before.period_start.isoformat()]
    return []


def current_entitlement(organization: Organization, *, now: datetime | None = None) -> Entitlement:
    """Return the entitlement, moved on first where its time is up and nothing has come since."""
    now = now or clock.now()
    entitlement = Entitlement.objects.select_related("plan", "bought_plan", "policy").get(
        organization=organization
    )
    return refresh_entitlement(organization, now=now) if now >= entitlement.valid_until else entitlement


# What decides where usage counts.
COUNTED_BY = (
    *("quotas", "period_start", "period_end", "carried_from"),
    *("previous_starts", "previous_end", "valid_until"),
)


def lock_entitlements(organization_ids: Iterable[UUID]) -> dict[UUID, Entitlement]:
    """Lock and return the entitlements of several organizations, by organization; see `lock_entitlement`.

    In one order everywhere, so that two who lock several cannot wait for each other. No other table is joined, so
    that they are read as they are once they are locked. Of each, periods and quotas are read at once, the rest when it
    is asked for.
    """
    rows = Entitlement.objects.filter(organization__in=list(organization_ids)).only(*COUNTED_BY)
    return {row.organization_id: row for row in rows.select_for_update(no_key=True).order_by("pk")}


def lock_entitlement(organization: Organization) -> Entitlement:
    """Lock and return the entitlement row: whoever changes or caches what the gate knows holds it."""
    rows = Entitlement.objects.filter(organization=organization)
    # The lock by itself first: a join that waits for it has read the plan already, and PostgreSQL finds no row
    # at all where another transaction has changed the plan meanwhile.
    rows.select_for_update(no_key=True).values_list("pk").get()
    return rows.select_related("plan", "bought_plan", "policy", "organization").get()
