"""Traffic from dump1090 and its relatives, without I/O: lines of BaseStation text (SBS), and `aircraft.json`.

An SBS line has 22 fields separated by commas: MSG, its type 1 to 8, three numbers, the address in hexadecimal ... What
is empty is not said. Of `aircraft.json` each line is one whole file. Names in it differ by version: dump1090-mutability
has `altitude speed vert_rate`, dump1090-fa and readsb have `alt_baro gs baro_rate`. As documented with these programs,
and recorded from dump1090-mutability 1.15.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, ClassVar, Final, NamedTuple

from fixgw.kit.lines import Lines
from fixgw.kit.place import is_possible
from fixgw.kit.traffic import ICAO, TISB_TRACK, Target
from fixgw.kit.update import begin_counting

MAX_LINE_BYTES: Final = 1_000_000  # a file with some thousand aircraft
MAX_AIRCRAFT: Final = 2000  # of one file
#: Aircraft that have not been heard for this long are left out.
MAX_AGE_S: Final = 60.0
SBS_FIELDS: Final = 22

_OTHER_KINDS = frozenset({"SEL", "ID", "AIR", "STA", "CLK"})
_HEX = re.compile(r"~?[0-9A-Fa-f]{6}")
_SQUAWK = re.compile(r"[0-7]{4}")
_CALL = re.compile(r"[A-Za-z0-9-]{1,8}")


class Said(NamedTuple):
    """A target, how long ago it was heard, and how long ago its position. `whole`: this is all that is known of it."""

    target: Target
    age_s: float = 0.0
    position_age_s: float = 0.0
    whole: bool = False


class Decoder:
    """Decodes lines of either kind. Holds at most one unfinished line."""

    REFUSALS: ClassVar[Sequence[str]] = ("malformed", "too long")

    def __init__(self, counts: dict[str, int] | None = None) -> None:
        self.counts = begin_counting(counts, "received", "used", "ignored", *self.REFUSALS)
        self.refused = ""
        self._lines = Lines(MAX_LINE_BYTES)

    def feed(self, data: bytes) -> list[Said]:
        """What the lines that `data` completes say, in order."""
        return [said for line in self._lines.feed(data) for said in self._line(line.strip())]

    def interrupt(self) -> None:
        """Forget an unfinished line."""
        self._lines.restart()

    def _line(self, line: bytes) -> list[Said]:
        if not line:
            return []
        self.counts["received"] += 1
        if len(line) > MAX_LINE_BYTES:
            reason = "too long"
        else:
            said = read_aircraft(line) if line.startswith(b"{") else _read_line(line)
            if said is not None:
                self.counts["used" if said else "ignored"] += 1
                return said
            reason = "malformed"
        self.counts[reason] += 1
        self.refused = f"{reason}: {line[:80]!r}"
        return []


def read_sbs(line: str) -> Target | None:
    """What a line says; None if it is of another kind or malformed. What cannot be true is left out.

    A number that is none makes the others of its line suspect: they are left out, too.
    """
    fields = line.split(",")
    if len(fields) < SBS_FIELDS or fields[0] != "MSG" or fields[1] not in tuple("12345678"):
        return None
    address = _address(fields[4])
    if address is None:
        return None
    call, altitude, speed, track, lat, lon, climb, squawk, _, emergency, _, ground = (
        field.strip() for field in fields[10:SBS_FIELDS]
    )
    numbers: tuple[str, ...] = (lat, lon, altitude, speed, track, climb)
    if any(number and _parse(number) is None for number in numbers):
        numbers = ("",) * len(numbers)
    target = _target(address, call, numbers, squawk)
    return target._replace(on_ground=_flag(ground), emergency=_flag(emergency))


def _read_line(line: bytes) -> list[Said] | None:
    """Empty for a line of no interest, None for a malformed one."""
    try:
        text = line.decode("ascii")
    except UnicodeDecodeError:
        return None
    target = read_sbs(text)
    if target is not None:
        return [Said(target)]
    return [] if text.partition(",")[0] in _OTHER_KINDS else None


def read_aircraft(data: bytes) -> list[Said] | None:
    """What a file `aircraft.json` says; None if it is not one."""
    try:
        aircraft = json.loads(data)["aircraft"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(aircraft, list):
        return None
    return [said for each in aircraft[:MAX_AIRCRAFT] if isinstance(each, dict) and (said := _aircraft(each))]


def _aircraft(found: dict[str, Any]) -> Said | None:
    address, age = _address(str(found.get("hex", "")).strip()), _number(found.get("seen", 0), 0.0, MAX_AGE_S)
    if address is None or age is None:
        return None
    placed = _number(found.get("seen_pos", age), 0.0, MAX_AGE_S)
    altitude = found.get("alt_baro", found.get("altitude"))
    target = _target(
        address,
        str(found.get("flight") or "").strip(),
        (
            None if placed is None else found.get("lat"),
            None if placed is None else found.get("lon"),
            None if altitude == "ground" else altitude,
            found.get("gs", found.get("speed")),
            found.get("track"),
            found.get("baro_rate", found.get("vert_rate")),
        ),
        str(found.get("squawk") or ""),
    )
    distress = found.get("emergency")
    emergency = distress != "none" if isinstance(distress, str) else None
    return Said(target._replace(on_ground=altitude == "ground", emergency=emergency), age, placed or 0.0, whole=True)


def _target(address: tuple[int, int], call: str, numbers: Sequence[object], squawk: str) -> Target:
    """A target; `numbers` are latitude, longitude, altitude, ground speed, track and vertical speed."""
    lat, lon, altitude, speed, track, climb = numbers
    north, east = _number(lat), _number(lon)
    if north is None or east is None or not is_possible(north, east):
        north = east = None
    return Target(
        address[1],
        address[0],
        callsign=call if _CALL.fullmatch(call) else None,
        lat=north,
        lon=east,
        altitude_ft=_number(altitude, -2000.0, 130_000.0),
        ground_speed_kt=_number(speed, 0.0, 4000.0),
        track_deg=_number(track, 0.0, 360.0),
        vertical_speed_fpm=_number(climb, -60_000.0, 60_000.0),
        squawk=squawk if _SQUAWK.fullmatch(squawk) else None,
    )


def _address(text: str) -> tuple[int, int] | None:
    """Type and address; a tilde marks one that is not ICAO's."""
    if not _HEX.fullmatch(text) or not (address := int(text.lstrip("~"), 16)):
        return None
    return TISB_TRACK if text.startswith("~") else ICAO, address


def _number(value: object, low: float = -math.inf, high: float = math.inf) -> float | None:
    """A number within the limits; None for anything else."""
    number = _parse(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not low <= number <= high:
        return None
    return float(number)


def _parse(text: str) -> float | None:
    """A finite number; None for anything else."""
    if len(text) > 30 or "_" in text:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _flag(text: str) -> bool | None:
    """-1 and 1 are true."""
    return {"-1": True, "1": True, "0": False}.get(text)
