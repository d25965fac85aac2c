"""What must not be in a capture that is given to others: positions and names; and `Shift`, which moves positions.

All positions of a capture are shifted by the same whole degrees, so that distances along a meridian, speeds by GPS, and
the minutes of every position stay as they are. No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from fixgw.kit.navigation import difference

if TYPE_CHECKING:
    from fixgw.kit.raw import Heard

__all__ = ["LATITUDES", "LONGITUDES", "NAMES", "PRIVATE", "Shift", "blank", "clean_stream", "sentences"]

LATITUDES = frozenset(("LAT", "WPLAT"))
LONGITUDES = frozenset(("LONG", "WPLON"))
#: Keys whose text says who or where the aircraft is.
NAMES = frozenset(("ACID", "WPNAME"))
PRIVATE = LATITUDES | LONGITUDES | NAMES


class Shift(NamedTuple):
    """Moves positions by whole degrees."""

    lat: int
    lon: int

    @classmethod
    def random(cls, random: Random, latitude: float | None = None) -> Shift:
        """A new shift, for an aircraft at about this latitude. It stays between 60 degrees south and north."""
        here = round(latitude or 0.0)
        choices = [lat for lat in range(-60, 61) if 5 <= abs(lat - here) <= 40]
        return cls(random.choice(choices) - here, random.randrange(20, 340))

    def latitude(self, degrees: float) -> float:
        return max(-90.0, min(90.0, degrees + self.lat))

    def longitude(self, degrees: float) -> float:
        return difference(degrees + self.lon)

    def value(self, key: str, value: Any) -> Any:
        """The value of an item without what is private."""
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if key in LATITUDES and number:
            return self.latitude(value)
        if key in LONGITUDES and number:
            return self.longitude(value)
        return "" if key in NAMES and isinstance(value, str) else value

    def latitude_text(self, degrees: str, minutes: str, side: str) -> tuple[str, str, str]:
        """A latitude as text, ``("43", "58.4247", "N")``, shifted, with as many digits."""
        return self._text(degrees, minutes, side, self.lat, "NS", 90)

    def longitude_text(self, degrees: str, minutes: str, side: str) -> tuple[str, str, str]:
        return self._text(degrees, minutes, side, self.lon, "EW", 180)

    @staticmethod
    def _text(degrees: str, minutes: str, side: str, by: int, sides: str, most: int) -> tuple[str, str, str]:
        digits = minutes.replace(".", "")
        per_minute = 10 ** (len(digits) - 2)
        per_degree = 60 * per_minute
        units = int(degrees) * per_degree + int(digits)
        units = (units if side == sides[0] else -units) + by * per_degree
        if most == 180:
            units = (units + most * per_degree) % (2 * most * per_degree) - most * per_degree
        else:
            units = max(-most * per_degree, min(most * per_degree, units))
        whole, rest = divmod(abs(units), per_degree)
        text = f"{rest:0{len(digits)}d}"
        if "." in minutes:
            text = f"{text[:2]}.{text[2:]}"
        return f"{whole:0{len(degrees)}d}", text, sides[units < 0]


_LETTER, _DIGIT = re.compile(rb"[A-Za-z]"), re.compile(rb"[0-9]")


def blank(text: bytes) -> bytes:
    """`text` with X for each letter and 0 for each digit."""
    return _DIGIT.sub(b"0", _LETTER.sub(b"X", text))


# -- NMEA 0183 ---------------------------------------------------------------------------------------------------------

_PLACE = re.compile(rb"(\d\d)(\d\d\.\d+),([NS]),(\d{3})(\d\d\.\d+),([EW])")
_SENTENCE = re.compile(rb"\$(P[A-Z]+|[A-Z]{2}([A-Z]{3}))((?:,[^*$\r\n]*)?)\*([0-9A-Fa-f]{2})")
#: Sentences without names.
NAMELESS = frozenset(b"RMC GGA GNS GLL VTG GSA GST ZDA XTE HDG HDM HDT VHW VBW PGRME PGRMF PGRMZ".split())
#: Proprietary ones by their beginning.
NAMELESS_BEGIN = (b"PUBX,00,", b"PASHR,POS,", b"PSTI,030,")
#: Sentences with the names of waypoints.
NAMED = frozenset(b"RMB APB BOD".split())


def sentences(data: bytes, shift: Shift) -> bytes:
    """The bytes of a receiver, with all positions shifted, and nothing left that is not understood.

    Bytes keep their number. Sentences that are broken or of an unknown kind, and bytes between sentences, are blanked,
    so that no receiver's binary protocol, serial number or route passes.
    """
    found, at = [], 0
    for match in _SENTENCE.finditer(data):
        found += [_hide(data[at : match.start()]), _clean(match, shift)]
        at = match.end()
    return b"".join([*found, _hide(data[at:])])


def _hide(data: bytes) -> bytes:
    return bytes(byte if byte in b"\r\n$*," else 0x30 for byte in data)


def _checksum(body: bytes) -> int:
    total = 0
    for byte in body:
        total ^= byte
    return total


def _clean(match: re.Match[bytes], shift: Shift) -> bytes:
    sentence, checksum = match[0], match[4]
    body = sentence[1:-3]
    if _checksum(body) != int(checksum, 16):
        return _hide(sentence)
    kind = match[2] or match[1]
    address, comma, fields = body.partition(b",")
    fields = _PLACE.sub(lambda place: _move(place, shift), fields)
    if kind in NAMED:
        fields = b",".join(blank(f) if len(f) > 1 and _LETTER.search(f) else f for f in fields.split(b","))
    elif kind == b"GSV":  # where satellites are seen says where one is
        parts = fields.split(b",")
        fields = b",".join([*parts[:4], *(blank(f) if n % 4 < 2 else f for n, f in enumerate(parts[4:]))])
    elif kind not in NAMELESS and not body.startswith(NAMELESS_BEGIN):
        fields = blank(fields)
    body = address + comma + fields
    return b"$%b*%02X" % (body, _checksum(body))


def _move(place: re.Match[bytes], shift: Shift) -> bytes:
    d, m, side, lon_d, lon_m, lon_side = (part.decode() for part in place.groups())
    d, m, side = shift.latitude_text(d, m, side)
    lon_d, lon_m, lon_side = shift.longitude_text(lon_d, lon_m, lon_side)
    return f"{d}{m},{side},{lon_d}{lon_m},{lon_side}".encode()


def clean_stream(entries: list[Heard], change: Callable[[bytes], bytes]) -> list[Heard]:
    """What a link read, without what it wrote. `change` cleans all bytes that were read, joined; it must keep their
    number."""
    heard = [entry for entry in entries if not isinstance(entry.data, bytes) or entry.direction != "out"]
    clean = iter(across([entry.data for entry in heard if isinstance(entry.data, bytes)], change))
    return [entry._replace(data=next(clean)) if isinstance(entry.data, bytes) else entry for entry in heard]


def across(pieces: list[bytes], change: Callable[[bytes], bytes]) -> list[bytes]:
    """`change` what the pieces make together, and cut it as they were. It must keep the number of bytes."""
    changed = change(b"".join(pieces))
    found, at = [], 0
    for piece in pieces:
        found.append(changed[at : at + len(piece)])
        at += len(piece)
    return found
