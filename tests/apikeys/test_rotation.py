"""One key in the place of another, with a time in which both work; and who still calls with the old one."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from redis.exceptions import ConnectionError as Unreachable

from accounts import clock
from apikeys.errors import InvalidRestriction, KeyNotActive, RotationRefused
from apikeys.gate import admit
from apikeys.handover import look_at
from apikeys.models import APIKey
from apikeys.rotation import extend, longer_spans, rotate
from billing.entitlements import refresh_entitlement
from tests.usage.cast import make_event, serve
from usage import ledger

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 4, 10, 12, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def hands(organization):
    with clock.standing_at(NOON) as hands:
        refresh_entitlement(organization)
        yield hands


@pytest.fixture
def old(hands, organization):
    key, secret = APIKey.objects.issue(
        organization=organization,
        name="production",
        scopes=["keys:read"],
        allowed_networks=["192.0.2.0/24", "2001:db8::/32"],
        rate_per_minute=8,
    )
    return SimpleNamespace(key=key, secret=secret)


def call(secret: str, address: str = "192.0.2.1") -> bool:
    return admit(secret, address=address).admitted


def test_the_new_key_is_as_the_old_one_was(old):
    new, secret = rotate(old.key, overlap=HOUR)

    for field in ("name", "mode", "scopes", "allowed_networks", "rate_per_minute", "expires_at"):
        assert getattr(new, field) == getattr(APIKey.objects.get(pk=new.pk), field)
    assert (new.name, new.scopes, new.rate_per_minute) == ("production", ["keys:read"], 8)
    assert secret != old.secret
    assert (old.key.replaced_by, old.key.replaced_at, old.key.expires_at) == (new, NOON, NOON + HOUR)


def test_both_work_in_the_overlap_and_share_one_quota(old, hands):
    _, secret = rotate(old.key, overlap=HOUR)

    assert call(old.secret)
    assert admit(secret, address="192.0.2.1").used == 2
    hands.move(NOON + HOUR)
    assert not call(old.secret)
    assert call(secret)


def test_with_no_overlap_the_old_key_is_refused_at_once(old):
    _, secret = rotate(old.key, overlap=timedelta())

    assert not call(old.secret)
    assert call(secret)
    assert old.key.status == "revoked"


def test_an_overlap_never_gives_a_key_more_time_than_it_had(old):
    old.key.change(expires_at=NOON + HOUR)

    new, _ = rotate(old.key, overlap=timedelta(days=7))

    assert old.key.expires_at == NOON + HOUR
    assert new.expires_at == NOON + HOUR  # As long a life as the old one's, counted from now.


def test_a_replaced_key_is_not_rotated_again(old):
    new, _ = rotate(old.key, overlap=HOUR)

    with pytest.raises(RotationRefused, match=f"replaced already, by {new.prefix}"):
        rotate(old.key, overlap=HOUR)
    assert APIKey.objects.count() == 2


def test_rotations_are_not_piled_up(old, hands):
    new, _ = rotate(old.key, overlap=HOUR)

    with pytest.raises(RotationRefused, match="still works"):
        rotate(new, overlap=HOUR)
    rotate(new, overlap=timedelta())  # A leak does not wait.
    hands.move(NOON + HOUR)
    rotate(APIKey.objects.active().get(), overlap=HOUR)


def test_what_has_ended_is_not_rotated(old):
    old.key.revoke()

    with pytest.raises(KeyNotActive):
        rotate(old.key, overlap=HOUR)


@pytest.mark.parametrize("overlap", [timedelta(seconds=-1), timedelta(days=30, seconds=1)])
def test_an_overlap_has_its_limits(old, overlap):
    with pytest.raises(InvalidRestriction, match="30 days"):
        rotate(old.key, overlap=overlap)


def test_an_overlap_is_extended(old, hands):
    rotate(old.key, overlap=HOUR)
    hands.move(NOON + HOUR / 2)

    assert timedelta(hours=1) in longer_spans(old.key)
    extend(old.key, span=timedelta(hours=24))

    hands.move(NOON + timedelta(hours=24))
    assert call(old.secret)
    hands.move(NOON + timedelta(hours=24, minutes=30))
    assert not call(old.secret)
    with pytest.raises(KeyNotActive):
        extend(old.key, span=HOUR)


def test_an_extension_does_not_shorten_nor_make_an_old_key_endless(old):
    with pytest.raises(RotationRefused, match="not been replaced"):
        extend(old.key, span=HOUR)
    rotate(old.key, overlap=timedelta(days=7))

    with pytest.raises(InvalidRestriction, match="longer than that"):
        extend(old.key, span=HOUR)
    for end in (None, NOON + timedelta(days=31)):
        with pytest.raises(InvalidRestriction, match="30 more days"):
            old.key.change(expires_at=end)


def test_with_redis_out_of_reach_nothing_is_rotated(old, monkeypatch):
    def fail(ref: str) -> None:
        raise Unreachable

    monkeypatch.setattr("apikeys.receivers.cache.drop", fail)

    with pytest.raises(Unreachable):
        rotate(old.key, overlap=HOUR)
    assert list(APIKey.objects.all()) == [old.key]


class TestWhoStillCalls:
    @pytest.fixture
    def rotated(self, old, hands, organization):
        """Rotated with a week's overlap; since then 3 addresses have used the old key, last at 13:48."""
        call(old.secret, "192.0.2.250")
        new, _ = rotate(old.key, overlap=timedelta(days=7))
        for minutes, address in ((10, "192.0.2.7"), (60, "2001:db8::7"), (88, "192.0.2.9")):
            hands.move(NOON + timedelta(minutes=minutes))
            assert call(old.secret, address)
        hands.move(NOON + timedelta(minutes=100))
        return new

    def test_the_last_call_and_the_addresses_since_the_rotation(self, rotated, old):
        seen = look_at(old.key)

        assert seen.last_call == NOON + timedelta(minutes=88)
        assert [each.address for each in seen.sightings] == ["192.0.2.9", "2001:db8::7", "192.0.2.7"]
        assert (seen.is_quiet, seen.is_known, seen.percent) == (False, True, None)

    def test_the_part_of_the_calls_leaves_out_what_was_before(self, rotated, old, organization):
        def store(key: APIKey, calls: int, at: datetime) -> None:
            ledger.store(
                [make_event(organization_id=organization.pk, at=at, api_key_id=key.pk) for _ in range(calls)]
            )

        store(old.key, 500, NOON - timedelta(minutes=15))
        store(old.key, 1, NOON + HOUR)
        store(rotated, 249, NOON + HOUR)

        seen = look_at(old.key)

        assert seen.percent == pytest.approx(0.4)
        assert seen.since == datetime(2026, 4, 10, 13, tzinfo=UTC)

    def test_until_a_full_hour_has_begun_no_part_is_told(self, old, organization, hands):
        def store(*keys: APIKey) -> None:
            ledger.store(
                [make_event(organization_id=organization.pk, at=clock.now(), api_key_id=k.pk) for k in keys]
            )

        for _ in range(99):
            store(old.key)
        new, _ = rotate(old.key, overlap=timedelta(days=1))
        store(old.key, new)

        seen = look_at(old.key)
        assert (seen.percent, seen.is_early) == (None, True)
        assert seen.since == datetime(2026, 4, 10, 13, tzinfo=UTC)

        hands.move(seen.since)
        store(old.key, new)
        assert (look_at(old.key).percent, look_at(old.key).is_early) == (50, False)

    def test_after_a_rotation_on_the_hour_that_hour_counts(self, old, organization, hands):
        hands.move(datetime(2026, 4, 10, 13, tzinfo=UTC))
        rotate(old.key, overlap=timedelta(days=1))

        seen = look_at(old.key)

        assert (seen.since, seen.is_early) == (datetime(2026, 4, 10, 13, tzinfo=UTC), False)

    def test_without_a_call_since_the_rotation_it_is_quiet(self, old, hands):
        call(old.secret)
        hands.move(NOON + timedelta(minutes=1))
        rotate(old.key, overlap=timedelta(days=1))

        assert (look_at(old.key).is_quiet, look_at(old.key).is_safe) == (True, False)
        hands.move(NOON + timedelta(minutes=61))
        assert (look_at(old.key).is_quiet, look_at(old.key).is_safe) == (True, True)

    def test_what_is_not_known_is_not_called_quiet(self, old, monkeypatch):
        rotate(old.key, overlap=HOUR)

        class Gone:
            def pipeline(self, **kwargs: object) -> None:
                raise Unreachable

        monkeypatch.setattr("apikeys.sightings.get_redis", Gone)
        seen = look_at(old.key)

        assert (seen.is_known, seen.is_quiet, seen.sightings) == (False, False, [])


