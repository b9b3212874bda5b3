"""Every type of event that Tollgate depends on: the sandbox really tells it, and it alone brings what is hoped for."""

import re
from pathlib import Path

import pytest
from djstripe import models as djstripe
from djstripe.signals import WEBHOOK_SIGNALS

from billing.event_types import EVENT_TYPES
from billing.stripe.webhook_endpoints import ENABLED_EVENTS
from sandbox.events.event_types import snapshot_types
from tests.billing.scenes import SCENES
from tests.billing.stage import open_stage

pytestmark = [pytest.mark.django_db, pytest.mark.long]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def stage(sandbox, webhook_endpoint, plans, owner):
    with open_stage(sandbox, owner) as stage:
        yield stage


@pytest.mark.parametrize("event_type", sorted(EVENT_TYPES))
def test_each_type_is_told_and_brings_what_we_depend_on(stage, event_type):
    SCENES[event_type](stage)

    assert djstripe.Event.objects.filter(type=event_type).exists()


def test_the_endpoint_asks_for_the_types_of_the_table_and_no_others(sandbox, webhook_endpoint):
    (endpoint,) = sandbox.every("webhook_endpoint")

    assert sorted(endpoint["enabled_events"]) == ENABLED_EVENTS == sorted(EVENT_TYPES)


def test_stripe_and_dj_stripe_know_every_type():
    """dj-stripe raises at the start for a receiver of a type that it does not know."""
    assert set(EVENT_TYPES) <= snapshot_types()
    assert set(EVENT_TYPES) <= set(WEBHOOK_SIGNALS)


def test_the_guide_shows_the_table_as_it_is():
    rows = re.findall(
        r"^\| `([a-z_.]+)` \| (.+) \|$", (ROOT / "docs" / "access.md").read_text(), re.MULTILINE
    )

    assert rows == list(EVENT_TYPES.items())
