from django.contrib.auth.decorators import login_not_required
from django.urls import path

from billing.api.invoices import InvoiceDetail, Invoices
from billing.api.plans import Plans
from billing.api.sessions import CheckoutSessions, PortalSessions
from billing.api.spend_caps import SpendCaps
from billing.api.subscription import CancelPreview, ChangePreview, Resume, Subscription, Undo

# The gate decides who may come in, not the session: out of LoginRequiredMiddleware's reach.
urlpatterns = [
    path("plans", login_not_required(Plans.as_view()), name="api-plans"),
    path("subscription", login_not_required(Subscription.as_view()), name="api-subscription"),
    path("subscription/preview", login_not_required(ChangePreview.as_view()), name="api-preview"),
    path(
        "subscription/cancel-preview",
        login_not_required(CancelPreview.as_view()),
        name="api-cancel-preview",
    ),
    path("subscription/resume", login_not_required(Resume.as_view()), name="api-resume"),
    path("subscription/undo", login_not_required(Undo.as_view()), name="api-undo"),
    path("checkout-sessions", login_not_required(CheckoutSessions.as_view()), name="api-checkout-sessions"),
    path("portal-sessions", login_not_required(PortalSessions.as_view()), name="api-portal-sessions"),
    path("invoices", login_not_required(Invoices.as_view()), name="api-invoices"),
    path("invoices/<str:invoice_id>", login_not_required(InvoiceDetail.as_view()), name="api-invoice"),
    path("spend-caps/<str:meter>", login_not_required(SpendCaps.as_view()), name="api-spend-cap"),
]
