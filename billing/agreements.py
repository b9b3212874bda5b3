"""What a customer was shown before they agreed to it: a signed statement that travels through their browser."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core import signing

from accounts import clock
from accounts.models import Organization
from billing.errors import PreviewOutdated
from billing.models import Plan

SALT = "billing.agreements"
LASTS = timedelta(minutes=30)
OUTDATED = "This preview is no longer current. Please look at the new one."


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """One preview, as far as it was a promise. `amount_due` is in minor units, `proration_date` in unix seconds.

    `from_price` and `to_price` are the fees' ids at Stripe; `fixed` is the fingerprint of what is charged.
    """

    organization: str
    subscription: str
    plan: str
    interval: str
    proration_date: int
    amount_due: int
    currency: str
    from_price: str
    to_price: str
    fixed: str = ""
    shown_at: float = 0.0


def sign(agreement: Agreement) -> str:
    """Return the token, which `read` takes for half an hour."""
    return signing.dumps(asdict(agreement) | {"shown_at": clock.now().timestamp()}, salt=SALT, compress=True)


def read(token: str, *, organization: Organization, plan: Plan, interval: str) -> Agreement:
    """Return what was shown. Raises PreviewOutdated where it was something else, or too long ago."""
    try:
        payload: dict[str, Any] = signing.loads(token, salt=SALT)
        agreement = Agreement(**payload)
    except (signing.BadSignature, TypeError) as error:
        raise PreviewOutdated(OUTDATED) from error
    asked = (str(organization.pk), plan.slug, interval)
    age = clock.now() - datetime.fromtimestamp(agreement.shown_at, UTC)
    if (agreement.organization, agreement.plan, agreement.interval) != asked or age > LASTS:
        raise PreviewOutdated(OUTDATED)
    return agreement
