"""Every fault at every single call to Stripe: a harness for flows that may be repeated.

    def test_a_fault_at_any_call_creates_nothing_twice(sandbox, organization, plans):
        every_fault(
            sandbox,
            prepare=lambda: publish_all(),
            flow=lambda: start_checkout(organization, ...),
        )

The flow is played once undisturbed, which tells its calls and the state it should end in. Then it is played
anew for each call and each fault, with that fault at that call and nowhere else: once, where the SDK's own
retries may help, and often enough to outlast them. In `make test` each call has one of these faults, see
`tests/exhaustive.py`. The flow is repeated until it goes through; Stripe must then be
in the very state that it is in without a fault. PostgreSQL and the sandbox go back before each play.
"""

import contextlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import stripe
from django.db import connection, transaction

from billing.errors import StripeUnavailable
from billing.stripe import client as stripe_client
from sandbox.contract.recorder import Recorder
from sandbox.state import Sandbox
from sandbox.store import copied
from sandbox.transport import SandboxHTTPClient
from tests.exhaustive import IS_EXHAUSTIVE, some
from usage.redis_client import get_redis

STRIPE_ID = re.compile(r"\b(?:[a-z]+_)+[0-9A-Za-z]{14,}\b")
FAULTS = ("rate_limit", "server_error", "server_error_after", "timeout_before", "timeout_after")
OUTLASTS_RETRIES = stripe_client.RETRIES + 1
MOST_REPEATS = 5


@dataclass(frozen=True)
class Call:
    """One call of the flow, without ids, which differ. The SDK's retries of it are part of it."""

    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Strike:
    """What goes wrong, in the `number`th call (counted from 0), and how many times it does."""

    number: int
    kind: str
    times: int


@dataclass
class Played:
    """How a flow went: all calls of all tries, what the tries that failed raised, and what came of it."""

    calls: list[Call]
    errors: list[Exception] = field(default_factory=list)
    result: object = None
    state: object = None


