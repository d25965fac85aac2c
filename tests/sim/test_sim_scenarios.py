"""Scenarios of virtual CAN-FIX nodes: the format of the file, the timing of events, and the bus."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count, pairwise
from pathlib import Path
from typing import Any, cast

import can
import pytest

from fixgw.cli import main
from fixgw.drivers.canfix import protocol
from fixgw.errors import ConfigurationError
from fixgw.hw_sim import faults as wire
from fixgw.hw_sim.aircraft import Aircraft, Seen
from fixgw.hw_sim.can.bus import CanBus
from fixgw.hw_sim.can.devices import DEVICES
from fixgw.hw_sim.can.faults import FAULTS
from fixgw.hw_sim.can.segment import SimFrame
from fixgw.hw_sim.devices.eis import Eis
from fixgw.hw_sim.everything import bench
from fixgw.hw_sim.scenario import ADAPTER, AIRCRAFT, Play, Scenario, everything, frames, instruments, load, shipped
from fixgw.hw_sim.world import World

pytestmark = pytest.mark.slow

_channels = count()


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    """A scenario file with a given text."""

    def write(text: str) -> Path:
        path = tmp_path / "scenario.yaml"
        path.write_text(text)
        return path

    return write


def problems(path: Path) -> list[str]:
    """The problems of a scenario: lines and messages."""
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    assert {p.file for p in caught.value.problems} == {str(path)}
    return [f"{p.line}: {p.message}" for p in caught.value.problems]


def scenario(path: Path, *events: str, rest: str = "") -> Scenario:
    nodes = "nodes: {air: , engine: , fuel: , panel: }\n"
    path = path / "made.yaml"
    path.write_text(nodes + rest + "events:\n" + "".join(f"  - {{{event}}}\n" for event in events))
    return load(path)


def times(played: Scenario, identifier: int, seconds: float, live: bool = True) -> list[float]:
    """The times at which a parameter was sent."""
    return [
        at
        for at, frame in frames(played, seconds)
        if frame.arbitration_id == identifier and not (live and frame.data[2] >= 16)
    ]


# -- packaged scenarios ------------------------------------------------------------------------------------------------


def test_every_scenario_has_a_description() -> None:
    assert set(shipped()) >= {"cruise", "engine-monitor-lost", "misbehaving"}
    for path in shipped().values():
        assert load(path).description


@pytest.mark.parametrize("name", ["cruise", "engine-monitor-lost", "misbehaving"])
def test_the_frames_of_a_shipped_scenario_can_be_decoded(name: str) -> None:
    played = load(shipped()[name])
    codec = protocol.Codec()
    last = 0.0
    for at, frame in frames(played, played.duration or 20.0):
        codec.decode(frame.arbitration_id, frame.data, extended=frame.extended, remote=frame.remote)
        last = at
    assert last == pytest.approx(played.duration or 20.0, abs=0.2)
    seen = {kind for kind, number in codec.counts.items() if number}
    if name == "misbehaving":
        assert seen == set(protocol.KINDS)
    else:
        assert seen <= {"value", "meta", "node-specific", "alarm"}


def test_the_misbehaving_scenario_has_every_fault() -> None:
    text = shipped()["misbehaving"].read_text()
    assert [fault for fault in FAULTS if f"fault: {fault}" not in text] == []


def test_the_page_names_everything_and_its_samples_work(written: Callable[[str], Path]) -> None:
    docs = Path(__file__).parents[2] / "docs"
    page, bench = ((docs / name).read_text() for name in ("scenarios.md", "bench.md"))
    for name in (*DEVICES, *FAULTS, *wire.FAULTS, *ADAPTER, *AIRCRAFT, *shipped(), *instruments()):
        assert f"`{name}`" in page + bench, name
    samples = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert [len(load(written(sample)).events) for sample in samples] == [18, 0, 18]


def test_the_engine_monitor_is_lost_and_returns() -> None:
    codec = protocol.Codec()
    rpm: list[float] = []
    failed: list[float] = []
    alarms: list[protocol.NodeAlarm] = []
    low_fuel: set[bool] = set()
    for at, frame in frames(load(shipped()["engine-monitor-lost"])):
        outcome = codec.decode(frame.arbitration_id, frame.data)
        if isinstance(outcome, protocol.NodeAlarm):
            alarms.append(outcome)
        if not isinstance(outcome, protocol.Value):
            continue
        if outcome.parameter.identifier == 0x200:
            rpm.append(at)
        if outcome.parameter.identifier == 0x500 and outcome.failure:
            failed.append(at)
        if outcome.parameter.identifier == 0x226:
            low_fuel.add(outcome.annunciate)
    gaps = [end for pair in pairwise(rpm) if pair[1] - pair[0] > 1.0 for end in pair]
    assert gaps == pytest.approx([12.5, 17.5, 26.0, 30.0], abs=0.15)
    assert failed[0] == pytest.approx(5.0, abs=0.6)
    assert failed[-1] == pytest.approx(10.0, abs=0.6)
    assert alarms == [protocol.NodeAlarm(0x40, 0x0102, b"\x2a\x00")]
    assert low_fuel == {False}


# -- events ------------------------------------------------------------------------------------------------------------


def test_a_fault_begins_and_ends_on_time(tmp_path: Path) -> None:
    played = scenario(tmp_path, "at: 3, node: fuel, fault: silent, for: 2")
    sent = times(played, 0x227, 8.0)
    assert not [at for at in sent if 3.0 <= at < 5.0]
    assert len([at for at in sent if at < 3.0]) == pytest.approx(6, abs=1)
    assert len([at for at in sent if at >= 5.0]) == pytest.approx(6, abs=1)


def test_a_fault_without_an_end_lasts(tmp_path: Path) -> None:
    assert max(times(scenario(tmp_path, "at: 3, node: fuel, fault: silent"), 0x227, 10.0)) < 3.0


def test_several_faults_of_one_node_accumulate(tmp_path: Path) -> None:
    played = scenario(
        tmp_path, "at: 1, node: fuel, fault: suspect", "at: 2, node: fuel, fault: failed, parameter: 0x227"
    )
    flags = [(at, f.data[2]) for at, f in frames(played, 4.0) if f.arbitration_id == 0x227 and f.data[2] < 16]
    assert {flag for at, flag in flags if at < 1} == {0}
    assert {flag for at, flag in flags if 1 <= at < 2} == {2}
    assert {flag for at, flag in flags if at >= 2} == {6}


def test_knobs_buttons_and_switches_are_operated(tmp_path: Path) -> None:
    played = scenario(
        tmp_path,
        "at: 1.5, node: panel, turn: 1, by: -3",
        "at: 2.5, node: panel, press: 2, for: 0.5",
        "at: 3.5, node: panel, switch: 9",
        "at: 4.5, node: panel, switch: 9, to: no",
    )
    seen = [(at, f.arbitration_id, f.data[3:].hex()) for at, f in frames(played, 5.0) if f.data[0] == 0xD0]
    changes = [(at, id, data) for at, id, data in seen if int(data, 16) and id != 0x584]
    assert changes[0] == (1.5, 0x300, "0000fdff00")
    assert (2.5, 0x300, "0000000004") in changes
    assert (3.0, 0x300, "0000000000") in seen
    assert (3.5, 0x308, "0002000000") in changes
    assert (4.5, 0x308, "0000000000") in seen


def test_another_scenario_takes_over_and_what_went_on_ends(tmp_path: Path) -> None:
    first = scenario(tmp_path, "at: 1, node: fuel, fault: silent", "at: 2, node: fuel, fault: suspect")
    second = scenario(tmp_path, "at: 1, node: fuel, fault: suspect, for: 1")._replace(duration=4.0)
    told: list[str] = []
    play = Play(first, None, lambda _, words: told.append(words))
    aircraft = first.aircraft()

    def sent(*span: float) -> int:
        return sum(len(f) for at in span for name, f in play.due(at, aircraft) if name == "fuel")

    assert sent(0.0, 0.5) > 0
    assert sent(1.1, 1.6) == 0
    play.change(second)
    assert sent(1.7, 2.2) > 0  # it is no longer silent
    assert play.current is second
    assert len(told) == 1
    sent(2.8, 3.8)
    assert len(told) == 3  # suspect, and over
    sent(5.8, 5.9)
    assert play.current is None
    assert len(told) == 4
    assert sent(1000.0) > 0
    assert not play.over(1000.0)


def test_nodes_receive_the_frames_of_each_other(tmp_path: Path) -> None:
    said = [f.data for _, f in frames(scenario(tmp_path), 11.0) if f.arbitration_id == 0x724]
    (heard,) = (int.from_bytes(data[3:], "little") for data in said if data[:3] == b"\x06\x04\x00")
    assert heard > 1000


def test_a_scenario_is_reproducible(tmp_path: Path) -> None:
    rest = "flight: {start: 2025-07-21 15:00:00, seed: 4}\n"
    played = scenario(tmp_path, "at: 1, node: air, fault: garbage, rate: 500", rest=rest)
    assert list(frames(played, 5.0)) == list(frames(played, 5.0))
    other = scenario(tmp_path, "at: 1, node: air, fault: garbage, rate: 500", rest=rest.replace("4}", "5}"))
    assert list(frames(played, 5.0)) != list(frames(other, 5.0))


def test_the_flight_starts_where_the_scenario_says(written: Callable[[str], Path]) -> None:
    text = "nodes: {air: }\nflight: {start: '2024-02-29T23:59:58+01:00', after: 100, turbulence: 0, fuel: 5.5}\n"
    aircraft = load(written(text)).aircraft()
    assert aircraft.time.replace(microsecond=0) == datetime(2024, 2, 29, 23, 1, 37, tzinfo=UTC) or (
        aircraft.time.replace(microsecond=0) == datetime(2024, 2, 29, 23, 1, 38, tzinfo=UTC)
    )
    assert aircraft.turbulence == 0
    assert aircraft.fuel == [5.5, 5.5]


def test_nodes_have_the_ids_and_memories_that_the_file_gives_them(written: Callable[[str], Path]) -> None:
    path = written(
        "bit_rate: 500\nnodes:\n  air:\n  left: {device: engine, id: 65}\n"
        "  right: {device: engine, id: 66, disabled: [0x200]}\n"
    )
    played = load(path)
    stations = played.stations()
    assert {name: s.node.id for name, s in stations.items()} == {"air": 0x32, "left": 65, "right": 66}
    assert {s.node.memory.bit_rate for s in stations.values()} == {3}
    assert {f.data[0] for _, f in frames(played, 1.0) if f.arbitration_id == 0x200} == {65}


# -- problems ----------------------------------------------------------------------------------------------------------


def test_every_problem_is_reported_at_once_with_its_line(written: Callable[[str], Path]) -> None:
    path = written("""\
