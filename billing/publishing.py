"""What would have to change at Stripe to make it sell what our rows say. Decides only: `billing.stripe.catalog` does.

Everything is computed from what Stripe has at the moment, so that a publication that was interrupted anywhere
is completed by the next one, and one that is complete leads to an empty list.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any

from accounts import clock
from billing.models import Meter, Plan, PlanPrice, PublishedPrice
from billing.plan_rules import faults_of
from billing.publication import (
    ArchivePrice,
    Change,
    CreateMeter,
    CreatePrice,
    CreateProduct,
    KeepPrice,
    Publication,
    UpdateMeter,
    UpdateProduct,
)
from billing.subscribers import count_subscribers
from billing.terms import Terms, describe, read_terms

# A Checkout page lives for a day: until then somebody may be paying the price that it was opened with.
CHECKOUT_HOURS = 24
# In the metadata of each price that Tollgate makes: the slug of the plan that it was made for.
PLAN_KEY = "tollgate_plan"

Data = Mapping[str, Any]


class Unpublishable(Exception):
    """A plan cannot be published as it is. The message is a sentence for staff."""


@dataclass
class Snapshot:
    """What Stripe has, as plain data: prices with their tiers, and products by id where they exist."""

    meters: Sequence[Data] = ()
    products: dict[str, Data] = field(default_factory=dict)
    prices: dict[str, Data] = field(default_factory=dict)
    # Retired prices that a subscription or schedule still needs.
    needed: set[str] = field(default_factory=set)

    @cached_property
    def meter_slugs(self) -> dict[str, str]:
        """Our slugs by Stripe's ids."""
        slugs = {meter.event_name: meter.slug for meter in Meter.objects.all()}
        return {each["id"]: slugs[each["event_name"]] for each in self.meters if each["event_name"] in slugs}

    def holder(self, lookup_key: str) -> Data | None:
        return next((price for price in self.prices.values() if price["lookup_key"] == lookup_key), None)


def retired_prices(plans: Iterable[Plan]) -> list[PublishedPrice]:
    """Return those of Tollgate's own making that are sold no more, and that nobody can be paying right now."""
    before = clock.now() - timedelta(hours=CHECKOUT_HOURS)
    rows = PublishedPrice.objects.filter(
        plan__in=plans, is_adopted=False, archived_at=None, retired_at__lt=before
    )
    return list(rows.select_related("plan", "meter"))


def earlier_prices(row: PlanPrice) -> list[str]:
    """Return the ids of the prices that a row had, the one it has first, that charge what it says now."""
    earlier = row.plan.published_prices.filter(meter=row.meter, terms=row.terms())
    ids = [row.stripe_price_id, *earlier.order_by("-published_at").values_list("stripe_price_id", flat=True)]
    return list(dict.fromkeys(each for each in ids if each))


def compare(plans: Iterable[Plan], meters: Iterable[Meter], snapshot: Snapshot) -> Publication:
    """Return what publishing `plans`, and `meters` by themselves, has to do."""
    changes: list[Change] = []
    faults: list[str] = []
    for meter in meters:
        gather(changes, faults, str(meter), meter_changes(meter, snapshot))
    for plan in plans:
        rows = list(plan.prices.select_related("meter", "plan"))
        if rows:
            found = faults_of(plan)
            faults += [f"{plan} cannot be published. {fault}" for fault in found]
            if not found:
                gather(changes, faults, str(plan), plan_changes(plan, rows, snapshot))
    for retired in retired_prices(plans):
        if retired.stripe_price_id not in snapshot.needed:
            changes += archive(retired, snapshot)
    return Publication(tuple(changes), tuple(faults))


def gather(changes: list[Change], faults: list[str], what: str, found: Iterator[Change]) -> None:
    """Add what is found, once each, as several plans share a meter; nothing of it where there is a fault."""
    try:
        new = list(found)
    except Unpublishable as fault:
        faults.append(f"{what} cannot be published. {fault}")
    else:
        changes += [change for change in new if change not in changes]


