import json
import time
from uuid import uuid4

import pytest
from django.test import Client
from djstripe import models as djstripe

from apikeys.gate import admit
from billing.entitlements import refresh_entitlement
from billing.models import Entitlement
from billing.stripe.client import get_client
from sandbox.events.webhooks import sign
from tests.billing.cast import deliver, subscribe

pytestmark = pytest.mark.django_db


@pytest.fixture
def subscribed(sandbox, webhook_endpoint, organization, plans):
    """Acme on Pro for two minutes, every webhook so far delivered."""
    sandbox.clock.offset = -120
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    sandbox.clock.offset = 0
    assert set(deliver(sandbox)) == {200}
    assert Entitlement.objects.get().plan == plans.pro
    return subscription


def post(endpoint: djstripe.WebhookEndpoint, body: bytes, signature: str | None) -> int:
    headers = {} if signature is None else {"Stripe-Signature": signature}
    path = f"/stripe/webhook/{endpoint.djstripe_uuid}/"
    return Client().post(path, body, content_type="application/json", headers=headers).status_code


def test_webhooks_alone_put_a_paying_customer_on_the_plan(subscribed):
    """`subscribed` refreshes nothing itself."""
    assert Entitlement.objects.get().status == "active"


def test_a_cancelled_subscription_drops_the_organization_to_free_at_its_next_call(
    sandbox, subscribed, organization, api_key
):
    assert admit(api_key.secret).rate_limit == 100

    get_client().v1.subscriptions.cancel(subscribed.id)
    assert set(deliver(sandbox)) == {200}

    decision = admit(api_key.secret)
    assert (decision.rate_limit, decision.quota) == (10, 100)


def test_what_was_used_on_the_paid_plan_does_not_lock_the_free_one(
    sandbox, subscribed, organization, api_key
):
    admit(api_key.secret, cost=500)
    get_client().v1.subscriptions.cancel(subscribed.id)
    deliver(sandbox)

    assert admit(api_key.secret).admitted


def test_a_forged_signature_gets_400_and_changes_nothing(sandbox, subscribed, webhook_endpoint, plans):
    get_client().v1.subscriptions.cancel(subscribed.id)
    (cancelled,) = [d for d in sandbox.webhooks.pending() if d.event_type == "customer.subscription.deleted"]
    forged = sign(cancelled.body, secret="whsec_guessed", at=int(time.time()))
    events = djstripe.Event.objects.count()

    assert post(webhook_endpoint, cancelled.body, forged) == 400
    assert post(webhook_endpoint, cancelled.body, None) == 400
    assert post(webhook_endpoint, cancelled.body, "t=1,v1=zz") == 400
    assert djstripe.Event.objects.count() == events
    assert djstripe.Subscription.objects.get().status == "active"
    assert Entitlement.objects.get().plan == plans.pro


def test_a_body_changed_on_the_way_gets_400(sandbox, subscribed, webhook_endpoint):
    get_client().v1.subscriptions.cancel(subscribed.id)
    delivery = sandbox.webhooks.pending()[0]

    assert post(webhook_endpoint, delivery.body + b" ", delivery.headers["Stripe-Signature"]) == 400


def test_a_stale_signature_gets_400_and_changes_nothing(sandbox, subscribed, webhook_endpoint, plans):
    get_client().v1.subscriptions.cancel(subscribed.id)
    (cancelled,) = [d for d in sandbox.webhooks.pending() if d.event_type == "customer.subscription.deleted"]
    old = sign(cancelled.body, secret=webhook_endpoint.secret, at=int(time.time()) - 301)

    assert post(webhook_endpoint, cancelled.body, old) == 400
    assert Entitlement.objects.get().plan == plans.pro


def test_a_doubled_webhook_changes_nothing_twice(sandbox, subscribed, organization):
    get_client().v1.subscriptions.cancel(subscribed.id)
    deliveries = sandbox.webhooks.pending()
    assert set(deliver(sandbox, deliveries)) == {200}
    once = (Entitlement.objects.get().version, djstripe.Event.objects.count())

    assert set(deliver(sandbox, deliveries)) == {200}

    assert (Entitlement.objects.get().version, djstripe.Event.objects.count()) == once


def test_webhooks_in_the_wrong_order_end_in_the_same_state(sandbox, webhook_endpoint, organization, plans):
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    get_client().v1.subscriptions.cancel(subscription.id)

    # The newest first: “created” and “updated” come after “deleted”.
    assert set(deliver(sandbox, sandbox.webhooks.pending()[::-1])) == {200}

    entitlement = Entitlement.objects.get()
    assert (entitlement.plan, entitlement.status) == (plans.free, "canceled")


def test_an_event_whose_handling_failed_comes_again(sandbox, subscribed, plans, monkeypatch):
    get_client().v1.subscriptions.cancel(subscribed.id)
    with monkeypatch.context() as patch:
        patch.setattr("billing.webhooks.refresh_entitlement", lambda organization: 1 / 0)
        assert 500 in deliver(sandbox)
    assert Entitlement.objects.get().plan == plans.pro

    assert set(deliver(sandbox)) == {200}
    assert Entitlement.objects.get().plan == plans.free


def test_an_unknown_endpoint_is_not_found(sandbox, subscribed):
    body = json.dumps({"id": "evt_1", "object": "event"}).encode()
    answer = Client().post(
        f"/stripe/webhook/{uuid4()}/",
        body,
        content_type="application/json",
        headers={"Stripe-Signature": "t=1,v1=0"},
    )

    assert answer.status_code == 404


def test_news_of_a_customer_that_is_not_ours_is_taken_in_silence(sandbox, webhook_endpoint, plans):
    get_client().v1.customers.create({"email": "someone@else.example"})

    assert set(deliver(sandbox)) <= {200}
    assert Entitlement.objects.count() == 0


def test_every_type_in_the_mirror_is_digested_without_an_error(sandbox, subscribed):
    get_client().v1.subscriptions.cancel(subscribed.id)
    deliver(sandbox)

    errors = djstripe.WebhookEventTrigger.objects.exclude(exception="").values_list("exception", flat=True)
    assert list(errors) == []
    assert djstripe.WebhookEventTrigger.objects.count() > 5


def test_refreshing_again_changes_nothing(subscribed, organization):
    version = Entitlement.objects.get().version

    assert refresh_entitlement(organization).version == version
