"""What a failing card leads to, date by date: the same policy, the same computation and the same notices that will act.

Nothing here decides anything. A course of statuses is imagined, from how Stripe was set up to try again, and at each
of its dates the entitlement is computed as it would be then.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from accounts.models import Organization
from billing.access import Ruling, ruling
from billing.course import Course, Outcome, Stage, course_of
from billing.entitlements import Judged, compute, judge_all
from billing.limits import describe_limits
from billing.models import Access, Entitlement, NoticeKind, PlanOverride, StatusPolicy
from billing.models.entitlements import SubscriptionStatus
from billing.notices import news
from billing.subscriptions import OWING, from_timestamp

CHARGED = OWING | {"active", "trialing"}


@dataclass(frozen=True, slots=True)
class Entry:
    """What happens at one moment, and what is so from then on.

    `at` is None for what has no date, because Stripe chooses it. `entitlement` is not saved.
    """

    at: datetime | None
    happenings: tuple[str, ...]
    entitlement: Entitlement
    emails: tuple[NoticeKind, ...]
    is_past: bool

    @property
    def status(self) -> str:
        return self.entitlement.status

    @property
    def status_name(self) -> str:
        return str(SubscriptionStatus(self.status).label)

    @property
    def access(self) -> str:
        return str(self.entitlement.access)

    @property
    def access_name(self) -> str:
        return str(Access(self.access).label)

    @property
    def is_whole(self) -> bool:
        """Whether the customer has what was bought."""
        return self.access == Access.FULL

    @property
    def banner(self) -> str:
        return self.entitlement.banner

    @property
    def limits(self) -> list[str]:
        return describe_limits(self.entitlement)

    @property
    def email_names(self) -> list[str]:
        return [str(kind.label) for kind in self.emails]


def find_charged(organization: Organization, *, now: datetime) -> Judged | None:
    """Return the subscription that a card is charged for, None where there is none."""
    return next(
        (each for each in judge_all(organization, now=now) if each.subscription.status in CHARGED), None
    )


def what_if_card_fails(organization: Organization, *, now: datetime) -> list[Entry]:
    """Return what happens, by date, if a payment of the organization's fails at `now` and goes on failing.

    Where one has failed already, it is the real course, from the failure on. Empty where no card is charged.
    """
    subject = find_charged(organization, now=now)
    if subject is None:
        return []
    course = course_of(subject.subscription, organization, since=subject.since, now=now)
    return list(walk(Imagined(organization, subject, now=now), course, now=now))


class Imagined:
    """The organization as it would be if its subscription had another status."""

    def __init__(self, organization: Organization, subject: Judged, *, now: datetime) -> None:
        self.organization, self.subject = organization, subject
        self.policies = list(StatusPolicy.objects.all())
        self.others = [
            each
            for each in judge_all(organization, now=now)
            if each.subscription.id != subject.subscription.id
        ]

    def rules(self, stage: Stage) -> Ruling:
        return ruling(stage.status, since=stage.since, policies=self.policies)

    def at(self, moment: datetime, stage: Stage) -> Entitlement:
        """Return the entitlement of that moment, by the computation that will make the real one."""
        data = {**self.subject.subscription.data, "status": stage.status}
        judged = Judged(replace(self.subject.subscription, data=data), stage.since, self.rules(stage))
        fields = compute(self.organization, now=moment, judged=[judged, *self.others])
        return Entitlement(organization=self.organization, **fields)


def walk(imagined: Imagined, course: Course, *, now: datetime) -> Iterator[Entry]:
    """Yield an entry for each date at which something happens, in their order, and then what has no date."""
    begins = course.begins
    created = from_timestamp(imagined.subject.subscription.data["created"])
    before = imagined.at(begins, Stage(created, "active", created))
    happenings = happenings_of(imagined, course, now=now)
    for moment in sorted(happenings):
        after = imagined.at(moment, course.stage_at(moment))
        yield entry(happenings[moment], before, after, at=moment, now=now)
        before = after
    for sentence, after in undated(imagined, course, before, now=now):
        yield entry([sentence], before, after, at=None, now=now)
        before = after


def entry(
    happenings: Sequence[str], before: Entitlement, after: Entitlement, *, at: datetime | None, now: datetime
) -> Entry:
    emails = tuple(each.kind for each in news(before, after))
    return Entry(at, tuple(happenings), after, emails, is_past=at is not None and at < now)


def happenings_of(imagined: Imagined, course: Course, *, now: datetime) -> dict[datetime, list[str]]:
    """Return what happens, in sentences, by its moment."""
    begins = course.begins
    verb = "failed" if begins < now else "fails"
    found: dict[datetime, list[str]] = {begins: [f"The payment {verb}."]}
    for at in course.tries:
        found.setdefault(at, []).append("Stripe tries again, and the payment fails.")
    for at, remark in course.remarks.items():
        found.setdefault(at, []).append(remark)
    ends = [*(stage.at for stage in course.stages[1:]), None]
    for stage, end in zip(course.stages, ends, strict=True):
        for rule in imagined.rules(stage).rules[1:]:
            if rule.policy and rule.starts_at > stage.at and (end is None or rule.starts_at < end):
                found.setdefault(rule.starts_at, []).append(step_sentence(rule.policy))
    last = max(found)
    for override in imagined.organization.plan_overrides.order_by("created_at"):
        for at, sentence in edges_of(override):
            if begins < at <= last:
                found.setdefault(at, []).append(sentence)
    return found


def step_sentence(policy: StatusPolicy) -> str:
    days = f"{policy.from_day} {'day' if policy.from_day == 1 else 'days'}"
    since = "after the first failure" if policy.status in OWING else "later"
    return f"{days} {since}, the policy’s next rule for {policy.get_status_display()} applies."


def edges_of(override: PlanOverride) -> Iterator[tuple[datetime, str]]:
    yield override.starts_at, f"Special limits begin ({override.reason})."
    if override.ends_at:
        yield override.ends_at, f"Special limits end ({override.reason})."


def undated(
    imagined: Imagined, course: Course, last: Entitlement, *, now: datetime
) -> Iterator[tuple[str, Entitlement]]:
    """Yield what follows once Stripe gives up, at a moment that smart retries choose."""
    status = course.ends_undated
    if not status:
        return
    name = SubscriptionStatus(status).label
    sentence = (
        f"When Stripe has given up, the subscription {'stays' if status == 'past_due' else 'is'} {name}."
    )
    if status == Outcome.PAST_DUE:
        yield sentence, last
        return
    # Whenever it is: a moment after all that has a date. Only the distances from it matter.
    days = max((each.from_day for each in imagined.policies), default=0)
    ends = max([now, course.stages[-1].at, *course.tries]) + timedelta(days=days + 1)
    stage = Stage(ends, status, ends if status == Outcome.CANCEL else course.begins)
    yield sentence, imagined.at(ends, stage)
    for rule in imagined.rules(stage).rules[1:]:
        if rule.policy and rule.starts_at > ends:
            yield step_sentence(rule.policy), imagined.at(rule.starts_at, stage)
