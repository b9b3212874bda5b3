"""Probes of metered usage: when it counts, on which invoice, and at which price."""

from collections.abc import Iterator
from typing import Any

from billing.stripe.checking.bench import Bench, NotInTime
from billing.stripe.checking.findings import Seen, all_lines, ask, lines

DAY = 86_400
HOUR = 3_600
FEE, UNIT, DEARER = 1_000, 10, 20


def metered_swap(bench: Bench) -> Iterator[Seen]:
    """Swap a metered item to another price of the same meter, ten days into its month."""
    meter = bench.meter()
    fee = bench.price(bench.product("fee"), FEE)
    usage = bench.product("usage")
    old, new = (bench.price(usage, amount, meter=meter.id) for amount in (UNIT, DEARER))
    names = {fee: "fee", old: "usage at the old price", new: "usage at the new price"}
    customer = bench.customer()
    subscription = bench.subscribe(customer, fee, old)
    yield Seen("billing mode", subscription["billing_mode"]["type"])
    before, after = bench.start + DAY, bench.start + 11 * DAY
    bench.advance(bench.start + 2 * DAY)
    bench.use(customer, 10, at=before, identifier="before")
    bench.wait_for_usage(meter.id, customer, 10, start=bench.start, end=after)
    bench.advance(bench.start + 10 * DAY)
    update = {
        "items": [{"id": bench.items(subscription.id)[old]["id"], "price": new}],
        "proration_behavior": "always_invoice",
        "payment_behavior": "pending_if_incomplete",
    }
    swapped = bench.v1.subscriptions.update(subscription.id, update)
    at_once = bench.invoices(subscription.id)[1:]
    yield Seen("invoices at the swap", all_lines(at_once, names))
    end = max(each["current_period_end"] for each in swapped["items"]["data"])
    yield Seen("days until the metered period ends", (end - bench.start) // DAY)
    bench.advance(bench.start + 12 * DAY)
    bench.use(customer, 5, at=after, identifier="after")
    bench.wait_for_usage(meter.id, customer, 15, start=bench.start, end=after + DAY)
    bench.advance(end + 2 * HOUR)
    later = bench.invoices(subscription.id)[1 + len(at_once) :]
    yield Seen("invoices at the renewal", len(later))
    yield Seen("lines at the renewal", all_lines(later, names))


def duplicate_usage(bench: Bench) -> Iterator[Seen]:
    """Report the same usage twice, and see how soon it shows."""
    meter = bench.meter()
    customer = bench.customer(card=None, on_clock=False)
    at = bench.present() - 60

    def report() -> Any:
        return bench.use(customer, 7, at=at, identifier="twice")

    report()
    answer = ask(report)
    yield Seen("the same identifier again", answer.outcome)
    yield Seen(
        "it says that it exists with that identifier", "already exists with identifier" in answer.words
    )
    yield Seen("Stripe's words", answer.words.replace(bench.mark, "…"), measured=True)
    seconds = bench.wait_for_usage(meter.id, customer, 7, start=at - HOUR, end=at + HOUR)
    yield Seen("seconds until it shows in the summaries", round(seconds), measured=True)
    yield Seen("units counted", bench.counted(meter.id, customer, start=at - HOUR, end=at + HOUR))


def late_usage(bench: Bench) -> Iterator[Seen]:
    """Report usage of a month that is over: while its invoice is a draft, and once it is final."""
    meter = bench.meter()
    price = bench.price(bench.product("usage"), UNIT, meter=meter.id)
    names = {price: "usage"}
    customer = bench.customer()
    subscription = bench.subscribe(customer, price)
    end = subscription["items"]["data"][0]["current_period_end"]
    bench.advance(end + HOUR // 2)
    (*_, invoice) = bench.invoices(subscription.id)
    yield Seen("half an hour after the month the invoice is", invoice["status"])
    yield from reported(bench, meter.id, customer, units=7, at=end - 600, when="while it is a draft", total=7)
    bench.advance(end + 3 * HOUR)
    final = bench.v1.invoices.retrieve(invoice["id"])
    yield Seen("three hours after the month the invoice is", final["status"])
    yield Seen("usage on it", lines(final, names))
    yield from reported(bench, meter.id, customer, units=3, at=end - 1200, when="once it is final", total=10)
    bench.advance(bench.items(subscription.id)[price]["current_period_end"] + 3 * HOUR)
    yield Seen("usage on it in the end", lines(bench.v1.invoices.retrieve(invoice["id"]), names))
    (*_, following) = bench.invoices(subscription.id)
    yield Seen("usage on the next invoice", lines(following, names))


def reported(
    bench: Bench, meter: str, customer: str, *, units: int, at: int, when: str, total: int
) -> Iterator[Seen]:
    """Report usage dated `at`, and see whether it comes to count."""
    answer = ask(lambda: bench.use(customer, units, at=at, identifier=f"{units}-units"))
    yield Seen(f"usage reported {when}", answer.outcome)
    if answer.is_yes:
        try:
            bench.wait_for_usage(meter, customer, total, start=at - DAY, end=at + DAY)
            counts = True
        except NotInTime:
            counts = False
        yield Seen(f"usage reported {when} shows in the summaries", counts)
