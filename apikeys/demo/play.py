"""The play itself: from one moment at which something happens to the next, until the present is reached."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from djstripe import models as djstripe

from accounts import clock
from accounts.clock import Hands
from apikeys.demo.acts import ACTS, Life
from apikeys.demo.cast import Company
from apikeys.demo.traffic import make_all
from apikeys.demo.world import World
from billing.models import Entitlement
from usage.partitions import ensure_partitions_for
from usage.stream import Drain
from usage.tasks import report_usage

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


class Scene(NamedTuple):
    at: datetime
    order: int
    life: Life
    act: str
    argument: str


def scenes_of(life: Life, *, start: datetime, end: datetime) -> list[Scene]:
    """Return what a company does and when: from its sign-up on, at hours at which people work where it is.

    All on the whole minute, because Stripe sums usage up from minute to minute.
    """
    company, zone = life.company, ZoneInfo(life.company.time_zone)
    chance = company.random(life.seed, "scenes")
    joined = (start + (end - start) * company.joins / 100).astimezone(zone).date()
    first = max(
        datetime.combine(joined, time(9, chance.randrange(60)), zone), (start + MINUTE).astimezone(zone)
    )
    first = first.replace(second=0, microsecond=0)
    scenes = [Scene(first.astimezone(UTC), 0, life, "sign_up", "")]
    for order, (days, act, argument) in enumerate(company.acts, start=1):
        on = datetime.combine(
            first.date() + days * DAY, time(chance.randint(10, 16), chance.randrange(60)), zone
        )
        # Never before what comes before it: two acts of one day keep their order.
        at = max(on.astimezone(UTC), scenes[-1].at + 5 * MINUTE)
        scenes.append(Scene(at, order, life, act, argument))
    return [scene for scene in scenes if scene.at < end]


class Play:
    """Plays `companies` from `start` to `end`, both whole minutes, and tells `progress` how far it is (0 to 1)."""

    def __init__(
        self,
        world: World,
        *,
        companies: list[Company],
        start: datetime,
        end: datetime,
        seed: int,
        password: str,
        progress: Callable[[float], None],
    ) -> None:
        self.world = world
        self.start, self.end = start, end
        self.lives = [Life(company, seed, password) for company in companies]
        self.scenes = sorted(
            (scene for life in self.lives for scene in scenes_of(life, start=start, end=end)),
            key=lambda scene: (scene.at, scene.life.company.name, scene.order),
        )
        self.progress = progress
        self.verdicts: Counter[str] = Counter()

    def run(self) -> None:
        """Play it, in a world whose clock stands at `start`.

        Raises DemoError, BillingError or what the stores raise.
        """
        months = (self.start + n * 28 * DAY for n in range((self.end - self.start) // (28 * DAY) + 1))
        ensure_partitions_for([*months, self.end])
        with clock.standing_at(self.start) as hands:
            drain = Drain()
            now = self.start
            while now < self.end:
                stop = self.next_stop(now)
                self.go_on(now, stop, hands, drain)
                now = stop
                while self.scenes and self.scenes[0].at <= now:
                    scene = self.scenes.pop(0)
                    ACTS[scene.act](scene.life, self.world, scene.argument)
                    self.world.hear()
                self.progress((now - self.start) / (self.end - self.start))
            drain.leave()
        self.world.resume()
        self.world.hear()

    def go_on(self, now: datetime, stop: datetime, hands: Hands, drain: Drain) -> None:
        """Let the calls up to `stop` be made and stored, then be it `stop` everywhere, then report them.

        In this order, because Stripe takes no usage of the future, and because an invoice that is drafted at
        `stop` is to hold all of it.
        """
        self.verdicts += make_all(self.lives, now, stop, hands)
        while drain.run_once():
            pass
        hands.move(stop)
        self.world.move(stop)
        report_usage()
        self.world.hear()

    def next_stop(self, now: datetime) -> datetime:
        """Return the next moment that nobody may step over: the day's end, an act, a period's end, a payment tried."""
        midnight = (now + DAY).replace(hour=0, minute=0)
        acts = (scene.at for scene in self.scenes[:1])
        periods = Entitlement.objects.exclude(subscription_id="").filter(period_end__gt=now)
        moments = [
            self.end,
            midnight,
            *acts,
            *periods.order_by("period_end").values_list("period_end", flat=True)[:1],
        ]
        return min(moment for moment in [*moments, *self.payments_tried(after=now)] if moment > now)

    def payments_tried(self, *, after: datetime) -> list[datetime]:
        """Return when Stripe tries to collect again: the last failure ends the plan, and the quota with it."""
        invoices = djstripe.Invoice.objects.filter(stripe_data__status="open")
        tries = invoices.values_list("stripe_data__next_payment_attempt", flat=True)
        return [at for each in tries if each and (at := datetime.fromtimestamp(each, UTC)) > after]
