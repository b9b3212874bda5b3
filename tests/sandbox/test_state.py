import datetime
import pathlib

import pytest
import stripe

from sandbox import Sandbox
from sandbox.clock import add_interval
from sandbox.transport import SandboxHTTPClient
from tests.sandbox.helpers import KEY


def connect(path: pathlib.Path) -> tuple[Sandbox, stripe.StripeClient]:
    sandbox = Sandbox(path=path)
    return sandbox, stripe.StripeClient(KEY, http_client=SandboxHTTPClient(sandbox))


def test_everything_outlives_a_restart(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "state.sqlite3"
    sandbox, client = connect(path)
    client.v1.webhook_endpoints.create({"url": "http://127.0.0.1:9/", "enabled_events": ["*"]})
    options = {"idempotency_key": "one"}
    first = client.v1.customers.create({"email": "a@example.com"}, options)
    second = client.v1.customers.create({"email": "b@example.com"})
    account = sandbox.account_id
    waiting = [each.id for each in sandbox.webhooks.pending()]
    sandbox.close()

    sandbox, client = connect(path)

    assert sandbox.account_id == account
    assert [each.id for each in client.v1.customers.list().data] == [second.id, first.id]
    assert client.v1.customers.create({"email": "a@example.com"}, options).id == first.id
    assert [each.id for each in sandbox.webhooks.pending()] == waiting
    sandbox.close()


def test_the_clock_keeps_its_place_over_a_restart(tmp_path: pathlib.Path) -> None:
    sandbox = Sandbox(path=tmp_path / "state.sqlite3")
    sandbox.set_clock(frozen_at=1_900_000_000)
    sandbox.close()
    assert Sandbox(path=tmp_path / "state.sqlite3").now() == 1_900_000_000


@pytest.mark.parametrize(
    ("start", "interval", "count", "end"),
    [
        ("2027-01-31", "month", 1, "2027-02-28"),
        ("2028-01-31", "month", 1, "2028-02-29"),
        ("2027-12-15", "month", 1, "2028-01-15"),
        ("2028-02-29", "year", 1, "2029-02-28"),
        ("2027-03-01", "week", 2, "2027-03-15"),
    ],
)
def test_periods_follow_the_calendar(start: str, interval: str, count: int, end: str) -> None:
    assert add_interval(_at(start), interval=interval, count=count) == _at(end)


def test_a_month_end_comes_back_after_february() -> None:
    assert add_interval(_at("2027-02-28"), interval="month", count=1, anchor=_at("2027-01-31")) == _at(
        "2027-03-31"
    )


def _at(day: str) -> int:
    return int(datetime.datetime.fromisoformat(f"{day}T12:00:00+00:00").timestamp())