descripton: x
duration: 30
bit_rate: 300
flight: {start: yesterday, turbulence: 7}
nodes:
  air:
  enginee:
  ahrs: {id: 0x32}
  gps: {id: 300, colour: red}
events:
  - {at: 1, node: ait, fault: silent}
  - {at: 1, node: air, fault: silnt}
  - {at: 1, node: air, fault: babbling, rate: fast}
  - {at: 1, node: air, fault: babbling, rate: 0}
  - {at: 1, node: air, fault: silent, fro: 2}
  - {at: -1, node: air, fault: silent}
  - {node: air, fault: silent}
  - {at: 1, node: air}
  - {at: 1, node: air, fault: silent, turn: 0, by: 1}
  - {at: 1, node: air, turn: 0, by: 1}
  - {at: 31, node: air, fault: deaf}
  - {at: 1, node: air, alarm: 1, data: 0g}
  - {at: 1, adapter: unpluged}
""")
    found = problems(path)
    for line, words in [
        (1, "unknown option 'descripton' (did you mean 'description'?)"),
        (3, "bit_rate: "),
        (4, "flight.start: 'yesterday' is not a date and time"),
        (4, "flight.turbulence: expected number, 0 to 3, got the number 7"),
        (7, "nodes.enginee: no device 'enginee' (did you mean 'engine'?)"),
        (
            8,
            "nodes.ahrs: its node id 50 is already that of 'air'; give it another, or use the fault 'duplicate-node'",
        ),
        (9, "nodes.gps.id: expected whole number, 1 to 255, got the number 300"),
        (9, "nodes.gps: unknown option 'colour'"),
        (11, "events[0]: no node 'ait' (did you mean 'air'?)"),
        (12, "events[1]: no fault 'silnt' (did you mean 'silent'?)"),
        (13, "events[2].rate: expected number, got text 'fast'"),
        (14, "events[3]: rate: 0 is not from 0.1 to 1e+06"),
        (15, "events[4]: unknown option 'fro' (did you mean 'for'?)"),
        (16, "events[5].at: "),
        (17, "events[6]: 'at' is missing"),
        (18, "events[7]: expected one of fault, turn, press, switch, alarm, adapter, aircraft, set, expect, repeat, "),
        (19, "events[8]: expected one of fault, turn, press, switch, alarm, adapter, aircraft, set, expect, repeat, "),
        (20, "events[9]: 'air' has nothing to turn; only a panel has"),
        (21, "events[10]: the scenario is over before 31 s"),
        (22, "events[11]: data: '0g' is not bytes in hex"),
        (23, "events[12].adapter: "),
    ]:
        assert [p for p in found if p.startswith(f"{line}: {words}")], f"{line}: {words} not in\n" + "\n".join(found)
    assert len(found) == 21


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "expected a mapping with events:, got nothing"),
        ("- air", "expected a mapping with events:, got a list of 1"),
        ("events: []\nnodes: 3", "nodes: expected mapping"),
        ("nodes: {}", "nodes: there are none"),
        ("nodes: [air]", "nodes: expected mapping"),
        ("nodes: {air: }\nevents: {at: 1}", "events: expected list"),
        ("nodes: {air: }\nevents: [now]", "events[0]: expected mapping"),
        ("nodes: {air: [}", ""),
        ("nodes: {1: , 2: {device: 7}}", "nodes"),
        (
            "nodes: {air: }\nduration: 5\nevents: [{at: 5, node: air, fault: deaf}]",
            "events[0]: the scenario is over before 5 s",
        ),
        (
            "nodes: {air: }\nevents: [{at: 5, node: air, alarm: 1, data: '00112233445566'}]",
            "events[0]: data: 7 bytes, but at most 6",
        ),
        ("nodes: {air: }\nevents: [{at: 5, node: air, fault: [silent]}]", "events[0]: no fault"),
        ("nodes: {air: }\nevents: [{at: 5, node: [], turn: 1, by: 1}]", "events[0]"),
        ("nodes: {air: }\nflight: {start: 5}", "flight.start: expected text"),
        ("nodes: {air: }\nflight: [1]", "flight: expected mapping"),
        ("nodes: {air: {id: {}}}", "nodes.air.id: expected whole number"),
        ("nodes: {air: {device: [1]}}", "nodes.air.device: expected text"),
    ],
)
def test_an_invalid_scenario_is_refused_with_a_reason(written: Callable[[str], Path], text: str, problem: str) -> None:
    found = problems(written(text))
    assert any(problem in p for p in found), found


def test_a_missing_file_is_a_problem(tmp_path: Path) -> None:
    assert problems(tmp_path / "none.yaml") == ["0: cannot be read: No such file or directory"]


# -- on a bus ----------------------------------------------------------------------------------------------------------


class Listener:
    """Another program on the same bus, through python-can."""

    def __init__(self, channel: str, interface: str = "virtual") -> None:
        self.bus = can.Bus(interface=interface, channel=channel)
        self.seen: list[can.Message] = []

    def hear(self, wanted: Callable[[can.Message], object], seconds: float = 20.0) -> can.Message | None:
        """The next message that is `wanted`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            message = self.bus.recv(0.1)
            if message is not None:
                self.seen.append(message)
                if wanted(message):
                    return message
        return None

    def say(self, identifier: int, data: str) -> None:
        self.bus.send(can.Message(arbitration_id=identifier, data=bytes.fromhex(data), is_extended_id=False))


