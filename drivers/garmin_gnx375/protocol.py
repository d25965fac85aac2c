"""A Garmin navigator's serial output without I/O: bytes in, updates out (`Receiver`).

It takes the aviation output (`fixgw.drivers.garmin`) and NMEA 0183 (`fixgw.drivers.nmea`), whichever comes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from fixgw.drivers import garmin, nmea
from fixgw.drivers.garmin import Navigator
from fixgw.kit.update import Update

KEYS = garmin.KEYS | nmea.KEYS


class Receiver:
    """Decodes the stream of one navigator. `clock`, `true_directions` and `full_scale` are those of `Navigator`."""

    REFUSALS: ClassVar[Sequence[str]] = (*nmea.Framer.REFUSALS, "truncated")

    def __init__(
        self,
        clock: Callable[[], float],
        counts: dict[str, int] | None = None,
        *,
        true_directions: bool = False,
        full_scale: float,
    ) -> None:
        self._nmea = nmea.Receiver(clock, counts, full_scale)
        self.counts = self._nmea.counts
        self.counts.setdefault("truncated", 0)
        self._aviation = Navigator(clock, self.counts, true_directions=true_directions, full_scale=full_scale)
        self._buffer = b""  # an unfinished frame of the aviation output
        #: What comes: "aviation" or "NMEA 0183"; empty before anything has.
        self.format = ""
        self._truncated = ""

    @property
    def refused(self) -> str:
        """The last refused frame of the format that comes; of either, as long as neither does."""
        aviation = self._aviation.refused or self._truncated
        return aviation if self.format == "aviation" else self._nmea.refused or aviation

    @property
    def trouble(self) -> str:
        return self._aviation.trouble if self.format == "aviation" else self._nmea.trouble

    def feed(self, data: bytes) -> list[Update]:
        """The updates of what `data` completes, in order."""
        buffer = self._buffer + data
        updates: list[Update] = []
        while buffer:
            if buffer[0] != garmin.STX:
                text = buffer.partition(b"\x02")[0]
                updates += self._sentences(text)
                buffer = buffer[len(text) :]
                continue
            length = garmin.frame_length(buffer)
            if not length:
                break
            frame, buffer = buffer[: abs(length)], buffer[abs(length) :]
            if length > 0:
                self.format = "aviation"
                updates += self._aviation.decode(frame)
            else:
                self.counts["received"] += 1
                self.counts["truncated"] += 1
                self._truncated = f"truncated: {frame[:200]!r}"
        self._buffer = buffer
        return updates

    def _sentences(self, text: bytes) -> list[Update]:
        used = self.counts["used"]
        updates = self._nmea.feed(text)
        if self.counts["used"] > used:
            self.format = "NMEA 0183"
        return updates

    def tick(self) -> list[Update]:
        """The updates that are due because data stopped; call it a few times a second."""
        return [*self._aviation.tick(), *self._nmea.tick()]

    def interrupt(self) -> None:
        """Forget what is unfinished: bytes have been lost."""
        self._buffer = b""
        self._nmea.interrupt()
