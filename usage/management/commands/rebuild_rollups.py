from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.dateparse import parse_date, parse_datetime

from accounts.models import Organization
from usage.rebuilding import Rebuilt, compare, rebuild


class Command(BaseCommand):
    help = (
        "Hold the hourly rollups to the ledger and rebuild those that differ. Usage may come in meanwhile. What the "
        "rollups gain by it is reported to Stripe and billed. Hours in which the ledger has more, by rows that look "
        "doubled, are named and left."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--from", dest="start", metavar="TIME", help="first hour, UTC, as in 2026-11-01")
        parser.add_argument("--to", dest="end", metavar="TIME", help="end, UTC, as in 2026-11-01T06:00")
        parser.add_argument("--organization", metavar="REF", help="of this one alone")
        parser.add_argument(
            "--check", action="store_true", help="only say what differs; exit with 1 if anything does"
        )

        parser.add_argument(
            "--count-doubled",
            action="store_true",
            help="rebuild hours with rows that look doubled as well: their units are billed, perhaps twice",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        where: dict[str, Any] = {
            "start": moment("--from", options["start"]),
            "end": moment("--to", options["end"]),
            "organization": organization(options["organization"]),
        }
        if where["start"] and where["end"] and where["end"] <= where["start"]:
            raise CommandError("--to must be later than --from.")
        if options["check"]:
            found = list(compare(**where))
            rebuilt = Rebuilt(found=found, left=found)
        else:
            rebuilt = rebuild(**where, counts_doubled=options["count_doubled"])
        for difference in rebuilt.found:
            why = "; rows of the ledger look doubled" if difference in rebuilt.doubled else ""
            self.stdout.write(f"{'Left' if difference in rebuilt.left else 'Mended'}: {difference}{why}.")
        self.stdout.write(f"{len(rebuilt.found)} differ, {len(rebuilt.mended)} mended.")
        if rebuilt.left:
            raise CommandError(f"{len(rebuilt.left)} still differ from the ledger.")


def moment(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        day = parse_date(text)
        found = datetime(day.year, day.month, day.day) if day else parse_datetime(text)  # noqa: DTZ001  # UTC is added.
        found = found.astimezone(UTC) if found and found.tzinfo else found
    except (ValueError, OverflowError):
        found = None
    if found is None:
        raise CommandError(f"{option} {text} is no time: give a day or a moment, as in 2026-11-01T06:00.")
    return found.replace(tzinfo=UTC)


def organization(ref: str | None) -> Organization | None:
    if ref is None:
        return None
    try:
        return Organization.objects.get(ref=ref)
    except Organization.DoesNotExist as error:
        raise CommandError(f"There is no organization {ref}.") from error
