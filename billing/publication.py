"""What publishing can do, one class each."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from billing.terms import Terms


@dataclass(frozen=True, kw_only=True)
class Change:
    """`sentence` says it to staff, and `plan` is the slug of the plan it is for: neither is part of what is done."""

    sentence: str = field(compare=False)
    plan: str = field(default="", compare=False)

    @property
    def key(self) -> list[Any]:
        facts = {each.name: getattr(self, each.name) for each in fields(self) if each.compare}
        return [type(self).__name__, facts]


@dataclass(frozen=True, kw_only=True)
class CreateMeter(Change):
    slug: str
    event_name: str
    display_name: str


@dataclass(frozen=True, kw_only=True)
class UpdateMeter(Change):
    """Rename a meter, count with a deactivated one again, or only note the id of one that Stripe has."""

    slug: str
    meter_id: str
    display_name: str
    reactivates: bool = False
    renames: bool = False


@dataclass(frozen=True, kw_only=True)
class CreateProduct(Change):
    product_id: str
    name: str
    description: str


@dataclass(frozen=True, kw_only=True)
class UpdateProduct(Change):
    product_id: str
    texts: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class AdoptPrice(Change):
    """Make a price that Stripe has the fee of a plan: it changes our rows alone."""

    price_id: str
    terms: Terms


@dataclass(frozen=True, kw_only=True)
class CreatePrice(Change):
    """`lookup_key` names our row too. `replaces` is the price that holds the key until then."""

    lookup_key: str
    product_id: str
    terms: Terms
    replaces: str | None


@dataclass(frozen=True, kw_only=True)
class KeepPrice(Change):
    """Let a price that Stripe has be the one that is sold: give it the lookup key, activate it, note it here."""

    lookup_key: str
    price_id: str
    terms: Terms
    takes_key: bool = False
    activates: bool = False


@dataclass(frozen=True, kw_only=True)
class ArchivePrice(Change):
    price_id: str


@dataclass(frozen=True)
class Publication:
    """What publishing would do now, in its order. `faults` are sentences on what cannot be published as it is."""

    changes: tuple[Change, ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not self.changes and not self.faults

    @cached_property
    def digest(self) -> str:
        """Names this very list: whoever agreed to it agreed to nothing else."""
        return digest_of(self.changes)

    def created_keys(self) -> list[str]:
        """Return the lookup keys that get a new price."""
        return [change.lookup_key for change in self.changes if isinstance(change, CreatePrice)]


def digest_of(changes: Iterable[Change]) -> str:
    listed = json.dumps([change.key for change in changes], sort_keys=True)
    return hashlib.sha256(listed.encode()).hexdigest()
