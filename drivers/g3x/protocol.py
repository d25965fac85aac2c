"""Garmin's serial text without I/O: bytes in, updates out (`Decoder`).

Three formats, told apart by their first byte:

- ``=``, a G3X display's "Text Out": identifier, version, fields of fixed width, the sum of all preceding bytes as two
  hexadecimal digits, CR LF. ``_`` fills unknown fields.
- ``@``, its GPS message, Garmin's older "Simple Text": fields of fixed width, CR LF, no checksum.
- STX, the aviation output of navigators: `fixgw.drivers.garmin`.

Source: Garmin 190-01115-01 Rev. AC, appendix B. docs/drivers/g3x.md says which parts are not confirmed by a document.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple

from fixgw.drivers import garmin
from fixgw.drivers.garmin import ABSURD, NO_FIX, POSITION, UNKNOWN, Navigator, Voice
from fixgw.kit.airdata import indicated_altitude
from fixgw.kit.anonymous import Shift, blank
from fixgw.kit.place import JUMPED, Places
from fixgw.kit.units import FEET_PER_METRE, KNOTS_PER_MPS
from fixgw.kit.update import BAD, FAIL, Update, Value, begin_counting

MAX_FRAME = 400  # bytes, without a navigator's route

STATIONARY_KT = 1.0  # below this, the track means nothing
STUCK_AFTER_S = 4.0  # of the same message or time of day, or without a word of the position
SIMULATED = "the receiver is in simulator mode"
HUNG = "the display repeats the same message"
STOPPED = "the receiver's time has stopped"


class Field(NamedTuple):
    """A number in a message: where it is, the key's units per unit sent, the possible range (without `low`
    or `high`, its width is the limit), and an offset."""

    key: str
    at: int
    width: int
    factor: float
    low: float = -math.inf
    high: float = math.inf
    offset: float = 0.0


ATTITUDE = (
    Field("PITCH", 11, 4, 0.1, -90, 90),
    Field("ROLL", 15, 5, 0.1, -180, 180),
    Field("HEAD", 20, 3, 1, 0, 360),
    Field("IAS", 23, 4, 0.1, 0),
    Field("PALT", 27, 6, 1, -2000, 60000),
    Field("ROT", 33, 4, 0.1, high=99.9),
    Field("ALAT", 37, 3, -0.01, low=-0.99),  # positive is leftward on the wire
    Field("ANORM", 40, 3, 0.1, high=9.9),
    Field("VS", 45, 4, 10, high=10 * 999),
    Field("OAT", 49, 3, 1, high=99),
    Field("BARO", 52, 3, 0.01, 27.5, 31.5, 27.5),
)
ENGINE = (
    Field("OILP1", 11, 3, 1, 0, 300),
    Field("OILT1", 14, 4, 1, -60, 300),
    Field("TACH1", 18, 4, 1, 0),
    Field("MAP1", 26, 3, 0.1, 0),
    Field("FUELF1", 29, 3, 0.1, 0),
    Field("FUELP1", 35, 3, 0.1),
    Field("FUELQ1", 38, 3, 0.1, 0),
    Field("FUELQ2", 41, 3, 0.1, 0),
    Field("FUELQT", 44, 3, 0.1, 0),
    Field("VOLT", 47, 3, 0.1, 0),
    Field("CURRNT", 53, 4, 0.1, high=99.9),
    Field("HOBBS1", 57, 5, 0.1, 0),
    *(Field(f"CHT1{c}", 67 + 8 * (6 - c), 4, 1, -60, 600) for c in range(6, 0, -1)),
    *(Field(f"EGT1{c}", 71 + 8 * (6 - c), 4, 1, -60, 1200) for c in range(6, 0, -1)),
    Field("H2OT1", 147, 5, 0.1, -60, 300),
)
AIR_DATA = (Field("TAS", 11, 4, 0.1, 0), Field("DALT", 15, 6, 1, -10000, 60000))
#: By identifier and version: the fields, by the length of the message without CR LF. Older software of the display
#: ends the attitude after the vertical acceleration.
MESSAGES: Mapping[bytes, Mapping[int, Sequence[Field]]] = {
    b"11": {57: ATTITUDE, 45: ATTITUDE[:8]},
    b"21": {40: AIR_DATA},
    b"31": {219: ENGINE},
}

_GPS = re.compile(
    r"@(?:\d{6}|_{6})(?P<time>\d{6}|_{6})(?P<lat>[NS]\d{7}|_{8})(?P<long>[EW]\d{8}|_{9})(?P<status>[gGdDS_])"
    r"(?P<error>\d{3}|_{3})(?P<height>[+-]\d{5}|_{6})(?P<east>[EW]\d{4}|_{5})(?P<north>[NS]\d{4}|_{5})"
    r"(?:[UD]\d{4}|_{5})",
    re.ASCII,
)
_PLACE = re.compile(rb"(@[\d_]{12})([NS])(\d\d)(\d{5})([EW])(\d{3})(\d{5})")
NAVIGATOR = b"\x02"  # begins a navigator's data
_STATUS = {"g": 2, "G": 3, "d": 4, "D": 4}
_NUMBER = re.compile(r"[+-]?\d+", re.ASCII)
MOTION = ("GS", "TRACK")
TIME = ("TIMEZ", "TIMEZH", "TIMEZM", "TIMEZS")

#: Every key that may be written.
KEYS = frozenset(
    (
        *(f.key for lengths in MESSAGES.values() for fields in lengths.values() for f in fields),
        *(*POSITION, *MOTION, *TIME),
        *("ALT", "TALT", "GPS_FIX_TYPE", "GPS_ACCURACY_HORIZ"),
    )
) | (garmin.KEYS - {"CDI"})

_START = re.compile(rb"[=@\x02]")
_END = re.compile(rb"[\r\n=@\x02]")


def without_place(data: bytes, shift: Shift) -> bytes:
    """The bytes of a display with all positions shifted; a GPS message that is not whole is blanked."""

    def line(text: bytes) -> bytes:
        match = _PLACE.match(text)
        if match is None:
            return blank(text) if b"@" in text or not text.startswith(b"=") else text
        head, side, degrees, minutes, lon_side, lon_degrees, lon_minutes = (part.decode() for part in match.groups())
        lat = shift.latitude_text(degrees, minutes, side)
        lon = shift.longitude_text(lon_degrees, lon_minutes, lon_side)
        return f"{head}{lat[2]}{lat[0]}{lat[1]}{lon[2]}{lon[0]}{lon[1]}".encode() + text[match.end() :]

    return b"".join(map(line, data.splitlines(keepends=True)))


class Decoder:
    """Decodes the stream. Holds at most one unfinished frame. `clock` returns monotonic seconds.

    The values of a hung device fail: of a display that repeats the same message although its time ran before, of a GPS
    whose time stands still, and of a navigator (which sends no time) that reports speed but never moves. Those of the
    last two also fail when they are silent.
    """

    REFUSALS: ClassVar[Sequence[str]] = ("bad checksum", "wrong length", "truncated", "malformed")

    def __init__(self, clock: Callable[[], float], counts: dict[str, int] | None = None) -> None:
        self.counts = begin_counting(counts, "received", "used", "ignored", *self.REFUSALS, "absurd values")
        self.refused = ""
        self._trouble = ""  # the problem with the GPS
        self._clock = clock
        self._places = Places(clock)
        self._voices = {
            **{kind.decode(): Voice(HUNG, STUCK_AFTER_S) for kind in MESSAGES},
            "@": Voice(STOPPED, STUCK_AFTER_S, STUCK_AFTER_S),
        }
        self._navigator = Navigator(clock, self.counts)
        self._times: dict[str, str] = {}  # the last of each of the display's messages
        self._time_ran = False
        self._buffer = b""

    @property
    def trouble(self) -> str:
        """The problem with the GPS or the device; empty if there is none."""
        lost = next((voice.lost for voice in self._voices.values() if voice.lost), "")
        return lost or self._trouble or self._navigator.trouble

    def tick(self) -> list[Update]:
        """The updates that are due because data stopped; call it a few times a second."""
        now = self._clock()
        silent = [update for voice in self._voices.values() for update in voice.withhold([], now)]
        return silent + self._navigator.tick()

    def interrupt(self) -> None:
        """Forget an unfinished frame: bytes have been lost."""
        self._buffer = b""

    def feed(self, data: bytes) -> list[Update]:
        """The updates of the frames that `data` completes, in order."""
        buffer = self._buffer + data
        updates: list[Update] = []
        while (start := _START.search(buffer)) is not None:
            buffer = buffer[start.start() :]
            if buffer[0] == garmin.STX:
                length = garmin.frame_length(buffer)
                if not length:
                    break
                if length > 0:
                    updates += self._navigation(buffer[:length])
                else:
                    self.counts["received"] += 1
                    self._refuse("truncated", buffer[:-length])
                buffer = buffer[abs(length) :]
                continue
            end = _END.search(buffer, 1)
            if end is None and len(buffer) <= MAX_FRAME:
                break
            self.counts["received"] += 1
            if end is None or end.start() > MAX_FRAME:
                self._refuse("wrong length", buffer[:MAX_FRAME])
                buffer = buffer[1:]
            elif end[0] not in b"\r\n":  # the start of another frame
                self._refuse("truncated", buffer[: end.start()])
                buffer = buffer[end.start() :]
            else:
                raw = buffer[: end.start()]
                updates += self._gps(raw) if raw[0] == 0x40 else self._message(raw)
                buffer = buffer[end.end() :]
        else:
            buffer = b""
        self._buffer = buffer
        return updates

    def _refuse(self, reason: str, raw: bytes) -> None:
        self.counts[reason] += 1
        self.refused = f"{reason}: {raw[:MAX_FRAME]!r}"

    # -- the display's messages ----------------------------------------------------------------------------------------

    def _message(self, raw: bytes) -> list[Update]:
        lengths = MESSAGES.get(raw[1:3])
        fields = () if lengths is None else lengths.get(len(raw))
        if fields is None:
            self._refuse("wrong length", raw)
            return []
        if raw[-2:].upper() != b"%02X" % (sum(raw[:-2]) % 256):
            self._refuse("bad checksum", raw)
            return []
        self.counts["used" if fields else "ignored"] += 1
        text = raw.decode("latin-1")
        if not fields:
            return []
        updates = [self._number(f.key, text[f.at : f.at + f.width], f) for f in fields]
        if fields is ATTITUDE:
            updates += self._altitude(updates)
        kind, time = text[1:3], text[3:11]
        self._time_ran = self._time_ran or self._times.get(kind, time) != time
        self._times[kind] = time
        voice, now = self._voices[kind], self._clock()
        voice.hear(text, now, must_change=self._time_ran)
        return voice.withhold(updates, now)

    def _altitude(self, updates: Sequence[Update]) -> list[Update]:
        """The indicated altitude, which is not sent, from the pressure altitude and the altimeter setting."""
        known = {u.key: u.value for u in updates}
        height, setting = known["PALT"], known["BARO"]
        if isinstance(height, float) and isinstance(setting, float):
            return [Update("ALT", round(indicated_altitude(height, setting), 1))]
        return [Update("ALT", None, FAIL, UNKNOWN)]

    def _number(self, key: str, text: str, field: Field) -> Update:
        if _NUMBER.fullmatch(text):
            value = round(int(text) * field.factor + field.offset, 3) + 0.0  # never -0.0
            if field.low <= value <= field.high:
                return Update(key, value)
        elif "_" in text:
            return Update(key, None, FAIL, UNKNOWN)
        return self._absurd(key, text)

    def _absurd(self, key: str, text: str) -> Update:
        self.counts["absurd values"] += 1
        return Update(key, None, FAIL, f"{ABSURD}: {text!r}")

    # -- the display's GPS ---------------------------------------------------------------------------------------------

    def _gps(self, raw: bytes) -> list[Update]:
        match = _GPS.fullmatch(raw.decode("latin-1"))
        if match is None:
            self._refuse("malformed", raw)
            return []
        self.counts["used"] += 1
        voice, now = self._voices["@"], self._clock()
        voice.hear(match["time"], now, must_change=match["status"] != "_")
        return voice.withhold(self._fix(match), now)

    def _fix(self, match: re.Match[str]) -> list[Update]:
        status = match["status"]
        flags, reason = (FAIL, SIMULATED) if status == "S" else (0, "")
        place = [
            (key, _angle(text[0], text[1:-5], text[-5:], sides), text)
            for key, sides, text in (("LAT", "NS", match["lat"]), ("LONG", "EW", match["long"]))
        ]
        time = _seconds(match["time"])
        doubt = NO_FIX if status == "_" else self._doubt(place[0][1], place[1][1], time)
        if doubt == JUMPED:
            flags, reason, doubt = flags | BAD, reason or doubt, ""
        self._trouble = doubt or reason
        kind = 1 if doubt else _STATUS.get(status, 1)
        fix_type = Update("GPS_FIX_TYPE", kind, BAD if self._trouble else 0, self._trouble)
        updates = [fix_type, *self._time(match["time"], "_" if doubt else status)]
        if doubt:
            lost = (*POSITION, *MOTION, "TALT", "GPS_ACCURACY_HORIZ")
            return updates + [Update(key, None, FAIL, doubt) for key in lost]
        updates += [self._update(key, degrees, text, flags, reason) for key, degrees, text in place]
        height, error = match["height"], match["error"]
        updates.append(self._update("TALT", _scaled(height, FEET_PER_METRE), height, flags, reason))
        updates.append(self._update("GPS_ACCURACY_HORIZ", _scaled(error, FEET_PER_METRE), error, flags, reason))
        return updates + self._motion(match["east"], match["north"], flags, reason)

    def _doubt(self, latitude: float | None, longitude: float | None, time_of_day: float | None) -> str:
        """Why the position cannot be trusted; empty if it can, or is unknown."""
        if latitude is None or longitude is None:
            return ""
        return self._places.judge(latitude, longitude, time_of_day)

    def _update(self, key: str, value: float | None, text: str, flags: int, reason: str) -> Update:
        if value is not None:
            return Update(key, value, flags, reason)
        return Update(key, None, FAIL, UNKNOWN) if "_" in text else self._absurd(key, text)

    def _time(self, text: str, status: str) -> list[Update]:
        """The time of day; before the first fix the device's own clock may be wrong."""
        hours, minutes, seconds = text[:2], text[2:4], text[4:]
        if status == "_" or "_" in text:
            return [Update(key, None, FAIL, NO_FIX) for key in TIME]
        if hours > "23" or minutes > "59" or seconds > "60":
            return [self._absurd(key, text) for key in TIME]
        values: Sequence[Value] = (f"{hours}:{minutes}:{seconds}", int(hours), int(minutes), int(seconds))
        return list(map(Update, TIME, values))

    def _motion(self, east: str, north: str, flags: int, reason: str) -> list[Update]:
        x, y = _signed(east, "W"), _signed(north, "S")
        if x is None or y is None:
            return [Update(key, None, FAIL, UNKNOWN) for key in MOTION]
        speed = math.hypot(x, y) / 10 * KNOTS_PER_MPS
        if speed < STATIONARY_KT:
            return [Update("GS", speed, flags, reason), Update("TRACK", None, FAIL, "stationary")]
        return [
            Update("GS", speed, flags, reason),
            Update("TRACK", math.degrees(math.atan2(x, y)) % 360, flags, reason),
        ]

    # -- navigators ----------------------------------------------------------------------------------------------------

    def _navigation(self, frame: bytes) -> list[Update]:
        malformed = self.counts["malformed"]
        updates = self._navigator.decode(frame)
        if self.counts["malformed"] > malformed:
            self.refused = self._navigator.refused
        return updates


def _angle(side: str, degrees: str, minutes: str, sides: str) -> float | None:
    """Degrees, north and east positive, from whole degrees and thousandths of minutes; None if they are not an
    angle."""
    if not degrees.isdigit() or int(minutes) >= 60_000:
        return None
    value = int(degrees) + int(minutes) / 60_000
    if value > (90 if sides == "NS" else 180):
        return None
    return value if side == sides[0] else -value


def _seconds(text: str) -> float | None:
    """The time of day; None if it is not known."""
    return int(text[:2]) * 3600.0 + int(text[2:4]) * 60.0 + int(text[4:]) if text.isdigit() else None


def _scaled(text: str, factor: float) -> float | None:
    return int(text) * factor if _NUMBER.fullmatch(text) else None


def _signed(text: str, negative: str) -> int | None:
    """The number after a letter, which is its sign."""
    return None if not text[1:].isdigit() else -int(text[1:]) if text[0] == negative else int(text[1:])
