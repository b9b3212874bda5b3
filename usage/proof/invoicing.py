"""What of a meter Stripe's invoices hold, by the mirror, and which moments of use they are made for."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from djstripe import models as djstripe

from billing.models import Meter
from billing.periods import anchored_month
from billing.stripe.invoice_items import all_lines
from billing.subscriptions import from_timestamp, subscription_of
from usage.models import MeterReport

# Stripe makes the invoice at the turn of the period and closes it an hour later; its webhook may take a while.
INVOICED_WITHIN = timedelta(days=1)
# By more than this two clocks do not differ by chance.
CLOCKS_AGREE = timedelta(minutes=5)
# The least that two moments differ by.
MOMENT = timedelta(microseconds=1)
NEVER_BEGUN = frozenset({"incomplete", "incomplete_expired"})


class Standing(StrEnum):
    """Where units that were used at some moment belong."""

    DUE = "due"  # On an invoice that is there and final.
    TO_COME = "to come"  # On a draft, or on one that is not made yet.
    FREE = "free"  # On none: nothing of the meter is sold, or it was a trial.
    GIVEN_UP = (
        "given up"  # On none: the subscription ended because it was not paid, and Stripe bills no more.
    )
    MISSED = "missed"  # On one that should be there, and is not.


@dataclass(slots=True)
class Billed:
    """A metered item's period on an invoice: the lines of its tiers together. `amount` in minor units.

    Without an `invoice_id` it is a period that Stripe made no invoice for.
    """

    start: datetime
    end: datetime
    invoice_id: str
    number: str
    finalized_at: datetime | None
    subscription_id: str
    price_id: str
    currency: str
    units: int = 0
    amount: int = 0

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment < self.end


@dataclass(frozen=True, slots=True)
class Selling:
    """A subscription's metered item: since when it bills what is used, and what of that is not billed.

    `begins` is when the item did, which may be later than its subscription, `since`. It is open since `open_since` and
    until `open_until`, in the month that began at `month`. It `pauses` where its trial ends and there is no card.
    """

    subscription_id: str
    price_id: str
    currency: str
    since: datetime
    begins: datetime
    ends: datetime | None
    month: datetime
    open_since: datetime
    open_until: datetime
    trial: tuple[datetime, datetime] | None
    is_paused: bool
    was_unpaid: bool
    pauses: bool

    def is_on(self, moment: datetime) -> bool:
        return self.begins <= moment and (self.ends is None or moment < self.ends)

    def standing(self, moment: datetime, *, now: datetime) -> Standing:
        if not self.is_on(moment):
            return Standing.FREE
        if self.is_paused or (self.trial and self.trial[0] <= moment < self.trial[1]):
            return Standing.FREE
        closed = self.open_since if moment < self.open_since else self.ends
        if self.month <= moment < self.open_since:
            # A change of price cut the month. Where no invoice was asked for, the next one has what came before.
            closed = min(self.open_until, self.ends or self.open_until)
        if closed is None or now - closed < INVOICED_WITHIN:
            return Standing.TO_COME
        # Its last period alone: those before it had invoices, paid or not.
        if self.was_unpaid and moment >= self.open_since:
            return Standing.GIVEN_UP
        return Standing.MISSED

    def last_period(self, *, now: datetime) -> Billed | None:
        """Return what an invoice at the end should have billed, None while it may come and where none is due."""
        if self.ends is None or self.open_since >= self.ends:
            return None
        if self.standing(self.open_since, now=now) != Standing.MISSED:
            return None
        return Billed(
            start=self.open_since,
            end=self.ends,
            invoice_id="",
            number="",
            finalized_at=None,
            subscription_id=self.subscription_id,
            price_id=self.price_id,
            currency=self.currency,
        )


@dataclass(slots=True)
class Account:
    """All that Stripe has billed and will bill of one organization and meter."""

    billed: list[Billed] = field(default_factory=list)
    sold: list[Selling] = field(default_factory=list)
    void: list[Billed] = field(default_factory=list)

    @property
    def final(self) -> list[Billed]:
        return [each for each in self.billed if each.finalized_at]

    def find_billed(self, moment: datetime) -> Billed | None:
        """Return the final invoice's period that the moment is in."""
        return next((each for each in self.final if moment in each), None)

    def billed_as_of(self, told: datetime, *, period_start: datetime) -> datetime:
        """Return the moment by which units belong on an invoice that are dated at `told` and charged to a period.

        As a rule that is `told`. But of an end at once the gate hears a moment later, and the hour that units are
        dated at may have begun in between, also where two clocks differ. What was charged to the ended subscription's
        period belongs on its last invoice then, unless another one has it or is to have it.
        """
        ends = [
            each.ends for each in self.sold if each.ends and each.since <= period_start < each.ends <= told
        ]
        if (
            not ends
            or any(told in each for each in self.billed)
            or any(each.is_on(told) for each in self.sold)
        ):
            return told
        return max(period_start, max(ends) - MOMENT)

    def is_ahead(self, start: datetime, end: datetime, *, now: datetime) -> bool:
        """Whether an invoice of what is used from `start` to `end` was closed at a moment that is still to come.

        Stripe's clock is ahead of ours then, as where a test clock was moved on.
        """
        later = now + CLOCKS_AGREE
        return any(
            each.finalized_at > later and each.start < end and start < each.end
            for each in self.final
            if each.finalized_at
        )

    def left_out(self, *, now: datetime) -> list[Billed]:
        """Return the last periods of subscriptions that ended without an invoice for them.

        That happens where one is ended at Stripe at once and no invoice asked for. Where the invoice of the end was
        voided, somebody let it go. One that was voided before, as of an upgrade that was not paid, says nothing of it.
        """
        ends = [each.last_period(now=now) for each in self.sold]
        return [each for each in ends if each and not self.has_invoice_of(each)]

    def has_invoice_of(self, last: Billed) -> bool:
        """Whether the subscription has an invoice for what may be its last period, a draft or a void one too."""
        billed = [each for each in self.billed if each.subscription_id == last.subscription_id]
        void = [each for each in self.void if each.subscription_id == last.subscription_id]
        return any(each.start < last.end and last.start < each.end for each in billed) or any(
            each.start < last.end <= each.end for each in void
        )

    def standing(self, moment: datetime, *, now: datetime) -> Standing:
        if self.find_billed(moment):
            return Standing.DUE
        if any(moment in each for each in self.billed):
            return Standing.TO_COME
        found = {each.standing(moment, now=now) for each in self.sold if not self.was_paused(each, moment)}
        return next(
            (s for s in (Standing.TO_COME, Standing.MISSED, Standing.GIVEN_UP) if s in found), Standing.FREE
        )

    def was_paused(self, selling: Selling, moment: datetime) -> bool:
        """Whether it is of the time between a trial's end and a resume, of which Stripe bills nothing.

        Of one that was not paused the first period begins at the trial's end.
        """
        if not selling.pauses or selling.trial is None:
            return False
        paused_at = selling.trial[1]
        known = [
            each for each in [*self.billed, *self.void] if each.subscription_id == selling.subscription_id
        ]
        begun = [each.start for each in known if each.start >= paused_at]
        return paused_at <= moment < min([selling.open_since, *begun])


