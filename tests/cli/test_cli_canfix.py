"""`fixgw canfix` on virtual buses with virtual nodes: its output, its requests and its refusals."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from fixgw import configuration
from fixgw.cli import main, package_commands
from fixgw.drivers.canfix import table
from fixgw.drivers.canfix.tool import change, dbc
from fixgw.drivers.links.can import log as can_log
from fixgw.drivers.links.can.frame import Frame
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.can.bus import CanBus
from fixgw.hw_sim.can.faults import Deaf, DuplicateNode, Failed, Fault, OldLibrary
from fixgw.hw_sim.can.nodes import VirtualNode
from fixgw.hw_sim.can.segment import SimFrame
from fixgw.hw_sim.scenario import Flight, NodeOptions, Scenario, everything, frames
from fixgw.hw_sim.world import World

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from tests.cli.conftest import Bench, Result, Terminal

    Cli = Callable[..., Result]
    Simulate = Callable[..., "Panel"]

COMMANDS = (
    ["nodes"],
    ["monitor"],
    ["send"],
    ["node-id"],
    ["bitrate"],
    ["disable"],
    ["enable"],
    ["report"],
    ["config", "get"],
    ["config", "set"],
    ["dbc"],
    ["map"],
)


def joined(words: object) -> str | None:
    """A test's name from a command's words."""
    return " ".join(words) if isinstance(words, list) else None


FLIGHT = Flight(after=300, turbulence=0)


@cache
def airborne() -> Aircraft:
    """The aircraft where `FLIGHT` begins."""
    return Scenario({}, FLIGHT).aircraft()


class Panel:
    """A virtual bus with flying nodes; `sent` collects the frames that others send."""

    def __init__(self, names: tuple[str, ...], faults: Mapping[str, Fault], adapter: str | None) -> None:
        options = {name: NodeOptions() for name in names}
        self.bus = CanBus(Scenario(options, FLIGHT), adapter)
        for name, fault in faults.items():
            self.bus.play.stations[name].begin(fault)
        self.channel = adapter or f"test-{uuid4()}"
        self.where = ["--interface", "virtual", "--channel", self.channel]
        if adapter:
            self.where = ["--interface", "slcan", "--channel", adapter, "--bitrate", "250000"]
        else:
            self.bus.join("virtual", self.channel)
        self.sent: list[SimFrame] = []
        self.listener = self.bus.segment.attach("listener", self._hear, 1000)
        self.world = World(deepcopy(airborne()))
        self.world.attach(self.bus)
        self.world.start()

    def node(self, name: str) -> VirtualNode:
        return self.bus.play.stations[name].node

    def _hear(self, frame: SimFrame) -> None:
        if frame.arbitration_id == 0x7DF or frame.data[:1] == b"\xff":  # node 255
            self.sent.append(frame)

    def close(self) -> None:
        self.world.stop()
        self.bus.close()


@pytest.fixture
def simulate() -> Iterator[Simulate]:
    """Put virtual devices on a bus: by default an engine monitor and a panel."""
    panels = []

    def start(*names: str, adapter: Path | None = None, **faults: Fault) -> Panel:
        panel = Panel(names or ("engine", "panel"), faults, str(adapter) if adapter else None)
        panels.append(panel)
        return panel

    yield start
    for panel in panels:
        panel.close()


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """No gateway, no configuration, and only a short listening time."""
    monkeypatch.setenv("FIXGW_PORT", "1")
    monkeypatch.setattr(change, "LISTEN_S", 0.2)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Listen long enough to hear everything, on a busy machine too."""
    monkeypatch.setattr(change, "LISTEN_S", 1.5)


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# -- finding the command -----------------------------------------------------------------------------------------------


def test_a_driver_package_provides_its_own_command(cli: Cli) -> None:
    assert package_commands()["canfix"].module == "fixgw.drivers.canfix.command"
    assert re.search("canfix +tools for a CAN-FIX bus: list the nodes", cli("--help").out)


@pytest.mark.parametrize("command", COMMANDS, ids=joined)
def test_every_command_explains_itself_with_examples(cli: Cli, command: list[str]) -> None:
    code, out, err = cli("canfix", *command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: fixgw canfix {' '.join(command)}")
    assert f"examples:\n  fixgw canfix {' '.join(command)}" in out


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["fly"],
        ["node-id", "0", "5"],
        ["node-id", "256", "5"],
        ["node-id", "all", "5"],
        ["enable", "all", "IAS"],
        ["bitrate", "100"],
        ["config", "get", "64", "65536"],
        ["config", "set", "64", "1", "--hex", "0102030405"],
        ["send", "--frame", "183"],
        ["send", "--frame", "20000004#00"],
        ["send", "IAS", "1", "--rate", "0"],
        ["monitor", "--count", "0"],
        ["monitor", "--option", "nonsense"],
    ],
)
def test_wrong_usage_is_one_line_and_code_2(cli: Cli, argv: list[str]) -> None:
    code, out, err = cli("canfix", *argv)
    assert (code, out) == (2, "")
    assert err.startswith("fixgw canfix")
    assert err.count("\n") == 1


