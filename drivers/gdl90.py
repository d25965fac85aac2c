"""GDL 90 without I/O: what receivers of ADS-B, attitude units and tablets exchange. For both directions.

From GDL 90 Data Interface Specification 560-1058-00 Rev A; the ForeFlight GDL 90 Extended Specification (id 65); and
Stratux's attitude report ("LE") and heartbeat (CC), as its source sends them. docs/drivers/stratux.md has the details.

`Framer` finds messages in bytes, `decode` and `encode` translate them, `frame` makes bytes. None always means "the
message says that this is not known"; it is never a number.
"""

from __future__ import annotations

import binascii
import struct
from typing import Final, Literal, NamedTuple

FLAG, ESCAPE = 0x7E, 0x7D
MAX_MESSAGE_BYTES: Final = 436  # a weather uplink
MAX_FRAME_BYTES: Final = 2 * (MAX_MESSAGE_BYTES + 2)  # if every byte is escaped

DEGREES_PER_COUNT: Final = 180.0 / (1 << 23)
TRACK_DEGREES_PER_COUNT: Final = 360.0 / 256

HEARTBEAT, UPLINK, OWNSHIP, GEOMETRIC_ALTITUDE, TRAFFIC, LEVIL, FOREFLIGHT, STRATUX = (
    *(0x00, 0x07, 0x0A, 0x0B, 0x14),
    *(0x4C, 0x65, 0xCC),
)
MOST_CLIMB: Final = 510  # in 64 ft/min: "more than 32576"
ATTITUDE_LE: Final = b"\x4c\x45\x01\x01"

#: What a report's track is, by its number in the message.
TrackKind = Literal["true_track", "magnetic_heading", "true_heading"]
TRACK_KINDS: tuple[TrackKind | None, ...] = (None, "true_track", "magnetic_heading", "true_heading")

#: Upper bounds of the horizontal error in metres, 95 %, by NACp; 0 is unknown.
NACP_METRES: Final = {
    11: 3.0,
    10: 10.0,
    9: 30.0,
    8: 92.6,
    7: 185.2,
    6: 555.6,
    5: 926.0,
    4: 1852.0,
    3: 3704.0,
    2: 7408.0,
    1: 18520.0,
}


class Heartbeat(NamedTuple):
    """`seconds` is the time of day."""

    gps_valid: bool
    maintenance: bool = False
    ident: bool = False
    address_talkback: bool = False
    battery_low: bool = False
    ratcs: bool = False
    initialised: bool = True
    csa_requested: bool = False
    csa_not_available: bool = False
    utc_ok: bool = False
    seconds: int = 0
    uplinks: int = 0
    messages_received: int = 0


class Report(NamedTuple):
    """A position report, of the aircraft itself (`own`) or of another one. `altitude_ft` is pressure altitude.

    `ground_speed_kt` 4094 means "or more", `vertical_speed_fpm` 32640 and -32640 "more than 32576".
    """

    own: bool
    address: int
    address_type: int = 0
    alert: int = 0
    lat: float | None = None
    lon: float | None = None
    altitude_ft: int | None = None
    airborne: bool = False
    extrapolated: bool = False
    track_kind: TrackKind | None = None
    track_deg: float | None = None
    nic: int = 0
    nacp: int = 0
    ground_speed_kt: int | None = None
    vertical_speed_fpm: int | None = None
    emitter: int = 0
    callsign: str = ""
    emergency: int = 0


class GeometricAltitude(NamedTuple):
    """Above the ellipsoid, unless an `Identity` says mean sea level. `vfom_m` 32766 means "or more" (saturated)."""

    altitude_ft: int
    vertical_warning: bool = False
    vfom_m: int | None = None
    vfom_saturated: bool = False


class AttitudeLE(NamedTuple):
    """The attitude report of iLevil and Stratux. `ias_raw` is in whole knots in two senders; Stratux never sends it."""

    roll_deg: float | None = None
    pitch_deg: float | None = None
    heading_deg: float | None = None
    slip_deg: float | None = None
    yaw_rate_dps: float | None = None
    g: float | None = None
    ias_raw: int | None = None
    pressure_altitude_ft: int | None = None
    vertical_speed_fpm: int | None = None


class AttitudeForeFlight(NamedTuple):
    roll_deg: float | None = None
    pitch_deg: float | None = None
    heading_deg: float | None = None
    heading_magnetic: bool | None = None
    ias_kt: int | None = None
    tas_kt: int | None = None


class Identity(NamedTuple):
    """What ForeFlight shows of a device."""

    name: str
    long_name: str
    serial: int | None = None
    geometric_altitude_is_msl: bool = False
    internet_policy: int = 0
    version: int = 1


