"""One connected client: its socket, its requests, and the data that it has not yet accepted."""

from __future__ import annotations

import select
from collections import deque

from fixgw.database import Value
from fixgw.net.listener import Caller
from fixgw.netfix.sentence import Garbage, LineSplitter

Topic = tuple[str, str]  # key and aux name, "" for the item itself


class Written:
    """What a client has written to an item."""

    __slots__ = ("flags", "handed_back", "stamp", "value", "varied")

    def __init__(self) -> None:
        self.value: Value | None = None  # the last value that was stored
        self.stamp = float("nan")  # of the reading with that value
        self.varied = False  # whether it has written different values
        self.handed_back = False  # whether it has written back a value without effect
        self.flags = 0  # the flags that it has set on another source's reading


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
        self.written: dict[str, Written] = {}
        self.replies: list[str] = []  # answers of this turn, not yet sent
        self.out = bytearray()  # data that the socket did not accept
        self.behind: dict[Topic, None] = {}  # topics to send when it accepts data again
        self.events = select.EPOLLIN | select.EPOLLRDHUP
        self.gateway = ""  # the identity of the gateway, if the client is another gateway's link
        self.traces = False  # the link understands, and says, which gateways a value has passed through
        self.awaits = False  # another thread works for the client, whose next command has to wait for it
        self.synced = False
        self.unread = False  # data has arrived, and is read when it is the client's turn
        self.backlog = False  # the data read now waited while this process was held up
        self.drained = False  # the last read has emptied the socket
        self.settled_at = 0.0  # when, after a hold-up, all data in the network has arrived
        self.queued = False  # the client waits for its turn
        self.debt = 0.0  # seconds of the server's time that the client has used, minus those paid back
        self.debt_at = 0.0  # when the debt was last updated
        self.heard_at: float | None = None  # when the client last sent anything
        self.foreign = ""  # why this is not a NetFIX client
        self.leaving = False  # the client has closed its half of the connection; we may have data of it to read
        self.ended = False  # we have read all of it
        self.closed = False  # we have closed the connection
        self.progress = since
        self.sent = self.received = self.errors = self.conflated = 0

    @property
    def idle(self) -> bool:
        return not (self.out or self.todo or self.behind or self.awaits)

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
            self.out += data[n:]

    def drain(self, now: float) -> bool:
        """Send what was kept. Returns True if the socket accepted all of it."""
        try:
            n = self.sock.send(self.out)
        except BlockingIOError:
            return False
        if n:
            self.progress = now
            del self.out[:n]
        return not self.out
