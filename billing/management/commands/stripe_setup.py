from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.setting_up import set_up

MARKS = {"unchanged": "as it was", "changed": "changed", "attention": "LOOK", "failed": "FAILED"}


class Command(BaseCommand):
    help = (
        "Check the key, and make the webhook endpoint, event destination, meters, products, prices and portal "
        "configuration exist at Stripe. Safe to repeat."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--without-tax", action="store_true", help="turn automatic tax off in the billing settings first"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        run = set_up(without_tax=options["without_tax"])
        for step in run.steps:
            self.stdout.write(f"{step['title']} [{MARKS[step['outcome']]}]: {step['detail']}")
        if run.changed_nothing:
            self.stdout.write("Nothing had to be changed.")
        failed = [step["detail"] for step in run.steps if step["outcome"] == "failed"]
        if failed:
            raise CommandError(f"The set-up is not complete. {' '.join(failed)}")
