"""From what was gathered, and what Stripe says, to the figures of each period."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from accounts.models import Organization
from billing.models import Meter
from billing.stripe.customers import find_customer
from billing.stripe.metering import summed_usage
from usage.models import MeterReport
from usage.proof.gathering import Counts, Gathered, Reported
from usage.proof.invoicing import Account, Standing
from usage.proof.judging import Figures

State = MeterReport.State
# Stripe takes events that are up to 5 minutes ahead.
AHEAD = timedelta(minutes=6)


class Shares(NamedTuple):
    """A period's sent units by where they belong on invoices."""

    due: int
    to_come: int
    free: int
    given_up: int
    missed: int


def to_the_minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


@dataclass(slots=True)
class Ask:
    """Asks for Stripe's count of a customer and meter between two moments, of the same two once."""

    customer_id: str
    meter_id: str
    known: dict[tuple[datetime, datetime], int] = field(default_factory=dict)

    def __call__(self, start: datetime, end: datetime) -> int:
        if (start, end) not in self.known:
            self.known[start, end] = summed_usage(
                meter_id=self.meter_id, customer_id=self.customer_id, start=start, end=end
            )
        return self.known[start, end]


def asker(organization: Organization, meter: Meter) -> Ask | None:
    """Return what asks for Stripe's count; None where Stripe knows no such customer or meter."""
    customer = find_customer(organization)
    if customer is None or not meter.stripe_meter_id:
        return None
    return Ask(customer.id, meter.stripe_meter_id)


def asked_for(period: Counts, *, now: datetime) -> tuple[datetime, datetime]:
    """Return from when until when Stripe's count is asked for: as far as its summaries tell it apart."""
    end = to_the_minute(period.until) if period.until else to_the_minute(now) + AHEAD
    return to_the_minute(period.start), end


def in_doubt(periods: list[Counts], start: datetime, end: datetime) -> int:
    """Return the units of reports without an answer that are dated from `start` up to `end`, of whichever period."""
    doubtful = {State.SENDING, State.UNKNOWN}
    dated = [r for each in periods for r in each.reported if start <= to_the_minute(r.moment) < end]
    return sum(r.units for r in dated if r.state in doubtful)


def counted_by_stripe(period: Counts, others: list[Counts], ask: Ask, *, now: datetime) -> int:
    """Return what Stripe counted of the period's units. Raises StripeUnavailable or StripeRejected.

    It is asked for the time from the period's start to where the next one begins, so that what somebody else
    reports is seen whenever it is dated. Its summaries know whole minutes, and a change of plan has units dated
    after it that are of the period before: so what is dated in another period than its own is moved back.
    Of a customer that was deleted Stripe tells nothing any more: what it was told of that one counts as reported.
    """
    begin, end = asked_for(period, now=now)
    counted = ask(begin, end) if begin < end else 0

    def is_inside(report: Reported) -> bool:
        return report.customer_id in {"", ask.customer_id} and begin <= to_the_minute(report.moment) < end

    away = sum(r.units for r in period.sent if not is_inside(r))
    foreign = sum(r.units for other in others for r in other.sent if is_inside(r))
    return counted + away - foreign


def invoiced_in(period: Counts, others: list[Counts], account: Account) -> int | None:
    """Return the period's units on final invoices, None where none of it is due on one.

    An invoice's period counts for the one of ours that it begins in, but for the units that others have in it: those
    count for theirs. So all periods together come to what all invoices hold, and what two of them hold counts twice.
    """
    found: list[int] = []
    for billed in account.final:
        mine = [r.units for r in period.sent if r.billed_as_of in billed]
        # One that ended before the first of the periods at hand began is of one that is not.
        if billed.end > period.start and owner_of(billed.start, period, others) is period:
            foreign = sum(r.units for other in others for r in other.sent if r.billed_as_of in billed)
            found.append(billed.units - foreign)
        elif mine:
            found.append(sum(mine))
    return sum(found) if found else None


def owner_of(moment: datetime, period: Counts, others: list[Counts]) -> Counts:
    """Return the period that a moment lies in, or for one before the first period that one."""
    periods = sorted([period, *others], key=lambda each: each.start)
    before = [each for each in periods if each.start <= moment]
    return before[-1] if before else periods[0]


def shares_of(reports: list[Reported], account: Account, *, now: datetime) -> Shares:
    by_standing = dict.fromkeys(Standing, 0)
    for report in reports:
        by_standing[account.standing(report.billed_as_of, now=now)] += report.units
    return Shares(
        by_standing[Standing.DUE],
        by_standing[Standing.TO_COME],
        by_standing[Standing.FREE],
        by_standing[Standing.GIVEN_UP],
        by_standing[Standing.MISSED],
    )


def figures_of(period: Counts, gathered: Gathered, *, stripe: int | None, now: datetime) -> Figures:
    key = period.key
    account = gathered.accounts.of(key.organization_id, key.meter)
    others = [each for each in gathered.periods_of(key.organization_id, key.meter) if each is not period]
    refused = [r for r in period.reported if r.state == State.REJECTED and not r.replaced]
    shares = shares_of([*period.sent, *refused], account, now=now)
    sending = period.units(State.SENDING)
    # A change of plan may have had those of another period dated into this one.
    doubtful = in_doubt([period, *others], *asked_for(period, now=now))
    return Figures(
        is_open=now < period.end,
        ledger=period.ledger,
        rollups=period.rollups,
        unreported=period.unreported,
        waiting=period.units(State.PENDING) + sending,
        unknown=period.units(State.UNKNOWN),
        rejected=sum(r.units for r in refused),
        replaced=period.units(State.REJECTED) - sum(r.units for r in refused),
        reported=period.units(State.SENT),
        stripe=stripe,
        invoiced=invoiced_in(period, others, account),
        to_invoice=shares.to_come,
        unbilled=shares.free + shares.given_up,
        # Refused ones are told as refused.
        given_up=shares_of(period.sent, account, now=now).given_up,
        corrected=period.corrected.done,
        credited=period.corrected.credited,
        correcting=period.corrected.under_way,
        uncertain=max(sending + period.units(State.UNKNOWN), doubtful),
        fresh=sum(r.fresh for r in period.sent),
        is_ahead=account.is_ahead(period.start, period.end, now=now),
    )
