"""Each thing that can be wrong with Stripe's news: broken by hand, seen by name, mended, and gone."""

from datetime import timedelta
from typing import Any

import pytest
from djstripe import models as djstripe

from billing.models import Entitlement, EventDestination, ThinEvent
from billing.stripe.client import get_client
from billing.stripe.event_destinations import settle_event_destination
from billing.thin_events import fetch_details
from tests.billing.cast import deliver, publish_all
from tests.billing.doctoring import found, mend, only
from tests.billing.troubles import move

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


class TestWebhookEndpoint:
    def test_one_that_is_gone(self, sandbox, webhook_endpoint):
        assert found("webhook-endpoint") == []
        get_client().v1.webhook_endpoints.delete(webhook_endpoint.id)

        finding = only("webhook-endpoint")

        assert finding.sentence == f"The webhook endpoint {webhook_endpoint.id} is gone at Stripe."
        mend(finding)

    def test_one_that_was_never_set_up(self, sandbox, plans):
        finding = only("webhook-endpoint")

        assert finding.sentence == "No webhook endpoint has been set up."
        mend(finding)

    def test_one_that_was_disabled(self, sandbox, webhook_endpoint):
        get_client().v1.webhook_endpoints.update(webhook_endpoint.id, {"disabled": True})

        finding = only("webhook-endpoint")

        assert f"{webhook_endpoint.id} is disabled at Stripe: nothing is sent." in finding.sentence
        mend(finding)

    def test_one_that_leads_elsewhere(self, sandbox, webhook_endpoint):
        get_client().v1.webhook_endpoints.update(
            webhook_endpoint.id, {"url": "http://127.0.0.1:9/elsewhere/"}
        )

        finding = only("webhook-endpoint")

        assert finding.sentence.endswith("leads to http://127.0.0.1:9/elsewhere/, which is not here.")
        mend(finding)

    def test_one_that_asks_for_too_little(self, sandbox, webhook_endpoint):
        events: Any = ["invoice.paid"]
        get_client().v1.webhook_endpoints.update(webhook_endpoint.id, {"enabled_events": events})

        finding = only("webhook-endpoint")

        assert finding.sentence.endswith("does not ask for the events that it should.")
        mend(finding)

    @pytest.mark.parametrize("break_it", ["delete", "disable"])
    def test_a_destination_of_thin_events_that_stopped_receiving(self, sandbox, break_it):
        settle_event_destination()
        assert found("event-destination") == []
        getattr(get_client().v2.core.event_destinations, break_it)(EventDestination.objects.get().id)

        mend(only("event-destination"))


class TestWebhooks:
    def test_events_that_never_arrived_are_made_good(self, sandbox, hands, subscribed, organization, plans):
        sandbox.faults.add("webhook_lost")
        get_client().v1.subscriptions.cancel(subscribed.id)
        assert found("missed-webhooks") == []  # They may still be on their way.
        move(sandbox, hands, 2 * HOUR)

        finding = only("missed-webhooks")

        assert finding.sentence.startswith("1 events never arrived, the oldest of ")
        assert "1 customer.subscription.deleted" in finding.sentence
        assert "Stripe is still trying to deliver 1 of them" in finding.advice
        mend(finding)
        assert Entitlement.objects.get().plan == plans.free

    def test_events_about_prices_are_made_good_with_the_catalogue(self, sandbox, hands, subscribed, plans):
        price = plans.pro.prices.get(meter=None, interval="month").stripe_price_id
        get_client().v1.prices.update(price, {"nickname": "Old"})
        move(sandbox, hands, 2 * HOUR)

        mend(only("missed-webhooks"))

        assert djstripe.Price.objects.get(id=price).stripe_data["nickname"] == "Old"

    def test_events_of_strangers_are_no_loss(self, sandbox, hands, webhook_endpoint, plans):
        get_client().v1.customers.delete(get_client().v1.customers.create({}).id)
        move(sandbox, hands, 2 * HOUR)

        assert found("missed-webhooks") == []

    def test_webhooks_that_could_not_be_taken_in_are_made_good(
        self, sandbox, hands, subscribed, plans, monkeypatch
    ):
        get_client().v1.subscriptions.cancel(subscribed.id)
        with monkeypatch.context() as patch:
            patch.setattr("billing.webhooks.refresh_entitlement", lambda organization: 1 / 0)
            assert 500 in deliver(sandbox)

        move(sandbox, hands, HOUR / 60)
        finding = only("failing-webhooks")

        assert finding.sentence == "1 webhooks could not be taken in: division by zero"
        mend(finding)
        assert Entitlement.objects.get().plan == plans.free

    def test_one_that_was_taken_in_at_the_second_try_is_no_finding(self, sandbox, subscribed, monkeypatch):
        get_client().v1.subscriptions.cancel(subscribed.id)
        with monkeypatch.context() as patch:
            patch.setattr("billing.webhooks.refresh_entitlement", lambda organization: 1 / 0)
            deliver(sandbox)
        deliver(sandbox)

        assert found("failing-webhooks") == []


def test_meter_errors_stay_named_until_somebody_has_seen_to_them(sandbox, plans, owner, monkeypatch):
    publish_all()
    monkeypatch.setattr("billing.tasks.fetch_thin_event.delay", lambda event_id: None)
    settle_event_destination()
    assert found("meter-errors") == []
    get_client().v1.billing.meter_events.create(
        {
            "event_name": plans.pro.quotas.get().meter.event_name,
            "payload": {"stripe_customer_id": "cus_nobody", "value": "5"},
            "identifier": "report-1",
        }
    )
    sandbox.set_clock(advance=10)
    deliver(sandbox)
    event = ThinEvent.objects.get()
    fetch_details(event.id)

    finding = only("meter-errors")

    assert "Stripe told of errors of 1 meter events" in finding.sentence
    event.refresh_from_db()
    event.acknowledge(by=owner, note="A test.")
    assert found("meter-errors") == []
