"""MegaSquirt's broadcast: hand-made golden frames, robustness, the virtual computer, the plugin on a bus."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw import database
from fixgw.database import FAIL, Database
from fixgw.drivers.links.can.bus import SharedBus
from fixgw.drivers.links.can.frame import EXTENDED, REMOTE, Frame
from fixgw.drivers.megasquirt import MegasquirtOptions, Plugin
from fixgw.drivers.megasquirt.protocol import BASE, FIELDS, KEYS, Decoder, Target
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench.base import packaged_database
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.bench.wired import CanBench
from fixgw.hw_sim.can import Segment, SimFrame, VirtualSlcan
from fixgw.hw_sim.devices.megasquirt import Megasquirt
from fixgw.kit.update import Update

NOON = datetime(2025, 7, 21, 15, 0, tzinfo=UTC)


def frames(path: str) -> list[Frame]:
    """The frames in a file of lines ``identifier#data``, in hexadecimal."""
    lines = (Path(__file__).parents[1] / "data" / path).read_text().splitlines()
    pairs = [line.split()[0].split("#") for line in lines if line and not line.startswith("#")]
    return [Frame(int(identifier, 16), bytes.fromhex(data)) for identifier, data in pairs]


GOLDEN = frames("megasquirt/broadcast.txt")


def adds_up(decoder: Decoder) -> bool:
    counts = decoder.counts
    return counts["received"] == counts["used"] + counts["ignored"] + sum(counts[r] for r in decoder.REFUSALS)


def test_the_broadcast_in_the_units_of_the_keys() -> None:
    updates = {u.key: u for u in Decoder().feed(GOLDEN)}
    assert {key: u.value for key, u in updates.items() if not u.flags} == pytest.approx(
        {
            "TACH1": 2450.0,
            "MAP1": 82.3 / 3.386389,
            "H2OT1": 85.0,
            "THR1": 0.625,
            "VOLT": 13.8,
            "FUELF1": 580 * 60 / 3785.411784,
            "EGT11": 710.0,
            "EGT12": 695.0,
            "EGT13": -160 / 9,
        },
        rel=1e-6,
    )
    assert updates["EGT14"].flags == FAIL, "1838 degrees below zero"


def test_other_fields_can_be_sent_to_any_key() -> None:
    decoder = Decoder(targets={"sensors1": Target("OILP1"), "sensors2": Target("OILT1", 5 / 9, -160 / 9)})
    updates = decoder.feed(GOLDEN)
    assert [u.key for u in updates] == ["OILP1", "OILT1"]
    assert [u.value for u in updates] == pytest.approx([67.5, (184.0 - 32) / 1.8])
    assert decoder.counts["ignored"] == len(GOLDEN) - 1


#: Name, group, first byte, form, units per unit sent; without the throttle, which has its own test. Of the sensors,
#: probes and mixtures, the ends of each group.
DOCUMENT = """
rpm          0 6 >H 1     adv_deg     1 0 >h 0.1   baro        2 0 >h 0.1   map         2 2 >h 0.1
mat          2 4 >h 0.1   clt         2 6 >h 0.1   batt        3 2 >h 0.1
airtemp     11 6 >h 0.1   fuelflow   52 4 >H 1     fuel_press1 53 0 >h 0.1  fuel_press2 53 2 >h 0.1
fuel_temp1  53 4 >h 0.1   fuel_temp2 53 6 >h 0.1   batt_cur   54 0 >h 0.1
sensors1    13 0 >h 0.1   sensors4   13 6 >h 0.1   sensors5   14 0 >h 0.1   sensors16  16 6 >h 0.1
egt1        22 0 >h 0.1   egt4       22 6 >h 0.1   egt5       23 0 >h 0.1   egt8       23 6 >h 0.1
AFR1        31 0 >B 0.1   AFR2       31 1 >B 0.1   AFR7       31 6 >B 0.1   AFR8       31 7 >B 0.1
"""


