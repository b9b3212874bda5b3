"""One way to reach Stripe: time-outs, retries, addresses, and Stripe's errors translated to ours."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import stripe
from django.conf import settings

from billing.errors import StripeAccessRefused, StripeRejected, StripeUnavailable

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10
RETRIES = 2  # The client sends one idempotency key over all its tries.


def new_http_client() -> stripe.HTTPClient:
    # dj-stripe calls Stripe inside the webhook's transaction: the library's own 80 s would hold it open.
    return stripe.RequestsClient(timeout=TIMEOUT_SECONDS)


def use_http_client(http_client: stripe.HTTPClient) -> None:
    """Send every call through `http_client`: ours by StripeClient, and dj-stripe's at module level."""
    stripe.default_http_client = http_client
    stripe.max_network_retries = RETRIES
    get_client.cache_clear()


@cache
def get_client() -> stripe.StripeClient:
    return new_client(settings.STRIPE_SECRET_KEY)


def new_client(key: str) -> stripe.StripeClient:
    """Return a client with another key than the one that everything else goes by."""
    # StripeClient ignores the module-level settings: each is given again.
    base = settings.STRIPE_API_BASE
    addresses: stripe._base_address.BaseAddresses = {}
    if base != stripe.DEFAULT_API_BASE:
        addresses = {"api": base, "files": base, "connect": base, "meter_events": base}
    return stripe.StripeClient(
        key,
        base_addresses=addresses,
        http_client=stripe.default_http_client,
        max_network_retries=RETRIES,
    )


def api_version() -> str:
    """Return the version of Stripe's API that everything here speaks."""
    return str(stripe.api_version)


def metadata_of(data: stripe.StripeObject) -> dict[str, str]:
    # Objects of /v2 may come without the field.
    return dict(getattr(data, "metadata", None) or {})


def is_elsewhere() -> bool:
    """Whether calls go to a stand-in: no real money moves."""
    return bool(settings.STRIPE_API_BASE != stripe.DEFAULT_API_BASE)


def is_rate_limit(error: StripeUnavailable) -> bool:
    """Whether Stripe asked for fewer calls. It answers alike for one object that is in use: that passes."""
    cause = error.__cause__
    return isinstance(cause, stripe.RateLimitError) and cause.code != "lock_timeout"


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise StripeUnavailable where trying again may help, else StripeRejected."""
    try:
        yield
    except (stripe.APIConnectionError, stripe.RateLimitError) as error:
        raise StripeUnavailable(
            "The payment provider cannot be reached right now. Please try again."
        ) from error
    except (stripe.AuthenticationError, stripe.PermissionError) as error:
        # Nothing is wrong with what was asked: usage refused for a key that has just been rotated must wait
        # for the new one, not count as rejected for good.
        logger.error(
            "Stripe refuses access: check STRIPE_SECRET_KEY (%s)", error.code or type(error).__name__
        )
        raise StripeAccessRefused("The payment provider cannot be used right now.") from error
    except stripe.StripeError as error:
        if error.http_status is None or error.http_status >= 500 or error.http_status == 409:
            raise StripeUnavailable(
                "The payment provider has a problem right now. Please try again."
            ) from error
        raise StripeRejected(
            error.user_message or str(error), code=error.code or "", param=getattr(error, "param", None) or ""
        ) from error
