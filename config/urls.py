from django.conf import settings
from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView
from rest_framework.negotiation import DefaultContentNegotiation

from apikeys.api.metrics import Metrics
from apikeys.api.urls import fallback
from billing import endpoints
from config import health

# The keys' first: it answers some of billing's addresses with a key beside what billing says.
api: list[URLPattern | URLResolver] = [
    path("", include("apikeys.api.urls")),
    path("", include("billing.api.urls")),
    path("", include("usage.api.urls")),
    *fallback,
]

# It comes as YAML and as JSON, which its own `format` chooses between.
SCHEMA = SpectacularAPIView.as_view(content_negotiation_class=DefaultContentNegotiation)

urlpatterns = [
    # First, because Django tries one address after the other, and this one is asked for at each call of a customer's.
    path("api/v1/", include(api)),
    path("", include("billing.urls")),
    path("", include("usage.urls")),
    path("", include("apikeys.urls")),
    path("", include("allauth.account.urls")),
    path("api/schema/", login_not_required(SCHEMA), name="schema"),
    path("api/docs/", login_not_required(SpectacularSwaggerView.as_view(url_name="schema")), name="api-docs"),
    path("docs/", login_not_required(RedirectView.as_view(pattern_name="api-docs")), name="docs"),
    path("stripe/webhook/<uuid:uuid>/", endpoints.WebhookView.as_view(), name="stripe-webhook"),
    path("stripe/thin/<uuid:uuid>/", endpoints.thin_events, name="stripe-thin"),
    path("admin/", admin.site.urls),
    # Browsers ask for it on pages that name no icon, such as the API docs.
    path(
        "favicon.ico",
        login_not_required(RedirectView.as_view(url=f"{settings.STATIC_URL}favicon.svg")),
        name="favicon",
    ),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", login_not_required(Metrics.as_view()), name="metrics"),
]

handler500 = "config.errors.server_error"
