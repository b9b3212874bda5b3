"""Where Stripe's clock is ahead of ours, as in a sandbox that was moved on, no figure is called wrong for it."""

from datetime import timedelta

import pytest

from accounts import clock
from billing.doctor import examine
from tests.billing.acme import Acme
from tests.usage.cast import make_event
from tests.usage.proving import APRIL, MAY, of_april
from usage.ledger import store
from usage.models import Correction, Proof
from usage.proof import prove
from usage.proof.telling import list_proofs
from usage.repair import repair
from usage.tasks import report_usage

pytestmark = pytest.mark.django_db
Status = Proof.Status


@pytest.fixture
def moved_on(subscribed: Acme) -> Acme:
    """Acme on 11 April, of whom Stripe is at 11 May already, and has April's invoice closed with 130 units."""
    subscribed.use(130)
    report_usage()
    for moment in (MAY, MAY + timedelta(hours=2), MAY + timedelta(days=10)):
        subscribed.sandbox.set_clock(frozen_at=moment)
    subscribed.see()
    return subscribed


def use_now(acme: Acme, units: int) -> None:
    event = make_event(organization_id=acme.organization.pk, at=clock.now(), units=units, period_start=APRIL)
    store([event])
    report_usage()


def test_units_used_after_the_clock_was_moved_on_are_no_difference(moved_on):
    use_now(moved_on, 11)

    proof = of_april(moved_on)

    assert (proof.status, proof.invoiced, proof.stripe) == (Status.RUNNING, 130, 141)
    assert [(c["code"], c["units"]) for c in proof.causes] == [("ahead", 11)]
    assert "Stripe's clock is ahead of ours" in proof.causes[0]["sentence"]
    assert examine(["usage-proof"]) == []


def test_nothing_is_corrected(moved_on):
    use_now(moved_on, 11)

    outcome = repair(moved_on.organization)

    assert (outcome.done, outcome.left) == ([], [])
    assert not Correction.objects.exists()


def test_the_customer_is_told_why(moved_on):
    use_now(moved_on, 11)
    prove(moved_on.organization)

    (told,) = list_proofs(moved_on.organization).proofs

    assert "clock is ahead of ours" in told.message
    assert "We know, and look into it" not in told.message


def test_by_clocks_that_agree_what_came_too_late_is_still_a_difference(moved_on):
    use_now(moved_on, 11)
    moved_on.wait_until(MAY + timedelta(days=11))

    assert of_april(moved_on).differs_by("invoice_short")
