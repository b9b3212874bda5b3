from django.urls import path

from billing.views import changing, ending, overview, portal, pricing, spending, subscribing

urlpatterns = [
    path("", pricing.home, name="home"),
    path("pricing/", pricing.pricing, name="pricing"),
    path("dashboard/billing/", overview.billing, name="billing"),
    path("dashboard/billing/checkout/", subscribing.checkout, name="checkout"),
    path("dashboard/billing/return/", subscribing.checkout_return, name="checkout-return"),
    path("dashboard/billing/change/", changing.change, name="billing-change"),
    path("dashboard/billing/undo/", changing.undo, name="billing-undo"),
    path("dashboard/billing/cancel/", ending.cancel, name="billing-cancel"),
    path("dashboard/billing/resume/", ending.resume, name="billing-resume"),
    path("dashboard/billing/spend-caps/<slug:meter>/", spending.spend_cap, name="spend-cap"),
    path(
        "dashboard/billing/spend-caps/<slug:meter>/remove/",
        spending.remove,
        name="spend-cap-remove",
    ),
    path("dashboard/billing/portal/", portal.portal, name="billing-portal"),
    path("dashboard/billing/portal/return/", portal.portal_return, name="portal-return"),
]
