"""The customer's keys."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec
from uuid import UUID
from zoneinfo import ZoneInfo

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST
from redis.exceptions import RedisError

from accounts.tenancy import TenantRequest, organization_required
from apikeys.errors import AlreadyIssued, InvalidRestriction, KeyLimitReached, KeysError
from apikeys.handover import look_at
from apikeys.models import APIKey
from apikeys.rotation import extend, longer_spans, rotate
from apikeys.sightings import find_sightings, last_use
from apikeys.views.key_forms import ExtensionForm, NewKeyForm, RestrictionsForm, RotationForm, initial_of
from billing.entitlements import current_entitlement

P = ParamSpec("P")
View = Callable[Concatenate[TenantRequest, P], HttpResponse]
LATER = "Please try again in a moment."


def in_their_time(view: View[P]) -> View[P]:
    """Show times, and read them, in the organization's own zone."""

    @wraps(view)
    def wrapped(request: TenantRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        with timezone.override(ZoneInfo(request.organization.time_zone)):
            return view(request, *args, **kwargs)

    return wrapped


@never_cache  # The answer may show a new key.
@require_http_methods(["GET", "HEAD", "POST"])
@organization_required()
@in_their_time
def keys(request: TenantRequest) -> HttpResponse:
    if request.method != "POST":
        return show_keys(request)
    if not request.role.manages_keys:
        messages.error(request, "Your role may not create keys. Ask an owner, admin or developer.")
        return show_keys(request, status=403)
    return create(request, NewKeyForm(request.POST))


def create(request: TenantRequest, form: NewKeyForm) -> HttpResponse:
    if not form.is_valid():
        return show_keys(request, form=form, status=422)
    status = 422
    try:
        key, secret = request.organization.api_keys.issue(
            organization=request.organization,
            user=request.user,
            key_id=form.cleaned_data["attempt"],
            **form.restrictions,
        )
    except AlreadyIssued:
        messages.info(request, "This key has been created already. A key is shown only once.")
        return redirect("keys")
    except InvalidRestriction as error:
        form.add_error(error.field, str(error))
    except KeyLimitReached:
        status = 409  # The page says so by itself.
    except RedisError:
        messages.error(request, f"The key could not be created just now. {LATER}")
        status = 503
    else:
        return show_keys(request, new=key, secret=secret)
    return show_keys(request, form=form, status=status)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@organization_required()
@in_their_time
def key(request: TenantRequest, key_id: UUID) -> HttpResponse:
    """One key: what is known of it, and what can be changed of it."""
    found: APIKey = get_object_or_404(request.organization.api_keys.select_related("replaced_by"), pk=key_id)
    if request.method != "POST":
        return show_key(request, found)
    if not request.role.manages_keys:
        messages.error(request, "Your role may not change keys. Ask an owner, admin or developer.")
        return show_key(request, found, status=403)
    form = RestrictionsForm(request.POST, initial=initial_of(found))
    if form.is_valid():
        # The field shows whole minutes: what was not touched stays as exact as it was.
        changes = {name: value for name, value in form.restrictions.items() if name in form.changed_data}
        try:
            found.change(**changes)
        except InvalidRestriction as error:
            form.add_error(error.field, str(error))
        except KeysError as error:
            messages.error(request, str(error))
            return redirect("key", key_id)
        except RedisError:
            messages.error(request, f"Nothing has been changed. {LATER}")
            return show_key(request, found, form=form, status=503)
        else:
            messages.success(request, f"“{found.name}” is changed. It counts from its next call on.")
            return redirect("key", key_id)
    return show_key(request, found, form=form, status=422)


@never_cache
@require_POST
@organization_required(lambda role: role.manages_keys)
@in_their_time
def rotate_key(request: TenantRequest, key_id: UUID) -> HttpResponse:
    old: APIKey = get_object_or_404(request.organization.api_keys, pk=key_id)
    form = RotationForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Choose how long the old key goes on working.")
        return redirect("key", key_id)
    try:
        new, secret = rotate(
            old, overlap=form.cleaned_data["overlap"], user=request.user, key_id=form.cleaned_data["attempt"]
        )
    except AlreadyIssued:
        messages.info(request, "This key has been rotated already. The new one is shown only once.")
        return redirect("keys")
    except KeysError as error:
        messages.error(request, str(error))
        return redirect("key", key_id)
    except RedisError:
        messages.error(request, f"“{old.name}” is not rotated. {LATER}")
        return redirect("key", key_id)
    return show_keys(request, new=new, secret=secret)


@require_POST
@organization_required(lambda role: role.manages_keys)
@in_their_time
def extend_key(request: TenantRequest, key_id: UUID) -> HttpResponse:
    old: APIKey = get_object_or_404(request.organization.api_keys, pk=key_id)
    form = ExtensionForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Choose for how long the old key goes on working.")
        return redirect("keys")
    with said_on_the_next_page(request, failed=f"“{old.name}” is not extended."):
        extend(old, span=form.cleaned_data["span"])
        end = timezone.localtime(old.expires_at)
        messages.success(request, f"“{old.name}” works until {end:%-d %B %Y, %H:%M} {end.tzname()}.")
    return redirect("keys")


@require_POST
@organization_required(lambda role: role.manages_keys)
def revoke(request: TenantRequest, key_id: UUID) -> HttpResponse:
    key: APIKey = get_object_or_404(request.organization.api_keys, pk=key_id)
    # Better an error now than a key that is called revoked and still opens the door.
    with said_on_the_next_page(request, failed=f"“{key.name}” is not revoked yet."):
        key.revoke()
        messages.success(request, f"“{key.name}” is revoked. Calls with it are refused from now on.")
    return redirect("keys")


@contextmanager
def said_on_the_next_page(request: TenantRequest, *, failed: str) -> Iterator[None]:
    try:
        yield
    except KeysError as error:
        messages.error(request, str(error))
    except RedisError:
        messages.error(request, f"{failed} {LATER}")


def show_keys(
    request: TenantRequest,
    *,
    form: NewKeyForm | None = None,
    new: APIKey | None = None,
    secret: str | None = None,
    status: int = 200,
) -> HttpResponse:
    organization = request.organization
    rows = list(organization.api_keys.active_first().select_related("created_by", "replaced_by"))
    sightings = find_sightings(rows, most=1)
    limit = current_entitlement(organization).api_key_limit
    counted = organization.api_keys.counted().count()
    return render(
        request,
        "dashboard/keys.html",
        {
            "organization": organization,
            "keys": [{"key": row, "last_use": last_use(row, sightings)} for row in rows],
            "handovers": [shown_handover(row) for row in rows if row.status == "replaced"],
            "form": form or NewKeyForm(),
            "new": new,
            "secret": secret,
            "limit": limit,
            "counted": counted,
            "is_full": limit is not None and counted >= limit,
            "can_manage_keys": request.role.manages_keys,
        },
        status=status,
    )


def show_key(
    request: TenantRequest, key: APIKey, *, form: RestrictionsForm | None = None, status: int = 200
) -> HttpResponse:
    return render(
        request,
        "dashboard/key.html",
        {
            "organization": request.organization,
            "key": key,
            "last_use": last_use(key, find_sightings([key], most=1)),
            "handover": shown_handover(key) if key.status == "replaced" else None,
            "form": form or RestrictionsForm(initial=initial_of(key)),
            "rotation": RotationForm(),
            "can_manage_keys": request.role.manages_keys,
        },
        status=status,
    )


def shown_handover(old: APIKey) -> dict[str, Any]:
    spans = [(int(span.total_seconds()), label) for span, label in longer_spans(old).items()]
    return {"seen": look_at(old), "spans": spans}
