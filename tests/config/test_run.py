import io
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from config import run
from config.runner.settings import Options, child_environment
from config.runner.supervisor import Supervisor

WAITS = "import time; print('waiting', flush=True); time.sleep(60)"
IGNORES_SIGTERM = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITS}"
HAS_A_CHILD = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {WAITS!r}]).wait()"


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(record=tmp_path / "run.json", output=io.StringIO())
    yield supervisor
    supervisor.hurried.set()
    supervisor.stop()


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def start(supervisor: Supervisor, name: str, code: str) -> psutil.Process:
    """Start a Python program and return its process once it has printed something."""
    child = supervisor.start(name, [sys.executable, "-c", code], environment={})
    wait_until(lambda: f"{name} " in printed(supervisor))
    return psutil.Process(child.process.pid)


def printed(supervisor: Supervisor) -> str:
    assert isinstance(supervisor.output, io.StringIO)
    return supervisor.output.getvalue()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_taken_port_is_one_sentence_that_names_it_and_the_way_out(taken_port: int) -> None:
    with pytest.raises(run.RunError) as caught:
        run.check_port("127.0.0.1", taken_port, wanted_by="the web server", variable="PORT")

    assert str(caught.value) == (
        f"Port {taken_port} on 127.0.0.1, which the web server wants, is not free (Address already in use): "
        f"stop what uses it, or choose another with `make run PORT={taken_port + 1}`."
    )


def test_make_run_stops_at_a_taken_port_before_it_starts_anything(tmp_path: Path, taken_port: int) -> None:
    command = [sys.executable, "-m", "config.run", "--var", str(tmp_path), "--port", str(taken_port)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert ended.returncode == 1
    assert ended.stderr.strip().startswith(f"Port {taken_port} on 127.0.0.1, which the web server wants")
    assert len(ended.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "postgres").exists()


def test_a_second_run_on_the_same_data_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "config.run", "--var", str(tmp_path)]
    with run.only_run(tmp_path) as alone:
        assert alone
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert ended.returncode == 1
    assert ended.stderr.strip() == f"Tollgate is already running on {tmp_path}: stop that one first."


def test_the_environment_is_filled_in_and_is_the_same_on_every_run(tmp_path: Path) -> None:
    options = Options(var=tmp_path, port=8001, sandbox_port=12112)
    first = child_environment(options, given={"PATH": "/bin"})

    assert first == child_environment(options, given={"PATH": "/bin"})
    assert first["PATH"] == "/bin"
    assert first["DEBUG"] == "1"
    assert first["API_BASE_URL"] == first["FRONTEND_URL"] == "http://127.0.0.1:8001"
    assert first["STRIPE_API_BASE"] == "http://127.0.0.1:12112"
    assert first["STRIPE_SECRET_KEY"].startswith("sk_test_")
    assert len(first["SECRET_KEY"]) >= 50
    assert (tmp_path / "secret_key").stat().st_mode & 0o777 == 0o600


def test_what_the_operator_set_is_used_instead(tmp_path: Path) -> None:
    given = {
        "DATABASE_URL": "postgresql://db.example/tollgate",
        "REDIS_URL": "redis://cache.example/0",
        "STRIPE_SECRET_KEY": "sk_test_1234567890abcdefghijklmn",
        "SECRET_KEY": "",
    }
    found = child_environment(Options(var=tmp_path), given=given)

    assert found["DATABASE_URL"] == given["DATABASE_URL"]
    assert found["REDIS_URL"] == given["REDIS_URL"]
    assert found["STRIPE_SECRET_KEY"] == given["STRIPE_SECRET_KEY"]
    assert "STRIPE_API_BASE" not in found
    assert found["SECRET_KEY"] != ""


@pytest.mark.long
def test_a_command_that_ignores_the_request_to_stop_is_killed_with_its_children(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("config.runner.supervisor.STOP_SECONDS", 0.3)
    stubborn = start(supervisor, "web", IGNORES_SIGTERM)
    parent = start(supervisor, "worker", HAS_A_CHILD)
    processes = [stubborn, parent, *parent.children()]
    assert len(processes) == 3

    supervisor.stop()

    _, alive = psutil.wait_procs(processes, timeout=60)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    assert not supervisor.record.exists()


def test_output_appears_line_by_line_behind_its_name(supervisor: Supervisor) -> None:
    start(supervisor, "beat", WAITS)

    assert printed(supervisor) == "beat     | waiting\n"


def test_a_command_that_ends_by_itself_is_found(supervisor: Supervisor) -> None:
    supervisor.start("beat", [sys.executable, "-c", "raise SystemExit(3)"], environment={})
    wait_until(lambda: supervisor.find_stopped() is not None)
    stopped = supervisor.find_stopped()

    assert stopped is not None
    assert (stopped.name, stopped.process.returncode) == ("beat", 3)


def test_what_a_killed_run_left_is_stopped_and_a_stranger_with_its_number_is_not(
    supervisor: Supervisor,
) -> None:
    left = start(supervisor, "web", WAITS)
    entries = json.loads(supervisor.record.read_text())
    stranger = {"name": "worker", "pid": psutil.Process().pid, "created": entries[0]["created"] - 1000}
    supervisor.record.write_text(json.dumps([*entries, stranger]))

    assert Supervisor(record=supervisor.record).stop_leftovers() == ["web"]
    assert supervisor.find_stopped() is not None
    assert not left.is_running() or left.status() == psutil.STATUS_ZOMBIE


def test_a_number_that_is_no_port_is_one_sentence() -> None:
    with pytest.raises(run.RunError, match="PORT=99999 is no port: choose one from 1 to 65535"):
        run.check_port("127.0.0.1", 99_999, wanted_by="the web server", variable="PORT")


@pytest.mark.parametrize(("given", "missing"), [("REDIS_URL", "PostgreSQL"), ("DATABASE_URL", "Redis")])
def test_a_store_that_died_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, missing: str
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setenv(given, "one of the operator's own, which is not ours to watch")

    with pytest.raises(run.RunError, match=f"{missing} stopped by itself"):
        run.Run(Options(var=tmp_path)).check_stores()


LOGINS = {name: name for name in run.DEMO_KEYS}


@pytest.fixture
def welcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What `make run` says at its end, with these contents of demo.json."""
    monkeypatch.delenv("STRIPE_SECRET_KEY", raising=False)

    def say(**more: object) -> str:
        (tmp_path / "demo.json").write_text(json.dumps({**LOGINS, **more}))
        return run.Run(Options(var=tmp_path))._welcome(1.0)

    return say


def test_a_plain_run_says_how_to_see_it_with_customers(welcome: Callable[..., str]) -> None:
    assert "make run VAR=var/demo DEMO=3" in welcome()


def test_after_a_demo_the_run_says_who_may_sign_in(welcome: Callable[..., str]) -> None:
    text = welcome(played={"login": "owner@acme.example", "organizations": 30})

    assert "Played       owner@acme.example   customer_password   (all 30 have it)" in text
    assert "DEMO=3" not in text


@pytest.mark.parametrize(("given", "months"), [("", 0), ("3", 3), ("12", 12)])
def test_demo_is_a_number_of_months_and_none_without_it(given: str, months: int) -> None:
    options, _ = run.parse(["--demo", given])

    assert options.demo == months


@pytest.mark.parametrize("given", ["0", "13", "three", "-1"])
def test_a_number_of_months_that_cannot_be_played_is_refused(
    given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run.parse([f"--demo={given}"])

    assert f"DEMO={given} is no number of months from 1 to 12." in capsys.readouterr().err
