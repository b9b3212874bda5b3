"""Findings as text, side by side."""

import textwrap
from collections.abc import Iterator, Sequence

from billing.stripe.checking.findings import Finding, Row, Value

MARK, NAME, CELL = 2, 36, 34
HEADS = ("", "Stripe", "sandbox")


def table(finding: Finding) -> Iterator[str]:
    """Yield the lines of one finding. What differs begins with an exclamation mark."""
    yield from textwrap.wrap(f"{finding.probe.name}: {finding.probe.question}", MARK + NAME + 2 * CELL)
    yield from cells(" ", *HEADS)
    for row in finding.rows:
        yield from cells(
            "!" if row.differs else " ", name_of(row), shown(row.there), shown_here(finding, row)
        )
    for place, sight in (("Stripe", finding.there), ("the sandbox", finding.here)):
        if sight is not None and sight.stopped:
            mark = "!" if finding.differs else " "
            yield f"{mark} Stopped at {place}: {sight.stopped}"
        for left in sight.left if sight is not None else ():
            yield f"! Not removed at {place}: {left}"
    if not finding.rows and not finding.there.stopped:
        yield "  Nothing to see: no restricted key was given (STRIPE_CHECK_RESTRICTED_KEY)."
    if finding.differs:
        yield f"  On this stands: {finding.probe.relies}"


def name_of(row: Row) -> str:
    return f"{row.what} (not compared)" if row.measured else row.what


def shown_here(finding: Finding, row: Row) -> str:
    return "" if finding.here is None else shown(row.here)


def shown(value: Value) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "\n".join(value) or "none"
    return str(value) or "-"


def cells(mark: str, *texts: str) -> Iterator[str]:
    """Yield the lines of one row of the table, each cell wrapped to its width."""
    widths = (NAME, CELL, CELL)
    columns = [
        [piece for line in text.split("\n") for piece in textwrap.wrap(line, width - 2) or [""]]
        for text, width in zip(texts, widths, strict=True)
    ]
    for index in range(max(len(column) for column in columns)):
        line = "".join(
            (column[index] if index < len(column) else "").ljust(width)
            for column, width in zip(columns, widths, strict=True)
        )
        yield f"{mark if index == 0 else ' '} {line}".rstrip()


def conclusion(findings: Sequence[Finding]) -> str:
    """Return the sentence that says how it came out, and what to do."""
    different = [finding.probe.name for finding in findings if finding.differs]
    if different:
        return (
            f"Stripe differs from the sandbox in {', '.join(different)}. Until that is settled do not rely on what is "
            "named under “On this stands” for real money: report it with the file of --json, so that the sandbox and "
            "what was built on it are put right."
        )
    stopped = [finding.probe.name for finding in findings if finding.there.stopped]
    if stopped:
        return f"These probes did not get to their end: {', '.join(stopped)}. Run them again with --only."
    if any(finding.here is None for finding in findings):
        return "There was no sandbox to compare with: the column is empty, and this is what Stripe does."
    return "Stripe does what the sandbox does."
