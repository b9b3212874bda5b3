"""The set-up of what Stripe posts to: the webhook endpoint and the destination of thin events."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.db import connection
from djstripe import models as djstripe

from billing.models import EventDestination
from billing.setting_up import set_up
from billing.stripe.client import get_client
from billing.stripe.event_destinations import settle_event_destination
from billing.stripe.portal_configuration import settle_portal_configuration
from billing.stripe.webhook_endpoints import ENABLED_EVENTS, settle_webhook_endpoint, suggested_address
from tests.billing.test_setting_up import detail, outcomes

pytestmark = pytest.mark.django_db


def test_the_destination_asks_for_meter_errors_and_is_enabled_again(sandbox, plans):
    set_up()
    (made,) = sandbox.every("v2.core.event_destination")
    assert made["enabled_events"] == [
        "v1.billing.meter.error_report_triggered",
        "v1.billing.meter.no_meter_found",
    ]
    destinations = get_client().v2.core.event_destinations
    destinations.disable(made["id"])
    destinations.update(made["id"], {"enabled_events": ["v1.billing.meter.no_meter_found"]})

    run = set_up()

    (mended,) = sandbox.every("v2.core.event_destination")
    assert (mended["id"], mended["status"], mended["enabled_events"]) == (
        made["id"],
        "enabled",
        made["enabled_events"],
    )
    assert outcomes(run)["thin"] == "changed"


def test_a_destination_whose_secret_is_not_held_is_replaced(sandbox, plans):
    set_up()
    EventDestination.objects.all().delete()

    set_up()

    (made,) = sandbox.every("v2.core.event_destination")
    assert made["id"] == EventDestination.objects.get().id


SOME_UUID = "00000000-0000-4000-8000-000000000001"
SECRET = "whsec_thatTheOperatorGave0123456789"


def own_endpoint(url: str, **params: Any) -> Any:
    """What an operator makes on Stripe's dashboard."""
    return get_client().v1.webhook_endpoints.create(
        {"url": url, "enabled_events": ["invoice.paid"], "api_version": "2026-05-27.dahlia", **params}
    )


def test_an_endpoint_of_the_operators_own_is_used_with_the_secret_from_the_environment(
    sandbox, plans, settings
):
    settings.STRIPE_WEBHOOK_SECRET = SECRET
    made = own_endpoint(suggested_address())

    run = set_up()

    row = djstripe.WebhookEndpoint.objects.get()
    assert (row.id, row.secret) == (made.id, SECRET)
    assert made.url.endswith(f"/{row.djstripe_uuid}/")
    (stored,) = sandbox.every("webhook_endpoint")
    assert stored["enabled_events"] == ENABLED_EVENTS
    assert SECRET not in str(run.steps)
    assert outcomes(set_up())["webhooks"] == "unchanged"


def test_a_new_secret_in_the_environment_takes_the_old_ones_place(sandbox, plans, settings):
    settings.STRIPE_WEBHOOK_SECRET = SECRET
    own_endpoint(suggested_address())
    set_up()
    settings.STRIPE_WEBHOOK_SECRET = SECRET + "new"

    set_up()

    assert djstripe.WebhookEndpoint.objects.get().secret == SECRET + "new"


def test_the_secret_of_tollgates_own_endpoint_may_come_from_the_environment_after_a_roll(
    sandbox, plans, settings
):
    set_up()
    kept = djstripe.WebhookEndpoint.objects.get()
    settings.STRIPE_WEBHOOK_SECRET = SECRET

    set_up()

    row = djstripe.WebhookEndpoint.objects.get()
    assert (row.id, row.djstripe_uuid, row.secret) == (kept.id, kept.djstripe_uuid, SECRET)


def test_tollgates_own_endpoint_gives_way_to_the_operators(sandbox, plans, settings):
    set_up()
    given_way = djstripe.WebhookEndpoint.objects.get().id
    settings.STRIPE_WEBHOOK_SECRET = SECRET
    made = own_endpoint(suggested_address())

    run = set_up()

    assert f"replaced {given_way}" in detail(run, "webhooks")
    assert djstripe.WebhookEndpoint.objects.get(secret=SECRET).id == made.id


@pytest.mark.parametrize(
    ("paths", "said"),
    [([], "no endpoint"), ([f"{SOME_UUID}/"] * 2, "several endpoints"), (["by-hand/"], "no address of")],
)
def test_an_endpoint_of_the_operators_that_cannot_work_is_refused_with_a_sentence(
    sandbox, plans, settings, paths, said
):
    settings.STRIPE_WEBHOOK_SECRET = SECRET
    for path in paths:
        own_endpoint(f"{settings.API_BASE_URL}/stripe/webhook/{path}")

    run = set_up()

    assert outcomes(run)["webhooks"] == "failed"
    assert said in detail(run, "webhooks")
    assert suggested_address() in detail(run, "webhooks")
    assert outcomes(run)["portal"] == "changed"


def test_an_endpoint_made_for_another_version_is_replaced_and_kept_for_its_events(sandbox, plans):
    set_up()
    old = djstripe.WebhookEndpoint.objects.get()
    with sandbox.change():
        row = sandbox.get("webhook_endpoint", old.id)
        sandbox.put({**row, "api_version": "2026-03-25.dahlia"})

    run = set_up()

    assert "made for another API version" in detail(run, "webhooks")
    versions = {e["id"]: e["api_version"] for e in sandbox.every("webhook_endpoint")}
    assert len(versions) == 1 + (old.id in versions)
    assert "2026-05-27.dahlia" in versions.values()


def test_an_endpoint_of_the_operators_for_another_version_is_refused_with_a_sentence(
    sandbox, plans, settings
):
    settings.STRIPE_WEBHOOK_SECRET = SECRET
    own_endpoint(suggested_address(), api_version="2026-03-25.dahlia")

    assert "Stripe's API version 2026-03-25.dahlia" in detail(set_up(), "webhooks")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("settle", "kind"),
    [
        (settle_webhook_endpoint, "webhook_endpoint"),
        (settle_event_destination, "v2.core.event_destination"),
        (settle_portal_configuration, "billing_portal.configuration"),
    ],
)
def test_set_ups_at_the_same_time_make_one_of_each(sandbox, settle, kind):
    together = Barrier(4)

    def run() -> str:
        try:
            together.wait(60)
            return settle().id
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        found = {future.result() for future in [pool.submit(run) for _ in range(4)]}

    assert found == {row["id"] for row in sandbox.every(kind)}
    assert len(found) == 1
