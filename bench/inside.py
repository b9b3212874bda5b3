"""A request's whole way through Django in this process: WSGI handler, the project's middleware, view, signals."""

import io
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from bench.stats import shuffled_rounds
from bench.world import Caller

Kind = Callable[[Caller], None]


class Application:
    """Django's WSGI handler, called as a server calls it."""

    def __init__(self) -> None:
        from django.core.wsgi import get_wsgi_application

        self.handler: Callable[..., Any] = get_wsgi_application()
        self.status = ""

    def start_response(self, status: str, headers: list[tuple[str, str]], *rest: object) -> None:
        self.status = status

    def get(self, path: str, caller: Caller, authorization: str) -> bytes:
        environ = {
            "REQUEST_METHOD": "GET",
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "8000",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": caller.address,
            "HTTP_HOST": "127.0.0.1:8000",
            "HTTP_USER_AGENT": "bench/1",
            "HTTP_ACCEPT": "application/json",
            "HTTP_AUTHORIZATION": authorization,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
        response = self.handler(environ, self.start_response)
        body = b"".join(response)
        response.close()
        return body

    def checked(self, path: str, caller: Caller, authorization: str) -> None:
        """Make the call once and raise where it is not served: a refusal is quick, and would be measured as such."""
        body = self.get(path, caller, authorization)
        if not self.status.startswith("200"):
            raise AssertionError(f"{path} answered {self.status}: {body[:300]!r}")


def measure(
    kinds: dict[str, Kind], callers: Sequence[Caller], *, rounds: int, seed: int = 1
) -> dict[str, list[float]]:
    """Return the microseconds of each call of each kind. Each round calls every kind once, in an order of its
    own, for one caller; the callers take turns."""
    clock = time.perf_counter_ns
    samples: dict[str, list[float]] = {name: [] for name in kinds}
    for number, name in enumerate(shuffled_rounds(kinds, rounds=rounds, seed=seed)):
        caller, call = callers[number // len(kinds) % len(callers)], kinds[name]
        began = clock()
        call(caller)
        samples[name].append((clock() - began) / 1000)
    return samples