def test_each_field_is_where_the_document_has_it() -> None:
    words = DOCUMENT.split()
    for name, group, at, form, factor in zip(*(words[i::5] for i in range(5)), strict=True):
        number = -123 if form == ">h" else 200
        data = bytearray(8)
        struct.pack_into(form, data, int(at), number)
        decoder = Decoder(targets={name: Target("KEY")})
        (update,) = decoder.feed([Frame(BASE + int(group), bytes(data))])
        assert update.value == pytest.approx(number * float(factor)), name
    assert len(FIELDS) == 15 + 16 + 8 + 8


def test_the_broadcast_has_sixty_four_groups() -> None:
    assert Decoder().ids == set(range(1520, 1584))


def test_frames_of_others_between_those_of_the_computer_hide_none() -> None:
    decoder = Decoder(targets={"rpm": Target("TACH1")})
    others = [Frame(100, bytes(8)), Frame(BASE, bytes(7)), Frame(BASE, bytes(8), REMOTE), Frame(BASE + 1, bytes(8))]
    assert decoder.feed([*others, GOLDEN[0]]) == [Update("TACH1", 2450.0)]
    assert decoder.counts["received"] == 4


def test_an_absurd_value_is_counted_and_shown_as_sent() -> None:
    decoder = Decoder()
    (update,) = decoder.feed([Frame(BASE, bytes(6) + (30_000).to_bytes(2, "big"))])
    assert update == Update("TACH1", None, FAIL, "the engine computer sends an absurd value: rpm is 30000")
    assert decoder.counts["absurd values"] == 1


def test_the_base_identifier_can_be_changed() -> None:
    moved = [Frame(f.arbitration_id - BASE + 0x300, f.data) for f in GOLDEN]
    assert Decoder(base=0x300).feed(moved) == Decoder().feed(GOLDEN)
    assert Decoder(base=0x300).feed(GOLDEN) == []


def test_a_throttle_that_is_not_calibrated_exactly_is_closed_or_open() -> None:
    for raw, share in ((-20, 0.0), (1012, 1.0)):
        data = raw.to_bytes(2, "big", signed=True) + bytes(6)
        assert Decoder(targets={"tps": Target("THR1", 0.01, low=-0.05, high=1.05)}).feed([Frame(BASE + 3, data)]) == [
            Update("THR1", share)
        ]
    assert Decoder(targets={"batt": Target("KEY")}).feed([Frame(BASE + 3, bytes(2) + b"\xff\xec" + bytes(4))]) == [
        Update("KEY", -2.0)
    ]


def test_only_complete_data_frames_are_accepted() -> None:
    decoder = Decoder()
    assert decoder.refused == decoder.trouble == ""
    spoiled = [Frame(BASE, bytes(7)), Frame(BASE, bytes(8), REMOTE), Frame(BASE + 2, b"")]
    assert decoder.feed(spoiled) == []
    assert (decoder.counts["wrong length"], decoder.counts["not a data frame"]) == (2, 1)
    assert decoder.feed([Frame(BASE, bytes(9))]) == []
    assert decoder.refused == "wrong length: 1520 00 00 00 00 00 00 00 00 00"
    assert adds_up(decoder)


@pytest.mark.slow
@given(
    st.lists(
        st.builds(
            Frame,
            st.one_of(st.integers(BASE - 5, BASE + 70), st.integers(0, 0x7FF)),
            st.binary(max_size=8),
            st.sampled_from([0, 0, 0, REMOTE, EXTENDED]),
        )
    )
)
def test_no_frame_raises_and_every_frame_is_counted(some: list[Frame]) -> None:
    decoder = Decoder()
    for update in decoder.feed(some):
        assert update.key in KEYS
        assert (update.value is None) is bool(update.flags)
    assert adds_up(decoder)
    assert decoder.counts["received"] == sum(f.arbitration_id in decoder.ids for f in some)


