"""Steps that several tests of ingest share."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from apikeys import cache
from billing.models import Meter, PlanQuota
from usage.ingest.items import Item, Outcome, Refused
from usage.ingest.reading import read_plain
from usage.ingest.storing import ingest


def sell(organization: Any, slug: str, aggregation: str = "sum", *, included: int | None = None) -> Meter:
    """Let the organization's plan include a new meter."""
    meter = Meter.objects.create(slug=slug, name=slug.title(), unit=slug.rstrip("s"), aggregation=aggregation)
    entitlement = organization.entitlement
    PlanQuota.objects.create(plan=entitlement.plan, meter=meter, included=included)
    entitlement.quotas = entitlement.quotas | {slug: {"included": included, "overage": "block"}}
    entitlement.save()
    cache.drop(organization.ref)
    return meter


def event(organization: Any, /, id: Any = "1", *, time: Any = ..., **fields: Any) -> dict[str, Any]:
    """Return an event as it is sent: 1 request of a service, unless told otherwise; what is `...` is left out."""
    sent = {"source": "service", "id": id, "organization": organization.ref, "meter": "requests", "value": 1}
    sent["time"] = time.isoformat() if isinstance(time, datetime) else time
    return {name: value for name, value in (sent | fields).items() if value is not ...}


def send(*events: Any) -> list[Outcome]:
    """Return what became of events as the endpoint takes them."""
    outcomes: list[Outcome | None] = []
    items: list[Item] = []
    for each in events:
        try:
            items.append(read_plain(each))
        except Refused as refused:
            outcomes.append(Outcome.of(refused))
        else:
            outcomes.append(None)
    taken = iter(ingest(items))
    return [outcome or next(taken) for outcome in outcomes]


def statuses(outcomes: Sequence[Outcome]) -> list[str]:
    """Return in short what became of each: accepted, duplicate, or the code of its refusal."""
    return [outcome.code or outcome.status for outcome in outcomes]


def cloud(organization: Any, /, id: Any = "1", **fields: Any) -> dict[str, Any]:
    """Return the same as a CloudEvent."""
    sent = {
        "specversion": "1.0",
        "source": "/render/farm",
        "id": id,
        "type": "requests",
        "subject": organization.ref,
        "data": {"value": 1},
    }
    return {name: value for name, value in (sent | fields).items() if value is not ...}
