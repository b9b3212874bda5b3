"""Trials that began although their customer had had one: found by the claim, and ended without a charge."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connection

from accounts.models import User
from billing.delivery import send
from billing.entitlements import refresh_entitlement
from billing.errors import StripeUnavailable
from billing.models import Entitlement, Notice, Trial, TrialMark
from billing.stripe.checkout import complete_checkout, finish_checkout
from billing.stripe.client import get_client
from billing.stripe.customers import ensure_customer
from billing.stripe.subscriptions import sync_subscriptions
from billing.stripe.trials import check_trial
from billing.tasks import check_trials
from billing.trials import settle_trials
from config.celery import app
from tests.billing.buying import (
    SECOND_ATTEMPT,
    another_organization,
    mirrored,
    offer_trial,
    paid,
    statuses,
    take_trial,
)
from tests.billing.cast import deliver, open_checkout, pay, publish_all, session_id_of
from tests.exhaustive import CROWDS

pytestmark = [pytest.mark.django_db, pytest.mark.long]
OTHER_CARD = "5555555555554444"
DAY = 86_400


@pytest.fixture
def trials(sandbox, plans):
    """Pro, published, with a trial of fourteen days."""
    publish_all()
    offer_trial(plans.pro)
    return plans


@pytest.fixture
def at_once(django_capture_on_commit_callbacks):
    """Run what a commit queues, tasks too, when the block ends."""
    eager = app.conf.task_always_eager, app.conf.task_eager_propagates
    app.conf.task_always_eager = app.conf.task_eager_propagates = True
    yield lambda: django_capture_on_commit_callbacks(execute=True)
    app.conf.task_always_eager, app.conf.task_eager_propagates = eager


class TestSecondTrial:
    """Two pages are opened before either trial begins: only the claim can tell them apart."""

    @pytest.fixture
    def rival(self, trials):
        return another_organization(email="owner+second@acme.example")

    @pytest.fixture
    def stranger(self, trials):
        return another_organization(email="somebody@else.example", name="Stranger")

    def both_pay(self, sandbox, trials, first, second, *, cards=("4242424242424242", OTHER_CARD)):
        """Return what comes of the second one."""
        pages = [open_checkout(each, plan=trials.pro) for each in (first, second)]
        sessions = [
            session_id_of(pay(sandbox, page, card=card)) for page, card in zip(pages, cards, strict=True)
        ]
        assert statuses(sandbox) == ["trialing", "trialing"]
        assert complete_checkout(first, session_id=sessions[0])
        return finish_checkout(second, session_id=sessions[1])

    def test_of_one_mailbox_is_ended_without_a_charge(self, sandbox, organization, rival, trials):
        outcome = self.both_pay(sandbox, trials, organization, rival)

        assert not outcome.is_done
        assert outcome.refusal == (
            "A trial was already given to your e-mail address or one that reaches the same mailbox. "
            "So this one has ended, and nothing was charged. You can subscribe to Pro without a trial."
        )
        assert (mirrored(organization)["status"], mirrored(rival)["status"]) == ("trialing", "canceled")
        assert (paid(sandbox), refresh_entitlement(rival).plan) == (0, trials.free)
        sandbox.set_clock(advance=40 * DAY)
        assert {each["customer"] for each in sandbox.every("charge")} == {mirrored(organization)["customer"]}

    def test_is_told_of_by_e_mail_once_and_not_as_a_cancellation(
        self, sandbox, organization, rival, trials, mailoutbox
    ):
        self.both_pay(sandbox, trials, organization, rival)
        refresh_entitlement(rival)
        refresh_entitlement(rival)

        notice = Notice.objects.get(organization=rival, kind__in=["trial_refused", "cancelled"])
        assert (notice.kind, send(str(notice.pk))) == ("trial_refused", "sent")
        (mail,) = mailoutbox
        assert mail.subject == "Your trial of Pro has ended"
        assert "nothing was charged" in mail.body

    def test_on_one_card_is_ended_without_a_charge(self, sandbox, organization, stranger, trials):
        outcome = self.both_pay(sandbox, trials, organization, stranger, cards=["4242424242424242"] * 2)

        assert "the card you entered" in outcome.refusal
        assert (mirrored(organization)["status"], mirrored(stranger)["status"]) == ("trialing", "canceled")
        trial = Trial.objects.get(organization=stranger)
        assert (trial.outcome, trial.reason) == ("refused", "card")
        assert trial.settled_at is not None

    def test_does_not_cost_the_first_one_that_shares_its_card_as_well(
        self, sandbox, organization, rival, trials
    ):
        for page in [open_checkout(each, plan=trials.pro) for each in (organization, rival)]:
            pay(sandbox, page)
        for each in (organization, rival):
            sync_subscriptions(ensure_customer(each).id)
            settle_trials(each)

        # Whichever is looked at first.
        check_trial(Trial.objects.get(organization=rival))
        check_trial(Trial.objects.get(organization=organization))

        assert (mirrored(organization)["status"], mirrored(rival)["status"]) == ("trialing", "canceled")

    def test_strangers_with_cards_of_their_own_both_have_one(self, sandbox, organization, stranger, trials):
        assert self.both_pay(sandbox, trials, organization, stranger).is_done
        assert statuses(sandbox) == ["trialing", "trialing"]

    def test_its_customer_may_subscribe_without_a_trial(self, sandbox, organization, rival, trials):
        self.both_pay(sandbox, trials, organization, rival)

        page = pay(sandbox, open_checkout(rival, plan=trials.pro, attempt=SECOND_ATTEMPT), card=OTHER_CARD)

        assert complete_checkout(rival, session_id=session_id_of(page))
        assert mirrored(rival)["status"] == "active"
        assert paid(sandbox) == 2_900

    def test_says_at_stripe_why_it_ended(self, sandbox, organization, rival, trials):
        self.both_pay(sandbox, trials, organization, rival)

        comment = mirrored(rival)["cancellation_details"]["comment"]
        assert comment == (
            "Ended by Tollgate before any charge: somebody with this e-mail address had a trial before."
        )

    def test_is_told_of_on_the_way_back(self, sandbox, organization, rival, trials, client):
        pages = [open_checkout(each, plan=trials.pro) for each in (organization, rival)]
        first, second = (
            pay(sandbox, page, card=card)
            for page, card in zip(pages, ("4242424242424242", OTHER_CARD), strict=True)
        )
        complete_checkout(organization, session_id=session_id_of(first))
        client.force_login(
            User.objects.get(email="owner+second@acme.example"),
            backend="allauth.account.auth_backends.AuthenticationBackend",
        )

        answer = client.get(second.headers["Location"], follow=True)

        assert answer.redirect_chain == [("/dashboard/billing/", 302)]
        assert "nothing was charged" in answer.content.decode()
        assert "Thank you" not in answer.content.decode()

    def test_that_was_paid_before_it_could_be_ended_stays(self, sandbox, organization, rival, trials):
        take_trial(sandbox, organization, trials.pro)
        subscription = self.begun_behind_our_back(sandbox, rival, trials)
        (trial,) = settle_trials(rival)
        assert trial.outcome == "refused"

        sandbox.set_clock(advance=15 * DAY)
        assert check_trial(trial).outcome == "converted"

        assert get_client().v1.subscriptions.retrieve(subscription).status == "active"
        assert paid(sandbox) == 2 * 2_900

    def begun_behind_our_back(self, sandbox, organization, trials) -> str:
        """Begin a trial as Checkout does for a page that was opened in time; return the subscription's id."""
        customer = ensure_customer(organization).id
        api = get_client().v1
        card = api.payment_methods.attach("pm_card_mastercard", {"customer": customer})
        made = api.subscriptions.create(
            {
                "customer": customer,
                "items": [{"price": price.stripe_price_id} for price in trials.pro.offered_prices()],
                "default_payment_method": card.id,
                "trial_period_days": 14,
                "metadata": {"tollgate_trial": "14"},
            }
        )
        sync_subscriptions(customer)
        return made.id