@pytest.fixture
def channel() -> str:
    return f"scenario-{next(_channels)}"


@pytest.fixture
def listener(channel: str) -> Iterator[Listener]:
    made = Listener(channel)
    yield made
    made.bus.shutdown()


def test_nodes_work_on_a_bus_of_python_can(listener: Listener, channel: str) -> None:
    bus = CanBus(everything())
    bus.join("virtual", channel)
    with World(Aircraft(turbulence=0.0)) as world:
        world.attach(bus)
        assert listener.hear(lambda m: m.arbitration_id == 0x183)
        listener.say(0x6E0 + 0x91, "00 00")
        identities = {
            m.data[3] for _ in DEVICES if (m := listener.hear(lambda m: m.arbitration_id > 0x6E0 and m.data[0] == 0))
        }
    assert identities == {device.DEVICE for device in DEVICES.values()}
    assert not [t for t in threading.enumerate() if t.name in ("CAN segment", "leg", "world")]


def test_a_setting_from_another_program_is_accepted(listener: Listener, channel: str) -> None:
    bus = CanBus(everything())
    bus.join("virtual", channel)
    with World(Aircraft(turbulence=0.0)) as world:
        world.attach(bus)
        assert listener.hear(lambda m: m.arbitration_id == 0x190)
        listener.say(0x6E0 + 0x91, "0c 90 01 18 79")
        assert listener.hear(lambda m: m.arbitration_id == 0x190 and m.data[3:] == b"\x18\x79")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a socket hears its own groups only anyway")
