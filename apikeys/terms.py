"""What a view asks of the gate: which meter, how many units, which scopes."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from rest_framework.views import APIView  # Which imports the gate's classes, by the settings.

Function = TypeVar("Function", bound=Callable[..., Any])

METER = "requests"
COST = 1


class Terms(NamedTuple):
    meter: str
    cost: int
    scopes: tuple[str, ...]
    is_reservation: bool


def gate(
    *,
    meter: str | None = None,
    cost: int | None = None,
    scopes: Sequence[str] | str | None = None,
    reserve: int | None = None,
) -> Callable[[Function], Function]:
    """Say what calls of a function view, or of one handler method, ask of the gate.

    Above or below `@api_view`. `meter` is one that calls can be charged to, a sum or a count: of any other, calls are
    refused as not in the plan. What is left out is the view's `gate_…` attribute, or the default. `reserve` is
    the most that the call may cost, of which the view charges what it did: see `charge`. Raises ValueError for
    what cannot be asked.
    """
    if cost is not None and reserve is not None:
        raise ValueError("Give the cost, or what to reserve for it, not both.")
    given = {"gate_meter": meter, "gate_cost": cost, "gate_scopes": scopes, "gate_reserve": reserve}
    told: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if "gate_cost" in told:
        told["gate_reserve"] = None
    terms_from(told)

    def decorate(function: Function) -> Function:
        view = getattr(function, "cls", None)
        if view is None:
            function.gate_told = told  # type: ignore[attr-defined]
        else:  # What `as_view` or `@api_view` has made: its class is this view's own, or shared by nobody yet.
            for name, value in told.items():
                setattr(view, name, value)
        return function

    return decorate


def terms_of(view: "APIView", method: str) -> Terms:
    """Return what a view asks of the gate for one of its methods. Raises ValueError for what cannot be asked."""
    kind, handler = type(view), getattr(view, method.lower(), None)
    # By the handler too: a ViewSet's `get` is `list` at one address and `retrieve` at another.
    asked = kind, getattr(handler, "__func__", handler)
    known = UNCHANGING.get(asked)
    if known is not None and not OWN.intersection(vars(view)):
        return known
    terms = work_out(view, method)
    if is_unchanging(view):
        UNCHANGING[asked] = terms
    return terms


def is_unchanging(view: "APIView") -> bool:
    """Whether the view asks the same for every request of a method."""
    return not OWN.intersection(vars(view)) and all(is_plain(type(view), name) for name in NAMES)


def is_plain(kind: type, name: str) -> bool:
    """Whether a class attribute is the same for every request: there is none, or it is no property."""
    return not hasattr(getattr(kind, name, None), "__get__")


def work_out(view: "APIView", method: str) -> Terms:
    handler = getattr(view, method.lower(), None)
    told = told_to(getattr(handler, "__func__", handler))
    kind = type(view)
    values = dict(told)
    for name in NAMES:
        # By the class first: a property that raises AttributeError must not pass for one that is not there.
        if name not in told and (hasattr(kind, name) or name in vars(view)):
            values[name] = getattr(view, name)
    return DEFAULT if not values else terms_from(values)


@cache
def told_to(function: Any) -> dict[str, Any]:
    """Return what the decorator said at a handler, or at the function that `@api_view` made the handler of."""
    told: dict[str, Any] | None = getattr(function, "gate_told", None)
    if told is None and getattr(function, "__module__", "") == API_VIEW and function.__closure__:
        for cell in function.__closure__:
            told = told or getattr(cell.cell_contents, "gate_told", None)
    return told or {}


def terms_from(values: dict[str, Any]) -> Terms:
    reserve = values.get("gate_reserve")
    cost = values.get("gate_cost", COST) if reserve is None else reserve
    if isinstance(cost, bool) or not isinstance(cost, int) or cost < 0:
        raise ValueError(f"{cost!r} is no cost: the gate takes a whole number of units, 0 or more.")
    scopes = values.get("gate_scopes", ())
    words = tuple(filter(None, scopes.split() if isinstance(scopes, str) else scopes))
    return Terms(values.get("gate_meter", METER), cost, words, reserve is not None)


NAMES = ("gate_meter", "gate_cost", "gate_scopes", "gate_reserve")
OWN = frozenset(NAMES)
# Of views that ask the same at every request. A class is looked at once: what it asks is part of its code.
UNCHANGING: dict[tuple[type, Any], Terms] = {}
DEFAULT = Terms(METER, COST, (), is_reservation=False)
API_VIEW = "rest_framework.decorators"
