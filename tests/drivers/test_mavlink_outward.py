"""What leaves the gateway for a MAVLink autopilot, and what never does."""

from __future__ import annotations

import json
import math
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixgw import loader, state
from fixgw.drivers.mavlink import Plugin, outward
from fixgw.drivers.mavlink.frames import Framer, build
from fixgw.drivers.mavlink.messages import BY_NAME
from fixgw.drivers.mavlink.modes import REQUESTABLE
from fixgw.drivers.mavlink.outward import Command, Encoder, NotAllowed
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench.base import packaged_database, until
from fixgw.hw_sim.bench.clock import Clock
from fixgw.hw_sim.devices.mavlink import CRUISE, GUIDED, MANUAL, MavlinkAutopilot, adsb
from fixgw.hw_sim.pty import VirtualPort
from fixgw.kit import traffic
from fixgw.kit.sources import START
from fixgw.plugin import Worker
from fixgw.world import World

DATA = Path(__file__).parents[1] / "data" / "mavlink"
VECTORS = json.loads((DATA / "vectors.json").read_text())["vectors"]
SENT = [v for v in VECTORS if v.get("direction") == "encode"]
EVERYTHING: tuple[outward.Writing, ...] = ("trims", "modes", "waypoint")

#: What may be on the wire, by message: judged by a decoder of its own.
ARM, TERMINATE, SET_MODE = 400, 185, 176


def forbidden(data: bytes) -> list[str]:
    """What an inspector finds wrong with bytes that have been sent."""
    wrong: list[str] = []
    at = 0
    while at < len(data):
        if data[at] == 0xFD:
            size, head, number = data[at + 1], 10, int.from_bytes(data[at + 7 : at + 10], "little")
        elif data[at] == 0xFE:
            size, head, number = data[at + 1], 6, data[at + 5]
        else:
            return [*wrong, f"no frame: {data[at:].hex()}"]
        payload = data[at + head : at + head + size].ljust(64, b"\0")
        at += head + size + 2
        if number in (75, 76):
            (command,) = struct.unpack_from("<H", payload, 28)
            parameters = struct.unpack_from("<2f", payload)
            if (number, command) not in ((76, 511), (76, SET_MODE), (75, 192)):
                wrong.append(f"command {command}")
            if command == SET_MODE and (parameters[0] != 1 or parameters[1] not in (0, 7, 8, 10, 15)):
                wrong.append(f"mode {parameters}")
        elif number == 69:
            x, y, z, r, buttons = struct.unpack_from("<4hH", payload)
            if z not in (0, 32767) or buttons or (abs(r) > 800 and r != 32767):
                wrong.append(f"control {(x, y, z, r, buttons)}")
        elif number == 0:
            if payload[:9] != bytes.fromhex("000000000608000403"):
                wrong.append("heartbeat")
        elif number != 66:
            wrong.append(f"message {number}")
    return wrong


# -- the list ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", SENT, ids=lambda v: v["name"])
def test_the_frames_of_the_vectors(vector: dict[str, Any]) -> None:
    (frame,) = vector["frames"]
    encoder = Encoder(EVERYTHING)
    encoder._seq = frame["seq"]
    assert encoder.frame(Command(frame["message"], frame["fields"])) == bytes.fromhex(vector["bytes"])


def long(command: int, *parameters: float, **more: float) -> Command:
    numbered = {f"param{n}": value for n, value in enumerate(parameters, 1)}
    return Command("COMMAND_LONG", {"target_system": 1, "target_component": 1, "command": command, **numbered, **more})