@dataclass(frozen=True, slots=True)
class Course:
    """When a subscription to anything was there, and from where its months are counted."""

    begins: datetime
    ends: datetime | None
    anchor: datetime
    trial: tuple[datetime, datetime] | None

    def __contains__(self, moment: datetime) -> bool:
        return self.begins <= moment and (self.ends is None or moment < self.ends)

    def find_end(self, start: datetime) -> datetime | None:
        """Return where the quota period that began at `start` ended or ends, None for one of another's."""
        if start not in self:
            return None
        if self.trial and self.trial[0] <= start < self.trial[1]:
            return self.trial[1]
        # A change that reset the anchor came after: the period was counted from another.
        end = anchored_month(min(self.anchor, start), start).end
        return min(end, self.ends) if self.ends else end


@dataclass(slots=True)
class Accounts:
    """What is known of some organizations: their accounts by organization and meter, their subscriptions' courses."""

    by_meter: dict[tuple[UUID, str], Account] = field(default_factory=lambda: defaultdict(Account))
    courses: dict[UUID, list[Course]] = field(default_factory=lambda: defaultdict(list))

    def of(self, organization_id: UUID, meter: str) -> Account:
        return self.by_meter.get((organization_id, meter)) or Account()


def accounts_of(organization_ids: Sequence[UUID], meters: Iterable[Meter], *, since: datetime) -> Accounts:
    """Return what the mirror knows of invoices made from `since` on, and of all subscriptions.

    Raises StripeUnavailable: of an invoice with many lines the mirror has the first ones only.
    """
    by_product = {meter.product_id: meter.slug for meter in meters}
    by_meter = {meter.stripe_meter_id: meter.slug for meter in meters if meter.stripe_meter_id}
    accounts = Accounts()
    owners = owners_of_customers(organization_ids, since=since)
    subscriptions = djstripe.Subscription.objects.filter(customer__id__in=owners)
    for customer_id, data in subscriptions.values_list("customer__id", "stripe_data"):
        owner = owners[customer_id]
        if data["status"] in NEVER_BEGUN:
            continue
        accounts.courses[owner].append(course(data))
        for item in data["items"]["data"]:
            slug = by_meter.get(item["price"]["recurring"].get("meter"))
            if slug:
                accounts.by_meter[owner, slug].sold.append(selling(data, item))
    invoices = djstripe.Invoice.objects.filter(customer__id__in=owners, created__gte=since)
    for customer_id, data in invoices.order_by("created", "id").values_list("customer__id", "stripe_data"):
        owner = owners[customer_id]
        for slug, each in billed_on(data, by_product):
            account = accounts.by_meter[owner, slug]
            (account.void if data["status"] == "void" else account.billed).append(each)
    return accounts


