"""The "Aviation Output" of Garmin's navigators, without I/O: `frame_length` finds frames, `Navigator` decodes them.

A frame is STX, sentences of type 1, sentences of type 2, ETX, once a second. Type 1 is a letter, data, CR and usually
LF; ``-`` fills what is not known. Type 2 is a waypoint of the route: ``w``, 17 bytes that are partly binary, CR and
usually LF. There is no checksum, so that a frame must be whole, and every character of the right kind.

Sources: Garmin 190-01004-02 Rev. C, table B-1; 190-00356-02, appendix D; 190-00181-02 Rev. G, appendix C.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from fixgw.kit.place import Places
from fixgw.kit.update import FAIL, Update, begin_counting

STX, ETX = 0x02, 0x03
MAX_FRAME = 1024  # a route has up to 31 waypoints
MAX_LINE = 40

#: A navigator that moves faster than `SURELY_MOVES_KT` does not send the same position for `STANDS_STILL_S`.
SURELY_MOVES_KT, STANDS_STILL_S = 15, 6.0
SILENT_AFTER_S = 4.0
#: Magnetic variation below which the next may well be zero. Elsewhere zero means that directions are true.
NEARLY_NO_VARIATION = 0.5

UNKNOWN = "the device does not know it"
ABSURD = "the device sends an absurd value"
NO_FIX = "no fix"
SILENT = f"no position for {SILENT_AFTER_S:.0f} seconds"
STANDS_STILL = "the navigator reports speed, but its position does not change"
NO_GUIDANCE = "the navigator gives no guidance: no waypoint, or no fix"
NOT_MAGNETIC = "the navigator sends true directions, or does not know the variation"

POSITION = ("LAT", "LONG")
WAYPOINT = ("WPLAT", "WPLON")
GUIDANCE = ("XTRACK", "CDI", "COURSE", "WPNAME", "WPHEAD", *WAYPOINT)
#: Every key that a navigator may write.
KEYS = frozenset((*POSITION, "TALT", "GS", "TRACK", "TRACKM", *GUIDANCE))

_STARTS_ANOTHER = re.compile(rb"[\x02$=@]|[^ -~\r\n]")  # not in text: the frame has lost its end
_LINE_END = re.compile(rb"[\r\n\x03]")
_SENTENCES = {
    letter: re.compile(pattern, re.ASCII)
    for letter, pattern in {
        "z": r"[+-]?\d{1,5}",
        "A": r"([NS]) ?(\d\d) ?(\d{4})",
        "B": r"([EW]) ?(\d{3}) ?(\d{4})",
        "C": r"\d{3}",
        "D": r"\d{3}",
        "G": r"[LR]\d{4,5}",
        "I": r"\d{4}",
        "K": r"[ -~]{1,5}",
        "L": r"\d{4}",
        "Q": r"[EW]\d{3,4}",
        "S": r"-{0,9}[N-]",
    }.items()
}
_ACTIVE, _ROUTE_LINE, _EMPTY_ROUTE = 0x20, 18, 4


class Voice:
    """One sender on a line. Its values fail when it repeats itself for `still_for` seconds although it should change,
    or is silent for `silent_for` seconds."""

    def __init__(self, still: str, still_for: float, silent_for: float = float("inf")) -> None:
        self.lost = ""
        #: The keys of all values so far.
        self.written: set[str] = set()
        self._still, self._still_for, self._silent_for = still, still_for, silent_for
        self._said = ""
        self._changed = self._heard = float("inf")  # nothing yet

    def hear(self, said: str, now: float, must_change: bool) -> None:
        self._heard = now
        if said != self._said or not must_change:
            self._said, self._changed = said, now

    def withhold(self, updates: list[Update], now: float) -> list[Update]:
        """The `updates` if the sender is alive; otherwise the failures, if they are new."""
        before = self.lost
        silent, still = now - self._heard > self._silent_for, self._heard - self._changed > self._still_for
        self.lost = SILENT if silent else self._still if still else ""
        if not self.lost:
            self.written.update(update.key for update in updates if update.value is not None)
            return updates
        keys = [*([] if before else sorted(self.written)), *(update.key for update in updates)]
        return [Update(key, None, FAIL, self.lost) for key in dict.fromkeys(keys)]


class Waypoint(NamedTuple):
    """A waypoint of the route, in degrees."""

    name: str
    latitude: float | None
    longitude: float | None


def frame_length(buffer: bytes) -> int:
    """The length of the frame with which `buffer` begins; 0 if it is incomplete.

    If it is broken, minus the number of bytes after which another may begin.
    """
    at = 1
    while at < len(buffer):
        byte = buffer[at]
        if byte == ETX:
            return at + 1
        if at > MAX_FRAME:
            return -at
        if byte in b"\r\n":
            at += 1
        elif byte == 0x77:
            length = _route_line(buffer, at)
            if length <= 0:
                return length and -(at + 1)
            at += length
        else:
            most = at + MAX_LINE
            end = _LINE_END.search(buffer, at, most)
            broken = _STARTS_ANOTHER.search(buffer, at, most if end is None else end.start())
            if broken is not None:
                return -broken.start()
            if end is None:
                return -most if len(buffer) >= most else 0
            if end[0] == b"\x03":  # in the middle of a line
                return -end.end()
            at = end.start()
    return 0


def _route_line(buffer: bytes, at: int) -> int:
    """The length of the type 2 sentence without its end; 0 if it is incomplete, -1 if it is none."""
    for length in (_EMPTY_ROUTE, _ROUTE_LINE):
        if len(buffer) <= at + length:
            return 0
        if buffer[at + length] == 0x0D:
            return length
    return -1


class Navigator:
    """Decodes the frames of one navigator. `clock` returns monotonic seconds; counts go to `counts`.

    `true_directions`: the navigator is set to send true directions. `full_scale` is the cross-track distance in
    nautical miles at which CDI is -1 or 1; without it, CDI is not written.

    A navigator sends no time. It has hung if it reports speed but never moves, and its values fail when it is silent.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        counts: dict[str, int] | None = None,
        *,
        true_directions: bool = False,
        full_scale: float | None = None,
    ) -> None:
        self.counts = begin_counting(counts, "received", "used", "ignored", "malformed", "absurd values")
        self.refused = ""
        self._clock = clock
        self._true = true_directions
        self._full_scale = full_scale
        self._trouble = ""
        self._places = Places(clock)
        self._voice = Voice(STANDS_STILL, STANDS_STILL_S, SILENT_AFTER_S)
        self._east: float | None = None  # the last magnetic variation, degrees

    @property
    def trouble(self) -> str:
        """The problem with the navigator or its fix; empty if there is none."""
        return self._voice.lost or self._trouble

    def tick(self) -> list[Update]:
        """The updates that are due because data stopped; call it a few times a second."""
        return self._voice.withhold([], self._clock())

    def decode(self, frame: bytes) -> list[Update]:
        """The updates of a whole frame, from STX to ETX."""
        self.counts["received"] += 1
        items: dict[str, str | None] = {}
        waypoint = None
        at = 1
        while at < len(frame) - 1:
            if frame[at] in b"\r\n":
                at += 1
            elif frame[at] == 0x77:
                length = _route_line(frame, at)
                if length == _ROUTE_LINE and frame[at + 3] & _ACTIVE:
                    waypoint = _waypoint(frame[at : at + length])
                at += length
            else:
                end = _LINE_END.search(frame, at)
                assert end is not None
                letter, data = chr(frame[at]), frame[at + 1 : end.start()].decode("latin-1")
                at = end.start()
                pattern = _SENTENCES.get(letter)
                if pattern is None:
                    continue
                if not data.strip("- ") and letter != "S":
                    items[letter] = None
                elif pattern.fullmatch(data):
                    items[letter] = data
                else:
                    self.counts["malformed"] += 1
                    self.refused = f"malformed: {letter + data!r} in {frame[:200]!r}"
                    return []
        if not items:
            self.counts["ignored"] += 1
            return []
        self.counts["used"] += 1
        now, speed = self._clock(), items.get("D") or ""
        moves = speed.isdigit() and int(speed) > SURELY_MOVES_KT
        self._voice.hear(f"{items.get('A')}{items.get('B')}", now, must_change=moves)
        return self._voice.withhold(list(self._navigation(items, waypoint)), now)

    def _navigation(self, items: Mapping[str, str | None], waypoint: Waypoint | None) -> Iterator[Update]:
        if "A" in items and "B" in items:
            latitude, longitude = _angle("A", items["A"], "NS"), _angle("B", items["B"], "EW")
            unknown = items["A"] is None or items["B"] is None
            known = latitude is not None and longitude is not None
            self._trouble = NO_FIX if unknown else ""
            if known and (doubt := self._places.judge(latitude, longitude)):  # type: ignore[arg-type]
                self._trouble = doubt
                for key in (*POSITION, "TALT", "GS", "TRACK", "TRACKM"):
                    yield Update(key, None, FAIL, doubt)
                yield from self._without_guidance(doubt)
                return
            if not known and not unknown:
                self.counts["absurd values"] += 1
            for key, degrees in zip(POSITION, (latitude, longitude), strict=True):
                if known:
                    yield Update(key, degrees)
                else:
                    yield Update(key, None, FAIL, UNKNOWN if unknown else ABSURD)
        yield from self._number(items, "z", "TALT", -1500, 60_000)
        yield from self._number(items, "D", "GS", 0, 999)
        magnetic = self._find_variation(items.get("Q"), "Q" in items)
        yield from self._track(items, magnetic)
        status = items.get("S") or ""
        if status.endswith("N") or self._trouble:
            yield from self._without_guidance(self._trouble or NO_GUIDANCE)
            return
        yield from self._guidance(items, magnetic)
        if waypoint is not None and waypoint.name == (items.get("K") or "").strip():
            for key, degrees in zip(WAYPOINT, waypoint[1:], strict=True):
                yield Update(key, degrees) if None not in waypoint[1:] else self._absurd(key, waypoint.name)
        else:
            yield from (Update(k, None, FAIL, UNKNOWN) for k in WAYPOINT if k in self._voice.written)

    def _without_guidance(self, reason: str) -> Iterator[Update]:
        for key in GUIDANCE:
            if key in self._voice.written or key not in ("CDI", *WAYPOINT):
                yield Update(key, None, FAIL, reason)

    def _number(
        self, items: Mapping[str, str | None], letter: str, key: str, low: int, high: int, factor: float = 1.0
    ) -> Iterator[Update]:
        if letter not in items:
            return
        text = items[letter]
        if text is None:
            yield Update(key, None, FAIL, UNKNOWN)
        elif low <= int(text) <= high:
            yield Update(key, int(text) * factor)
        else:
            yield self._absurd(key, text)

    def _absurd(self, key: str, text: str) -> Update:
        self.counts["absurd values"] += 1
        return Update(key, None, FAIL, f"{ABSURD}: {text!r}")

    # -- directions ----------------------------------------------------------------------------------------------------

    def _find_variation(self, text: str | None, sent: bool) -> bool:
        """Keep the variation; returns whether directions are magnetic.

        A navigator that is set to true directions sends zero.
        """
        before, self._east = self._east, None
        if not sent or text is None:
            return not self._true
        east = int(text[1:]) / (-10 if text[0] == "W" else 10)
        if abs(east) > 180:
            self.counts["absurd values"] += 1
            return not self._true
        if east == 0 and (before is None or abs(before) > NEARLY_NO_VARIATION):
            return False
        self._east = east
        return not self._true

    def _track(self, items: Mapping[str, str | None], magnetic: bool) -> Iterator[Update]:
        for sent in self._number(items, "C", "TRACK", 0, 360):
            degrees = None if sent.value is None else float(sent.value) % 360
            for key, other, sign in (("TRACKM", magnetic, -1), ("TRACK", not magnetic, 1)):
                if degrees is None:
                    yield sent._replace(key=key)
                elif other:
                    yield Update(key, degrees)
                elif self._east is not None:
                    yield Update(key, (degrees + sign * self._east) % 360)
                else:
                    yield Update(key, None, FAIL, NOT_MAGNETIC if key == "TRACKM" else "the variation is not known")

    def _direction(self, items: Mapping[str, str | None], letter: str, key: str, magnetic: bool) -> Iterator[Update]:
        """A magnetic direction."""
        for sent in self._number(items, letter, key, 0, 3600, 0.1):
            if sent.value is None:
                yield sent
            elif magnetic:
                yield Update(key, float(sent.value) % 360)
            elif self._east is not None:
                yield Update(key, (float(sent.value) - self._east) % 360)
            else:
                yield Update(key, None, FAIL, NOT_MAGNETIC)

    # -- guidance ------------------------------------------------------------------------------------------------------

    def _guidance(self, items: Mapping[str, str | None], magnetic: bool) -> Iterator[Update]:
        if "G" in items:
            text = items["G"]
            if text is None:
                yield Update("XTRACK", None, FAIL, UNKNOWN)
            off = None if text is None else int(text[1:]) / (-100 if text[0] == "L" else 100) + 0.0
            if off is not None:
                yield Update("XTRACK", off)
            if self._full_scale is not None:
                yield (
                    Update("CDI", None, FAIL, UNKNOWN)
                    if off is None
                    else Update("CDI", max(-1.0, min(-off / self._full_scale, 1.0)) + 0.0)
                )
        yield from self._direction(items, "I", "COURSE", magnetic)
        if "K" in items:
            name = items["K"]
            yield Update("WPNAME", None, FAIL, UNKNOWN) if name is None else Update("WPNAME", name.strip())
        for bearing in self._direction(items, "L", "WPHEAD", magnetic):
            yield (
                bearing if bearing.value is None else bearing._replace(value=f"{round(float(bearing.value)) % 360:03}")
            )


def _angle(letter: str, text: str | None, sides: str) -> float | None:
    """Degrees, north and east positive, from degrees, minutes and hundredths; None if they are not an angle."""
    match = _SENTENCES[letter].fullmatch(text or "")
    return None if match is None else _degrees(match[1] == sides[1], int(match[2]), int(match[3]), sides)


def _degrees(negative: bool, degrees: int, hundredths: int, sides: str) -> float | None:
    value = degrees + hundredths / 6000
    if hundredths >= 6000 or value > (90 if sides == "NS" else 180):
        return None
    return -value if negative else value


def _waypoint(line: bytes) -> Waypoint:
    """``w``, two digits, a byte, name 5, latitude 3, longitude 4, variation 2."""
    latitude, longitude = line[9:12], line[12:16]
    places = (
        _degrees(bool(latitude[0] & 0x80), latitude[0] & 0x7F, latitude[1] * 100 + latitude[2], "NS"),
        _degrees(bool(longitude[0] & 0x80), longitude[1], longitude[2] * 100 + longitude[3], "EW"),
    )
    absurd = latitude[2] > 99 or longitude[3] > 99
    return Waypoint(line[4:9].decode("latin-1").strip(), *((None, None) if absurd else places))