class TestWebhooks:
    """The customer pays and never comes back."""

    @pytest.fixture
    def rival(self, webhook_endpoint, trials):
        return another_organization(email="owner+second@acme.example")

    def test_the_first_delivery_claims_and_the_second_trial_is_ended(self, sandbox, two_trials, at_once):
        with at_once():
            assert set(deliver(sandbox)) == {200}

        assert statuses(sandbox) == ["canceled", "trialing"]
        assert sorted(Trial.objects.values_list("outcome", flat=True)) == ["given", "refused"]
        with at_once():
            assert set(deliver(sandbox)) == {200}
        assert sorted(Entitlement.objects.values_list("plan__slug", flat=True)) == ["free", "pro"]

    @pytest.fixture
    def two_trials(self, sandbox, organization, rival, trials):
        """Both have paid, and nobody has heard of it."""
        for each in (organization, rival):
            pay(sandbox, open_checkout(each, plan=trials.pro))
        assert statuses(sandbox) == ["trialing", "trialing"]

    def test_an_event_that_is_rolled_back_claims_nothing_and_ends_nothing(
        self, sandbox, two_trials, at_once, monkeypatch
    ):
        with monkeypatch.context() as patch, at_once():
            patch.setattr("billing.webhooks.refresh_entitlement", lambda organization: 1 / 0)
            assert 500 in deliver(sandbox)

        assert (Trial.objects.count(), TrialMark.objects.count()) == (0, 0)
        assert statuses(sandbox) == ["trialing", "trialing"]

    def test_a_task_that_was_lost_is_made_up_for_by_the_sweep(self, sandbox, two_trials, at_once):
        assert set(deliver(sandbox)) == {200}
        assert statuses(sandbox) == ["trialing", "trialing"]

        with at_once():
            check_trials()

        assert statuses(sandbox) == ["canceled", "trialing"]
        assert not Trial.objects.unsettled().exists()

    def test_a_stripe_that_fails_leaves_the_trial_for_the_sweep(self, sandbox, two_trials, at_once):
        deliver(sandbox)
        refused = Trial.objects.get(outcome="refused")
        sandbox.faults.add("rate_limit", method="DELETE")

        with pytest.raises(StripeUnavailable):
            check_trial(refused)
        assert list(Trial.objects.unsettled().filter(outcome="refused")) == [refused]
        sandbox.faults.clear()
        with at_once():
            check_trials()

        assert statuses(sandbox) == ["canceled", "trialing"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.exhaustive
@pytest.mark.parametrize("many", CROWDS)
@pytest.mark.parametrize("address", ["ann+{}@acme.example", "ann@acme{}.example"])
def test_of_trials_claimed_at_once_by_one_mailbox_or_card_one_is_left(sandbox, plans, many, address):
    publish_all()
    offer_trial(plans.pro)
    everyone = [
        another_organization(email=address.format(number), name=f"Acme {number}") for number in range(many)
    ]
    pages = [open_checkout(each, plan=plans.pro) for each in everyone]
    sessions = [session_id_of(pay(sandbox, page)) for page in pages]
    together = Barrier(many)

    def come_back(number: int) -> bool:
        try:
            together.wait()
            return complete_checkout(everyone[number], session_id=sessions[number])
        finally:
            connection.close()

    with ThreadPoolExecutor(many) as browsers:
        kept = list(browsers.map(come_back, range(many)))

    assert sum(kept) == 1
    assert statuses(sandbox) == ["canceled"] * (many - 1) + ["trialing"]
    assert Trial.objects.exclude(outcome="refused").get().organization == everyone[kept.index(True)]
    assert paid(sandbox) == 0
