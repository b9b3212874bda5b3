"""The same wish sent by two and by ten at once: it is done once, and all of them are told so."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from billing.errors import BillingError
from billing.standing import find_standing
from billing.stripe.changing import change_plan, undo_change
from billing.stripe.ending import cancel_at_period_end, cancel_now, preview_cancel_now, resume
from billing.stripe.previewing import preview_change
from tests.billing.acme import CHALLENGES, FAILS
from tests.exhaustive import CROWDS

pytestmark = [
    pytest.mark.long,
    pytest.mark.django_db(transaction=True),
    pytest.mark.exhaustive,
    pytest.mark.parametrize("callers", CROWDS),
]


def at_once(callers: int, *wishes: Callable[[], object]) -> list[object]:
    """Call each of the wishes, in turn, from as many threads; return what each gave, or why it was refused."""

    def call(number: int) -> object:
        try:
            return wishes[number % len(wishes)]()
        except BillingError as error:
            return str(error)
        finally:
            connection.close()

    with ThreadPoolExecutor(callers) as pool:
        return list(pool.map(call, range(callers)))


def states(outcomes):
    return {outcome.state for outcome in outcomes}


@pytest.mark.parametrize("shown", [True, False])
def test_an_upgrade_is_charged_once(on_pro, plans, callers, shown):
    token = preview_change(on_pro.organization, plan=plans.team).token if shown else None

    outcomes = at_once(callers, lambda: change_plan(on_pro.organization, plan=plans.team, token=token))

    assert states(outcomes) == {"done"}
    assert [each.amount_paid for each in on_pro.invoices()] == [2900, 4667]
    assert find_standing(on_pro.organization).plan == plans.team


def test_a_declined_upgrade_leaves_nothing_behind(on_pro, plans, callers):
    on_pro.pay_with(FAILS)

    answers = at_once(callers, lambda: change_plan(on_pro.organization, plan=plans.team))

    assert set(answers) == {"Your card was declined."}
    assert {each.status for each in on_pro.invoices()[1:]} == {"void"}
    assert find_standing(on_pro.organization).plan == plans.pro


def test_an_upgrade_that_waits_has_one_page_to_pay_on(on_pro, plans, callers):
    on_pro.pay_with(CHALLENGES)

    outcomes = at_once(callers, lambda: change_plan(on_pro.organization, plan=plans.team))

    assert states(outcomes) == {"requires_action"}
    assert len({outcome.payment_url for outcome in outcomes}) == 1
    assert len(on_pro.invoices()) == 2


def test_two_upgrades_at_once_end_in_one_of_them_and_what_is_paid_fits(on_pro, plans, callers):
    at_once(
        callers,
        lambda: change_plan(on_pro.organization, plan=plans.team),
        lambda: change_plan(on_pro.organization, plan=plans.enterprise),
    )

    paid = [each.amount_paid for each in on_pro.invoices()]
    # Enterprise at once, 49900 - 2900 for 20 of 30 days, or by way of Team: the same money.
    assert sum(paid) - 2900 in {33_267 - 1933, 33_267 - 1933 + 1}
    standing = find_standing(on_pro.organization)
    assert (standing.scheduled_change or standing).plan in {plans.team, plans.enterprise}


def test_a_downgrade_is_one_schedule(on_team, plans, callers):
    outcomes = at_once(callers, lambda: change_plan(on_team.organization, plan=plans.pro))

    assert states(outcomes) == {"scheduled"}
    assert len(on_team.schedules()) == 1
    assert find_standing(on_team.organization).scheduled_change.plan == plans.pro


def test_a_switch_in_a_trial_is_done(acme, plans, callers):
    acme.subscribe(plans.team, trial_period_days=14)

    outcomes = at_once(callers, lambda: change_plan(acme.organization, plan=plans.pro))

    assert states(outcomes) == {"done"}
    assert [each.total for each in acme.invoices()] == [0]


def test_what_is_scheduled_is_taken_back(on_team, plans, callers):
    change_plan(on_team.organization, plan=plans.pro)

    assert set(at_once(callers, lambda: undo_change(on_team.organization))) == {None}

    assert find_standing(on_team.organization).scheduled_change is None
    assert [each.status for each in on_team.schedules()] == ["released"]


def test_what_waits_for_payment_is_given_up(on_pro, plans, callers):
    on_pro.pay_with(CHALLENGES)
    change_plan(on_pro.organization, plan=plans.team)

    assert set(at_once(callers, lambda: undo_change(on_pro.organization))) == {None}

    assert [each.status for each in on_pro.invoices()] == ["paid", "void"]


def test_an_end_is_set_and_lifted(on_pro, callers):
    ends = set(at_once(callers, lambda: cancel_at_period_end(on_pro.organization)))
    assert len(ends) == 1
    assert find_standing(on_pro.organization).cancels_at in ends

    assert set(at_once(callers, lambda: resume(on_pro.organization))) == {None}
    assert find_standing(on_pro.organization).cancels_at is None


def test_ending_now_makes_one_last_invoice(on_pro, callers):
    on_pro.use(30)

    assert set(at_once(callers, lambda: cancel_now(on_pro.organization))) == {None}

    assert [each.total for each in on_pro.invoices()] == [2900, -1933]
    assert on_pro.invoiced_units() == 30


def test_looking_disturbs_nobody(on_pro, plans, callers):
    at_once(
        callers,
        lambda: preview_change(on_pro.organization, plan=plans.team),
        lambda: preview_cancel_now(on_pro.organization),
    )

    assert len(on_pro.invoices()) == 1


def test_an_upgrade_and_the_end_at_once_leave_no_subscription_and_charge_once(on_pro, plans, callers):
    at_once(
        callers,
        lambda: change_plan(on_pro.organization, plan=plans.team),
        lambda: cancel_now(on_pro.organization),
    )

    assert find_standing(on_pro.organization) is None
    # What an upgrade charged came back with the end, in the same second.
    assert sum(each.amount_paid for each in on_pro.invoices()) + on_pro.balance() in {
        2900 - 1933,
        2900 - 1934,
    }


def test_a_downgrade_and_its_undoing_end_in_one_of_both(on_team, plans, callers):
    at_once(
        callers,
        lambda: change_plan(on_team.organization, plan=plans.pro),
        lambda: undo_change(on_team.organization),
        lambda: cancel_at_period_end(on_team.organization),
        lambda: resume(on_team.organization),
    )

    open_schedules = [each for each in on_team.schedules() if each.status == "active"]
    standing = find_standing(on_team.organization)
    subscription = on_team.subscription()
    assert len(open_schedules) <= 1
    assert (standing.scheduled_change is not None) == bool(subscription.schedule)
    assert (standing.cancels_at is not None) == bool(subscription.cancel_at)
    assert not (standing.scheduled_change and standing.cancels_at)