def test_every_field_lies_within_its_frame() -> None:
    for field in FIELDS.values():
        assert 0 <= field.group < 64
        assert field.at + field.number.size <= 8


def test_the_virtual_computer_reports_the_engine() -> None:
    aircraft = Aircraft(NOON)
    with Segment() as segment:
        sent = Megasquirt(segment).frames(aircraft, 0.0)
    known = {u.key: u.value for u in Decoder().feed(Frame(f.arbitration_id, f.data) for f in sent)}
    truth = aircraft.values()
    for key, within in {"TACH1": 0.1, "MAP1": 0.02, "H2OT1": 0.03, "THR1": 6e-4, "VOLT": 0.06, "FUELF1": 0.02}.items():
        assert known[key] == pytest.approx(truth[key], abs=within), key
    for cylinder in (1, 2, 3, 4):
        assert known[f"EGT1{cylinder}"] == pytest.approx(truth[f"EGT1{cylinder}"], abs=0.03)


# -- the plugin --------------------------------------------------------------------------------------------------------


def until(condition: Callable[[], object], what: str = "it did not happen") -> None:
    deadline = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


@pytest.fixture
def db(monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    for name, seconds in (("poll_timeout", 0.05), ("reopen_delay", 0.02), ("reopen_delay_max", 0.05)):
        monkeypatch.setattr(SharedBus, name, seconds)
    db = packaged_database()
    before = database.current()
    database.bind(db)
    yield db
    db.stop()
    database.bind(before)


@pytest.mark.slow
def test_unplugging_the_adapter_fails_only_its_keys(db: Database) -> None:
    with Segment() as segment, VirtualSlcan(segment) as adapter:
        node = segment.attach("computer")
        options = {"interface": "slcan", "channel": adapter.path, "bitrate": 500000, "keys": {"TACH1": "PROP1"}}
        plugin = Plugin("ecu", options)
        plugin.start()
        try:
            until(lambda: adapter.opened)
            until(lambda: plugin.health() == "no data")
            for frame in GOLDEN:
                node.send(SimFrame(frame.arbitration_id, frame.data))
            until(lambda: db.read("PROP1").good and db.read("FUELF1").good)
            assert db.read("PROP1").value == 2450
            assert db.read("TACH1").old, "sent to another item"
            assert db.read("EGT11").old, "no probes are connected"
            assert plugin.health() == ""
            adapter.unplug()
            until(lambda: db.read("PROP1").fail and db.read("VOLT").fail)
            assert plugin.health()
            assert not db.read("EGT11").fail
            adapter.plug()
            until(lambda: adapter.opened)
            node.send(SimFrame(GOLDEN[0].arbitration_id, GOLDEN[0].data))
            until(lambda: db.read("PROP1").good)
            assert db.read("VOLT").fail, "it has not sent anything yet"
        finally:
            plugin.shutdown()


def test_options_with_unknown_names_are_reported(db: Database) -> None:
    fields = {"sensor1": {"key": "OILP1"}, "sensors2": {"key": "OILP7"}}
    options = msgspec.convert({"fields": fields, "keys": {"TACH2": "PROP1"}}, MegasquirtOptions)
    found = dict(Plugin.check(options, db))  # type: ignore[arg-type]
    assert set(found) == {"fields.sensor1", "fields.sensors2.key", "keys.TACH2"}
    assert "did you mean 'sensors1'" in found["fields.sensor1"]


# -- the contract that all drivers pass --------------------------------------------------------------------------------


class TestContract(Contract):
    subject = CanBench.of(
        "fixgw.drivers.megasquirt",
        Megasquirt,
        "TACH1 MAP1 H2OT1 THR1 VOLT FUELF1 EGT11 EGT14",
        options={"probes": 4},
        absurd={"TACH1": 30_000, "H2OT1": 900.0, "VOLT": 90.0},
    )
