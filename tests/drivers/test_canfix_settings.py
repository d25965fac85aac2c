"""Settings on a CAN-FIX bus: several gateways that start, lose the bus, and set at the same time."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import can
import msgspec
import pytest
import yaml

from fixgw.database import INITIAL, KEPT, OLD, Database, Definition, item
from fixgw.drivers.canfix import Plugin, mapping, node, outputs
from fixgw.drivers.canfix import protocol as cf
from fixgw.drivers.canfix.inputs import Inputs
from fixgw.drivers.canfix.table import load
from fixgw.drivers.links.can import bus as can_bus
from fixgw.hw_sim.can import Segment, VirtualSlcan
from fixgw.world import World

pytestmark = pytest.mark.slow

SETTING = "inputs: [{canid: 0x190, fixid: BARO, nodespecific: yes}]\noutputs: [{fixid: BARO, canid: 0x190%s}]\n"
OWNER, ASKER = SETTING % ", owner: yes", SETTING % ""
WAYPOINT = (
    "{head}: [{{fixid: WPNAME, canid: 0x480{owner}}}, {{fixid: WPLAT, canid: 0x481{owner}}}, "
    "{{fixid: OILT1, canid: 0x222{owner}}}]\n"
)


def until(condition: Callable[[], object], what: Callable[[], object] = lambda: "", seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what() or "it did not happen"
        time.sleep(0.005)


class Panel:
    """A gateway with a CAN-FIX connection."""

    def __init__(self, path: Path, node: int, text: str, start: float | None = 29.92, **options: Any) -> None:
        self.db = Database(
            [
                Definition(key="BARO", min=20, max=35, units="inHg", setting=True),
                Definition(key="IAS", min=0, max=1000, units="knots", aux=("Vne",), tolerance=2000),
                Definition(key="WPNAME", type="str", tolerance=50000),
                Definition(key="WPLAT", min=-90, max=90, units="deg", tolerance=50000),
                Definition(key="OILT1", min=-50, max=250, units="degC", tolerance=2000),
            ]
        )
        self.db.start()
        if start is not None:
            self.db.write("BARO", start, INITIAL)
        path.write_text(text)
        with World(self.db).hosting():
            options = {"interface": "virtual", "channel": "settings", **options}
            self.plugin = Plugin(f"can{node}", {**options, "mapfile": str(path), "node": node})
        self.plugin.start()
        until(lambda: self.plugin._opened)

    def set(self, value: float) -> None:
        self.db.write("BARO", value, "knob")

    @property
    def baro(self) -> float:
        return float(self.db.read("BARO").value)

    def close(self) -> None:
        self.plugin.shutdown()
        self.db.stop()


Join = Callable[..., Panel]


@pytest.fixture
def join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Join]:
    """Gateways, by node id and map."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setattr(can_bus.SharedBus, "poll_timeout", 0.05)
    times = ((outputs, "RETRY_S"), (outputs, "LISTEN_S"), (node, "REPORT_INTERVAL_S"), (item, "HEARSAY_S"))
    for module, name in times:
        monkeypatch.setattr(module, name, 0.4)  # a second or more each; the tests need not take so long
    # Each gateway opens the bus itself, as on separate computers.
    monkeypatch.setattr(can_bus, "_key", lambda options: (id(options),))
    joined: list[Panel] = []

    def join(node: int, text: str, **options: Any) -> Panel:
        joined.append(Panel(tmp_path / f"{node}.yaml", node, text, **options))
        return joined[-1]

    yield join
    for panel in joined:
        panel.close()


@pytest.fixture
def wire() -> Iterator[can.BusABC]:
    bus = can.Bus("settings", interface="virtual", ignore_config=True)
    yield bus
    bus.shutdown()


def agree(value: float, *panels: Panel) -> None:
    until(lambda: all(panel.baro == value for panel in panels), lambda: [panel.baro for panel in panels])
    time.sleep(0.3)
    assert [panel.baro for panel in panels] == [value] * len(panels)


@pytest.mark.parametrize("text", [OWNER, ASKER], ids=["owner", "asker"])
def test_a_restarted_gateway_learns_the_setting_and_does_not_overwrite_it(join: Join, text: str) -> None:
    a, b = join(10, text), join(11, text)
    assert not b.db.read("BARO").good
    a.set(30.10)
    agree(30.10, a, b)
    assert b.db.read("BARO").good
    b.close()
    again = join(11, text)
    agree(30.10, a, again)
    assert again.db.read("BARO").good
    a.close()
    agree(30.10, join(10, text), again)


