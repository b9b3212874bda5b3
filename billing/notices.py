"""What the customer is told by e-mail: which change is news, and its notice, written with the change itself.

Notices come from comparing two entitlements, never from a webhook's type: events come twice, late and in
any order, while the entitlement changes once. What they say is in `billing/letters.py`, how they are sent
in `billing/delivery.py`.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from accounts.models import Organization
from billing.access import RANK
from billing.models import Access, Entitlement, Notice, NoticeKind, StatusPolicy
from billing.subscriptions import LIVE, OWING, find_live_subscription, plan_subscriptions

# Stripe's own: trial_will_end comes three days ahead, or at once for a shorter trial.
TRIAL_WARNING = timedelta(days=3)
GOOD = frozenset({"active", "trialing"})
BEGUN = LIVE - {"incomplete"}
ENDED = frozenset({"canceled", "none"})


class News(NamedTuple):
    """What there is to tell. `key` names the occasion, `context` holds what has to be true still when it is sent."""

    kind: NoticeKind
    key: str
    context: dict[str, Any]


def news(before: Entitlement, after: Entitlement) -> list[News]:
    """Return what the customer is to be told of a change of the entitlement. Reads nothing but the two."""
    found = [status_news(before, after), plan_news(before, after)]
    return [each for each in found if each]


def status_news(before: Entitlement, after: Entitlement) -> News | None:
    if after.status in OWING and before.status not in OWING:
        return told_by_policy(NoticeKind.PAYMENT_FAILED, after)
    if has_recovered(before, after):
        since = text(before.status_since)
        return News(NoticeKind.RECOVERED, since, {"since": since})
    if before.status in BEGUN and after.status in ENDED:
        return told_by_policy(NoticeKind.CANCELLED, after, before=before)
    return step_news(before, after)


def told_by_policy(kind: NoticeKind, after: Entitlement, *, before: Entitlement | None = None) -> News | None:
    """Return the news of a status that begins, unless the policy's row for it says to send nothing.

    What `after` does not know any more, because the customer was deleted at Stripe, is taken from `before`.
    """
    if after.policy and not after.policy.sends_email:
        return None
    context = context_of(after)
    if before:
        context["subscription"] = before.subscription_id
        if not after.bought_plan:
            context |= {name: context_of(before)[name] for name in ("since", "plan", "plan_name")}
    return News(kind, f"{after.status} {context['since']}", context)


def has_recovered(before: Entitlement, after: Entitlement) -> bool:
    """Whether what was owed has been paid, and not another subscription been taken out instead."""
    if before.status not in OWING or after.status not in GOOD:
        return False
    return not (before.status_since and after.status_since and after.status_since > before.status_since)


def step_news(before: Entitlement, after: Entitlement) -> News | None:
    """Return the news that another row of the policy applies: the access shrinks, or the row has a word to say."""
    policy: StatusPolicy | None = after.policy
    shrinks = RANK[Access(after.access)] < RANK[Access(before.access)]
    if policy is None or not policy.sends_email or not (shrinks or after.policy_id != before.policy_id):
        return None
    if not shrinks and not policy.banner:
        return None
    kind = NoticeKind.ACCESS_REDUCED if shrinks else NoticeKind.REMINDER
    key = f"{after.status} {text(after.status_since)} day {policy.from_day}"
    return News(kind, key, context_of(after))


def plan_news(before: Entitlement, after: Entitlement) -> News | None:
    """Return the news that another plan's limits were bought and apply."""
    if after.access != Access.FULL or after.bought_plan is None:
        return None
    is_regained = (
        before.access != Access.FULL
        and after.status in GOOD
        and after.status != before.status
        and not has_recovered(before, after)
    )
    if after.bought_plan_id == before.bought_plan_id and not is_regained:
        return None
    # What applied until now: what was bought is without effect while the access is not full.
    old = before.bought_plan if before.bought_plan and before.access == Access.FULL else before.plan
    context = context_of(after) | {"old_plan": old.name}
    return News(NoticeKind.PLAN_CHANGED, f"{after.bought_plan.slug} version {after.version}", context)


def context_of(entitlement: Entitlement) -> dict[str, Any]:
    bought = entitlement.bought_plan
    return {
        "status": entitlement.status,
        "access": str(entitlement.access),
        "since": text(entitlement.status_since),
        "policy": entitlement.policy_id,
        "plan": bought.slug if bought else "",
        "plan_name": bought.name if bought else entitlement.plan.name,
    }


def text(moment: datetime | None) -> str:
    return moment.isoformat() if moment else ""


def note_change(before: Entitlement, after: Entitlement) -> list[Notice]:
    """Write down what the customer is to be told of a change. Part of the transaction that makes it."""
    return note(after.organization, news(before, after))


def note_trial_ending(organization: Organization, *, now: datetime) -> list[Notice]:
    """Write down that the trial ends soon, once for each end. Safe to call at any time."""
    subscription = find_live_subscription(organization)
    ends_at = subscription.trial_ends_at if subscription else None
    if subscription is None or ends_at is None or not now < ends_at <= now + TRIAL_WARNING:
        return []
    context = {"trial_end": text(ends_at), "plan": subscription.plan.slug}
    key = f"{subscription.id} {text(ends_at)}"
    return note(organization, [News(NoticeKind.TRIAL_ENDING, key, context)])


def note_trial_refused(organization: Organization, subscription_id: str, *, why: str = "") -> list[Notice]:
    """Write down that a trial was ended because it was a second one. `why` is a sentence for the customer.

    To be called when the subscription has ended. It is told instead of its end, not besides.
    """
    found = (each for each in plan_subscriptions(organization) if each.id == subscription_id)
    subscription = next(found, None)
    context = {"why": why} | ({"plan_name": subscription.plan.name} if subscription else {})
    return note(organization, [News(NoticeKind.TRIAL_REFUSED, subscription_id, context)])


def note(organization: Organization, found: Iterable[News]) -> list[Notice]:
    """Write the notices that there are none of yet, and return them. Once committed, each is sent."""
    written = []
    for kind, key, context in found:
        notice, is_new = Notice.objects.get_or_create(
            organization=organization, kind=kind, key=key, defaults={"context": context}
        )
        if is_new:
            written.append(notice)
    return written
