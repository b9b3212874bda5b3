"""The sandbox beside Stripe: a process of its own, with no state, as long as it is needed.

Production code imports nothing of it, and an installation may have left it out: then there is nothing to compare with.
"""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import stripe

from billing.stripe.client import TIMEOUT_SECONDS

KEY = f"sk_test_{'0' * 24}"
READY = re.compile(r"ready on (http://\S+)")
STOPPING_SECONDS = 10


class NoStandIn(Exception):
    """There is no sandbox to compare with; the text says why."""


@contextmanager
def stand_in() -> Iterator[stripe.StripeClient]:
    """Start a sandbox and give a client of it. Raises NoStandIn where it is not installed or does not start."""
    found = importlib.util.find_spec("sandbox")
    if found is None or found.origin is None:
        raise NoStandIn("the package sandbox is not installed here")
    process = subprocess.Popen(
        [sys.executable, "-m", "sandbox", "--port", "0"],
        cwd=Path(found.origin).parent.parent,
        # Nothing of ours: it needs no settings, and no key should lie about in one more process.
        env={name: value for name, value in os.environ.items() if name in {"PATH", "LANG", "PYTHONPATH"}},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield client_of(address_of(process))
    finally:
        process.terminate()
        try:
            process.wait(STOPPING_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


def address_of(process: subprocess.Popen[str]) -> str:
    """Wait for the line that says where it listens. Raises NoStandIn where the process ends before that."""
    for line in process.stdout or ():
        ready = READY.search(line)
        if ready:
            return ready[1]
    raise NoStandIn(f"the sandbox does not start here (`{sys.executable} -m sandbox` says why)")


def client_of(address: str) -> stripe.StripeClient:
    return stripe.StripeClient(
        KEY,
        base_addresses={"api": address, "files": address, "connect": address, "meter_events": address},
        http_client=stripe.RequestsClient(timeout=TIMEOUT_SECONDS),
        max_network_retries=2,
    )
