"""A mail server of the tests' own: it takes e-mails in, refuses them, or hangs up in the middle of one."""

import socketserver
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from threading import Event, Thread


class PostOffice(socketserver.ThreadingTCPServer):
    """Speaks as much SMTP as smtplib needs. What `taken` holds has been accepted with 250."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Clerk)
        self.taken: list[EmailMessage] = []
        # An answer to RCPT other than 250, such as "550 no such mailbox".
        self.refuses = ""
        # Hang up when the text of an e-mail has been read, having kept it or not.
        self.hangs_up = False
        # Somebody is at the counter with an e-mail; it is taken when they are let go, which is at once by default.
        self.at_counter, self.lets_go = Event(), Event()
        self.lets_go.set()

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class Clerk(socketserver.StreamRequestHandler):
    server: PostOffice

    def say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())

    def handle(self) -> None:
        self.say("220 post office")
        while line := self.rfile.readline():
            command = line.decode().strip().upper()
            if command == "DATA":
                if not self.take():
                    return
            elif command.startswith("RCPT") and self.server.refuses:
                self.say(self.server.refuses)
            elif command == "QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 ok")

    def take(self) -> bool:
        self.say("354 go on")
        lines = []
        while (line := self.rfile.readline()) not in {b".\r\n", b""}:
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        message = message_from_bytes(b"".join(lines), policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.server.at_counter.set()
        self.server.lets_go.wait(timeout=60)
        if self.server.hangs_up:
            return False
        self.server.taken.append(message)
        self.say("250 taken")
        return True


@contextmanager
def open_post_office() -> Iterator[PostOffice]:
    with PostOffice() as office:
        Thread(target=office.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield office
        finally:
            office.shutdown()
