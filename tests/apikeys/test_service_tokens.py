"""The operator's service tokens: their life, and who may do what with them in the back office."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.urls import reverse
from redis.exceptions import ConnectionError as Unreachable

from accounts import clock
from apikeys import service_access
from apikeys.models import ServiceToken
from apikeys.models.service_tokens import NotInUse, find_digest
from apikeys.secret import checksum
from apikeys.service_access import find_access
from tests.billing.staffing import said, staff
from tests.billing.waiting import somebody_waits_for_a_lock, wait_until

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
VERIFY = ServiceToken.Scope.VERIFY
AUTHORIZE = ServiceToken.Scope.AUTHORIZE


@pytest.fixture(autouse=True)
def nothing_noted():
    service_access.noted.clear()


def issue(*scopes, **kwargs):
    return ServiceToken.objects.issue(name="edge", scopes=scopes or [VERIFY], **kwargs)


def test_a_token_says_what_it_is_and_is_stored_as_a_hash():
    token, secret = issue()

    assert secret.startswith("tgs_")
    assert checksum(secret[:-6]) == secret[-6:]
    assert secret not in str(vars(token))
    assert secret.startswith(token.prefix)
    assert len(token.prefix) == 12


def test_a_token_lets_in_with_its_scopes():
    token, secret = issue(VERIFY, AUTHORIZE)

    assert find_access(secret) == (token.pk, {VERIFY, AUTHORIZE})


def test_a_revoked_token_is_refused_by_the_next_call(redis):
    token, secret = issue()
    assert find_access(secret)
    token.revoke()

    assert find_access(secret) is None
    assert redis.keys("tollgate:service-token:*") == []


def test_a_token_ends_at_its_moment():
    with clock.standing_at(NOON) as hands:
        _, secret = issue(expires_at=NOON + timedelta(seconds=1))
        hands.move(NOON + timedelta(seconds=1) - timedelta(microseconds=1))
        assert find_access(secret)
        hands.move(NOON + timedelta(seconds=1))

        assert find_access(secret) is None


@pytest.mark.parametrize("secret", ["", "tgs_", "tgs_" + "a" * 38, "sk_live_x", "tgs_\x00" + "a" * 37, "π"])
def test_a_malformed_token_is_refused_without_a_look_up(secret, monkeypatch, django_assert_num_queries):
    monkeypatch.setattr(service_access, "get_redis", lambda: 1 / 0)

    with django_assert_num_queries(0):
        assert find_access(secret) is None


def test_a_warm_token_needs_no_postgresql(django_assert_num_queries):
    _, secret = issue()
    find_access(secret)

    with django_assert_num_queries(0):
        assert find_access(secret)


def test_an_invented_token_is_refused():
    body = "tgs_" + "a" * 32

    assert find_access(body + checksum(body)) is None


def test_with_redis_out_of_reach_postgresql_knows_the_token(own_redis):
    token, secret = issue()
    revoked, gone = issue()
    revoked.revoke()
    own_redis.stop()

    assert find_access(secret) == (token.pk, {VERIFY})
    assert find_access(gone) is None


def test_a_revocation_that_redis_does_not_hear_of_is_undone(own_redis):
    token, _ = issue()
    own_redis.stop()

    with pytest.raises(Unreachable):
        token.revoke()
    token.refresh_from_db()
    assert token.revoked_at is None


def test_a_rotation_lets_both_in_until_the_overlap_is_over():
    with clock.standing_at(NOON) as hands:
        token, old = issue(VERIFY, AUTHORIZE)
        find_access(old)
        successor, new = token.rotate(overlap=timedelta(hours=1))

        assert find_access(old)
        assert find_access(new) == (successor.pk, {VERIFY, AUTHORIZE})
        hands.move(NOON + timedelta(hours=1))
        assert find_access(old) is None
        assert find_access(new)
        assert ServiceToken.objects.get(pk=token.pk).replaced_by == successor


def test_a_rotation_never_prolongs_a_token():
    with clock.standing_at(NOON):
        token, _ = issue(expires_at=NOON + timedelta(minutes=5))
        token.rotate(overlap=timedelta(hours=1))

        assert token.expires_at == NOON + timedelta(minutes=5)


def test_a_token_is_rotated_once():
    token, _ = issue()
    token.rotate(overlap=timedelta(hours=1))

    with pytest.raises(NotInUse):
        token.rotate(overlap=timedelta(hours=1))


def test_use_is_written_down_once_a_minute_and_not_at_each_call(django_assert_num_queries, monkeypatch):
    token, secret = issue()
    find_access(secret)
    token.refresh_from_db()
    first = token.last_used_at
    assert first is not None

    with django_assert_num_queries(0):
        for _ in range(20):
            find_access(secret)
    seconds = service_access.noted[token.pk]
    monkeypatch.setattr(service_access.time, "monotonic", lambda: seconds)
    with clock.standing_at(first + timedelta(minutes=2)):
        find_access(secret)
    token.refresh_from_db()
    assert token.last_used_at == first + timedelta(minutes=2)


ADD = "/admin/apikeys/servicetoken/add/"
MAY = ("add_servicetoken", "change_servicetoken", "view_servicetoken")


def shown(response) -> str:
    """Return the token that a page shows."""
    return response.content.decode().partition('id="new-token"')[2].partition(">")[2].partition("<")[0]


def make(browser):
    return browser.post(
        ADD, {"name": "edge nginx", "scopes": [AUTHORIZE], "expires_at_0": "", "expires_at_1": ""}
    )


def test_staff_make_a_token_and_see_it_once():
    browser = staff(*MAY)
    response = make(browser)

    secret = shown(response)
    token = ServiceToken.objects.get()
    assert find_access(secret) == (token.pk, {AUTHORIZE})
    assert "no-store" in response["Cache-Control"]
    for page in (
        f"/admin/apikeys/servicetoken/{token.pk}/change/",
        "/admin/apikeys/servicetoken/",
        "/admin/",
    ):
        assert secret not in browser.get(page).content.decode()
    assert secret not in str(dict(browser.session.items()))


def test_a_token_that_would_be_over_at_once_is_not_made():
    response = staff(*MAY).post(
        ADD, {"name": "x", "scopes": [VERIFY], "expires_at_0": "2020-01-01", "expires_at_1": "00:00:00"}
    )

    assert "This is over already." in response.content.decode()
    assert not ServiceToken.objects.exists()


def test_a_token_has_at_least_one_scope():
    response = staff(*MAY).post(ADD, {"name": "x", "expires_at_0": "", "expires_at_1": ""})

    assert "This field is required." in response.content.decode()
    assert not ServiceToken.objects.exists()


def test_staff_rotate_a_token_with_an_overlap():
    browser = staff(*MAY)
    old = shown(make(browser))
    token = ServiceToken.objects.get()
    url = reverse("admin:apikeys_servicetoken_rotate", args=[token.pk])
    assert "Overlap" in browser.get(url).content.decode()

    new = shown(browser.post(url, {"overlap": "1h"}))

    assert new != old
    assert find_access(old)
    assert find_access(new)
    token.refresh_from_db()
    assert timedelta(minutes=59) < token.expires_at - clock.now() <= timedelta(hours=1)
    again = browser.post(url, {"overlap": "1h"}, follow=True)
    assert "has a successor" in said(again)


def test_staff_revoke_a_token():
    browser = staff(*MAY)
    secret = shown(make(browser))
    token = ServiceToken.objects.get()
    url = reverse("admin:apikeys_servicetoken_revoke", args=[token.pk])
    assert "Revoke now" in browser.get(url).content.decode()
    assert find_access(secret)

    response = browser.post(url, follow=True)

    assert "is revoked" in said(response)
    assert find_access(secret) is None


def test_nothing_of_a_token_can_be_edited():
    token, _ = issue()
    browser = staff(*MAY)
    page = f"/admin/apikeys/servicetoken/{token.pk}/change/"

    browser.post(page, {"name": "other", "scopes": [AUTHORIZE], "digest": "0" * 64})

    token.refresh_from_db()
    assert (token.name, token.scopes) == ("edge", [VERIFY])
    shown = browser.get(page).content.decode()
    assert 'name="scopes"' not in shown
    assert 'name="_save"' not in shown
    assert f"/{token.pk}/rotate" in shown


@pytest.mark.parametrize("action", ["rotate", "revoke"])
def test_who_may_only_look_changes_nothing(action):
    token, secret = issue()
    browser = staff("view_servicetoken")

    assert browser.get(ADD).status_code == 403
    assert browser.post(
        reverse(f"admin:apikeys_servicetoken_{action}", args=[token.pk]), {"overlap": "0"}
    ).status_code in {302, 403}
    assert find_access(secret)
    assert ServiceToken.objects.count() == 1


def test_a_checksum_alone_makes_no_digest():
    _, secret = issue()

    assert find_digest(secret)
    assert find_digest(secret[:-1] + ("a" if secret[-1] != "a" else "b")) is None


@pytest.mark.django_db(transaction=True)
def test_a_revocation_waits_for_who_is_copying_the_token_and_drops_the_copy(redis, monkeypatch):
    token, secret = issue()
    reached, go_on = threading.Event(), threading.Event()
    copy = service_access.copy

    def slowly(digest):
        record = copy(digest)
        reached.set()
        assert go_on.wait(60)
        return record

    monkeypatch.setattr(service_access, "copy", slowly)
    with ThreadPoolExecutor(2) as others:
        asked = others.submit(find_access, secret)
        assert reached.wait(60)
        revoked = others.submit(token.revoke)
        wait_until(somebody_waits_for_a_lock)
        assert redis.keys("tollgate:service-token:*") != []
        go_on.set()
        assert asked.result(60)
        revoked.result(60)
    monkeypatch.undo()

    assert redis.keys("tollgate:service-token:*") == []
    assert find_access(secret) is None
