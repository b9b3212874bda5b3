"""From what the gate decided to what the client is told."""

import logging
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.urls import reverse

from apikeys.decision import Decision, Limit, Verdict
from apikeys.next_plan import NextPlan, find_next_plan
from apikeys.problems import INVALID_TOKEN, Problem, insufficient_scope
from billing.limits import counted
from billing.models import Entitlement, Meter

logger = logging.getLogger(__name__)

MILLISECOND = timedelta(milliseconds=1)


def refusal(decision: Decision, *, scopes: Sequence[str] = ()) -> Problem:
    """Return a refused decision as a problem. `scopes` are those that the call needs."""
    match decision.verdict:
        case Verdict.SUSPENDED:
            return suspended(decision)
        case Verdict.RATE_LIMITED | Verdict.QUOTA_EXCEEDED | Verdict.SPEND_CAP_REACHED:
            return over_limit(decision)
        case Verdict.INSUFFICIENT_SCOPE:
            return Problem(
                status=403,
                code="insufficient_scope",
                title="Insufficient scope",
                detail=f"This API key lacks a scope that the call needs: {', '.join(scopes)}.",
                members={"scopes": list(scopes)},
                headers={"WWW-Authenticate": insufficient_scope(scopes)},
            )
        case Verdict.NOT_IN_PLAN:
            return Problem(
                status=403,
                code="not_in_plan",
                title="Not in your plan",
                detail=f"Your plan includes no {decision.meter}.{why_not_gated(decision.meter)}",
                members={"meter": decision.meter, "upgrade_url": billing_page()},
            )
        case _:
            return Problem(**PLAIN[decision.verdict])


def why_not_gated(meter: str) -> str:
    """Return a sentence for who serves the API, where calls cannot be charged to a meter; empty where they can."""
    try:
        found = Meter.objects.filter(slug=meter).first()
    except (OperationalError, InterfaceError):
        return ""
    if found is None or found.is_gated:
        return ""
    logger.error("A call was to be charged to %s, which only events are counted by", meter)
    what = found.get_aggregation_display().lower()
    return f" No plan includes it for calls: its units are the {what}, which only events tell."


PLAIN: dict[Verdict, dict[str, Any]] = {
    Verdict.INVALID_KEY: {
        "status": 401,
        "code": "invalid_key",
        "title": "Invalid API key",
        "detail": "This API key is not known: it is mistyped, revoked or expired.",
        "headers": {"WWW-Authenticate": INVALID_TOKEN},
    },
    Verdict.EXPIRED_KEY: {
        "status": 401,
        "code": "expired_key",
        "title": "Expired API key",
        "detail": "This API key has expired. Use its successor, or make a new one.",
        "headers": {"WWW-Authenticate": INVALID_TOKEN},
    },
    Verdict.ADDRESS_REFUSED: {
        "status": 403,
        "code": "address_not_allowed",
        "title": "Address not allowed",
        "detail": "This API key may not be used from your IP address.",
    },
    Verdict.UNAVAILABLE: {
        "status": 503,
        "code": "gate_unavailable",
        "title": "Temporarily unavailable",
        "detail": "The call could not be checked against your plan. Please try again.",
        "retry_after": 1,
    },
}


def suspended(decision: Decision) -> Problem:
    entitlement = find_entitlement(decision)
    banner = entitlement.banner if entitlement else ""
    return Problem(
        status=402,
        code="suspended",
        title="Payment required",
        detail=banner or "Your subscription gives no access until it is paid.",
        members={
            "subscription_status": entitlement.status if entitlement else None,
            "upgrade_url": billing_page(),
        },
    )


