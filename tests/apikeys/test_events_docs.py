"""The examples of docs/events.md, run as they stand there."""

import json
import re
import shlex
import socketserver
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from accounts import clock
from apikeys.api.events import CODES
from billing.entitlements import refresh_entitlement
from tests.apikeys.cast import service_token
from tests.apikeys.serving import serving
from tests.usage.ingesting import event, sell
from usage.models import UsageEvent

pytestmark = pytest.mark.django_db

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "events.md").read_text()
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def page_s_customer(organization):
    """The customer of the page, on 30 November 2026, whose plan includes tokens."""
    with clock.standing_at(NOW):
        refresh_entitlement(organization)
        organization.ref = "3kTMd9VbQ2"
        organization.save()
        organization.entitlement.refresh_from_db()
        sell(organization, "tokens")
        yield organization


def run(client, command):
    """Do what a curl command does."""
    program, silent, address, *options = shlex.split(command.replace("\\\n", " "))
    assert (program, silent) == ("curl", "--silent")
    headers, body = {}, ""
    for option, value in zip(options[::2], options[1::2], strict=True):
        if option == "--header":
            name, _, content = value.partition(": ")
            headers[name] = content.replace("$TOLLGATE_SERVICE_TOKEN", service_token("events:write"))
        else:
            assert option == "--data"
            body = value
    content_type = headers.pop("Content-Type")
    return client.post(urlsplit(address).path, body, content_type=content_type, headers=headers)


def test_the_first_example_gets_the_answer_that_is_shown(client, page_s_customer):
    response = run(client, blocks("sh")[0])

    assert (response.status_code, response.json()) == (200, json.loads(blocks("json")[0]))
    assert UsageEvent.objects.get().units == 1250


def test_all_examples_of_cloudevents_are_taken(client, page_s_customer):
    answers = [run(client, command).json() for command in blocks("sh")[1:]]

    assert [answer["accepted"] for answer in answers] == [1, 2, 1]
    assert sorted(UsageEvent.objects.values_list("units", flat=True)) == [25, 40, 60, 700]


def test_the_sender_in_python_sends_all_and_tells_of_what_was_refused(page_s_customer):
    names = {}
    exec(blocks("python")[0], names)  # noqa: S102  # Our own page.
    events = [event(page_s_customer, str(number), meter="tokens") for number in range(1200)]
    events[1100]["value"] = -1

    with serving() as address:
        refused = names["send"](events, url=f"http://{address}", token=service_token("events:write"))

    assert [each["code"] for each in refused] == ["negative"]
    assert UsageEvent.objects.count() == 1199


@contextmanager
def answering(*answers):
    """Give host and port of a server that gives each connection the next of these answers and closes it."""
    waiting = iter(answers)

    class Answer(socketserver.StreamRequestHandler):
        def handle(self):
            length = 0
            while line := self.rfile.readline().strip():
                if line.lower().startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            self.rfile.read(length)
            self.wfile.write(next(waiting))

    with socketserver.TCPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join(timeout=60)


@pytest.fixture
def pauses(monkeypatch):
    """The seconds that the sender would have waited, between its tries."""
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


DONE = b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"results": []}'


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="none"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", id="half_its_headers"),
        pytest.param(DONE[:-5], id="half_its_body"),
        pytest.param(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", id="503"),
    ],
)
def test_the_sender_in_python_sends_again_what_was_not_answered_in_full(answer, pauses):
    names = {}
    exec(blocks("python")[0], names)  # noqa: S102  # Our own page.

    with answering(answer, answer, DONE) as address:
        assert names["send"]([{}], url=f"http://{address}", token="any") == []

    assert pauses == [1, 5]


def test_the_sender_in_python_sends_again_where_no_answer_comes_in_time(pauses):
    names = {}
    exec(blocks("python")[0], names)  # noqa: S102  # Our own page.
    tries = iter([TimeoutError("The read operation timed out")])
    urlopen = names["urlopen"]

    def late_once(*args, **options):
        for error in tries:
            raise error
        return urlopen(*args, **options)

    names["urlopen"] = late_once
    with answering(DONE) as address:
        assert names["send"]([{}], url=f"http://{address}", token="any") == []

    assert pauses == [1]


def test_every_code_is_explained_and_no_other():
    table = PAGE.partition("| `code` |")[2].partition("\n\n")[0]
    explained = re.findall(r"`([a-z_]+)`", "".join(row.split("|")[1] for row in table.splitlines()[2:]))

    assert sorted(explained) == sorted(CODES)
