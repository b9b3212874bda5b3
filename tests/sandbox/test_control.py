"""The control page and its JSON twin."""

import re
import time

import pytest
import stripe
from werkzeug.test import Client

from sandbox import Sandbox, clockwork
from sandbox.contract.recorder import Recorder
from tests.sandbox.helpers import Shop

START = 1_780_000_000
HTML = {"Accept": "text/html"}


@pytest.fixture
def frozen(sandbox: Sandbox) -> Sandbox:
    sandbox.set_clock(frozen_at=START)
    return sandbox


def test_the_clock_moves_on_by_json(frozen: Sandbox, browser: Client) -> None:
    moved = browser.post("/sandbox/clock", json={"advance": 3600}).json or {}
    assert (moved["now"], moved["frozen_at"]) == (START + 3600, START + 3600)
    moved = browser.post("/sandbox/clock", json={"frozen_at": START + 86400}).json or {}
    assert moved["now"] == START + 86400
    assert (browser.get("/sandbox/clock").json or {})["now"] == START + 86400


@pytest.mark.parametrize(("step", "seconds"), [("hour", 3600), ("day", 86400), ("month", 31 * 86400)])
def test_the_clock_moves_on_by_steps(frozen: Sandbox, browser: Client, step: str, seconds: int) -> None:
    answer = browser.post("/sandbox/clock", data={"step": step}, headers=HTML)
    assert (answer.status_code, answer.location) == (303, "/#clock")
    assert frozen.now() == START + seconds


def test_the_clock_moves_on_to_the_next_thing_due_and_to_a_date(
    frozen: Sandbox, browser: Client, shop: Shop
) -> None:
    shop.subscription(shop.payer(), shop.price())
    (following, *_) = (browser.get("/sandbox/clock").json or {})["next"]
    browser.post("/sandbox/clock", data={"step": "next"}, headers=HTML)
    assert frozen.now() == following["at"]
    browser.post("/sandbox/clock", data={"to": "2027-01-01T09:30"}, headers=HTML)
    assert frozen.now() == 1798795800


def test_a_year_of_a_subscription_passes_in_one_step(frozen: Sandbox, browser: Client, shop: Shop) -> None:
    subscription = shop.subscription(shop.payer(), shop.price())
    assert browser.post("/sandbox/clock", json={"advance": 366 * 86400}).status_code == 200
    assert len(shop.api.invoices.list({"subscription": subscription.id, "limit": 100}).data) == 13


def test_a_stopped_clock_runs_on_from_where_it_stands(sandbox: Sandbox, browser: Client) -> None:
    sandbox.set_clock(frozen_at=START)
    moved = browser.post("/sandbox/clock", json={"resume": True}).json or {}
    assert moved["frozen_at"] is None
    assert START <= sandbox.now() <= START + 5
    frozen_at = (browser.post("/sandbox/clock", json={"freeze": True}).json or {})["frozen_at"]
    assert START <= frozen_at <= START + 5


def test_an_empty_sandbox_may_start_in_the_past_and_one_with_a_customer_may_not(
    sandbox: Sandbox, browser: Client, shop: Shop
) -> None:
    shop.price()
    assert (browser.post("/sandbox/clock", json={"start_at": START}).json or {})["frozen_at"] == START
    shop.customer()
    refused = browser.post("/sandbox/clock", json={"start_at": START - 1})
    assert refused.status_code == 409
    assert "start_at" in (refused.json or {})["error"]["message"]
    assert sandbox.now() == START


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"advance": -1},
        {"advance": "soon"},
        {"advance": 10**12},
        {"advance": 1, "resume": True},
        {"frozen_at": START - 1},
        {"to": START - 1},
        {"step": "century"},
        {"step": "next"},
        {"start_at": -1},
        {"start_at": 10**14},
        {"resume": False},
        {"faster": True},
    ],
)
def test_a_move_that_makes_no_sense_is_refused_and_moves_nothing(
    frozen: Sandbox, browser: Client, asked: dict[str, object]
) -> None:
    assert browser.post("/sandbox/clock", json=asked).status_code == 400
    assert frozen.clock.frozen_at == START


