"""The webhook endpoint at Stripe: made, kept up to date, and replaced when its secret is to change."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

import stripe
from django.conf import settings
from djstripe import models as djstripe

from accounts import clock
from billing.errors import EndpointMissing
from billing.event_types import EVENT_TYPES
from billing.locks import setup_lock
from billing.stripe.client import get_client, metadata_of, translated_errors

REPLACED_AT = "tollgate_replaced_at"
CREATED = "created it"
PATIENCE = timedelta(days=3)  # Stripe retries for up to three days.

ENABLED_EVENTS: list[Any] = sorted(EVENT_TYPES)  # Any: Stripe's types are lists of literals.


@dataclass(frozen=True, slots=True)
class Settled:
    """What there is at Stripe now, and what was done for it: sentences, none where nothing was."""

    id: str
    done: tuple[str, ...] = ()


def ensure_webhook_endpoint() -> tuple[djstripe.WebhookEndpoint, bool]:
    """Make Stripe send our events to this installation; return the endpoint and whether it is new.

    Raises StripeUnavailable, StripeRejected or EndpointMissing.
    """
    settled = settle_webhook_endpoint()
    return djstripe.WebhookEndpoint.objects.get(id=settled.id), CREATED in settled.done


def settle_webhook_endpoint() -> Settled:
    """Make Stripe send our events to this installation, and say what that took.

    An endpoint whose secret we do not hold is of no use: Stripe shows it once, so a new one is made and the old one
    removed. With STRIPE_WEBHOOK_SECRET it is the operator's own endpoint that the secret is kept for, and none is made.
    One that was replaced stays until `retire_replaced_endpoints` takes it.
    """
    with translated_errors(), setup_lock("webhook-endpoint"):
        ours = [each for each in listed() if not is_replaced(each)]
        if settings.STRIPE_WEBHOOK_SECRET:
            return settle_own_endpoint(ours)
        return settle_made_endpoint(ours)


def listed() -> list[stripe.WebhookEndpoint]:
    """Return the endpoints at Stripe that lead here, the newest first."""
    endpoints = get_client().v1.webhook_endpoints.list({"limit": 100})
    return [each for each in endpoints.auto_paging_iter() if each.url.startswith(base_address())]


def settle_made_endpoint(ours: list[stripe.WebhookEndpoint]) -> Settled:
    known = {each.id: each for each in djstripe.WebhookEndpoint.objects.exclude(secret="")}
    usable = [e for e in ours if e.id in known and e.url == address(known[e.id].djstripe_uuid)]
    done = []
    for stale in [e for e in ours if e not in usable[:1]]:
        remove(stale.id)
        done.append(f"removed {stale.id}, whose signing secret is not known here")
    if usable and usable[0].api_version == stripe.api_version:
        return Settled(usable[0].id, (*done, *bring_up_to_date(usable[0])))
    if usable:
        # The version cannot be changed. The old endpoint's events must not be lost on the way.
        mark_replaced(usable[0])
        done.append(f"replaced {usable[0].id}, made for another API version")
    return Settled(create().id, (*done, CREATED))


def create() -> stripe.WebhookEndpoint:
    uuid = uuid4()
    version: Any = stripe.api_version
    created = get_client().v1.webhook_endpoints.create(
        {
            "url": address(uuid),
            "enabled_events": ENABLED_EVENTS,
            "api_version": version,
            "metadata": {"djstripe_uuid": str(uuid)},
        }
    )
    djstripe.WebhookEndpoint.sync_from_stripe_data(created)
    return created


def bring_up_to_date(endpoint: stripe.WebhookEndpoint) -> list[str]:
    """Ask for exactly our events, and have the endpoint enabled. Return what was changed."""
    done = []
    if sorted(endpoint.enabled_events) != sorted(ENABLED_EVENTS):
        done.append("changed which events it asks for")
    if endpoint.status != "enabled":
        done.append("enabled it again")
    if done:
        get_client().v1.webhook_endpoints.update(
            endpoint.id, {"enabled_events": ENABLED_EVENTS, "disabled": False}
        )
    return done


def settle_own_endpoint(ours: list[stripe.WebhookEndpoint]) -> Settled:
    """Keep STRIPE_WEBHOOK_SECRET for the endpoint that the operator made; one that Tollgate made gives way to it."""
    # One of Tollgate's alone is meant by itself: its secret was rolled on Stripe's dashboard.
    chosen = ours if len(ours) == 1 else [e for e in ours if "djstripe_uuid" not in metadata_of(e)]
    if len(chosen) != 1:
        raise EndpointMissing(
            f"STRIPE_WEBHOOK_SECRET is set, and Stripe has {'several endpoints' if chosen else 'no endpoint'} that "
            f"begin with {base_address()}: have exactly one there, such as {suggested_address()}, or unset the "
            "variable and let Tollgate make its own."
        )
    (endpoint,) = chosen
    uuid = uuid_in(endpoint.url)
    if uuid is None:
        raise EndpointMissing(
            f"STRIPE_WEBHOOK_SECRET is set, and the endpoint {endpoint.id} leads to {endpoint.url}, which is no "
            f"address of Tollgate's: change it to {suggested_address()}."
        )
    if endpoint.api_version not in (None, stripe.api_version):
        raise EndpointMissing(
            f"The endpoint {endpoint.id} was made for Stripe's API version {endpoint.api_version}, and Tollgate speaks "
            f"{stripe.api_version}: make another one for that version at {suggested_address()}."
        )
    done = bring_up_to_date(endpoint)
    for given_way in [e for e in ours if e.id != endpoint.id]:
        mark_replaced(given_way)
        done.append(f"replaced {given_way.id}")
    row = djstripe.WebhookEndpoint.objects.filter(id=endpoint.id).first()
    if row is None or (row.secret, row.djstripe_uuid) != (settings.STRIPE_WEBHOOK_SECRET, uuid):
        data = endpoint.to_dict() | {
            "secret": settings.STRIPE_WEBHOOK_SECRET,
            "metadata": {**metadata_of(endpoint), "djstripe_uuid": str(uuid)},
        }
        djstripe.WebhookEndpoint.sync_from_stripe_data(data)
        done.append("took its signing secret from STRIPE_WEBHOOK_SECRET")
    return Settled(endpoint.id, tuple(done))


def rotate_webhook_secret(*, replacing: str) -> Settled:
    """Put a new endpoint, with a new signing secret, in the place of the one with the id `replacing`.

    The old one goes on being taken in until its events are, see `retire_replaced_endpoints`; an event that comes by
    both is processed once. Does nothing where `replacing` is not the endpoint in use, so that a second click does not
    replace the replacement. Raises EndpointMissing with STRIPE_WEBHOOK_SECRET, StripeUnavailable or StripeRejected.
    """
    if settings.STRIPE_WEBHOOK_SECRET:
        raise EndpointMissing(
            "The signing secret is the operator's, in STRIPE_WEBHOOK_SECRET: roll it on Stripe's dashboard, keeping "
            "the old one for a day, and set the variable to the new one."
        )
    with translated_errors(), setup_lock("webhook-endpoint"):
        # Marked first: were it created first, a crash in between would leave two in use, and the next set-up would
        # remove one of them with the events that wait for it.
        for each in listed():
            if each.id == replacing and not is_replaced(each):
                mark_replaced(each)
    return settle_webhook_endpoint()


def mark_replaced(endpoint: stripe.WebhookEndpoint) -> None:
    mark = {REPLACED_AT: str(int(clock.now().timestamp()))}
    updated = get_client().v1.webhook_endpoints.update(endpoint.id, {"metadata": mark})
    djstripe.WebhookEndpoint.objects.filter(id=endpoint.id).update(metadata=metadata_of(updated))


def is_replaced(endpoint: stripe.WebhookEndpoint) -> bool:
    return REPLACED_AT in metadata_of(endpoint)


def retire_replaced_endpoints() -> list[str]:
    """Remove replaced endpoints that nothing waits for any more; return their ids.

    Its successor has had every event since; what is still on its way to the old one is older. Stripe gives up after
    three days, so then it goes in any case. Raises StripeUnavailable or StripeRejected.
    """
    retired = []
    with translated_errors(), setup_lock("webhook-endpoint"):
        for endpoint in listed():
            if not is_replaced(endpoint):
                continue
            replaced_at = datetime.fromtimestamp(int(metadata_of(endpoint)[REPLACED_AT]), UTC)
            overdue = clock.now() - replaced_at >= PATIENCE
            if overdue or not has_pending_events(before=replaced_at):
                remove(endpoint.id)
                retired.append(endpoint.id)
    return retired


def has_pending_events(*, before: datetime) -> bool:
    """Return whether Stripe still tries to deliver an event from before a moment, and not from before `PATIENCE`."""
    pending = get_client().v1.events.list(
        {
            "delivery_success": False,
            "created": {"gte": int((before - PATIENCE).timestamp()), "lte": int(before.timestamp())},
            "limit": 1,
        }
    )
    return bool(pending.data)


def remove(endpoint_id: str) -> None:
    try:
        get_client().v1.webhook_endpoints.delete(endpoint_id)
    except stripe.InvalidRequestError as error:
        if error.code != "resource_missing":  # An earlier try removed it, and its answer was lost.
            raise
    djstripe.WebhookEndpoint.objects.filter(id=endpoint_id).delete()


def base_address() -> str:
    return f"{settings.API_BASE_URL}/stripe/webhook/"


def address(uuid: object) -> str:
    return f"{base_address()}{uuid}/"


def suggested_address() -> str:
    """Return the address for an endpoint that the operator makes: the same at each call."""
    return address(uuid5(NAMESPACE_URL, base_address()))


def uuid_in(url: str) -> UUID | None:
    try:
        found = UUID(url.removeprefix(base_address()).removesuffix("/"))
    except ValueError:
        return None
    return found if url == address(found) else None
