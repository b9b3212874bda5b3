"""Changing the secrets that sign webhooks and thin events: nothing on its way is lost, nothing is done twice."""

from datetime import UTC, datetime, timedelta

import pytest
from djstripe import models as djstripe

from accounts.clock import standing_at
from billing.models import Entitlement, EventDestination, ThinEvent
from billing.setting_up import set_up
from billing.stripe.client import get_client
from billing.stripe.event_destinations import (
    retire_replaced_destinations,
    rotate_destination_secret,
    settle_event_destination,
)
from billing.stripe.webhook_endpoints import (
    EndpointMissing,
    retire_replaced_endpoints,
    rotate_webhook_secret,
    settle_webhook_endpoint,
)
from billing.tasks import retire_replaced
from sandbox.events.listening import roll_secret
from tests.billing.cast import deliver, subscribe
from tests.billing.test_thin_endpoint import reject_usage

pytestmark = [pytest.mark.django_db, pytest.mark.long]


@pytest.fixture
def subscribed(sandbox, webhook_endpoint, organization, plans):
    """Acme on Pro, every webhook so far delivered."""
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    assert set(deliver(sandbox)) == {200}
    return subscription


def test_a_secret_rolled_at_stripe_is_taken_over_within_its_day_and_no_event_is_lost(
    sandbox, subscribed, webhook_endpoint, settings, plans
):
    new = roll_secret(sandbox, webhook_endpoint.id, keep_old=86_400)
    get_client().v1.subscriptions.update(subscribed.id, {"metadata": {"a": "1"}})
    assert set(deliver(sandbox)) == {200}  # Signed by both, and the old one is known here.

    settings.STRIPE_WEBHOOK_SECRET = new
    set_up()
    sandbox.set_clock(advance=86_400)

    get_client().v1.subscriptions.cancel(subscribed.id)
    assert set(deliver(sandbox)) == {200}
    assert Entitlement.objects.get().plan == plans.free


def test_a_rolled_secret_that_nobody_took_over_is_refused_after_its_day(
    sandbox, subscribed, webhook_endpoint
):
    roll_secret(sandbox, webhook_endpoint.id, keep_old=3600)
    sandbox.set_clock(advance=3600)

    get_client().v1.subscriptions.cancel(subscribed.id)

    assert set(deliver(sandbox)) == {400}


def test_a_new_endpoint_takes_over_while_the_old_one_brings_in_what_was_on_its_way(
    sandbox, subscribed, webhook_endpoint, plans
):
    get_client().v1.subscriptions.update(subscribed.id, {"metadata": {"a": "1"}})
    on_their_way = sandbox.webhooks.pending()
    assert on_their_way

    rotated = rotate_webhook_secret(replacing=webhook_endpoint.id)

    assert rotated.id != webhook_endpoint.id
    secrets = set(djstripe.WebhookEndpoint.objects.values_list("secret", flat=True))
    assert len(secrets) == 2
    assert retire_replaced_endpoints() == []  # Stripe still tries to deliver to it.
    assert {e["id"] for e in sandbox.every("webhook_endpoint")} == {webhook_endpoint.id, rotated.id}

    assert set(deliver(sandbox, on_their_way)) == {200}
    assert retire_replaced_endpoints() == [webhook_endpoint.id]
    assert [e["id"] for e in sandbox.every("webhook_endpoint")] == [rotated.id]
    assert djstripe.WebhookEndpoint.objects.get().id == rotated.id

    get_client().v1.subscriptions.cancel(subscribed.id)
    assert set(deliver(sandbox)) == {200}
    assert Entitlement.objects.get().plan == plans.free


def test_an_event_that_comes_by_the_old_endpoint_and_the_new_is_processed_once(
    sandbox, subscribed, webhook_endpoint
):
    rotate_webhook_secret(replacing=webhook_endpoint.id)
    events, version = djstripe.Event.objects.count(), Entitlement.objects.get().version
    get_client().v1.subscriptions.cancel(subscribed.id)
    both = sandbox.webhooks.pending()
    assert len({each.url for each in both}) == 2

    assert set(deliver(sandbox, both)) == {200}

    assert djstripe.Event.objects.count() == events + len({each.event_id for each in both})
    assert Entitlement.objects.get().version == version + 1


def test_pressing_twice_replaces_once(sandbox, webhook_endpoint):
    first = rotate_webhook_secret(replacing=webhook_endpoint.id)

    assert rotate_webhook_secret(replacing=webhook_endpoint.id).id == first.id
    assert len(list(sandbox.every("webhook_endpoint"))) == 2


def test_the_set_up_keeps_an_endpoint_that_is_being_replaced(sandbox, subscribed, webhook_endpoint):
    get_client().v1.subscriptions.update(subscribed.id, {"metadata": {"a": "1"}})
    rotate_webhook_secret(replacing=webhook_endpoint.id)

    settle_webhook_endpoint()

    assert webhook_endpoint.id in {e["id"] for e in sandbox.every("webhook_endpoint")}


def test_a_replaced_endpoint_goes_after_three_days_whatever_waits_for_it(
    sandbox, subscribed, webhook_endpoint
):
    get_client().v1.subscriptions.update(subscribed.id, {"metadata": {"a": "1"}})
    rotated = rotate_webhook_secret(replacing=webhook_endpoint.id)

    with standing_at(datetime.now(UTC) + timedelta(days=3, minutes=1)):
        assert retire_replaced() == [webhook_endpoint.id]

    assert [e["id"] for e in sandbox.every("webhook_endpoint")] == [rotated.id]


def test_a_secret_of_the_operators_own_is_rolled_at_stripe_and_not_here(sandbox, webhook_endpoint, settings):
    settings.STRIPE_WEBHOOK_SECRET = "whsec_thatTheOperatorGave0123456789"

    with pytest.raises(EndpointMissing, match="roll it on Stripe's dashboard"):
        rotate_webhook_secret(replacing=webhook_endpoint.id)

    assert len(list(sandbox.every("webhook_endpoint"))) == 1


def test_the_destination_of_thin_events_is_replaced_in_the_same_way(sandbox, plans):
    set_up()
    old = EventDestination.objects.get()
    on_its_way = reject_usage(sandbox)

    rotated = rotate_destination_secret(replacing=old.id)
    assert rotate_destination_secret(replacing=old.id).id == rotated.id
    assert settle_event_destination().id == rotated.id

    assert deliver(sandbox, [on_its_way]) == [200]
    assert ThinEvent.objects.count() == 1
    assert retire_replaced_destinations() == []
    with standing_at(datetime.now(UTC) + timedelta(days=3, minutes=1)):
        assert retire_replaced_destinations() == [old.id]
    assert [e["id"] for e in sandbox.every("v2.core.event_destination")] == [rotated.id]
    assert EventDestination.objects.get().id == rotated.id
