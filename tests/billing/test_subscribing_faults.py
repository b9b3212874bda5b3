"""Stripe failing at every single call of every way to subscribe: nothing twice, and a repetition completes it."""

import pytest

from billing.entitlements import refresh_entitlement
from billing.errors import ChangeRefused
from billing.models import Trial
from billing.stripe.checkout import complete_checkout
from billing.stripe.client import get_client
from billing.stripe.customers import ensure_customer
from billing.stripe.portal import open_portal
from billing.stripe.subscribing import create_subscription
from billing.stripe.subscriptions import sync_subscriptions
from billing.stripe.trials import check_trial
from billing.trials import settle_trials
from tests.billing.buying import (
    SECOND_ATTEMPT,
    another_organization,
    charge_tax_in_germany,
    confirm,
    mirrored,
    offer_trial,
    open_pages,
    paid,
    sell,
    settings,
    statuses,
)
from tests.billing.cast import open_checkout, pay, session_id_of
from tests.billing.faults import every_fault
from tests.billing.shelf import publish_plans

pytestmark = [pytest.mark.django_db, pytest.mark.exhaustive, pytest.mark.long]


@pytest.fixture
def publish(plans):
    """Publish two plans: what a test prepares before its faults begin."""

    def both() -> None:
        publish_plans([plans.pro, plans.team])

    return both


def granted(organization) -> tuple[str, str]:
    entitlement = refresh_entitlement(organization)
    return entitlement.plan.slug, entitlement.status


class TestOpeningCheckout:
    def test_for_a_new_customer(self, sandbox, organization, plans, publish):
        def go_on_and_pay() -> object:
            (page,) = open_pages(sandbox)
            pay(sandbox, page["url"])
            return statuses(sandbox), paid(sandbox)

        calls = every_fault(
            sandbox,
            prepare=publish,
            flow=lambda: bool(open_checkout(organization, plan=plans.pro)),
            look=go_on_and_pay,
        )

        assert [str(call) for call in calls] == [
            "GET /v1/customers",
            "POST /v1/customers",
            "GET /v1/checkout/sessions",
            "GET /v1/subscriptions",
            "POST /v1/checkout/sessions",
        ]

    def test_beside_another_page_and_an_unpaid_subscription(self, sandbox, organization, plans, publish):
        def prepare() -> None:
            publish()
            create_subscription(organization, plan=plans.pro)
            # A page that we know nothing of, as of a try whose answer never came.
            get_client().v1.checkout.sessions.create(
                {
                    "mode": "subscription",
                    "customer": ensure_customer(organization).id,
                    "line_items": [{"price": plans.pro.offered_prices()[0].stripe_price_id, "quantity": 1}],
                    "success_url": "http://127.0.0.1:8000/",
                }
            )

        calls = every_fault(
            sandbox, prepare=prepare, flow=lambda: bool(open_checkout(organization, plan=plans.team))
        )

        assert {
            "POST /v1/checkout/sessions/*/expire",
            "POST /v1/invoices/*/void",
            "DELETE /v1/subscriptions/*",
        } < {str(call) for call in calls}

    def test_where_the_same_try_wants_another_plan_now(self, sandbox, organization, plans, publish):
        def prepare() -> None:
            publish()
            open_checkout(organization, plan=plans.pro)

        every_fault(sandbox, prepare=prepare, flow=lambda: bool(open_checkout(organization, plan=plans.team)))

    def test_in_a_currency_that_is_refused(self, sandbox, organization, plans, publish):
        def prepare() -> None:
            publish()
            sell(plans.pro, currency="eur", unit_amount=2_700)
            create_subscription(organization, plan=plans.team)

        def flow() -> str:
            with pytest.raises(ChangeRefused) as refused:
                open_checkout(organization, plan=plans.pro, currency="eur")
            return refused.value.code

        every_fault(sandbox, prepare=prepare, flow=flow)


