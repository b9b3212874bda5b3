"""The public form by which whoever finds a key has it revoked."""

from django import forms
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods
from redis.exceptions import RedisError

from apikeys.leaks import revoke_leaked


class LeakForm(forms.Form):
    # Not filled in again after an error: the page is no place for a key either.
    found = forms.CharField(
        max_length=20_000,
        label="The key that you found",
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false", "autocomplete": "off"}),
        help_text="In full, or the lines around it: every key in them is revoked.",
    )


@login_not_required
@never_cache
@sensitive_post_parameters("found")
@require_http_methods(["GET", "HEAD", "POST"])
def leaked_key(request: HttpRequest) -> HttpResponse:
    """Revoke the keys that are pasted here. The answer is the same whether they exist or not."""
    form = LeakForm(request.POST) if request.method == "POST" else LeakForm()
    context, status = {"form": form, "is_done": False, "failed": False}, 200
    if request.method == "POST":
        if form.is_valid():
            try:
                revoke_leaked(form.cleaned_data["found"])
            except RedisError:
                context["failed"], status = True, 503
            else:
                context["is_done"] = True
        else:
            status = 422
    return render(request, "apikeys/leaked_key.html", context, status=status)