# -- choosing the bus --------------------------------------------------------------------------------------------------


def configured(directory: Path, *channels: str, **options: str) -> Path:
    """A configuration with a CAN-FIX connection for each channel."""
    path = directory / "default.yaml"
    lines = ["connections:"]
    for number, channel in enumerate(channels, 1):
        lines += [f"  can{number}:", "    module: fixgw.plugins.canfix", "    interface: virtual"]
        lines += [f"    channel: {channel}", *(f"    {name}: {value}" for name, value in options.items())]
    lines += ["  netfix: {module: fixgw.plugins.netfix, port: 0}"]
    path.write_text("\n".join(lines))
    return path


def test_the_only_connection_gives_the_bus(cli: Cli, simulate: Simulate, tmp_path: Path) -> None:
    panel = simulate("fuel")
    file = configured(tmp_path, panel.channel)
    code, out, _ = cli("canfix", "nodes", "--duration", "0.5", "--config-file", str(file))
    assert code == 0
    assert "Virtual fuel computer" in out


def test_several_connections_need_a_choice(cli: Cli, simulate: Simulate, tmp_path: Path) -> None:
    panel = simulate("fuel")
    file = configured(tmp_path, "elsewhere", panel.channel)
    quick = ("canfix", "nodes", "--duration", "0.5", "--config-file", str(file))
    code, _, err = cli(*quick)
    assert code == 1
    assert f"{file} has several CAN-FIX connections: choose one of can1, can2" in err
    assert "Virtual fuel computer" in cli(*quick, "--connection", "can2").out
    code, _, err = cli(*quick, "--connection", "can3")
    assert code == 1
    assert "no enabled CAN-FIX connection 'can3'" in err


def test_without_a_connection_the_bus_must_be_named(cli: Cli) -> None:
    code, out, err = cli("canfix", "nodes")
    assert (code, out) == (1, "")
    assert "has no CAN-FIX connection: name the bus with --interface and --channel" in err


def test_an_interface_must_exist_and_needs_a_channel(cli: Cli) -> None:
    no_channel = cli("canfix", "nodes", "--interface", "virtual")
    assert "--interface: name the virtual channel as well, with --channel" in no_channel.err
    assert (
        "'virtuall' (did you mean 'virtual'?)"
        in cli("canfix", "nodes", "--interface", "virtuall", "--channel", "x").err
    )
    bad = cli("canfix", "nodes", "--interface", "virtual", "--channel", "x", "--bitrate", "5")
    assert bad.code == 1
    assert "bitrate" in bad.err


def test_an_adapter_in_use_by_the_gateway_is_explained(cli: Cli, simulate: Simulate, tmp_path: Path) -> None:
    panel = simulate("fuel", adapter=tmp_path / "can0")
    results: list[int] = []
    first = threading.Thread(
        target=lambda: results.append(main(["canfix", "monitor", *panel.where, "--duration", "4"]))
    )
    first.start()
    assert panel.bus.adapter is not None
    until(lambda: panel.bus.adapter and panel.bus.adapter.opened)
    code, _, err = cli("canfix", "nodes", *panel.where)
    first.join(30)
    assert code == 1
    assert "is the gateway using it? An adapter serves one program at a time" in err
    assert results == [0]


# -- nodes -------------------------------------------------------------------------------------------------------------


def nodes(cli: Cli, panel: Panel, *options: str, seconds: float = 0.6) -> dict[str, Any]:
    result = cli("canfix", "nodes", *panel.where, "--duration", str(seconds), "--json", *options)
    found: dict[str, Any] = json.loads(result.out)
    return found


def test_nodes_shows_identity_and_health(cli: Cli, simulate: Simulate) -> None:
    panel = simulate("air", "engine", "fuel", engine=Failed(0x200))
    panel.node("fuel").errors = 0x0004
    code, out, _ = cli("canfix", "nodes", *panel.where, "--duration", "1.5")
    assert code == 0
    header, air, engine, fuel = out.splitlines()
    assert header.split() == ["NODE", "TYPE", "MODEL", "FIRMWARE", "DESCRIPTION", "FRAMES/S", "HEALTH"]
    assert air.startswith("50 (0x32)  air data (0x32)")
    assert "0x010132  1         Virtual EFIS air data" in air
    assert air.endswith("good")
    assert engine.endswith("good, 1 value failed")
    assert fuel.endswith("errors 0x0004")


def test_nodes_prints_json_with_rates(cli: Cli, simulate: Simulate) -> None:
    found = nodes(cli, simulate("air", "fuel"), seconds=1.2)
    air, fuel = found["nodes"]
    assert (air["node"], air["type"], air["type_name"], air["model"], air["firmware"]) == (
        0x32,
        0x32,
        "air data",
        0x010132,
        1,
    )
    assert (fuel["description"], fuel["health"], fuel["status"]["Node Status"]) == ("Virtual fuel computer", "good", 0)
    assert 5 < air["parameters"]["0x183"] < 25
    assert (found["conflicts"], found["notes"]) == ([], [])


