"""A virtual slcan adapter: LAWICEL's serial protocol on a pseudo-terminal, a node on a `Segment` behind it.

    with Segment() as segment, VirtualSlcan(segment) as adapter:
        print("connect to", adapter.path)

Any program that supports slcan adapters can open the path. The adapter can be unplugged, mute or jammed, and can raise
error flags.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

from fixgw.hw_sim.can.segment import Segment, SimFrame
from fixgw.hw_sim.pty import VirtualPort

RATES = (10000, 20000, 50000, 100000, 125000, 250000, 500000, 800000, 1000000)
FD_SIZES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64)
OK, NO = b"\r", b"\a"

# The status flags that the command F reads and clears.
RX_FULL, TX_FULL, WARNING, OVERRUN, PASSIVE, ARBITRATION_LOST, BUS_ERROR = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40, 0x80


class VirtualSlcan:
    """The adapter. It is plugged in from the start, with its CAN channel closed, as on a real one.

    A `mute` adapter obeys but never answers, as some do. On a segment with a bit rate, an adapter set to another rate
    receives and sends nothing, and reports bus errors. Any thread.
    """

    def __init__(
        self,
        segment: Segment,
        path: str | None = None,
        mute: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.port = VirtualPort(path)
        self.path = self.port.path
        self.mute = mute
        #: A jammed adapter accepts no frames to send.
        self.jammed = False
        #: The flags that F reports; `WARNING` and `PASSIVE` stay until they are removed, reporting clears the others.
        self.flags = 0
        self.opened = self.listen_only = self.stamping = False
        self.bitrate: int | None = None
        #: The last thousand commands, newest last.
        self.commands: list[bytes] = []
        self.overruns = 0
        self._segment = segment
        self._clock = clock
        self._unsent = b""
        self._writing = threading.Lock()
        #: Its node on the bus.
        self.node = segment.attach("slcan", self._received)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="virtual slcan", daemon=True)
        self._thread.start()

    @property
    def sent(self) -> int:
        """How many frames it has put on the bus."""
        return self.node.sent

    def unplug(self) -> None:
        """Unplug the adapter: the device disappears, and its settings are lost."""
        self.port.unplug()
        self._power_up()

    def plug(self) -> None:
        self.port.plug()

    def close(self) -> None:
        """Unplug for good; may be called twice."""
        self._stopping.set()
        self.node.detach()
        self._thread.join(5.0)
        self.port.close()

    def __enter__(self) -> VirtualSlcan:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _power_up(self) -> None:
        self.opened = self.listen_only = self.stamping = False
        self.bitrate = None
        self.flags = 0
        with self._writing:
            self._unsent = b""

    # -- to the computer -----------------------------------------------------------------------------------------------

    def _received(self, frame: SimFrame) -> None:
        if not self.opened:
            return
        if not self._on_speed():
            self.flags |= BUS_ERROR
            return
        line = self._line(frame)
        if self.stamping:
            line += f"{int(self._clock() * 1000) % 60000:04X}"
        if not self.tell(line.encode() + OK):
            self.flags |= OVERRUN
            self.overruns += 1

    @staticmethod
    def _line(frame: SimFrame) -> str:
        letter = ("b" if frame.brs else "d") if frame.fd else "r" if frame.remote else "t"
        size = FD_SIZES.index(len(frame.data))
        head = (
            f"{letter.upper()}{frame.arbitration_id:08X}" if frame.extended else f"{letter}{frame.arbitration_id:03X}"
        )
        return f"{head}{size:X}" + ("" if frame.remote else frame.data.hex().upper())

    def tell(self, data: bytes) -> bool:
        """Send any bytes to the computer; False if they were lost because earlier ones have not been read."""
        with self._writing:
            if self._unsent:
                self._unsent = self._unsent[self.port.write(self._unsent) :]
                if self._unsent:
                    return False
            if not self.port.opened:
                return False
            self._unsent = data[self.port.write(data) :]
            return True

    def _on_speed(self) -> bool:
        return self._segment.bitrate in (None, self.bitrate)

    # -- from the computer ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        rest = b""
        while not self._stopping.is_set():
            data = self.port.read(0.05)
            if not data:
                if self._unsent:
                    self.tell(b"")
                continue
            *commands, rest = (rest + data).split(b"\r")
            rest = rest[-300:]
            for command in commands:
                self.commands.append(command)
                del self.commands[:-1000]
                try:
                    answer = self._obey(command)
                except (ValueError, IndexError):
                    answer = NO
                if not self.mute:
                    self.tell(answer)

    def _obey(self, command: bytes) -> bytes:
        """Return the answer to a command. Raises ValueError or IndexError if it is malformed."""
        if not command:
            return OK
        letter, rest = command[:1], command[1:]
        if letter in b"tTrRdDbB":
            return self._transmit(letter, rest)
        if letter in b"OL" and not rest:
            if self.opened or self.bitrate is None:
                return NO
            self.opened, self.listen_only = True, letter == b"L"
            return OK
        if letter == b"C" and not rest:
            was, self.opened = self.opened, False
            return OK if was else NO
        if letter == b"F" and not rest:
            flags, self.flags = self.flags, self.flags & (WARNING | PASSIVE)
            return b"F%02X\r" % flags if self.opened else NO
        if letter == b"V" and not rest:
            return b"V1013\r"
        if letter == b"N" and not rest:
            return b"NSIM1\r"
        if self.opened:  # the other commands need a closed channel
            return NO
        if letter == b"S" and len(rest) == 1:
            self.bitrate = RATES[int(rest)]
            return OK
        if letter == b"s" and len(bytes.fromhex(rest.decode())) == 2:
            self.bitrate = self._segment.bitrate or 1  # assume that it is right
            return OK
        if letter == b"Z" and rest in (b"0", b"1"):
            self.stamping = rest == b"1"
            return OK
        if letter in b"XYMm" and rest.isalnum():
            return OK
        return NO

    def _transmit(self, letter: bytes, rest: bytes) -> bytes:
        kind = letter.decode().lower()
        extended = letter.isupper()
        digits = 8 if extended else 3
        identifier, code, payload = int(rest[:digits], 16), int(rest[digits : digits + 1], 16), rest[digits + 1 :]
        fd, remote = kind in "db", kind == "r"
        size = FD_SIZES[code]
        data = bytes(size) if remote else bytes.fromhex(payload.decode())
        if len(data) != size or (size > 8 and not fd) or identifier > (0x1FFFFFFF if extended else 0x7FF):
            return NO
        if not self.opened or self.listen_only or self.jammed:
            return NO
        if not self._on_speed():
            self.flags |= BUS_ERROR
            return NO
        if not self.node.send(SimFrame(identifier, data, extended, remote, fd, kind == "b")):
            self.flags |= TX_FULL
            return NO
        return b"Z\r" if extended else b"z\r"
