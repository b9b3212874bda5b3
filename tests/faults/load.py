"""Callers of the API over HTTP, who write down what they were answered."""

import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults.founding import Customer

TIMEOUT = 8
ECHO = "/api/v1/echo"
SHARES = {"free": 2, "pro": 4, "team": 5, "mover": 4}
KINDS = {"echo": 10, "authorize": 4, "verify": 4, "reserve": 4}
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
    answers: list[str] = field(default_factory=list)

    def conclude(self, outcome: str, *, least: int, most: int) -> None:
        self.ended, self.outcome, self.least, self.most = time.monotonic(), outcome, least, most


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

    def __init__(self, *, seed: int, port: int, token: str, customers: dict[str, Customer]) -> None:
        self.seed, self.port, self.token, self.customers = seed, port, token, customers
        self.calls: list[Call] = []
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
            kind = pick(chance, KINDS)
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

    def settle_the_rest(self) -> int:
        """Settle once more what got no answer; return how many are still without one."""
        line = Line(self.port)
        for call in self.unsettled():
            try:
                self.settle(line, call)
            except ConnectionRefusedError:
                break
        line.close()
        return len(self.unsettled())

    def unsettled(self) -> Sequence[Call]:
        return [call for call in self.calls if call.outcome == "unsettled"]


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