class StratuxHeartbeat(NamedTuple):
    gps_valid: bool
    ahrs_valid: bool
    protocol: int = 1


class Unknown(NamedTuple):
    """A valid frame of no interest."""

    id: int


class Rejected(NamedTuple):
    """A valid frame whose values the specification forbids."""

    id: int


Message = (
    Heartbeat
    | Report
    | GeometricAltitude
    | AttitudeLE
    | AttitudeForeFlight
    | Identity
    | StratuxHeartbeat
    | Unknown
    | Rejected
)


# -- frames ------------------------------------------------------------------------------------------------------------


def checksum(message: bytes) -> int:
    """The frame check sequence, in the order of operations of the specification: not that of CRC-16/XMODEM."""
    return binascii.crc_hqx(message[:-2], 0) ^ int.from_bytes(message[-2:], "big")


def frame(message: bytes) -> bytes:
    """A message with its check sequence, stuffing and flags."""
    whole = message + checksum(message).to_bytes(2, "little")
    return b"\x7e" + whole.replace(b"\x7d", b"\x7d\x5d").replace(b"\x7e", b"\x7d\x5e") + b"\x7e"


def unframe(stuffed: bytes) -> bytes | None:
    """The message between two flags; None if its check sequence is wrong."""
    first, *rest = stuffed.split(b"\x7d")
    if not all(rest):
        return None  # the byte after an escape is missing
    whole = first + b"".join(bytes((part[0] ^ 0x20,)) + part[1:] for part in rest)
    message = whole[:-2]
    if not message or checksum(message) != int.from_bytes(whole[-2:], "little"):
        return None
    return message


class Framer:
    """Finds what lies between flags in a stream of bytes, cut anywhere. One flag may stand between two frames."""

    def __init__(self) -> None:
        self._rest: bytes | None = None  # None: before the first flag

    def feed(self, data: bytes) -> list[bytes]:
        """The stuffed contents of the frames that `data` completes. What is longer than any frame comes cut."""
        known = self._rest is not None
        first, *parts = ((self._rest or b"") + data).split(b"\x7e")
        if not parts:
            self._rest = first if known else None
            if len(first) > MAX_FRAME_BYTES and known:
                self._rest = None
                return [first]
            return []
        self._rest = parts.pop()
        if known:
            parts.insert(0, first)
        frames = [part for part in parts if part]
        if len(self._rest) > MAX_FRAME_BYTES:
            frames.append(self._rest)
            self._rest = None
        return frames

    def interrupt(self) -> None:
        """Bytes were lost, or a datagram ends: forget an unfinished frame."""
        self._rest = None


# -- messages ----------------------------------------------------------------------------------------------------------


def decode(message: bytes) -> Message | None:
    """What a message says; None if it has the wrong length for its id."""
    kind, length = message[0], len(message)
    match kind:
        case 0x00:
            return _decode_heartbeat(message) if length == 7 else None
        case 0x0A | 0x14:
            return _decode_report(message) if length == 28 else None
        case 0x0B:
            return _decode_altitude(message) if length == 5 else None
        case 0xCC:
            if length != 2:
                return None
            return StratuxHeartbeat(bool(message[1] & 2), bool(message[1] & 1), message[1] >> 2)
        case 0x4C:
            if length < 2:
                return None
            if not message.startswith(ATTITUDE_LE):
                return Unknown(kind)
            return _decode_attitude(message) if length == 24 else None
        case 0x65:
            return _decode_foreflight(message)
    return Unknown(kind)


def encode(message: Message) -> bytes:
    """The bytes of a message, without frame. Values that do not fit are sent as not known. Not for `Unknown`."""
    match message:
        case Heartbeat():
            return _encode_heartbeat(message)
        case Report():
            return _encode_report(message)
        case GeometricAltitude(feet, warning, vfom, saturated):
            error = 0x7FFE if saturated else 0x7FFF if vfom is None else min(max(vfom, 0), 0x7FFE)
            height = min(max(round(feet / 5), -0x8000), 0x7FFF)
            return struct.pack(">BhH", GEOMETRIC_ALTITUDE, height, error | warning << 15)
        case AttitudeLE():
            return _encode_attitude(message)
        case AttitudeForeFlight(roll, pitch, heading, magnetic, ias, tas):
            direction = 0xFFFF
            if heading is not None:
                direction = round(heading % 360.0 * 10) % 3600 | bool(magnetic) << 15
            return struct.pack(
                ">BBhhHHH",
                FOREFLIGHT,
                1,
                _tenths(roll, 1800),
                _tenths(pitch, 1800),
                direction,
                _knots(ias),
                _knots(tas),
            )
        case Identity():
            serial = b"\xff" * 8 if message.serial is None else message.serial.to_bytes(8, "big")
            names = _padded(message.name, 8) + _padded(message.long_name, 16)
            capabilities = message.geometric_altitude_is_msl | message.internet_policy << 1
            return bytes((FOREFLIGHT, 0, message.version)) + serial + names + capabilities.to_bytes(4, "big")
        case StratuxHeartbeat(gps, ahrs, protocol):
            return bytes((STRATUX, protocol << 2 | gps << 1 | ahrs))
    raise TypeError(message)


