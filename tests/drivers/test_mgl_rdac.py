"""MGL's RDAC: hand-made golden frames, curves, robustness, both roles on a bus."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import can
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw import database
from fixgw.database import FAIL, Database
from fixgw.drivers.links.can.bus import SharedBus
from fixgw.drivers.links.can.frame import EXTENDED, REMOTE, Frame
from fixgw.drivers.mgl_rdac import Plugin, RdacOptions
from fixgw.drivers.mgl_rdac.protocol import CHANNELS, Decoder, Encoder, Target
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench.base import packaged_database
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.bench.wired import CanBench
from fixgw.hw_sim.can import Segment
from fixgw.hw_sim.devices.mgl_rdac import SENDERS, Rdac
from fixgw.kit.curve import Curve, CurveSpec
from fixgw.kit.update import Update

NOON = datetime(2025, 7, 21, 15, 0, tzinfo=UTC)


def frames(path: str) -> list[Frame]:
    """The frames in a file of lines ``identifier#data``, in hexadecimal."""
    lines = (Path(__file__).parents[1] / "data" / path).read_text().splitlines()
    pairs = [line.split()[0].split("#") for line in lines if line and not line.startswith("#")]
    return [Frame(int(identifier, 16), bytes.fromhex(data), 0, 100.0) for identifier, data in pairs]


GOLDEN = frames("mgl_rdac/rdac1.txt")
TEMPERATURE = GOLDEN[3]


def curve(**options: Any) -> Curve:
    return msgspec.convert(options, CurveSpec).curve(4095)


OIL = curve(points=[[400, 0.0], [3600, 100.0]])
ALL = {
    "fuel_flow_1": Target("FUELF1", curve(linear={"factor": 0.02})),
    "fuel_flow_2": Target("FUELF2", curve(linear={"factor": 0.02})),
    "thermocouple_1": Target("CHT11"),
    "thermocouple_2": Target("CAT"),
    "oil_temperature": Target("OILT1", curve(points=[[500, 0.0], [3500, 150.0]])),
    "oil_pressure": Target("OILP1", OIL),
    "aux_1": Target("FUELP1", OIL),
    "temperature": Target("RAT"),
    "voltage": Target("VOLT"),
    "rpm_1": Target("TACH1"),
    "rpm_2": Target("TACH2"),
    "map": Target("MAP1", curve(linear={"factor": 0.0295299831})),
    "current": Target("CURRNT", curve(linear={"factor": 0.1})),
}


def adds_up(decoder: Decoder) -> bool:
    counts = decoder.counts
    return counts["received"] == counts["used"] + counts["ignored"] + sum(counts[r] for r in decoder.REFUSALS)


def test_the_message_set_in_the_units_of_the_keys() -> None:
    updates = {u.key: u for u in Decoder(1, ALL).feed([TEMPERATURE, *GOLDEN])}
    assert {key: u.value for key, u in updates.items() if not u.flags} == pytest.approx(
        {
            "FUELF1": 9.2,
            "CHT11": 178.0,
            "CAT": -6.0,
            "OILT1": 75.0,
            "OILP1": 62.5,
            "RAT": 24.0,
            "VOLT": 792 * 0.017428951,
            "TACH1": 2450.0,
            "TACH2": 51000.0,
            "MAP1": 24.3031761,
            "CURRNT": 18.5,
        }
    )
    assert updates["FUELF2"] == Update("FUELF2", None, FAIL, "the RDAC reports an error on fuel_flow_2")
    assert updates["FUELP1"] == Update("FUELP1", None, FAIL, "aux_1 reads 0, which no healthy sender gives")


@pytest.mark.parametrize("words", ["FFFF 6400", "7800 FFFF"])
def test_an_error_can_show_in_the_pulses_or_in_their_ratio(words: str) -> None:
    frame = Frame(0x201, bytes.fromhex(words + "7800 6400"))
    first, second = Decoder(1, {name: ALL[name] for name in ("fuel_flow_1", "fuel_flow_2")}).feed([frame])
    assert first == Update("FUELF1", None, FAIL, "the RDAC reports an error on fuel_flow_1")
    assert second.value == pytest.approx(2.4)


