"""A virtual Garmin G3X display with text output, and a virtual GNX 375 navigator with aviation output.

The display sends attitude and air data ten times a second, engine data five times, and its GPS message once. The
navigator sends its position, its guidance and one waypoint of its route once a second. The devices do not know the
sensors in `failed`, a set of keys; clearing `fix` takes the position away. Other messages are not modelled.
"""

from __future__ import annotations

import math

from fixgw.hw_sim.aircraft import FT, KNOT, Aircraft, numbers
from fixgw.hw_sim.serial import Line, SerialInstrument


def message(body: str) -> bytes:
    """Append the sum of its bytes to `body`."""
    raw = body.encode("ascii")
    return raw + f"{sum(raw) & 0xFF:02X}\r\n".encode("ascii")


def minutes(degrees: float, digits: int, sides: str, thousandths: bool) -> str:
    """``N43` and minutes, in thousandths or hundredths, without a point."""
    unit = 60_000 if thousandths else 6_000
    whole, rest = divmod(round(abs(degrees) * unit), unit)
    return f"{sides[degrees < 0]}{whole:0{digits}}{rest:0{5 if thousandths else 4}}"


class G3x(SerialInstrument):
    """The display; `gps` switches on the GPS message, which has no checksum."""

    NAME = "g3x"
    WHAT = "Garmin G3X display, text output"
    BAUD = 115200
    RATE = 10.0
    CYCLE = 10

    def __init__(self, line: Line, baud: int | None = None, gps: bool = True) -> None:
        super().__init__(line, baud)
        self.gps = gps
        self.fix = True
        self.failed: set[str] = set()
        self._values: dict[str, float] = {}

    def frames(self, aircraft: Aircraft, now: float) -> list[bytes]:
        self._values = dict(aircraft.numbers())
        self._values["BARO"] = aircraft.qnh
        frames = [self._attitude(aircraft), self._air_data(aircraft)]
        if self.rounds % 2 == 0:
            frames.append(self._engine(aircraft))
        if self.gps and self.rounds % 10 == 0:
            frames.append(self._gps(aircraft))
        return frames

    def _field(self, key: str, width: int, unit: float, offset: float = 0.0, signed: bool = False) -> str:
        """The value of a key in units of `unit`; only ``_`` if it is unknown or does not fit."""
        if key in self.failed or key not in self._values:
            return "_" * width
        text = f"{round((self._values[key] - offset) / unit):{'+' if signed else ''}0{width}}"
        return text if len(text) == width else "_" * width

    @staticmethod
    def _time(aircraft: Aircraft) -> str:
        return f"{aircraft.time:%H%M%S}{aircraft.time.microsecond // 10_000:02}"

    def _air_data(self, aircraft: Aircraft) -> bytes:
        return message(
            f"=21{self._time(aircraft)}"
            + self._field("TAS", 4, 0.1)
            + self._field("DALT", 6, 1, signed=True)
            + "_" * 17  # the pilot's selections
        )

    def _attitude(self, aircraft: Aircraft) -> bytes:
        field = self._field
        return message(
            f"=11{self._time(aircraft)}"
            + field("PITCH", 4, 0.1, signed=True)
            + field("ROLL", 5, 0.1, signed=True)
            + field("HEAD", 3, 1)
            + field("IAS", 4, 0.1)
            + field("PALT", 6, 1, signed=True)
            + field("ROT", 4, 0.1, signed=True)
            + field("ALAT", 3, -0.01, signed=True)
            + field("ANORM", 3, 0.1, signed=True)
            + "__"
            + field("VS", 4, 10, signed=True)
            + field("OAT", 3, 1, signed=True)
            + field("BARO", 3, 0.01, offset=27.5)
        )

    def _engine(self, aircraft: Aircraft) -> bytes:
        field = self._field
        body = (
            f"=31{aircraft.time:%H%M%S}{aircraft.time.microsecond // 10_000:02}"
            + field("OILP1", 3, 1)
            + field("OILT1", 4, 1, signed=True)
            + field("TACH1", 4, 1)
            + "____"
            + field("MAP1", 3, 0.1)
            + field("FUELF1", 3, 0.1)
            + "___"
            + field("FUELP1", 3, 0.1)
            + field("FUELQ1", 3, 0.1)
            + field("FUELQ2", 3, 0.1)
            + field("FUELQT", 3, 0.1)
            + field("VOLT", 3, 0.1)
            + "___"
            + field("CURRNT", 4, 0.1, signed=True)
            + field("HOBBS1", 5, 0.1)
            + "_____"
        )
        for cylinder in (6, 5, 4, 3, 2, 1):
            body += field(f"CHT1{cylinder}", 4, 1, signed=True) + field(f"EGT1{cylinder}", 4, 1, signed=True)
        body = body.ljust(147, "_") + field("H2OT1", 5, 0.1, signed=True) + "C"
        return message(body.ljust(217, "_"))

    def _gps(self, aircraft: Aircraft) -> bytes:
        v = self._values
        if not self.fix:
            return f"@{aircraft.time:%y%m%d%H%M%S}".ljust(55, "_").encode("ascii") + b"\r\n"
        course = math.radians(v["TRACK"])
        speed = v["GS"] * KNOT * 10.0
        east, north = round(speed * math.sin(course)), round(speed * math.cos(course))
        up = round(v["VS"] * FT / 60.0 * 100.0)
        return (
            f"@{aircraft.time:%y%m%d%H%M%S}"
            + minutes(v["LAT"], 2, "NS", True)
            + minutes(v["LONG"], 3, "EW", True)
            + f"G{round(v['GPS_ACCURACY_HORIZ'] * FT):03}{round(v['TALT'] * FT):+06}"
            + f"{'EW'[east < 0]}{abs(east):04}{'NS'[north < 0]}{abs(north):04}{'UD'[up < 0]}{abs(up):04}\r\n"
        ).encode("ascii")