@pytest.mark.parametrize(("other", "says_it_again"), [(10, True), (12, False)])
def test_of_two_nodes_whose_values_cross_one_says_again_what_it_took(
    join: Join, wire: can.BusABC, other: int, says_it_again: bool
) -> None:
    b = join(11, OWNER)
    b.set(29.50)
    until(lambda: _heard(wire, 0x190))
    time.sleep(outputs.CROSSING_S + 0.05)  # the other node's message was held up
    value = round(30.10 / 0.001)
    wire.send(can.Message(arbitration_id=0x190, data=struct.pack("<BBBH", other, 0, 0, value), is_extended_id=False))
    until(lambda: b.baro == 30.10)
    said: list[tuple[int, ...]] = []
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline and not said:
        message = wire.recv(0.05)
        if message is not None and message.arbitration_id == 0x190:
            said.append(struct.unpack("<BBBH", message.data))
    assert said == ([(11, 0, 0, value)] if says_it_again else [])


def test_a_start_value_is_not_good_until_another_node_confirms_it(join: Join) -> None:
    a = join(10, OWNER)
    reading = a.db.read("BARO")
    assert (reading.flags, reading.reason(OLD)) == (OLD, "a start value: no node on the bus has sent it yet")
    a.set(29.92)
    assert a.db.read("BARO").good
    kept = join(11, OWNER, start=None)
    kept.db.write("BARO", 30.0, KEPT)
    agree(29.92, a) if kept.baro == 30.0 else agree(29.92, a, kept)


def test_the_owner_tells_a_simple_node_that_appears(join: Join, wire: can.BusABC) -> None:
    a = join(10, OWNER)
    a.set(30.10)
    until(lambda: _heard(wire, 0x190))
    wire.send(can.Message(arbitration_id=0x6E0 + 77, data=b"\6\0\0\0\0", is_extended_id=False))
    until(lambda: _heard(wire, 0x190))


def _heard(wire: can.BusABC, identifier: int) -> bool:
    message = wire.recv(0)
    return message is not None and message.arbitration_id == identifier


@pytest.mark.slow
@pytest.mark.parametrize("text", [OWNER, ASKER], ids=["owner", "asker"])
@pytest.mark.parametrize("how", ["jammed", "unplugged"])
def test_a_setting_made_while_the_adapter_was_away_arrives(join: Join, text: str, how: str) -> None:
    with Segment() as segment, VirtualSlcan(segment) as left, VirtualSlcan(segment) as right:
        slcan = {"interface": "slcan", "bitrate": 250000}
        a, b = join(10, text, channel=left.path, **slcan), join(11, text, channel=right.path, **slcan)
        a.set(29.50)
        agree(29.50, a, b)
        if how == "jammed":
            left.jammed = True
        else:
            left.unplug()
            until(lambda: not a.plugin.bus.bus.connected)
        for value in (29.60, 29.70, 30.10):
            a.set(value)
        time.sleep(0.6)  # more than one attempt
        assert b.baro == 29.50
        left.jammed = False
        if how == "unplugged":
            left.plug()
        agree(30.10, a, b)
        a.close()
        b.close()


@pytest.mark.slow
@pytest.mark.parametrize("text", [OWNER, ASKER], ids=["owner", "asker"])
def test_a_setting_made_by_others_while_the_adapter_was_away_stays(join: Join, text: str) -> None:
    with Segment() as segment, VirtualSlcan(segment) as left, VirtualSlcan(segment) as right:
        slcan = {"interface": "slcan", "bitrate": 250000}
        a, b = join(10, text, channel=left.path, **slcan), join(11, text, channel=right.path, **slcan)
        a.set(29.50)
        agree(29.50, a, b)
        left.unplug()
        until(lambda: not a.plugin.bus.bus.connected)
        b.set(30.10)
        time.sleep(0.2)
        left.plug()
        agree(30.10, a, b)
        a.close()
        b.close()


class Bare:
    """The settings of a gateway without a bus or threads, on a clock that the test winds."""

    def __init__(self, node_id: int, text: str) -> None:
        self.now = 100.0
        self.frames: list[cf.Frame] = []
        self.db = Database([Definition(key="BARO", min=20, max=35, units="inHg", setting=True)], clock=lambda: self.now)
        table = load(2024)
        found = msgspec.convert(yaml.safe_load(text), mapping.Map)
        self.codec = cf.Codec(table)
        self.inputs = Inputs(found, table, self.db, "canfix")
        self.outputs = outputs.Outputs(
            found,
            table,
            self.db,
            "canfix",
            node.Node(node_id, node.Identity(), lambda: self.now),
            {},
            self.send,
            lambda: True,
            lambda: None,
            World(self.db).quorum,
            lambda: self.now,
        )
        self.inputs.judge = self.outputs.judge
        self.outputs.open()

    def send(self, frame: cf.Frame) -> bool:
        self.frames.append(frame)
        return True

    def receive(self, node_id: int, value: float) -> None:
        self.inputs.values[0x190][0](value, 0, node_id)

    def turn(self, seconds: float = 0.0) -> list[cf.Frame]:
        """What is sent in this time."""
        self.now += seconds
        self.frames.clear()
        self.outputs.tick()
        return list(self.frames)

    @property
    def baro(self) -> float:
        return float(self.db.read("BARO").value)


