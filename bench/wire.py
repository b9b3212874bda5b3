"""Redis with no client library: the least that one awaited round trip costs from Python on this machine."""

import socket
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

PING = b"*1\r\n$4\r\nPING\r\n"


def connect(redis_url: str) -> socket.socket:
    """Connect to where a REDIS_URL points, by TCP or by a Unix socket."""
    parts = urlsplit(redis_url)
    if parts.scheme == "unix":
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(unquote(parts.path))
        return connection
    connection = socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 6379))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def raw_round_trip(redis_url: str) -> Callable[[], None]:
    """Return a function that sends PING and reads the answer, with nothing to prepare or to parse."""
    connection = connect(redis_url)
    answer = bytearray(64)
    send, receive = connection.sendall, connection.recv_into

    def ping() -> None:
        send(PING)
        receive(answer)

    ping()
    if not answer.startswith(b"+PONG\r\n"):
        raise ConnectionError(f"Redis answered a PING with {bytes(answer[:40])!r}.")
    return ping


def command(*words: bytes | str) -> bytes:
    """Return a command as it goes over the wire (RESP 2)."""
    parts = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
