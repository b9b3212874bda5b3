"""Several workers send at once: they share the work, and Stripe sees one call at a time of each customer and meter."""

import random
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection

from accounts import clock
from billing.errors import StripeUnavailable
from billing.models import Meter
from billing.stripe.catalog import publish_meter
from tests.usage.outbox import companies, counted, use
from usage import reports, streaming
from usage.models import MeterReport

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long]

State = MeterReport.State
HOURS = 6


class Watch:
    """Sees what is told to Stripe, and of which customer something else is being told at that moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy: set[str] = set()
        self.collisions: list[str] = []
        self.told: defaultdict[str, list] = defaultdict(list)
        self.workers: set[int] = set()
        self.meeting: threading.Barrier | None = None

    def around(self, customers_and_moments, call) -> None:
        mine = {customer for customer, _ in customers_and_moments}
        with self._lock:
            self.collisions += sorted(mine & self._busy)
            self._busy |= mine
            is_first = threading.get_ident() not in self.workers
            self.workers.add(threading.get_ident())
        try:
            if is_first and self.meeting:
                self.meeting.wait(timeout=60)
            call()
        finally:
            with self._lock:
                for customer, moment in customers_and_moments:
                    self.told[customer].append(moment)
                self._busy -= mine


@pytest.fixture
def watch(monkeypatch):
    watch = Watch()
    one, many = reports.send_meter_event, streaming.stream_meter_events

    def send_one(**event):
        watch.around([(event["customer_id"], event["timestamp"])], lambda: one(**event))

    def send_many(events):
        watch.around([(each.customer_id, each.timestamp) for each in events], lambda: many(events))

    monkeypatch.setattr(reports, "send_meter_event", send_one)
    monkeypatch.setattr(streaming, "stream_meter_events", send_many)
    return watch


def run_workers(count: int) -> int:
    """Have workers send what is due, at once; return how many reports that took."""
    start = threading.Barrier(count)

    def work() -> int:
        try:
            start.wait()
            return reports.send_due_reports()
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return sum(each.result() for each in [pool.submit(work) for _ in range(count)])


@pytest.fixture
def rivals(sandbox, plans):
    publish_meter(Meter.objects.get(slug="requests"))
    rivals = companies(12)
    for number, rival in enumerate(rivals, start=1):
        for hour in range(HOURS):
            use(rival, units=number, at=clock.now() - timedelta(hours=hour))
    reports.make_reports()
    return rivals


@pytest.mark.parametrize("by_stream", [False, True])
def test_two_workers_send_each_report_once_in_order_and_never_two_of_a_customer_at_once(
    rivals, watch, monkeypatch, by_stream
):
    if by_stream:
        monkeypatch.setattr(reports, "STREAM_ABOVE", 5)
        monkeypatch.setattr(reports, "STREAM_AT_LEAST", 2)
        monkeypatch.setattr(reports, "MOST_AT_ONCE", 5)
    watch.meeting = threading.Barrier(2)  # Each is in a call of its own while the other is: neither waits.
    sent = run_workers(2)

    assert sent == 12 * HOURS
    assert watch.collisions == []
    assert all(moments == sorted(moments) for moments in watch.told.values())
    assert [counted(rival) for rival in rivals] == [HOURS * number for number in range(1, 13)]
    assert not MeterReport.objects.exclude(state=State.SENT).exists()
    assert len(watch.workers) == 2


def test_with_answers_lost_at_random_four_workers_still_bill_each_unit_once(rivals, watch, monkeypatch):
    chance = random.Random(6)  # noqa: S311  (repeatable chance is the point)
    real = reports.send_meter_event
    lock = threading.Lock()

    def lose_some(**event):
        with lock:
            fate = chance.choice(["answered", "answered", "lost", "answer lost"])
        if fate != "lost":
            real(**event)
        if fate != "answered":
            raise StripeUnavailable(fate)

    monkeypatch.setattr(reports, "GIVE_UP_AFTER", 1000)
    monkeypatch.setattr(reports, "send_meter_event", lose_some)
    while MeterReport.objects.exclude(state=State.SENT).exists():
        run_workers(4)

    assert watch.collisions == []
    assert all(moments == sorted(moments) for moments in watch.told.values())
    assert [counted(rival) for rival in rivals] == [HOURS * number for number in range(1, 13)]
