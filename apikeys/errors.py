"""What can stand in the way of a customer who manages keys. Each `str()` is a sentence for that customer."""


class KeysError(Exception):
    """The base of this app's errors."""


class AlreadyIssued(KeysError):
    """The request to make this key has been carried out before."""


class InvalidRestriction(KeysError):
    """Something that a key was to be given is not possible. `field` names it, as the model does."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class KeyLimitReached(KeysError):
    """The plan allows no further active key. `limit` is how many it allows."""

    def __init__(self, message: str, *, limit: int) -> None:
        super().__init__(message)
        self.limit = limit


class KeyNotActive(KeysError):
    """The key is revoked or expired, which is final."""


class RotationRefused(KeysError):
    """The key is replaced already, or the one that it replaced still works."""


class ScopeExceeded(KeysError):
    """A key that is restricted to scopes asked for what lies outside of them."""


class ReservationOver(KeysError):
    """The reservation came to something else than it was to be settled with. `units` is what is billed."""

    def __init__(self, message: str, *, units: int) -> None:
        super().__init__(message)
        self.units = units


class ReservationSettled(ReservationOver):
    """Somebody has settled it before, with other values."""


class ReservationExpired(ReservationOver):
    """Nobody settled it before its deadline: it is billed in full."""
