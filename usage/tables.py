"""What Django's models cannot say of the tables, for who makes them without the migrations: tests and benchmarks."""

from django.db import connection

from accounts import clock
from usage import days, ledger, partitions


def complete_tables() -> None:
    """Make the ledger a partitioned table, with its first months, and add what the migrations do by SQL."""
    with connection.cursor() as cursor:
        cursor.execute(partitions.DROP_TABLE + partitions.CREATE_TABLE)
        cursor.execute(ledger.ROLLUP_STORAGE)
        cursor.execute(days.CREATE_TRIGGER)
    partitions.ensure_partitions_ahead(clock.now())
