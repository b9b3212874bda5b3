"""What pages and the API take to read usage, of few events and of many: `python -m bench.reads`.

Two organizations in one database, each with a month of events spread alike over its keys, endpoints and statuses: the
one with a hundred times as many. The events are made by PostgreSQL and copied into the ledger, the rollups summed
from them as the drain sums them, and the days as the worker does. Every page and answer is then asked for in turn of
the one and the other, its whole way through Django in this process.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from bench import stores, world
from bench.report import Report, Table
from bench.stats import Figure, Spread, ratio, shuffled_rounds

SMALL, LARGE, ROUNDS = 100_000, 10_000_000, 40
KEYS, ENDPOINTS, STATUSES = 3, 8, (200, 201, 404)
SLOWEST = 50.0  # Milliseconds.
APART = 1.2
BATCH = 2_000  # Events that are stored at once.
MEASURED = "requests"

EVENTS = """
SELECT uuidv7(at - now()), at, %(organization)s::uuid, (%(keys)s::uuid[])[1 + floor(random() * %(key_count)s)::int],
       'requests'::varchar, 1::bigint, %(period_start)s::timestamptz,
       ('/api/v1/things/' || floor(random() * %(endpoints)s)::int)::varchar, 'GET'::varchar,
       (%(statuses)s::smallint[])[1 + floor(random() * %(status_count)s)::int],
       least(exp(random_normal(3.5, 0.7)), 60000)::int, NULL::bigint, NULL::uuid
FROM (SELECT %(start)s::timestamptz + (%(seconds)s::float8 * n / %(events)s) * interval '1 second' AS at
      FROM generate_series(0, %(events)s - 1) AS n) AS moments
"""
# As `usage.ledger` sums what it stores.
ROLLUPS = """
WITH timed AS (
    SELECT organization_id, meter, date_trunc('hour', occurred_at, 'UTC') AS hour, period_start, api_key_id, endpoint,
           status, {bucket} AS bucket, sum(units) AS units, count(*) AS calls, sum(response_ms) AS response_ms
    FROM usage_event WHERE organization_id = %s GROUP BY {rollup}, bucket
)
INSERT INTO usage_rollup ({rollup}, units, calls, response_ms, latency, reported_units)
SELECT {rollup}, sum(units), sum(calls), sum(response_ms),
       array_agg((bucket << {shift}) + calls ORDER BY bucket), sum(units)
