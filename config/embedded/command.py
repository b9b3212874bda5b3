import os
import pwd
import subprocess
from collections.abc import Sequence
from pathlib import Path


def run(
    command: Sequence[str | Path], *, account: pwd.struct_passwd | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as `account` where one is given, out of reach of the terminal's Ctrl-C."""
    # The working directory and HOME of whoever started us may be closed to the account.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    if account is not None:
        environment |= {"HOME": "/", "USER": account.pw_name, "LOGNAME": account.pw_name}
    try:
        return subprocess.run(  # noqa: S603 - the words come from this package alone.
            [str(word) for word in command],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            cwd="/",
            env=environment,
            start_new_session=True,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", f"{command[0]} is missing")
