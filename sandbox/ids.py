"""Identifiers in Stripe's formats: the prefix says what a thing is, the rest is random."""

import secrets
import string

ALPHABET = string.ascii_letters + string.digits

# Objects born before 2019 carry a short random part; newer ones embed the account's fragment.
SHORT = {
    "billing_portal.session": "bps_",
    "customer": "cus_",
    "invoice_rendering_template": "inrtem_",
    "product": "prod_",
    "subscription_item": "si_",
}
LONG = {
    "balance_transaction": "txn_3",
    "billing_portal.configuration": "bpc_1",
    "card": "card_1",
    "charge": "ch_3",
    "checkout.session": "cs_test_a1",
    "credit_note": "cn_1",
    "credit_note_line_item": "cnli_1",
    "customer_balance_transaction": "cbtxn_1",
    "discount": "di_1",
    "event": "evt_1",
    "invoice": "in_1",
    "invoice_payment": "inpay_1",
    "invoiceitem": "ii_1",
    "item": "li_1",
    "line_item": "il_1",
    "mandate": "mandate_1",
    "payment_intent": "pi_3",
    "payment_method": "pm_1",
    "price": "price_1",
    "promotion_code": "promo_1",
    "refund": "re_3",
    "setup_attempt": "setatt_1",
    "setup_intent": "seti_1",
    "subscription": "sub_1",
    "subscription_schedule": "sub_sched_1",
    "tax.calculation": "taxcalc_1",
    "tax.calculation_line_item": "tax_li_",
    "tax.registration": "taxreg_1",
    "tax_id": "txi_1",
    "tax_rate": "txr_1",
    "test_helpers.test_clock": "clock_1",
    "token": "tok_1",
    "webhook_endpoint": "we_1",
}
OWN = {
    "billing.meter": ("mtr_test_61", 28),
    "billing.meter_event_summary": ("mtrusg_test_61", 28),
    "coupon": ("", 8),
    "delivery": ("whd_", 16),
    "request": ("req_", 14),
    "v2.billing.meter_event_adjustment": ("mtr_evt_adj_test_61", 28),
    "v2.billing.meter_event_session": ("mes_test_61", 28),
    "v2.core.event": ("evt_test_65", 28),
    "v2.core.event_destination": ("ed_test_61", 28),
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


def kind_of(identifier: str) -> str | None:
    """Return the kind of object an identifier's prefix tells of, None for a prefix of none."""
    prefixes = [(prefix.rstrip("0123456789"), kind) for kind, prefix in {**SHORT, **LONG}.items()]
    fitting = [(len(prefix), kind) for prefix, kind in prefixes if identifier.startswith(prefix)]
    return max(fitting)[1] if fitting else None