FROM timed GROUP BY {rollup} ORDER BY {rollup}
"""
PAGES = {
    "dashboard page": "/dashboard/",
    "usage page": "/dashboard/usage/",
    "usage page, by endpoint": "/dashboard/usage/?by=endpoint",
    "usage page, a day's hours": "/dashboard/usage/?interval=hour",
    "usage page, months": "/dashboard/usage/?interval=month",
}
ANSWERS = {
    "GET usage": "/api/v1/usage",
    "GET usage/timeseries": "/api/v1/usage/timeseries",
    "the same by endpoint": "/api/v1/usage/timeseries?group_by=endpoint",
    "the same by hour, a day": "/api/v1/usage/timeseries?interval=hour&group_by=endpoint",
    "the same by hour, 31 days": "/api/v1/usage/timeseries?interval=hour&from={month}&to={next}",
}


def here(*, small: int, large: int, rounds: int) -> dict[str, Any]:
    """Return milliseconds of each page and answer for the two organizations, and of storing a batch."""
    world.set_up()
    from django.core.management import call_command

    from accounts import clock
    from billing.periods import calendar_month

    world.make_tables()
    call_command("collectstatic", verbosity=0, interactive=False)  # Pages name their files by content.
    # The last day of the month before: all of its hours are settled by PostgreSQL's clock as well.
    month = calendar_month(calendar_month(clock.now()).start - timedelta(days=1))
    with clock.standing_at(month.end - timedelta(hours=6)):
        world.sell(per_minute=10_000, burst=None)
        customers = {name: Customer(count, month.start) for name, count in (("few", small), ("many", large))}
        seconds = {name: customer.fill() for name, customer in customers.items()}
        vacuum()
        asked = reads(customers, month_start=month.start, month_end=month.end)
        samples = measure(asked, rounds=rounds)
        stored = measure(
            {("storing an event", name): customer.store for name, customer in customers.items()}, rounds=12
        )
    return {
        "reads": [[*key, samples[key]] for key in samples],
        "stored": {name: [each / BATCH for each in times] for (_, name), times in stored.items()},
        "rows": {name: customer.rows() for name, customer in customers.items()},
        "events": {name: customer.events for name, customer in customers.items()},
        "seconds to fill": seconds,
    }


class Customer:
    """An organization with keys and a member who is signed in."""

    def __init__(self, events: int, month: datetime) -> None:
        from django.conf import settings
        from django.test import Client

        from accounts.models import Membership, Organization, Role, User
        from apikeys.models import APIKey

        (caller,) = world.enroll(1, keys_each=KEYS)
        self.events, self.month, self.secret = events, month, caller.secret
        self.organization = Organization.objects.get(ref=caller.ref)
        self.keys = list(APIKey.objects.filter(organization=self.organization).values_list("pk", flat=True))
        user = User.objects.create_user(f"{caller.ref}@acme.example")
        Membership.objects.create(organization=self.organization, user=user, role=Role.OWNER)
        self.client = Client(headers={"host": settings.ALLOWED_HOSTS[0]})
        self.client.force_login(user, backend="allauth.account.auth_backends.AuthenticationBackend")

    def fill(self) -> float:
        """Make the events and their sums; return the seconds that it took."""
        from django.db import connection

        from accounts import clock
        from usage import ledger
        from usage.days import sum_days
        from usage.latency import SHIFT, SQL_BUCKET
        from usage.partitions import ensure_partition

        began = time.monotonic()
        ensure_partition(self.month)
        values = {
            "organization": self.organization.pk,
            "keys": self.keys,
            "key_count": len(self.keys),
            "period_start": self.month,
            "start": self.month,
            "endpoints": ENDPOINTS,
            "statuses": list(STATUSES),
            "status_count": len(STATUSES),
            "seconds": (clock.now() - self.month).total_seconds(),
            "events": self.events,
        }
        copy_between(EVENTS, values, f"usage_event ({ledger.COLUMNS})")
        statement = ROLLUPS.format(bucket=SQL_BUCKET, rollup=ledger.ROLLUP, shift=SHIFT)
        with connection.cursor() as cursor:
            cursor.execute(statement, [self.organization.pk])
        sum_days(now=clock.now(), since=self.month)
        return time.monotonic() - began

    def store(self) -> None:
        """Store a batch of events of the last hour, as the drain does."""
        from accounts import clock
        from usage.events import Event, uuid7
        from usage.ledger import store

        now = clock.now()
        store(
            [
                Event(
                    id=uuid7(now),
                    occurred_at=now,
                    organization_id=self.organization.pk,
                    api_key_id=self.keys[number % KEYS],
                    meter=MEASURED,
                    units=1,
                    period_start=self.month,
                    endpoint=f"/api/v1/things/{number % ENDPOINTS}",
                    method="GET",
                    status=STATUSES[number % len(STATUSES)],
                    response_ms=number % 200,
                )
                for number in range(BATCH)
            ]
        )

    def read(self, path: str, *, with_key: bool) -> None:
        headers = {"Authorization": f"Bearer {self.secret}"} if with_key else {}
        response = self.client.get(path, headers=headers)
        if response.status_code != 200:
            raise AssertionError(f"{path} answered {response.status_code}: {response.content[:300]!r}")

    def rows(self) -> int:
        from usage.models import UsageRollup

        return UsageRollup.objects.filter(organization=self.organization).count()


def copy_between(query: str, values: dict[str, Any], table: str) -> None:
    """Copy what a query gives into a table, in PostgreSQL's own form and through this process."""
    import psycopg
    from django.db import connection

    connection.ensure_connection()
    driver: Any = connection.connection  # Django's own connection, as psycopg knows it.
    with (
        psycopg.connect(os.environ["DATABASE_URL"]) as source,
        psycopg.ClientCursor(source) as reading,
        driver.cursor() as writing,
        reading.copy(f"COPY ({reading.mogrify(query, values)}) TO STDOUT (FORMAT BINARY)") as taken,
        writing.copy(f"COPY {table} FROM STDIN (FORMAT BINARY)") as given,
    ):
        for block in taken:
            given.write(block)


