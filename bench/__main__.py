"""`make bench`: measure every part, one after the other, and say which figures are met.

Each part is a program of its own, so `make bench ARGS=gate` measures one, and `python -m bench.gate --help` says
what it can be asked. The exit code is 1 where a figure is missed.
"""

import argparse
import subprocess
import sys

from bench import document
from bench.report import PARTS, saved


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "part", nargs="?", choices=PARTS, help="this part alone, with its own arguments after it"
    )
    parser.add_argument(
        "--document", action="store_true", help="write the last run's tables into the docs only"
    )
    options, rest = parser.parse_known_args(arguments)
    if options.document:
        document.write(list(saved()))
        return 0
    if rest and not options.part:
        parser.error(f"{rest[0]} belongs to a part: name it first, as in `gate {rest[0]}`.")
    for part in [options.part] if options.part else PARTS:
        done = subprocess.run([sys.executable, "-m", f"bench.{part}", *rest], check=False)
        if done.returncode:
            return done.returncode
        print()
    reports = [report for report in saved() if options.part in {None, report.part}]
    figures = [figure for report in reports for figure in report.figures]
    print(*figures, sep="\n")
    return 0 if all(figure.is_met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
