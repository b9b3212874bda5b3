from datetime import timedelta

import pytest
from djstripe import models as djstripe

from accounts import clock
from accounts.models import Membership, Role
from billing.entitlements import refresh_entitlement
from billing.models import Trial, TrialMark
from billing.stripe.client import get_client
from billing.stripe.customers import ensure_customer
from billing.stripe.subscribing import create_subscription
from billing.stripe.subscriptions import sync_subscriptions
from billing.stripe.trials import check_trial
from billing.trials import email_alias, settle_trials, trial_days_for
from tests.billing.buying import (
    SECOND_ATTEMPT,
    another_organization,
    confirm,
    mirrored,
    offer_trial,
    paid,
    statuses,
    take_trial,
)
from tests.billing.cast import open_checkout, pay, publish_all, subscribe

pytestmark = pytest.mark.django_db
OTHER_CARD = "5555555555554444"
DAY = 86_400


@pytest.fixture
def trials(sandbox, plans):
    """Pro, published, with a trial of fourteen days."""
    publish_all()
    offer_trial(plans.pro)
    return plans


class TestAlias:
    @pytest.mark.parametrize(
        ("address", "alias"),
        [
            ("ann@acme.example", "ann@acme.example"),
            ("Ann@ACME.Example", "ann@acme.example"),
            (" ann@acme.example ", "ann@acme.example"),
            ("ann@acme.example.", "ann@acme.example"),
            ("ann+trial2@acme.example", "ann@acme.example"),
            ("ann+a+b@acme.example", "ann@acme.example"),
            ("a.n.n@acme.example", "a.n.n@acme.example"),
            ("a.n.n+x@gmail.com", "ann@gmail.com"),
            ("ann@googlemail.com", "ann@gmail.com"),
            ("A.nn@GoogleMail.com", "ann@gmail.com"),
            ("ann@bücher.example", "ann@xn--bcher-kva.example"),
            ("ann@xn--bcher-kva.example", "ann@xn--bcher-kva.example"),
            ("ann@BÜCHER.example", "ann@xn--bcher-kva.example"),
            ("ａｎｎ@acme.example", "ann@acme.example"),
            ("+tag@acme.example", "+tag@acme.example"),
            ("ann@a..example", "ann@a..example"),
            ("ann@" + "x" * 70 + ".example", "ann@" + "x" * 70 + ".example"),
        ],
    )
    def test_addresses_of_one_mailbox_have_one_alias(self, address, alias):
        assert email_alias(address) == alias
        assert email_alias(alias) == alias


class TestOffer:
    def test_a_new_customer_is_offered_the_plan_s_trial(self, organization, trials):
        assert trial_days_for(organization, trials.pro) == 14
        assert trial_days_for(organization, trials.team) is None

    def test_checkout_offers_it_and_takes_a_card(self, sandbox, organization, trials):
        outcome = take_trial(sandbox, organization, trials.pro)

        assert outcome.is_done
        assert (statuses(sandbox), paid(sandbox)) == (["trialing"], 0)
        assert refresh_entitlement(organization).plan == trials.pro
        data = mirrored(organization)
        assert data["trial_end"] - data["trial_start"] == 14 * DAY
        assert data["default_payment_method"]

    def test_the_card_pays_when_the_trial_ends(self, sandbox, organization, trials):
        take_trial(sandbox, organization, trials.pro)

        sandbox.set_clock(advance=15 * DAY)
        sync_subscriptions(mirrored(organization)["customer"])
        settle_trials(organization)

        assert (statuses(sandbox), paid(sandbox)) == (["active"], 2_900)
        assert Trial.objects.get().outcome == "converted"

    def test_a_trial_that_is_cancelled_has_lapsed(self, sandbox, organization, trials):
        take_trial(sandbox, organization, trials.pro)

        get_client().v1.subscriptions.cancel(mirrored(organization)["id"])
        sync_subscriptions(mirrored(organization)["customer"])
        settle_trials(organization)

        assert Trial.objects.get().outcome == "lapsed"
        assert paid(sandbox) == 0

    def test_there_is_no_second_trial_for_the_organization(self, sandbox, organization, trials):
        take_trial(sandbox, organization, trials.pro)
        get_client().v1.subscriptions.cancel(mirrored(organization)["id"])
        offer_trial(trials.team)

        assert trial_days_for(organization, trials.pro) is None
        assert trial_days_for(organization, trials.team) is None
        pay(sandbox, open_checkout(organization, plan=trials.team, attempt=SECOND_ATTEMPT))
        assert statuses(sandbox) == ["active", "canceled"]
        assert paid(sandbox) == 9_900

    def test_there_is_none_for_a_customer_who_has_paid_before(self, sandbox, organization, trials):
        subscribe(sandbox, organization, plan=trials.team)

        assert trial_days_for(organization, trials.pro) is None

    def test_there_is_one_for_a_customer_whose_first_payment_never_came(self, sandbox, organization, trials):
        create_subscription(organization, plan=trials.team)
        sandbox.set_clock(advance=DAY)
        sync_subscriptions(mirrored(organization)["customer"])

        assert mirrored(organization)["status"] == "incomplete_expired"
        assert trial_days_for(organization, trials.pro) == 14

    @pytest.mark.parametrize("email", ["owner+2@acme.example", "OWNER@Acme.Example."])
    def test_there_is_none_for_another_organization_of_the_same_mailbox(
        self, sandbox, organization, trials, email
    ):
        take_trial(sandbox, organization, trials.pro)
        rival = another_organization(email="somebody@else.example")
        rival.email = email

        assert trial_days_for(rival, trials.pro) is None

    def test_there_is_none_where_any_owner_has_had_one(self, sandbox, organization, owner, trials):
        take_trial(sandbox, organization, trials.pro)
        rival = another_organization(email="somebody@else.example")
        assert trial_days_for(rival, trials.pro) == 14

        Membership.objects.create(organization=rival, user=owner, role=Role.OWNER)
        assert trial_days_for(rival, trials.pro) is None

    def test_a_teammate_who_is_no_owner_costs_nobody_a_trial(self, sandbox, organization, developer, trials):
        take_trial(sandbox, organization, trials.pro)

        assert trial_days_for(another_organization(email="dev+own@acme.example"), trials.pro) == 14

    def test_there_is_none_for_a_card_that_is_known_to_have_had_one(self, sandbox, organization, trials):
        take_trial(sandbox, organization, trials.pro)
        rival = another_organization(email="somebody@else.example")
        card = get_client().v1.payment_methods.attach("pm_card_visa", {"customer": ensure_customer(rival).id})
        djstripe.PaymentMethod.sync_from_stripe_data(card)

        assert trial_days_for(rival, trials.pro) is None

    def test_leaving_and_coming_back_earns_no_other_trial(self, sandbox, organization, owner, trials):
        take_trial(sandbox, organization, trials.pro)
        djstripe.Customer.objects.update(subscriber=None)
        organization.delete()

        assert Trial.objects.count() == 0
        assert trial_days_for(another_organization(email="owner+back@acme.example"), trials.pro) is None
        assert "acme" not in str(list(TrialMark.objects.values()))


