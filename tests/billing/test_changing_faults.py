"""429, 500 and time-outs at every single call of every change: repeated, it ends as if nothing had gone wrong."""

from collections.abc import Callable

import pytest

from billing.errors import PaymentDeclined
from billing.standing import find_standing
from billing.stripe.changing import change_plan, undo_change
from billing.stripe.ending import cancel_at_period_end, cancel_now, resume
from billing.stripe.previewing import preview_change
from tests.billing.acme import CHALLENGES, FAILS
from tests.billing.faults import every_fault

pytestmark = [pytest.mark.django_db, pytest.mark.exhaustive, pytest.mark.long]

# A failure after the change is what a repetition must see through. One before is the same as no call at all.
KINDS = ("rate_limit", "server_error_after", "timeout_after")


def withstands(acme, flow: Callable[[], object], prepare: Callable[[], object] = lambda: None) -> list[str]:
    """Play the flow with every fault at every call; return its calls."""

    def look() -> object:
        entitlement = acme.entitlement()
        standing = find_standing(acme.organization)
        return (
            (entitlement.plan.slug, entitlement.status),
            standing
            and (
                standing.plan.slug,
                standing.interval,
                standing.cancels_at,
                standing.scheduled_change and standing.scheduled_change.plan.slug,
                standing.pending_upgrade and standing.pending_upgrade.amount,
                standing.open_invoice and standing.open_invoice.amount,
            ),
        )

    return [
        str(call) for call in every_fault(acme.sandbox, flow=flow, prepare=prepare, look=look, kinds=KINDS)
    ]


def test_an_upgrade(on_pro, plans):
    on_pro.use(30)

    calls = withstands(on_pro, lambda: change_plan(on_pro.organization, plan=plans.team).state)

    assert calls == [
        "POST /v1/billing/meter_events",
        "GET /v1/subscriptions",
        "POST /v1/subscriptions/*",
        "GET /v1/invoices/*",
        "POST /v1/subscriptions/*",
    ]


def test_an_upgrade_as_it_was_shown_with_a_downgrade_in_its_way(on_team, plans):
    shown = {}

    def prepare():
        change_plan(on_team.organization, plan=plans.pro)
        shown["token"] = preview_change(on_team.organization, plan=plans.enterprise).token

    calls = withstands(
        on_team,
        lambda: change_plan(on_team.organization, plan=plans.enterprise, token=shown["token"]).state,
        prepare,
    )

    assert "POST /v1/subscription_schedules/*/release" in calls
    assert "POST /v1/invoices/create_preview" in calls


def test_an_upgrade_to_a_year(on_pro, plans):
    withstands(on_pro, lambda: change_plan(on_pro.organization, plan=plans.pro, interval="year").state)


def test_a_declined_upgrade(on_pro, plans):
    on_pro.pay_with(FAILS)

    def flow():
        with pytest.raises(PaymentDeclined) as declined:
            change_plan(on_pro.organization, plan=plans.team)
        return str(declined.value)

    assert "POST /v1/invoices/*/void" in withstands(on_pro, flow)


def test_an_upgrade_that_the_bank_wants_confirmed(on_pro, plans):
    on_pro.pay_with(CHALLENGES)

    withstands(on_pro, lambda: change_plan(on_pro.organization, plan=plans.team).state)


def test_an_upgrade_in_the_place_of_one_that_waits(on_pro, plans):
    on_pro.pay_with(CHALLENGES)

    def prepare():
        change_plan(on_pro.organization, plan=plans.team)

    withstands(on_pro, lambda: change_plan(on_pro.organization, plan=plans.enterprise).state, prepare)


def test_a_downgrade(on_team, plans):
    calls = withstands(on_team, lambda: change_plan(on_team.organization, plan=plans.pro).state)

    assert calls == [
        "GET /v1/subscriptions",
        "POST /v1/subscription_schedules",
        "POST /v1/subscription_schedules/*",
        "GET /v1/subscriptions/*",
    ]


def test_another_downgrade(acme, plans):
    acme.subscribe(plans.enterprise)

    def prepare():
        change_plan(acme.organization, plan=plans.team)

    withstands(acme, lambda: change_plan(acme.organization, plan=plans.pro).state, prepare)


def test_a_switch_in_a_trial(acme, plans):
    acme.subscribe(plans.team, trial_period_days=14)

    withstands(acme, lambda: change_plan(acme.organization, plan=plans.pro).state)


def test_taking_back_what_is_scheduled(on_team, plans):
    def prepare():
        change_plan(on_team.organization, plan=plans.pro)

    withstands(on_team, lambda: undo_change(on_team.organization), prepare)


def test_giving_up_what_waits_for_payment(on_pro, plans):
    on_pro.pay_with(CHALLENGES)

    def prepare():
        change_plan(on_pro.organization, plan=plans.team)

    withstands(on_pro, lambda: undo_change(on_pro.organization), prepare)


def test_an_end_in_the_place_of_a_downgrade(on_team, plans):
    def prepare():
        change_plan(on_team.organization, plan=plans.pro)

    withstands(on_team, lambda: cancel_at_period_end(on_team.organization), prepare)


def test_resuming(on_pro):
    withstands(on_pro, lambda: resume(on_pro.organization), lambda: cancel_at_period_end(on_pro.organization))


def test_ending_now(on_pro, plans):
    on_pro.use(30)
    on_pro.pay_with(CHALLENGES)

    def prepare():
        # An upgrade that waits has to be given up on the way.
        change_plan(on_pro.organization, plan=plans.team)

    calls = withstands(on_pro, lambda: cancel_now(on_pro.organization), prepare)

    assert "DELETE /v1/subscriptions/*" in calls


def test_ending_what_never_began(acme, plans):
    acme.subscribe(plans.pro, payment_behavior="default_incomplete")

    withstands(acme, lambda: cancel_now(acme.organization))
