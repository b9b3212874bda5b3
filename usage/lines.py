"""Connections to Redis for what happens at each call: a script to be answered, an entry to be handed over.

A line speaks RESP itself, by hiredis, over a socket that redis-py has opened (addresses, TLS and log-in are its
work). It does what redis-py's client cannot: send an entry without waiting, and read its answer before that of
the next command. On a call's path that is one round trip instead of two, at half of each one's cost.

With a Redis Cluster every command goes through redis-py's client, which follows slots that move.
"""

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

from hiredis import Reader, pack_command
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as TooLate

from usage.redis_client import get_redis, is_cluster

logger = logging.getLogger(__name__)

Failed = Callable[[], None]
Argument = str | bytes | int

CONFIRM_SECONDS = 0.2  # How long an entry's answer may stay unread while no other command follows.
MOST_UNREAD = 64


class NotSent(Lost):
    """The connection was lost before the command was out: Redis cannot have carried it out."""


class Line:
    """One connection, used by one thread at a time. Each entry is sent with what to do should it not arrive."""

    def __init__(self) -> None:
        # Not by the pool's own make_connection: that counts what it made for good, and makes a hundred in all.
        pool = get_redis().connection_pool
        self.connection = pool.connection_class(**pool.connection_kwargs)
        self.connection.connect()
        self.socket: Any = self.connection._sock
        self.reader = Reader(protocolError=Lost, replyError=ResponseError, encoding="utf-8", errors="replace")
        self.unread: list[Failed] = []
        self.is_fresh = True

    def call(self, command: tuple[Any, ...]) -> Any:
        """Return the answer to `command`; a ResponseError is returned, not raised. Raises RedisError.

        Whatever has been sent before is answered first.
        """
        self.say(command)
        return self.hear()

    def say(self, command: tuple[Any, ...]) -> None:
        """Send `command`, whose answer `hear` returns. Raises NotSent."""
        try:
            self.socket.sendall(pack_command(command))
        except OSError as error:
            raise NotSent(f"The connection to Redis is lost: {error}") from error

    def hear(self) -> Any:
        """Return the answer to what was said last. Raises RedisError."""
        answer = self.read()
        while self.unread:
            self.take(answer)
            answer = self.read()
        self.is_fresh = False
        return answer

    def send(self, command: tuple[Any, ...], failed: Failed) -> None:
        """Send `command`, whose answer is read later. Raises RedisError where it cannot even be sent."""
        self.say(command)
        self.unread.append(failed)
        if len(self.unread) >= MOST_UNREAD:
            self.confirm()

    def confirm(self) -> None:
        """Read what is still to be answered. Raises RedisError."""
        while self.unread:
            self.take(self.read())

    def take(self, answer: Any) -> None:
        failed = self.unread.pop(0)
        if isinstance(answer, Exception):
            logger.warning("Redis did not take a usage event: %s", answer)
            tell(failed)

    def read(self) -> Any:
        answer = self.reader.gets()
        while answer is False:
            try:
                received = self.socket.recv(65536)
            except TimeoutError as error:
                raise TooLate("Redis did not answer in time.") from error
            except OSError as error:
                raise Lost(f"The connection to Redis is lost: {error}") from error
            if not received:
                raise Lost("Redis has closed the connection.")
            self.reader.feed(received)
            answer = self.reader.gets()
        return answer

    def close(self) -> None:
        """Hang up. What has not been answered may have arrived or not: each is told that it failed."""
        self.connection.disconnect()
        unread, self.unread = self.unread, []
        for failed in unread:
            tell(failed)


def tell(failed: Failed) -> None:
    """Say that an entry failed. No error gets out: who reads the answer asked for another, and more are to be told."""
    try:
        failed()
    except Exception:
        logger.exception("What became of a usage event that Redis did not take is not known")


class Question:
    """A command that is under way, on a line that nobody else uses until its answer has been read."""

    __slots__ = ("command", "line", "lines")

    def __init__(self, lines: "Lines", line: Line, command: tuple[Any, ...]) -> None:
        self.lines, self.line, self.command = lines, line, command

    def answer(self) -> Any:
        """Return Redis's answer, a ResponseError too, as `Lines.ask` does for what is repeatable. Once."""
        try:
            answer = self.line.hear()
        except Lost:
            is_fresh = self.line.is_fresh
            self.line.close()
            if is_fresh:
                raise
            return self.lines.ask(self.command)
        except BaseException:
            self.line.close()
            raise
        self.lines.idle.append(self.line)
        return answer


