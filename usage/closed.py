"""What of a meter's units invoices have billed for good, and what a draft still takes up; by the mirror."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from djstripe import models as djstripe

from accounts.models import Organization
from billing.errors import StripeRejected
from billing.models import Meter, PublishedPrice
from billing.stripe.invoice_items import all_lines
from billing.subscriptions import from_timestamp

logger = logging.getLogger(__name__)

# An invoice is made at the end of what it bills, by Stripe's clock.
DAY = timedelta(days=1)
Spans = frozenset[tuple[str, str, int, int]]


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


def invoiced_periods(
    organization: Organization, meter: Meter, *, since: datetime | None = None
) -> list[InvoicedPeriod]:
    """Return what the organization's invoices bill of a meter, drafts among them; a void one bills nothing.

    With `since` those that hold what was used then or later. Raises StripeUnavailable: of an invoice with many lines
    the mirror has the first ones only.
    """
    prices = set(PublishedPrice.objects.filter(meter=meter).values_list("stripe_price_id", flat=True))
    invoices = djstripe.Invoice.objects.filter(customer__subscriber=organization)
    if since:
        invoices = invoices.filter(created__gte=since - DAY)
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


def closed_periods(
    organization: Organization, meter: Meter, *, since: datetime | None = None
) -> list[ClosedPeriod]:
    """Return what the organization's invoices have closed of a meter, the oldest first. Raises StripeUnavailable."""
    periods = invoiced_periods(organization, meter, since=since)
    found = [each for each in periods if isinstance(each, ClosedPeriod)]
    return sorted(found, key=lambda period: (period.start, period.finalized_at))


def metered_spans(
    invoice: dict[str, Any], meter: Meter, *, prices: set[str]
) -> Iterator[tuple[datetime, datetime]]:
    """Yield the spans of time of which an invoice's lines bill the meter's units."""
    for product, price, start, end in spans_of(invoice):
        if product == meter.product_id or price in prices:
            yield from_timestamp(start), from_timestamp(end)


def spans_of(invoice: dict[str, Any]) -> Spans:
    """Return the product, price, start and end of each line."""
    if not invoice["lines"].get("has_more"):
        return spans_in(invoice["lines"]["data"])
    try:
        # What a draft holds may change yet.
        return (
            spans_in(all_lines(invoice["id"])) if invoice["status"] == "draft" else final_spans(invoice["id"])
        )
    except StripeRejected as error:
        logger.warning("Stripe does not tell what else is on invoice %s: %s", invoice["id"], error)
        return spans_in(invoice["lines"]["data"])


@lru_cache(maxsize=1000)
def final_spans(invoice_id: str) -> Spans:
    return spans_in(all_lines(invoice_id))


def spans_in(lines: Sequence[dict[str, Any]]) -> Spans:
    found = set()
    for line in lines:
        details = (line.get("pricing") or {}).get("price_details") or {}
        period = line["period"]
        found.add((str(details.get("product")), str(details.get("price")), period["start"], period["end"]))
    return frozenset(found)
