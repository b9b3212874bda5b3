from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from accounts.clock import standing_at
from accounts.models import Organization, User
from apikeys.models import APIKey
from billing.models import BillingSettings, PlanPrice
from sandbox.state import Sandbox
from tests.billing.cast import publish_all
from tests.billing.scenarios.postman import Postman
from tests.billing.scenarios.stories import Story
from tests.billing.scenarios.world import World

NewWorld = Callable[..., World]


@pytest.fixture
def new_world(
    sandbox: Sandbox, webhook_endpoint: object, plans: SimpleNamespace, owner: User
) -> Iterator[NewWorld]:
    """Return what makes the world of a story: its clock stands at the story's start, and Team has a trial."""
    with ExitStack() as stack:

        def make(story: Story, *, postman: Callable[[Sandbox], Postman] = Postman) -> World:
            start = datetime.fromisoformat(story.start).replace(tzinfo=UTC)
            hands = stack.enter_context(standing_at(start))
            sandbox.set_clock(frozen_at=int(start.timestamp()))
            plans.team.trial_days = 14 if story.with_trial else None
            plans.team.save()
            PlanPrice.objects.create(plan=plans.pro, interval="year", unit_amount=29_000)
            settings = BillingSettings.load()
            settings.allow_promotion_codes = True
            settings.save()
            publish_all()
            organization = Organization.objects.open(name="Acme", owner=owner)
            _, secret = APIKey.objects.issue(organization=organization, name="test")
            return World(sandbox, hands, organization, secret=secret, start=start, postman=postman(sandbox))

        yield make