class TestLastUse:
    def test_a_batch_moves_it_on_with_one_update(self, api_key, drain):
        events = serve(api_key, calls=3)

        with CaptureQueriesContext(connection) as queries:
            drain.run_once()

        assert sum("UPDATE apikeys_apikey" in query["sql"] for query in queries) == 1
        api_key.key.refresh_from_db()
        assert api_key.key.last_used_at == max(event.occurred_at for event in events)

    def test_it_moves_by_more_than_a_minute_and_never_back(self, organization, hands, old):
        def served(at: datetime) -> datetime | None:
            ledger.store([make_event(organization_id=organization.pk, at=at, api_key_id=old.key.pk)])
            old.key.refresh_from_db()
            return old.key.last_used_at

        assert served(NOON) == NOON
        assert served(NOON + timedelta(seconds=60)) == NOON
        assert served(NOON - timedelta(days=1)) == NOON
        assert served(NOON + timedelta(seconds=61)) == NOON + timedelta(seconds=61)

    def test_it_is_part_of_the_transaction_that_stores(self, organization, old, monkeypatch):
        def fail(self: object, last_served: object) -> None:
            raise RuntimeError

        monkeypatch.setattr("apikeys.models.keys.APIKeyManager.note_use", fail)
        with pytest.raises(RuntimeError):
            ledger.store([make_event(organization_id=organization.pk, at=NOON, api_key_id=old.key.pk)])

        assert old.key.last_used_at is None
