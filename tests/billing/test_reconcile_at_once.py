"""Several workers at one customer in the same moment, with the real locks."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections
from djstripe import models as djstripe

from billing.models import Entitlement, ReconcileRun, Reconciliation
from billing.reconciliation import begin_run, reconcile_slice
from billing.stripe.client import get_client
from billing.stripe.duplicates import cancel_never_paid
from billing.stripe.reconciling import reconcile
from tests.billing.cast import subscribe
from tests.billing.troubles import subscribe_once_more
from tests.exhaustive import CROWDS

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long]


def at_once(work: Any, *, workers: int) -> list[Any]:
    """Do the work in so many threads at the same time; return what each made of it."""

    def alone(number: int) -> Any:
        try:
            return work()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(workers) as threads:
        return list(threads.map(alone, range(workers)))


@pytest.mark.exhaustive
@pytest.mark.parametrize("workers", CROWDS)
def test_of_several_that_reconcile_one_customer_one_repairs_and_all_agree(
    sandbox, organization, plans, workers
):
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    reconcile(organization)
    get_client().v1.subscriptions.cancel(subscription.id)

    outcomes = at_once(lambda: reconcile(organization), workers=workers)

    repaired = [sentence for outcome in outcomes for sentence in outcome.repaired]
    told = f"Subscription {subscription.id} was active here and canceled at Stripe."
    assert repaired.count(told) == 1
    assert [outcome.problems for outcome in outcomes] == [[]] * workers
    assert djstripe.Subscription.objects.get().status == "canceled"
    assert Entitlement.objects.get().plan == plans.free


def test_two_chains_of_one_run_reconcile_each_once(sandbox, organization, outsider, plans):
    run, _ = begin_run()

    at_once(lambda: reconcile_slice(ReconcileRun.objects.get(pk=run.pk)), workers=2)

    run.refresh_from_db()
    assert run.organizations == Reconciliation.objects.count() == 2
    assert len(list(sandbox.every("customer"))) == 2


@pytest.mark.exhaustive
@pytest.mark.parametrize("workers", CROWDS)
def test_a_second_subscription_is_ended_once_by_however_many(sandbox, organization, plans, workers):
    subscribe(sandbox, organization, plan=plans.pro)
    second = subscribe_once_more(organization, plan=plans.team, payment_behavior="default_incomplete")

    at_once(lambda: cancel_never_paid(organization), workers=workers)

    assert sandbox.get("subscription", second.id)["status"] == "incomplete_expired"
    assert sorted(each["status"] for each in sandbox.every("subscription")) == [
        "active",
        "incomplete_expired",
    ]


def test_of_two_that_begin_a_run_one_does(sandbox, plans):
    begun = at_once(begin_run, workers=2)

    assert len({run.pk for run, _ in begun}) == 1
    assert sorted(is_new for _, is_new in begun) == [False, True]
