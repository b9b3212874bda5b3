from datetime import UTC, date, datetime, time
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from accounts import clock
from usage.days import sum_days


class Command(BaseCommand):
    help = "Sum usage up by day, as the worker does every ten minutes; with --since, further back than the last day."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--since", type=date.fromisoformat, help="A day such as 2026-03-01.")

    def handle(self, *args: Any, since: date | None = None, **options: Any) -> None:
        start = datetime.combine(since, time(), UTC) if since else None
        self.stdout.write(f"{sum_days(now=clock.now(), since=start)} days were summed up.")
