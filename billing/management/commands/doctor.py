import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing import doctor
from billing.doctor import Finding, Treatment


class Command(BaseCommand):
    help = "List what is wrong, and with --fix mend what is safe. Ends with 1 where something is left to do."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--fix", action="store_true", help="Carry out the fixes that are safe.")
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")
        parser.add_argument(
            "--only", metavar="SLUG", action="append", help="Make this check alone. May be repeated."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = doctor.examine(options["only"])
        except doctor.UnknownCheck as error:
            raise CommandError(str(error)) from error
        treatment, left = Treatment(), found
        if options["fix"]:
            treatment = doctor.mend(found)
            # Looked at again, all of it: one fix may mend another finding, or bring a new one to light.
            left = doctor.examine(options["only"]) if found else []
        if options["json"]:
            self.stdout.write(json.dumps(as_json(found, treatment=treatment, left=left), indent=2))
        else:
            self.tell(treatment, left=left, may_fix=not options["fix"])
        if left:
            raise SystemExit(1)

    def tell(self, treatment: Treatment, *, left: list[Finding], may_fix: bool) -> None:
        still = {finding.key for finding in left}
        for finding in treatment.mended:
            if finding.key not in still:
                self.stdout.write(self.style.SUCCESS(f"mended  {finding.slug}: {finding.sentence}"))
        failed = {finding.key: reason for finding, reason in treatment.failed}
        for finding in left:
            self.stdout.write(self.style.ERROR(f"{finding.severity:7} {finding.slug}: {finding.sentence}"))
            if finding.key in failed:
                self.stdout.write(f"        The fix failed: {failed[finding.key]}")
            if finding.advice:
                self.stdout.write(f"        {finding.advice}")
            if finding.fix and (may_fix or not finding.fix.is_safe):
                how = (
                    "doctor --fix does this"
                    if finding.fix.is_safe
                    else "on the doctor's page, if you want it"
                )
                self.stdout.write(f"        {finding.fix.sentence} ({how})")
        if left:
            self.stdout.write(f"{len(left)} left to do.")
        else:
            self.stdout.write(self.style.SUCCESS("Nothing is wrong."))


def as_json(found: list[Finding], *, treatment: Treatment, left: list[Finding]) -> dict[str, Any]:
    still = {finding.key for finding in left}
    return {
        "found": [each_as_json(finding) for finding in found],
        "mended": [finding.key for finding in treatment.mended if finding.key not in still],
        "failed": [{"key": finding.key, "reason": reason} for finding, reason in treatment.failed],
        "left": [each_as_json(finding) for finding in left],
    }


def each_as_json(finding: Finding) -> dict[str, Any]:
    fix = finding.fix
    return {
        "key": finding.key,
        "check": finding.slug,
        "severity": finding.severity,
        "subject": finding.subject,
        "organization": finding.organization.ref if finding.organization else None,
        "sentence": finding.sentence,
        "advice": finding.advice,
        "fix": {"sentence": fix.sentence, "safe": fix.is_safe} if fix else None,
    }
