"""The back office of billing, a module a noun. Django finds them by importing this package."""

from django.contrib import admin

# dj-stripe's own pages let staff without any permission cancel a subscription at Stripe, and break on
# today's Stripe objects. It stands before billing in INSTALLED_APPS, so that all of them are there by now.
admin.site.unregister([model for model in list(admin.site._registry) if model._meta.app_label == "djstripe"])

from billing.admin import (  # noqa: E402  (each registers its models)
    customers,  # noqa: F401
    entitlements,  # noqa: F401
    meters,  # noqa: F401
    notices,  # noqa: F401
    operations,  # noqa: F401
    overrides,  # noqa: F401
    plans,  # noqa: F401
    policies,  # noqa: F401
    repairs,  # noqa: F401
    settings,  # noqa: F401
    thin_events,  # noqa: F401
    trials,  # noqa: F401
)
