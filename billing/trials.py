"""A trial is given once: to an organization, to an e-mail address however it is written, and to a card.

Who may have one is asked when a subscription is begun, which a second tab or a second account can outrun.
So what has had its trial is claimed when the trial is seen, under a unique constraint: of two trials that
share an e-mail alias or a card, the one that claimed later is ended. See docs/decisions/0013.
"""

import contextlib
import hashlib
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

from django.db import transaction
from django.db.models import Q
from djstripe import models as djstripe

from accounts import clock
from accounts.models import Organization, Role
from billing.models import Plan, Trial, TrialMark
from billing.subscriptions import LIVE, PlanSubscription, from_timestamp, plan_subscriptions

# On a subscription whose trial we offered. A trial that staff give at Stripe lacks it.
METADATA_KEY = "tollgate_trial"
GMAIL = frozenset({"gmail.com", "googlemail.com"})


class Mark(NamedTuple):
    kind: TrialMark.Kind
    digest: str

    @classmethod
    def of(cls, kind: TrialMark.Kind, value: str) -> "Mark":
        # A plain hash is enough to not show an address; who guesses it can tell that it had a trial, no more.
        return cls(kind, hashlib.sha256(value.encode()).hexdigest())


def email_alias(address: str) -> str:
    """Return one spelling for all addresses that reach the same mailbox.

    Lower case; a +tag is dropped; at Gmail also dots. A domain in other letters is written as DNS does.
    """
    local, _, domain = unicodedata.normalize("NFKC", address.strip()).casefold().rpartition("@")
    domain = domain.rstrip(".")
    # What DNS could not look up is as good as any other spelling of itself.
    with contextlib.suppress(UnicodeError):
        domain = domain.encode("idna").decode("ascii")
    local = local.partition("+")[0] or local
    if domain in GMAIL:
        return f"{local.replace('.', '')}@gmail.com"
    return f"{local}@{domain}"


def trial_days_for(organization: Organization, plan: Plan) -> int | None:
    """Return how many days the organization may try `plan`, None where there is no trial, or no more.

    Asks the database alone: cards that Stripe holds and the mirror does not are found when the trial begins.
    """
    if plan.trial_days is None or any(s.has_begun for s in plan_subscriptions(organization)):
        return None
    known = [*marks_of(organization), *card_marks(mirrored_cards(organization))]
    return None if taken(known, by_others_than=None) else plan.trial_days


def marks_of(organization: Organization) -> list[Mark]:
    """Return what is known of an organization before there is a card."""
    owners = organization.memberships.filter(role=Role.OWNER).values_list("user__email", flat=True)
    aliases = {email_alias(address) for address in (organization.email, *owners) if "@" in address}
    return [
        Mark.of(TrialMark.Kind.ORGANIZATION, str(organization.pk)),
        *(Mark.of(TrialMark.Kind.EMAIL, alias) for alias in sorted(aliases)),
    ]


def card_marks(fingerprints: Iterable[str]) -> list[Mark]:
    return [Mark.of(TrialMark.Kind.CARD, fingerprint) for fingerprint in fingerprints]


def mirrored_cards(organization: Organization) -> list[str]:
    rows = djstripe.PaymentMethod.objects.filter(customer__subscriber=organization)
    return [print_ for data in rows.values_list("stripe_data", flat=True) if (print_ := fingerprint(data))]


def fingerprint(payment_method: dict[str, object]) -> str:
    """Return what Stripe knows a card or bank account again by; empty for what it does not tell apart."""
    details = payment_method.get(str(payment_method["type"]))
    return str((details or {}).get("fingerprint") or "") if isinstance(details, dict) else ""


def taken(marks: Iterable[Mark], *, by_others_than: Trial | None) -> list[TrialMark.Kind]:
    """Return the kinds of those marks that another trial has, or had before its organization left."""
    same = Q(pk__in=[])
    for mark in marks:
        same |= Q(kind=mark.kind, digest=mark.digest)
    rows = TrialMark.objects.filter(same)
    if by_others_than:
        # Not exclude(): marks whose organization has left belong to no trial, and count.
        rows = rows.filter(~Q(trial=by_others_than) | Q(trial=None))
    found = set(rows.values_list("kind", flat=True))
    return [kind for kind in TrialMark.Kind if kind in found]


