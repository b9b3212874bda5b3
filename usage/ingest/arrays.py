"""Arrays as PostgreSQL reads them from text: for a thousand values that costs a fraction of one parameter each."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

Value = UUID | datetime | int | str | None


def array(values: Iterable[Value]) -> str:
    """Return an array's text. Of texts only refs and slugs may be in it: they have no quotes and no backslashes."""
    return f"{{{','.join(map(text, values))}}}"


def text(value: Value) -> str:
    if isinstance(value, UUID):
        return value.hex
    if isinstance(value, str):
        return f'"{value}"'  # Or one called null would be none.
    return value.isoformat() if isinstance(value, datetime) else str(value)