def test_a_speed_of_all_ones_means_no_speed() -> None:
    (update,) = Decoder(1, {"rpm_1": Target("TACH1")}).feed([Frame(0x208, b"\xff" * 8)])
    assert update.value is None
    assert update.flags == FAIL


def test_a_channel_without_a_curve_or_key_is_not_written() -> None:
    decoder = Decoder(1, {"rpm_1": Target("TACH1")})
    assert decoder.feed(GOLDEN) == [Update("TACH1", 2450.0)]
    assert decoder.counts["ignored"] == 3, "the RDAC's temperature is always read"


def test_another_rdac_is_ignored() -> None:
    decoder = Decoder(2, ALL)
    assert decoder.feed(GOLDEN) == []
    assert decoder.counts["received"] == 0
    moved = [Frame(f.arbitration_id + 0x10, f.data, 0, f.timestamp) for f in GOLDEN]
    assert decoder.feed(moved) == Decoder(1, ALL).feed(GOLDEN)
    assert decoder.ids == set(range(0x211, 0x219))


def test_frames_of_others_between_those_of_the_rdac_hide_none() -> None:
    decoder = Decoder(1, {"rpm_1": Target("TACH1")})
    assert (decoder.refused, decoder.trouble) == ("", "")
    others = [Frame(0x100, bytes(8)), Frame(0x208, bytes(7)), Frame(0x208, bytes(8), REMOTE), Frame(0x201, bytes(8))]
    assert decoder.feed([*others, GOLDEN[4]]) == [Update("TACH1", 2450.0)]
    assert decoder.counts["received"] == 4


def test_a_thermocouple_needs_a_fresh_temperature_of_the_rdac() -> None:
    decoder = Decoder(1, {"thermocouple_1": Target("CHT11")})
    couple = GOLDEN[1]
    (update,) = decoder.feed([couple])
    assert update.value is None
    assert update.flags == FAIL
    assert decoder.feed([TEMPERATURE, couple]) == [Update("CHT11", 178.0)]
    for when, value in ((110.0, 178.0), (110.1, None)):
        assert decoder.feed([Frame(couple.arbitration_id, couple.data, 0, when)])[0].value == value


@pytest.mark.parametrize(
    ("degrees", "healthy"), [(-32768, False), (-61, False), (-60, True), (150, True), (151, False), (32767, False)]
)
def test_which_temperatures_an_rdac_can_have(degrees: int, healthy: bool) -> None:
    decoder = Decoder(1, {"thermocouple_1": Target("CHT11")})
    data = degrees.to_bytes(2, "little", signed=True) + bytes(2)
    (update,) = decoder.feed([TEMPERATURE, Frame(0x207, data, 0, 100.0), GOLDEN[1]])
    assert update.value == (154 + degrees if healthy else None)
    assert decoder.trouble == ("" if healthy else f"the RDAC's own temperature is absurd: {degrees} degC")


def test_an_absurd_temperature_of_the_rdac_fails_its_thermocouples() -> None:
    decoder = Decoder(1, {"thermocouple_1": Target("CHT11"), "temperature": Target("RAT")})
    hot = Frame(0x207, (900).to_bytes(2, "little") + bytes(2), 0, 100.0)
    updates = decoder.feed([hot, GOLDEN[1]])
    assert [u.value for u in updates] == [None, None]
    assert decoder.trouble
    decoder.feed([TEMPERATURE])
    assert not decoder.trouble


def test_readings_beyond_the_converter_range_are_absurd() -> None:
    decoder = Decoder(1, {"oil_pressure": Target("OILP1", OIL)})
    (update,) = decoder.feed([Frame(0x205, bytes.fromhex("0000001000000000"))])
    assert update == Update("OILP1", None, FAIL, "the RDAC sends an absurd value: oil_pressure is 4096")
    assert decoder.counts["absurd values"] == 1


