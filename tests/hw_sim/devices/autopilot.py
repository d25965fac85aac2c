"""A virtual autopilot or transponder: it listens to NMEA 0183, checks every sentence, and steers by them or disengages.

    with VirtualPort(path) as port:
        autopilot = Autopilot(port)
        world.attach(autopilot)
        ...
        autopilot.guidance(now), autopilot.position(now), autopilot.complaints

It is as strict as a certified one: a sentence counts only with a correct checksum, within 82 bytes, with the fields of
its kind in their correct form. A void sentence that contains numbers is complained about. Sentences are forgotten after
`patience` seconds. It does not fly: nothing here moves the aircraft.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple, Protocol

from fixgw.hw_sim.aircraft import Aircraft

MAX_COMPLAINTS = 100
MAX_SENTENCE = 82  # bytes, including its ends

_FRAME = re.compile(rb"\$([A-Z]{2}[A-Z]{3}),([^$*\r\n]*)\*([0-9A-F]{2})\r\n")

_TIME = r"(?:([01]\d|2[0-3])[0-5]\d([0-5]\d|60)(\.\d+)?)?"
_PLACE = r"[0-8]\d[0-5]\d\.\d+|", r"[NS]?", r"(?:0\d\d|1[0-7]\d)[0-5]\d\.\d+|", r"[EW]?"
_ANGLE = r"(?:[0-2]\d\d|3[0-5]\d)(?:\.\d)?|"
_SIZE = r"\d+(?:\.\d+)?|"
_SIGNED = r"-?\d+(?:\.\d+)?|"
_NAME = r"[A-Za-z0-9 ._/+-]*"
_STATUS = r"[AV]"
_OFF = _SIZE, r"[LR]?"

#: The forms of the fields, by kind.
FORMS: dict[str, tuple[str, ...]] = {
    "RMC": (_TIME, _STATUS, *_PLACE, _SIZE, _ANGLE, r"(?:\d{6})?", _ANGLE, "[EW]?", "[ADN]"),
    "GGA": (_TIME, *_PLACE, "[0-5]", r"(?:\d\d)?", _SIZE, _SIGNED, "M", _SIGNED, "M", _SIZE, r"\d*"),
    "GLL": (*_PLACE, _TIME, _STATUS, "[ADN]"),
    "VTG": (_ANGLE, "T", _ANGLE, "M", _SIZE, "N", _SIZE, "K", "[ADN]"),
    "GSA": ("[AM]", "[123]", *[r"\d*"] * 12, _SIZE, _SIZE, _SIZE),
    "ZDA": (_TIME, r"(?:\d\d)?", r"(?:\d\d)?", r"(?:\d{4})?", r"(?:00)?", r"(?:00)?"),
    "RMB": (_STATUS, *_OFF, _NAME, _NAME, *_PLACE, _SIZE, _ANGLE, _SIZE, _STATUS, "[ADN]"),
    "APB": (
        *(_STATUS, _STATUS, *_OFF, "N", _STATUS, _STATUS, _ANGLE, "[MT]?", _NAME),
        *(_ANGLE, "[MT]?", _ANGLE, "[MT]?", "[ADN]"),
    ),
    "XTE": (_STATUS, _STATUS, *_OFF, "N", "[ADN]"),
    "BOD": (_ANGLE, "T", _ANGLE, "M", _NAME, _NAME),
    "HDG": (_ANGLE, _ANGLE, "[EW]?", _ANGLE, "[EW]?"),
    "HDM": (_ANGLE, "M"),
    "HDT": (_ANGLE, "T"),
}

#: By kind: the field that marks a sentence void, and its contents then.
VOID: dict[str, tuple[int, str]] = {
    "RMC": (1, "V"),
    "GGA": (5, "0"),
    "GLL": (5, "V"),
    "VTG": (8, "N"),
    "RMB": (0, "V"),
    "APB": (0, "V"),
    "XTE": (0, "V"),
}

#: The fields that a void sentence must leave empty, because an autopilot might steer by them.
EMPTY_WHEN_VOID: dict[str, range] = {
    "RMC": range(2, 8),
    "GGA": range(1, 5),
    "GLL": range(4),
    "VTG": range(0, 7, 2),
    "RMB": range(1, 12),
    "APB": range(2, 4),
    "XTE": range(2, 4),
}


class Guidance(NamedTuple):
    """Nautical miles off the track, right positive; course and bearing in degrees, None if not sent."""

    off: float
    course: float | None
    bearing: float | None
    waypoint: str


class Heard(NamedTuple):
    at: float
    fields: tuple[str, ...]

    def void(self, kind: str) -> bool:
        place = VOID.get(kind)
        return place is not None and self.fields[place[0]] == place[1]


class Line(Protocol):
    """Whatever the receive pin is connected to, for instance a `VirtualPort`."""

    def read(self, timeout: float = 0.0, /) -> bytes: ...

    def close(self) -> None: ...


class Autopilot:
    """An instrument of the `World`, which calls `tick`; or `hear` it directly. One thread."""

    NAME = "autopilot"

    def __init__(self, line: Line | None = None, patience: float = 3.0) -> None:
        self.line = line
        self.patience = patience
        #: Accepted sentences, by kind, and the void ones among them.
        self.accepted: Counter[str] = Counter()
        self.voids: Counter[str] = Counter()
        #: The errors found, as text; only the first ones are kept.
        self.complaints: list[str] = []
        self._last: dict[str, Heard] = {}
        self._longest: dict[str, float] = {}
        self._buffer = b""

    # -- listening -----------------------------------------------------------------------------------------------------

    def tick(self, aircraft: Aircraft, now: float) -> None:
        if self.line is not None:
            while data := self.line.read():
                self.hear(data, now)

    def hear(self, data: bytes, now: float) -> None:
        """Receive `data`, cut anywhere, at `now` in monotonic seconds."""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._judge(line + b"\n", now)
        if len(self._buffer) > 10 * MAX_SENTENCE:
            self._complain("no end of line", self._buffer)
            self._buffer = b""

    def close(self) -> None:
        if self.line is not None:
            self.line.close()

    # -- its picture of the flight -------------------------------------------------------------------------------------

    def latest(self, kind: str, now: float) -> tuple[str, ...] | None:
        """The fields of the last sentence of `kind`; None if it is void or too old."""
        heard = self._last.get(kind)
        if heard is None or now - heard.at > self.patience or heard.void(kind):
            return None
        return heard.fields

    def guidance(self, now: float) -> Guidance | None:
        """What to steer by; None: disengage."""
        if apb := self.latest("APB", now):
            if apb[1] == "A":
                return Guidance(_signed(apb[2], apb[3]), _float(apb[7]), _float(apb[10]), apb[9])
        elif rmb := self.latest("RMB", now):
            return Guidance(_signed(rmb[1], rmb[2]), None, _float(rmb[10]), rmb[4])
        return None

    def position(self, now: float) -> tuple[float, float] | None:
        """The position in degrees, north and east positive; None: no fix."""
        for kind, first in (("RMC", 2), ("GLL", 0), ("GGA", 1)):
            if fields := self.latest(kind, now):
                lat, north, lon, east = fields[first : first + 4]
                return _degrees(lat, north), _degrees(lon, east)
        return None

    def longest_pause(self, kind: str) -> float:
        """The longest time in seconds between two accepted sentences of `kind`; 0 before the second."""
        return self._longest.get(kind, 0.0)

    # -- checking ------------------------------------------------------------------------------------------------------

    def _judge(self, line: bytes, now: float) -> None:
        match = _FRAME.fullmatch(line)
        if match is None or len(line) > MAX_SENTENCE:
            self._complain("not a sentence", line)
            return
        checksum = 0
        for byte in line[1 : line.index(b"*")]:
            checksum ^= byte
        if checksum != int(match[3], 16):
            self._complain("wrong checksum", line)
            return
        kind, fields = match[1][2:].decode(), tuple(match[2].decode("latin-1").split(","))
        forms = FORMS.get(kind, ())
        if len(forms) != len(fields):
            self._complain("wrong number of fields", line)
            return
        if wrong := [
            n for n, (form, text) in enumerate(zip(forms, fields, strict=True)) if not re.fullmatch(form, text)
        ]:
            self._complain(f"field {wrong[0] + 1} has the wrong form", line)
            return
        heard = Heard(now, fields)
        if heard.void(kind):
            self.voids[kind] += 1
            if any(fields[n] for n in EMPTY_WHEN_VOID[kind]):
                self._complain("void, but it has values", line)
        elif kind in EMPTY_WHEN_VOID and not all(fields[n] for n in _NEEDED[kind]):
            self._complain("valid, but it has no values", line)
            return
        if before := self._last.get(kind):
            self._longest[kind] = max(self._longest.get(kind, 0.0), now - before.at)
        self.accepted[kind] += 1
        self._last[kind] = heard

    def _complain(self, why: str, line: bytes) -> None:
        if len(self.complaints) < MAX_COMPLAINTS:
            self.complaints.append(f"{why}: {line[:MAX_SENTENCE]!r}")


#: The fields that a valid sentence must have.
_NEEDED: dict[str, tuple[int, ...]] = {
    "RMC": (2, 3, 4, 5),
    "GGA": (1, 2, 3, 4),
    "GLL": (0, 1, 2, 3),
    "VTG": (4,),
    "RMB": (1, 2, 5, 6, 7, 8, 9, 10),
    "APB": (2, 3, 7),
    "XTE": (2, 3),
}


def _float(text: str) -> float | None:
    return float(text) if text else None


def _signed(miles: str, steer: str) -> float:
    return float(miles) if steer == "L" else -float(miles)


def _degrees(text: str, hemisphere: str) -> float:
    point = text.index(".") - 2
    degrees = int(text[:point]) + float(text[point:]) / 60.0
    return -degrees if hemisphere in "SW" else degrees
