"""The nightly comparison of everybody with Stripe: each has a turn, and one's trouble is not another's."""

import json
from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from djstripe import models as djstripe

from accounts.models import Organization
from billing.errors import StripeRejected
from billing.models import Entitlement, ReconcileRun, Reconciliation
from billing.reconciliation import begin, begin_run, finish, reconcile_all, reconcile_slice
from billing.stripe import reconciling
from billing.stripe.client import get_client
from billing.stripe.customers import ensure_customer, find_customer
from billing.tasks import reconcile_next, reconcile_organizations
from config import settings as product_settings
from tests.billing.cast import deliver, publish_all, subscribe
from tests.billing.troubles import move, subscribe_once_more

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


@pytest.fixture
def crowd(sandbox, hands, owner, plans) -> list[Organization]:
    """Five organizations, each a customer at Stripe."""
    found = [Organization.objects.open(name=f"No. {number}", owner=owner) for number in range(5)]
    for organization in found:
        ensure_customer(organization)
    return found


def sentences(run: ReconcileRun, kind: str) -> list[str]:
    return [finding["sentence"] for finding in run.findings if finding["kind"] == kind]


def tried_since(moment: datetime) -> set[Any]:
    return set(Reconciliation.objects.filter(tried_at__gte=moment).values_list("organization", flat=True))


def test_a_run_goes_over_everybody_and_says_what_it_repaired(
    sandbox, hands, webhook_endpoint, organization, plans
):
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    reconcile_all()
    get_client().v1.subscriptions.cancel(subscription.id)
    move(sandbox, hands, HOUR)

    run = reconcile_all()

    assert (run.organizations, run.repaired, run.failures, run.stopped) == (1, 2, 0, "")
    assert f"Subscription {subscription.id} was active here and canceled at Stripe." in sentences(
        run, "repaired"
    )
    assert run.findings[0]["ref"] == organization.ref
    assert Entitlement.objects.get().plan == plans.free


def test_one_organization_s_failure_does_not_stop_the_rest(sandbox, hands, crowd, monkeypatch):
    real = reconciling.fetch_customer

    def fetch(customer: djstripe.Customer, **kwargs: Any) -> None:
        if customer.subscriber == crowd[1]:
            raise RuntimeError("broken")
        if customer.subscriber == crowd[2]:
            raise StripeRejected("Not this one.")
        real(customer, **kwargs)

    monkeypatch.setattr(reconciling, "fetch_customer", fetch)
    run = reconcile_all()

    assert (run.organizations, run.failures, run.stopped) == (5, 2, "")
    done = Reconciliation.objects.filter(reconciled_at__isnull=False).count()
    assert done == 3


def test_an_outage_ends_the_run_and_the_next_one_begins_with_those_who_had_no_turn(sandbox, hands, crowd):
    reconcile_all()
    move(sandbox, hands, HOUR)
    outage = sandbox.faults.add("server_error", path="/v1/customers/*")
    stopped = reconcile_all()
    had_a_try = tried_since(stopped.started_at)
    assert (len(had_a_try), stopped.organizations) == (3, 0)
    assert "try again" in stopped.stopped
    sandbox.faults.remove(outage.id)
    move(sandbox, hands, HOUR)

    run, _ = begin_run()
    order = list(Organization.objects.order_by("reconciliation__tried_at").values_list("pk", flat=True))
    assert set(order[:2]).isdisjoint(had_a_try)
    while reconcile_slice(run):
        pass

    assert len(tried_since(run.started_at)) == 5


def test_a_single_unanswered_call_does_not_end_the_run(sandbox, hands, crowd):
    sandbox.faults.add("server_error", path="/v1/invoices", times=3)

    run = reconcile_all()

    assert (run.stopped, run.organizations) == ("", 4)


def test_too_many_calls_end_the_run_at_once(sandbox, hands, crowd):
    sandbox.faults.add("rate_limit", path="/v1/customers/*")

    run = reconcile_all()

    assert run.stopped
    assert Reconciliation.objects.count() == 1


def test_a_key_that_stripe_refuses_ends_the_run_at_once(sandbox, hands, crowd, settings):
    settings.STRIPE_SECRET_KEY = "sk_live_notOfThisSandbox0123456789"
    get_client.cache_clear()

    run = reconcile_all()

    assert (run.stopped, run.organizations) == ("The payment provider cannot be used right now.", 0)


def test_two_chains_of_slices_share_the_work(sandbox, hands, crowd, monkeypatch):
    run, _ = begin_run()
    turns: list[Any] = []
    real = reconciling.reconcile_customer

    def reconcile_customer(customer: djstripe.Customer, **kwargs: Any) -> None:
        if not turns:
            turns.append(customer.id)
            reconcile_slice(ReconcileRun.objects.get(pk=run.pk))  # Another worker, in the middle of ours.
        else:
            turns.append(customer.id)
        real(customer, **kwargs)

    monkeypatch.setattr(reconciling, "reconcile_customer", reconcile_customer)
    reconcile_slice(run)

    assert len(turns) == len(set(turns)) == 5
    run.refresh_from_db()
    assert run.organizations == 5


def test_the_nightly_task_works_through_slices_until_all_had_a_turn(
    sandbox, hands, crowd, settings, monkeypatch
):
    monkeypatch.setattr("billing.reconciliation.SLICE", 2)
    queued: list[int] = []
    monkeypatch.setattr("billing.tasks.enqueue", lambda task, *args: queued.extend(args))

    reconcile_organizations()
    slices = 0
    while queued:
        slices += 1
        reconcile_next(queued.pop())

    run = ReconcileRun.objects.get()
    assert (slices, run.organizations, run.finished_at is not None) == (3, 5, True)


