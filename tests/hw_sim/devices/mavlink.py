"""A virtual ArduPlane autopilot that speaks MAVLink 2 (or 1) on a virtual serial port.

It sends all its streams unasked, unless it is `quiet`: then only heartbeats, until somebody asks for messages. It obeys
a ground station as the real one would: messages on request, modes, manual control, a place to fly to, and arming. What
it was told is in `asked`, `modes`, `controls`, `places`, `armings` and `others`, for tests to look at. It does not fly:
nothing here moves the aircraft. It does not know the values in `failed`, a set of keys.

Written from the message definitions; its CRC is computed bit by bit.
"""

from __future__ import annotations

import math
import struct
from collections import deque
from collections.abc import Mapping
from typing import Any

from fixgw.hw_sim.aircraft import FPM, FT, KNOT, Aircraft
from fixgw.hw_sim.checks import REFLECTED
from fixgw.hw_sim.serial import Line, SerialInstrument

MANUAL, CRUISE, GUIDED = 0, 7, 15
HEALTHY_ESTIMATE = 0x33F  # attitude, speeds, relative and absolute position, height
SENSORS = 0x2FC3F | 0x200000 | 0x10000000  # present and working, with the check before arming

#: CRC_EXTRA, by message.
EXTRA = {0: 50, 1: 124, 24: 24, 26: 170, 29: 115, 30: 39, 33: 104, 36: 222, 74: 20, 77: 143, 193: 71, 246: 184, 253: 83}
HEARD_EXTRA = {0: 50, 11: 89, 23: 168, 66: 148, 69: 243, 75: 158, 76: 152}
#: Rounds between two of each, of ten a second.
EVERY = {30: 1, 33: 2, 24: 2, 74: 2, 29: 2, 26: 2, 36: 4, 1: 10, 193: 10, 0: 10}


def crc(data: bytes) -> int:
    """CRC-16/MCRF4XX."""
    value = 0xFFFF
    for byte in data:
        value = value >> 8 ^ REFLECTED[(value ^ byte) & 0xFF]
    return value


