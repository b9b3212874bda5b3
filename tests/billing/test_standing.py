"""What pages and the API show of a subscription, from the mirror alone."""

from datetime import UTC, datetime

import pytest

from billing.models import PlanPrice
from billing.standing import PaymentMethod, find_standing
from billing.stripe import client as stripe_client
from billing.stripe.changing import change_plan
from tests.billing.acme import CHALLENGES, FAILS
from tests.billing.cast import subscribe
from tests.conftest import Unreachable

pytestmark = pytest.mark.django_db

APRIL, MAY = datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC)


def standing_of(acme):
    """Look with Stripe out of reach."""
    stripe_client.use_http_client(Unreachable())
    return find_standing(acme.organization)


def test_without_a_subscription_there_is_none(organization):
    assert find_standing(organization) is None


def test_a_running_one_says_what_is_paid_for_until_when_and_with_what(acme, plans):
    acme.subscribe(plans.pro)
    # The card is the customer's: the webhook of its attachment brings it.
    acme.pay_with("pm_card_mastercard")
    acme.mirror_customer()

    standing = standing_of(acme)

    assert (standing.subscription_id, standing.plan, standing.interval) == (
        acme.subscription_id,
        plans.pro,
        "month",
    )
    assert (standing.currency, standing.fee_amount, standing.status) == ("usd", 2900, "active")
    assert (standing.period_start, standing.period_end) == (APRIL, MAY)
    assert (standing.trial_ends_at, standing.cancels_at) == (None, None)
    assert (standing.scheduled_change, standing.pending_upgrade, standing.open_invoice) == (None, None, None)
    assert standing.payment_method.brand == "mastercard"


def test_the_card_given_at_checkout_is_known_without_any_webhook(sandbox, organization, plans):
    subscribe(sandbox, organization, plan=plans.pro)

    assert find_standing(organization).payment_method == PaymentMethod("visa", "4242", 12, 2034)


def test_a_yearly_fee_is_the_year_s(acme, plans):
    acme.subscribe(plans.pro, interval="year")

    standing = standing_of(acme)

    assert (standing.interval, standing.fee_amount) == ("year", 29_000)
    assert standing.period_end == datetime(2027, 4, 1, tzinfo=UTC)


def test_a_price_that_staff_have_since_replaced_is_still_the_one_that_is_paid(acme, plans):
    acme.subscribe(plans.pro)
    PlanPrice.objects.filter(plan=plans.pro, meter=None, interval="month").update(unit_amount=3900)
    acme.publish()

    standing = standing_of(acme)

    assert (standing.plan, standing.fee_amount) == (plans.pro, 2900)


def test_a_trial_says_when_it_ends(acme, plans):
    acme.subscribe(plans.pro, trial_period_days=14)

    assert standing_of(acme).trial_ends_at == datetime(2026, 4, 15, tzinfo=UTC)


def test_what_is_owed_has_an_amount_and_a_page(acme, plans):
    acme.subscribe(plans.pro)
    acme.pay_with(FAILS)
    acme.wait(days=30, hours=2)
    acme.see()

    standing = standing_of(acme)

    assert (standing.status, standing.open_invoice.amount, standing.open_invoice.currency) == (
        "past_due",
        2900,
        "usd",
    )
    assert standing.open_invoice.url.startswith("http")


def test_of_several_invoices_owed_the_oldest_is_named(acme, plans):
    acme.subscribe(plans.pro, card=None, collection_method="send_invoice", days_until_due=90)
    acme.wait(days=31)
    acme.see()

    first = acme.invoices()[0]
    assert standing_of(acme).open_invoice.id == first.id


def test_a_change_scheduled_to_an_old_price_of_a_plan_is_known_by_its_product(acme, plans):
    acme.subscribe(plans.team)
    change_plan(acme.organization, plan=plans.pro)
    PlanPrice.objects.filter(plan=plans.pro, meter=None, interval="month").update(unit_amount=3900)
    acme.publish()

    assert standing_of(acme).scheduled_change.plan == plans.pro


def test_an_upgrade_that_waits_says_until_when_and_where(acme, plans):
    acme.subscribe(plans.pro)
    acme.pay_with(CHALLENGES)
    url = change_plan(acme.organization, plan=plans.team).payment_url

    pending = standing_of(acme).pending_upgrade

    assert (pending.plan, pending.amount, pending.payment_url) == (plans.team, 7000, url)
    assert pending.expires_at == datetime(2026, 4, 1, 23, tzinfo=UTC)


def test_another_organization_s_subscription_is_not_shown(acme, plans, outsider):
    acme.subscribe(plans.pro)
    rival = outsider.memberships.get().organization

    assert find_standing(rival) is None
