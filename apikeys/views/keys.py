"""The customer's keys."""

from uuid import UUID, uuid4

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST
from redis.exceptions import RedisError

from accounts.tenancy import TenantRequest, organization_required
from apikeys.models import AlreadyIssued, APIKey


class KeyForm(forms.Form):
    # Names this form: sent again, by a reload or a second click, it makes no second key.
    attempt = forms.UUIDField(required=False, widget=forms.HiddenInput, initial=uuid4)
    name = forms.CharField(
        max_length=100, label="Name", help_text="Where the key is used, such as “production” or “laptop”."
    )


@never_cache  # The answer may show a new key.
@require_http_methods(["GET", "HEAD", "POST"])
@organization_required()
def keys(request: TenantRequest) -> HttpResponse:
    form = KeyForm(request.POST or None)
    secret = None
    status = 200
    if request.method == "POST":
        if not request.role.manages_keys:
            messages.error(request, "Your role may not create keys. Ask an owner, admin or developer.")
            status = 403
        elif form.is_valid():
            try:
                _, secret = request.organization.api_keys.issue(
                    organization=request.organization,
                    name=form.cleaned_data["name"],
                    user=request.user,
                    key_id=form.cleaned_data["attempt"],
                )
            except AlreadyIssued:
                messages.info(request, "This key has been created already. A key is shown only once.")
                return redirect("keys")
            except RedisError:
                messages.error(
                    request, "The key could not be created just now. Please try again in a moment."
                )
                status = 503
            else:
                form = KeyForm()
        else:
            status = 422
    return render(
        request,
        "dashboard/keys.html",
        {
            "organization": request.organization,
            "keys": request.organization.api_keys.active_first().select_related("created_by"),
            "form": form if request.method == "POST" and not secret else KeyForm(),
            "secret": secret,
            "can_manage_keys": request.role.manages_keys,
        },
        status=status,
    )


@require_POST
@organization_required(lambda role: role.manages_keys)
def revoke(request: TenantRequest, key_id: UUID) -> HttpResponse:
    key: APIKey = get_object_or_404(request.organization.api_keys, pk=key_id)
    try:
        key.revoke()
    except RedisError:
        # Better an error now than a key that is called revoked and still opens the door.
        messages.error(request, f"“{key.name}” is not revoked yet. Please try again in a moment.")
    else:
        messages.success(request, f"“{key.name}” is revoked. Calls with it are refused from now on.")
    return redirect("keys")
