"""Callers of the API over HTTP, who write down what they were answered."""

import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from accounts import clock
from tests.faults.founding import METER, Customer

TIMEOUT = 8
ECHO = "/api/v1/echo"
EVENTS = "/api/v1/events"
SHARES = {"free": 2, "pro": 4, "team": 5, "mover": 4}
KINDS = {"echo": 10, "authorize": 4, "verify": 4, "reserve": 4}
# Events pass a hard quota, as nobody asks the gate about them: those who have none send them.
EVENTS_SHARE = 4
SENDERS = {"team": 3, "mover": 2}
MOST_EVENTS = 6
BACKDATED = 0.3  # Of batches: by up to a minute.
LEAVES = 0.2  # Of reservations, that nobody settles.
# Waits between two calls of one caller, in seconds on average.
PAUSE = 0.02


@dataclass(slots=True)
class Call:
    """What was asked, and what of it must and may be in the ledger: from `least` to `most` units.

    `endpoint` tells it apart from all others, but for echo. `began` and `ended` are by time.monotonic().
    """

    customer: Customer
    kind: str
    endpoint: str
    units: int
    began: float
    ended: float = 0.0
    outcome: str = "unknown"
    least: int = 0
    most: int = 0
    reservation: str = ""
    settled_units: int = 0
    batch: "Batch | None" = None
    answers: list[str] = field(default_factory=list)

    def conclude(self, outcome: str, *, least: int, most: int) -> None:
        self.ended, self.outcome, self.least, self.most = time.monotonic(), outcome, least, most


@dataclass(slots=True)
class Batch:
    """Events that are sent together, again and again until they are acknowledged."""

    body: dict[str, Any]
    calls: list[Call]
    is_acknowledged: bool = False


Answer = tuple[int, dict[str, Any]]


