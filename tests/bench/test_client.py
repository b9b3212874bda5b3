"""The bench's HTTP client against a small real server."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench.client import BadAnswer, Requests, at_once, length_of, one_by_one
from bench.web import production_command, request


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.seen.append((self.path, self.headers["Authorization"]))
        body = b"x" * 3000
        self.send_response(429 if self.path == "/refused" else 200)
        self.send_header("Content-Length", str(len(body)))
        if self.path == "/closing":
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.seen = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def requests(*paths):
    return Requests(
        {path: [request(path, {"Authorization": f"Bearer {who}"}).encode() for who in "ab"] for path in paths}
    )


def test_each_kind_is_called_as_often_and_callers_take_turns(server):
    found = one_by_one(server.server_address, requests("/one", "/two"), rounds=4, redis_url="")

    assert {kind: len(took) for kind, took in found["took"].items()} == {"/one": 4, "/two": 4}
    assert [who for path, who in server.seen if path == "/one"] == ["Bearer a", "Bearer b"] * 2


def test_a_connection_that_the_server_closes_is_opened_anew(server):
    found = one_by_one(server.server_address, requests("/closing"), rounds=3, redis_url="")

    assert len(found["took"]["/closing"]) == 3


def test_a_refusal_is_no_answer_to_measure(server):
    with pytest.raises(BadAnswer, match="429"):
        one_by_one(server.server_address, requests("/refused"), rounds=1, redis_url="")


@pytest.mark.parametrize(("path", "opened"), [("/one", 3), ("/closing", None)])
def test_several_connections_are_kept_busy(server, path, opened):
    found = at_once(server.server_address, requests(path), kind=path, connections=3, seconds=0.1)

    assert found["failures"] == 0
    assert len(found["took"]) >= 3
    assert found["opened"] == (opened or found["opened"])


def test_refusals_are_counted_as_failures(server):
    found = at_once(server.server_address, requests("/refused"), kind="/refused", connections=2, seconds=5)

    assert (found["failures"], found["took"]) == (2, [])


def test_chunks_are_refused_rather_than_misread():
    with pytest.raises(BadAnswer, match="chunks"):
        length_of(b"http/1.1 200 ok\r\ntransfer-encoding: chunked")


def test_the_production_server_listens_on_this_machine_alone(tmp_path):
    procfile = tmp_path / "Procfile"
    procfile.write_text("release: true\nweb: exec server --bind 0.0.0.0:${PORT:-8000}\n")

    assert production_command(procfile) == "exec server --bind 127.0.0.1:${PORT:-8000}"
