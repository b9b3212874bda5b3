"""Tollgate over HTTP, on the very connection of the test: what a test has written need not be committed first."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.handlers.wsgi import WSGIHandler
from django.core.servers.basehttp import ThreadedWSGIServer
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connections
from django.test.testcases import QuietWSGIRequestHandler


class OneConnectionServer(ThreadedWSGIServer):
    def _close_connections(self) -> None:
        """Leave the test its connection."""


@contextmanager
def serving() -> Iterator[str]:
    """Give host and port. For tests that wait for each answer: the connection is one."""
    connection = connections["default"]
    connection.inc_thread_sharing()
    # They would close one that is in the test's transaction, as Django's own test client knows.
    signals = [each for each in (request_started, request_finished) if each.disconnect(close_old_connections)]
    server = OneConnectionServer(
        ("127.0.0.1", 0),
        QuietWSGIRequestHandler,
        allow_reuse_address=False,
        connections_override={"default": connection},
    )
    server.set_app(WSGIHandler())
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=60)
        connection.dec_thread_sharing()
        for each in signals:
            each.connect(close_old_connections)
