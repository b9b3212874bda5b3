"""A round proves everybody, and one's trouble keeps no other from its turn."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from djstripe import models as djstripe

from tests.usage.outbox import use
from tests.usage.proving import APRIL, MAY, event_at_stripe, of_april, use_in
from usage.models import Proof
from usage.proof import prove_all
from usage.tasks import report_usage

pytestmark = pytest.mark.django_db
Status = Proof.Status


def test_a_round_proves_everybody_and_says_how_many_differ(april, outsider):
    event_at_stripe(april, units=3, timestamp=int(APRIL.timestamp()) + 60)

    done = prove_all()

    assert (done.proofs, done.differing, done.stopped) == (1, 1, "")


def test_whoever_was_proven_lately_waits_for_the_next_night(april):
    prove_all()

    assert prove_all().proofs == 0
    april.wait(hours=20)
    assert prove_all().proofs == 1


def test_stripe_not_answering_is_told_and_changes_nothing(april, sandbox):
    before = of_april(april)
    april.wait(days=1)
    sandbox.faults.add("server_error", path="/v1/billing/meters/*")

    done = prove_all()

    assert len(done.failures) == 1
    before.refresh_from_db()
    assert before.status == Status.PROVEN


def test_the_figures_of_one_are_never_those_of_another(april, outsider):
    rival = outsider.memberships.get().organization
    april.organization, mine = rival, april.organization
    use_in(april, MAY - timedelta(days=3), units=5)
    report_usage()
    april.organization = mine

    prove_all()

    assert [(p.organization_id, p.ledger) for p in Proof.objects.order_by("ledger")] == [
        (rival.pk, 5),
        (mine.pk, 130),
    ]


def test_an_invoice_that_stripe_has_no_more_keeps_its_own_organization_alone_from_its_turn(april, outsider):
    use(outsider.memberships.get().organization, units=5)
    invoice = djstripe.Invoice.objects.get(id=april.last_invoice().id)
    lines = {**invoice.stripe_data["lines"], "has_more": True}
    djstripe.Invoice.objects.filter(pk=invoice.pk).update(
        id="in_deleted", stripe_data={**invoice.stripe_data, "id": "in_deleted", "lines": lines}
    )

    done = prove_all()

    assert (done.proofs, len(done.failures)) == (1, 1)
    assert Proof.objects.get().ledger == 5


def test_the_ledger_is_asked_once_for_all(april, outsider):
    with CaptureQueriesContext(connection) as queries:
        prove_all()

    assert sum('FROM "usage_event"' in each["sql"] for each in queries) == 1


@pytest.mark.parametrize("is_over", [False, True])
def test_a_long_trial_that_is_used_late_for_the_first_time_is_proven(acme, plans, is_over):
    acme.subscribe(plans.pro, trial_period_days=200)
    acme.wait(days=199)
    acme.see()
    acme.use(70)
    report_usage()
    if is_over:
        acme.wait(days=2)
        acme.see()

    done = prove_all()

    assert (done.proofs, done.differing, done.failures) == (1, 0, [])
    proof = Proof.objects.get()
    assert (proof.period_start, proof.period_end) == (APRIL, APRIL + timedelta(days=200))
    assert (proof.ledger, proof.rollups, proof.reported) == (70, 70, 70)
