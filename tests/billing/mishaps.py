"""Stripe failing at one chosen call of a flow, the n-th that it makes."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import stripe

from billing.stripe import client as stripe_client
from sandbox.contract.recorder import Recorder
from sandbox.state import Sandbox
from sandbox.transport import SandboxHTTPClient

FAILED = json.dumps({"error": {"type": "api_error", "message": "An unknown error occurred"}})
# request_lost: nothing was done. answer_lost: it was done, and nobody knows. server_error_after: the same, said so.
KINDS = ("request_lost", "answer_lost", "server_error_after")


class Unlucky(SandboxHTTPClient):
    """Carries requests to the sandbox, all but the one whose number is `at`, counted from 0."""

    def __init__(self, sandbox: Sandbox, *, recorder: Recorder, kind: str = "", at: int = -1) -> None:
        super().__init__(sandbox, recorder=recorder)
        self.kind, self.at, self.calls = kind, at, 0

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        post_data: Any = None,
        *,
        _usage: list[str] | None = None,
    ) -> tuple[str, int, Mapping[str, str]]:
        number, self.calls = self.calls, self.calls + 1
        if number != self.at:
            return super().request(method, url, headers, post_data)
        if self.kind != "request_lost":
            super().request(method, url, headers, post_data)
        if self.kind == "server_error_after":
            return FAILED, 500, {"stripe-should-retry": "false"}
        # Of no use to try again: as if each of the library's own tries had been lost too.
        raise stripe.APIConnectionError("The connection was lost.", should_retry=False)


def meet(sandbox: Sandbox, recorder: Recorder, *, kind: str = "", at: int = -1) -> Unlucky:
    """Send every call from here on to the sandbox, with that mishap on the way; with none, count them."""
    unlucky = Unlucky(sandbox, recorder=recorder, kind=kind, at=at)
    stripe_client.use_http_client(unlucky)
    return unlucky


def calls_of(flow: Callable[[], object], sandbox: Sandbox, recorder: Recorder) -> int:
    """Run the flow without a mishap; return how many calls it made."""
    counted = meet(sandbox, recorder)
    flow()
    return counted.calls
