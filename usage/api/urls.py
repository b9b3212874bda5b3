from django.contrib.auth.decorators import login_not_required
from django.urls import URLPattern, path

from usage.api.proof import UsageProof
from usage.api.usage import Export, Timeseries, Usage

# The gate decides who may come in, not the session: each view is out of LoginRequiredMiddleware's reach.
urlpatterns: list[URLPattern] = [
    path("usage", login_not_required(Usage.as_view()), name="api-usage"),
    path("usage/timeseries", login_not_required(Timeseries.as_view()), name="api-usage-timeseries"),
    path("usage/export", login_not_required(Export.as_view()), name="api-usage-export"),
    path("usage/proof", login_not_required(UsageProof.as_view()), name="api-usage-proof"),
]