def test_two_nodes_that_send_the_same_parameter_conflict(cli: Cli, simulate: Simulate) -> None:
    panel = simulate("fuel", fuel=DuplicateNode(69))
    assert {"id": 0x226, "name": "Fuel Quantity #1", "nodes": [68, 69]} in nodes(cli, panel)["conflicts"]
    out = cli("canfix", "nodes", *panel.where, "--duration", "0.6").out
    assert "  0x226 Fuel Quantity #1: nodes 68 (0x44) and 69 (0x45)" in out.splitlines()


def test_two_answers_reveal_two_devices_with_one_id(cli: Cli, simulate: Simulate) -> None:
    (fuel,) = nodes(cli, simulate("fuel", fuel=DuplicateNode()))["nodes"]
    assert fuel["twins"]
    assert "two devices with this id" in fuel["health"]


def test_a_node_that_does_not_answer_is_still_listed(cli: Cli, simulate: Simulate) -> None:
    panel = simulate("fuel", fuel=Deaf())
    out = cli("canfix", "nodes", *panel.where, "--duration", "1", "--long").out
    assert "68 (0x44)  unidentified" in out
    assert "    0x226 Fuel Quantity #1, " in out


def test_quiet_sends_nothing(cli: Cli, simulate: Simulate) -> None:
    panel = simulate("fuel")
    assert [n["node"] for n in nodes(cli, panel, "--quiet")["nodes"]] == [68]
    assert panel.sent == []


def test_a_silent_bus_is_a_failure(cli: Cli) -> None:
    code, out, _ = cli("canfix", "nodes", "--interface", "virtual", "--channel", str(uuid4()), "--duration", "0.2")
    assert code == 1
    assert out == "nothing received: is the bus powered and terminated, and is the bit rate right?\n"


def test_another_device_with_our_own_id_is_noticed(cli: Cli, simulate: Simulate) -> None:
    panel = simulate("fuel")
    notes = nodes(cli, panel, "--node", "68")["notes"]
    assert "another device is node 68 (0x44), as we are: choose another id with --node" in notes
    code, _, err = cli("canfix", "disable", "68", "FUELQ1", *panel.where, "--node", "68", "--yes")
    assert code == 1
    assert "another device on this bus is node 68 (0x44): choose another id with --node" in err
    assert panel.node("fuel").memory.disabled == set()


