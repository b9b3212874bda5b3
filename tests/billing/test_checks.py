"""Each thing that can be wrong in billing: broken by hand, seen by name, mended where that is safe, and gone."""

from datetime import timedelta
from typing import Any

import pytest
from djstripe import models as djstripe

from accounts import clock
from accounts.models import Organization
from billing import doctor
from billing.doctor import CouldNotMend
from billing.models import Entitlement
from billing.stripe.client import get_client
from billing.stripe.customers import ensure_customer, find_customer
from billing.stripe.duplicates import cancel_never_paid
from tests.billing.cast import publish_all, subscribe
from tests.billing.doctoring import found, mend, only
from tests.billing.faults import every_fault
from tests.billing.troubles import paying, subscribe_once_more

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


@pytest.fixture
def aged(hands, organization) -> Organization:
    """Acme, old enough to have been given a customer."""
    hands.move(clock.now() + HOUR)
    return organization


def calls(sandbox: Any, path: str) -> int:
    return sum(line.path == path for line in sandbox.requests)


class TestSubscriptionStatus:
    def test_one_that_was_cancelled_unheard(self, subscribed, organization, plans):
        assert found("subscription-status") == []
        get_client().v1.subscriptions.cancel(subscribed.id)

        finding = only("subscription-status")

        assert (
            finding.sentence == f"Acme: subscription {subscribed.id} is active here and canceled at Stripe."
        )
        mend(finding)
        assert Entitlement.objects.get().plan == plans.free

    def test_one_that_differs_in_the_mirror_alone(self, subscribed):
        subscribed.stripe_data = {**subscribed.stripe_data, "status": "past_due"}
        subscribed.save()

        finding = only("subscription-status")

        assert finding.sentence.endswith("is past due here and active at Stripe.")
        mend(finding)

    def test_one_that_is_unknown_here(self, subscribed):
        djstripe.Subscription.objects.all().delete()

        finding = only("subscription-status")

        assert finding.sentence.endswith("is unknown here and active at Stripe.")
        mend(finding)

    def test_one_that_stripe_does_not_know(self, sandbox, subscribed):
        sandbox.store.remove("subscription", subscribed.id)

        finding = only("subscription-status")

        assert finding.sentence.endswith("is active here and unknown at Stripe.")
        mend(finding)

    def test_others_that_share_the_account_are_nobody_s_business(self, sandbox, subscribed, plans):
        stranger = get_client().v1.customers.create({})
        card = get_client().v1.payment_methods.attach("pm_card_visa", {"customer": stranger.id})
        price = subscribed.stripe_data["items"]["data"][0]["price"]["id"]
        get_client().v1.subscriptions.create(
            {"customer": stranger.id, "items": [{"price": price}], "default_payment_method": card.id}
        )

        assert found("subscription-status") == []

    def test_many_take_no_call_each(self, sandbox, subscribed, owner, plans):
        for number in range(4):
            organization = Organization.objects.open(name=f"No. {number}", owner=owner)
            ensure_customer(organization)
            subscribe_once_more(organization, plan=plans.team)
        sandbox.requests.clear()

        assert found("subscription-status") == []

        assert len(sandbox.requests) == calls(sandbox, "/v1/subscriptions") == 1