def test_it_receives_only_its_own_multicast_group() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("", 0))
        options: dict[str, Any] = {"interface": "udp_multicast", "port": sock.getsockname()[1], "hop_limit": 0}
    bus = CanBus(everything())
    heard: list[int] = []
    bus.segment.attach("ear", lambda frame: heard.append(frame.arbitration_id))
    try:
        bus.join(channel="239.74.163.2", **options)
        with can.Bus("239.74.163.3", **options) as strange, can.Bus("239.74.163.2", **options) as own:
            strange.send(can.Message(arbitration_id=0x111, is_extended_id=False))
            own.send(can.Message(arbitration_id=0x222, is_extended_id=False))
            if own.recv(1.0) is None:
                pytest.skip("no multicast here")
            deadline = time.monotonic() + 10
            while 0x222 not in heard and time.monotonic() < deadline:
                time.sleep(0.01)
    except OSError:
        pytest.skip("no multicast here")
    finally:
        bus.close()
    assert heard == [0x222]


def test_an_interface_that_cannot_be_opened_is_reported_in_one_sentence(tmp_path: Path) -> None:
    bus = CanBus(everything())
    with pytest.raises(OSError, match=r"^cannot open nonsense 0: "):
        bus.join("nonsense", "0")
    bus.close()
    bus.close()
    (tmp_path / "can0").write_text("in the way")
    with pytest.raises(FileExistsError):
        CanBus(everything(), str(tmp_path / "can0"))
    assert not [t for t in threading.enumerate() if t.name == "CAN segment"]


