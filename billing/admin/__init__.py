"""The back office of billing, a module a noun. Django finds them by importing this package."""

from django.contrib import admin

# dj-stripe's own pages let staff without any permission cancel a subscription at Stripe, and break on
# today's Stripe objects. It stands before billing in INSTALLED_APPS, so that all of them are there by now.
admin.site.unregister([model for model in list(admin.site._registry) if model._meta.app_label == "djstripe"])

from billing.admin import (  # noqa: E402, F401  (each registers its models)
    entitlements,
    operations,
    plans,
    settings,
    thin_events,
)
