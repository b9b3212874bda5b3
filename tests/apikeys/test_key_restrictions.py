"""What a key can be given, and how many an organization may have."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from accounts import clock
from apikeys.decision import Verdict
from apikeys.errors import InvalidRestriction, KeyLimitReached, KeyNotActive
from apikeys.gate import admit
from apikeys.models import APIKey
from apikeys.restrictions import NETWORKS, check_networks
from apikeys.rotation import rotate
from apikeys.secret import new_secret
from billing.entitlements import refresh_entitlement

pytestmark = pytest.mark.django_db


@pytest.fixture
def issue(organization):
    def issue(name: str = "production", **fields):
        return APIKey.objects.issue(organization=organization, name=name, **fields)

    return issue


def allow(organization, keys: int | None) -> None:
    """Let the organization's plan include so many keys."""
    organization.entitlement.plan.__class__.objects.update(api_key_limit=keys)
    refresh_entitlement(organization)


@pytest.mark.parametrize(
    ("fields", "field", "named"),
    [
        ({"name": " "}, "name", "name"),
        ({"name": "x" * 101}, "name", "100"),
        ({"name": "a\0b"}, "name", "cannot be shown"),
        ({"name": f"key {new_secret('0123456789')}"}, "name", "a key itself"),
        ({"name": "tgs_0123456789abcdefghij"}, "name", "a key itself"),
        ({"scopes": ["billing:read", "everything"]}, "scopes", "“everything”"),
        ({"scopes": ["billing:read|"]}, "scopes", "“billing:read|”"),
        ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, "expires_at", "future"),
        ({"expires_at": datetime(2099, 1, 1)}, "expires_at", "time zone"),  # noqa: DTZ001
        ({"expires_at": datetime(9999, 12, 31, tzinfo=UTC)}, "expires_at", "ten years"),
        ({"allowed_networks": ["10.0.0.0/33"]}, "allowed_networks", "“10.0.0.0/33”"),
        ({"allowed_networks": ["example.com"]}, "allowed_networks", "“example.com”"),
        ({"allowed_networks": ["fe80::1%eth0"]}, "allowed_networks", "“fe80::1%eth0”"),
        ({"allowed_networks": [f"10.0.0.{n}" for n in range(NETWORKS + 1)]}, "allowed_networks", "50"),
        ({"rate_per_minute": 0}, "rate_per_minute", "from 1"),
        ({"rate_per_minute": 2**31}, "rate_per_minute", "from 1"),
    ],
)
def test_what_a_key_cannot_have_is_named(issue, fields, field, named):
    with pytest.raises(InvalidRestriction, match=named.replace("|", r"\|")) as caught:
        issue(**fields)

    assert caught.value.field == field
    assert APIKey.objects.count() == 0


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        (["203.0.113.7"], ["203.0.113.7/32"]),
        (["10.1.2.3/8", "10.0.0.0/8", ""], ["10.0.0.0/8"]),
        (["2001:DB8::1"], ["2001:db8::1/128"]),
        (["2001:db8::1/32", " 192.0.2.0/24 "], ["2001:db8::/32", "192.0.2.0/24"]),
    ],
)
def test_networks_are_stored_in_one_form(written, stored):
    assert check_networks(written) == stored


def test_a_key_works_within_its_restrictions_and_not_beyond(issue):
    _, secret = issue(
        scopes=["keys:read"], allowed_networks=["203.0.113.0/24", "2001:db8::/32"], rate_per_minute=2
    )

    def call(address: str = "203.0.113.9", scopes=("keys:read",)) -> Verdict:
        return admit(secret, address=address, scopes=scopes).verdict

    assert call("198.51.100.1") is call("2001:db9::1") is Verdict.ADDRESS_REFUSED
    assert call(scopes=["keys:write"]) is Verdict.INSUFFICIENT_SCOPE
    assert [call(), call("2001:db8::5"), call()] == [
        Verdict.ADMITTED,
        Verdict.ADMITTED,
        Verdict.RATE_LIMITED,
    ]


