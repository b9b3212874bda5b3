"""What each cause is called on staff's pages. Its code is what docs/proof.md and programs go by."""

TITLES = {
    "ledger_short": "missing in the ledger",
    "ledger_over": "missing in the hourly sums",
    "reports_short": "missing in reports",
    "reports_over": "reported twice",
    "stripe_short": "not counted by Stripe",
    "stripe_over": "counted too much by Stripe",
    "refused": "refused by Stripe",
    "late": "too late for the invoice",
    "given_up": "never to be invoiced",
    "invoice_short": "missing on invoices",
    "invoice_over": "too much on invoices",
    "unreported": "in no report yet",
    "waiting": "waiting to be sent",
    "unknown": "without an answer",
    "uncounted": "not in Stripe's count yet",
    "to_invoice": "for an invoice to come",
    "correcting": "being corrected",
    "ahead": "ahead of our clock",
}


def title_of(code: str) -> str:
    """Return a cause in a few words, for one that is not known its code."""
    return TITLES.get(code, code.replace("_", " "))
