"""What time brings, and what becomes of it where it fails."""

import json

from werkzeug.test import Client
from werkzeug.wrappers import Response

from sandbox import Sandbox
from sandbox.agenda import due
from sandbox.app import create_app

TOLD = "test.failure of prod_1: RuntimeError: out of order"


def test_what_fails_when_it_is_due_is_undone_and_told_and_stops_nothing_else() -> None:
    sandbox = Sandbox()

    @due("test.failure", rank=1)
    def fail(state: Sandbox, identifier: str) -> None:
        state.put({"id": identifier, "object": "product"})
        raise RuntimeError("out of order")

    with sandbox.change():
        sandbox.agenda.set("test.failure", "prod_1", sandbox.now() + 10)
    sandbox.set_clock(advance=60)

    assert sandbox.mishaps == [TOLD]
    assert sandbox.find("product", "prod_1") is None
    assert sandbox.agenda.find("test.failure", "prod_1") is None
    browser = Client(create_app(sandbox), Response)
    assert TOLD in browser.get("/").get_data(as_text=True)
    assert json.loads(browser.get("/sandbox/contract").get_data())["mishaps"] == [TOLD]
