"""Run the sandbox as a process: `python -m sandbox --port 12111 --state var/stripe.sqlite3`."""

import argparse
import errno
import logging
import os
import pathlib
import signal
import socket
import sys
import threading
from types import FrameType
from wsgiref.types import WSGIEnvironment

from werkzeug.serving import WSGIRequestHandler, make_server

from sandbox.app import create_app
from sandbox.contract.recorder import Recorder
from sandbox.contract.spec import SpecMissing, load_spec
from sandbox.differences import DIFFERENCES
from sandbox.resources.webhook_endpoints import is_loopback
from sandbox.state import Sandbox

TICK = 1.0


class QuietHandler(WSGIRequestHandler):
    """Writes no access log; `--log` has its own."""

    protocol_version = "HTTP/1.1"
    # Without this a small answer waits for the client's delayed acknowledgement, some 40 ms.
    disable_nagle_algorithm = True

    def connection_dropped(self, error: BaseException, environ: WSGIEnvironment | None = None) -> None:
        # A fault took the answer away: the client must see the connection end, not wait for its time-out.
        self.close_connection = True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


def read_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="A stand-in for Stripe's API.")
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address (default: %(default)s)")
    parser.add_argument("--port", type=int, default=12111, help="default: %(default)s; 0 picks a free one")
    parser.add_argument(
        "--state", type=pathlib.Path, help="SQLite file to keep everything in; without it, memory"
    )
    parser.add_argument("--base-url", help="how browsers reach this server (default: http://HOST:PORT)")
    parser.add_argument(
        "--check-contract",
        action="store_true",
        help="hold every exchange to Stripe's document; problems at /sandbox/contract",
    )
    parser.add_argument("--log", action="store_true", help="write a line per request to stderr")
    return parser.parse_args(argv)


def make_recorder() -> Recorder:
    """Return a recorder. Exits with a sentence where Stripe's document is not installed."""
    try:
        return Recorder(load_spec())
    except SpecMissing as error:
        sys.exit(f"sandbox: {error}")


def main(argv: list[str] | None = None) -> int:
    arguments = read_arguments(argv)
    if not is_loopback(arguments.host):
        sys.exit(
            f"sandbox: {arguments.host} is not a loopback address; the sandbox serves this machine only."
        )
    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=logging.WARNING)
    if arguments.log:
        logging.getLogger("sandbox.requests").setLevel(logging.INFO)
    recorder = make_recorder() if arguments.check_contract else None
    if arguments.state is not None:
        arguments.state.parent.mkdir(parents=True, exist_ok=True)
    sandbox = Sandbox(path=arguments.state)
    try:
        # The library says several lines of its own and exits when the port is taken; bind first, to say one.
        listener = _bind(arguments.host, arguments.port)
    except OSError as error:
        reason = (
            "is taken by another process"
            if error.errno == errno.EADDRINUSE
            else f"cannot be used: {error.strerror}"
        )
        sys.exit(f"sandbox: port {arguments.port} on {arguments.host} {reason}.")
    port = listener.getsockname()[1]
    server = make_server(
        arguments.host,
        port,
        create_app(sandbox, recorder=recorder),
        threaded=True,
        request_handler=QuietHandler,
        fd=listener.fileno(),
    )
    shown_host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    sandbox.base_url = (arguments.base_url or f"http://{shown_host}:{port}").rstrip("/")
    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()
        # shutdown waits for serve_forever, which runs in this very thread.
        threading.Thread(target=server.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    sandbox.webhooks.start()
    threading.Thread(target=_tick, args=(sandbox, stopping), daemon=True).start()
    state = arguments.state or "in memory"
    sys.stdout.write(
        f"Stripe sandbox ready on {sandbox.base_url} (account {sandbox.account_id}, state {state}); "
        f"{len(DIFFERENCES)} known differences from Stripe: {sandbox.base_url}/#differences\n"
    )
    sys.stdout.flush()
    server.serve_forever(poll_interval=0.1)
    sandbox.close()
    # Threads in the middle of a webhook are daemons; waiting for them would outlast the caller's patience.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def _tick(sandbox: Sandbox, stopping: threading.Event) -> None:
    while not stopping.wait(TICK):
        sandbox.run_due()


if __name__ == "__main__":
    sys.exit(main())
