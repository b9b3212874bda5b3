"""Stripe failing at every single call of every way to subscribe: nothing twice, and a repetition completes it."""

import pytest

from billing.entitlements import refresh_entitlement
from billing.stripe.checkout import complete_checkout
from tests.billing.cast import open_checkout, pay, publish_all, session_id_of
from tests.billing.faults import every_fault

pytestmark = pytest.mark.django_db


def test_opening_checkout_survives_a_fault_at_any_call(sandbox, organization, plans):
    def flow() -> None:
        open_checkout(organization, plan=plans.pro)

    calls = every_fault(sandbox, prepare=publish_all, flow=flow)

    assert [str(call) for call in calls][-1] == "POST /v1/checkout/sessions"


def test_coming_back_from_checkout_survives_a_fault_at_any_call(sandbox, organization, plans):
    came_back: list[str] = []

    def prepare() -> None:
        publish_all()
        came_back.append(session_id_of(pay(sandbox, open_checkout(organization, plan=plans.pro))))

    def flow() -> bool:
        return complete_checkout(organization, session_id=came_back[-1])

    def look() -> object:
        entitlement = refresh_entitlement(organization)
        return entitlement.plan.slug, entitlement.status

    every_fault(sandbox, prepare=prepare, flow=flow, look=look)