def test_only_a_node_that_changes_its_bit_rate_alone_is_lost() -> None:
    bus = CanBus(Scenario({name: everything().nodes[name] for name in ("air", "fuel")}))
    heard: list[SimFrame] = []
    bus.segment.attach("witness", heard.append)
    us = bus.segment.attach("us")
    last = SimFrame(0x7FF)

    def heard_from(now: float) -> set[int]:
        """The nodes that send parameters at `now`."""
        heard.clear()
        bus.tick(aircraft, now)
        us.send(last)  # has the lowest priority, so it is sent after everything else
        assert wait_for(lambda: last in heard)
        return {frame.data[0] for frame in heard if 0xFF < frame.arbitration_id < 0x6E0}

    def tell(node: str, request: bytes, now: float) -> None:
        us.send(SimFrame(0x6E0 + 0x91, request))
        assert wait_for(lambda: bus.play.stations[node].node._inbox)
        heard_from(now)

    aircraft = Aircraft(turbulence=0.0)
    try:
        assert heard_from(0.0) == {0x32, 0x44}
        tell("fuel", b"\x01\x44\x03", 0.1)
        assert bus.segment.bitrate == 250_000
        assert heard_from(2.0) == {0x32}
        tell("air", b"\x01\x32\x03", 2.1)
        assert bus.segment.bitrate == 500_000
        assert heard_from(4.0) == {0x32, 0x44}
        assert SimFrame(0x6E0 + 0x32, b"\x01\x91") in heard
    finally:
        bus.close()


