"""Put the tables of the last run into docs/performance.md: `python -m bench --document`.

Only what stands between a part's two markers is replaced; the words around them are written by hand.
"""

import re
from pathlib import Path

from bench.report import Report

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"


def rewrite(text: str, reports: list[Report]) -> str:
    """Return the page with these reports' tables. Raises ValueError where the page has no place for one."""
    for report in reports:
        begin, end = f"<!-- bench {report.part} -->", f"<!-- /bench {report.part} -->"
        place = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        old = place.search(text)
        if not old:
            raise ValueError(f"{PAGE.name} has no place for {report.part}: it is between {begin} and {end}.")
        lines = [f"- {each}" for each in [*report.figures, *report.notes]]
        found = "\n".join([begin, *(table.markdown() for table in report.tables), *lines, end])
        text = text.replace(old[0], found)
    return text


def write(reports: list[Report]) -> None:
    PAGE.write_text(rewrite(PAGE.read_text(), reports))
