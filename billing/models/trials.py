"""Trials: which were given, what became of them, and what may have none any more."""

from datetime import datetime, timedelta
from typing import ClassVar

from django.db import models
from django.db.models import Q

from accounts import clock
from accounts.models import Organization
from billing.models.plans import Plan

# A trial begun over the API has no card at first. Without a limit it would never need one, and the card
# is half of the guard.
CARD_WITHIN = timedelta(hours=24)


class TrialQuerySet(models.QuerySet["Trial"]):
    def unsettled(self) -> "TrialQuerySet":
        """Those that Stripe has to be asked or told about: whose card it is, or that the trial ends here."""
        asked = Q(outcome=Trial.Outcome.GIVEN, is_guarded=True, card_seen_at=None)
        return self.filter(asked | Q(outcome=Trial.Outcome.REFUSED, settled_at=None))


class Trial(models.Model):
    """One trial of one subscription, as soon as it was seen.

    `outcome` is “given” until the trial is over: then it was converted (a payment followed) or it lapsed.
    “refused” was found to be somebody's second one: its subscription is ended at Stripe without a charge,
    which is done from `settled_at` on.
    """

    class Outcome(models.TextChoices):
        GIVEN = "given", "Given"
        CONVERTED = "converted", "Paid for afterwards"
        LAPSED = "lapsed", "Ended without a payment"
        REFUSED = "refused", "Refused"

    class Reason(models.TextChoices):
        ORGANIZATION = "organization", "The organization had a trial before"
        EMAIL = "email", "Somebody with this e-mail address had a trial before"
        CARD = "card", "The card was used for a trial before"
        NO_CARD = "no_card", "No card was given within a day"

    SENTENCES: ClassVar[dict[str, str]] = {
        Reason.ORGANIZATION: "{organization} has had a trial before.",
        Reason.EMAIL: "A trial was already given to your e-mail address or one that reaches the same mailbox.",
        Reason.CARD: "A trial was already given to the card you entered.",
        Reason.NO_CARD: "Your trial of {plan} had no card for a day.",
    }

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="trials")
    plan = models.ForeignKey(Plan, models.PROTECT, related_name="+")
    subscription_id = models.CharField(max_length=255, unique=True, help_text="Stripe's id.")
    started_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    is_guarded = models.BooleanField(
        "guarded",
        help_text="Whether Tollgate offered it. One that staff gave at Stripe is theirs to give, and never refused.",
    )
    outcome = models.CharField(max_length=10, choices=Outcome, default=Outcome.GIVEN)
    reason = models.CharField(max_length=12, choices=Reason, blank=True, help_text="Why it was refused.")
    card_seen_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="When its card was held against those of earlier trials, or none was to come any more.",
    )
    settled_at = models.DateTimeField(
        null=True, blank=True, help_text="When a refused one was found to have ended at Stripe."
    )
    created_at = models.DateTimeField(default=clock.now, editable=False)

    objects = TrialQuerySet.as_manager()

    class Meta:
        ordering = ["-started_at"]
        constraints = [
            models.CheckConstraint(condition=Q(ends_at__gte=models.F("started_at")), name="trial_order"),
            models.CheckConstraint(
                condition=Q(outcome="refused") ^ Q(reason=""), name="trial_reason_if_refused"
            ),
        ]
        indexes = [
            models.Index(
                fields=["outcome"],
                name="trial_unsettled",
                condition=Q(outcome="refused", settled_at=None) | Q(outcome="given", card_seen_at=None),
            )
        ]

    def __str__(self) -> str:
        return f"{self.organization}: {self.plan} from {self.started_at:%d %B %Y}"

    @property
    def refusal(self) -> str:
        """What to tell the customer of a refused trial; empty for any other."""
        if self.outcome != self.Outcome.REFUSED:
            return ""
        said = self.SENTENCES[self.reason].format(organization=self.organization.name, plan=self.plan.name)
        then = f"You can subscribe to {self.plan.name} without a trial."
        return f"{said} So this one has ended, and nothing was charged. {then}"

    def lacks_card(self, now: datetime) -> bool:
        """Whether it should have had a card by now."""
        return self.card_seen_at is None and now >= self.started_at + CARD_WITHIN


class TrialMark(models.Model):
    """What has had its trial. The unique constraint is the guard: of two claims at once, one finds it taken.

    Marks outlive the organization, or leaving and coming back would earn another trial. So nothing that
    names a person is kept: the digest tells a mark again and does not show it.
    """

    class Kind(models.TextChoices):
        ORGANIZATION = "organization", "Organization"
        EMAIL = "email", "E-mail alias"
        CARD = "card", "Card fingerprint"

    kind = models.CharField(max_length=12, choices=Kind)
    digest = models.CharField(max_length=64)
    trial = models.ForeignKey(Trial, models.SET_NULL, null=True, related_name="marks")
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["kind", "digest"], name="trialmark_once")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.digest[:8]}"
