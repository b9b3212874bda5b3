from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminTextInputWidget

from billing import setting_up
from billing.errors import BillingError
from billing.models import BillingSettings


class DaysField(forms.CharField):
    """Numbers of days, written as in “3, 5, 7”."""

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(str(day) for day in value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value) or ""
        try:
            return [int(day) for day in text.replace(",", " ").split()]
        except ValueError:
            raise forms.ValidationError("List the days as numbers, such as 3, 5, 7.") from None

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(self.prepare_value(initial or []) != data)


class BillingSettingsForm(forms.ModelForm):
    retry_days = DaysField(
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text=BillingSettings._meta.get_field("retry_days").help_text + " Such as 3, 5, 7.",
    )


@admin.register(BillingSettings)
class BillingSettingsAdmin(ModelAdmin):
    """One row, which is always there."""

    form = BillingSettingsForm
    fieldsets = [
        ("Checkout", {"fields": ["allow_promotion_codes", "collect_tax_ids", "automatic_tax"]}),
        ("As you have set it at Stripe", {"fields": ["retry_days", "after_retries"]}),
    ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: BillingSettings | None = None) -> bool:
        return False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return redirect("admin:billing_billingsettings_change", BillingSettings.load().pk)

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> BillingSettings | None:
        BillingSettings.load()
        return super().get_object(request, object_id, from_field)

    def save_model(self, request: HttpRequest, obj: BillingSettings, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if "automatic_tax" in form.changed_data and obj.automatic_tax:
            warn_of_tax(request)


def warn_of_tax(request: HttpRequest) -> None:
    """Say at once what is missing for automatic tax: every checkout would fail otherwise."""
    try:
        outcome, detail = setting_up.check_tax()
    except BillingError as error:
        messages.warning(request, f"Whether Stripe Tax is ready could not be found out: {error}")
        return
    if outcome != "unchanged":
        messages.warning(request, detail)
