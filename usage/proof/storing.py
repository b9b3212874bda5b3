"""Prove: gather, ask, judge, and keep the outcome."""

import logging
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Exists, F, Max, OuterRef, Q, QuerySet

from accounts import clock
from accounts.models import Organization
from billing.errors import BillingError, StripeAccessRefused, StripeRejected, StripeUnavailable
from billing.models import Entitlement, Meter
from usage.models import MeterReport, Proof, UsageRollup
from usage.proof.explaining import Explainer
from usage.proof.figures import Ask, asker, counted_by_stripe, figures_of
from usage.proof.gathering import Counts, Gathered, gather
from usage.proof.judging import Key, judge

logger = logging.getLogger(__name__)

# A period's usage can be reported until 35 days after it, and an invoice takes no more once it is final.
LOOK_BACK = timedelta(days=100)
# Stripe takes events that are up to 35 days old: then its count of a period stands.
TAKEN_FOR = timedelta(days=36)
AT_REST = (Proof.Status.PROVEN, Proof.Status.ACCEPTED)
SLICE = 100
SLICE_SECONDS = 120
GIVE_UP_AFTER = 3
# Rounds of one night share the work: whoever had a turn in it waits for the next.
PROVEN_LATELY = timedelta(hours=6)


@dataclass(slots=True)
class Round:
    """What a round over many organizations came to. `stopped` says why it ended early.

    `is_unfinished` says that its time was up: another one goes on from there.
    """

    proofs: int = 0
    differing: int = 0
    failures: list[str] = field(default_factory=list)
    stopped: str = ""
    is_unfinished: bool = False


def prove(
    organization: Organization,
    *,
    since: datetime | None = None,
    now: datetime | None = None,
    exact_at: Collection[datetime] = (),
) -> list[Proof]:
    """Prove the organization's periods anew and return the proofs, the newest first.

    Those that began since `since`. Where it is None, those of the last 100 days, whenever they began, and older ones
    that are not proven or of which units were refused since, and Stripe is not asked again for what it cannot change
    any more. Of what is dated `exact_at` some moments Stripe's count has to be right, however lately it was told.
    Raises StripeUnavailable or StripeRejected, with nothing changed.
    """
    now = now or clock.now()
    asks_all = since is not None
    since = since or oldest_wanted([organization.pk], now=now)
    meters = {meter.slug: meter for meter in Meter.objects.all()}
    gathered = gather([organization.pk], meters=meters.values(), since=since, now=now)
    return prove_gathered(
        organization, gathered, meters=meters, since=since, now=now, asks_all=asks_all, exact_at=exact_at
    )


def prove_one(proof: Proof, *, now: datetime | None = None) -> Proof:
    """Prove one period anew, with its neighbours. Raises StripeUnavailable or StripeRejected."""
    found = prove(proof.organization, since=proof.period_start, now=now)
    return next(each for each in found if each.pk == proof.pk)


def oldest_wanted(organization_ids: Sequence[UUID], *, now: datetime) -> datetime:
    unproven = Proof.objects.filter(organization__in=organization_ids).exclude(status__in=AT_REST)
    starts = unproven.order_by("period_start").values_list("period_start", flat=True)
    entitlements = Entitlement.objects.filter(organization__in=organization_ids)
    lately_open = [start for each in entitlements for start in starts_open_after(now - LOOK_BACK, each)]
    # What reaches the ledger later than Stripe takes it is refused, however long ago its period was proven.
    refused = MeterReport.objects.filter(organization__in=organization_ids).unbilled()
    late = refused.order_by("period_start").values_list("period_start", flat=True)
    return min([now - LOOK_BACK, *starts[:1], *lately_open, *late[:1]])


def starts_open_after(moment: datetime, entitlement: Entitlement) -> list[datetime]:
    """Return when the current period and the one before it began, as long as they ended after some moment.

    A long trial may have begun before anything that is looked back to, and be used for the first time now.
    """
    current, previous = entitlement.counted_starts, entitlement.previous_starts
    periods = [(current, entitlement.period_end)]
    if entitlement.previous_end:
        periods.append(([datetime.fromisoformat(start) for start in previous], entitlement.previous_end))
    return [start for starts, end in periods if end > moment for start in starts]


def prove_gathered(
    organization: Organization,
    gathered: Gathered,
    *,
    meters: dict[str, Meter],
    since: datetime,
    now: datetime,
    asks_all: bool = False,
    exact_at: Collection[datetime] = (),
) -> list[Proof]:
    asked: dict[str, Ask | None] = {}

    def count(gathered: Gathered) -> list[tuple[Counts, int | None]]:
        mine = [c for k, c in gathered.counts.items() if k.organization_id == organization.pk]
        for period in mine:
            period.reported = [r._replace(fresh=0) if r.moment in exact_at else r for r in period.reported]
        found = []
        for period in (each for each in mine if each.start >= since):
            slug = period.key.meter
            if is_final(period, now=now) and period.before and not asks_all:
                found.append((period, period.before.stripe))
                continue
            if slug not in asked:
                asked[slug] = asker(organization, meters[slug])
            others = [c for c in mine if c.key.meter == slug and c is not period]
            ask = asked[slug]
            found.append((period, counted_by_stripe(period, others, ask, now=now) if ask else None))
        return found

    counted = count(gathered)
    if any(may_have_been_told_since(period, stripe) for period, stripe in counted):
        # What is read here after Stripe was asked has all that it had counted.
        gathered = gather([organization.pk], meters=meters.values(), since=since, now=now)
        counted = count(gathered)
    made = [
        outcome(period, gathered, stripe=stripe, meter=meters[period.key.meter], now=now)
        for period, stripe in counted
    ]
    stored = [keep(key, fields) for key, fields in made]
    return sorted(stored, key=lambda proof: proof.period_start, reverse=True)


