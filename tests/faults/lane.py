"""A lane: one world, in which schedules are played one after the other. `python -m tests.faults.lane DIRECTORY`

Reads a seed a line, answers each with a line of JSON, and ends with its input.
"""

import json
import os
import shutil
import sys
import time
import traceback
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.faults.dying import die_with_parent
from tests.faults.schedule import draw
from tests.faults.world import World

LOG_TAIL = 200_000


class Lane:
    def __init__(self, directory: Path, failures: Path) -> None:
        self.world, self.failures = World(directory), failures

    def begin(self) -> None:
        self.world.begin()
        from tests.faults import founding  # noqa: PLC0415  # Models, which want settings.
        from tests.faults.load import EVENTS, Line, bearer  # noqa: PLC0415

        self.world.hear_webhooks(seconds=60)
        self.token = founding.issue_token()
        # Only from the release on that has the endpoint.
        answer = Line(self.world.web_port).ask("POST", EVENTS, bearer(self.token), {"events": []})
        self.takes_events = answer is not None and answer[0] != 404
        self.meters = {founding.METER: founding.meter_id()}
        self.product = founding.meter_product()

    def play(self, seed: int) -> dict[str, Any]:
        """Play the seed's schedule and return a line of the report."""
        from tests.faults.diagnosis import diagnose  # noqa: PLC0415  # As above.
        from tests.faults.director import Director  # noqa: PLC0415

        started = time.monotonic()
        marks = {log: log.stat().st_size for log in self.world.logs() if log.exists()}
        schedule = draw(seed)
        director = Director(self.world, schedule, token=self.token, takes_events=self.takes_events)
        result: dict[str, Any] = {"seed": seed, "acts": [str(act) for act in schedule.acts]}
        try:
            result |= self.play_with(director)
        except Exception:  # One schedule's failure is a line of the report.
            result |= {"wrong": [traceback.format_exc()], "counts": {}}
        result["log"] = director.played.log
        if result["wrong"]:
            result["diagnosis"] = diagnose(self.world, director.played)
            self.keep_logs(seed, result, marks)
        director.leave()
        result["seconds"] = round(time.monotonic() - started, 2)
        return result

    def play_with(self, director: Any) -> dict[str, Any]:
        from tests.faults import books  # noqa: PLC0415  # As above.
        from tests.faults.verdict import judge, outcomes, told, used_and_invoiced  # noqa: PLC0415

        played, stripe = director.played, self.world.stripe
        times = [time.monotonic()]
        director.prepare()
        times.append(time.monotonic())
        director.disturb()
        times.append(time.monotonic())
        director.restore()
        if self.world.now() < played.renews_at:
            self.world.move_to(played.renews_at)
        left = director.settle(
            until=played.renews_at + timedelta(minutes=57), least=timedelta(minutes=12), seconds=40
        )
        times.append(time.monotonic())
        director.note(f"at rest{f', but for {left}' if left else ''}")
        director.look_at_logs()
        director.close_periods()
        unheard = self.world.hear_webhooks(seconds=20)
        left = director.settle(until=self.world.now() + timedelta(minutes=50), least=timedelta(0), seconds=20)
        director.note(f"periods are over{f', but for {left}' if left else ''}")
        times.append(time.monotonic())
        counted = books.read_books(played.accounts, stripe=stripe, meters=self.meters, now=self.world.now())
        invoices = {name: stripe.invoices(each.stripe_id) for name, each in played.customers.items()}
        mover = played.customers["mover"]
        played.ended_at = stripe.api(f"/v1/subscriptions/{mover.subscription_id}")["ended_at"]
        if played.move == "upgrade":
            invoices["mover"].append(stripe.next_invoice(mover.subscription_id) | {"status": "open"})
        found = used_and_invoiced(played, counted, invoices=invoices, product=self.product)
        short = [played.customers[name] for name, (used, invoiced) in found.items() if invoiced < used]
        director.correct(short)
        verdict = judge(played, counted, invoices=invoices, product=self.product)
        wrong = verdict.wrong
        wrong += [f"Not at rest: {count} {what}" for what, count in left.items()]
        if unheard:
            wrong.append(f"{unheard} webhooks are still to be delivered")
        wrong += [f"Without a last word: {told(call)}" for call in director.load.unfinished()]
        times.append(time.monotonic())
        spans = [round(b - a, 2) for a, b in pairwise(times)]
        return {
            "counts": verdict.counts.as_dict(),
            "wrong": wrong,
            "outcomes": dict(outcomes(played.calls)),
            "move": f"{played.move}: {played.moved}" if played.move else "",
            "spans": spans,
        }

    def keep_logs(self, seed: int, result: dict[str, Any], marks: dict[Path, int]) -> None:
        """Put what the processes wrote meanwhile beside what was wrong."""
        place = self.failures / f"seed-{seed}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        (place / "result.json").write_text(json.dumps(result, indent=2))
        for log in self.world.logs():
            if log.exists():
                with log.open("rb") as file:
                    file.seek(max(marks.get(log, 0), log.stat().st_size - LOG_TAIL))
                    (place / log.name).write_bytes(file.read())
        result["logs"] = str(place)

    def end(self) -> None:
        self.world.end()


def main() -> None:
    die_with_parent()
    lane = Lane(Path(sys.argv[1]), Path(sys.argv[2]))
    # What Django and the commands print goes to the log: standard output is for answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    Path(sys.argv[1]).parent.mkdir(parents=True, exist_ok=True)
    log = os.open(f"{sys.argv[1]}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        lane.begin()
        answers.write("ready\n")
        for line in sys.stdin:
            answers.write(json.dumps(lane.play(int(line))) + "\n")
    finally:
        lane.end()


if __name__ == "__main__":
    main()
