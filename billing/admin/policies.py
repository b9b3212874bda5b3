"""The status policy: what a failed payment, a pause or an end means for a customer's access."""

from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import Case, Count, OuterRef, QuerySet, Subquery, Value, When
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from billing.models import Entitlement, StatusPolicy
from billing.models.entitlements import SubscriptionStatus
from billing.tasks import enqueue, refresh_entitlements_in

# From the good to the bad, as a subscription may go through them.
PLACES = [When(status=status, then=Value(place)) for place, status in enumerate(SubscriptionStatus.values)]


def counted(field: str) -> Coalesce:
    """Return a count of the entitlements that a row has to do with, by one of their fields."""
    matching = Entitlement.objects.filter(**{field: OuterRef("pk" if field == "policy" else field)})
    return Coalesce(
        Subquery(matching.order_by().values(field).annotate(count=Count("pk")).values("count")), 0
    )


@admin.register(StatusPolicy)
class StatusPolicyAdmin(ModelAdmin):
    """Reads from top to bottom as a policy: status by status, and each from its first day on."""

    list_display = ["status_name", "when_it_applies", "access", "banner", "sends_email", "there", "reached"]
    list_display_links = ["status_name", "when_it_applies"]
    sortable_by = ()
    list_per_page = 200
    readonly_fields = ["effect"]
    fieldsets = [
        (
            None,
            {
                "fields": [("status", "from_day"), "access"],
                "description": "Of each status the row with the latest day that has been reached applies. Past due and "
                "unpaid count from the first payment that failed, not from the last try.",
            },
        ),
        ("What the customer is told", {"fields": ["banner", "sends_email"]}),
        (
            "Whom it concerns now",
            {
                "fields": ["effect"],
                "description": "What you save applies to them within moments, and to the gate by the next call.",
            },
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[StatusPolicy]:
        return super().get_queryset(request).annotate(in_status=counted("status"), on_row=counted("policy"))

    def get_ordering(self, request: HttpRequest) -> Any:
        return [Case(*PLACES).asc(), "from_day"]

    def get_readonly_fields(self, request: HttpRequest, obj: StatusPolicy | None = None) -> list[str]:
        if obj is None:
            return ["effect"]
        # Each status has a first row, which is what applies at once.
        return ["status", "from_day", "effect"] if obj.from_day == 0 else ["status", "effect"]

    def has_delete_permission(self, request: HttpRequest, obj: StatusPolicy | None = None) -> bool:
        if obj is not None and obj.from_day == 0:
            return False
        return super().has_delete_permission(request, obj)

    def get_actions(self, request: HttpRequest) -> dict[str, object]:
        # Deleting many at once asks about none of them.
        actions: dict[str, object] = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def save_model(self, request: HttpRequest, obj: StatusPolicy, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        self.let_act(request, obj)

    def delete_model(self, request: HttpRequest, obj: StatusPolicy) -> None:
        super().delete_model(request, obj)
        self.let_act(request, obj)

    def let_act(self, request: HttpRequest, policy: StatusPolicy) -> None:
        transaction.on_commit(partial(enqueue, refresh_entitlements_in, policy.status))
        concerned = Entitlement.objects.filter(status=policy.status).count()
        if concerned:
            status = policy.get_status_display()
            messages.info(
                request, f"{number(concerned)} {status}: their access follows the policy within moments."
            )

    @admin.display(description="status")
    def status_name(self, policy: StatusPolicy) -> str:
        return policy.get_status_display()

    @admin.display(description="applies")
    def when_it_applies(self, policy: StatusPolicy) -> str:
        return policy.when

    @admin.display(description="in this status now")
    def there(self, policy: StatusPolicy) -> int:
        count: int = policy.in_status  # type: ignore[attr-defined]
        return count

    @admin.display(description="on this row now")
    def reached(self, policy: StatusPolicy) -> int:
        count: int = policy.on_row  # type: ignore[attr-defined]
        return count

    @admin.display(description="effect")
    def effect(self, policy: StatusPolicy) -> str:
        """Say how many organizations a change would concern: of the row's status, or of each for a new row."""
        if policy.pk is None:
            counts = dict(Entitlement.objects.order_by().values_list("status").annotate(count=Count("pk")))
            named = [
                f"{number(counts[value])} {label}"
                for value, label in SubscriptionStatus.choices
                if counts.get(value)
            ]
            return "; ".join(named) or "No organization has a subscription."
        held = Entitlement.objects.filter(status=policy.status)
        on_row = held.filter(policy=policy).count()
        status = policy.get_status_display()
        return f"{number(held.count())} {status} now. This row applies to {on_row} of them."


def number(count: int) -> str:
    return "1 organization is" if count == 1 else f"{count:,} organizations are"
