"""What an organization may do, and the rules that decide it."""

import re
from datetime import datetime

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from accounts import clock
from accounts.models import Organization
from billing.models.meters import Meter
from billing.models.plans import Plan, PlanQuota
from billing.models.validators import at_least_one, check_burst


class Access(models.TextChoices):
    FULL = "full", "The plan that was bought"
    LIMITED = "limited", "The default plan's limits"
    NONE = "none", "No calls at all"
    UNCHANGED = "unchanged", "What they had before"


class SubscriptionStatus(models.TextChoices):
    """Stripe's statuses of a subscription."""

    TRIALING = "trialing", "trialing"
    ACTIVE = "active", "active"
    PAST_DUE = "past_due", "past due"
    UNPAID = "unpaid", "unpaid"
    PAUSED = "paused", "paused"
    CANCELED = "canceled", "canceled"
    INCOMPLETE = "incomplete", "incomplete"
    INCOMPLETE_EXPIRED = "incomplete_expired", "incomplete, expired"


# What a banner may name.
PLACEHOLDERS = ("{plan}", "{limits}")


class StatusPolicy(models.Model):
    """What a subscription's status gives, from a number of days in that status on.

    For each status the row with the largest `from_day` that has been reached applies. A status with no row
    at all leaves the default plan's limits.
    """

    status = models.CharField(max_length=20, choices=SubscriptionStatus)
    from_day = models.PositiveSmallIntegerField(
        "from day", default=0, help_text="Days after the subscription came into this status. 0: at once."
    )
    access = models.CharField(max_length=10, choices=Access)
    banner = models.CharField(
        max_length=300,
        blank=True,
        help_text="Shown on the customer's pages, and said in the e-mail. {plan} is the plan that was bought, "
        "{limits} the plan whose limits apply.",
    )
    sends_email = models.BooleanField(
        "e-mail", default=False, help_text="Tell the customer by e-mail when this begins to apply."
    )

    class Meta:
        verbose_name = "status policy"
        verbose_name_plural = "status policies"
        ordering = ["status", "from_day"]
        constraints = [
            models.UniqueConstraint(
                fields=["status", "from_day"],
                name="statuspolicy_unique",
                violation_error_message="There is a rule for this status and day already.",
            ),
            models.CheckConstraint(condition=Q(access__in=Access.values), name="statuspolicy_access_known"),
        ]

    def __str__(self) -> str:
        return f"{self.get_status_display()} {self.when}: {self.get_access_display().lower()}"

    def clean(self) -> None:
        if self.access == Access.UNCHANGED and self.status != SubscriptionStatus.INCOMPLETE:
            raise ValidationError(
                {
                    "access": "Only an incomplete subscription, which has never been paid, can leave things unchanged."
                }
            )
        if self.status == SubscriptionStatus.ACTIVE and self.access != Access.FULL:
            raise ValidationError(
                {"access": "An active subscription is paid for: whoever has one gets what was bought."}
            )
        unknown = sorted(set(re.findall(r"\{[^}]*\}?", self.banner)) - set(PLACEHOLDERS))
        if unknown:
            raise ValidationError(
                {"banner": f"“{unknown[0]}” stands for nothing: only {{plan}} and {{limits}} are replaced."}
            )

    @property
    def when(self) -> str:
        return f"from day {self.from_day}" if self.from_day else "at once"


class PlanOverrideQuerySet(models.QuerySet["PlanOverride"]):
    def ending_after(self, moment: object) -> "PlanOverrideQuerySet":
        return self.filter(Q(ends_at=None) | Q(ends_at__gt=moment))


