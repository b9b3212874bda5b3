"""Real proxies with the configuration of docs/gateway.md, in front of a plain HTTP server."""

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from apikeys.models import ServiceToken
from tests.apikeys.cast import ledger, restrict, service_token
from tests.apikeys.serving import serving
from tests.flows.stack import Answer, free_port, request, wait_for

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "gateway.md"
pytestmark = [pytest.mark.django_db, pytest.mark.long]

NGINX_FRAME = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    {content}
}}
"""


def block(language: str, number: int = 0) -> str:
    """Return a code block of the page."""
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[number]


def find_program(name: str) -> str:
    """Return where a proxy is installed. Where it is not, the test says so and is skipped, in CI it fails."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        message = f"There is no {name}: install Debian's to run this test."
        if os.environ.get(f"REQUIRE_{name.upper()}"):
            pytest.fail(message)
        pytest.skip(message)
    return found


class Upstream(BaseHTTPRequestHandler):
    """The operator's API: answers with the headers it was sent, or with the status its path names."""

    protocol_version = "HTTP/1.1"
    calls: list[str] = []

    def do_GET(self) -> None:
        self.calls.append(self.path)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = json.dumps(dict(self.headers.items())).encode()
        self.send_response(int(self.path[1:4]) if self.path[1:4].isdigit() else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def upstream() -> Iterator[ThreadingHTTPServer]:
    Upstream.calls = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@contextmanager
def running(command: list[str], port: int, environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )

    def is_up() -> bool:
        assert process.poll() is None, process.stderr.read().decode()[-3000:]
        try:
            request(f"http://127.0.0.1:{port}/")
        except OSError:
            return False
        return True

    try:
        wait_for(is_up, seconds=60, what=f"{command[0]} is up")
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)
        process.stderr.close()


class Proxy:
    """A proxy that has the documented configuration, and a key that calls through it."""

    def __init__(self, port: int, secret: str) -> None:
        self.port = port
        self.secret = secret

    def call(self, path: str = "/", *, key: str | None = None, method: str = "GET", **headers: str) -> Answer:
        key = self.secret if key is None else key
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        given |= {"Authorization": f"Bearer {key}"} if key else {}
        body = b"{}" if method == "POST" else None
        return request(f"http://127.0.0.1:{self.port}{path}", method=method, headers=given, body=body)


def configured(text: str, *, port: int, tollgate: str, upstream: ThreadingHTTPServer, token: str) -> str:
    """Return a documented configuration with the addresses of the test."""
    changes = {
        "127.0.0.1:8000": tollgate,
        "127.0.0.1:9000": f"127.0.0.1:{upstream.server_port}",
        "tollgate.example.com": "127.0.0.1",
        "tgs_your_service_token": token,
        "listen 8080": f"listen 127.0.0.1:{port}",
        "http://api.example.com:8080": f"http://127.0.0.1:{port}",
    }
    for old, new in changes.items():
        text = text.replace(old, new)
    return text


@pytest.fixture
def tollgate(api_key) -> Iterator[str]:
    with serving() as address:
        yield address


@pytest.fixture
def nginx(tollgate, upstream, api_key, tmp_path) -> Iterator[Proxy]:
    with nginx_before(tollgate, upstream, tmp_path) as port:
        yield Proxy(port, api_key.secret)


@contextmanager
def nginx_before(tollgate: str, upstream: ThreadingHTTPServer, directory: Path) -> Iterator[int]:
    program, port = find_program("nginx"), free_port()
    token = service_token(ServiceToken.Scope.AUTHORIZE)
    content = configured(block("nginx"), port=port, tollgate=tollgate, upstream=upstream, token=token)
    (directory / "nginx.conf").write_text(NGINX_FRAME.format(directory=directory, content=content))
    with running([program, "-p", str(directory), "-c", str(directory / "nginx.conf")], port, {}):
        Upstream.calls.clear()
        yield port


