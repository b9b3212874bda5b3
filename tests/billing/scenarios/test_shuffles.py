"""The same lives with webhooks shuffled, doubled and lost at random: they end as if all had come in order.

`make test` plays a few seeds, an exhaustive run two rounds of all stories, and `make shuffles COUNT=500` as many
as it is told.
"""

import os
from collections import Counter

import pytest

from billing.models import Notice
from billing.stripe.reconciling import reconcile
from sandbox.state import Sandbox
from tests.billing.scenarios.conftest import NewWorld
from tests.billing.scenarios.postman import BadPostman
from tests.billing.scenarios.stories import STORIES, Story
from tests.exhaustive import some

pytestmark = [pytest.mark.django_db, pytest.mark.exhaustive, pytest.mark.long]

TOLD = os.environ.get("SHUFFLES")
FIRST = int(os.environ.get("SHUFFLES_SEED", "1"))
# Each seed plays one story: with every second round of the stories some webhooks are lost for good as well.
ROUND = len(STORIES)
SEEDS = range(FIRST, FIRST + int(TOLD or 2 * len(STORIES)))
RUNS = [
    (seed, STORIES[seed % len(STORIES)], seed // len(STORIES) % 2)
    for seed in (
        SEEDS if TOLD else [*some(SEEDS[:ROUND], of="whole"), *some(SEEDS[ROUND:], of="lossy", count=2)]
    )
]


@pytest.mark.parametrize(
    ("seed", "story", "loses"),
    RUNS,
    ids=[f"{seed}-{story.name}{'-lossy' if loses else ''}" for seed, story, loses in RUNS],
)
def test_a_life_ends_as_if_every_webhook_had_come_in_order(
    new_world: NewWorld, seed: int, story: Story, loses: int
) -> None:
    def bad(sandbox: Sandbox) -> BadPostman:
        return BadPostman(sandbox, seed=seed, lost=0.3 if loses else 0.0)

    world = new_world(story, postman=bad)

    story.tell(world)
    world.postman.finish()
    if loses:
        reconcile(world.organization)

    assert world.bills() == story.bills
    assert world.mirror() == world.truth()
    ended = world.entitlement()
    assert {name: ended[name] for name in story.ends} == story.ends
    # Each thing was told once at most. Of what had not happened only this: while the news of a payment is late
    # beyond the days of grace, the access is reduced, and given back with a word when the news is here.
    told = Counter(Notice.objects.told().values_list("kind", flat=True))
    assert told <= Counter(story.notices) | Counter(["access_reduced", "recovered"] * owes(story)), told
    # Nothing is left to repair.
    assert reconcile(world.organization).repaired == []
    assert world.entitlement() == ended


def owes(story: Story) -> bool:
    return "payment_failed" in story.notices
