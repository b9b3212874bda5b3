"""Whether Stripe Tax is ready to be used."""

from dataclasses import dataclass

from billing.stripe.client import get_client, translated_errors

NAMES = {
    "head_office": "the address of your head office",
    "head_office.address": "the address of your head office",
    "head_office.address.city": "the city of your head office",
    "head_office.address.line1": "the street of your head office",
    "head_office.address.postal_code": "the postal code of your head office",
    "head_office.address.state": "the state of your head office",
    "head_office.address.country": "the country of your head office",
    "defaults.tax_code": "the default tax code",
    "defaults.tax_behavior": "whether your prices include tax",
}


@dataclass(frozen=True, slots=True)
class TaxReport:
    """`missing` are what Stripe Tax still wants, in words. With no `registrations` it is ready, and computes 0."""

    is_ready: bool
    missing: tuple[str, ...]
    registrations: int


def inspect_tax() -> TaxReport:
    """Ask Stripe about the account's tax settings. Raises StripeUnavailable or StripeRejected."""
    with translated_errors():
        tax = get_client().v1.tax
        found = tax.settings.retrieve()
        if found.status == "active":
            active = tax.registrations.list({"status": "active", "limit": 100}).data
            return TaxReport(True, (), len(active))
        details = found.status_details.to_dict()
    fields = (details.get("pending") or {}).get("missing_fields") or []
    return TaxReport(False, tuple(dict.fromkeys(NAMES.get(each, each) for each in fields)), 0)
