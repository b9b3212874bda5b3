import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.stripe.checking import probes, report
from billing.stripe.checking.clearing import clear
from billing.stripe.checking.running import LiveKey, Place, run
from billing.stripe.checking.stand_in import NoStandIn, stand_in
from billing.stripe.client import api_version, get_client, is_elsewhere, new_client
from billing.stripe.keys import is_restricted

LIVE = (
    "stripe_check makes customers, subscriptions and charges: it takes a test key only, and this one is live."
)


class Command(BaseCommand):
    help = (
        "Try out on the account of STRIPE_SECRET_KEY, in test mode, what the sandbox only assumes of Stripe, and print "
        "both side by side. Makes things named tollgate-check-… and removes them again. Takes some minutes."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        names = [probe.name for probe in probes.PROBES]
        parser.add_argument(
            "--only", nargs="+", choices=names, metavar="PROBE", help=f"some of {', '.join(names)}"
        )
        parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found there, too")
        parser.add_argument(
            "--timeout",
            type=float,
            default=300.0,
            metavar="SECONDS",
            help="how long to wait for a test clock or for usage to show, each time (default: 300)",
        )
        parser.add_argument(
            "--clear",
            action="store_true",
            help="only remove what earlier runs have left, also of one still running",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.STRIPE_LIVE_MODE:
            raise CommandError(LIVE)
        if options["clear"]:
            self.clear()
            return
        chosen = [each for each in probes.PROBES if not options["only"] or each.name in options["only"]]
        if is_elsewhere():
            self.stdout.write(
                f"Under “Stripe” stands what {settings.STRIPE_API_BASE} does: STRIPE_API_BASE is set."
            )
        with ExitStack() as stack:
            try:
                here = Place(stack.enter_context(stand_in()), patience=30.0, pause=0.05)
            except NoStandIn as error:
                here = None
                self.stdout.write(f"Nothing to compare with: {error}.")
            findings = []
            there = Place(get_client(), restricted_client(), patience=options["timeout"])
            try:
                for finding in run(chosen, there=there, here=here, say=self.say):
                    findings.append(finding)
                    self.stdout.write("\n".join(["", *report.table(finding), ""]))
            except LiveKey as error:
                raise CommandError(str(error)) from error
        if options["json"]:
            self.write(options["json"], [finding.as_dict() for finding in findings])
        said = report.conclusion(findings)
        if any(finding.differs or finding.there.stopped for finding in findings):
            raise CommandError(said)
        if any(finding.there.left for finding in findings):
            raise CommandError(f"{said} What is named above as not removed is left: run it with --clear.")
        self.stdout.write(said)

    def say(self, text: str) -> None:
        self.stderr.write(f"... {text}")

    def clear(self) -> None:
        left = clear(get_client())
        if left:
            raise CommandError("Could not be removed: " + "; ".join(left))
        self.stdout.write("Nothing is left of earlier runs.")

    def write(self, path: Path, findings: list[dict[str, Any]]) -> None:
        path.write_text(json.dumps({"api_version": api_version(), "findings": findings}, indent=2) + "\n")
        self.stdout.write(f"Written to {path}.")


def restricted_client() -> Any:
    """Return a client of the restricted key to be tried out, None where none is given."""
    if settings.STRIPE_CHECK_RESTRICTED_KEY:
        return new_client(settings.STRIPE_CHECK_RESTRICTED_KEY)
    return get_client() if is_restricted() else None
