"""Making random calls and holding what comes of them to what must always be true.

python -m tests.sandbox.fuzz.play --seconds 600 --seed 1

goes on until the time is over, and prints each kind of failure once, by its shortest example.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import re
import sys
import time
import urllib.parse
from typing import Any

import hypothesis
from hypothesis import strategies as st
from werkzeug.test import Client
from werkzeug.wrappers import Response

from sandbox.app import create_app
from sandbox.contract.objects import check_by_name
from sandbox.contract.recorder import Recorder
from sandbox.contract.requests import check_params
from sandbox.contract.spec import load_spec
from sandbox.errors import ApiError
from sandbox.store import Object
from sandbox.wire import API_VERSION, decode_pairs
from tests.sandbox.fuzz.calls import Call, calls, pairs
from tests.sandbox.fuzz.values import DAY
from tests.sandbox.fuzz.world import World, world
from tests.sandbox.helpers import KEY
from tests.sandbox.histories.watching import SILENT, check_invoice, without

Plan = tuple[list[Call], bool]
PLANS = st.tuples(st.lists(calls(), min_size=1, max_size=4), st.integers(0, 3).map(lambda each: each == 3))
# A change of one of these is always told of.
TOLD = frozenset(
    {"customer", "subscription", "invoice", "charge", "refund", "subscription_schedule", "credit_note"}
)
STATUSES = frozenset({200, 400, 401, 402, 403, 404, 409, 429})


class Play:
    """One copy of the world, called upon."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.state = world.sandbox
        self.recorder = Recorder(load_spec())
        self.client = Client(create_app(self.state, recorder=self.recorder), Response, use_cookies=False)
        self.told: dict[tuple[str, str], Object] = {}
        self._heard = len(self._events())
        self.log: list[str] = []

    def _events(self) -> dict[str, Object]:
        return self.state.store._kept.get("event", {})

    def _hear(self) -> None:
        """Take in what has been told since last time; what was told of a change undone is not kept."""
        for event in itertools.islice(self._events().values(), self._heard, None):
            obj = event["data"]["object"]
            self.told[obj["object"], str(obj.get("id"))] = obj
        self._heard = len(self._events())

    def call(self, call: Call) -> None:
        """Make a call. Raises AssertionError where its answer, or what it did, is not as it must be."""
        path, params = call.settled(self.world)
        v2 = path.startswith("/v2/")
        headers = {"Authorization": f"Bearer {KEY}", "Stripe-Version": API_VERSION}
        if path.endswith("/meter_event_stream"):
            headers["Authorization"] = f"Bearer {self.world.token}"
        sent = pairs(params)
        self.log.append(f"{call.endpoint.method} {path} {params if v2 else sent}"[:1500])
        before = self._rows()
        body: dict[str, Any] = {}
        if call.endpoint.method != "POST":
            body = {"query_string": _joined(sent)}
        elif v2:
            body = {"json": params}
        else:
            body = {"data": _joined(sent), "content_type": "application/x-www-form-urlencoded"}
        response = self.client.open(path, method=call.endpoint.method, headers=headers, **body)
        answer = json.loads(response.get_data())
        self.log[-1] += f" -> {response.status_code} {json.dumps(answer.get('error', ''))[:300]}"
        assert response.status_code in STATUSES, f"{response.status_code}: {_where(call)}"
        if response.status_code != 200:
            self._check_error(call, answer, sent, response.status_code)
        self._check_changes(before, _where(call))

    def let_pass(self) -> None:
        """Let more than a month pass."""
        self.log.append("40 days pass")
        before = self._rows()
        self.state.set_clock(advance=40 * DAY)
        self._check_changes(before, "as time passes")

    def _check_error(self, call: Call, answer: Any, sent: list[tuple[str, str]], status: int) -> None:
        error = answer.get("error", {})
        assert error.get("type"), f"an error without a type: {_where(call)}"
        assert error.get("message"), f"an error without a message: {_where(call)}"
        code = error.get("code", "")
        missing = code == "resource_missing" and error["message"].startswith("No such")
        at_fault = missing or code.startswith("parameter_") or code == "sandbox_unsupported"
        if status == 400 and not at_fault and not call.endpoint.path.startswith("/v2/"):
            operation = load_spec().find(
                call.endpoint.method, call.endpoint.path.replace("<", "{").replace(">", "}")
            )
            try:
                wrong = operation and list(check_params(load_spec(), operation, decode_pairs(sent)))
            except ApiError:
                wrong = None
            at_fault = bool(wrong)
        assert not at_fault or error.get("param"), (
            f"no param named in {error['message'][:60]!r}: {_where(call)}"
        )

    def _rows(self) -> dict[tuple[str, str], Object]:
        kept = self.state.store._kept
        return {
            (kind, identifier): row
            for kind, rows in kept.items()
            if not kind.startswith("_") and kind not in ("event", "v2.core.event")
            for identifier, row in rows.items()
        }

    def _check_changes(self, before: dict[tuple[str, str], Object], where: str) -> None:
        problems = "; ".join(str(each) for each in self.recorder.problems[:3])
        assert not problems, problems
        self._hear()
        for key, row in self._rows().items():
            if before.get(key) is not row and row.get("object") == key[0]:
                self._check_object(key, row, where)

    def _check_object(self, key: tuple[str, str], row: Object, where: str) -> None:
        kind = key[0]
        if row.get("deleted") or kind.startswith("v2."):
            return
        shown = self.state.render(row)
        wrong = list(check_by_name(load_spec(), shown, path=kind)) if kind in load_spec().schemas else []
        assert not wrong, f"{wrong[0]}: {where}"
        if kind == "invoice":
            try:
                check_invoice(shown, where="")
            except AssertionError as error:
                raise AssertionError(f"invoice {str(error).split(':', 1)[-1]}: {where}") from None
        if kind == "subscription" and shown["status"] not in ("canceled", "incomplete_expired"):
            assert shown["items"]["data"], f"a subscription without items: {where}"
            for item in shown["items"]["data"]:
                assert item["current_period_start"] < item["current_period_end"], f"an empty period: {where}"
        if kind in TOLD and key in self.told:
            now, told = (without(each, SILENT.get(kind, set())) for each in (shown, self.told[key]))
            names = sorted(each for each in {**now, **told} if now.get(each) != told.get(each))
            assert not names, f"{kind} {names} changed without an event: {where}"


