"""A customer's invoices, as dj-stripe mirrors them."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet
from djstripe import models as djstripe

from accounts.models import Organization
from billing.subscriptions import from_timestamp

PAGE = 24
INVOICE_ID = re.compile(r"in_[0-9A-Za-z_]{1,250}")


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """One line of an invoice. `amount` is in the invoice's currency's minor unit, below 0 for a credit."""

    description: str
    amount: int
    quantity: int | None
    period_start: datetime
    period_end: datetime


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice that was issued. `data` is Stripe's object; amounts are in the currency's minor unit."""

    data: dict[str, Any]

    @property
    def id(self) -> str:
        return str(self.data["id"])

    @property
    def number(self) -> str:
        return str(self.data["number"] or "")

    @property
    def created(self) -> datetime:
        return from_timestamp(self.data["created"])

    @property
    def subtotal(self) -> int:
        return int(self.data["subtotal"])

    @property
    def total(self) -> int:
        return int(self.data["total"])

    @property
    def amount_due(self) -> int:
        return int(self.data["amount_due"])

    @property
    def amount_paid(self) -> int:
        return int(self.data["amount_paid"])

    @property
    def amount_remaining(self) -> int:
        return int(self.data["amount_remaining"])

    @property
    def currency(self) -> str:
        return str(self.data["currency"])

    @property
    def status(self) -> str:
        """Stripe's: open, paid, void or uncollectible."""
        return str(self.data["status"])

    @property
    def hosted_invoice_url(self) -> str:
        return self.data.get("hosted_invoice_url") or ""

    @property
    def invoice_pdf(self) -> str:
        return self.data.get("invoice_pdf") or ""

    @property
    def lines(self) -> list[InvoiceLine]:
        """The first lines: Stripe sends ten with an invoice."""
        return [
            InvoiceLine(
                description=line["description"] or "",
                amount=line["amount"],
                quantity=line.get("quantity"),
                period_start=from_timestamp(line["period"]["start"]),
                period_end=from_timestamp(line["period"]["end"]),
            )
            for line in self.data["lines"]["data"]
        ]

    @property
    def has_more_lines(self) -> bool:
        return bool(self.data["lines"]["has_more"])


@dataclass(frozen=True, slots=True)
class InvoicePage:
    """Some invoices, the newest first. `next` is the id after which the next page begins, empty at the end."""

    invoices: list[Invoice]
    next: str


def issued_invoices(organization: Organization) -> QuerySet[Any]:
    """Return the mirror's rows of the organization's invoices, without drafts, which are not final yet."""
    rows = djstripe.Invoice.objects.filter(customer__subscriber=organization)
    return rows.exclude(stripe_data__status="draft")


def list_invoices(organization: Organization, *, limit: int = PAGE, after: str = "") -> InvoicePage:
    """Return the `limit` newest invoices that come after the one with the id `after`.

    Raises LookupError where that is none of the organization's.
    """
    rows = issued_invoices(organization).order_by("-created", "-id")
    if after:
        last = get_row(organization, after)
        # Several may be of one second.
        rows = rows.filter(Q(created__lt=last.created) | Q(created=last.created, id__lt=last.id))
    found = [Invoice(data) for data in rows.values_list("stripe_data", flat=True)[: limit + 1]]
    return InvoicePage(found[:limit], next=found[limit - 1].id if len(found) > limit else "")


def get_invoice(organization: Organization, invoice_id: str) -> Invoice:
    """Return one of the organization's invoices. Raises LookupError where it has none of this id."""
    return Invoice(get_row(organization, invoice_id).stripe_data)


def get_row(organization: Organization, invoice_id: str) -> Any:
    known = INVOICE_ID.fullmatch(invoice_id)
    row = issued_invoices(organization).filter(id=invoice_id).first() if known else None
    if row is None:
        raise LookupError(f"{organization} has no such invoice.")
    return row
