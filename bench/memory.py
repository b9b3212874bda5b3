"""What Redis keeps for each organization: `python -m bench.memory`.

Real rows in PostgreSQL, copied by the gate's own function and called through the gate, in a Redis that holds
nothing else. `used_memory` before and after, divided by how many organizations there are.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import uuid
from typing import Any

from bench import stores, world
from bench.report import Report, Table

KEYS_EACH = 2
PER_MINUTE = 100
EVENTS = 10_000
ORGANIZATIONS, FULL = 20_000, 100
MINUTE = 55  # Seconds; a window that nobody adds to goes after 60.
MILLION = 1_000_000
STATES = {
    "idle": "made calls in the last seven days, none in the last minute",
    "called": "made one in the last minute",
    "full": f"made {PER_MINUTE} in the last minute, all that its plan allows",
}

EXTRAS = {
    "a key": "one more key",
    "an event": "an event that the drain has not stored yet",
}


def here(*, organizations: int, full: int) -> dict[str, Any]:
    """Return bytes for each organization in each state, added up from state to state."""
    world.set_up()
    from accounts import clock
    from apikeys import cache
    from apikeys.gate import admit
    from usage import stream
    from usage.redis_client import get_redis

    world.make_tables()
    world.sell(per_minute=PER_MINUTE, burst=None)
    customers = world.enroll(organizations, keys_each=KEYS_EACH)

    def call(customer: world.Caller, times: int) -> None:
        for _ in range(times):
            decision = admit(customer.secret, address=customer.address)
            if not decision.admitted:
                raise AssertionError(f"A call was refused: {decision.reason}")

    redis = get_redis()
    redis.flushall()
    some = min(organizations, 1000)
    info: Any = redis.info()
    empty = used_memory()
    for customer in customers:
        cache.fill(customer.ref, now=clock.now())
    filled = used_memory()
    began = time.monotonic()
    for customer in customers:
        call(customer, 1)
    called = used_memory()
    for customer in customers[:full]:
        call(customer, PER_MINUTE - 1)
    filled_up = used_memory()
    if time.monotonic() - began > MINUTE:
        raise AssertionError(
            "Windows began to expire before they were measured: ask for fewer organizations."
        )
    for customer in customers[:some]:
        world.add_key(customer.ref)
        cache.fill(customer.ref, now=clock.now())
    with_a_key = used_memory()
    event = a_long_event()
    for _ in range(EVENTS):
        redis.xadd(stream.STREAM, {"e": event})
    idle = (filled - empty) / organizations
    once = idle + (called - filled) / organizations
    return {
        "bytes": {"idle": idle, "called": once, "full": once + (filled_up - called) / full},
        "a key": (with_a_key - filled_up) / some,
        "an event": (used_memory() - with_a_key) / EVENTS,
        "redis": info["redis_version"],
        "allocator": info["mem_allocator"],
        "organizations": organizations,
        "full": full,
    }


def a_long_event() -> str:
    """Return an event as the stream has it, with an endpoint of a usual length."""
    from accounts import clock
    from usage.events import Event, uuid7

    now = clock.now()
    return Event(
        id=uuid7(now),
        occurred_at=now,
        organization_id=uuid.uuid4(),
        api_key_id=uuid.uuid4(),
        meter="requests",
        units=1,
        period_start=now,
        endpoint="/api/v1/forecasts/<uuid:pk>",
        method="GET",
        status=200,
        response_ms=12,
    ).encode()


def used_memory() -> int:
    from usage.redis_client import get_redis

    info: Any = get_redis().info("memory")
    return int(info["used_memory"])


def run(*, organizations: int, full: int) -> Report:
    report = Report("memory")
    command = [sys.executable, "-m", "bench.memory", "--here"]
    command += ["--organizations", str(organizations), "--full", str(full)]
    with stores.running("memory", durable=False) as environment:
        done = subprocess.run(
            command, env=os.environ | environment, stdout=subprocess.PIPE, check=True, text=True
        )
    found = report.numbers = json.loads(done.stdout)
    rows = [
        [STATES[state], f"{each:,.0f}", f"{each * MILLION / 2**30:.2f}"]
        for state, each in found["bytes"].items()
    ]
    rows += [
        [f"{label}", f"{found[what]:,.0f}", f"{found[what] * MILLION / 2**30:.2f}"]
        for what, label in EXTRAS.items()
    ]
    report.tables.append(
        Table(
            f"Redis's memory for organizations of {KEYS_EACH} keys (Redis {found['redis']}, {found['allocator']})",
            ["an organization that has", "bytes", "GiB a million"],
            rows,
        )
    )
    return report


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--organizations", type=int, default=ORGANIZATIONS)
    parser.add_argument("--full", type=int, default=FULL, help="how many of them fill their minute")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    full = min(options.full, options.organizations)
    if options.here:
        sys.stdout.write(json.dumps(here(organizations=options.organizations, full=full)))
        return 0
    report = run(organizations=options.organizations, full=full)
    report.publish()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
