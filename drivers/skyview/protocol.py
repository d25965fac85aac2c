"""Dynon SkyView's serial output without I/O: bytes in, updates out (`Decoder`).

Messages begin with ``!``, their type and its version: ``!11`` ADAHRS, ``!22`` system, ``!32`` engine (EMS). Other
versions are accepted if they have the same length; messages of software before 5.1 do not. Source: "Serial Data Output"
in Dynon's SkyView System Installation Guide, Revisions R and AA; docs/drivers/skyview.md says which parts of the engine
message it does not confirm.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from fixgw.drivers import dynon
from fixgw.drivers.dynon import UNKNOWN, Field
from fixgw.kit.airdata import indicated_altitude
from fixgw.kit.update import FAIL, Update

ADAHRS, SYSTEM, ENGINE = "!1", "!2", "!3"
CURRENT = {ADAHRS: "1", SYSTEM: "2", ENGINE: "2"}  # versions
LENGTHS = {ADAHRS: 72, SYSTEM: 91, ENGINE: 223}

FIELDS: Mapping[str, tuple[Field, ...]] = {
    ADAHRS: (
        Field("PITCH", 12, 4, 0.1, -90, 90),
        Field("ROLL", 16, 5, 0.1, -180, 180),
        Field("HEAD", 21, 3, 1, 0, 360),
        Field("IAS", 24, 4, 0.1, 0),
        Field("PALT", 28, 6, 1, -3000, 60_000),
        Field("ROT", 34, 4, 0.1, high=99.9),
        Field("ALAT", 38, 3, -0.01, low=-0.99),  # positive is leftward on the line
        Field("ANORM", 41, 3, 0.1, high=9.9),
        Field("VS", 46, 4, 10, high=10 * 999),
        Field("OAT", 50, 3, 1, high=99),
        Field("TAS", 53, 4, 0.1, 0),
        Field("BARO", 57, 3, 0.01, 27.5, 31.5, 27.5),
        Field("DALT", 60, 6, 1, -10_000, 60_000),
    ),
    SYSTEM: (
        Field("COURSE", 28, 3, 1, 0, 360),
        Field("CDI", 35, 3, 0.01, high=0.99),
        Field("GSI", 38, 3, 0.01, high=0.99),
    ),
    ENGINE: (
        Field("OILP1", 12, 3, 1, 0, 300),
        Field("OILT1", 15, 4, 1, -60, 300),
        Field("MAP1", 27, 3, 0.1, 0, 60),
        Field("FUELP1", 36, 3, 0.1, 0),
        Field("FUELQ1", 39, 3, 0.1, 0),
        Field("FUELQ2", 42, 3, 0.1, 0),
        Field("FUELQT", 45, 3, 0.1, 0),
        Field("VOLT", 48, 3, 0.1, 0, 60),
        Field("CURRNT", 54, 4, 0.1, high=99.9),
        Field("HOBBS1", 58, 5, 0.1, 0),
    ),
}
# Two pick-ups on one engine, and the fuel flows to the engine and back.
ENGINE_SPEEDS = (Field("TACH1", 19, 4, 1, 0), Field("TACH1", 23, 4, 1, 0))
FLOW, RETURN_FLOW = Field("FUELF1", 30, 3, 0.1, 0), Field("FUELF1", 33, 3, 0.1, 0)
STALL_PERCENT_AT = 44

#: Thermocouples as wired in Dynon's harness, by number: heads and exhausts alternate, from the last cylinder down.
HARNESS: Mapping[int, str] = {
    number: f"{'CHT' if number % 2 else 'EGT'}1{7 - (number + 1) // 2}" for number in range(1, 13)
}
THERMOCOUPLES, FIRST_THERMOCOUPLE = 14, 68
#: The highest possible temperature of heads and exhausts, in °C.
HOTTEST = 999

INPUTS, FIRST_INPUT = 13, 124
#: General purpose inputs, by the key's units: their letter, and units of the key per unit sent. Contacts, in volts, are
#: left out: the documents disagree on whether they are thousandths or hundredths.
LETTERS = {"degC": ("C", 0.1), "psi": ("P", 0.1), "gal": ("G", 0.1), "%": ("T", 1.0), "deg": ("T", 1.0)}
_INPUT = re.compile(r"([+-]\d{4})([A-Z])", re.ASCII)

TIME = ("TIMEZ", "TIMEZH", "TIMEZM", "TIMEZS")
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d)([0-5]\d)\d\d", re.ASCII)

KEYS = frozenset(
    {"ALT", "AOA", "TACH1", "FUELF1", *TIME, *HARNESS.values()}
    | {field.key for fields in FIELDS.values() for field in fields}
)


class Decoder(dynon.Decoder):
    """Decodes the display's messages. `stall_angle` is in degrees; if None, AOA is left out.

    `inputs` has the key and unit (one of `LETTERS`) of general purpose inputs, `thermocouples` the keys of
    thermocouples, both by number; each key belongs to one input only. `return_flow`: fuel flows back to the tank, and
    the second flow sensor measures it.
    """

    MAX_FRAME = max(LENGTHS.values())
    END = re.compile(rb"[\r\n]+|(?=!)")  # a frame that is cut short by the next has lost its end

    def __init__(
        self,
        clock: Callable[[], float],
        counts: dict[str, int] | None = None,
        *,
        stall_angle: float | None = None,
        thermocouples: Mapping[int, str] = HARNESS,
        inputs: Mapping[int, tuple[str, str]] | None = None,
        return_flow: bool = False,
    ) -> None:
        super().__init__(clock, counts)
        self._inputs = inputs or {}
        by_input = {key for key, _ in self._inputs.values()}
        probes = (
            Field(key, FIRST_THERMOCOUPLE + 4 * (number - 1), 4, 1, -60, HOTTEST)
            for number, key in thermocouples.items()
        )
        self._fields = {
            **FIELDS,
            ADAHRS: FIELDS[ADAHRS] + dynon.angle_of_attack(STALL_PERCENT_AT, stall_angle),
            ENGINE: tuple(field for field in (*FIELDS[ENGINE], *probes) if field.key not in by_input),
        }
        self._return_flow = return_flow
        self._told = ""
        self._unknown_version = ""

    @property
    def trouble(self) -> str:
        return super().trouble or self._unknown_version

    def frames(self, line: bytes) -> Iterable[bytes]:
        return (line,) if line.startswith(b"!") else ()

    def shorten(self, line: bytes) -> bytes:
        return line[: self.MAX_FRAME + 1]

    def length(self, raw: bytes) -> int:
        kind, version = raw[:2].decode("latin-1"), raw[2:3].decode("latin-1")
        return LENGTHS[kind] if CURRENT.get(kind) == version else len(raw)

    def decode(self, line: str) -> Iterator[Update] | None:
        kind, time = line[:2], line[3:11]
        if LENGTHS.get(kind) != len(line):
            if kind in LENGTHS:
                self._unknown_version = (
                    f"{line[:3]} messages have an unknown version; is the SkyView software older than 5.1?"
                )
            return None
        return self._updates(kind, time, line)

    def _updates(self, kind: str, time: str, line: str) -> Iterator[Update]:
        known: dict[str, float] = {}
        for update in self.numbers(line, self._fields[kind], kind, time):
            if isinstance(update.value, float):
                known[update.key] = update.value
            yield update
        stuck = super().trouble
        if kind == ADAHRS:
            if "PALT" in known and "BARO" in known:
                yield Update("ALT", round(indicated_altitude(known["PALT"], known["BARO"]), 1))
            else:
                yield Update("ALT", None, FAIL, stuck or UNKNOWN)
            yield from self._time(time, stuck)
        elif kind == ENGINE:
            yield from self._engine(line, stuck)

    def _engine(self, line: str, stuck: str) -> Iterator[Update]:
        if stuck:
            for key in ("TACH1", "FUELF1", *(key for key, _ in self._inputs.values())):
                yield Update(key, None, FAIL, stuck)
            return
        # With one magneto off, its pick-up reads nothing.
        speeds = [self.number(field, field.text(line)) for field in ENGINE_SPEEDS]
        turning = [int(update.value) for update in speeds if isinstance(update.value, float)]
        yield Update("TACH1", max(turning)) if turning else speeds[0]
        there, back = self.number(FLOW, FLOW.text(line)), self.number(RETURN_FLOW, RETURN_FLOW.text(line))
        if not self._return_flow:
            yield there
        elif isinstance(there.value, float) and isinstance(back.value, float):
            yield Update("FUELF1", max(round(there.value - back.value, 1), 0.0))
        else:
            yield there if there.flags else back
        for number, (key, unit) in self._inputs.items():
            at = FIRST_INPUT + 6 * (number - 1) - 1
            yield self._input(key, unit, line[at : at + 6])

    def _input(self, key: str, unit: str, text: str) -> Update:
        match = _INPUT.fullmatch(text)
        if match is None:
            return Update(key, None, FAIL, UNKNOWN)
        letter, factor = LETTERS[unit]
        if match[2] != letter:
            return Update(key, None, FAIL, f"the display sends {text!r}, but the key is in {unit}")
        return Update(key, round(int(match[1]) * factor, 1))

    def _time(self, text: str, stuck: str) -> Iterator[Update]:
        match = _TIME.fullmatch(text)
        if stuck or match is None:
            self._told = ""
            yield from (Update(key, None, FAIL, stuck or "the display has no GPS time yet") for key in TIME)
        elif self._told != text[:6]:
            self._told = text[:6]
            yield Update("TIMEZ", ":".join(match.groups()))
            yield from map(Update, TIME[1:], map(int, match.groups()))
