"""What staff see of Stripe at a glance: whose account, and whether what was set up there works."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from django.conf import settings
from django.utils import timezone
from django.utils.formats import date_format
from djstripe import models as djstripe

from accounts import clock
from billing.errors import BillingError, StripeUnavailable
from billing.models import BillingSettings, EventDestination, ThinEvent
from billing.setting_up import check_tax
from billing.stripe import client, health, keys
from billing.stripe.webhook_endpoints import REPLACED_AT, address
from billing.thin_events import unacknowledged_meter_errors

Tone = Literal["", "good", "bad"]
RECENT = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Fact:
    label: str
    value: str
    tone: Tone = ""


@dataclass(slots=True)
class Part:
    """One thing that was set up. `problem` says why Stripe would not tell; the facts are then what is known here."""

    name: str
    title: str
    facts: list[Fact] = field(default_factory=list)
    problem: str = ""

    @property
    def is_bad(self) -> bool:
        return any(fact.tone == "bad" for fact in self.facts)


def overview() -> list[Part]:
    """Return what there is to see, asking Stripe for what only Stripe knows. Raises nothing of Stripe's.

    Once Stripe has not answered it is not asked again: the page would wait for one time-out after another.
    """
    parts = []
    unavailable = ""
    for name, title, here, there in PARTS:
        part = Part(name, title, here())
        if unavailable:
            part.problem = unavailable
        else:
            try:
                part.facts = there() + part.facts
            except StripeUnavailable as error:
                part.problem = unavailable = str(error)
            except BillingError as error:
                part.problem = str(error)
        parts.append(part)
    return parts


def shown(moment: datetime | None) -> str:
    return f"{date_format(timezone.localtime(moment), 'j F Y, H:i')} UTC" if moment else "never"


def key_here() -> list[Fact]:
    kind = "restricted" if keys.is_restricted() else "secret"
    mode = "live: real money moves" if settings.STRIPE_LIVE_MODE else "test"
    facts = [
        Fact("Mode", mode),
        Fact("Key", f"{kind}, ends in {settings.STRIPE_SECRET_KEY[-4:]}"),
        Fact("API version", client.api_version()),
    ]
    if client.is_elsewhere():
        tone: Tone = "" if settings.DEBUG else "bad"
        facts.append(Fact("Stand-in", f"{settings.STRIPE_API_BASE} answers in Stripe's place", tone))
    return facts


def key_there() -> list[Fact]:
    # What a restricted key lacks takes some thirty calls to find out: that is the set-up's.
    report = keys.inspect_key(with_permissions=False)
    return [Fact("Account", f"{report.account_id} {report.name}".strip())]


def find_endpoint() -> djstripe.WebhookEndpoint | None:
    """Return the webhook endpoint in use, as it was set up."""
    rows = djstripe.WebhookEndpoint.objects.exclude(secret="").exclude(metadata__has_key=REPLACED_AT)
    return rows.order_by("-djstripe_created").first()


def find_destination() -> EventDestination | None:
    return EventDestination.objects.filter(replaced_at=None).order_by("-created_at").first()


def webhooks_here() -> list[Fact]:
    endpoint = find_endpoint()
    if endpoint is None:
        return [Fact("Endpoint", "not set up yet", "bad")]
    triggers = djstripe.WebhookEventTrigger.objects.filter(valid=True)
    last = triggers.order_by("-pk").values_list("created", flat=True).first()
    failed = triggers.filter(processed=False, created__gte=clock.now() - RECENT).count()
    facts = [
        Fact("Endpoint", endpoint.id),
        Fact("Address", address(endpoint.djstripe_uuid)),
        Fact(
            "Signing secret",
            "STRIPE_WEBHOOK_SECRET" if settings.STRIPE_WEBHOOK_SECRET else "kept by Tollgate",
        ),
        Fact("Last received", shown(last)),
        Fact("Failed in 7 days", f"{failed:,}", "bad" if failed else ""),
    ]
    replaced = djstripe.WebhookEndpoint.objects.filter(metadata__has_key=REPLACED_AT)
    return facts + [Fact("Being replaced", each.id) for each in replaced]


def webhooks_there() -> list[Fact]:
    endpoint = find_endpoint()
    if endpoint is None:
        return []
    pending = health.count_pending_events()
    beyond = " or more" if pending >= health.MOST_COUNTED else ""
    return [
        status_of(health.endpoint_health(endpoint.id)),
        Fact("Pending at Stripe", f"{pending}{beyond} events"),
    ]


def status_of(found: health.ListenerHealth) -> Fact:
    if not found.is_there:
        return Fact("At Stripe", "gone: set up again", "bad")
    if not found.is_enabled:
        return Fact("At Stripe", "disabled: set up again", "bad")
    if not found.asks_for_ours:
        return Fact("At Stripe", "asks for other events than it should: set up again", "bad")
    return Fact("At Stripe", "enabled", "good")


def thin_here() -> list[Fact]:
    destination = find_destination()
    if destination is None:
        return [Fact("Destination", "not set up yet", "bad")]
    last = ThinEvent.objects.order_by("-received_at").values_list("received_at", flat=True).first()
    unseen = unacknowledged_meter_errors().count()
    facts = [
        Fact("Destination", destination.id),
        Fact("Last received", shown(last)),
        Fact("Meter errors to see to", f"{unseen:,}", "bad" if unseen else ""),
    ]
    replaced = EventDestination.objects.exclude(replaced_at=None)
    return facts + [Fact("Being replaced", each.id) for each in replaced]


def thin_there() -> list[Fact]:
    destination = find_destination()
    return [status_of(health.destination_health(destination.id))] if destination else []


def portal_here() -> list[Fact]:
    configuration_id = BillingSettings.load().portal_configuration_id
    if not configuration_id:
        return [Fact("Configuration", "not set up yet", "bad")]
    return [Fact("Configuration", configuration_id)]


def portal_there() -> list[Fact]:
    configuration_id = BillingSettings.load().portal_configuration_id
    if not configuration_id:
        return []
    if health.portal_is_as_wanted(configuration_id):
        return [Fact("At Stripe", "as it should be", "good")]
    return [Fact("At Stripe", "gone or changed: set up again", "bad")]


def tax_here() -> list[Fact]:
    return [Fact("Automatic tax", "on" if BillingSettings.load().automatic_tax else "off")]


def tax_there() -> list[Fact]:
    if not BillingSettings.load().automatic_tax:
        return []
    outcome, detail = check_tax()
    return [Fact("Stripe Tax", detail, "good" if outcome == "unchanged" else "bad")]


Source = Callable[[], list[Fact]]
# What is known here, then what only Stripe knows.
PARTS: list[tuple[str, str, Source, Source]] = [
    ("key", "Account and key", key_here, key_there),
    ("webhooks", "Webhooks", webhooks_here, webhooks_there),
    ("thin", "Thin events", thin_here, thin_there),
    ("portal", "Customer portal", portal_here, portal_there),
    ("tax", "Tax", tax_here, tax_there),
]
