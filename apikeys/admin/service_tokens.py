"""Service tokens: made here, seen once, rotated and revoked, never edited."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from redis.exceptions import RedisError
from unfold.admin import ModelAdmin
from unfold.decorators import action
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextInputWidget,
)

from accounts import clock
from accounts.models import User
from apikeys.models import ServiceToken
from apikeys.models.service_tokens import NotInUse

OVERLAPS = {
    "0": ("The old one ends now", timedelta(0)),
    "1h": ("The old one works for another hour", timedelta(hours=1)),
    "1d": ("The old one works for another day", timedelta(days=1)),
    "7d": ("The old one works for another 7 days", timedelta(days=7)),
}


class ServiceTokenForm(forms.ModelForm):
    name = forms.CharField(
        max_length=100,
        widget=UnfoldAdminTextInputWidget,
        help_text="The server that holds it, such as “edge nginx”.",
    )
    scopes = forms.MultipleChoiceField(
        choices=ServiceToken.Scope,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="What it may do.",
    )
    expires_at = forms.SplitDateTimeField(
        required=False,
        widget=UnfoldAdminSplitDateTimeWidget,
        help_text="UTC. Empty: it works until it is revoked.",
    )

    class Meta:
        model = ServiceToken
        fields = ["name", "scopes", "expires_at"]

    def clean_expires_at(self) -> Any:
        ends = self.cleaned_data["expires_at"]
        if ends and ends <= clock.now():
            raise ValidationError("This is over already.")
        return ends


class RotateForm(forms.Form):
    overlap = forms.ChoiceField(
        label="Overlap",
        choices=[(value, words) for value, (words, _) in OVERLAPS.items()],
        initial="1d",
        widget=UnfoldAdminRadioSelectWidget,
        help_text="As long as the server still has the old one.",
    )


@admin.register(ServiceToken)
class ServiceTokenAdmin(ModelAdmin):
    form = ServiceTokenForm
    list_display = ["name", "prefix", "scope_names", "created_at", "last_used_at", "expires_at", "active"]
    list_filter = [("revoked_at", admin.EmptyFieldListFilter)]
    search_fields = ["name", "prefix"]
    actions_detail = ["rotate", "revoke"]
    facts = [
        "name",
        "prefix",
        "scope_names",
        "created_at",
        "created_by",
        "last_used_at",
        "expires_at",
        "revoked_at",
        "replaced_by",
    ]

    def get_fields(self, request: HttpRequest, obj: ServiceToken | None = None) -> Any:
        return self.facts if obj else ["name", "scopes", "expires_at"]

    def get_readonly_fields(self, request: HttpRequest, obj: ServiceToken | None = None) -> Any:
        return self.facts if obj else []

    @admin.display(description="scopes")
    def scope_names(self, token: ServiceToken) -> str:
        return ", ".join(token.scopes)

    @admin.display(boolean=True)
    def active(self, token: ServiceToken) -> bool:
        return token.is_active

    def has_change_permission(self, request: HttpRequest, obj: ServiceToken | None = None) -> bool:
        return False  # Nothing of it can be edited; rotate and revoke are actions.

    def has_manage_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm("apikeys.change_servicetoken")

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        # One way to save: every one of them answers with the token.
        fewer = {"show_save_and_add_another": False, "show_save_and_continue": False}
        return super().add_view(request, form_url, {**(extra_context or {}), **fewer})

    def has_delete_permission(self, request: HttpRequest, obj: ServiceToken | None = None) -> bool:
        return False  # A revoked one stays, to be recognized by its first characters.

    def save_model(self, request: HttpRequest, obj: ServiceToken, form: Any, change: bool) -> None:
        token, secret = ServiceToken.objects.issue(
            name=obj.name, scopes=obj.scopes, user=staff(request), expires_at=obj.expires_at
        )
        obj.pk = token.pk
        obj.refresh_from_db()
        request.new_service_token = secret  # type: ignore[attr-defined]  # For the page that answers, and no other.

    def response_add(
        self, request: HttpRequest, obj: ServiceToken, post_url_continue: Any = None
    ) -> HttpResponse:
        return self.show(request, obj, secret=request.new_service_token)  # type: ignore[attr-defined]

    @action(description="Rotate…", url_path="rotate", icon="autorenew", permissions=["manage"])
    def rotate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        token = self.find(request, object_id)
        form = RotateForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                successor, secret = token.rotate(
                    overlap=OVERLAPS[form.cleaned_data["overlap"]][1], user=staff(request)
                )
            except NotInUse as error:
                messages.error(request, str(error))
                return redirect(page_of(token))
            except RedisError:
                messages.error(
                    request, "It is not rotated yet: Redis is out of reach. Try again in a moment."
                )
                return redirect(page_of(token))
            self.log_change(request, token, f"Rotated: {successor} follows.")
            self.log_addition(request, successor, f"Follows {token}.")
            return self.show(request, successor, secret=secret)
        return self.page(request, token, title=f"Rotate {token.name}", form=form)

    @action(description="Revoke…", url_path="revoke", icon="block", permissions=["manage"])
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        token = self.find(request, object_id)
        if request.method != "POST":
            return self.page(request, token, title=f"Revoke {token.name}?", form=None)
        try:
            token.revoke()
        except RedisError:
            messages.error(
                request, f"“{token}” is not revoked yet: Redis is out of reach. Try again in a moment."
            )
        else:
            self.log_change(request, token, "Revoked")
            messages.success(request, f"“{token}” is revoked. Calls with it are refused from now on.")
        return redirect(page_of(token))

    def find(self, request: HttpRequest, object_id: str) -> ServiceToken:
        token: ServiceToken | None = self.get_object(request, object_id)
        if token is None:
            raise Http404(f"There is no service token {object_id}.")
        if not self.has_manage_permission(request):
            raise PermissionDenied
        return token

    def show(self, request: HttpRequest, token: ServiceToken, *, secret: str) -> HttpResponse:
        """Answer with the page that shows the secret. It is kept nowhere: neither in the session nor in a message."""
        return self.page(request, token, title=f"{token.name} is made", form=None, secret=secret)

    def page(
        self,
        request: HttpRequest,
        token: ServiceToken,
        *,
        title: str,
        form: forms.Form | None,
        secret: str = "",
    ) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "original": token,
            "token": token,
            "form": form,
            "secret": secret,
            "back": page_of(token),
        }
        return TemplateResponse(request, "admin/apikeys/service_token.html", context)


def page_of(token: ServiceToken) -> str:
    return reverse("admin:apikeys_servicetoken_change", args=[token.pk])


def staff(request: HttpRequest) -> User:
    user: Any = request.user  # The back office lets nobody in without one.
    return user
