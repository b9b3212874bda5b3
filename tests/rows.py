"""Rows of tables as they are now, and putting them back: what many tests begin with is made once in each run.

Only within one database: a primary key of an earlier test is free again after it, and no sequence gives it out twice.
"""

from collections.abc import Callable, Iterable
from hashlib import sha256

from django.db import connection, transaction
from django.db.models import Model

Rows = dict[str, str]
REMEMBERED: dict[tuple[str, str], Rows] = {}


def dump(tables: Iterable[str]) -> Rows:
    """Return the rows of each table as JSON, empty ones as an empty string; equal where they hold the same."""
    asked = " UNION ALL ".join(
        f"SELECT '{table}', (SELECT json_agg(t ORDER BY t::text)::text FROM {table} t)"  # noqa: S608  # Our own names.
        for table in tables
    )
    with connection.cursor() as cursor:
        cursor.execute(asked)
        return {table: rows or "" for table, rows in cursor.fetchall()}


def put_back(rows: Rows, *, beside: Rows | None = None) -> None:
    """Let the tables hold these rows and no others; those of `beside` are added where no such row is there."""
    said: list[str] = []
    values: list[str] = []
    for table, text in rows.items():
        said.append(f"DELETE FROM {table}")  # noqa: S608  # Our own names, as below.
        if text:
            said.append(f"INSERT INTO {table} SELECT * FROM json_populate_recordset(NULL::{table}, %s)")  # noqa: S608
            values.append(text)
    for table, text in (beside or {}).items():
        said.append(
            f"INSERT INTO {table} SELECT * FROM json_populate_recordset(NULL::{table}, %s) ON CONFLICT DO NOTHING"  # noqa: S608
        )
        values.append(text)
    # Foreign keys are checked by triggers, which a replica leaves to the server it follows.
    said = [
        "SET LOCAL session_replication_role = replica",
        *said,
        "SET LOCAL session_replication_role = origin",
    ]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("; ".join(said), values)


def once(name: str, models: Iterable[type[Model]], build: Callable[[], object]) -> None:
    """Have `build` make its rows, and from then on put them back wherever the tables are as they were before it.

    `build` may touch these tables alone, and its `name` has to say all else that it goes by.
    """
    tables = [model._meta.db_table for model in models]
    before = dump(tables)
    key = (name, sha256(repr(before).encode()).hexdigest())
    if key in REMEMBERED:
        put_back(REMEMBERED[key])
        return
    build()
    REMEMBERED[key] = {table: text for table, text in dump(tables).items() if text != before[table]}
