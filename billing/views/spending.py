"""The customer's own cap on what goes beyond the plan."""

from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from accounts.tenancy import TenantRequest, organization_required
from billing.amounts import parse_amount, write_amount
from billing.models import Meter
from billing.spend_caps import MOST, cap_state, remove_spend_cap, set_spend_cap


class SpendCapForm(forms.Form):
    amount = forms.CharField(
        max_length=40,
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
        error_messages={"required": "Write an amount; 0 lets through what the plan includes and no more."},
    )

    def __init__(self, *args: Any, currency: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.currency = currency
        self.fields["amount"].label = f"At most, each month, in {currency.upper()}"
        self.fields[
            "amount"
        ].help_text = "Beyond the plan’s fee, before taxes and discounts. 0: only what is included."

    def clean_amount(self) -> int:
        try:
            amount = parse_amount(self.cleaned_data["amount"], currency=self.currency)
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error
        if amount > MOST:
            raise forms.ValidationError("That is more than any invoice: remove the cap to have none.")
        return amount


@require_http_methods(["GET", "HEAD", "POST"])
@organization_required(lambda role: role.manages_billing)
def spend_cap(request: TenantRequest, meter: str) -> HttpResponse:
    """Ask for the cap of a meter, and set it."""
    state = cap_state(request.organization, get_object_or_404(Meter, slug=meter))
    currency = state.currency
    if not state.can_be_set or currency is None:
        raise Http404("The plan bills nothing beyond what it includes of this.")
    kept = state.cap if state.cap and not state.is_in_other_currency else None
    initial = {"amount": write_amount(kept.amount, currency=currency)} if kept else {}
    form = SpendCapForm(request.POST or None, initial=initial, currency=currency)
    if request.method == "POST" and form.is_valid():
        amount = form.cleaned_data["amount"]
        set_spend_cap(request.organization, state.meter, amount=amount, currency=currency, by=request.user)
        state = cap_state(request.organization, state.meter)
        messages.success(request, f"Spend cap for {state.meter}: {state.sentence}")
        return redirect("billing")
    status = 422 if form.errors else 200
    return render(request, "billing/spend_cap.html", {"state": state, "form": form}, status=status)


@require_POST
@organization_required(lambda role: role.manages_billing)
def remove(request: TenantRequest, meter: str) -> HttpResponse:
    found = get_object_or_404(Meter, slug=meter)
    if remove_spend_cap(request.organization, found):
        messages.success(request, f"The spend cap for {found} is gone: what goes beyond the plan is billed.")
    return redirect("billing")
