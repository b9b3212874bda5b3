"""The addresses of our own pages, for those who come back to them from elsewhere."""

from urllib.parse import urljoin

from django.conf import settings
from django.urls import reverse


def absolute(path: str) -> str:
    return urljoin(f"{settings.FRONTEND_URL}/", path)


def checkout_return_url() -> str:
    """Return where Checkout sends the customer afterwards; Stripe fills the session's id in."""
    return absolute(reverse("checkout-return")) + "?session_id={CHECKOUT_SESSION_ID}"
