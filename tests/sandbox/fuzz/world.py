"""A rich state to call upon: made once through the API, then copied for every example."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import stripe

from sandbox import Sandbox
from sandbox.clock import Clock
from sandbox.contract.recorder import Recorder
from sandbox.contract.spec import load_spec
from sandbox.transport import SandboxHTTPClient
from tests.sandbox.fuzz.values import DAY, NOW, Thing
from tests.sandbox.helpers import KEY, Shop

ADDRESS = {"line1": "1 Main", "city": "Berlin", "postal_code": "10115", "country": "DE"}
MONTH = 32 * DAY


@dataclass
class World:
    """A sandbox, the ids of what is in it by kind, oldest first, and a token for the meter event stream."""

    sandbox: Sandbox
    ids: dict[str, list[str]]
    token: str

    def identifier(self, thing: Thing) -> str:
        known = self.ids.get(thing.kind, [])
        return known[thing.number % len(known)] if known else "none_1"


def world() -> World:
    """Return a fresh copy of the grown world, a millisecond's work."""
    grown, token = _grown()
    sandbox = Sandbox(clock=Clock(frozen_at=NOW))
    sandbox.account_id = grown.account_id
    # Rows are replaced, never changed in place, so the copies may share them.
    sandbox.store._kept = {kind: dict(rows) for kind, rows in grown.store._kept.items()}
    return World(sandbox, _ids(), token)


@functools.cache
def _ids() -> dict[str, list[str]]:
    """Return the ids of every object that is shown, nested ones included."""
    grown, _ = _grown()
    found: dict[str, dict[str, None]] = {}

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("object"), str) and isinstance(node.get("id"), str):
                found.setdefault(node["object"], {})[node["id"]] = None
            for each in node.values():
                walk(each)
        elif isinstance(node, list):
            for each in node:
                walk(each)

    for kind, rows in grown.store._kept.items():
        if not kind.startswith("_"):
            for row in rows.values():
                walk(row if kind == "event" else grown.render(row))
    return {kind: list(ids) for kind, ids in found.items()}


@functools.cache
def _grown() -> tuple[Sandbox, str]:
    sandbox = Sandbox(clock=Clock(frozen_at=NOW - 2 * MONTH))
    recorder = Recorder(load_spec())
    client = stripe.StripeClient(KEY, http_client=SandboxHTTPClient(sandbox, recorder=recorder))
    shop = Shop(client)
    _settle(shop)
    payers = _sell(shop)
    for _ in range(2):
        sandbox.set_clock(advance=MONTH)
    _pay(shop, *payers)
    client.v2.core.event_destinations.create(
        {
            "name": "thin",
            "type": "webhook_endpoint",
            "event_payload": "thin",
            "enabled_events": ["v1.billing.meter.error_report_triggered"],
            "webhook_endpoint": {"url": "http://127.0.0.1:9/"},
        }
    )
    token = client.v2.billing.meter_event_session.create().authentication_token
    assert recorder.problems == []
    return sandbox, token


def _settle(shop: Shop) -> None:
    api = shop.api
    api.webhook_endpoints.create({"url": "http://127.0.0.1:9/", "enabled_events": ["invoice.paid"]})
    selling: Any = {"tax_behavior": "exclusive", "tax_code": "txcd_10103001"}
    api.tax.settings.update({"defaults": selling, "head_office": {"address": ADDRESS}})
    options: Any = {"de": {"type": "standard", "standard": {"place_of_supply_scheme": "standard"}}}
    api.tax.registrations.create({"country": "DE", "country_options": options, "active_from": "now"})
    everything: Any = {
        "customer_update": {"enabled": True, "allowed_updates": ["email", "address", "tax_id"]},
        "invoice_history": {"enabled": True},
        "payment_method_update": {"enabled": True},
        "subscription_cancel": {"enabled": True},
    }
    api.billing_portal.configurations.create({"features": everything})


