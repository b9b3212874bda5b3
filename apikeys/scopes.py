"""What keys can be restricted to: Tollgate's own scopes, and those of the operator's API."""

from collections.abc import Iterable, Sequence

from django.conf import settings

from apikeys.errors import InvalidRestriction, ScopeExceeded

BUILT_IN = {
    "billing:read": "See plan, subscription and invoices",
    "billing:write": "Subscribe, change and cancel",
    "keys:read": "See API keys",
    "keys:write": "Create, change, rotate and end API keys",
    "usage:read": "See usage",
}


def known_scopes() -> dict[str, str]:
    """Return every scope there is, with what it allows in words; those of API_SCOPES speak for themselves."""
    return dict.fromkeys(settings.API_SCOPES, "") | BUILT_IN


def check_scopes(scopes: Iterable[str]) -> list[str]:
    """Return the scopes, each once and in order. Raises InvalidRestriction for one that does not exist."""
    wanted, known = set(scopes), known_scopes()
    unknown = sorted(wanted - set(known))
    if unknown:
        raise InvalidRestriction(
            "scopes", f"There is no scope “{unknown[0][:60]}”. There are: {', '.join(sorted(known))}."
        )
    return sorted(wanted)


def check_within(wanted: Sequence[str], *, held: Sequence[str]) -> None:
    """Raise ScopeExceeded where `wanted` is more than `held`. In both, none at all stands for everything."""
    if not held:
        return
    if not wanted:
        raise ScopeExceeded(
            f"This key is restricted to {', '.join(held)}: it cannot give a key that may do everything."
        )
    beyond = sorted(set(wanted) - set(held))
    if beyond:
        raise ScopeExceeded(
            f"This key is restricted to {', '.join(held)}: it cannot give {', '.join(beyond)}."
        )
