"""A web server for webhooks alone, inside the process that plays, so that what they bring happens by its clock."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier, Thread
from typing import Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from django.core.wsgi import get_wsgi_application
from django.db import connections

from apikeys.demo.errors import DemoError

WORKERS = 4
PATH = "/stripe/webhook/"


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: thousands of webhooks arrive."""


class _Server(WSGIServer):
    """Answers in a few threads that stay, each with one connection to the database."""

    request_queue_size = 64

    def __init__(self, address: tuple[str, int], workers: ThreadPoolExecutor) -> None:
        super().__init__(address, _Handler)
        self.workers = workers

    def process_request(self, request: Any, client_address: Any) -> None:
        self.workers.submit(self._answer, request, client_address)

    def _answer(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError:
            self.handle_error(request, client_address)
        finally:
            self.shutdown_request(request)


@contextmanager
def open_ears(base_url: str) -> Iterator[None]:
    """Take webhooks in at the product's own address inside the block. Raises DemoError where it is taken."""
    parts = urlsplit(base_url)
    address = (parts.hostname or "127.0.0.1", parts.port or 80)
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="webhook") as workers:
        try:
            server = _Server(address, workers)
        except OSError as error:
            raise DemoError(
                f"The demo takes webhooks in at {base_url}, and something listens there already "
                f"({error.strerror}): stop it first, `make run` too."
            ) from error
        server.set_app(webhooks_only(get_wsgi_application()))
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            hang_up(workers)


def hang_up(workers: ThreadPoolExecutor) -> None:
    """Close each thread's connection to the database, which would otherwise last as long as the process."""
    together = Barrier(WORKERS)

    def close() -> None:
        together.wait()  # So that no thread closes twice and another not at all.
        connections.close_all()

    for closing in [workers.submit(close) for _ in range(WORKERS)]:
        closing.result()


def webhooks_only(application: Callable[..., Any]) -> Callable[..., Any]:
    """Let nothing else in: a page opened meanwhile would show the past as if it were the present."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if environ["PATH_INFO"].startswith(PATH):
            return application(environ, start_response)
        start_response("503 Service Unavailable", [("Content-Type", "text/plain"), ("Retry-After", "60")])
        return [b"The demo is being played. Please wait a moment.\n"]

    return answer