def _decode_heartbeat(message: bytes) -> Heartbeat:
    first, second, low, high, counts, more = message[1:]
    return Heartbeat(
        gps_valid=bool(first & 0x80),
        maintenance=bool(first & 0x40),
        ident=bool(first & 0x20),
        address_talkback=bool(first & 0x10),
        battery_low=bool(first & 0x08),
        ratcs=bool(first & 0x04),
        initialised=bool(first & 0x01),
        csa_requested=bool(second & 0x40),
        csa_not_available=bool(second & 0x20),
        utc_ok=bool(second & 0x01),
        seconds=(second & 0x80) << 9 | high << 8 | low,
        uplinks=counts >> 3,
        messages_received=(counts & 3) << 8 | more,
    )


def _encode_heartbeat(said: Heartbeat) -> bytes:
    first = said.gps_valid << 7 | said.maintenance << 6 | said.ident << 5 | said.address_talkback << 4
    first |= said.battery_low << 3 | said.ratcs << 2 | said.initialised
    second = (said.seconds >> 16 & 1) << 7 | said.csa_requested << 6 | said.csa_not_available << 5 | said.utc_ok
    counts = min(said.uplinks, 31) << 11 | min(said.messages_received, 1023)
    time = (said.seconds & 0xFFFF).to_bytes(2, "little")
    return bytes((HEARTBEAT, first, second)) + time + counts.to_bytes(2, "big")


def _decode_report(message: bytes) -> Report:
    lat, lon, nic = _signed24(message[5:8]), _signed24(message[8:11]), message[13] >> 4
    altitude, misc = int.from_bytes(message[11:13], "big") >> 4, message[12] & 0x0F
    speed, climb = int.from_bytes(message[14:16], "big") >> 4, int.from_bytes(message[15:17], "big") & 0xFFF
    climb = (climb ^ 0x800) - 0x800
    placed = bool(lat or lon or nic)
    kind = TRACK_KINDS[misc & 3]
    return Report(
        own=message[0] == OWNSHIP,
        address=int.from_bytes(message[2:5], "big"),
        address_type=message[1] & 0x0F,
        alert=message[1] >> 4,
        lat=lat * DEGREES_PER_COUNT if placed else None,
        lon=lon * DEGREES_PER_COUNT if placed else None,
        altitude_ft=None if altitude == 0xFFF else altitude * 25 - 1000,
        airborne=bool(misc & 8),
        extrapolated=bool(misc & 4),
        track_kind=kind,
        track_deg=None if kind is None else message[17] * TRACK_DEGREES_PER_COUNT,
        nic=nic,
        nacp=message[13] & 0x0F,
        ground_speed_kt=None if speed == 0xFFF else speed,
        vertical_speed_fpm=climb * 64 if abs(climb) <= MOST_CLIMB else None,  # more is reserved
        emitter=message[18],
        callsign=_text(message[19:27], "ascii"),
        emergency=message[27] >> 4,
    )


def _encode_report(said: Report) -> bytes:
    lat = lon = nic = 0
    if said.lat is not None and said.lon is not None:
        lat, lon, nic = round(said.lat / DEGREES_PER_COUNT), round(said.lon / DEGREES_PER_COUNT), said.nic
    altitude = 0xFFF
    if said.altitude_ft is not None and 0 <= (steps := round((said.altitude_ft + 1000) / 25)) < 0xFFF:
        altitude = steps
    speed = 0xFFF if said.ground_speed_kt is None else min(max(said.ground_speed_kt, 0), 0xFFE)
    climb = 0x800
    if said.vertical_speed_fpm is not None:
        climb = min(max(round(said.vertical_speed_fpm / 64), -MOST_CLIMB), MOST_CLIMB) & 0xFFF
    kind, track = said.track_kind, 0
    if said.track_deg is None:
        kind = None
    elif kind is not None:
        track = round(said.track_deg / TRACK_DEGREES_PER_COUNT) & 0xFF
    misc = said.airborne << 3 | said.extrapolated << 2 | TRACK_KINDS.index(kind)
    return (
        bytes((OWNSHIP if said.own else TRAFFIC, said.alert << 4 | said.address_type))
        + b"".join(number.to_bytes(3, "big") for number in (said.address, lat & 0xFFFFFF, lon & 0xFFFFFF))
        + (altitude << 12 | misc << 8 | nic << 4 | said.nacp).to_bytes(3, "big")
        + (speed << 12 | climb).to_bytes(3, "big")
        + bytes((track, said.emitter))
        + said.callsign.encode("ascii", "replace")[:8].ljust(8)
        + bytes((said.emergency << 4,))
    )


