import logging
import signal
from argparse import ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from celery import current_app
from dateutil.relativedelta import relativedelta
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.models import Count
from djstripe import models as djstripe

from accounts import clock
from apikeys.demo import state
from apikeys.demo.cast import COMPANIES
from apikeys.demo.ears import open_ears
from apikeys.demo.errors import DemoError
from apikeys.demo.play import Play
from apikeys.demo.proof import prove
from apikeys.demo.world import StandIn
from apikeys.management.commands.prepare_demo import CUSTOMER
from billing.errors import BillingError
from billing.models import Entitlement
from billing.stripe.client import is_elsewhere

BAR = 40


class Interrupted(Exception):
    """Somebody asked for the end."""


class Command(BaseCommand):
    help = "Play months of customers' life on an empty Tollgate with the Stripe sandbox (development only)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--months", type=number(at_most=12), default=3, help="how many, ending now (default: %(default)s)"
        )
        parser.add_argument(
            "--seed", type=int, default=1, help="the same seed plays the same (default: %(default)s)"
        )
        parser.add_argument(
            "--organizations",
            type=number(at_most=len(COMPANIES)),
            default=len(COMPANIES),
            help="how many of the customers take part (default: all %(default)s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError("demo makes logins with a shared password: it runs with DEBUG=1 only.")
        if not is_elsewhere():
            raise CommandError("demo pays with test cards: it runs with the Stripe sandbox only.")
        call_command("prepare_demo", stdout=self.stdout)
        try:
            with interruptions():
                self.play(
                    months=options["months"], seed=options["seed"], organizations=options["organizations"]
                )
        except (DemoError, BillingError) as error:
            raise CommandError(str(error)) from error
        except Interrupted:
            raise CommandError(
                f"The demo was stopped half-way. What it has made cannot be used: remove {settings.VAR_DIR} "
                "before the next start."
            ) from None

    def play(self, *, months: int, seed: int, organizations: int) -> None:
        state.check_empty(but_for=CUSTOMER, months=months)
        end = clock.now().replace(second=0, microsecond=0)
        world = StandIn(settings.STRIPE_API_BASE)
        play = Play(
            world,
            companies=list(COMPANIES[:organizations]),
            start=end - relativedelta(months=months),
            end=end,
            seed=seed,
            password=make_password(state.password()),
            progress=self.show_progress,
        )
        self.stdout.write(f"Playing {months} months of {organizations} organizations, up to now.")
        with (
            quiet(),
            tasks_done_at_once(),
            letters_kept_back(),
            commits_not_waited_for(),
            open_ears(settings.API_BASE_URL),
        ):
            world.start_at(play.start)
            state.mark_started()
            play.run()
        self.stdout.write("")
        self.tell(play)
        proof = prove()
        if proof.differences:
            raise CommandError("\n".join(["The proof fails:", *proof.differences]))
        self.stdout.write(
            f"Proof: ledger = rollups = reports = Stripe = invoices, {proof.units:,} units of "
            f"{proof.organizations} organizations in {proof.periods} periods."
        )
        state.mark_finished(login=COMPANIES[0].owner, organizations=organizations)
        self.stdout.write(
            f"Everybody signs in as owner@<name>.example, such as {COMPANIES[0].owner}, "
            f"with the password {state.password()}"
        )

    def tell(self, play: Play) -> None:
        verdicts = play.verdicts
        refused = ", ".join(
            f"{count:,} {verdict}" for verdict, count in sorted(verdicts.items()) if verdict != "admitted"
        )
        self.stdout.write(f"{verdicts['admitted']:,} calls let in; refused: {refused or 'none'}.")
        plans = Entitlement.objects.order_by("plan__order").values_list("plan__name", "status")
        counted = plans.annotate(n=Count("pk"))
        self.stdout.write("Now: " + ", ".join(f"{n} {plan} ({status})" for plan, status, n in counted) + ".")
        statuses = djstripe.Invoice.objects.order_by("stripe_data__status").values_list("stripe_data__status")
        invoices = ", ".join(f"{n} {status}" for status, n in statuses.annotate(n=Count("pk")))
        self.stdout.write(f"Invoices: {invoices}.")

    def show_progress(self, share: float) -> None:
        """Draw the bar anew in a terminal; elsewhere say each tenth once."""
        if self.stdout.isatty():
            done = int(share * BAR)
            self.stdout.write(f"\r[{'#' * done}{'.' * (BAR - done)}] {share:4.0%}", ending="")
            self.stdout.flush()
        elif (tenth := int(share * 10)) > self.tenth:
            self.tenth = tenth
            self.stdout.write(f"{tenth * 10} %")

    tenth = 0


def number(*, at_most: int) -> Any:
    """Return argparse's type for a whole number from 1 on."""

    def read(text: str) -> int:
        if not text.isdecimal() or not 1 <= int(text) <= at_most:
            raise ArgumentTypeError(f"{text} is no whole number from 1 to {at_most}.")
        return int(text)

    return read


@contextmanager
def interruptions() -> Iterator[None]:
    """Raise Interrupted inside the block when a signal asks for the end."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise Interrupted

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {each: signal.signal(each, stop) for each in signals}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def quiet() -> Iterator[None]:
    """Let thousands of webhooks and their consequences happen without a line for each."""
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


@contextmanager
def commits_not_waited_for() -> Iterator[None]:
    """Let new connections to PostgreSQL commit without waiting for the disk.

    A crash in the middle would lose a moment's work, and a demo stopped half-way is thrown away in any case.
    """

    def hurry(sender: type, connection: BaseDatabaseWrapper, **kwargs: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET synchronous_commit TO off")

    connection.close()
    connection_created.connect(hurry)
    try:
        yield
    finally:
        connection_created.disconnect(hurry)
        connection.close()


@contextmanager
def letters_kept_back() -> Iterator[None]:
    """Let the companies' e-mails go nowhere: the back office shows each, and on the console they hide all else."""
    before = settings.EMAIL_BACKEND
    settings.EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
    try:
        yield
    finally:
        settings.EMAIL_BACKEND = before


@contextmanager
def tasks_done_at_once() -> Iterator[None]:
    """Do a task where it is enqueued: there is no worker, and a later one would do it months too late."""
    before = current_app.conf.task_always_eager
    current_app.conf.task_always_eager = True
    try:
        yield
    finally:
        current_app.conf.task_always_eager = before
