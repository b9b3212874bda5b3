"""Running the probes, at Stripe and at the sandbox, and clearing up after each."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import stripe

from accounts import clock
from billing.stripe.checking.bench import Bench, NotInTime
from billing.stripe.checking.clearing import PREFIX
from billing.stripe.checking.findings import Finding, Probe, Seen, Sight

# So far back begin the test clocks: a month of theirs is then over, and nothing reported for it lies in the future, nor
# more than the 35 days back that Stripe takes usage for. Whether the test clock or the present counts there is unknown.
BACK_SECONDS = 34 * 86_400


@dataclass(frozen=True, slots=True)
class Place:
    """Where probes are run: a client of an account, a restricted one of it, and how to wait there."""

    client: stripe.StripeClient
    restricted: stripe.StripeClient | None = None
    patience: float = 300.0
    pause: float = 2.0


class LiveKey(Exception):
    """Probes make customers, subscriptions and charges: never with a live key."""


def run(
    probes: Sequence[Probe],
    *,
    there: Place,
    here: Place | None,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[Finding]:
    """Run each probe at Stripe, and at the sandbox where there is one. Raises LiveKey before any call."""
    for place in (there, here):
        if place is not None:
            refuse_live(place)
    start = int(clock.now().timestamp()) - BACK_SECONDS
    name = secrets.token_hex(4)
    for probe in probes:
        say(probe.question)
        mark = f"{PREFIX}{name}-{probe.name}"
        # First where it costs nothing: what is wrong with the probe itself shows before Stripe is bothered.
        at_sandbox = look(probe, here, mark=mark, start=start) if here else None
        yield Finding(probe, look(probe, there, mark=mark, start=start), at_sandbox)


def refuse_live(place: Place) -> None:
    for client in (place.client, place.restricted):
        key = client._requestor.api_key if client else None
        if key and "_live_" in key[:8]:
            raise LiveKey(
                "stripe_check makes customers, subscriptions and charges: it takes a test key only."
            )


def look(probe: Probe, place: Place, *, mark: str, start: int) -> Sight:
    """Run a probe at one place, and clear up whatever happened. Raises nothing of Stripe's."""
    bench = Bench(
        place.client,
        mark=mark,
        start=start,
        patience=place.patience,
        pause=place.pause,
        restricted=place.restricted,
    )
    seen: list[Seen] = []
    stopped = ""
    left: list[str] = []
    try:
        for each in probe.look(bench):
            seen.append(each)
    except (stripe.StripeError, NotInTime) as error:
        stopped = f"{type(error).__name__}: {getattr(error, 'user_message', None) or error}"
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # An account that has never been seen may answer in another shape: that is a finding, too.
        stopped = f"The answer was not of the shape that was expected: {type(error).__name__}: {error}"
    finally:
        # Also where somebody lost patience: Ctrl-C must not leave things behind.
        left = bench.clear()
    return Sight(tuple(seen), stopped, tuple(left))
