from types import SimpleNamespace

import pytest

from tests.apikeys.conftest import own_redis
from tests.billing.acme import Acme
from tests.usage.proving import event_at_stripe, invoice_april
from usage.tasks import report_usage

__all__ = ["own_redis"]


@pytest.fixture
def free(acme: Acme) -> Acme:
    """Acme on Free: 100 calls a month, then none."""
    return acme


@pytest.fixture
def subscribed(acme: Acme, plans: SimpleNamespace) -> Acme:
    """Acme on a Pro that bills each unit beyond 100 at 10 cents, a Team at 5, at half past ten on 11 April."""
    acme.bill_overage(plans.pro, included=100, cents="10")
    acme.bill_overage(plans.team, included=100, cents="5")
    acme.subscribe(plans.pro)
    acme.wait(days=10, hours=10, minutes=30)
    return acme


@pytest.fixture
def april(subscribed: Acme) -> Acme:
    """Acme's April, with 130 units used in two hours, invoiced and over."""
    subscribed.use(100)
    subscribed.wait(hours=3)
    subscribed.use(30)
    report_usage()
    invoice_april(subscribed)
    return subscribed


@pytest.fixture
def overbilled(subscribed: Acme) -> Acme:
    """Acme's April, with 130 units used and 250 on its invoice: somebody else reported 120 to the meter."""
    subscribed.use(130)
    report_usage()
    event_at_stripe(subscribed, units=120)
    invoice_april(subscribed)
    return subscribed
