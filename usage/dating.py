"""The moment that a report's units are dated at: it decides which invoice holds them."""

from datetime import datetime, timedelta

from billing.models import Entitlement
from billing.subscriptions import PlanFinder, metered_since
from usage.models import MeterReport


def moment_of(report: MeterReport, *, now: datetime, finder: PlanFinder | None = None) -> datetime:
    """Return the moment to report the units at, such that an invoice to come holds them.

    That is inside their hour and their quota period. Where the subscription's price was changed since, what
    lies before the change has been invoiced: units of the same month that had not been reported by then are
    dated after it. Nothing else moves them, however old they are and whatever was invoiced: see `usage.lateness`.
    """
    # An invoice made in this second holds what lies before it: in an hour's first one that is the hour before.
    past = now - timedelta(seconds=1)
    own = max(min(report.timestamp, past), report.period_start)
    entitlement = Entitlement.objects.filter(organization=report.organization_id).first()
    if entitlement is None:
        return own
    is_this_month = (
        report.period_start == entitlement.period_start
        or report.period_start.isoformat() in entitlement.carried_from
    )
    since = metered_since(report.organization, report.meter, finder) if is_this_month else None
    # From the period's end on it is a renewal that made the new one, and usage stays in the old.
    if since is None or since >= entitlement.period_end:
        return own
    return max(own, since)
