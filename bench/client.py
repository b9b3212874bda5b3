"""An HTTP client that costs little, in a process of its own: `python -m bench.client`, a job as JSON on stdin.

It sends requests that are made beforehand over raw sockets, and looks at no more of an answer than its status
and its end. Needs nothing but the standard library, and the answer to one request before it sends the next.
"""

import json
import os
import selectors
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from bench.stats import shuffled_rounds
from bench.wire import raw_round_trip

TIMEOUT = 10
Address = tuple[str, int]


class BadAnswer(Exception):
    """The server answered with another status than 200, or not at all."""


@dataclass
class Connection:
    """One keep-alive connection, opened anew where the server closes it after an answer."""

    address: Address
    stream: socket.socket | None = None
    received: bytes = b""
    began: int = 0
    opened: int = 0
    wanted: bytes = b""

    def send(self, request: bytes) -> None:
        if self.stream is None:
            self.stream = socket.create_connection(self.address, timeout=TIMEOUT)
            self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.opened += 1
        self.received = b""
        self.stream.sendall(request)

    def read(self) -> bool:
        """Take what has come; return whether the answer is whole. Raises BadAnswer, OSError."""
        assert self.stream is not None  # noqa: S101 - send() comes first.
        chunk = self.stream.recv(65_536)
        if not chunk:
            raise BadAnswer(f"The connection ended within an answer: {self.received[:200]!r}")
        self.received += chunk
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found:
            return False
        if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 204")):
            raise BadAnswer(self.received[:400].decode(errors="replace"))
        fields = head.lower()
        if len(body) < length_of(fields):
            return False
        if self.wanted not in body:
            raise BadAnswer(f"Not {self.wanted.decode()}: {body[:400]!r}")
        if b"\r\nconnection: close" in fields:
            self.close()
        return True

    def close(self) -> None:
        if self.stream is not None:
            self.stream.close()
            self.stream = None


def length_of(head: bytes) -> int:
    """Return the Content-Length in a head in small letters; without one there is no body, as with 204."""
    _, found, rest = head.partition(b"\r\ncontent-length:")
    if not found and b"\r\ntransfer-encoding:" in head:
        raise BadAnswer("The answer comes in chunks, which this client does not read.")
    return int(rest.partition(b"\r\n")[0]) if found else 0


@dataclass
class Requests:
    """What is sent: for each kind, requests that take turns."""

    by_kind: dict[str, list[bytes]]
    wanted: dict[str, str] = field(default_factory=dict)  # What the body of an answer must have in it.
    turn: dict[str, int] = field(default_factory=dict)

    def next(self, kind: str) -> bytes:
        known = self.by_kind[kind]
        turn = self.turn[kind] = self.turn.get(kind, -1) + 1
        return known[turn % len(known)]


def one_by_one(address: Address, requests: Requests, *, rounds: int, redis_url: str) -> dict[str, Any]:
    """Return the microseconds of each answer by kind, over one connection, the kinds in turn; and of as many raw
    Redis round trips between them."""
    connection = Connection(address)
    clock = time.perf_counter_ns
    ping: Callable[[], None] | None = raw_round_trip(redis_url) if redis_url else None
    kinds = [*requests.by_kind, *(["raw"] if ping else [])]
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    for kind in shuffled_rounds(kinds, rounds=rounds):
        if kind == "raw" and ping:
            began = clock()
            ping()
        else:
            request = requests.next(kind)
            connection.wanted = requests.wanted.get(kind, "").encode()
            began = clock()
            connection.send(request)
            while not connection.read():
                pass
        took[kind].append((clock() - began) / 1000)
    connection.close()
    return {"took": took}


def at_once(
    address: Address, requests: Requests, *, kind: str, connections: int, seconds: float
) -> dict[str, Any]:
    """Keep so many connections busy for a time; return what was answered, how fast, and what went wrong."""
    waiting = selectors.DefaultSelector()
    clock = time.perf_counter_ns
    took: list[float] = []
    failed: list[str] = []
    refused: list[Connection] = []
    wanted = requests.wanted.get(kind, "").encode()
    everyone = [Connection(address, wanted=wanted) for _ in range(connections)]

    def send(connection: Connection) -> None:
        before = connection.stream
        connection.began = clock()
        try:
            connection.send(requests.next(kind))
        except OSError:
            refused.append(connection)  # Nothing listens, or listens any more: nothing was lost by it.
            return
        if connection.stream is not before and connection.stream is not None:
            waiting.register(connection.stream, selectors.EVENT_READ, connection)

    began = clock()
    end = began + int(seconds * 1e9)
    for connection in everyone:
        send(connection)
    for connection in answered(waiting, failed, until=end):
        took.append((clock() - connection.began) / 1000)
        if clock() < end:
            send(connection)
    lasted = (clock() - began) / 1e9
    for connection in everyone:
        connection.close()
    opened = sum(connection.opened for connection in everyone)
    return {
        "took": took,
        "seconds": lasted,
        "failed": failed[:5],
        "failures": len(failed),
        "refused": len(refused),
        "opened": opened,
    }


def answered(waiting: selectors.BaseSelector, failed: list[str], *, until: int) -> Iterator[Connection]:
    """Yield each connection whose answer is whole, until the time is over or nobody is left."""
    while waiting.get_map() and time.perf_counter_ns() < until:
        for key, _ in waiting.select(0.5):
            connection: Connection = key.data
            try:
                whole = connection.read()
            except (BadAnswer, OSError) as error:
                failed.append(str(error))
                waiting.unregister(key.fileobj)
                connection.close()
                continue
            if whole:
                if connection.stream is None:
                    waiting.unregister(key.fileobj)
                yield connection


def main() -> int:
    job = json.load(sys.stdin)
    requests = Requests(
        {kind: [text.encode("latin-1") for text in texts] for kind, texts in job["requests"].items()},
        job.get("wanted", {}),
    )
    address = ("127.0.0.1", job["port"])
    if "rounds" in job:
        found = one_by_one(address, requests, rounds=job["rounds"], redis_url=os.environ.get("REDIS_URL", ""))
    else:
        found = at_once(
            address, requests, kind=job["kind"], connections=job["connections"], seconds=job["seconds"]
        )
    json.dump(found, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