def test_it_runs_every_night():
    entry = product_settings.CELERY_BEAT_SCHEDULE["reconcile"]

    assert entry["task"] == reconcile_organizations.name
    assert (entry["schedule"].hour, entry["schedule"].minute) == ({4}, {20})


def test_a_run_that_is_under_way_is_gone_on_with_and_one_that_died_is_replaced(sandbox, hands, crowd):
    first, _ = begin_run()
    move(sandbox, hands, HOUR)
    assert begin_run() == (first, False)

    move(sandbox, hands, 24 * HOUR)
    second, is_new = begin_run()

    assert (is_new, second.pk != first.pk) == (True, True)
    first.refresh_from_db()
    assert first.stopped == "It was not finished within its time."


def test_finishing_twice_changes_nothing(sandbox, hands, crowd):
    run = reconcile_all()
    ended = run.finished_at
    move(sandbox, hands, HOUR)

    assert finish(run).finished_at == ended


def test_a_customer_that_lost_its_organization_gets_it_back_with_its_subscription(
    sandbox, hands, webhook_endpoint, organization, plans
):
    subscribe(sandbox, organization, plan=plans.pro)
    customer = find_customer(organization)
    djstripe.Customer.objects.update(subscriber=None)

    run = reconcile_all()

    assert find_customer(organization) == customer
    assert f"Acme had lost its customer {customer.id}." in sentences(run, "repaired")
    assert Entitlement.objects.get().plan == plans.pro


def test_customers_that_cannot_be_given_back_are_reported(sandbox, hands, organization, owner):
    mine = ensure_customer(organization)
    second = get_client().v1.customers.create({"metadata": {"tollgate_organization": str(organization.pk)}})
    gone = "00000000-0000-4000-8000-00000000dead"
    stranger = get_client().v1.customers.create({"metadata": {"tollgate_organization": gone}})
    get_client().v1.customers.create({"email": "somebody@else.example"})

    run = reconcile_all()

    assert set(sentences(run, "problem")) == {
        f"Customer {second.id} at Stripe names Acme, which has customer {mine.id}.",
        f"Customer {stranger.id} at Stripe names organization {gone}, which is not here.",
    }
    assert find_customer(organization) == mine


def test_webhooks_that_never_arrived_are_counted_by_type(
    sandbox, hands, webhook_endpoint, organization, plans
):
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    deliver(sandbox)
    sandbox.faults.add("webhook_lost")
    get_client().v1.subscriptions.cancel(subscription.id)
    move(sandbox, hands, 2 * HOUR)

    (missed,) = sentences(reconcile_all(), "missed-webhooks")

    assert missed.startswith("1 webhooks never arrived since")
    assert "1 customer.subscription.deleted" in missed
    move(sandbox, hands, 2 * HOUR)
    assert sentences(reconcile_all(), "missed-webhooks") == []


def test_what_asks_for_a_decision_is_reported_and_left_alone(sandbox, hands, organization, plans):
    subscribe(sandbox, organization, plan=plans.pro)
    subscribe_once_more(organization, plan=plans.team)

    run = reconcile_all()

    (sentence,) = sentences(run, "two-subscriptions")
    assert "Acme has 2 live subscriptions" in sentence
    assert {each.status for each in djstripe.Subscription.objects.all()} == {"active"}


def test_prices_and_products_changed_at_stripe_are_taken_over(sandbox, hands, organization, plans):
    publish_all()
    price_id = plans.pro.prices.get(meter=None, interval="month").stripe_price_id
    get_client().v1.prices.update(price_id, {"nickname": "Old"})

    run, _ = begin_run()
    begin(run)

    assert djstripe.Price.objects.get(id=price_id).stripe_data["nickname"] == "Old"
    assert f"Price {price_id} was out of date here: nickname." in sentences(run, "repaired")


def test_the_command_reconciles_everybody(sandbox, hands, crowd):
    out = StringIO()

    call_command("reconcile", stdout=out)

    assert "5 organizations compared with Stripe, 0 things repaired" in out.getvalue()


def test_the_command_reconciles_one_by_its_ref(sandbox, hands, organization, crowd, plans):
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    get_client().v1.subscriptions.cancel(subscription.id)
    out = StringIO()

    call_command("reconcile", "--organization", organization.ref, "--json", stdout=out)

    told = json.loads(out.getvalue())
    assert (told["organizations"], told["failures"]) == (1, 0)
    assert f"Subscription {subscription.id} was active here and canceled at Stripe." in [
        finding["sentence"] for finding in told["findings"]
    ]
    assert Reconciliation.objects.count() == 1


def test_the_command_refuses_a_ref_that_is_nobody_s(db):
    with pytest.raises(CommandError, match="no organization Nobody0000"):
        call_command("reconcile", "--organization", "Nobody0000")


def test_the_command_fails_where_stripe_does(sandbox, hands, crowd):
    sandbox.faults.add("server_error")

    with pytest.raises(CommandError, match="stopped before its end"):
        call_command("reconcile", stdout=StringIO())
    with pytest.raises(CommandError, match="What was fetched before that is kept"):
        call_command("reconcile", "--organization", crowd[0].ref, stdout=StringIO())
