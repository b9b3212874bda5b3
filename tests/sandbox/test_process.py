"""The sandbox as a process: how it starts, delivers, refuses and stops."""

import concurrent.futures
import http.server
import json
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import stripe

from sandbox.__main__ import read_arguments
from tests.sandbox.helpers import KEY

pytestmark = pytest.mark.long

PATIENCE = 60.0


def start(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "sandbox", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=pathlib.Path(__file__).parents[2],
    )
    assert process.stdout is not None
    ready = re.search(r"ready on (\S+)", process.stdout.readline())
    assert ready is not None
    return process, ready[1]


def problems(base: str) -> list[str]:
    with urllib.request.urlopen(base + "/sandbox/contract") as answer:  # noqa: S310
        found = json.load(answer)
    assert found["checked"]
    return list(found["problems"])


def connect(url: str) -> stripe.StripeClient:
    addresses: stripe.BaseAddresses = {"api": url, "connect": url, "files": url, "meter_events": url}
    return stripe.StripeClient(KEY, base_addresses=addresses)


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[str], list[str]]]:
    """Refuse one delivery, take the rest; yields the URL, the types taken and a list for the secret."""
    seen: list[str] = []
    answers = iter([500])

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = next(answers, 200)
            if status == 200:
                event = stripe.Webhook.construct_event(body, self.headers["Stripe-Signature"], secrets[0])
                seen.append(event.type)
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    secrets: list[str] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", seen, secrets
    server.shutdown()


def test_a_process_delivers_webhooks_retries_them_and_stops_when_told_to(
    receiver: tuple[str, list[str], list[str]], tmp_path: pathlib.Path
) -> None:
    url, seen, secrets = receiver
    process, base = start("--state", str(tmp_path / "var" / "state.sqlite3"), "--check-contract")
    try:
        client = connect(base)
        secrets.append(client.v1.webhook_endpoints.create({"url": url, "enabled_events": ["*"]}).secret or "")
        client.v1.customers.create({"email": "a@b.co"})
        deadline = time.monotonic() + PATIENCE
        while not seen and time.monotonic() < deadline:
            time.sleep(0.05)
        assert seen == ["customer.created"]
        assert problems(base) == []
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE) == 0


def test_it_listens_on_this_machines_port_12111_unless_told_otherwise() -> None:
    asked = read_arguments([])
    assert (asked.host, asked.port) == ("127.0.0.1", 12111)


def test_a_taken_port_and_a_public_host_are_refused_in_one_sentence() -> None:
    process, base = start()
    try:
        for arguments, words in (
            (["--port", base.rsplit(":", 1)[1]], "taken"),
            (["--host", "192.0.2.1"], "loopback"),
        ):
            refused = subprocess.run(
                [sys.executable, "-m", "sandbox", *arguments], capture_output=True, text=True, check=False
            )
            assert refused.returncode == 1
            assert words in refused.stderr
            assert refused.stderr.count("\n") == 1
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)


@pytest.fixture
def process() -> Iterator[str]:
    """Run a sandbox and yield its address."""
    running, base = start("--check-contract")
    yield base
    assert problems(base) == []
    running.terminate()
    running.wait(timeout=PATIENCE)


def control(base: str, path: str, data: dict[str, object]) -> None:
    body = json.dumps(data).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    urllib.request.urlopen(urllib.request.Request(base + path, body, headers)).close()  # noqa: S310


def test_a_time_out_ends_the_connection_without_an_answer(process: str) -> None:
    client = connect(process)
    for kind, made in (("timeout_before", 0), ("timeout_after", 1)):
        control(process, "/sandbox/faults", {"kind": kind, "method": "POST", "times": 1})
        # What the client did not see ended it would have waited 80 seconds for.
        with pytest.raises(stripe.APIConnectionError, match="RemoteDisconnected"):
            client.v1.customers.create({"email": "a@b.co"})
        assert len(client.v1.customers.list().data) == made


def test_requests_that_meet_collide_as_at_stripe(process: str) -> None:
    client = connect(process)
    customer = client.v1.customers.create({"email": "a@b.co"}).id
    control(process, "/sandbox/faults", {"kind": "slow", "seconds": 2, "method": "POST", "times": 2})

    def report(number: int) -> int | None:
        payload = {"stripe_customer_id": customer, "value": "1"}
        try:
            client.v1.billing.meter_events.create({"event_name": "requests", "payload": payload})
        except stripe.StripeError as error:
            return error.http_status
        return 200

    def create(number: int) -> int | None:
        try:
            client.v1.customers.create({"email": "b@b.co"}, {"idempotency_key": "one"})
        except stripe.StripeError as error:
            return error.http_status
        return 200

    for call, refused in ((report, 429), (create, 409)):
        with concurrent.futures.ThreadPoolExecutor() as pool:
            assert sorted(pool.map(call, range(2)), key=str) == [200, refused]


def test_a_live_key_is_refused_by_the_process(process: str) -> None:
    addresses: stripe.BaseAddresses = {"api": process}
    live = stripe.StripeClient("sk_live_0123456789abcdefghijklmnop", base_addresses=addresses)
    with pytest.raises(stripe.AuthenticationError, match="refuses live keys"):
        live.v1.customers.list()


def test_the_meter_event_stream_is_reached_at_its_own_address(process: str) -> None:
    token = connect(process).v2.billing.meter_event_session.create().authentication_token
    addresses: stripe.BaseAddresses = {"api": "http://127.0.0.1:9", "meter_events": process}
    client = stripe.StripeClient(token, base_addresses=addresses)
    event: Any = {"event_name": "requests", "payload": {"stripe_customer_id": "cus_x", "value": "1"}}
    client.v2.billing.meter_event_stream.create({"events": [event]})