class PlanOverride(models.Model):
    """One organization's special limits, for a time. Where several apply, the latest made wins."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="plan_overrides")
    plan = models.ForeignKey(
        Plan,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        help_text="Give this plan's limits, whatever was bought. Empty: those of the plan they have.",
    )
    changes_rate = models.BooleanField("another rate", default=False)
    rate_per_minute = models.PositiveIntegerField(
        null=True, blank=True, validators=[at_least_one], help_text="With “another rate”. Empty: unlimited."
    )
    burst = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[at_least_one],
        help_text="With “another rate”: calls admitted at once. Empty: the whole minute's.",
    )
    reason = models.CharField(max_length=300)
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, editable=False, related_name="+"
    )
    starts_at = models.DateTimeField(default=clock.now)
    ends_at = models.DateTimeField(null=True, blank=True, help_text="Empty: until staff end it.")
    created_at = models.DateTimeField(default=clock.now, editable=False)

    objects = PlanOverrideQuerySet.as_manager()

    class Meta:
        ordering = ["created_at", "pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(ends_at=None) | Q(ends_at__gt=models.F("starts_at")),
                name="planoverride_order",
                violation_error_message="An override must end after it starts.",
            ),
            models.CheckConstraint(
                condition=Q(changes_rate=True) | Q(rate_per_minute=None),
                name="planoverride_rate_is_meant",
                violation_error_message="Tick “another rate” to give the rate that was filled in.",
            ),
            models.CheckConstraint(
                condition=Q(rate_per_minute=None) | Q(rate_per_minute__gte=1),
                name="planoverride_rate_positive",
            ),
            models.CheckConstraint(
                condition=Q(burst=None)
                | Q(burst__gte=1, burst__lte=models.F("rate_per_minute"), rate_per_minute__isnull=False),
                name="planoverride_burst_within_rate",
                violation_error_message="A burst needs calls a minute, and is at most as many.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.organization}: {self.reason}"

    def clean(self) -> None:
        if self.burst is not None and not self.changes_rate:
            raise ValidationError({"burst": "Tick “another rate” to give the burst that was filled in."})
        check_burst(self.burst, rate=self.rate_per_minute)


class QuotaOverride(models.Model):
    """Of an override: another quota of one meter."""

    override = models.ForeignKey(PlanOverride, models.CASCADE, related_name="quotas")
    meter = models.ForeignKey(Meter, models.PROTECT, related_name="+")
    included = models.PositiveBigIntegerField(
        null=True, blank=True, validators=[at_least_one], help_text="Units a month. Empty: unlimited."
    )
    overage = models.CharField(max_length=10, choices=PlanQuota.Overage, default=PlanQuota.Overage.BLOCK)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["override", "meter"], name="quotaoverride_unique"),
            models.CheckConstraint(
                condition=Q(included__isnull=True) | Q(included__gte=1), name="quotaoverride_positive"
            ),
            models.CheckConstraint(
                condition=~Q(included__isnull=True, overage="bill"),
                name="quotaoverride_unlimited_bills_nothing",
                violation_error_message="Unlimited units leave nothing to bill: say how many are included.",
            ),
        ]

    def __str__(self) -> str:
        return f"{'unlimited' if self.included is None else self.included} {self.meter.unit}s"


class Entitlement(models.Model):
    """What an organization may do now: the one answer to “may they?”.

    Computed by `refresh_entitlement`, never edited. `quotas` maps a meter's slug to
    {"included": units or null for unlimited, "overage": "block" or "bill", "spend_cap": where the customer's
    price can reach their own spend cap, the units at which it stops}. `plan` is the plan whose limits
    apply; `bought_plan` the one that the subscription is for, which differs where a payment is missing.
    """

    organization = models.OneToOneField(
        Organization, models.CASCADE, primary_key=True, related_name="entitlement"
    )
    plan = models.ForeignKey(Plan, models.PROTECT, related_name="entitlements")
    bought_plan = models.ForeignKey(Plan, models.PROTECT, null=True, blank=True, related_name="+")
    status = models.CharField(max_length=20, help_text="Stripe's subscription status, or “none”.")
    status_since = models.DateTimeField(
        null=True, blank=True, help_text="Since when the subscription has had this status."
    )
    access = models.CharField(max_length=10, choices=Access, default=Access.LIMITED)
    policy = models.ForeignKey(
        StatusPolicy,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="The rule that decides the access.",
    )
    subscription_id = models.CharField(
        max_length=255, blank=True, help_text="Stripe's id of the subscription that gives this plan."
    )
    rate_per_minute = models.PositiveIntegerField(null=True, blank=True)
    burst = models.PositiveIntegerField(null=True, blank=True)
    api_key_limit = models.PositiveIntegerField(null=True, blank=True)
    quotas = models.JSONField(default=dict)
    period_start = models.DateTimeField()
    period_end = models.DateTimeField()
    carried_from = models.JSONField(
        default=list,
        blank=True,
        help_text="Starts of earlier periods of the same month, cut short by a change: what was used in them "
        "counts in this one.",
    )
    previous_starts = models.JSONField(
        default=list,
        blank=True,
        help_text="Starts of the last period before this one whose units do not count in it, and of those that it "
        "carried on, the oldest first.",
    )
    previous_end = models.DateTimeField(null=True, blank=True, help_text="When that one ended.")
    grace_end = models.DateTimeField(
        null=True, blank=True, help_text="When the access shrinks, unless the status changes before."
    )
    valid_until = models.DateTimeField(help_text="When this has to be computed anew, at the latest.")
    version = models.PositiveBigIntegerField(default=1, help_text="Grows by one with each change.")
    changed_at = models.DateTimeField(default=clock.now)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(period_end__gt=models.F("period_start")), name="entitlement_period_order"
            ),
            models.CheckConstraint(
                condition=Q(valid_until__lte=models.F("period_end")), name="entitlement_valid_within_period"
            ),
        ]
        indexes = [models.Index(fields=["valid_until"], name="entitlement_valid_until")]

    def __str__(self) -> str:
        return f"{self.organization}: {self.plan}"

    @property
    def counted_starts(self) -> list[datetime]:
        """When the periods began whose units count in this one, the oldest first: its own is the last."""
        return [*map(datetime.fromisoformat, self.carried_from), self.period_start]

    @property
    def banner(self) -> str:
        """What the policy has to say to the customer; empty where it is silent."""
        text = self.policy.banner if self.policy else ""
        bought = self.bought_plan or self.plan
        return text.replace("{plan}", bought.name).replace("{limits}", self.plan.name)

    def find_quota(self, meter: str) -> int | None:
        """Return the units included this period, or None for unlimited. Raises KeyError on an unknown meter."""
        included: int | None = self.quotas[meter]["included"]
        return included
