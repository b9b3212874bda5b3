from typing import Any

from django.core.management.base import BaseCommand

from accounts import clock
from usage.partitions import ensure_partitions_ahead


class Command(BaseCommand):
    help = "Make the ledger's partitions for this month and the next three exist."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"Ledger partitions: {', '.join(ensure_partitions_ahead(clock.now()))}.")
