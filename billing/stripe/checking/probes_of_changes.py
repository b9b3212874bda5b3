"""Probes of subscriptions: what may be on one, how it changes, and how it ends."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from billing.stripe.checking.bench import FAILING_CARD, Bench
from billing.stripe.checking.findings import Seen, all_lines, ask

DAY = 86_400
HOUR = 3_600
FEE, DEARER, YEARLY, UNIT = 1_000, 5_000, 10_000, 10
BACK = "https://example.com/"


def mixed_intervals(bench: Bench) -> Iterator[Seen]:
    """Sell a yearly fee beside monthly usage, and turn a monthly fee into a yearly one."""
    meter = bench.meter()
    plan, usage = bench.product("fee"), bench.product("usage")
    monthly, yearly = bench.price(plan, FEE), bench.price(plan, YEARLY, interval="year")
    metered = bench.price(usage, UNIT, meter=meter.id)
    names = {monthly: "monthly fee", yearly: "yearly fee", metered: "usage"}
    customer = bench.customer()
    page = {
        "mode": "subscription",
        "customer": customer,
        "line_items": [{"price": yearly, "quantity": 1}, {"price": metered}],
        "success_url": BACK,
        "cancel_url": BACK,
    }
    checkout = ask(lambda: bench.v1.checkout.sessions.create(page))
    yield Seen("Checkout with a yearly fee and monthly usage", checkout.outcome)
    yield Seen("Stripe's words about Checkout", checkout.words, measured=True)
    directly = ask(lambda: bench.subscribe(customer, yearly, metered))
    yield Seen("a subscription with a yearly fee and monthly usage", directly.outcome)
    yield Seen("Stripe's words about the subscription", directly.words, measured=True)

    subscription = bench.subscribe(customer, monthly, metered)
    bench.advance(bench.start + 10 * DAY)
    update = {
        "items": [{"id": bench.items(subscription.id)[monthly]["id"], "price": yearly}],
        "proration_behavior": "always_invoice",
        "payment_behavior": "pending_if_incomplete",
    }
    change = ask(lambda: bench.v1.subscriptions.update(subscription.id, update))
    yield Seen("from monthly to yearly in mid-month", change.outcome)
    changed = bench.v1.subscriptions.retrieve(subscription.id)
    yield Seen(
        "days by which that moves the billing anchor", days(changed["billing_cycle_anchor"] - bench.start)
    )
    items = bench.items(subscription.id)
    for price, name in ((yearly, "the yearly fee"), (metered, "the usage")):
        for edge in ("start", "end") if price in items else ():
            moment = items[price][f"current_period_{edge}"]
            yield Seen(f"day of the {edge} of the period of {name}", days(moment - bench.start))
    yield Seen("invoices at the change", all_lines(bench.invoices(subscription.id)[1:], names))


def days(seconds: int) -> int:
    return round(seconds / DAY)


def portal(bench: Bench) -> Iterator[Seen]:
    """Which of our subscriptions the customer portal lets a customer change and cancel."""
    meter = bench.meter()
    plan, usage, other = (bench.product(name) for name in ("fee", "usage", "other"))
    monthly, yearly = bench.price(plan, FEE), bench.price(plan, YEARLY, interval="year")
    metered, dearer = bench.price(usage, UNIT, meter=meter.id), bench.price(other, DEARER)
    configuration = bench.v1.billing_portal.configurations.create(
        {
            "features": {
                "subscription_cancel": {"enabled": True, "mode": "at_period_end"},
                "subscription_update": {
                    "enabled": True,
                    "default_allowed_updates": ["price"],
                    "products": [
                        {"product": plan, "prices": [monthly, yearly]},
                        {"product": other, "prices": [dearer]},
                    ],
                },
            },
            "metadata": {"tollgate_check": bench.mark},
        }
    )
    for name, prices in (
        ("a monthly fee", [monthly]),
        ("a monthly fee and usage", [monthly, metered]),
        ("a yearly fee and monthly usage", [yearly, metered]),
    ):
        customer = bench.customer()
        subscription = bench.subscribe(customer, *prices)
        for verb, flow in (("changed", "subscription_update"), ("cancelled", "subscription_cancel")):
            params: Any = {
                "customer": customer,
                "configuration": configuration.id,
                "return_url": BACK,
                "flow_data": {"type": flow, flow: {"subscription": subscription.id}},
            }
            answer = ask(partial(bench.v1.billing_portal.sessions.create, params))
            yield Seen(f"{name}: can be {verb} there", answer.outcome)
            if not answer.is_yes:
                said = answer.words.replace(subscription.id, "…")
                yield Seen(f"{name}: Stripe's words", said, measured=True)


def declined_upgrade(bench: Bench) -> Iterator[Seen]:
    """Upgrade with a card that is declined, and give the upgrade up."""
    cheap, dear = bench.price(bench.product("fee"), FEE), bench.price(bench.product("dearer"), DEARER)
    names = {cheap: "old", dear: "new"}
    customer = bench.customer()
    subscription = bench.subscribe(customer, cheap)
    bench.give_card(customer, FAILING_CARD)
    now = bench.start + 10 * DAY
    bench.advance(now)
    update = {
        "items": [{"id": bench.items(subscription.id)[cheap]["id"], "price": dear}],
        "proration_behavior": "always_invoice",
        "payment_behavior": "pending_if_incomplete",
    }
    yield Seen("the upgrade", ask(lambda: bench.v1.subscriptions.update(subscription.id, update)).outcome)
    waiting = bench.v1.subscriptions.retrieve(subscription.id)
    pending = waiting["pending_update"]
    yield Seen("it waits as a pending update", pending is not None)
    if pending is not None:
        yield Seen("hours until it expires", round((pending["expires_at"] - now) / HOUR))
    yield Seen("status of the subscription", waiting["status"])
    yield Seen("price meanwhile", [names[each] for each in bench.items(subscription.id)])
    (*_, invoice) = bench.invoices(subscription.id)
    yield Seen("its invoice", f"{invoice['status']}, {invoice['billing_reason']}")
    yield Seen("voiding the invoice", ask(lambda: bench.v1.invoices.void_invoice(invoice["id"])).outcome)
    after = bench.v1.subscriptions.retrieve(subscription.id)
    yield Seen("the pending update is gone then", after["pending_update"] is None)
    yield Seen("price afterwards", [names[each] for each in bench.items(subscription.id)])
    yield Seen("status afterwards", after["status"])


def cancel_now(bench: Bench) -> Iterator[Seen]:
    """Cancel at once, with the usage so far to be invoiced."""
    meter = bench.meter()
    fee = bench.price(bench.product("fee"), FEE)
    usage = bench.price(bench.product("usage"), UNIT, meter=meter.id)
    names = {fee: "fee", usage: "usage"}
    customer = bench.customer()
    subscription = bench.subscribe(customer, fee, usage)
    bench.advance(bench.start + 2 * DAY)
    bench.use(customer, 10, at=bench.start + DAY, identifier="so-far")
    bench.wait_for_usage(meter.id, customer, 10, start=bench.start, end=bench.start + 2 * DAY)
    bench.advance(bench.start + 5 * DAY)
    cancelled = bench.v1.subscriptions.cancel(subscription.id, {"invoice_now": True, "prorate": True})
    yield Seen("status", cancelled["status"])
    last = bench.invoices(subscription.id)[1:]
    yield Seen("invoices for it", len(last))
    yield Seen("lines", all_lines(last, names))
    yield Seen("its status", [each["status"] for each in last])
    yield Seen("its total", [str(each["total"]) for each in last])