def test_a_trial_that_staff_give_at_stripe_is_never_refused(sandbox, organization, trials):
    take_trial(sandbox, organization, trials.pro)
    get_client().v1.subscriptions.cancel(mirrored(organization)["id"])
    customer = mirrored(organization)["customer"]
    price = trials.team.offered_prices()[0].stripe_price_id
    given = get_client().v1.subscriptions.create(
        {"customer": customer, "items": [{"price": price}], "trial_period_days": 30}
    )
    sync_subscriptions(customer)

    for trial in settle_trials(organization):
        check_trial(trial)

    trial = Trial.objects.get(subscription_id=given.id)
    assert (trial.outcome, trial.is_guarded) == ("given", False)
    assert get_client().v1.subscriptions.retrieve(given.id).status == "trialing"


class TestOverTheAPI:
    def test_a_card_that_had_a_trial_ends_this_one(self, sandbox, organization, trials):
        take_trial(sandbox, organization, trials.pro)
        stranger = another_organization(email="somebody@else.example")
        new = create_subscription(stranger, plan=trials.pro)
        assert new.intent == "setup"

        confirm(new.client_secret, card="pm_card_visa")
        (trial,) = settle_trials(stranger)
        checked = check_trial(trial)

        assert (checked.outcome, checked.reason) == ("refused", "card")
        assert mirrored(stranger)["status"] == "canceled"
        assert paid(sandbox) == 0

    def test_a_card_given_in_time_keeps_the_trial(self, sandbox, organization, trials):
        new = create_subscription(organization, plan=trials.pro)
        confirm(new.client_secret)

        with clock.standing_at(clock.now() + timedelta(hours=25)):
            checked = check_trial(Trial.objects.get())

        assert checked.outcome == "given"
        assert checked.card_seen_at is not None
        assert TrialMark.objects.filter(kind="card").count() == 1

    def test_a_trial_without_a_card_ends_after_a_day(self, sandbox, organization, trials):
        create_subscription(organization, plan=trials.pro)
        trial = Trial.objects.get()
        with clock.standing_at(trial.started_at + timedelta(hours=23)):
            assert check_trial(trial).outcome == "given"

        with clock.standing_at(trial.started_at + timedelta(hours=24)):
            checked = check_trial(trial)

        assert (checked.outcome, checked.reason) == ("refused", "no_card")
        assert checked.refusal.startswith("Your trial of Pro had no card for a day.")
        assert statuses(sandbox) == ["canceled"]


def test_checking_again_changes_nothing(sandbox, organization, trials):
    take_trial(sandbox, organization, trials.pro)
    before = list(Trial.objects.values()), list(TrialMark.objects.values())

    check_trial(Trial.objects.get())
    check_trial(Trial.objects.get())

    assert (list(Trial.objects.values()), list(TrialMark.objects.values())) == before
