"""What the gateway sends to an autopilot, without I/O: requests for messages, modes, trims and waypoints.

`Encoder` is the only code of the driver that makes frames to send. It makes those on its list, each only if the option
`write` permits it, and refuses everything else. There is no frame on the list that arms or disarms, stops the flight,
restarts the autopilot, or sets a parameter, home or a mission. The rudder stays below 80 %, so that no stick gesture
arms either.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Literal, NamedTuple

from fixgw.drivers.mavlink import frames, modes
from fixgw.drivers.mavlink.messages import BY_NAME, MESSAGES
from fixgw.drivers.mavlink.protocol import GROUND_COMPONENT, GROUND_SYSTEM, Vehicle
from fixgw.kit.outward import Outward
from fixgw.kit.sources import START
from fixgw.kit.update import Update

Writing = Literal["trims", "modes", "waypoint"]

SET_MESSAGE_INTERVAL, DO_SET_MODE, DO_REPOSITION = 511, 176, 192
CUSTOM_MODE = 1  # MAV_MODE_FLAG_CUSTOM_MODE_ENABLED: the only bit of base_mode that we ever send
ALTITUDE_ABOVE_SEA = 0  # MAV_FRAME_GLOBAL
LEAVE_ALONE = 32767  # says of an axis of MANUAL_CONTROL that it is not controlled
MAX_AXIS = 1000
#: ArduPlane arms and disarms when the rudder is held beyond 89 % of its travel.
MAX_RUDDER = 800

HEARTBEAT_PERIOD_S = 1.0
CONTROL_PERIOD_S = 0.2  # the autopilot drops a control after 3 s
FRESH_S = 2.5  # commands need a heartbeat that is not older
ASK_PATIENCE_S = 0.5
ASK_AGAIN_S = 5.0
REFUSED_AGAIN_S = 30.0  # after the autopilot has refused
MISSING_S = 3.0  # a message that has not come for this long is missing
TRIES = 3
COMMAND_PATIENCE_S = 1.5
WAYPOINT_PERIOD_S = 1.0
WISH_LIMIT_S = 2.0  # a wish that is older, because this process was held up, is refused

ACCEPTED, TEMPORARILY_REJECTED, UNSUPPORTED, IN_PROGRESS = 0, 1, 3, 5
RESULTS = {1: "not now", 2: "denied", 3: "not supported", 4: "failed", 6: "cancelled"}

#: The streams of old firmware, with the messages that they contain.
STREAMS: dict[int, frozenset[int]] = {
    1: frozenset((26, 29)),
    2: frozenset((1, 24, 62)),
    3: frozenset((36,)),
    6: frozenset((33,)),
    10: frozenset((30,)),
    11: frozenset((74,)),
    12: frozenset((132, 147, 173, 193, 225, 226, 11020)),
}

GROUND_STATION = {
    "type": modes.GROUND_STATION,
    "autopilot": modes.NO_AUTOPILOT,
    "system_status": 4,
    "mavlink_version": 3,
}


class NotAllowed(ValueError):
    """A frame that must not leave the gateway."""


class Command(NamedTuple):
    """A message to send: its name and its fields, which are 0 if not given."""

    name: str
    fields: Mapping[str, float]


class Encoder:
    """Makes the frames that may be sent. `write` names what is allowed beyond requests for messages."""

    def __init__(self, write: Collection[Writing] = ()) -> None:
        self._write = frozenset(write)
        self._seq = 0

    def frame(self, command: Command, version: int = 2) -> bytes:
        """The next frame. Raises `NotAllowed`, or ValueError if a field cannot be encoded."""
        if why := self._forbids(command.name, {name: value for name, value in command.fields.items() if value != 0}):
            raise NotAllowed(f"{command.name}: {why}")
        message = BY_NAME[command.name]
        payload = message.encode(command.fields)
        seq, self._seq = self._seq, (self._seq + 1) % 256
        return frames.build(message, payload, GROUND_SYSTEM, GROUND_COMPONENT, seq, version)

    def _forbids(self, name: str, fields: dict[str, float]) -> str:
        """Why the message must not be sent; empty if it may. `fields` are those that are not 0."""
        fields.pop("target_system", None)
        if name == "MANUAL_CONTROL":
            return self._forbids_control(fields)
        if name == "HEARTBEAT":
            return "" if fields == GROUND_STATION else "only that of a ground station"
        if name == "REQUEST_DATA_STREAM":
            return "" if fields.pop("req_stream_id", 0) in STREAMS else "only the streams that we read"
        target, number = fields.pop("target_component", 0), fields.pop("command", 0)
        if target not in (0, 1):
            return "only to the autopilot"
        if name == "COMMAND_LONG" and number == SET_MESSAGE_INTERVAL:
            known = fields.pop("param1", 0) in MESSAGES and 0 <= fields.pop("param2", 0) <= 60e6
            return "" if known and not fields else "only for messages that we read"
        if name == "COMMAND_LONG" and number == DO_SET_MODE and "modes" in self._write:
            mode = fields.pop("param1", 0), fields.pop("param2", 0)
            known = mode[0] == CUSTOM_MODE and mode[1] in modes.REQUESTABLE.values()
            return "" if known and not fields else "only to the five modes"
        if name == "COMMAND_INT" and number == DO_REPOSITION and "waypoint" in self._write:
            change = fields.pop("param2", 0)
            known = fields.keys() <= {"x", "y", "z"} and math.isfinite(fields.get("z", 0))
            return "" if known and (not change or (change == 1 and "modes" in self._write)) else "only to a place"
        return "not on the list"

    def _forbids_control(self, fields: dict[str, float]) -> str:
        if "trims" not in self._write:
            return "not on the list"
        fields.pop("target", None)
        if fields.pop("z", 0) not in (0, LEAVE_ALONE):
            return "no throttle"
        for axis, most in (("x", MAX_AXIS), ("y", MAX_AXIS), ("r", MAX_RUDDER)):
            value = fields.pop(axis, 0)
            if not (-most <= value <= most or value == LEAVE_ALONE):
                return f"{axis} is beyond {most}"
        return "no buttons and no more axes" if fields else ""


class Requests:
    """Asks the vehicle for messages: each once, and again while it does not come.

    `wanted` has the interval of each message in microseconds. An autopilot that does not know the command is asked for
    streams.
    """

    def __init__(self, wanted: Mapping[int, int], clock: Callable[[], float]) -> None:
        self._wanted = wanted
        self._clock = clock
        self._vehicle: Vehicle | None = None
        self._begin()

    def _begin(self) -> None:
        self._again_at = dict.fromkeys(self._wanted, float("-inf"))
        self._tries = dict.fromkeys(self._wanted, 0)
        self._waiting: tuple[int, float] | None = None  # the message asked for last, and until when
        self._streams_at = float("-inf")
        self._supported = self.unsupported = False

    def acknowledge(self, result: int) -> None:
        """The vehicle has answered the last request."""
        if self._waiting is None or result == IN_PROGRESS:
            return
        message, _ = self._waiting
        self._waiting = None
        self._supported |= result == ACCEPTED
        if result == UNSUPPORTED and not self._supported:  # it may only be this message that it does not know
            self.unsupported = True
        if result != ACCEPTED:
            self._again_at[message] = self._clock() + REFUSED_AGAIN_S

    def missing(self, arrived: Mapping[int, float]) -> list[int]:
        """The messages that do not come, although we have asked for them."""
        now = self._clock()
        return [m for m in self._wanted if self._tries[m] and now - arrived.get(m, float("-inf")) > MISSING_S]

    def due(self, vehicle: Vehicle, arrived: Mapping[int, float]) -> Iterator[Command]:
        """What to send now."""
        now = self._clock()
        if vehicle is not self._vehicle:
            self._vehicle = vehicle
            self._begin()
        if self._waiting is not None:
            if now < self._waiting[1]:
                return
            self._waiting = None
        missing = self.missing(arrived)
        if (self.unsupported or any(self._tries[m] >= TRIES for m in missing)) and now >= self._streams_at:
            self._streams_at = now + ASK_AGAIN_S
            yield from self._ask_for_streams(vehicle, set(self._wanted) if self.unsupported else set(missing))
        for message, again_at in self._again_at.items():
            if now >= again_at and (message in missing or not self._tries[message]) and not self.unsupported:
                self._tries[message] += 1
                self._again_at[message] = now + ASK_AGAIN_S
                self._waiting = message, now + ASK_PATIENCE_S
                interval = {"param1": message, "param2": self._wanted[message]}
                yield Command("COMMAND_LONG", {**_to(vehicle), "command": SET_MESSAGE_INTERVAL, **interval})
                return

    def _ask_for_streams(self, vehicle: Vehicle, messages: set[int]) -> Iterator[Command]:
        for stream, contained in STREAMS.items():
            if of_it := contained & messages:
                rate = max(1, round(1e6 / min(self._wanted[m] for m in of_it)))
                ask = {"req_stream_id": stream, "req_message_rate": rate, "start_stop": 1}
                yield Command("REQUEST_DATA_STREAM", {**_to(vehicle), **ask})


def _to(vehicle: Vehicle) -> dict[str, float]:
    return {"target_system": vehicle.system, "target_component": 1}


class _Sent(NamedTuple):
    """A command that waits for its acknowledgement. `what` names it for the pilot; `mode` is the vehicle's before."""

    command: Command
    what: str
    mode: str
    until: float
    tries: int


