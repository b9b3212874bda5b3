"""What happens in a schedule, and when: a list that follows from its seed alone."""

import random
from dataclasses import dataclass, field
from typing import Any

# Seconds around a death of Redis in which a web server's death too may take calls with it that were answered: those
# whose event Redis had not taken yet, and that were to go to PostgreSQL by another way. See docs/operating.md.
WEB_NEEDS_BEFORE, WEB_NEEDS_AFTER = 0.6, 3.0

# What Redis comes back with: all it had, what it had a moment before, as after a crash of its machine, or nothing.
FILES = ("kept", "older", "lost")
KILLS = {"drain": 5, "worker": 4, "web": 2, "web-worker": 3, "beat": 1}
STRIPE_FAULTS = ("rate_limit", "server_error", "server_error_after", "timeout_before", "timeout_after")
USAGE_PATHS = "/v*/billing/meter_event*"
# What becomes of the customer who does not stay as they are, by the plan that they begin with.
MOVES = {"pro": ("upgrade", "cancel_now", "cancel_at_period_end"), "team": ("cancel_now", "upgrade")}


@dataclass(frozen=True, slots=True)
class Act:
    """Something that is done `at` seconds from the beginning, with its details."""

    at: float
    what: str
    details: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        details = " ".join(
            f"{name}={value:.2f}" if isinstance(value, float) else f"{name}={value}"
            for name, value in self.details.items()
        )
        return f"{self.at:.2f} {self.what}{' ' if details else ''}{details}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """`seconds` of disturbed load. Periods end `minutes` after the beginning, or with the calendar month."""

    seed: int
    seconds: float
    minutes: int
    ends_with_month: bool
    drains: int
    mover: str
    acts: tuple[Act, ...]

    @property
    def loses_redis(self) -> bool:
        return any(act.what == "redis" and act.details["file"] != "kept" for act in self.acts)


def draw(seed: int) -> Schedule:
    """Return the schedule of a seed, always the same."""
    chance = random.Random(f"schedule {seed}")  # noqa: S311  # Repeatable chance is the point.
    seconds = chance.uniform(1.8, 2.8)
    mover = chance.choice(sorted(MOVES))
    acts = [*deaths(chance, seconds), *stores(chance, seconds), *stripes(chance, seconds)]
    acts += [*times(chance, seconds), *loads(chance, seconds)]
    if chance.random() < 0.7:
        acts.append(Act(chance.uniform(0.3, seconds), "move_customer", {"how": chance.choice(MOVES[mover])}))
    return Schedule(
        seed=seed,
        seconds=seconds,
        minutes=chance.randint(5, 58),
        ends_with_month=chance.random() < 0.08,
        drains=chance.choice([1, 1, 2]),
        mover=mover,
        acts=tuple(sorted(spare(acts), key=lambda act: act.at)),
    )


def deaths(chance: random.Random, seconds: float) -> list[Act]:
    roles, weights = list(KILLS), list(KILLS.values())
    acts = []
    for _ in range(chance.randint(3, 8)):
        (role,) = chance.choices(roles, weights)
        away = chance.choice([0.0, chance.uniform(0.0, 0.6)])
        details: dict[str, Any] = {"role": role, "away": away}
        if role == "web-worker":
            details = {"role": role, "which": chance.random()}
        acts.append(Act(chance.uniform(0.1, seconds), "kill", details))
    if chance.random() < 0.5:
        acts.append(Act(chance.uniform(0.2, seconds), "kill_drain_in_transaction"))
    if chance.random() < 0.4:
        acts.append(Act(chance.uniform(0.2, seconds), "kill_worker_in_call"))
    return acts


def stores(chance: random.Random, seconds: float) -> list[Act]:
    acts = []
    if chance.random() < 0.6:
        (file,) = chance.choices(FILES, [5, 3, 3])
        behind = chance.uniform(0.2, 1.0) if file == "older" else 0.0
        details = {"file": file, "behind": behind, "away": chance.uniform(0.0, 0.5)}
        acts.append(Act(chance.uniform(0.3, max(0.4, seconds - behind)), "redis", details))
    if chance.random() < 0.45:
        details = {"immediately": chance.random() < 0.6, "away": chance.uniform(0.0, 0.4)}
        acts.append(Act(chance.uniform(0.3, seconds), "postgres", details))
    return acts


def stripes(chance: random.Random, seconds: float) -> list[Act]:
    acts = []
    for _ in range(chance.randint(1, 4)):
        path = USAGE_PATHS if chance.random() < 0.75 else "/v*"
        details = {"kind": chance.choice(STRIPE_FAULTS), "times": chance.randint(1, 6), "path": path}
        acts.append(Act(chance.uniform(0.0, seconds), "stripe", details))
    return acts


def times(chance: random.Random, seconds: float) -> list[Act]:
    acts = []
    for _ in range(chance.randint(0, 2)):
        acts.append(Act(chance.uniform(0.2, seconds), "pass", {"minutes": chance.randint(1, 4)}))
    if chance.random() < 0.5:
        acts.append(Act(chance.uniform(0.2, seconds), "to_hour_end"))
    if chance.random() < 0.75:
        acts.append(Act(chance.uniform(0.3, seconds), "to_period_end"))
    return acts


def loads(chance: random.Random, seconds: float) -> list[Act]:
    return [
        Act(chance.uniform(0.0, seconds), "burst", {"seconds": chance.uniform(0.1, 0.3)})
        for _ in range(chance.randint(0, 2))
    ]


def spare(acts: list[Act]) -> list[Act]:
    """Leave the web server alone where its death would take answered calls with it, because Redis has just died."""
    spans = [
        (died - WEB_NEEDS_BEFORE, died + act.details["away"] + WEB_NEEDS_AFTER)
        for act in acts
        if act.what == "redis" and (died := act.at + act.details["behind"])
    ]
    return [
        act
        for act in acts
        if not (
            act.what == "kill"
            and act.details["role"].startswith("web")
            and any(begins < act.at < ends for begins, ends in spans)
        )
    ]
