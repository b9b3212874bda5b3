"""The gate with Redis out of reach: PostgreSQL decides, by the same rules but for the rates.

Slower, and one call of an organization at a time. No quota is passed: units are charged as rows, under the lock
of the entitlement, beside what the rollups have. What the stream holds and the drain had not stored when Redis
went is not known here; it counts again as soon as Redis is back.
"""

from collections.abc import Sequence
from datetime import datetime

from django.conf import settings
from django.db import transaction

from accounts import clock
from accounts.models import Organization
from apikeys import cache
from apikeys.addresses import address_digits, address_range
from apikeys.decision import Decision, Verdict
from apikeys.instants import to_microseconds
from apikeys.models import APIKey, UncountedUnits
from apikeys.secret import ParsedSecret
from billing.entitlements import compute, lock_entitlement
from billing.models import Access, Entitlement, PlanQuota
from usage import ledger
from usage.counting import units_in_period
from usage.events import Event

ADMIT = "admit"


def decide(
    parsed: ParsedSecret,
    *,
    meter: str,
    cost: int,
    scopes: Sequence[str],
    address: str,
    now: datetime | None,
) -> Decision:
    """Decide about a call, and charge it, as far as the setting GATE_WITHOUT_REDIS lets anyone in."""
    if settings.GATE_WITHOUT_REDIS != ADMIT:
        return Decision(Verdict.UNAVAILABLE)
    now = now or clock.now()
    key = APIKey.objects.select_related("organization").filter(digest=parsed.digest, revoked_at=None).first()
    if key is None or key.organization.ref != parsed.ref:
        return Decision(Verdict.INVALID_KEY)
    call = Call(key, meter=meter, cost=cost, now=now)
    if key.expires_at and now >= key.expires_at:
        return call.answer(Verdict.EXPIRED_KEY)
    if key.allowed_networks and not is_within(address, key.allowed_networks):
        return call.answer(Verdict.ADDRESS_REFUSED)
    if key.scopes and not set(scopes) <= set(key.scopes):
        return call.answer(Verdict.INSUFFICIENT_SCOPE)
    with transaction.atomic():
        return call.decide()


class Call:
    """One call with a key that is good, on its way through the limits."""

    def __init__(self, key: APIKey, *, meter: str, cost: int, now: datetime) -> None:
        self.key, self.meter, self.cost, self.now = key, meter, cost, now
        self.organization: Organization = key.organization
        self.uncounted: UncountedUnits | None = None

    def decide(self) -> Decision:
        """Part of a transaction, whose end lets go of the lock."""
        entitlement = lock_entitlement(self.organization)
        if self.now >= entitlement.valid_until:
            # Not saved: who keeps a copy of it could not be told just now.
            entitlement = Entitlement(
                organization=self.organization, **compute(self.organization, now=self.now)
            )
        quota = cache.gated_quotas(entitlement).get(self.meter)
        if self.cost and quota is None:
            return self.answer(Verdict.NOT_IN_PLAN)
        if not self.cost or quota is None:
            return self.answer(Verdict.ADMITTED, entitlement)
        is_live = self.key.is_live
        used = self.used(entitlement) if is_live else 0
        if entitlement.access == Access.NONE:
            return self.answer(Verdict.SUSPENDED, entitlement, used=used)
        if not is_live:
            return self.answer(Verdict.ADMITTED, entitlement)
        blocks = quota["overage"] == PlanQuota.Overage.BLOCK
        limits = [("period", quota["included"] if blocks else None), ("spend_cap", quota.get("spend_cap"))]
        for policy, limit in limits:
            if limit is not None and used + self.cost > limit:
                verdict = Verdict.QUOTA_EXCEEDED if policy == "period" else Verdict.SPEND_CAP_REACHED
                return self.answer(verdict, entitlement, used=used, policy=policy, limits=dict(limits))
        self.uncounted = UncountedUnits.objects.create(
            organization=self.organization,
            meter=self.meter,
            period_start=entitlement.period_start,
            units=self.cost,
        )
        return self.answer(Verdict.ADMITTED, entitlement, used=used + self.cost, limits=dict(limits))

    def used(self, entitlement: Entitlement) -> int:
        starts = entitlement.counted_starts
        waiting = self.organization.uncounted_units.filter(
            meter=self.meter, period_start__in=starts, is_stored=False
        )
        return sum(waiting.values_list("units", flat=True)) + sum(
            units_in_period(
                organization_id=self.organization.pk, meter=self.meter, period_start=start, backlog=[]
            )
            for start in starts
        )

    def answer(
        self,
        verdict: Verdict,
        entitlement: Entitlement | None = None,
        *,
        used: int = 0,
        policy: str = "",
        limits: dict[str, int | None] | None = None,
    ) -> Decision:
        """Return the decision in the gate script's words; without an entitlement it got to no limits."""
        now = to_microseconds(self.now)
        answer = [verdict, now, self.key.pk, self.organization.pk, self.key.mode]
        if entitlement:
            end = to_microseconds(entitlement.period_end)
            of = limits or {}
            answer += [policy, end - now if policy else 0, *[""] * 9]
            answer += [cache.text(of.get("period")), cache.text(of.get("spend_cap")), used]
            answer += [to_microseconds(entitlement.period_start), end]
        return Decision(
            verdict,
            ref=self.organization.ref,
            meter=self.meter,
            cost=self.cost,
            answer=[str(each) for each in answer],
            uncounted_id=self.uncounted.pk if self.uncounted else None,
            is_degraded=True,
        )


def is_within(address: str, networks: Sequence[str]) -> bool:
    if not address:
        return False
    digits = address_digits(address)
    ranges = (address_range(network).split("-") for network in networks)
    return any(first <= digits <= last for first, last in ranges)


def settle(decision: Decision, *, units: int, event: Event | None) -> bool:
    """Write down what a call that `decide` let in came to; return whether its units were still to be counted.

    Raises django.db.OperationalError or InterfaceError with nothing written.
    """
    if decision.uncounted_id is None:
        raise ValueError("Only a call that PostgreSQL has charged is settled here.")
    with transaction.atomic():
        # Who fills the counter reads the ledger and the rows one after the other: not between these two.
        lock_entitlement(Organization.objects.get(pk=decision.organization_id))
        if event:
            ledger.store([event])
        rows = UncountedUnits.objects.filter(pk=decision.uncounted_id)
        if units:
            return bool(rows.update(units=units, is_stored=True))
        return bool(rows.delete()[0])


def take_up() -> int:
    """Have the counters of all organizations with uncounted units brought up to date at their next call.

    Returns how many there are. Raises redis.exceptions.RedisError.
    """
    refs = Organization.objects.filter(uncounted_units__isnull=False).distinct().values_list("ref", flat=True)
    for ref in refs:
        cache.drop(ref)
    return len(refs)
