"""NMEA 0183 without I/O: bytes in, sentences out (`Framer`); sentences in, updates of database keys out (`Decoder`).

Neither ever raises, whatever the input; both count. Why not a library? The existing ones (pynmea2, pynmeagps) name the
fields of one sentence, and raise an exception on a bad one. The hard part lies elsewhere: finding sentences amid junk,
and deciding whether a position is valid, is real or simulated, and belongs with a speed. A library would save only a
short table of field positions.

Implements NMEA 0183 4.11 as far as a GPS is concerned, according to manufacturers' documents: RMC, GGA, GNS, GLL, VTG,
GSA, GSV, GST, ZDA of any talker, RMB, APB, XTE and BOD of a navigator, HDG, HDM and HDT of a compass, and of the
proprietary sentences Garmin's PGRME, PGRMF and PGRMZ, u-blox's PUBX,00, Ashtech's PASHR,POS and SkyTraq's PSTI,030.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import reduce
from operator import xor
from typing import ClassVar, NamedTuple

from fixgw.kit.place import NOWHERE, Places
from fixgw.kit.units import FEET_PER_METRE, KNOTS_PER_KMH
from fixgw.kit.update import BAD, FAIL, Update

#: Maximum length in characters between ``$`` and the end of the line. The standard says 79; some proprietary sentences
#: are longer. One that is longer still is ignored.
MAX_SENTENCE = 250

# Anything above these is refused as absurd.
MAX_SPEED_KT = 2000.0
MAX_HEIGHT_M = 100_000.0
MAX_SATELLITES = 200
MAX_CROSS_TRACK_NMI = 100.0

#: Navigators do not show a cross-track error above this.
MAX_SHOWN_CROSS_TRACK_NMI = 9.99

#: A receiver that repeats the same time of day for this long is stuck; one that sends no position for this long has
#: none.
STUCK_AFTER_S = 4.0
#: A navigator that sends nothing about guidance for this long gives none.
GUIDANCE_LASTS_S = 8.0
#: Magnetic variation below which the next may well be zero. Otherwise zero means that the receiver does not know it.
NEARLY_NO_VARIATION = 0.5

POSITION = ("LAT", "LONG")
ACCURACY = ("GPS_ACCURACY_HORIZ", "GPS_ACCURACY_VERTICAL")
#: Keys that are worthless without a fix.
FIX_KEYS = (*POSITION, "GS", "TRACK", "TRACKM", "TALT", "GPS_ELLIPSOID_ALT", *ACCURACY)
#: Keys that describe the fix. Without a fix they are bad, so that those of another receiver are published.
SATELLITES = ("GPS_SATS_TRACKED", "GPS_SATS_VISIBLE")

#: Keys that are worthless without guidance by a navigator. A knob may also set the course, so a navigator fails COURSE
#: only once it has sent one.
GUIDANCE_KEYS = ("XTRACK", "CDI", "WPNAME", "WPLAT", "WPLON", "WPHEAD", "COURSE")

NO_FIX = "no fix"
NO_POSITION = "no position yet"
STOPPED = "the receiver's time has stopped"
SILENT = f"no position for {STUCK_AFTER_S:.0f} seconds"

#: Every key that a receiver, navigator or compass may write.
KEYS = frozenset((*FIX_KEYS, *GUIDANCE_KEYS)) | {
    *("HEAD", "PALT"),
    *("TIMEZ", "TIMEZH", "TIMEZM", "TIMEZS"),
    *("GPS_FIX_TYPE", *SATELLITES),
}


class Sentence(NamedTuple):
    """One complete sentence: ``GP``, ``RMC`` and the fields, or ``P``, ``GRME`` and the fields if proprietary."""

    talker: str
    kind: str
    fields: tuple[str, ...]


class Framer:
    """Finds the sentences in a stream of bytes that may be cut anywhere. Holds at most one unfinished sentence.

    A sentence begins with ``$`` and ends with CR, LF, or the next ``$``. If it has a checksum, it must be correct. A
    sentence without one is accepted only if its line is complete and the device has never sent a checksum; otherwise it
    has lost its end.
    """

    REFUSALS = ("bad checksum", "no checksum", "malformed", "too long")

    _END = re.compile(rb"[\r\n$]")
    _ADDRESS = re.compile(r"(P)([A-Z0-9]{3,})|([A-Z0-9]{2})([A-Z]{3})")

    def __init__(self, counts: dict[str, int] | None = None) -> None:
        #: Sentences received, and those refused, by reason.
        self.counts = counts if counts is not None else {}
        for name in ("received", "ignored", *self.REFUSALS):
            self.counts.setdefault(name, 0)
        #: Describes the last refused sentence.
        self.refused = ""
        self._buffer = b""
        self._has_checksums = False

    def feed(self, data: bytes) -> list[Sentence]:
        """Return the sentences that `data` completes, in order."""
        buffer = self._buffer + data
        sentences = []
        start = buffer.find(b"$")
        while start >= 0:
            end = self._END.search(buffer, start + 1)
            if end is None:
                break
            stop = end.start()
            sentence = self._sentence(buffer[start + 1 : stop], whole=buffer[stop] != 0x24)
            if sentence is not None:
                sentences.append(sentence)
            start = stop if buffer[stop] == 0x24 else buffer.find(b"$", stop + 1)
        self._buffer = buffer[start:] if start >= 0 else b""
        if len(self._buffer) > MAX_SENTENCE + 1:
            self._sentence(self._buffer[1:], whole=False)
            self._buffer = b""
        return sentences

    def interrupt(self) -> None:
        """Forget an unfinished sentence: bytes have been lost."""
        self._buffer = b""

    def _sentence(self, raw: bytes, whole: bool) -> Sentence | None:
        counts = self.counts
        counts["received"] += 1
        body, star, tail = raw.partition(b"*")
        if len(raw) > MAX_SENTENCE and raw[:1] == b"P":  # PUBX,03 lists all satellites
            counts["ignored"] += 1
            return None
        if len(raw) > MAX_SENTENCE:
            reason = "too long"
        elif star and tail[:2].upper() != b"%02X" % reduce(xor, body, 0):
            reason = "bad checksum"
        elif not star and (self._has_checksums or not whole):
            reason = "no checksum"
        else:
            text = body.decode("latin-1").rstrip()
            address, *fields = text.split(",")
            match = self._ADDRESS.fullmatch(address)
            if match is not None and text.isascii() and text.isprintable():
                self._has_checksums = self._has_checksums or bool(star)
                return Sentence(match[1] or match[3], match[2] or match[4], tuple(fields))
            reason = "malformed"
        counts[reason] += 1
        self.refused = f"{reason}: {raw[:MAX_SENTENCE]!r}"
        return None


_TIME = re.compile(r"(\d\d)(\d\d)(\d\d)(?:\.\d*)?", re.ASCII)
_ANGLE = re.compile(r"(\d{0,3}?)(\d{1,2}(?:\.\d*)?)", re.ASCII)  # the last two digits before the point are minutes
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)", re.ASCII)


def _shortest(clock: str) -> str:
    """The time of day without trailing zeros."""
    return clock.rstrip("0").rstrip(".") if "." in clock else clock


def _seconds(clock: str) -> float | None:
    """The time of day in seconds; None if it is not one."""
    match = _TIME.fullmatch(clock)
    if match is None:
        return None
    hour, minute, second = map(int, match.groups())
    return hour * 3600.0 + minute * 60.0 + second + float("0." + (clock.partition(".")[2] or "0"))


class _Fix(NamedTuple):
    """The quality of a fix according to a sentence: as GPS_FIX_TYPE (3: two or three dimensions) and as flags."""

    type: int
    flags: int = 0
    reason: str = ""


_NONE = _Fix(1, FAIL, NO_FIX)
_PLAIN, _DIFFERENTIAL, _RTK = _Fix(3), _Fix(4), _Fix(5)
_ESTIMATED = _Fix(1, BAD, "the receiver estimates its position (dead reckoning)")
_MANUAL = _Fix(1, FAIL, "the receiver's position was entered by hand")
_SIMULATED = _Fix(1, FAIL, "the receiver is in simulator mode")

_UNGUIDED = _Fix(1, FAIL, "the navigator gives no guidance: no waypoint, or no fix")

_QUALITY = {
    "1": _PLAIN,
    "2": _DIFFERENTIAL,
    "3": _PLAIN,
    "4": _RTK,
    "5": _RTK,
    "6": _ESTIMATED,
    "7": _MANUAL,
    "8": _SIMULATED,
}
#: The navigation status of u-blox's PUBX,00.
_PUBX = {
    "G2": _PLAIN,
    "G3": _PLAIN,
    "D2": _DIFFERENTIAL,
    "D3": _DIFFERENTIAL,
    "RK": _PLAIN,
    "DR": _ESTIMATED,
}
# From best to worst: GNS has one letter per constellation, and the best one counts.
_MODE = {
    "R": _RTK,
    "F": _RTK,
    "D": _DIFFERENTIAL,
    "P": _PLAIN,
    "A": _PLAIN,
    "E": _ESTIMATED,
    "M": _MANUAL,
    "S": _SIMULATED,
    "N": _NONE,
}


def _kind(sentence: Sentence) -> str:
    """``RMC``, ``PGRME``; u-blox numbers its own."""
    if sentence.talker != "P":
        return sentence.kind
    number = sentence.fields[0] if sentence.kind == "UBX" and len(sentence.fields) > 11 else ""
    return f"P{sentence.kind},{number}" if number else f"P{sentence.kind}"


class Decoder:
    """Turns sentences into updates of keys, and remembers what belongs together.

    - The latest report on the fix counts. A sentence without a fix fails every key that depends on it, at once. Only if
      the receiver reports its constellations separately does one without a fix leave the others valid.
    - Nothing is invented: TRACKM comes from the receiver's magnetic track or variation, the height above the ellipsoid
      from its geoid separation, accuracy from its own estimate. Without these, the keys are not written.
    - A navigator that reports no guidance fails deviation, course and waypoint at once. `full_scale` is the cross-track
      distance in nautical miles at which CDI is -1 or 1.
    - Sentences with the same time of day form one epoch. When a receiver's time stops, or it sends no more
      positions, all its values fail, including guidance, satellites and the type of the fix. Only those of a compass on
      the same line (talkers that begin with H) do not. `clock` returns monotonic seconds.
    - An impossible position (`Places`) is not a fix.
    """

    OUTCOMES = ("used", "ignored", "absurd values")

    def __init__(
        self, clock: Callable[[], float], counts: dict[str, int] | None = None, full_scale: float = 1.0
    ) -> None:
        #: Sentences used, sentences ignored (of an unknown kind), and fields refused because their values are absurd.
        self.counts = counts if counts is not None else {}
        for name in self.OUTCOMES:
            self.counts.setdefault(name, 0)
        self._clock = clock
        self._full_scale = full_scale
        self._trouble = NO_POSITION  # the problem with the fix
        self._lost = ""  # why none of the values is good any longer
        self._written: set[str] = set()  # the keys of all values so far
        self._placed_at: float | None = None  # when a sentence last gave the position, or reported that there is none
        self._guided_at: float | None = None  # when a navigator last sent guidance
        self._places = Places(clock)
        self._guidance = _PLAIN  # as last reported by the navigator
        self._course_said = False
        self._east: float | None = None  # the last magnetic variation received, degrees
        self._compass = ""  # the talker and kind of the sentence that last gave a heading
        self._fix = _NONE
        self._had_fix = False
        self._time = ""
        self._place_times: deque[str] = deque(
            maxlen=4
        )  # of the last positions; the receiver's clock may continue without one
        self._since = clock()
        self._epochs = 0
        self._fixed: dict[str, int] = {}  # talker -> the epoch in which it last had a fix
        self._counted = -10  # the epoch of the last sentence with a quality digit
        self._used: dict[str, int] = {}  # satellites used, by talker, in this epoch and in the last
        self._used_before: dict[str, int] = {}
        # satellites visible, by talker and signal, in this round of GSV and in the last
        self._visible: dict[tuple[str, str], int] = {}
        self._visible_before: dict[tuple[str, str], int] = {}
        self._dimensions = 0  # 2 or 3 according to GSA in the last epoch that had one; 0: unknown
        self._dimensions_epoch = -100
        self._gsa_mode = -1  # the highest mode from GSA in this epoch; -1: none yet
        self._last_time: tuple[str, int] = ("", 0)  # the time of day as last published, and its flags

    @property
    def trouble(self) -> str:
        """The problem with the fix; empty if it is good."""
        return self._lost or self._trouble

    def decode(self, sentence: Sentence) -> list[Update]:
        """Decode `sentence` into updates, in the order in which to write them; none if it is not used."""
        method = self._KINDS.get(_kind(sentence))
        if method is None:
            self.counts["ignored"] += 1
            return []
        self.counts["used"] += 1
        # Treat fields missing at the end as empty.
        return self._withhold(list(method(self, sentence.talker, sentence.fields + ("",) * 24)))

    def tick(self) -> list[Update]:
        """The updates that are due because data stopped; call it a few times a second."""
        updates: list[Update] = []
        if self._guided_at is not None and self._clock() - self._guided_at > GUIDANCE_LASTS_S:
            self._guided_at = None
            updates = [Update(k, None, FAIL, "the navigator is silent") for k in GUIDANCE_KEYS if k in self._written]
        return self._withhold(updates)

    def _withhold(self, updates: list[Update]) -> list[Update]:
        """The `updates` while the receiver is alive; otherwise the failures."""
        before, self._lost = self._lost, self._why_lost()
        if not self._lost:
            self._written.update(update.key for update in updates if update.value is not None)
            return updates
        keys = [] if before else [key for key in (*POSITION, *sorted(self._written)) if not self._stands_alone(key)]
        keys += [update.key for update in updates if not self._stands_alone(update.key)]
        others = [update for update in updates if self._stands_alone(update.key)]
        return others + [Update(key, None, FAIL, self._lost) for key in dict.fromkeys(keys)]

    def _why_lost(self) -> str:
        if self._placed_at is None:
            return ""
        now = self._clock()
        if now - self._placed_at > STUCK_AFTER_S:
            return SILENT
        stopped = bool(self._place_times) and now - self._since > STUCK_AFTER_S
        return STOPPED if stopped and not self._fix.flags & FAIL else ""

    def _stands_alone(self, key: str) -> bool:
        return key == "HEAD" and self._compass.startswith("H")

    # -- sentences with a position -------------------------------------------------------------------------------------

    def _rmc(self, talker: str, f: Sequence[str]) -> Iterator[Update]:
        fix = _MODE.get(f[11], _DIFFERENTIAL if f[1] == "D" else _PLAIN) if f[1] in ("A", "D") else self._void(f[11])
        fix = yield from self._position(talker, fix, f[2:6], f[0])
        variation = self._variation(f[9], f[10])
        if not fix.flags & FAIL:
            self._east = self._east if variation is None else variation
            yield from self._motion(fix, f[6], f[7], variation)

    def _gga(self, talker: str, f: Sequence[str]) -> Iterator[Update]:
        fix = _QUALITY.get(f[5].lstrip("0"), _NONE)
        fix = yield from self._position(talker, fix, f[1:5], f[0], counted=True, altitude=bool(f[8]))
        if f[9] in ("M", "") and f[11] in ("M", ""):
            yield from self._height(fix, f[8], f[10])
        yield from self._satellites_used(talker, f[6])

    def _gns(self, talker: str, f: Sequence[str]) -> Iterator[Update]:
        fix = next((fix for letter, fix in _MODE.items() if letter in f[5]), _NONE)
        fix = yield from self._position(talker, fix, f[1:5], f[0], counted=True, altitude=bool(f[8]))
        yield from self._height(fix, f[8], f[9])
        yield from self._satellites_used(talker, f[6])

    def _gll(self, talker: str, f: Sequence[str]) -> Iterator[Update]:
        if not f[5]:  # an old form without a status is not enough
            return
        yield from self._position(talker, _MODE.get(f[6], _PLAIN) if f[5] == "A" else self._void(f[6]), f[0:4], f[4])

    def _pgrmf(self, talker: str, f: Sequence[str]) -> Iterator[Update]:
        fix = _PLAIN if f[10] in ("1", "2") else _NONE
        self._gsa_mode = max(self._gsa_mode, {"1": 2, "2": 3}.get(f[10], 0))
        fix = yield from self._position(talker, fix, f[5:9], f[3])
        if not fix.flags & FAIL and (speed := self._number(f[11], 0.0, MAX_SPEED_KT / KNOTS_PER_KMH)) is not None:
            yield from self._motion(fix, f"{speed * KNOTS_PER_KMH:.9f}", f[12], None)

    def _pgrmz(self, talker: str, f: Sequence[str]) -> Iterator[Update]:
        if f[1] in ("f", "F") and f[2] == "2":  # 3 is the altitude of the GPS
            feet = self._number(f[0], -2000.0, 60_000.0)
            if feet is None:
                yield Update("PALT", None, FAIL, "the receiver sends no pressure altitude, or an absurd one")
            else:
                yield Update("PALT", feet)

    def _pubx(self, talker: str, f: Sequence[str]) -> Iterator[Update]:
        fix = _PUBX.get(f[7], _NONE)
        self._gsa_mode = max(self._gsa_mode, {"2": 2, "3": 3}.get(f[7][1:], 0))
        fix = yield from self._position(talker, fix, f[2:6], f[1], counted=True, altitude=True)
        yield from self._satellites_used("GN", f[17])
        if fix.flags & FAIL:
            return
        speed = self._number(f[10], 0.0, MAX_SPEED_KT / KNOTS_PER_KMH)
        if speed is not None:
            yield from self._motion(fix, f"{speed * KNOTS_PER_KMH:.9f}", f[11], None)
        for key, text in zip(ACCURACY, f[8:10], strict=True):
            if (error := self._number(text, 0.0, MAX_HEIGHT_M)) is not None:
                yield Update(key, error * FEET_PER_METRE, fix.flags, fix.reason)

    def _pashr(self, talker: str, f: Sequence[str]) -> Iterator[Update]:
        if f[0] != "POS":
            return
        fix = {"0": _PLAIN, "1": _DIFFERENTIAL, "2": _RTK, "3": _RTK}.get(f[1], _NONE)
        fix = yield from self._position(talker, fix, f[4:8], f[3], counted=True, altitude=bool(f[8]))
        if not fix.flags & FAIL:
            yield from self._motion(fix, f[11], f[10], None)

    def _psti(self, talker: str, f: Sequence[str]) -> Iterator[Update]:
        if f[0] == "030":
            fix = _MODE.get(f[12], _PLAIN) if f[2] == "A" else self._void(f[12])
            yield from self._position(talker, fix, f[3:7], f[1])

    # -- sentences of a navigator --------------------------------------------------------------------------------------

    def _rmb(self, talker: str, f: Sequence[str]) -> Iterator[Update]:
        guidance = yield from self._guided(f[0], f[13])
        if guidance.flags & FAIL:
            return
        yield from self._off_track(guidance, f[1], f[2])
        yield Update("WPNAME", f[4].strip(), guidance.flags, guidance.reason)
        latitude = self._angle(f[5], f[6], "NS", 90)
        longitude = self._angle(f[7], f[8], "EW", 180)
        if latitude is None or longitude is None or latitude == longitude == 0.0:
            for key in ("WPLAT", "WPLON"):
                yield Update(key, None, FAIL, "the waypoint's position is missing or absurd")
        else:
            yield Update("WPLAT", latitude, guidance.flags, guidance.reason)
            yield Update("WPLON", longitude, guidance.flags, guidance.reason)
        yield from self._bearing(guidance, f[10], "T")

    def _apb(self, talker: str, f: Sequence[str]) -> Iterator[Update]:
        guidance = yield from self._guided(f[0] if f[1] != "V" else "V", f[14])
        if guidance.flags & FAIL:
            return
        yield from self._off_track(guidance, f[2], f[3], f[4])
        yield from self._course(guidance, f[7], f[8])
        if f[9].strip():
            yield Update("WPNAME", f[9].strip(), guidance.flags, guidance.reason)
        yield from self._bearing(guidance, f[10], f[11])

    def _xte(self, talker: str, f: Sequence[str]) -> Iterator[Update]:
        guidance = yield from self._guided(f[0] if f[1] != "V" else "V", f[5])
        if not guidance.flags & FAIL:
            yield from self._off_track(guidance, f[2], f[3], f[4])

    def _bod(self, talker: str, f: Sequence[str]) -> Iterator[Update]:
        guidance = self._with_fix(self._guidance)  # BOD has no status of its own
        if guidance.flags & FAIL:
            return
        yield from self._course(guidance, *((f[2], "M") if f[2] else (f[0], "T")))
        if f[4].strip():
            yield Update("WPNAME", f[4].strip(), guidance.flags, guidance.reason)

    def _guided(self, status: str, mode: str) -> Generator[Update, None, _Fix]:
        """Return the quality of the guidance, and fail every guidance key if there is none."""
        self._guided_at = self._clock()
        self._guidance = _MODE.get(mode, _PLAIN) if status == "A" else _UNGUIDED
        guidance = self._with_fix(self._guidance)
        if guidance.flags & FAIL:
            for key in GUIDANCE_KEYS if self._course_said else GUIDANCE_KEYS[:-1]:
                yield Update(key, None, FAIL, _UNGUIDED.reason if guidance is _NONE else guidance.reason)
        elif self._trouble == NO_POSITION:  # a navigator may omit its position; since it guides, it has one
            self._trouble = guidance.reason
        return guidance

    def _with_fix(self, guidance: _Fix) -> _Fix:
        """Guidance is no better than the fix of the same receiver, if it sends one."""
        if self._placed_at is None or guidance.flags & FAIL:
            return guidance
        return self._fix if self._fix.flags else guidance

    def _off_track(self, guidance: _Fix, miles: str, steer: str, unit: str = "N") -> Iterator[Update]:
        """XTRACK and CDI. If the navigator says to steer left, the aircraft is right of the track."""
        off = self._number(miles, 0.0, MAX_CROSS_TRACK_NMI)
        if off is None or not (steer in ("L", "R") or off == 0.0) or unit not in ("N", ""):
            for key in ("XTRACK", "CDI"):
                yield Update(key, None, FAIL, "the navigator's cross-track error is missing or absurd")
            return
        if steer == "R":
            off = -off
        flags, reason = guidance.flags, guidance.reason
        yield Update("CDI", max(-1.0, min(-off / self._full_scale, 1.0)) + 0.0, flags, reason)
        if abs(off) >= MAX_SHOWN_CROSS_TRACK_NMI:
            flags, reason = flags | BAD, reason or f"the navigator shows at most {MAX_SHOWN_CROSS_TRACK_NMI} nmi"
        yield Update("XTRACK", off, flags, reason)

    def _course(self, guidance: _Fix, text: str, reference: str) -> Iterator[Update]:
        course = self._magnetic(text, reference)
        if course is not None:
            self._course_said = True
            yield Update("COURSE", course, guidance.flags, guidance.reason)

    def _bearing(self, guidance: _Fix, text: str, reference: str) -> Iterator[Update]:
        bearing = self._magnetic(text, reference)
        if bearing is not None:
            yield Update("WPHEAD", f"{round(bearing) % 360:03}", guidance.flags, guidance.reason)

    def _magnetic(self, text: str, reference: str) -> float | None:
        """The magnetic direction; None if it is true and the variation is unknown."""
        degrees = self._number(text, 0.0, 360.0)
        if degrees is None or reference not in ("M", "T") or (reference == "T" and self._east is None):
            return None
        return (degrees - (self._east or 0.0) * (reference == "T")) % 360.0

    # -- other sentences -----------------------------------------------------------------------------------------------

    def _vtg(self, talker: str, f: Sequence[str]) -> Iterator[Update]:
        if not any(f[4:]):  # the form of NMEA 0183 1.5, without unit letters
            f = (f[0], "T", f[1], "M", f[2], "N", f[3], "K", *f[4:])
        if f[8] == "N" or self._fix.flags & FAIL:
            return
        speed = f[4]
        if not speed and (km_h := self._number(f[6], 0.0, MAX_SPEED_KT / KNOTS_PER_KMH)) is not None:
            speed = f"{km_h * KNOTS_PER_KMH:.9f}"
        yield from self._motion(self._fix, speed, f[0], None, f[2])

    def _gsa(self, talker: str, f: Sequence[str]) -> Iterator[Update]:
        self._gsa_mode = max(self._gsa_mode, {"2": 2, "3": 3}.get(f[1], 0))
        yield from ()

    def _gsv(self, talker: str, f: Sequence[str]) -> Iterator[Update]:
        count = self._number(f[2], 0, MAX_SATELLITES)
        if f[1].lstrip("0") != "1" or count is None:
            return
        # The first message has up to four satellites with four fields each; since 4.10 one more field names the signal.
        which = (talker, f[3 + 4 * min(int(count), 4)])
        if which in self._visible:  # a new round begins; talkers absent from the last one are gone
            self._visible_before, self._visible = self._visible, {}
        self._visible[which] = int(count)
        if len(self._visible) > MAX_SATELLITES:
            self._visible.clear()
        most: dict[str, int] = {}  # count a satellite once, however many of its signals are received
        for (name, _), n in {**self._visible_before, **self._visible}.items():
            most[name] = max(n, most.get(name, 0))
        yield self._satellites("GPS_SATS_VISIBLE", sum(most.values()))

    def _gst(self, talker: str, f: Sequence[str]) -> Iterator[Update]:
        if self._fix.flags & FAIL:
            return
        north, east, up = (self._number(field, 0.0, MAX_HEIGHT_M) for field in f[5:8])
        if north is not None and east is not None:
            yield Update("GPS_ACCURACY_HORIZ", (north**2 + east**2) ** 0.5 * FEET_PER_METRE)
        if up is not None:
            yield Update("GPS_ACCURACY_VERTICAL", up * FEET_PER_METRE)

    def _pgrme(self, talker: str, f: Sequence[str]) -> Iterator[Update]:
        if self._fix.flags & FAIL:
            return
        for key, text, unit in zip(ACCURACY, (f[0], f[2]), (f[1], f[3]), strict=True):
            error = self._number(text, 0.0, MAX_HEIGHT_M)
            if error is not None and unit == "M":
                yield Update(key, error * FEET_PER_METRE)

    def _zda(self, talker: str, f: Sequence[str]) -> Iterator[Update]:
        return self._clock_time(f[0])

    def _hdg(self, talker: str, f: Sequence[str]) -> Iterator[Update]:
        heading, variation = self._number(f[0], 0.0, 360.0), self._variation(f[3], f[4])
        self._east = self._east if variation is None else variation
        deviation = self._east_west(f[1], f[2]) or 0.0
        return self._heading(talker + "HDG", None if heading is None else heading + deviation)

    def _hdm(self, talker: str, f: Sequence[str]) -> Iterator[Update]:
        return self._heading(talker + "HDM", self._number(f[0], 0.0, 360.0))

    def _hdt(self, talker: str, f: Sequence[str]) -> Iterator[Update]:
        if f[0] and self._east is None:  # a true heading without the variation gives no magnetic heading
            return iter(())
        return self._heading(talker + "HDT", self._magnetic(f[0], "T"))

    def _heading(self, compass: str, degrees: float | None) -> Iterator[Update]:
        """HEAD. A missing heading fails it only if this `compass` wrote it last: another compass may still have one."""
        if degrees is not None:
            self._compass = compass
            yield Update("HEAD", degrees % 360.0)
        elif self._compass in ("", compass):
            yield Update("HEAD", None, FAIL, "the compass sends no heading")

    # -- parts of sentences --------------------------------------------------------------------------------------------

    @staticmethod
    def _void(mode: str) -> _Fix:
        """The fix for a sentence whose status is not "valid": none, with the reason if a simulator sent it."""
        return _SIMULATED if mode == "S" else _NONE

    def _position(
        self, talker: str, fix: _Fix, place: Sequence[str], clock: str, counted: bool = False, altitude: bool = False
    ) -> Generator[Update, None, _Fix]:
        """Update time, position and GPS_FIX_TYPE, or fail every key of the fix. Returns the fix after all checks.

        `counted`: the sentence has a quality digit, so it overrides others on GPS_FIX_TYPE.
        """
        self._epoch(clock)
        self._placed_at = self._clock()
        if _TIME.fullmatch(clock) and (shown := _shortest(clock)) not in self._place_times:
            self._place_times.append(shown)
            self._since = self._placed_at
        latitude = longitude = None
        if fix is not _NONE:
            latitude = self._angle(place[0], place[1], "NS", 90)
            longitude = self._angle(place[2], place[3], "EW", 180)
            if latitude is None or longitude is None:
                fix = _NONE._replace(reason="the receiver's position is missing or absurd")
            elif doubt := self._places.judge(latitude, longitude, _seconds(clock)):
                if doubt == NOWHERE:
                    fix = _NONE._replace(reason=doubt)
                    latitude = longitude = None
                    self._had_fix = False  # the receiver has restarted, and so has its clock
                else:
                    fix = fix._replace(flags=fix.flags | BAD, reason=fix.reason or doubt)
        if not fix.flags:
            self._had_fix = True
        yield from self._clock_time(clock)
        if fix.type == 1 and fix.flags & FAIL:
            self._fixed.pop(talker, None)
            if any(self._epochs - epoch <= 1 for epoch in self._fixed.values()):
                return fix  # another constellation has a fix
        else:
            self._fixed[talker] = self._epochs
        self._fix = fix
        self._trouble = fix.reason
        place_known = latitude is not None and longitude is not None
        if fix.flags & FAIL:
            for key in FIX_KEYS[2 if place_known else 0 :]:
                yield Update(key, None, FAIL, fix.reason)
            for keys, flags in ((GUIDANCE_KEYS, FAIL), (SATELLITES, BAD)):
                yield from (Update(key, None, flags, fix.reason) for key in keys if key in self._written)
        if place_known:
            for key, degrees in zip(POSITION, (latitude, longitude), strict=True):
                yield Update(key, degrees, fix.flags, fix.reason)
        if counted:
            self._counted = self._epochs
        if counted or fix.type == 1 or self._epochs - self._counted > 2:
            yield Update("GPS_FIX_TYPE", self._fix_type(fix, altitude), BAD if fix.flags else 0, fix.reason)
        return fix

    def _fix_type(self, fix: _Fix, altitude: bool) -> int:
        if fix.type < 3:
            return fix.type
        if self._known_dimensions() == 2 or (fix.type == 3 and not altitude and not self._known_dimensions()):
            return 2
        return fix.type

    def _known_dimensions(self) -> int:
        return self._dimensions if self._epochs - self._dimensions_epoch <= 10 else 0

    def _epoch(self, clock: str) -> None:
        """Begin a new epoch if the time of day has changed."""
        if not _TIME.fullmatch(clock):
            return
        clock = _shortest(clock)
        if clock == self._time:
            return
        self._time = clock
        self._epochs += 1
        self._used_before, self._used = self._used, {}
        if self._gsa_mode >= 0:
            self._dimensions, self._dimensions_epoch, self._gsa_mode = self._gsa_mode, self._epochs, -1

    def _clock_time(self, clock: str) -> Iterator[Update]:
        if not clock:
            return
        match = _TIME.fullmatch(clock)
        hour, minute, second = map(int, match.groups()) if match else (99, 99, 99)
        if hour > 23 or minute > 59 or second > 60:
            self.counts["absurd values"] += 1
            return
        self._epoch(clock)
        # Before its first fix a receiver's time may be anything; afterwards its own clock is accurate enough.
        flags, reason = (0, "") if self._had_fix else (BAD, "no fix yet: the receiver's own clock")
        if self._last_time == (self._time, flags):
            return
        self._last_time = (self._time, flags)
        yield Update("TIMEZ", f"{hour:02}:{minute:02}:{second:02}", flags, reason)
        for key, number in (("TIMEZH", hour), ("TIMEZM", minute), ("TIMEZS", second)):
            yield Update(key, number, flags, reason)

    def _motion(
        self, fix: _Fix, speed: str, track: str, variation: float | None, magnetic: str = ""
    ) -> Iterator[Update]:
        """GS, TRACK and TRACKM for an existing fix; `speed` in knots, `variation` in degrees east."""
        knots = self._number(speed, 0.0, MAX_SPEED_KT)
        if knots is not None:
            yield Update("GS", knots, fix.flags, fix.reason)
        true = self._number(track, 0.0, 360.0)
        if true is not None:
            yield Update("TRACK", true % 360.0, fix.flags, fix.reason)
            course = self._number(magnetic, 0.0, 360.0)
            if course is None and variation is not None:
                course = true - variation
            if course is not None:
                yield Update("TRACKM", course % 360.0, fix.flags, fix.reason)
        elif knots is not None:
            for key in ("TRACK", "TRACKM"):
                yield Update(key, None, FAIL, "the receiver sends no track, as when stationary")

    def _height(self, fix: _Fix, altitude: str, separation: str) -> Iterator[Update]:
        """TALT and GPS_ELLIPSOID_ALT, from metres."""
        if fix.flags & FAIL:
            return
        metres = self._number(altitude, -MAX_HEIGHT_M, MAX_HEIGHT_M)
        geoid = self._number(separation, -MAX_HEIGHT_M, MAX_HEIGHT_M)
        if metres is None:
            for key in ("TALT", "GPS_ELLIPSOID_ALT"):
                yield Update(key, None, FAIL, "the receiver sends no altitude")
            return
        flags, reason = fix.flags, fix.reason
        if self._known_dimensions() == 2:
            flags, reason = flags | BAD, reason or "two-dimensional fix: the altitude is assumed"
        yield Update("TALT", metres * FEET_PER_METRE, flags, reason)
        if geoid is not None:
            yield Update("GPS_ELLIPSOID_ALT", (metres + geoid) * FEET_PER_METRE, flags, reason)

    def _satellites_used(self, talker: str, text: str) -> Iterator[Update]:
        """GPS_SATS_TRACKED: the sum over all constellations that the receiver reports separately."""
        count = self._number(text, 0, MAX_SATELLITES)
        if count is None:
            return
        if talker != "GN":
            self._used[talker] = int(count)
            count = sum({**self._used_before, **self._used}.values())
        yield self._satellites("GPS_SATS_TRACKED", int(count))

    def _satellites(self, key: str, count: int) -> Update:
        """The number of satellites; bad if the receiver has no fix."""
        lost = self._placed_at is not None and bool(self._fix.flags & FAIL)
        return Update(key, min(count, MAX_SATELLITES), BAD if lost else 0, self._fix.reason if lost else "")

    def _angle(self, text: str, hemisphere: str, hemispheres: str, most: int) -> float | None:
        """Degrees from ``ddmm.mmm`` and a letter, north and east positive; None if missing or absurd."""
        if not text or not hemisphere:
            return None
        match = _ANGLE.fullmatch(text)
        if match and hemisphere in hemispheres:
            minutes = float(match[2])
            degrees = int(match[1] or 0) + minutes / 60.0
            if minutes < 60.0 and degrees <= most:
                return -degrees if hemisphere == hemispheres[1] else degrees
        self.counts["absurd values"] += 1
        return None

    def _number(self, text: str, low: float, high: float) -> float | None:
        """Parse a number; None if missing or out of range."""
        if not text:
            return None
        if _NUMBER.fullmatch(text) and low <= (number := float(text)) <= high:
            return number
        self.counts["absurd values"] += 1
        return None

    def _east_west(self, text: str, letter: str) -> float | None:
        """Degrees, east positive. A minus says west once more; before an E it contradicts."""
        degrees = self._number(text, -180.0, 180.0)
        if degrees is None or letter not in ("E", "W"):
            return None
        if degrees < 0.0 and letter == "E":
            self.counts["absurd values"] += 1
            return None
        return degrees if letter == "E" else -abs(degrees)

    def _variation(self, text: str, letter: str) -> float | None:
        """The magnetic variation in degrees east; None also for zero, which most receivers send if it is unknown,
        unless it was next to nothing before."""
        east = self._east_west(text, letter)
        if east == 0.0 and (self._east is None or abs(self._east) > NEARLY_NO_VARIATION):
            return None
        return east

    _KINDS: ClassVar[dict[str, Callable[[Decoder, str, Sequence[str]], Iterator[Update]]]] = {
        "RMC": _rmc,
        "GGA": _gga,
        "GNS": _gns,
        "GLL": _gll,
        "VTG": _vtg,
        "GSA": _gsa,
        "GSV": _gsv,
        "GST": _gst,
        "ZDA": _zda,
        "RMB": _rmb,
        "APB": _apb,
        "XTE": _xte,
        "BOD": _bod,
        "HDG": _hdg,
        "HDM": _hdm,
        "HDT": _hdt,
        "PGRME": _pgrme,
        "PGRMF": _pgrmf,
        "PGRMZ": _pgrmz,
        "PUBX,00": _pubx,
        "PASHR": _pashr,
        "PSTI": _psti,
    }


class Receiver:
    """Frames and decodes everything from one receiver: bytes in, updates out."""

    REFUSALS: ClassVar[Sequence[str]] = Framer.REFUSALS
    SELF_EVIDENT: ClassVar[bool] = True

    def __init__(
        self, clock: Callable[[], float], counts: dict[str, int] | None = None, full_scale: float = 1.0
    ) -> None:
        self._framer = Framer(counts)
        self.counts = self._framer.counts
        self._decoder = Decoder(clock, self.counts, full_scale)

    @property
    def refused(self) -> str:
        return self._framer.refused

    @property
    def trouble(self) -> str:
        return self._decoder.trouble

    def feed(self, data: bytes) -> list[Update]:
        return [update for sentence in self._framer.feed(data) for update in self._decoder.decode(sentence)]

    def tick(self) -> list[Update]:
        return self._decoder.tick()

    def interrupt(self) -> None:
        self._framer.interrupt()
