import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import Organization
from billing.errors import StripeUnavailable
from billing.models import ReconcileRun
from billing.reconciliation import reconcile_all, reconcile_some
from billing.repairing import repair_each


class Command(BaseCommand):
    help = "Compare what is stored here with Stripe, organization by organization, and take over what Stripe has."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--organization", metavar="REF", action="append", help="Only this one. May be repeated."
        )
        parser.add_argument(
            "--repair",
            action="store_true",
            help="Afterwards mend what differs between usage and bills without billing anything twice. It puts on the "
            "next invoice what was used and is on none; credits it only names.",
        )
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")

    def handle(self, *args: Any, **options: Any) -> None:
        chosen = [self.get(ref) for ref in options["organization"] or []]
        try:
            run = reconcile_some(chosen) if chosen else reconcile_all()
        except StripeUnavailable as error:
            raise CommandError(f"{error} What was fetched before that is kept.") from error
        if options["repair"]:
            everybody = Organization.objects.filter(entitlement__isnull=False).order_by("pk")
            repair_each(run, chosen or everybody.iterator(chunk_size=500))
        if options["json"]:
            self.stdout.write(json.dumps(as_json(run), indent=2))
        else:
            self.tell(run)
        if run.stopped:
            raise CommandError(f"It stopped before its end: {run.stopped} The next run goes on from there.")

    def get(self, ref: str) -> Organization:
        organization = Organization.objects.filter(ref=ref).first()
        if organization is None:
            raise CommandError(f"There is no organization {ref}.")
        return organization

    def tell(self, run: ReconcileRun) -> None:
        for finding in run.findings:
            whose = f"{finding['ref']}  " if "ref" in finding else ""
            self.stdout.write(f"{whose}{finding['sentence']}")
        self.stdout.write(
            f"{run.organizations} organizations compared with Stripe, {run.repaired} things repaired, "
            f"{run.failures} organizations with problems."
        )


def as_json(run: ReconcileRun) -> dict[str, Any]:
    return {
        "started_at": run.started_at.isoformat(),
        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
        "stopped": run.stopped,
        "organizations": run.organizations,
        "repaired": run.repaired,
        "failures": run.failures,
        "findings": run.findings,
    }
