"""MAVLink autopilots, ArduPilot and PX4: attitude, air data, GPS, state; if permitted, modes, trims and waypoints."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from fixgw.drivers.links.instrument import KEYS_OPTION, ChangesWithin, Instrument, Keys
from fixgw.drivers.links.serial import UDP, NetworkOptions, NetworkPort
from fixgw.drivers.mavlink import protocol
from fixgw.drivers.mavlink.anonymous import hide
from fixgw.drivers.mavlink.modes import REQUESTABLE
from fixgw.drivers.mavlink.outward import (
    GROUND_STATION,
    HEARTBEAT_PERIOD_S,
    SET_MESSAGE_INTERVAL,
    Command,
    Encoder,
    Pilot,
    Requests,
    Writing,
)
from fixgw.errors import BadValue, UnknownKey
from fixgw.kit import traffic
from fixgw.kit.anonymous import Shift, clean_stream
from fixgw.kit.outward import Outward, SendSimulated
from fixgw.kit.publish import ALTIMETER, Derived, DerivingPublisher
from fixgw.kit.sources import derived_source
from fixgw.kit.update import Update
from fixgw.net import endpoint

if TYPE_CHECKING:
    from fixgw.database import Database, Reading, Subscription
    from fixgw.kit.raw import Heard

ACT_PERIOD_S = 0.05
TRIMS = ("TRIMP", "TRIMR", "TRIMY")
#: The keys that each permission needs.
NEEDED: dict[Writing, tuple[str, ...]] = {
    "trims": TRIMS,
    "modes": tuple(f"MAVREQ{mode}" for mode in REQUESTABLE),
    "waypoint": ("WPLAT", "WPLON"),
}
#: The keys that each permission adds to those that are written.
REPORTED: dict[Writing, tuple[str, ...]] = {
    "trims": (*TRIMS, "MAVADJ"),
    "modes": NEEDED["modes"],
    "waypoint": ("MAVWPVALID",),
}


MAGNETIC = Derived("HEAD", "MAGVAR", "the variation", lambda true, variation: (true - variation) % 360.0)


class Groups(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to write, and how. A group that is not named is off."""

    airspeed: Annotated[bool, Meta(description="IAS")] = False
    groundspeed: Annotated[bool, Meta(description="GS")] = False
    gps: Annotated[bool, Meta(description="LAT, LONG, TRACK, and what the receiver says of itself")] = False
    ahrs: Annotated[bool, Meta(description="ROLL, PITCH, YAW, ROT, VS, HEAD, TALT, PALT, ALT")] = False
    accel: Annotated[bool, Meta(description="ALAT, ALONG, ANORM")] = False
    pressure: Annotated[bool, Meta(description="AIRPRESS, DIFFAIRPRESS")] = False
    aoa: Annotated[bool, Meta(description="AOA")] = False
    battery: Annotated[bool, Meta(description="VOLT and CURRNT, of the autopilot's own supply")] = False
    engine: Annotated[bool, Meta(description="TACH1, MAP1, CHT11, EGT11, FUELF1, of an injection computer")] = False
    navigation: Annotated[bool, Meta(description="XTRACK")] = False
    rangefinder: Annotated[bool, Meta(description="AGL, of a radar or laser that looks down")] = False
    pascal_offset: Annotated[
        float, Meta(ge=-10_000.0, le=10_000.0, description="Pascals to add to the static pressure")
    ] = 0.0
    min_airspeed: Annotated[float, Meta(ge=0.0, le=100.0, description="Knots below which IAS is 0")] = 10.0


ALL_GROUPS = Groups(airspeed=True, groundspeed=True, gps=True, ahrs=True, accel=True, pressure=True)


