from types import SimpleNamespace

import pytest

from tests.billing.acme import Acme


@pytest.fixture
def on_pro(acme: Acme, plans: SimpleNamespace) -> Acme:
    """Acme on Pro, paid by the month, on the tenth day."""
    acme.subscribe(plans.pro)
    acme.wait(days=10)
    return acme


@pytest.fixture
def on_team(acme: Acme, plans: SimpleNamespace) -> Acme:
    """Acme on Team, paid by the month, on the tenth day."""
    acme.subscribe(plans.team)
    acme.wait(days=10)
    return acme
