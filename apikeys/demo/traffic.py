"""The calls that the demo's customers make: when, and what becomes of each."""

import heapq
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from django.http import HttpRequest, HttpResponse
from django.urls import resolve

from accounts.clock import Hands
from apikeys.calls import Call as MeteredCall
from apikeys.demo.acts import Life
from apikeys.gate import admit
from apikeys.middleware import meter

PATH = "/api/v1/echo"
WEEKEND = 0.2
# How busy each hour of a working day is, from 8 to 18 o'clock where the company is.
HOURS = {8: 2, 9: 5, 10: 8, 11: 9, 12: 4, 13: 5, 14: 8, 15: 8, 16: 6, 17: 4, 18: 2}
BURST_CHANCE = 0.04  # Of a script that calls as fast as it can, on a day.
# Of a hundred calls: served, called wrongly, failed by the server.
STATUSES = (200,) * 965 + (405,) * 30 + (500,) * 5


class Call(NamedTuple):
    at: datetime
    life: Life
    secret: str
    status: int
    seconds: float


def calls_between(lives: list[Life], start: datetime, end: datetime) -> Iterator[Call]:
    """Yield the calls of everybody with a key, from `start` up to and without `end`, in order of time."""
    return heapq.merge(
        *(calls_of(life, start, end) for life in lives if life.secrets), key=lambda call: call.at
    )


def calls_of(life: Life, start: datetime, end: datetime) -> Iterator[Call]:
    zone = ZoneInfo(life.company.time_zone)
    day, last = start.astimezone(zone).date(), end.astimezone(zone).date()
    while day <= last:
        for call in calls_on(life, day, zone):
            if start <= call.at < end:
                yield call
        day += timedelta(days=1)


def calls_on(life: Life, day: date, zone: ZoneInfo) -> list[Call]:
    """Return one company's calls of one day of its own: the same however often it is asked for."""
    chance = life.company.random(life.seed, day)
    is_weekend = day.weekday() >= 5  # Saturday.
    mean = life.company.calls * (WEEKEND if is_weekend else 1.0)
    count = round(mean * chance.triangular(0.5, 1.5, 1.0))
    # Jobs run at a few hours a day, not at all of them.
    hours = sorted(chance.sample(list(HOURS), k=1 if is_weekend else min(1 + count // 30, 4)))
    midnight = datetime.combine(day, time(), zone).astimezone(UTC)
    moments = [
        midnight + timedelta(hours=hour, microseconds=chance.randrange(3_600_000_000))
        for hour in chance.choices(hours, weights=[HOURS[hour] for hour in hours], k=count)
    ]
    if chance.random() < BURST_CHANCE:
        burst = midnight + timedelta(hours=hours[-1], minutes=chance.randrange(58))
        moments += [burst + timedelta(seconds=chance.uniform(0, 50)) for _ in range(chance.randint(12, 25))]
    return [
        Call(
            at=at,
            life=life,
            # Several keys: the first has most of the work.
            secret=life.secrets[min(int(chance.expovariate(1.5)), len(life.secrets) - 1)],
            status=chance.choice(STATUSES),
            seconds=chance.lognormvariate(-3.6, 0.5),
        )
        for at in sorted(moments)
    ]


def make(call: Call, hands: Hands) -> str:
    """Let one call through the gate and meter its answer, as the API does; return the gate's verdict."""
    hands.move(call.at)
    decision = admit(call.secret)
    if decision.admitted:
        answer = HttpResponse(status=call.status)
        meter(MeteredCall(decision), request_to(call.status), answer, seconds=call.seconds)
    return decision.reason


@cache
def request_to(status: int) -> HttpRequest:
    """Return a request as the middleware finds it once it was answered with `status`."""
    request = HttpRequest()
    request.method, request.path = "POST" if status == 405 else "GET", PATH
    request.resolver_match = resolve(PATH)
    return request


def make_all(lives: list[Life], start: datetime, end: datetime, hands: Hands) -> Counter[str]:
    """Make all calls of a span of time; return how many got which verdict."""
    return Counter(make(call, hands) for call in calls_between(lives, start, end))
