from django.contrib.auth.decorators import login_not_required
from django.urls import URLPattern, path

from usage.api.proof import UsageProof

# The gate decides who may come in, not the session: each view is out of LoginRequiredMiddleware's reach.
urlpatterns: list[URLPattern] = [
    path("usage/proof", login_not_required(UsageProof.as_view()), name="api-usage-proof"),
]
