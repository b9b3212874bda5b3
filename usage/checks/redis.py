"""Redis's settings, and the stream of usage events."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from billing.doctor import Finding, Severity, check
from usage import stream
from usage.metrics import server_info

FULL_PERCENT = 80
LAGS_AFTER = timedelta(minutes=5)


@check("redis-settings", "Redis's settings and memory: whether it may throw usage or counters away.")
def settings_that_lose() -> Iterator[Finding]:
    for node, info in server_info().items():
        for number, (sentence, advice) in enumerate(risks(info)):
            yield Finding(
                slug="redis-settings",
                severity=Severity.ERROR,
                subject=f"{node}/{number}",
                sentence=f"{sentence}{'' if node == 'redis' else f' ({node})'}",
                advice=advice,
            )


def risks(info: dict[str, Any]) -> Iterator[tuple[str, str]]:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield (
            f"With its memory full Redis throws keys away: maxmemory-policy is {policy}.",
            "Set maxmemory-policy to noeviction: Redis then refuses to take more, and events go to PostgreSQL.",
        )
    if not info["aof_enabled"]:
        yield (
            "Redis writes no append-only file: a restart loses the usage events that wait on its stream.",
            "Set appendonly to yes.",
        )
    if info["evicted_keys"]:
        yield (
            f"Redis has thrown {info['evicted_keys']:,} keys away since it was started.",
            "Give it more memory. Counters come back by themselves; usage that was on the stream may be lost.",
        )
    used, most = info["used_memory"], info["maxmemory"]
    if most and used * 100 > most * FULL_PERCENT:
        yield (
            f"Redis uses {used * 100 // most}% of the memory that it may.",
            "Give it more, or see why the stream is long: with none left it takes no usage events.",
        )


@check("stream-lag", "Usage events that have waited for minutes to get into the ledger.")
def waiting_events() -> Iterator[Finding]:
    state = stream.state()
    if state.oldest_age < LAGS_AFTER.total_seconds():
        return
    yield Finding(
        slug="stream-lag",
        severity=Severity.ERROR,
        subject=stream.STREAM,
        sentence=f"{state.entries:,} usage events wait on the stream, the oldest for {state.oldest_age // 60:.0f} "
        "minutes.",
        advice="See that a drain runs (manage.py drain_usage) and that PostgreSQL takes what it stores; more drains "
        "share the work.",
    )


@check("unreadable-entries", "Usage events that could not be stored and were set aside.")
def entries_set_aside() -> Iterator[Finding]:
    number = stream.state().unreadable
    if number:
        yield Finding(
            slug="unreadable-entries",
            severity=Severity.ERROR,
            subject=stream.REFUSED,
            sentence=f"{number:,} entries of the usage stream could not be stored, and are billed to nobody.",
            advice=f"They are in Redis's stream {stream.REFUSED}; the drain's log says why. Append those that are "
            f"events to {stream.STREAM}, and delete them there.",
        )