@pytest.mark.parametrize(("seconds", "ours"), [(0.1, True), (1.0, False)])
def test_a_value_from_before_ours_reached_the_bus_does_not_win_over_it(seconds: float, ours: bool) -> None:
    """The adapter refuses ours; the other node's value arrives before we have read of that."""
    a = Bare(12, OWNER)
    a.db.write("BARO", 30.10, "knob")
    refused = a.frames[-1]
    a.receive(11, 29.50)
    assert a.baro == 29.50
    a.now += seconds
    a.outputs.note_unsent(0x6EC, b"\6")  # another frame was refused, too
    a.outputs.note_unsent(*refused)
    assert (refused in a.turn()) is ours
    assert a.baro == (30.10 if ours else 29.50)


def test_a_value_set_here_meanwhile_wins_over_one_that_was_refused() -> None:
    a = Bare(12, OWNER)
    a.db.write("BARO", 30.10, "knob")
    refused = a.frames[-1]
    a.receive(11, 29.50)
    a.db.write("BARO", 30.20, "knob")
    a.outputs.note_unsent(*refused)
    a.turn()
    assert a.baro == 30.20


@pytest.mark.parametrize("text", [OWNER, ASKER], ids=["owner", "asker"])
def test_what_waits_for_the_rate_limit_is_not_lost_to_older_values_that_arrive_late(text: str) -> None:
    """A knob is turned faster than the rate limit, and what the other node sent before was held up on its way."""
    a = Bare(12, text)
    for hundredths in range(2990, 3011):
        a.now += 0.001
        a.db.write("BARO", hundredths / 100, "knob")
    assert len(a.frames) == 1, "the others wait for the rate limit"
    a.receive(50, 29.50)
    a.receive(50, 29.90)
    assert [len(a.turn(1.0)), a.baro] == [1, 30.10]


