"""How stored objects become answers: private fields dropped, related objects expanded on request.

Each resource declares here what of it may be expanded; see `expandable`, `inlined` and `included`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sandbox.errors import ApiError
from sandbox.store import Object, copied

if TYPE_CHECKING:
    from sandbox.state import Sandbox

MAX_LEVELS = 4
# What an included field is made of where the object has no such thing.
ABSENT = object()

_EXPANDABLE: dict[str, dict[str, str]] = {}
_INLINED: dict[str, dict[str, str]] = {}
_COMPUTED: dict[str, dict[str, Callable[[Sandbox, Object], Any]]] = {}
_INCLUDED: dict[str, dict[str, Callable[[Sandbox, Object], Any]]] = {}


def expandable(kind: str, paths: Mapping[str, str]) -> None:
    """Declare id fields of `kind` (dotted paths) that expand to objects of the named kind."""
    _EXPANDABLE.setdefault(kind, {}).update(paths)


def inlined(kind: str, fields: Mapping[str, str]) -> None:
    """Declare id fields of `kind` that always show the whole object."""
    _INLINED.setdefault(kind, {}).update(fields)


def computed(kind: str, field: str, make: Callable[[Sandbox, Object], Any]) -> None:
    """Declare a field of `kind` that is worked out each time it is shown."""
    _COMPUTED.setdefault(kind, {})[field] = make


def included(kind: str, field: str, make: Callable[[Sandbox, Object], Any]) -> None:
    """Declare a field of `kind` that is absent unless expanded."""
    _INCLUDED.setdefault(kind, {})[field] = make


def render(state: Sandbox, obj: Object) -> Object:
    """Return the object as Stripe shows it with nothing expanded."""
    if obj.get("object") in ("list", "search_result"):
        return {**obj, "data": [render(state, each) for each in obj["data"]]}
    kind = str(obj.get("object"))
    shown = {name: copied(value) for name, value in obj.items() if not name.startswith("_")}
    for field, target in _INLINED.get(kind, {}).items():
        related = state.find(target, shown[field]) if isinstance(shown.get(field), str) else None
        if related is not None:
            shown[field] = render(state, related)
    if not obj.get("deleted"):
        for field, make in _COMPUTED.get(kind, {}).items():
            shown[field] = make(state, obj)
    return shown


def expand(state: Sandbox, shown: Object, paths: list[str]) -> Object:
    """Expand in place. Raises ApiError (400) for a path that leads nowhere or deeper than four levels."""
    for path in paths:
        parts = path.split(".")
        if len(parts) > MAX_LEVELS:
            raise ApiError(
                f"You cannot expand more than {MAX_LEVELS} levels of a property. Property: {path}",
                param="expand",
            )
        _walk(state, shown, parts, owner=None, relative="", path=path)
    return shown


def _walk(  # noqa: PLR0912  (one branch a way in which a field may expand)
    state: Sandbox, node: Any, parts: list[str], *, owner: Object | None, relative: str, path: str
) -> None:
    if isinstance(node, list):
        for each in node:
            _walk(state, each, parts, owner=owner, relative=relative, path=path)
        return
    if not parts:
        return
    if not isinstance(node, dict):
        raise _cannot(path)
    if isinstance(node.get("object"), str):
        owner, relative = node, ""
    head, rest = parts[0], parts[1:]
    relative = f"{relative}.{head}" if relative else head
    kind = owner["object"] if owner else ""
    target = _EXPANDABLE.get(kind, {}).get(relative)
    make = _INCLUDED.get(kind, {}).get(relative)
    if target is not None:
        if isinstance(node.get(head), str):
            related = state.find(target, node[head])
            if related is not None:
                node[head] = render(state, related)
        elif isinstance(node.get(head), list):
            found = [state.find(target, each) if isinstance(each, str) else None for each in node[head]]
            node[head] = [
                old if new is None else render(state, new) for old, new in zip(node[head], found, strict=True)
            ]
    elif make is not None and owner is not None:
        # Of a deleted object there is its stub, and nothing to expand.
        if head not in node and not owner.get("deleted"):
            stored = state.find(kind, owner["id"])
            made = make(state, stored if stored is not None else owner)
            if made is not ABSENT:
                node[head] = made
    elif not _leads_on(node, head, kind=kind, relative=relative, last=not rest):
        raise _cannot(path)
    if node.get(head) is not None:
        _walk(state, node[head], rest, owner=owner, relative=relative, path=path)


def _leads_on(node: Object, head: str, *, kind: str, relative: str, last: bool) -> bool:
    """Return whether a field that expands to nothing itself may stand in a path."""
    if kind == "list" and relative == "data":
        return True
    if head not in node:
        return False
    # Always shown in full, so asking for it changes nothing.
    return not last or relative in _INLINED.get(kind, {}) or relative in _COMPUTED.get(kind, {})


def _cannot(path: str) -> ApiError:
    return ApiError(f"This property cannot be expanded ({path}).", param="expand")


def differences(before: Object, after: Object) -> Object:
    """Return an event's previous_attributes: the old value of each field that changed.

    A hash shows only its changed keys, a key that is new shows as null, a list shows whole.
    """
    previous: Object = {}
    for name in {**before, **after}:
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict) and "object" not in old:
            previous[name] = differences(old, new)
        else:
            previous[name] = old
    return previous
