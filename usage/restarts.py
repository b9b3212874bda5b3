"""Redis that came back: from an older file, or a replica that had not heard of all.

Its counters are as old as the file then, and so is what it knows of limits and keys. Each run of a server has a
random id, and the one that counted is kept beside the counters: what came back from a file, or with a replica that
took over, names another. Every new connection looks, before anything is asked over it, and the first one drops all
copies, and takes from all counters the mark of their birth, in one step: call by call they are made anew, each of
what PostgreSQL and the stream have or, where that is more, of what it stood at. So a file that had all of it loses
nothing, calls that were being served included, and an older one lets nobody past. Connections of before the restart
are gone with it, so nobody is let in by an old counter.

What was being served at that moment is in no older file, and not in the new counters until it is measured (see
`apikeys.drift`). While the keys are gone through, about a second for a million of them, Redis answers nobody.

In a cluster each node has a mark of its own, in a slot of its own. Where slots are moved to another node by hand, the
node that takes over a mark, or lost its own, drops its counters once more than needed. Not seen: data put back into
a server that goes on running, and that keeps its connections.
"""

import logging
from pathlib import Path
from typing import Any

from redis.crc import key_slot
from redis.exceptions import ResponseError

logger = logging.getLogger(__name__)

RUN = "tollgate:run"
DROP = (Path(__file__).parent / "restarts.lua").read_text()


def look(connection: Any) -> None:
    """Look anew at what was counted in another run of the server at the other end. Raises RedisError.

    A server that does not say which run it is in, because the login may not ask, is taken as it is.
    """
    drop(connection, RUN)


def look_at_node(connection: Any) -> None:
    """The same for a node of a cluster. A replica has nothing of its own."""
    try:
        mine = ask(connection, "CLUSTER", "MYID")
        slots = [
            (int(first), int(last))
            for first, last, primary, *_ in ask(connection, "CLUSTER", "SLOTS")
            if primary[2] == mine
        ]
    except ResponseError as error:
        logger.warning("Whether a node of Redis's cluster was restarted cannot be told: %s", error)
        return
    if slots:
        drop(connection, mark_within(slots))


def mark_within(slots: list[tuple[int, int]]) -> str:
    """Return the name of a mark that lies in one of the ranges of slots."""
    number = 0
    while True:
        name = f"{RUN}:{number}"
        if any(first <= key_slot(name.encode()) <= last for first, last in slots):
            return name
        number += 1


def drop(connection: Any, mark: str) -> None:
    try:
        dropped = ask(connection, "EVAL", DROP, 1, mark)
    except ResponseError as error:
        logger.warning("Whether Redis was restarted cannot be told: %s", error)
        return
    if dropped:
        logger.warning("Redis was restarted: %d counters and copies are looked at anew", dropped)


def ask(connection: Any, *command: str | int) -> Any:
    connection.send_command(*command, check_health=False)
    return connection.read_response()