def _decode_altitude(message: bytes) -> GeometricAltitude:
    steps, second = struct.unpack(">hH", message[1:])
    vfom = second & 0x7FFF
    return GeometricAltitude(steps * 5, bool(second >> 15), None if vfom == 0x7FFF else vfom, vfom == 0x7FFE)


_LE = struct.Struct(">4xhhhhhhhHhh")
_LE_OFFSET_FT = 5000


def _decode_attitude(message: bytes) -> AttitudeLE:
    *tenths, ias, altitude, climb, _ = _LE.unpack(message)
    if tenths[2] != 0x7FFF:  # Stratux does not reduce its gyro heading to a circle
        tenths[2] %= 3600
    roll, pitch, heading, slip, turning, g = (None if raw == 0x7FFF else raw / 10 for raw in tenths)
    return AttitudeLE(
        *(roll, pitch, heading, slip, turning, g),
        None if ias == 0x7FFF else ias,
        None if altitude == 0xFFFF else altitude - _LE_OFFSET_FT,
        None if climb == 0x7FFF else climb,
    )


def _encode_attitude(said: AttitudeLE) -> bytes:
    altitude = 0xFFFF
    if said.pressure_altitude_ft is not None:
        steps = int(said.pressure_altitude_ft + _LE_OFFSET_FT + 0.5)
        altitude = steps if 0 <= steps < 0xFFFF else 0xFFFF
    climb = said.vertical_speed_fpm
    return (
        ATTITUDE_LE
        + _LE.pack(
            _tenths(said.roll_deg, 1800),
            _tenths(said.pitch_deg, 1800),
            _tenths(said.heading_deg, 3600),
            _tenths(said.slip_deg, 1800),
            _tenths(said.yaw_rate_dps, 0x7FFE),
            _tenths(said.g, 0x7FFE),
            0x7FFF if said.ias_raw is None else said.ias_raw,
            altitude,
            0x7FFF if climb is None or not abs(climb) < 0x7FFF else round(climb),
            0x7FFF,
        )[4:]
    )


def _decode_foreflight(message: bytes) -> Message | None:
    """Id 65 is SkyRadar's, too, with 12 or 21 bytes, of which the second is the version of its software."""
    length = len(message)
    if length < 2:
        return None
    if message[1] == 0 and length == 39:
        serial = int.from_bytes(message[3:11], "big")
        capabilities = int.from_bytes(message[35:39], "big")
        return Identity(
            _text(message[11:19]),
            _text(message[19:35]),
            None if serial == 0xFFFFFFFFFFFFFFFF else serial,
            bool(capabilities & 1),
            capabilities >> 1 & 3,
            message[2],
        )
    if message[1] == 1 and length == 12:
        roll, pitch, direction, ias, tas = struct.unpack(">hhHHH", message[2:])
        heading = direction & 0x7FFF
        known = direction != 0xFFFF
        if any(raw != 0x7FFF and abs(raw) > 1800 for raw in (roll, pitch)) or (known and heading > 3600):
            return Rejected(FOREFLIGHT)
        return AttitudeForeFlight(
            None if roll == 0x7FFF else roll / 10,
            None if pitch == 0x7FFF else pitch / 10,
            heading % 3600 / 10 if known else None,
            bool(direction >> 15) if known else None,
            None if ias == 0xFFFF else ias,
            None if tas == 0xFFFF else tas,
        )
    return None if message[1] < 2 and length not in (12, 21) else Unknown(FOREFLIGHT)


def _signed24(data: bytes) -> int:
    return (int.from_bytes(data, "big") ^ 0x800000) - 0x800000


def _tenths(value: float | None, most: int) -> int:
    steps = 0x7FFF if value is None else round(value * 10)
    return steps if abs(steps) <= most else 0x7FFF


def _knots(value: int | None) -> int:
    return value if value is not None and 0 <= value < 0xFFFF else 0xFFFF


def _text(data: bytes, encoding: str = "utf-8") -> str:
    """A text up to its first NUL, without blanks at its ends; a question mark for what nobody can read."""
    text = data.partition(b"\0")[0].decode(encoding, "replace").strip()
    return "".join(letter if letter.isprintable() and letter != "\ufffd" else "?" for letter in text)


def _padded(text: str, size: int) -> bytes:
    """UTF-8 in `size` bytes, not cut within a character."""
    return text.encode()[:size].decode(errors="ignore").encode().ljust(size, b"\0")
