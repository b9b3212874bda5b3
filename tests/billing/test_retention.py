"""What is kept of Stripe's news, and for how long."""

from datetime import UTC, datetime, timedelta

import pytest
from celery.schedules import crontab
from django.conf import settings as django_settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from djstripe import models as djstripe

from accounts.clock import standing_at
from billing.models import SetupRun, ThinEvent
from billing.retention import purge_history
from billing.tasks import purge_stripe_history
from tests.billing.cast import deliver, subscribe

pytestmark = pytest.mark.django_db

NOW = datetime(2027, 3, 1, 3, 40, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def endpoint(webhook_endpoint):
    return webhook_endpoint


def trigger(endpoint, *, age: float, **fields) -> int:
    row = djstripe.WebhookEventTrigger.objects.create(
        remote_ip="127.0.0.1", headers={}, webhook_endpoint=endpoint, **{"valid": True, **fields}
    )
    djstripe.WebhookEventTrigger.objects.filter(pk=row.pk).update(created=NOW - age * DAY)
    return row.pk


def event(identifier: str, *, age: float) -> str:
    djstripe.Event.objects.create(id=identifier, type="invoice.paid", data={}, created=NOW - age * DAY)
    return identifier


def thin(identifier: str, *, age: float, acknowledged: float | None = None, **fields) -> str:
    seen = {} if acknowledged is None else {"acknowledged_at": NOW - acknowledged * DAY, "note": "Seen."}
    ThinEvent.objects.create(
        id=identifier,
        created=NOW - age * DAY,
        received_at=NOW - age * DAY,
        **{"type": "v1.billing.meter.no_meter_found", **seen, **fields},
    )
    return identifier


def kept(model) -> set:
    return set(model.objects.values_list("id", flat=True))


def test_processed_webhooks_go_after_30_days_and_failed_ones_after_90(endpoint):
    trigger(endpoint, age=31, processed=True)
    trigger(endpoint, age=31, valid=False)
    trigger(endpoint, age=91, exception="Broken")
    young = trigger(endpoint, age=29, processed=True)
    failed = trigger(endpoint, age=89, exception="Broken")

    deleted = purge_history(now=NOW)

    assert kept(djstripe.WebhookEventTrigger) == {young, failed}
    assert deleted["webhook triggers"] == 3


def test_events_go_after_90_days_and_their_triggers_stay(endpoint):
    event("evt_old", age=91)
    young = event("evt_young", age=89)
    of_old = trigger(endpoint, age=20, processed=True)
    djstripe.WebhookEventTrigger.objects.filter(pk=of_old).update(event="evt_old")

    assert purge_history(now=NOW)["events"] == 1

    assert kept(djstripe.Event) == {young}
    assert djstripe.WebhookEventTrigger.objects.get(pk=of_old).event is None


def test_meter_errors_stay_until_they_have_long_been_acknowledged(db):
    thin("evt_seen", age=200, acknowledged=91)
    thin("evt_ping", age=91, type="v2.core.event_destination.ping")
    stays = {
        thin("evt_unseen", age=500),
        thin("evt_just_seen", age=500, acknowledged=89),
        thin("evt_young_ping", age=89, type="v2.core.event_destination.ping"),
    }

    assert purge_history(now=NOW)["thin events"] == 2

    assert kept(ThinEvent) == stays


def test_the_last_set_up_stays_however_old(db):
    for age in (400, 300, 200):
        SetupRun.objects.create(started_at=NOW - age * DAY)

    assert purge_history(now=NOW)["set-ups"] == 2

    assert SetupRun.objects.get().started_at == NOW - 200 * DAY


def test_a_run_takes_bounded_batches_the_oldest_first_and_leaves_the_rest_for_the_next(endpoint):
    rows = [trigger(endpoint, age=40, processed=True) for _ in range(7)]

    assert purge_history(now=NOW, batch=2, most=2)["webhook triggers"] == 4
    assert kept(djstripe.WebhookEventTrigger) == set(rows[4:])

    assert purge_history(now=NOW, batch=2, most=2)["webhook triggers"] == 3
    assert kept(djstripe.WebhookEventTrigger) == set()


def test_no_statement_deletes_more_than_a_batch(endpoint):
    for _ in range(5):
        trigger(endpoint, age=40, processed=True)

    with CaptureQueriesContext(
        connection,
    ) as queries:
        purge_history(now=NOW, batch=2)

    deletes = [q["sql"] for q in queries if q["sql"].startswith("DELETE")]
    assert len(deletes) == 3


def test_it_goes_by_the_clock_and_what_is_left_still_works(sandbox, webhook_endpoint, organization, plans):
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    assert set(deliver(sandbox)) == {200}
    assert purge_stripe_history()["webhook triggers"] == 0
    triggers = djstripe.WebhookEventTrigger.objects.count()

    with standing_at(datetime.now(UTC) + 100 * DAY):
        deleted = purge_stripe_history()

    assert (deleted["webhook triggers"], djstripe.Event.objects.count()) == (triggers, 0)
    assert deleted["events"] > 0
    # The mirror itself is no history.
    assert djstripe.Subscription.objects.get().id == subscription.id


def test_beat_runs_it_nightly_by_the_clock():
    (entry,) = [
        each
        for each in django_settings.CELERY_BEAT_SCHEDULE.values()
        if each["task"] == purge_stripe_history.name
    ]
    assert entry["schedule"] == crontab(hour="3", minute="40")
