"""Nothing is told twice, and nothing that is not so: whatever the order of events, and however late it is sent."""

import random
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import transaction
from djstripe import models as djstripe

from billing.entitlements import refresh_entitlement
from billing.stripe.client import get_client
from tests.billing.cast import deliver
from tests.billing.stage import DAY, GOOD_CARD, HOUR, Stage, open_stage
from tests.billing.test_notices import fail, last, states

pytestmark = [pytest.mark.django_db, pytest.mark.long]


@pytest.fixture
def stage(sandbox, webhook_endpoint, plans, owner):
    with open_stage(sandbox, owner) as stage:
        stage.observers.append(stage.beat)
        yield stage


@pytest.fixture
def subscribed(stage, plans) -> Stage:
    """Acme on Pro, and told of it."""
    stage.subscribe(plans.pro)
    stage.post()
    return stage


def test_doubled_and_shuffled_webhooks_tell_nothing_twice(stage, plans):
    """The same life, each step's events four times over and out of order."""
    chance = random.Random(7)  # noqa: S311  # Repeatable is what is wanted.

    def hear(deliveries: Any = None) -> None:
        pending = stage.sandbox.webhooks.pending() * 4
        chance.shuffle(pending)
        assert set(deliver(stage.sandbox, pending)) <= {200}

    stage.hear = hear
    stage.subscribe(plans.pro)
    stage.post()
    fail(stage)
    stage.go(8 * DAY)
    stage.pay()
    stage.beat()
    stage.go(HOUR)
    get_client().v1.subscriptions.cancel(stage.subscription["id"])
    stage.hear()
    stage.post()

    expected = ["plan_changed", "payment_failed", "access_reduced", "recovered", "cancelled"]
    assert stage.notices() == expected
    assert len(mail.outbox) == len(expected)


def test_news_that_arrives_after_it_is_over_is_not_told(subscribed):
    """The failure and the payment of it are heard of together, a week late."""
    subscribed.hears = False
    fail(subscribed)
    subscribed.pay()
    subscribed.hears = True
    subscribed.hear()
    subscribed.post()

    assert subscribed.notices() == ["plan_changed"]


def test_a_failure_that_is_over_when_the_e_mail_could_be_sent_is_kept_silent_and_so_is_its_end(subscribed):
    subscribed.observers.clear()
    fail(subscribed)
    subscribed.pay()
    subscribed.post()

    assert states() == {"plan_changed": "sent", "payment_failed": "outdated", "recovered": "outdated"}


def test_an_end_is_not_told_to_who_has_subscribed_again(subscribed, plans):
    subscribed.observers.clear()
    get_client().v1.subscriptions.cancel(subscribed.subscription["id"])
    subscribed.hear()
    subscribed.subscribe(plans.team)
    subscribed.post()

    assert states()["cancelled"] == "outdated"
    assert last().subject == "You are on Team now"


def test_a_trial_s_end_is_not_told_once_the_trial_is_over(stage, plans):
    stage.observers.clear()
    stage.subscribe(plans.pro, trial_days=5)
    stage.go(6 * DAY)
    stage.post()

    assert states()["trial_ending"] == "outdated"


def test_what_could_not_be_sent_for_days_is_no_news_any_more(subscribed):
    subscribed.observers.clear()
    get_client().v1.subscriptions.cancel(subscribed.subscription["id"])
    subscribed.hear()
    subscribed.arrive(subscribed.now + 3 * DAY + timedelta(minutes=1))
    subscribed.post()

    assert states()["cancelled"] == "outdated"


def test_another_subscription_taken_out_is_not_called_a_payment(subscribed, plans):
    """The old one is given up while it is past due, and a new one begins."""
    fail(subscribed)
    subscribed.go(8 * DAY)
    old = subscribed.subscription["id"]
    subscribed.subscribe(plans.pro, card=GOOD_CARD)
    get_client().v1.subscriptions.cancel(old)
    subscribed.hear()
    subscribed.beat()

    assert "recovered" not in subscribed.notices()
    assert last().subject == "You are on Pro now"


def test_a_notice_is_written_only_with_the_change_it_tells_of(subscribed):
    get_client().v1.subscriptions.cancel(subscribed.subscription["id"])
    subscription = djstripe.Subscription.objects.get()
    subscription.stripe_data |= {"status": "canceled", "ended_at": int(subscribed.now.timestamp())}
    subscription.save()

    with transaction.atomic():
        refresh_entitlement(subscribed.organization)
        assert "cancelled" in subscribed.notices()
        transaction.set_rollback(True)

    assert "cancelled" not in subscribed.notices()
    assert subscribed.entitlement.status == "active"
