import gc
import signal
import time
import uuid
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import InterfaceError, OperationalError, connection
from redis.exceptions import RedisError

from usage.stream import TAKE_OVER_AFTER_MS, Drain

BLOCK_MS = 500


class Command(BaseCommand):
    help = "Move usage events from the Redis stream into the ledger until stopped. Several at once share the work."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="Stop when the stream is empty.")

    def handle(self, *args: Any, **options: Any) -> None:
        # All that is there now stays: the collector need not look through it again with every page of events.
        gc.freeze()
        self.running = True
        self.consumer = uuid.uuid4().hex
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, self.stop)
        if options["once"]:
            drain = Drain(consumer=self.consumer)
            while drain.run_once():
                pass
            drain.leave()
            return
        self.stdout.write("Draining usage events.")
        while self.running:
            try:
                self.drain()
            except (RedisError, OperationalError, InterfaceError) as error:
                # Nothing is acknowledged that is not stored: the batch comes again.
                self.stderr.write(f"The drain waits for its stores: {error}")
                connection.close()
                time.sleep(1)

    def drain(self) -> None:
        drain = Drain(consumer=self.consumer)
        drain.recover()
        looked_for_abandoned = 0.0
        while self.running:
            if time.monotonic() - looked_for_abandoned > TAKE_OVER_AFTER_MS / 1000:
                while drain.take_over():
                    pass
                drain.clean_up()
                looked_for_abandoned = time.monotonic()
            drain.run_once(block_ms=BLOCK_MS)
        drain.leave()

    def stop(self, signum: int, frame: FrameType | None) -> None:
        self.running = False