@pytest.fixture
def flown(simulate: Simulate, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Panel:
    """Air data on a bus, and a gateway that reads it."""
    panel = simulate("air")
    bench.stop()
    bench.connection_options = (
        f"\n  can0: {{module: fixgw.drivers.canfix, interface: virtual, channel: {panel.channel}}}"
    )
    bench.port = 0
    bench.start()
    monkeypatch.setenv("FIXGW_PORT", str(bench.port))
    return panel


def test_the_gateway_lists_the_nodes_that_it_knows(cli: Cli, flown: Panel) -> None:
    def known() -> Any:
        found = json.loads(cli("canfix", "nodes", "--gateway", "--json").out)["nodes"]
        return found and found[0]["description"] and found[0]["parameters"] and found

    until(known, 15)
    (air,) = known()
    assert (air["node"], air["type_name"], air["model"], air["health"]) == (50, "air data", 0x010132, "good")
    assert 5 < air["parameters"]["0x183"] < 25
    assert "Virtual EFIS air data" in cli("canfix", "nodes", "--gateway").out


@pytest.mark.usefixtures("patient")
def test_the_gateway_is_a_node_like_any_other(cli: Cli, flown: Panel, bench: Bench) -> None:
    until(lambda: bench.db.read("IAS").good)
    gateway = nodes(cli, flown)["nodes"][1]
    assert (gateway["node"], gateway["type_name"], gateway["description"]) == (182, "CAN-FIX router", "FIX Gateway")
    code, out, _ = cli("canfix", "config", "get", "182", "1", "--type", "UINT", *flown.where)
    assert (code, out) == (0, "key 1: e8 03  (UINT 1000)\n")
    refused = cli("canfix", "config", "set", "182", "1", "500", "--type", "UINT", "--yes", "--force", *flown.where)
    assert "node 182 (0xB6) refused key 1: read-only" in refused.err
    code, _, err = cli("canfix", "disable", "50", "ALT", "--yes", *flown.where)
    assert code == 1
    assert "knots according to node 50 (0x32), IAS is" in err
    assert "knots according to the gateway" in err


# -- monitor -----------------------------------------------------------------------------------------------------------


def monitor(cli: Cli, panel: Panel, *options: str) -> list[str]:
    code, out, err = cli("canfix", "monitor", *panel.where, *options)
    assert (code, err) == (0, "")
    return out.splitlines()


def test_monitor_shows_frames_in_field_terms(cli: Cli, simulate: Simulate) -> None:
    (line,) = monitor(cli, simulate("air"), "0x190", "--count", "1")
    assert re.fullmatch(r"    0\.\d{3}  190   50  BARO          Altimeter Setting: \d\d\.\d{3} inHg", line)


@pytest.mark.parametrize(
    ("words", "identifiers"),
    [
        (["airspeed"], {"183", "18D", "18E"}),
        (["EGT*"], {"502"}),
        (["CHT13"], {"500"}),
        (["0x226-0x228"], {"226", "227"}),
        (["0x183", "BARO"], {"183", "190"}),
        (["--from", "68", "quantity"], {"226", "227"}),
        (["--from", "0x44"], {"21A", "226", "227", "724"}),
        (["0x712"], {"712"}),
    ],
    ids=joined,
)
def test_monitor_filters_by_name_pattern_range_and_node(
    cli: Cli, tmp_path: Path, words: list[str], identifiers: set[str]
) -> None:
    log = tmp_path / "flight.log"
    with log.open("w") as file:
        for at, frame in frames(everything(), 2.0):
            print(can_log.line(Frame(frame.arbitration_id, frame.data), "can0", at), file=file)
    code, out, _ = cli("canfix", "monitor", "--log", str(log), *words)
    assert code == 0
    assert {line.split()[1] for line in out.splitlines()} == identifiers


@pytest.mark.parametrize("word", ["OLIP1", "EGT[ab]9", "IAS.Vne"])
def test_monitor_rejects_unknown_parameters_at_once(cli: Cli, tmp_path: Path, word: str) -> None:
    (log := tmp_path / "flight.log").write_text("(0.0) can0 183#320000D204\n")
    code, out, err = cli("canfix", "monitor", "--log", str(log), "IAS", "EGT1?", "0x600", word)
    assert (code, out) == (1, "")
    assert f"no CAN-FIX parameter '{word}'" in err


def test_monitor_prints_json_with_flags_and_units(cli: Cli, simulate: Simulate) -> None:
    panel = simulate("fuel", fuel=Failed())
    found = [json.loads(line) for line in monitor(cli, panel, "FUELQ1", "--json", "--duration", "1.2")]
    live = [f for f in found if f["meta"] is None]
    assert live
    assert all((f["key"], f["units"], f["flags"], f["node"]) == ("FUELQ1", "gal", ["fail"], 68) for f in live)


def test_monitor_raw_is_a_candump_log_that_monitor_reads(cli: Cli, simulate: Simulate, tmp_path: Path) -> None:
    panel = simulate("air")
    raw = monitor(cli, panel, "--raw", "--count", "40")
    assert all(can_log.parse(line) for line in raw)
    log = tmp_path / "flight.log"
    log.write_text("\n".join(raw))
    code, out, _ = cli("canfix", "monitor", "--log", str(log))
    assert code == 0
    assert len(out.splitlines()) == 40
    assert cli("canfix", "monitor", "--log", str(log), "--raw").out.splitlines() == raw
    found = json.loads(cli("canfix", "nodes", "--log", str(log), "--json").out)
    assert ([n["node"] for n in found["nodes"]], found["frames"]) == ([50], 40)


LOG = """\
(1753110000.000000) can0 183#320000D204
(1753110000.250000) can1 183#320000E204
 nonsense
(1753110000.500000) can0 183#330001DA04
(1753110000.750000) can0 200#400050F00A
(1753110001.000000) can0 7D0#0600000000
(1753110001.250000) can0 012#0102
(1753110001.500000) can0 600#00
(1753110001.750000) can0 183#32
"""


def test_monitor_reads_a_log_from_standard_input(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(LOG))
    assert cli("canfix", "monitor", "--log", "-", "--channel", "can0").out.splitlines() == [
        "    0.000  183   50  IAS           Indicated Airspeed: 123.4 knots",
        "    0.500  183   51  IAS           Indicated Airspeed: 124.2 knots, annunciate",
        "    0.750  200   64  TACH1.lowAlarm  N1 or Engine RPM #1, Low Alarm: 2800 RPM",
        "    1.000  7D0  240                good",
        "    1.250  012   18                ALARM 513",
        "    1.500  600    -                reserved identifier: 00",
        "    1.750  183    -                Indicated Airspeed cut short: it needs 5 bytes: 32",
    ]


def test_conflicts_are_found_in_a_log(cli: Cli, tmp_path: Path) -> None:
    log = tmp_path / "flight.log"
    log.write_text(LOG)
    found = json.loads(cli("canfix", "nodes", "--log", str(log), "--json", "--channel", "can0").out)
    assert found["conflicts"] == [{"id": 0x183, "name": "Indicated Airspeed", "nodes": [50, 51]}]
    alarming = next(n for n in found["nodes"] if n["node"] == 18)
    assert (alarming["alarms"], alarming["health"]) == ({"513": 1}, "alarm 513")


def test_the_other_table_gives_other_names(cli: Cli, tmp_path: Path) -> None:
    log = tmp_path / "old.log"
    log.write_text("(1.0) can0 545#4000007B00\n")
    assert "Strut Pressure" in cli("canfix", "monitor", "--log", str(log)).out
    assert "Flight Time: 12.3 " in cli("canfix", "monitor", "--log", str(log), "--table", "2023").out


def test_a_missing_log_is_reported_in_one_sentence(cli: Cli) -> None:
    assert cli("canfix", "monitor", "--log", "/nowhere.log").err == "fixgw: --log: there is no file /nowhere.log\n"


def test_on_a_terminal_each_parameter_has_one_line_updated_in_place(
    simulate: Simulate, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    panel = simulate("air", adapter=tmp_path / "can0")
    page = terminal("canfix", "monitor", *panel.where, rows=60, columns=120)
    page.wait_for(r"CAN-FIX on slcan")
    page.wait_for(r"183 IAS +\d+\.\d +knots +\S*good\S* .* Hz +Indicated Airspeed, from 50")
    page.wait_for(r"712\. .* good")
    page.type("q")
    assert page.end() == 0


# -- sending -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "identifier", "data"),
    [
        (["IAS", "101.5"], 0x183, "ff 00 00 f7 03"),
        (["0x500", "190", "--index", "2", "--fail"], 0x500, "ff 02 04 6c 07"),
        (["EGT13", "700.4", "--bad", "--annunciate"], 0x502, "ff 02 03 5c 1b"),
        (["indicated airspeed", "158", "--meta", "vne"], 0x183, "ff 00 50 2c 06"),
        (["ROLL", "-12.5"], 0x181, "ff 00 00 1e fb"),
        (["Time", "15:04:05.678"], 0x580, "ff 00 00 0f 04 05 a6 02"),
        (["Date", "2025-07-21"], 0x581, "ff 00 00 e9 07 07 15"),
        (["0x308", "1,0b10,0,0,0x80"], 0x308, "ff 00 00 01 02 00 00 80"),
        (["WPNAME", "ALFA"], 0x480, "ff 00 00 41 4c 46 41 00"),
        (["BARO", "40", "--any"], 0x190, "ff 00 00 40 9c"),
        (["IAS", "101.5", "--node", "7"], 0x183, "07 00 00 f7 03"),
        (["--frame", "6E5#00C1"], 0x6E5, "00 c1"),
    ],
    ids=joined,
)
def test_send_puts_a_parameter_on_the_bus(
    cli: Cli, simulate: Simulate, words: list[str], identifier: int, data: str
) -> None:
    panel = simulate("panel")
    heard: list[SimFrame] = []
    panel.bus.segment.attach("ear", heard.append)
    code, out, err = cli("canfix", "send", *words, *panel.where, "--force")
    assert (code, err) == (0, "")
    assert out.startswith(f"sent {identifier:03X}#{data.replace(' ', '').upper()}")
    until(lambda: SimFrame(identifier, bytes.fromhex(data)) in heard)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["IAS", "1000000"], "outside what UINT can carry"),
        (["IAS", "1000"], "outside its range, 0 to 999.9"),
        (["IAS", "fast"], "'fast' is not a number"),
        (["ALT", "1.5"], "'1.5' is not a whole number"),
        (["IAS", "100", "--meta", "Vxx"], "it has no meta data 'Vxx' (did you mean 'Vx'?)"),
        (["Indicated Airsped", "1"], "did you mean 'Indicated Airspeed'?"),
        (["CHT", "1"], "it could be 0x500 Cylinder Head Temperature #1, 0x501 Cylinder Head Temperature #2"),
        (["183", "1"], "0x183 is Indicated Airspeed"),
        (["Time", "15:04"], "'15:04' is not 4 numbers (USHORT[3],UINT)"),
        (["0x1D7", "1"], "the table gives it no type"),
        (["IAS"], "give either PARAMETER and VALUE, or --frame"),
        ([], "give either PARAMETER and VALUE, or --frame"),
    ],
    ids=joined,
)
def test_a_value_that_cannot_be_sent_is_explained(cli: Cli, words: list[str], problem: str) -> None:
    where = ["--interface", "virtual", "--channel", str(uuid4())]
    code, out, err = cli("canfix", "send", *words, *where, "--force")
    assert (code, out) == (1, "")
    assert problem in err
    assert err.count("\n") == 1


