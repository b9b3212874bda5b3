"""What must be true of a whole history, at any moment of it."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from typing import Any

from tests.sandbox.histories.actions import HOUR, World
from tests.sandbox.histories.model import half_up, heights
from tests.sandbox.histories.watching import SILENT, Watch, check_invoice, price_of, without

Object = dict[str, Any]


def check_all(world: World, watch: Watch) -> None:
    """Raise AssertionError for the first thing that is not as it must be."""
    invoices = [_plain(each) for each in world.invoices()]
    for each in invoices:
        each["lines"]["data"] = _all_lines(world, each)
        each["lines"]["has_more"] = False
        check_invoice(each, where="at the end")
    charges = _every(world.api.charges, customer=world.customer)
    _check_balance(world)
    _check_payments(world, invoices, charges)
    _check_events_tell_all(world, watch)
    lines = _billed(world, watch, invoices)
    _check_amounts(world, lines)
    _check_shares(watch, lines)
    _check_no_time_twice_or_never(world, watch, lines)
    _check_nothing_is_stuck(world, invoices)


def _plain(obj: Any) -> Object:
    return dict(obj.to_dict(for_json=True))


def _every(resource: Any, **params: Any) -> list[Object]:
    """Return every object of a list, oldest first."""
    rows: list[Object] = []
    while True:
        page = resource.list({**params, "limit": 100})
        rows += [_plain(each) for each in page.data]
        if not page.has_more:
            return rows[::-1]
        params["starting_after"] = rows[-1]["id"]


def _all_lines(world: World, invoice: Object) -> list[Object]:
    if not invoice["lines"]["has_more"]:
        return list(invoice["lines"]["data"])
    return [_plain(each) for each in world.api.invoices.line_items.list(invoice["id"], {"limit": 100}).data]


def _check_balance(world: World) -> None:
    rows = _every_balance(world)
    running = 0
    for row in rows:
        running += row["amount"]
        assert row["ending_balance"] == running, f"{row['id']} ends at {row['ending_balance']}, not {running}"
    balance = world.api.customers.retrieve(world.customer).balance
    assert balance == running, f"the balance is {balance}, its transactions come to {running}"


def _every_balance(world: World) -> list[Object]:
    rows: list[Object] = []
    params: dict[str, Any] = {"limit": 100}
    while True:
        page = world.api.customers.balance_transactions.list(world.customer, params)
        rows += [_plain(each) for each in page.data]
        if not page.has_more:
            return rows[::-1]
        params["starting_after"] = rows[-1]["id"]


def _check_payments(world: World, invoices: list[Object], charges: list[Object]) -> None:
    """What was charged is what invoices say was paid; what was refunded is what charges say."""
    charged = sum(each["amount"] for each in charges if each["status"] == "succeeded")
    paid = sum(each["amount_paid"] for each in invoices)
    assert charged == paid, f"{charged} were charged, and invoices say {paid} were paid"
    refunds = _every(world.api.refunds)
    for charge in charges:
        back = sum(
            each["amount"]
            for each in refunds
            if each["charge"] == charge["id"] and each["status"] not in ("failed", "canceled")
        )
        assert charge["amount_refunded"] == back <= charge["amount"], f"{charge['id']}: refunds"
        assert charge["refunded"] == (back == charge["amount"] > 0), f"{charge['id']}: refunded"
    by_intent = {
        row["payment"]["payment_intent"]: row["invoice"] for row in _every(world.api.invoice_payments)
    }
    totals: dict[str, int] = defaultdict(int)
    for charge in charges:
        if charge["status"] == "succeeded":
            totals[by_intent[charge["payment_intent"]]] += charge["amount"]
    for invoice in invoices:
        assert totals[invoice["id"]] == invoice["amount_paid"], f"{invoice['id']}: amount_paid"


def _check_events_tell_all(world: World, watch: Watch) -> None:
    """The last event about a subscription, an invoice or the customer shows it as it is."""
    found = [
        *world.api.subscriptions.list({"customer": world.customer, "status": "all", "limit": 100}).data,
        *world.invoices(),
        world.api.customers.retrieve(world.customer),
    ]
    for obj in found:
        kind = obj["object"]
        now = without(_plain(obj), SILENT.get(kind, set()))
        told = watch.latest.get((kind, obj["id"]))
        assert told is not None, f"no event tells of {obj['id']}"
        told = without(told, SILENT.get(kind, set()))
        changed = {name for name in {**now, **told} if now.get(name) != told.get(name)}
        assert not changed, f"{obj['id']} changed without an event: " + "; ".join(
            f"{name} is {now.get(name)!r}, was told as {told.get(name)!r}" for name in sorted(changed)
        )


class Line:
    """A line of an invoice, or a pending invoice item, of one subscription item."""

    def __init__(self, world: World, row: Object, *, item: str, proration: bool, source: str) -> None:
        self.item = item
        self.source = source
        self.proration = proration
        self.amount: int = row["amount"]
        off = sum(each["amount"] for each in row.get("discount_amounts") or [])
        self.net = self.amount - off
        self.quantity: int = row["quantity"]
        self.start: int = row["period"]["start"]
        self.end: int = row["period"]["end"]
        self.price = price_of(row) or ""
        self.offer = world.offers[self.price]
        # When the amount became final: a draft's discounts may still move as usage comes in.
        self.final: int | None = None
        unused = row["description"].startswith("Unused")
        self.sign = -1 if proration and (self.amount < 0 or (self.amount == 0 and unused)) else 1

    def __repr__(self) -> str:
        kind = "proration" if self.proration else "line"
        return (
            f"{kind} of {self.amount} for {self.quantity} × {self.offer.name} from {self.start} to {self.end} "
            f"on {self.source}"
        )


def _billed(world: World, watch: Watch, invoices: list[Object]) -> list[Line]:
    lines = []
    for invoice in invoices:
        for row in invoice["lines"]["data"]:
            details = row["parent"]["subscription_item_details"]
            if details and price_of(row) in world.offers:
                lines.append(
                    Line(
                        world,
                        row,
                        item=details["subscription_item"],
                        proration=details["proration"],
                        source=invoice["id"],
                    )
                )
                lines[-1].final = invoice["status_transitions"]["finalized_at"]
    for row in _every(world.api.invoice_items, customer=world.customer, pending=True):
        details = (row["parent"] or {}).get("subscription_details")
        if details and price_of(row) in world.offers:
            lines.append(
                Line(
                    world,
                    row,
                    item=details["subscription_item"],
                    proration=row["proration"],
                    source="what waits",
                )
            )
    return lines


def _check_amounts(world: World, lines: list[Line]) -> None:
    """A whole period costs what its price says for its quantity; a trial costs nothing."""
    groups: dict[tuple[Any, ...], list[Line]] = defaultdict(list)
    for line in lines:
        if not line.proration:
            groups[line.source, line.item, line.price, line.start, line.end].append(line)
    for rows in groups.values():
        quantity = sum(row.quantity for row in rows)
        amount = sum(row.amount for row in rows)
        if amount == 0 and not rows[0].offer.metered:
            continue
        exact = rows[0].offer.cost(quantity)
        # Each tier is a line of its own, and rounded by itself.
        assert amount == half_up(exact) or (
            len(rows) > 1 and abs(amount - exact) <= Fraction(len(rows), 2)
        ), f"{rows[0]!r} should come to {half_up(exact)}"


def _check_shares(watch: Watch, lines: list[Line]) -> None:
    """A charge for the rest of a period is its exact share, to half a cent; so is what is given back of it.

    Flexible billing mode reckons a credit from the amount that was billed, whatever the price is by now.
    """
    for line in lines:
        if not line.proration:
            continue
        if line.sign < 0:
            _check_credit(line, lines)
        elif not {watch.owner[line.item]} & {*watch.discounted, *watch.trial_ends}:
            # An item that came later shares the periods of those before it.
            siblings = [each for each, owner in watch.owner.items() if owner == watch.owner[line.item]]
            shares = [
                line.offer.cost(line.quantity) * Fraction(line.end - line.start, end - start)
                for start, end in set().union(*(watch.periods[each] for each in siblings))
                if start <= line.start and line.end == end
            ]
            _close_to_one(line, shares)


def _check_credit(line: Line, lines: list[Line]) -> None:
    of_drafts = [
        each
        for each in lines
        if each.item == line.item
        and not each.proration
        and each.start <= line.start < each.end
        and (each.final is None or each.final > line.start)
    ]
    if of_drafts:
        return  # Given back within the hour of a draft, by what the draft said then.
    debits: dict[tuple[Any, ...], int] = defaultdict(int)
    for index, each in enumerate(lines):
        if each.item == line.item and each.sign > 0 and each.start <= line.start and line.end <= each.end:
            # The tiers of one price are billed in several lines.
            debits[each.source, each.start, each.end, index if each.proration else None] += each.net
    _close_to_one(
        line,
        [-Fraction(net * (line.end - line.start), end - start) for (_, start, end, _), net in debits.items()],
    )


def _close_to_one(line: Line, shares: list[Fraction]) -> None:
    assert any(abs(line.amount - share) <= Fraction(1, 2) for share in shares), (
        f"{line!r} should come to one of {[float(share) for share in shares]}"
    )


def _check_no_time_twice_or_never(world: World, watch: Watch, lines: list[Line]) -> None:
    """While an item is there, each second of it is billed exactly once."""
    ended = {
        each.id: each
        for each in world.api.subscriptions.list(
            {"customer": world.customer, "status": "all", "limit": 100}
        ).data
    }
    # By item, (price, from, to, sign, line): whether it cost anything.
    spans: dict[str, dict[tuple[str, int, int, int, str], bool]] = defaultdict(dict)
    for index, line in enumerate(lines):
        # The tiers of one price are one span.
        mark = f"{line.source}:{index if line.proration else ''}"
        key = (line.price, line.start, line.end, line.sign, mark)
        spans[line.item][key] = spans[line.item].get(key, False) or bool(line.net)
    for item, begun in watch.first_seen.items():
        subscription = ended[watch.owner[item]]
        if subscription.status in ("incomplete", "incomplete_expired"):
            continue
        if item in world.doubled | world.forfeited:
            continue
        current = max(watch.periods[item])
        metered = world.offers[watch.prices[item]].metered
        end = min(watch.removed.get(item, world.now), subscription.ended_at or world.now)
        # A trial is free, and so is what is added without proration until the next period.
        start = max(begun, watch.trial_ends.get(watch.owner[item], begun))
        if item in world.unbilled:
            start = max(start, min((row[1] for row in spans[item]), default=end))
        if metered:
            # Billed when its period has closed.
            end = min(end, current[0])
        if end <= start:
            continue
        every = [(row[1], row[2], row[3]) for row in spans[item]]
        # What cost nothing after its discount is not credited either.
        paid = [(row[1], row[2], row[3]) for row, cost in spans[item].items() if cost]
        costly = heights(paid, start=start, end=end)
        for low, high, times in heights(every, start=start, end=end):
            least = min(each for begin, until, each in costly if begin < high and until > low)
            # A metered period cut short by a change shows no line where nothing was used.
            unused = metered and times == 0 and not world.usage.between(low, high, known_at=high)
            assert least <= 1 <= times or unused, (
                f"{item} is billed {times} times between {low} and {high}: "
                f"{sorted(spans[item], key=lambda row: row[1])}"
            )


def _check_nothing_is_stuck(world: World, invoices: list[Object]) -> None:
    for invoice in invoices:
        waiting = invoice["status"] == "draft" and invoice["auto_advance"]
        assert not waiting or invoice["created"] + HOUR >= world.now, f"{invoice['id']} is still a draft"
    for each in world.subscriptions():
        for item in each["items"].data:
            assert item.current_period_end > world.now, f"{item.id} was not renewed"
        assert each.status != "incomplete" or each.created + 23 * HOUR > world.now, f"{each.id} never expired"