class TestTwoSubscriptions:
    def test_one_that_was_never_paid_is_ended(self, sandbox, subscribed, organization, plans):
        assert found("two-subscriptions") == []
        second = subscribe_once_more(organization, plan=plans.team, payment_behavior="default_incomplete")

        finding = only("two-subscriptions")

        assert finding.sentence.startswith("Acme has 2 live subscriptions: ")
        assert f"{second.id} to Team, incomplete" in finding.sentence
        mend(finding)
        assert sandbox.get("subscription", second.id)["status"] == "incomplete_expired"
        assert sandbox.get("invoice", second.latest_invoice)["status"] == "void"
        assert sandbox.get("subscription", subscribed.id)["status"] == "active"
        assert Entitlement.objects.get().plan == plans.pro

    def test_two_that_were_paid_need_a_person(self, sandbox, subscribed, organization, plans):
        subscribe_once_more(organization, plan=plans.team)

        finding = only("two-subscriptions")

        assert finding.fix is None
        assert "refund" in finding.advice
        doctor.mend([finding])
        assert [each["status"] for each in sandbox.every("subscription")] == ["active", "active"]

    def test_what_was_paid_a_moment_ago_stays(self, sandbox, subscribed, organization, plans):
        second = subscribe_once_more(organization, plan=plans.team, payment_behavior="default_incomplete")
        finding = only("two-subscriptions")
        get_client().v1.invoices.pay(
            second.latest_invoice, {"payment_method": paying(second.customer)["default_payment_method"]}
        )

        doctor.mend([finding])

        assert {each["status"] for each in sandbox.every("subscription")} == {"active"}

    def test_a_second_customer_s_is_seen_and_ended_too(self, sandbox, subscribed, organization, plans):
        other = djstripe.Customer.sync_from_stripe_data(get_client().v1.customers.create({}))
        other.subscriber = organization
        other.save()
        price = plans.team.prices.get(meter=None, interval="month").stripe_price_id
        params: Any = {
            "customer": other.id,
            "items": [{"price": price}],
            "payment_behavior": "default_incomplete",
        }
        second = get_client().v1.subscriptions.create(params)
        djstripe.Subscription.sync_from_stripe_data(second)

        mend(only("two-subscriptions"))

        assert sandbox.get("subscription", second.id)["status"] == "incomplete_expired"

    def test_any_fault_at_any_call_leaves_what_a_repetition_completes(
        self, sandbox, webhook_endpoint, organization, plans
    ):
        def prepare() -> None:
            subscribe(sandbox, organization, plan=plans.pro)
            subscribe_once_more(organization, plan=plans.team, payment_behavior="default_incomplete")

        every_fault(sandbox, prepare=prepare, flow=lambda: cancel_never_paid(organization))


def test_a_subscription_that_lacks_a_metered_item_is_named(subscribed, organization, plans):
    assert found("unbilled-meters") == []
    (metered,) = [i for i in subscribed.stripe_data["items"]["data"] if i["price"]["recurring"]["meter"]]
    get_client().v1.subscription_items.delete(metered["id"])
    djstripe.Subscription.sync_from_stripe_data(get_client().v1.subscriptions.retrieve(subscribed.id))

    finding = only("unbilled-meters")

    assert finding.sentence == f"Acme: subscription {subscribed.id} to Pro does not bill Requests."
    assert finding.fix is None


