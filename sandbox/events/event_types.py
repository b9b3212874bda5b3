"""Which event types there are, as stripe-python lists them."""

import functools
import typing

from stripe.events._event_classes import _V2_EVENT_CLASS_LOOKUP
from stripe.params import WebhookEndpointCreateParams


@functools.cache
def snapshot_types() -> frozenset[str]:
    """Return the types whose events carry their object, for webhook endpoints and snapshot destinations."""
    (literal,) = typing.get_args(WebhookEndpointCreateParams.__annotations__["enabled_events"])
    return frozenset(typing.get_args(literal)) - {"*"}


@functools.cache
def thin_types() -> frozenset[str]:
    """Return the types whose events only name their object."""
    return frozenset(_V2_EVENT_CLASS_LOOKUP)
