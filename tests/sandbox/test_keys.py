"""Keys and signing secrets that were rolled, and keys that may not do everything."""

import pytest
import stripe
from werkzeug.test import Client

from sandbox import Sandbox, keys, permissions
from sandbox.errors import ApiError
from sandbox.events.listening import roll_secret
from sandbox.resources import ENDPOINTS
from sandbox.transport import SandboxHTTPClient
from tests.sandbox.helpers import KEY, Shop
from tests.sandbox.test_v2 import destination

RESTRICTED = "rk_test_0123456789abcdefghijklmnop"


@pytest.fixture
def restricted(transport: SandboxHTTPClient) -> stripe.StripeClient:
    return stripe.StripeClient(RESTRICTED, http_client=transport)


def test_a_rolled_key_works_until_it_expires_and_then_is_refused_by_its_code(
    sandbox: Sandbox, client: stripe.StripeClient, transport: SandboxHTTPClient
) -> None:
    keys.expire(sandbox, KEY, after=3600)
    assert client.v1.customers.list().data == []

    sandbox.set_clock(advance=3600)

    with pytest.raises(stripe.AuthenticationError) as refused:
        client.v1.customers.list()
    assert refused.value.json_body["error"]["code"] == "api_key_expired"
    assert KEY not in str(refused.value)
    assert stripe.StripeClient(KEY + "2", http_client=transport).v1.customers.list().data == []


def test_a_restricted_key_reads_what_it_may_and_is_told_what_it_lacks(
    sandbox: Sandbox, restricted: stripe.StripeClient
) -> None:
    keys.restrict(sandbox, RESTRICTED, to=["customer_read", "webhook_write"])
    assert restricted.v1.customers.list().data == []
    assert restricted.v1.webhook_endpoints.list().data == []
    assert restricted.v2.core.event_destinations.list().data == []

    for call, name in (
        (lambda: restricted.v1.customers.create({"email": "a@b.example"}), "rak_customer_write"),
        (restricted.v1.prices.list, "rak_plan_read"),
        (restricted.v1.accounts.retrieve_current, "rak_accounts_kyc_basic_read"),
        (restricted.v2.core.events.list, "rak_event_read"),
    ):
        with pytest.raises(stripe.PermissionError, match=name) as refused:
            call()
        assert sandbox.account_id in str(refused.value)
    assert list(sandbox.every("customer")) == []


def test_a_restricted_key_that_nobody_restricted_may_do_everything(restricted: stripe.StripeClient) -> None:
    assert restricted.v1.customers.create({"email": "a@b.example"}).email == "a@b.example"


def test_every_endpoint_asks_for_a_permission() -> None:
    assert {each.path for each in ENDPOINTS if not permissions.needed(each.method, each.path)} == set()


@pytest.mark.parametrize(
    ("key", "names"), [(KEY, ["customer_read"]), (RESTRICTED, ["everything"]), ("sk_live_x", [])]
)
def test_what_cannot_be_restricted_is_refused(sandbox: Sandbox, key: str, names: list[str]) -> None:
    with pytest.raises(ApiError):
        keys.restrict(sandbox, key, to=names)


def test_keys_change_over_http_and_are_never_shown_whole(browser: Client) -> None:
    browser.post("/sandbox/keys", json={"key": RESTRICTED, "permissions": ["customer_read"]})
    answer = browser.post("/sandbox/keys", data={"key": RESTRICTED, "expires_in": "60"})

    (row,) = answer.json or []
    assert (row["permissions"], row["expires_at"] is not None) == (["customer_read"], True)
    assert RESTRICTED not in answer.text
    assert browser.get("/sandbox/keys").json == [row]
    assert browser.post("/sandbox/keys", json={"expires_in": 60}).status_code == 400


@pytest.mark.parametrize("thin", [False, True])
def test_a_rolled_signing_secret_signs_beside_the_old_one_for_a_while(
    sandbox: Sandbox, client: stripe.StripeClient, shop: Shop, browser: Client, *, thin: bool
) -> None:
    if thin:
        made = destination(client, include=["webhook_endpoint.signing_secret"])
        old = made.webhook_endpoint.signing_secret
        client.v2.core.event_destinations.ping(made.id)
    else:
        made = client.v1.webhook_endpoints.create({"url": "http://127.0.0.1:9/", "enabled_events": ["*"]})
        old = made.secret
        shop.customer()

    new = (browser.post(f"/sandbox/webhook_endpoints/{made.id}/roll", json={"keep_old": 3600}).json or {})[
        "secret"
    ]

    assert new != old
    assert holding(sandbox, [old, new]) == [True, True]
    sandbox.set_clock(advance=3600)
    assert holding(sandbox, [old, new]) == [False, True]


def holding(sandbox: Sandbox, secrets: list[str]) -> list[bool]:
    (delivery,) = sandbox.webhooks.pending()
    held = []
    for secret in secrets:
        try:
            stripe.WebhookSignature.verify_header(
                delivery.body.decode(), delivery.headers["Stripe-Signature"], secret
            )
            held.append(True)
        except stripe.SignatureVerificationError:
            held.append(False)
    return held


def test_a_secret_is_rolled_for_a_day_at_most(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    made = client.v1.webhook_endpoints.create({"url": "http://127.0.0.1:9/", "enabled_events": ["*"]})
    with pytest.raises(ApiError):
        roll_secret(sandbox, made.id, keep_old=86_401)
    with pytest.raises(ApiError):
        roll_secret(sandbox, "we_missing")
