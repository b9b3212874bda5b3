"""Stripe, seen from the lane: the sandbox as a process of its own, its control API, and what it counted."""

import http.client
import json
import subprocess
import sys
import time
import urllib.parse
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.faults.dying import die_with_parent

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 20


class StripeSide:
    def __init__(self, port: int, *, key: str) -> None:
        self.port, self.key = port, key
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, log: Path) -> None:
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sandbox", "--port", str(self.port)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509  # No threads in the child.
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.control("GET", "/sandbox/clock")
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def control(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Call the sandbox's control API and return its answer. Raises OSError, or AssertionError for a refusal."""
        content = json.dumps(body).encode() if body is not None else None
        return self._send(method, path, content, {"Content-Type": "application/json"})

    def api(self, path: str) -> Any:
        """Read from Stripe's API, past every fault of the product's own client."""
        return self._send("GET", path, None, {"Authorization": f"Bearer {self.key}"})

    def _send(self, method: str, path: str, content: bytes | None, headers: dict[str, str]) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, content, headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        assert answer.status == 200, f"{method} {path}: {answer.status} {text[:500]!r}"
        return json.loads(text)

    def listed(self, path: str) -> list[dict[str, Any]]:
        """Return all of a list of Stripe's."""
        rows: list[dict[str, Any]] = []
        mark = "&" if "?" in path else "?"
        after = ""
        while True:
            page = self.api(f"{path}{mark}limit=100{after}")
            rows += page["data"]
            if not page["has_more"]:
                return rows
            after = f"&starting_after={rows[-1]['id']}"

    def move_to(self, moment: datetime) -> None:
        """Let it be `moment` there; what falls due on the way has happened when this returns."""
        self.control("POST", "/sandbox/clock", {"to": int(moment.timestamp())})

    def now(self) -> int:
        return int(self.control("GET", "/sandbox/clock")["now"])

    def fail(self, kind: str, *, times: int, path: str, seconds: float | None = None) -> None:
        body: dict[str, Any] = {"kind": kind, "times": times, "path": path}
        self.control("POST", "/sandbox/faults", body | ({"seconds": seconds} if seconds else {}))

    def heal(self) -> None:
        self.control("DELETE", "/sandbox/faults")

    def undelivered(self) -> list[dict[str, Any]]:
        """Return the webhooks that are still to be delivered."""
        return [row for row in self.control("GET", "/sandbox/deliveries") if row["status"] == "pending"]

    def resend(self, event_id: str) -> None:
        self.control("POST", f"/sandbox/events/{event_id}/resend", {})

    def end_subscription(self, subscription_id: str) -> None:
        self.control("POST", f"/sandbox/subscriptions/{subscription_id}/cancel", {})

    def rejected(self) -> list[dict[str, Any]]:
        """Return the meter events that were taken and do not count."""
        found: list[dict[str, Any]] = self.control("GET", "/sandbox/meter_events/rejected")
        return found

    def counted(self, meter_id: str, customer_id: str, *, start: int, end: int) -> int:
        """Return the units that Stripe's summaries hold from `start` to `end`, whole minutes in unix seconds."""
        query = f"customer={customer_id}&start_time={start}&end_time={end}"
        rows = self.listed(f"/v1/billing/meters/{meter_id}/event_summaries?{query}")
        return sum(int(row["aggregated_value"]) for row in rows)

    def invoices(self, customer_id: str) -> list[dict[str, Any]]:
        """Return the customer's invoices that are not void, each with all of its lines."""
        found = self.listed(f"/v1/invoices?customer={customer_id}")
        for invoice in found:
            if invoice["lines"]["has_more"]:
                invoice["lines"]["data"] = self.listed(f"/v1/invoices/{invoice['id']}/lines")
        return [invoice for invoice in found if invoice["status"] != "void"]

    def next_invoice(self, subscription_id: str) -> dict[str, Any]:
        """Return what the subscription's next invoice would be by now."""
        content = urllib.parse.urlencode({"subscription": subscription_id}).encode()
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/x-www-form-urlencoded"}
        found: dict[str, Any] = self._send("POST", "/v1/invoices/create_preview", content, headers)
        return found
