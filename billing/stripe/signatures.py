"""Whether a webhook is Stripe's, told without storing anything of it."""

from uuid import UUID

import stripe
from djstripe import models as djstripe


def is_signed(body: bytes, signature: str, *, endpoint: UUID) -> bool:
    """Return whether `signature` is Stripe's of `body`, by the endpoint's secret. Its age is not looked at."""
    secret = djstripe.WebhookEndpoint.objects.filter(djstripe_uuid=endpoint).values_list("secret", flat=True)
    try:
        return bool(stripe.WebhookSignature.verify_header(body.decode(), signature, secret.get()))
    except (stripe.SignatureVerificationError, UnicodeDecodeError, djstripe.WebhookEndpoint.DoesNotExist):
        return False
