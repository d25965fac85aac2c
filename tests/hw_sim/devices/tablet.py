"""A virtual tablet: it announces itself like ForeFlight, decodes GDL 90, and says what its moving map would show.

    tablet = Tablet(("127.0.0.1", 63093))
    world.attach(tablet)
    ...
    tablet.position(now), tablet.attitude(now), tablet.traffic(now), tablet.complaints

Written from the GDL 90 specification, with a state machine for one byte at a time and a bitwise check sequence. It is
strict: whatever no sender may send is in `complaints`. What it heard is forgotten after `PATIENCE_S`.
"""

from __future__ import annotations

import json
import socket
from typing import Any, NamedTuple

from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.checks import CCITT

ANNOUNCE_EVERY_S = 5.0
PATIENCE_S = 3.0
MAX_COMPLAINTS = 100
MAX_DATAGRAM = 1500

LENGTHS = {0: 7, 10: 28, 11: 5, 20: 28}


class Seen(NamedTuple):
    """A position report, as a map shows it; None is not known."""

    address: int
    call: str
    lat: float
    lon: float
    altitude: int | None
    knots: int | None
    track: float | None
    climb: int | None
    airborne: bool
    nic: int
    nacp: int


class Attitude(NamedTuple):
    roll: float | None
    pitch: float | None
    heading: float | None
    ias: int | None
    tas: int | None


class Unstuffer:
    """Takes one byte at a time, and returns a message when its last has come."""

    def __init__(self) -> None:
        self._bytes: list[int] | None = None
        self._escaped = False

    def byte(self, value: int) -> bytes | str | None:
        """A message, a complaint, or nothing yet."""
        if value == 0x7E:
            whole, self._bytes = self._bytes, []
            return self._check(whole) if whole else None
        if self._bytes is None:
            return "a byte before the first flag"
        if self._escaped:
            self._bytes.append(value ^ 0x20)
            self._escaped = False
        elif value == 0x7D:
            self._escaped = True
        else:
            self._bytes.append(value)
        return None

    @staticmethod
    def _check(whole: list[int]) -> bytes | str:
        crc = 0
        for value in whole[:-2]:
            crc = CCITT[crc >> 8] ^ (crc << 8 & 0xFFFF) ^ value
        sent = whole[-2] | whole[-1] << 8 if len(whole) > 2 else -1
        return bytes(whole[:-2]) if crc == sent else f"wrong check sequence: {bytes(whole).hex()}"


