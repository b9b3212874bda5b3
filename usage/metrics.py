"""What Prometheus is told of usage on its way: from the stream to the ledger, and on to Stripe.

Read when it is asked for, so every process tells the same. Each figure is bounded by what waits, never by what there
is: no sum over the ledger, and of reports only those that Stripe does not have.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from dateutil.relativedelta import relativedelta
from django.db import DatabaseError, connection
from django.db.models import Count, Min
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from accounts import clock
from billing.periods import calendar_month
from usage import stream
from usage.models import MeterReport, Proof, UsageRollup
from usage.partitions import partition_name
from usage.redis_client import get_redis, is_cluster

MOST_MONTHS = 12
Labelled = dict[str, float]


def gauge(name: str, says: str, value: float | None = None, **by: Labelled) -> Iterator[Metric]:
    """Yield a gauge with one value, or one for each value of a label; nothing where there is none."""
    if by:
        ((label, values),) = by.items()
        family = GaugeMetricFamily(f"tollgate_{name}", says, labels=[label])
        for key, each in values.items():
            family.add_metric([key], each)
        yield family
    elif value is not None:
        yield GaugeMetricFamily(f"tollgate_{name}", says, value=value)


class StreamCollector(Collector):
    """Redis: the stream of usage events, and what may lose it."""

    def collect(self) -> Iterable[Metric]:
        try:
            found = [*self.of_stream(), *self.of_server()]
        except RedisError:
            yield from gauge("redis_up", "Whether Redis answers.", 0)
            return
        yield from gauge("redis_up", "Whether Redis answers.", 1)
        yield from found

    def of_stream(self) -> Iterator[Metric]:
        state = stream.state()
        yield from gauge(
            "stream_entries", "Usage events on the stream: what is stored is taken off it.", state.entries
        )
        # Of what came or went while Redis was asked, and of what somebody trimmed, one figure knows and one does not.
        unread = max(state.entries - state.pending, 0)
        yield from gauge("stream_unread_entries", "Of them, those that no drain has read.", unread)
        yield from gauge("stream_pending_entries", "Of them, those in a drain's hands.", state.pending)
        yield from gauge(
            "stream_oldest_entry_age_seconds", "How long the oldest of them has waited.", state.oldest_age
        )
        yield from gauge("stream_consumers", "Drains that the stream knows.", state.consumers)
        yield from gauge(
            "stream_unreadable_entries",
            "Entries that could not be stored and were set aside.",
            state.unreadable,
        )

    def of_server(self) -> Iterator[Metric]:
        servers = server_info()
        memory = {name: info["used_memory"] for name, info in servers.items()}
        limits = {name: info["maxmemory"] for name, info in servers.items()}
        logs = {name: info["aof_enabled"] for name, info in servers.items()}
        yield from gauge("redis_memory_used_bytes", "Memory that Redis uses.", node=memory)
        yield from gauge("redis_memory_max_bytes", "Memory that Redis may use. 0: no limit.", node=limits)
        yield from gauge("redis_aof_enabled", "Whether Redis writes an append-only file.", node=logs)
        evicted = CounterMetricFamily(
            "tollgate_redis_evicted_keys", "Keys that Redis threw away for want of memory.", labels=["node"]
        )
        for name, info in servers.items():
            evicted.add_metric([name], info["evicted_keys"])
        yield evicted


def server_info() -> dict[str, dict[str, Any]]:
    """Return what each primary of Redis says of its memory and its files, by its address; one is called “redis”.

    Raises RedisError.
    """
    redis: Any = get_redis()
    sections = ("memory", "stats", "persistence")
    if not is_cluster():
        return {"redis": {name: value for each in sections for name, value in redis.info(each).items()}}
    return {
        node.name: {
            name: value for each in sections for name, value in redis.info(each, target_nodes=node).items()
        }
        for node in redis.get_primaries()
    }


class LedgerCollector(Collector):
    """PostgreSQL: what waits to be reported to Stripe, and whether the ledger has room."""

    def collect(self) -> Iterable[Metric]:
        try:
            found = [*self.of_reports(), *self.of_ledger()]
        except DatabaseError:
            yield from gauge("postgresql_up", "Whether PostgreSQL answers.", 0)
            return
        yield from gauge("postgresql_up", "Whether PostgreSQL answers.", 1)
        yield from found

    def of_reports(self) -> Iterator[Metric]:
        waiting = MeterReport.objects.exclude(state__in=["sent", "rejected"])
        by_state = {state: 0.0 for state in MeterReport.State.values if state != "sent"}
        by_state |= dict(waiting.order_by().values_list("state").annotate(Count("pk")))
        by_state["rejected"] = MeterReport.objects.filter(state="rejected").count()
        yield from gauge("meter_reports", "Reports that Stripe does not have.", state=by_state)
        oldest = [
            UsageRollup.objects.to_report().aggregate(oldest=Min("hour"))["oldest"],
            waiting.aggregate(oldest=Min("hour"))["oldest"],
        ]
        yield from gauge(
            "oldest_unreported_usage_age_seconds",
            "How long ago the hour of the oldest usage began that is still to reach Stripe. 0: none is. "
            "Rejected usage is not in it: tollgate_meter_reports counts that.",
            age_of(min((each for each in oldest if each), default=None)),
        )

    def of_ledger(self) -> Iterator[Metric]:
        yield from gauge(
            "ledger_partitions_ahead", "Months after this one that the ledger has room for.", months_ahead()
        )
        differing = Proof.objects.filter(status=Proof.Status.DIFFERS).count()
        yield from gauge("proofs_differing", "Proofs whose figures differ.", differing)


def age_of(moment: datetime | None) -> float:
    return (clock.now() - moment).total_seconds() if moment else 0


def months_ahead() -> int:
    months = [calendar_month(clock.now() + relativedelta(months=n)) for n in range(1, MOST_MONTHS + 1)]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT to_regclass(name) IS NOT NULL FROM unnest(%s::text[]) WITH ORDINALITY AS t (name, n) ORDER BY n",
            [[partition_name(month) for month in months]],
        )
        there = [row[0] for row in cursor.fetchall()]
    return there.index(False) if False in there else len(there)
