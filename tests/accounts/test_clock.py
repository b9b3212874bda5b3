import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
from django.utils import timezone as django_time

from accounts import clock
from accounts.models import Organization, User
from apikeys.gate import admit

PAST = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_the_clock_tells_the_present_in_utc():
    before = django_time.now()

    assert before <= clock.now() <= django_time.now()
    assert clock.now().tzinfo is UTC
    assert clock.find_standing() is None


def test_a_standing_clock_stands_and_goes_on_only_when_moved():
    with clock.standing_at(PAST) as hands:
        assert clock.now() == clock.now() == clock.find_standing() == PAST
        hands.move(PAST + timedelta(hours=1))
        assert clock.now() == PAST + timedelta(hours=1)

    assert clock.now() > PAST + timedelta(hours=1)


def test_a_standing_clock_stands_for_every_thread():
    seen = []
    with clock.standing_at(PAST):
        thread = threading.Thread(target=lambda: seen.append(clock.now()))
        thread.start()
        thread.join()

    assert seen == [PAST]


def test_the_clock_runs_again_after_an_error():
    with pytest.raises(KeyError), clock.standing_at(PAST):
        raise KeyError

    assert clock.find_standing() is None


def test_time_does_not_run_backwards():
    with (
        clock.standing_at(PAST) as hands,
        pytest.raises(ValueError, match="Time does not run backwards"),
    ):
        hands.move(PAST - timedelta(seconds=1))


def test_nobody_moves_a_clock_that_runs():
    with clock.standing_at(PAST) as hands:
        pass

    with pytest.raises(ValueError, match="runs by itself"):
        hands.move(PAST + timedelta(days=1))


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="lacks a time zone"), clock.standing_at(PAST.replace(tzinfo=None)):
        pass


def test_a_time_of_another_zone_is_the_same_instant_in_utc():
    with clock.standing_at(PAST.astimezone(timezone(timedelta(hours=9)))):
        assert clock.now() == PAST
        assert clock.now().tzinfo is UTC


@pytest.mark.django_db
def test_rows_are_dated_by_the_clock():
    with clock.standing_at(PAST):
        user = User.objects.create_user("ann@acme.example")

    assert user.date_joined == PAST


def test_the_gate_goes_by_a_standing_clock_and_counts_in_its_month(plans, owner):
    with clock.standing_at(PAST):
        organization = Organization.objects.open(name="Acme", owner=owner)
        _, secret = organization.api_keys.issue(organization=organization, name="test")
        used = [admit(secret).used for _ in range(3)]
        decision = admit(secret)

    assert used == [1, 2, 3]
    assert decision.at == PAST
    assert decision.period_start == datetime(2026, 1, 1, tzinfo=UTC)