NEVER = [
    *(long(number, 1.0) for number in (400, 185, 246, 179, 20, 21, 22, 23, 24, 31, 84, 115, 183, 209, 241, 245, 520)),
    *(long(number) for number in range(1000, 1003)),
    *(Command("COMMAND_INT", {"command": number, "param1": 1.0}) for number in (400, 185, 246, 179, 176, 511)),
    long(176, 129, 7),  # the mode and "armed"
    long(176, 1, 5),  # a mode that is not on the list
    long(176, 1, 7, 1),
    long(511, 30, -1),  # stop a stream
    long(511, 30, 100_000, 0, 0, 0, 0, 1),
    long(511, 300, 100_000),  # a message that we do not read
    Command("SET_MODE", {"custom_mode": 7, "base_mode": 129}),
    Command("PARAM_VALUE", {"param_value": 1.0}),
    Command("MISSION_ITEM_INT", {"command": 16}),
    Command("HEARTBEAT", {**outward.GROUND_STATION, "base_mode": 128}),
    Command("HEARTBEAT", {**outward.GROUND_STATION, "autopilot": 3}),
    Command("MANUAL_CONTROL", {"z": 32767, "buttons": 1}),
    Command("MANUAL_CONTROL", {"z": 500}),
    Command("MANUAL_CONTROL", {"z": 0, "r": 1000}),
    Command("MANUAL_CONTROL", {"z": 32767, "r": 1000}),
    Command("MANUAL_CONTROL", {"z": 32767, "x": 2000}),
    Command("MANUAL_CONTROL", {"z": 32767, "enabled_extensions": 1}),
    Command("COMMAND_INT", {"command": 192, "param1": 40.0}),
    Command("COMMAND_INT", {"command": 192, "param2": 3.0}),
    Command("COMMAND_INT", {"command": 192, "frame": 3}),
    Command("COMMAND_INT", {"command": 192, "z": math.inf}),
    Command("REQUEST_DATA_STREAM", {"req_stream_id": 4}),
]


@pytest.mark.parametrize("vector", [v for v in VECTORS if v.get("direction") == "never"], ids=lambda v: v["name"])
def test_what_must_never_leave_cannot_be_built(vector: dict[str, Any]) -> None:
    (frame,) = vector["frames"]
    with pytest.raises(NotAllowed):
        Encoder(EVERYTHING).frame(Command(frame["message"], frame["fields"]))


def test_only_with_permission_for_modes_does_a_waypoint_change_the_mode() -> None:
    waypoint = Command("COMMAND_INT", {"command": 192, "param2": 1.0})
    with pytest.raises(NotAllowed):
        Encoder(["waypoint"]).frame(waypoint)


@pytest.mark.parametrize("command", NEVER, ids=str)
def test_what_is_not_on_the_list_cannot_be_built(command: Command) -> None:
    with pytest.raises(NotAllowed):
        Encoder(EVERYTHING).frame(command)


def test_parameters_cannot_be_set_at_all() -> None:
    assert "PARAM_SET" not in BY_NAME
    with pytest.raises(NotAllowed):
        Encoder(EVERYTHING).frame(Command("PARAM_SET", {}))


@pytest.mark.parametrize(
    ("permission", "command"),
    [
        ("modes", long(176, 1, 7)),
        ("trims", Command("MANUAL_CONTROL", {"z": 32767})),
        ("waypoint", Command("COMMAND_INT", {"command": 192, "x": 440000000})),
    ],
)
def test_each_permission_allows_its_own_and_nothing_else(permission: outward.Writing, command: Command) -> None:
    assert forbidden(Encoder([permission]).frame(command)) == []
    others = [other for other in EVERYTHING if other != permission]
    with pytest.raises(NotAllowed):
        Encoder(others).frame(command)


NAMES = st.sampled_from([*BY_NAME, "PARAM_SET", "COMMAND_CANCEL"])
NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 129, 128, 7, 15, 176, 192, 511, 400, 185, 246, 179, 1000, 32767, 800, 1000, 21196]),
    st.integers(-(2**31), 2**31 - 1),
    st.floats(width=32),
)


@settings(max_examples=60)
@given(st.sets(st.sampled_from(EVERYTHING)), NAMES, st.data())
def test_whatever_is_asked_for_only_what_is_allowed_is_built(write: set[Any], name: str, data: st.DataObject) -> None:
    fields = list(BY_NAME[name].fields) if name in BY_NAME else ["command"]
    values = data.draw(st.dictionaries(st.sampled_from(fields), NUMBERS))
    if data.draw(st.booleans()):
        values["command"] = data.draw(st.sampled_from([176, 192, 511, 400, 246]))
    try:
        built = Encoder(write).frame(Command(name, values), data.draw(st.sampled_from([1, 2])))
    except ValueError:
        return
    assert forbidden(built) == []
    (frame,) = Framer().feed(built)
    assert (frame.system, frame.component) == (255, 190)


