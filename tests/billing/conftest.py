from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from accounts import clock
from accounts.clock import Hands
from tests.billing.acme import Acme
from tests.billing.cast import deliver, subscribe
from tests.billing.troubles import sandbox_time


@pytest.fixture
def hands(sandbox: Any) -> Iterator[Hands]:
    """Our clock, standing where the sandbox's does."""
    with clock.standing_at(sandbox_time(sandbox)) as hands:
        yield hands


@pytest.fixture
def durable_redis(redis: Any) -> Iterator[None]:
    """Redis as it should be set up. The tests' own keeps nothing on disk."""
    # A slow disk would hold Redis up at an fsync, for longer than its clients wait.
    redis.config_set("appendfsync", "no")
    redis.config_set("appendonly", "yes")
    yield
    redis.config_set("appendonly", "no")


@pytest.fixture
def subscribed(sandbox: Any, hands: Hands, webhook_endpoint: Any, organization: Any, plans: Any) -> Any:
    """Acme on Pro, with every webhook so far delivered."""
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    assert set(deliver(sandbox)) == {200}
    return subscription


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
