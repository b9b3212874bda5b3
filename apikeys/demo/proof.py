"""The demo's last word: ledger = rollups = reports = Stripe, for every organization, meter and period."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

from django.db.models import QuerySet, Sum

from accounts.models import Organization
from billing.models import Meter
from billing.stripe.customers import find_customer
from billing.stripe.metering import summed_usage
from usage.models import MeterReport, UsageEvent, UsageRollup

Key = tuple[UUID, str, datetime]
COLUMNS = ("organization_id", "meter", "period_start")


@dataclass(frozen=True, slots=True)
class Proof:
    """`units` in all; `differences` says, a line each, where two counts are not the same."""

    units: int
    organizations: int
    periods: int
    differences: list[str]


def prove() -> Proof:
    """Count everything anew, in all four places. Raises StripeUnavailable or StripeRejected."""
    ledger = _sums(UsageEvent.objects.all())
    rollups = _sums(UsageRollup.objects.all())
    reports = _sums(MeterReport.objects.filter(state=MeterReport.State.SENT))
    keys = sorted(ledger.keys() | rollups.keys() | reports.keys())
    known = Organization.objects.select_related("entitlement").in_bulk({key[0] for key in keys})
    meters = {meter.slug: meter for meter in Meter.objects.all()}
    ends = _ends(keys)
    differences = []
    for key in keys:
        organization, meter = known[key[0]], meters[key[1]]
        end = ends.get(key) or organization.entitlement.period_end
        counts = {
            "ledger": ledger.get(key, 0),
            "rollups": rollups.get(key, 0),
            "reports": reports.get(key, 0),
            "Stripe": _at_stripe(organization, meter, start=key[2], end=end),
        }
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{where} {units}" for where, units in counts.items())
            differences.append(f"{organization}, {meter}, from {key[2]:%Y-%m-%d %H:%M}: {told}")
    return Proof(sum(ledger.values()), len(known), len(keys), differences)


def _sums(rows: QuerySet[Any]) -> dict[Key, int]:
    grouped = rows.order_by().values_list(*COLUMNS).annotate(total=Sum("units"))
    return {(organization, meter, start): total for organization, meter, start, total in grouped}


def _ends(keys: list[Key]) -> dict[Key, datetime]:
    """Return where each period ends at the latest: where the organization's next one begins."""
    starts: dict[tuple[UUID, str], list[datetime]] = defaultdict(list)
    for organization, meter, start in keys:
        starts[organization, meter].append(start)
    return {(*who, start): following for who, begun in starts.items() for start, following in pairwise(begun)}


def _at_stripe(organization: Organization, meter: Meter, *, start: datetime, end: datetime) -> int:
    customer = find_customer(organization)
    if customer is None:
        return 0
    return summed_usage(meter_id=meter.stripe_meter_id, customer_id=customer.id, start=start, end=end)