# -- the plugin, with the virtual autopilot ----------------------------------------------------------------------------


class Line:
    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class Wire(VirtualPort):
    """A virtual port that keeps what was sent to the autopilot."""

    sent = b""

    def read(self, timeout: float = 0.0) -> bytes:
        data = super().read(timeout)
        self.sent += data
        return data


class Cockpit:
    """The plugin on a wound clock, and the autopilot."""

    def __init__(self, version: int = 2, quiet: bool = False, **options: Any) -> None:
        self.clock = Clock()
        self.db = packaged_database(self.clock)
        self.workers: list[Worker[Any]] = []
        self.world = World(self.db, clock=self.clock, adopt=self.workers.append)
        self.port = Wire()
        self.autopilot = MavlinkAutopilot(self.port, version=version, quiet=quiet)
        self.aircraft = Aircraft()
        with self.world.hosting(), state.detached():
            self.plugin: Any = loader.load_plugin("fixgw.drivers.mavlink")("mav", {"port": self.port.path, **options})
        assert isinstance(self.plugin, Plugin)
        self.plugin.start()

    def fly(self, seconds: float = 0.3) -> None:
        for _ in range(round(seconds / 0.05)):
            self.clock.now += 0.05
            self.autopilot.tick(self.aircraft, self.clock.now)
            self.plugin.turn()
        self.db.age()

    def press(self, mode: str, source: str = "panel") -> None:
        self.db.write(f"MAVREQ{mode}", True, source, flags=0)

    def waypoint(self, lat: float, lon: float, source: str = "gps") -> None:
        self.db.write("WPLAT", lat, source, flags=0)
        self.db.write("WPLON", lon, source, flags=0)

    def close(self) -> None:
        self.plugin.shutdown()
        self.port.close()


@pytest.fixture
def cockpit() -> Iterator[Any]:
    opened: list[Cockpit] = []

    def make(*args: Any, armed: bool = True, refuses: dict[int, int] | None = None, **options: Any) -> Cockpit:
        made = Cockpit(*args, **options)
        opened.append(made)
        made.autopilot.armed = armed
        made.autopilot.refuses = refuses or {}
        made.fly(1.5)
        return made

    yield make
    for each in opened:
        each.close()
        assert forbidden(each.port.sent) == []
        assert each.autopilot.armings == 0
        assert each.autopilot.others == []


slow = pytest.mark.slow


@slow
def test_by_default_it_only_asks_for_messages(cockpit: Any) -> None:
    flight = cockpit(quiet=True)
    for mode in REQUESTABLE:
        flight.press(mode)
    flight.waypoint(44.0, -88.0)
    flight.db.write("TRIMP", 10.0, "panel", flags=0)
    flight.fly(6.0)
    assert flight.autopilot.heartbeats in range(6, 9)
    assert sorted(flight.autopilot.asked) == [1, 24, 26, 29, 30, 33, 74, 193], "each once, because they come"
    assert not flight.autopilot.modes
    assert not flight.autopilot.controls
    assert not flight.autopilot.places
    for key in ("ROLL", "IAS", "LAT", "ALT", "ANORM", "AIRPRESS"):
        assert flight.db.read(key).good, key
    status = flight.plugin.get_status()
    assert status["armed"] is True
    assert status["may send"] == "nothing but requests for messages"
    assert status["missing messages"] == []
    assert status["lost"] == 0


@slow
def test_it_can_be_silent(cockpit: Any) -> None:
    flight = cockpit(ask=False)
    flight.fly(6.0)
    assert flight.port.sent == b""
    assert flight.db.read("ROLL").good


@slow
def test_what_does_not_come_is_asked_for_again_and_then_by_stream(cockpit: Any) -> None:
    flight = cockpit(quiet=True, options={"ahrs": True, "gps": True})
    flight.fly(2.0)
    asked = flight.autopilot.asked
    asked.clear()
    flight.autopilot._wanted.clear()  # it forgets
    flight.fly(12.0)
    assert {24, 30, 33} <= set(asked)
    assert not flight.autopilot.streams
    assert flight.db.read("ROLL").good


