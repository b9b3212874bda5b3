from typing import Any

from django.core.management.base import BaseCommand

from billing.seeds import seed_plans, seed_policies


class Command(BaseCommand):
    help = "Create the plans free, pro, team and enterprise, and the status policy, where there are none yet."

    def handle(self, *args: Any, **options: Any) -> None:
        names = ", ".join(plan.name for plan in seed_plans())
        self.stdout.write(f"Plans created: {names}." if names else "There are plans already.")
        rules = seed_policies()
        self.stdout.write(
            f"Status policy: {rules} rules created." if rules else "There is a status policy already."
        )