def test_a_clock_on_its_way_is_not_sent_elsewhere(frozen: Sandbox, browser: Client) -> None:
    with frozen.lock:
        # Held here, it cannot take its first step.
        assert not clockwork.move_to(frozen, START + 86400, wait=0)
        page = browser.get("/", headers=HTML).text
        assert "on its way to" in page
        assert 'http-equiv="refresh"' in page
        assert browser.post("/sandbox/clock", json={"advance": 1}).status_code == 409
    move = clockwork.moving(frozen)
    assert move is None or move.wait(60)
    assert frozen.now() == START + 86400


def test_a_test_clock_is_advanced_from_the_page(frozen: Sandbox, browser: Client, shop: Shop) -> None:
    clock = shop.api.test_helpers.test_clocks.create({"frozen_time": START, "name": "Ada's"})
    assert "Ada&#39;s" in browser.get("/", headers=HTML).text
    browser.post(f"/sandbox/test_clocks/{clock.id}", data={"step": "day"}, headers=HTML)
    assert shop.api.test_helpers.test_clocks.retrieve(clock.id).frozen_time == START + 86400
    assert frozen.now() == START
    assert browser.post("/sandbox/test_clocks/clock_none", json={"step": "day"}).status_code == 404


def test_the_page_shows_what_there_is(
    frozen: Sandbox, browser: Client, shop: Shop, recorder: Recorder
) -> None:
    shop.api.webhook_endpoints.create({"url": "http://127.0.0.1:9/hook", "enabled_events": ["*"]})
    shop.meter()
    customer = shop.payer()
    subscription = shop.subscription(customer, shop.price())
    for identifier, owner in (("counted", customer.id), ("not-counted", "cus_nobody")):
        shop.api.billing.meter_events.create(
            {
                "event_name": "requests",
                "identifier": identifier,
                "payload": {"stripe_customer_id": owner, "value": "1234"},
            }
        )
    frozen.faults.add("slow", seconds=2, path="/v1/nowhere")
    page = browser.get("/", headers=HTML).text
    for shown in (
        "2026-05-28 20:26:40 UTC",
        "/v1/nowhere",
        "http://127.0.0.1:9/hook",
        "customer.created",
        "1234",
        "not-counted",
        "meter_event_customer_not_found",
        subscription.id,
        "POST /v1/billing/meter_events",
        "follows it",
        "Known differences from Stripe",
    ):
        assert shown in page, shown


def test_every_control_has_a_name_and_works_without_a_script(browser: Client, shop: Shop) -> None:
    shop.subscription(shop.payer(), shop.price())
    page = browser.get("/", headers=HTML)
    assert "<script" not in page.text
    assert "style-src 'self'" in page.headers["Content-Security-Policy"]
    labelled = set(re.findall(r'<label[^>]* for="([^"]+)"', page.text))
    for field in re.findall(r"<(?:input|select)[^>]*>", page.text):
        if 'type="hidden"' not in field:
            found = re.search(r' id="([^"]+)"', field)
            assert found is not None, field
            assert found[1] in labelled, field
    ids = re.findall(r' id="([^"]+)"', page.text)
    assert len(ids) == len(set(ids))
    assert browser.get("/static/control.css").status_code == 200


def test_a_wrong_form_is_shown_the_page_with_what_is_wrong(frozen: Sandbox, browser: Client) -> None:
    answer = browser.post("/sandbox/faults", data={"kind": "slow"}, headers=HTML)
    assert answer.status_code == 400
    assert "needs its seconds" in answer.text
    assert 'role="alert"' in answer.text


def test_a_fault_is_ordered_and_cleared_by_form(frozen: Sandbox, browser: Client, shop: Shop) -> None:
    form = {"kind": "rate_limit", "method": "", "path": "", "seconds": "", "times": "1", "probability": "1"}
    assert browser.post("/sandbox/faults", data=form, headers=HTML).location == "/#faults"
    with pytest.raises(stripe.RateLimitError):
        shop.customer()
    browser.post("/sandbox/faults", data=form, headers=HTML)
    (fault,) = frozen.faults.all()
    browser.post(f"/sandbox/faults/{fault.id}/clear", headers=HTML)
    assert frozen.faults.all() == []


def test_a_subscription_is_ended_from_the_page(browser: Client, shop: Shop) -> None:
    subscription = shop.subscription(shop.payer(), shop.price())
    browser.post(f"/sandbox/subscriptions/{subscription.id}/cancel", headers=HTML)
    assert shop.api.subscriptions.retrieve(subscription.id).status == "canceled"


