"""Traffic from dump1090, readsb and other receivers of ADS-B, by BaseStation text (SBS) or `aircraft.json`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from fixgw.drivers.dump1090.protocol import MAX_LINE_BYTES, Decoder
from fixgw.drivers.links.serial import Line, NetworkOptions, NetworkPort, SerialPoller
from fixgw.kit import traffic
from fixgw.plugin import Device, Feeds, Finding, Poller

JSON = ".json"
#: dump1090 writes its file every second. One that does not change for this long is not its any more.
FILE_PATIENCE_S = 10.0
#: Lines without sense for this long are reported.
GARBAGE_S = 3.0


class Dump1090Options(NetworkOptions, frozen=True, kw_only=True):
    """Options for a receiver. Without any, it has to serve BaseStation text on this computer."""

    SCHEME: ClassVar[str] = "tcp"
    port: NetworkPort = 30003


class Plugin(SerialPoller[Dump1090Options]):
    """One receiver. It writes to the table of traffic, and nothing to the database."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._targets = traffic.table(self.db)
        self._protocol = Decoder(self.counts)
        self._is_file = self.options.url.startswith("/") and self.options.url.endswith(JSON)

    @classmethod
    def preflight(cls, options: Dump1090Options) -> Iterable[Device | Feeds | Finding]:
        return () if options.url.endswith(JSON) else super().preflight(options)

    def open(self) -> None:
        super().open()
        self._protocol.interrupt()

    def received(self, data: bytes) -> bool:
        refused, received = self._refused(), self.counts["received"]
        for said in self._protocol.feed(data):
            target = said.target._replace(source=self.source)
            if said.whole:
                self._targets.put(target, said.age_s, said.position_age_s)
            else:
                self._targets.merge(target)
        refused_now = self._refused() - refused
        if refused_now:
            self.complain("refused %d lines so far; the last: %s", self._refused(), self._protocol.refused)
        return self.counts["received"] - received > refused_now

    def flushed(self) -> None:
        self._protocol.interrupt()

    def health(self) -> str:
        if trouble := Poller.health(self):
            return trouble
        now = self.clock()
        if self._is_file and now - max(self.heard_at, self._searching_since) > FILE_PATIENCE_S:
            return "the file does not change: does the receiver run?"
        # Without aircraft in sight there are no lines.
        if self.heard_at - max(self.valid_at, self._searching_since) > GARBAGE_S:
            return "only garbage: is this BaseStation text or aircraft.json?"
        return ""

    def get_status(self) -> Mapping[str, Any]:
        return {**super().get_status(), "targets": self._targets.status(self.source)}

    def _open_now(self) -> Line:
        if self._is_file:
            return FileLink(self.options.url, self.stopping, lambda: self.poll_timeout)
        return super()._open_now()

    def _refused(self) -> int:
        return sum(self.counts[reason] for reason in self._protocol.REFUSALS)


class FileLink:
    """A file that its program replaces again and again, as a serial line: each new content is one line.

    What is there at first may be of any age, and is not read. Has the part of pyserial's interface that links use.
    """

    described = "file"

    def __init__(self, path: str, stopping: threading.Event, timeout: Callable[[], float]) -> None:
        self._path = path
        self._stopping = stopping
        self._timeout = timeout
        self._buffer = b""
        self._seen = self._state()

    @property
    def in_waiting(self) -> int:
        return len(self._buffer)

    def read(self, size: int) -> bytes:
        """At most `size` bytes; empty if the file has not changed for a while. Raises OSError if it is gone."""
        if not self._buffer:
            state = self._state()
            if state == self._seen:
                self._stopping.wait(self._timeout())
                return b""
            self._seen = state
            with open(self._path, "rb") as file:
                self._buffer = file.read(MAX_LINE_BYTES).replace(b"\n", b" ") + b"\n"
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def write(self, data: bytes) -> int:
        return 0

    def close(self) -> None:
        self._buffer = b""

    def _state(self) -> tuple[int, int, int]:
        found = os.stat(self._path)
        return found.st_mtime_ns, found.st_ino, found.st_size