class TestComingBackFromCheckout:
    def test_having_paid(self, sandbox, organization, plans, publish):
        session: list[str] = []

        def prepare() -> None:
            publish()
            session.append(session_id_of(pay(sandbox, open_checkout(organization, plan=plans.pro))))

        every_fault(
            sandbox,
            prepare=prepare,
            flow=lambda: complete_checkout(organization, session_id=session[-1]),
            look=lambda: granted(organization),
        )

    def test_having_begun_a_second_trial(self, sandbox, organization, plans, publish):
        session: list[str] = []
        rival = another_organization(email="owner+2@acme.example")

        def prepare() -> None:
            publish()
            offer_trial(plans.pro)
            pages = [open_checkout(each, plan=plans.pro) for each in (organization, rival)]
            first, second = (session_id_of(pay(sandbox, page)) for page in pages)
            assert complete_checkout(organization, session_id=first)
            session.append(second)

        calls = every_fault(
            sandbox,
            prepare=prepare,
            flow=lambda: complete_checkout(rival, session_id=session[-1]),
            look=lambda: (granted(rival), list(rival.trials.values_list("outcome", "reason"))),
        )

        assert "DELETE /v1/subscriptions/*" in {str(call) for call in calls}


class TestCreatingASubscription:
    def survives(self, sandbox, organization, prepare, *, plan, pays: bool = False) -> None:
        secrets: list[str] = []

        def flow() -> tuple[str, str]:
            new = create_subscription(organization, plan=plan)
            assert new.client_secret
            secrets.append(new.client_secret)
            return new.status, new.intent

        def go_on_and_pay() -> object:
            if not pays:
                return granted(organization)
            confirm(secrets[-1])
            sync_subscriptions(mirrored(organization)["customer"])
            return granted(organization), statuses(sandbox), paid(sandbox)

        every_fault(sandbox, prepare=prepare, flow=flow, look=go_on_and_pay)

    def test_for_a_new_customer(self, sandbox, organization, plans, publish):
        self.survives(sandbox, organization, publish, plan=plans.pro, pays=True)

    def test_with_a_trial(self, sandbox, organization, plans, publish):
        offer_trial(plans.pro)
        self.survives(sandbox, organization, publish, plan=plans.pro, pays=True)

    def test_that_was_made_before(self, sandbox, organization, plans, publish):
        def prepare() -> None:
            publish()
            create_subscription(organization, plan=plans.pro)

        self.survives(sandbox, organization, prepare, plan=plans.pro)

    def test_in_place_of_another_plan_s(self, sandbox, organization, plans, publish):
        def prepare() -> None:
            publish()
            create_subscription(organization, plan=plans.pro)

        self.survives(sandbox, organization, prepare, plan=plans.team)

    def test_in_place_of_an_open_page(self, sandbox, organization, plans, publish):
        def prepare() -> None:
            publish()
            open_checkout(organization, plan=plans.pro, attempt=SECOND_ATTEMPT)

        self.survives(sandbox, organization, prepare, plan=plans.team)

    def test_without_the_address_that_taxes_need(self, sandbox, organization, plans, publish):
        def prepare() -> None:
            publish()
            charge_tax_in_germany()
            settings(automatic_tax=True)

        def flow() -> str:
            with pytest.raises(ChangeRefused) as refused:
                create_subscription(organization, plan=plans.pro)
            return refused.value.code

        every_fault(sandbox, prepare=prepare, flow=flow)


def test_ending_a_second_trial_in_the_background(sandbox, organization, plans, publish):
    rival = another_organization(email="owner+2@acme.example")

    def prepare() -> None:
        publish()
        offer_trial(plans.pro)
        for page in [open_checkout(each, plan=plans.pro) for each in (organization, rival)]:
            pay(sandbox, page)
        for each in (organization, rival):
            sync_subscriptions(ensure_customer(each).id)
            settle_trials(each)

    def flow() -> list[tuple[str, bool]]:
        for trial in Trial.objects.unsettled().order_by("pk"):
            check_trial(trial)
        return [(trial.outcome, bool(trial.settled_at)) for trial in Trial.objects.order_by("pk")]

    every_fault(sandbox, prepare=prepare, flow=flow, look=lambda: (granted(organization), granted(rival)))


def test_opening_the_portal(sandbox, organization):
    def prepare() -> None:
        made = get_client().v1.billing_portal.configurations.create(
            {"features": {"invoice_history": {"enabled": True}}}
        )
        settings(portal_configuration_id=made.id)

    every_fault(
        sandbox,
        prepare=prepare,
        flow=lambda: bool(open_portal(organization, return_url="http://127.0.0.1:8000/")),
    )
