"""A customer's invoices, as dj-stripe mirrors them."""

from dataclasses import dataclass
from datetime import UTC, datetime

from djstripe import models as djstripe

from accounts.models import Organization


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """One row of the invoice list. `total` is in the currency's minor unit."""

    number: str
    created: datetime
    total: int
    currency: str
    status: str
    hosted_invoice_url: str
    invoice_pdf: str


def list_invoices(organization: Organization, *, limit: int = 24) -> list[InvoiceLine]:
    """Return the newest invoices that were issued: Stripe's drafts have no number yet."""
    rows = djstripe.Invoice.objects.filter(customer__subscriber=organization).order_by("-created")[:limit]
    return [
        InvoiceLine(
            number=data["number"],
            created=datetime.fromtimestamp(data["created"], UTC),
            total=data["total"],
            currency=data["currency"],
            status=data["status"],
            hosted_invoice_url=data.get("hosted_invoice_url") or "",
            invoice_pdf=data.get("invoice_pdf") or "",
        )
        for data in rows.values_list("stripe_data", flat=True)
        if data.get("number")
    ]
