"""Beginning: quickly, alone, and where the last process stopped."""

import pathlib
import time

import stripe

from sandbox import Sandbox
from sandbox.transport import SandboxHTTPClient
from tests.sandbox.helpers import KEY, Shop
from tests.sandbox.histories.actions import ACTIONS, Step
from tests.sandbox.histories.play import play


def shop_of(sandbox: Sandbox) -> Shop:
    return Shop(stripe.StripeClient(KEY, http_client=SandboxHTTPClient(sandbox)))


def test_an_empty_sandbox_is_there_in_five_milliseconds() -> None:
    Sandbox()
    took = []
    for _ in range(50):
        started = time.thread_time()
        Sandbox()
        took.append(time.thread_time() - started)

    # Time on the processor, of which others take none, and the best of many.
    assert min(took) < 0.005


def test_two_sandboxes_never_see_each_other() -> None:
    one, other = Sandbox(), Sandbox()
    customer = shop_of(one).payer()
    subscription = shop_of(one).subscription(customer, shop_of(one).price())
    shop_of(one).meter()

    api = shop_of(other).api
    for resource in (api.customers, api.products, api.subscriptions, api.invoices, api.events, api.charges):
        assert resource.list().data == []
    assert api.billing.meters.list().data == []
    assert one.account_id != other.account_id
    assert shop_of(one).api.subscriptions.retrieve(subscription.id).status == "active"
    one.set_clock(advance=86400)
    assert one.now() >= other.now() + 86400


def test_a_file_gives_back_objects_of_every_kind(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "state.sqlite3"
    # `play` compares what was in memory with what a second sandbox reads from the file.
    play([Step(0, "subscribe", 2, 1, 1), *(Step(24, name, 1, 1, 1) for name in ACTIONS)], path=path)
    again = Sandbox(path=path)
    api = shop_of(again).api

    for kind in ("customer", "subscription", "subscription_item", "invoice", "payment_intent", "charge"):
        assert list(again.every(kind)), kind
    for kind in (
        "price",
        "product",
        "coupon",
        "tax_rate",
        "billing.meter",
        "event",
        "_meter_identifier",
        "_agenda",
    ):
        assert list(again.every(kind)), kind
    [clock] = api.test_helpers.test_clocks.list().data
    assert clock.status == "ready"
    again.close()


def test_time_goes_on_after_a_restart(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "state.sqlite3"
    first = Sandbox(path=path)
    api = shop_of(first).api
    clock = api.test_helpers.test_clocks.create({"frozen_time": 1_769_904_000})
    customer = api.customers.create({"test_clock": clock.id})
    method = api.payment_methods.attach("pm_card_visa", {"customer": customer.id})
    shop = shop_of(first)
    shop.subscription(customer, shop.price(), default_payment_method=method.id)
    first.close()

    again = Sandbox(path=path)
    api = shop_of(again).api
    # 1 February to 1 March 2026 are 28 days; an hour later the renewal is paid.
    api.test_helpers.test_clocks.advance(clock.id, {"frozen_time": 1_769_904_000 + 28 * 86400 + 3600})
    invoices = api.invoices.list({"customer": customer.id}).data
    assert [(each.status, each.amount_paid) for each in invoices] == [("paid", 4900), ("paid", 4900)]
    again.close()
