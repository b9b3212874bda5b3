"""What is wrong, and what can be done about it: a register of checks that each app adds its own to."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from django.db import DatabaseError
from redis.exceptions import RedisError

from accounts.models import Organization
from billing.errors import BillingError

logger = logging.getLogger(__name__)


class Severity(StrEnum):
    ERROR = "error"  # Money or access is wrong now, or soon will be.
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Fix:
    """What mends a finding. `sentence` tells it in the imperative.

    Only what is `safe` is done unasked: it can charge nobody and takes nothing away that was paid for. The rest waits
    for a person to say yes.
    """

    sentence: str
    run: Callable[[], object]
    is_safe: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong with one subject: an organization's ref or an id. `advice` is for a person."""

    slug: str
    severity: Severity
    subject: str
    sentence: str
    advice: str = ""
    fix: Fix | None = None
    organization: Organization | None = None

    @property
    def key(self) -> str:
        """What tells it from other findings, over several examinations."""
        return f"{self.slug}:{self.subject}"


Examine = Callable[[], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Check:
    slug: str
    looks_for: str
    examine: Examine


class UnknownCheck(Exception):
    """No check has this slug."""


class CouldNotMend(Exception):
    """A fix did not go through. `str(error)` says why, for staff."""


_checks: dict[str, Check] = {}


def check(slug: str, looks_for: str) -> Callable[[Examine], Examine]:
    """Register a function that yields what it finds. Raises ValueError where the slug is taken."""

    def register(examine: Examine) -> Examine:
        if slug in _checks:
            raise ValueError(f"There is a check {slug} already.")
        _checks[slug] = Check(slug, looks_for, examine)
        return examine

    return register


def all_checks() -> list[Check]:
    return list(_checks.values())


def get_check(slug: str) -> Check:
    """Raises UnknownCheck."""
    try:
        return _checks[slug]
    except KeyError as error:
        raise UnknownCheck(f"There is no check {slug}. There are: {', '.join(_checks)}.") from error


def examine(slugs: Sequence[str] | None = None) -> list[Finding]:
    """Return what these checks find now, all of them where none is named. Changes nothing. Raises UnknownCheck.

    A check that cannot be made is a finding itself: silence would look like health.
    """
    chosen = all_checks() if slugs is None else [get_check(slug) for slug in slugs]
    return [finding for each in chosen for finding in findings_of(each)]


def findings_of(each: Check) -> Iterator[Finding]:
    try:
        yield from each.examine()
    except (BillingError, RedisError) as error:
        yield unchecked(each, str(error) or type(error).__name__)
    except Exception as error:  # One check's failure must not hide what the others find.
        logger.exception("The check %s failed", each.slug)
        yield unchecked(each, f"{type(error).__name__}: {error}")


def unchecked(each: Check, reason: str) -> Finding:
    return Finding(
        slug=each.slug,
        severity=Severity.ERROR,
        subject="",
        sentence=f"This could not be checked to the end: {reason}",
        advice="Try again; where it stays so, Tollgate's log says more.",
    )


@dataclass(slots=True)
class Treatment:
    """What `mend` did: the findings it mended, and those whose fix failed, with the reason."""

    mended: list[Finding] = field(default_factory=list)
    failed: list[tuple[Finding, str]] = field(default_factory=list)


def treat(finding: Finding) -> None:
    """Carry out a finding's fix. Raises CouldNotMend."""
    if finding.fix is None:
        raise CouldNotMend("Nothing mends this by itself.")
    try:
        finding.fix.run()
    except (BillingError, RedisError, DatabaseError) as error:
        raise CouldNotMend(str(error) or type(error).__name__) from error


def mend(findings: Iterable[Finding]) -> Treatment:
    """Carry out the safe fixes; one that fails does not hold up the others. May be repeated."""
    treatment = Treatment()
    for finding in findings:
        if finding.fix is None or not finding.fix.is_safe:
            continue
        try:
            treat(finding)
        except CouldNotMend as error:
            treatment.failed.append((finding, str(error)))
        else:
            treatment.mended.append(finding)
    return treatment
