"""The Grand Rapids EIS engine monitor without I/O: bytes in, updates out (`Decoder`).

A frame consists of the header FE FF FE, a payload, and the complement of the sum of the payload's bytes: 48 bytes from
a model 2004, 73 from a 4000 or 6000. Two bytes form a number, high byte first. Source: "Model 4000/6000 Serial Data
List" of Grand Rapids Technologies; docs/drivers/eis.md says which parts are certain.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple

from fixgw.kit.curve import Curve
from fixgw.kit.units import KNOTS_PER_MPH
from fixgw.kit.update import FAIL, Update, begin_counting

Unit = Literal["F", "C"]
Speed = Literal["knots", "mph"]

HEADER = b"\xfe\xff\xfe"
BAD_FRAMES_BEFORE_SEARCH = 3  # after this many in a row it may be another model

MAX_CYLINDERS = 6
AIR_DATA = ("IAS", "ALT", "VS", "BARO")
#: Air data that comes with a sensor: without it, the value of this name is always 0.
SENSORS = {"IAS": {"IAS"}, "ALT": {"ALT", "VS", "BARO"}}
SEEN_IN_A_ROW = 3  # frames with a value of a sensor: a checksum of one byte lets through one that is wrong
TIMER = ("hours", "minutes", "seconds")


class Model(NamedTuple):
    """The contents of a frame of `length` bytes. At `lookalike`, values may look like a header."""

    name: str
    length: int
    payload: struct.Struct
    fields: str
    lookalike: int = 0

    def names(self) -> list[str]:
        return self.fields.split()


# Fields in lower case have no key, or none that we are certain of.
MODELS = (
    Model(
        "2004",
        48,
        struct.Struct(">H2H2HHHHHBbbHHB2HHH5BHHB"),
        "TACH1 CHT11 CHT12 EGT11 EGT12 IAS ALT VOLT FUELF1 unit VS OAT H2OT1 OILT1 OILP1 AUX1 AUX2 HOBBS1 FUELQT"
        " hours minutes seconds endurance_hours endurance_minutes BARO tach2 spare",
    ),
    Model(
        "4000/6000",
        73,
        struct.Struct(">H6H6H2HHHHHBbbbHB4HHHH5BHHB"),
        "TACH1 CHT11 CHT12 CHT13 CHT14 CHT15 CHT16 EGT11 EGT12 EGT13 EGT14 EGT15 EGT16 AUX5 AUX6 IAS ALT VOLT FUELF1"
        " unit carburettor VS OAT OILT1 OILP1 AUX1 AUX2 AUX3 AUX4 H2OT1 HOBBS1 FUELQT"
        " hours minutes seconds endurance_hours endurance_minutes BARO tach2 spare",
        lookalike=len(HEADER) + 39,  # carburettor at -2 degrees, sinking at 100 ft/min, -2 degrees outside
    ),
)

#: Temperatures that are sent without a sign, and the highest possible value in °C.
UNSIGNED = {"CHT": 600.0, "EGT": 1200.0, "OILT": 300.0, "H2OT": 300.0}


class Scale(NamedTuple):
    """Units of the key per unit sent, and the possible range in units of the key; without limits, whatever can be
    sent."""

    factor: float
    high: float = math.inf
    low: float = -math.inf


#: The other keys.
SCALED = {
    "TACH1": Scale(1, 10_000),
    "VOLT": Scale(0.1, 60.0),
    "FUELF1": Scale(0.1, 300.0),
    "FUELQT": Scale(0.1, 500.0),
    "OILP1": Scale(1.0),
    "HOBBS1": Scale(0.1),
    "IAS": Scale(1.0, 500.0),
    "ALT": Scale(1.0, 50_000.0),
    "VS": Scale(100.0),
    "BARO": Scale(0.01, 33.0, low=25.0),
}
#: Every key that an EIS may write, apart from those of its auxiliary inputs.
KEYS = frozenset(
    ("FTIME", *(name for model in MODELS for name in model.names() if name.isupper() and not name.startswith("AUX")))
)


def beyond(cylinders: int) -> set[str]:
    """The keys of cylinders that the engine does not have."""
    return {f"{k}{c}" for k in ("CHT1", "EGT1") for c in range(cylinders + 1, MAX_CYLINDERS + 1)}


class Decoder:
    """Decodes the stream. Holds at most one unfinished frame and the beginning of the next.

    The distance between two headers reveals the model; from then on each frame is used as soon as it is complete. Only
    the first `cylinders` are written. `aux` has the key and curve of each auxiliary input in use, by number; `tach2` is
    the key of the second tachometer. With `air_data` None, each part of it is written once it has been seen to exist,
    in `SEEN_IN_A_ROW` frames.
    """

    REFUSALS: ClassVar[Sequence[str]] = ("bad checksum", "wrong length")

    #: The EIS does not report its own health.
    trouble = ""

    def __init__(
        self,
        counts: dict[str, int] | None = None,
        *,
        cylinders: int = MAX_CYLINDERS,
        aux: Mapping[int, tuple[str, Curve]] | None = None,
        air_data: bool | None = None,
        tach2: str | None = None,
        temperature: Unit = "F",
        airspeed: Speed = "knots",
    ) -> None:
        self.counts = begin_counting(counts, "received", "used", "ignored", *self.REFUSALS, "absurd values")
        self.refused = ""
        #: The model that is sending; None if not known yet.
        self.model: Model | None = None
        self._buffer = b""
        self._refused_in_a_row = 0
        self._aux = {f"AUX{number}": target for number, target in (aux or {}).items()}
        self._left_out = set() if air_data else set(AIR_DATA)
        self._look_for_air_data = air_data is None
        self._in_a_row = dict.fromkeys(SENSORS, 0)  # frames in which each has been seen
        self._tach2 = tach2
        self._left_out |= beyond(cylinders)
        self._fahrenheit = temperature == "F"
        self._knots = KNOTS_PER_MPH if airspeed == "mph" else 1.0

    def feed(self, data: bytes) -> list[Update]:
        """The updates of the frames that `data` completes, in order."""
        buffer = self._buffer + data
        updates: list[Update] = []
        while (start := buffer.find(HEADER)) >= 0:
            buffer = buffer[start:]
            model = self._recognise(buffer)
            if model == "unfinished":
                break
            self.counts["received"] += 1
            if model is None:  # the bytes after the header may contain the next one
                buffer = buffer[1:]
            else:
                self.counts["used"] += 1
                updates += self._decode(model, buffer[len(HEADER) : model.length - 1])
                buffer = buffer[model.length :]
        else:
            buffer = buffer[-len(HEADER) + 1 :]  # may be the beginning of a header
        self._buffer = buffer
        return updates

    def pause(self) -> list[Update]:
        """Decode a complete frame followed by silence, which marks its end as well as a header does."""
        if all(len(self._buffer) != model.length for model in MODELS):
            return []
        updates = self.feed(HEADER)
        self._buffer = b""
        return updates

    def _recognise(self, buffer: bytes) -> Model | Literal["unfinished"] | None:
        """The model whose frame begins `buffer`. If the header is not followed by a frame: None, and counted."""
        for model in (self.model,) if self.model else MODELS:
            # A checksum of one byte is too weak to tell two models apart without the next header.
            whole = model.length if self.model else model.length + len(HEADER)
            if len(buffer) < whole:
                return "unfinished"
            if self.model or buffer.startswith(HEADER, model.length):
                frame = buffer[: model.length]
                # No values look like a header elsewhere: if one turns up, the frame has lost its end.
                if frame.rfind(HEADER) not in (0, model.lookalike):
                    break
                if (sum(frame[len(HEADER) :]) + 1) & 0xFF:  # a sum and its complement add up to 255
                    self._refuse("bad checksum", frame)
                    return None
                self.model = model
                self._refused_in_a_row = 0
                return model
        self._refuse("wrong length", buffer[: MODELS[-1].length])
        return None

    def _refuse(self, reason: str, frame: bytes) -> None:
        self.counts[reason] += 1
        self.refused = f"{reason}: {frame.hex(' ')}"
        self._refused_in_a_row += 1
        if self._refused_in_a_row >= BAD_FRAMES_BEFORE_SEARCH:
            self.model = None

    def _decode(self, model: Model, payload: bytes) -> Iterator[Update]:
        numbers = dict(zip(model.names(), model.payload.unpack(payload), strict=True))
        if self._look_for_air_data:
            self._look_for_sensors(numbers)
        yield self._flight_time(*(numbers[name] for name in TIMER))
        for name, number in numbers.items():
            if name in self._aux:
                key, curve = self._aux[name]
                yield self._update(key, number, curve(number), f"auxiliary input {name[3:]}")
            elif name == "tach2" and self._tach2:
                yield self._update(self._tach2, number, number if number <= SCALED["TACH1"].high else None)
            elif name not in KEYS or name in self._left_out:
                continue
            elif name in SCALED:
                factor, high, low = SCALED[name]
                value = round(number * factor * (self._knots if name == "IAS" else 1), 2)
                yield self._update(name, number, value if low <= value <= high else None)
            elif name == "OAT":
                yield Update(name, self._celsius(number))
            elif number == 0:
                # 0 is the lowest that it can send: no sensor, or colder. Either way, do not show a temperature.
                yield Update(name, None, FAIL, "the EIS sends 0: no sensor, or too cold to measure")
            else:
                value = self._celsius(number)
                yield self._update(name, number, value if value <= UNSIGNED[name.rstrip("123456")] else None)

    def _flight_time(self, hours: int, minutes: int, seconds: int) -> Update:
        if minutes < 60 and seconds < 60:
            return Update("FTIME", hours + minutes / 60 + seconds / 3600)
        self.counts["absurd values"] += 1
        return Update("FTIME", None, FAIL, f"the EIS sends {hours}:{minutes:02}:{seconds:02}, which is impossible")

    def _look_for_sensors(self, numbers: Mapping[str, int]) -> None:
        for name, keys in SENSORS.items():
            self._in_a_row[name] = self._in_a_row[name] + 1 if numbers[name] else 0
            if self._in_a_row[name] >= SEEN_IN_A_ROW:
                self._left_out -= keys

    def _update(self, key: str, number: int, value: float | None, what: str = "") -> Update:
        if value is not None:
            return Update(key, value)
        self.counts["absurd values"] += 1
        return Update(key, None, FAIL, f"the EIS sends {number}{' for ' * bool(what)}{what}, which is impossible")

    def _celsius(self, degrees: int) -> float:
        return (degrees - 32) / 1.8 if self._fahrenheit else float(degrees)
