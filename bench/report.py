"""What a part of the bench found: tables to read, figures to hold it to, numbers to compute with."""

import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.stats import Figure
from bench.stores import VAR

PARTS = ("gate", "over_http", "servers", "memory", "drain")
QUIET = 1.0  # Processes that run or want to, on average.


@dataclass(frozen=True)
class Table:
    title: str
    columns: list[str]
    rows: list[list[str]]

    def text(self) -> str:
        """Return it with aligned columns, the first to the left and the rest to the right."""
        widths = [
            max(len(row[place]) for row in [self.columns, *self.rows]) for place in range(len(self.columns))
        ]
        lines = [
            "  ".join(
                cell.rjust(width) if place else cell.ljust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in [self.columns, ["-" * width for width in widths], *self.rows]
        ]
        return "\n".join([self.title, "", *lines, ""])

    def markdown(self) -> str:
        rule = ["---", *["---:"] * (len(self.columns) - 1)]
        lines = [f"| {' | '.join(row)} |" for row in [self.columns, rule, *self.rows]]
        return "\n".join([f"**{self.title}**", "", *lines, ""])


@dataclass
class Report:
    part: str
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        return "\n".join([*(table.text() for table in self.tables), *self.notes])

    def save(self) -> Path:
        """Write it to a JSON file, for `python -m bench` to put together and for programs to read."""
        VAR.mkdir(parents=True, exist_ok=True)
        path = VAR / f"{self.part}.json"
        path.write_text(
            json.dumps(
                {
                    "part": self.part,
                    "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
                    "python": platform.python_version(),
                    "tables": [asdict(table) for table in self.tables],
                    "figures": [figure.as_dict() for figure in self.figures],
                    "numbers": self.numbers,
                    "notes": self.notes,
                },
                indent=2,
            )
            + "\n"
        )
        return path

    def publish(self) -> None:
        """Save it and print it."""
        path = self.save()
        print(self.text())
        print(f"Written to {path.relative_to(Path.cwd())}")


def saved() -> Iterator[Report]:
    """Yield the last report of each part that was measured here, in the parts' order."""
    for part in PARTS:
        path = VAR / f"{part}.json"
        if path.exists():
            found = json.loads(path.read_text())
            yield Report(
                part=part,
                tables=[Table(**table) for table in found["tables"]],
                figures=[Figure(each["name"], each["ratio"], each["at_most"]) for each in found["figures"]],
                numbers=found["numbers"],
                notes=found["notes"],
            )


def busy_with_others() -> list[str]:
    """Return a warning where the machine has been busy in the last minute: asked at the start of the first part, when
    nothing of ours has run."""
    load = os.getloadavg()[0]
    if load < QUIET:
        return []
    return [
        f"The machine was busy with something else at the start (load {load:.1f}): every wait for another "
        "process takes longer then, and the figures say little. Measure again when it is quiet."
    ]


def microseconds(value: float) -> str:
    return f"{value:,.1f}"