def waypoint(number: int, flags: int, name: str, latitude: float, longitude: float, variation: int) -> bytes:
    """A waypoint of the route, from degrees and tenths of degrees."""
    places = b""
    for degrees, head in ((latitude, 1), (longitude, 2)):
        whole, hundredths = divmod(round(abs(degrees) * 6000), 6000)
        side = 0x80 * (degrees < 0)
        places += bytes((side | whole,) if head == 1 else (side, whole)) + bytes(divmod(hundredths, 100))
    variations = round(variation / 10 * 16).to_bytes(2, "big", signed=True)
    return f"w{number:02}".encode() + bytes((0x40 | flags | number,)) + f"{name:5.5}".encode() + places + variations


class Gnx(SerialInstrument):
    """The navigator, which guides to the aircraft's next waypoint."""

    NAME = "gnx"
    WHAT = "Garmin GNX 375 navigator, aviation output"
    BAUD = 9600
    RATE = 1.0

    def __init__(self, line: Line, baud: int | None = None) -> None:
        super().__init__(line, baud)
        self.fix = True

    def frames(self, aircraft: Aircraft, now: float) -> list[bytes]:
        values = aircraft.values()
        v = numbers(values)
        variation, off = round(aircraft.variation * 10.0), round(v["XTRACK"] * 100.0)
        items = [
            f"z{round(v['TALT']):05}",
            "A" + minutes(v["LAT"], 2, "NS", False),
            "B" + minutes(v["LONG"], 3, "EW", False),
            f"C{round(v['TRACKM']) % 360:03}",
            f"D{round(v['GS']):03}",
            "E-----",
            f"G{'RL'[off < 0]}{abs(off):04}",
            f"I{round(v['COURSE'] * 10.0) % 3600:04}",
            f"K{values['WPNAME']!s:5.5}",
            f"L{int(str(values['WPHEAD'])) * 10:04}",
            f"Q{'EW'[variation < 0]}{abs(variation):03}",
            f"S----{'-' if self.fix else 'N'}",
        ]
        if not self.fix:
            items = [i if i[0] == "S" else i[0] + "-" * (len(i) - 1) for i in items]
        lines = "".join(f"{item}\r\n" for item in (*items, "T---------"))
        # The active waypoint and the last one, whose bytes are those that begin or end a frame.
        active = waypoint(1, 0x20, str(values["WPNAME"]), v["WPLAT"], v["WPLON"], variation)
        other = b"w02" + bytes((0x42,)) + b"STX= " + bytes((2, 3, 0x3D, 0x40, 2, 0x0D, 0x0A, 0xFF, 0xC8))
        route = b"".join(line + b"\r\n" for line in ([active, other] if self.fix else [b"w01A"]))
        return [b"\x02" + lines.encode("ascii") + route + b"\x03"]
