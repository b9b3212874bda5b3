"""What there is to see of a schedule that went wrong."""

import json
import traceback
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from django.db import connection

from tests.faults.director import Played
from tests.faults.world import World
from usage.stream import GROUP, STREAM


def diagnose(world: World, played: Played) -> str:
    """Return what there is to see of a schedule that did not come to rest; the rest is in the logs."""
    world.tell()
    lines = [f"processes: { {name: world.runs(name) for name in world.processes} }"]
    with suppress(Exception):
        client = world.redis.client()
        lines.append(f"groups: {client.xinfo_groups(STREAM)}")
        lines.append(f"consumers: {client.xinfo_consumers(STREAM, GROUP)}")
        lines.append(f"unreadable: {client.xlen('tollgate:usage:unreadable')}")
        queued = Counter(json.loads(each)["headers"]["task"] for each in client.lrange("celery", 0, -1))
        lines.append(f"tasks that wait: {dict(queued)}, taken: {client.hlen('unacked')}")
    try:
        ids = [customer.id for customer in played.accounts]
        with connection.cursor() as cursor:
            for query in (
                "SELECT organization_id, meter, hour, period_start, units, state, tries, last_error,"
                " dated_at, first_sent_at, claimed_at, sent_at FROM usage_meterreport WHERE organization_id = ANY(%s)"
                " ORDER BY created_at",
                "SELECT organization_id, period_start, period_end, status, subscription_id, carried_from"
                " FROM billing_entitlement WHERE organization_id = ANY(%s)",
                "SELECT pid, state, wait_event_type, wait_event, now() - xact_start, left(query, 200)"
                " FROM pg_stat_activity WHERE datname = current_database() AND %s IS NOT NULL"
                " AND state <> 'idle'",
                "SELECT pid, locktype, relation::regclass, mode, granted, objid FROM pg_locks"
                " WHERE (locktype = 'advisory' OR NOT granted) AND %s IS NOT NULL",
            ):
                cursor.execute(query, [ids])
                lines += [" | ".join(map(str, row)) for row in cursor.fetchall()]
    except Exception:  # A diagnosis says what it can.
        lines.append(traceback.format_exc(limit=2))
    with suppress(Exception):
        for name, customer in played.customers.items():
            invoices = world.stripe.invoices(customer.stripe_id)
            lines += [f"{name}: {line}" for invoice in invoices for line in told(invoice)]
        lines.append(f"webhooks: {json.dumps(world.stripe.undelivered())[:2000]}")
        lines.append(f"rejected usage: {json.dumps(world.stripe.rejected())[:2000]}")
    return "\n".join(lines)


def told(invoice: dict[str, Any]) -> list[str]:
    """Return an invoice's lines, a sentence each."""
    head = f"{invoice['id']} {invoice['billing_reason']} {invoice['status']}"
    head += f" of {datetime.fromtimestamp(invoice['created'], UTC):%d %H:%M:%S}"
    return [
        f"{head}: {line['quantity']} × {sold(line)}, "
        + " to ".join(
            f"{datetime.fromtimestamp(line['period'][edge], UTC):%d %H:%M:%S}" for edge in ("start", "end")
        )
        for line in invoice["lines"]["data"]
    ]


def sold(line: dict[str, Any]) -> str:
    """Return a line's product; a correction's has none, and says what it is."""
    return str(line["pricing"]["price_details"]["product"] if line["pricing"] else line["description"])