def owners_of_customers(organization_ids: Sequence[UUID], *, since: datetime) -> dict[str, UUID]:
    """Return whose Stripe customers are or were the organizations', by the customers' ids.

    One that was deleted at Stripe is parted from its organization, and billed what it was told of all the same.
    """
    reports = MeterReport.objects.filter(organization__in=organization_ids, period_start__gte=since)
    told = reports.exclude(stripe_customer_id="").order_by()
    former = dict(told.values_list("stripe_customer_id", "organization_id").distinct())
    customers = djstripe.Customer.objects.filter(subscriber__in=organization_ids)
    return former | dict(customers.values_list("id", "subscriber_id"))


def course(data: dict[str, Any]) -> Course:
    trial = (data.get("trial_start"), data.get("trial_end"))
    ended = data.get("ended_at")
    return Course(
        begins=from_timestamp(data.get("start_date") or data["created"]),
        ends=from_timestamp(ended) if ended else None,
        anchor=from_timestamp(data["billing_cycle_anchor"]),
        trial=(from_timestamp(trial[0]), from_timestamp(trial[1])) if trial[0] and trial[1] else None,
    )


def selling(data: dict[str, Any], item: dict[str, Any]) -> Selling:
    whole = course(data)
    at_trial_end = (data.get("trial_settings") or {}).get("end_behavior") or {}
    open_since = from_timestamp(item["current_period_start"])
    return Selling(
        subscription_id=data["id"],
        price_id=item["price"]["id"],
        currency=data["currency"],
        since=whole.begins,
        begins=max(from_timestamp(item["created"]), whole.begins),
        ends=whole.ends,
        month=anchored_month(min(whole.anchor, open_since), open_since).start,
        open_since=open_since,
        open_until=from_timestamp(item["current_period_end"]),
        trial=whole.trial,
        is_paused=data["status"] == "paused",
        was_unpaid=(data.get("cancellation_details") or {}).get("reason") == "payment_failed",
        pauses=at_trial_end.get("missing_payment_method") == "pause",
    )


def billed_on(data: dict[str, Any], by_product: dict[str, str]) -> list[tuple[str, Billed]]:
    """Return the metered periods on an invoice, each with its meter's slug."""
    lines = data["lines"]["data"]
    if data["lines"].get("has_more"):
        lines = all_lines(data["id"])
    finalized = (data.get("status_transitions") or {}).get("finalized_at")
    found: dict[tuple[str, int, int, str], Billed] = {}
    for line in lines:
        details = (line.get("pricing") or {}).get("price_details") or {}
        slug = by_product.get(str(details.get("product")))
        if slug is None:
            continue
        period, price = line["period"], str(details["price"])
        each = found.setdefault(
            (slug, period["start"], period["end"], price),
            Billed(
                start=from_timestamp(period["start"]),
                end=from_timestamp(period["end"]),
                invoice_id=data["id"],
                number=data.get("number") or "",
                finalized_at=from_timestamp(finalized) if finalized and data["status"] != "draft" else None,
                subscription_id=subscription_of(data) or "",
                price_id=price,
                currency=data["currency"],
            ),
        )
        each.units += line["quantity"] or 0
        each.amount += line["amount"]
    return [(key[0], each) for key, each in found.items()]
