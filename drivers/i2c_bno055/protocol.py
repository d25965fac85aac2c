"""The Bosch BNO055: its registers, their meaning, and its frames on a serial line. No I/O.

Source: data sheet BST-BNO055-DS000 (register map 4.2, UART protocol 4.7). Vectors are along the aircraft's axes right,
forward and up: however the chip is mounted, `remap` makes it report them so.
"""

from __future__ import annotations

import math
import struct
from collections import deque
from collections.abc import Iterable
from itertools import product
from statistics import median

from fixgw.kit.navigation import difference
from fixgw.kit.update import BAD, FAIL, Update

G_MPS2 = 9.80665

CHIP_ID, PAGE, DATA, FUSED = 0x00, 0x07, 0x08, 0x2E
SELF_TEST, UNITS, MODE, POWER, TRIGGER, REMAP = 0x36, 0x3B, 0x3D, 0x3E, 0x3F, 0x41
DATA_LENGTH, FUSED_LENGTH = 24, 13  # accelerometer to Euler angles; gravity to system error
ID = 0xA0
CONFIG, MODES = 0x00, {"imu": 0x08, "ndof": 0x0C}
RESET, CRYSTAL = 0x20, 0x80
STATUS = FUSED + 11
RUNNING = 5
MEDIAN = 3  # readings

KEYS = frozenset(("ROLL", "PITCH", "HEAD", "YAW", "ROT", "ANORM", "ALAT", "ALONG"))
ERRORS = {
    1: "a peripheral did not start",
    2: "system initialisation failed",
    3: "the self-test failed",
    4: "a register value out of range",
    5: "a register address out of range",
    6: "a register could not be written",
    7: "low power mode not available",
    8: "accelerometer power mode not available",
    9: "wrong configuration of the sensor fusion",
    10: "wrong configuration of a sensor",
}
SENSORS = ("accelerometer", "magnetometer", "gyroscope", "microcontroller")  # bits of the self-test

# -- mounting ----------------------------------------------------------------------------------------------------------

AXES = ("x", "y", "z", "-x", "-y", "-z")


def remap(forward: str, up: str) -> tuple[int, int] | None:
    """The values of AXIS_MAP_CONFIG and AXIS_MAP_SIGN that turn the chip's axes into right, forward and up.

    `forward` and `up` name the chip's axes that point forward and up; None if they are the same axis.
    """
    nose, sky = _axis(forward), _axis(up)
    right = (
        nose[1] * sky[2] - nose[2] * sky[1],
        nose[2] * sky[0] - nose[0] * sky[2],
        nose[0] * sky[1] - nose[1] * sky[0],
    )
    if not any(right):
        return None
    where = signs = 0
    for place, vector in enumerate((right, nose, sky)):
        axis = next(i for i, v in enumerate(vector) if v)
        where |= axis << 2 * place
        signs |= (vector[axis] < 0) << 2 - place
    return where, signs


def _axis(name: str) -> tuple[int, ...]:
    return tuple((-1 if name[0] == "-" else 1) * (axis == name[-1]) for axis in "xyz")


MOUNTINGS = {(f, u): both for f, u in product(AXES, AXES) if (both := remap(f, u)) is not None}

# -- readings ----------------------------------------------------------------------------------------------------------