@slow
@pytest.mark.parametrize("version", [1, 2])
def test_old_firmware_is_asked_for_streams(cockpit: Any, version: int) -> None:
    flight = cockpit(version, quiet=True, refuses={511: 3})
    flight.fly(3.0)
    assert flight.autopilot.asked == [30]
    assert {1, 2, 6, 10, 11} <= set(flight.autopilot.streams)
    assert flight.db.read("ROLL").good
    assert (b"\xfe" if version == 1 else b"\xfd") in flight.port.sent[-40:]


@slow
def test_requests_are_repeated_without_an_answer(cockpit: Any) -> None:
    flight = cockpit(quiet=True, options={"accel": True})
    flight.autopilot.deaf = True
    flight.autopilot._wanted.clear()
    flight.fly(30.0)
    counts = flight.plugin.counts
    assert 26 in flight.plugin.get_status()["missing messages"]
    assert 30 + 3 * 5 < counts["sent"] < 30 + 4 * 8 + 8


@slow
@pytest.mark.parametrize("mode", ["CRUISE", "AUTOTUNE", "AUTO"])
def test_a_press_sets_the_mode(cockpit: Any, mode: str) -> None:
    flight = cockpit(write=["modes"])
    assert flight.db.read("MAVMODE").value == "TRIM"
    assert flight.db.read("MAVSTATE").value == "ARMED"
    flight.press(mode)
    flight.fly(1.5)
    assert flight.autopilot.modes == [REQUESTABLE[mode]]
    assert flight.db.read("MAVMODE").value == mode
    assert flight.db.read(f"MAVREQ{mode}").value is False
    flight.press("TRIM")
    flight.fly(1.5)
    assert flight.autopilot.modes[1:] == [MANUAL]


@slow
def test_a_mode_is_repeated_until_it_is_acknowledged_and_then_given_up(cockpit: Any) -> None:
    flight = cockpit(write=["modes"])
    flight.autopilot.refuses[176] = 1  # not now
    flight.press("CRUISE")
    flight.fly(6.0)
    assert flight.autopilot.modes == [CRUISE] * 3
    assert flight.db.read("MAVMSG").value == "CRUISE: no answer"
    flight.autopilot.refuses[176] = 2
    flight.press("AUTO")
    flight.fly(6.0)
    assert flight.autopilot.modes[3:] == [10]
    assert flight.db.read("MAVMSG").value == "AUTO: denied"


@slow
@pytest.mark.parametrize(
    ("mode", "armed", "message"),
    [("CRUISE", False, "CRUISE: not armed"), ("GUIDED", True, "GUIDED: no waypoint")],
)
def test_a_mode_without_what_it_needs_is_refused(cockpit: Any, mode: str, armed: bool, message: str) -> None:
    flight = cockpit(write=["modes"], armed=armed)
    flight.press(mode)
    flight.fly(3.0)
    assert not flight.autopilot.modes
    assert flight.db.read("MAVMSG").value == message


@slow
@pytest.mark.parametrize("source", ["sim/panel", "override/x", "replay/y"])
def test_nothing_simulated_commands(cockpit: Any, source: str) -> None:
    flight = cockpit(write=EVERYTHING)
    flight.press("CRUISE", source)
    flight.waypoint(44.0, -88.0, source)
    flight.db.write("TRIMP", 50.0, source, flags=0)
    flight.db.write("MAVREQADJ", True, source, flags=0)
    flight.fly(3.0)
    assert not flight.autopilot.modes
    assert not flight.autopilot.controls
    assert flight.db.read("MAVWPVALID").value is False
    assert flight.db.read("MAVADJ").value is False


@slow
def test_only_the_leader_commands(cockpit: Any) -> None:
    flight = cockpit(write=EVERYTHING)
    flight.world.quorum.leader = False
    flight.autopilot.controls.clear()
    flight.press("CRUISE")
    flight.db.write("TRIMP", 50.0, "panel", flags=0)
    flight.fly(3.0)
    flight.world.quorum.leader = True
    flight.fly(0.1)
    assert not flight.autopilot.modes, "what was pressed before is forgotten"
    flight.fly(1.0)
    assert flight.autopilot.controls[-1][0] == 500


