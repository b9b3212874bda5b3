"""Units that nobody owes are no difference, and nobody has to settle them."""

import pytest

from tests.billing.acme import FAILS
from tests.usage.proving import MAY, refuse
from usage.models import Correction, Proof
from usage.proof import prove
from usage.repair import repair
from usage.tasks import report_usage

pytestmark = pytest.mark.django_db


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