def test_an_expired_key_is_refused(issue):
    _, secret = issue(expires_at=clock.now() + timedelta(hours=1))
    assert admit(secret).admitted

    assert not admit(secret, now=clock.now() + timedelta(hours=1)).admitted


def test_a_test_key_says_so_and_is_not_billed(issue):
    key, secret = issue(mode="test")

    assert secret.startswith("sk_test_")
    assert key.prefix.startswith("sk_test_")
    assert not admit(secret).is_billable


def test_an_operator_adds_scopes_of_their_own(issue, settings):
    settings.API_SCOPES = ["forecast:read"]
    key, secret = issue(scopes=["forecast:read"])

    assert key.scopes == ["forecast:read"]
    assert admit(secret, scopes=["forecast:read"]).admitted


def test_a_change_counts_from_the_next_call_on(issue):
    key, secret = issue()
    assert admit(secret, address="192.0.2.1").admitted

    key.change(allowed_networks=["203.0.113.0/24"])

    assert admit(secret, address="192.0.2.1").verdict is Verdict.ADDRESS_REFUSED
    key.change(allowed_networks=[], expires_at=clock.now() + timedelta(seconds=1))
    assert admit(secret).admitted


@pytest.mark.parametrize("end", ["revoked", "expired"])
def test_the_end_of_a_key_is_final(issue, end):
    key, _ = issue()
    if end == "revoked":
        key.revoke()
    else:
        APIKey.objects.update(expires_at=clock.now())

    with pytest.raises(KeyNotActive, match=end):
        key.change(expires_at=clock.now() + timedelta(days=1))


class TestTheLimit:
    def test_no_more_keys_than_the_plan_includes(self, issue, organization):
        allow(organization, 2)
        issue()
        issue(mode="test")

        with pytest.raises(KeyLimitReached, match="Free includes 2 active API keys") as caught:
            issue()
        assert caught.value.limit == APIKey.objects.count() == 2

    def test_revoked_and_expired_keys_make_room(self, issue, organization):
        allow(organization, 2)
        issue()[0].revoke()
        issue()
        issue()
        APIKey.objects.filter(revoked_at=None).update(expires_at=clock.now())

        issue()

    def test_a_key_in_its_overlap_does_not_count(self, issue, organization):
        allow(organization, 1)
        key, _ = issue()
        new, _ = rotate(key, overlap=timedelta(hours=1))

        assert APIKey.objects.active().count() == 2
        assert list(APIKey.objects.counted()) == [new]
        with pytest.raises(KeyLimitReached):
            issue()

    def test_an_old_key_whose_successor_is_revoked_counts_again(self, issue, organization):
        allow(organization, 1)
        key, _ = issue()
        rotate(key, overlap=timedelta(days=30))[0].revoke()

        assert list(APIKey.objects.counted()) == [key]
        with pytest.raises(KeyLimitReached):
            issue()

    def test_after_a_downgrade_keys_go_on_working_and_none_can_be_made(self, issue, organization):
        secrets = [issue()[1] for _ in range(3)]
        allow(organization, 2)

        assert all(admit(secret).admitted for secret in secrets)
        with pytest.raises(KeyLimitReached):
            issue()
        rotate(APIKey.objects.first(), overlap=timedelta())  # Which is no further key.

    def test_unlimited_is_unlimited(self, issue, organization):
        allow(organization, None)

        assert len({issue()[0].pk for _ in range(12)}) == 12


@pytest.mark.django_db(transaction=True)
def test_of_ten_at_once_for_the_last_place_one_gets_it(issue, organization):
    allow(organization, 3)
    issue()
    issue()

    def once(number: int) -> bool:
        try:
            issue(f"number {number}")
        except KeyLimitReached:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(10) as threads:
        assert sorted(threads.map(once, range(10))) == [False] * 9 + [True]
    assert APIKey.objects.count() == 3
