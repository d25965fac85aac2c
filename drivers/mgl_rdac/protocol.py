"""The CAN messages of MGL Avionics' RDAC without I/O: frames in, updates out (`Decoder`); values in, frames out
(`Encoder`).

An arbitration id of 11 bits is the sender's address times 16, plus the message number; RDAC n has the address 31 + n. A
message is four words, low byte first. We had no document from the vendor: docs/drivers/mgl_rdac.md says what follows.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from fixgw.kit.curve import Curve
from fixgw.kit.update import FAIL, Update, begin_counting

if TYPE_CHECKING:
    from fixgw.drivers.links.can.frame import Frame

FIRST_ADDRESS = 31
VOLT = 0.017428951  # volts per unit sent
LAST_SINGLE_RPM = 50_000  # above this, one unit is ten revolutions a minute
NO_FLOW = 0xFFFF
FULL_SCALE = 4095  # of an analog input
COLD_JUNCTION_MAX_AGE_S = 10.0  # the thermocouples may use an RDAC temperature up to this age

Kind = Literal["flow", "thermocouple", "analog", "word", "temperature", "voltage", "rpm"]


class Channel(NamedTuple):
    """Where a reading is, and its kind; raw ones need a curve."""

    message: int
    word: int
    kind: Kind

    @property
    def raw(self) -> bool:
        return self.kind in ("flow", "analog", "word")


CHANNELS: Mapping[str, Channel] = {
    "fuel_flow_1": Channel(1, 0, "flow"),
    "fuel_flow_2": Channel(1, 2, "flow"),
    **{f"thermocouple_{n + 1}": Channel(2 + n // 4, n % 4, "thermocouple") for n in range(12)},
    "oil_temperature": Channel(5, 0, "analog"),
    "oil_pressure": Channel(5, 1, "analog"),
    "aux_1": Channel(5, 2, "analog"),
    "aux_2": Channel(5, 3, "analog"),
    "fuel_pressure": Channel(6, 0, "analog"),
    "coolant": Channel(6, 1, "analog"),
    "fuel_level_1": Channel(6, 2, "analog"),
    "fuel_level_2": Channel(6, 3, "analog"),
    "temperature": Channel(7, 0, "temperature"),
    "voltage": Channel(7, 1, "voltage"),
    "rpm_1": Channel(8, 0, "rpm"),
    "rpm_2": Channel(8, 1, "rpm"),
    "map": Channel(8, 2, "word"),
    "current": Channel(8, 3, "word"),
}
MESSAGES = frozenset(channel.message for channel in CHANNELS.values())
LENGTH = {7: 4}  # minimum in bytes, by message; the others have eight
#: The possible range of readings that need no curve.
POSSIBLE: Mapping[Kind, tuple[float, float]] = {
    "thermocouple": (-60.0, 1300.0),
    "temperature": (-60.0, 150.0),
    "voltage": (0.0, 60.0),
    "rpm": (0.0, 200_000.0),
}


def identifiers(rdac: int) -> dict[int, int]:
    """The message numbers of an RDAC, by arbitration id."""
    return {(FIRST_ADDRESS + rdac) << 4 | message: message for message in MESSAGES}


class Target(NamedTuple):
    """The key that a channel is written to, through a curve if there is one."""

    key: str
    curve: Curve | None = None


class Decoder:
    """Decodes RDAC number `rdac`, and writes the channels in `targets`."""

    REFUSALS: ClassVar[Sequence[str]] = ("wrong length", "not a data frame")

    def __init__(self, rdac: int, targets: Mapping[str, Target], counts: dict[str, int] | None = None) -> None:
        self.counts = begin_counting(counts, "received", "used", "ignored", *self.REFUSALS, "absurd values")
        self.refused = ""
        #: What is wrong with an RDAC that is sending.
        self.trouble = ""
        self._messages = identifiers(rdac)
        self.ids = frozenset(self._messages)
        self._wanted: dict[int, list[tuple[str, Channel, Target]]] = {}
        for name, target in targets.items():
            self._wanted.setdefault(CHANNELS[name].message, []).append((name, CHANNELS[name], target))
        self._cold_junction: tuple[float, float] | None = None  # its temperature in °C, and when it was received

    def feed(self, frames: Iterable[Frame]) -> list[Update]:
        """Return the updates from `frames`, in order. Frames with other identifiers are not counted."""
        counts, updates = self.counts, []
        for frame in frames:
            message, data = self._messages.get(frame.arbitration_id), frame.data
            if message is None:
                continue
            counts["received"] += 1
            if frame.flags or len(data) < LENGTH.get(message, 8):
                reason = "not a data frame" if frame.flags else "wrong length"
                counts[reason] += 1
                self.refused = f"{reason}: {frame.arbitration_id:#x} {data.hex(' ')}"
                continue
            words = struct.unpack("<4H", data.ljust(8, b"\0"))
            wanted = self._wanted.get(message, ())
            if message == CHANNELS["temperature"].message:
                self._note_cold_junction(_signed(words[0]), frame.timestamp)
            elif not wanted:
                counts["ignored"] += 1
                continue
            counts["used"] += 1
            updates += [self._update(name, channel, target, words, frame.timestamp) for name, channel, target in wanted]
        return updates

    def _note_cold_junction(self, degrees: int, when: float) -> None:
        low, high = POSSIBLE["temperature"]
        healthy = low <= degrees <= high
        self._cold_junction = (degrees, when) if healthy else None
        self.trouble = "" if healthy else f"the RDAC's own temperature is absurd: {degrees} degC"

    def _update(self, name: str, channel: Channel, target: Target, words: Sequence[int], when: float) -> Update:
        raw = words[channel.word]
        value: float = raw
        kind = channel.kind
        if kind == "thermocouple":
            if self._cold_junction is None or when - self._cold_junction[1] > COLD_JUNCTION_MAX_AGE_S:
                return Update(
                    target.key, None, FAIL, "the RDAC's own temperature, to which a thermocouple's adds, is unknown"
                )
            value = _signed(raw) + self._cold_junction[0]
        elif kind == "temperature":
            value = _signed(raw)
        elif kind == "voltage":
            value = _signed(raw) * VOLT
        elif kind == "rpm":
            value = max(raw, (raw - LAST_SINGLE_RPM) * 10 + LAST_SINGLE_RPM)
        elif kind == "flow" and NO_FLOW in words[channel.word : channel.word + 2]:  # in the pulses or in their ratio
            return Update(target.key, None, FAIL, f"the RDAC reports an error on {name}")
        low, high = (0, FULL_SCALE) if kind == "analog" else POSSIBLE.get(kind, (0.0, float("inf")))
        if not low <= value <= high:
            self.counts["absurd values"] += 1
            return Update(target.key, None, FAIL, f"the RDAC sends an absurd value: {name} is {value:g}")
        if target.curve is None:
            return Update(target.key, float(value))
        calibrated = target.curve(value)
        if calibrated is None:
            return Update(target.key, None, FAIL, f"{name} reads {value:g}, which no healthy sender gives")
        return Update(target.key, round(calibrated) if kind == "rpm" else calibrated)


class Encoder:
    """Encodes messages in place of RDAC number `rdac`. `curves` give the counts of the raw `channels` for values.

    A message is sent only while all of its channels in use have a value. Not every display understands a word for
    "unknown", but every display notices a missing message. Words without a channel are zero, except for fuel flows,
    which report an error.
    """

    def __init__(self, rdac: int, channels: Mapping[str, Curve | None]) -> None:
        self._base = (FIRST_ADDRESS + rdac) << 4
        self._curves = dict(channels)
        self._messages: dict[int, list[str]] = {}
        for name in channels:
            self._messages.setdefault(CHANNELS[name].message, []).append(name)

    def encode(self, values: Mapping[str, float | None]) -> tuple[list[tuple[int, bytes]], list[str]]:
        """Return the messages (arbitration id, data), and the channels without a value, whose messages are withheld."""
        messages, missing = [], []
        for message, names in sorted(self._messages.items()):
            words = [NO_FLOW, 0, NO_FLOW, 0] if message == 1 else [0, 0, 0, 0]
            lacking = []
            for name in names:
                word = self._word(name, values)
                if word is None:
                    lacking.append(name)
                else:
                    words[CHANNELS[name].word] = word
            missing += lacking
            if not lacking:
                messages.append((self._base | message, struct.pack("<4H", *words)[: LENGTH.get(message, 8)]))
        return messages, missing

    def _word(self, name: str, values: Mapping[str, float | None]) -> int | None:
        """The word for a channel's value; None if there is no value, or it does not fit."""
        value, kind, curve = values.get(name), CHANNELS[name].kind, self._curves[name]
        if value is None:
            return None
        if kind == "thermocouple":
            cold_junction = self._word("temperature", values) if "temperature" in self._curves else 0
            if cold_junction is None:
                return None
            value -= _signed(cold_junction)
        elif kind == "voltage":
            value /= VOLT
        elif kind == "rpm":
            value = min(value, (value - LAST_SINGLE_RPM) / 10 + LAST_SINGLE_RPM)
        if curve is not None:
            counts = curve(value)
            if counts is None:
                return None
            value = counts
        if not isfinite(value):
            return None
        word = round(value)
        if kind in ("thermocouple", "temperature", "voltage"):
            return word & 0xFFFF if -0x8000 <= word <= 0x7FFF else None
        return word if 0 <= word <= (FULL_SCALE if kind == "analog" else 0xFFFE) else None


def _signed(word: int) -> int:
    return word - 0x10000 if word >= 0x8000 else word