def test_another_site_cannot_press_the_buttons(frozen: Sandbox, browser: Client) -> None:
    headers = {"Origin": "http://evil.example", **HTML}
    assert browser.post("/sandbox/clock", data={"step": "day"}, headers=headers).status_code == 403
    assert frozen.now() == START


def test_what_a_payer_typed_is_shown_as_text(browser: Client, shop: Shop) -> None:
    shop.api.billing.meter_events.create(
        {"event_name": "<b>x</b>", "payload": {"stripe_customer_id": "c", "value": "1"}}
    )
    page = browser.get("/", headers=HTML).text
    assert "<b>x" not in page
    assert "&lt;b&gt;x" in page


def test_the_page_is_quick_with_many_events(frozen: Sandbox, browser: Client, shop: Shop) -> None:
    for _ in range(300):
        shop.customer()
    started = time.thread_time()
    assert browser.get("/", headers=HTML).status_code == 200
    # Time on the processor, of which others take none.
    assert time.thread_time() - started < 2


def test_the_retry_policy_is_set_by_form_and_by_json(frozen: Sandbox, browser: Client) -> None:
    assert browser.get("/sandbox/settings").json == {"retry_days": [3, 5, 7], "then": "cancel"}
    form = {"retry_days": "1, 2", "then": "unpaid"}
    assert browser.post("/sandbox/settings", data=form, headers=HTML).location == "/#settings"
    assert browser.get("/sandbox/settings").json == {"retry_days": [1, 2], "then": "unpaid"}
    page = browser.get("/").text
    assert 'value="1, 2"' in page
    assert '<option value="unpaid" selected>' in page
    kept = browser.post("/sandbox/settings", json={"then": "past_due"}).json
    assert kept == {"retry_days": [1, 2], "then": "past_due"}
    assert browser.post("/sandbox/settings", data={"retry_days": "none"}).json == {
        "retry_days": [],
        "then": "past_due",
    }


def test_a_failed_renewal_follows_the_policy_that_was_set(
    frozen: Sandbox, browser: Client, shop: Shop
) -> None:
    browser.post("/sandbox/settings", json={"retry_days": [2], "then": "unpaid"})
    customer = shop.payer()
    subscription = shop.subscription(customer, shop.price())
    failing = shop.api.payment_methods.attach("pm_card_chargeCustomerFail", {"customer": customer.id})
    shop.api.customers.update(customer.id, {"invoice_settings": {"default_payment_method": failing.id}})
    (item,) = subscription["items"].data
    browser.post("/sandbox/clock", json={"to": item.current_period_end + 2 * 3600})
    assert shop.api.subscriptions.retrieve(subscription.id).status == "past_due"
    browser.post("/sandbox/clock", json={"advance": 2 * 86400})
    assert shop.api.subscriptions.retrieve(subscription.id).status == "unpaid"


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"retry_days": "soon"}, "retry_days"),
        ({"retry_days": [0]}, "days"),
        ({"retry_days": [1] * 9}, "days"),
        ({"then": "forgive"}, "cancel"),
        ({"never": 1}, "never"),
    ],
)
def test_a_retry_policy_that_makes_no_sense_is_refused(
    browser: Client, asked: dict[str, object], field: str
) -> None:
    refused = browser.post("/sandbox/settings", json=asked)
    assert refused.status_code == 400
    assert field in refused.text
    assert browser.get("/sandbox/settings").json == {"retry_days": [3, 5, 7], "then": "cancel"}


def test_a_card_that_its_bank_issued_anew_is_told_of(browser: Client, shop: Shop) -> None:
    customer = shop.payer()
    (card,) = shop.api.customers.payment_methods.list(customer.id).data
    until = card.card.exp_year if card.card else 0
    renewed = browser.post(f"/sandbox/payment_methods/{card.id}/renew").json or {}
    assert renewed["exp_year"] == until + 4
    assert shop.event_types()[-1] == "payment_method.automatically_updated"


def test_a_card_that_nobody_saved_is_not_issued_anew(browser: Client, shop: Shop) -> None:
    card = shop.api.payment_methods.create({"type": "card", "card": {"token": "tok_visa"}})
    assert browser.post(f"/sandbox/payment_methods/{card.id}/renew").status_code == 400
    assert browser.post("/sandbox/payment_methods/pm_none/renew").status_code == 404