def _joined(sent: list[tuple[str, str]]) -> str:
    return urllib.parse.urlencode(sent)


def _where(call: Call) -> str:
    return f"{call.endpoint.method} {call.endpoint.path}"


def play(plan: Plan) -> Play:
    """Make the calls of a plan on a world of their own. Raises AssertionError, its calls in the notes."""
    made, wait = plan
    it = Play(world())
    try:
        for each in made:
            it.call(each)
        if wait:
            it.let_pass()
    except Exception as error:
        error.add_note("\n".join(it.log))
        raise
    return it


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    until, played, found = time.monotonic() + options.seconds, 0, {}
    seed = options.seed
    answers: dict[str, int] = {}
    while time.monotonic() < until:

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=500,
            database=None,
            deadline=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(PLANS)
        def one(plan: Plan) -> None:
            nonlocal played
            played += 1
            try:
                for line in play(plan).log:
                    status = line.rpartition(" -> ")[2][:3]
                    answers[status] = answers.get(status, 0) + 1
            except Exception as error:
                sign = re.sub(r"'[^']*'|\d+|\w+_\w{10,}", "*", f"{type(error).__name__}: {error}"[:400])
                text = f"{type(error).__name__}: {str(error)[:600]}\n" + "\n".join(error.__notes__)
                if sign not in found or len(text) < len(found[sign][1]):
                    found[sign] = (found.get(sign, (0,))[0], text)
                found[sign] = (found[sign][0] + 1, found[sign][1])

        one()
        seed += 1
    for times, text in sorted(found.values(), key=lambda each: -each[0]):
        print(f"--- {times} times\n{text}\n")
    print(f"{played} plays from SEED={options.seed}, {len(found)} kinds of failure; answers {answers}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
