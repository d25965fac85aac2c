"""The CAN-FIX driver on python-can's virtual bus: real threads, real database, hand-made frames from another node."""

from __future__ import annotations

import json
import random
import resource
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import can
import pytest

from fixgw import configuration, database, quorum, state
from fixgw.configuration import Configuration
from fixgw.database import INITIAL, KEPT, Database, Reading
from fixgw.drivers.canfix import Plugin
from fixgw.drivers.canfix.node import load_state
from fixgw.drivers.links.can import bus as can_bus
from fixgw.drivers.links.can import ports
from fixgw.drivers.links.can.frame import Frame
from fixgw.errors import ConfigurationError
from fixgw.gateway import Gateway
from fixgw.hw_sim import scenario as scenarios
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.bench.wired import CanBench
from fixgw.hw_sim.can import Segment, SimFrame, VirtualSlcan
from fixgw.hw_sim.can.bus import CanBus
from fixgw.hw_sim.can.devices import DEVICES, look
from fixgw.hw_sim.can.faults import Station
from fixgw.hw_sim.can.instrument import CanInstrument
from fixgw.hw_sim.world import World

pytestmark = pytest.mark.slow

ME = 0xB6
NODE = 12
NODE_SPECIFIC = 0x6E0


def until(condition: Callable[[], object], what: str = "", seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what or "it did not happen"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def packaged() -> Configuration:
    return configuration.load(configuration.packaged() / configuration.NAME)


@pytest.fixture
def db(packaged: Configuration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """The packaged items with their real tolerances. The node's state is saved in `tmp_path`."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setattr(can_bus.SharedBus, "poll_timeout", 0.05)
    db = packaged.make_database()
    before = database.current()
    database.bind(db)
    db.start()
    yield db
    db.stop()
    database.bind(before)
    assert not can_bus._buses


class Other:
    """Another node on the bus: sends frames made by hand, and collects the frames that it receives."""

    def __init__(self, channel: str = "canfix") -> None:
        self.bus = can.Bus(channel, interface="virtual", ignore_config=True)
        self.heard: list[tuple[int, str]] = []

    def send(self, identifier: int, data: bytes | str, **flags: bool) -> None:
        payload = bytes.fromhex(data) if isinstance(data, str) else data
        flags.setdefault("is_extended_id", False)
        self.bus.send(can.Message(arbitration_id=identifier, data=payload, **flags))

    def parameter(self, identifier: int, value: bytes, code: int = 0, node: int = NODE, index: int = 0) -> None:
        self.send(identifier, bytes((node, index, code)) + value)

    def listen(self) -> list[tuple[int, str]]:
        """All frames received so far, except status messages and requests for identification and reports."""
        while (message := self.bus.recv(0)) is not None:
            data = bytes(message.data)
            if message.arbitration_id > NODE_SPECIFIC and (data[0] == 6 or (data[0] in (0, 5) and len(data) == 2)):
                continue
            self.heard.append((message.arbitration_id, data.hex()))
        return self.heard

    def hears(self, identifier: int, data: str) -> None:
        until(lambda: (identifier, data) in self.listen(), f"0x{identifier:X} {data} among {self.heard}")

    def forget(self) -> None:
        self.listen()
        self.heard.clear()


@pytest.fixture
def other() -> Iterator[Other]:
    node = Other()
    yield node
    node.bus.shutdown()


Start = Callable[..., Plugin]


@pytest.fixture
def start(db: Database, tmp_path: Path) -> Iterator[Start]:
    """Start the driver with a map, and check that it stops in time at the end."""
    plugins: list[Plugin] = []

    def start(text: str = "", name: str = "canfix", health: str = "", **options: Any) -> Plugin:
        if text:
            path = tmp_path / f"{name}.yaml"
            path.write_text(textwrap.dedent(text))
            options["mapfile"] = str(path)
        plugin = Plugin(name, {"interface": "virtual", "channel": "canfix", **options})
        plugins.append(plugin)
        plugin.start()
        until(lambda: plugin.health() == health, "it is not healthy")
        until(lambda: plugin._opened, "it has not noticed that the bus is open")
        return plugin

    yield start
    for plugin in plugins:
        begin = time.monotonic()
        plugin.shutdown()
        assert time.monotonic() - begin < 3
        assert plugin._thread is None or not plugin._thread.is_alive()


def value(db: Database, key: str, expected: Any) -> Reading:
    """The reading of `key` once it has the expected value."""
    until(lambda: db.read(key).value == expected, f"{key} is {db.read(key)}, not {expected}")
    return db.read(key)


IAS = (0x183, struct.pack("<H", 1234))


# -- inputs ------------------------------------------------------------------------------------------------------------


def test_without_a_map_every_parameter_with_a_key_is_read(start: Start, db: Database, other: Other) -> None:
    start()
    other.parameter(*IAS)
    other.parameter(0x184, struct.pack("<i", -123))
    other.parameter(0x1C3, struct.pack("<f", 48.5))
    other.parameter(0x500, struct.pack("<H", 1999), index=3)
    other.parameter(0x124, struct.pack("<h", -5000))
    other.parameter(0x200, struct.pack("<H", 2400))
    other.parameter(0x587, b"DEMO\0")
    reading = value(db, "IAS", 123.4)
    assert reading.source == "canfix/12"
    assert reading.flags == 0
    value(db, "ALT", -123.0)
    value(db, "LAT", 48.5)
    value(db, "CHT14", 199.9)
    value(db, "CTLPTCH", -0.5)
    value(db, "TACH1", 2400)
    value(db, "ACID", "DEMO")


@pytest.mark.parametrize(
    ("code", "flags"),
    [(0x01, "10000"), (0x02, "00100"), (0x04, "00010"), (0x07, "10110"), (0x08, "00000")],
    ids=["annunciate", "quality", "failure", "all", "reserved"],
)
def test_flags_are_set_and_cleared(start: Start, db: Database, other: Other, code: int, flags: str) -> None:
    start()
    other.parameter(*IAS, code=code)
    assert value(db, "IAS", 123.4).flag_text == flags
    other.parameter(0x183, struct.pack("<H", 1000))
    assert value(db, "IAS", 100.0).flag_text == "00000"


def test_a_float_nan_fails_and_keeps_the_last_value(start: Start, db: Database, other: Other) -> None:
    start()
    other.parameter(0x1C3, struct.pack("<f", 48.5))
    other.parameter(0x1C3, struct.pack("<f", float("nan")))
    until(lambda: db.read("LAT").fail)
    assert db.read("LAT").value == 48.5
    assert db.read("LAT").reasons[-1][1] == "the value written was nan"


def test_meta_data_set_aux_values_and_undefined_meta_data_are_ignored(start: Start, db: Database, other: Other) -> None:
    plugin = start()
    other.parameter(0x183, struct.pack("<H", 1630), code=0x50)  # Vne
    other.parameter(0x220, struct.pack("<H", 2500), code=0x40)  # Low Warn
    other.parameter(0x183, struct.pack("<H", 9999), code=0xC0)  # not defined
    until(lambda: db.read_aux("IAS.Vne") == 163.0)
    until(lambda: db.read_aux("OILP1.lowWarn") == 25.0)
    until(lambda: plugin.codec.counts["undefined-meta"] == 1)
    assert db.read("IAS").old


def test_the_map_can_give_meta_data_other_aux_names(start: Start, db: Database, other: Other) -> None:
    start("meta replacements: {low warn: lowAlarm}\ninputs: [{canid: 0x220, fixid: OILP1}]\n")
    other.parameter(0x220, struct.pack("<H", 2500), code=0x40)
    until(lambda: db.read_aux("OILP1.lowAlarm") == 25.0)
    assert db.read_aux("OILP1.lowWarn") == 55.0, "as it was at the start"


def test_scale_offset_wrap_and_inversion(start: Start, db: Database, other: Other) -> None:
    start("""\
        inputs:
          - {canid: 0x183, fixid: IAS, scale: 2, offset: 1}
          - {canid: 0x1C0, fixid: CDI}
          - {canid: 0x20E, fixid: BTN1, invert: yes}
          - {canid: 0x406, fixid: TACH1}
        """)
    other.parameter(*IAS)
    other.parameter(0x1C0, struct.pack("<H", 3550))
    other.parameter(0x20E, b"\0")
    other.parameter(0x406, struct.pack("<h", 1250))
    value(db, "IAS", 247.8)
    value(db, "CDI", -0.5)
    value(db, "BTN1", True)
    value(db, "TACH1", 12)


def test_the_time_of_day_is_split_into_its_keys(start: Start, db: Database, other: Other) -> None:
    start()
    other.parameter(0x580, struct.pack("<BBBH", 23, 4, 59, 500))
    value(db, "TIMEZ", "23:04:59")
    for key, expected in ("TIMEZH", 23), ("TIMEZM", 4), ("TIMEZS", 59):
        value(db, key, expected)
    other.parameter(0x580, struct.pack("<BBBH", 24, 0, 0, 0))
    until(lambda: db.read("TIMEZ").fail)
    until(lambda: db.read("TIMEZH").fail)
    assert db.read("TIMEZ").reasons[0][1] == "24, 0, 0, 0 is not a time"


def test_forty_switches_over_five_bytes(start: Start, db: Database, other: Other) -> None:
    start()
    for number in range(40):
        other.parameter(0x308, (1 << number).to_bytes(5, "little"))
        value(db, f"BTN{number + 1}", True)
        pressed = [n for n in range(40) if db.read(f"BTN{n + 1}").value]
        assert set(pressed) <= {number, number - 1}, pressed
    other.parameter(0x308, bytes(5))
    value(db, "BTN40", False)


def test_a_toggling_switch_inverts_its_key_only_when_it_closes(start: Start, db: Database, other: Other) -> None:
    plugin = start("""\
        switches:
          - {canid: 0x308, index: 2, fixid: "BTN1,,BTN3", toggle: BTN3}
        """)
    counts = []
    for bits in (0b100, 0b100, 0b000, 0b100, 0b100, 0b000, 0b110, 0b001):
        other.parameter(0x308, bytes((bits, 0, 0, 0, 0)), index=2)
        counts.append(bits)
        until(lambda: plugin.counts["used"] == len(counts))
        if len(counts) in (1, 2, 3, 7):
            assert db.read("BTN3").value is False, (
                "a switch that is on at the start does not toggle; two toggles switch it off"
            )
        if len(counts) in (4, 5, 6):
            assert db.read("BTN3").value is True
    assert db.read("BTN1").value is True


def test_a_button_pressed_by_another_source_stays_until_its_switch_moves(
    start: Start, db: Database, other: Other
) -> None:
    plugin = start()
    other.parameter(0x308, bytes(5))
    until(lambda: plugin.counts["used"] == 1)
    db.write("BTN1", True, "screen")
    other.parameter(0x308, bytes(5))
    until(lambda: plugin.counts["used"] == 2)
    assert db.read("BTN1").value is True


def test_encoders_write_steps_or_their_sum_and_buttons(start: Start, db: Database, other: Other) -> None:
    plugin = start("""\
        encoders:
          - {canid: 0x300, fixid: "ENC1,ENC2,BTN1,BTN2", toggle: BTN2}
          - {canid: 0x301, fixid: "ENC3,BTN3", sum: yes}
        """)
    steps: list[Any] = []
    subscription = db.subscribe("ENC1", lambda key, reading: steps.append(reading.value))
    for dx, dy, buttons in ((3, -2, 0b00), (3, 0, 0b11), (0, 0, 0b11)):
        other.parameter(0x300, struct.pack("<hhB", dx, dy, buttons))
        other.parameter(0x301, struct.pack("<hhB", dx, dy, buttons))
    until(lambda: plugin.counts["used"] == 6)
    subscription.close()
    assert steps == [3, 3, 0], "every message counts; the last one reports no movement"
    assert [db.read(key).value for key in ("ENC2", "BTN1", "BTN2", "ENC3", "BTN3")] == [0, True, True, 6, True]


def test_a_sum_of_steps_wraps_around_at_the_end_of_its_range(start: Start, db: Database, other: Other) -> None:
    start('encoders: [{canid: 0x300, fixid: "ENC1", sum: yes}]\n')
    db.write("ENC1", 32766, "somebody")
    other.parameter(0x300, struct.pack("<hhB", 3, 0, 0))
    value(db, "ENC1", -32767)


def test_parameter_set_messages_are_accepted_if_the_map_says_so(start: Start, db: Database, other: Other) -> None:
    start("""\
        inputs:
          - {canid: 0x190, fixid: BARO, nodespecific: yes}
          - {canid: 0x183, fixid: IAS}
          - {canid: 0x500, index: 3, fixid: CHT14, nodespecific: yes}
        """)
    other.send(NODE_SPECIFIC + NODE, bytes.fromhex("0c8301") + struct.pack("<H", 990))
    other.send(NODE_SPECIFIC + NODE, bytes.fromhex("0c001d") + struct.pack("<H", 2000))
    other.send(NODE_SPECIFIC + NODE, bytes.fromhex("0c9001") + struct.pack("<H", 30120))
    assert value(db, "BARO", 30.12).source == "canfix/12/set"
    value(db, "CHT14", 200.0)
    assert db.read("IAS").source == ""


def test_nodes_are_ranked_according_to_the_map(start: Start, db: Database, other: Other) -> None:
    plugin = start("inputs: [{canid: 0x183, fixid: IAS, priority: [12, 13]}]\n")
    other.parameter(0x183, struct.pack("<H", 900), node=13)
    assert value(db, "IAS", 90.0).source == "canfix/13"
    other.parameter(0x183, struct.pack("<H", 1000), node=12)
    assert value(db, "IAS", 100.0).source == "canfix/12"
    other.parameter(0x183, struct.pack("<H", 910), node=13)
    other.parameter(0x183, struct.pack("<H", 5000), node=77)
    until(lambda: plugin.counts["used"] == 4)
    assert (db.read("IAS").value, db.item("IAS").conflicts) == (100.0, 0)
    other.parameter(0x183, struct.pack("<H", 1010), code=4, node=12)
    assert value(db, "IAS", 91.0).source == "canfix/13", "the better one has failed"
    plugin.shutdown()
    assert not db.item("IAS").ranked


def test_parameters_that_feed_one_key_are_ranked_according_to_the_map(start: Start, db: Database, other: Other) -> None:
    plugin = start("""\
        inputs:
          - {canid: 0x40A, fixid: TALT, priority: 2}
          - {canid: 0x409, fixid: TALT, priority: 1}
        """)
    other.parameter(0x40A, struct.pack("<i", 1000))
    assert value(db, "TALT", 1000.0).source == "canfix/0x40A/12"
    other.parameter(0x409, struct.pack("<i", 1100))
    assert value(db, "TALT", 1100.0).source == "canfix/0x409/12"
    other.parameter(0x40A, struct.pack("<i", 1001))
    until(lambda: plugin.counts["used"] == 3)
    assert db.read("TALT").value == 1100.0


def test_one_parameter_can_feed_two_keys(start: Start, db: Database, other: Other) -> None:
    start("inputs:\n  - {canid: 0x183, fixid: IAS}\n  - {canid: 0x183, fixid: CAS}\n")
    other.parameter(*IAS)
    value(db, "IAS", 123.4)
    value(db, "CAS", 123.4)


def test_unmapped_and_invalid_frames_are_counted(start: Start, db: Database, other: Other) -> None:
    plugin = start("inputs: [{canid: 0x183, fixid: IAS}, {canid: 0x587, fixid: ACID}]\n")
    other.parameter(0x183, b"\1")
    other.parameter(0x183, b"\1\2", index=7)
    other.parameter(0x587, b"\1\2\3\4\5")
    other.send(NODE_SPECIFIC + NODE, b"")
    other.parameter(*IAS, node=ME)
    other.parameter(*IAS)
    value(db, "IAS", 123.4)
    counts = plugin.codec.counts
    assert (counts["short"], counts["value"]) == (2, 4)
    assert (plugin.counts["not mapped"], plugin.counts["misfits"], plugin.counts["used"]) == (1, 1, 1)
    assert plugin.health() == f"another node has our id, {ME}"


def test_the_older_table_has_its_own_identifiers(start: Start, db: Database, other: Other) -> None:
    start(table=2023)
    other.parameter(0x545, struct.pack("<H", 15))
    value(db, "FTIME", 1.5)


def test_when_the_bus_is_lost_its_measurements_fail_and_its_settings_stay(
    start: Start, db: Database, other: Other
) -> None:
    plugin = start()
    other.parameter(*IAS)
    other.parameter(0x190, struct.pack("<H", 30000))
    value(db, "IAS", 123.4)
    value(db, "BARO", 30.0)
    db.write("TAS", 100.0, "somebody else")
    plugin.inputs.lost("the bus was lost: can0 is down")
    assert db.read("IAS").fail
    assert db.read("IAS").reasons[0][1] == "the bus was lost: can0 is down"
    assert db.read("BARO").good
    assert db.read("TAS").good
    other.parameter(*IAS)
    until(lambda: db.read("IAS").good)


@pytest.mark.slow
def test_an_unplugged_adapter_fails_its_values_and_triggers_a_report_when_it_is_back(
    start: Start, db: Database
) -> None:
    sent: list[tuple[int, bytes]] = []
    with Segment() as segment, VirtualSlcan(segment) as adapter:
        far = segment.attach("far", lambda frame: sent.append((frame.arbitration_id, frame.data)))
        plugin = start(
            """\
            inputs: [{canid: 0x183, fixid: IAS}]
            outputs: [{fixid: BARO, canid: 0x190, owner: yes, on_change: yes}]
            """,
            interface="slcan",
            channel=adapter.path,
            bitrate=250000,
        )
        far.send(SimFrame(0x183, b"\x0c\0\0\xd2\4"))
        value(db, "IAS", 123.4)
        db.write("BARO", 30.0, "knob")
        report = (0x190, bytes.fromhex("b600003075"))
        until(lambda: sent.count(report) == 1)
        adapter.unplug()
        until(lambda: db.read("IAS").fail)
        assert "the bus was lost" in db.read("IAS").reason(database.FAIL)
        assert plugin.running
        adapter.plug()
        until(lambda: sent.count(report) == 2, "no report")
        far.send(SimFrame(0x183, b"\x0c\0\0\xd2\4"))
        until(lambda: db.read("IAS").good)
        plugin.shutdown()


# -- outputs -----------------------------------------------------------------------------------------------------------


def test_an_owned_parameter_is_sent_with_its_flags(start: Start, db: Database, other: Other) -> None:
    start("outputs: [{fixid: IAS, canid: 0x183, owner: yes, rate_limit: 0}]\n")
    db.write("IAS", 123.4, "pitot")
    other.hears(0x183, "b60000d204")
    db.item("IAS").flag(database.ANNUNCIATE | database.BAD, database.ANNUNCIATE | database.BAD, "pitot")
    other.hears(0x183, "b60003d204")
    db.item("IAS").fail("broken", "pitot")
    other.hears(0x183, "b60007d204")


def test_an_output_that_has_become_old_is_sent_as_suspect(start: Start, db: Database, other: Other) -> None:
    start("outputs: [{fixid: PITCH, canid: 0x180, owner: yes}]\n")
    db.write("PITCH", 1.0, "ahrs")
    other.hears(0x180, "b600006400")
    other.hears(0x180, "b600026400")


def test_a_parameter_of_another_owner_is_sent_as_parameter_set_while_it_is_good(
    start: Start, db: Database, other: Other
) -> None:
    start("outputs: [{fixid: BARO, canid: 0x190, index: 33, on_change: yes}]\n")
    db.write("BARO", 30.12, "knob")
    other.hears(NODE_SPECIFIC + ME, "0d9009a875")
    other.forget()
    db.item("BARO").fail("broken", "knob")
    db.write("BARO", 29.0, "knob", 0)
    other.hears(NODE_SPECIFIC + ME, "0d90094871")
    assert len(other.heard) == 1


def test_on_change_sends_a_value_once_otherwise_every_write_is_sent(start: Start, db: Database, other: Other) -> None:
    start("""\
        outputs:
          - {fixid: BARO, canid: 0x190, owner: yes, on_change: yes, rate_limit: 0}
          - {fixid: IAS, canid: 0x183, owner: yes, rate_limit: 0}
        """)
    other.forget()
    for _ in range(3):
        db.write("BARO", 30.0, "knob")
        db.write("IAS", 100.0, "pitot")
    db.write("BARO", 31.0, "knob")
    other.hears(0x190, "b600001879")
    assert [identifier for identifier, _ in other.heard] == [0x190, 0x183, 0x183, 0x183, 0x190]


def test_on_change_asks_again_after_the_owner_has_sent_another_value(start: Start, db: Database, other: Other) -> None:
    start("""\
        inputs: [{fixid: BARO, canid: 0x190}]
        outputs: [{fixid: BARO, canid: 0x190, on_change: yes, rate_limit: 0}]
        """)
    asked = (NODE_SPECIFIC + ME, "0c90013075")
    db.write("BARO", 30.0, "knob")
    other.hears(*asked)
    other.send(0x190, "3200003075")  # the owner accepts the value
    until(lambda: db.read("BARO").source == "canfix/50")
    db.write("BARO", 30.0, "knob")
    db.write("BARO", 30.0, "knob")
    assert other.listen().count(asked) == 1
    other.send(0x190, "3200001879")  # the owner's own knob: 31.0
    value(db, "BARO", 31.0)
    db.write("BARO", 30.0, "knob")
    until(lambda: other.listen().count(asked) == 2)


def test_a_value_that_became_overdue_while_it_waited_is_sent_as_suspect(
    start: Start, db: Database, other: Other
) -> None:
    start("outputs: [{fixid: IAS, canid: 0x183, owner: yes, rate_limit: 4}]\n")
    db.stop()  # nothing marks it as old
    db.item("IAS").tolerance = 0.05
    db.write("IAS", 100.0, "pitot")
    db.write("IAS", 101.0, "pitot")
    other.hears(0x183, "b60002f203")
    db.start()


def test_a_rate_limit_always_sends_the_newest_value_in_the_end(start: Start, db: Database, other: Other) -> None:
    start("outputs: [{fixid: IAS, canid: 0x183, owner: yes, rate_limit: 20}]\n")
    begin = time.monotonic()
    for n in range(1, 301):
        db.write("IAS", float(n), "pitot")
        time.sleep(0.001)
    other.hears(0x183, "b60000" + struct.pack("<H", 3000).hex())
    took = time.monotonic() - begin
    values = [data for _, data in other.heard if data.startswith("b60000")]
    assert 2 <= len(values) <= took * 20 + 2


def test_the_owners_answer_to_one_value_does_not_replace_the_next(start: Start, db: Database, other: Other) -> None:
    start("""\
        inputs: [{fixid: BARO, canid: 0x190}]
        outputs: [{fixid: BARO, canid: 0x190, rate_limit: 4}]
        """)
    db.write("BARO", 30.12, "knob")
    db.write("BARO", 30.5, "knob")  # waits for the rate limit
    other.hears(NODE_SPECIFIC + ME, "0c9001a875")
    other.send(0x190, "320000a875")
    other.hears(NODE_SPECIFIC + ME, "0c90012477")
    assert db.read("BARO").value == 30.5


def test_an_unchanging_value_can_be_repeated(start: Start, db: Database, other: Other) -> None:
    start("outputs: [{fixid: BARO, canid: 0x190, owner: yes, on_change: yes, repeat: 0.1}]\n")
    db.write("BARO", 30.0, "knob")
    until(lambda: other.listen().count((0x190, "b600003075")) >= 3)


def test_switches_are_sent_together(start: Start, db: Database, other: Other) -> None:
    keys = ",".join(f"BTN{n}" for n in range(1, 41))
    start(f'outputs: [{{fixid: "{keys}", canid: 0x309, owner: yes}}]\n')
    db.write("BTN1", True, "screen")
    other.hears(0x309, "b600000100000000")
    db.write("BTN40", True, "screen")
    other.hears(0x309, "b600000100000080")
    db.write("BTN1", False, "screen")
    other.hears(0x309, "b600000000000080")


def test_a_button_pressed_and_released_at_once_is_not_lost(start: Start, db: Database, other: Other) -> None:
    start('outputs: [{fixid: "BTN1,BTN2", canid: 0x309, owner: yes}]\n')
    other.forget()
    for pressed in (True, False) * 10:
        db.write("BTN1", pressed, "screen")
    until(lambda: len(other.listen()) == 20)


def test_text_is_sent_as_text_and_as_a_time(start: Start, db: Database, other: Other) -> None:
    start("""\
        outputs:
          - {fixid: ACID, canid: 0x587, owner: yes}
          - {fixid: TIMEZ, canid: 0x580, owner: yes}
        """)
    db.write("ACID", "ABC", "x")
    db.write("TIMEZ", "23:59:58", "gps")
    other.hears(0x587, "b600004142430000")
    other.hears(0x580, "b60000173b3a0000")


def test_an_unsendable_value_is_counted_with_the_reason(start: Start, db: Database, other: Other) -> None:
    plugin = start("""\
        outputs:
          - {fixid: ACID, canid: 0x587, owner: yes}
          - {fixid: OILT1, canid: 0x222, owner: yes}
          - {fixid: HEAD, canid: 0x185, owner: yes}
        """)
    unsendable = plugin.outputs.counts["unsendable"]
    db.write("OILT1", -10.0, "x")
    assert plugin.outputs.counts["unsendable"] == unsendable + 1
    assert "Oil Temperature" in plugin.get_status()["outputs"]["last"]
    assert "cannot send Oil Temperature" in plugin.health()
    db.write("HEAD", 360.0, "x")
    other.hears(0x185, "b600000000")


def test_only_the_leader_sends_outputs_that_require_it(
    start: Start, db: Database, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    start("outputs: [{fixid: IAS, canid: 0x183, owner: yes, require_leader: yes, rate_limit: 0}]\n")
    monkeypatch.setattr(quorum, "leader", False)
    db.write("IAS", 100.0, "pitot")
    monkeypatch.setattr(quorum, "leader", True)
    db.write("IAS", 101.0, "pitot")
    other.hears(0x183, "b60000f203")
    assert (0x183, "b60000e803") not in other.heard


BOTH_WAYS = """\
    inputs:
      - {canid: 0x190, fixid: BARO, nodespecific: yes}
    outputs:
      - {fixid: BARO, canid: 0x190, owner: yes, rate_limit: 0}
    """


def test_a_value_from_the_bus_is_not_sent_back_to_it(start: Start, db: Database, other: Other) -> None:
    start(BOTH_WAYS)
    other.parameter(0x190, struct.pack("<H", 29000))
    value(db, "BARO", 29.0)
    other.forget()
    db.write("BARO", 30.0, "knob")
    other.hears(0x190, "b600003075")
    assert [identifier for identifier, _ in other.heard] == [0x190]


def test_a_value_set_by_another_node_is_published_by_us_as_its_owner(start: Start, db: Database, other: Other) -> None:
    start(BOTH_WAYS)
    other.send(NODE_SPECIFIC + NODE, bytes.fromhex("0c9001") + struct.pack("<H", 30120))
    other.hears(0x190, "b60000a875")
    value(db, "BARO", 30.12)


def test_limits_from_the_bus_are_not_sent_back_but_others_are_sent(start: Start, db: Database, other: Other) -> None:
    start("""\
        inputs: [{canid: 0x183, fixid: IAS}]
        outputs: [{fixid: IAS, canid: 0x183, owner: yes}]
        """)
    other.parameter(0x183, struct.pack("<H", 1630), code=0x50)
    until(lambda: db.read_aux("IAS.Vne") == 163.0)
    other.forget()
    db.write("IAS.Vs", 48.0)
    other.hears(0x183, "b600a0e001")
    assert len(other.heard) == 1


# -- the node ----------------------------------------------------------------------------------------------------------


def test_it_identifies_itself_and_knows_other_nodes(start: Start, db: Database, other: Other) -> None:
    plugin = start(description="Gate", model=5)
    other.send(NODE_SPECIFIC + NODE, "0000")
    other.hears(NODE_SPECIFIC + ME, "000c01b601050000")
    other.hears(NODE_SPECIFIC + ME, "0b0c0000" + b"Gate".hex())
    other.send(NODE_SPECIFIC + NODE, bytes((0, ME, 1, 0x31, 2, 3, 0, 0)))
    until(lambda: "type" in plugin.get_status()["nodes"].get("12", {}))
    assert plugin.get_status()["nodes"]["12"]["type"] == "0x31"


@pytest.mark.slow
def test_it_sends_a_heartbeat_once_a_second_and_asks_nodes_to_identify_themselves(
    start: Start, db: Database, other: Other
) -> None:
    start()
    beats: list[float] = []
    asked = False
    other.send(NODE_SPECIFIC + NODE, "0600000000")
    deadline = time.monotonic() + 10
    while (len(beats) < 3 or not asked) and time.monotonic() < deadline:
        message = other.bus.recv(0.1)
        if message is not None and message.arbitration_id == NODE_SPECIFIC + ME:
            beats += [time.monotonic()] if bytes(message.data) == b"\6\0\0\0\0" else []
            asked |= bytes(message.data) == bytes((0, NODE))
    assert asked
    assert 0.5 < beats[2] - beats[1] < 1.6


def test_no_frame_is_lost_while_a_bus_opens_slowly(
    start: Start, db: Database, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(*args: Any, open_port: Callable[..., Any] = ports.open_port) -> Any:
        time.sleep(0.3)
        return open_port(*args)

    monkeypatch.setattr(ports, "open_port", slowly)
    plugin = start()
    other.send(NODE_SPECIFIC + NODE, f"00{ME:02x}")
    other.hears(NODE_SPECIFIC + ME, "000c01b601000000")
    assert plugin.get_status()["dropped"] == 0


@pytest.mark.parametrize("source", [INITIAL, KEPT])
def test_start_values_are_not_sent_even_on_request(source: str, start: Start, db: Database, other: Other) -> None:
    start("outputs: [{fixid: BARO, canid: 0x190, owner: yes, repeat: 0.05}, {fixid: IAS, canid: 0x183, owner: yes}]\n")
    db.write("BARO", 29.50, source)
    db.write("IAS", 100.0, "pitot")
    other.hears(0x183, "b60000e803")
    other.heard.clear()
    other.send(NODE_SPECIFIC + NODE, "0500")
    other.hears(0x183, "b60000e803")
    assert 0x190 not in {identifier for identifier, _ in other.heard}
    db.write("BARO", 29.92, "gpio")
    other.hears(0x190, "b60000e074")


def test_a_write_without_a_source_is_sent_like_any_other(start: Start, db: Database, other: Other) -> None:
    start("outputs: [{fixid: BARO, canid: 0x190, owner: yes}]\n")
    database.write("BARO", 29.92)
    other.hears(0x190, "b60000e074")


SIMULATED_MAP = """\
    outputs:
      - {fixid: IAS, canid: 0x183, owner: yes}
      - {fixid: BARO, canid: 0x190}
      - {fixid: "BTN1,BTN2", canid: 0x308, owner: yes}
      - {fixid: ALT, canid: 0x184, owner: yes}
    """


@pytest.mark.parametrize("mark", ["sim/", "replay/", "override/"])
def test_simulated_values_stay_off_a_real_bus(mark: str, start: Start, db: Database, other: Other) -> None:
    plugin = start(SIMULATED_MAP)
    db.write("BTN2", True, "panel")
    other.hears(0x308, "b600000200000000")
    other.heard.clear()
    for key, value in (("IAS", 100.0), ("BARO", 30.0), ("BTN1", True)):
        db.write(key, value, f"{mark}x")
    db.write("ALT", 1000.0, "static")
    other.hears(0x184, "b60000e8030000")
    assert {identifier for identifier, _ in other.heard} == {0x184}
    assert plugin.get_status()["outputs"]["simulated, not sent"] == 3


@pytest.mark.parametrize("options", [{"simulated": True}, {"name": "sim/can"}])
def test_simulated_values_are_sent_on_a_bench(
    options: dict[str, Any], start: Start, db: Database, other: Other, tmp_path: Path
) -> None:
    (tmp_path / "sim").mkdir()
    plugin = start(SIMULATED_MAP, **options)
    db.write("IAS", 100.0, "sim/aircraft")
    other.hears(0x183, "b60000e803")
    assert plugin.get_status()["outputs"]["simulated, not sent"] == 0


def test_a_report_sends_every_parameter_with_its_meta_data(start: Start, db: Database, other: Other) -> None:
    start("""\
        outputs:
          - {fixid: IAS, canid: 0x183, owner: yes, on_change: yes}
          - {fixid: PITCH, canid: 0x180, owner: yes}
          - {fixid: BARO, canid: 0x190}
        """)
    db.write("IAS.Vne", 163.0)
    db.write("IAS", 100.0, "pitot")
    other.hears(0x183, "b60000e803")
    other.hears(0x183, "b600505e06")
    other.forget()
    other.send(NODE_SPECIFIC + NODE, "0500")
    other.hears(0x183, "b60000e803")
    other.hears(0x183, "b600505e06")
    assert {identifier for identifier, _ in other.heard} == {0x183}, "a value that was never written is not reported"


def test_a_disabled_parameter_stays_disabled_after_a_restart(start: Start, db: Database, other: Other) -> None:
    text = "outputs: [{fixid: IAS, canid: 0x183, owner: yes, rate_limit: 0}]\n"
    plugin = start(text)
    other.send(NODE_SPECIFIC + NODE, f"03{ME:02x}8301")
    other.hears(NODE_SPECIFIC + ME, "030c00")
    other.forget()
    plugin.shutdown()
    again = start(text, health="node 12 told us to stop sending IAS")
    db.write("IAS", 100.0, "pitot")
    assert again.get_status()["disabled"] == ["0x183"]
    other.send(NODE_SPECIFIC + NODE, f"04{ME:02x}8301")
    other.hears(0x183, "b60000e803")  # at once
    assert other.heard[0] == (NODE_SPECIFIC + ME, "040c00")
    assert again.health() == ""


def test_changes_are_saved_at_once_but_not_too_often(
    start: Start, db: Database, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = start("outputs: [{fixid: IAS, canid: 0x183, owner: yes}, {fixid: ALT, canid: 0x184, owner: yes}]\n")
    saved: list[float] = []

    def tell(control: int, parameter: int) -> None:
        other.send(NODE_SPECIFIC + NODE, bytes((control, ME)) + struct.pack("<H", parameter))

    def is_saved(disabled: set[int]) -> bool:
        data = state.load(plugin.keeper.path)
        return data is not None and load_state(data).disabled == disabled

    begin = time.monotonic()
    for control, parameter, disabled in [(3, 0x183, {0x183}), (3, 0x184, {0x183, 0x184}), (4, 0x183, {0x184})]:
        tell(control, parameter)
        until(partial(is_saved, disabled))
    assert time.monotonic() - begin < 0.9

    save = state.save

    def counting(path: Path, data: bytes) -> None:
        saved.append(time.monotonic())
        save(path, data)

    monkeypatch.setattr(state, "save", counting)
    for _ in range(20):
        for control in (3, 4):
            tell(control, 0x183)
            time.sleep(0.005)
    assert 1 <= len(saved) <= 8


def test_a_new_node_id_takes_effect_at_once_and_survives_a_restart(start: Start, db: Database, other: Other) -> None:
    text = "outputs: [{fixid: IAS, canid: 0x183, owner: yes}]\n"
    plugin = start(text, obey=["node-id"])
    other.send(NODE_SPECIFIC + NODE, f"02{ME:02x}50")
    other.hears(NODE_SPECIFIC + 0x50, "020c00")
    db.write("IAS", 100.0, "pitot")
    other.hears(0x183, "500000e803")
    plugin.shutdown()
    assert start(text).node.id == 0x50


def test_node_ids_are_not_changed_in_flight(start: Start, db: Database, other: Other) -> None:
    plugin = start("inputs: [{canid: 0x183, fixid: IAS}]\n", obey=["node-id"])
    other.parameter(*IAS)
    value(db, "IAS", 123.4)
    other.send(NODE_SPECIFIC + NODE, f"02{ME:02x}50")
    until(lambda: plugin.node.counts["requests refused"] == 1)
    assert plugin.node.id == ME


def test_a_bit_rate_is_changed_and_answered_a_second_later(start: Start, db: Database, other: Other) -> None:
    plugin = start(obey=["bit-rate"], bitrate=125000)
    begin = time.monotonic()
    other.send(NODE_SPECIFIC + NODE, "010004")
    other.hears(NODE_SPECIFIC + ME, "010c")
    assert time.monotonic() - begin >= 1.0
    assert plugin.get_status()["bit rate"] == 1000000
    other.parameter(*IAS)
    value(db, "IAS", 123.4)
    plugin.shutdown()
    assert start(bitrate=125000).get_status()["bit rate"] == 1000000


def test_the_bit_rate_stays_if_another_user_of_the_bus_needs_it(start: Start, db: Database, other: Other) -> None:
    plugin = start(obey=["bit-rate"], bitrate=125000)
    tap = can_bus.open_tap(plugin.options, lambda frames: None)
    try:
        other.send(NODE_SPECIFIC + NODE, f"01{ME:02x}02")
        other.hears(NODE_SPECIFIC + ME, "010cff")
        assert plugin.get_status()["bit rate"] == 125000
        other.parameter(*IAS)
        value(db, "IAS", 123.4)
    finally:
        tap.close()


def test_the_monitor_hears_the_bus_while_somebody_asks(start: Start, db: Database, other: Other) -> None:
    plugin = start(obey=["bit-rate"], bitrate=125000)

    def ask() -> dict[str, Any]:
        answer = plugin._gateway.offered("monitor canfix")
        assert answer is not None
        return {row["id"]: row for row in json.loads(answer("") or '{"rows": []}')["rows"]}

    def users() -> int:
        return int(plugin.get_status()["users"])

    assert (users(), plugin._monitor) == (1, None)
    counts = {**plugin.codec.counts}
    ask()
    assert users() == 2
    other.parameter(0x184, struct.pack("<i", 5000))
    other.send(0x5FE, "0c000001")  # which the driver does not hear
    until(lambda: {"184", "5FE"} <= ask().keys())
    assert ask()["184"]["value"] == "5000 ft"
    assert plugin.codec.counts["unknown"] == counts["unknown"]
    until(lambda: f"{NODE_SPECIFIC + ME:03X}" in ask(), "what the gateway sends")
    assert ask()[f"{NODE_SPECIFIC + ME:03X}"]["name"] == "this gateway"

    other.send(NODE_SPECIFIC + NODE, "010004")  # another bit rate: the monitor does not hold the bus
    until(lambda: plugin.get_status().get("bit rate") == 1000000)
    until(lambda: users() == 1 and not plugin._silent)
    ask()
    assert users() == 2
    assert plugin._monitor is not None
    plugin._monitor[0].until = 0.0  # nobody has asked for long
    until(lambda: plugin._monitor is None and users() == 1)
    ask()
    show = plugin._gateway.offered("monitor canfix")
    plugin.shutdown()
    assert show is not None
    assert show("") == "", "it is too late"
    assert not can_bus._buses


def test_each_bus_has_its_own_map(start: Start, db: Database, other: Other) -> None:
    start("inputs: [{canid: 0x183, fixid: IAS}]\n", "left")
    start("inputs: [{canid: 0x183, fixid: TAS}]\n", "right", channel="second")
    second = Other("second")
    try:
        other.parameter(*IAS)
        second.parameter(0x183, struct.pack("<H", 1500))
        assert value(db, "IAS", 123.4).source == "left/12"
        assert value(db, "TAS", 150.0).source == "right/12"
    finally:
        second.bus.shutdown()


def test_a_map_with_problems_is_refused_with_all_of_them(start: Start) -> None:
    with pytest.raises(ConfigurationError) as refused:
        start("inputs: [{canid: 0x183, fixid: IASS}, {canid: 0x184, fixid: ALTT}]\n")
    assert len(refused.value.problems) == 2


def test_a_broken_state_file_only_gives_a_warning(
    start: Start, db: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "canfix-canfix.json").write_text("{")
    assert start().node.id == ME
    assert "starting without it" in caplog.text


def test_a_full_disk_is_reported_and_values_keep_flowing(
    start: Start, db: Database, other: Other, tmp_path: Path
) -> None:
    (tmp_path / "state").write_text("where the directory should be")
    plugin = start("inputs: [{canid: 0x184, fixid: ALT}]\noutputs: [{fixid: IAS, canid: 0x183, owner: yes}]\n")
    other.send(NODE_SPECIFIC + NODE, f"03{ME:02x}8301")
    until(lambda: "state is not saved" in plugin.health(), "health")
    assert plugin.get_status()["saving failed"] == 1
    other.parameter(0x184, struct.pack("<i", 1234))
    value(db, "ALT", 1234.0)


def test_the_status_can_be_shown_as_json(start: Start, db: Database, other: Other) -> None:
    plugin = start()
    other.parameter(*IAS)
    value(db, "IAS", 123.4)
    status = json.loads(json.dumps(plugin.get_status()))
    assert status["frames"]["value"] == 1
    assert status["node"] == ME


# -- floods ------------------------------------------------------------------------------------------------------------


def memory() -> int:
    """The peak resident memory in kB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_a_flood_of_random_frames_leaves_memory_flat_and_the_bus_readable(
    start: Start, db: Database, other: Other
) -> None:
    """Feed random frames straight into the driver: 20,000, as many as in a second, several times."""
    plugin = start(obey=["disable", "report", "configuration"])
    noise = random.Random(3)
    frames = [Frame(noise.randrange(0x800), noise.randbytes(noise.randrange(9))) for _ in range(20_000)]
    plugin.received(frames)
    before = memory()
    begin = time.process_time()
    for _ in range(3):
        plugin.received(frames)
    spent = time.process_time() - begin
    assert memory() - before < 4000
    assert spent < 3.0, "a second's worth of frames must take much less than a second"
    other.parameter(*IAS)
    until(lambda: db.read("IAS").source == "canfix/12")
    assert sum(plugin.codec.counts.values()) >= 80_000


@pytest.mark.slow
def test_a_flood_on_the_bus_leaves_the_database_responsive(start: Start, db: Database, other: Other) -> None:
    plugin = start()
    stop = threading.Event()

    def babble() -> None:
        message = can.Message(arbitration_id=0x183, data=b"\x0c\0\0\xd2\4", is_extended_id=False)
        while not stop.is_set():
            for _ in range(200):
                other.bus.send(message)
            time.sleep(0.01)

    flood = threading.Thread(target=babble)
    flood.start()
    try:
        until(lambda: plugin.counts["used"] > 5000, seconds=20)
        worst = 0.0
        for n in range(200):
            begin = time.monotonic()
            db.write("TAS", float(n), "somebody")
            worst = max(worst, time.monotonic() - begin)
            time.sleep(0.001)
        assert worst < 0.5
        assert plugin.health() == ""
    finally:
        stop.set()
        flood.join()


# -- with a gateway, virtual nodes and other processes -----------------------------------------------------------------


def test_a_changed_map_restarts_the_connection_on_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    main, can_map = tmp_path / "default.yaml", tmp_path / "map.yaml"
    can_map.write_text("inputs: [{canid: 0x183, fixid: IAS}]\n")
    main.write_text(
        "connections:\n  can: {module: fixgw.drivers.canfix, interface: virtual, channel: reload, mapfile: map.yaml}\n"
    )
    running = Gateway(configuration.load(main), reload=lambda: configuration.load(main))
    before = database.current()
    thread = threading.Thread(target=lambda: running.run_forever(handle_signals=False))
    thread.start()
    node = Other("reload")
    try:
        until(lambda: "can" in running.runners and running.runners["can"].health() == "")
        first = running.runners["can"].plugin
        running.request_reload()
        until(lambda: running.reloads == 1)
        assert running.runners["can"].plugin is first
        can_map.write_text("inputs: [{canid: 0x183, fixid: TAS}]\n")
        running.request_reload()
        until(lambda: running.reloads == 2 and "can" in running.runners and running.runners["can"].health() == "")
        assert running.runners["can"].plugin is not first
        node.parameter(*IAS)
        value(running.database, "TAS", 123.4)
        can_map.write_text("inputs: [{canid: 0x183, fixid: TASS}]\n")
        running.request_reload()
        until(lambda: running.problems)
        assert "did you mean 'TAS'" in running.problems[0]
    finally:
        running.request_stop()
        thread.join()
        database.bind(before)
        node.bus.shutdown()


@pytest.mark.slow
def test_it_reads_the_virtual_nodes_of_a_flying_aircraft(start: Start, db: Database) -> None:
    """Virtual nodes of a moving aircraft, which encode their frames independently of our codec."""
    scenario = scenarios.load(scenarios.shipped()["cruise"])
    with World(scenario.aircraft()) as world:
        bus = CanBus(scenario)
        bus.join("virtual", "canfix", ignore_config=True)
        world.attach(bus)
        plugin = start()
        keys = ["IAS", "ALT", "PITCH", "ROLL", "HEAD", "LAT", "GS", "TACH1", "OILP1", "EGT11", "FUELQ1", "TIMEZ"]
        until(lambda: all(db.read(key).good and db.read(key).source.startswith("canfix/") for key in keys))
        until(lambda: len([n for n in plugin.get_status()["nodes"].values() if n.get("description")]) >= 5)
        until(lambda: db.read_aux("OILP1.lowAlarm") is not None, seconds=15)
        assert plugin.codec.counts["short"] == 0
        assert plugin.codec.counts["undefined-meta"] == 0


FAR = """
import sys, time
import can
sys.stdout.reconfigure(line_buffering=True)
bus = can.Bus(sys.argv[1], interface="udp_multicast", ignore_config=True, port=int(sys.argv[2]))
print("ready")
deadline = time.monotonic() + 20
while time.monotonic() < deadline:
    bus.send(can.Message(arbitration_id=0x183, data=bytes.fromhex("0c0000d204"), is_extended_id=False))
    until = time.monotonic() + 0.1
    while (message := bus.recv(max(0, until - time.monotonic()))) is not None:
        if message.arbitration_id == 0x190:
            print(bytes(message.data).hex())
"""


@pytest.mark.slow
def test_it_exchanges_frames_with_another_process_over_the_network(start: Start, db: Database) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("", 0))
        group, port = "239.74.163.2", free.getsockname()[1]
    command = [sys.executable, "-c", FAR, group, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as far:
        assert far.stdout is not None
        try:
            if far.stdout.readline() != "ready\n":
                pytest.skip("there is no multicast here")
            start(
                """\
                inputs: [{canid: 0x183, fixid: IAS}]
                outputs: [{fixid: BARO, canid: 0x190, owner: yes}]
                """,
                interface="udp_multicast",
                channel=group,
                extra={"port": port},
            )
            assert value(db, "IAS", 123.4).source == "canfix/12"
            db.write("BARO", 30.0, "knob")
            assert far.stdout.readline() == "b600003075\n"
        finally:
            far.kill()


# -- the contract that all drivers pass --------------------------------------------------------------------------------


class CanFixNode(CanInstrument):
    """One of the virtual CAN-FIX nodes, as an instrument."""

    NAME = "engine"
    RATE = 40.0

    def __init__(self, segment: Segment) -> None:
        super().__init__(segment)
        self.station = Station(DEVICES[self.NAME]())

    def frames(self, aircraft: Aircraft, now: float) -> list[SimFrame]:
        return self.station.due(now, look(aircraft))


class CanFixBench(CanBench):
    """A node among others that may come and go: the driver does not complain about missing nodes."""

    CAN = frozenset({"late", "vanish", "exchange", "silence"})
    expects = False
    wound = False

    def half_a_frame(self) -> None:
        self.adapter.tell(b"t2018AABB")

    def other_half(self) -> None:
        """Any frame can be valid."""

    def refused(self) -> int:
        """The driver accepts what fits the wire format; the database then finds it out of range."""
        return sum(self.db.read(key).bad for key in self.subject.absurd)

    def counters_add_up(self) -> None:
        """The driver's own tests check the counters."""


class TestContract(Contract):
    subject = CanFixBench.of(
        "fixgw.drivers.canfix",
        CanFixNode,
        "TACH1 PROP1 OILP1 OILT1 VOLT CHT11 CHT14 EGT11 EGT14",
        absurd={"OILP1": 400.0},
    )
