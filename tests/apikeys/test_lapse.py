"""What a lapse, a recovery or a decision of staff means for the very next call."""

from datetime import timedelta

import pytest
from django.test import Client

from apikeys.gate import admit
from apikeys.models import APIKey
from billing.entitlements import refresh_entitlement
from billing.models import Access, PlanOverride, QuotaOverride, StatusPolicy
from billing.stripe.client import get_client
from billing.tasks import refresh_entitlements_in
from tests.billing.stage import BAD_CARD, DAY, HOUR, open_stage

pytestmark = [pytest.mark.django_db, pytest.mark.long]

MOMENT = timedelta(microseconds=1)


@pytest.fixture
def stage(sandbox, webhook_endpoint, plans, owner):
    with open_stage(sandbox, owner) as stage:
        yield stage


@pytest.fixture
def secret(stage) -> str:
    _, secret = APIKey.objects.issue(organization=stage.organization, name="test")
    return secret


@pytest.fixture
def failed(stage, plans, secret):
    """Acme on Pro, whose renewal has just failed; nothing more is heard of Stripe, and no task runs."""
    stage.subscribe(plans.pro)
    stage.use_card(BAD_CARD)
    stage.go(stage.entitlement.period_end + HOUR)
    stage.hears = False
    assert admit(secret).rate_limit == 100
    return stage.now


def test_past_due_is_full_up_to_the_seventh_day_and_limited_from_it_on(secret, failed):
    assert admit(secret, now=failed + timedelta(days=6.99)).rate_limit == 100
    assert admit(secret, now=failed + 7 * DAY - MOMENT).rate_limit == 100

    assert admit(secret, now=failed + 7 * DAY).rate_limit == 10


def test_a_policy_of_another_length_acts_at_its_own_boundary(stage, plans, secret, failed):
    StatusPolicy.objects.filter(status="past_due", from_day=7).update(from_day=2)
    refresh_entitlements_in("past_due")

    assert admit(secret, now=failed + 2 * DAY - MOMENT).rate_limit == 100
    assert admit(secret, now=failed + 2 * DAY).rate_limit == 10


def test_each_step_of_a_policy_is_taken_by_the_next_call(stage, secret, failed):
    StatusPolicy.objects.create(status="past_due", from_day=14, access=Access.NONE)
    StatusPolicy.objects.create(status="past_due", from_day=60, access=Access.LIMITED)
    refresh_entitlements_in("past_due")

    verdicts = [admit(secret, now=failed + day * DAY).reason for day in (6, 7, 14, 59, 60)]

    assert verdicts == ["admitted", "admitted", "suspended", "suspended", "admitted"]


def test_who_has_paid_has_the_plan_at_the_next_call(stage, secret, failed):
    stage.arrive(failed + 8 * DAY)
    assert admit(secret).rate_limit == 10

    stage.hears = True
    stage.pay()

    assert admit(secret).rate_limit == 100


def test_with_no_access_calls_are_refused_with_402_but_those_that_cost_nothing_stay_open(
    stage, secret, failed, client
):
    StatusPolicy.objects.filter(status="past_due", from_day=7).update(access=Access.NONE)
    refresh_entitlements_in("past_due")
    stage.arrive(failed + 7 * DAY)

    assert admit(secret).reason == "suspended"
    assert admit(secret, cost=0).admitted
    answer = call(client, secret)
    assert (answer.status_code, answer.json()["code"]) == (402, "suspended")
    assert admit(secret, cost=0).used == admit(secret, cost=0).used == 0


def test_a_cancelled_customer_s_keys_have_the_default_limits_at_the_next_call(stage, plans, secret):
    subscription = stage.subscribe(plans.pro)
    admit(secret, cost=5_000)
    stage.go(DAY)

    get_client().v1.subscriptions.cancel(subscription)
    stage.hear()

    decision = admit(secret)
    assert (decision.rate_limit, decision.quota, decision.used) == (10, 100, 1)


def test_a_cancelled_customer_s_keys_are_refused_where_the_policy_says_so(stage, plans, secret):
    StatusPolicy.objects.filter(status="canceled").update(access=Access.NONE)
    subscription = stage.subscribe(plans.pro)
    assert admit(secret).admitted

    get_client().v1.subscriptions.cancel(subscription)
    stage.hear()

    assert admit(secret).reason == "suspended"


def test_a_cancellation_at_the_period_s_end_reaches_the_call_after_it(stage, plans, secret):
    subscription = stage.subscribe(plans.pro)
    get_client().v1.subscriptions.update(subscription, {"cancel_at_period_end": True})
    stage.hear()
    end = stage.entitlement.period_end

    stage.go(end - HOUR)
    assert admit(secret).rate_limit == 100

    stage.go(end)
    assert admit(secret).rate_limit == 10


def test_an_override_ends_with_the_call_after_its_end_date(stage, plans, secret):
    end = stage.now + 3 * DAY
    override = PlanOverride.objects.create(
        organization=stage.organization,
        changes_rate=True,
        rate_per_minute=None,
        reason="a fair",
        ends_at=end,
        starts_at=stage.now + DAY,
    )
    QuotaOverride.objects.create(
        override=override, meter=plans.free.quotas.get().meter, included=7, overage="block"
    )
    refresh_entitlement(stage.organization)

    limits = [
        (decision.rate_limit, decision.quota)
        for decision in (
            admit(secret, now=moment)
            for moment in (stage.now + DAY - MOMENT, stage.now + DAY, end - MOMENT, end)
        )
    ]

    assert limits == [(10, 100), (None, 7), (None, 7), (10, 100)]


def test_a_customer_deleted_at_stripe_has_the_default_limits_at_the_next_call(stage, plans, secret):
    stage.subscribe(plans.pro)
    assert admit(secret).rate_limit == 100

    get_client().v1.customers.delete(stage.customer)
    stage.hear()

    assert admit(secret).rate_limit == 10


def call(client: Client, secret: str):
    return client.get("/api/v1/echo", headers={"Authorization": f"Bearer {secret}"})
