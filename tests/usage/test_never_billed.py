"""Units that nobody owes are no difference, and nobody has to settle them."""

import pytest

from tests.billing.acme import FAILS
from tests.usage.proving import MAY, refuse
from usage.models import Correction, Proof
from usage.proof import prove
from usage.repair import repair
from usage.tasks import report_usage

pytestmark = pytest.mark.django_db

PAUSES = {"end_behavior": {"missing_payment_method": "pause"}}


@pytest.fixture
def unpaid(acme, plans):
    """Acme, whose May was not paid, with 20 units of it that were refused."""
    acme.bill_overage(plans.pro, included=100, cents="10")
    acme.subscribe(plans.pro)
    acme.wait_until(MAY)
    acme.pay_with(FAILS)
    acme.wait(hours=2)
    acme.see()
    acme.wait(days=2)
    acme.use(20)
    refuse()
    return acme


@pytest.fixture
def paused(acme, plans):
    """Acme, whose trial was paused a day ago for want of a card, and who has used 20 units since."""
    acme.bill_overage(plans.pro, included=1, cents="10")
    acme.subscribe(plans.pro, card=None, trial_period_days=5, trial_settings=PAUSES)
    acme.wait(days=6)
    acme.see()
    acme.use(20)
    report_usage()
    return acme


def pass_days(acme, days: int) -> None:
    for _ in range(days // 5):
        acme.wait(days=5)
        acme.see()
        report_usage()


def test_refused_units_of_a_subscription_that_ended_unpaid_are_settled_without_a_charge(unpaid):
    pass_days(unpaid, 40)
    assert unpaid.subscription().cancellation_details.reason == "payment_failed"

    (proof,) = (each for each in prove(unpaid.organization) if each.rejected)
    assert [(cause["code"], cause["units"]) for cause in proof.causes] == [("refused", 20)]
    outcome = repair(unpaid.organization)

    assert outcome.left == []
    assert list(Correction.objects.values_list("units", "amount", "state")) == [
        (20, 0, Correction.State.FREE)
    ]
    assert "20 units, of a subscription that ended unpaid, without a cost" in outcome.done[0]
    assert {each.status for each in prove(unpaid.organization)} <= {Proof.Status.PROVEN, Proof.Status.RUNNING}


@pytest.mark.parametrize("anchor", ["now", "unchanged"])
def test_what_was_used_while_a_trial_was_paused_is_free_once_it_is_resumed(paused, anchor):
    paused.wait(days=3)
    paused.pay_with("pm_card_visa")
    paused.api.subscriptions.resume(paused.subscription_id, {"billing_cycle_anchor": anchor})
    paused.see()
    paused.use(7)
    report_usage()
    pass_days(paused, 65)

    outcome = repair(paused.organization)

    assert outcome.left == []
    assert not Correction.objects.exists()
    assert paused.invoiced_units() == 7


def test_a_trial_that_went_on_with_a_card_owes_what_no_invoice_has(acme, plans):
    acme.bill_overage(plans.pro, included=1, cents="10")
    acme.subscribe(plans.pro, trial_period_days=5, trial_settings=PAUSES)
    acme.wait(days=6)
    acme.see()
    acme.use(20)
    report_usage()
    acme.wait(days=2)
    acme.api.subscriptions.cancel(acme.subscription_id)
    pass_days(acme, 5)

    repair(acme.organization)

    assert list(Correction.objects.values_list("units", "amount")) == [(20, 190)]
