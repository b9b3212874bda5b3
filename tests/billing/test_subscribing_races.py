"""Two and ten requests at once, over Checkout, the API and the page being paid: never two live subscriptions."""

import random
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier

import pytest
import stripe
from django.db import connection

from billing.entitlements import refresh_entitlement
from billing.errors import AlreadySubscribed
from billing.stripe.catalog import publish_plan
from billing.stripe.checkout import complete_checkout
from billing.stripe.customers import ensure_customer
from billing.stripe.subscribing import NewSubscription, create_subscription
from billing.stripe.subscriptions import sync_subscriptions
from tests.billing.buying import confirm, offer_trial, open_pages, paid, statuses
from tests.billing.cast import ATTEMPT, open_checkout, pay, session_id_of
from tests.exhaustive import CROWDS

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long]
FEES = {"pro": 2_900, "team": 9_900}
LIVE = {"active", "trialing", "incomplete", "past_due"}


def at_once(acts: Iterable[Callable[[], object]]) -> list[object]:
    """Do all of it at the same time, each as a request of its own; return what came of each.

    What a customer is to be told is an outcome as well: that there is a subscription already, or, from
    Stripe's own page, that a payment cannot be made any more.
    """
    acts = list(acts)
    together = Barrier(len(acts))

    def request(act: Callable[[], object]) -> object:
        together.wait()
        try:
            return act()
        except (AlreadySubscribed, stripe.InvalidRequestError) as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(acts)) as threads:
        return [each.result() for each in [threads.submit(request, act) for act in acts]]


def publish_two(plans) -> None:
    for plan in (plans.pro, plans.team):
        publish_plan(plan)


