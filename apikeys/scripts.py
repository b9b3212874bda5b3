"""Lua scripts that run in Redis, in one step each."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redis.exceptions import NoScriptError, ResponseError

from usage.lines import Question, lines

HERE = Path(__file__).parent


class Script:
    """A Lua script of this directory. One that is not repeatable is not sent again where its answer was lost."""

    def __init__(self, name: str, *, is_repeatable: bool = True) -> None:
        self.is_repeatable = is_repeatable
        self.text = (HERE / name).read_text()
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def run(self, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """Return its answer. Redis is given the script where it does not know it yet, or no longer.

        Raises redis.exceptions.RedisError.
        """
        command = ("EVALSHA", self.sha, len(keys), *keys, *args)
        return self.known(lines.ask(command, is_repeatable=self.is_repeatable), keys, args)

    def begin(self, keys: Sequence[str], args: Sequence[str | int]) -> Question | None:
        """Send it, and let `finish` read the answer; None where that cannot be. Raises RedisError."""
        return lines.begin(("EVALSHA", self.sha, len(keys), *keys, *args))

    def finish(self, question: Question, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """Return the answer to what `begin` asked with the same keys and arguments. Raises RedisError."""
        return self.known(question.answer(), keys, args)

    def known(self, answer: Any, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        number = len(keys)
        if isinstance(answer, ResponseError) and is_unknown(answer):
            answer = lines.ask(("EVAL", self.text, number, *keys, *args), is_repeatable=self.is_repeatable)
        if isinstance(answer, Exception):
            raise answer
        return answer


def is_unknown(error: ResponseError) -> bool:
    # redis-py has a class for it, and takes the word away; hiredis by itself has the word.
    return isinstance(error, NoScriptError) or str(error).startswith("NOSCRIPT")
