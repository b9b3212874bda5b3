from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from apikeys.scanning import FORMATS


class Command(BaseCommand):
    help = (
        "Print a rule by which secret scanners find API keys in code and logs. What it finds has the form of a key; "
        "the checksum, which tells a real one from a look-alike, is beyond a regular expression: see docs/keys.md."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--format", choices=sorted(FORMATS), default="regex", help="For which scanner.")

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(FORMATS[options["format"]]().rstrip())