def vacuum() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        for table in ("usage_rollup", "usage_day", "usage_day_sum", "usage_day_latency", "usage_day_total"):
            cursor.execute(f"VACUUM ANALYZE {table}")


def reads(
    customers: dict[str, Customer], *, month_start: datetime, month_end: datetime
) -> dict[tuple[str, str], Callable[[], None]]:
    """Return every page and answer for every customer, each asked for once before it is measured."""
    from billing.api import base

    base.MANAGEMENT_READS = 1_000_000  # It would refuse so many reads in a minute.
    span = {"month": f"{month_start:%Y-%m-%d}", "next": f"{month_end:%Y-%m-%d}"}
    kinds: dict[tuple[str, str], Callable[[], None]] = {}
    for name, customer in customers.items():
        for title, path in (PAGES | ANSWERS).items():
            kinds[title, name] = partial(customer.read, path.format(**span), with_key=title in ANSWERS)
            for _ in range(3):
                kinds[title, name]()
    return kinds


def measure(
    kinds: dict[tuple[str, str], Callable[[], None]], *, rounds: int
) -> dict[tuple[str, str], list[float]]:
    """Return the milliseconds of each kind, the kinds in an order of its own each round."""
    samples: dict[tuple[str, str], list[float]] = {kind: [] for kind in kinds}
    places = {str(number): kind for number, kind in enumerate(kinds)}
    for place in shuffled_rounds(places, rounds=rounds):
        began = time.perf_counter()
        kinds[places[place]]()
        samples[places[place]].append((time.perf_counter() - began) * 1000)
    return samples


def run(*, small: int, large: int, rounds: int) -> Report:
    command = [sys.executable, "-m", "bench.reads", "--here", "--small", str(small), "--large", str(large)]
    with stores.running("reads") as environment:
        done = subprocess.run(
            [*command, "--rounds", str(rounds)],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
    return present(json.loads(done.stdout))


def present(found: dict[str, Any]) -> Report:
    report = Report("reads", numbers=found)
    times = {(title, name): Spread.of(samples) for title, name, samples in found["reads"]}
    rows = []
    for title in dict.fromkeys(title for title, _ in times):
        few, many = times[title, "few"].median, times[title, "many"].median
        rows.append([title, f"{few:.1f}", f"{many:.1f}", f"{many / few:.2f}"])
        report.figures.append(Figure(f"{title}: many events to few", ratio(many, few), APART))
        report.figures.append(Figure(f"{title}: milliseconds of {SLOWEST:g}", many / SLOWEST, 1.0))
    columns = ["", *(f"{found['events'][name]:,} events" for name in ("few", "many")), "ratio"]
    report.tables.append(Table("Reading usage, in milliseconds (medians)", columns, rows))
    few, many = (Spread.of(found["stored"][name]).median * 1000 for name in ("few", "many"))
    report.tables.append(
        Table(
            "Storing an event and summing it up, in batches of 2,000",
            columns,
            [
                ["microseconds an event", f"{few:.1f}", f"{many:.1f}", f"{many / few:.2f}"],
                [
                    "rollups of the month",
                    *(f"{found['rows'][name]:,}" for name in ("few", "many")),
                    "",
                ],
            ],
        )
    )
    report.figures.append(Figure("storing an event: beside many events to few", ratio(many, few), APART))
    return report


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.reads", description=__doc__)
    parser.add_argument("--small", type=int, default=SMALL, help="events of the one organization")
    parser.add_argument("--large", type=int, default=LARGE, help="events of the other")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    sizes = {"small": options.small, "large": options.large, "rounds": options.rounds}
    if options.here:
        json.dump(here(**sizes), sys.stdout)
    else:
        run(**sizes).publish()


if __name__ == "__main__":
    main(sys.argv[1:])