def test_the_adapter_is_unplugged_and_plugged_in_again(tmp_path: Path) -> None:
    played = scenario(tmp_path, "at: 1, adapter: unplugged, for: 1", "at: 3, adapter: error-passive, for: 1")
    told: list[tuple[float, str]] = []
    bus = CanBus(played, str(tmp_path / "can0"), lambda at, words: told.append((at, words)))
    aircraft = Aircraft(turbulence=0.0)
    try:
        assert bus.adapter is not None
        there = []
        for now in (0.0, 1.0, 2.0, 3.0, 4.0):
            bus.tick(aircraft, now)
            there.append(((tmp_path / "can0").exists(), bus.adapter.flags))
        assert there == [(True, 0), (False, 0), (True, 0), (True, 0x24), (True, 0)]
    finally:
        bus.close()
    assert told == [
        (1.0, "the adapter: unplugged"),
        (2.0, "the adapter: unplugged is over"),
        (3.0, "the adapter: error-passive"),
        (4.0, "the adapter: error-passive is over"),
    ]


@pytest.mark.parametrize("attribute", ["jammed", "mute"])
def test_an_adapter_can_be_jammed_or_mute(tmp_path: Path, attribute: str) -> None:
    bus = CanBus(scenario(tmp_path, f"at: 1, adapter: {attribute}, for: 1"), str(tmp_path / "can0"))
    try:
        states = []
        for now in (0.0, 1.0, 2.0):
            bus.tick(Aircraft(), now)
            states.append(getattr(bus.adapter, attribute))
    finally:
        bus.close()
    assert states == [False, True, False]


def test_events_of_an_adapter_need_an_adapter(tmp_path: Path) -> None:
    played = scenario(tmp_path, "at: 1, adapter: unplugged, for: 1")
    assert times(played, 0x227, 3.0)
    told: list[tuple[float, str]] = []
    bus = CanBus(played, tell=lambda at, words: told.append((at, words)))
    for now in (0.0, 1.0, 2.0):
        bus.tick(Aircraft(), now)
    bus.close()
    assert told == [(1.0, "the adapter is not here: unplugged")]


def test_a_scenario_is_silent_after_its_end(tmp_path: Path) -> None:
    bus = CanBus(scenario(tmp_path, rest="duration: 2\n")._replace(events=()))
    try:
        bus.tick(Aircraft(), 100.0)
        assert not bus.over.is_set()
        assert wait_for(lambda: bus.segment.frames > 10)
        bus.tick(Aircraft(), 102.0)
        assert bus.over.is_set()
    finally:
        bus.close()