@slow
def test_a_mode_that_the_pilot_chooses_with_the_transmitter_ends_the_repetition(cockpit: Any) -> None:
    flight = cockpit(write=["modes"])
    flight.autopilot.refuses[176] = 1
    flight.press("CRUISE")
    flight.fly(0.5)
    flight.autopilot.mode = 5  # FBWA
    flight.fly(8.0)
    assert flight.autopilot.modes == [CRUISE]
    assert flight.db.read("MAVMODE").value == "FBWA"


@slow
def test_the_last_press_counts_even_before_the_heartbeat_shows_the_first(cockpit: Any) -> None:
    flight = cockpit(write=["modes"])
    flight.press("CRUISE")
    flight.fly(0.2)
    assert flight.db.read("MAVMODE").value == "TRIM"
    flight.press("TRIM")
    flight.fly(2.0)
    assert flight.autopilot.modes == [CRUISE, MANUAL]
    assert flight.db.read("MAVMODE").value == "TRIM"


@slow
def test_a_wish_that_waited_while_the_process_was_held_up_is_refused(cockpit: Any) -> None:
    flight = cockpit(write=["modes"])
    flight.press("CRUISE")
    flight.clock.now += 3.0
    flight.autopilot.tick(flight.aircraft, flight.clock.now)
    flight.plugin.received(flight.autopilot.heartbeat())
    flight.fly(2.0)
    assert not flight.autopilot.modes
    assert flight.db.read("MAVMSG").value == "CRUISE: asked for too long ago"


@slow
def test_a_waypoint_does_not_replace_a_mode_that_is_not_acknowledged(cockpit: Any) -> None:
    flight = cockpit(write=["modes", "waypoint"])
    flight.waypoint(44.1, -88.2)
    flight.autopilot.mode = GUIDED
    flight.fly(1.5)
    flight.autopilot.refuses[176] = 1
    flight.press("TRIM")
    flight.fly(0.2)
    flight.waypoint(44.2, -88.2)
    flight.fly(4.0)
    assert flight.autopilot.modes == [MANUAL] * 3
    flight.fly(1.0)
    assert len(flight.autopilot.places) == 2


@slow
def test_a_wish_from_before_the_start_or_during_an_outage_is_not_acted_on(cockpit: Any) -> None:
    flight = cockpit(write=["modes"])
    flight.port.unplug()
    flight.fly(1.0)
    flight.press("CRUISE")
    flight.fly(1.0)
    flight.port.plug()
    flight.fly(10.0)
    assert flight.plugin.connected
    assert not flight.autopilot.modes
    assert flight.db.read("MAVREQCRUISE").value is False
    flight.press("CRUISE")
    flight.fly(1.0)
    assert flight.autopilot.modes == [CRUISE]


@slow
def test_trims_are_sent_in_trim_mode_and_follow_the_servos_otherwise(cockpit: Any) -> None:
    flight = cockpit(write=["trims"])
    for key, value in (("TRIMP", 30.0), ("TRIMR", -12.3), ("TRIMY", 100.0)):
        flight.db.write(key, value, "panel", flags=0)
    flight.fly(1.0)
    assert flight.autopilot.controls[-1] == (300, -123, 32767, 800, 0)
    flight.autopilot.mode = CRUISE
    flight.autopilot.servos[:4] = [1500, 1620, 1100, 1384]
    flight.fly(1.5)
    flight.autopilot.controls.clear()
    flight.fly(1.0)
    assert not flight.autopilot.controls
    assert [flight.db.read(key).value for key in ("TRIMR", "TRIMP", "TRIMY")] == [0.0, 30.0, -29.0]
    flight.db.write("MAVREQADJ", True, "panel", flags=0)
    flight.db.write("TRIMP", 35.0, "panel", flags=0)
    flight.fly(1.0)
    assert flight.autopilot.controls[-1] == (350, 0, 32767, -290, 0)
    assert flight.db.read("MAVADJ").value is True


