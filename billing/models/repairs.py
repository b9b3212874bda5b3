"""What was brought back in line with Stripe, and when."""

from datetime import timedelta
from typing import Any

from django.db import models
from django.db.models import Q

from accounts import clock
from accounts.models import Organization


class Reconciliation(models.Model):
    """When an organization was last compared with Stripe, and what that brought.

    `tried_at` gives everybody a turn, those too for whom it fails each time.
    """

    organization = models.OneToOneField(
        Organization, models.CASCADE, primary_key=True, related_name="reconciliation"
    )
    tried_at = models.DateTimeField(db_index=True)
    reconciled_at = models.DateTimeField(
        null=True, blank=True, help_text="The last time that it went through to the end."
    )
    repaired = models.JSONField(default=list, blank=True, help_text="What the last try repaired.")
    problems = models.JSONField(default=list, blank=True, help_text="What the last try could not do.")

    def __str__(self) -> str:
        return f"{self.organization}: {self.tried_at:%Y-%m-%d %H:%M}"


class ReconcileRunQuerySet(models.QuerySet["ReconcileRun"]):
    def under_way(self) -> "ReconcileRunQuerySet":
        """The run over all organizations that has not ended: there is one at most."""
        return self.filter(scope=ReconcileRun.Scope.ALL, finished_at=None)

    def complete(self) -> "ReconcileRunQuerySet":
        """Runs that went over all organizations to the end."""
        return self.filter(scope=ReconcileRun.Scope.ALL, finished_at__isnull=False, stopped="")


class ReconcileRun(models.Model):
    """One comparison of many organizations with Stripe. `findings` is what it has to say, a sentence each."""

    class Scope(models.TextChoices):
        ALL = "all", "All organizations"
        SOME = "some", "Some organizations"

    LONGEST = timedelta(hours=20)
    MOST_FINDINGS = 1000

    scope = models.CharField(max_length=10, choices=Scope, default=Scope.ALL)
    started_at = models.DateTimeField(default=clock.now)
    finished_at = models.DateTimeField(null=True, blank=True)
    organizations = models.PositiveIntegerField(default=0, help_text="Compared with Stripe so far.")
    repaired = models.PositiveIntegerField(default=0, help_text="Things that were put right.")
    failures = models.PositiveIntegerField(
        default=0, help_text="Organizations that could not be compared in full."
    )
    stopped = models.CharField(
        max_length=300,
        blank=True,
        help_text="Why it ended before its end. The next one begins where it ended.",
    )
    findings = models.JSONField(default=list, blank=True)

    objects = ReconcileRunQuerySet.as_manager()

    class Meta:
        verbose_name = "reconciliation"
        ordering = ["-started_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["scope"],
                condition=Q(scope="all", finished_at=None),
                name="reconcilerun_one_under_way",
            )
        ]
        permissions = [("mend", "Can reconcile customers and mend what the doctor finds")]

    def __str__(self) -> str:
        return f"{self.get_scope_display()}, {self.started_at:%Y-%m-%d %H:%M}"

    def note(self, kind: str, sentence: str, *, organization: Organization | None = None) -> None:
        """Keep a sentence, up to a number that a page can still show. Saves nothing."""
        if len(self.findings) < self.MOST_FINDINGS:
            finding: dict[str, Any] = {"kind": kind, "sentence": sentence}
            if organization:
                finding |= {"organization": str(organization.pk), "ref": organization.ref}
            self.findings.append(finding)
