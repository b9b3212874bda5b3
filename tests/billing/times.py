"""Time that passes at Stripe and here, with the webhooks that it brings."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from accounts.clock import standing_at
from sandbox.state import Sandbox
from tests.billing.cast import deliver

DAY = 86_400


@contextmanager
def days_later(sandbox: Sandbox, days: float) -> Iterator[datetime]:
    """Let days pass, deliver what Stripe has to tell of them, and make the process's clock stand there."""
    sandbox.set_clock(advance=round(days * DAY))
    now = datetime.fromtimestamp(sandbox.clock.now(), UTC)
    with standing_at(now):
        deliver(sandbox)
        yield now
