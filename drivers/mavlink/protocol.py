"""MAVLink autopilots without I/O: bytes in, updates out (`Decoder`).

The decoder follows one vehicle: the system whose autopilot (component 1) sends heartbeats. It takes its data from
before the first heartbeat, but not if the heartbeats stop, if its clock stands still, or after it has restarted until
it has sent one again. What the autopilot's estimator or sensors report as unhealthy is bad.

Sources: the message definitions of mavlink/mavlink (July 2026) and mavlink.io; docs/drivers/mavlink.md says which key
comes from which message.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import ClassVar, Literal

from fixgw.drivers.mavlink import modes
from fixgw.drivers.mavlink.frames import Frame, Framer
from fixgw.drivers.mavlink.messages import Fields, Message
from fixgw.kit.airdata import pressure_altitude
from fixgw.kit.place import is_possible
from fixgw.kit.sources import SIMULATED
from fixgw.kit.traffic import MAX_TARGETS, Target
from fixgw.kit.units import FEET_PER_METRE, INHG_PER_KPA, KNOTS_PER_MPS, LITRES_PER_GALLON
from fixgw.kit.update import BAD, FAIL, Update

#: The keys of each group that the options switch on.
GROUPS: dict[str, tuple[str, ...]] = {
    "airspeed": ("IAS",),
    "groundspeed": ("GS",),
    "ahrs": ("ROLL", "PITCH", "YAW", "ROT", "VS", "HEAD", "TALT", "PALT"),
    "gps": (
        *("LAT", "LONG", "TRACK", "GPS_FIX_TYPE", "GPS_SATS_TRACKED", "GPS_SATS_VISIBLE", "GPS_ELLIPSOID_ALT"),
        *("GPS_ACCURACY_HORIZ", "GPS_ACCURACY_VERTICAL", "GPS_ACCURACY_SPEED"),
    ),
    "accel": ("ALAT", "ALONG", "ANORM"),
    "pressure": ("AIRPRESS", "DIFFAIRPRESS"),
    "aoa": ("AOA",),
    "battery": ("VOLT", "CURRNT"),
    "engine": ("TACH1", "MAP1", "CHT11", "EGT11", "FUELF1"),
    "navigation": ("XTRACK",),
    "rangefinder": ("AGL",),
}
#: The keys that are written in any case.
ALWAYS = ("MAVSTATE", "MAVMODE", "MAVMSG")
KEYS = frozenset((*ALWAYS, *(key for keys in GROUPS.values() for key in keys)))

#: Under which we send.
GROUND_SYSTEM, GROUND_COMPONENT = 255, 190

HEARTBEAT_LIMIT_S = 5.0  # after this much time without a heartbeat the vehicle is lost
BETTER_LIMIT_S = 2.5  # after this much time without the better of two messages, the other is used: before LAT is old
STEADY_S = 10.0  # the estimated position must come for so long before it is used again after the receiver's
FROZEN_S = 2.0  # the vehicle's clock may stand still for this long
REBOOT_MS = 1000  # a time stamp that goes back by more is a restart; by less, a frame that was overtaken
JUMP_MS = 5000  # so is one that advances by so much more than the time that has passed
LATE_MS = 1000  # data that took so much longer than the quickest before it has waited somewhere on the way
DRIFT_MS_PER_S = 1.0  # the most by which the two clocks drift apart
#: After so many restarts within this time, nothing is taken from the link for as long.
RESTARTS, CONFUSED_S = 3, 10.0
OVERTAKEN_SEQ = 128  # so many missing frames are a frame that came again or was overtaken, or a restart
MAX_SENDERS = 32  # systems and components whose sequence numbers are followed
STALE_TARGET_S = 5  # an autopilot that has not heard a target for longer does not report it
MAX_TEXT = 200  # characters of a message in several parts
STANDING_STILL_MPS = 0.5  # below this speed the track has no meaning
SLOW_KT = 3.0  # a ground speed below this is the noise of the receiver

LOST = "no heartbeat from the autopilot"
FROZEN = "the autopilot's clock stands still"
LATE = "the data arrives late: the link is too slow, or was interrupted"
RESTARTED = "the autopilot has restarted"
CONFUSED = "the autopilot's clock jumps to and fro: are there two with the same number?"
UNKNOWN = "the autopilot does not know it"
IMPOSSIBLE = "the autopilot sends an impossible value"
NO_FIX = "the autopilot has no GPS fix"
NO_POSITION = "the autopilot has no position yet"
NO_2D_HEIGHT = "no three-dimensional GPS fix"
SLOW = "too slow for a track"

#: The counter of a good frame.
Outcome = Literal["used", "ignored"]

_HEARTBEAT, _SYS_STATUS, _STATUSTEXT, _COMMAND_ACK, _ADSB = 0, 1, 253, 77, 246
_ARMED = 0x80  # in base_mode
_DOWNWARD = 25  # the orientation of a distance sensor
#: Bits of `flags` in ADSB_VEHICLE: what is valid, and that it is simulated.
_PLACED, _LEVEL, _COURSE, _SPEED, _NAMED, _SQUAWKING, _SIMULATED, _CLIMB = 1, 2, 4, 8, 16, 32, 64, 128
_STATE = frozenset((_SYS_STATUS, 24, 33, 36, 193))  # say more than their keys
#: Values of `system_status`: not yet flying, and in distress.
_BOOTING, _DISTRESS = frozenset((0, 1, 2)), {5: "critical", 6: "emergency", 7: "powering off", 8: "terminating"}
#: Bits of the sensors in SYS_STATUS, with the keys that depend on them.
_PITOT, _PREARM = 0x10, 0x10000000
_SENSORS: tuple[tuple[int, str, tuple[str, ...]], ...] = (
    (0x01, "gyroscopes", ("ROLL", "PITCH", "YAW", "ROT", "HEAD")),
    (0x02, "accelerometers", ("ROLL", "PITCH", "ALAT", "ALONG", "ANORM")),
    (0x04, "compass", ("HEAD", "YAW")),
    (0x08, "barometer", ("AIRPRESS", "PALT", "VS", "TALT")),
    (_PITOT, "airspeed sensor", ("IAS", "DIFFAIRPRESS")),
    (0x20, "GPS", ("LAT", "LONG", "GS", "TRACK")),
    (0x200000, "attitude system", ("ROLL", "PITCH", "YAW", "ROT", "HEAD")),
)
#: Bits of EKF_STATUS_REPORT that must be set, and the keys that depend on them.
_ESTIMATES: tuple[tuple[int, str, tuple[str, ...]], ...] = (
    (1, "attitude", ("ROLL", "PITCH", "YAW", "ROT", "HEAD")),
    (2, "horizontal speed", ("GS", "TRACK")),
    (4, "vertical speed", ("VS",)),
    (16, "position", ("LAT", "LONG")),
    (32, "height", ("TALT",)),
)
_CONSTANT_POSITION, _UNINITIALISED = 128, 1024
_ESTIMATED = tuple(dict.fromkeys(key for _, _, keys in _ESTIMATES for key in keys))
#: Fields of EKF_STATUS_REPORT that are above 1 when measurements contradict the estimate.
_VARIANCES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("velocity_variance", "speed", ("GS", "TRACK", "VS")),
    ("pos_horiz_variance", "position", ("LAT", "LONG")),
    ("pos_vert_variance", "height", ("TALT", "VS")),
    ("compass_variance", "heading", ("HEAD", "YAW")),
)
_POSITION_KEYS = ("LAT", "LONG", "GS", "TRACK")
_FIX_KEYS = (*_POSITION_KEYS, *(key for key in GROUPS["gps"] if key.startswith(("GPS_ELL", "GPS_ACC"))))
#: GPS_FIX_TYPE for each fix_type: 5 RTK float, 6 RTK fixed, 7 static, 8 PPP.
_FIX_TYPES = (0, 1, 2, 3, 4, 5, 5, 3, 3)

#: What an aircraft can measure; anything else is a fault.
_POSSIBLE: dict[str, tuple[float, float]] = {
    "ROLL": (-180.1, 180.1),
    "PITCH": (-90.1, 90.1),
    "YAW": (-360.0, 360.0),
    "ROT": (-1000.0, 1000.0),
    "IAS": (0.0, 800.0),
    "GS": (0.0, 1500.0),
    "VS": (-30_000.0, 30_000.0),
    "HEAD": (0.0, 360.0),
    "TALT": (-2_000.0, 60_000.0),
    "LAT": (-90.0, 90.0),
    "LONG": (-180.0, 180.0),
    "ALAT": (-30.0, 30.0),
    "ALONG": (-30.0, 30.0),
    "ANORM": (-30.0, 30.0),
    "AIRPRESS": (5_000.0, 120_000.0),
    "DIFFAIRPRESS": (-10_000.0, 50_000.0),
    "AOA": (-180.0, 180.0),
    "AGL": (0.0, 60_000.0),
    "TACH1": (0.0, 20_000.0),
}

#: The messages for each key, and how often to ask for them, in microseconds.
INTERVALS_US: dict[int, tuple[int, tuple[str, ...]]] = {
    30: (100_000, ("ROLL", "PITCH", "YAW", "ROT")),
    33: (200_000, ("LAT", "LONG", "TRACK", "HEAD", "TALT")),
    24: (200_000, (*GROUPS["gps"], "GS")),
    74: (200_000, ("IAS", "GS", "VS")),
    29: (200_000, ("AIRPRESS", "DIFFAIRPRESS", "PALT")),
    26: (200_000, GROUPS["accel"]),
    36: (400_000, ("TRIMP", "TRIMR", "TRIMY")),
    1: (1_000_000, tuple(sorted(KEYS))),
    193: (1_000_000, _ESTIMATED),
    11020: (100_000, ("AOA",)),
    147: (1_000_000, ("VOLT", "CURRNT")),
    225: (200_000, GROUPS["engine"]),
    226: (500_000, ("TACH1",)),
    62: (500_000, ("XTRACK",)),
    132: (200_000, ("AGL",)),
    173: (200_000, ("AGL",)),
}


def intervals(keys: Collection[str]) -> dict[int, int]:
    """The messages to ask for, with their intervals in microseconds, in order to have `keys`."""
    return {message: us for message, (us, of) in INTERVALS_US.items() if not set(of).isdisjoint(keys)}


def target_of(message: Message, fields: Fields) -> Target | None:
    """The aircraft that an ADSB_VEHICLE reports; None if the report is stale. A simulated one has a source that says
    so."""
    if fields["tslc"] > STALE_TARGET_S:
        return None
    flags = fields["flags"]

    def valid(flag: int, name: str, factor: float) -> float | None:
        value = message.known(fields, name) if flags & flag else None
        return None if value is None else value * factor

    lat, lon = valid(_PLACED, "lat", 1e-7), valid(_PLACED, "lon", 1e-7)
    placed = lat is not None and lon is not None and is_possible(lat, lon)
    climb = valid(_CLIMB | _SPEED, "ver_velocity", 0.6 * FEET_PER_METRE)
    callsign = "".join(filter(str.isalnum, fields["callsign"].encode("ascii", "ignore").decode()))
    return Target(
        fields["ICAO_address"] & 0xFFFFFF,
        callsign=callsign or None if flags & _NAMED else None,
        lat=lat if placed else None,
        lon=lon if placed else None,
        altitude_ft=None if fields["altitude_type"] else valid(_LEVEL, "altitude", 1e-3 * FEET_PER_METRE),
        ground_speed_kt=valid(_SPEED, "hor_velocity", 0.01 * KNOTS_PER_MPS),
        track_deg=valid(_COURSE, "heading", 0.01),
        vertical_speed_fpm=climb if climb or flags & _CLIMB else None,  # older senders do not say that it is valid
        squawk=f"{fields['squawk']:04d}" if flags & _SQUAWKING else None,
        emitter=fields["emitter_type"],
        source=SIMULATED[0] if flags & _SIMULATED else "",
    )


class Vehicle:
    """What is known of the vehicle, since it was found or has restarted."""

    def __init__(self, system: int, now: float) -> None:
        self.system = system
        self.found_at = now
        #: When the last heartbeat came; None before the first.
        self.heartbeat_at: float | None = None
        self.autopilot = self.kind = 0
        self.armed = False
        self.mode = ""
        self.status = 0
        #: The version of MAVLink that it speaks.
        self.version = 2
        #: The altitude above mean sea level in millimetres, and when it came.
        self.altitude_mm: tuple[int, float] | None = None
        #: The last SERVO_OUTPUT_RAW, by field.
        self.servos: Fields | None = None
        self.fix: int | None = None
        #: Whether DISTANCE_SENSOR, which knows its limits, says what RANGEFINDER says too.
        self.measures_height = False
        self.sensors: tuple[int, int] | None = None  # present and enabled; healthy
        self.boot_ms = 0
        self.boot_at = self.timed_at = now
        #: How far our clock is ahead of the vehicle's, as the quickest messages show, and when that was; and whether
        #: the last ones came late.
        self.ahead_ms: float | None = None
        self.ahead_at = now
        self.late = False
        self.frozen = False  # its clock stands still
        #: The keys that its reports make doubtful, with the reasons, by message.
        self.doubts: dict[int, dict[str, str]] = {}

    @property
    def is_arduplane(self) -> bool:
        return modes.is_arduplane(self.autopilot, self.kind)

    @property
    def state(self) -> str:
        """MAVSTATE: INIT, ERROR, ARMED or DISARMED."""
        if self.status in _DISTRESS:
            return "ERROR"
        if self.armed:
            return "ARMED"
        if self.heartbeat_at is None or self.status in _BOOTING:
            return "INIT"
        if self.sensors is not None and self.sensors[0] & _PREARM and not self.sensors[1] & _PREARM:
            return "ERROR"
        return "DISARMED"

    def doubt(self, key: str) -> str:
        """Why the value of `key` is bad; empty if it is not."""
        return next((why for doubts in self.doubts.values() if (why := doubts.get(key))), "")


class Decoder:
    """Decodes the stream of one link.

    `keys` are those to write. `pascal_offset` is added to the static pressure; IAS is 0 below `min_airspeed` knots.
    `system` is the vehicle's, if there may be several on the link. `clock` returns monotonic seconds.
    """

    REFUSALS: ClassVar[Sequence[str]] = Framer.REFUSALS
    #: Frames have a check of 16 bits that depends on the kind of message.
    SELF_EVIDENT = True

    def __init__(
        self,
        clock: Callable[[], float],
        counts: dict[str, int] | None = None,
        *,
        keys: Collection[str] = KEYS,
        pascal_offset: float = 0.0,
        min_airspeed: float = 10.0,
        system: int | None = None,
    ) -> None:
        self._framer = Framer(counts)
        self.counts = self._framer.counts
        for name in ("lost", "absurd values", "late or repeated", "other vehicles", "restarts"):
            self.counts.setdefault(name, 0)
        #: The vehicle that is followed; None before it is found, and when it is lost.
        self.vehicle: Vehicle | None = None
        #: Acknowledgements for us: the commands and the results.
        self.acknowledged: deque[tuple[int, int]] = deque(maxlen=16)
        #: When the vehicle last sent each message, by identifier.
        self.arrived: dict[int, float] = {}
        #: Other aircraft whose reports have not been collected yet, and how many seconds ago the receiver heard them.
        self.traffic: deque[tuple[Target, float]] = deque(maxlen=MAX_TARGETS)
        self._clock = clock
        self._keys = frozenset((*keys, *ALWAYS))
        self._pascal_offset = pascal_offset
        self._min_airspeed = min_airspeed
        self._system = system
        self._wants_heartbeat = False
        self._not_vehicles: set[int] = set()
        self._other_at = float("-inf")
        self._other = 0
        self._sequences: dict[tuple[int, int], int] = {}
        self._last_ms: defaultdict[int, int] = defaultdict(int)
        self._said: set[str] = set()
        self._better_at: dict[int, float] = {}  # when the better of two messages came
        self._steady_at = 0.0  # when the estimated position will have come for long enough, unless a gap is too long
        self._text: dict[tuple[int, int], str] = {}  # a message so far, by identifier and number of its last part
        self._restarted: deque[float] = deque(maxlen=RESTARTS)
        self._confused_until = float("-inf")
        self._handlers: dict[int, Callable[[Frame, Message, Fields], Iterable[Update]]] = {
            _SYS_STATUS: self._sys_status,
            24: self._gps_raw,
            26: self._scaled_imu,
            29: self._scaled_pressure,
            30: self._attitude,
            33: self._global_position,
            36: self._servo_output,
            62: self._nav_controller,
            74: self._vfr_hud,
            132: self._distance_sensor,
            147: self._battery_status,
            173: self._rangefinder,
            193: self._ekf_status,
            225: self._efi_status,
            226: self._rpm,
            11020: self._aoa,
            _STATUSTEXT: self._statustext,
        }
        for message, (_, of) in INTERVALS_US.items():
            if message not in _STATE and self._keys.isdisjoint(of):
                del self._handlers[message]

    @property
    def refused(self) -> str:
        return self._framer.refused

    @property
    def checked(self) -> int:
        """The number of frames whose check was right."""
        return self._framer.checked

    @property
    def trouble(self) -> str:
        vehicle = self.vehicle
        if self._clock() < self._confused_until:
            return CONFUSED
        if vehicle is None:
            return LOST
        if self._clock() - self._other_at < HEARTBEAT_LIMIT_S:
            return f"another autopilot on the link, system {self._other}, is ignored: option `system` chooses"
        if vehicle.frozen:
            return FROZEN
        if vehicle.late:
            return LATE
        if vehicle.status in _DISTRESS:
            return f"the autopilot reports: {_DISTRESS[vehicle.status]}"
        return next((why for doubts in list(vehicle.doubts.values()) for why in list(doubts.values())), "")

    def interrupt(self) -> None:
        """Forget an unfinished frame: bytes were lost."""
        self._framer.interrupt()

    def feed(self, data: bytes) -> list[Update]:
        """Decode the frames that `data` completes."""
        updates: list[Update] = []
        now = self._clock()
        for frame in self._framer.feed(data):
            self._follow_sequence(frame)
            self.counts[self._take(frame, now, updates)] += 1
        return updates

    def tick(self) -> list[Update]:
        """Fail everything if the vehicle has fallen silent, or repeats itself. Call it a few times a second."""
        vehicle, now = self.vehicle, self._clock()
        if vehicle is None:
            return []
        if now - (vehicle.found_at if vehicle.heartbeat_at is None else vehicle.heartbeat_at) > HEARTBEAT_LIMIT_S:
            self.vehicle = None
            self._wants_heartbeat = True
            return self._fail_all(LOST)
        stands = now - vehicle.boot_at > FROZEN_S and now - vehicle.timed_at < FROZEN_S / 2
        if stands and not vehicle.frozen:
            vehicle.frozen = True
            return self._fail_all(FROZEN)
        return []

    # -- which frames count --------------------------------------------------------------------------------------------

    def _follow_sequence(self, frame: Frame) -> None:
        sender = frame.system, frame.component
        last = self._sequences.get(sender)
        if last is None and len(self._sequences) >= MAX_SENDERS:
            return
        missing = 0 if last is None else (frame.seq - last - 1) % 256
        if missing < OVERTAKEN_SEQ:
            self.counts["lost"] += missing
            self._sequences[sender] = frame.seq

    def _take(self, frame: Frame, now: float, updates: list[Update]) -> Outcome:
        """Decode a frame into `updates`. Returns whether it was used."""
        message = frame.message
        if message is None or now < self._confused_until:
            return "ignored"
        if message.id == _ADSB:
            fields = message.decode(frame.payload)
            target = target_of(message, fields)
            if target is not None:
                self.traffic.append((target, float(fields["tslc"])))
            return "ignored" if target is None else "used"
        if message.id == _HEARTBEAT:
            return self._heartbeat(frame, message.decode(frame.payload), now, updates)
        if not self._is_vehicles(frame, now):
            return "ignored"
        assert self.vehicle is not None
        handler = self._handlers.get(message.id)
        if handler is None and message.id != _COMMAND_ACK:
            return "ignored"
        fields = message.decode(frame.payload)
        if message.id == _COMMAND_ACK:
            if fields["target_system"] not in (0, GROUND_SYSTEM):
                return "ignored"
            self.acknowledged.append((fields["command"], fields["result"]))
            return "used"
        if not self._is_news(self.vehicle, message.id, fields.get("time_boot_ms", 0), now, updates):
            return "ignored"
        assert handler is not None
        for update in handler(frame, message, fields):
            if update.key in self._keys:
                self._said.add(update.key)
                updates.append(update)
        self.arrived[message.id] = now
        return "used"

    def _is_vehicles(self, frame: Frame, now: float) -> bool:
        """Whether the frame is the vehicle's. The first autopilot that sends becomes the vehicle."""
        if self._wants_heartbeat or frame.component != 1:
            return False
        if self.vehicle is None and frame.system not in self._not_vehicles and self._system in (None, frame.system):
            self._found(frame.system, now)
        return self.vehicle is not None and frame.system == self.vehicle.system

    def _found(self, system: int, now: float) -> Vehicle:
        self.vehicle = Vehicle(system, now)
        self.arrived.clear()
        self.acknowledged.clear()
        self._last_ms.clear()
        return self.vehicle

    def _is_news(self, vehicle: Vehicle, message: int, boot_ms: int, now: float, updates: list[Update]) -> bool:
        """Whether a message is newer than the last of its kind, by the vehicle's clock. 0 means that it has none."""
        if boot_ms:
            vehicle.timed_at = now
            ahead_ms = now * 1000.0 - boot_ms
            least_ms = ahead_ms if vehicle.ahead_ms is None else vehicle.ahead_ms
            if boot_ms < vehicle.boot_ms - REBOOT_MS or ahead_ms < least_ms - JUMP_MS:
                self._restart(vehicle.system, now, updates)
                return False
            least_ms = min(ahead_ms, least_ms + (now - vehicle.ahead_at) * DRIFT_MS_PER_S)
            vehicle.ahead_ms, vehicle.ahead_at, vehicle.late = least_ms, now, ahead_ms > least_ms + LATE_MS
            if boot_ms <= self._last_ms[message]:
                self.counts["late or repeated"] += 1
                return False
            self._last_ms[message] = boot_ms
            if boot_ms > vehicle.boot_ms:
                vehicle.boot_ms, vehicle.boot_at = boot_ms, now
                vehicle.frozen = False
        if vehicle.late:
            self.counts["late or repeated"] += 1
        return not vehicle.frozen and not vehicle.late

    def _restart(self, system: int, now: float, updates: list[Update]) -> None:
        self.counts["restarts"] += 1
        updates += self._fail_all(RESTARTED)
        self._found(system, now)
        self._wants_heartbeat = True
        self._restarted.append(now)
        if len(self._restarted) == RESTARTS and now - self._restarted[0] < CONFUSED_S:
            self.vehicle, self._confused_until = None, now + CONFUSED_S

    def _fail_all(self, reason: str) -> list[Update]:
        return [Update(key, None, FAIL, reason) for key in sorted(self._said)]

    # -- the vehicle's state -------------------------------------------------------------------------------------------

    def _heartbeat(self, frame: Frame, fields: Fields, now: float, updates: list[Update]) -> Outcome:
        kind, autopilot = fields["type"], fields["autopilot"]
        if frame.component != 1 or autopilot == modes.NO_AUTOPILOT or kind in modes.NOT_VEHICLES:
            if frame.component == 1 and len(self._not_vehicles) < MAX_SENDERS:
                self._not_vehicles.add(frame.system)
            return "ignored"
        if self._system not in (None, frame.system):
            return "ignored"
        vehicle = self.vehicle
        if vehicle is not None and vehicle.system != frame.system:
            if vehicle.heartbeat_at is not None:
                self._other, self._other_at = frame.system, now
                self.counts["other vehicles"] += 1
                return "ignored"
            updates += self._fail_all(LOST)  # they came from something that sends no heartbeats
            vehicle = None
        if vehicle is None:
            vehicle = self._found(frame.system, now)
        self._wants_heartbeat = False
        vehicle.heartbeat_at = now
        if vehicle.late:
            return "used"  # what it says may no longer be true
        vehicle.version = frame.version
        vehicle.kind, vehicle.autopilot, vehicle.status = kind, autopilot, fields["system_status"]
        vehicle.armed = bool(fields["base_mode"] & _ARMED)
        vehicle.mode = modes.mode_name(autopilot, kind, fields["custom_mode"])
        if not vehicle.frozen:
            self._said.update(("MAVSTATE", "MAVMODE"))
            updates += Update("MAVSTATE", vehicle.state), Update("MAVMODE", vehicle.mode)
        return "used"

    def _sys_status(self, frame: Frame, message: Message, fields: Fields) -> Iterator[Update]:
        present, enabled, healthy = (
            fields[f"onboard_control_sensors_{what}"] for what in ("present", "enabled", "health")
        )
        vehicle = self._vehicle
        vehicle.sensors = present & enabled, healthy
        doubts = vehicle.doubts[_SYS_STATUS] = {}
        for bit, what, keys in _SENSORS:
            if present & enabled & bit and not healthy & bit:
                doubts |= dict.fromkeys(keys, f"the autopilot's {what}: not healthy")
        if present and not present & _PITOT:
            doubts["IAS"] = "the autopilot has no airspeed sensor: the airspeed is an estimate"
        if not self._has_better(147):
            yield self._measured("VOLT", message.known(fields, "voltage_battery"), 1e-3)
            yield self._measured("CURRNT", message.known(fields, "current_battery"), 1e-2)

    def _ekf_status(self, frame: Frame, message: Message, fields: Fields) -> Iterator[Update]:
        flags = fields["flags"]
        doubts = self._vehicle.doubts[message.id] = {}
        for name, what, keys in _VARIANCES:
            variance = fields[name]
            if not variance <= 1.0:
                doubts |= dict.fromkeys(keys, f"the autopilot's {what}: measurements contradict each other")
        for bit, what, keys in _ESTIMATES:
            if not flags & bit:
                doubts |= dict.fromkeys(keys, f"the autopilot does not trust its {what}")
        if flags & _CONSTANT_POSITION:
            doubts |= dict.fromkeys(_POSITION_KEYS, "the autopilot assumes that it stands still")
        if flags & _UNINITIALISED:
            doubts |= dict.fromkeys(_ESTIMATED, "the autopilot's estimator has not started")
        return iter(())

    def _statustext(self, frame: Frame, message: Message, fields: Fields) -> Iterator[Update]:
        identifier, part, text = fields["id"], fields["chunk_seq"], fields["text"]
        if identifier:
            begun = self._text.get((identifier, part - 1)) if part else ""
            if begun is None:
                return  # a part is missing
            text = begun + text
            self._text = {(identifier, part): text[:MAX_TEXT]}
        text = "".join(character if character.isprintable() else " " for character in text[:MAX_TEXT]).strip()
        if text:
            yield Update("MAVMSG", text)

    def _servo_output(self, frame: Frame, message: Message, fields: Fields) -> Iterator[Update]:
        if fields["port"] == 0:
            self._vehicle.servos = fields
        return iter(())

    # -- flight --------------------------------------------------------------------------------------------------------

    def _attitude(self, frame: Frame, message: Message, fields: Fields) -> Iterator[Update]:
        for key, name in (("ROLL", "roll"), ("PITCH", "pitch"), ("YAW", "yaw")):
            yield self._measured(key, message.known(fields, name), math.degrees(1.0))
        roll, pitch, q, r = (fields[name] for name in ("roll", "pitch", "pitchspeed", "yawspeed"))
        if all(map(math.isfinite, (roll, pitch, q, r))):
            turn = (q * math.sin(roll) + r * math.cos(roll)) / max(0.1, math.cos(pitch))
            yield self._measured("ROT", turn, math.degrees(1.0))
        else:
            yield self._measured("ROT", None)

    def _vfr_hud(self, frame: Frame, message: Message, fields: Fields) -> Iterator[Update]:
        speed = message.known(fields, "airspeed")
        slow = speed is not None and 0.0 <= speed * KNOTS_PER_MPS < self._min_airspeed
        yield self._measured("IAS", 0.0 if slow else speed, KNOTS_PER_MPS)
        speed = message.known(fields, "groundspeed")
        if self._vehicle.fix is not None and self._vehicle.fix < 2:
            yield Update("GS", None, FAIL, NO_FIX)
        else:
            slow = speed is not None and 0.0 <= speed * KNOTS_PER_MPS < SLOW_KT
            yield self._measured("GS", 0.0 if slow else speed, KNOTS_PER_MPS)
        yield self._measured("VS", message.known(fields, "climb"), 60.0 * FEET_PER_METRE)

    def _global_position(self, frame: Frame, message: Message, fields: Fields) -> Iterator[Update]:
        keys: tuple[str, ...] = ()
        now = self._clock()
        # The receiver gives the position while this does not come steadily: it must not jump to and fro.
        comes = self._comes(33)
        if not comes:
            self._steady_at = now + (STEADY_S if 33 in self._better_at else 0.0)
        if self._has_better(33) or not self._comes(24) or (comes and now >= self._steady_at):
            self._better_at[33] = now
            keys = ("LAT", "LONG", "TRACK")
        vehicle, lat, lon = self._vehicle, fields["lat"], fields["lon"]
        if not lat and not lon:
            started = fields["hdg"] or fields["alt"]
            for key in (*keys, "TALT", *(() if started else ("HEAD",))):
                yield Update(key, None, FAIL, NO_POSITION)
            if started:
                yield self._measured("HEAD", message.known(fields, "hdg"), 0.01)
            return
        yield self._measured("HEAD", message.known(fields, "hdg"), 0.01)
        if vehicle.fix is not None and vehicle.fix < 2:
            yield from (Update(key, None, FAIL, NO_FIX) for key in keys)
        elif keys:
            yield self._measured("LAT", lat / 1e7)
            yield self._measured("LONG", lon / 1e7)
            yield self._track(math.hypot(fields["vx"], fields["vy"]) / 100.0, fields["vx"], fields["vy"])
        vehicle.altitude_mm = fields["alt"], now
        yield self._measured("TALT", fields["alt"], 1e-3 * FEET_PER_METRE)

    def _gps_raw(self, frame: Frame, message: Message, fields: Fields) -> Iterator[Update]:
        fix = self._vehicle.fix = fields["fix_type"]
        yield Update("GPS_FIX_TYPE", _FIX_TYPES[fix] if fix < len(_FIX_TYPES) else 3)
        satellites = message.known(fields, "satellites_visible")
        yield self._measured("GPS_SATS_TRACKED", satellites)
        yield self._measured("GPS_SATS_VISIBLE", satellites)
        if fix < 2:
            yield from (Update(key, None, FAIL, NO_FIX) for key in _FIX_KEYS)
            return
        if not self._has_better(33):
            if fields["lat"] or fields["lon"]:
                yield self._measured("LAT", fields["lat"] / 1e7)
                yield self._measured("LONG", fields["lon"] / 1e7)
            else:
                yield from (Update(key, None, FAIL, NO_POSITION) for key in ("LAT", "LONG"))
            course, speed = message.known(fields, "cog"), message.known(fields, "vel")
            if course is None:
                yield self._measured("TRACK", None)
            else:
                radians = math.radians(course / 100.0)
                yield self._track(1.0 if speed is None else speed / 100.0, math.cos(radians), math.sin(radians))
        if frame.version == 1:
            return  # it has no more fields
        if fix == 2:
            yield Update("GPS_ELLIPSOID_ALT", None, FAIL, NO_2D_HEIGHT)
        else:
            yield self._measured("GPS_ELLIPSOID_ALT", message.known(fields, "alt_ellipsoid"), 1e-3 * FEET_PER_METRE)
        yield self._measured("GPS_ACCURACY_HORIZ", message.known(fields, "h_acc"), 1e-3 * FEET_PER_METRE)
        yield self._measured("GPS_ACCURACY_VERTICAL", message.known(fields, "v_acc"), 1e-3 * FEET_PER_METRE)
        yield self._measured("GPS_ACCURACY_SPEED", message.known(fields, "vel_acc"), 1e-3 * KNOTS_PER_MPS)

    def _scaled_imu(self, frame: Frame, message: Message, fields: Fields) -> Iterator[Update]:
        yield self._measured("ALONG", fields["xacc"], 1e-3)
        yield self._measured("ALAT", fields["yacc"], 1e-3)
        yield self._measured("ANORM", fields["zacc"], -1e-3)  # the sensor's axis points down

    def _scaled_pressure(self, frame: Frame, message: Message, fields: Fields) -> Iterator[Update]:
        static = message.known(fields, "press_abs")
        pascals = None if static is None else static * 100.0 + self._pascal_offset
        update = self._measured("AIRPRESS", pascals)
        yield update
        if update.value is None or pascals is None:
            yield update._replace(key="PALT")
        else:
            yield self._measured("PALT", pressure_altitude(pascals))
        yield self._measured("DIFFAIRPRESS", message.known(fields, "press_diff"), 100.0)

    # -- what only some autopilots have --------------------------------------------------------------------------------

    def _aoa(self, frame: Frame, message: Message, fields: Fields) -> Iterator[Update]:
        yield self._measured("AOA", message.known(fields, "AOA"))

    def _battery_status(self, frame: Frame, message: Message, fields: Fields) -> Iterator[Update]:
        if fields["id"]:
            return
        self._better_at[147] = self._clock()
        cells = [mv for mv in fields["voltages"] if mv != 65535] + fields["voltages_ext"]
        yield self._measured("VOLT", sum(cells) or None, 1e-3)
        yield self._measured("CURRNT", message.known(fields, "current_battery"), 1e-2)

    def _nav_controller(self, frame: Frame, message: Message, fields: Fields) -> Iterator[Update]:
        yield self._measured("XTRACK", message.known(fields, "xtrack_error"), 1.0 / 1852.0)

    def _rangefinder(self, frame: Frame, message: Message, fields: Fields) -> Iterator[Update]:
        if not self._vehicle.measures_height:
            yield self._measured("AGL", message.known(fields, "distance"), FEET_PER_METRE)

    def _distance_sensor(self, frame: Frame, message: Message, fields: Fields) -> Iterator[Update]:
        if fields["orientation"] != _DOWNWARD:
            return
        self._vehicle.measures_height = True
        centimetres = fields["current_distance"]
        if not fields["min_distance"] <= centimetres <= fields["max_distance"] or fields["signal_quality"] == 1:
            yield Update("AGL", None, FAIL, "beyond the range of the sensor")
        else:
            yield self._measured("AGL", centimetres, 0.01 * FEET_PER_METRE)

    def _efi_status(self, frame: Frame, message: Message, fields: Fields) -> Iterator[Update]:
        self._better_at[225] = self._clock()
        if not fields["health"]:
            yield from (Update(key, None, FAIL, "the engine's computer is not healthy") for key in GROUPS["engine"])
            return
        for key, name, factor in (
            ("TACH1", "rpm", 1.0),
            ("MAP1", "intake_manifold_pressure", INHG_PER_KPA),
            ("CHT11", "cylinder_head_temperature", 1.0),
            ("EGT11", "exhaust_gas_temperature", 1.0),
            ("FUELF1", "fuel_flow", 0.06 / LITRES_PER_GALLON),
        ):
            yield self._measured(key, message.known(fields, name), factor)

    def _rpm(self, frame: Frame, message: Message, fields: Fields) -> Iterator[Update]:
        if not self._has_better(225):
            rpm = message.known(fields, "rpm1")
            yield self._measured("TACH1", None if rpm is None or rpm < 0.0 else rpm)

    # -- values --------------------------------------------------------------------------------------------------------

    @property
    def _vehicle(self) -> Vehicle:
        assert self.vehicle is not None
        return self.vehicle

    def _has_better(self, message: int) -> bool:
        return self._clock() - self._better_at.get(message, -math.inf) < BETTER_LIMIT_S

    def _comes(self, message: int) -> bool:
        """Whether the vehicle sent this message before the present one, and lately."""
        return self._clock() - self.arrived.get(message, -math.inf) < BETTER_LIMIT_S

    def _measured(self, key: str, value: float | None, factor: float = 1.0) -> Update:
        """The update for a number; None if the autopilot does not know it."""
        if value is None:
            return Update(key, None, FAIL, UNKNOWN)
        found = value * factor
        low, high = _POSSIBLE.get(key, (-math.inf, math.inf))
        if not low <= found <= high or not math.isfinite(found):
            self.counts["absurd values"] += 1
            return Update(key, None, FAIL, IMPOSSIBLE)
        why = self._vehicle.doubt(key)
        return Update(key, found, BAD if why else 0, why)

    def _track(self, speed_mps: float, north: float, east: float) -> Update:
        if speed_mps < STANDING_STILL_MPS:
            return Update("TRACK", None, FAIL, SLOW)
        return self._measured("TRACK", math.degrees(math.atan2(east, north)) % 360.0)
