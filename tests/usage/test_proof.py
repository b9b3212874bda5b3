"""A month is proven to the unit in all five places; what is broken by hand is caught and named."""

from datetime import UTC, datetime, timedelta

import pytest

from accounts import clock
from usage.models import MeterReport, Proof, UsageEvent, UsageRollup
from usage.proof import prove
from usage.tasks import report_usage

pytestmark = pytest.mark.django_db
MAY = datetime(2026, 5, 1, tzinfo=UTC)


def latest(acme):
    return prove(acme.organization)


@pytest.fixture
def metered(acme, plans):
    acme.bill_overage(plans.pro, included=100, cents="10")
    acme.bill_overage(plans.team, included=100, cents="5")
    acme.subscribe(plans.pro)
    acme.wait(days=10, hours=10, minutes=30)
    return acme


@pytest.fixture
def april(metered):
    """Acme's April, with 130 units used in two hours, invoiced and over."""
    metered.use(100)
    metered.wait(hours=3)
    metered.use(30)
    report_usage()
    metered.wait_until(MAY)
    metered.wait(hours=2)
    metered.see()
    return metered


def of_april(acme):
    return next(p for p in prove(acme.organization) if p.period_start < MAY)


def test_a_month_is_proven_to_the_unit_in_five_places(april):
    proof = of_april(april)

    assert proof.causes == []
    assert proof.status == Proof.Status.PROVEN
    assert (proof.ledger, proof.rollups, proof.reported, proof.stripe, proof.invoiced) == (130,) * 5
