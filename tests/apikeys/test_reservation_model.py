"""Reservations against a book as one would keep it by hand: any order of questions, settlements, sweeps and crashes."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, note
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from accounts import clock
from apikeys import cache, reservation_settlement
from apikeys.errors import ReservationOver
from apikeys.gate import admit
from apikeys.models import APIKey
from apikeys.reservation_settlement import Outcome, settle
from apikeys.reservations import TERM, Hold, Reservation, held_by
from apikeys.tasks import bill_unsettled
from billing.models import Entitlement
from tests.apikeys.reserving import Server
from usage.models import UsageEvent, UsageRollup
from usage.redis_client import get_redis

pytestmark = [pytest.mark.django_db, pytest.mark.long]
NOON = datetime.now(UTC).replace(day=15, hour=12, minute=0, second=0, microsecond=0)
QUOTA = 60


class Killed(BaseException):
    """Stands for the end of the process."""


@dataclass
class Page:
    """One reservation in the book. `units` is None as long as nothing is decided."""

    reservation: Reservation
    units: int | None = None
    status: int = 0
    is_expired: bool = False


STEPS = {"claim": "claim", "append": "stream.deliver", "forget": "forget"}
choices = st.one_of(
    st.tuples(st.just("reserve"), st.integers(1, 20)),
    st.tuples(st.just("settle"), st.integers(0, 5), st.integers(0, 20), st.sampled_from([0, 200, 500])),
    st.tuples(
        st.just("crash"), st.integers(0, 5), st.integers(0, 20), st.just(200), st.sampled_from(sorted(STEPS))
    ),
    st.tuples(st.just("wait"), st.sampled_from([5, 11, 300, 599, 600, 700])),
    st.tuples(st.just("sweep")),
    st.tuples(st.just("crash of the sweep"), st.sampled_from(sorted(STEPS))),
    st.tuples(st.just("counter lost")),
    st.tuples(st.just("drain")),
    st.tuples(st.just("call"), st.integers(1, 5)),
)


class Book:
    def __init__(self, server, secret):
        self.server, self.secret = server, secret
        self.pages: list[Page] = []
        self.now = NOON
        self.served = 0  # Charged by calls without a reservation, which this test never records.

    @property
    def counted(self):
        return self.served + sum(
            page.reservation.cost if page.units is None else page.units for page in self.pages
        )

    def reserve(self, hands, cost):
        decision = admit(self.secret, cost=cost, hold=Hold.of(endpoint="verify", method=""))
        assert decision.admitted == (self.counted + cost <= QUOTA)
        if decision.admitted:
            self.pages.append(Page(Reservation.read(decision.ref, decision.reservation)))
        assert decision.used == self.counted

    def page(self, number):
        return self.pages[number % len(self.pages)] if self.pages else None

    def settle(self, hands, number, units, status):
        page = self.page(number)
        if page is None:
            return
        units = 0 if status == 500 else min(units, page.reservation.cost)
        is_decided = page.units is not None
        if is_decided and (page.is_expired or (page.units, page.status) != (units, status)):
            with pytest.raises(ReservationOver) as refused:
                settle(page.reservation, outcome(units, status))
            assert refused.value.units == page.units
        else:
            settle(page.reservation, outcome(units, status))
            page.units, page.status = units, status

    def crash(self, hands, number, units, status, step):
        page = self.page(number)
        with pytest.MonkeyPatch.context() as patch:
            fail_at(patch, step)
            with suppress(Killed, ReservationOver):
                settle(page.reservation, outcome(min(units, page.reservation.cost), status)) if page else None
        if page and step != "claim" and page.units is None:
            page.units, page.status = min(units, page.reservation.cost), status

    def wait(self, hands, seconds):
        self.now += timedelta(seconds=seconds)
        hands.move(self.now)

    def sweep(self, hands):
        overdue = [page for page in self.pages if page.units is None and self.now >= page.reservation.due]
        assert bill_unsettled() == len(overdue)
        for page in overdue:
            page.units, page.is_expired = page.reservation.cost, True

    def crash_of_the_sweep(self, hands, step):
        """It dies at the first reservation that gets as far as `step`; which one that is, Redis knows."""
        with pytest.MonkeyPatch.context() as patch:
            fail_at(patch, step)
            with suppress(Killed):
                bill_unsettled()
        for page in self.pages:
            if page.units is None and self.now >= page.reservation.due:
                record = dict(held_by(page.reservation.ref)).get(page.reservation.id)
                if record is None or record.startswith("settled"):
                    page.units, page.is_expired = page.reservation.cost, True

    def counter_lost(self, hands):
        # What was served without a reservation is recorded nowhere here, so the new counter begins without it.
        get_redis().delete(cache.names(self.server.organization.ref).used)
        self.served = 0

    def drain(self, hands):
        self.server.billed  # noqa: B018

    def call(self, hands, cost):
        if admit(self.secret, cost=cost).admitted:
            self.served += cost


def outcome(units, status):
    return Outcome(units=units, status=status, endpoint="verify", method="", response_ms=0)


def fail_at(patch, step):
    def kill(*args, **kwargs):
        raise Killed

    target = reservation_settlement
    *path, name = STEPS[step].split(".")
    for each in path:
        target = getattr(target, each)
    patch.setattr(target, name, kill)


@hypothesis_settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(choices, max_size=25))
def test_whatever_happens_the_ledger_is_the_sum_of_the_outcomes_and_the_counter_that_and_what_is_open(
    server, steps
):
    start_anew(server)
    with clock.standing_at(NOON) as hands:
        book = Book(server, server.secret)
        for step, *arguments in steps:
            note(f"{book.now:%H:%M:%S} {step} {arguments}")
            getattr(book, step.replace(" ", "_"))(hands, *arguments)

        assert admit(server.secret, cost=0).admitted
        probe = admit(server.secret, cost=1)
        if probe.admitted:
            assert probe.used == book.counted + 1
        for seconds in (TERM.total_seconds(), 60):
            book.wait(hands, int(seconds))
            book.sweep(hands)

        assert server.held == {}
        assert server.billed == sum(page.units for page in book.pages)
        stored = {event.id.hex: event.units for event in UsageEvent.objects.all()}
        assert stored == {page.reservation.id: page.units for page in book.pages if page.units}


def start_anew(server: Server) -> None:
    get_redis().flushdb()
    UsageEvent.objects.all().delete()
    UsageRollup.objects.all().delete()
    APIKey.objects.update(rate_per_minute=None)
    entitlement = Entitlement.objects.get(organization=server.organization)
    entitlement.rate_per_minute = entitlement.burst = None
    entitlement.quotas = {"requests": {"included": QUOTA, "overage": "block"}}
    entitlement.period_start, entitlement.period_end = NOON - timedelta(days=7), NOON + timedelta(days=7)
    entitlement.valid_until = entitlement.period_end
    entitlement.save()
    cache.drop(server.organization.ref)
