"""The sandbox as a process: how it starts, delivers, refuses and stops."""

import http.server
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import stripe

from tests.sandbox.helpers import KEY


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


def test_a_process_delivers_webhooks_retries_them_and_stops_promptly(
    receiver: tuple[str, list[str], list[str]], tmp_path: pathlib.Path
) -> None:
    url, seen, secrets = receiver
    process, base = start("--state", str(tmp_path / "var" / "state.sqlite3"), "--check-contract")
    try:
        client = connect(base)
        secrets.append(client.v1.webhook_endpoints.create({"url": url, "enabled_events": ["*"]}).secret or "")
        client.v1.customers.create({"email": "a@b.co"})
        deadline = time.monotonic() + 10
        while not seen and time.monotonic() < deadline:
            time.sleep(0.05)
        assert seen == ["customer.created"]
    finally:
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        assert process.wait(timeout=5) == 0
    assert time.monotonic() - started < 1


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
        process.wait(timeout=5)
