"""First contact with a real account: what Stripe does beside what the sandbox would have done.

A second sandbox stands where Stripe would.
"""

import json
import os
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import stripe
from django.core.management import call_command
from django.core.management.base import CommandError

from billing.stripe.checking import report, stand_in
from billing.stripe.checking.bench import Bench
from billing.stripe.checking.findings import Finding, Probe, Seen, Sight
from billing.stripe.checking.probes import PROBES
from billing.stripe.checking.running import LiveKey, Place, look, run
from billing.stripe.checking.stand_in import NoStandIn
from sandbox import Sandbox, keys
from sandbox.meters.metering_settings import configure
from sandbox.permissions import RESOURCES
from sandbox.transport import SandboxHTTPClient
from tests.billing.faults import OUTLASTS_RETRIES, FaultyClient, Strike
from tests.exhaustive import some

KEY = "sk_test_0123456789abcdefghijklmnop"
RESTRICTED = "rk_test_0123456789abcdefghijklmnop"
NAMES = [probe.name for probe in PROBES]
START = 1_790_000_000
# Of a real account's objects: what a run must have removed, deactivated or archived in the end.
LIVING: dict[str, Any] = {
    "test_helpers.test_clock": lambda row: True,
    "customer": lambda row: not row.get("deleted"),
    "billing_portal.configuration": lambda row: row["active"],
    "price": lambda row: row["active"],
    "product": lambda row: row["active"],
    "billing.meter": lambda row: row["status"] == "active",
    "checkout.session": lambda row: row["status"] == "open",
}

pytestmark = [pytest.mark.django_db, pytest.mark.long]


def probe_named(name: str) -> Probe:
    return next(probe for probe in PROBES if probe.name == name)


def place(sandbox: Sandbox, *, http_client: Any = None, **options: Any) -> Place:
    http_client = http_client or SandboxHTTPClient(sandbox)
    client = stripe.StripeClient(KEY, http_client=http_client, max_network_retries=0)
    return Place(client, **{"patience": 5.0, "pause": 0.01, **options})


def living(sandbox: Sandbox) -> dict[str, list[str]]:
    return {
        kind: [row["id"] for row in sandbox.every(kind) if lives(row)]
        for kind, lives in LIVING.items()
        if any(lives(row) for row in sandbox.every(kind))
    }


def found(name: str, there: Place, here: Place | None) -> Finding:
    (finding,) = run([probe_named(name)], there=there, here=here)
    return finding