@transaction.atomic
def settle_trials(organization: Organization) -> list[Trial]:
    """Bring the organization's trials in line with the mirror; return those that Stripe must be asked about.

    A trial seen for the first time is recorded and claims its marks. Calls nothing, so it may run inside a
    webhook's transaction; `billing.stripe.trials.check_trial` does the rest, once that has committed.
    """
    # In one order everywhere, since each row is locked.
    for subscription in sorted(plan_subscriptions(organization), key=lambda s: s.id):
        if subscription.data.get("trial_start") and subscription.data.get("trial_end"):
            follow(record(organization, subscription), subscription)
    return list(organization.trials.unsettled())


def record(organization: Organization, subscription: PlanSubscription) -> Trial:
    """Return the row of a subscription's trial, locked; a new one claims what its organization is known by."""
    trial, is_new = Trial.objects.get_or_create(
        subscription_id=subscription.id,
        defaults={
            "organization": organization,
            "plan": subscription.plan,
            "started_at": from_timestamp(subscription.data["trial_start"]),
            "ends_at": from_timestamp(subscription.data["trial_end"]),
            "is_guarded": METADATA_KEY in (subscription.data.get("metadata") or {}),
        },
    )
    trial = lock_trial(trial.pk)
    if is_new:
        claim(trial, marks_of(organization))
    return trial


def lock_trial(pk: int) -> Trial:
    """Lock and return the row: whoever decides about a trial holds it."""
    return Trial.objects.select_for_update(of=("self",)).select_related("organization", "plan").get(pk=pk)


@transaction.atomic
def claim(trial: Trial, marks: list[Mark]) -> bool:
    """Put the marks on a locked trial; return whether all of them were free, or its own.

    Otherwise a guarded trial is refused from here on. What was free is claimed all the same: it has begun
    a trial, if only for a moment.
    """
    # In one order everywhere, or two claims that share two marks could wait for each other. An insert
    # waits here for one of the same mark that has not committed, and then sees it.
    TrialMark.objects.bulk_create(
        [TrialMark(kind=kind, digest=digest, trial=trial) for kind, digest in sorted(set(marks))],
        ignore_conflicts=True,
    )
    lost = taken(marks, by_others_than=trial)
    if lost and trial.is_guarded:
        refuse(trial, Trial.Reason(lost[0]))
    return not lost


def refuse(trial: Trial, reason: Trial.Reason) -> None:
    """Let a locked trial end, unless it is over."""
    if trial.outcome == Trial.Outcome.GIVEN:
        trial.outcome, trial.reason = Trial.Outcome.REFUSED, reason
        trial.save(update_fields=["outcome", "reason"])


def follow(trial: Trial, subscription: PlanSubscription) -> None:
    """Note what became of a locked trial, from its subscription as the mirror has it."""
    ends_at = from_timestamp(subscription.data["trial_end"])
    is_over = subscription.status != "trialing"
    outcome = trial.outcome
    if is_over and subscription.status == "active":
        # A refused one that was paid before it could be ended has become what its customer was shown.
        outcome = Trial.Outcome.CONVERTED
    elif is_over and subscription.status not in LIVE and outcome == Trial.Outcome.GIVEN:
        outcome = Trial.Outcome.LAPSED
    settled_at = trial.settled_at
    if outcome == Trial.Outcome.REFUSED and is_over:
        settled_at = settled_at or clock.now()
    if (trial.outcome, trial.ends_at, trial.settled_at) != (outcome, ends_at, settled_at):
        trial.outcome, trial.ends_at, trial.settled_at = outcome, ends_at, settled_at
        trial.reason = trial.reason if outcome == Trial.Outcome.REFUSED else ""
        trial.save(update_fields=["outcome", "reason", "ends_at", "settled_at"])