def over_limit(decision: Decision) -> Problem:
    """Return the 429 of a limit: which one, until when, and what a larger plan would allow."""
    limit = next(each for each in decision.limits if each.policy == decision.policy)
    entitlement = find_entitlement(decision)
    further = None
    if entitlement:
        further = find_next_plan(
            entitlement.plan, policy=limit.policy, limit=limit.limit, meter=decision.meter
        )
    name = f"{entitlement.plan.name} plan" if entitlement else "plan"
    seconds = decision.wait.total_seconds()
    resets_at = told(decision.at + decision.wait)
    is_units = limit.policy in {"period", "spend_cap"}
    members: dict[str, Any] = {"policy": limit.policy, "limit": limit.limit}
    if is_units:
        ends = decision.runs_out_at
        members |= {
            "used": decision.used,
            "meter": decision.meter,
            "runs_out_at": told(ends) if ends else None,
        }
    members |= {
        "resets_at": resets_at,
        "next_plan": further._asdict() if further else None,
        # A key's own cap is the customer's: no plan lifts it.
        "upgrade_url": None if limit.policy == "key" else billing_page(),
    }
    code, title = TITLES[decision.verdict]
    sentence = units_sentence if is_units else calls_sentence
    detail = sentence(decision, limit, name=name, resets_at=resets_at)
    return Problem(
        status=429,
        code=code,
        title=title,
        detail=" ".join([detail, *offer(further, limit.policy, decision.meter)]),
        members=members,
        # Waiting is no help to a call that costs more than a whole period has.
        retry_after=None if is_units and decision.cost > limit.limit else seconds,
    )


TITLES = {
    Verdict.RATE_LIMITED: ("rate_limited", "Too many requests"),
    Verdict.QUOTA_EXCEEDED: ("quota_exceeded", "Quota used up"),
    Verdict.SPEND_CAP_REACHED: ("spend_cap_reached", "Spend cap reached"),
}


def calls_sentence(decision: Decision, limit: Limit, *, name: str, resets_at: str) -> str:
    allowed = {
        "minute": f"Your {name} allows {counted(limit.limit, 'request')} a minute.",
        "burst": f"Your {name} allows {counted(limit.limit, 'request')} at once, "
        "which then come back evenly over the minute.",
        "key": f"This API key is limited to {counted(limit.limit, 'request')} a minute.",
    }[limit.policy]
    seconds = math.ceil(decision.wait.total_seconds() * 10) / 10
    return f"{allowed} Try again in {seconds:.1f} seconds."


def units_sentence(decision: Decision, limit: Limit, *, name: str, resets_at: str) -> str:
    left = limit.remaining
    if decision.cost > limit.limit:
        whose = "Your own spend cap stops at" if limit.policy == "spend_cap" else f"Your {name} includes"
        return (
            f"{whose} {limit.limit} units of {decision.meter} a period, and this call costs {decision.cost}: "
            "it is never let in under this limit."
        )
    gone = f"{left} are left, and this call costs {decision.cost}" if left else "this period's are used up"
    if limit.policy == "spend_cap":
        return (
            f"Your own spend cap stops at {limit.limit} units of {decision.meter} a period: {gone}. "
            f"Calls are let in again at {resets_at}, or at once when you raise it."
        )
    whose = f"Your {name} includes" if decision.livemode else f"For test keys your {name} includes"
    return f"{whose} {limit.limit} units of {decision.meter} a period: {gone}. They are back at {resets_at}."


def offer(further: NextPlan | None, policy: str, meter: str) -> list[str]:
    """Return the sentence about the next plan, if there is one."""
    if further is None:
        return []
    if further.limit is None:
        return [f"{further.name} would have no such limit."]
    after = {"minute": "a minute", "burst": "at once", "period": f"units of {meter} a month"}[policy]
    verb = "include" if policy == "period" else "allow"
    return [f"{further.name} would {verb} {further.limit} {after}."]


def find_entitlement(decision: Decision) -> Entitlement | None:
    """Return the entitlement, None where PostgreSQL is out of reach: then the refusal says a little less."""
    rows = Entitlement.objects.select_related("plan", "bought_plan", "policy")
    try:
        return rows.filter(organization=decision.organization_id).first()
    except (OperationalError, InterfaceError):
        logger.warning("PostgreSQL is unreachable: a refusal names no plan")
        return None


def billing_page() -> str:
    return f"{settings.FRONTEND_URL}{reverse('billing')}"


def told(moment: datetime) -> str:
    """Return a moment in RFC 3339, rounded up to a millisecond: who waits for it is not early."""
    late = -(-(moment - EPOCH) // MILLISECOND)
    return (EPOCH + late * MILLISECOND).isoformat(timespec="milliseconds")


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
