"""The gate on a Redis Cluster: three real nodes."""

import pytest
from django.db import connection
from redis.cluster import RedisCluster
from redis.crc import key_slot

from accounts import clock
from accounts.models import Organization, User, new_ref
from apikeys import cache, reservations
from apikeys.checks import stale_copies
from apikeys.gate import admit, give_back
from apikeys.models import APIKey
from apikeys.reservation_settlement import Outcome, settle
from apikeys.reservations import Hold, Reservation
from apikeys.tasks import bill_unsettled
from tests.apikeys import callers, redis_cluster
from tests.apikeys.test_gate import set_limits, used
from tests.usage.cast import serve
from tests.usage.ingesting import event, send, statuses
from usage.lines import lines
from usage.models import UsageEvent
from usage.redis_client import get_redis
from usage.stream import Drain

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    with redis_cluster.running(tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


@pytest.fixture
def cluster(nodes, settings):
    """The cluster, empty, and the process on it."""
    for node in nodes.nodes:
        node.flushall()
    settings.REDIS_URL = nodes.url
    get_redis.cache_clear()
    lines.close()
    yield nodes
    get_redis.cache_clear()


@pytest.fixture
def organizations(cluster, plans):
    """Twelve, with a key each, on all three nodes."""
    found = []
    for number in range(12):
        user = User.objects.create_user(f"owner{number}@acme.example", "correct horse battery")
        organization = Organization.objects.open(name=f"Acme {number}", owner=user)
        while cluster.owner_of(slot_of(organization)) != number % 3:
            organization.ref = new_ref()
        organization.save()
        _, secret = APIKey.objects.issue(organization=organization, name="test")
        found.append((organization, secret))
    return found


def slot_of(organization):
    return key_slot(cache.names(organization.ref).facts.encode())


def test_the_process_talks_to_a_cluster(cluster):
    assert isinstance(get_redis(), RedisCluster)
    assert len(get_redis().get_primaries()) == 3


def test_organizations_on_every_node_are_admitted_and_counted(organizations, cluster):
    owners = {cluster.owner_of(slot_of(organization)) for organization, _ in organizations}
    assert owners == {0, 1, 2}

    for organization, secret in organizations:
        assert [admit(secret).used for _ in range(3)] == [1, 2, 3]
        give_back(admit(secret))
        assert used(organization) == 3


def test_a_batch_of_events_raises_counters_on_every_node(organizations):
    for _, secret in organizations:
        admit(secret)

    sent = [
        event(organization, str(number), value=5) for number, (organization, _) in enumerate(organizations)
    ]

    assert statuses(send(*sent)) == ["accepted"] * 12
    assert [used(organization) for organization, _ in organizations] == [6] * 12


def test_all_keys_of_an_organization_lie_in_one_slot(organizations, cluster):
    organization, secret = organizations[0]
    APIKey.objects.update(rate_per_minute=100)
    cache.drop(organization.ref)
    admit(secret, address="192.0.2.1")

    keys = [key for node in cluster.nodes for key in node.keys(f"*{organization.ref}*")]

    assert len(keys) == 5
    assert {key_slot(key.encode()) for key in keys} == {slot_of(organization)}


def test_usage_reaches_the_ledger_by_way_of_the_cluster(organizations):
    for _, secret in organizations:
        serve(SecretOnly(secret), calls=3)

    assert Drain().run_once() == 36
    assert UsageEvent.objects.count() == 36


def test_a_revoked_key_is_refused_at_the_next_call(organizations):
    organization, secret = organizations[0]
    assert admit(secret).admitted

    organization.api_keys.get().revoke()

    assert admit(secret).reason == "invalid_key"


def test_a_slot_that_moves_to_another_node_takes_its_counters_along(organizations, cluster):
    organization, secret = organizations[0]
    assert [admit(secret).used for _ in range(3)] == [1, 2, 3]
    slot = slot_of(organization)
    owner = cluster.owner_of(slot)

    cluster.move(slot, to=(owner + 1) % 3)
    try:
        assert [admit(secret).used for _ in range(3)] == [4, 5, 6]
        assert used(organization) == 6
    finally:
        cluster.move(slot, to=owner, away_from=(owner + 1) % 3)


def test_the_doctor_compares_copies_on_all_nodes(organizations):
    for _, secret in organizations:
        admit(secret)
    assert list(stale_copies()) == []
    tampered, _ = organizations[5]
    get_redis().hset(cache.names(tampered.ref).facts, "rate", "1000000")

    (finding,) = stale_copies()

    assert tampered.name in str(finding)


def test_200_callers_in_four_processes_get_exactly_what_is_left(organizations, cluster):
    organization, secret = organizations[0]
    set_limits(organization, rate=None, quota=17)
    database = connection.settings_dict["NAME"]

    with callers.running(count=4, database=database, redis_url=cluster.url) as crowd:
        _, reasons = crowd.call(secret, callers=200, calls=1)

    assert reasons == {"admitted": 17, "quota_exceeded": 183}


def test_a_node_that_comes_back_from_an_older_file_has_what_it_counted_looked_at_anew(organizations, cluster):
    for _, secret in organizations:
        assert admit(secret).admitted
    marks = [node.keys("tollgate:run:*") for node in cluster.nodes]
    assert [len(names) for names in marks] == [1, 1, 1]
    cluster.nodes[1].set(marks[1][0], "of-another-run")

    get_redis.cache_clear()
    assert get_redis().ping()
    for node in get_redis().get_primaries():
        get_redis().get_redis_connection(node).ping()

    assert cluster.nodes[1].keys("*}:facts") == []
    born = [[node.hget(name, "born") for name in node.keys("*}:used")] for node in cluster.nodes]
    assert [sum(mark is None for mark in marks) for marks in born] == [0, 4, 0]
    assert [admit(secret).used for _, secret in organizations] == [2] * 12
    assert all(cluster.nodes[1].hget(name, "born") for name in cluster.nodes[1].keys("*}:used"))


class SecretOnly:
    def __init__(self, secret):
        self.secret = secret


def test_reservations_of_organizations_on_every_node_are_settled_or_billed(organizations, cluster):
    made = []
    for organization, secret in organizations:
        for _ in range(2):
            decision = admit(secret, cost=40, hold=Hold.of(endpoint="verify", method=""))
            made.append(Reservation.read(organization.ref, decision.reservation))
        assert used(organization) == 80
    for settled in made[::2]:
        settle(settled, Outcome(units=12, status=200, endpoint="verify", method="", response_ms=0))
    get_redis().delete(reservations.INDEX)  # On one node, which is lost alone.

    with clock.standing_at(made[-1].due):
        assert bill_unsettled() == 12
    Drain().run_once()

    assert [used(organization) for organization, _ in organizations] == [52] * 12
    assert sorted(UsageEvent.objects.values_list("units", flat=True)) == [12] * 12 + [40] * 12
    assert not any(node.keys("*}:reservations") for node in cluster.nodes)
