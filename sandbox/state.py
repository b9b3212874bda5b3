"""The sandbox itself: its objects, clock, account and webhooks behind one lock."""

import contextlib
import pathlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sandbox.agenda import Agenda
from sandbox.clock import Clock, seconds
from sandbox.errors import missing_resource
from sandbox.events.webhooks import Outbox
from sandbox.faults import Faults
from sandbox.ids import new_account_id, new_id
from sandbox.render import differences, render
from sandbox.store import Object, Store
from sandbox.wire import API_VERSION

DEFAULT_URL = "http://127.0.0.1:12111"


@dataclass(frozen=True)
class Origin:
    """The request behind a change, which its events name. Both are None for what time brings about."""

    request_id: str | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True)
class RequestLine:
    """One handled request, for the control page."""

    method: str
    path: str
    status: int
    request_id: str
    milliseconds: float
    at: int


class _Moment(threading.local):
    """Which clock tells this thread the time, and the moment on it."""

    clock: str | None = None
    at: int | None = None


class Sandbox:
    """One imaginary Stripe account in test mode.

    Without `path` it is empty and lives in memory. With `path` it reads that SQLite file and writes
    every change through to it, so a restart loses nothing.
    """

    def __init__(
        self,
        *,
        path: pathlib.Path | str | None = None,
        base_url: str = DEFAULT_URL,
        clock: Clock | None = None,
    ) -> None:
        self.lock = threading.RLock()
        self.store = Store(path)
        self.base_url = base_url.rstrip("/")
        self.requests: deque[RequestLine] = deque(maxlen=200)
        self.origin = Origin()
        self._depth = 0
        self._muted = False
        self._moment = _Moment()
        settings = self.store.find("_settings", "settings")
        if settings is None:
            settings = {"account": new_account_id(), "clock": {}}
            self.store.put("_settings", "settings", settings)
            self.store.commit()
        self.account_id: str = settings["account"]
        self.clock = clock if clock is not None else Clock(**settings["clock"])
        self.started_at = self.clock.now()
        self.agenda = Agenda(self)
        # What failed on the agenda, one sentence each: every one is a bug of the sandbox.
        self.mishaps: list[str] = []
        self.faults = Faults()
        self.webhooks = Outbox(self)
        # Told of each event as it is made; the contract recorder listens here.
        self.observers: list[Callable[[Object], None]] = []

    def now(self) -> int:
        """Return the time in unix seconds by the clock in force: a test clock's, or the sandbox's own."""
        return self.clock.now() if self._moment.at is None else self._moment.at

    @property
    def clock_id(self) -> str | None:
        """The test clock in force, None for the sandbox's own clock."""
        return self._moment.clock

    @contextlib.contextmanager
    def on_clock(self, clock: str | None, *, at: int | None = None) -> Iterator[None]:
        """Let a test clock (or None, the sandbox's own) tell the time, or a moment `at` on its way."""
        if at is None and clock is not None:
            at = self.get("test_helpers.test_clock", clock, noun="test_clock")["frozen_time"]
        before = (self._moment.clock, self._moment.at)
        self._moment.clock, self._moment.at = clock, at
        try:
            yield
        finally:
            self._moment.clock, self._moment.at = before

    @contextlib.contextmanager
    def scratch(self) -> Iterator[None]:
        """Try out a change: whatever is written inside is undone at the end, and no event is told."""
        muted, self._muted = self._muted, True
        try:
            with self.store.scratch():
                yield
        finally:
            self._muted = muted

    @contextlib.contextmanager
    def change(self, origin: Origin | None = None) -> Iterator["Sandbox"]:
        """Hold the lock for one all-or-nothing change; an exception undoes it.

        Changes nest: the outermost one commits.
        """
        with self.lock:
            if self._depth == 0:
                self.origin = origin or Origin()
            self._depth += 1
            try:
                yield self
            except BaseException:
                if self._depth == 1:
                    self.store.undo()
                raise
            else:
                if self._depth == 1:
                    self.store.commit()
            finally:
                self._depth -= 1
        if self._depth == 0:
            self.webhooks.wake()

    def run_due(self) -> None:
        """Do what is due by the sandbox's own clock, and finish the advance of test clocks."""
        with self.lock:
            for each in list(self.every("test_helpers.test_clock")):
                target = each.get("_target")
                if each.get("status") == "advancing" and target is not None:
                    self.agenda.run(clock=each["id"], until=target)
                    self._arrive(each["id"], target)
                else:
                    self.agenda.run(clock=each["id"], until=each["frozen_time"])
            self.agenda.run(clock=None, until=self.clock.now())

    def _arrive(self, clock: str, target: int) -> None:
        with self.change(), self.on_clock(clock, at=target):
            row = self.get("test_helpers.test_clock", clock)
            row.update(frozen_time=target, status="ready", status_details={}, _target=None)
            self.put(row)
            self.emit("test_helpers.test_clock.ready", row)

    def find(self, kind: str, identifier: str) -> Object | None:
        return self.store.find(kind, identifier)

    def get(
        self, kind: str, identifier: str, *, noun: str | None = None, param: str = "id", status: int = 404
    ) -> Object:
        """Return the object. Raises ApiError (`resource_missing`); a body parameter's miss is a 400."""
        found = self.store.find(kind, identifier)
        if found is None:
            name = noun or kind.replace("_", " ").split(".")[-1]
            raise missing_resource(name, identifier, param=param, status=status)
        return found

    def get_customer(self, identifier: str, *, param: str = "customer", status: int = 400) -> Object:
        """Return a customer that has not been deleted. Raises ApiError (`resource_missing`)."""
        found = self.store.find("customer", identifier)
        if found is None or found.get("deleted"):
            raise missing_resource("customer", identifier, param=param, status=status)
        return found

    def every(self, kind: str) -> Iterator[Object]:
        return self.store.every(kind)

    def newest(self, kind: str) -> list[Object]:
        """Return all objects of a kind, newest first, to be read and not changed."""
        return list(self.store.every(kind))[::-1]

    def new(self, kind: str, **fields: Any) -> Object:
        """Return a fresh object of `kind`, not yet stored: id, created and livemode are filled in."""
        return {
            "id": fields.pop("id", None) or self.new_id(kind),
            "object": kind,
            "created": self.now(),
            "livemode": False,
            **fields,
        }

    def new_id(self, kind: str) -> str:
        return new_id(kind, account=self.account_id)

    def put(self, obj: Object) -> Object:
        self.store.put(obj["object"], obj["id"], obj)
        return obj

    def render(self, obj: Object) -> Object:
        return render(self, obj)

    def create(self, obj: Object, *, event: str | None = None) -> Object:
        """Store a new object and tell of it."""
        self.put(obj)
        if event:
            self.emit(event, obj)
        return obj

    def update(self, obj: Object, *, before: Object, event: str) -> Object:
        """Store a changed object and tell of it, unless nothing that shows has changed."""
        self.put(obj)
        previous = differences(before, self.render(obj))
        if previous:
            self.emit(event, obj, previous=previous)
        return obj

    def emit(self, type: str, obj: Object, *, previous: Object | None = None) -> Object:
        """Append an event in the same change as its cause and queue it for the endpoints that want it."""
        if self._muted:
            return {}
        data: Object = {"object": self.render(obj)}
        if previous is not None:
            data["previous_attributes"] = previous
        event = self.new(
            "event",
            api_version=API_VERSION,
            data=data,
            pending_webhooks=0,
            request={"id": self.origin.request_id, "idempotency_key": self.origin.idempotency_key},
            type=type,
        )
        self.put(event)
        self.webhooks.enqueue(event)
        for observer in self.observers:
            observer(event)
        return event

    def set_clock(self, *, frozen_at: int | None = None, advance: int | None = None) -> None:
        """Move the sandbox's clock, keep its place on disk, and do what has come due."""
        with self.lock:
            if frozen_at is not None:
                self.clock.freeze(seconds(frozen_at))
            if advance is not None:
                self.clock.advance(advance)
            with self.change():
                settings = {"account": self.account_id, "clock": self.clock.as_dict()}
                self.store.put("_settings", "settings", settings)
        self.run_due()

    def close(self) -> None:
        """Stop deliveries and release the file."""
        self.webhooks.stop()
        with self.lock:
            self.store.close()
