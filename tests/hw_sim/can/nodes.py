"""A virtual CAN-FIX node: everything that the protocol requires of any node. No thread, socket or clock.

    node = AirData()                       # from `fixgw.hw_sim.can.devices`
    node.received(0x6E1, b"\\x00\\x00")      # node 1 asks everybody: who are you?
    for frame in node.due(now, view): ...  # its answer, its heartbeat, its parameters

It answers identification (and describes itself), bit rate, node id, disable, enable, report and configuration. It sends
its parameters at their rates and their limits from time to time, a heartbeat every second, and data about itself every
ten seconds. Settings that it must remember survive `power_cycle`.

Every frame is packed by hand from numbers written here and in `devices`, so that it can prove a codec wrong. Firmware
updates, two-way channels, arbitration and bit timing are not modelled.
"""

from __future__ import annotations

import math
import struct
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

from fixgw.hw_sim.can.segment import SimFrame

#: The virtual aircraft's values by key, and the rest of what `devices.look` returns.
View = Mapping[str, Any]

NODE_SPECIFIC = 0x6E0  # + the sender's node id

# Control codes of node-specific messages.
IDENTIFICATION, BIT_RATE, NODE_ID, DISABLE, ENABLE, REPORT, STATUS = range(7)
CONFIGURATION_SET, CONFIGURATION_QUERY, DESCRIPTION, PARAMETER_SET = 9, 10, 11, 12

# The function code of a parameter; bits 4 to 7 are the meta index.
ANNUNCIATE, QUALITY, FAILURE = 1, 2, 4

# Meta indices that all engine parameters share.
MIN, MAX, LOW_WARN, LOW_ALARM, HIGH_WARN, HIGH_ALARM = 1, 2, 4, 5, 6, 7

BIT_RATES = {1: 125_000, 2: 250_000, 3: 500_000, 4: 1_000_000}  # bit/s, by the code of the bit rate message

HEARTBEAT_S = 1.0
ABOUT_S = 10.0  # between two rounds of temperature, voltage, counters and serial number
LIMITS_EVERY = 10  # s to send every limit once; a configuration key
SWITCHING_S = 1.0  # silence between the old bit rate and the answer at the new one
HYSTERESIS = 0.01  # of a limit: an annunciation ends this far inside
INBOX = 32  # requests; more at once are overruns


class Output:
    """A parameter that a node sends, `rate` times a second: CAN id, index, and how to read its value from the aircraft.

    `read` returns the value's bytes. `limits` are set by the node's maker or the aircraft's builder: by meta index, in
    the parameter's units.
    """

    limits: Mapping[int, float] = {}

    def __init__(self, id: int, rate: float, read: Callable[[View], bytes] | None = None, index: int = 0) -> None:
        self.id = id
        self.rate = rate
        self.index = index
        self._read = read
        self.next = 0.0  # when it is due

    def measure(self, view: View) -> tuple[int, bytes]:
        """The function code's flags, and the value as sent."""
        assert self._read is not None
        return 0, self._read(view)

    def limit(self, meta: int) -> bytes:
        """A limit as sent."""
        raise NotImplementedError


