from argparse import ArgumentTypeError
from datetime import UTC, date, datetime, time
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from accounts import clock
from usage.days import sum_days

# Nothing was used before.
FIRST = date(2000, 1, 1)


class Command(BaseCommand):
    help = "Sum usage up by day, as the worker does every ten minutes; with --since, further back than the last day."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--since", type=day, metavar="DAY", help="A day such as 2026-03-01.")

    def handle(self, *args: Any, since: date | None = None, **options: Any) -> None:
        start = datetime.combine(since, time(), UTC) if since else None
        self.stdout.write(f"{sum_days(now=clock.now(), since=start)} days were summed up.")


def day(text: str) -> date:
    """Return the day that is meant. Raises ArgumentTypeError where usage can be of no such day."""
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = date.min
    if not FIRST <= found <= clock.now().date():
        raise ArgumentTypeError(f"{text} is no day from {FIRST} to today: write it as in 2026-03-01.")
    return found
