"""Which server should serve it in production: `python -m bench.servers`.

The candidates run side by side, each with two workers of eight threads (sync has no threads, waitress has
one process of sixteen), and are called turn by turn in an order that changes. Then each is handled roughly.
"""

import argparse
import sys
from contextlib import ExitStack
from typing import Any

from bench import behaviour, stores, world
from bench.over_http import CONNECTIONS, requests_for
from bench.report import Report, Table
from bench.stats import Spread, percentile, shuffled_rounds
from bench.web import Server, ServerError, call, serving

CALLERS = 1000
WORKERS, THREADS = 2, 8
LISTEN = "127.0.0.1:$PORT"
GUNICORN = (
    f"exec gunicorn config.wsgi:application --bind {LISTEN} --workers $WEB_CONCURRENCY --no-control-socket"
)
CANDIDATES = {
    "gunicorn gthread": f"{GUNICORN} --worker-class gthread --threads $WEB_THREADS",
    "gunicorn sync": f"{GUNICORN} --worker-class sync",
    "granian": "exec granian --interface wsgi --http 1 --no-ws --host 127.0.0.1 --port $PORT"
    " --workers $WEB_CONCURRENCY --blocking-threads $WEB_THREADS --respawn-failed-workers"
    " --workers-kill-timeout 30"
    " --log-level warning config.wsgi:application",
    "uwsgi": f"exec uwsgi --http11-socket {LISTEN} --master --processes $WEB_CONCURRENCY --threads $WEB_THREADS"
    " --lazy-apps --need-app --die-on-term --disable-logging --module config.wsgi:application",
    "waitress": f"exec waitress-serve --listen={LISTEN} --threads=$((WEB_CONCURRENCY * WEB_THREADS))"
    " config.wsgi:application",
}
KINDS = ("bare", "gated")


def run(*, names: list[str], rounds: int, seconds: float, turns: int) -> Report:
    report = Report("servers")
    with stores.running("servers") as environment:
        callers, _ = world.prepare(environment, callers=CALLERS)
        requests = requests_for(callers, {})
        with ExitStack() as stop:
            servers = {}
            for name in names:
                try:
                    servers[name] = stop.enter_context(
                        serving(name, CANDIDATES[name], environment, workers=WORKERS, threads=THREADS)
                    )
                except ServerError as error:
                    report.notes.append(str(error))
            speed(report, servers, requests, environment, rounds=rounds, seconds=seconds, turns=turns)
        rows = []
        for name in servers:
            found = behaviour.observe(name, CANDIDATES[name], environment)
            report.numbers[name]["behaviour"] = found
            rows.append([name, *found.values()])
        report.tables.append(Table("Handled roughly", ["server", *behaviour.QUESTIONS], rows))
    return report


def speed(
    report: Report,
    servers: dict[str, Server],
    requests: dict[str, list[str]],
    environment: dict[str, str],
    *,
    rounds: int,
    seconds: float,
    turns: int,
) -> None:
    one: dict[str, list[float]] = {name: [] for name in servers}
    many: dict[str, dict[str, list[dict[str, Any]]]] = {
        name: {kind: [] for kind in KINDS} for name in servers
    }
    for turn, name in enumerate([*servers, *shuffled_rounds(servers, rounds=turns)]):
        port, warming = servers[name].port, turn < len(servers)
        gated = {"gated": requests["gated"]}
        count = len(requests["gated"]) if warming else rounds // turns
        took = call({"port": port, "requests": gated, "rounds": count}, environment)["took"]["gated"]
        one[name] += [] if warming else took
        for kind in KINDS:
            job = {
                "port": port,
                "requests": {kind: requests[kind]},
                "kind": kind,
                "connections": CONNECTIONS,
                "seconds": seconds,
            }
            found = call(job, environment)
            many[name][kind] += [] if warming else [found]
    rows = []
    for name, server in servers.items():
        latency = Spread.of(one[name])
        rates = {
            kind: Spread.of([len(each["took"]) / each["seconds"] for each in many[name][kind]])
            for kind in KINDS
        }
        took = [sample / 1000 for each in many[name]["gated"] for sample in each["took"]]
        failures = sum(each["failures"] for kind in KINDS for each in many[name][kind])
        memory = [worker.memory_info().rss / 2**20 for worker in server.workers()]
        report.numbers[name] = {
            "one connection, µs": latency.as_dict(),
            "a second": {kind: rate.as_dict() for kind, rate in rates.items()},
            "p50 ms": percentile(took, 0.5),
            "p99 ms": percentile(took, 0.99),
            "failures": failures,
            "MiB a worker": memory,
        }
        rows.append([
            name,
            f"{latency.median / 1000:.2f}",
            f"{rates['bare'].median:,.0f}",
            f"{rates['gated'].median:,.0f}",
            f"{percentile(took, 0.5):.1f}",
            f"{percentile(took, 0.99):.1f}",
            str(failures),
            f"{max(memory):.0f}",
        ])  # fmt: skip
    columns = [
        "server",
        "alone ms",
        "bare a second",
        "gated a second",
        "p50 ms",
        "p99 ms",
        "failed",
        "MiB a worker",
    ]
    title = f"Servers: the gated view, one connection alone, then {CONNECTIONS} connections"
    report.tables.append(Table(title, columns, rows))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.servers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2000, help="calls over one connection, in all")
    parser.add_argument(
        "--seconds", type=float, default=2, help="how long a turn with several connections lasts"
    )
    parser.add_argument("--turns", type=int, default=7, help="such turns for each server and kind")
    parser.add_argument("--only", action="append", choices=list(CANDIDATES), help="these servers, not all")
    options = parser.parse_args(arguments)
    report = run(
        names=options.only or list(CANDIDATES),
        rounds=options.rounds,
        seconds=options.seconds,
        turns=options.turns,
    )
    report.publish()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
