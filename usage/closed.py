"""What of a meter's units invoices have billed for good, and what a draft still takes up; by the mirror."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from djstripe import models as djstripe

from accounts.models import Organization
from billing.models import Meter, PublishedPrice
from billing.subscriptions import from_timestamp


@dataclass(frozen=True, slots=True)
class InvoicedPeriod:
    """An invoice's units of a meter: those dated from `start` up to and without `end`. A draft takes more of them."""

    invoice_id: str
    start: datetime
    end: datetime
    finalized_at: datetime | None

    def holds(self, moment: datetime) -> bool:
        return self.start <= moment < self.end


@dataclass(frozen=True, slots=True)
class ClosedPeriod(InvoicedPeriod):
    """What an invoice has billed of a meter for good."""

    finalized_at: datetime


def invoiced_periods(organization: Organization, meter: Meter) -> list[InvoicedPeriod]:
    """Return what the organization's invoices bill of a meter, drafts among them; a void one bills nothing."""
    prices = set(PublishedPrice.objects.filter(meter=meter).values_list("stripe_price_id", flat=True))
    invoices = djstripe.Invoice.objects.filter(customer__subscriber=organization)
    found: set[InvoicedPeriod] = set()
    for data in invoices.exclude(stripe_data__status="void").values_list("stripe_data", flat=True):
        finalized_at = data["status_transitions"]["finalized_at"]
        if finalized_at is None and data["status"] != "draft":
            continue
        for start, end in metered_spans(data, meter, prices=prices):
            if data["status"] == "draft":
                found.add(InvoicedPeriod(data["id"], start, end, None))
            else:
                found.add(ClosedPeriod(data["id"], start, end, from_timestamp(finalized_at)))
    return list(found)


def closed_periods(organization: Organization, meter: Meter) -> list[ClosedPeriod]:
    """Return what the organization's invoices have closed of a meter, the oldest first."""
    found = [each for each in invoiced_periods(organization, meter) if isinstance(each, ClosedPeriod)]
    return sorted(found, key=lambda period: (period.start, period.finalized_at))


def metered_spans(
    invoice: dict[str, Any], meter: Meter, *, prices: set[str]
) -> Iterator[tuple[datetime, datetime]]:
    """Yield the spans of time of which an invoice's lines bill the meter's units."""
    for line in invoice["lines"]["data"]:
        details = (line.get("pricing") or {}).get("price_details") or {}
        if details.get("product") == meter.product_id or details.get("price") in prices:
            yield from_timestamp(line["period"]["start"]), from_timestamp(line["period"]["end"])
