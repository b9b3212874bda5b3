from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from functools import partial

from djstripe import models as djstripe

from accounts import clock
from accounts.models import Organization
from billing import overview
from billing.doctor import CouldNotMend, Finding, Fix, Severity, check
from billing.models import ReconcileRun, Reconciliation
from billing.reconciliation import IN_FLIGHT, reconcile_some
from billing.stripe import health
from billing.stripe.event_destinations import settle_event_destination
from billing.stripe.missed import MissedEvent, find_missed
from billing.stripe.webhook_endpoints import address, ensure_webhook_endpoint
from billing.subscriptions import from_timestamp

# Stripe tries to deliver an event for three days.
RECENT = timedelta(days=3)


@check("webhook-endpoint", "A webhook endpoint that stopped receiving: gone, disabled, or leading elsewhere.")
def broken_endpoint() -> Iterator[Finding]:
    endpoint = overview.find_endpoint()
    if endpoint is None:
        fault = "No webhook endpoint has been set up."
    else:
        there = health.endpoint_health(endpoint.id)
        fault = fault_of(f"The webhook endpoint {endpoint.id}", there)
        if there.is_there and there.url != address(endpoint.djstripe_uuid):
            fault = f"The webhook endpoint {endpoint.id} leads to {there.url}, which is not here."
    if fault:
        yield Finding(
            slug="webhook-endpoint",
            severity=Severity.ERROR,
            subject=endpoint.id if endpoint else "",
            sentence=fault,
            advice="Afterwards run the reconciliation: it fetches what was not told meanwhile.",
            fix=Fix("Set the endpoint up again.", ensure_webhook_endpoint),
        )


def fault_of(listener: str, there: health.ListenerHealth) -> str:
    """Return what is wrong with where Stripe sends its news, empty for nothing."""
    if not there.is_there:
        return f"{listener} is gone at Stripe."
    if not there.is_enabled:
        return f"{listener} is disabled at Stripe: nothing is sent."
    return "" if there.asks_for_ours else f"{listener} does not ask for the events that it should."


@check(
    "event-destination", "A destination of thin events that stopped receiving: they tell of rejected usage."
)
def broken_destination() -> Iterator[Finding]:
    destination = overview.find_destination()
    fault = "No destination of thin events has been set up."
    if destination:
        fault = fault_of(f"The destination {destination.id}", health.destination_health(destination.id))
    if fault:
        yield Finding(
            slug="event-destination",
            severity=Severity.ERROR,
            subject=destination.id if destination else "",
            sentence=fault,
            fix=Fix("Set the destination up again.", settle_event_destination),
        )


@check("missed-webhooks", "Events that Stripe made more than an hour ago and that never arrived.")
def missed_webhooks() -> Iterator[Finding]:
    """One finding for all: what they told is the same to mend for each. Those that were made good are passed over."""
    endpoint = djstripe.WebhookEndpoint.objects.exclude(secret="").order_by("created").first()
    if endpoint is None:
        return  # Nothing was asked for.
    run = ReconcileRun.objects.complete().first()
    since = max(endpoint.created, run.started_at - IN_FLIGHT) if run else endpoint.created
    repairs = Repairs()
    missed = [
        each
        for each in find_missed(since=since, until=clock.now() - IN_FLIGHT)
        if not repairs.cover(each.customer_id, created=each.created)
    ]
    if missed:
        types = Counter(each.type for each in missed)
        waiting = sum(each.is_pending for each in missed)
        yield Finding(
            slug="missed-webhooks",
            severity=Severity.ERROR,
            subject="",
            sentence=f"{len(missed)} events never arrived, the oldest of "
            f"{min(each.created for each in missed):%Y-%m-%d %H:%M} UTC: "
            f"{', '.join(f'{count} {name}' for name, count in types.most_common())}.",
            advice=f"Stripe is still trying to deliver {waiting} of them: see what its dashboard says of the endpoint."
            if waiting
            else "",
            fix=Fix("Reconcile the customers that they are about.", partial(make_good, missed)),
        )


@check("failing-webhooks", "Webhooks that arrived and could not be taken in.")
def failing_webhooks() -> Iterator[Finding]:
    recent = djstripe.WebhookEventTrigger.objects.filter(valid=True, created__gt=clock.now() - RECENT)
    failures: dict[str, list[MissedEvent]] = {}
    repairs = Repairs()
    for trigger in recent.exclude(exception="").order_by("pk").iterator(chunk_size=500):
        event = event_in(trigger.json_body)
        arrived = djstripe.Event.objects.filter(id=event.id).exists()
        if not arrived and not repairs.cover(event.customer_id, created=event.created):
            failures.setdefault(trigger.exception, []).append(event)
    for exception, events in failures.items():
        yield Finding(
            slug="failing-webhooks",
            severity=Severity.ERROR,
            subject=exception,
            sentence=f"{len({each.id for each in events})} webhooks could not be taken in: {exception}",
            advice="Stripe sends them again for three days. Tollgate's log has the traceback.",
            fix=Fix("Reconcile the customers that they are about.", partial(make_good, events)),
        )


def event_in(body: dict[str, object]) -> MissedEvent:
    """Return the event in the body of a webhook whose signature was right."""
    event: dict[str, object] = body
    data = event["data"]["object"]  # type: ignore[index]
    customer = data["id"] if data["object"] == "customer" else data.get("customer")
    return MissedEvent(
        str(event["id"]),
        str(event["type"]),
        from_timestamp(int(str(event["created"]))),
        customer if isinstance(customer, str) else "",
        is_pending=True,
    )


class Repairs:
    """When what was fetched from Stripe anew, by customer."""

    def __init__(self) -> None:
        rows = Reconciliation.objects.filter(organization__djstripe_customers__isnull=False)
        self.by_customer: dict[str, datetime | None] = dict(
            rows.values_list("organization__djstripe_customers__id", "reconciled_at")
        )
        customers = djstripe.Customer.objects.filter(subscriber__isnull=False)
        self.ours = set(customers.values_list("id", flat=True))
        ended = ReconcileRun.objects.filter(finished_at__isnull=False, stopped="").order_by("started_at")
        self.catalogue = ended.values_list("started_at", flat=True).last()

    def cover(self, customer_id: str, *, created: datetime) -> bool:
        """Whether what an event told has been fetched since, or is none of our business."""
        if customer_id and customer_id not in self.ours:
            return True
        at = self.by_customer.get(customer_id) if customer_id else self.catalogue
        return at is not None and at >= created


def make_good(events: Iterable[MissedEvent]) -> None:
    customers = {each.customer_id for each in events}
    owners = Organization.objects.filter(djstripe_customers__id__in=customers).distinct()
    run = reconcile_some(owners)
    if run.failures:
        raise CouldNotMend(" ".join(each["sentence"] for each in run.findings if each["kind"] == "problem"))
