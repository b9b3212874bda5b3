"""Steps that tests of the proof share: a month with acme, and what goes wrong with it by hand."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection

from billing.models import Meter
from tests.billing.acme import Acme
from tests.usage.cast import make_event
from usage import reports
from usage.events import uuid7
from usage.ledger import store
from usage.models import MeterReport, Proof, UsageEvent
from usage.proof import prove
from usage.tasks import report_usage

APRIL = datetime(2026, 4, 1, tzinfo=UTC)
MAY = datetime(2026, 5, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def of_april(acme: Acme) -> Proof:
    """Prove anew, and return what came of April."""
    return next(proof for proof in prove(acme.organization) if proof.period_start == APRIL)


def invoice_april(acme: Acme) -> None:
    """Let April end, and its invoice be closed and heard of."""
    acme.wait_until(MAY)
    acme.wait(hours=2)
    acme.see()


def stop_paying(subscribed: Acme) -> None:
    """Use 150 units, of them 130 in April, and have May's invoice fail until the free limits apply."""
    subscribed.use(130)
    report_usage()
    subscribed.wait_until(MAY)
    subscribed.pay_with("pm_card_chargeCustomerFail")
    subscribed.wait(hours=2)
    subscribed.see()
    subscribed.use(20)
    subscribed.wait(days=9)
    subscribed.see()


def only_cause(proof: Proof) -> dict[str, Any]:
    assert proof.status == Proof.Status.DIFFERS
    (cause,) = proof.differences
    return cause


def use_in(acme: Acme, at: datetime, *, units: int, period_start: datetime = APRIL) -> None:
    """Store a call of some other time, as a drain does that was held up."""
    store([make_event(organization_id=acme.organization.pk, at=at, units=units, period_start=period_start)])


def use_late(acme: Acme, *, units: int) -> None:
    """Use units in April's last hour that reach the ledger only now."""
    use_in(acme, MAY - HOUR / 2, units=units)


def refuse(reason: str = "timestamp_too_far_in_past: more than 35 days ago") -> None:
    """Have Stripe refuse what has not been reported."""
    reports.make_reports()
    pending = MeterReport.objects.filter(state=MeterReport.State.PENDING)
    pending.update(state=MeterReport.State.REJECTED, last_error=reason)


def event_at_stripe(acme: Acme, *, units: int, **when: int) -> None:
    """Have somebody else report to the meter."""
    acme.api.billing.meter_events.create(
        {
            "event_name": Meter.objects.get(slug="requests").event_name,
            "payload": {"stripe_customer_id": acme.customer_id, "value": str(units)},
            "identifier": f"of-somebody-else-{units}",
            **when,
        }
    )


def copy_in_ledger(*, units: int) -> tuple[str, str]:
    """Double a row of the ledger under another id, as a broken import would; return both ids."""
    row = UsageEvent.objects.get(units=units)
    other = uuid7(row.occurred_at)
    columns = ", ".join(f.column for f in UsageEvent._meta.concrete_fields if f.column and f.column != "id")
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO usage_event (id, {columns}) SELECT %s, {columns} FROM usage_event WHERE id = %s",  # noqa: S608
            [other, row.id],
        )
    return str(row.id), str(other)


def copy_report(*, units: int, sent: bool) -> tuple[MeterReport, MeterReport]:
    """Double a report's row under another id, and have it sent or not; return both."""
    first, second = (MeterReport.objects.get(units=units) for _ in range(2))
    second.pk = MeterReport._meta.pk.get_default()
    second.state, second.first_sent_at, second.sent_at = MeterReport.State.PENDING, None, None
    second.save(force_insert=True)
    if sent:
        report_usage()
        second.refresh_from_db()
    return first, second
