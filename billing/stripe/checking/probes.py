"""The probes there are, and what stands on each."""

from collections.abc import Iterator

from billing.stripe.checking.bench import Bench
from billing.stripe.checking.findings import Probe, Seen
from billing.stripe.checking.probes_of_changes import (
    cancel_now,
    declined_upgrade,
    mixed_intervals,
    portal,
)
from billing.stripe.checking.probes_of_usage import duplicate_usage, late_usage, metered_swap
from billing.stripe.keys import missing_permissions


def restricted_key(bench: Bench) -> Iterator[Seen]:
    """What a restricted key lacks of what Tollgate needs. Sees nothing where none was given."""
    if bench.restricted is not None:
        yield Seen("permissions it lacks", sorted(missing_permissions(bench.restricted)), measured=True)


PROBES = (
    Probe(
        "metered-swap",
        "A metered item moves to another price of the same meter in mid-month: what is billed, and at which price?",
        "Upgrades and downgrades of plans that bill usage.",
        metered_swap,
    ),
    Probe(
        "mixed-intervals",
        "May a yearly fee and monthly usage be on one subscription, and does a change to yearly move the anchor?",
        "Yearly plans that count usage monthly.",
        mixed_intervals,
    ),
    Probe(
        "portal",
        "Which subscriptions can be changed and cancelled in Stripe's customer portal?",
        "The portal's configuration, which leaves changing to Tollgate and cancelling to both.",
        portal,
    ),
    Probe(
        "duplicate-usage",
        "What does Stripe answer to usage reported twice, and how soon does usage show?",
        "Meter reports, which take that answer for success, and the proof of what was billed.",
        duplicate_usage,
    ),
    Probe(
        "declined-upgrade",
        "Does an upgrade whose payment is declined wait, and does voiding its invoice drop it?",
        "Upgrades, which count only when paid and are taken back otherwise.",
        declined_upgrade,
    ),
    Probe(
        "late-usage",
        "Is usage billed that is reported after its month: before the invoice is final, and after?",
        "The flush of usage before an invoice closes, and corrections afterwards.",
        late_usage,
    ),
    Probe(
        "restricted-key",
        "Which permissions does a restricted key lack of those that Tollgate needs?",
        "Running with a restricted key.",
        restricted_key,
    ),
    Probe(
        "cancel-now",
        "Does cancelling at once with invoice_now bill the usage so far?",
        "Cancelling at once.",
        cancel_now,
    ),
)
