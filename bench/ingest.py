"""How many usage events a second are taken over HTTP, in batches of 1, 100 and 1,000: `python -m bench.ingest`.

With the production server of the Procfile, two workers of eight threads, and durable stores. Each event is new, and
is in the ledger, its hour's sum and the quota's counter when its answer comes. The batches of a turn are made
before it, and the kinds take turns.
"""

import argparse
import json
import sys
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any, NamedTuple

from bench import stores, world
from bench.report import Report, Table
from bench.stats import Spread, percentile, shuffled_rounds
from bench.web import call, production_command, request, serving

CALLERS = 1000


class Kind(NamedTuple):
    """`most` is more batches than a second has time for: none is sent twice."""

    label: str
    size: int
    organizations: int  # Of how many a batch's events are.
    most: int
    connections: int = 16


KINDS = {
    "1 alone": Kind("1, over one connection", 1, 1, 1_500, connections=1),
    "1": Kind("1", 1, 1, 2_000),
    "100": Kind("100, of 10 organizations", 100, 10, 800),
    "1000": Kind("1,000, of 10 organizations", 1000, 10, 150),
    "1000 mixed": Kind("1,000, of 1,000 organizations", 1000, 1000, 150),
}


class Batches:
    """Makes requests, none of which has an event that another one has."""

    def __init__(self, refs: Sequence[str], token: str) -> None:
        self.refs, self.token = refs, token
        self.run = uuid.uuid4().hex[:8]
        self.number = count()
        self.first = 0

    def make(self, kind: Kind, batches: int) -> list[str]:
        return [self.batch(kind) for _ in range(batches)]

    def batch(self, kind: Kind) -> str:
        # Each of other organizations than the one before it, so that those at once seldom wait for each other.
        self.first = (self.first + kind.organizations) % len(self.refs)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        events = [
            {
                "source": "bench/service",
                "id": f"{self.run}-{next(self.number)}",
                "organization": self.refs[(self.first + place % kind.organizations) % len(self.refs)],
                "meter": "requests",
                "time": now,
                "value": 1 + place % 7,
            }
            for place in range(kind.size)
        ]
        headers = {"Authorization": f"Bearer {self.token}"}
        return request(world.EVENTS, headers, method="POST", body=json.dumps({"events": events}))


def run(*, seconds: float, turns: int) -> Report:
    report = Report("ingest")
    command = production_command()
    report.numbers["command"] = command
    with stores.running("ingest") as environment:
        callers, tokens = world.prepare(environment, callers=CALLERS)
        batches = Batches([caller.ref for caller in callers], tokens["events"])
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in KINDS}
        with serving("production", command, environment, workers=2, threads=8) as server:
            for name in [*KINDS, *shuffled_rounds(KINDS, rounds=turns)]:
                kind = KINDS[name]
                job = {
                    "port": server.port,
                    "requests": {name: batches.make(kind, int(kind.most * seconds))},
                    "wanted": {name: f'"accepted":{kind.size},"duplicates":0,"refused":0'},
                    "kind": name,
                    "connections": kind.connections,
                    "seconds": seconds,
                }
                found[name].append(call(job, environment))
    describe(report, {name: results[1:] for name, results in found.items()})  # The first turn warmed up.
    return report


def describe(report: Report, found: dict[str, list[dict[str, Any]]]) -> None:
    rows = []
    for name, results in found.items():
        kind = KINDS[name]
        rates = Spread.of([len(each["took"]) * kind.size / each["seconds"] for each in results])
        took = [sample for each in results for sample in each["took"]]
        failures = sum(each["failures"] for each in results)
        report.numbers[name] = {"events a second": rates.as_dict(), "failures": failures}
        rows.append([
            kind.label,
            f"{rates.median:,.0f}",
            *(f"{percentile(took, share) / 1000:.1f}" if took else "" for share in (0.5, 0.99)),
            str(failures),
        ])  # fmt: skip
        report.notes += [f"{kind.label}: {text}" for each in results for text in each["failed"][:1]]
    report.tables.append(
        Table(
            "Usage events over HTTP, 16 connections, two workers of 8 threads",
            ["events a call", "events a second", "p50 ms", "p99 ms", "failed"],
            rows,
        )
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.ingest", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3, help="how long a turn lasts")
    parser.add_argument("--turns", type=int, default=5, help="turns for each kind")
    options = parser.parse_args(arguments)
    report = run(seconds=options.seconds, turns=options.turns)
    report.publish()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