class MavlinkAutopilot(SerialInstrument):
    """The autopilot; set `armed`, `mode`, `fix`, `estimate`, `healthy`, `quiet`, `hung`, `deaf` and `refuses` at any
    time. `say` sends a text, `restart` restarts it, `traffic` are frames of ADSB_VEHICLE to send on the next round.
    """

    NAME = "mavlink"
    WHAT = "ArduPlane autopilot that speaks MAVLink"
    BAUD = 57600
    UDP_PORT = 14550
    RATE = 10.0
    CYCLE = 10

    def __init__(
        self, line: Line, baud: int | None = None, *, version: int = 2, system: int = 1, quiet: bool = False
    ) -> None:
        super().__init__(line, baud)
        self.version = version
        self.system = system
        self.quiet = quiet
        self.failed: set[str] = set()
        self.armed = False
        self.mode = MANUAL
        self.status = 4  # active
        self.fix = 3
        self.estimate = HEALTHY_ESTIMATE
        self.healthy = SENSORS
        self.servos = [1500] * 8
        #: Repeats itself; hears nothing; results of commands that it refuses, by number.
        self.hung = self.deaf = False
        self.refuses: dict[int, int] = {}
        #: Messages and streams that were asked for; the modes, controls and places that it was told; how often it was
        #: told to arm or disarm; and all other commands and messages.
        self.asked: list[int] = []
        self.streams: list[int] = []
        self.modes: list[int] = []
        self.controls: deque[tuple[int, int, int, int, int]] = deque(maxlen=1000)
        self.places: list[tuple[float, float, float]] = []
        self.armings = 0
        self.others: list[Any] = []
        self.heartbeats = 0
        self.traffic: list[bytes] = []
        self._wanted: set[int] = set()
        self._started: float | None = None
        self._stopped_at = 0.0
        self._seq = 0
        self._heard = b""
        self._answers: list[bytes] = []
        self._values: Mapping[str, Any] = {}

    # -- sending -------------------------------------------------------------------------------------------------------

    def frame(self, identifier: int, payload: bytes, core: int | None = None, component: int = 1) -> bytes:
        """A frame; `core` is the length of the payload without extensions."""
        seq, self._seq = self._seq, (self._seq + 1) % 256
        if self.version == 1:
            payload = payload[:core]
            body = bytes((len(payload), seq, self.system, component, identifier)) + payload
        else:
            payload = payload.rstrip(b"\0") or b"\0"
            body = (
                bytes((len(payload), 0, 0, seq, self.system, component)) + struct.pack("<I", identifier)[:3] + payload
            )
        return (
            b"\xfe\xfd"[self.version - 1 : self.version]
            + body
            + struct.pack("<H", crc(body + bytes((EXTRA[identifier],))))
        )

    def heartbeat(self) -> bytes:
        base = 0x51 | (0x80 if self.armed else 0)
        return self.frame(0, struct.pack("<IBBBBB", self.mode, 1, 3, base, self.status, 3))

    def say(self, text: str, severity: int = 4) -> None:
        """Send a text with the next round, in parts if it is long."""
        data = text.encode()
        number = 7 if len(data) > 50 else 0
        for part, at in enumerate(range(0, len(data), 50)):
            piece = struct.pack("<B50sHB", severity, data[at : at + 50], number, part)
            self._answers.append(self.frame(253, piece, 51))

    def restart(self) -> None:
        self._started = None
        self.armed, self.mode = False, MANUAL

    def frames(self, aircraft: Aircraft, now: float) -> list[bytes]:
        if self._started is None:
            self._started = now - 10.0
        if self.hung:
            now = self._stopped_at
        self._stopped_at = now
        self._values = aircraft.values()
        ms = int((now - self._started) * 1000.0) & 0xFFFFFFFF
        sent = [
            self.heartbeat() if identifier == 0 else getattr(self, f"_message_{identifier}")(aircraft, ms)
            for identifier, every in EVERY.items()
            if self.rounds % every == 0 and (not self.quiet or identifier in self._wanted or identifier == 0)
        ]
        sent += self.traffic
        self.traffic = []
        return sent

    def _heading(self, aircraft: Aircraft) -> float:
        """True, in degrees; what a scenario sets is magnetic."""
        return float(self._values["HEAD"]) + aircraft.variation

    def _message_30(self, aircraft: Aircraft, ms: int) -> bytes:
        values = self._values
        roll, pitch, turn = (math.radians(float(values[key])) for key in ("ROLL", "PITCH", "ROT"))
        yaw = math.radians((self._heading(aircraft) + 180.0) % 360.0 - 180.0)
        rates = (0.0, turn * math.cos(pitch) * math.sin(roll), turn * math.cos(pitch) * math.cos(roll))
        roll = math.nan if "ROLL" in self.failed else roll
        return self.frame(30, struct.pack("<I6f", ms, roll, pitch, yaw, *rates))

    def _message_33(self, aircraft: Aircraft, ms: int) -> bytes:
        north, east = (round(knots * KNOT * 100.0) for knots in aircraft.ground_vector)
        values = self._values
        place = [round(float(values[key]) * 1e7) for key in ("LAT", "LONG")]
        height = round(float(values["TALT"]) * FT * 1000.0)
        above = round((float(values["TALT"]) - aircraft.ground) * FT * 1000.0)
        heading = 65535 if "HEAD" in self.failed else round(self._heading(aircraft) * 100.0) % 36000
        down = -round(float(values["VS"]) * FPM * 100.0)
        return self.frame(33, struct.pack("<IiiiihhhH", ms, *place, height, above, north, east, down, heading))

    def _message_24(self, aircraft: Aircraft, ms: int) -> bytes:
        values = self._values
        place = [round(float(values[key]) * 1e7) for key in ("LAT", "LONG")]
        height, above = (round(float(values[key]) * FT * 1000.0) for key in ("TALT", "GPS_ELLIPSOID_ALT"))
        speed, course = round(float(values["GS"]) * KNOT * 100.0), round(float(values["TRACK"]) * 100.0) % 36000
        satellites = 255 if "GPS_SATS_TRACKED" in self.failed else int(values["GPS_SATS_TRACKED"])
        core = struct.pack(
            "<QiiiHHHHBB", ms * 1000, *place, height, 90, 120, speed, course, self.fix if self.fix else 1, satellites
        )
        errors = [round(float(values[f"GPS_ACCURACY_{what}"]) * FT * 1000.0) for what in ("HORIZ", "VERTICAL")]
        errors.append(round(float(values["GPS_ACCURACY_SPEED"]) * KNOT * 1000.0))
        return self.frame(24, core + struct.pack("<iIIIIH", above, *errors, 0, 0), len(core))

    def _message_74(self, aircraft: Aircraft, ms: int) -> bytes:
        values = self._values
        ias = math.nan if "IAS" in self.failed else float(values["IAS"]) * KNOT
        speeds = (ias, float(values["GS"]) * KNOT, float(values["TALT"]) * FT, float(values["VS"]) * FPM)
        return self.frame(
            74, struct.pack("<4fhH", *speeds, round(self._heading(aircraft)) % 360, round(100.0 * aircraft.throttle))
        )

    def _message_29(self, aircraft: Aircraft, ms: int) -> bytes:
        values = self._values
        pressures = (float(values["AIRPRESS"]) / 100.0, float(values["DIFFAIRPRESS"]) / 100.0)
        return self.frame(29, struct.pack("<Iffhh", ms, *pressures, 3500, 0), 14)

    def _message_26(self, aircraft: Aircraft, ms: int) -> bytes:
        values = self._values
        g = [max(-32767, min(32767, round(float(values[key]) * 1000.0))) for key in ("ALONG", "ALAT", "ANORM")]
        return self.frame(26, struct.pack("<I10h", ms, g[0], g[1], -g[2], *[0] * 7), 22)

    def _message_36(self, aircraft: Aircraft, ms: int) -> bytes:
        return self.frame(36, struct.pack("<I8HB", ms * 1000 & 0xFFFFFFFF, *self.servos, 0) + bytes(16), 21)

    def _message_1(self, aircraft: Aircraft, ms: int) -> bytes:
        volts, amperes = round(float(self._values["VOLT"]) * 1000.0), 150
        core = struct.pack("<IIIHHhHHHHHHb", SENSORS, SENSORS, self.healthy, 250, volts, amperes, *[0] * 6, -1)
        return self.frame(1, core + bytes(12), 31)

    def _message_193(self, aircraft: Aircraft, ms: int) -> bytes:
        return self.frame(193, struct.pack("<5fHf", 0.1, 0.1, 0.1, 0.1, 0.0, self.estimate, 0.1), 22)

    # -- hearing -------------------------------------------------------------------------------------------------------

    def tick(self, aircraft: Aircraft, now: float) -> None:
        if hasattr(self.line, "read"):
            self.hear(self.line.read())
        if self._answers and self.power:
            answers, self._answers = self._answers, []
            self.transmit(answers, now)
        super().tick(aircraft, now)

    def hear(self, data: bytes) -> None:
        """Obey the frames in `data`, which may be cut anywhere. Everything that is wrong with one is in `others`."""
        self._heard += data
        while self._heard:
            if self._heard[0] not in (0xFE, 0xFD):
                self.others.append(("garbage", self._heard[:1]))
                self._heard = self._heard[1:]
                continue
            head = 10 if self._heard[0] == 0xFD else 6
            if len(self._heard) < head or len(self._heard) < head + self._heard[1] + 2:
                return
            frame, self._heard = self._heard[: head + self._heard[1] + 2], self._heard[head + self._heard[1] + 2 :]
            identifier = int.from_bytes(frame[7:10], "little") if head == 10 else frame[5]
            extra = HEARD_EXTRA.get(identifier)
            if extra is None or crc(frame[1:-2] + bytes((extra,))) != int.from_bytes(frame[-2:], "little"):
                self.others.append((identifier, frame))
            elif not self.deaf:
                self._obey(identifier, frame[head:-2].ljust(64, b"\0"))

    def _obey(self, identifier: int, payload: bytes) -> None:
        if identifier == 0:
            self.heartbeats += 1
        elif identifier == 66:
            self.streams.append(payload[4])
            self._wanted |= {1: {26, 29}, 2: {1, 24}, 3: {36}, 6: {33}, 10: {30}, 11: {74}, 12: {193}}.get(
                payload[4], set()
            )
        elif identifier == 69:
            self.controls.append(struct.unpack_from("<4hH", payload))
        elif identifier in (75, 76):
            self._command(identifier, payload)
        else:
            self.others.append((identifier, payload))

    def _command(self, identifier: int, payload: bytes) -> None:
        parameters = struct.unpack_from("<4f2if" if identifier == 75 else "<7f", payload)
        (number,) = struct.unpack_from("<H", payload, 28)
        result = self.refuses.get(number, 0)
        if number == 511:
            self.asked.append(int(parameters[0]))
            if not result:
                self._wanted.add(int(parameters[0]))
        elif number == 176:
            self.modes.append(int(parameters[1]))
            if not result:
                self.mode = int(parameters[1])
        elif number == 192:
            self.places.append((parameters[4] / 1e7, parameters[5] / 1e7, parameters[6]))
        elif number == 400:
            self.armings += 1
            self.armed = bool(parameters[0])
        else:
            self.others.append((identifier, number))
            result = 3
        core = struct.pack("<HB", number, result)
        self._answers.append(self.frame(77, core + bytes(5) + bytes((255, 190)), 3))


def adsb(
    autopilot: MavlinkAutopilot, address: int, lat: float, lon: float, altitude_ft: float, call_sign: str
) -> bytes:
    """A frame of ADSB_VEHICLE for `traffic`: position, pressure altitude, and a track of 90 degrees at 100 m/s."""
    place = round(lat * 1e7), round(lon * 1e7)
    numbers = struct.pack("<IiiiHHhHH", address, *place, round(altitude_ft * FT * 1000.0), 9000, 10000, 0, 0x11F, 1200)
    return autopilot.frame(246, numbers + struct.pack("<B9sBB", 0, call_sign.encode(), 1, 1))
