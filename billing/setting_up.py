"""The set-up at Stripe, step by step: what `manage.py stripe_setup` and staff's page run. Safe to repeat.

Each step looks first and does what is missing, so that a run that broke off, whatever of it Stripe has carried out,
is finished by the next one.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from accounts import clock
from accounts.models import User
from billing.errors import BillingError, KeyUnusable, StripeAccessRefused, StripeUnavailable
from billing.models import BillingSettings, Meter, Plan, SetupRun
from billing.stripe import keys
from billing.stripe.catalog import publish_meter, publish_plan
from billing.stripe.event_destinations import retire_replaced_destinations, settle_event_destination
from billing.stripe.portal_configuration import settle_portal_configuration
from billing.stripe.tax import inspect_tax
from billing.stripe.webhook_endpoints import (
    Settled,
    retire_replaced_endpoints,
    settle_webhook_endpoint,
)

logger = logging.getLogger(__name__)

# unchanged: all was as it should be. changed: now it is. attention: it works, but look. failed: it does not.
Outcome = Literal["unchanged", "changed", "attention", "failed"]


@dataclass(frozen=True, slots=True)
class Step:
    """What came of one step; `detail` is a sentence for whoever pressed the button."""

    name: str
    title: str
    outcome: Outcome
    detail: str


Found = tuple[Outcome, str]


def set_up(*, by: User | None = None, without_tax: bool = False) -> SetupRun:
    """Bring Stripe in line with this installation, and return what came of each step. Raises nothing of Stripe's.

    A step that fails does not keep the others from being tried, unless nothing can come of them: a key that is not
    accepted, or a Stripe that does not answer. `without_tax` turns automatic tax off first.
    """
    if without_tax:
        BillingSettings.objects.filter(pk=BillingSettings.load().pk).update(automatic_tax=False)
    run = SetupRun.objects.create(by=by)
    for step in run_steps():
        run.steps.append(asdict(step))
        run.save(update_fields=["steps"])
    run.finished_at = clock.now()
    run.save(update_fields=["finished_at"])
    return run


def run_steps() -> Iterator[Step]:
    for name, title, work in STEPS:
        try:
            outcome, detail = work()
        except KeyUnusable as error:
            yield Step(name, title, "failed", str(error))
            return
        except StripeAccessRefused as error:
            yield Step(name, title, "failed", refusal(error))
            if name == "key":
                return
        except StripeUnavailable as error:
            yield Step(name, title, "failed", f"{error} The set-up stopped here; run it again to go on.")
            return
        except BillingError as error:
            yield Step(name, title, "failed", str(error))
        else:
            yield Step(name, title, outcome, detail)


def refusal(error: StripeAccessRefused) -> str:
    """Say what Stripe refused: of a restricted key the permission that would allow it."""
    named = keys.PERMISSION.findall(str(error.__cause__))
    if named:
        return (
            f"Stripe does not accept STRIPE_SECRET_KEY for this: it lacks the permission {', '.join(named)}."
        )
    return "Stripe does not accept STRIPE_SECRET_KEY: it may have been rolled, deleted or copied in part."


def check_key() -> Found:
    report = keys.inspect_key()
    keys.refuse_unusable(report)
    forgotten = keys.settle_keys()
    kind = "Restricted" if report.is_restricted else "Secret"
    name = f" ({report.name})" if report.name else ""
    mode = "live" if report.is_live else "test"
    detail = f"{kind} key of {report.account_id}{name}, {mode} mode."
    if forgotten:
        detail += f" {forgotten} older {'key is' if forgotten == 1 else 'keys are'} forgotten."
    if report.missing:
        return "attention", (
            f"{detail} It lacks {len(report.missing)} permissions that Tollgate uses: "
            f"{', '.join(report.missing)}. Add them on Stripe's dashboard."
        )
    return ("changed" if forgotten else "unchanged"), detail


def settle_webhooks() -> Found:
    settled = settle_webhook_endpoint()
    retired = retire_replaced_endpoints()
    return found(settled, also=[f"removed {each}, which nothing waits for" for each in retired])


def settle_thin_events() -> Found:
    settled = settle_event_destination()
    retired = retire_replaced_destinations()
    return found(settled, also=[f"removed {each}, which nothing waits for" for each in retired])


def settle_portal() -> Found:
    return found(settle_portal_configuration())


def found(settled: Settled, *, also: list[str] | None = None) -> Found:
    done = [*settled.done, *(also or [])]
    return ("changed", f"{settled.id}: {'; '.join(done)}.") if done else ("unchanged", f"{settled.id}.")


def publish_meters() -> Found:
    made = []
    meters = list(Meter.objects.all())
    for meter in meters:
        before = meter.stripe_meter_id
        if publish_meter(meter) != before:
            made.append(meter.slug)
    if made:
        return "changed", f"Now at Stripe: {', '.join(made)}."
    return "unchanged", f"{len(meters)} at Stripe." if meters else "There are none yet."


def publish_plans() -> Found:
    created, refused = [], []
    for plan in Plan.objects.prefetch_related("prices"):
        try:
            created += publish_plan(plan)
        except StripeUnavailable:
            raise
        except (
            BillingError
        ) as error:  # One plan that Stripe refuses must not keep the others from being sold.
            refused.append(f"{plan.slug}: {error}")
    made = f"New prices: {', '.join(created)}." if created else ""
    if refused:
        return "failed", f"{made} Refused: {'; '.join(refused)}".strip()
    return ("changed", made) if made else ("unchanged", "All prices are at Stripe.")


def check_tax() -> Found:
    if not BillingSettings.load().automatic_tax:
        return "unchanged", "Automatic tax is off."
    report = inspect_tax()
    if not report.is_ready:
        missing = ", ".join(report.missing) or "something that it does not name"
        return "failed", (
            f"Automatic tax is on, and Stripe Tax still wants {missing}: until then nobody can subscribe. Fill it in "
            "at https://dashboard.stripe.com/settings/tax, or go on without tax (--without-tax)."
        )
    if not report.registrations:
        return "attention", (
            "Stripe Tax is ready but has no registration, so it computes no tax anywhere: add one at "
            "https://dashboard.stripe.com/tax/registrations."
        )
    return "unchanged", f"Stripe Tax is ready, registrations: {report.registrations}."


STEPS: list[tuple[str, str, Callable[[], Found]]] = [
    ("key", "Secret key", check_key),
    ("webhooks", "Webhook endpoint", settle_webhooks),
    ("thin", "Event destination", settle_thin_events),
    ("meters", "Meters", publish_meters),
    ("plans", "Plans", publish_plans),
    ("portal", "Customer portal", settle_portal),
    ("tax", "Automatic tax", check_tax),
]