def plan_changes(plan: Plan, rows: list[PlanPrice], snapshot: Snapshot) -> Iterator[Change]:
    meters = {row.meter.slug: row.meter for row in rows if row.meter}
    for meter in meters.values():
        yield from meter_changes(meter, snapshot)
    product_id = plan.stripe_product_id or plan.product_id
    if product_id not in snapshot.products:
        product_id = plan.product_id
    # One that was adopted keeps the name that the operator gave it.
    texts = {"name": plan.name, "description": plan.description or plan.name}
    texts = texts if product_id == plan.product_id else {}
    yield from product_changes(product_id, texts, snapshot, plan=plan.slug)
    for meter in meters.values():
        # A product of its own, or checkout and invoice would name two lines after the plan.
        texts = {"name": meter.name, "description": f"Counted by the {meter.unit}"}
        yield from product_changes(meter.product_id, texts, snapshot)
    for row in rows:
        yield from price_changes(row, snapshot, product_id=row.meter.product_id if row.meter else product_id)


def meter_changes(meter: Meter, snapshot: Snapshot) -> Iterator[Change]:
    named = [each for each in snapshot.meters if each["event_name"] == meter.event_name]
    # Of several at most one is active: Stripe sees to that. A price stays bound to its meter's id.
    found = next((each for each in named if each["status"] == "active"), None) or next(
        (each for each in named if each["id"] == meter.stripe_meter_id), None
    )
    if found is None:
        yield CreateMeter(
            sentence=f"Create the meter {meter}, which counts {meter.unit}s.",
            slug=meter.slug,
            event_name=meter.event_name,
            display_name=meter.name,
        )
        return
    if found["default_aggregation"]["formula"] != "sum" or found["customer_mapping"]["type"] != "by_id":
        raise Unpublishable(
            f"Stripe's meter {meter.event_name} does not add up units by customer: deactivate it at Stripe first."
        )
    reactivates, renames = found["status"] != "active", found["display_name"] != meter.name
    if reactivates or renames or meter.stripe_meter_id != found["id"]:
        does = "Reactivate" if reactivates else "Rename" if renames else "Note"
        rest = (
            f" from “{found['display_name']}”"
            if renames
            else ", which Stripe has already" * (not reactivates)
        )
        yield UpdateMeter(
            sentence=f"{does} the meter {meter}{rest}.",
            slug=meter.slug,
            meter_id=found["id"],
            display_name=meter.name,
            reactivates=reactivates,
            renames=renames,
        )


def product_changes(
    product_id: str, texts: dict[str, str], snapshot: Snapshot, *, plan: str = ""
) -> Iterator[Change]:
    found = snapshot.products.get(product_id)
    if found is None:
        sentence = f"Create the product {texts['name']}."
        yield CreateProduct(sentence=sentence, plan=plan, product_id=product_id, **texts)
        return
    new: dict[str, Any] = {name: text for name, text in texts.items() if found[name] != text}
    parts = {
        "name": f"call it “{new.get('name')}”",
        "description": f"describe it as “{new.get('description')}”",
        "active": "bring it back, since it is archived",
    }
    if not found["active"]:
        new["active"] = True
    if new:
        yield UpdateProduct(
            sentence=f"Change the product {found['name']}: {', '.join(parts[name] for name in new)}.",
            plan=plan,
            product_id=product_id,
            texts=new,
        )


def price_changes(row: PlanPrice, snapshot: Snapshot, *, product_id: str) -> Iterator[Change]:
    terms, slugs = row.terms(), snapshot.meter_slugs
    holder = snapshot.holder(row.lookup_key)
    if holder is not None and read_terms(holder, meters=slugs) == terms:
        yield from keep(row, holder, terms, verb="Note" if is_ours(holder, row) else "Adopt")
        return
    if holder is not None and not is_ours(holder, row):
        what = said(holder, snapshot, meter=row.meter)
        raise Unpublishable(
            f"Stripe has another price under the lookup key {row.lookup_key}, {what}: adopt that one, or choose "
            "another lookup key."
        )
    for price_id in earlier_prices(row):
        price = snapshot.prices.get(price_id)
        if price is not None and read_terms(price, meters=slugs) == terms:
            yield from keep(row, price, terms, verb="Sell again", holder=holder)
            return
    replaced = holder["id"] if holder else None
    sentence = f"Create the price {title(row, terms)}, under the lookup key {row.lookup_key}."
    sentence += staying(row, snapshot, replaced=replaced)
    yield CreatePrice(
        sentence=sentence,
        plan=row.plan.slug,
        lookup_key=row.lookup_key,
        product_id=product_id,
        terms=terms,
        replaces=replaced,
    )


