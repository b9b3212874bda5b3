"""Repairs at the same time, and workers beside them, bill nothing twice."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from billing.errors import PaymentDeclined
from billing.stripe.changing import change_plan
from tests.billing.acme import FAILS
from tests.usage.proving import MAY, of_april, use_late
from usage import corrections
from usage.corrections import CannotCorrect
from usage.models import Correction, Proof
from usage.repair import repair
from usage.tasks import report_usage, send_corrections

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long]


def at_once(*jobs):
    """Let jobs run in threads that begin together; return what each came to, an exception where it raised."""
    start = threading.Barrier(len(jobs))

    def run(job):
        try:
            start.wait()
            return job()
        except Exception as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(run, jobs))


def test_repairs_of_one_organization_at_once_charge_once(april):
    use_late(april, units=12)
    report_usage()

    answers = at_once(*[lambda: repair(april.organization)] * 4, send_corrections)

    assert not [each for each in answers if isinstance(each, Exception)]
    repair(april.organization)
    assert Correction.objects.get().units == 12
    assert len(april.api.invoice_items.list({"customer": april.customer_id}).data) == 1
    assert of_april(april).status == Proof.Status.PROVEN


def test_of_many_that_make_the_same_correction_one_does(april):
    use_late(april, units=12)
    report_usage()
    proposals = [corrections.propose(of_april(april)) for _ in range(4)]

    made = at_once(*[lambda each=each: corrections.make(each) for each in proposals])

    assert sum(isinstance(each, Correction) for each in made) == 1
    assert all(isinstance(each, Correction | CannotCorrect) for each in made)


def test_of_many_that_send_one_correction_one_does(april):
    use_late(april, units=12)
    report_usage()
    made = corrections.make(corrections.propose(of_april(april)))

    at_once(*[lambda: corrections.send(made.pk)] * 4)

    assert len(april.api.invoice_items.list({"customer": april.customer_id}).data) == 1
    made.refresh_from_db()
    assert made.state == Correction.State.SENT
    assert made.sent_at > MAY


def test_of_many_that_see_an_item_on_a_void_invoice_one_has_it_made_anew(april, plans):
    use_late(april, units=12)
    report_usage()
    repair(april.organization)
    april.pay_with(FAILS)
    with pytest.raises(PaymentDeclined):
        change_plan(april.organization, plan=plans.team)

    at_once(*[send_corrections] * 4, lambda: repair(april.organization))
    send_corrections()

    listed = april.api.invoice_items.list({"customer": april.customer_id}).data
    items = [each for each in listed if Correction.METADATA_KEY in each.metadata]
    assert [each.amount for each in items if not each.invoice] == [120]
    assert len(items) == 2
    assert Correction.objects.get().round == 1
