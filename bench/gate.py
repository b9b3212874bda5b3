"""What the gate adds to a bare DRF view, beside what the peers add: `python -m bench.gate`.

All in one process, call by call in turn: bare, gated and a raw Redis round trip; then bare, gated and peers. With
`--unix` as well by Redis's Unix socket, which no figure is held to.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
from typing import Any

from bench import stores, world
from bench.inside import Application, Kind, measure
from bench.report import Report, Table, busy_with_others, microseconds
from bench.stats import Figure, Spread, ratio
from bench.steps import STEPS, timed_steps
from bench.wire import raw_round_trip

MOST_ROUND_TRIPS = 2.5
MOST_OF_PEERS = 0.1
CALLERS = 100
KINDS = {
    "bare": "bare DRF view",
    "gated": "gated and metered",
    "raw": "raw Redis round trip",
    "get": "redis-py GET",
    "raw, back to back": "raw round trip, back to back",
    "bare, with peers": "bare DRF view, in turn with the peers",
    "gated, with peers": "gated and metered, in turn with the peers",
    "peers": "behind the peers",
    "peers, lazy": "peers, commits not awaited",
}
# What it is added to.
BASES = {
    "gated": "bare",
    "gated, with peers": "bare, with peers",
    "peers": "bare, with peers",
    "peers, lazy": "bare, lazy",
}


def run(*, rounds: int, with_socket: bool, alone: bool) -> Report:
    report = Report("gate")
    report.notes += busy_with_others()
    with stores.running("gate") as environment:
        ways = {"TCP": environment["REDIS_URL"]}
        if with_socket:
            ways["Unix socket"] = environment["REDIS_SOCKET_URL"]
        for way, address in ways.items():
            result = in_a_process_of_its_own(environment | {"REDIS_URL": address}, rounds=rounds, alone=alone)
            report.numbers[way] = result
            describe(report, way, result)
    return report


def in_a_process_of_its_own(environment: dict[str, str], *, rounds: int, alone: bool) -> dict[str, Any]:
    """Measure in a fresh process: the settings, and clients made from them, last as long as a process does."""
    command = [sys.executable, "-m", "bench.gate", "--here", "--rounds", str(rounds)]
    command += ["--alone"] if alone else []
    done = subprocess.run(
        command, env=os.environ | environment, stdout=subprocess.PIPE, check=True, text=True
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def here(*, rounds: int, alone: bool) -> dict[str, Any]:
    """Measure in this process, on the stores that the environment names."""
    world.set_up()
    callers = world.people(CALLERS)
    application = Application()
    kinds = kinds_of(application)
    if alone:
        kinds.pop("peers", None)
    for caller in callers:  # Fills Redis from PostgreSQL; the rest warms caches and connections.
        for kind in kinds.values():
            kind(caller)
    gc.freeze()
    # The peers by themselves: milliseconds of their work between two calls leave neither cache nor core as production,
    # where one gated call follows another, would find them.
    samples = measure({name: kinds[name] for name in ("bare", "gated", "raw", "get")}, callers, rounds=rounds)
    ping = raw_round_trip(os.environ["REDIS_URL"])
    busy = measure({"raw": lambda caller: ping()}, callers, rounds=rounds)["raw"]
    found: dict[str, Any] = {name: Spread.of(each).as_dict() for name, each in samples.items()}
    found["raw, back to back"] = Spread.of(busy).as_dict()
    if "peers" in kinds:
        beside = {name: kinds[name] for name in ("bare", "gated", "peers")}
        for name, each in measure(beside, callers, rounds=max(rounds // 2, 1), seed=4).items():
            found[name if name == "peers" else f"{name}, with peers"] = Spread.of(each).as_dict()
        found |= without_waiting_for_disk(kinds, callers, rounds=max(rounds // 4, 1))
    steps = breakdown(kinds, callers, rounds=max(rounds // 2, 1))
    return {"spreads": found, "steps": steps, "redis": redis_at_work(kinds["gated"], callers)}


def kinds_of(application: Application) -> dict[str, Kind]:
    from redis import Redis

    from bench.views import HAS_PEERS

    ping = raw_round_trip(os.environ["REDIS_URL"])
    client = Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
    client.set("bench:get", "1")
    kinds: dict[str, Kind] = {
        "bare": lambda caller: application.checked("/bench/bare", caller, f"Bearer {caller.secret}"),
        "gated": lambda caller: application.checked("/bench/gated", caller, f"Bearer {caller.secret}"),
        "raw": lambda caller: ping(),
        "get": lambda caller: void(client.get("bench:get")),
    }
    if HAS_PEERS:
        kinds["peers"] = lambda caller: application.checked(
            "/bench/peers", caller, f"Api-Key {caller.peers_key}"
        )
    return kinds


def void(answer: object) -> None:
    """Take an answer that nobody wants."""


def without_waiting_for_disk(
    kinds: dict[str, Kind], callers: list[world.Caller], *, rounds: int
) -> dict[str, Any]:
    """Measure the peers once more with PostgreSQL answering a commit before it is on disk.

    Their log writes a row a call. How long a disk takes says nothing about them, so this is the other end.
    """
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit TO off")
    samples = measure({name: kinds[name] for name in ("bare", "peers")}, callers, rounds=rounds, seed=2)
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit TO on")
    return {f"{name}, lazy": Spread.of(each).as_dict() for name, each in samples.items()}


def breakdown(kinds: dict[str, Kind], callers: list[world.Caller], *, rounds: int) -> dict[str, float]:
    """Return the median microseconds of each step of a gated request, and of what it has beyond those and a bare
    one."""
    spent: dict[str, list[float]] = {}

    def gated(caller: world.Caller) -> None:
        kinds["gated"](caller)
        for step, took in watch.take().items():
            spent.setdefault(step, []).append(took)

    with timed_steps() as watch:
        samples = measure({"bare": kinds["bare"], "gated": gated}, callers, rounds=rounds, seed=3)
    order = dict.fromkeys(step for step, _, _ in STEPS)
    steps = {step: Spread.of(spent[step]).median for step in order if step in spent}
    added = Spread.of(samples["gated"]).median - Spread.of(samples["bare"]).median
    return {**steps, "elsewhere": added - sum(steps.values())}


def redis_at_work(gated: Kind, callers: list[world.Caller]) -> dict[str, float]:
    """Return the microseconds that Redis itself spends on each command of gated calls, without the way there."""
    from redis import Redis

    with Redis.from_url(os.environ["REDIS_URL"], decode_responses=True) as redis:
        redis.config_resetstat()
        for caller in callers * 3:
            gated(caller)
        found: Any = redis.info("commandstats")
    commands = {name.removeprefix("cmdstat_"): each["usec_per_call"] for name, each in found.items()}
    # Those inside the script are part of it.
    return {name: float(commands[name]) for name in ("evalsha", "xadd") if name in commands}


def describe(report: Report, way: str, result: dict[str, Any]) -> None:
    spreads = {name: Spread(**each) for name, each in result["spreads"].items()}
    rows = []
    for name, label in KINDS.items():
        if each := spreads.get(name):
            base = spreads.get(BASES.get(name, ""))
            quartiles = map(microseconds, (each.low, each.median, each.high))
            rows.append([label, *quartiles, microseconds(each.median - base.median) if base else ""])
    report.tables.append(
        Table(
            f"One call in one process, Redis by {way}, in µs",
            ["what", "lower quartile", "median", "upper quartile", "adds to bare"],
            rows,
        )
    )
    gate = spreads["gated"].median - spreads["bare"].median
    steps = result["steps"]
    trips, busy = spreads["raw"].median, spreads["raw, back to back"].median
    lines = [
        [step, microseconds(took), f"{took / trips:.2f}"]
        for step, took in {**steps, "all": sum(steps.values())}.items()
    ]
    report.tables.append(
        Table(
            f"Where the gate's time goes, Redis by {way}, medians, timing included",
            ["step", "µs", "raw round trips"],
            lines,
        )
    )
    for name, took in result["redis"].items():
        report.notes.append(f"Redis itself works {took:.0f} µs at each {name.upper()}, {way}.")
    hold = report.figures.append if way == "TCP" else lambda figure: report.notes.append(f"{figure}")
    hold(Figure(f"gate over raw Redis round trips, {way}", round(ratio(gate, trips), 3), MOST_ROUND_TRIPS))
    asked = spreads["get"].median
    hold(Figure(f"gate over round trips by redis-py, {way}", round(ratio(gate, asked), 3), MOST_ROUND_TRIPS))
    report.notes.append(f"Gate over round trips made back to back, {way}: {ratio(gate, busy):.2f}")
    if "peers" in spreads:
        bare = spreads["bare, with peers"].median
        beside, peers = spreads["gated, with peers"].median - bare, spreads["peers"].median - bare
        hold(Figure(f"gate over peers, {way}", round(ratio(beside, peers), 4), MOST_OF_PEERS))
        lazy = spreads["peers, lazy"].median - spreads["bare, lazy"].median
        report.notes.append(f"Gate over peers whose commits are not awaited, {way}: {ratio(gate, lazy):.3f}")
    else:
        report.notes.append("The peers are left out: nothing was measured against them.")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gate", description=__doc__)
    parser.add_argument("--rounds", type=int, default=4000, help="calls of each kind")
    parser.add_argument("--unix", action="store_true", help="measure by Redis's Unix socket as well")
    parser.add_argument("--alone", action="store_true", help="leave the peers out, to work on the gate")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.here:
        sys.stdout.write(json.dumps(here(rounds=options.rounds, alone=options.alone)))
        return 0
    report = run(rounds=options.rounds, with_socket=options.unix, alone=options.alone)
    report.publish()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
