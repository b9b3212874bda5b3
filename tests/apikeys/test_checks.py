"""Keys that open more than they should: broken by hand, seen by name, mended, and gone."""

import pytest

from accounts.models import Organization
from apikeys import cache
from apikeys.checks import BATCH
from apikeys.gate import admit
from apikeys.models import APIKey
from billing.entitlements import refresh_entitlement
from billing.models import Access, Entitlement, StatusPolicy
from billing.stripe.client import get_client
from billing.stripe.subscriptions import sync_subscriptions
from tests.billing.cast import subscribe
from tests.billing.doctoring import found, mend, only
from usage.redis_client import get_redis

pytestmark = pytest.mark.django_db


@pytest.fixture
def subscribed(sandbox, organization, plans):
    """Acme on Pro."""
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    refresh_entitlement(organization)
    return subscription


def end_unnoticed(subscription) -> None:
    """End the subscription, with the mirror told and the entitlement not."""
    get_client().v1.subscriptions.cancel(subscription.id)
    sync_subscriptions(subscription.customer_id)


def test_what_the_gate_learnt_rightly_is_no_finding(organization, api_key):
    assert found("gate-copy") == []
    admit(api_key.secret)

    assert found("gate-copy") == []


@pytest.mark.parametrize(("fact", "value"), [("rate", ""), ("quota:requests", "999999"), ("access", "none")])
def test_a_copy_that_says_something_else_is_dropped(organization, api_key, fact, value):
    right = admit(api_key.secret)
    get_redis().hset(cache.names(organization.ref).facts, fact, value)

    finding = only("gate-copy")

    assert finding.sentence == f"The gate lets Acme in by old facts: {fact}."
    mend(finding)
    after = admit(api_key.secret)
    assert (after.rate_limit, after.quota, after.admitted) == (right.rate_limit, right.quota, True)


def test_a_revoked_key_that_the_gate_still_lets_in_is_shut_out(organization, api_key):
    admit(api_key.secret)
    APIKey.objects.filter(pk=api_key.key.pk).update(revoked_at=api_key.key.created_at)  # Past the lock.
    assert admit(api_key.secret).admitted

    finding = only("gate-copy")

    assert finding.sentence == "The gate lets Acme in by old facts: 1 keys."
    mend(finding)
    assert admit(api_key.secret).reason == "invalid_key"


def test_every_organization_is_looked_at_however_many(organization, api_key, owner, monkeypatch):
    monkeypatch.setattr("apikeys.checks.BATCH", 2)
    for number in range(4):
        Organization.objects.open(name=f"No. {number}", owner=owner)
    admit(api_key.secret)
    get_redis().hset(cache.names(organization.ref).facts, "rate", "")

    assert only("gate-copy").organization == organization
    assert BATCH > 2


def test_a_live_key_under_a_dead_subscription_is_named_and_loses_its_limits(subscribed, api_key, plans):
    assert admit(api_key.secret).rate_limit == 100
    assert found("live-keys") == []
    end_unnoticed(subscribed)

    finding = only("live-keys")

    assert finding.sentence == (
        f"1 live keys of Acme have the limits of Pro by subscription {subscribed.id}, which has ended."
    )
    mend(finding)
    assert admit(api_key.secret).rate_limit == 10
    assert Entitlement.objects.get().plan == plans.free


def test_a_subscription_that_is_gone_from_the_mirror_is_dead(subscribed, api_key):
    Entitlement.objects.update(subscription_id="sub_gone")

    mend(only("live-keys"))

    assert Entitlement.objects.get().subscription_id == subscribed.id


def test_without_a_live_key_nobody_gets_in(subscribed, api_key):
    api_key.key.revoke()
    end_unnoticed(subscribed)

    assert found("live-keys") == []


def test_what_staff_give_after_the_end_is_no_finding(subscribed, organization, api_key):
    StatusPolicy.objects.filter(status="canceled").delete()
    StatusPolicy.objects.create(status="canceled", access=Access.FULL)
    end_unnoticed(subscribed)
    refresh_entitlement(organization)
    assert admit(api_key.secret).rate_limit == 100

    assert found("live-keys") == []
