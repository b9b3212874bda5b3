from math import log

import pytest
from django.db import connection

from usage import latency
from usage.batches import BUCKETS, histogram


@pytest.mark.django_db
def test_python_and_postgresql_count_every_response_time_in_the_same_bucket():
    edges = [round(latency.GAMMA**n) for n in range(540)]
    times = sorted(
        {*range(-1, 100_000), *(edge + off for edge in edges for off in (-1, 0, 1) if edge + off < 2**31)}
    )
    with connection.cursor() as cursor:
        by_bucket = f"SELECT response_ms, {latency.SQL_BUCKET} FROM unnest(%s::int[]) AS response_ms"  # noqa: S608
        cursor.execute(by_bucket, [times])
        by_sql = cursor.fetchall()

    assert sorted(by_sql) == [(ms, latency.bucket(ms)) for ms in times] == [(ms, BUCKETS[ms]) for ms in times]


def test_no_response_time_is_so_near_a_bucket_s_edge_that_another_machine_s_logarithm_could_differ():
    edges = (round(latency.GAMMA**n) + off for n in range(2, 541) for off in (-1, 0, 1))
    places = [log(ms) / latency.LOG_GAMMA for ms in edges if 1 < ms < 2**31]

    assert min(abs(place - round(place)) for place in places) > 1e-11


def test_a_bucket_that_comes_several_times_is_added_up():
    halves = [histogram([3, 90, 90]), histogram([90, 4000])]

    assert latency.decode(halves[0] + halves[1]) == latency.decode(histogram([3, 90, 90, 90, 4000]))


@pytest.mark.django_db
def test_a_long_histogram_is_put_together_and_says_the_same():
    merged = latency.SQL_ADDED.replace("usage_rollup.latency", "%(old)s::int8[]").replace(
        "excluded.latency", "%(new)s::int8[]"
    )
    old, new = ([latency.bucket(ms) << latency.SHIFT | 2 for ms in range(1, size)] for size in (190, 400))
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {merged}", {"old": old, "new": new})
        added = cursor.fetchone()[0]

    assert latency.decode(added) == latency.decode(old + new)
    assert len(added) == len(latency.decode(added))
