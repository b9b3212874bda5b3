"""stripe-python without a network: an HTTP client that calls the sandbox's WSGI application.

client = stripe.StripeClient("sk_test_…", http_client=SandboxHTTPClient(sandbox))
stripe.default_http_client = SandboxHTTPClient(sandbox)   # for module-level calls and dj-stripe
"""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import stripe
from werkzeug.test import Client
from werkzeug.wrappers import Response

from sandbox.app import create_app
from sandbox.faults import ConnectionLost
from sandbox.state import Sandbox

if TYPE_CHECKING:
    from sandbox.contract.recorder import Recorder

# Seconds between a request and its repetition, at most.
RETRY_WITHIN = 0.05


class SandboxHTTPClient(stripe.HTTPClient):
    """Carries stripe-python's requests, whatever their host, into one sandbox."""

    name: ClassVar[str] = "sandbox"

    def __init__(self, sandbox: Sandbox, *, recorder: "Recorder | None" = None) -> None:
        super().__init__()
        self.app = create_app(sandbox, recorder=recorder)
        self._client = Client(self.app, Response, use_cookies=False)

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        post_data: Any = None,
        *,
        _usage: list[str] | None = None,
    ) -> tuple[str, int, Mapping[str, str]]:
        """Return body, status and headers, whose names are looked up in any case."""
        response = self._open(method, url, headers, post_data)
        return response.get_data(as_text=True), response.status_code, _lowered(response)

    def request_stream(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        post_data: Any = None,
        *,
        _usage: list[str] | None = None,
    ) -> tuple[Any, int, Mapping[str, str]]:
        response = self._open(method, url, headers, post_data)
        return io.BytesIO(response.get_data()), response.status_code, _lowered(response)

    def close(self) -> None:
        """Nothing is held open."""

    def _sleep_time_seconds(self, num_retries: int, response: Any = None) -> float:
        # Nothing on the way is busy: all that waiting is good for here is a thread that holds a lock.
        return min(super()._sleep_time_seconds(num_retries, response), RETRY_WITHIN)

    def _open(self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any) -> Response:
        body = post_data.encode() if isinstance(post_data, str) else post_data
        try:
            return self._client.open(url, method=method.upper(), headers=dict(headers or {}), data=body)
        except ConnectionLost as error:
            raise stripe.APIConnectionError(
                f"Unexpected error communicating with Stripe: {error}.", should_retry=True
            ) from error


class _Headers(dict[str, str]):
    """Looks names up in any case, which stripe-python expects of a client's headers."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


def _lowered(response: Response) -> _Headers:
    return _Headers({name.lower(): value for name, value in response.headers.items()})