def test_a_bench_has_a_bus_behind_an_slcan_adapter(tmp_path: Path) -> None:
    with bench(tmp_path):
        bus = can.Bus(interface="slcan", channel=str(tmp_path / "can0"), bitrate=250_000, sleep_after_open=0.1)
        try:
            seen: Counter[int] = Counter()
            assert wait_for(
                lambda: (
                    (m := bus.recv(0.1)) is not None
                    and (seen.update([m.data[0]] if m.arbitration_id < 0x6E0 else []) or len(seen) == len(DEVICES))
                )
            )
        finally:
            bus.shutdown()
    assert set(seen) == {device.DEVICE for device in DEVICES.values()}
    assert list(tmp_path.iterdir()) == []


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_runs_a_scenario_to_its_end(
    tmp_path: Path, channel: str, listener: Listener, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "short.yaml"
    path.write_text(
        "description: A short one\nduration: 1\nnodes: {air: {id: 99}}\n"
        "events: [{at: 0.5, node: air, fault: silent, for: 0.2}]\n"
    )
    before = signal.getsignal(signal.SIGTERM)
    code = main(["sim", "can", "--interface", "virtual", "--channel", channel, "--scenario", str(path)])
    assert signal.getsignal(signal.SIGTERM) is before
    out = capsys.readouterr().out
    assert code == 0
    assert out.startswith("A short one\n  node 99 (0x63)  air: Virtual EFIS air data\non virtual ")
    assert "    0.50 s  air: silent\n    0.70 s  air: silent is over\n" in out
    message = listener.hear(lambda m: m.arbitration_id == 0x183)
    assert message is not None
    assert message.data[0] == 99


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("", "name the bus: "),
        ("--slcan {dir}/c --replay {dir}/nothing.log", "--replay: there is no file "),
        ("--interface virtual", "use --interface and --channel together"),
        ("--slcan {dir}/c --channel x", "use --interface and --channel together"),
        ("--slcan {dir}/c --scenario nowhere", "no scenario 'nowhere': give a file, or one of cruise,"),
        ("--interface nonsense --channel x", "cannot open nonsense x: "),
        ("--slcan {dir}/no/such/folder/c", "No such file or directory"),
        ("--slcan {dir}/c --scenario {dir}/bad.yaml", "bad.yaml:1:1: unknown option 'node' (did you mean 'nodes'?)"),
    ],
)
def test_the_command_reports_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: str, complaint: str
) -> None:
    (tmp_path / "bad.yaml").write_text("node: {air: }\n")
    assert main(["sim", "can", *(word.replace("{dir}", str(tmp_path)) for word in arguments.split())]) == 1
    assert complaint in capsys.readouterr().err


