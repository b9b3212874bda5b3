from collections.abc import Callable

import pytest
import stripe

from tests.sandbox.worked.life import Life


@pytest.fixture
def begin(client: stripe.StripeClient) -> Callable[..., Life]:
    """Begin a customer's life: `begin("2026-01-31")`."""

    def start(date: str = "2026-04-01", **params: str | None) -> Life:
        return Life(client, start=date, **params)

    return start


@pytest.fixture
def life(begin: Callable[..., Life]) -> Life:
    """A customer whose life begins on 1 April 2026, midnight. April has 30 days."""
    return begin()