def _open(host: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    made.bind((host, 0))
    made.setblocking(False)
    return made


class Tablet:
    """The tablet; it listens at a port of its own on this computer, `port`, or has a `link` in place of a socket."""

    def __init__(self, announce_to: tuple[str, int] | None = None, host: str = "127.0.0.1", link: Any = None) -> None:
        self.announce_to = announce_to
        self.power = True
        self.complaints: list[str] = []
        self.heartbeats = self.datagrams = 0
        self.name = ""
        self.lines: list[str] = []
        self._socket = link or _open(host)
        self.port: int = self._socket.getsockname()[1]
        self._announced_at = float("-inf")
        self._beat: tuple[float, bool] = (float("-inf"), False)
        self._own: tuple[float, Seen | None, int | None] = (float("-inf"), None, None)
        self._attitude: tuple[float, Attitude] | None = None
        self._others: dict[int, tuple[float, Seen]] = {}
        self._height: tuple[float, int] | None = None

    # -- what it shows -------------------------------------------------------------------------------------------------

    def connected(self, now: float) -> bool:
        return now - self._beat[0] <= PATIENCE_S

    def position(self, now: float) -> Seen | None:
        """The own position; None if it is old, or if the sender has none."""
        when, seen, _ = self._own
        return seen if self.connected(now) and self._beat[1] and now - when <= PATIENCE_S else None

    def pressure_altitude(self, now: float) -> int | None:
        when, _, altitude = self._own
        return altitude if now - when <= PATIENCE_S else None

    def attitude(self, now: float) -> Attitude | None:
        """The attitude; None if it is old, or not known."""
        if self._attitude is None or now - self._attitude[0] > PATIENCE_S or self._attitude[1].roll is None:
            return None
        return self._attitude[1]

    def height(self, now: float) -> int | None:
        """The geometric altitude."""
        return self._height[1] if self._height and now - self._height[0] <= PATIENCE_S else None

    def traffic(self, now: float) -> dict[int, Seen]:
        return {address: seen for address, (when, seen) in self._others.items() if now - when <= PATIENCE_S}

    # -- life ----------------------------------------------------------------------------------------------------------

    def tick(self, aircraft: Aircraft, now: float) -> None:
        """Announce itself if it is time, and read what has come."""
        if self.power and self.announce_to and now - self._announced_at >= ANNOUNCE_EVERY_S:
            self._announced_at = now
            self.announce({"App": "ForeFlight", "GDL90": {"port": self.port}})
        self.hear(now)

    def announce(self, said: object) -> None:
        assert self.announce_to is not None
        self._socket.sendto(said if isinstance(said, bytes) else json.dumps(said).encode(), self.announce_to)

    def hear(self, now: float) -> None:
        while True:
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                return
            self.datagrams += 1
            if len(data) > MAX_DATAGRAM:
                self._complain(f"a datagram of {len(data)} bytes")
            if data[:1] == b"X":
                self.lines = [*self.lines, data.decode("ascii")][-MAX_COMPLAINTS:]
                continue
            if not data.startswith(b"\x7e") or not data.endswith(b"\x7e"):
                self._complain(f"a datagram without flags: {data.hex()}")
            unstuffer = Unstuffer()
            for value in data:
                found = unstuffer.byte(value)
                if isinstance(found, str):
                    self._complain(found)
                elif found is not None:
                    self._message(found, now)

    def unplug(self) -> None:
        self.power = False

    def plug(self) -> None:
        self.power = True

    def close(self) -> None:
        self._socket.close()

    def _complain(self, what: str) -> None:
        if len(self.complaints) < MAX_COMPLAINTS:
            self.complaints.append(what)

    def _message(self, message: bytes, now: float) -> None:
        kind = message[0]
        if kind in LENGTHS and len(message) != LENGTHS[kind]:
            self._complain(f"a message {kind} of {len(message)} bytes")
        elif kind == 0:
            self.heartbeats += 1
            self._beat = now, bool(message[1] >> 7)
        elif kind in (10, 20):
            self._report(message, now)
        elif kind == 11:
            self._height = now, int.from_bytes(message[1:3], "big", signed=True) * 5
        elif message[:2] == b"\x65\x00" and len(message) == 39:
            self.name = message[19:35].rstrip(b"\0").decode()
        elif message[:2] == b"\x65\x01" and len(message) == 12:
            self._level(message, now)
        elif not (message[:4] == b"LE\x01\x01" and len(message) == 24) and not (kind == 0xCC and len(message) == 2):
            self._complain(f"an unknown message: {message.hex()}")

    def _report(self, message: bytes, now: float) -> None:
        bits = int.from_bytes(message, "big")
        left = len(message) * 8

        def take(size: int, signed: bool = False) -> int:
            nonlocal left
            left -= size
            value = bits >> left & (1 << size) - 1
            return value - (1 << size) if signed and value >> size - 1 else value

        kind, _, _, address = take(8), take(4), take(4), take(24)
        lat, lon = take(24, True) * 180 / 2**23, take(24, True) * 180 / 2**23
        altitude, misc, nic, nacp, knots, climb = take(12), take(4), take(4), take(4), take(12), take(12, True)
        track, _, call = take(8), take(8), message[19:27].decode("ascii").rstrip(" \0")
        if lat == lon == 0 and nic:
            self._complain("a position in the Gulf of Guinea")
        if abs(lat) > 90:
            self._complain(f"latitude {lat}")
        height = None if altitude == 0xFFF else altitude * 25 - 1000
        seen = Seen(
            address,
            call,
            lat,
            lon,
            height,
            None if knots == 0xFFF else knots,
            track * 360 / 256 if misc & 3 == 1 else None,
            None if climb == -0x800 else climb * 64,
            bool(misc & 8),
            nic,
            nacp,
        )
        placed = not (lat == lon == 0 and nic == 0)
        if kind == 10:
            self._own = now, seen if placed else None, height
        elif placed:
            self._others[address] = now, seen
            if len(self._others) > 200:
                self._others.pop(next(iter(self._others)))

    def _level(self, message: bytes, now: float) -> None:
        words = [int.from_bytes(message[at : at + 2], "big") for at in range(2, 12, 2)]

        def angle(word: int) -> float | None:
            value = word - 0x10000 if word & 0x8000 else word
            if word != 0x7FFF and abs(value) > 1800:
                self._complain(f"an angle of {value / 10} degrees")
            return None if word == 0x7FFF else value / 10

        heading = None if words[2] == 0xFFFF else (words[2] & 0x7FFF) / 10
        if heading is not None and heading > 360:
            self._complain(f"a heading of {heading}")
        knots = [None if word == 0xFFFF else word for word in words[3:]]
        self._attitude = now, Attitude(angle(words[0]), angle(words[1]), heading, *knots)
