"""The status policy applied: what a subscription's status gives at a moment, and what it will give later."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from billing.models import Access, StatusPolicy

RANK = {Access.NONE: 0, Access.LIMITED: 1, Access.FULL: 2}


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of the policy at work from `starts_at` on; `policy` is None where no row is for the status."""

    access: Access
    starts_at: datetime
    policy: StatusPolicy | None = None


@dataclass(frozen=True, slots=True)
class Ruling:
    """All rules of a status that began at `since`, by time. The first one applies at once."""

    rules: tuple[Rule, ...]

    @property
    def unsaid(self) -> "Ruling":
        """The same access, of which no row of the policy tells anybody."""
        return Ruling(tuple(replace(rule, policy=None) for rule in self.rules))

    def at(self, now: datetime) -> Rule:
        return [rule for rule in self.rules if rule.starts_at <= now or rule is self.rules[0]][-1]

    def next_after(self, now: datetime) -> Rule | None:
        return next((rule for rule in self.rules[1:] if rule.starts_at > now), None)

    def grace_end(self, now: datetime) -> datetime | None:
        """Return when the access will be less than now, None where time alone does not lessen it."""
        held = self.at(now).access
        if held not in RANK:
            return None
        later = (rule for rule in self.rules[1:] if rule.starts_at > now)
        return next((rule.starts_at for rule in later if RANK.get(rule.access, 2) < RANK[held]), None)

    def lost_at(self, now: datetime) -> datetime | None:
        """Return when the full access ended, None where it has not."""
        lost = None
        for rule in self.rules:
            if rule.starts_at > now and rule is not self.rules[0]:
                break
            lost = None if rule.access in {Access.FULL, Access.UNCHANGED} else lost or rule.starts_at
        return lost


def ruling(status: str, *, since: datetime, policies: Sequence[StatusPolicy]) -> Ruling:
    """Return what `policies` give to a subscription that has had `status` since then."""
    rows = sorted((row for row in policies if row.status == status), key=lambda row: row.from_day)
    if not rows or rows[0].from_day > 0:
        return Ruling((Rule(Access.LIMITED, since), *rules_of(rows, since=since)))
    return Ruling(rules_of(rows, since=since))


def rules_of(rows: Sequence[StatusPolicy], *, since: datetime) -> tuple[Rule, ...]:
    return tuple(Rule(Access(row.access), since + timedelta(days=row.from_day), row) for row in rows)
