"""How webhooks reach Tollgate in a scenario: as they come, or late, twice, in any order or never."""

from random import Random

from sandbox.events.webhooks import Delivery
from sandbox.state import Sandbox
from tests.billing.cast import deliver


class Postman:
    """Brings every webhook at once and in order."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    def call(self) -> None:
        """Come by, now that something has happened."""
        self.hand_over(self.sandbox.webhooks.pending())

    def finish(self) -> None:
        """Bring what is left, and what that causes."""
        while waiting := self.sandbox.webhooks.pending():
            self.hand_over(waiting)

    def hand_over(self, deliveries: list[Delivery]) -> None:
        statuses = deliver(self.sandbox, deliveries)
        assert set(statuses) <= {200}, statuses


class BadPostman(Postman):
    """Shuffles what waits, brings some of it, some twice, leaves the rest for another time, and loses some."""

    def __init__(self, sandbox: Sandbox, *, seed: int, lost: float = 0.0) -> None:
        super().__init__(sandbox)
        self.random = Random(seed)  # noqa: S311  # A test's luck, not a secret.
        self.lost = lost
        self.decided: set[str] = set()
        self.gone: set[str] = set()
        self.brought: list[Delivery] = []

    def call(self) -> None:
        waiting = self.waiting()
        self.random.shuffle(waiting)
        some = waiting[: self.random.randint(0, len(waiting))]
        again = [each for each in self.brought if self.random.random() < 0.02]
        doubled = [each for each in some if self.random.random() < 0.3]
        batch = some + doubled + again
        self.random.shuffle(batch)
        self.hand_over(batch)
        self.brought += some

    def finish(self) -> None:
        while waiting := self.waiting():
            self.random.shuffle(waiting)
            self.hand_over(waiting)

    def waiting(self) -> list[Delivery]:
        """Return what may still be brought; each new one is lost for ever with the probability `lost`."""
        pending = self.sandbox.webhooks.pending()
        for each in pending:
            if each.id not in self.decided:
                self.decided.add(each.id)
                if self.random.random() < self.lost:
                    self.gone.add(each.id)
        return [each for each in pending if each.id not in self.gone]
