"""How PostgreSQL would answer the queries that are made: what it reads, and what of that from end to end."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection


@contextmanager
def statements() -> Iterator[list[tuple[str, Any]]]:
    """Collect the queries that are made inside the block, with their parameters."""
    made: list[tuple[str, Any]] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        made.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        yield made


def explained(made: list[tuple[str, Any]]) -> set[str]:
    """Return the tables that the plans of the queries read."""
    return {table for _, table in scans(made)}


def read_whole(made: list[tuple[str, Any]]) -> set[str]:
    """Return the tables that the plans of the queries read from end to end."""
    return {table for kind, table in scans(made) if kind == "Seq Scan"}


def scans(made: list[tuple[str, Any]]) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for sql, params in made:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", params)
            plan = cursor.fetchone()[0]
        found |= set(nodes(json.loads(plan) if isinstance(plan, str) else plan))
    return found


def nodes(plan: Any) -> Iterator[tuple[str, str]]:
    """Yield the kind and the table of every scan in a plan, wherever in it."""
    if isinstance(plan, dict):
        if "Relation Name" in plan:
            yield plan["Node Type"], plan["Relation Name"]
        plan = list(plan.values())
    if isinstance(plan, list):
        for part in plan:
            yield from nodes(part)
