"""The moment that a report's units are dated at: it decides which invoice holds them."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import cached_property
from uuid import UUID

from billing.models import Entitlement
from billing.subscriptions import PlanSubscription, find_live_subscriptions, metered_since_by
from usage.models import MeterReport


class Terms:
    """What decides the moments of several organizations' reports, as the mirror has it when it is first asked for."""

    def __init__(self, organization_ids: Iterable[UUID]) -> None:
        self._ids = list(organization_ids)

    @cached_property
    def entitlements(self) -> dict[UUID, Entitlement]:
        return {each.organization_id: each for each in Entitlement.objects.filter(organization__in=self._ids)}

    @cached_property
    def subscriptions(self) -> dict[UUID, PlanSubscription]:
        return find_live_subscriptions(self._ids)


def moment_of(report: MeterReport, *, now: datetime, terms: Terms | None = None) -> datetime:
    """Return the moment to report the units at, such that an invoice to come holds them.

    That is inside their hour and their quota period. Where the subscription's price was changed since, what
    lies before the change has been invoiced: units of the same month that had not been reported by then are
    dated after it. Nothing else moves them, however old they are and whatever was invoiced: see `usage.lateness`.
    """
    terms = terms or Terms([report.organization_id])
    # An invoice made in this second holds what lies before it: in an hour's first one that is the hour before.
    past = now - timedelta(seconds=1)
    own = max(min(report.timestamp, past), report.period_start)
    entitlement = terms.entitlements.get(report.organization_id)
    if entitlement is None:
        return own
    is_this_month = (
        report.period_start == entitlement.period_start
        or report.period_start.isoformat() in entitlement.carried_from
    )
    if not is_this_month:
        return own
    since = metered_since_by(terms.subscriptions.get(report.organization_id), report.meter)
    # From the period's end on it is a renewal that made the new one, and usage stays in the old.
    if since is None or since >= entitlement.period_end:
        return own
    return max(own, since)
