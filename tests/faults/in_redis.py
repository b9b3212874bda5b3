"""Usage that is on its way through Redis, whatever form its entries have."""

from collections import Counter
from typing import Any
from uuid import UUID

from redis.exceptions import RedisError, ResponseError

from tests.faults.founding import Customer
from tests.faults.stores import Redis
from tests.holding import in_hand
from usage.stream import GROUP, STREAM, order_of

MOST_UNITS = 4  # Of a call.


def on_the_way(redis: Redis, customers: list[Customer]) -> tuple[set[str], Counter[UUID], Counter[UUID]]:
    """Return what Redis holds that is not in the ledger yet: endpoints, calls of echo, units by organization."""
    marked, echoes, units = set(), Counter(), Counter()
    client = redis.client()
    try:
        entries = [text for fields in not_stored(client) for text in fields.values()]
        for customer in customers:
            held = client.hvals(f"tollgate:{{{customer.ref}}}:reservations")
            entries += [record.split("|", 3)[-1] for record in held]
    except RedisError:
        return marked, echoes, units
    finally:
        client.close()
    for customer in customers:
        for entry in entries:
            # Whatever an entry's form is, it names the organization, and ends with the endpoint.
            if customer.id.hex not in entry.replace("-", ""):
                continue
            endpoint = entry.rpartition("|")[2]
            units[customer.id] += units_in(entry)
            if endpoint.startswith("/faults/"):
                marked.add(endpoint)
            else:
                echoes[customer.id] += 1
    return marked, echoes, units


def not_read(client: Any) -> list[dict[str, str]]:
    """Return the entries that no drain has taken yet."""
    try:
        return [fields for _, fields in client.xrange(STREAM, min=f"({cursor(client)}")]
    except ResponseError:
        return []  # There is no stream.


def cursor(client: Any) -> str:
    """Return the id up to which drains have taken entries. Raises ResponseError where there is no stream."""
    groups = client.xinfo_groups(STREAM)
    return next((each["last-delivered-id"] for each in groups if each["name"] == GROUP), "0-0")


def not_stored(client: Any) -> list[dict[str, str]]:
    """Return the entries that no drain has acknowledged."""
    try:
        delivered = cursor(client)
    except ResponseError:
        return []  # There is no stream.
    taken = (fields for id_, fields in in_hand(client) if order_of(id_) <= order_of(delivered))
    return [*not_read(client), *taken]


def units_in(entry: str) -> int:
    """Return the units of an event on the stream; at most those of any call where its form is another one."""
    fields = entry.split("|")
    return int(fields[5]) if len(fields) > 5 and fields[5].isdigit() else MOST_UNITS
