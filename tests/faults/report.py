"""The report of a run: a line for each schedule, what happened in it and what came of it."""

from collections import Counter
from typing import Any

COLUMNS = {
    "calls": "calls",
    "served": "served",
    "unknown": "no answer",
    "acknowledged": "events acknowledged",
    "ledger": "ledger",
    "rollups": "rollups",
    "reported": "reported",
    "stripe": "Stripe",
    "to_invoice": "to invoice",
    "invoiced": "invoiced",
    "corrected": "corrected",
}
ALLOWED = {
    "lost_with_redis": "units lost with Redis's data",
    "revived": "units of reservations that an older file opened again",
    "over_quota": "units over a hard quota after Redis lost data",
    "over_quota_kept": "units over a hard quota after Redis was away and kept its data",
}


def difference(result: dict[str, Any]) -> int:
    """Return by how many units the places differ from the ledger, beyond what is said to be possible."""
    counts = result["counts"]
    if not counts:
        return 0
    places = [counts["rollups"], counts["reported"], counts["stripe"]]
    billed = counts["to_invoice"] - counts["invoiced"] - counts["corrected"]
    return sum(abs(units - counts["ledger"]) for units in places) + abs(billed)


def write(results: list[dict[str, Any]], *, seconds: float, lanes: int) -> str:
    """Return the report as Markdown."""
    results = sorted(results, key=lambda result: int(result["seed"]))
    failed = [result for result in results if result["wrong"]]
    sums: Counter[str] = Counter()
    for result in results:
        sums.update(result["counts"])
    lines = [
        "# Schedules of faults",
        "",
        f"{len(results)} schedules in {seconds:.0f} s in {lanes} lanes, {len(failed)} of them wrong; "
        f"difference in all: {sum(map(difference, results))}.",
        "",
        f"{sums['calls']} calls, {sums['served']} served, {sums['unknown']} without an answer, "
        f"{sums['acknowledged']} events acknowledged. Units: ledger {sums['ledger']}, rollups {sums['rollups']}, "
        f"reported {sums['reported']}, at Stripe {sums['stripe']}; to be invoiced {sums['to_invoice']}, "
        f"invoiced {sums['invoiced']}, corrected {sums['corrected']}.",
        "",
        "What is said to be possible, and how much of it there was: "
        + "; ".join(f"{sums[name]} {what}" for name, what in ALLOWED.items())
        + ".",
        "",
    ]
    lines += failures(failed)
    head = [
        "seed",
        *COLUMNS.values(),
        "difference",
        "lost",
        "revived",
        "over",
        "over (kept)",
        "seconds",
        "what happened",
    ]
    lines += ["| " + " | ".join(head) + " |", "|" + "---:|" * (len(head) - 1) + "---|"]
    for result in results:
        counts = result["counts"]
        cells = [result["seed"], *(counts.get(name, "") for name in COLUMNS)]
        cells += [difference(result), *(counts.get(name, "") for name in ALLOWED), result["seconds"]]
        lines.append("| " + " | ".join(map(str, cells)) + f" | {happened(result)} |")
    return "\n".join(lines) + "\n"


def failures(failed: list[dict[str, Any]]) -> list[str]:
    lines = []
    for result in failed:
        lines += [f"## Seed {result['seed']}", ""]
        lines += [f"- {sentence}" for sentence in result["wrong"]]
        lines += ["", f"Logs: {result.get('logs', 'none')}", ""]
    return lines


def happened(result: dict[str, Any]) -> str:
    move = f"; customer: {result['move']}" if result.get("move") else ""
    return "; ".join(result["acts"]).replace("|", "/") + move


def told(result: dict[str, Any]) -> str:
    """Return all there is to know of one schedule, for a person."""
    parts = [f"Seed {result['seed']}, {result['seconds']} s", *result["wrong"], *result.get("log", [])]
    return "\n".join([*parts, str(result.get("outcomes", "")), result.get("diagnosis", "")])
