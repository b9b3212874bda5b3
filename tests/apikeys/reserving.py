"""A server that asks about keys with `reserve`, and what has come of it."""

from typing import Any

from apikeys.models import ServiceToken
from apikeys.reservation_settlement import Outcome, ReservationSettled, settle
from apikeys.reservations import Reservation, held_by
from tests.apikeys.cast import service_token
from tests.apikeys.test_gate import used
from usage.models import UsageEvent, UsageRollup
from usage.stream import Drain

VERIFY, SETTLE = "/api/v1/keys/verify", "/api/v1/keys/verify/settle"


class Server:
    def __init__(self, client: Any, organization: Any, secret: str) -> None:
        self.client = client
        self.organization = organization
        self.secret = secret
        self.token = service_token(ServiceToken.Scope.VERIFY)

    def post(self, address: str, authorization: str | None = "", **fields: Any) -> Any:
        if authorization == "":
            authorization = f"Bearer {self.token}"
        headers = {"Authorization": authorization} if authorization else {}
        return self.client.post(address, fields, content_type="application/json", headers=headers)

    def verify(self, **fields: Any) -> Any:
        return self.post(VERIFY, **({"key": self.secret} | fields))

    def reserve(self, cost: int = 40, **fields: Any) -> Any:
        content = self.verify(cost=cost, reserve=True, **fields).json()
        assert content["valid"], content
        return content

    def finish(self, reserved: Any, **fields: Any) -> Any:
        return self.post(SETTLE, **({"reservation": reserved["reservation"]} | fields))

    @property
    def used(self) -> int:
        """Units on the quota's counter."""
        return used(self.organization)

    @property
    def held(self) -> dict[str, str]:
        """Records of reservations in Redis, by id."""
        return dict(held_by(self.organization.ref))

    @property
    def billed(self) -> int:
        """Units in the ledger, with the stream empty."""
        drain = Drain(consumer="units")
        while drain.run_once():
            pass
        units = sum(UsageEvent.objects.values_list("units", flat=True))
        assert units == sum(UsageRollup.objects.values_list("units", flat=True))
        return units


def read(reserved: Any) -> Reservation:
    return Reservation.from_token(reserved["reservation"])


def overdue(reserved: Any) -> Any:
    """The moment from which a reservation is overdue."""
    return read(reserved).due


def outcome(units: int, status: int = 200) -> Outcome:
    return Outcome(units=units, status=status, endpoint="verify", method="", response_ms=0)


def try_settling(reservation: Reservation, wanted: Outcome) -> tuple[int, ReservationSettled | None]:
    """Settle, and return the units asked for and what was refused."""
    try:
        settle(reservation, wanted)
    except ReservationSettled as error:
        return wanted.units, error
    return wanted.units, None