class MavlinkOptions(NetworkOptions, frozen=True, kw_only=True):
    """Options for an autopilot."""

    type: Annotated[
        Literal["serial", "udp", "tcp"] | None, Meta(description="Kind of link, if `port` alone does not say it")
    ] = None
    port: NetworkPort = "/dev/ttyACM0"
    baud: Annotated[
        Annotated[int, Meta(ge=50, le=4000000)] | Literal["auto"],
        Meta(description="Bits per second; has no effect on USB, `tcp://` and `udp://`"),
    ] = 57600
    options: Annotated[
        Groups | None,
        Meta(description="Groups of keys to write; without it: airspeed, groundspeed, gps, ahrs, accel, pressure"),
    ] = None
    system: Annotated[
        Annotated[int, Meta(ge=1, le=255)] | None,
        Meta(description="Number of the vehicle, if there are several on the link; default: the first that is heard"),
    ] = None
    subtract_variation: Annotated[
        bool, Meta(description="Subtract MAGVAR from the autopilot's heading, which is usually true, for HEAD")
    ] = False
    ask: Annotated[
        bool,
        Meta(description="Send heartbeats and ask for the messages that are needed; `no`: listen only"),
    ] = True
    write: Annotated[
        tuple[Writing, ...], Meta(description="What may be sent to the autopilot: `trims`, `modes`, `waypoint`")
    ] = ()
    simulated: SendSimulated = False
    keys: Annotated[Keys, KEYS_OPTION] = field(default_factory=dict)
    changes_within: ChangesWithin = field(default_factory=dict)

    @property
    def url(self) -> str:
        if isinstance(self.port, str):
            return self.port
        return str(endpoint.Endpoint("tcp" if self.type == "tcp" else UDP, self.host, self.port))

    @property
    def groups(self) -> Groups:
        return self.options or ALL_GROUPS

    @property
    def wanted(self) -> set[str]:
        """The keys to write, apart from those that are always written."""
        return {key for group, keys in protocol.GROUPS.items() if getattr(self.groups, group) for key in keys}


