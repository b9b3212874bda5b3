"""dj-stripe takes in every event that a subscription's life brings, on the clock and off it."""

import json
import time
from collections import defaultdict

import pytest
import stripe
from django.test import Client
from djstripe import models as djstripe

from sandbox.events.webhooks import sign
from sandbox.transport import SandboxHTTPClient
from tests.sandbox.helpers import KEY
from tests.sandbox.histories.actions import ACTIONS, HOUR, Step, World
from tests.sandbox.histories.play import BEGIN

pytestmark = [pytest.mark.django_db, pytest.mark.long]

# A month's pay, a change, a failing card and its recovery, money back, a schedule, a pause, an end.
LIFE = [
    Step(0, "subscribe", 2, 1, 2),
    Step(1, "use", 3, 1, 0),
    Step(14 * 24, "change_price", 0, 2, 1),
    Step(0, "change_quantity", 0, 2, 1),
    Step(1, "credit", 0, 3, 1),
    Step(1, "refund", 0, 2, 1),
    Step(1, "adjust_balance", 0, 1, 0),
    Step(0, "change_card", 2, 0, 0),
    Step(28 * 24, "change_card", 0, 0, 0),
    Step(1, "pay", 0, 0, 0),
    Step(0, "subscribe", 0, 1, 1),
    Step(24, "schedule", 0, 1, 1),
    Step(28 * 24, "pause", 0, 0, 0),
    Step(28 * 24, "cancel_at_period_end", 0, 0, 0),
    Step(28 * 24, "cancel_now", 0, 1, 1),
]


def test_dj_stripe_digests_every_event_of_a_life(sandbox, webhook_endpoint: djstripe.WebhookEndpoint) -> None:
    api = stripe.StripeClient(KEY, http_client=SandboxHTTPClient(sandbox))
    world = World(sandbox, api, start=BEGIN)
    for step in LIFE:
        world.take(step)
    world.wait(24 * HOUR)

    answers: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    browser = Client(raise_request_exception=False)
    for event in list(sandbox.every("event")):
        body = json.dumps(sandbox.render(event)).encode()
        signature = sign(body, secret=webhook_endpoint.secret, at=int(time.time()))
        response = browser.post(
            f"/stripe/webhook/{webhook_endpoint.djstripe_uuid}/",
            body,
            content_type="application/json",
            headers={"Stripe-Signature": signature},
        )
        answers[response.status_code][event["type"]] += 1

    others = {status: dict(types) for status, types in answers.items() if status != 200}
    assert others == {}
    assert len(answers[200]) >= 25, sorted(answers[200])
    # What dj-stripe has a model for, it has stored.
    assert djstripe.Invoice.objects.filter(customer__id=world.customer).count() == len(world.invoices())
    assert {each.id for each in djstripe.Subscription.objects.all()} == {
        each.id for each in world.api.subscriptions.list({"status": "all", "customer": world.customer}).data
    }


def test_the_life_that_is_digested_does_most_of_what_may_happen() -> None:
    assert {step.do for step in LIFE} <= set(ACTIONS)
    assert len({step.do for step in LIFE}) >= len(ACTIONS) / 2