class Line:
    """One caller's connection, made anew whenever it breaks."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connection: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, headers: dict[str, str], body: Any = None) -> Answer | None:
        """Return status and body, None where no answer came. Raises ConnectionRefusedError: nobody was asked."""
        if self.connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
            connection.connect()
            self.connection = connection
        content = json.dumps(body).encode() if body is not None else None
        if content is not None:
            headers = headers | {"Content-Type": "application/json"}
        try:
            self.connection.request(method, path, content, headers)
            response = self.connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException):
            self.close()
            return None
        if response.will_close:
            self.close()
        try:
            found = json.loads(text) if text else {}
        except ValueError:
            found = {"text": text[:200].decode(errors="replace")}
        return response.status, found if isinstance(found, dict) else {"body": found}

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class Load:
    """Several callers at once, for as long as the schedule is disturbed."""

    def __init__(
        self, *, seed: int, port: int, token: str, customers: dict[str, Customer], takes_events: bool
    ) -> None:
        self.seed, self.port, self.token, self.customers = seed, port, token, customers
        self.kinds = KINDS | ({"events": EVENTS_SHARE} if takes_events else {})
        self.calls: list[Call] = []
        self.batches: list[Batch] = []
        self.bursts_until = 0.0
        self.stopping = threading.Event()
        self.threads: list[threading.Thread] = []

    def start(self, callers: int = 4) -> None:
        for number in range(callers):
            thread = threading.Thread(target=self.run, args=(number,), name=f"caller-{number}", daemon=True)
            self.threads.append(thread)
            thread.start()

    def stop(self) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def burst(self, seconds: float) -> None:
        self.bursts_until = time.monotonic() + seconds

    def run(self, number: int) -> None:
        chance = random.Random(f"caller {self.seed} {number}")  # noqa: S311  # Repeatable chance is the point.
        line, count = Line(self.port), 0
        kinds: dict[str, Callable[[Line, Call, random.Random], None]] = {
            "echo": self.echo,
            "authorize": self.authorize,
            "verify": self.verify,
            "reserve": self.reserve,
        }
        while not self.stopping.is_set():
            count += 1
            name = pick(chance, SHARES)
            kind = pick(chance, self.kinds)
            if kind == "events":
                self.send_events(line, chance, f"/faults/{self.seed}/{number}/{count}")
                continue
            units = 1 if kind == "echo" else chance.randint(1, 4)
            endpoint = ECHO if kind == "echo" else f"/faults/{self.seed}/{number}/{count}"
            call = Call(self.customers[name], kind, endpoint, units, time.monotonic())
            try:
                kinds[kind](line, call, chance)
            except ConnectionRefusedError:
                time.sleep(0.02)
                continue
            self.calls.append(call)
            if time.monotonic() > self.bursts_until:
                self.stopping.wait(chance.expovariate(1 / PAUSE))
        line.close()

    def echo(self, line: Line, call: Call, chance: random.Random) -> None:
        take(call, line.ask("GET", ECHO, bearer(call.customer.secret)))

    def authorize(self, line: Line, call: Call, chance: random.Random) -> None:
        headers = bearer(call.customer.secret) | {
            "X-Tollgate-Token": self.token,
            "X-Tollgate-Endpoint": call.endpoint,
            "X-Tollgate-Cost": str(call.units),
        }
        take(call, line.ask("GET", "/api/v1/gateway/authorize", headers))

    def verify(self, line: Line, call: Call, chance: random.Random) -> None:
        body = {"key": call.customer.secret, "cost": call.units, "endpoint": call.endpoint}
        take(call, line.ask("POST", "/api/v1/keys/verify", bearer(self.token), body))

    def reserve(self, line: Line, call: Call, chance: random.Random) -> None:
        """Reserve units, and settle for some of them, or leave that: then all of them are billed."""
        body = {"key": call.customer.secret, "cost": call.units, "endpoint": call.endpoint, "reserve": True}
        call.settled_units = chance.randint(0, call.units)
        is_left = chance.random() < LEAVES
        answer = line.ask("POST", "/api/v1/keys/verify", bearer(self.token), body)
        take(call, answer)
        if call.outcome != "served" or answer is None:
            return
        call.reservation = answer[1]["reservation"]
        if is_left:
            call.conclude("left", least=call.units, most=call.units)
            return
        call.conclude("unsettled", least=0, most=call.units)
        try:
            self.settle(line, call)
        except ConnectionRefusedError:
            return

    def settle(self, line: Line, call: Call) -> None:
        """Say what a reservation came to. May be repeated."""
        body = {"reservation": call.reservation, "units": call.settled_units}
        answer = line.ask("POST", "/api/v1/keys/verify/settle", bearer(self.token), body)
        if answer is None:
            return
        call.answers.append(f"settle: {answer[0]} {answer[1].get('code', '')}")
        if answer[0] == 200:
            call.conclude("settled", least=call.settled_units, most=call.settled_units)
        elif answer[0] < 500:
            # Too late, or lost with Redis and long over: the answer says what is billed.
            billed = int(answer[1].get("units", 0))
            call.conclude("settled otherwise", least=billed, most=billed)

    def send_events(self, line: Line, chance: random.Random, source: str) -> None:
        """Tell of usage, each event under a source of its own, which is its endpoint in the ledger."""
        customer = self.customers[pick(chance, SENDERS)]
        ago = chance.uniform(0, 60) if chance.random() < BACKDATED else None
        calls, events = [], []
        for number in range(chance.randint(1, MOST_EVENTS)):
            call = Call(customer, "events", f"{source}/{number}", chance.randint(1, 4), time.monotonic())
            event = {"source": call.endpoint, "id": "1", "organization": customer.ref, "meter": METER}
            event |= {"value": call.units}
            if ago is not None:
                moment = clock.now() - timedelta(seconds=ago)
                event["time"] = moment.isoformat()
            calls.append(call)
            events.append(event)
        batch = Batch({"events": events}, calls)
        for call in calls:
            call.conclude("unacknowledged", least=0, most=call.units)
            call.batch = batch
        self.calls += calls
        self.batches.append(batch)
        for _ in range(3):
            with suppress(ConnectionRefusedError):
                self.send(line, batch)
            if batch.is_acknowledged or self.stopping.wait(0.1):
                return

    def send(self, line: Line, batch: Batch) -> None:
        """Send a batch, and write down what is said of each event. May be repeated."""
        answer = line.ask("POST", EVENTS, bearer(self.token), batch.body)
        if answer is None or answer[0] != 200:
            for call in batch.calls:
                call.answers.append("none" if answer is None else f"{answer[0]} {answer[1].get('code', '')}")
            return
        for call, result in zip(batch.calls, answer[1]["results"], strict=True):
            call.answers.append(f"{result['status']} {result['code'] or ''}")
            if result["status"] == "refused":
                call.conclude("event refused", least=0, most=0)
            else:
                call.conclude("acknowledged", least=call.units, most=call.units)
        batch.is_acknowledged = True

    def finish(self) -> int:
        """Repeat what got no answer and may be repeated; return how many calls are still without one."""
        line = Line(self.port)
        with suppress(ConnectionRefusedError):
            for call in self.unfinished():
                if call.batch is None:
                    self.settle(line, call)
                elif not call.batch.is_acknowledged:
                    self.send(line, call.batch)
        line.close()
        return len(self.unfinished())

    def unfinished(self) -> Sequence[Call]:
        return [call for call in self.calls if call.outcome in {"unsettled", "unacknowledged"}]


def take(call: Call, answer: Answer | None) -> None:
    if answer is None:
        call.conclude("unknown", least=0, most=call.units)
        return
    status, body = answer
    call.answers.append(f"{status} {body.get('code', '')}")
    if status >= 500:
        call.conclude("failed", least=0, most=0)
    elif status >= 400 or body.get("valid") is False:
        call.conclude("refused", least=0, most=0)
    else:
        call.conclude("served", least=call.units, most=call.units)


def pick(chance: random.Random, shares: dict[str, int]) -> str:
    return chance.choices(list(shares), list(shares.values()))[0]


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}
