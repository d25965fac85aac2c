"""gpsd's JSON without I/O: lines in, updates of database keys and requests to gpsd out (`Client`).

Facts: gpsd_json(5), protocols 3.11 to 3.14, and gpsd 3.22 itself. It never raises, whatever the input; it counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from math import hypot
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from fixgw.kit.anonymous import Shift, blank
from fixgw.kit.lines import Lines
from fixgw.kit.place import DAY_S, NOWHERE, Places
from fixgw.kit.units import FEET_PER_METRE, KNOTS_PER_MPS
from fixgw.kit.update import BAD, FAIL, Update, Value, begin_counting

#: gpsd's own limit is 10,240 bytes, which a SKY of all constellations comes near.
MAX_LINE = 65_536

MAX_SPEED_MPS = 1000.0
MAX_HEIGHT_M = 100_000.0
MAX_SATELLITES = 200

#: gpsd says nothing when its receiver vanishes: the fix is lost after this much silence.
SILENCE_S = 2.5
#: Seconds between requests that ask gpsd why it is silent.
ASK_S = 2.0
#: A report that is later than others by this many seconds, according to its own time, was held up on its way, or the
#: receiver's time stands still.
LATE_S = 2.0

POSITION = ("LAT", "LONG")
#: Keys that are worthless without a fix.
FIX_KEYS = (
    *POSITION,
    *("GS", "TRACK", "TRACKM", "TALT", "GPS_ELLIPSOID_ALT"),
    *("GPS_ACCURACY_HORIZ", "GPS_ACCURACY_VERTICAL", "GPS_ACCURACY_SPEED"),
)
#: Keys that a two-dimensional fix only assumes.
OF_HEIGHT = ("TALT", "GPS_ELLIPSOID_ALT", "VS")
SATELLITES = ("GPS_SATS_VISIBLE", "GPS_SATS_TRACKED")
#: Every key that gpsd may write.
KEYS = frozenset((*FIX_KEYS, *SATELLITES, "GPS_FIX_TYPE", "TIMEZ", "TIMEZH", "TIMEZM", "TIMEZS"))
#: The keys that need an option.
CLIMB, ATTITUDE, HEADING = ("VS",), ("PITCH", "ROLL"), ("HEAD",)

NO_FIX = "no fix"
TWO_DIMENSIONAL = "two-dimensional fix: the altitude is assumed"
NO_REPORT = "gpsd reports no position"
STANDING = "gpsd reports no track, as when stationary"
ABSURD = "gpsd's value is absurd"

Heading = Literal["magnetic", "true"]

SIMULATED = 8
#: What TPV.status means for the position: flags and the reason. It is good with any other.
STATUS: dict[int, tuple[int, str]] = {
    5: (BAD, "the receiver estimates its position (dead reckoning)"),
    7: (BAD, "the receiver only keeps time: its position is a constant"),
    SIMULATED: (FAIL, "the receiver simulates its position"),
}
#: GPS_FIX_TYPE of a three-dimensional fix, by TPV.status: 4 with differential corrections, 5 RTK.
FIX_TYPES = {2: 4, 3: 5, 4: 5}

_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d+)?Z", re.ASCII)


# -- what gpsd sends ---------------------------------------------------------------------------------------------------


class _Head(msgspec.Struct, rename={"class_": "class"}):
    class_: str


class _Report(msgspec.Struct, kw_only=True):
    device: str = ""


class _Tpv(_Report, kw_only=True):
    mode: Annotated[int, msgspec.Meta(ge=0, le=3)]
    status: int = 1
    time: str | float | None = None
    lat: float | None = None
    lon: float | None = None
    altHAE: float | None = None
    altMSL: float | None = None
    alt: float | None = None  # the same as altMSL, which is missing before gpsd 3.20
    speed: float | None = None
    climb: float | None = None
    track: float | None = None
    magtrack: float | None = None
    magvar: float | None = None
    eph: float | None = None
    epx: float | None = None
    epy: float | None = None
    epv: float | None = None
    eps: float | None = None


class _Satellite(msgspec.Struct):
    used: bool = False


class _Sky(_Report, kw_only=True):
    nSat: int | None = None
    uSat: int | None = None
    satellites: list[_Satellite] | None = None


class _Att(_Report, kw_only=True):
    heading: float | None = None
    mag_st: str = "N"
    pitch: float | None = None
    pitch_st: str = "N"
    roll: float | None = None
    roll_st: str = "N"


class _Device(msgspec.Struct):
    path: str = ""
    activated: str | float | None = None  # 0: it is gone


class _Devices(msgspec.Struct):
    devices: list[_Device] = []


class _Poll(msgspec.Struct):
    active: int = 0  # its positions are not current


class _Error(msgspec.Struct):
    message: str = ""


class _Lag:
    """How late reports are, according to their own times."""

    def __init__(self) -> None:
        self._usual: float  # from the first report on
        self._last = float("inf")

    def late(self, now: float, stamp: float) -> float:
        """Seconds by which the report with the time `stamp` is late at `now`; 0 if it is not. Call it for each."""
        lag = now - stamp
        if stamp < self._last:  # the first, or the receiver has set its clock back
            self._usual = lag
        self._last = stamp
        if lag - self._usual > LATE_S:
            return lag - self._usual
        self._usual = lag if lag < self._usual else self._usual + (lag - self._usual) / 100  # clocks drift
        return 0.0


class Client:
    """One connection to gpsd: bytes in, updates out; `requests` has what is to be sent.

    `clock` returns monotonic seconds. `device` is the receiver to listen to; if it is empty, that is the first that
    reports. `climb` writes VS, `attitude` PITCH and ROLL; `heading` writes HEAD, and says what gpsd's heading is.

    - What a report does not mention stays as it is, and fails once it has been missing for `SILENCE_S`.
    - Reports without a fix fail all keys of the fix.
    - Late reports, and those of a receiver whose time stands still, are bad.
    """

    REFUSALS: ClassVar[Sequence[str]] = ("malformed", "too long")
    SELF_EVIDENT: ClassVar[bool] = True

    def __init__(
        self,
        clock: Callable[[], float],
        counts: dict[str, int] | None = None,
        *,
        device: str = "",
        climb: bool = False,
        attitude: bool = False,
        heading: Heading | None = None,
    ) -> None:
        self.counts = begin_counting(
            counts, "received", "used", "ignored", *self.REFUSALS, "absurd values", "reports of other receivers"
        )
        self.refused = ""
        #: The receiver whose reports are used; empty before the first.
        self.device = device
        self._clock = clock
        self._only = device
        self._climb = climb
        self._attitude = attitude
        self._heading = heading
        self._lines = Lines(MAX_LINE)
        self._places = Places(clock)
        self._lag = _Lag()
        self._late = False
        self._flags, self._trouble, self._why = FAIL, NO_REPORT, ""
        self._reported_at: float | None = None  # when the last position was reported; None if gpsd is silent
        self._said: dict[str, float] = {}  # when each key was last reported
        self._had_fix = False
        self._east: float | None = None  # magnetic variation, degrees
        self._watching = False
        self._ask_at = clock() + SILENCE_S

    @property
    def trouble(self) -> str:
        """The problem with the fix; empty if it is good."""
        return f"{self._trouble}: {self._why}" if self._why else self._trouble

    def requests(self) -> list[bytes]:
        """What to send now, each in its own packet, because gpsd refuses several in one."""
        now = self._clock()
        if not self._watching:
            self._watching = True
            device = b',"device":%b' % msgspec.json.encode(self._only) if self._only else b""
            return [b'?WATCH={"enable":true,"json":true%b};\n' % device]
        if self._reported_at is None and now >= self._ask_at:
            self._ask_at = now + ASK_S
            return [b"?POLL;\n"]
        return []

    def feed(self, data: bytes) -> list[Update]:
        """Decode the lines that `data` completes."""
        return [update for line in self._lines.feed(data) for update in self._line(line.strip())]

    def interrupt(self) -> None:
        """Forget an unfinished line: bytes have been lost."""
        self._lines.skip()

    def tick(self) -> list[Update]:
        """The updates that are due because reports stopped; call it a few times a second."""
        now = self._clock()
        if self._reported_at is not None and now - self._reported_at > SILENCE_S:
            return list(self._lose(""))
        overdue = [k for k, at in self._said.items() if k not in SATELLITES and now - at > SILENCE_S]
        return [self._fail(key, "gpsd no longer reports it") for key in overdue]

    def _line(self, line: bytes) -> list[Update]:
        if not line:
            return []
        self.counts["received"] += 1
        if len(line) > MAX_LINE:
            self._refuse("too long", line)
            return []
        try:
            kind = _head(line).class_
            known = self._KINDS.get(kind)
            if known is None:
                self.counts["ignored"] += 1
                return []
            decode, take = known
            report = decode(line)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            self._refuse("malformed", line)
            return []
        if isinstance(report, _Report) and not self._is_ours(report.device):
            self.counts["ignored"] += 1
            self.counts["reports of other receivers"] += 1
            return []
        self.counts["used"] += 1
        return list(take(self, report))

    def _refuse(self, why: str, line: bytes) -> None:
        self.counts[why] += 1
        self.refused = f"{why}: {line[:200]!r}"

    def _is_ours(self, device: str) -> bool:
        self.device = self.device or device
        return device in (self.device, "")

    # -- reports -------------------------------------------------------------------------------------------------------

    def _tpv(self, report: _Tpv) -> Iterator[Update]:
        now = self._reported_at = self._clock()
        self._why = ""
        stamp = _seconds(report.time)
        late = 0.0 if stamp is None else self._lag.late(now, stamp)
        self._late = bool(late)
        self._flags, self._trouble = self._judge(report, late, stamp)
        fix_type = FIX_TYPES.get(report.status, 3) if report.mode == 3 else report.mode
        yield self._say("GPS_FIX_TYPE", fix_type, BAD if self._flags else 0, self._trouble)
        if self._flags & FAIL and report.status != SIMULATED:
            yield from self._without_fix(self._trouble)
        else:
            self._had_fix = True
            yield from self._fix(report)
        if self._trouble == NOWHERE:  # the receiver has restarted, and so has its clock
            self._had_fix = False
        if stamp is not None:
            yield from self._time(stamp, FAIL if report.status == SIMULATED else BAD if late else 0)

    def _judge(self, report: _Tpv, late: float, stamp: float | None) -> tuple[int, str]:
        """The flags of the fix, and the reason."""
        if report.mode < 2:
            return FAIL, NO_FIX
        flags, reason = STATUS.get(report.status, (0, ""))
        if late:
            flags, reason = flags | BAD, reason or f"gpsd's reports are {late:.0f} s late"
        latitude, longitude = report.lat, report.lon
        if latitude is None or longitude is None or abs(latitude) > 90 or abs(longitude) > 180:
            return flags, reason
        doubt = self._places.judge(latitude, longitude, None if stamp is None else stamp % DAY_S)
        if doubt == NOWHERE:
            return FAIL, doubt
        return (flags | BAD, reason or doubt) if doubt else (flags, reason)

    def _fix(self, report: _Tpv) -> Iterator[Update]:
        self._east = report.magvar if report.magvar is not None and abs(report.magvar) <= 180 else self._east
        height = report.alt if report.altMSL is None else report.altMSL
        error = report.eph
        if error is None and report.epx is not None and report.epy is not None:
            error = hypot(report.epx, report.epy)
        numbers = [
            ("LAT", report.lat, -90.0, 90.0, 1.0),
            ("LONG", report.lon, -180.0, 180.0, 1.0),
            ("GS", report.speed, 0.0, MAX_SPEED_MPS, KNOTS_PER_MPS),
            ("TRACK", report.track, 0.0, 360.0, 1.0),
            ("TRACKM", report.magtrack, 0.0, 360.0, 1.0),
            ("TALT", height, -MAX_HEIGHT_M, MAX_HEIGHT_M, FEET_PER_METRE),
            ("GPS_ELLIPSOID_ALT", report.altHAE, -MAX_HEIGHT_M, MAX_HEIGHT_M, FEET_PER_METRE),
            ("VS", report.climb if self._climb else None, -MAX_SPEED_MPS, MAX_SPEED_MPS, 60.0 * FEET_PER_METRE),
            ("GPS_ACCURACY_HORIZ", error, 0.0, MAX_HEIGHT_M, FEET_PER_METRE),
            ("GPS_ACCURACY_VERTICAL", report.epv, 0.0, MAX_HEIGHT_M, FEET_PER_METRE),
            ("GPS_ACCURACY_SPEED", report.eps, 0.0, MAX_SPEED_MPS, KNOTS_PER_MPS),
        ]
        absurd = {key for key, value, low, high, _ in numbers if value is not None and not low <= value <= high}
        self.counts["absurd values"] += len(absurd)
        if absurd & {*POSITION}:
            absurd |= {*POSITION}
        for key, value, _, _, factor in numbers:
            if key in absurd:
                yield self._fail(key, ABSURD)
            elif value is not None and report.mode == 2 and key in OF_HEIGHT:
                yield self._say(key, value * factor, self._flags | BAD, self._trouble or TWO_DIMENSIONAL)
            elif value is not None:
                yield self._say(key, value * factor, self._flags, self._trouble)
        if report.speed is not None and report.track is None:
            yield self._fail("TRACK", STANDING)
            if report.magtrack is None and "TRACKM" in self._said:
                yield self._fail("TRACKM", STANDING)

    def _time(self, stamp: float, flags: int) -> Iterator[Update]:
        reason = self._trouble if flags else ""
        if not flags and not self._had_fix:  # before its first fix a receiver's time may be anything
            flags, reason = BAD, "no fix yet: the receiver's own clock"
        hour, minute, second = int(stamp % DAY_S) // 3600, int(stamp) // 60 % 60, int(stamp) % 60
        yield self._say("TIMEZ", f"{hour:02}:{minute:02}:{second:02}", flags, reason)
        for key, number in (("TIMEZH", hour), ("TIMEZM", minute), ("TIMEZS", second)):
            yield self._say(key, number, flags, reason)

    def _sky(self, report: _Sky) -> Iterator[Update]:
        visible, tracked, listed = report.nSat, report.uSat, report.satellites
        if listed is not None:
            visible = len(listed) if visible is None else visible
            tracked = sum(satellite.used for satellite in listed) if tracked is None else tracked
        lost = self._late or (self._reported_at is not None and bool(self._flags & FAIL))
        for key, count in zip(SATELLITES, (visible, tracked), strict=True):
            if count is None:
                continue
            if 0 <= count <= MAX_SATELLITES:
                yield self._say(key, count, BAD if lost else 0, self._trouble if lost else "")
            else:
                self.counts["absurd values"] += 1
                yield self._fail(key, ABSURD)

    def _att(self, report: _Att) -> Iterator[Update]:
        heading = report.heading
        if heading is not None and self._heading == "true":
            heading = None if self._east is None else (heading - self._east) % 360.0
        angles = [("HEAD", heading, report.mag_st, 0.0, 360.0)] if self._heading else []
        if self._attitude:
            angles += [
                ("PITCH", report.pitch, report.pitch_st, -90.0, 90.0),
                ("ROLL", report.roll, report.roll_st, -180.0, 180.0),
            ]
        for key, degrees, status, low, high in angles:
            if degrees is None:
                continue
            if not low <= degrees <= high:
                self.counts["absurd values"] += 1
                yield self._fail(key, ABSURD)
            elif status == "N":
                yield self._say(key, degrees)
            else:
                yield self._say(key, degrees, BAD, f"the sensor reports {status!r}")

    def _device(self, report: _Device) -> Iterator[Update]:
        if report.activated == 0 and self.device in (report.path, ""):
            yield from self._lose(f"its receiver {report.path} is gone")

    def _devices(self, report: _Devices) -> Iterator[Update]:
        paths = [device.path for device in report.devices]
        if not paths:
            yield from self._lose("it has no receiver")
        elif self._only and self._only not in paths:
            yield from self._lose(f"it has no receiver {self._only}, but {', '.join(paths[:5])}")

    def _poll(self, report: _Poll) -> Iterator[Update]:
        if report.active == 0:
            yield from self._lose("it has no receiver")
        elif self._reported_at is None:
            self._why = "its receiver is silent"

    def _error(self, report: _Error) -> Iterator[Update]:
        if self._reported_at is None:
            self._why = f"it answers {report.message[:200].strip()!r}"
        yield from ()

    # -- updates -------------------------------------------------------------------------------------------------------

    def _say(self, key: str, value: Value, flags: int = 0, reason: str = "") -> Update:
        self._said[key] = self._clock()
        return Update(key, value, flags, reason)

    def _fail(self, key: str, reason: str) -> Update:
        self._said.pop(key, None)
        return Update(key, None, FAIL, reason)

    def _without_fix(self, reason: str) -> Iterator[Update]:
        for key in (*FIX_KEYS, *CLIMB) if self._climb else FIX_KEYS:
            yield self._fail(key, reason)
        yield from (Update(key, None, BAD, reason) for key in SATELLITES if key in self._said)

    def _lose(self, why: str) -> Iterator[Update]:
        """The updates when gpsd has no position to report; `why`, as far as it is known."""
        self._flags, self._trouble, self._why = FAIL, NO_REPORT, why
        self._reported_at = None
        self._late = False
        self.device = self._only
        yield from (self._fail(key, self.trouble) for key in [*self._said])

    _KINDS: ClassVar[dict[str, tuple[Callable[[bytes], Any], Callable[[Client, Any], Iterator[Update]]]]] = {
        "TPV": (msgspec.json.Decoder(_Tpv).decode, _tpv),
        "SKY": (msgspec.json.Decoder(_Sky).decode, _sky),
        "ATT": (msgspec.json.Decoder(_Att).decode, _att),
        "DEVICE": (msgspec.json.Decoder(_Device).decode, _device),
        "DEVICES": (msgspec.json.Decoder(_Devices).decode, _devices),
        "POLL": (msgspec.json.Decoder(_Poll).decode, _poll),
        "ERROR": (msgspec.json.Decoder(_Error).decode, _error),
    }


_head = msgspec.json.Decoder(_Head).decode


def _seconds(text: str | float | None) -> float | None:
    """The seconds of an ISO time since the year 1; None if it is missing or impossible."""
    match = _TIME.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    try:
        days = date(year, month, day).toordinal()
    except ValueError:
        return None
    if hour > 23 or minute > 59 or second > 60:
        return None
    return days * DAY_S + hour * 3600.0 + minute * 60.0 + second + float(match[7] or 0)


# -- captures for others -----------------------------------------------------------------------------------------------

_CLASS = re.compile(rb'"class"\s*:\s*"(\w+)"')
_PLACE = re.compile(rb'"(lat|lon|ecef\w+|az|el)"(\s*:\s*)(-?\d+(?:\.\d+)?)')


def without_place(data: bytes, shift: Shift) -> bytes:
    """The lines of gpsd, with positions shifted, and without what else tells them. They keep their number of bytes."""
    return b"\n".join(_without_place(line, shift) for line in data.split(b"\n"))


def _without_place(line: bytes, shift: Shift) -> bytes:
    match = _CLASS.search(line)
    if match is None or match[1].decode() not in {*Client._KINDS, "VERSION", "WATCH"}:
        return blank(line)
    return _PLACE.sub(lambda place: _move(place, shift), line)


def _move(place: re.Match[bytes], shift: Shift) -> bytes:
    name, colon, text = place.groups()
    moves: dict[bytes, Callable[[float], float]] = {b"lat": shift.latitude, b"lon": shift.longitude}
    moved = moves[name](float(text)) if name in moves else 0.0
    written = (f"{moved:.{digits}f}" for digits in range(9, -1, -1))
    fitting = next((number for number in written if len(number) <= len(text)), "0")
    return b'"%b"%b%b' % (name, colon, fitting.encode().rjust(len(text)))
