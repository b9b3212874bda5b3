from typing import Any

from django.core.management.base import BaseCommand

from usage import reports


class Command(BaseCommand):
    help = "Report usage to Stripe now, as the worker does every few seconds."

    def handle(self, *args: Any, **options: Any) -> None:
        made = reports.make_reports()
        sent = reports.send_due_reports()
        self.stdout.write(f"{made} new reports, {sent} sent.")
