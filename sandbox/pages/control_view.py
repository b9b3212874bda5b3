"""What the control page shows, gathered from the sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox import clockwork
from sandbox.differences import BY_TOPIC
from sandbox.events import listening
from sandbox.faults import DECLINE_CODES, REQUEST_KINDS, WEBHOOK_KINDS
from sandbox.invoices.collecting import OUTCOMES, retry_policy
from sandbox.meters.metering import aggregate, counted, customers_of
from sandbox.meters.metering_settings import settings
from sandbox.meters.rejecting import rejected
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.subscribing import ENDED
from sandbox.timeline import CLOCK, clock_of
from sandbox.wire import API_VERSION

if TYPE_CHECKING:
    from sandbox.pages.site import Pages

SHOWN = 20
FAR_END = 1 << 40


def context(pages: Pages) -> dict[str, Any]:
    """Return everything the template names. The caller holds the sandbox."""
    state = pages.sandbox
    move = clockwork.moving(state)
    return {
        "account": state.account_id,
        "version": API_VERSION,
        "base_url": state.base_url,
        "now": state.now(),
        "frozen": state.clock.frozen_at is not None,
        "moving_to": move.target if move else None,
        "can_start": not any(state.store.count(kind) for kind in clockwork.LASTING),
        "clocks": [_test_clock(state, each) for each in state.newest(CLOCK)[:SHOWN]],
        "due": [_due(state, each) for each in clockwork.upcoming(state, limit=SHOWN)],
        "faults": [each.as_dict() for each in state.faults.all()],
        "request_kinds": REQUEST_KINDS,
        "webhook_kinds": WEBHOOK_KINDS,
        "decline_codes": list(DECLINE_CODES),
        "endpoints": [_endpoint(each) for each in listening.endpoints(state)],
        "deliveries": state.webhooks.log(limit=SHOWN),
        "events": _events(state),
        "meters": [_meter(state, each) for each in state.newest("billing.meter")[:SHOWN]],
        "metering": settings(state),
        "retries": retry_policy(state),
        "retry_outcomes": OUTCOMES,
        "rejected": rejected(state)[:SHOWN],
        "subscriptions": [_subscription(state, each) for each in state.newest("subscription")[:SHOWN]],
        "subscription_count": state.store.count("subscription"),
        "sessions": [each for each in state.newest("checkout.session") if each["status"] == "open"][:10],
        "requests": list(state.requests)[:SHOWN],
        "problems": pages.recorder.problems if pages.recorder else None,
        "differences": BY_TOPIC,
        "mishaps": list(state.mishaps),
    }


def _test_clock(state: Sandbox, clock: Object) -> dict[str, Any]:
    following = clockwork.upcoming(state, limit=1, clock=clock["id"])
    return {
        "id": clock["id"],
        "name": clock.get("name") or clock["id"],
        "now": clock["frozen_time"],
        "status": clock["status"],
        "next": _due(state, following[0]) if following else None,
    }


def _due(state: Sandbox, row: Object) -> dict[str, Any]:
    return {"what": row["what"].replace("_", " "), "id": row["id"], "at": row["at"]}


def _endpoint(endpoint: Object) -> dict[str, Any]:
    return {
        "id": endpoint["id"],
        "url": listening.url_of(endpoint),
        "status": endpoint["status"],
        "payload": endpoint.get("event_payload", "snapshot"),
        "events": endpoint["enabled_events"],
    }


def _events(state: Sandbox) -> list[dict[str, Any]]:
    """Return the newest events of both kinds, thin ones marked."""
    snapshots = [
        {
            "id": each["id"],
            "type": each["type"],
            "at": each["created"],
            "pending": each["pending_webhooks"],
            "thin": False,
        }
        for each in state.newest("event")[:SHOWN]
    ]
    thin = [
        {"id": each["id"], "type": each["type"], "at": each["_at"], "pending": None, "thin": True}
        for each in state.newest(listening.THIN)[:SHOWN]
    ]
    return sorted(snapshots + thin, key=lambda each: -each["at"])[:SHOWN]


def _meter(state: Sandbox, meter: Object) -> dict[str, Any]:
    """Return a meter with what it counted for each customer since the beginning, the largest first."""
    totals: list[dict[str, Any]] = []
    for customer in customers_of(state, meter):
        events = list(counted(state, meter, customer=customer, start=0, end=FAR_END))
        found = state.find("customer", customer) or {}
        totals.append(
            {
                "customer": found.get("email") or customer,
                "events": len(events),
                "total": aggregate(meter, events),
            }
        )
    return {
        "name": meter["display_name"],
        "event_name": meter["event_name"],
        "status": meter["status"],
        "formula": meter["default_aggregation"]["formula"],
        "window": meter["event_time_window"],
        "events": sum(each["events"] for each in totals),
        "totals": sorted(totals, key=lambda each: each["total"], reverse=True)[:10],
        "customers": len(totals),
    }


def _subscription(state: Sandbox, subscription: Object) -> dict[str, Any]:
    customer = state.find("customer", subscription["customer"]) or {}
    return {
        "id": subscription["id"],
        "status": subscription["status"],
        "live": subscription["status"] not in ENDED,
        "customer": customer.get("email") or subscription["customer"],
        "clock": clock_of(state, subscription),
    }