@pytest.mark.parametrize("maps", [(OWNER, OWNER), (ASKER, ASKER), (OWNER, ASKER), (ASKER, OWNER), (ASKER,) * 3])
def test_gateways_that_set_at_the_same_instant_agree_in_the_end(join: Join, maps: tuple[str, ...]) -> None:
    panels = [join(10 + n, text) for n, text in enumerate(maps)]
    for round in range(4):
        start = threading.Barrier(len(panels))

        def turn(n: int, panel: Panel, start: threading.Barrier = start, round: int = round) -> None:
            start.wait()
            panel.set(29 + n + round / 100)

        threads = [threading.Thread(target=turn, args=(n, panel)) for n, panel in enumerate(panels)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        until(lambda: len({panel.baro for panel in panels}) == 1, lambda: [panel.baro for panel in panels])
        time.sleep(0.35)
        assert len({panel.baro for panel in panels}) == 1, [panel.baro for panel in panels]


def test_a_turned_knob_overrides_the_owner_once_but_never_an_owner_that_ignores_it(
    join: Join, wire: can.BusABC
) -> None:
    a = join(10, ASKER)
    a.set(30.10)
    for _ in range(2):
        wire.send(can.Message(arbitration_id=0x190, data=b"\x32\0\0" + struct.pack("<H", 29000), is_extended_id=False))
    agree(29.0, a)


# -- unsendable values -------------------------------------------------------------------------------------------------


@contextmanager
def _two(join: Join) -> Iterator[tuple[Panel, Panel]]:
    a = join(10, WAYPOINT.format(head="outputs", owner=", owner: yes"))
    yield a, join(11, WAYPOINT.format(head="inputs", owner=""))


def test_the_beginning_of_a_long_name_is_sent(join: Join) -> None:
    with _two(join) as (a, b):
        a.db.write("WPNAME", "KOSH", "nav")
        until(lambda: b.db.read("WPNAME").value == "KOSH")
        a.db.write("WPNAME", "MAPWPT-01", "nav")
        until(lambda: b.db.read("WPNAME").value == "MAPWP")
        assert b.db.read("WPNAME").good
        assert a.plugin.health() == ""


def test_an_unsendable_value_fails_the_last_one_sent_and_health_says_so(join: Join) -> None:
    with _two(join) as (a, b):
        a.db.write("WPNAME", "KOSH", "nav")
        a.db.write("OILT1", 90.0, "probe")
        until(lambda: b.db.read("WPNAME").good and b.db.read("OILT1").good)
        a.db.write("WPNAME", "\u5317\u4eac", "nav")
        a.db.write("OILT1", -10.0, "probe")  # the wire format has no negative values
        until(lambda: b.db.read("WPNAME").fail and b.db.read("OILT1").fail)
        assert (b.db.read("WPNAME").value, b.db.read("OILT1").value) == ("KOSH", 90.0)
        assert "cannot send" in a.plugin.health()
        assert "and 1 more" in a.plugin.health()
        a.db.write("WPNAME", "KDAY", "nav")
        a.db.write("OILT1", 10.0, "probe")
        until(lambda: b.db.read("WPNAME").good and b.db.read("OILT1").good)
        assert a.plugin.health() == ""


def test_a_limit_that_cannot_be_sent_is_in_the_health_if_the_others_have_another(join: Join, wire: can.BusABC) -> None:
    a = join(10, "outputs: [{fixid: IAS, canid: 0x183, owner: yes}]\n")
    a.db.write("IAS.Vne", 1000.0)  # more than the wire can carry; no other value was sent before
    until(lambda: a.plugin.outputs.counts["unsendable"] == 1 and a.plugin.health() == "")
    a.db.write("IAS.Vne", 163.0)
    until(lambda: _heard(wire, 0x183))
    a.db.write("IAS.Vne", 1000.0)
    until(lambda: "cannot send IAS.Vne: " in a.plugin.health())
    a.db.write("IAS.Vne", 160.0)
    until(lambda: a.plugin.health() == "", a.plugin.health)


def test_a_simulated_limit_stays_off_a_real_bus(join: Join, wire: can.BusABC) -> None:
    a = join(10, "outputs: [{fixid: IAS, canid: 0x183, owner: yes}]\n")
    a.db.item("IAS").write_aux("Vne", 99.0, "sim/limits")
    a.db.item("IAS").write_aux("Vne", 163.0, "limits")
    until(lambda: a.plugin.outputs.counts["sent"] == 1)
    message = wire.recv(1)
    while message is not None and message.arbitration_id != 0x183:
        message = wire.recv(1)
    assert message is not None
    assert message.data[3:5] == struct.pack("<H", 1630)


# -- disabling by other nodes ------------------------------------------------------------------------------------------


def test_no_node_can_silence_a_setting_of_the_pilot(
    join: Join, wire: can.BusABC, caplog: pytest.LogCaptureFixture
) -> None:
    a = join(10, OWNER)
    wire.send(can.Message(arbitration_id=0x6E5, data=bytes.fromhex("03009001"), is_extended_id=False))
    until(lambda: "node 5 told us to stop sending BARO: refused, a person sets it" in caplog.text)
    assert [getattr(r, "FIXGW_NODE", None) for r in caplog.records if "told us" in r.message] == [5], "for the journal"
    a.set(30.05)
    until(lambda: _heard(wire, 0x190))
    assert a.plugin.health() == ""


def test_a_silenced_output_says_who_silenced_it_and_can_be_restored(join: Join, wire: can.BusABC) -> None:
    a = join(
        10,
        "outputs: [{fixid: IAS, canid: 0x183, owner: yes}, {fixid: BARO, canid: 0x190, owner: yes}]\n",
        obey=["disable", "disable-settings"],
    )
    for parameter in ("8301", "9001"):
        wire.send(can.Message(arbitration_id=0x6E5, data=bytes.fromhex("0300" + parameter), is_extended_id=False))
    until(lambda: a.plugin.health() == "node 5 told us to stop sending IAS, BARO")
    a.set(30.05)
    wire.send(can.Message(arbitration_id=0x6E5, data=bytes.fromhex("040A9001"), is_extended_id=False))
    until(lambda: _heard(wire, 0x190))
    assert a.plugin.health() == "node 5 told us to stop sending IAS"


def test_outputs_cannot_be_silenced_in_flight(join: Join, wire: can.BusABC, caplog: pytest.LogCaptureFixture) -> None:
    a = join(10, "outputs: [{fixid: IAS, canid: 0x183, owner: yes}]\n")
    a.db.write("IAS", 100.0, "pitot")
    wire.send(can.Message(arbitration_id=0x6E5, data=bytes.fromhex("03008301"), is_extended_id=False))
    until(lambda: "refused, in flight: IAS is 100.0" in caplog.text)
    assert a.plugin.health() == ""


def test_a_short_meta_frame_does_not_erase_a_limit(join: Join, wire: can.BusABC) -> None:
    a = join(10, "inputs: [{fixid: IAS, canid: 0x183}]\n")
    a.db.write("IAS.Vne", 163.0)
    for data in (b"\x0c\0\x50", b"\x0c\0\x50\x10", b"\x0c\0", b"\x0c"):
        wire.send(can.Message(arbitration_id=0x183, data=data, is_extended_id=False))
    until(lambda: a.plugin.codec.counts["short"] == 4)
    assert a.db.read_aux("IAS.Vne") == 163.0
