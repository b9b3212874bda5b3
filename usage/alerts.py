"""Word to customers that they have used a half, four fifths or all of a quota, or of their own spend cap.

A crossing is noted in the transaction that marks its units as reported, so no crash loses it, and under a key that
names it, so nobody is told twice: the meter, the period, the limit and the level. A jump over several levels is told as
the highest. Units only grow in a period, so whoever has been told of a level is past all lower ones for good. Another
limit is another crossing: after the quota was raised the same levels are told anew, as they are reached. One that was
lowered may be reached with no further unit, and then be the reason that there is none: it is looked at once the change
is committed. What a crash leaves out there is told with the next units. An e-mail that was not sent, because the limit
was another by then, is sent once the limit is that one again.

What is used is what the quota counts: the period's units and those of periods that it carries on. What was used in a
period that is over is not told of.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import DatabaseError

from accounts import clock
from accounts.models import Organization
from billing.ceilings import CapLevel, find_cap_levels
from billing.models import Entitlement, Meter, Notice, NoticeKind, NoticeState, PlanQuota
from billing.notices import News, note
from billing.truth import holds
from usage.counting import Account, units_of
from usage.forecast import forecast

logger = logging.getLogger(__name__)

LEVELS = (50, 80, 100)
# Of a quota in an entitlement.
LIMITS = ("included", "spend_cap")


class Crossing(NamedTuple):
    organization: Organization
    meter: Meter
    news: News


def note_crossings(touched: Iterable[tuple[UUID, str]]) -> list[Notice]:
    """Write down which levels the units of these organizations and meters have reached; return what is to be sent.

    Part of the transaction that marks the units.
    """
    now = clock.now()
    # In one order everywhere, so that of two runs that note the same none waits for the other and is waited for.
    pairs = sorted(set(touched))
    held = Entitlement.objects.select_related("organization").in_bulk({pk for pk, _ in pairs})
    meters = Meter.objects.in_bulk(field_name="slug")
    accounts = [
        Account.of(held[pk], slug)
        for pk, slug in pairs
        if pk in held and slug in meters and is_limited(held[pk], slug, now=now)
    ]
    found: list[Crossing] = []
    for account, used in zip(accounts, units_of(accounts), strict=True):
        entitlement, meter = held[account.organization_id], meters[account.meter]
        with keeping_others_going(entitlement.organization):
            crossed = list(crossings(entitlement, meter, used=used, now=now))
            found += [Crossing(entitlement.organization, meter, news) for news in crossed]
    written: list[Notice] = []
    for organization, meter, news in without_noted(found):
        with keeping_others_going(organization):
            context = news.context | {"runs_out_at": runs_out_at(held[organization.pk], meter, news, now=now)}
            told = news._replace(context=context)
            written += note(organization, [told]) or tell_after_all(held[organization.pk], told, now=now)
    return written


@contextmanager
def keeping_others_going(organization: Organization) -> Iterator[None]:
    """Log what fails, but for the database: one customer's alert keeps nobody's usage from being billed.

    It is tried again with the next units.
    """
    try:
        yield
    except DatabaseError:
        raise
    except Exception:
        logger.exception("What %s has used of its quotas could not be told", organization.ref)


def runs_out_at(entitlement: Entitlement, meter: Meter, news: News, *, now: datetime) -> str:
    """Return when the quota, or the spend cap, will be used up at this rate; empty where the period ends first."""
    expected = forecast(entitlement, meter, now=now)
    moment = expected.runs_out_at if news.kind == NoticeKind.QUOTA_REACHED else expected.cap_reached_at
    return moment.isoformat() if moment else ""


def lowered(before: Entitlement, after: Entitlement) -> list[str]:
    """Return the slugs of the meters of which less can be used than before, or less be spent. Reads nothing more.

    A meter that was in no quota before counts as one that had no end: some of it may have been used even earlier.
    """
    return [
        slug
        for slug, quota in after.quotas.items()
        if any(is_less(quota.get(name), before.quotas.get(slug, {}).get(name)) for name in LIMITS)
    ]


def is_less(limit: int | None, than: int | None) -> bool:
    """Compare limits, where None is no limit."""
    return limit is not None and (than is None or limit < than)


def is_limited(entitlement: Entitlement, meter: str, *, now: datetime) -> bool:
    quota = entitlement.quotas.get(meter)
    limits = [quota["included"], quota.get("spend_cap")] if quota else []
    return any(limit is not None for limit in limits) and now < entitlement.period_end


def tell_after_all(entitlement: Entitlement, news: News, *, now: datetime) -> list[Notice]:
    """Have a notice sent that was left out because it had ceased to be true, where it is so again; return it.

    So it is where an override raised the limit before the e-mail was out, and has ended since.
    """
    notices = Notice.objects.filter(organization=entitlement.organization, kind=news.kind, key=news.key)
    left_out = notices.filter(state=NoticeState.OUTDATED)
    true_again = [
        each for each in left_out.select_related("organization") if holds(each, entitlement, now=now)
    ]
    fresh = {"state": NoticeState.PENDING, "next_try_at": now, "context": news.context}
    return [each for each in true_again if left_out.filter(pk=each.pk).update(**fresh)]


def without_noted(found: list[Crossing]) -> list[Crossing]:
    """Leave out what was noted before, and not left out since: most of what is found, each time anew."""
    known = set(
        Notice.objects.filter(
            organization__in={each.organization.pk for each in found},
            kind__in=[NoticeKind.QUOTA_REACHED, NoticeKind.SPEND_REACHED],
            key__in={each.news.key for each in found},
        )
        .exclude(state=NoticeState.OUTDATED)
        .values_list("organization_id", "kind", "key")
    )
    return [each for each in found if (each.organization.pk, each.news.kind, each.news.key) not in known]


def crossings(entitlement: Entitlement, meter: Meter, *, used: int, now: datetime) -> Iterator[News]:
    """Yield the highest level of the quota that is reached, and of the spend cap."""
    quota = entitlement.quotas[meter.slug]
    included, stops_at = quota["included"], quota.get("spend_cap")
    since = first_start(entitlement)
    common: dict[str, Any] = {
        "meter": meter.slug,
        "meter_name": meter.name,
        "unit": meter.unit,
        "since": since,
        "period_end": entitlement.period_end.isoformat(),
        "used": used,
    }
    level = highest(used, {level: -(-included * level // 100) for level in LEVELS}) if included else 0
    if level:
        blocks = quota["overage"] == PlanQuota.Overage.BLOCK
        yield News(
            NoticeKind.QUOTA_REACHED,
            f"{meter.slug} {since} {included} {level}",
            common
            | {
                "level": level,
                "limit": included,
                "percent": used * 100 // included,
                "is_blocked": blocks or (stops_at is not None and stops_at <= included),
                "is_capped": not blocks and stops_at is not None,
            },
        )
    if stops_at is None:
        return
    cap = find_cap_levels(entitlement, meter, levels=LEVELS)
    if cap and used > cap.free:
        yield from spend_crossing(entitlement, cap, used=used, common=common, now=now)


def spend_crossing(
    entitlement: Entitlement, cap: CapLevel, *, used: int, common: dict[str, Any], now: datetime
) -> Iterator[News]:
    level = highest(used, cap.units)
    if level:
        yield News(
            NoticeKind.SPEND_REACHED,
            f"{common['meter']} {common['since']} {cap.amount} {cap.currency} {level}",
            common
            | {
                "level": level,
                "limit": cap.units[100],
                "amount": cap.amount,
                "currency": cap.currency,
            },
        )


def highest(used: int, levels: dict[int, int]) -> int:
    """Return the highest level whose units are used, 0 where none is."""
    return max((level for level, units in levels.items() if used >= units), default=0)


def first_start(entitlement: Entitlement) -> str:
    """Return when the first of the periods began whose units count in this one: it stays through a change of plan."""
    return entitlement.counted_starts[0].isoformat()
