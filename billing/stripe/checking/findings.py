"""What probes saw, at Stripe and at the sandbox, and where the two differ."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import stripe

from billing.stripe.checking.bench import Bench

Value = str | int | bool | list[str] | None


@dataclass(frozen=True, slots=True)
class Seen:
    """One thing a probe saw. What is `measured`, such as a time or a wording, is shown and not compared."""

    what: str
    value: Value
    measured: bool = False


@dataclass(frozen=True, slots=True)
class Probe:
    """`question` is what is asked, `relies` what in Tollgate stands on the answer."""

    name: str
    question: str
    relies: str
    look: Callable[[Bench], Iterable[Seen]]


@dataclass(frozen=True, slots=True)
class Sight:
    """What one probe saw at one place. `stopped` says why it saw no more; `left` is what could not be removed."""

    seen: tuple[Seen, ...]
    stopped: str = ""
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One observation side by side. `there` and `here` are None where it was not made."""

    what: str
    there: Value
    here: Value
    measured: bool
    differs: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """A probe with what it saw at Stripe and, where there is a sandbox, there."""

    probe: Probe
    there: Sight
    here: Sight | None

    @property
    def rows(self) -> list[Row]:
        """The observations in their order; those that only the sandbox allowed come last."""
        here = {each.what: each for each in self.here.seen} if self.here else {}
        there = {each.what: each for each in self.there.seen}
        rows = []
        for what in [*there, *(each for each in here if each not in there)]:
            ours, theirs = here.get(what), there.get(what)
            one = theirs or ours
            compared = self.here is not None and one is not None and not one.measured
            rows.append(
                Row(
                    what,
                    theirs.value if theirs else None,
                    ours.value if ours else None,
                    measured=bool(one and one.measured),
                    differs=compared and (ours is None or theirs is None or ours.value != theirs.value),
                )
            )
        return rows

    @property
    def differs(self) -> bool:
        stopped = self.here is not None and bool(self.there.stopped) != bool(self.here.stopped)
        return stopped or any(row.differs for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """Return it in plain JSON values."""
        return {
            "probe": self.probe.name,
            "question": self.probe.question,
            "relies": self.probe.relies,
            "differs": self.differs,
            "stopped": {"stripe": self.there.stopped, "sandbox": self.here.stopped if self.here else None},
            "left": {
                "stripe": list(self.there.left),
                "sandbox": list(self.here.left) if self.here else None,
            },
            "observations": [
                {
                    "what": row.what,
                    "stripe": row.there,
                    "sandbox": row.here,
                    "compared": self.here is not None and not row.measured,
                    "differs": row.differs,
                }
                for row in self.rows
            ],
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """What Stripe said to a call: “accepted”, or status and code of the refusal; and its words for that."""

    outcome: str
    words: str = ""

    @property
    def is_yes(self) -> bool:
        return self.outcome == "accepted"


def ask(call: Callable[[], object]) -> Answer:
    """Make a call that Stripe may refuse. Raises stripe.StripeError where it could not be asked at all."""
    try:
        call()
    except (stripe.InvalidRequestError, stripe.CardError) as error:
        verb = "declined" if isinstance(error, stripe.CardError) else "refused"
        return Answer(
            f"{verb}: {error.http_status} {error.code or 'no code'}", error.user_message or str(error)
        )
    return Answer("accepted")


def all_lines(invoices: Iterable[Any], names: dict[str, str]) -> list[str]:
    """Return the lines of all these invoices, see `lines`."""
    return sorted(line for invoice in invoices for line in lines(invoice, names))


def lines(invoice: Any, names: dict[str, str]) -> list[str]:
    """Return an invoice's lines as “name x quantity = amount”, sorted; `names` are of prices by their ids."""
    return sorted(
        f"{names.get(price_of(line), 'other')} x{line['quantity']} = {line['amount']}"
        for line in invoice["lines"]["data"]
    )


def price_of(line: Any) -> str:
    pricing = line["pricing"]
    details = pricing["price_details"] if pricing else None
    return str(details["price"]) if details else ""
