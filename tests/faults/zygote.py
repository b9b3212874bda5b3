"""A process that has everything imported, no thread and no connection, and forks the product's processes from itself.

So a killed process is back in some ten milliseconds. An order is a line of JSON, [role, arguments, log file]; the
answer is the child's process id. It ends with the lane, and its children with it.
"""

import faulthandler
import gc
import json
import os
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

from tests.faults.dying import die_with_parent
from tests.faults.roles import ROLES

LONGEST = 65536
# Has a process write to its log where each of its threads is.
TELL = signal.SIGRTMIN + 5


class Zygote:
    """Seen from the lane."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.process_id = os.fork()
        if self.process_id == 0:
            try:
                ours.close()
                serve(theirs)
            finally:
                os._exit(0)
        theirs.close()
        ours.settimeout(10)
        self.socket = ours

    def spawn(self, role: str, log: Path, **arguments: Any) -> int:
        """Start a process and return its id."""
        self.socket.send(json.dumps([role, arguments, str(log)]).encode())
        return int(self.socket.recv(LONGEST))

    def close(self) -> None:
        self.socket.close()
        os.waitpid(self.process_id, 0)


def serve(orders: socket.socket) -> None:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # The kernel reaps them.
    gc.collect()
    gc.freeze()
    while order := orders.recv(LONGEST):
        role, arguments, log = json.loads(order)
        child = os.fork()
        if child == 0:
            orders.close()
            become(role, arguments, log)
        orders.send(str(child).encode())


def become(role: str, arguments: dict[str, Any], log: str) -> None:
    code = 1
    try:
        die_with_parent()
        os.setsid()
        for number in (signal.SIGINT, signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(file, 1)
        os.dup2(file, 2)
        faulthandler.register(TELL, all_threads=True)
        ROLES[role](**arguments)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # Whatever it is belongs in the log.
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
