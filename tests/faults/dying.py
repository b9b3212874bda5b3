"""Nothing that a run starts outlives it, however the run ends."""

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when the thread that started it ends. Linux only."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() == 1:
        os.kill(os.getpid(), number)  # It ended before it could be asked.


def is_alive(process_id: int) -> bool:
    """Whether a process is there that somebody reaps as soon as it ends."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True