class FaultyClient(SandboxHTTPClient):
    """Carries calls into the sandbox, notes them, and has one of them go wrong."""

    def __init__(
        self, sandbox: Sandbox, *, strike: Strike | None = None, recorder: Recorder | None = None
    ) -> None:
        # One recorder for all plays, or each event would be checked once for each of them.
        super().__init__(sandbox, recorder=recorder or stripe.default_http_client.app.api.recorder)
        self.sandbox = sandbox
        self.strike = strike
        self.calls: list[Call] = []

    def request_with_retries(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        number = len(self.calls)
        self.calls.append(Call(method.upper(), STRIPE_ID.sub("*", urlsplit(url).path)))
        if self.strike is None or number != self.strike.number:
            return super().request_with_retries(method, url, *args, **kwargs)
        fault = self.sandbox.faults.add(self.strike.kind, times=self.strike.times)
        try:
            return super().request_with_retries(method, url, *args, **kwargs)
        finally:
            # What the SDK did not wait for must not hit the next call.
            self.sandbox.faults.remove(fault.id)

    def _sleep_time_seconds(self, *args: Any, **kwargs: Any) -> float:
        return 0


def every_fault(
    sandbox: Sandbox,
    *,
    flow: Callable[[], object],
    prepare: Callable[[], object] = lambda: None,
    look: Callable[[], object] = lambda: None,
    between: Callable[[], object] = lambda: None,
    done: tuple[type[Exception], ...] = (),
    kinds: tuple[str, ...] = FAULTS,
    whole: bool = False,
) -> list[Call]:
    """Play `flow` with every fault at every call, or one at each, and return its calls.

    Raises AssertionError, naming the fault. `whole` asks for every fault whatever the length of the run.
    `prepare` makes the state that each play begins in, without faults. `look` returns what else, beside
    Stripe's state, must be the same in the end, such as rows of ours; what `flow` returns must be the same
    too, so let it return None where that is an id. `between` happens before each repetition, such as
    the delivery of webhooks. A repetition may also end by one of the exceptions `done`, which say that the
    thing is done already. Any other exception than StripeUnavailable fails, at the first try too.

    Only within a test's own transaction: not with transaction=True.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("every_fault goes back by savepoints: use it in a test with a transaction.")
    with undone(sandbox):
        use(FaultyClient(sandbox))
        prepare()
        plain = play(sandbox, None, flow=flow, look=look, between=between, done=())
        assert plain.errors == [], f"Without any fault: {plain.errors[0]!r}"
        assert plain.calls, "The flow makes no call."
        for number, call in enumerate(plain.calls):
            faults = list(faults_of(call, kinds))
            for kind, times in faults if whole else chosen(faults, call, number):
                strike = Strike(number, kind, times)
                played = play(sandbox, strike, flow=flow, look=look, between=between, done=done)
                where = f"{kind}, {times} times, at call {number}, {call}"
                assert played.calls[number] == call, f"{where}: the flow took another way before it"
                assert played.state == plain.state, where
                if not (played.errors and isinstance(played.errors[-1], done)):
                    assert played.result == plain.result, where
    return plain.calls


def faults_of(call: Call, kinds: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Yield what can go wrong with a call, each with how often: once, and until the SDK gives up.

    Left out is what comes to the same as another: a second chance at a call that changes nothing; before
    and after where nothing changes; and a 429, which the SDK does not try again, or a 500 after the change,
    which Stripe repeats to the same key, more than once. A DELETE carries no key.
    """
    reads = call.method == "GET"
    for kind in kinds:
        if kind.endswith("_after") and reads:
            continue
        if kind == "rate_limit":
            yield kind, 1
            continue
        if not reads and not (call.method == "POST" and kind == "server_error_after"):
            yield kind, 1
        yield kind, OUTLASTS_RETRIES


def chosen(faults: Sequence[tuple[str, int]], call: Call, number: int) -> list[tuple[str, int]]:
    """Return the faults to play. Where one has to do, it comes after the change: before it is as no call at all."""
    after = [fault for fault in faults if fault[0].endswith("_after")]
    test = os.environ.get("PYTEST_CURRENT_TEST", "")
    return list(faults) if IS_EXHAUSTIVE else some(after or faults, of=(test, number, call))


def play(
    sandbox: Sandbox,
    strike: Strike | None,
    *,
    flow: Callable[[], object],
    look: Callable[[], object],
    between: Callable[[], object],
    done: tuple[type[Exception], ...],
) -> Played:
    """Play the flow with one fault, repeat it until it goes through, and undo it all."""
    with undone(sandbox):
        client = FaultyClient(sandbox, strike=strike)
        use(client)
        played = Played(client.calls)
        for _ in range(MOST_REPEATS):
            try:
                # As in a request or task of its own: what it wrote before it failed stays.
                played.result = flow()
                break
            except StripeUnavailable as error:
                played.errors.append(error)
            except done as error:
                if not played.errors:
                    raise
                played.errors.append(error)
                break
            except Exception as error:
                error.add_note(f"With {strike}, after {len(played.errors)} failed tries.")
                raise
            between()
        else:
            raise AssertionError(f"{strike}: still failing after {MOST_REPEATS} tries: {played.errors[-1]!r}")
        use(FaultyClient(sandbox))
        played.state = (stripe_state(sandbox), look())
    return played


def use(client: stripe.HTTPClient) -> None:
    stripe_client.use_http_client(client)


@contextlib.contextmanager
def undone(sandbox: Sandbox) -> Iterator[None]:
    """Take back at the end what happens inside, in PostgreSQL and in the sandbox, and empty Redis."""
    # A copy of it all: the sandbox's own scratch layer tells no events.
    kept = copied(sandbox.store._kept)
    clock = (sandbox.clock.offset, sandbox.clock.frozen_at)
    http_client = stripe.default_http_client
    get_redis().flushdb()
    try:
        with transaction.atomic():
            yield
            transaction.set_rollback(True)
    finally:
        sandbox.store._kept = kept
        sandbox.store.undo()
        sandbox.clock.offset, sandbox.clock.frozen_at = clock
        sandbox.faults.clear()
        get_redis().flushdb()
        use(http_client)


def stripe_state(sandbox: Sandbox) -> dict[str, object]:
    """Return what matters of Stripe's state, without ids and times: what exists, what was paid, what is owed."""
    intents = [
        (intent["status"], intent["amount"], intent["currency"]) for intent in sandbox.every("payment_intent")
    ]
    return {
        "customers": sum(not customer.get("deleted") for customer in sandbox.every("customer")),
        "subscriptions": counted(shown(sandbox, each) for each in sandbox.every("subscription")),
        "schedules": counted(
            (each["status"], len(each["phases"])) for each in sandbox.every("subscription_schedule")
        ),
        "invoices": counted(
            (each["status"], each["billing_reason"], each["currency"], each["total"], each["amount_paid"])
            for each in sandbox.every("invoice")
        ),
        "invoice items": counted((each["amount"], each["currency"]) for each in sandbox.every("invoiceitem")),
        "payment intents": counted(intents),
        "paid": sum(amount for status, amount, _ in intents if status == "succeeded"),
        "refunds": counted((each["status"], each["amount"]) for each in sandbox.every("refund")),
        "open pages": sum(each["status"] == "open" for each in sandbox.every("checkout.session")),
        "products": sum(1 for _ in sandbox.every("product")),
        "prices": counted((each["active"], *named(each)) for each in sandbox.every("price")),
        "usage": counted(
            (sandbox.find(each["kind"], each["row"]) or {}).get("value")
            for each in sandbox.every("_meter_identifier")
        ),
    }


def shown(sandbox: Sandbox, subscription: dict[str, Any]) -> tuple[object, ...]:
    data = sandbox.render(subscription)
    items = sorted((*named(item["price"]), item.get("quantity") or 0) for item in data["items"]["data"])
    return (
        data["status"],
        tuple(items),
        bool(data["trial_end"]),
        bool(data["cancel_at"] or data["cancel_at_period_end"]),
        bool(data["pending_update"]),
        bool(data["schedule"]),
        bool(data["default_payment_method"]),
    )


def named(price: dict[str, Any]) -> tuple[object, ...]:
    recurring = price["recurring"] or {}
    amount = price["unit_amount"] or 0
    return (
        price["product"],
        price["currency"],
        recurring.get("interval") or "",
        amount,
        price["lookup_key"] or "",
    )


def counted(values: Any) -> dict[object, int]:
    return dict(Counter(values))
