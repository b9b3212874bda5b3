"""How much of what can be tried in every combination is tried.

A few of each are played, chosen by a seed; with EXHAUSTIVE=1 in the environment all of them are played.
Tests that have two lengths carry the marker `exhaustive`:

    EXHAUSTIVE=1 python -m pytest -n 2 --dist worksteal -m exhaustive
"""

import os
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

IS_EXHAUSTIVE = os.environ.get("EXHAUSTIVE") == "1"
SEED = os.environ.get("EXHAUSTIVE_SEED", "1")
# How many do the same thing at once.
CROWDS = [2, 10] if IS_EXHAUSTIVE else [4]


def some(options: Sequence[T], *, of: object, count: int = 1) -> list[T]:
    """Return `count` of the options in their order, chosen by the seed and by what they are options `of`; or all."""
    if IS_EXHAUSTIVE or len(options) <= count:
        return list(options)
    # Not for secrets: the same seed has to choose the same again.
    chosen = random.Random(f"{SEED} {of}").sample(range(len(options)), count)  # noqa: S311
    return [options[number] for number in sorted(chosen)]