@slow
@pytest.mark.parametrize("source", sorted(START))
def test_trims_from_before_the_start_move_nothing_until_they_are_set(cockpit: Any, source: str) -> None:
    flight = cockpit(write=["trims"])
    for key in ("TRIMP", "TRIMR", "TRIMY"):
        flight.db.write(key, 30.0, source, flags=0)
    flight.fly(1.0)
    assert not flight.autopilot.controls
    flight.db.write("TRIMP", 31.0, "panel", flags=0)
    flight.fly(1.0)
    assert flight.autopilot.controls[-1] == (310, 32767, 32767, 32767, 0)


@slow
def test_trims_need_a_heartbeat_and_arming(cockpit: Any) -> None:
    flight = cockpit(write=["trims"], armed=False)
    flight.db.write("TRIMP", 30.0, "panel", flags=0)
    flight.fly(2.0)
    assert not flight.autopilot.controls
    flight.autopilot.armed = True
    flight.fly(2.0)
    assert flight.autopilot.controls
    flight.autopilot.power = False
    flight.fly(3.0)
    flight.autopilot.controls.clear()
    flight.fly(3.0)
    assert not flight.autopilot.controls


@slow
def test_the_waypoint_is_sent_in_guided_mode_and_its_loss_ends_it(cockpit: Any) -> None:
    flight = cockpit(write=["modes", "waypoint"])
    flight.waypoint(44.1, -88.2)
    flight.fly(1.0)
    assert flight.db.read("MAVWPVALID").value is True
    assert not flight.autopilot.places
    flight.press("GUIDED")
    flight.fly(2.5)
    assert flight.autopilot.modes == [GUIDED]
    ((lat, lon, altitude),) = flight.autopilot.places
    assert (lat, lon) == pytest.approx((44.1, -88.2))
    assert altitude == pytest.approx(flight.aircraft.true_altitude * 0.3048, abs=0.01)
    flight.waypoint(44.2, -88.2)
    flight.fly(1.5)
    assert len(flight.autopilot.places) == 2
    flight.fly(11.0)  # it becomes old
    assert flight.autopilot.modes[1:] == [CRUISE]
    assert flight.db.read("MAVWPVALID").value is False


@slow
def test_a_guided_mode_that_somebody_else_chose_is_not_ended(cockpit: Any) -> None:
    flight = cockpit(write=["modes", "waypoint"])
    flight.autopilot.mode = GUIDED
    flight.fly(5.0)
    assert not flight.autopilot.modes