def test_send_repeats_at_a_rate(cli: Cli, simulate: Simulate) -> None:
    panel = simulate("panel")
    code, out, _ = cli("canfix", "send", "IAS", "90", *panel.where, "--rate", "100", "--count", "5", "--force")
    assert code == 0
    assert out.endswith(", 5 times\n")
    until(lambda: [f.arbitration_id for f in panel.sent].count(0x183) == 5)


def test_the_owner_adopts_a_value(cli: Cli, simulate: Simulate) -> None:
    panel = simulate("air")
    code, out, _ = cli("canfix", "send", "BARO", "30.01", "--set", *panel.where)
    assert (code, out) == (0, "node 50 (0x32) now sends Altimeter Setting: 30.010 inHg\n")
    code, _, err = cli("canfix", "send", "BARO", "10", "--set", *panel.where, "--timeout", "1.2")
    assert code == 1
    assert "Altimeter Setting was not set: node 50 (0x32) still sends 30.010 inHg" in err
    code, _, err = cli("canfix", "send", "COURSE", "90", "--set", *panel.where, "--timeout", "0.3")
    assert code == 1
    assert "no node sends Selected Course" in err


def test_report_shows_everything_with_limits(cli: Cli, simulate: Simulate) -> None:
    panel = simulate("fuel", "panel")
    code, out, _ = cli("canfix", "report", "68", *panel.where, "--duration", "0.5")
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert {row[0] for row in rows} == {"68"}
    assert {"FUELQ1", "FUELQ1.lowWarn", "FUELQ2", "FUELF1", "FUELF1.Max"} <= {row[2] for row in rows}
    found = json.loads(cli("canfix", "report", "all", *panel.where, "--duration", "0.5", "--json").out)
    assert {f["node"] for f in found} == {68, 208}
    code, _, err = cli("canfix", "report", "9", *panel.where, "--duration", "0.2")
    assert code == 1
    assert "node 9 (0x09) sent nothing within 0.2 s" in err


