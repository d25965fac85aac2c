"""One connected client: its socket, its requests, and the data that it has not yet accepted."""

from __future__ import annotations

import select
from collections import deque

from fixgw.net.listener import Caller
from fixgw.netfix.sentence import Garbage, LineSplitter

Topic = tuple[str, str]  # key and aux name, "" for the item itself


class Peer:
    """One connected client. Only the thread that holds `FanOut.working` may use it."""

    def __init__(self, caller: Caller, source: str, since: float) -> None:
        self.sock = caller.sock
        self.fd = self.sock.fileno()
        self.address = caller.address
        self.name = str(caller)
        self.source = source
        self.since = since
        self.may_write = False
        self.may_admin = False
        self.splitter = LineSplitter()
        self.todo: deque[str | Garbage] = deque()
        self.subscriptions: dict[str, float] = {}  # key -> when the client subscribed
        self.read_at: dict[str, float] = {}
        self.replies: list[str] = []  # answers of this turn, not yet sent
        self.out = b""  # data that the socket did not accept
        self.behind: dict[Topic, None] = {}  # topics to send when it accepts data again
        self.events = select.EPOLLIN
        self.gateway = ""  # the identity of the gateway, if the client is another gateway's link
        self.awaits_status = False
        self.synced = False
        self.ended = False  # the client has closed its half of the connection
        self.closed = False  # we have closed the connection
        self.progress = since
        self.sent = self.received = self.errors = self.conflated = 0

    @property
    def idle(self) -> bool:
        return not (self.out or self.todo or self.behind or self.awaits_status)

    def reply(self, text: str) -> None:
        self.replies.append(text)

    def emit(self) -> None:
        """Send the replies of this turn."""
        if self.replies:
            self.sent += len(self.replies)
            self.replies.append("")
            data = "\n".join(self.replies).encode("utf-8", "replace")
            self.replies.clear()
            self.send(data)

    def send(self, data: bytes) -> None:
        """Send `data`, and keep what the socket does not accept now. Raises OSError if the client is gone."""
        if self.out:
            self.out += data
            return
        try:
            n = self.sock.send(data)
        except BlockingIOError:
            n = 0
        if n < len(data):
            self.out = data[n:]

    def drain(self, now: float) -> bool:
        """Send what was kept. Returns True if the socket accepted all of it."""
        try:
            n = self.sock.send(self.out)
        except BlockingIOError:
            return False
        if n:
            self.progress = now
            self.out = self.out[n:]
        return not self.out