def test_a_calibrated_engine_speed_is_a_whole_number() -> None:
    (update,) = Decoder(1, {"rpm_1": Target("TACH1", curve(linear={"factor": 0.411}))}).feed(GOLDEN)
    assert update.value == 1007
    assert type(update.value) is int


def test_only_complete_data_frames_are_accepted() -> None:
    decoder = Decoder(1, ALL)
    assert decoder.feed([Frame(0x208, bytes(7)), Frame(0x207, bytes(3)), Frame(0x208, bytes(8), REMOTE)]) == []
    assert (decoder.counts["wrong length"], decoder.counts["not a data frame"]) == (2, 1)
    assert decoder.refused == "not a data frame: 0x208 00 00 00 00 00 00 00 00"
    assert decoder.feed([Frame(0x207, bytes(3))]) == []
    assert decoder.refused == "wrong length: 0x207 00 00 00"
    assert adds_up(decoder)


@pytest.mark.slow
@given(
    st.lists(
        st.builds(
            Frame,
            st.one_of(st.integers(0x200, 0x20F), st.integers(0, 0x7FF)),
            st.binary(max_size=8),
            st.sampled_from([0, 0, 0, REMOTE, EXTENDED]),
            st.floats(0, 100),
        )
    )
)
def test_no_frame_raises_and_every_frame_is_counted(some: list[Frame]) -> None:
    decoder = Decoder(1, ALL)
    for update in decoder.feed(some):
        assert (update.value is None) is bool(update.flags)
    assert adds_up(decoder)


@pytest.mark.parametrize("number", [1, 3])
def test_the_virtual_rdac_reports_the_engine(number: int) -> None:
    aircraft = Aircraft(NOON)
    with Segment() as segment:
        device = Rdac(segment, number)
        device.failed = {"FUELQ2", "EGT13"}
        sent = device.frames(aircraft, 0.0)
    names = {
        "OILT1": "oil_temperature",
        "OILP1": "oil_pressure",
        "FUELP1": "fuel_pressure",
        "H2OT1": "coolant",
        "FUELQ1": "fuel_level_1",
        "FUELQ2": "fuel_level_2",
    }
    targets = {n: Target(k, curve(points=SENDERS[k])) for k, n in names.items()}
    targets |= {f"thermocouple_{i}": Target(f"CHT1{i}") for i in (1, 2, 3, 4)}
    targets |= {f"thermocouple_{i + 4}": Target(f"EGT1{i}") for i in (1, 2, 3, 4)}
    decoder = Decoder(number, targets)
    carried = [Frame(f.arbitration_id, f.data) for f in sent]
    known = {u.key: u for u in decoder.feed([*carried, *carried])}
    truth = aircraft.values()
    for key, update in known.items():
        if key in device.failed:
            assert update.flags == FAIL, key
        else:
            assert update.value == pytest.approx(truth[key], abs=1.1 if key[:3] in ("CHT", "EGT") else 0.05), key


# -- in place of an RDAC -----------------------------------------------------------------------------------------------


def test_it_sends_what_an_rdac_would_send() -> None:
    encoder = Encoder(
        1,
        {
            **dict.fromkeys(("temperature", "voltage", "rpm_1", "rpm_2", "thermocouple_1", "thermocouple_2")),
            "oil_pressure": curve(points=[[0.0, 400], [100.0, 3600]]),
            "oil_temperature": curve(points=[[0.0, 500], [150.0, 3500]]),
            "fuel_flow_1": curve(linear={"factor": 50.0}),
            "map": curve(linear={"factor": 1.0}),
            "current": curve(linear={"factor": 10.0}),
        },
    )
    values = {
        "temperature": 24.2,
        "voltage": 13.8,
        "rpm_1": 2450,
        "rpm_2": 51000,
        "thermocouple_1": 178,
        "thermocouple_2": -6,
        "oil_pressure": 62.5,
        "oil_temperature": 75.0,
        "fuel_flow_1": 9.2,
        "map": 823,
        "current": 18.5,
    }
    messages, missing = encoder.encode(values)
    expected = {f.arbitration_id: f.data for f in GOLDEN}
    expected[0x201] = bytes.fromhex("CC010000FFFF0000")  # the ratio of pulses is not documented
    assert dict(messages) == expected
    assert missing == []