class TestCustomers:
    def test_an_organization_without_one_gets_one(self, sandbox, aged):
        finding = only("no-customer")

        assert finding.sentence == "Acme has no customer at Stripe."
        mend(finding)
        assert find_customer(aged) is not None

    def test_a_new_organization_is_not_hurried(self, sandbox, organization):
        assert found("no-customer") == []

    def test_one_whose_customer_was_deleted_is_named(self, sandbox, aged):
        ensure_customer(aged)
        assert found("no-customer") == []
        djstripe.Customer.objects.update(subscriber=None, date_purged=clock.now())

        assert only("no-customer").organization == aged

    def test_two_for_one_organization_need_a_person(self, sandbox, organization):
        first = ensure_customer(organization)
        assert found("two-customers") == []
        second = djstripe.Customer.sync_from_stripe_data(get_client().v1.customers.create({}))
        second.subscriber = organization
        second.save()

        finding = only("two-customers")

        assert f"Acme has several customers: {first.id}, {second.id}." in finding.sentence
        assert finding.fix is None

    def test_a_lost_one_is_given_back_with_all_it_has(self, sandbox, subscribed, organization, plans):
        assert found("orphaned-customers") == []
        customer = find_customer(organization)
        djstripe.Customer.objects.all().delete()

        finding = only("orphaned-customers")

        assert finding.sentence == f"Acme had lost its customer {customer.id}."
        mend(finding)
        assert (find_customer(organization).id, Entitlement.objects.get().plan) == (customer.id, plans.pro)

    def test_a_second_one_that_is_being_charged_is_called_so(self, sandbox, subscribed, organization):
        mark = {"tollgate_organization": str(organization.pk)}
        second = get_client().v1.customers.create({"metadata": mark})
        card = get_client().v1.payment_methods.attach("pm_card_visa", {"customer": second.id})
        price = subscribed.stripe_data["items"]["data"][0]["price"]["id"]
        charged = get_client().v1.subscriptions.create(
            {"customer": second.id, "items": [{"price": price}], "default_payment_method": card.id}
        )

        finding = only("orphaned-customers")

        assert f"names Acme, which has customer {subscribed.customer_id}" in finding.sentence
        assert f"It is being charged for {charged.id}" in finding.advice
        assert finding.fix is None

    def test_one_whose_metadata_was_changed_stays_whose_it_is(self, sandbox, organization, outsider):
        rival = outsider.memberships.get().organization
        customer = ensure_customer(organization)
        get_client().v1.customers.update(customer.id, {"metadata": {"tollgate_organization": str(rival.pk)}})

        finding = only("orphaned-customers")

        assert (
            finding.sentence
            == f"Customer {customer.id} is Acme's here, and its metadata at Stripe names Rival."
        )
        assert finding.fix is None

    def test_nonsense_in_metadata_breaks_nothing(self, sandbox, plans):
        get_client().v1.customers.create({"metadata": {"tollgate_organization": "nonsense"}})

        assert "names organization nonsense, which is not here" in only("orphaned-customers").sentence

    def test_one_taken_meanwhile_is_not_given_away(self, sandbox, organization):
        customer = ensure_customer(organization)
        djstripe.Customer.objects.all().delete()
        finding = only("orphaned-customers")
        get_client().v1.customers.update(customer.id, {"metadata": {"tollgate_organization": ""}})

        with pytest.raises(CouldNotMend, match="not free any more"):
            doctor.treat(finding)


class TestEntitlements:
    def test_one_that_was_changed_by_hand(self, organization):
        assert found("entitlement") == []
        Entitlement.objects.update(rate_per_minute=None)

        finding = only("entitlement")

        assert finding.sentence == "The entitlement of Acme is wrong: rate_per_minute is None, not 10."
        mend(finding)

    def test_one_whose_plan_was_changed_and_not_told(self, organization, plans):
        plans.free.quotas.update(included=7)

        mend(only("entitlement"))

        assert Entitlement.objects.get().find_quota("requests") == 7

    def test_one_whose_time_is_up(self, organization, outsider):
        entitlement = Entitlement.objects.get(organization=organization)
        with clock.standing_at(entitlement.valid_until + HOUR):
            assert found("overdue-entitlements") == found("entitlement") == []
        with clock.standing_at(entitlement.valid_until + 3 * HOUR):
            finding = only("overdue-entitlements")

            assert finding.sentence.startswith("2 entitlements ought to have been computed anew")
            mend(finding)


def test_a_price_archived_at_stripe_is_named(sandbox, plans):
    publish_all()
    assert found("archived-prices") == []
    price = plans.pro.prices.get(meter=None, interval="month")
    get_client().v1.prices.update(price.stripe_price_id, {"active": False})

    finding = only("archived-prices")

    assert (
        f"Pro's price {price.lookup_key} ({price.stripe_price_id}) is archived at Stripe" in finding.sentence
    )
    assert finding.fix is None


def test_a_finding_is_addressed_alike_at_each_look(sandbox, aged):
    assert only("no-customer").key == only("no-customer").key == f"no-customer:{aged.ref}"
