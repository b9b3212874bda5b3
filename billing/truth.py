"""Whether a notice still holds when it is about to be sent: nothing is said that has ceased to be so."""

from collections.abc import Callable
from datetime import datetime, timedelta

from djstripe import models as djstripe

from billing.models import Access, Entitlement, Notice, NoticeKind
from billing.notices import GOOD
from billing.subscriptions import LIVE, OWING, find_live_subscription

Check = Callable[[Notice, Entitlement, datetime], bool]

# What is over with is news for this long. The rest holds for as long as it is so.
FRESH = timedelta(days=3)
OVER_WITH = frozenset(
    {NoticeKind.RECOVERED, NoticeKind.CANCELLED, NoticeKind.PLAN_CHANGED, NoticeKind.TRIAL_REFUSED}
)
# Stripe's clock and ours may differ by this much at most.
CLOCKS_DIFFER = timedelta(hours=1)
OF_TROUBLE = [NoticeKind.PAYMENT_FAILED, NoticeKind.ACCESS_REDUCED, NoticeKind.REMINDER]


def holds(notice: Notice, entitlement: Entitlement, *, now: datetime) -> bool:
    """Return whether what `notice` would say is so. `entitlement` is the organization's, at `now`.

    What staff have sent again may be old, but not wrong.
    """
    if notice.kind in OVER_WITH and not notice.repeats and notice.created_at < now - FRESH:
        return False
    return CHECKS[NoticeKind(notice.kind)](notice, entitlement, now)


def is_owing(notice: Notice, entitlement: Entitlement, now: datetime) -> bool:
    return entitlement.status in OWING


def is_in_force(notice: Notice, entitlement: Entitlement, now: datetime) -> bool:
    """Whether the row of the policy that was told of, or one that gives as little, still applies."""
    return (entitlement.status, entitlement.access) == (notice.context["status"], notice.context["access"])


def is_well_again(notice: Notice, entitlement: Entitlement, now: datetime) -> bool:
    """Whether the trouble is over, and the customer has heard that there was any."""
    since = notice.context["since"]
    began = datetime.fromisoformat(since) - CLOCKS_DIFFER if since else notice.created_at
    told = Notice.objects.told().filter(
        organization=notice.organization_id, kind__in=OF_TROUBLE, created_at__gte=began
    )
    return entitlement.status in GOOD and told.exists()


def is_over(notice: Notice, entitlement: Entitlement, now: datetime) -> bool:
    """Whether Stripe charges for nothing any more, whatever plan it may have been of."""
    live = djstripe.Subscription.objects.filter(
        customer__subscriber=notice.organization_id, stripe_data__status__in=sorted(LIVE)
    )
    return not live.exists()


def is_on_plan(notice: Notice, entitlement: Entitlement, now: datetime) -> bool:
    bought = entitlement.bought_plan
    return entitlement.access == Access.FULL and bought is not None and bought.slug == notice.context["plan"]


def is_trial_ending(notice: Notice, entitlement: Entitlement, now: datetime) -> bool:
    subscription = find_live_subscription(notice.organization)
    ends_at = subscription.trial_ends_at if subscription else None
    return ends_at is not None and ends_at.isoformat() == notice.context["trial_end"] and ends_at > now


def is_at_limit(notice: Notice, entitlement: Entitlement, now: datetime) -> bool:
    """Whether the period goes on and the limit is still the one that was told of, with no higher level noted since."""
    context = notice.context
    quota = entitlement.quotas.get(context["meter"])
    if quota is None or datetime.fromisoformat(context["since"]) not in entitlement.counted_starts:
        return False
    if notice.kind == NoticeKind.QUOTA_REACHED:
        limits = quota["included"] == context["limit"]
    else:
        limits = notice.organization.spend_caps.filter(
            meter__slug=context["meter"], amount=context["amount"], currency=context["currency"]
        ).exists()
    occasion = notice.key.rpartition(" ")[0]
    noted = Notice.objects.filter(
        organization=notice.organization_id,
        kind=notice.kind,
        context__level__gt=context["level"],
        key__startswith=f"{occasion} ",
    )
    return limits and not noted.exists()


CHECKS: dict[NoticeKind, Check] = {
    NoticeKind.TRIAL_ENDING: is_trial_ending,
    NoticeKind.TRIAL_REFUSED: is_over,
    NoticeKind.PAYMENT_FAILED: is_owing,
    NoticeKind.ACCESS_REDUCED: is_in_force,
    NoticeKind.REMINDER: is_in_force,
    NoticeKind.RECOVERED: is_well_again,
    NoticeKind.CANCELLED: is_over,
    NoticeKind.PLAN_CHANGED: is_on_plan,
    NoticeKind.QUOTA_REACHED: is_at_limit,
    NoticeKind.SPEND_REACHED: is_at_limit,
}