class Number(Output):
    """A number: `source`, a key or a function of the view, times `factor`, in the parameter's units. A unit has `steps`
    steps on the wire; `code` is the type in `struct`'s letters. A `circle` ends at 360.

    A number that the type cannot carry is replaced by the nearest one that it can, and marked as suspect; one that is
    missing or not finite is marked as failed. Beyond an alarm limit it is annunciated; `alarms` are the meta indices of
    these limits, low and high.
    """

    def __init__(
        self,
        id: int,
        source: str | Callable[[View], float],
        code: str,
        steps: int = 1,
        *,
        rate: float,
        index: int = 0,
        factor: float = 1.0,
        circle: bool = False,
        limits: Mapping[int, float] | None = None,
        alarms: tuple[int, int] = (LOW_ALARM, HIGH_ALARM),
    ) -> None:
        super().__init__(id, rate, index=index)
        self.source = source
        self.limits = limits or {}
        self._alarms = alarms
        self._wire = struct.Struct("<" + code)
        self._steps = steps
        self._factor = factor
        self._circle = 360 * steps if circle else 0
        bits = 8 * self._wire.size
        self._low = 0 if code.isupper() else -(1 << bits - 1)
        self._high = self._low + (1 << bits) - 1
        self._float = code == "f"
        self._annunciating = False

    def measure(self, view: View) -> tuple[int, bytes]:
        source = self.source
        value = float(view.get(source, math.nan) if isinstance(source, str) else source(view)) * self._factor
        if not math.isfinite(value):
            return FAILURE, bytes(self._wire.size)
        raw, sent = self._raw(value)
        self._annunciating = self._alarming(value)
        return QUALITY * (sent != raw) | ANNUNCIATE * self._annunciating, self._wire.pack(sent)

    def limit(self, meta: int) -> bytes:
        return self._wire.pack(self._raw(self.limits[meta])[1])

    def _raw(self, value: float) -> tuple[float, float]:
        """The number to send, and the nearest one that can be sent."""
        if self._float:
            return value, value
        raw = round(value * self._steps)
        if self._circle:
            raw %= self._circle
        return raw, max(self._low, min(raw, self._high))

    def _alarming(self, value: float) -> bool:
        if not self.limits:
            return False
        margin = HYSTERESIS if self._annunciating else 0.0
        low, high = map(self.limits.get, self._alarms)
        return (low is not None and value < low + margin * abs(low)) or (
            high is not None and value > high - margin * abs(high)
        )


class Memory:
    """What survives a loss of power: the node id, the bit rate, and the disabled parameters."""

    def __init__(self, id: int) -> None:
        self.id = id
        self.bit_rate = 1  # a code, see `BIT_RATES`
        self.disabled: set[int] = set()
        self.limits_every = LIMITS_EVERY


class Setting(NamedTuple):
    """A configuration key: its type in `struct`'s letters, its range, and how to read it; read-only without `write`."""

    code: str
    low: int
    high: int
    read: Callable[[], int]
    write: Callable[[int], None] | None = None


