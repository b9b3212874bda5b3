"""Identifiers in Stripe's formats: the prefix says what a thing is, the rest is random."""

import secrets
import string

ALPHABET = string.ascii_letters + string.digits

# Objects born before 2019 carry a short random part; newer ones embed the account's fragment.
SHORT = {"customer": "cus_", "product": "prod_", "subscription_item": "si_"}
LONG = {
    "charge": "ch_3",
    "checkout.session": "cs_test_a1",
    "event": "evt_1",
    "invoice": "in_1",
    "invoice_payment": "inpay_1",
    "item": "li_1",
    "line_item": "il_1",
    "payment_intent": "pi_3",
    "payment_method": "pm_1",
    "price": "price_1",
    "subscription": "sub_1",
    "webhook_endpoint": "we_1",
    "billing_portal.configuration": "bpc_1",
    "billing_portal.session": "bps_1",
    "balance_transaction": "txn_3",
}
OWN = {
    "billing.meter": ("mtr_test_61", 28),
    "billing.meter_event_summary": ("mtrusg_test_61", 28),
    "request": ("req_", 14),
    "delivery": ("whd_", 16),
    "webhook_secret": ("whsec_", 32),
}


def random_text(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def new_id(kind: str, *, account: str) -> str:
    """Return a fresh identifier for an object of `kind`; `account` is the `acct_…` it belongs to."""
    if kind in SHORT:
        return SHORT[kind] + random_text(14)
    if kind in OWN:
        prefix, length = OWN[kind]
        return prefix + random_text(length)
    if kind == "checkout.session":
        return LONG[kind] + random_text(56)
    return LONG[kind] + random_text(5) + account[-10:] + random_text(8)


def new_account_id() -> str:
    return "acct_1" + random_text(15)