@pytest.fixture
def caddy(tollgate, upstream, api_key, tmp_path) -> Iterator[Proxy]:
    with caddy_before(tollgate, upstream, tmp_path) as port:
        yield Proxy(port, api_key.secret)


@contextmanager
def caddy_before(tollgate: str, upstream: ThreadingHTTPServer, directory: Path) -> Iterator[int]:
    program, port = find_program("caddy"), free_port()
    token = service_token(ServiceToken.Scope.AUTHORIZE)
    content = configured(block("caddy"), port=port, tollgate=tollgate, upstream=upstream, token=token)
    (directory / "Caddyfile").write_text("{\n\tadmin off\n}\n" + content)
    homes = {name: str(directory) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    command = [program, "run", "--config", str(directory / "Caddyfile"), "--adapter", "caddyfile"]
    with running(command, port, homes):
        Upstream.calls.clear()
        yield port


@pytest.fixture(params=["nginx", "caddy"])
def proxy(request) -> Proxy:
    return request.getfixturevalue(request.param)


def seen(answer: Answer) -> dict[str, str]:
    """Return the headers that reached the API, their names in small letters."""
    return {name.lower(): value for name, value in answer.json().items()}


def problem(answer: Answer) -> dict:
    assert answer.headers["Content-Type"] == "application/problem+json"
    content = answer.json()
    assert content["status"] == answer.status
    return content


def test_a_good_key_reaches_the_api_which_is_told_whose_it_is(proxy, organization, api_key, drain):
    answer = proxy.call("/anything?x=1", method="POST")

    assert answer.status == 200
    assert seen(answer)["x-tollgate-organization"] == organization.ref
    assert seen(answer)["x-tollgate-key"] == str(api_key.key.pk)
    assert seen(answer)["x-tollgate-mode"] == "live"
    assert "authorization" not in seen(answer)
    assert Upstream.calls == ["/anything?x=1"]
    (event,) = ledger(drain)
    assert (event.endpoint, event.method, event.units, event.status) == ("/", "POST", 1, 0)


def test_no_key_and_a_bad_key_do_not_reach_the_api(proxy, drain):
    none, bad = proxy.call(key=""), proxy.call(key="sk_live_nonsense")

    assert [(answer.status, problem(answer)["code"]) for answer in (none, bad)] == [
        (401, "not_authenticated"),
        (401, "invalid_key"),
    ]
    assert none.headers.get_all("WWW-Authenticate") == ['Bearer realm="Tollgate"']
    assert bad.headers.get_all("WWW-Authenticate") == ['Bearer realm="Tollgate", error="invalid_token"']
    assert Upstream.calls == []
    assert ledger(drain) == []


def test_a_revoked_key_does_not_pass_once_more(proxy, api_key):
    assert proxy.call().status == 200
    api_key.key.revoke()

    assert (proxy.call().status, len(Upstream.calls)) == (401, 1)


def test_the_client_is_told_of_its_rate_as_if_there_were_no_proxy(proxy, drain):
    answers = [proxy.call() for _ in range(11)]

    assert [answer.status for answer in answers] == [200] * 10 + [429]
    refused = answers[-1]
    content = problem(refused)
    assert (content["code"], content["policy"], content["next_plan"]["slug"]) == (
        "rate_limited",
        "minute",
        "pro",
    )
    assert refused.headers.get_all("Retry-After") == [str(content["retry_after"])]
    assert refused.headers["RateLimit"].startswith('"minute";r=0;t=')
    assert len(refused.headers.get_all("RateLimit")) == 1
    assert len(Upstream.calls) == 10
    assert len(ledger(drain)) == 10


def test_a_client_cannot_set_its_own_price_or_name(proxy, organization, drain):
    answer = proxy.call(
        X_Tollgate_Cost="0",
        X_Tollgate_Meter="none",
        X_Tollgate_Organization="somebody",
        X_Tollgate_Token="mine",
        X_Tollgate_Endpoint="/cheap",
        X_Original_Method="CHEAP",
        Connection="close, X-Tollgate-Cost, X-Tollgate-Token",
    )

    assert answer.status == 200
    assert seen(answer)["x-tollgate-organization"] == organization.ref
    assert {name for name in seen(answer) if name.startswith("x-tollgate")} == {
        "x-tollgate-organization",
        "x-tollgate-key",
        "x-tollgate-mode",
    }
    (event,) = ledger(drain)
    assert (event.units, event.endpoint, event.meter, event.method) == (1, "/", "requests", "GET")


def test_a_client_cannot_choose_the_address_it_comes_from(proxy, api_key):
    restrict(api_key, allowed_networks=["198.51.100.0/24"])

    answer = proxy.call(X_Tollgate_Address="198.51.100.1", X_Forwarded_For="198.51.100.1")
    assert (answer.status, problem(answer)["code"]) == (403, "address_not_allowed")
    restrict(api_key, allowed_networks=["127.0.0.0/8"])
    assert proxy.call().status == 200


def test_errors_of_the_api_itself_pass_as_they_are(proxy):
    for status in (401, 403, 404, 500, 503):
        answer = proxy.call(f"/{status}")
        assert (answer.status, seen(answer)["x-tollgate-mode"]) == (status, "live")


def test_nginx_tells_a_client_that_passes_where_it_stands(nginx):
    assert nginx.call().headers["RateLimit"].startswith('"minute";r=9;t=60, "period";r=99;')


def test_nginx_charges_by_location(nginx, api_key, drain):
    restrict(api_key, scopes=["reports:read"])

    assert nginx.call("/reports/1").status == 200
    assert nginx.call("//reports/../reports/2").status == 200
    assert nginx.call("/%72eports/3").status == 200
    assert [(event.endpoint, event.units) for event in ledger(drain)] == [("/reports", 5)] * 3


def test_nginx_asks_for_the_scopes_of_the_location(nginx, api_key):
    restrict(api_key, scopes=["other"])
    answer = nginx.call("/reports/1")

    assert (answer.status, problem(answer)["code"]) == (403, "insufficient_scope")
    assert 'scope="reports:read"' in answer.headers["WWW-Authenticate"]


def test_nginx_with_a_token_that_was_revoked_lets_nobody_through_and_blames_no_key(nginx):
    ServiceToken.objects.get().revoke()
    answer = nginx.call()

    assert (answer.status, problem(answer)["code"]) == (503, "gate_unavailable")
    assert Upstream.calls == []


def test_nginx_without_tollgate_lets_nobody_through(upstream, api_key, tmp_path):
    with nginx_before(f"127.0.0.1:{free_port()}", upstream, tmp_path) as port:
        answer = Proxy(port, api_key.secret).call()

    assert (answer.status, problem(answer)["code"], answer.headers["Retry-After"]) == (
        503,
        "gate_unavailable",
        "1",
    )
    assert Upstream.calls == []


def test_caddy_without_tollgate_lets_nobody_through(upstream, api_key, tmp_path):
    with caddy_before(f"127.0.0.1:{free_port()}", upstream, tmp_path) as port:
        answer = Proxy(port, api_key.secret).call()

    assert (answer.status, Upstream.calls) == (502, [])


def test_nobody_can_ask_nginx_for_the_gate_itself(nginx):
    assert nginx.call("/_tollgate").status == 404


@pytest.mark.parametrize("number", [0, 1])
def test_the_other_configurations_are_yaml_that_keeps_clients_from_setting_terms(number):
    config = yaml.safe_load(block("yaml", number))

    text = json.dumps(config).lower()
    assert "/api/v1/gateway/authorize" in text
    assert all(
        header in text for header in ("x-tollgate-token", "x-tollgate-cost", "x-tollgate-organization")
    )
    if "http" in config:
        dropped = config["http"]["middlewares"]["tollgate-terms"]["headers"]["customRequestHeaders"]
        assert {name for name, value in dropped.items() if value == ""} == {
            "X-Tollgate-Scopes",
            "X-Tollgate-Address",
            "X-Original-Method",
            "Connection",
        }