def test_the_command_compares_the_account_with_a_sandbox_of_its_own_and_finds_them_equal(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    out, written = StringIO(), tmp_path / "check.json"

    call_command("stripe_check", "--json", str(written), stdout=out, stderr=StringIO())

    assert "Stripe does what the sandbox does." in out.getvalue()
    findings = json.loads(written.read_text())["findings"]
    assert [each["probe"] for each in findings] == NAMES
    assert not any(each["differs"] or any(each["stopped"].values()) for each in findings)
    assert living(sandbox) == {}
    observed = {row["what"]: row for each in findings for row in each["observations"]}
    assert observed["the same identifier again"]["stripe"] == "refused: 400 no code"
    assert observed["a subscription with a yearly fee and monthly usage"]["sandbox"] == "accepted"
    assert observed["lines at the renewal"]["stripe"] == [
        "fee x1 = 1000",
        "usage at the new price x5 = 100",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_two_sandboxes_are_seen_alike(name: str) -> None:
    finding = found(name, place(Sandbox()), place(Sandbox()))

    assert not finding.differs
    assert (finding.there.stopped, finding.there.left) == ("", ())
    assert finding.rows or name == "restricted-key"
    assert all(row.there == row.here for row in finding.rows if not row.measured)


class Forgiving(SandboxHTTPClient):
    """A Stripe that says nothing against usage reported twice."""

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        post_data: Any = None,
        *,
        _usage: list[str] | None = None,
    ) -> tuple[str, int, Mapping[str, str]]:
        body, status, answered = super().request(method, url, headers, post_data)
        if "already exists with identifier" in body:
            return json.dumps({"object": "billing.meter_event"}), 200, answered
        return body, status, answered


def test_what_stripe_does_otherwise_is_shown_marked_and_explained() -> None:
    sandbox = Sandbox()
    finding = found("duplicate-usage", place(sandbox, http_client=Forgiving(sandbox)), place(Sandbox()))

    assert finding.differs
    text = "\n".join(report.table(finding))
    assert "! the same identifier again           accepted                          refused: 400" in text
    assert "  units counted                       7                                 7" in text
    assert "On this stands: Meter reports" in text
    said = report.conclusion([finding])
    assert "differs from the sandbox in duplicate-usage" in said
    assert "--json" in said
    (row,) = [row for row in finding.as_dict()["observations"] if row["what"] == "the same identifier again"]
    assert (row["stripe"], row["sandbox"], row["differs"]) == ("accepted", "refused: 400 no code", True)


def test_the_command_ends_with_an_error_where_something_differs(sandbox: Sandbox) -> None:
    sandbox.faults.add("server_error", path="/v1/billing_portal/sessions")
    out = StringIO()

    with pytest.raises(CommandError, match="differs from the sandbox in portal"):
        call_command("stripe_check", "--only", "portal", stdout=out, stderr=StringIO())

    assert "! Stopped at Stripe: APIError" in out.getvalue()
    assert living(sandbox) == {}


def test_what_was_seen_before_a_failure_is_kept() -> None:
    sandbox = Sandbox()
    sandbox.faults.add("server_error", path="/v1/invoices/*/void")

    finding = found("declined-upgrade", place(sandbox), place(Sandbox()))

    seen = {row.what: row for row in finding.rows}
    assert seen["it waits as a pending update"].there is True
    assert (seen["voiding the invoice"].there, seen["voiding the invoice"].differs) == (None, True)


@pytest.mark.parametrize("measured", [True, False])
def test_a_wording_or_a_time_is_shown_and_not_compared(measured: bool) -> None:
    there, here = (Sight((Seen("seconds", value, measured=measured),)) for value in (12, 0))

    finding = Finding(probe_named("duplicate-usage"), there, here)

    (row,) = finding.rows
    assert (row.there, row.here) == (12, 0)
    assert (row.differs, finding.differs) == (not measured, not measured)
    assert ("(not compared)" in "\n".join(report.table(finding))) is measured


def test_waiting_is_bounded() -> None:
    sandbox = Sandbox()
    configure(sandbox, lag=7 * 86_400)

    finding = found("cancel-now", place(sandbox, patience=0.2), None)

    assert (
        finding.there.stopped == "NotInTime: waited 0 seconds for 10 units to show in the meter's summaries"
    )
    assert living(sandbox) == {}
    assert "did not get to their end: cancel-now" in report.conclusion([finding])


def test_a_live_key_is_refused_before_any_call(sandbox: Sandbox, settings: Any) -> None:
    settings.STRIPE_LIVE_MODE = True
    for arguments in ([], ["--clear"]):
        with pytest.raises(CommandError, match="it takes a test key only"):
            call_command("stripe_check", *arguments)

    live = stripe.StripeClient("sk_live_0123456789abcdefghijklmn", http_client=SandboxHTTPClient(sandbox))
    with pytest.raises(LiveKey):
        list(run(PROBES, there=Place(live), here=None))
    with pytest.raises(LiveKey):
        list(run(PROBES, there=place(sandbox, restricted=live), here=None))
    assert not sandbox.requests


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_after_success(name: str) -> None:
    sandbox = Sandbox()

    sight = look(probe_named(name), place(sandbox), mark=f"tollgate-check-1-{name}", start=START)

    assert sight.left == ()
    assert living(sandbox) == {}


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_after_a_failure_at_any_call(name: str, recorder: Any) -> None:
    probe, mark = probe_named(name), f"tollgate-check-1-{name}"
    counted = FaultyClient(Sandbox(), recorder=recorder)
    look(probe, place(Sandbox(), http_client=counted, pause=0), mark=mark, start=START)
    calls = len(counted.calls)
    for at in some(range(calls), of=name, count=max(calls // 8, 4)):
        sandbox = Sandbox()
        answer_lost = Strike(at, "timeout_after", times=OUTLASTS_RETRIES)
        unlucky = FaultyClient(sandbox, recorder=recorder, strike=answer_lost)

        sight = look(probe, place(sandbox, http_client=unlucky, pause=0), mark=mark, start=START)

        assert sight.left == (), at
        assert living(sandbox) == {}, at


def test_what_cannot_be_removed_is_named() -> None:
    sandbox = Sandbox()
    sandbox.faults.add("server_error", method="POST", path="/v1/billing/meters/*/deactivate")

    finding = found("duplicate-usage", place(sandbox, pause=0.0), None)

    (meter,) = sandbox.every("billing.meter")
    assert [left for left in finding.there.left if meter["id"] in left]
    assert f"! Not removed at Stripe: meter {meter['id']}" in "\n".join(report.table(finding))


def test_leftovers_of_runs_that_were_killed_can_be_removed(sandbox: Sandbox) -> None:
    bench = Bench(place(sandbox).client, mark="tollgate-check-2-killed", start=START, patience=1)
    meter = bench.meter()
    bench.price(bench.product("fee"), 1_000)
    bench.price(bench.product("usage"), 10, meter=meter.id)
    bench.customer()
    bench.customer(on_clock=False)
    kept = place(sandbox).client.v1.customers.create({"email": "ada@example.com", "name": "Ada"})
    assert set(living(sandbox)) >= {
        "test_helpers.test_clock",
        "customer",
        "price",
        "product",
        "billing.meter",
    }

    call_command("stripe_check", "--clear", stdout=StringIO())

    assert living(sandbox) == {"customer": [kept.id]}


def test_a_restricted_key_is_tried_out_where_one_is_given(sandbox: Sandbox, settings: Any) -> None:
    settings.STRIPE_CHECK_RESTRICTED_KEY = RESTRICTED
    allowed = {f"{name}_write" for name in RESOURCES.values()} - {"subscription_write", "event_write"}
    keys.restrict(sandbox, RESTRICTED, to=sorted(allowed | {"subscription_read"}))
    out = StringIO()

    call_command("stripe_check", "--only", "restricted-key", stdout=out, stderr=StringIO())

    assert "event_read" in out.getvalue()
    assert "subscription_write" in out.getvalue()
    assert "subscription_read" not in out.getvalue()
    assert living(sandbox) == {}


def test_without_a_restricted_key_that_probe_says_so(sandbox: Sandbox) -> None:
    out = StringIO()
    call_command("stripe_check", "--only", "restricted-key", stdout=out, stderr=StringIO())
    assert "no restricted key was given" in out.getvalue()


def test_without_the_sandbox_stripe_alone_is_shown(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_in.importlib.util, "find_spec", lambda name: None)
    out = StringIO()

    call_command("stripe_check", "--only", "duplicate-usage", stdout=out, stderr=StringIO())

    assert "the package sandbox is not installed here" in out.getvalue()
    assert "There was no sandbox to compare with" in out.getvalue()
    assert "refused: 400 no code" in out.getvalue()


def test_a_sandbox_that_does_not_start_is_said_and_none_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "sandbox"
    broken.mkdir()
    (broken / "__init__.py").write_text("")
    monkeypatch.setattr(
        stand_in.importlib.util,
        "find_spec",
        lambda name: type("Found", (), {"origin": str(broken / "__init__.py")}),
    )
    with pytest.raises(NoStandIn, match="does not start"), stand_in.stand_in():
        pass


def test_the_sandbox_is_told_no_key_and_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_test_notForOtherProcesses00000")
    with stand_in.stand_in() as client:
        account = client.v1.accounts.retrieve_current()
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
        told = [
            Path(f"/proc/{child}/environ").read_text()
            for child in children
            if "sandbox" in Path(f"/proc/{child}/cmdline").read_text()
        ]
    assert account.id.startswith("acct_1")
    assert told
    assert not [environment for environment in told if "notForOtherProcesses" in environment]
    with pytest.raises(stripe.APIConnectionError):
        client.v1.accounts.retrieve_current()