class Pilot:
    """Passes the pilot's wishes on: modes, trims and the waypoint, as far as `write` permits.

    `read` has what may leave the gateway, `clock` returns monotonic seconds. `wishes` are the modes asked for, each
    with its time, which any thread may add to. A wish is acted on at once or refused with a message (MAVMSG); it is
    never kept for later.
    """

    def __init__(
        self, write: Collection[Writing], read: Outward, clock: Callable[[], float], wishes: deque[tuple[str, float]]
    ) -> None:
        self._write = frozenset(write)
        self._read = read
        self._clock = clock
        self._wishes = wishes
        self._sent: _Sent | None = None
        self._control_at = float("-inf")
        self._waypoint_at = float("-inf")
        self._waypoint: tuple[int, int] | None = None  # the last that was sent in GUIDED mode
        self._servos: object = None
        self._said: dict[str, Update] = {}
        self.commands: list[Command] = []
        self.updates: list[Update] = []

    def act(self, vehicle: Vehicle | None, acknowledged: deque[tuple[int, int]], leads: bool) -> None:
        """Fill `commands` with what to send now, and `updates` with what to write.

        Without the lead nothing is sent, and wishes are for another gateway.
        """
        self.commands, self.updates = [], []
        now = self._clock()
        place = self._place()
        if "waypoint" in self._write:
            self._say(Update("MAVWPVALID", place is not None))
        if not leads:
            while self._wishes:
                self._forget(self._wishes.popleft()[0])
            self._sent = self._waypoint = None
            self._say_adjusting(False)
            return
        fresh = vehicle is not None and vehicle.heartbeat_at is not None and now - vehicle.heartbeat_at < FRESH_S
        steerable = vehicle if fresh and vehicle is not None and vehicle.is_arduplane and not vehicle.late else None
        self._await_answer(acknowledged, steerable, now)
        while self._wishes:
            mode, at = self._wishes.popleft()
            self._forget(mode)
            self._wish(mode, now - at, steerable, place, now)
        if "waypoint" in self._write:
            self._guide(steerable, place, now)
        if "trims" in self._write:
            self._trim(steerable, now)

    # -- modes ---------------------------------------------------------------------------------------------------------

    def _forget(self, mode: str) -> None:
        """Let go of the button, so that the next press is one."""
        self.updates.append(Update(f"MAVREQ{mode}", False))

    def _wish(self, mode: str, age: float, vehicle: Vehicle | None, place: tuple[int, int] | None, now: float) -> None:
        if vehicle is None:
            self._tell(f"{mode}: no ArduPlane answers")
        elif age > WISH_LIMIT_S:
            self._tell(f"{mode}: asked for too long ago")
        elif mode != "TRIM" and not vehicle.armed:
            self._tell(f"{mode}: not armed")
        elif mode == "GUIDED" and place is None:
            self._tell("GUIDED: no waypoint")
        else:  # even if it is in this mode: another one may be on its way
            self._set_mode(mode, vehicle, now)

    def _set_mode(self, mode: str, vehicle: Vehicle, now: float) -> None:
        change = {"command": DO_SET_MODE, "param1": CUSTOM_MODE, "param2": modes.REQUESTABLE[mode]}
        self._send(Command("COMMAND_LONG", {**_to(vehicle), **change}), mode, vehicle, now)

    def _send(self, command: Command, what: str, vehicle: Vehicle, now: float) -> None:
        """Send a command and repeat it until it is acknowledged. It replaces an earlier one."""
        self.commands.append(command)
        self._sent = _Sent(command, what, vehicle.mode, now + COMMAND_PATIENCE_S, 1)

    def _await_answer(self, acknowledged: deque[tuple[int, int]], vehicle: Vehicle | None, now: float) -> None:
        """Repeat the command if its time is over; not once the mode has changed, for the pilot may have chosen it."""
        result = None
        while acknowledged:
            number, answer = acknowledged.popleft()
            if self._sent is not None and number == self._sent.command.fields["command"]:
                result = answer
        sent = self._sent
        if sent is None:
            return
        if result == ACCEPTED or (vehicle is not None and vehicle.mode != sent.mode):
            self._sent = None
        elif result in RESULTS and result != TEMPORARILY_REJECTED:
            self._tell(f"{sent.what}: {RESULTS[result]}")
            self._sent = None
        elif result == IN_PROGRESS:
            self._sent = sent._replace(until=now + COMMAND_PATIENCE_S)
        elif now >= sent.until:
            if sent.tries < TRIES and vehicle is not None:
                self.commands.append(sent.command)
                self._sent = sent._replace(until=now + COMMAND_PATIENCE_S, tries=sent.tries + 1)
            else:
                self._tell(f"{sent.what}: no answer")
                self._sent = None

    # -- the waypoint --------------------------------------------------------------------------------------------------

    def _place(self) -> tuple[int, int] | None:
        """The waypoint in units of 1e-7 degrees; None if it is old, not good, or zero."""
        latitude, longitude = self._read.lasting("WPLAT"), self._read.lasting("WPLON")
        if latitude is None or longitude is None or (latitude == 0.0 and longitude == 0.0):
            return None
        return round(latitude * 1e7), round(longitude * 1e7)

    def _guide(self, vehicle: Vehicle | None, place: tuple[int, int] | None, now: float) -> None:
        """In GUIDED mode send the waypoint, again when it changes. When it is lost, ask for CRUISE."""
        if vehicle is None or vehicle.mode != "GUIDED" or not vehicle.armed:
            self._waypoint = None
            return
        if self._sent is not None and self._sent.command.fields["command"] == DO_SET_MODE:
            return  # it may end this mode
        if place is None:
            if self._waypoint is not None:
                self._waypoint = None
                self._tell("GUIDED: the waypoint is lost")
                if "modes" in self._write:
                    self._set_mode("CRUISE", vehicle, now)
            return
        altitude = vehicle.altitude_mm
        if place == self._waypoint or now < self._waypoint_at or altitude is None or now - altitude[1] > FRESH_S:
            return
        self._waypoint, self._waypoint_at = place, now + WAYPOINT_PERIOD_S
        where = {"x": place[0], "y": place[1], "z": altitude[0] / 1000.0, "frame": ALTITUDE_ABOVE_SEA}
        # Without the flag that changes the mode: it would take an aircraft back that the pilot has just taken over.
        self._send(
            Command("COMMAND_INT", {**_to(vehicle), "command": DO_REPOSITION, **where}), "waypoint", vehicle, now
        )

    # -- trims ---------------------------------------------------------------------------------------------------------

    def _trim(self, vehicle: Vehicle | None, now: float) -> None:
        """Send the trims in TRIM mode and while the pilot adjusts; otherwise let them follow the servos."""
        adjusting = vehicle is not None and vehicle.armed and self._read.value("MAVREQADJ", math.inf) is True
        self._say_adjusting(adjusting)
        if vehicle is None:
            return
        if vehicle.mode != "TRIM" and not adjusting:
            self._follow_servos(vehicle)
        elif vehicle.armed and now >= self._control_at:
            self._control_at = now + CONTROL_PERIOD_S
            axes = {"x": self._axis("TRIMP"), "y": self._axis("TRIMR"), "r": self._axis("TRIMY", MAX_RUDDER)}
            if set(axes.values()) != {LEAVE_ALONE}:
                self.commands.append(Command("MANUAL_CONTROL", {"target": vehicle.system, **axes, "z": LEAVE_ALONE}))

    def _axis(self, key: str, most: int = MAX_AXIS) -> int:
        reading = self._read.reading(key, math.inf)
        if reading is None or reading.source in START:  # nobody has set it since the gateway started
            return LEAVE_ALONE
        return max(-most, min(most, round(float(reading.value) * 10.0)))

    def _follow_servos(self, vehicle: Vehicle) -> None:
        servos = vehicle.servos
        if servos is None or servos is self._servos:
            return
        self._servos = servos
        for key, servo in (("TRIMR", 1), ("TRIMP", 2), ("TRIMY", 4)):
            if microseconds := servos[f"servo{servo}_raw"]:
                self.updates.append(Update(key, max(-100.0, min(100.0, (microseconds - 1500) * 0.25))))

    # -- what the pilot sees -------------------------------------------------------------------------------------------

    def _say_adjusting(self, adjusting: bool) -> None:
        if "trims" in self._write:
            self._say(Update("MAVADJ", adjusting))

    def _say(self, update: Update) -> None:
        if self._said.get(update.key) != update:
            self._said[update.key] = update
            self.updates.append(update)

    def _tell(self, text: str) -> None:
        self.updates.append(Update("MAVMSG", text))