class Lines:
    """The process's lines. The one that was put back last is taken first, so that few are in use."""

    # Outlives a fork: what modules have asked for when they were imported.
    watchers: ClassVar[list[Callable[[], None]]] = []

    def __init__(self) -> None:
        self.idle: list[Line] = []
        self.by_cluster: bool | None = None  # Not known before the first command: settings are read then.
        self.attempts: list[Callable[[], bool]] = []
        self.confirmer: threading.Thread | None = None
        self.work = threading.Event()

    def call(self, *command: Argument) -> Any:
        """Return Redis's answer. Raises RedisError."""
        answer = self.ask(command)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def ask(self, command: tuple[Any, ...], *, is_repeatable: bool = True) -> Any:
        """Return Redis's answer, a ResponseError too. Raises RedisError where there is none.

        What is not repeatable fails where it may have been carried out. In a cluster redis-py decides that.
        """
        if self.by_cluster is not False and self.finds_nodes():
            try:
                return get_redis().execute_command(*command)
            except ResponseError as error:
                return error
        try:
            line = self.idle.pop()
        except IndexError:
            line = Line()
        try:
            answer = line.call(command)
        except Lost as error:
            # Redis hangs up on idle clients, and when it restarts: a connection that has served before is tried
            # anew, once. Whatever it was asked may be done twice then, which costs quota but never a bill.
            is_fresh = line.is_fresh
            line.close()
            if is_fresh or not (is_repeatable or isinstance(error, NotSent)):
                raise
            line = Line()
            try:
                answer = line.call(command)
            except BaseException:
                line.close()
                raise
        except BaseException:
            line.close()
            raise
        self.idle.append(line)
        return answer

    def begin(self, command: tuple[Any, ...]) -> Question | None:
        """Ask, and let the answer be read later; None where that cannot be, as in a cluster. Raises RedisError."""
        if self.by_cluster is not False and self.finds_nodes():
            return None
        try:
            line = self.idle.pop()
        except IndexError:
            line = Line()
        try:
            line.say(command)
        except BaseException:
            line.close()
            raise
        return Question(self, line, command)

    def send(self, *command: Argument, failed: Failed) -> None:
        """Send without waiting. Where it turns out not to have arrived, `failed` is called, in whichever thread.

        Raises RedisError where it could not be sent; `failed` is not called then.
        """
        if self.finds_nodes():
            get_redis().execute_command(*command)
            if not self.work.is_set():
                self.wake()
            return
        try:
            line = self.idle.pop()
        except IndexError:
            line = Line()
        try:
            line.send(command, failed)
        except BaseException:
            line.close()
            raise
        self.idle.append(line)
        if not self.work.is_set():
            self.wake()

    def finds_nodes(self) -> bool:
        if self.by_cluster is None:
            self.by_cluster = is_cluster()
        return self.by_cluster

    def confirm(self) -> None:
        """Read every answer that is still to come to lines nobody uses just now."""
        for line in list(self.idle):
            if not line.unread:
                continue
            try:
                self.idle.remove(line)
            except ValueError:
                continue  # In use again, and so about to read them.
            try:
                line.confirm()
            except RedisError:
                line.close()
            else:
                self.idle.insert(0, line)

    def wake(self) -> None:
        if self.confirmer is None or not self.confirmer.is_alive():
            self.confirmer = threading.Thread(target=self.confirm_always, name="usage-confirmer", daemon=True)
            self.confirmer.start()
        self.work.set()

    def confirm_always(self) -> None:
        """Read late answers, for as long as there are any; then wait for work."""
        while self.work.wait():
            time.sleep(CONFIRM_SECONDS)
            self.work.clear()
            try:
                self.confirm()
                self.attempt()
                for look in self.watchers:
                    look()
            except Exception:
                logger.exception("Answers about usage events could not be read")
                self.work.set()

    def watch(self, look: Callable[[], None]) -> None:
        """Call `look` every now and then while entries are sent, in a thread of its own."""
        self.watchers.append(look)

    def repeat(self, attempt: Callable[[], bool]) -> None:
        """Call `attempt` every now and then until it returns True."""
        if attempt not in self.attempts:
            self.attempts.append(attempt)
        self.wake()

    def attempt(self) -> None:
        for _ in range(len(self.attempts)):
            # Out of the list first: what is asked for again while it runs has to run again.
            attempt = self.attempts.pop(0)
            is_done = False
            try:
                is_done = attempt()
            finally:
                if not is_done:
                    self.attempts.append(attempt)
        if self.attempts:
            self.work.set()

    def close(self) -> None:
        self.by_cluster = None
        idle, self.idle = self.idle, []
        for line in idle:
            line.close()


lines = Lines()


def forget() -> None:
    """In a forked child: the parent goes on using its connections, so they are dropped without a word."""
    lines.__init__()  # type: ignore[misc]


os.register_at_fork(after_in_child=forget)
atexit.register(lines.confirm)