def _sell(shop: Shop) -> tuple[stripe.Customer, stripe.Customer]:
    """Sell in every way, to one who pays, one whose card begins to fail and one on a test clock."""
    api = shop.api
    rate = api.tax_rates.create({"display_name": "VAT", "percentage": 19, "inclusive": False})
    coupon = api.coupons.create({"percent_off": 20, "duration": "repeating", "duration_in_months": 3})
    api.coupons.create({"amount_off": 500, "currency": "usd", "duration": "once"})
    api.promotion_codes.create({"promotion": {"type": "coupon", "coupon": coupon.id}, "code": "SPRING"})
    monthly = shop.price(4900, lookup_key="pro", currency_options={"eur": {"unit_amount": 4500}})
    yearly = shop.price(49_000, product=monthly.product, recurring={"interval": "year"})
    usage = shop.metered_price(shop.meter())
    api.prices.create({"product": str(monthly.product), "currency": "usd", "unit_amount": 900})
    payer, debtor = shop.payer(), shop.payer()
    api.customers.tax_ids.create(payer.id, {"type": "eu_vat", "value": "DE123456789"})
    api.customers.balance_transactions.create(payer.id, {"amount": -300, "currency": "usd"})
    discounts: Any = [{"coupon": coupon.id}]
    shop.subscription(payer, monthly, discounts=discounts, default_tax_rates=[rate.id])
    items: Any = [{"price": yearly.id, "quantity": 2}, {"price": usage.id}]
    api.subscriptions.create({"customer": payer.id, "items": items, "billing_mode": {"type": "flexible"}})
    shop.subscription(payer, monthly, trial_period_days=90)
    api.subscriptions.cancel(shop.subscription(payer, yearly).id)
    shop.subscription(debtor, monthly)
    failing = api.payment_methods.attach("pm_card_chargeCustomerFail", {"customer": debtor.id})
    api.customers.update(debtor.id, {"invoice_settings": {"default_payment_method": failing.id}})
    used: Any = {"stripe_customer_id": payer.id, "value": "20000"}
    api.billing.meter_events.create({"event_name": "requests", "payload": used})
    scheduled = api.subscriptions.create({"customer": payer.id, "items": [{"price": monthly.id}]})
    api.subscription_schedules.create({"from_subscription": scheduled.id})
    clock = api.test_helpers.test_clocks.create({"frozen_time": NOW - 2 * MONTH})
    traveller = api.customers.create({"email": "t@example.com", "test_clock": clock.id})
    own = api.payment_methods.attach("pm_card_visa", {"customer": traveller.id})
    shop.subscription(traveller, monthly, default_payment_method=own.id)
    return payer, debtor


def _pay(shop: Shop, payer: stripe.Customer, debtor: stripe.Customer) -> None:
    """Leave payments, invoices and pages in several states."""
    api = shop.api
    pay: Any = {"amount": 2000, "currency": "usd", "payment_method_types": ["card"]}
    card: Any = {"payment_method": "pm_card_visa", "confirm": True}
    for extra in ({}, card, {**card, "capture_method": "manual"}):
        api.payment_intents.create({**pay, **extra})
    api.refunds.create({"payment_intent": api.payment_intents.create({**pay, **card}).id, "amount": 500})
    api.payment_intents.create({**pay, **card, "payment_method": "pm_card_threeDSecureRequired"})
    api.setup_intents.create({"customer": payer.id, "payment_method_types": ["card"]})
    for finish in (None, "finalize_invoice", "pay", "void_invoice"):
        invoice = api.invoices.create({"customer": payer.id, "auto_advance": False})
        line: Any = {"customer": payer.id, "invoice": invoice.id, "amount": 1500, "currency": "usd"}
        api.invoice_items.create(line)
        if finish is not None:
            api.invoices.finalize_invoice(invoice.id)
        if finish in ("pay", "void_invoice"):
            getattr(api.invoices, finish)(invoice.id)
    api.credit_notes.create({"invoice": invoice_of(shop, payer), "amount": 100, "refund_amount": 100})
    api.invoice_items.create({"customer": debtor.id, "amount": 700, "currency": "usd"})
    shop.checkout()
    setting_up: Any = {"mode": "setup", "currency": "usd", "success_url": "http://127.0.0.1/done"}
    api.checkout.sessions.create(setting_up)
    portal = api.billing_portal.configurations.list().data[0]
    api.billing_portal.sessions.create({"customer": payer.id, "configuration": portal.id})
    api.tokens.create({"card": {"number": "4242424242424242", "exp_month": "12", "exp_year": "2040"}})
    calculated: Any = {"address": ADDRESS, "address_source": "billing"}
    items: Any = [{"amount": 1000, "reference": "a"}]
    api.tax.calculations.create({"currency": "eur", "customer_details": calculated, "line_items": items})


def invoice_of(shop: Shop, payer: stripe.Customer) -> str:
    """Return a paid invoice with money on it."""
    paid = shop.api.invoices.list({"customer": payer.id, "status": "paid", "limit": 100}).data
    return next(each.id for each in paid if each.amount_paid > 1000)
