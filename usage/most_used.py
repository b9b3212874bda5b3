"""Who used most: over all organizations, for staff."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from dateutil.relativedelta import relativedelta

from accounts.models import Organization
from billing.models import Meter
from usage.cells import SENT_IN, fetch

MOST = 20
# By each organization's own days where they are summed up, and by hours where they are not. A month here is UTC's.
STATEMENT = f"""
WITH summed AS MATERIALIZED (
    SELECT id, organization_id, meter, starts_at, ends_at FROM usage_day
    WHERE starts_at >= %(start)s AND ends_at <= %(end)s AND late_at IS NULL
), parts AS (
    SELECT organization_id, meter, api_key_id, status, units, calls
    FROM summed JOIN usage_day_sum ON summed_day_id = summed.id
    UNION ALL
    SELECT organization_id, meter, api_key_id, status, units, calls FROM usage_rollup
    WHERE hour >= %(start)s AND hour < %(end)s AND NOT EXISTS (
        SELECT FROM summed WHERE summed.organization_id = usage_rollup.organization_id
          AND summed.meter = usage_rollup.meter AND usage_rollup.hour >= starts_at AND usage_rollup.hour < ends_at)
), users AS (
    SELECT meter, organization_id, sum(units)::int8 AS units,
           coalesce(sum(calls) FILTER (WHERE NOT {SENT_IN}), 0)::int8 AS calls,
           coalesce(sum(calls) FILTER (WHERE status >= 400), 0)::int8 AS errors
    FROM parts GROUP BY meter, organization_id
), ranked AS (
    SELECT *, row_number() OVER (PARTITION BY meter ORDER BY units DESC, organization_id) AS rank,
           sum(units) OVER (PARTITION BY meter)::int8 AS everybodys, count(*) OVER (PARTITION BY meter) AS users
    FROM users
)
SELECT meter, organization_id, units, calls, errors, everybodys, users FROM ranked WHERE rank <= %(most)s
ORDER BY meter, rank
"""  # noqa: S608  # Made of constants.


@dataclass(frozen=True, slots=True)
class User:
    """An organization that used a meter. `share` is of everybody's units, in whole percent."""

    organization: Organization
    units: int
    calls: int
    errors: int
    share: int


@dataclass(frozen=True, slots=True)
class MeterTable:
    """`units` and `count` are of all that used the meter, `users` those that used most."""

    name: str
    slug: str
    unit: str
    units: int
    count: int
    users: list[User]


def most_used(month: datetime) -> list[MeterTable]:
    """Return of each meter who used most of it in the UTC month that begins at `month`."""
    values = {"start": month, "end": month + relativedelta(months=1), "most": MOST}
    rows: defaultdict[str, list[tuple[UUID, int, int, int]]] = defaultdict(list)
    totals: dict[str, tuple[int, int]] = {}
    for meter, organization, units, calls, errors, everybodys, count in fetch(STATEMENT, values):
        rows[meter].append((organization, units, calls, errors))
        totals[meter] = everybodys, count
    organizations = Organization.objects.in_bulk({row[0] for its in rows.values() for row in its})
    tables = []
    for meter in Meter.objects.all():
        units, count = totals.get(meter.slug, (0, 0))
        users = [
            User(organizations[pk], used, calls, errors, used * 100 // units if units else 0)
            for pk, used, calls, errors in rows[meter.slug]
        ]
        tables.append(MeterTable(meter.name, meter.slug, meter.unit, units, count, users))
    return tables