def may_have_been_told_since(period: Counts, stripe: int | None) -> bool:
    """Whether Stripe has more than was reported when it was counted here: it may have been told in between."""
    State = MeterReport.State
    return stripe is not None and stripe > period.units(State.SENT, State.SENDING, State.UNKNOWN)


def is_final(period: Counts, *, now: datetime) -> bool:
    """Whether Stripe's count was proven after the last moment at which it took events of the period."""
    before = period.before
    return (
        before is not None
        and before.status in AT_REST
        and before.stripe is not None
        and before.reported == sum(r.units for r in period.sent)
        and before.checked_at > period.end + TAKEN_FOR
    )


def outcome(
    period: Counts, gathered: Gathered, *, stripe: int | None, meter: Meter, now: datetime
) -> tuple[Key, dict[str, Any]]:
    """Return the fields of the period's proof."""
    figures = figures_of(period, gathered, stripe=stripe, now=now)
    verdict = judge(figures)
    causes = Explainer(period, gathered, figures, meter=meter, now=now).explain(verdict.faults)
    fields = {
        "period_end": period.end,
        "ledger": figures.ledger,
        "ledger_is_kept": period.ledger_is_kept,
        "rollups": figures.rollups,
        "reported": figures.reported,
        "stripe": figures.stripe,
        "invoiced": figures.invoiced,
        "unreported": figures.unreported,
        "waiting": figures.waiting,
        "unknown": figures.unknown,
        "rejected": figures.rejected + figures.replaced,
        "to_invoice": figures.to_invoice,
        "corrected": figures.corrected,
        "correcting": figures.correcting,
        "status": verdict.status,
        "causes": causes,
        "checked_at": now,
    }
    is_accepted = period.before is not None and period.before.accepted_figures == Proof(**fields).snapshot
    if verdict.status == Proof.Status.DIFFERS and is_accepted:
        fields["status"] = Proof.Status.ACCEPTED
    return period.key, fields


def keep(key: Key, fields: dict[str, Any]) -> Proof:
    """Store a proof. Of two processes that prove one period the later word stands: both have just looked."""
    proof, _ = Proof.objects.update_or_create(
        organization_id=key.organization_id,
        meter_id=key.meter,
        period_start=key.period_start,
        defaults=fields,
    )
    return proof


def prove_all(*, seconds: float = SLICE_SECONDS, now: datetime | None = None) -> Round:
    """Prove all organizations' periods for some time, those that have waited longest first.

    One organization's trouble does not keep the others from their turn; Stripe not answering three in a row ends
    the round. Safe to run twice and in two processes.
    """
    now = now or clock.now()
    until = time.monotonic() + seconds
    done = Round()
    unanswered = 0
    meters = {meter.slug: meter for meter in Meter.objects.all()}
    for batch in batches(waiting_before(now)):
        since = oldest_wanted([each.pk for each in batch], now=now)
        gathered = None
        try:
            gathered = gather([each.pk for each in batch], meters=meters.values(), since=since, now=now)
        except StripeUnavailable as error:
            logger.warning("No usage can be proven: %s", error)
            done.stopped = str(error)
            return done
        except StripeRejected as error:
            # It is about one of them, as about an invoice that Stripe has no more: each is looked at alone.
            logger.warning("The usage of some is proven one by one: %s", error)
        for organization in batch:
            if time.monotonic() > until:
                done.is_unfinished = True
                return done
            try:
                proofs = (
                    prove_gathered(organization, gathered, meters=meters, since=since, now=now)
                    if gathered
                    else prove(organization, now=now)
                )
            except StripeUnavailable as error:
                unanswered += 1
                logger.warning("The usage of %s could not be proven: %s", organization.ref, error)
                done.failures.append(f"{organization.ref}: {error}")
                if unanswered == GIVE_UP_AFTER or isinstance(error, StripeAccessRefused):
                    done.stopped = str(error)
                    return done
                continue
            except (StripeRejected, BillingError) as error:
                logger.error("The usage of %s could not be proven: %s", organization.ref, error)
                done.failures.append(f"{organization.ref}: {error}")
                continue
            except Exception as error:  # One organization's failure must not keep the others from their turn.
                logger.exception("The usage of %s could not be proven", organization.ref)
                done.failures.append(f"{organization.ref}: {type(error).__name__}: {error}")
                continue
            unanswered = 0
            done.proofs += len(proofs)
            done.differing += sum(proof.status == Proof.Status.DIFFERS for proof in proofs)
    return done


def waiting_before(now: datetime) -> QuerySet[Organization]:
    """Organizations with usage that were not proven in the last hours, the longest ago first."""
    used = Exists(UsageRollup.objects.filter(organization=OuterRef("pk")))
    told = Exists(MeterReport.objects.filter(organization=OuterRef("pk")))
    checked = Organization.objects.filter(used | told).annotate(checked=Max("proofs__checked_at"))
    due = checked.filter(Q(checked=None) | Q(checked__lte=now - PROVEN_LATELY))
    return due.order_by(F("checked").asc(nulls_first=True), "pk")


def batches(organizations: QuerySet[Organization]) -> Iterable[list[Organization]]:
    rows = list(organizations)
    for start in range(0, len(rows), SLICE):
        yield rows[start : start + SLICE]
