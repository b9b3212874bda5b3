"""What a web server does when it is handled as the world handles it."""

import signal
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, suppress

import psutil

from bench.web import Server, call, request, serving

SLOW_CLIENTS = 64
BUSY = 8
PATIENCE = 40
CALLS, ENOUGH, SECONDS = 10, 3, 3
# How long a state is let come about before it is disturbed: from outside nobody can see that a worker has begun with a
# call that takes two seconds, that all clients are busy, or that a thread waits for each slow one.
IN_FLIGHT, IN_FULL_SWING, HELD_UP = 0.5, 3, 1
QUESTIONS = (
    "SIGTERM, call in flight",
    "SIGTERM, idle connection",
    f"SIGTERM, {BUSY} busy connections",
    "killed worker replaced",
    "SIGTERM, worker starting",
    "1 MB header",
    f"{SLOW_CLIENTS} slow clients",
)


def observe(name: str, command: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return what the server did, in a few words for each question."""

    def fresh() -> AbstractContextManager[Server]:
        return serving(name, command, environment, workers=2, threads=8)

    with fresh() as server:
        in_flight = stopped_with_a_call_in_flight(server)
    with fresh() as server:
        idle = stopped_with_an_idle_connection(server)
    with fresh() as server:
        busy = stopped_while_busy(server, environment)
    with fresh() as server:
        header, slow, replaced = huge_header(server), slow_clients(server), killed_worker(server)
        starting = stopped_with_an_idle_connection(server)
    return dict(zip(QUESTIONS, (in_flight, idle, busy, replaced, starting, header, slow), strict=True))


def connect(server: Server, *, timeout: float = PATIENCE) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=timeout)


def read_status(connection: socket.socket) -> str:
    """Return the status of an answer, or what came instead of one."""
    try:
        answer = connection.recv(65_536)
    except OSError as error:
        return error.strerror or type(error).__name__
    return answer.split(b" ", 2)[1].decode(errors="replace") if answer.startswith(b"HTTP/") else "no answer"


def stopped_with_a_call_in_flight(server: Server) -> str:
    with connect(server) as connection:
        connection.sendall(request("/bench/slow", {}).encode())
        time.sleep(IN_FLIGHT)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        status = read_status(connection)
    return f"{'served' if status == '200' else status}, {exit_of(server, began)}"


def stopped_with_an_idle_connection(server: Server) -> str:
    with connect(server) as connection:
        connection.sendall(request("/bench/plain", {}).encode())
        read_status(connection)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        return exit_of(server, began)


def stopped_while_busy(server: Server, environment: Mapping[str, str]) -> str:
    """Stop it while clients send one request after the other over connections that they keep.

    What was sent and not answered may have been served or not: its sender cannot know.
    """
    job = {
        "port": server.port,
        "requests": {"plain": [request("/bench/plain", {})]},
        "kind": "plain",
        "connections": BUSY,
        "seconds": 15,
    }
    with ThreadPoolExecutor() as pool:
        calling = pool.submit(call, job, environment)
        time.sleep(IN_FULL_SWING)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        end = exit_of(server, began)
        found = calling.result()
    return f"{found['failures']} of {BUSY} not answered, {end}"


def exit_of(server: Server, began: float) -> str:
    try:
        server.process.wait(PATIENCE + 10)
    except subprocess.TimeoutExpired:
        return "does not stop"
    code = server.process.returncode
    return f"gone in {time.monotonic() - began:.1f} s" + (f" (exit code {code})" if code else "")


def killed_worker(server: Server) -> str:
    workers = server.workers()
    if workers[0].pid == server.process.pid:
        return "has no workers"
    began = time.monotonic()
    workers[0].kill()
    while time.monotonic() - began < PATIENCE:
        with suppress(psutil.Error, OSError):
            now = {worker.pid for worker in server.workers()}
            if len(now) >= len(workers) and workers[0].pid not in now and server.is_up():
                return f"{time.monotonic() - began:.1f} s"
        if server.process.poll() is not None:
            return "the server ended"
        time.sleep(0.05)
    return "no"


def huge_header(server: Server) -> str:
    with connect(server) as connection:
        head = request("/bench/plain", {"X-Huge": "a" * 2**20}).encode()
        with suppress(OSError):
            connection.sendall(head)
        status = read_status(connection)
    return status + ("" if server.is_up() else ", then down")


def slow_clients(server: Server) -> str:
    """Let many clients send a request's head a byte at a time, and see whether others are still answered."""
    head = request("/bench/plain", {"X-Slow": "a" * 1000}).encode()
    done = threading.Event()
    with ExitStack() as opened:
        clients = [opened.enter_context(connect(server)) for _ in range(SLOW_CLIENTS)]

        def drip() -> None:
            for byte in head:
                for client in clients:
                    with suppress(OSError):
                        client.sendall(bytes([byte]))
                if done.wait(0.1):
                    return

        dripping = threading.Thread(target=drip)
        dripping.start()
        time.sleep(HELD_UP)
        took, unanswered = [], 0
        for _ in range(CALLS):
            began = time.monotonic()
            try:
                with connect(server, timeout=SECONDS) as connection:
                    connection.sendall(request("/bench/plain", {}).encode())
                    if read_status(connection) == "200":
                        took.append(time.monotonic() - began)
                        continue
            except OSError:
                pass
            unanswered += 1
            if unanswered == ENOUGH:
                break
        done.set()
        dripping.join()
    if unanswered:
        return f"others not answered in {SECONDS} s"
    return f"others in {statistics.median(took) * 1000:.0f} ms"
