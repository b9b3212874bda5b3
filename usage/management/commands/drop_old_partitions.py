from typing import Any

from django.core.management.base import BaseCommand

from accounts import clock
from usage.retention import drop_old_partitions, months_past_retention, why_kept


class Command(BaseCommand):
    help = "Drop the ledger's months that LEDGER_MONTHS no longer keeps, as the worker does every night."

    def handle(self, *args: Any, **options: Any) -> None:
        now = clock.now()
        dropped = drop_old_partitions(now)
        self.stdout.write(f"Dropped: {', '.join(dropped) or 'none'}.")
        for month in months_past_retention(now):
            self.stdout.write(
                f"Kept: {month.start:%Y-%m}. {why_kept(month, now=now) or 'The ledger was in use.'}"
            )
