"""Whose the mirror's objects are and by which key they are read, looked up once for all that is stored together.

dj-stripe 2.11 looks the account up by its key for every single object that it stores, an invoice's lines included,
and the key by its account for each that it fetches: three of ten statements that a webhook takes.
"""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from djstripe import models as djstripe
from djstripe.models.base import StripeModel

Found = dict[Hashable, Any]
found_here: ContextVar[Found | None] = ContextVar("found_here", default=None)


@contextmanager
def one_look() -> Iterator[None]:
    """Let all that is stored inside the block have its owner from one query, and its key from another."""
    if found_here.get() is not None:
        yield
        return
    token = found_here.set({})
    try:
        yield
    finally:
        found_here.reset(token)


def known_owner(api_key: str) -> djstripe.Account | None:
    """Return the account that was in the mirror when the block first looked for it.

    None for one that the block makes itself: it could go again, with the savepoint in which it was made.
    """
    found = found_here.get()
    if found is None:
        return None
    if api_key not in found:
        keys = djstripe.APIKey.objects.select_related("djstripe_owner_account")
        key = keys.filter(secret=api_key).first()
        found[api_key] = key.djstripe_owner_account if key else None
    owner: djstripe.Account | None = found[api_key]
    return owner


def look_once() -> None:
    """Have dj-stripe do so: inside `one_look`, and for every object that it stores with all that belongs to it."""
    look_up = djstripe.Account.get_or_retrieve_for_api_key
    if getattr(look_up, "looks_once", False):
        return
    sync, find_key = StripeModel.sync_from_stripe_data, djstripe.Account.get_default_api_key

    def find_owner(cls: Any, api_key: str) -> Any:
        return known_owner(api_key) or look_up.__func__(cls, api_key)

    def find_key_once(self: djstripe.Account, livemode: bool | None = None) -> Any:
        found = found_here.get()
        if found is None:
            return find_key(self, livemode)
        if (self.pk, livemode) not in found:
            found[self.pk, livemode] = find_key(self, livemode)
        return found[self.pk, livemode]

    def store(cls: Any, *args: Any, **kwargs: Any) -> Any:
        with one_look():
            return sync.__func__(cls, *args, **kwargs)

    find_owner.looks_once = True  # type: ignore[attr-defined]
    djstripe.Account.get_or_retrieve_for_api_key = classmethod(find_owner)
    djstripe.Account.get_default_api_key = find_key_once
    StripeModel.sync_from_stripe_data = classmethod(store)