# -- changing nodes ----------------------------------------------------------------------------------------------------


def test_a_node_changes_its_id(cli: Cli, simulate: Simulate) -> None:
    panel = simulate()
    code, out, _ = cli("canfix", "node-id", "64", "0x41", *panel.where, "--yes")
    assert (code, out) == (0, "node 64 (0x40) is now node 65 (0x41)\n")
    assert panel.node("engine").id == 65


def test_the_shorter_answer_of_an_old_node_is_understood(cli: Cli, simulate: Simulate) -> None:
    panel = simulate("engine", engine=OldLibrary())
    assert cli("canfix", "node-id", "64", "65", *panel.where, "--yes").code == 0


def test_an_id_in_use_is_refused(cli: Cli, simulate: Simulate, patient: None) -> None:
    panel = simulate()
    code, _, err = cli("canfix", "node-id", "64", "208", *panel.where, "--yes")
    assert code == 1
    assert "node 208 (0xD0) is already on the bus" in err
    assert panel.node("engine").id == 64
    same = cli("canfix", "node-id", "64", "64", *panel.where, "--yes")
    assert same.err == "fixgw: node 64 (0x40) already has that id\n"


def test_a_node_that_keeps_its_id_is_distinguished_from_an_absent_one(cli: Cli, simulate: Simulate) -> None:
    panel = simulate(engine=Deaf())
    quick = ("--yes", "--timeout", "0.6", *panel.where)
    kept = cli("canfix", "node-id", "64", "65", *quick)
    assert "node 64 (0x40) kept its id: it cannot change it, or is not permitted to" in kept.err
    code, _, err = cli("canfix", "node-id", "9", "65", "--yes", "--timeout", "0.3", *panel.where)
    assert code == 1
    assert "node 9 (0x09) does not answer: check the connection" in err


def test_parameters_are_disabled_and_enabled(cli: Cli, simulate: Simulate) -> None:
    panel = simulate()
    code, out, _ = cli("canfix", "disable", "64", "CHT12", "0x502", *panel.where, "--yes")
    assert code == 0
    assert out.splitlines() == [
        "node 64 (0x40) disabled 0x500 Cylinder Head Temperature #1",
        "node 64 (0x40) disabled 0x502 Exhaust Gas Temperature #1",
    ]
    assert panel.node("engine").memory.disabled == {0x500, 0x502}
    code, out, _ = cli("canfix", "enable", "64", "CHT11", *panel.where, "--yes")
    assert (code, out) == (0, "node 64 (0x40) enabled 0x500 Cylinder Head Temperature #1\n")
    assert panel.node("engine").memory.disabled == {0x502}


def test_a_node_refuses_to_disable_a_parameter_that_it_does_not_send(cli: Cli, simulate: Simulate) -> None:
    panel = simulate()
    code, out, err = cli("canfix", "disable", "64", "IAS", "TACH1", *panel.where, "--yes")
    assert code == 1
    assert out == "node 64 (0x40) disabled 0x200 N1 or Engine RPM #1\n"
    assert "refused 0x183 Indicated Airspeed: not one of its parameters, or not permitted" in err


def test_a_parameter_can_be_disabled_in_all_nodes_at_once(cli: Cli, simulate: Simulate) -> None:
    panel = simulate("engine", "fuel", fuel=DuplicateNode(69))
    quick = ("--yes", "--timeout", "0.5", *panel.where)
    code, out, _ = cli("canfix", "disable", "all", "FUELQ1", *quick)
    assert code == 0
    assert [line.split()[1] for line in out.splitlines()] == ["68", "69"]
    code, _, err = cli("canfix", "disable", "all", "IAS", *quick)
    assert code == 1
    assert "no node sends 0x183 Indicated Airspeed" in err


def test_a_node_that_never_answers_is_reported(cli: Cli, simulate: Simulate) -> None:
    panel = simulate(engine=OldLibrary())
    code, _, err = cli("canfix", "disable", "64", "TACH1", *panel.where, "--yes", "--timeout", "0.3")
    assert code == 1
    assert "node 64 (0x40) does not answer" in err


def test_all_nodes_change_the_bit_rate_and_the_adapter_follows(cli: Cli, simulate: Simulate, tmp_path: Path) -> None:
    panel = simulate(adapter=tmp_path / "can0")
    code, out, _ = cli("canfix", "bitrate", "500", *panel.where, "--yes")
    assert code == 0
    assert out.splitlines() == [
        "now at 500 kbit/s: 64 (0x40), 208 (0xD0)",
        "Now set `bitrate: 500000` in the configuration.",
    ]
    assert panel.bus.segment.bitrate == 500_000
    panel.where[-1] = "500000"
    assert [n["node"] for n in nodes(cli, panel)["nodes"]] == [64, 208]


