"""Stripe going wrong at one call after the other, so that a flow is tried at every place where it may be cut off."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction

from billing.errors import StripeUnavailable
from billing.stripe import client as stripe_client
from sandbox.state import Sandbox
from sandbox.transport import SandboxHTTPClient

# 429 and 500 before anything is done, 500 and silence after it.
KINDS = ("rate_limit", "server_error_after", "timeout_after")


class Unlucky(SandboxHTTPClient):
    """Lets the sandbox fail at the request of one number."""

    def __init__(self, sandbox: Sandbox, *, kind: str, number: int) -> None:
        super().__init__(sandbox)
        self.sandbox, self.kind, self.number, self.requests = sandbox, kind, number, 0

    def request(self, *args: Any, **kwargs: Any) -> Any:
        self.requests += 1
        if self.requests == self.number:
            self.sandbox.faults.add(self.kind, times=1)
        return super().request(*args, **kwargs)


@contextmanager
def undone() -> Iterator[None]:
    """Let everything that happens inside to the database be gone afterwards."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def fail_at_every_call(
    kind: str,
    *,
    monkeypatch: Any,
    prepare: Callable[[Sandbox], None],
    flow: Callable[[Sandbox], None],
    check: Callable[[Sandbox], None],
) -> int:
    """Run `flow` with Stripe failing at its first call, its second and so on, then again without a failure.

    Each time on a Stripe and a database of its own, `prepare`d; `check` looks at the end. Returns how many calls
    were tried.
    """
    # A call that fails is repeated by our own code alone: what the library repeats is the same call.
    monkeypatch.setattr(stripe_client, "RETRIES", 0)
    number = 0
    while True:
        number += 1
        with undone():
            sandbox = Sandbox()
            stripe_client.use_http_client(SandboxHTTPClient(sandbox))
            prepare(sandbox)
            unlucky = Unlucky(sandbox, kind=kind, number=number)
            stripe_client.use_http_client(unlucky)
            try:
                flow(sandbox)
            except StripeUnavailable:
                flow(sandbox)
            stripe_client.use_http_client(SandboxHTTPClient(sandbox))
            check(sandbox)
            assert sandbox.mishaps == []
        if unlucky.requests < number:
            return number - 1
