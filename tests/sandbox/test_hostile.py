"""What a careless or hostile sender may try, and what it gets."""

import pathlib
from typing import Any

import pytest
import stripe
from werkzeug.test import Client
from werkzeug.wrappers import Response

from sandbox import Sandbox
from sandbox.transport import SandboxHTTPClient
from tests.sandbox.helpers import KEY, Shop

BROWSER = {"Accept": "text/html"}
# Passes the check that card numbers carry, and is none of Stripe's.
REAL = "4539578763621486"
API = {"Authorization": f"Bearer {KEY}"}


@pytest.mark.parametrize("path", ["/", "/sandbox/deliveries", "/v1/customers"])
def test_a_name_that_another_site_points_here_is_refused(browser: Client, path: str) -> None:
    assert browser.get(path, headers={**API, "Host": "evil.example:12111"}).status_code == 421


@pytest.mark.parametrize(
    "host", ["127.0.0.1:12111", "localhost", "[::1]:12111", "shop.localhost", "pay.test"]
)
def test_this_machine_and_the_address_given_to_it_are_answered(
    browser: Client, sandbox: Sandbox, host: str
) -> None:
    sandbox.base_url = "https://pay.test"
    assert browser.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
def test_another_site_can_neither_post_nor_delete(browser: Client, sandbox: Sandbox, origin: str) -> None:
    sandbox.faults.add("server_error")
    for method in ("POST", "DELETE"):
        refused = browser.open("/sandbox/faults", method=method, headers={"Origin": origin})
        assert refused.status_code == 403
    assert len(sandbox.faults.all()) == 1


def test_a_body_too_large_is_stripes_kind_of_error_and_no_failure(
    browser: Client, caplog: pytest.LogCaptureFixture
) -> None:
    refused = browser.post("/v1/customers", data={"name": "x" * 3_000_000}, headers=API)
    assert refused.status_code == 413
    assert refused.json is not None
    assert refused.json["error"]["type"] == "invalid_request_error"
    assert [each for each in caplog.records if each.exc_info] == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/c/pay/cs_test_unknown", 404),
        ("GET", "/static/../site.py", 404),
        ("PATCH", "/", 405),
    ],
)
def test_a_visitor_who_goes_astray_sees_a_page_of_the_same_kind(
    browser: Client, method: str, path: str, status: int
) -> None:
    page = browser.open(path, method=method, headers=BROWSER)
    assert page.status_code == status
    assert '<main class="card">' in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


def test_a_refusal_says_which_methods_there_are(browser: Client) -> None:
    assert "GET" in browser.open("/", method="PATCH").headers["Allow"]


def test_a_program_that_goes_astray_in_the_control_api_gets_json(browser: Client) -> None:
    astray = browser.get("/sandbox/nothing")
    assert astray.json is not None
    assert astray.json["error"]["message"]


def test_a_real_cards_number_is_refused_and_kept_nowhere(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "state.sqlite3"
    sandbox = Sandbox(path=path)
    http_client = SandboxHTTPClient(sandbox)
    shop, browser = Shop(stripe.StripeClient(KEY, http_client=http_client)), Client(http_client.app, Response)
    page = shop.checkout().url.partition("12111")[2]
    sent = {"email": "a@b.co", "number": REAL, "expiry": "12/40", "cvc": "987", "name": "Ada"}
    refused = browser.post(page, data=sent)
    assert refused.status_code == 422
    assert "test mode" in refused.text
    assert REAL not in refused.text
    card: Any = {"number": REAL, "exp_month": 12, "exp_year": 2040, "cvc": "987"}
    with pytest.raises(stripe.CardError) as refusal:
        shop.api.payment_methods.create({"type": "card", "card": card})
    assert refusal.value.error is not None
    assert refusal.value.error.decline_code == "test_mode_live_card"
    assert browser.post(page, data={**sent, "number": "4242424242424242"}).status_code == 303
    sandbox.close()
    kept = b"".join(each.read_bytes() for each in tmp_path.iterdir())
    for secret in (REAL, '"987"', KEY):
        assert secret.encode() not in kept