def test_a_node_that_refuses_the_bit_rate_leaves_two_bit_rates_on_the_bus(cli: Cli, simulate: Simulate) -> None:
    panel = simulate("engine")

    def refuse(frame: SimFrame) -> None:
        if frame.arbitration_id == 0x7DF and frame.data[:1] == b"\x01":
            stubborn.send(SimFrame(0x6E0 + 70, b"\x01\xff\x01"))  # in the old style

    stubborn = panel.bus.segment.attach("stubborn", refuse)
    code, out, err = cli("canfix", "bitrate", "500", *panel.where, "--yes")
    assert code == 1
    assert "now at 500 kbit/s: 64 (0x40)\nrefused: 70 (0x46)\n" in out
    assert "the bus now has two bit rates" in err


def test_nodes_that_do_not_confirm_the_bit_rate_are_listed(
    cli: Cli, simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change, "BIT_RATE_TIMEOUT_S", 1.0)
    panel = simulate("engine", engine=Deaf())
    code, out, err = cli("canfix", "bitrate", "500", "--only", "64", *panel.where, "--yes")
    assert (code, out) == (1, "no answer: 64 (0x40)\n")
    assert "some nodes did not confirm the change" in err


# -- a node's configuration --------------------------------------------------------------------------------------------


def test_configuration_is_shown_as_every_matching_type_or_as_one(cli: Cli, simulate: Simulate) -> None:
    panel = simulate()
    code, out, _ = cli("canfix", "config", "get", "64", "1", "2", *panel.where)
    assert code == 0
    assert out.splitlines()[1] == "key 2: 0a 00  (WORD 10, INT 10, UINT 10)"
    found = json.loads(cli("canfix", "config", "get", "64", "2", "--type", "UINT", "--json", *panel.where).out)
    assert found == [{"node": 64, "key": 2, "data": "0a00", "UINT": 10}]


def test_configuration_is_set_and_read_back(cli: Cli, simulate: Simulate) -> None:
    panel = simulate()
    code, out, _ = cli("canfix", "config", "set", "64", "2", "30", "--type", "UINT", *panel.where, "--yes")
    assert (code, out) == (0, "key 2 of node 64 (0x40) is now 1e 00\n")
    assert panel.node("engine").memory.limits_every == 30
    assert cli("canfix", "config", "set", "64", "2", "--hex", "2800", *panel.where, "--yes").code == 0
    assert panel.node("engine").memory.limits_every == 40


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["get", "64", "9"], "node 64 (0x40), key 9: unknown key"),
        (["set", "64", "9", "1", "--type", "UINT"], "refused key 9: unknown key"),
        (["set", "64", "1", "1", "--type", "UDINT"], "refused key 1: read-only"),
        (["set", "64", "2", "0", "--type", "UINT"], "refused key 2: out of range"),
        (["set", "64", "2", "10", "--type", "BYTE"], "refused key 2: wrong type"),
        (["set", "64", "2", "-1", "--type", "UINT"], "outside what UINT can carry"),
        (["set", "64", "2", "10"], "give either VALUE with --type, or --hex"),
    ],
    ids=joined,
)
def test_a_nodes_refusal_is_explained(cli: Cli, simulate: Simulate, words: list[str], problem: str) -> None:
    panel = simulate("engine")
    yes = ["--yes"] if words[0] == "set" else []
    code, out, err = cli("canfix", "config", *words, *yes, *panel.where)
    assert (code, out) == (1, "")
    assert problem in err


def test_waiting_for_a_silent_node_times_out(cli: Cli, simulate: Simulate) -> None:
    panel = simulate("engine")
    code, _, err = cli("canfix", "config", "get", "9", "1", "--timeout", "0.3", *panel.where)
    assert code == 1
    assert "node 9 (0x09) does not answer" in err


# -- safety checks -----------------------------------------------------------------------------------------------------

DANGEROUS = (
    ["node-id", "68", "70"],
    ["bitrate", "500"],
    ["disable", "68", "FUELQ1"],
    ["enable", "68", "FUELQ1"],
    ["config", "set", "68", "2", "30", "--type", "UINT"],
)


@pytest.mark.parametrize("command", DANGEROUS, ids=joined)
@pytest.mark.usefixtures("patient")
def test_nothing_is_changed_in_flight(cli: Cli, simulate: Simulate, command: list[str]) -> None:
    panel = simulate("air", "gps", "fuel")
    code, out, err = cli("canfix", *command, *panel.where, "--yes")
    assert (code, out) == (1, "")
    assert err.startswith("fixgw: refused, the aircraft appears to be flying: IAS is ")
    assert "knots according to node 50 (0x32), GS is " in err
    assert "If it is on the ground, use --force" in err
    assert {frame.data[0] for frame in panel.sent} == {0}  # identification requests


