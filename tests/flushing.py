"""A quicker way to empty the database after a test that commits: only tables that have rows, and row by row.

Django truncates every table there is and then makes content types and permissions anew, which takes longer than most of
the tests. It knows nothing of the ledger's months, either: those that the test made go with it.
"""

from typing import Any

from django.db import connection
from django.db.backends.postgresql.operations import DatabaseOperations

# What Django and nobody else writes, when the tables are made.
KEPT = frozenset({"django_content_type", "auth_permission", "django_site"})


def flush_quickly(monkeypatch: Any) -> None:
    """From now on flush quickly, to what there is now of months."""
    months = set(months_of_the_ledger())

    def sql_flush(
        operations: DatabaseOperations, style: Any, tables: list[str], **options: bool
    ) -> list[str]:
        return statements(operations, tables, months)

    monkeypatch.setattr(DatabaseOperations, "sql_flush", sql_flush)
    monkeypatch.setattr("django.core.management.commands.flush.emit_post_migrate_signal", lambda *args: None)


def months_of_the_ledger() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'usage_event'::regclass"
        )
        return [name for (name,) in cursor.fetchall()]


def statements(operations: DatabaseOperations, tables: list[str], months: set[str]) -> list[str]:
    names = sorted({*tables} - KEPT)
    quoted = {name: operations.quote_name(name) for name in names}
    asked = " UNION ALL ".join(
        f"SELECT '{name}' WHERE EXISTS (SELECT FROM {quoted[name]})"  # noqa: S608  # Django's own names.
        for name in names
    )
    with connection.cursor() as cursor:
        cursor.execute(asked)
        full = [name for (name,) in cursor.fetchall()]
    # Foreign keys are checked by triggers, which a replica leaves to the server it follows.
    deletions = [f"DELETE FROM {quoted[name]}" for name in full]  # noqa: S608  # As above.
    drops = [f"DROP TABLE {name}" for name in months_of_the_ledger() if name not in months]
    return ["SET LOCAL session_replication_role = replica", *deletions, *drops]
