"""Where the gate's microseconds go: its functions timed where they are, inside real requests."""

import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# What is timed, in the words of the table. A step that this release has no longer, or not yet, is left out.
STEPS = (
    ("read the Authorization header", "apikeys.drf", "bearer_token"),
    ("read the Authorization header", "apikeys.ahead", "bearer_token"),
    ("client's address", "apikeys.drf", "client_address"),
    ("client's address", "apikeys.ahead", "client_address"),
    ("terms of the view", "apikeys.drf", "terms_of"),
    ("terms of the view", "apikeys.drf", "is_limited"),
    ("key: form, checksum, digest", "apikeys.gate", "parse"),
    ("names of Redis keys", "apikeys.cache", "names"),
    ("names of Redis keys", "apikeys.cache", "key_names"),
    ("address as digits", "apikeys.gate", "address_digits"),
    ("script call, sent ahead", "apikeys.scripts", "Script.begin"),
    ("script call, awaited", "apikeys.scripts", "Script.finish"),
    ("script call, awaited", "apikeys.scripts", "Script.run"),
    ("script call, awaited", "redis.commands.core", "Script.__call__"),
    ("decision", "apikeys.gate", "Decision"),
    ("gate, the rest", "apikeys.drf", "admit"),
    ("gate, the rest", "apikeys.ahead", "ask"),
    ("gate, the rest", "apikeys.ahead", "decide"),
    ("authentication, the rest", "apikeys.drf", "GateAuthentication.authenticate"),
    ("throttle", "apikeys.drf", "GateThrottle.allow_request"),
    ("headers", "apikeys.middleware", "rate_headers"),
    ("event", "apikeys.middleware", "uuid7"),
    ("event", "apikeys.middleware", "Event"),
    ("event", "apikeys.calls", "Event.of_call"),
    ("event as text", "usage.events", "Event.encode"),
    ("append to the stream", "usage.stream", "append"),
    ("hand over, the rest", "usage.metering", "record"),
    ("hand over, the rest", "apikeys.middleware", "record"),
    ("hand over, the rest", "apikeys.calls", "record"),
    ("settle, the rest", "apikeys.settlement", "settle"),
    ("settle, the rest", "apikeys.calls", "settle"),
    ("settle, the rest", "apikeys.middleware", "settle"),
)


class Stopwatch:
    """Collects the microseconds of each step in the current request, those of steps inside it taken off."""

    def __init__(self, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self.clock = clock
        self.spent: dict[str, float] = {}
        self._inner: list[float] = []

    def wrap(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        clock = self.clock

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0)
            began = clock()
            try:
                return function(*args, **kwargs)
            finally:
                taken = (clock() - began) / 1000
                own = taken - self._inner.pop()
                self.spent[step] = self.spent.get(step, 0) + own
                if self._inner:
                    self._inner[-1] += taken

        return timed

    def take(self) -> dict[str, float]:
        """Return what has come together, and begin anew."""
        spent, self.spent = self.spent, {}
        return spent


def find_step(module: str, path: str) -> tuple[Any, str] | None:
    """Return where a function hangs and its name there, or None where there is none."""
    try:
        owner: Any = importlib.import_module(module)
        *between, name = path.split(".")
        for part in between:
            owner = getattr(owner, part)
    except (ImportError, AttributeError):
        return None
    return (owner, name) if name in vars(owner) else None


@contextmanager
def timed_steps() -> Iterator[Stopwatch]:
    """Time the steps inside the block. Two clock readings a step are part of what is measured."""
    watch = Stopwatch()
    undo: list[tuple[Any, str, Any]] = []
    try:
        for step, module, path in STEPS:
            if found := find_step(module, path):
                owner, name = found
                function = getattr(owner, name)
                undo.append((owner, name, vars(owner)[name]))
                setattr(owner, name, watch.wrap(step, function))
        yield watch
    finally:
        for owner, name, function in reversed(undo):
            setattr(owner, name, function)