class Plugin(Instrument[MavlinkOptions]):
    """One autopilot on one link."""

    KEYS = protocol.KEYS | {"ALT"}

    _protocol: protocol.Decoder

    def __post_init__(self) -> None:
        options = self.options
        self._encoder = Encoder(options.write)
        self._outward = Outward(self.db.read, lambda: self.db.clock(), lambda: self.source, simulated=options.simulated)
        self._targets = traffic.table(self.db)
        self._wishes: deque[tuple[str, float]] = deque(maxlen=8)
        self._pressed: dict[str, bool] = {}
        self._subscriptions: list[Subscription] = []
        self._unsent = b""
        self._act_at = self._heartbeat_at = float("-inf")
        super().__post_init__()
        self.publisher = DerivingPublisher(self, self.counts, self.complain, options.keys, options.changes_within)
        if options.subtract_variation:
            self.publisher.derived = {**ALTIMETER, "HEAD": MAGNETIC}
        self.counts |= {"sent": 0, "left out": 0}

    # -- the contract --------------------------------------------------------------------------------------------------

    @classmethod
    def check(cls, options: MavlinkOptions, db: Database) -> Iterable[tuple[str, str]]:
        yield from super().check(options, db)
        scheme = endpoint.scheme_of(options.url)
        kind = {"tcp": "tcp", "socket": "tcp", UDP: UDP}.get(scheme, "serial")
        if options.type not in (None, kind):
            yield "type", f"{options.type} does not fit port {options.port!r}, which is a {kind} link"
        if options.write and not options.ask:
            yield "write", "with `ask: no` nothing is sent"
        for n, what in enumerate(options.write):
            if missing := [key for key in NEEDED[what] if key not in db]:
                yield f"write.{n}", f"the database has no {', '.join(missing)}"
        if options.subtract_variation and "MAGVAR" not in db:
            yield "subtract_variation", "the database has no MAGVAR"

    @classmethod
    def writes(cls, options: MavlinkOptions) -> Iterable[str]:
        known = (*protocol.ALWAYS, *options.wanted, *(["ALT"] if "PALT" in options.wanted else []))
        yield from (name for key in known if (name := options.keys.get(key, key)) is not None)
        yield from (key for what in options.write for key in REPORTED[what])

    @classmethod
    def anonymise(cls, options: MavlinkOptions, entries: list[Heard], shift: Shift, alone: bool) -> list[Heard] | None:
        return clean_stream(entries, lambda data: hide(data, shift))

    def protocol(self) -> protocol.Decoder:
        options, groups = self.options, self.options.groups
        return protocol.Decoder(
            self.clock,
            self.counts,
            keys=options.wanted,
            pascal_offset=groups.pascal_offset,
            min_airspeed=groups.min_airspeed,
            system=options.system,
        )

    def _new_protocol(self) -> None:
        super()._new_protocol()
        more = {"trims": TRIMS, "waypoint": ("TALT",)}
        keys = {*self.options.wanted, *(key for what in self.options.write for key in more.get(what, ()))}
        self._requests = Requests(protocol.intervals(keys), self.clock)
        self._pilot = Pilot(self.options.write, self._outward, self.clock, self._wishes)
        self._unsent = b""

    def run(self) -> None:
        if "modes" in self.options.write:
            for key in NEEDED["modes"]:
                with suppress(UnknownKey):
                    self._pressed[key] = self.db.read(key).value is True
                    self._subscriptions.append(self.db.subscribe(key, self._note_wish, quick=True))
        super().run()

    def stop(self) -> None:
        for subscription in self._subscriptions:
            subscription.close()
        super().stop()

    def get_status(self) -> Mapping[str, Any]:
        vehicle = self._protocol.vehicle
        status = {**super().get_status(), "vehicle": "none"}
        if vehicle is not None:
            age = "no heartbeat yet" if vehicle.heartbeat_at is None else f"{vehicle.mode}, {vehicle.state}"
            status |= {
                "vehicle": f"system {vehicle.system}: {age}",
                "armed": vehicle.armed,
                "MAVLink version": vehicle.version,
                "doubts": sorted({why for doubts in list(vehicle.doubts.values()) for why in list(doubts.values())}),
            }
            if self.options.ask:
                status["missing messages"] = self._requests.missing(dict(self._protocol.arrived))
        status["targets"] = self._targets.status(self.source)
        return {**status, "may send": ", ".join(self.options.write) or "nothing but requests for messages"}

    # -- reading -------------------------------------------------------------------------------------------------------

    def received(self, data: bytes) -> bool:
        checked = self._protocol.checked
        self.take(lambda: self._protocol.feed(data))
        while self._protocol.traffic:
            target, age_s = self._protocol.traffic.popleft()
            target = target._replace(source=derived_source([target.source], self.source))
            self._targets.put(target, age_s, position_age_s=age_s)
        return self._protocol.checked > checked

    def poll(self, timeout: float) -> None:
        super().poll(timeout)
        if self.options.ask and self.clock() >= self._act_at:
            self._act_at = self.clock() + ACT_PERIOD_S
            self._act()

    # -- sending -------------------------------------------------------------------------------------------------------

    def _note_wish(self, key: str, reading: Reading) -> None:
        """Take note that a mode is asked for. Called on the thread that writes the key."""
        pressed, before = reading.value is True, self._pressed.get(key, False)
        self._pressed[key] = pressed
        if pressed and not before and reading.good and self._outward.allows(reading.source):
            self._wishes.append((key.removeprefix("MAVREQ"), self.clock()))

    def _act(self) -> None:
        """Send what is due."""
        now, decoder = self.clock(), self._protocol
        if now >= self._heartbeat_at:
            self._heartbeat_at = now + HEARTBEAT_PERIOD_S
            self._transmit(Command("HEARTBEAT", GROUND_STATION))
        vehicle = decoder.vehicle
        for number, result in decoder.acknowledged:
            if number == SET_MESSAGE_INTERVAL:
                self._requests.acknowledge(result)
        if vehicle is not None and vehicle.heartbeat_at is not None:
            for command in self._requests.due(vehicle, decoder.arrived):
                self._transmit(command)
        if self.options.write:
            self._pilot.act(vehicle, decoder.acknowledged, self.quorum.leader)
            for command in self._pilot.commands:
                self._transmit(command)
            self._write(self._pilot.updates)
        decoder.acknowledged.clear()

    def _transmit(self, command: Command) -> None:
        """Send a frame, unless there is no room for it: a late command is worse than none."""
        if self._unsent:
            self._unsent = self._unsent[self.send(self._unsent) :]
        if self._unsent:
            self.count("left out")
            return
        vehicle = self._protocol.vehicle
        data = self._encoder.frame(command, 2 if vehicle is None else vehicle.version)
        sent = self.send(data)
        self._unsent = data[sent:] if sent else b""
        self.count("sent" if sent else "left out")

    def _write(self, updates: Iterable[Update]) -> None:
        """Write what the outputs say. Settings do not fail with the link."""
        for update in updates:
            if update.key in protocol.KEYS or update.key in ("MAVADJ", "MAVWPVALID"):
                self.publisher.publish([update])
                continue
            try:
                self.db.write(update.key, update.value, self.source, flags=0)
            except (UnknownKey, BadValue) as error:
                self.complain("%s", error, about=update.key)
