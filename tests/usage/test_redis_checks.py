"""A Redis that may lose usage, and a stream that nobody drains: seen by the doctor."""

import pytest

from tests.apikeys.conftest import own_redis  # noqa: F401  (a fixture)
from tests.billing.doctoring import found, only
from tests.usage.cast import make_event
from usage import stream
from usage.redis_client import get_redis
from usage.stream import Drain

pytestmark = pytest.mark.django_db


@pytest.fixture
def redis(own_redis):  # noqa: F811
    """One of this test's own, set up as it should be."""
    return get_redis()


def test_a_redis_that_is_set_up_as_the_guide_says_is_no_finding(redis):
    assert found("redis-settings") == []


def test_a_policy_that_evicts_is_named(redis):
    redis.config_set("maxmemory-policy", "allkeys-lru")

    finding = only("redis-settings")

    assert finding.sentence == "With its memory full Redis throws keys away: maxmemory-policy is allkeys-lru."
    assert "noeviction" in finding.advice


def test_no_append_only_file_is_named(redis):
    redis.config_set("appendonly", "no")

    assert "append-only file" in only("redis-settings").sentence


def test_evicted_keys_and_a_memory_that_is_nearly_full_are_named(redis):
    redis.config_set("maxmemory-policy", "allkeys-lru")
    redis.config_set("maxmemory", redis.info("memory")["used_memory"] + 300_000)
    for number in range(200):
        redis.set(f"filler:{number}", "x" * 10_000)

    sentences = " ".join(finding.sentence for finding in found("redis-settings"))

    assert "keys away since it was started" in sentences
    assert "of the memory that it may" in sentences


def test_events_that_wait_for_minutes_are_named_with_their_number(redis, organization):
    event = make_event(organization_id=organization.pk, at=organization.created_at).encode()
    seconds, _ = redis.time()
    redis.xadd(stream.STREAM, {"e": event}, id=f"{(seconds - 600) * 1000}-0")
    redis.xadd(stream.STREAM, {"e": event})

    finding = only("stream-lag")

    assert finding.sentence == "2 usage events wait on the stream, the oldest for 10 minutes."
    Drain(consumer="late").run_once()
    assert found("stream-lag") == []


def test_entries_that_were_set_aside_are_named_with_their_number(redis):
    redis.xadd(stream.STREAM, {"e": "nonsense"})
    Drain(consumer="reader").run_once()

    assert only("unreadable-entries").sentence.startswith("1 entries of the usage stream could not be stored")
