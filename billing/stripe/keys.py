"""The secret key: whose it is, what it may do, and that no older one stays in use.

dj-stripe keeps a copy of each key in its table `djstripe_apikey` and prefers the oldest it finds there to the one in
the settings: after a rotation webhooks would go on with a key that Stripe refuses.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import stripe
from django.conf import settings
from djstripe import models as djstripe
from djstripe.enums import APIKeyType

from billing.errors import KeyUnusable
from billing.stripe.client import get_client, translated_errors

# An id that no object has: a write to it fails for want of the object, or before that for want of the permission.
NOBODY = "tollgate_none"
PERMISSION = re.compile(r"'(?:rak_)?([a-z0-9_]+_(?:read|write))'")
ACCOUNT = re.compile(r"account '(acct_[A-Za-z0-9]+)'")
# Long keys begin, after a 5, with what their account's id ends with.
EMBEDDED_ACCOUNT = re.compile(r"[a-z]{2}_(?:test|live)_5(1[A-Za-z0-9]{15})[A-Za-z0-9]{40,}")


@dataclass(frozen=True, slots=True)
class KeyReport:
    """Whose key it is. `name` is empty where the key must not read it; `missing` are Stripe's names of permissions."""

    account_id: str
    name: str
    is_live: bool
    is_restricted: bool
    missing: tuple[str, ...] = ()


def is_restricted() -> bool:
    return bool(settings.STRIPE_SECRET_KEY.startswith("rk_"))


def inspect_key(*, with_permissions: bool = True) -> KeyReport:
    """Ask Stripe whose key STRIPE_SECRET_KEY is, and `with_permissions` what a restricted one lacks.

    Raises StripeAccessRefused for a key that Stripe does not accept, or StripeUnavailable.
    """
    with translated_errors():
        account_id, name = find_account()
        missing = missing_permissions(get_client()) if with_permissions and is_restricted() else []
    return KeyReport(account_id, name, settings.STRIPE_LIVE_MODE, is_restricted(), tuple(missing))


def find_account() -> tuple[str, str]:
    """Return id and name of the key's account. A restricted key need not be allowed to: the refusal names the id."""
    try:
        account = get_client().v1.accounts.retrieve_current()
    except stripe.PermissionError as error:
        found = ACCOUNT.search(str(error))
        if not is_restricted() or found is None:
            raise
        return found[1], ""
    data = account.to_dict()
    dashboard = (data.get("settings") or {}).get("dashboard") or {}
    profile = data.get("business_profile") or {}
    return account.id, dashboard.get("display_name") or profile.get("name") or ""


def missing_permissions(client: stripe.StripeClient) -> list[str]:
    """Return the permissions that a restricted key lacks of those that Tollgate needs, by Stripe's names.

    Each kind of read is tried, and each kind of write to an object that is not there: Stripe checks the permission
    before it looks the object up, so that nothing is changed.
    """
    missing: dict[str, None] = {}
    for attempt in attempts(client):
        try:
            attempt()
        except stripe.PermissionError as error:
            missing |= dict.fromkeys(PERMISSION.findall(str(error)) or [str(error)])
        except stripe.InvalidRequestError:
            continue  # Allowed: Stripe got as far as to miss the object.
    return list(missing)


def attempts(client: stripe.StripeClient) -> list[Callable[[], Any]]:
    """Return one call for each kind of thing that Tollgate reads, then one for each that it writes."""
    v1, v2 = client.v1, client.v2
    one: Any = {"limit": 1}
    nobody: Any = {"metadata": {"tollgate": "permission check"}}
    return [
        lambda: v1.customers.list(one),
        lambda: v1.products.list(one),
        lambda: v1.products.features.list(NOBODY, one),  # dj-stripe's, with each product it copies.
        lambda: v1.prices.list(one),
        lambda: v1.subscriptions.list(one),
        lambda: v1.subscription_schedules.list(one),
        lambda: v1.invoices.list(one),
        lambda: v1.invoice_payments.list(one),
        lambda: v1.payment_methods.retrieve(NOBODY),
        lambda: v1.payment_intents.retrieve(NOBODY),
        lambda: v1.setup_intents.retrieve(NOBODY),
        lambda: v1.charges.retrieve(NOBODY),
        lambda: v1.checkout.sessions.list(one),
        lambda: v1.billing_portal.configurations.list(one),
        lambda: v1.billing.meters.list(one),
        lambda: v1.coupons.list(one),
        lambda: v1.promotion_codes.list(one),
        lambda: v1.events.list(one),
        lambda: v1.webhook_endpoints.list(one),
        lambda: v2.core.event_destinations.list(one),
        lambda: v2.core.events.retrieve(NOBODY),
        v1.tax.settings.retrieve,
        lambda: v1.customers.update(NOBODY, nobody),
        lambda: v1.products.update(NOBODY, nobody),
        lambda: v1.prices.update(NOBODY, nobody),
        lambda: v1.subscriptions.update(NOBODY, nobody),
        lambda: v1.invoices.update(NOBODY, nobody),
        lambda: v1.checkout.sessions.expire(NOBODY),
        lambda: v1.billing_portal.configurations.update(NOBODY, nobody),
        lambda: v1.billing.meters.update(NOBODY, {"display_name": NOBODY}),
        lambda: v1.billing.meter_event_adjustments.create(
            {"type": "cancel", "event_name": NOBODY, "cancel": {"identifier": NOBODY}}
        ),
        lambda: v1.webhook_endpoints.update(NOBODY, nobody),
    ]


