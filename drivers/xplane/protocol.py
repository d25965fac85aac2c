"""The UDP interface of X-Plane 10 to 12, without I/O: `Client` makes requests and turns datagrams into updates.

Everything is little-endian, and each message is one datagram:

- ``RREF``: values of datarefs, which X-Plane sends at a rate that we ask for, each with an index that we choose;
- ``DATA``: rows of eight numbers of the Data Output page, -999 where there is none; sent to X-Plane, -999 leaves alone;
- ``RPOS``: position and attitude, the position in double precision;
- ``DREF``: one dataref by name, to or from X-Plane;
- ``BECN``: what X-Plane says of itself to everybody in the network.

Numbers but those of RPOS are of single precision: a latitude is good to 0.4 m at best.

Source: "Exchanging Data with X-Plane", in the simulator's folder Instructions; the rows as the Data Output page of
X-Plane 11 shows them.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import ClassVar, NamedTuple

from fixgw.drivers.simulator import LOADING, Loading
from fixgw.kit.units import FEET_PER_METRE, KNOTS_PER_MPS
from fixgw.kit.update import FAIL, Update, begin_counting

#: The port on which X-Plane listens, other ports that its settings name, and the group and port of its beacon.
PORT = 49000
OTHER_PORTS = (49001, 49002)
BEACON_GROUP, BEACON_PORT = "239.255.1.1", 49707
#: The number that stands for none.
NOTHING = -999.0
#: Values in a row.
PLACES = 8
#: The longest name of a dataref.
MAX_NAME = 399

#: Ask again for what has not come for so long: X-Plane may have been restarted, or the request lost.
ASK_AGAIN_S = 3.0
#: X-Plane loses requests that come too fast.
BURST = 100
PAUSE_S = 0.1

TOO_SHORT, BAD_LENGTH = "too short", "wrong lengths"

_RREF_REQUEST = struct.Struct("<4sxii400s")
_DREF = struct.Struct("<4scf500s")
_ROW = struct.Struct("<i8f")
_POSITION = struct.Struct("<3d10f")
_BEACON = struct.Struct("<BBiiIH")
_GREATEST = 3.4e38  # that a float holds
_HEAD = 5  # the name and a byte that differs between versions


class Refused(ValueError):
    """A datagram that no X-Plane sends; the first argument is one of `Client.REFUSALS`."""


class Position(NamedTuple):
    """RPOS: degrees, metres, metres per second (`south` negative to the north)."""

    lon: float
    lat: float
    elevation_m: float
    agl_m: float
    pitch: float
    heading_true: float
    roll: float
    east: float
    up: float
    south: float
    p: float
    q: float
    r: float


class Dataref(NamedTuple):
    """DREF: a value by name."""

    value: float
    name: str


class Beacon(NamedTuple):
    """BECN. `application` 1 is X-Plane, 2 PlaneMaker; `role` 1 is the master, 2 an external visual, 3 the instructor's
    station; `port` is where it listens."""

    major: int
    minor: int
    application: int
    version: int
    role: int
    port: int
    name: str

    @property
    def is_simulator(self) -> bool:
        """Whether it is the X-Plane to ask, and one whose beacon we understand."""
        return (self.major, self.application, self.role) == (1, 1, 1)


# -- datagrams ---------------------------------------------------------------------------------------------------------


def request_dataref(name: str, rate: int, index: int) -> bytes:
    """Ask for a dataref `rate` times a second; 0 ends it."""
    return _RREF_REQUEST.pack(b"RREF", rate, index, name.encode())


def request_position(rate: int) -> bytes:
    """Ask for RPOS `rate` times a second; 0 ends it."""
    return b"RPOS\0%d\0" % rate


def request_rows(rows: Iterable[int]) -> bytes:
    """Switch rows of the Data Output page on. They go where that page says."""
    chosen = list(rows)
    return b"DSEL\0" + struct.pack(f"<{len(chosen)}i", *chosen)


def send_row(row: int, values: Sequence[float | None]) -> bytes:
    """Set the values of a row; None leaves a value alone, and so does the lack of one."""
    known = [NOTHING if value is None or abs(value) > _GREATEST else value for value in values]
    return b"DATA\0" + _ROW.pack(row, *known, *[NOTHING] * (PLACES - len(known)))


def send_dataref(name: str, value: float) -> bytes:
    """Set a dataref."""
    filled = (name.encode() + b"\0").ljust(_DREF.size)  # with blanks; what is too much is cut
    return _DREF.pack(b"DREF", b"\0", max(-_GREATEST, min(value, _GREATEST)), filled)


def read_datarefs(datagram: bytes) -> list[tuple[int, float]]:
    """The (index, value) pairs of an RREF datagram. Raises `Refused`."""
    return list(struct.iter_unpack("<if", _body(datagram, 8)))


def read_rows(datagram: bytes) -> list[tuple[int, tuple[float, ...]]]:
    """The (row, values) pairs of a DATA datagram. Raises `Refused`."""
    return [(row, values) for row, *values in _ROW.iter_unpack(_body(datagram, _ROW.size))]  # type: ignore[misc]


def read_position(datagram: bytes) -> Position:
    """RPOS. Raises `Refused`."""
    if len(datagram) < _HEAD + _POSITION.size:
        raise Refused(BAD_LENGTH)
    return Position._make(_POSITION.unpack_from(datagram, _HEAD))


def read_dataref(datagram: bytes) -> Dataref:
    """DREF. Raises `Refused`."""
    if len(datagram) != _DREF.size:
        raise Refused(BAD_LENGTH)
    _, _, value, name = _DREF.unpack(datagram)
    return Dataref(value, name.split(b"\0")[0].decode("utf-8", "replace").rstrip(" "))


def read_beacon(datagram: bytes) -> Beacon | None:
    """BECN; None for another datagram. Raises `Refused`."""
    if datagram[:_HEAD] != b"BECN\0":
        return None
    if len(datagram) < _HEAD + _BEACON.size:
        raise Refused(BAD_LENGTH)
    name = datagram[_HEAD + _BEACON.size :].split(b"\0")[0].decode("utf-8", "replace")
    return Beacon._make((*_BEACON.unpack_from(datagram, _HEAD), name))


def _body(datagram: bytes, size: int) -> bytes:
    body = datagram[_HEAD:]
    if len(body) % size:
        raise Refused(BAD_LENGTH)
    return body


# -- rows --------------------------------------------------------------------------------------------------------------


class Channel(NamedTuple):
    """What to do with a number: multiply it, add, and write it to a key."""

    key: str
    factor: float = 1.0
    summand: float = 0.0


Row = tuple[Channel | None, ...]


def _engines(key: str) -> Row:
    return tuple(Channel(key.format(engine)) for engine in range(1, PLACES + 1))


#: The usual contents of rows, in the units of the keys.
ROWS: Mapping[int, Row] = {
    3: (Channel("IAS"), None, Channel("TAS"), Channel("GS")),
    4: (None, None, Channel("VS"), None, Channel("ANORM")),
    17: (Channel("PITCH"), Channel("ROLL"), None, Channel("HEAD")),
    18: (Channel("AOA"),),
    20: (Channel("LAT"), Channel("LONG"), Channel("TALT"), Channel("AGL"), None, Channel("ALT")),
    37: _engines("TACH{}"),
    43: _engines("MAP{}"),
    49: _engines("OILP{}"),
    54: (Channel("VOLT"),),
}
#: Rows of temperatures, which are in degC or degF, whichever the aircraft's file says.
TEMPERATURES: Mapping[int, Row] = {47: _engines("EGT{}1"), 48: _engines("CHT{}1"), 50: _engines("OILT{}")}
#: Rows of fuel, in pounds (an hour).
FUEL: Mapping[int, Row] = {45: _engines("FUELF{}"), 62: _engines("FUELQ{}")}
#: Rows with a place for each engine or tank, however many there are.
ENGINE_ROWS = [row for rows in (ROWS, TEMPERATURES, FUEL) for row in rows.values() if len(row) == PLACES]
#: The keys of RPOS.
POSITION_KEYS = ("LAT", "LONG", "TALT", "AGL", "PITCH", "ROLL", "GS", "TRACK")

#: The units of well-known datarefs, by name without an index.
DATAREF_UNITS: Mapping[str, str] = {
    **{
        f"sim/cockpit2/gauges/indicators/{name}": unit
        for name, unit in {
            "airspeed_kts_pilot": "knots",
            "altitude_ft_pilot": "ft",
            "vvi_fpm_pilot": "ft/min",
            "slip_deg": "deg",
        }.items()
    },
    **{
        f"sim/flightmodel/position/{name}": unit
        for name, unit in {
            **dict.fromkeys(("true_phi", "true_theta", "mag_psi", "latitude", "longitude", "hpath"), "deg"),
            "groundspeed": "m/s",
            "true_airspeed": "m/s",
        }.items()
    },
    **{
        f"sim/cockpit2/engine/indicators/{name}": unit
        for name, unit in {
            "engine_speed_rpm": "rpm",
            "MPR_in_hg": "inHg",
            "oil_pressure_psi": "psi",
            **{f"{name}_{c}": "degC" for name in ("oil_temperature", "EGT", "CHT") for c in ("deg_C", "deg_cel")},
            "fuel_flow_kg_sec": "kg/s",
        }.items()
    },
    "sim/cockpit2/gauges/actuators/barometer_setting_in_hg_pilot": "inHg",
    "sim/weather/temperature_ambient_c": "degC",
}


def unit_of(dataref: str) -> str:
    """The unit of a well-known dataref; empty if we do not know it."""
    return DATAREF_UNITS.get(dataref.partition("[")[0], "")


# -- the client --------------------------------------------------------------------------------------------------------


class _Question:
    """Something that X-Plane is asked for until it comes."""

    def __init__(self, ask: bytes, end: bytes = b"") -> None:
        self.ask = ask
        self.end = end
        self.heard_at = self.asked_at = float("-inf")
        self.since: float | None = None  # when it was asked for the first time


class Client:
    """One X-Plane: `due` returns the requests to send now, `feed` takes its datagrams, `farewell` ends it all.

    `datarefs` are asked for by RREF, `ask_rows` by DSEL, RPOS if `position`; all of them `rate` times a second. `rows`
    says what to do with rows. `clock` returns monotonic seconds.
    """

    REFUSALS: ClassVar[Sequence[str]] = (TOO_SHORT, BAD_LENGTH)

    def __init__(
        self,
        clock: Callable[[], float],
        counts: dict[str, int] | None = None,
        *,
        datarefs: Sequence[tuple[str, Channel]] = (),
        rows: Mapping[int, Row] = ROWS,
        ask_rows: Sequence[int] = (),
        position: bool = False,
        rate: int = 20,
    ) -> None:
        self.counts = begin_counting(counts, "received", "used", "ignored", *self.REFUSALS, "values not asked for")
        self.refused = ""
        self._clock = clock
        self._datarefs = datarefs
        self._rows = rows
        self._asked_rows = frozenset(ask_rows)
        self._by_name = {name: (n, channel) for n, (name, channel) in enumerate(datarefs)}
        # Answers to requests of an earlier run may still come: other datarefs have other indices.
        self._base = (zlib.crc32(repr(datarefs).encode()) & 0x7FFF) << 16
        self._questions = [
            _Question(*(request_dataref(name, each, self._base + n) for each in (rate, 0)))
            for n, (name, _) in enumerate(datarefs)
        ]
        self._position = _Question(request_position(rate), request_position(0)) if position else None
        self._page = _Question(request_rows(ask_rows)) if ask_rows else None
        self._all = [*self._questions, *(q for q in (self._position, self._page) if q is not None)]
        self._next = float("-inf")
        self._loading = Loading()

    # -- out -----------------------------------------------------------------------------------------------------------

    def due(self) -> list[bytes]:
        """The requests to send now, at most `BURST`."""
        now = self._clock()
        if now < self._next:
            return []
        waiting = [q for q in self._all if now - max(q.heard_at, q.asked_at) > ASK_AGAIN_S][:BURST]
        for question in waiting:
            question.asked_at = now
            question.since = now if question.since is None else question.since
        if waiting:
            self._next = now + PAUSE_S
        return [question.ask for question in waiting]

    def farewell(self) -> list[bytes]:
        """What ends the answers."""
        return [question.end for question in self._all if question.end and question.since is not None]

    @property
    def unanswered(self) -> list[str]:
        """The datarefs that do not come although they were asked for. Any thread."""
        now = self._clock()
        return [
            self._datarefs[n][0]
            for n, question in enumerate(self._questions)
            if question.since is not None and now - max(question.heard_at, question.since) > ASK_AGAIN_S
        ]

    # -- in ------------------------------------------------------------------------------------------------------------

    @property
    def trouble(self) -> str:
        return LOADING if self._loading.loading else ""

    def feed(self, datagram: bytes) -> list[Update]:
        """Decode one datagram."""
        self.counts["received"] += 1
        try:
            if 0 < len(datagram) < _HEAD:
                raise Refused(TOO_SHORT)
            numbers = self._read(datagram)
        except Refused as error:
            self.counts[str(error)] += 1
            self.refused = f"{datagram[:4]!r}, {len(datagram)} bytes: {error}"
            return []
        if not numbers:
            self.counts["ignored"] += 1
            return []
        instead = self._loading.judge({channel.key: number for channel, number in numbers if number is not None})
        if instead is not None:
            self.counts["ignored"] += 1
            return instead
        self.counts["used"] += 1
        return [update for channel, number in numbers for update in self._update(channel, number)]

    def _read(self, datagram: bytes) -> list[tuple[Channel, float | None]]:
        """The numbers of a datagram that somebody wants; None for a place of a row without a value."""
        kind = datagram[:4]
        if kind == b"RREF":
            return self._read_datarefs(read_datarefs(datagram))
        if kind == b"DATA":
            return self._read_rows(read_rows(datagram))
        if kind == b"RPOS" and self._position is not None:
            self._position.heard_at = self._clock()
            return _numbers_of(read_position(datagram))
        if kind == b"DREF":
            value, name = read_dataref(datagram)
            n, channel = self._by_name.get(name, (0, None))
            if channel is not None:
                self._questions[n].heard_at = self._clock()
                return [(channel, value)]
        return []

    def _read_datarefs(self, pairs: Iterable[tuple[int, float]]) -> list[tuple[Channel, float | None]]:
        now, numbers = self._clock(), list[tuple[Channel, float | None]]()
        for index, value in pairs:
            n = index - self._base
            if 0 <= n < len(self._datarefs):
                self._questions[n].heard_at = now
                numbers.append((self._datarefs[n][1], value))
            else:
                self.counts["values not asked for"] += 1
        return numbers

    def _read_rows(self, rows: Iterable[tuple[int, Sequence[float]]]) -> list[tuple[Channel, float | None]]:
        numbers = list[tuple[Channel, float | None]]()
        for row, values in rows:
            if self._page is not None and row in self._asked_rows:
                self._page.heard_at = self._clock()
            for channel, value in zip(self._rows.get(row, ()), values, strict=False):
                if channel is not None:
                    numbers.append((channel, None if value == NOTHING else value))
        return numbers

    def _update(self, channel: Channel, number: float | None) -> Iterable[Update]:
        key, factor, summand = channel
        if number is None:
            if key in self._loading.known:  # most rows have places for more engines than there are
                yield Update(key, None, FAIL, "the simulator has no value")
            return
        self._loading.known.add(key)
        if math.isfinite(number):
            yield Update(key, number * factor + summand)
        else:
            yield Update(key, None, FAIL, f"the simulator sends {number}")


def _numbers_of(position: Position) -> list[tuple[Channel, float | None]]:
    north = -position.south
    values = {
        "LAT": position.lat,
        "LONG": position.lon,
        "TALT": position.elevation_m * FEET_PER_METRE,
        "AGL": position.agl_m * FEET_PER_METRE,
        "PITCH": position.pitch,
        "ROLL": position.roll,
        "GS": math.hypot(position.east, north) * KNOTS_PER_MPS,
        "TRACK": math.degrees(math.atan2(position.east, north)) % 360.0,
    }
    return [(Channel(key), values[key]) for key in POSITION_KEYS]
