"""Twelve months of a life and more, every webhook brought in order: what was charged, and what they may do."""

import pytest

from billing.models import Notice
from tests.billing.scenarios.conftest import NewWorld
from tests.billing.scenarios.stories import LONG_STORIES, STORIES, Story
from tests.exhaustive import IS_EXHAUSTIVE, some

pytestmark = [pytest.mark.django_db, pytest.mark.exhaustive, pytest.mark.long]


# Those that run for years are told in an exhaustive run.
TOLD = [*STORIES, *LONG_STORIES] if IS_EXHAUSTIVE else some(STORIES, of="stories", count=5)


@pytest.mark.parametrize("story", TOLD, ids=lambda story: story.name)
def test_a_life_is_billed_to_the_cent(new_world: NewWorld, story: Story) -> None:
    world = new_world(story)

    story.tell(world)
    world.postman.finish()

    assert world.bills() == story.bills
    assert world.mirror() == world.truth()
    entitlement = world.entitlement()
    assert {name: entitlement[name] for name in ("plan", "bought", "status", "access")} == story.ends
    kinds = Notice.objects.filter(organization=world.organization).order_by("created_at", "pk")
    assert list(kinds.values_list("kind", flat=True)) == story.notices