def sent(values: dict[str, float], curves: dict[str, Curve | None] | None = None) -> list[Any]:
    """The messages with these values, or the channels for which there are none."""
    messages, missing = Encoder(1, dict.fromkeys(values) | (curves or {})).encode(values)
    return missing or messages


def words(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}H", *(number & 0xFFFF for number in numbers))


def test_a_thermocouple_is_sent_as_what_it_has_above_the_rdac() -> None:
    assert sent({"thermocouple_2": 100.0}) == [(0x202, words(0, 100, 0, 0))]
    assert sent({"thermocouple_2": 100.0, "temperature": -5.0}) == [
        (0x202, words(0, 105, 0, 0)),
        (0x207, words(-5, 0)),
    ]


RAW = curve(linear={"factor": 1.0})


@pytest.mark.parametrize(
    ("name", "lowest", "highest", "at"),
    [
        ("fuel_pressure", 0, 4095, 0),
        ("map", 0, 0xFFFE, 2),
        ("rpm_2", 0, 205_340, 1),
        ("temperature", -0x8000, 0x7FFF, 0),
    ],
)
def test_values_that_a_word_cannot_carry_are_not_sent(name: str, lowest: int, highest: int, at: int) -> None:
    curves = {name: RAW if CHANNELS[name].raw else None}
    for value in (lowest, highest):
        ((_, data),) = sent({name: value}, curves)
        word = 0xFFFE if (name, value) == ("rpm_2", highest) else value
        assert data[2 * at : 2 * at + 2] == words(word)
    for beyond in (lowest - 1, highest + 10, float("inf"), float("nan")):
        assert sent({name: beyond}, curves) == [name]


@given(st.dictionaries(st.sampled_from(sorted(CHANNELS)), st.one_of(st.none(), st.floats())))
def test_no_value_makes_the_sender_raise(values: dict[str, float | None]) -> None:
    encoder = Encoder(1, {name: curve(linear={"factor": 2.0}) if CHANNELS[name].raw else None for name in CHANNELS})
    messages, missing = encoder.encode(values)
    assert all(0x201 <= identifier <= 0x208 and len(data) in (4, 8) for identifier, data in messages)
    assert set(missing) <= set(CHANNELS)


def test_a_message_is_not_sent_while_one_of_its_values_is_missing() -> None:
    encoder = Encoder(1, {"rpm_1": None, "temperature": None, "voltage": None, "thermocouple_1": None})
    messages, missing = encoder.encode({"rpm_1": 2450.0, "temperature": None, "voltage": 13.8, "thermocouple_1": 100.0})
    assert [identifier for identifier, _ in messages] == [0x208]
    assert missing == ["thermocouple_1", "temperature"]


# -- the plugin --------------------------------------------------------------------------------------------------------


def until(condition: Callable[[], object], what: str = "it did not happen") -> None:
    deadline = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


