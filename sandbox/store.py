"""Where objects live: dicts in memory, written through to SQLite where a path is given.

A change is all or nothing: it collects in an overlay and reaches memory and disk together.
"""

import contextlib
import json
import pathlib
import sqlite3
from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]


def copied(value: Any) -> Any:
    """Return a deep copy of JSON-like data, several times faster than copy.deepcopy."""
    if isinstance(value, dict):
        return {key: copied(each) for key, each in value.items()}
    if isinstance(value, list):
        return [copied(each) for each in value]
    return value


def copied_rows(rows: dict[tuple[str, str], Object | None]) -> dict[tuple[str, str], Object | None]:
    return {key: copied(row) for key, row in rows.items()}


class Store:
    """Objects by kind and id, in order of creation."""

    def __init__(self, path: pathlib.Path | str | None = None) -> None:
        self._kept: dict[str, dict[str, Object]] = {}
        self._borrowed: dict[tuple[str, str], Object] = {}
        self._written: dict[tuple[str, str], Object | None] = {}
        self._db = self._open(path) if path is not None else None

    def _open(self, path: pathlib.Path | str) -> sqlite3.Connection:
        # One lock guards the whole state, so the connection may travel between threads.
        db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute(
            "CREATE TABLE IF NOT EXISTS object (seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL,"
            " id TEXT NOT NULL, body TEXT NOT NULL, UNIQUE (kind, id))"
        )
        for kind, identifier, body in db.execute("SELECT kind, id, body FROM object ORDER BY seq"):
            self._kept.setdefault(kind, {})[identifier] = json.loads(body)
        return db

    def find(self, kind: str, identifier: str) -> Object | None:
        """Return the object to read or change. Changes count only after `put`."""
        key = (kind, identifier)
        if key in self._written:
            return self._written[key]
        if key not in self._borrowed:
            kept = self._kept.get(kind, {}).get(identifier)
            if kept is None:
                return None
            self._borrowed[key] = copied(kept)
        return self._borrowed[key]

    def put(self, kind: str, identifier: str, obj: Object) -> None:
        self._written[kind, identifier] = obj

    def remove(self, kind: str, identifier: str) -> None:
        self._written[kind, identifier] = None

    def every(self, kind: str) -> Iterator[Object]:
        """Yield the objects of a kind, oldest first, to be read and not changed."""
        kept = self._kept.get(kind, {})
        for identifier, obj in kept.items():
            current = self._written.get((kind, identifier), obj)
            if current is not None:
                yield current
        for (each, identifier), written in list(self._written.items()):
            if each == kind and identifier not in kept and written is not None:
                yield written

    def count(self, kind: str) -> int:
        return sum(1 for _ in self.every(kind))

    def commit(self) -> None:
        """Make the change lasting. Disk goes first, so memory never holds what disk refused."""
        if self._written and self._db is not None:
            self._write(self._db)
        for (kind, identifier), obj in self._written.items():
            rows = self._kept.setdefault(kind, {})
            if obj is None:
                rows.pop(identifier, None)
            else:
                rows[identifier] = obj
        self.undo()

    def _write(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN")
        try:
            for (kind, identifier), obj in self._written.items():
                if obj is None:
                    db.execute("DELETE FROM object WHERE kind = ? AND id = ?", (kind, identifier))
                else:
                    db.execute(
                        "INSERT INTO object (kind, id, body) VALUES (?, ?, ?)"
                        " ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body",
                        (kind, identifier, json.dumps(obj)),
                    )
        except sqlite3.Error:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")

    @contextlib.contextmanager
    def scratch(self) -> Iterator[None]:
        """Undo at the end whatever is written inside, and only that."""
        written, borrowed = self._written, self._borrowed
        self._written, self._borrowed = copied_rows(written), {}
        try:
            yield
        finally:
            self._written, self._borrowed = written, borrowed

    def undo(self) -> None:
        """Forget what was read and written since the last commit."""
        self._written.clear()
        self._borrowed.clear()

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
