"""Rotating the secret key while customers pay."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import stripe
from django.db import connection
from djstripe import models as djstripe
from werkzeug.serving import make_server

from billing.models import Entitlement
from billing.setting_up import set_up
from billing.stripe.client import get_client, new_http_client
from billing.stripe.keys import forget_other_keys, settle_keys
from sandbox import Sandbox, keys
from sandbox.app import create_app
from sandbox.transport import SandboxHTTPClient
from tests.billing.cast import deliver, subscribe

OLD = "sk_test_onlyForTests0123456789ab"
NEW = "sk_test_afterRotation0123456789a"

# What a web process does with a webhook. `bare` is dj-stripe's own view, without ours around it.
RECEIVER = """
import json, sys
import django
django.setup()
from django.test import Client, RequestFactory
from djstripe.views import ProcessWebhookView
given = json.load(sys.stdin)
statuses = []
for each in given["deliveries"]:
    if given["bare"]:
        request = RequestFactory().post(**each)
        try:
            statuses.append(ProcessWebhookView.as_view()(request, uuid=given["uuid"]).status_code)
        except Exception as error:
            statuses.append(type(error).__name__)
    else:
        client = Client(raise_request_exception=False)
        statuses.append(client.post(**each).status_code)
print(json.dumps(statuses))
"""


@pytest.fixture
def served(sandbox: Sandbox) -> Iterator[str]:
    """The sandbox over HTTP, for other processes."""
    server = make_server("127.0.0.1", 0, create_app(sandbox), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def receive(sandbox: Sandbox, served: str, *, key: str, bare: bool = False) -> list[Any]:
    """Hand the pending webhooks to a web process that was started with `key`; return its answers."""
    endpoint = djstripe.WebhookEndpoint.objects.get()
    deliveries = [
        {
            "path": f"/stripe/webhook/{endpoint.djstripe_uuid}/",
            "data": each.body.decode(),
            "content_type": "application/json",
            "headers": {"Stripe-Signature": each.headers["Stripe-Signature"]},
        }
        for each in sandbox.webhooks.pending()
    ]
    environment = os.environ | {
        "STRIPE_SECRET_KEY": key,
        "STRIPE_API_BASE": served,
        "DATABASE_URL": database_url(),
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RECEIVER],
        input=json.dumps({"deliveries": deliveries, "bare": bare, "uuid": str(endpoint.djstripe_uuid)}),
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    statuses: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return statuses


def database_url() -> str:
    """The test's own database, for another process."""
    given = os.environ["DATABASE_URL"]
    base, _, query = given.partition("?")
    name = connection.settings_dict["NAME"]
    return f"{base.rpartition('/')[0]}/{name}{'?' if query else ''}{query}"


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_after_a_rotation_webhooks_go_on_with_the_new_key_in_a_process_started_with_it(
    sandbox, served, webhook_endpoint, organization, plans
):
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    assert set(deliver(sandbox)) == {200}
    assert djstripe.APIKey.objects.get().secret == OLD

    keys.expire(sandbox, OLD)
    with pytest.raises(stripe.AuthenticationError):
        get_client().v1.customers.list()
    by_new_key = stripe.StripeClient(NEW, http_client=SandboxHTTPClient(sandbox))
    by_new_key.v1.subscriptions.cancel(subscription.id)

    # dj-stripe alone takes the old key from its table, though the process never heard of it.
    assert "AuthenticationError" in receive(sandbox, served, key=NEW, bare=True)
    assert set(receive(sandbox, served, key=NEW)) == {200}

    assert djstripe.APIKey.objects.get().secret == NEW
    entitlement = Entitlement.objects.get()
    assert (entitlement.plan, entitlement.status) == (plans.free, "canceled")


@pytest.mark.django_db
def test_the_set_up_forgets_the_keys_of_before(sandbox, plans, settings):
    set_up()
    assert djstripe.APIKey.objects.filter(secret=OLD).exists()
    settings.STRIPE_SECRET_KEY = settings.STRIPE_TEST_SECRET_KEY = NEW
    get_client.cache_clear()

    run = set_up()

    assert not djstripe.APIKey.objects.filter(secret=OLD).exists()
    assert "1 older key is forgotten" in run.steps[0]["detail"]
    assert (OLD in str(run.steps), NEW in str(run.steps)) == (False, False)


@pytest.mark.django_db
def test_keys_that_are_not_secret_and_the_present_one_are_kept(sandbox, webhook_endpoint, settings):
    djstripe.APIKey.objects.get_or_create_by_api_key("pk_test_onlyForTests0123456789ab")
    djstripe.APIKey.objects.get_or_create_by_api_key("rk_test_fromLongAgo0123456789abc")

    assert forget_other_keys() == 1

    assert set(djstripe.APIKey.objects.values_list("secret", flat=True)) == {
        settings.STRIPE_SECRET_KEY,
        "pk_test_onlyForTests0123456789ab",
    }
    assert settle_keys() == 0


@pytest.mark.django_db
def test_settling_the_keys_again_asks_one_question_of_the_database_and_none_of_stripe(
    sandbox, webhook_endpoint, django_assert_num_queries
):
    settle_keys()
    sandbox.faults.add("server_error")

    with django_assert_num_queries(1):
        settle_keys()


@pytest.mark.django_db
def test_a_client_made_after_the_restart_uses_the_new_key(sandbox, settings):
    keys.expire(sandbox, OLD)
    settings.STRIPE_SECRET_KEY = NEW
    get_client.cache_clear()

    assert get_client().v1.customers.list().data == []
    assert new_http_client().name == "requests"
