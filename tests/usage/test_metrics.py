"""What Prometheus reads, and who may."""

from datetime import timedelta

import pytest
from django.db import connection
from prometheus_client.parser import text_string_to_metric_families

from accounts import clock
from apikeys import drift
from apikeys.gate import admit
from apikeys.models import ServiceToken
from tests.apikeys.cast import service_token
from tests.apikeys.conftest import own_redis  # noqa: F401  (a fixture)
from tests.holding import take
from tests.usage.cast import make_event, serve
from tests.usage.plans import explained, read_whole, statements
from usage import stream
from usage.ledger import store
from usage.lines import lines
from usage.models import MeterReport, UsageRollup
from usage.redis_client import get_redis
from usage.reports import make_reports

pytestmark = pytest.mark.django_db


@pytest.fixture
def scrape(client, db):
    """Read the metrics as Prometheus does; by name, and by the label's value where there is one."""
    token = service_token(ServiceToken.Scope.METRICS)

    def scrape():
        response = client.get(
            "/metrics", headers={"Authorization": f"Bearer {token}", "Accept": "text/plain;version=0.0.4"}
        )
        assert response.status_code == 200, response.content
        assert response["Content-Type"].startswith("text/plain")
        found = {}
        for family in text_string_to_metric_families(response.content.decode()):
            assert family.documentation
            for sample in family.samples:
                found[" ".join([sample.name, *sample.labels.values()])] = sample.value
        return found

    return scrape


def test_the_stream_is_told_entry_by_entry(scrape, api_key, organization):
    serve(api_key, calls=1)
    take("one")
    serve(api_key, calls=2)
    lines.confirm()
    stream.set_aside(b"nonsense", "It is none.")

    found = scrape()

    assert found["tollgate_stream_entries"] == 3
    assert found["tollgate_stream_unread_entries"] == 2
    assert found["tollgate_stream_pending_entries"] == 1
    assert found["tollgate_stream_consumers"] == 1
    assert found["tollgate_stream_unreadable_entries"] == 1
    assert 0 <= found["tollgate_stream_oldest_entry_age_seconds"] < 60


def test_entries_that_somebody_trimmed_are_not_told_as_fewer_than_none(scrape, api_key, drain):
    serve(api_key, calls=2)
    lines.confirm()
    take("one")
    get_redis().xtrim(stream.STREAM, maxlen=0, approximate=False)

    assert scrape()["tollgate_stream_unread_entries"] == 0


def test_what_stripe_does_not_have_is_told_by_age_and_by_state(scrape, organization, plans):
    two_hours_ago = clock.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    # What a deleted meter counted never reaches Stripe.
    store([make_event(organization_id=organization.pk, at=two_hours_ago, units=7, meter="gone")])
    assert scrape()["tollgate_oldest_unreported_usage_age_seconds"] == 0
    store([make_event(organization_id=organization.pk, at=two_hours_ago, units=7)])
    assert 2 <= scrape()["tollgate_oldest_unreported_usage_age_seconds"] / 3600 < 3.1

    make_reports()
    found = scrape()
    assert 2 <= found["tollgate_oldest_unreported_usage_age_seconds"] / 3600 < 3.1
    assert found["tollgate_meter_reports pending"] == 1

    MeterReport.objects.update(state=MeterReport.State.REJECTED)
    found = scrape()
    assert (found["tollgate_meter_reports pending"], found["tollgate_meter_reports rejected"]) == (0, 1)
    assert found["tollgate_oldest_unreported_usage_age_seconds"] == 0


def test_the_age_of_what_is_still_to_reach_stripe_points_to_what_was_rejected(client, db):
    token = service_token(ServiceToken.Scope.METRICS)
    text = client.get("/metrics", headers={"Authorization": f"Bearer {token}"}).content.decode()

    (line,) = [each for each in text.splitlines() if "HELP tollgate_oldest_unreported" in each]
    assert "Rejected usage is not in it: tollgate_meter_reports counts that." in line


def test_counters_that_drift_are_told(scrape, organization, api_key):
    with clock.standing_at(clock.now()) as hands:
        admit(api_key.secret)
        hands.move(clock.now() + timedelta(seconds=1))
        drift.measure()
        assert scrape()["tollgate_counters_differing"] == 1

        hands.move(clock.now() + timedelta(hours=7))
        assert scrape()["tollgate_counters_unmended"] == 1
        drift.measure()

        found = scrape()
        assert (found["tollgate_counters_differing"], found["tollgate_counters_unmended"]) == (0, 0)
        assert (
            found["tollgate_counters_mended_last_day"] == found["tollgate_counters_drift_units_last_day"] == 1
        )


def test_redis_is_told_by_its_memory_and_its_files(scrape, own_redis):  # noqa: F811
    found = scrape()

    assert (found["tollgate_redis_up"], found["tollgate_postgresql_up"]) == (1, 1)
    assert found["tollgate_redis_memory_used_bytes redis"] > 100_000
    assert found["tollgate_redis_memory_max_bytes redis"] == 0
    assert found["tollgate_redis_evicted_keys_total redis"] == 0
    assert found["tollgate_redis_aof_enabled redis"] == 1


def test_the_ledger_has_room_for_three_months(scrape):
    assert scrape()["tollgate_ledger_partitions_ahead"] == 3


def test_with_redis_away_the_rest_is_told(scrape, own_redis):  # noqa: F811
    own_redis.stop()

    found = scrape()

    assert (found["tollgate_redis_up"], found["tollgate_postgresql_up"]) == (0, 1)
    assert "tollgate_stream_entries" not in found


def test_names_and_units_are_as_prometheus_wants_them(scrape):
    for name in {labelled.split()[0] for labelled in scrape()}:
        assert name.startswith("tollgate_")
        assert not name.endswith(("_ms", "_minutes", "_kb", "_count"))


@pytest.mark.parametrize(
    ("scopes", "status"), [((ServiceToken.Scope.VERIFY,), 403), ((ServiceToken.Scope.METRICS,), 200)]
)
def test_a_service_token_needs_the_scope(client, scopes, status):
    token = service_token(*scopes)

    assert client.get("/metrics", headers={"Authorization": f"Bearer {token}"}).status_code == status


def test_without_a_token_and_with_a_customer_s_key_nobody_reads_them(client, browser, api_key):
    assert client.get("/metrics").status_code == 401
    assert browser.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": f"Bearer {api_key.secret}"}).status_code == 401


def test_it_costs_a_bounded_number_of_queries_and_reads_no_rollup_that_is_reported(
    scrape, organization, plans, django_assert_max_num_queries
):
    scrape()
    at = clock.now() - timedelta(days=1)
    UsageRollup.objects.bulk_create(
        UsageRollup(
            organization=organization,
            meter="requests",
            api_key_id=organization.pk,
            endpoint=f"/{number}",
            hour=at.replace(minute=0, second=0, microsecond=0),
            period_start=at,
            units=5,
            reported_units=5 if number % 100 else 0,
        )
        for number in range(4_000)
    )

    with django_assert_max_num_queries(12):
        scrape()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE usage_rollup")
    with statements() as made:
        scrape()
    assert "usage_rollup" in explained(made)
    assert "usage_rollup" not in read_whole(made)
