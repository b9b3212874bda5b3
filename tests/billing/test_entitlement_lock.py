"""The lock on the entitlement row, with two at it."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections, transaction

from billing.entitlements import lock_entitlement
from billing.models import Entitlement, StatusPolicy
from tests.billing.waiting import somebody_waits_for_a_lock, wait_until


@pytest.mark.django_db(transaction=True)
def test_who_has_waited_for_the_lock_finds_the_row_as_it_has_become(organization, plans):
    """Also what it refers to: another plan, where there was none a plan and a policy."""

    def read() -> Entitlement:
        try:
            with transaction.atomic():
                return lock_entitlement(organization)
        finally:
            connections.close_all()

    policy = StatusPolicy.objects.get(status="active")
    with ThreadPoolExecutor(1) as other:
        with transaction.atomic():
            lock_entitlement(organization)
            waiting = other.submit(read)
            wait_until(somebody_waits_for_a_lock)
            Entitlement.objects.update(plan=plans.pro, bought_plan=plans.pro, policy=policy)
        found = waiting.result(timeout=60)

    assert (found.plan, found.bought_plan, found.policy) == (plans.pro, plans.pro, policy)