def keep(
    row: PlanPrice, price: Data, terms: Terms, *, verb: str, holder: Data | None = None
) -> Iterator[Change]:
    takes_key, activates = price["lookup_key"] != row.lookup_key, not price["active"]
    is_noted = row.stripe_price_id == price["id"] and row.published_terms == terms
    if is_noted and not takes_key and not activates:
        return
    owner = PublishedPrice.objects.filter(stripe_price_id=price["id"]).exclude(plan=row.plan).first()
    if owner:
        raise Unpublishable(f"The price {price['id']} is one of {owner.plan}'s.")
    steps = []
    if activates:
        steps.append("it is archived, and can be bought again then")
    if takes_key:
        key = f"it gets the lookup key {row.lookup_key}"
        steps.append(f"{key}, which {holder['id']} has now" if holder else key)
    yield KeepPrice(
        sentence=f"{verb if not is_noted else 'Keep'} the price {title(row, terms)}, which Stripe has already"
        f"{': ' if steps else ''}{' and '.join(steps)}.",
        plan=row.plan.slug,
        lookup_key=row.lookup_key,
        price_id=price["id"],
        terms=terms,
        takes_key=takes_key,
        activates=activates,
    )


def is_ours(price: Data, row: PlanPrice) -> bool:
    """Whether a price that holds a row's lookup key was made for it, so that a new one may take it over."""
    if price["id"] == row.stripe_price_id or price["metadata"].get(PLAN_KEY) == row.plan.slug:
        return True
    product = row.meter.product_id if row.meter else row.plan.product_id
    known = row.plan.published_prices.filter(stripe_price_id=price["id"])
    return price["product"] == product or known.exists()


def archive(retired: PublishedPrice, snapshot: Snapshot) -> Iterator[Change]:
    price = snapshot.prices.get(retired.stripe_price_id)
    if price is not None and price["active"]:
        what = said(price, snapshot, meter=retired.meter)
        yield ArchivePrice(
            sentence=f"Archive the price {retired.plan}, {what}, which is sold no more and which nobody is on.",
            plan=retired.plan.slug,
            price_id=retired.stripe_price_id,
        )


def title(row: PlanPrice, terms: Terms) -> str:
    """Return “Pro, $39 a month” or “Pro, Requests in usd: 10,000 calls included, then $0.002 a call”."""
    if row.meter:
        return f"{row.plan}, {row.meter} in {row.currency}: {describe(terms, unit=row.meter.unit)}"
    return f"{row.plan}, {describe(terms)}"


def staying(row: PlanPrice, snapshot: Snapshot, *, replaced: str | None) -> str:
    """Return a sentence on who stays on the price that is replaced; empty where there is none."""
    old = replaced or row.stripe_price_id
    price = snapshot.prices.get(old or "")
    if old is None or price is None:
        return ""
    count = count_subscribers([old])[old]
    who = f"{count} subscriber{'s stay' if count > 1 else ' stays'}" if count else "Nobody is"
    until = ": the limits that the plan has now hold for them too, at that price, until you move them"
    was = said(price, snapshot, meter=row.meter)
    return f" {who} on the older one, {was}{until if count and row.meter else ''}."


def said(price: Data, snapshot: Snapshot, *, meter: Meter | None) -> str:
    terms = read_terms(price, meters=snapshot.meter_slugs)
    unit = meter.unit if meter else "unit"
    return describe(terms, unit=unit) if terms else f"{price['id']}, which no plan could have"
