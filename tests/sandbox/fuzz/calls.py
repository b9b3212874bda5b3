"""Random calls: an endpoint, what its path names, and parameters on top of such as work."""

from __future__ import annotations

import functools
import itertools
import re
import urllib.parse
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from sandbox.contract.spec import Operation, load_spec
from sandbox.routing import ENDPOINTS, Endpoint
from tests.sandbox.fuzz.nouns import COLLECTIONS
from tests.sandbox.fuzz.values import DAY, NOW, Thing, chance, table
from tests.sandbox.fuzz.world import World

PRIVATE = "/v1/payment_pages/"
ABSURD_IDS = ("none", "%00", "..", "cus_", "Ünï", "x" * 300, "search")

CUSTOMER, PRICE = Thing("customer", 0), Thing("price", 0)
USAGE = {"event_name": "requests", "payload": {"stripe_customer_id": CUSTOMER, "value": "5"}}
# Bodies that work, which random parameters are laid over: by themselves they would seldom get past the first check.
BODIES: dict[str, dict[str, Any]] = {
    "/v1/billing/meter_events": USAGE,
    "/v1/billing_portal/sessions": {
        "customer": CUSTOMER,
        "configuration": Thing("billing_portal.configuration", 0),
    },
    "/v1/checkout/sessions": {
        "mode": "subscription",
        "line_items": [{"price": PRICE, "quantity": "1"}],
        "success_url": "http://127.0.0.1/done",
    },
    "/v1/coupons": {"percent_off": "10"},
    "/v1/credit_notes": {"invoice": Thing("invoice", 0), "amount": "100", "refund_amount": "100"},
    "/v1/invoiceitems": {"customer": CUSTOMER, "amount": "500", "currency": "usd"},
    "/v1/invoices": {"customer": CUSTOMER},
    "/v1/invoices/create_preview": {"subscription": Thing("subscription", 0)},
    "/v1/payment_intents": {"amount": "500", "currency": "usd", "payment_method_types": ["card"]},
    "/v1/payment_intents/<id>/confirm": {"payment_method": "pm_card_visa"},
    "/v1/payment_methods": {"type": "card", "card": {"token": "tok_visa"}},
    "/v1/payment_methods/<id>/attach": {"customer": CUSTOMER},
    "/v1/prices": {"currency": "usd", "unit_amount": "500", "product": Thing("product", 0)},
    "/v1/promotion_codes": {"promotion": {"type": "coupon", "coupon": Thing("coupon", 0)}},
    "/v1/refunds": {"charge": Thing("charge", 0)},
    "/v1/setup_intents": {"payment_method_types": ["card"], "customer": CUSTOMER},
    "/v1/subscription_items": {"subscription": Thing("subscription", 1), "price": PRICE},
    "/v1/subscription_schedules": {
        "customer": CUSTOMER,
        "start_date": "now",
        "phases": [{"items": [{"price": PRICE}], "duration": {"interval": "month"}}],
    },
    "/v1/subscriptions": {"customer": CUSTOMER, "items": [{"price": PRICE}]},
    "/v1/tax/calculations": {
        "currency": "eur",
        "customer_details": {"address": {"country": "DE"}, "address_source": "billing"},
        "line_items": [{"amount": "1000", "reference": "a"}],
    },
    "/v1/test_helpers/test_clocks/<id>/advance": {"frozen_time": str(NOW + 9 * DAY)},
    "/v1/tokens": {"card": {"number": "4242424242424242", "exp_month": "12", "exp_year": "2040"}},
    "/v1/webhook_endpoints": {"url": "http://127.0.0.1:9/", "enabled_events": ["*"]},
    "/v2/billing/meter_events": USAGE,
    "/v2/billing/meter_event_stream": {"events": [USAGE]},
    "/v2/core/event_destinations": {
        "name": "a",
        "type": "webhook_endpoint",
        "event_payload": "thin",
        "enabled_events": ["v1.billing.meter.error_report_triggered"],
        "webhook_endpoint": {"url": "http://127.0.0.1:9/"},
    },
}


@dataclass(frozen=True)
class Call:
    """One request, its ids still to be settled."""

    endpoint: Endpoint
    things: tuple[Thing | str, ...]
    params: dict[str, Any]

    def settled(self, world: World) -> tuple[str, dict[str, Any]]:
        """Return the path and the parameters with ids of the world in them."""
        names = iter(_identifier(world, each) for each in self.things)
        path = re.sub(r"<\w+>", lambda _: urllib.parse.quote(next(names), safe="%"), self.endpoint.path)
        return path, _with_ids(world, self.params)


def _identifier(world: World, each: Thing | str) -> str:
    return world.identifier(each) if isinstance(each, Thing) else each


def _with_ids(world: World, node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _with_ids(world, each) for key, each in node.items()}
    if isinstance(node, list):
        return [_with_ids(world, each) for each in node]
    return _identifier(world, node)


def pairs(node: Any, name: str = "") -> list[tuple[str, str]]:
    """Return nested parameters as Stripe's form writes them. What is empty cannot be written."""
    if isinstance(node, dict):
        rows = [pairs(each, f"{name}[{key}]" if name else key) for key, each in node.items()]
    elif isinstance(node, list):
        rows = [pairs(each, f"{name}[{index}]") for index, each in enumerate(node)]
    else:
        return [(name, str(node))]
    return [row for each in rows for row in each]


@functools.cache
def _operation(endpoint: Endpoint) -> Operation:
    found = load_spec().find(endpoint.method, endpoint.path.replace("<", "{").replace(">", "}"))
    known = {name.rstrip("!"): {"type": "string"} for name in endpoint.params}
    return found or Operation(endpoint.method, endpoint.path, known, (), None)


# The more an endpoint can do wrong, the oftener it is called.
WEIGHTED = [each for each in ENDPOINTS for _ in range({"POST": 4, "GET": 1, "DELETE": 1}[each.method])]


@st.composite
def calls(draw: st.DrawFn, endpoint: Endpoint | None = None) -> Call:
    """Return a call of an endpoint, of any without one."""
    chosen = endpoint or draw(st.sampled_from(WEIGHTED))
    segments = chosen.path.split("/")
    things: list[Thing | str] = []
    for before, segment in itertools.pairwise(segments):
        if segment.startswith("<"):
            if chance(draw, 6):
                things.append(draw(st.sampled_from(ABSURD_IDS)))
            else:
                things.append(Thing(COLLECTIONS.get(before, before), draw(st.integers(0, 11))))
    operation = _operation(chosen)
    params = {}
    if chosen.method == "POST" and chance(draw, 80):
        params = _other_ids(draw, BODIES.get(chosen.path, {}))
    drawn = table(draw, load_spec(), operation.params, () if params else operation.required)
    return Call(chosen, tuple(things), {**params, **drawn})


def _other_ids(draw: st.DrawFn, node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _other_ids(draw, each) for key, each in node.items()}
    if isinstance(node, list):
        return [_other_ids(draw, each) for each in node]
    if isinstance(node, Thing):
        return Thing(node.kind, draw(st.integers(0, 11)))
    return node
