"""A Redis Cluster of three nodes on loopback, started by hand: no program but redis-server is needed."""

import random
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from config.embedded.binaries import find_redis
from tests.flows.stack import wait_for

SLOTS = 16_384
BUS = 10_000  # A node's own talk goes over its port and this many.


class Cluster:
    def __init__(self, directory: Path) -> None:
        self.nodes: list[Redis] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        for number, port in enumerate(free_ports(3)):
            place = directory / str(number)
            place.mkdir(parents=True)
            options = {
                "port": str(port),
                "bind": "127.0.0.1",
                "dir": str(place),
                "cluster-enabled": "yes",
                "save": "",
                "appendonly": "no",
                "logfile": "redis.log",
            }
            arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
            self.processes.append(subprocess.Popen([find_redis(), *arguments]))
            self.nodes.append(Redis(port=port, decode_responses=True))

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.port(0)}"

    def port(self, number: int) -> int:
        return int(self.nodes[number].connection_pool.connection_kwargs["port"])

    def join(self) -> None:
        """Make the nodes one cluster, a third of the slots each."""
        for number, node in enumerate(self.nodes):
            wait_for(lambda node=node: answers(node), seconds=60, what="a node of the cluster")
            third = range(SLOTS * number // 3, SLOTS * (number + 1) // 3)
            node.execute_command("CLUSTER ADDSLOTS", *third)
            node.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for number in (1, 2):
            self.nodes[0].execute_command("CLUSTER MEET", "127.0.0.1", self.port(number))
        wait_for(lambda: all(map(is_whole, self.nodes)), seconds=60, what="the cluster")

    def owner_of(self, slot: int) -> int:
        return next(
            number for number in range(3) if slot in range(SLOTS * number // 3, SLOTS * (number + 1) // 3)
        )

    def move(self, slot: int, *, to: int, away_from: int | None = None) -> None:
        """Bring a slot, with all keys in it, to another node, as an operator would who adds one."""
        source, target = self.nodes[self.owner_of(slot) if away_from is None else away_from], self.nodes[to]
        source_id, target_id = source.execute_command("CLUSTER MYID"), target.execute_command("CLUSTER MYID")
        target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source_id)
        source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", target_id)
        while keys := source.execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
            source.execute_command("MIGRATE", "127.0.0.1", self.port(to), "", 0, 5000, "KEYS", *keys)
        for node in (target, source, *self.nodes):
            node.execute_command("CLUSTER SETSLOT", slot, "NODE", target_id)

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(timeout=60)


def answers(node: Redis) -> bool:
    with suppress(RedisError):
        return bool(node.ping())
    return False


def is_whole(node: Redis) -> bool:
    info: Any = node.execute_command("CLUSTER INFO")
    return info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "3"


def free_ports(count: int) -> list[int]:
    """Return ports of which the one for the nodes' own talk is free too."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20_000, 45_000)  # noqa: S311
        if port not in found and is_free(port) and is_free(port + BUS):
            found.append(port)
    return found


def is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextmanager
def running(directory: Path) -> Iterator[Cluster]:
    cluster = Cluster(directory)
    try:
        cluster.join()
        yield cluster
    finally:
        cluster.stop()