@pytest.fixture
def db(monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setattr(SharedBus, "poll_timeout", 0.05)
    db = packaged_database()
    before = database.current()
    database.bind(db)
    yield db
    db.stop()
    database.bind(before)


@pytest.fixture
def other() -> Iterator[can.BusABC]:
    """Another node on the bus."""
    bus = can.Bus("rdac", interface="virtual", ignore_config=True)
    yield bus
    bus.shutdown()


def started(**options: Any) -> Plugin:
    plugin = Plugin("rdac", {"interface": "virtual", "channel": "rdac", **options})
    plugin.start()
    until(lambda: plugin.connected)
    return plugin


def test_by_default_it_reads_the_channels_that_need_no_calibration(db: Database, other: can.BusABC) -> None:
    plugin = started()
    try:
        until(lambda: plugin.health() == "no data")
        for frame in GOLDEN:
            other.send(can.Message(arbitration_id=frame.arbitration_id, data=frame.data, is_extended_id=False))
        until(lambda: all(db.read(key).good for key in ("TACH1", "VOLT", "RAT")))
        assert db.read("TACH1").value == 2450
        assert db.read("OILP1").old
        assert plugin.health() == ""
        assert plugin.counts["received"] == len(GOLDEN)
    finally:
        plugin.shutdown()


def test_in_place_of_an_rdac_it_sends_the_good_values(db: Database, other: can.BusABC) -> None:
    channels = {"rpm_1": {"key": "TACH1"}, "voltage": {"key": "VOLT"}}
    plugin = started(role="send", rdac=2, interval=0.05, channels=channels)
    try:
        db.write("TACH1", 2450, "test", flags=0)
        heard = other.recv(10.0)
        assert heard is not None
        assert (heard.arbitration_id, bytes(heard.data)) == (0x218, bytes.fromhex("9209000000000000"))
        until(lambda: plugin.health() == "messages withheld, no good value for: voltage")
        db.write("VOLT", 13.8, "test", flags=0)
        until(lambda: plugin.health() == "")
        until(lambda: (message := other.recv(10.0)) is not None and message.arbitration_id == 0x217)
        db.item("TACH1").fail("test", "test")
        until(lambda: plugin.health() == "messages withheld, no good value for: rpm_1")
        other.send(can.Message(arbitration_id=0x218, data=bytes(8), is_extended_id=False))
        until(lambda: plugin.health() == "another RDAC 2 is on the bus")
        assert db.read("TACH1").value == 2450, "a sender does not receive"
        assert plugin.alive is not None
    finally:
        plugin.shutdown()


def test_two_of_them_understand_each_other(db: Database) -> None:
    sender = started(role="send", interval=0.05, channels={"rpm_1": {"key": "TACH1"}, "temperature": {"key": "CAT"}})
    listener = Plugin("listener", {"interface": "virtual", "channel": "rdac", "channels": {"rpm_1": {"key": "PROP1"}}})
    try:
        listener.start()
        db.write("TACH1", 2345, "test", flags=0)
        until(lambda: db.read("PROP1").good and db.read("PROP1").value == 2345)
    finally:
        listener.shutdown()
        sender.shutdown()


@pytest.mark.parametrize(
    ("channels", "problem"),
    [
        ({"oil_presure": {"key": "OILP1"}}, "did you mean 'oil_pressure'"),
        ({"oil_pressure": {"key": "OILP1"}}, "needs a `curve`"),
        ({"rpm_1": {"key": "TACHO1"}}, "did you mean 'TACH1'"),
        ({"rpm_1": {"key": "TACH1"}, "rpm_2": {"key": "TACH1"}}, "rpm_1 already writes TACH1"),
    ],
)
def test_impossible_channels_are_reported(db: Database, channels: dict[str, Any], problem: str) -> None:
    options = msgspec.convert({"channels": channels}, RdacOptions)
    assert any(problem in message for _, message in Plugin.check(options, db))  # type: ignore[misc]


# -- the contract that all drivers pass --------------------------------------------------------------------------------


class TestContract(Contract):
    subject = CanBench.of(
        "fixgw.drivers.mgl_rdac",
        Rdac,
        "TACH1 VOLT RAT OILT1 OILP1 FUELF1 CHT11 EGT14",
        options={
            "channels": {
                "rpm_1": {"key": "TACH1"},
                "voltage": {"key": "VOLT"},
                "temperature": {"key": "RAT"},
                "thermocouple_1": {"key": "CHT11"},
                "thermocouple_8": {"key": "EGT14"},
                "oil_temperature": {"key": "OILT1", "curve": {"points": [[500, 0.0], [3500, 150.0]]}},
                "oil_pressure": {"key": "OILP1", "curve": {"points": [[400, 0.0], [3600, 100.0]]}},
                "fuel_flow_1": {"key": "FUELF1", "curve": {"linear": {"factor": 0.02}}},
            }
        },
        within={"RAT": 0.5},
        absurd={"CHT11": 2000.0, "VOLT": 90.0},
        unknown=("CHT11", "OILT1", "FUELF1"),
    )
