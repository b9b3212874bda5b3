"""Locks in PostgreSQL that have no row of their own."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db import OperationalError, connection, transaction
from psycopg.errors import LockNotAvailable

from billing.errors import CustomerBusy

CUSTOMER = b"stripe-customer"


def take_customer_lock(customer_id: str) -> None:
    """Wait for the lock on a Stripe customer; it is held until the surrounding transaction ends."""
    take_lock(customer_id, kind=CUSTOMER)


def take_customer_lock_within(customer_id: str, within: timedelta) -> None:
    """The same, for some time at most. Raises CustomerBusy, after which the transaction has to be rolled back."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('lock_timeout', %s, true)", [f"{within // timedelta(milliseconds=1)}ms"]
        )
        try:
            take_customer_lock(customer_id)
        except OperationalError as error:
            if isinstance(error.__cause__, LockNotAvailable):
                raise CustomerBusy("Something else is being done with this customer. Try again.") from error
            raise
        cursor.execute("SET LOCAL lock_timeout TO DEFAULT")


def try_customer_locks(customer_ids: Iterable[str]) -> set[str]:
    """Take the locks on Stripe customers that are free, and return whose they are; nobody is waited for.

    They are held until the surrounding transaction ends.
    """
    keys = {lock_key(each, kind=CUSTOMER): each for each in customer_ids}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT key FROM unnest(%s::bigint[]) key WHERE pg_try_advisory_xact_lock(key)", [list(keys)]
        )
        return {keys[key] for (key,) in cursor.fetchall()}


def take_lock(name: str, *, kind: bytes) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [lock_key(name, kind=kind)])


def lock_key(name: str, *, kind: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8, person=kind).digest(), signed=True)


@contextmanager
def customer_lock(customer_id: str, *, within: timedelta | None = None) -> Iterator[None]:
    """Open a transaction in which nobody else copies this customer's state from Stripe.

    It is the one lock that is held across a call to Stripe: fetching before locking would let an older
    answer overwrite a newer one that was fetched later and stored sooner. Raises CustomerBusy where it is not
    free `within` that time; without one it is waited for.
    """
    with transaction.atomic():
        if within is None:
            take_customer_lock(customer_id)
        else:
            take_customer_lock_within(customer_id, within)
        yield


@contextmanager
def setup_lock(what: str) -> Iterator[None]:
    """Open a transaction in which nobody else sets up the same thing at Stripe: looking and creating are one step."""
    with transaction.atomic():
        take_lock(what, kind=b"stripe-setup")
        yield


@contextmanager
def catalogue_lock() -> Iterator[None]:
    """Open a transaction in which nobody else publishes: of two at once the second finds it done.

    One for the whole catalogue, because plans share meters and lookup keys can move between prices.
    """
    with transaction.atomic():
        take_lock("catalogue", kind=b"stripe-catalog")
        yield