def attempt(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def live(sandbox) -> list[str]:
    return [status for status in statuses(sandbox) if status in LIVE]


def begin_anew(organization, plan, many: int) -> list[Callable[[], object]]:
    """Return tabs of Checkout and requests of the API in turn."""
    return [
        partial(open_checkout, organization, plan=plan, attempt=attempt(number))
        if number % 2 == 0
        else partial(create_subscription, organization, plan=plan)
        for number in range(many)
    ]


def pay_whatever_can_be_paid(sandbox, outcomes: Iterable[object]) -> None:
    """Let every tab go on to pay, with what it was given."""
    for outcome in outcomes:
        if isinstance(outcome, NewSubscription) and outcome.client_secret:
            at_once([partial(confirm, outcome.client_secret)])
        elif isinstance(outcome, str):
            pay(sandbox, outcome)


def check_sold_once(sandbox, organization) -> None:
    """Exactly one subscription is live and it has been paid for once; the mirror comes to know the same."""
    sync_subscriptions(ensure_customer(organization).id)
    entitlement = refresh_entitlement(organization)
    assert live(sandbox) == ["active"]
    assert paid(sandbox) == FEES[entitlement.plan.slug]


@pytest.mark.exhaustive
@pytest.mark.parametrize("many", CROWDS)
def test_requests_of_the_api_at_once_share_one_subscription(sandbox, organization, plans, many):
    publish_two(plans)

    made = at_once([lambda: create_subscription(organization, plan=plans.pro)] * many)

    assert len(set(made)) == 1
    assert statuses(sandbox) == ["incomplete"]
    assert len(list(sandbox.every("customer"))) == 1


@pytest.mark.exhaustive
@pytest.mark.parametrize("many", CROWDS)
def test_requests_of_the_api_for_different_plans_leave_one_that_can_be_paid(
    sandbox, organization, plans, many
):
    publish_two(plans)
    wanted = [plans.pro, plans.team] * (many // 2)

    made = at_once(partial(create_subscription, organization, plan=plan) for plan in wanted)

    assert live(sandbox) == ["incomplete"]
    pay_whatever_can_be_paid(sandbox, made)
    check_sold_once(sandbox, organization)


@pytest.mark.exhaustive
@pytest.mark.parametrize("many", CROWDS)
def test_clicks_on_one_form_at_once_get_one_page(sandbox, organization, plans, many):
    publish_two(plans)

    pages = at_once([lambda: open_checkout(organization, plan=plans.pro, attempt=ATTEMPT)] * many)

    assert len(set(pages)) == 1
    assert len(open_pages(sandbox)) == 1


@pytest.mark.exhaustive
@pytest.mark.parametrize("many", CROWDS)
def test_clicks_on_one_page_s_button_at_once_pay_once(sandbox, organization, plans, many):
    publish_two(plans)
    page = open_checkout(organization, plan=plans.pro)

    at_once([lambda: pay(sandbox, page)] * many)

    check_sold_once(sandbox, organization)


@pytest.mark.exhaustive
@pytest.mark.parametrize("many", CROWDS)
def test_coming_back_many_times_at_once_changes_nothing_twice(sandbox, organization, plans, many):
    publish_two(plans)
    offer_trial(plans.pro)
    session = session_id_of(pay(sandbox, open_checkout(organization, plan=plans.pro)))

    came_back = at_once([lambda: complete_checkout(organization, session_id=session)] * many)

    assert came_back == [True] * many
    assert statuses(sandbox) == ["trialing"]
    assert organization.trials.get().outcome == "given"


@pytest.mark.exhaustive
@pytest.mark.parametrize("many", CROWDS)
def test_a_page_is_paid_while_checkout_and_the_api_begin_anew(sandbox, organization, plans, many):
    publish_two(plans)
    page = open_checkout(organization, plan=plans.pro)
    others = begin_anew(organization, plans.team, many - 1)

    outcomes = at_once([lambda: pay(sandbox, page), *others])

    assert len(live(sandbox)) <= 1
    pay_whatever_can_be_paid(sandbox, outcomes[1:])
    check_sold_once(sandbox, organization)


@pytest.mark.exhaustive
@pytest.mark.parametrize("many", CROWDS)
def test_a_client_secret_is_confirmed_while_checkout_and_the_api_begin_anew(
    sandbox, organization, plans, many
):
    publish_two(plans)
    new = create_subscription(organization, plan=plans.pro)
    others = begin_anew(organization, plans.team, many - 1)

    outcomes = at_once([lambda: confirm(new.client_secret), *others])

    assert len(live(sandbox)) <= 1
    pay_whatever_can_be_paid(sandbox, outcomes[1:])
    check_sold_once(sandbox, organization)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_ten_tabs_do_at_once_one_subscription_is_sold(sandbox, organization, plans, seed):
    """Each of three rounds mixes new pages, old pages being paid, new client secrets and old ones confirmed."""
    chance = random.Random(seed)  # noqa: S311  (repeatable chance is the point)
    publish_two(plans)
    outcomes: list[object] = [open_checkout(organization, plan=plans.pro)]
    for turn in range(3):
        pages = [each for each in outcomes if isinstance(each, str)]
        secrets = [each.client_secret for each in outcomes if isinstance(each, NewSubscription)]
        acts: list[Callable[[], object]] = []
        for number in range(10):
            plan = chance.choice([plans.pro, plans.team])
            kind = chance.choice(["page", "api", "pay", "confirm"])
            if kind == "pay" and pages and turn:
                acts.append(partial(pay, sandbox, chance.choice(pages)))
            elif kind == "confirm" and secrets and turn:
                acts.append(partial(confirm, chance.choice(secrets)))
            elif kind == "api":
                acts.append(partial(create_subscription, organization, plan=plan))
            else:
                tab = attempt(10 * turn + number)
                acts.append(partial(open_checkout, organization, plan=plan, attempt=tab))
        outcomes += at_once(acts)
        assert len(live(sandbox)) <= 1
        assert len(open_pages(sandbox)) + live(sandbox).count("incomplete") <= 1
    pay_whatever_can_be_paid(sandbox, outcomes)
    check_sold_once(sandbox, organization)