class Decoder:
    """Decodes register contents. `trouble` says what is wrong with the chip; empty if nothing is."""

    def __init__(self, mode: str, roll: float = 0.0, pitch: float = 0.0, heading: float = 0.0) -> None:
        self.mode = mode
        self.trims = (roll, pitch, heading)
        self.trouble = ""
        #: The chip's own view of its calibration, 0 to 3: system, gyroscope, accelerometer, magnetometer.
        self.calibration = (0, 0, 0, 0)
        self._recent: deque[list[float]] = deque(maxlen=MEDIAN)

    def begin(self) -> None:
        """Forget earlier readings: the chip may have been moved."""
        self._recent.clear()

    @property
    def keys(self) -> tuple[str, ...]:
        return ("ROLL", "PITCH", "HEAD" if self.mode == "ndof" else "YAW", "ROT", "ANORM", "ALAT", "ALONG")

    def decode(self, data: bytes, fused: bytes) -> list[Update] | None:
        """Decode `DATA_LENGTH` bytes starting at `DATA` and `FUSED_LENGTH` at `FUSED`; None if they are absurd."""
        if len(data) != DATA_LENGTH or len(fused) != FUSED_LENGTH:
            return None
        force = [raw / (100.0 * G_MPS2) for raw in struct.unpack_from("<3h", data, 0)]  # 1 m/s² = 100
        rates = [raw / 16.0 for raw in struct.unpack_from("<3h", data, 12)]
        heading = struct.unpack_from("<h", data, 18)[0] / 16.0
        sky = [raw / (100.0 * G_MPS2) for raw in struct.unpack_from("<3h", fused, 0)]
        calibration, status, error = fused[7], fused[11], fused[12]

        if status != RUNNING or error:
            why = f": {ERRORS.get(error, f'error {error}')}" if error else ""
            self.trouble = f"the sensor fusion is not running (status {status}{why})"
            return [Update(key, None, FAIL, self.trouble) for key in self.keys]
        # Gravity is a unit vector whatever the aircraft does; angles and forces must be within the chip's ranges.
        if not 0.95 < math.hypot(*sky) < 1.05 or not 0.0 <= heading <= 360.0 or max(map(abs, force)) > 16.5:
            return None
        levels = (calibration >> 6, calibration >> 4 & 3, calibration >> 2 & 3, calibration & 3)
        self._recent.append([*force, *rates, *sky, *levels, heading])
        # The median of the last few: the bus has no checksum, and a wrong bit looks like a movement.
        *middle, _ = (median(values) for values in zip(*self._recent, strict=True))
        force, rates, sky = middle[:3], middle[3:6], middle[6:9]
        heading += median(difference(reading[-1], heading) for reading in self._recent)

        system, gyroscope, accelerometer, magnetometer = map(int, middle[9:])
        self.calibration = (system, gyroscope, accelerometer, magnetometer)
        self.trouble = self._uncalibrated(gyroscope, system)
        attitude = (BAD, self.trouble) if self.trouble else (0, "")
        compass = attitude
        if not self.trouble and self.mode == "ndof" and magnetometer < 2:
            self.trouble = "magnetometer not calibrated: rotate it about all axes"
            compass = (BAD, self.trouble)

        right, forward, up = sky
        roll, pitch, turn = self.trims
        heading = (heading + turn) % 360.0
        return [
            Update("ROLL", difference(math.degrees(math.atan2(-right, up)) + roll), *attitude),
            Update("PITCH", max(-90.0, min(math.degrees(math.asin(_unit(forward))) + pitch, 90.0)), *attitude),
            Update("HEAD", heading, *compass) if self.mode == "ndof" else Update("YAW", difference(heading), *attitude),
            Update("ROT", -sum(r * s for r, s in zip(rates, sky, strict=True)), *attitude),
            Update("ANORM", force[2]),
            Update("ALAT", force[0]),
            Update("ALONG", force[1]),
        ]

    def _uncalibrated(self, gyroscope: int, system: int) -> str:
        if gyroscope < 2:
            return "gyroscope not calibrated: keep the sensor still"
        if self.mode == "ndof" and system < 1:
            return "sensor fusion not calibrated yet"
        return ""


def self_test(result: int, mode: str) -> str:
    """Describe which part of the self-test that `mode` needs has failed; empty if none has."""
    failed = [s for i, s in enumerate(SENSORS) if not result >> i & 1 and (mode == "ndof" or s != "magnetometer")]
    return f"self-test failed: {', '.join(failed)}" if failed else ""


def _unit(x: float) -> float:
    return max(-1.0, min(x, 1.0))


# -- the serial line ---------------------------------------------------------------------------------------------------

REPLIES = {
    1: "",
    2: "read failed",
    3: "write failed",
    4: "no such register map",
    5: "no such register",
    6: "register not writable",
    7: "wrong start byte",
    8: "bus overrun",
    9: "too long",
    10: "too short",
}
OVERRUN = 7  # like 8: the chip was busy; ask again


def read_request(register: int, length: int) -> bytes:
    return bytes((0xAA, 0x01, register, length))


def write_request(register: int, data: Iterable[int]) -> bytes:
    body = bytes(data)
    return bytes((0xAA, 0x00, register, len(body))) + body


def reply(data: bytes) -> tuple[bytes, int] | None:
    """Return the chip's answer as (data, status), or None while it is incomplete. Status 1 is success. Never raises.

    Bytes before the start of an answer are skipped.
    """
    for at, byte in enumerate(data):
        if byte == 0xEE and len(data) > at + 1:
            return b"", data[at + 1]
        if byte == 0xBB and len(data) > at + 1:
            body = data[at + 2 : at + 2 + data[at + 1]]
            return (body, 1) if len(body) == data[at + 1] else None
    return None
