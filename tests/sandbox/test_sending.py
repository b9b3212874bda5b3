"""Webhooks as the process sends them: by threads, over HTTP, with the faults ordered for them."""

import contextlib
import http.server
import json
import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.test import Client

from sandbox import Sandbox, clockwork
from sandbox.errors import ApiError
from tests.sandbox.helpers import Shop

pytestmark = pytest.mark.long

START = 1_780_000_000
PATIENCE = 20.0


@pytest.fixture
def arrivals() -> Iterator[tuple[str, "queue.Queue[str]"]]:
    """Take every delivery; yields the address and the ids of the events' objects as they arrive."""
    seen: queue.Queue[str] = queue.Queue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.put(body["data"]["object"]["id"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", seen
    server.shutdown()
    server.server_close()


@pytest.fixture
def sending(sandbox: Sandbox) -> Iterator[Sandbox]:
    sandbox.set_clock(frozen_at=START)
    sandbox.webhooks.start()
    yield sandbox
    sandbox.webhooks.stop()


def listen(shop: Shop, url: str) -> Any:
    return shop.api.webhook_endpoints.create({"url": url, "enabled_events": ["customer.created"]})


def test_a_delayed_webhook_is_sent_once_the_sandboxs_clock_has_passed_its_delay(
    sending: Sandbox, shop: Shop, arrivals: tuple[str, "queue.Queue[str]"]
) -> None:
    url, seen = arrivals
    listen(shop, url)
    sending.faults.add("webhook_delayed", seconds=3600, times=1)
    late, prompt = shop.customer().id, shop.customer().id
    assert seen.get(timeout=PATIENCE) == prompt
    sending.set_clock(advance=3599)
    following = shop.customer().id
    assert seen.get(timeout=PATIENCE) == following
    sending.set_clock(advance=1)
    assert seen.get(timeout=PATIENCE) == late


def test_shuffled_webhooks_are_sent_each_once_and_out_of_order(
    sending: Sandbox, shop: Shop, arrivals: tuple[str, "queue.Queue[str]"]
) -> None:
    url, seen = arrivals
    listen(shop, url)
    sending.faults.add("webhook_shuffled", seed=1)
    made = [shop.customer().id for _ in range(8)]
    arrived = [seen.get(timeout=PATIENCE) for _ in made]
    assert arrived != made
    assert sorted(arrived) == sorted(made)


def test_doubled_and_lost_webhooks_are_sent_twice_and_never(
    sending: Sandbox, shop: Shop, arrivals: tuple[str, "queue.Queue[str]"]
) -> None:
    url, seen = arrivals
    listen(shop, url)
    sending.faults.add("webhook_lost", times=1)
    shop.customer()
    sending.faults.add("webhook_doubled", times=1)
    doubled, plain = shop.customer().id, shop.customer().id
    assert sorted(seen.get(timeout=PATIENCE) for _ in range(3)) == sorted([doubled, doubled, plain])


def test_an_address_that_cannot_be_asked_for_stops_no_other_delivery(
    sending: Sandbox, shop: Shop, arrivals: tuple[str, "queue.Queue[str]"]
) -> None:
    url, seen = arrivals
    for _ in range(6):
        listen(shop, f"{url}caf\u00e9")
    listen(shop, url)
    made = shop.customer().id
    assert seen.get(timeout=PATIENCE) == made


def test_clocks_moved_at_once_arrive_at_the_one_target_that_was_taken(
    sending: Sandbox, shop: Shop, arrivals: tuple[str, "queue.Queue[str]"]
) -> None:
    url, _ = arrivals
    shop.api.webhook_endpoints.create({"url": url, "enabled_events": ["*"]})
    shop.subscription(shop.payer(), shop.price())
    together = threading.Barrier(8)
    taken: list[int] = []

    def move(target: int) -> None:
        together.wait()
        # The others are told that a move is under way, or that their moment has passed.
        with contextlib.suppress(ApiError):
            clockwork.move_to(sending, target)
            taken.append(target)

    threads = [threading.Thread(target=move, args=(START + 40 * 86400 + number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sending.clock.now() == max(taken)
    assert len(shop.api.invoices.list().data) == 2


def test_the_server_says_that_it_lives_while_the_sandbox_is_held(sandbox: Sandbox, browser: Client) -> None:
    taken, asked = threading.Event(), threading.Event()

    def hold() -> None:
        with sandbox.lock:
            taken.set()
            asked.wait(PATIENCE)

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait(PATIENCE)
    answer: queue.Queue[int] = queue.Queue()
    threading.Thread(target=lambda: answer.put(browser.get("/healthz").status_code), daemon=True).start()
    try:
        assert answer.get(timeout=PATIENCE / 2) == 200
    finally:
        asked.set()
        holder.join()
