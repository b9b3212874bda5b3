"""The same over HTTP, with the production server of the Procfile: `python -m bench.over_http`.

First one connection to one worker, request by request in turn, for what a call takes; then several connections
to two workers, kind by kind in turn, for how many are served. With `authorize` and `verify`, which other servers
ask the gate by, against a bare Django view.
"""

import argparse
import json
import sys
from typing import Any

from bench import stores, world
from bench.gate import MOST_OF_PEERS, MOST_ROUND_TRIPS
from bench.peers import IS_INSTALLED
from bench.report import Report, Table, microseconds
from bench.stats import Figure, Spread, percentile, ratio, shuffled_rounds
from bench.web import call, production_command, request, serving

CALLERS = 1000
CONNECTIONS = 16
WANTED = {"verify": '"valid":true'}  # It answers with 200 also where it says no.
KINDS = {
    "plain": "bare Django view",
    "bare": "bare DRF view",
    "gated": "gated and metered",
    "peers": "behind the peers",
    "authorize": "gateway/authorize",
    "verify": "keys/verify",
    "raw": "raw Redis round trip",
}


def requests_for(callers: list[world.Caller], tokens: dict[str, str]) -> dict[str, list[str]]:
    """Return each kind's requests, one a caller. What is not installed or not there is left out."""

    def headers(caller: world.Caller, authorization: str) -> dict[str, str]:
        # The peers' throttle knows a caller by it; all send it, so that all are as long.
        return {"X-Forwarded-For": caller.address, "Authorization": authorization}

    def key(caller: world.Caller) -> dict[str, str]:
        return headers(caller, f"Bearer {caller.secret}")

    made = {
        name: [request(f"/bench/{name}", key(caller)) for caller in callers]
        for name in ("plain", "bare", "gated")
    }
    if IS_INSTALLED:
        made["peers"] = [
            request("/bench/peers", headers(caller, f"Api-Key {caller.peers_key}")) for caller in callers
        ]
    if token := tokens.get("authorize"):
        made["authorize"] = [
            request(world.AUTHORIZE, {**key(caller), "X-Tollgate-Token": token}) for caller in callers
        ]
    if token := tokens.get("verify"):
        made["verify"] = [
            request(
                world.VERIFY,
                {"Authorization": f"Bearer {token}"},
                method="POST",
                body=json.dumps({"key": caller.secret, "meter": "requests", "cost": 1}),
            )
            for caller in callers
        ]
    return made


def run(*, rounds: int, seconds: float, turns: int) -> Report:
    report = Report("over_http")
    command = production_command()
    report.numbers["command"] = command
    with stores.running("over_http") as environment:
        callers, tokens = world.prepare(environment, callers=CALLERS)
        requests = requests_for(callers, tokens)
        report.notes += [
            f"{KINDS[name]} is not there: skipped." for name in KINDS.keys() - {*requests, "raw"}
        ]
        with serving("production", command, environment, workers=1, threads=8) as server:
            warm = {"wanted": WANTED, "port": server.port, "requests": requests, "rounds": len(callers)}
            call(warm, environment)  # Each caller is cold once, and is filled from PostgreSQL.
            took = call({**warm, "rounds": rounds}, environment)["took"]
        describe_one(report, took)
        with serving("production", command, environment, workers=2, threads=8) as server:
            found = many(server.port, requests, environment, seconds=seconds, turns=turns)
        describe_many(report, found)
    return report


def many(
    port: int,
    requests: dict[str, list[str]],
    environment: dict[str, str],
    *,
    seconds: float,
    turns: int,
    connections: int = CONNECTIONS,
) -> dict[str, list[dict[str, Any]]]:
    """Return what the client found, once a turn for each kind."""
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in requests}
    for kind in [*requests, *shuffled_rounds(requests, rounds=turns)]:
        job = {
            "port": port,
            "wanted": WANTED,
            "requests": {kind: requests[kind]},
            "kind": kind,
            "connections": connections,
            "seconds": seconds,
        }
        found[kind].append(call(job, environment))
    return {kind: results[1:] for kind, results in found.items()}  # The first turn warmed up.


def describe_one(report: Report, took: dict[str, list[float]]) -> None:
    spreads = {kind: Spread.of(samples) for kind, samples in took.items()}
    report.numbers["one connection"] = {kind: each.as_dict() for kind, each in spreads.items()}
    bare, plain, trips = (spreads[kind].median for kind in ("bare", "plain", "raw"))
    rows = []
    for kind, label in KINDS.items():
        if each := spreads.get(kind):
            against = {"gated": bare, "peers": bare, "authorize": plain, "verify": plain}.get(kind)
            adds = microseconds(each.median - against) if against else ""
            rows.append([label, *map(microseconds, (each.low, each.median, each.high)), adds])
    report.tables.append(
        Table(
            "One call over HTTP, one worker, one connection, in µs",
            ["what", "lower quartile", "median", "upper quartile", "adds"],
            rows,
        )
    )
    gate = spreads["gated"].median - bare
    report.figures.append(
        Figure("gate over raw Redis round trips, over HTTP", round(ratio(gate, trips), 3), MOST_ROUND_TRIPS)
    )
    if "peers" in spreads:
        peers = spreads["peers"].median - bare
        report.figures.append(
            Figure("gate over peers, over HTTP", round(ratio(gate, peers), 4), MOST_OF_PEERS)
        )
    for kind in ("authorize", "verify"):
        if each := spreads.get(kind):
            report.notes.append(f"{KINDS[kind]}: {ratio(each.median, plain):.2f} times a bare Django view.")


def describe_many(report: Report, found: dict[str, list[dict[str, Any]]]) -> None:
    rows, numbers = [], {}
    for kind, results in found.items():
        rates = Spread.of([len(each["took"]) / each["seconds"] for each in results])
        took = [sample for each in results for sample in each["took"]]
        failures = sum(each["failures"] for each in results)
        numbers[kind] = {"a second": rates.as_dict(), "failures": failures}
        rows.append([
            KINDS[kind],
            f"{rates.median:,.0f}",
            f"{percentile(took, 0.5) / 1000:.1f}",
            f"{percentile(took, 0.99) / 1000:.1f}",
            str(failures),
        ])  # fmt: skip
        if failures:
            report.notes.append(f"{KINDS[kind]}: {results[0]['failed'] or results[-1]['failed']}")
    report.numbers[f"{CONNECTIONS} connections"] = numbers
    report.tables.append(
        Table(
            f"{CONNECTIONS} connections, two workers of 8 threads",
            ["what", "served a second", "p50 ms", "p99 ms", "failed"],
            rows,
        )
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.over_http", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3000, help="calls of each kind over one connection")
    parser.add_argument(
        "--seconds", type=float, default=2, help="how long a turn with several connections lasts"
    )
    parser.add_argument("--turns", type=int, default=5, help="such turns for each kind")
    options = parser.parse_args(arguments)
    report = run(rounds=options.rounds, seconds=options.seconds, turns=options.turns)
    report.publish()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
