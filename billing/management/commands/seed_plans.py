from typing import Any

from django.core.management.base import BaseCommand

from billing.seeds import seed_plans


class Command(BaseCommand):
    help = "Create the plans free, pro, team and enterprise where there is no plan yet."

    def handle(self, *args: Any, **options: Any) -> None:
        names = ", ".join(plan.name for plan in seed_plans())
        self.stdout.write(f"Plans created: {names}." if names else "There are plans already.")