def account_in(key: str) -> str | None:
    """Return the account's id where the key shows it, as those of today do; None where it cannot be told."""
    found = EMBEDDED_ACCOUNT.fullmatch(key)
    return f"acct_{found[1]}" if found else None


def foreign_publishable_key(account_id: str) -> str | None:
    """Return the account that STRIPE_PUBLISHABLE_KEY is of where it surely is another than `account_id`, else None."""
    # Only where the secret key shows the account too: then the form of this account's keys is known.
    shown = account_in(settings.STRIPE_PUBLISHABLE_KEY)
    proven = account_in(settings.STRIPE_SECRET_KEY) == account_id
    return shown if proven and shown is not None and shown != account_id else None


def forget_other_keys() -> int:
    """Remove dj-stripe's copies of all secret keys but the present one; return how many there were."""
    others = djstripe.APIKey.objects.exclude(secret=settings.STRIPE_SECRET_KEY)
    deleted, _ = others.filter(type__in=[APIKeyType.secret, APIKeyType.restricted]).delete()
    return int(deleted)


def settle_keys() -> int:
    """Let dj-stripe go by STRIPE_SECRET_KEY and no other; return how many others were forgotten.

    Cheap where all is well: to be called before every webhook. Raises StripeUnavailable where a restricted key is met
    for the first time and Stripe cannot be asked whose it is.
    """
    forgotten = forget_other_keys()
    known = djstripe.APIKey.objects.filter(
        secret=settings.STRIPE_SECRET_KEY, djstripe_owner_account__isnull=False
    )
    if is_restricted() and not known.exists():
        with translated_errors():
            remember_key(find_account()[0])
    return forgotten


def remember_key(account_id: str) -> None:
    """Tell dj-stripe whose the key is: it would ask Stripe itself, which a restricted key may not be allowed to."""
    owner, _ = djstripe.Account.objects.get_or_create(id=account_id)
    key, _ = djstripe.APIKey.objects.get_or_create_by_api_key(settings.STRIPE_SECRET_KEY)
    if key.djstripe_owner_account_id != owner.id:
        key.djstripe_owner_account = owner
        key.save(update_fields=["djstripe_owner_account"])


def foreign_customers(account_id: str) -> int:
    """Return how many customers in the mirror are of another account or mode than the key."""
    customers = djstripe.Customer.objects.filter(
        subscriber__isnull=False, djstripe_owner_account__isnull=False, livemode__isnull=False
    )
    ours = customers.filter(djstripe_owner_account=account_id, livemode=settings.STRIPE_LIVE_MODE)
    return customers.count() - ours.count()


def refuse_unusable(report: KeyReport) -> None:
    """Raises KeyUnusable where the keys do not belong together, or the data are another account's."""
    other = foreign_publishable_key(report.account_id)
    if other:
        raise KeyUnusable(
            f"STRIPE_PUBLISHABLE_KEY belongs to the account {other}, STRIPE_SECRET_KEY to {report.account_id}: "
            "take both from one account."
        )
    strangers = foreign_customers(report.account_id)
    if strangers:
        mode = "live" if report.is_live else "test"
        raise KeyUnusable(
            f"The database holds {strangers} customers of another Stripe account or mode than STRIPE_SECRET_KEY's "
            f"({report.account_id}, {mode} mode): each needs a database of its own."
        )
