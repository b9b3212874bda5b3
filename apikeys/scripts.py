"""Lua scripts that run in Redis, in one step each."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from usage.lines import run_script

HERE = Path(__file__).parent


class Script:
    """A Lua script of this directory. One that is not repeatable is not sent again where its answer was lost."""

    def __init__(self, name: str, *, is_repeatable: bool = True) -> None:
        self.is_repeatable = is_repeatable
        self.text = (HERE / name).read_text()
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def run(self, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """Raises redis.exceptions.RedisError."""
        return run_script(self.text, self.sha, keys=keys, args=args, is_repeatable=self.is_repeatable)