class VirtualNode:
    """A node without faults. Devices define what it measures in `make_outputs`.

    `received` may be called from any thread, everything else from one.
    """

    NAME: ClassVar[str] = "Virtual node"
    DEVICE: ClassVar[int] = 0xFE  # a simulation; also the default node id
    MODEL: ClassVar[int] = 0x000001
    FIRMWARE: ClassVar[int] = 1

    def __init__(self, id: int | None = None, serial: int | None = None) -> None:
        self.memory = Memory(self.DEVICE if id is None else id)
        if not 1 <= self.memory.id <= 255:
            raise ValueError(f"{self.memory.id} is not a node id: it must be from 1 to 255")
        self.serial = 1000 + self.DEVICE if serial is None else serial
        self.outputs = self.make_outputs()
        #: The status bits in the heartbeat; 0 is good.
        self.errors = 0
        #: The speed of its clock: 1.01 is 1 % too fast.
        self.clock_rate = 1.0
        self.sent = 0
        self.heard = 0
        self.send_errors = 0
        self.overruns = 0
        self._inbox: deque[bytes] = deque()
        self._waiting: list[SimFrame] = []  # unsolicited frames, see `alarm`
        self._on = False
        self._time = 0.0
        self._last: float | None = None
        self._switching: tuple[float, int] | None = None
        self._settings = {
            1: Setting("I", 0, 0, lambda: self.serial),
            2: Setting("H", 1, 3600, lambda: self.memory.limits_every, self._set_limits_every),
        }

    @property
    def id(self) -> int:
        return self.memory.id

    # -- for devices ---------------------------------------------------------------------------------------------------

    def make_outputs(self) -> list[Output]:
        """Build its parameters; called once."""
        return []

    def changed(self) -> list[Output]:
        """The parameters that have just changed and must be sent at once."""
        return []

    def set(self, id: int, index: int, value: bytes) -> bool:
        """Accept a value for a parameter that the node owns; return whether it did."""
        return False

    # -- the bus -------------------------------------------------------------------------------------------------------

    def received(self, id: int, data: bytes) -> None:
        """Receive a base data frame from another node."""
        self.heard += 1
        if id <= NODE_SPECIFIC or id >= NODE_SPECIFIC + 256 or len(data) < 2 or self._switching:
            return
        control, destination = data[0], data[1]
        if destination in (self.id, 0) or PARAMETER_SET <= control < PARAMETER_SET + 8:
            if len(self._inbox) < INBOX:
                self._inbox.append(bytes((id - NODE_SPECIFIC, *data)))
            else:
                self.overruns += 1

    def power_cycle(self) -> None:
        """Restart at the next `due`, with the `memory` and the values that were set."""
        self._on = False
        self._switching = None
        self._inbox.clear()
        self._waiting.clear()
        self.sent = self.heard = self.send_errors = self.overruns = 0

    def alarm(self, code: int, data: bytes = b"") -> None:
        """Send a node alarm; `code` is defined by the maker, 0 to 65535, with up to 6 bytes."""
        self._waiting.append(SimFrame(self.id, struct.pack("<H", code) + data))

    def due(self, now: float, view: View) -> list[SimFrame]:
        """Every frame to send at `now`, in monotonic seconds, in order."""
        now = self._clock(now)
        frames: list[SimFrame] = []
        if not self._on:
            self._power_up(now)
            frames += self._heartbeat()
            frames += self._report(view)
        if self._switching:
            since, requester = self._switching
            if now - since < SWITCHING_S:
                return []
            self._switching = None
            frames.append(self._message(BIT_RATE, requester))
        while self._inbox:
            frames += self._obey(now, view, *self._inbox.popleft())
            if self._switching:
                break
        frames += self._waiting
        self._waiting.clear()
        for output in self.changed():
            output.next = now
        for output in self.outputs:
            if now >= output.next:
                output.next = max(output.next + 1.0 / output.rate, now)
                flags, value = output.measure(view)
                if output.id not in self.memory.disabled:
                    frames.append(self._parameter(output, flags, value))
        frames += self._in_the_background(now)
        self.sent += len(frames)
        return frames

    # -- frames --------------------------------------------------------------------------------------------------------

    def _message(self, control: int, *body: int) -> SimFrame:
        return SimFrame(NODE_SPECIFIC + self.id, bytes((control, *body)))

    def _parameter(self, output: Output, flags: int, value: bytes) -> SimFrame:
        return SimFrame(output.id, bytes((self.id, output.index, flags)) + value)

    def _heartbeat(self) -> list[SimFrame]:
        return [self._message(STATUS, 0, 0, *struct.pack("<H", self.errors))]

    def _limit(self, output: Output, meta: int) -> SimFrame:
        return self._parameter(output, meta << 4, output.limit(meta))

    def _report(self, view: View) -> list[SimFrame]:
        """Every enabled parameter, with its limits."""
        frames = []
        for output in self.outputs:
            if output.id not in self.memory.disabled:
                frames.append(self._parameter(output, *output.measure(view)))
                frames += [self._limit(output, meta) for meta in output.limits]
        return frames

    def _identity(self, requester: int) -> list[SimFrame]:
        model = self.MODEL.to_bytes(3, "little")
        frames = [self._message(IDENTIFICATION, requester, 1, self.DEVICE, self.FIRMWARE, *model)]
        text = self.NAME.encode("ascii") + b"\0"
        for packet, at in enumerate(range(0, len(text), 4)):
            frames.append(self._message(DESCRIPTION, requester, packet, 0, *text[at : at + 4].ljust(4, b"\0")))
        return frames

    # -- time ----------------------------------------------------------------------------------------------------------

    def _clock(self, now: float) -> float:
        """The time by the node's own crystal."""
        self._time += (now - self._last) * self.clock_rate if self._last is not None else 0.0
        self._last = now
        return self._time

    def _power_up(self, now: float) -> None:
        self._on = True
        self._next_heartbeat = now + HEARTBEAT_S
        self._next_about = now + ABOUT_S
        self._next_limit = now
        self._limit_at = 0
        for place, output in enumerate(self.outputs, 1):  # spread them out from then on
            output.next = now + place / len(self.outputs) / output.rate

    def _in_the_background(self, now: float) -> list[SimFrame]:
        frames: list[SimFrame] = []
        if now >= self._next_heartbeat:
            self._next_heartbeat = max(self._next_heartbeat + HEARTBEAT_S, now)
            frames += self._heartbeat()
        if now >= self._next_about:
            self._next_about = max(self._next_about + ABOUT_S, now)
            frames += self._about()
        while now >= self._next_limit:
            limits = [(output, meta) for output in self.outputs for meta in output.limits]
            if not limits:
                break
            pause = self.memory.limits_every / len(limits)
            self._next_limit = max(self._next_limit + pause, now - pause)
            output, meta = limits[self._limit_at % len(limits)]
            self._limit_at += 1
            if output.id not in self.memory.disabled:
                frames.append(self._limit(output, meta))
        return frames

    def _about(self) -> list[SimFrame]:
        """Data about itself: 31.5 °C inside, 13.8 V, frames sent, received, failed, overrun, serial number."""
        frames = [self._message(STATUS, type, 0, *struct.pack("<h", tenths)) for type, tenths in ((1, 315), (2, 138))]
        counters = {3: self.sent, 4: self.heard, 5: self.send_errors, 7: self.overruns, 8: self.serial}
        return frames + [self._message(STATUS, type, 0, *struct.pack("<I", n)) for type, n in counters.items()]

    # -- requests ------------------------------------------------------------------------------------------------------

    def _obey(
        self, now: float, view: View, requester: int, control: int, destination: int, *rest: int
    ) -> list[SimFrame]:
        body = bytes(rest)
        everybody = destination == 0
        if PARAMETER_SET <= control < PARAMETER_SET + 8:
            return self._set_parameter(control - PARAMETER_SET, bytes((destination, *rest)), view)
        if control == IDENTIFICATION:
            return self._identity(requester) if not any(body) else []  # if it has contents, it is an answer
        if control == REPORT:
            return self._report(view)
        if control == BIT_RATE and body:
            if body[0] not in BIT_RATES:
                return [] if body[0] == 0xFF else [self._message(BIT_RATE, requester, 0xFF)]  # FF marks an answer
            self.memory.bit_rate = body[0]
            self._switching = now, requester
            return []
        if control == DISABLE and len(body) >= 2:
            return self._enable(DISABLE, requester, body)
        if everybody:
            return []
        if control == NODE_ID and body and body[0]:
            self.memory.id = body[0]
            return [self._message(NODE_ID, requester, 0)]
        if control == ENABLE and len(body) >= 2:
            return self._enable(ENABLE, requester, body)
        if control == CONFIGURATION_SET and len(body) >= 2:
            return [self._message(control, requester, self._configure(body[0] | body[1] << 8, body[2:]))]
        if control == CONFIGURATION_QUERY and len(body) >= 2:
            setting = self._settings.get(body[0] | body[1] << 8)
            if setting is None:
                return [self._message(control, requester, 1)]
            return [self._message(control, requester, 0, *struct.pack("<" + setting.code, setting.read()))]
        return []

    def _enable(self, control: int, requester: int, body: bytes) -> list[SimFrame]:
        id = body[0] | body[1] << 8
        known = any(output.id == id for output in self.outputs)
        if known:
            (self.memory.disabled.add if control == DISABLE else self.memory.disabled.discard)(id)
        return [self._message(control, requester, not known)]

    def _configure(self, key: int, data: bytes) -> int:
        """Return 0, or the error: 1 unknown, 2 read-only, 3 out of range, 4 wrong type."""
        setting = self._settings.get(key)
        if setting is None:
            return 1
        if setting.write is None:
            return 2
        size = struct.calcsize("<" + setting.code)
        if len(data) < size or any(data[size:]):
            return 4
        (number,) = struct.unpack_from("<" + setting.code, data)
        if not setting.low <= number <= setting.high:
            return 3
        setting.write(number)
        return 0

    def _set_limits_every(self, seconds: int) -> None:
        self.memory.limits_every = seconds

    def _set_parameter(self, page: int, body: bytes, view: View) -> list[SimFrame]:
        """The owner answers only with the new value itself."""
        if len(body) < 3:
            return []
        word = body[0] | body[1] << 8
        id, index = word & 0x7FF, page << 5 | word >> 11
        if id in self.memory.disabled or not self.set(id, index, body[2:]):
            return []
        return [
            self._parameter(output, *output.measure(view))
            for output in self.outputs
            if (output.id, output.index) == (id, index)
        ]