@pytest.mark.usefixtures("patient")
def test_no_value_is_sent_in_flight(cli: Cli, simulate: Simulate) -> None:
    panel = simulate("air")
    code, _, err = cli("canfix", "send", "IAS", "10", *panel.where)
    assert code == 1
    assert "flying: IAS is" in err
    assert panel.sent == []


def test_force_overrides_the_check_for_flight(cli: Cli, simulate: Simulate) -> None:
    panel = simulate("air", "fuel")
    assert cli("canfix", "disable", "68", "FUELQ1", *panel.where, "--yes", "--force").code == 0
    assert panel.node("fuel").memory.disabled == {0x226}


@pytest.mark.usefixtures("patient")
def test_a_failed_speed_does_not_count_as_flight(cli: Cli, simulate: Simulate) -> None:
    panel = simulate("air", "fuel", air=Failed())
    assert cli("canfix", "disable", "68", "FUELQ1", *panel.where, "--yes").code == 0


def test_the_speed_known_to_the_gateway_counts_as_flight_too(cli: Cli, simulate: Simulate, bench: Bench) -> None:
    panel = simulate("fuel")
    disable = ("canfix", "disable", "68", "FUELQ1", "--yes", "--port", str(bench.port), *panel.where)
    bench.db.write("IAS", 95.0)
    code, _, err = cli(*disable)
    assert code == 1
    assert "flying: IAS is 95 knots according to the gateway" in err
    bench.db.write("IAS", 25.0)
    assert cli(*disable).code == 0


@pytest.mark.parametrize("command", DANGEROUS, ids=joined)
def test_nothing_is_done_without_confirmation(cli: Cli, simulate: Simulate, command: list[str]) -> None:
    panel = simulate("fuel")
    code, out, err = cli("canfix", *command, *panel.where)
    assert (code, out) == (1, "")
    assert "Confirm with --yes when there is no terminal" in err
    assert panel.sent == []


def test_the_user_is_asked_and_can_decline(
    simulate: Simulate, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    panel = simulate("engine", adapter=tmp_path / "can0")
    command = ("canfix", "node-id", "64", "65", *panel.where)
    asking = terminal(*command)
    asking.wait_for(r"Node 64 \(0x40\) will permanently become node 65 \(0x41\)\.")
    asking.wait_for(r"node 64 \(0x40\), engine data, Virtual engine monitor")
    asking.wait_for(r"No node on the bus sends a speed: make sure that the aircraft is stationary\.")
    asking.wait_for(r"Proceed\? \[y/N\] ")
    asking.type("\n")
    asking.wait_for("nothing was changed")
    assert asking.end() == 1
    assert panel.node("engine").id == 64
    again = terminal(*command)
    again.wait_for(r"\[y/N\] ")
    again.type("y\n")
    again.wait_for(r"node 64 \(0x40\) is now node 65 \(0x41\)")
    assert again.end() == 0
    assert panel.node("engine").id == 65


# -- other processes, other interfaces ---------------------------------------------------------------------------------


def test_commands_in_other_processes_reach_nodes_behind_an_adapter(
    simulate: Simulate, child: Callable[..., Result], tmp_path: Path
) -> None:
    panel = simulate("engine", adapter=tmp_path / "can0")
    done = child("canfix", "nodes", *panel.where, "--duration", "0.5")
    assert (done.code, done.err) == (0, "")
    assert "Virtual engine monitor" in done.out
    piped = child("canfix", "monitor", "TACH*", *panel.where, "--count", "3", "--raw")
    assert len(piped.out.splitlines()) == 3
    read = child("canfix", "monitor", "--log", "-", input=piped.out)
    assert read.out.count("N1 or Engine RPM #1") == 3


# -- the parameter table -----------------------------------------------------------------------------------------------


def test_the_dbc_file_matches_the_table(cli: Cli, tmp_path: Path) -> None:
    cantools = pytest.importorskip("cantools")
    file = tmp_path / "canfix.dbc"
    assert cli("canfix", "dbc", "--output", str(file)).code == 0
    assert file.read_bytes() == dbc.write(table.load()).encode(dbc.ENCODING)
    loaded = cantools.database.load_file(file)
    decoded = loaded.decode_message(0x183, bytes.fromhex("320000d204"))
    assert (decoded["Node"], decoded["Value"]) == (0x32, pytest.approx(123.4))
    command = [sys.executable, "-m", "fixgw", "canfix", "dbc", "--table", "2023"]
    piped = subprocess.run(command, capture_output=True, timeout=30, check=True).stdout
    assert piped == dbc.write(table.load(2023)).encode(dbc.ENCODING)


def test_the_default_map_is_printed_and_can_be_used(cli: Cli, tmp_path: Path) -> None:
    result = cli("canfix", "map", "--config-file", str(configuration.packaged()))
    assert result.code == 0
    (tmp_path / "map.yaml").write_text(result.out)
    (tmp_path / "default.yaml").write_text(
        "connections:\n  can: {module: fixgw.drivers.canfix, interface: virtual, channel: x, mapfile: map.yaml}\n"
    )
    assert configuration.check(tmp_path / "default.yaml") == []
