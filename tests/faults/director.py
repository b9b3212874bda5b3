"""Plays one schedule in a lane's world: disturbed load, then quiet, then the period's invoices."""

import heapq
import io
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from dateutil.relativedelta import relativedelta
from django.core.management import CommandError, call_command
from django.db import DatabaseError, InterfaceError, connection
from redis.exceptions import RedisError

from tests.faults import books, founding
from tests.faults.founding import Customer
from tests.faults.in_redis import not_read, on_the_way
from tests.faults.load import Call, Line, Load, bearer
from tests.faults.schedule import USAGE_PATHS, Act, Schedule
from tests.faults.world import World
from tests.holding import holds, let_time_pass

GAVE_UP = b"Redis is out of reach"
NEVER = datetime.max.replace(tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
MAIN = ("web", "drain", "worker", "beat")
LOST_WITHIN = 0.5  # Seconds before Redis's death of which what it held cannot be read.


@dataclass(frozen=True, slots=True)
class Loss:
    """What went with Redis's data: the events that it held, and when, by time.monotonic(), nobody could look."""

    marked: frozenset[str]
    echoes: Counter[UUID]
    began: float
    ended: float
    file: str = "lost"

    def may_hold(self, call: Call) -> bool:
        return call.endpoint in self.marked or self.is_within(call)

    def is_within(self, call: Call) -> bool:
        return call.ended >= self.began and call.began <= self.ended

    def may_revive(self, call: Call) -> bool:
        """Whether a reservation that was settled may be open again, by an older file, and be billed when it is due."""
        return self.file == "older" and call.kind == "reserve" and self.is_within(call)


@dataclass
class Played:
    """What came about."""

    schedule: Schedule
    customers: dict[str, Customer] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    # By Redis's deaths: units of each organization that were on their way then, which a quota may be passed by.
    on_the_way: Counter[UUID] = field(default_factory=Counter)
    # Whether a process gave Redis up that was only slow, as on a machine that has too much to do.
    gave_redis_up: bool = False
    renews_at: datetime = NEVER
    move: str = ""
    # Of the mover's subscription, in unix seconds.
    ended_at: int | None = None
    moved: str = "not asked"

    @property
    def accounts(self) -> list[Customer]:
        return list(self.customers.values())


class Director:
    def __init__(self, world: World, schedule: Schedule, *, token: str, takes_events: bool) -> None:
        self.world, self.schedule, self.token = world, schedule, token
        self.takes_events = takes_events
        self.played = Played(schedule)
        self.began = time.monotonic()
        self.movers: list[threading.Thread] = []
        self.logged = {path: path.stat().st_size for path in world.logs() if path.exists()}
        self.over = threading.Event()

    def note(self, text: str) -> None:
        self.played.log.append(f"{time.monotonic() - self.began:6.2f} {self.world.now():%d %H:%M:%S} {text}")

    # Before.

    def prepare(self) -> None:
        schedule, now = self.schedule, self.world.now()
        for name in MAIN:
            self.world.start(name)
        if schedule.drains > 1:
            self.world.start("drain-2")
        if schedule.ends_with_month:
            end = (now + relativedelta(months=1)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            self.world.move_to(end - schedule.minutes * MINUTE)
            self.played.renews_at = end
        else:
            end = now + (schedule.minutes + 1) * MINUTE
            self.played.renews_at = end.replace(second=0, microsecond=0)
        for name, plan in {"free": "free", "pro": "pro", "team": "team", "mover": schedule.mover}.items():
            customer = founding.take_in(
                f"{name}-{schedule.seed}-{int(time.time() * 1000) % 10**7}",
                plan=plan,
                renews_at=self.played.renews_at,
            )
            self.played.customers[name] = customer
        self.load = Load(
            seed=schedule.seed,
            port=self.world.web_port,
            token=self.token,
            customers=self.played.customers,
            takes_events=self.takes_events,
        )
        self.note(f"periods end at {self.played.renews_at:%d %H:%M:%S}")

    def look_at_logs(self) -> None:
        """Find out whether PostgreSQL decided about calls for a while, which quotas can be passed by a little."""
        for path in self.world.logs():
            if path.exists():
                with path.open("rb") as log:
                    log.seek(self.logged.get(path, 0))
                    self.played.gave_redis_up |= GAVE_UP in log.read()

    # Disturbed.

    def disturb(self) -> None:
        self.began = time.monotonic()
        self.load.start()
        order = itertools.count()
        agenda: list[tuple[float, int, str, Callable[[], Any]]] = []

        def later(at: float, what: str, work: Callable[[], Any]) -> None:
            heapq.heappush(agenda, (at, next(order), what, work))

        for act in self.schedule.acts:
            later(act.at, str(act), lambda act=act: self.do(act, later))
        later(self.schedule.seconds, "quiet", lambda: None)
        while agenda:
            at, _, what, work = heapq.heappop(agenda)
            time.sleep(max(0.0, self.began + at - time.monotonic()))
            self.note(what)
            work()
        self.load.stop()
        self.played.calls = self.load.calls

    def do(self, act: Act, later: Callable[[float, str, Callable[[], Any]], None]) -> None:
        details = act.details
        back_at = max(time.monotonic() - self.began, act.at) + details.get("away", 0.0)
        if act.what == "kill" and details["role"] == "web-worker":
            self.world.kill_web_worker(details["which"])
        elif act.what == "kill":
            role = details["role"]
            if role == "drain" and "drain-2" in self.world.processes and int(act.at * 100) % 2:
                role = "drain-2"
            self.world.kill(role)
            later(back_at, f"start {role}", lambda: self.world.start(role))
        elif act.what == "redis":
            size, since = self.world.redis.log.stat().st_size, time.monotonic()
            dies_at = act.at + details["behind"]

            def die() -> None:
                self.kill_redis(details["file"], size=size, since=since)
                back_at = max(time.monotonic() - self.began, dies_at) + details["away"]
                later(back_at, "start redis", self.world.redis.start)

            later(dies_at, "redis dies", die)
        elif act.what == "postgres":
            self.world.postgres.stop(immediately=details["immediately"])
            later(back_at, "start postgres", self.world.postgres.start)
        elif act.what == "stripe":
            self.world.stripe.fail(details["kind"], times=details["times"], path=details["path"])
        else:
            {
                "kill_drain_in_transaction": self.kill_drain_in_transaction,
                "kill_worker_in_call": self.kill_worker_in_call,
                "pass": lambda: self.world.move_to(self.world.now() + details["minutes"] * MINUTE),
                "to_hour_end": self.to_hour_end,
                "to_period_end": self.to_period_end,
                "burst": lambda: self.load.burst(details["seconds"]),
                "move_customer": lambda: self.move_customer(details["how"]),
            }[act.what]()

    def kill_redis(self, file: str, *, size: int, since: float) -> None:
        """Kill it; `size` was that of its file at `since`, to which an older one is cut."""
        looked = time.monotonic()
        marked, echoes, units = on_the_way(self.world.redis, self.played.accounts)
        for organization, count in units.items():
            self.played.on_the_way[organization] += count
        self.world.redis.kill()
        if file == "kept":
            return
        began = looked - LOST_WITHIN
        if file == "older":
            self.world.redis.cut(size)
            began = since - LOST_WITHIN
        else:
            self.world.redis.forget()
        self.played.losses.append(Loss(frozenset(marked), echoes, began, time.monotonic(), file))
        self.note(f"redis has {sum(units.values())} units that were not stored, and an {file} file")

    def kill_drain_in_transaction(self) -> None:
        """Let the drain wait in the midst of its statement, and kill it there."""
        try:
            with psycopg.connect(self.world.postgres.url, connect_timeout=1) as own:
                own.execute("SET lock_timeout = '300ms'")
                own.execute("LOCK TABLE usage_rollup IN SHARE MODE")
                waits = wait_until(lambda: self.somebody_waits(own), seconds=0.4)
                self.world.kill("drain")
                own.rollback()
            self.note("the drain was killed in its transaction" if waits else "the drain had nothing in hand")
        except psycopg.Error as error:
            self.note(f"the drain was not caught: {str(error).splitlines()[0]}")
            self.world.kill("drain")
        self.world.start("drain")

    def somebody_waits(self, own: psycopg.Connection[Any]) -> bool:
        own.execute("SELECT pg_stat_clear_snapshot()")  # Else a transaction sees what it saw first.
        found = own.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%usage_staging%'"
        ).fetchone()
        return bool(found and found[0])

    def kill_worker_in_call(self) -> None:
        """Let Stripe take its time with a report, and kill the worker before it has the answer."""
        self.world.stripe.fail("slow", times=1, path=USAGE_PATHS, seconds=0.3)
        asked = wait_until(self.is_slow, seconds=0.8)
        self.world.kill("worker")
        self.world.start("worker")
        self.note("the worker was killed in its call" if asked else "the worker was not calling")

    def is_slow(self) -> bool:
        faults = self.world.stripe.control("GET", "/sandbox/faults")
        return not any(fault["kind"] == "slow" for fault in faults)

    def to_hour_end(self) -> None:
        now = self.world.now()
        end = now.replace(minute=0, second=0, microsecond=0) + HOUR
        limit = self.limit()
        if end < limit:
            self.world.move_to(end - timedelta(seconds=0.6))

    def to_period_end(self) -> None:
        if self.world.now() < self.played.renews_at - timedelta(seconds=2):
            self.world.move_to(self.played.renews_at - timedelta(seconds=1.6))

    def limit(self) -> datetime:
        """Until when the clock may be moved before the invoices are final: an hour after the period's end."""
        return self.played.renews_at + timedelta(minutes=20)

    def move_customer(self, how: str) -> None:
        thread = threading.Thread(target=self.keep_moving, args=(how,), daemon=True)
        self.movers.append(thread)
        thread.start()

    def keep_moving(self, how: str) -> None:
        """Ask for a change of subscription until it is answered, as a customer's program would."""
        played, customer = self.played, self.played.customers["mover"]
        line, headers = Line(self.world.web_port), bearer(customer.secret)
        headers["Idempotency-Key"] = f"move-{self.schedule.seed}"
        played.move = how
        while not self.over.is_set():
            played.moved = "asked"
            try:
                if how == "upgrade":
                    plan = "team" if customer.plan == "pro" else "enterprise"
                    answer = line.ask("PATCH", "/api/v1/subscription", headers, {"plan": plan})
                else:
                    when = "now" if how == "cancel_now" else "period_end"
                    answer = line.ask("DELETE", f"/api/v1/subscription?when={when}", headers)
            except ConnectionRefusedError:
                answer = None
            if answer is not None:
                played.moved = f"{answer[0]} {answer[1].get('code', '')}".strip()
                self.note(f"{how}: {played.moved} {answer[1].get('detail', '')}")
                if answer[0] < 500 and answer[0] not in {409, 429}:
                    break
            time.sleep(0.2)
        line.close()

    # Quiet.

    def restore(self) -> None:
        """Let everything run again, without faults, and say what is still to be said."""
        self.world.stripe.heal()
        for name in list(self.world.processes):
            self.world.start(name)
        settled = wait_until(lambda: not self.load.finish(), seconds=12, pause=0.1)
        self.note(f"quiet: {'all' if settled else 'NOT all'} calls are answered that are repeated")

    def take_over(self) -> None:
        """Let what dead drains had in hand be old enough to be taken over, and a drain look for it now.

        Half a minute by Redis's clock, which nobody can move.
        """
        client = self.world.redis.client()
        with suppress(RedisError):
            let_time_pass(client, ms=120_000)
        client.close()
        self.world.kill("drain")
        self.world.start("drain")

    def look(self) -> dict[str, int]:
        """Return what is not at rest yet, by what it is; empty where all is."""
        found: Counter[str] = Counter()
        client = self.world.redis.client()
        ids = [customer.id for customer in self.played.accounts]
        found["changes of subscription under way"] = sum(thread.is_alive() for thread in self.movers)
        try:
            found["entries that nobody has read"] = len(not_read(client))
            with suppress(RedisError):
                found["entries in a drain's hand"] = len(holds(client))
            for customer in self.played.accounts:
                found["reservations"] += client.hlen(f"tollgate:{{{customer.ref}}}:reservations")
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT count(*) FROM usage_rollup WHERE organization_id = ANY(%s) AND units > reported_units",
                    [ids],
                )
                found["rollups not reported"] = cursor.fetchone()[0]
                cursor.execute(
                    "SELECT state, count(*) FROM usage_meterreport"
                    " WHERE organization_id = ANY(%s) AND state <> 'sent' GROUP BY state",
                    [ids],
                )
                for state, count in cursor.fetchall():
                    found[f"reports {state}"] = count
        except RedisError as error:
            found[f"Redis: {error}"] = 1
        except (DatabaseError, InterfaceError) as error:
            connection.close()
            found[f"PostgreSQL: {str(error).splitlines()[0]}"] = 1
        finally:
            client.close()
        return {what: count for what, count in found.items() if count}

    def settle(self, *, until: datetime, least: timedelta, seconds: float) -> dict[str, int]:
        """Let time pass until all is at rest, `least` of it, and at most to `until`; return what is not at rest."""
        deadline, earliest = time.monotonic() + seconds, self.world.now() + least
        step, looks, taken_over = MINUTE, 0, 0.0
        while True:
            left = self.look()
            at_rest = not left and self.world.now() >= earliest
            looks = looks + 1 if at_rest else 0
            if looks >= 2:
                return {}
            if time.monotonic() > deadline:
                return left
            if left.get("entries in a drain's hand") and time.monotonic() - taken_over > 1:
                self.take_over()
                taken_over = time.monotonic()
            following = self.world.now() + (3 * MINUTE if self.world.now() < earliest else step)
            if not at_rest and following < until:
                self.world.move_to(following)
            time.sleep(0.12)

    def close_periods(self) -> None:
        """Let the hour pass after which Stripe makes the renewals' invoices final."""
        self.world.move_to(self.played.renews_at + HOUR + 2 * MINUTE)

    def correct(self, customers: list[Customer]) -> None:
        """Have what came too late for its invoice put on the next one, as staff would, where this release can."""
        if not customers or not books.can_correct():
            return
        said = io.StringIO()
        refs = [customer.ref for customer in customers]
        with suppress(CommandError):
            call_command("reconcile", organization=refs, repair=True, stdout=said, stderr=said)
        self.note(f"reconcile --repair: {said.getvalue()}")

    def leave(self) -> None:
        """End what would be renewed in the midst of a later schedule."""
        self.over.set()
        stripe = self.world.stripe
        subscriptions = [each.subscription_id for each in self.played.accounts if each.subscription_id]
        # Nobody looks any more, and taking the news in would cost the next schedule its time.
        stripe.control("POST", "/sandbox/faults", {"kind": "webhook_lost"})
        for subscription_id in subscriptions:
            with suppress(AssertionError):
                stripe.end_subscription(subscription_id)
        stripe.heal()
        self.world.retire("drain-2")


def wait_until(look: Callable[[], Any], *, seconds: float, pause: float = 0.01) -> bool:
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True
