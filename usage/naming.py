"""What keys, endpoints and statuses are called where people read of them."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import NamedTuple
from uuid import UUID

from accounts.models import Organization
from usage.analytics import Dimension, Group, Measures

OTHERS = "All others"
SENT_IN, NOT_KNOWN = "Sent in", "Status not known"


class KeyName(NamedTuple):
    name: str
    prefix: str


def key_names(organization: Organization, ids: Iterable[UUID] | None = None) -> dict[UUID, KeyName]:
    """Return the names of the organization's keys, of those with `ids` where they are given."""
    keys = organization.api_keys.all() if ids is None else organization.api_keys.filter(pk__in=list(ids))
    return {pk: KeyName(name, prefix) for pk, name, prefix in keys.values_list("pk", "name", "prefix")}


def status_name(status: str, measures: Measures) -> str:
    """Return a status with what it means: “404 Not Found”. Without one it goes by what it is the status of."""
    if status == "0":
        kinds = [(SENT_IN, measures.sent_in), (NOT_KNOWN, measures.calls)]
        return " or ".join(name for name, count in kinds if count) or SENT_IN
    try:
        return f"{status} {HTTPStatus(int(status)).phrase}"
    except ValueError:
        return status


def group_names(organization: Organization, dimension: Dimension, groups: Iterable[Group]) -> list[str]:
    """Return what each of the groups is called, in their order."""
    named = [(group.value, group.measures) for group in groups]
    if dimension == Dimension.STATUS:
        return [OTHERS if value is None else status_name(value, measures) for value, measures in named]
    if dimension == Dimension.ENDPOINT:
        return [OTHERS if value is None else value for value, _ in named]
    known = key_names(organization, (UUID(value) for value, _ in named if value is not None))
    return [OTHERS if value is None else key_name(known, UUID(value)) for value, _ in named]


def key_name(known: dict[UUID, KeyName], pk: UUID) -> str:
    """Return a key's name. Events that were sent in for no key have one that nobody knows."""
    return known[pk].name if pk in known else "No key"
