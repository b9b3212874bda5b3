"""What the product's processes run, as the Procfile has it: imported once, run in forks. See zygote.py."""

import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import celery.bin.worker
import celery.worker.consumer.consumer
import kombu.transport.redis
from celery.apps.beat import Beat
from celery.schedules import crontab
from django.core.management import call_command, load_command_class
from django.urls import get_resolver
from gunicorn.app.base import BaseApplication

from config.celery import app as celery_app
from config.schedule import SCHEDULE
from config.wsgi import application
from tests.faults.dying import die_with_parent
from tests.faults.shared_clock import SharedClock, keep_time

# Imported for what they bring into memory.
WARM = (celery.bin.worker, celery.worker.consumer.consumer, kombu.transport.redis)
# What beat does every 15 seconds it does that many times as often: a schedule lasts a few seconds.
QUICKER = 25
SHORTEST = 0.5


def warm_up() -> None:
    """Import what is otherwise imported by the first request and the first task."""
    get_resolver().url_patterns  # noqa: B018
    get_resolver().reverse_dict  # noqa: B018
    load_command_class("usage", "drain_usage")
    celery_app.loader.import_default_modules()
    celery_app.finalize()


class Web(BaseApplication):
    """gunicorn, with the Procfile's kind of worker."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self.options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        return application


def web(*, port: int, clock: str) -> None:
    shared = SharedClock(Path(clock))

    def begin(server: Any, worker: Any) -> None:
        die_with_parent()
        keep_time(shared)

    Web(
        {
            "bind": f"127.0.0.1:{port}",
            "worker_class": "gthread",
            "workers": 2,
            "threads": 4,
            "reuse_port": True,  # The lane holds the port, without listening, while nobody serves.
            "graceful_timeout": 1,
            "timeout": 30,
            "keepalive": 30,
            "loglevel": "warning",
            "control_socket_disable": True,
            "worker_tmp_dir": "/dev/shm" if Path("/dev/shm").is_dir() else None,  # noqa: S108
            "post_fork": begin,
        }
    ).run()


def drain(*, clock: str) -> None:
    keep_time(SharedClock(Path(clock)))
    call_command("drain_usage")


def worker(*, clock: str, name: str) -> None:
    keep_time(SharedClock(Path(clock)))
    celery_app.conf.update(worker_hijack_root_logger=False)
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=WARNING"]
    celery_app.worker_main(["worker", "--pool=solo", "--concurrency=1", f"--hostname={name}@%h", *quiet])


def beat(*, clock: str, schedule: str) -> None:
    keep_time(SharedClock(Path(clock)))
    # What is done at an hour of the night goes by the machine's clock, which nobody moves: left out.
    celery_app.conf.beat_schedule = {
        name: {**entry, "schedule": max(seconds_of(entry["schedule"]) / QUICKER, SHORTEST)}
        for name, entry in SCHEDULE.items()
        if not isinstance(entry["schedule"], crontab)
    }
    celery_app.conf.worker_hijack_root_logger = False
    Beat(app=celery_app, schedule=schedule, max_interval=0.25, loglevel="WARNING", quiet=True).run()
    sys.stdout.flush()


def seconds_of(schedule: float | timedelta) -> float:
    return schedule.total_seconds() if isinstance(schedule, timedelta) else float(schedule)


ROLES: dict[str, Callable[..., None]] = {"web": web, "drain": drain, "worker": worker, "beat": beat}
