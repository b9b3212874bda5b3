"""What Stripe counted in one minute, and what follows from it for each of our reports dated in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from accounts.models import Organization
from billing.models import Meter
from billing.stripe.customers import find_customer
from billing.stripe.metering import summed_usage
from usage.models import MeterReport, MeterReportQuerySet

State = MeterReport.State
MINUTE = timedelta(minutes=1)
# Stripe's summaries follow its meter events after a while: what is younger says nothing yet.
SUMMARIES_LAG = timedelta(hours=1)
# Of more the combinations are too many to try, and several would fit.
MOST_WEIGHED = 12


@dataclass(frozen=True, slots=True)
class Minute:
    """The reports of one organization, customer and meter that are dated in the same minute."""

    organization: Organization
    meter: Meter
    customer_id: str
    start: datetime

    @classmethod
    def of(cls, report: MeterReport) -> "Minute":
        start = report.moment.replace(second=0, microsecond=0)
        return cls(report.organization, report.meter, report.stripe_customer_id, start)

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d %H:%M} UTC"

    def reports(self) -> MeterReportQuerySet:
        reports = MeterReport.objects.filter(organization=self.organization, meter=self.meter)
        if self.customer_id:
            reports = reports.filter(stripe_customer_id=self.customer_id)
        return reports.dated(self.start, self.start + MINUTE).order_by("created_at", "pk")

    def counted(self) -> int | None:
        """Return the units that Stripe counted in this minute; None where it cannot be asked.

        Raises StripeUnavailable, or StripeRejected where Stripe no longer has the customer or the meter.
        """
        found = None if self.customer_id else find_customer(self.organization)
        customer_id = self.customer_id or (found.id if found else "")
        if not customer_id or not self.meter.stripe_meter_id:
            return None
        return summed_usage(
            meter_id=self.meter.stripe_meter_id,
            customer_id=customer_id,
            start=self.start,
            end=self.start + MINUTE,
        )


def which_sum_up(units: Sequence[int], total: int) -> list[bool | None] | None:
    """Return for each of some positive numbers whether it is among those that make up `total`.

    None for one that is in some combinations and not in others; None instead of the list where none fits.
    """
    if total == 0 or total == sum(units):
        return [total != 0] * len(units)
    if total < 0 or total > sum(units):
        return None
    if len(units) > MOST_WEIGHED:
        return [None] * len(units)
    verdicts: list[bool | None] = []
    for number, own in enumerate(units):
        others = sums_of([*units[:number], *units[number + 1 :]])
        with_it, without_it = total - own in others, total in others
        if not with_it and not without_it:
            return None
        verdicts.append(None if with_it and without_it else with_it)
    return verdicts


def some_that_sum_up(units: Sequence[int], total: int) -> list[bool] | None:
    """Return for each number whether it is in one combination that makes up `total`; None where none does.

    None too where they are too many to weigh.
    """
    if len(units) > MOST_WEIGHED:
        return None
    found: dict[int, list[bool]] = {0: []}
    for own in units:
        found = {s + own: [*chosen, True] for s, chosen in found.items()} | {
            s: [*chosen, False] for s, chosen in found.items()
        }
    return found.get(total)


def sums_of(units: Sequence[int]) -> set[int]:
    """Return what some of the numbers, all or none can add up to."""
    sums = {0}
    for each in units:
        sums |= {known + each for known in sums}
    return sums
