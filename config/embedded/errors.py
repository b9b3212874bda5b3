from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class EmbeddedError(Exception):
    """A store could not be started or stopped. The message is one sentence, ready to be shown."""


@contextmanager
def as_sentences(what: str, directory: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise EmbeddedError(
            f"{what} may not use {error.filename or directory}: "
            f"run this as the user who made {directory}, or remove it."
        ) from error
    except OSError as error:
        raise EmbeddedError(f"{what} could not be used in {directory}: {error.strerror or error}.") from error


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "it gave no reason"