@slow
def test_px4_gets_no_numbers_of_arduplane(cockpit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def px4(self: MavlinkAutopilot) -> bytes:
        return self.frame(0, struct.pack("<IBBBBB", 0, 1, 12, 0xD1, 4, 3))

    monkeypatch.setattr(MavlinkAutopilot, "heartbeat", px4)
    flight = cockpit(write=EVERYTHING)
    flight.press("CRUISE")
    flight.db.write("TRIMP", 30.0, "panel", flags=0)
    flight.fly(2.0)
    assert not flight.autopilot.modes
    assert not flight.autopilot.controls
    assert flight.db.read("MAVMSG").value == "CRUISE: no ArduPlane answers"


@slow
def test_aircraft_of_the_adsb_receiver_are_in_the_table_of_traffic(cockpit: Any) -> None:
    flight = cockpit()
    flight.autopilot.traffic = [adsb(flight.autopilot, 0xABCDEF, 44.0, -88.0, 3500.0, "N123AB")]
    flight.fly(0.3)
    (target,) = traffic.table(flight.db).heard_within(2.0)  # the receiver heard it a second ago
    assert (target.address, target.callsign, target.source) == (0xABCDEF, "N123AB", flight.plugin.source)
    assert target.altitude_ft == pytest.approx(3500.0, abs=0.1)
    assert flight.plugin.get_status()["targets"]["ABCDEF"]["ground speed kt"] == pytest.approx(194.4, abs=0.1)


@slow
def test_the_heading_can_be_made_magnetic_and_names_what_it_comes_from(cockpit: Any) -> None:
    flight = cockpit(subtract_variation=True)
    assert not flight.db.read("HEAD").good
    flight.db.write("MAGVAR", -3.5, "sim/compute", flags=0)
    flight.db.write("BARO", 30.05, "panel", flags=0)
    flight.fly(0.5)
    head = flight.db.read("HEAD")
    assert head.value == pytest.approx((flight.aircraft.heading + 3.5) % 360.0, abs=0.1)
    assert head.source == "sim/mav"
    assert flight.db.read("ALT").value == pytest.approx(flight.aircraft.altitude, abs=3.0)


@slow
def test_a_server_on_tcp_is_asked_and_read_and_its_return_is_noticed() -> None:
    clock, workers = Clock(), list[Worker[Any]]()
    db = packaged_database(clock)
    autopilot = MavlinkAutopilot(Line())
    with socket.create_server(("127.0.0.1", 0)) as server, World(db, clock=clock, adopt=workers.append).hosting():
        plugin: Any = loader.load_plugin("fixgw.drivers.mavlink")(
            "mav", {"type": "tcp", "host": "127.0.0.1", "port": server.getsockname()[1]}
        )
        plugin.start()
        for _ in range(2):
            plugin.turn()
            peer, _ = server.accept()
            with peer:
                peer.sendall(b"".join(autopilot.frames(Aircraft(), clock.now)))
                until(lambda: plugin.turn() and db.read("ROLL").good)
                clock.now += 1.0
                plugin.turn()
                autopilot.hear(peer.recv(1000))
            clock.now += 1.0
            until(lambda: plugin.turn() and not plugin.connected)
            assert db.read("ROLL").fail
            assert db.read("MAVMODE").fail
        plugin.shutdown()
    assert autopilot.heartbeats >= 2
    assert not autopilot.others


# -- nothing arms ------------------------------------------------------------------------------------------------------

KEYS = (*(f"MAVREQ{mode}" for mode in REQUESTABLE), "MAVREQADJ", "TRIMP", "TRIMR", "TRIMY", "WPLAT", "WPLON", "WPNAME")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(KEYS), st.sampled_from([True, False, 0.0, 100.0, -100.0, 45.5])),
        st.tuples(st.just("mode"), st.sampled_from([0, 5, 7, 10, 15, 400]), st.booleans()),
        st.tuples(st.just("bytes"), st.binary(max_size=40), st.just(None)),
        st.tuples(st.just("refuse"), st.sampled_from([0, 1, 2, 3, 4, 5]), st.just(None)),
        st.tuples(st.just("restart"), st.just(0), st.just(None)),
    ),
    max_size=12,
)


@slow
@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.sampled_from(EVERYTHING), unique=True), st.sampled_from([1, 2]), STEPS)
def test_no_option_no_key_and_no_input_ever_arms(write: list[Any], version: int, steps: list[Any]) -> None:
    flight = Cockpit(version, write=write, system=None, simulated=True)
    autopilot = flight.autopilot
    try:
        flight.fly(1.2)
        for what, first, second in steps:
            if what == "write":
                text = first == "WPNAME"
                flight.db.write(
                    first, str(second) if text else bool(second) if "REQ" in first else float(second), "x", flags=0
                )
            elif what == "mode":
                autopilot.mode, autopilot.armed = first, second
            elif what == "bytes":
                flight.port.write(first)
            elif what == "refuse":
                autopilot.refuses.update({176: first, 192: first, 511: first})
            else:
                autopilot.restart()
            flight.fly(0.4)
        flight.fly(1.0)
    finally:
        flight.close()
    assert autopilot.armings == 0
    assert autopilot.others == []
    assert forbidden(flight.port.sent) == []


def test_the_inspector_and_the_virtual_autopilot_notice_arming() -> None:
    """The positive control of the tests above."""
    message = BY_NAME["COMMAND_LONG"]
    armed = build(message, message.encode({"command": ARM, "param1": 1.0, "target_system": 1}), 255, 190, 0)
    assert forbidden(armed) == ["command 400"]

    autopilot = MavlinkAutopilot(Line())
    autopilot.hear(armed)
    assert autopilot.armings == 1