def test_the_command_replays_a_log(
    tmp_path: Path, channel: str, listener: Listener, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "flight.log"
    log.write_text("".join(f"({n // 10}.{n % 10}) can0 {0x100 + n:03X}#0C00{n % 256:02X}\n" for n in range(500)))
    arguments = ["sim", "can", "--interface", "virtual", "--channel", channel, "--replay", str(log)]
    assert main([*arguments, "--speed", "0"]) == 0
    heard = [listener.hear(lambda m: True) for _ in range(500)]
    assert [m and m.arbitration_id for m in heard] == [*range(0x100, 0x100 + 500)]
    assert f"replaying {log}\n" in capsys.readouterr().out
    began = time.monotonic()
    assert main([*arguments, "--speed", "100"]) == 0
    assert 0.4 < time.monotonic() - began < 5
    assert main([*arguments, "--duration", "0.3"]) == 0


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_on_a_signal_and_leaves_nothing_behind(tmp_path: Path, ending: signal.Signals) -> None:
    adapter = tmp_path / "can0"
    process = subprocess.Popen(
        [sys.executable, "-m", "fixgw", "sim", "can", "--slcan", str(adapter), "--scenario", "cruise"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert wait_for(adapter.exists)
        assert process.stdout is not None
        for line in process.stdout:
            if "Ctrl-C" in line:
                break
        os.kill(process.pid, ending)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, err) == (0, "")
    assert not adapter.exists()


# -- values that are set -----------------------------------------------------------------------------------------------


def test_every_device_sees_a_value_that_is_set_for_all(tmp_path: Path) -> None:
    made = scenario(tmp_path, "at: 1, set: OILP1, to: 12, for: 2", "at: 2, set: OILP1, to: 90, for: 4")
    aircraft, play = made.aircraft(), Play(made)
    seen = {}
    for now in (0.0, 0.5, 1.5, 2.5, 3.5, 5.5, 6.5):
        play.due(now, aircraft)
        seen[now] = aircraft.values()["OILP1"]
    real = seen[0.0]
    assert seen == {0.0: real, 0.5: real, 1.5: 12.0, 2.5: 90.0, 3.5: 90.0, 5.5: 90.0, 6.5: real}


def test_a_node_alone_sees_a_value_that_is_set_for_it(tmp_path: Path) -> None:
    nodes = "nodes: {engine: , spare: {device: engine, id: 66}}\n"
    path = tmp_path / "made.yaml"
    path.write_text(f"{nodes}events:\n  - {{at: 1, node: spare, set: OILP1, to: 12}}\n")
    last = {
        frame.data[0]: int.from_bytes(frame.data[3:5], "little") / 100
        for _, frame in frames(load(path), 3.0)
        if frame.arbitration_id == 0x220 and frame.data[2] < 16
    }
    assert last[66] == 12.0
    assert last[0x40] > 30.0


def test_an_instrument_alone_sees_a_value_that_is_set_for_it(tmp_path: Path) -> None:
    made = scenario(tmp_path, "at: 1, instrument: eis, set: OILP1, to: 12, for: 1")

    class Line:
        data = b""

        def write(self, data: bytes) -> None:
            self.data += data

        def close(self) -> None: ...

    eis = Eis(Line())
    aircraft, play = made.aircraft(), Play(made, instruments={"eis": eis})
    seen = []
    for now in (0.5, 1.5, 2.5):
        play.due(now, aircraft)
        assert float(aircraft.values()["OILP1"]) > 30.0
        seen.append(eis.frames(cast("Aircraft", Seen(aircraft, eis.holds)), now))
        eis.tick(aircraft, now)
    assert seen[0] != seen[1]
    assert eis.holds == ()


def test_what_cannot_be_set_is_reported_with_the_nearest_key(written: Callable[[str], Path]) -> None:
    path = written(
        "events:\n"
        "  - {at: 1, set: OILP, to: 12}\n"
        "  - {at: 1, set: OILP1, to: low}\n"
        "  - {at: 1, set: TACH1, to: 2400.5}\n"
        "  - {at: 1, set: WPNAME, to: 7}\n"
        "  - {at: 1, set: COMACTTX1, to: 1}\n"
        "  - {at: 1, set: OILP1}\n"
        "  - {at: 1, instrument: panel, set: OILP1, to: 3}\n"
        "  - {at: 1, node: engin, set: OILP1, to: 3}\n"
    )
    assert problems(path) == [
        "2: events[0]: the aircraft has no 'OILP' (did you mean 'OILP1'?)",
        "3: events[1]: OILP1 is a number, not 'low'",
        "4: events[2]: TACH1 is a whole number, not 2400.5",
        "5: events[3]: WPNAME is a text, not 7",
        "6: events[4]: COMACTTX1 is true or false, not 1",
        "7: events[5]: 'to' is missing",
        "8: events[6]: only instruments on serial lines can see a value of their own: set it for all",
        "9: events[7]: no node 'engin' (did you mean 'engine'?)",
    ]


@pytest.mark.parametrize("value", ["yes", "2400", "43.5"])
def test_a_set_value_keeps_the_type_of_its_key(tmp_path: Path, value: str) -> None:
    key = {"yes": "COMACTTX1", "2400": "TACH1", "43.5": "LAT"}[value]
    made = scenario(tmp_path, f"at: 0, set: {key}, to: {value}")
    aircraft, play = made.aircraft(), Play(made)
    before = aircraft.values()[key]
    play.due(0.0, aircraft)
    assert type(aircraft.values()[key]) is type(before)
