"""The first key, offered at the end of sign-up and of Checkout."""

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods
from redis.exceptions import RedisError

from accounts.tenancy import TenantRequest, organization_required
from apikeys.errors import KeyLimitReached
from apikeys.first_key import issue_first_key, lacks_key


@never_cache  # The answer to a POST shows the key.
@require_http_methods(["GET", "HEAD", "POST"])
@organization_required(lambda role: role.manages_keys)
def first_key(request: TenantRequest) -> HttpResponse:
    """Offer the first key, and make it when asked to: once, and never by a GET."""
    if request.method != "POST":
        if not lacks_key(request.organization):
            return redirect("keys")
        return show(request)
    try:
        issued = issue_first_key(request.organization, user=request.user)
    except KeyLimitReached as error:
        messages.error(request, str(error))
        return redirect("keys")
    except RedisError:
        messages.error(request, "The key could not be created just now. Please try again in a moment.")
        return show(request, status=503)
    if issued is None:
        messages.info(
            request,
            "Your first key has been created already. A key is shown only once: rotate it for another.",
        )
        return redirect("keys")
    return show(request, secret=issued[1])


def show(request: TenantRequest, *, secret: str | None = None, status: int = 200) -> HttpResponse:
    curl = f'curl -H "Authorization: Bearer {secret}" {settings.API_BASE_URL}/api/v1/echo' if secret else ""
    context = {"organization": request.organization, "secret": secret, "curl_example": curl}
    return render(request, "dashboard/first_key.html", context, status=status)
