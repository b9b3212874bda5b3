"""The recorder: collects every departure from Stripe's document, and never gets in the way."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sandbox.contract.objects import check_by_name, check_value
from sandbox.contract.requests import check_params
from sandbox.contract.spec import Spec
from sandbox.errors import ApiError
from sandbox.wire import decode_pairs

LIMIT = 1000
THIN = "v2.core.event"
# Listed by stripe-python 15.2.1 and left out of the document of the same release.
MORE_EVENTS = frozenset(
    f"billing.meter.{verb}" for verb in ("created", "updated", "deactivated", "reactivated")
)
# What Stripe's own command line drives in its fixtures, and the document keeps to itself.
PRIVATE = "/v1/payment_pages/"


@dataclass(frozen=True)
class Problem:
    """One departure: where it was seen and what it is."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class Recorder:
    """Holds exchanges, objects and events to the document.

    A request that departs from it is a problem where it was accepted; with `strict`, also where it was
    refused, which is right for recording what an application sends. A request that follows it is a
    problem where it was refused as unknown.
    """

    def __init__(self, spec: Spec, *, strict: bool = False) -> None:
        self.spec = spec
        self.strict = strict
        self.problems: list[Problem] = []
        self.checked = 0
        self._event_types = spec.event_types() | MORE_EVENTS

    def check_exchange(
        self,
        *,
        method: str,
        path: str,
        pairs: Iterable[tuple[str, str]],
        status: int,
        body: Any,
        sent: Any = None,
    ) -> None:
        """Check one request and the answer to it. `sent` is the JSON a request under /v2 carried."""
        self.checked += 1
        where = f"{method} {path}"
        operation = self.spec.find(method, path.rstrip("/"))
        if operation is None:
            if not path.startswith(PRIVATE) and (self.strict or status < 400):
                self._note(where, ["Stripe's document has no such endpoint"])
            return
        try:
            raw = decode_pairs(pairs) if sent is None else sent
            found = list(check_params(self.spec, operation, raw, as_json=sent is not None))
        except ApiError as error:
            found = [str(error)]
        if status < 400:
            self._note(where, found)
            if operation.answer is not None:
                self._note(where, check_value(self.spec, body, operation.answer, path="answer"))
            return
        if self.strict:
            self._note(where, found)
        code = body.get("error", {}).get("code")
        # Only of unknown ones: the document marks few parameters as required, and Stripe requires more.
        if code == "parameter_unknown" and not found:
            self._note(where, [f"refused though the document allows it: {body['error']['message']}"])
        schema = self.spec.schemas["v2.error" if path.startswith("/v2/") else "error"]
        self._note(where, check_value(self.spec, body, schema, path="answer"))

    def check_object(self, obj: dict[str, Any], *, where: str) -> None:
        """Check an object by its `object` field."""
        self.checked += 1
        self._note(where, check_by_name(self.spec, _shown(obj), path=str(obj.get("object"))))

    def check_event(self, event: dict[str, Any]) -> None:
        """Check an event, its type and the object it carries. A thin one carries none."""
        where = f"event {event['type']}"
        if event["object"] == THIN:
            self.checked += 1
            self._note(where, check_value(self.spec, _shown(event), self.spec.schemas[THIN], path=THIN))
            return
        self.check_object(event, where=where)
        if event["type"] not in self._event_types:
            self._note(where, ["Stripe's document has no such event type"])
        self.check_object(event["data"]["object"], where=where)

    def _note(self, where: str, found: Iterable[str]) -> None:
        for each in found:
            problem = Problem(where, each)
            if len(self.problems) < LIMIT and problem not in self.problems:
                self.problems.append(problem)


def _shown(obj: dict[str, Any]) -> dict[str, Any]:
    # Events are told as they are stored, with the sandbox's own notes on them.
    return {name: value for name, value in obj.items() if not name.startswith("_")}
