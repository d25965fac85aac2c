"""The virtual CAN-FIX nodes: every frame against bytes written by hand, and against the gateway's own codec."""

from __future__ import annotations

import math
import struct
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from fixgw.drivers.canfix import protocol, table
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.can.devices import DEVICES, Ahrs, AirData, Controls, Engine, Fuel, Gps, Panel, look
from fixgw.hw_sim.can.faults import FAULTS, Station
from fixgw.hw_sim.can.nodes import INBOX, VirtualNode
from fixgw.hw_sim.can.segment import SimFrame

pytestmark = pytest.mark.slow

NODE_SPECIFIC = 0x6E0
US = 0x91  # the node that asks


def view(**changes: Any) -> dict[str, Any]:
    """A view of an aircraft whose values are constant, with `changes`."""
    return {
        **look(Aircraft(datetime(2025, 7, 21, 15, 4, 5, 678_000, tzinfo=UTC), turbulence=0.0)),
        "IAS": 123.4,
        "ALT": 5000.0,
        "PALT": 5000.0,
        "QNH": 29.9213,
        "VS": -512.0,
        "AIRPRESS": 84307.0,
        "DIFFAIRPRESS": 2472.0,
        "OAT": -12.34,
        "PITCH": 2.5,
        "ROLL": -30.0,
        "HEAD": 359.97,
        "ANORM": 1.25,
        "TACH1": 2400,
        "OILP1": 71.5,
        "CHT13": 190.4,
        "FUELQ2": 17.25,
        "LAT": 43.985,
        "TRACK": 270.0,
        "CDI": -0.5,
        "GSI": 0.5,
        "WPNAME": "ALFA",
        "CTLPTCH": -0.125,
        "THR1": 0.755,
        **changes,
    }


VIEW = view()


def ask(node: VirtualNode, *data: int, now: float = 0.0, source: int = US) -> list[SimFrame]:
    """The immediate answers of the node; its other frames are sent before."""
    node.due(now, VIEW)
    node.received(NODE_SPECIFIC + source, bytes(data))
    return node.due(now, VIEW)


def on(frames: list[SimFrame], id: int) -> list[bytes]:
    return [frame.data for frame in frames if frame.arbitration_id == id]


def spoken(node: VirtualNode, seconds: float, **changes: Any) -> list[tuple[float, SimFrame]]:
    """Everything that the node sends after its start, polled forty times a second."""
    node.due(0.0, view(**changes))
    ticks = range(1, round(seconds * 40) + 1)
    return [(tick / 40, frame) for tick in ticks for frame in node.due(tick / 40, view(**changes))]


# -- parameters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "id", "data"),
    [
        (AirData, 0x183, "32 00 00 d2 04"),  # 123.4 knots: 1234
        (AirData, 0x184, "32 00 00 88 13 00 00"),  # 5000 ft: 29.9213 inHg is standard
        (AirData, 0x191, "32 00 00 88 13 00 00"),  # 5000 ft
        (AirData, 0x186, "32 00 00 00 fe"),  # -512 ft/min
        (AirData, 0x190, "32 00 00 e1 74"),  # 29.921 inHg: 29921
        (AirData, 0x404, "32 00 00 40 61"),  # 84307 Pa = 24.896 inHg
        (AirData, 0x405, "32 00 00 1a 64"),  # 86779 Pa = 25.626 inHg
        (AirData, 0x406, "32 00 00 2e fb"),  # -12.34 degC: -1234
        (Ahrs, 0x180, "31 00 00 fa 00"),  # 2.5 deg: 250
        (Ahrs, 0x181, "31 00 00 48 f4"),  # -30 deg: -3000
        (Ahrs, 0x185, "31 00 00 00 00"),  # 359.97 deg is 0.0
        (Ahrs, 0x18A, "31 00 00 e2 04"),  # 1.25 g: 1250
        (Engine, 0x200, "40 00 00 60 09"),  # 2400 rpm
        (Engine, 0x220, "40 00 00 ee 1b"),  # 71.5 psi: 7150
        (Engine, 0x500, "40 02 00 70 07"),  # cylinder 3 has index 2: 190.4 degC
        (Fuel, 0x227, "44 00 00 bd 06"),  # 17.25 gal: 1725
        (Gps, 0x1C3, "c1 00 00 a4 f0 2f 42"),  # 43.985 as FLOAT
        (Gps, 0x1C6, "c1 00 00 8c 0a"),  # 270.0 deg
        (Gps, 0x1C0, "c1 00 00 de 0d"),  # half scale left: 355.0 deg
        (Gps, 0x1C1, "c1 00 00 23 00"),  # half scale of 0.7 deg: 0.35
        (Gps, 0x480, "c1 00 00 41 4c 46 41 00"),  # ALFA
        (Gps, 0x580, "c1 00 00 0f 04 05 a6 02"),  # 15:04:05.678
        (Gps, 0x581, "c1 00 00 e9 07 07 15"),  # 2025, 7, 21
        (Controls, 0x124, "01 00 00 1e fb"),  # -12.5 %: -1250
        (Controls, 0x12C, "01 00 00 7e 1d"),  # 75.5 %
        (Panel, 0x300, "d0 00 00 00 00 00 00 00"),
        (Panel, 0x308, "d0 00 00 00 00 00 00 00"),
        (Panel, 0x584, "d0 00 00 64"),  # 100 %
    ],
    ids=lambda value: f"{value:03X}" if isinstance(value, int) else None,
)
def test_a_value_is_encoded_according_to_the_table(device: type[VirtualNode], id: int, data: str) -> None:
    assert bytes.fromhex(data) in on(device().due(0.0, VIEW), id)


@pytest.mark.parametrize(
    ("device", "id", "meta"),
    [
        (AirData, 0x183, "32 00 50 2c 06"),  # 5, Vne: 158.0
        (AirData, 0x183, "32 00 f0 f8 02"),  # 15, Vy: 76.0
        (AirData, 0x182, "32 00 90 dc 05"),  # 9, Stall: 15.00
        (Engine, 0x200, "40 00 70 f0 0a"),  # 7, High Alarm: 2800
        (Engine, 0x502, "40 03 20 10 27"),  # 2, Max of cylinder 4: 1000.0
        (Fuel, 0x226, "44 00 50 c8 00"),  # 5, Low Alarm: 2.00
    ],
)
def test_limits_are_sent_as_meta_data(device: type[VirtualNode], id: int, meta: str) -> None:
    assert bytes.fromhex(meta) in on(device().due(0.0, VIEW), id)


@pytest.mark.parametrize("device", DEVICES.values(), ids=DEVICES)
def test_the_codec_understands_every_frame(device: type[VirtualNode]) -> None:
    codec = protocol.Codec()
    node = device()
    frames = node.due(0.0, VIEW) + [frame for _, frame in spoken(node, 12.0)]
    node.received(NODE_SPECIFIC + US, bytes((0, 0)))
    frames += node.due(13.0, VIEW)
    for frame in frames:
        outcome = codec.decode(frame.arbitration_id, frame.data)
        assert outcome.kind in ("value", "meta", "node-specific"), f"{frame}: {outcome}"
        assert isinstance(outcome, protocol.Message)
        if not isinstance(outcome, protocol.ParameterUpdate):
            continue
        assert outcome.node == node.id
        assert not outcome.code & 0x0F, f"{frame} is flagged"
        assert outcome.encode() == (frame.arbitration_id, frame.data)  # and within its range


def values(device: type[VirtualNode], view: dict[str, Any]) -> dict[tuple[int, int], Any]:
    """A device's live values as decoded by the codec, by identifier and index."""
    codec = protocol.Codec()
    outcomes = [codec.decode(frame.arbitration_id, frame.data) for frame in device().due(0.0, view)]
    live = [outcome for outcome in outcomes if isinstance(outcome, protocol.Value)]
    return {(value.parameter.identifier, value.index): value.value for value in live}


@pytest.mark.slow
def test_the_codec_decodes_the_same_flight() -> None:
    aircraft = Aircraft(turbulence=0.0)
    aircraft.step(900.0)
    seen = look(aircraft)
    read = {k: v for device in DEVICES.values() for k, v in values(device, seen).items()}
    for (id, index), key, scale in [
        ((0x183, 0), "IAS", 1.0),
        ((0x18D, 0), "TAS", 1.0),
        ((0x184, 0), "ALT", 1.0),
        ((0x408, 0), "DALT", 1.0),
        ((0x409, 0), "TALT", 1.0),
        ((0x40A, 0), "TALT", 1.0),
        ((0x186, 0), "VS", 1.0),
        ((0x182, 0), "AOA", 1.0),
        ((0x190, 0), "QNH", 1.0),
        ((0x404, 0), "AIRPRESS", 1 / 3386.389),
        ((0x180, 0), "PITCH", 1.0),
        ((0x181, 0), "ROLL", 1.0),
        ((0x403, 0), "ROT", 1.0),
        ((0x18C, 0), "ALONG", 1.0),
        ((0x202, 0), "PROP1", 1.0),
        ((0x21E, 0), "MAP1", 1.0),
        ((0x21C, 0), "FUELP1", 1.0),
        ((0x222, 0), "OILT1", 1.0),
        ((0x224, 0), "H2OT1", 1.0),
        ((0x500, 0), "CHT11", 1.0),
        ((0x502, 3), "EGT14", 1.0),
        ((0x50E, 0), "VOLT", 1.0),
        ((0x512, 0), "CURRNT", 1.0),
        ((0x520, 0), "HOBBS1", 1.0),
        ((0x546, 0), "FTIME", 1.0),
        ((0x583, 0), "CAT", 1.0),
        ((0x226, 0), "FUELQ1", 1.0),
        ((0x21A, 0), "FUELF1", 1.0),
        ((0x1C3, 0), "LAT", 1.0),
        ((0x1C4, 0), "LONG", 1.0),
        ((0x1C5, 0), "GS", 1.0),
        ((0x1C7, 0), "TRACKM", 1.0),
        ((0x1C8, 0), "XTRACK", 1.0),
        ((0x1C9, 0), "COURSE", 1.0),
        ((0x482, 0), "WPLON", 1.0),
        ((0x125, 0), "CTLROLL", 100.0),
        ((0x130, 0), "MIX1", 100.0),
    ]:
        step = 0.5 / table.load()[id].divisor
        assert read[id, index] == pytest.approx(seen[key] * scale, rel=1e-6, abs=step * 1.001), key
    assert read[0x480, 0] == seen["WPNAME"]
    assert read[0x18F, 0] == pytest.approx(seen["TAS"] / 661.5, abs=0.02)  # Mach, near standard temperature


@pytest.mark.slow
def test_nothing_is_flagged_during_the_whole_flight() -> None:
    """The aircraft does not exceed any limit in an ordinary flight."""
    aircraft = Aircraft()
    nodes = [device() for device in DEVICES.values()]
    for second in range(0, 2000, 5):
        aircraft.step(5.0)
        seen = look(aircraft)
        for node in nodes:
            for frame in node.due(float(second), seen):
                assert frame.arbitration_id > NODE_SPECIFIC or not frame.data[2] & 0x0F, f"{frame} at {second} s"


def test_unsendable_values_are_suspect_and_missing_ones_failed() -> None:
    cold = Engine().due(0.0, view(OILT1=-5.0, MAP1=math.nan, TACH1=math.inf))
    assert on(cold, 0x222)[0] == bytes.fromhex("40 00 02 00 00")  # quality; unsigned: nothing below 0 degC
    assert on(cold, 0x21E)[0] == bytes.fromhex("40 00 04 00 00")  # failure
    assert on(cold, 0x200)[0] == bytes.fromhex("40 00 04 00 00")
    blind = {key: value for key, value in VIEW.items() if key != "LAT"}
    assert on(Gps().due(0.0, blind), 0x1C3)[0] == bytes.fromhex("c1 00 04 00 00 00 00")


def test_an_alarm_is_annunciated_until_clearly_over() -> None:
    def flags(pressure: float) -> int:
        return {
            f.data[2] for f in engine._report(view(OILP1=pressure)) if f.arbitration_id == 0x220 and f.data[2] < 16
        }.pop()

    engine = Engine()
    assert [flags(p) for p in (26.0, 24.9, 25.1, 25.3, 25.1)] == [0, 1, 1, 0, 0]  # Low Alarm is 25 psi
    fast = AirData().due(0.0, view(IAS=158.1))
    assert on(fast, 0x183)[0] == bytes.fromhex("32 00 01 2d 06")


# -- rates -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "id", "rate"),
    [
        (Ahrs, 0x180, 20),
        (Ahrs, 0x185, 10),
        (Ahrs, 0x403, 10),
        (AirData, 0x183, 10),
        (AirData, 0x184, 10),
        (Gps, 0x580, 5),
        (Gps, 0x1C3, 5),
        (Engine, 0x500, 2 * 4),  # cylinders
        (Engine, 0x520, 0.5),
    ],
)
def test_a_parameter_is_sent_at_its_rate(device: type[VirtualNode], id: int, rate: float) -> None:
    live = [f for _, f in spoken(device(), 10.0) if f.arbitration_id == id and f.data[2] < 16]
    assert len(live) == pytest.approx(rate * 10, abs=1 if rate < 8 else 4)


@pytest.mark.parametrize("device", DEVICES.values(), ids=DEVICES)
def test_a_heartbeat_every_second_reports_good_health(device: type[VirtualNode]) -> None:
    node = device()
    said = spoken(node, 10.0)
    beats = [at for at, f in said if f == SimFrame(NODE_SPECIFIC + node.id, bytes.fromhex("06 00 00 00 00"))]
    assert len(beats) == 10
    assert all(b - a == pytest.approx(1.0, abs=0.03) for a, b in pairwise(beats))


def test_its_heartbeat_reports_errors() -> None:
    node = Fuel()
    node.errors = 0x0104
    assert SimFrame(0x724, bytes.fromhex("06 00 00 04 01")) in node.due(0.0, VIEW)


def test_each_limit_is_sent_every_ten_seconds_one_at_a_time() -> None:
    limits = [(at, f) for at, f in spoken(Engine(), 20.0) if f.arbitration_id < NODE_SPECIFIC and f.data[2] >= 16]
    per_limit = Counter((f.arbitration_id, f.data[1], f.data[2] >> 4) for _, f in limits)
    assert len(per_limit) > 50
    assert set(per_limit.values()) <= {2, 3}
    assert max(Counter(at for at, _ in limits).values()) <= 2


def test_it_sends_its_status_now_and_then() -> None:
    said = [f.data for _, f in spoken(Fuel(serial=0x01020304), 10.0) if f.arbitration_id == 0x724 and f.data[1]]
    assert bytes.fromhex("06 01 00 3b 01") in said  # 31.5 degC
    assert bytes.fromhex("06 02 00 8a 00") in said  # 13.8 V
    assert bytes.fromhex("06 08 00 04 03 02 01") in said
    (sent,) = (data for data in said if data[1] == 3)
    assert struct.unpack("<I", sent[3:])[0] > 100


def test_frames_missed_during_a_pause_are_not_made_up() -> None:
    node = Ahrs()
    node.due(0.0, VIEW)
    assert len(on(node.due(60.0, VIEW), 0x180)) == 1
    assert len(on(node.due(60.001, VIEW), 0x180)) <= 1
    assert on(node.due(60.01, VIEW), 0x180) == []


# -- duties of every node ----------------------------------------------------------------------------------------------


def test_it_identifies_itself() -> None:
    answer = ask(Fuel(), 0x00, 0x44)
    assert answer[0] == SimFrame(0x724, bytes.fromhex("00 91 01 44 01 44 01 01"))
    assert [f.arbitration_id for f in answer] == [0x724] * len(answer)
    text = "Virtual fuel computer"
    assert [f.data for f in answer[1:]] == [
        bytes((0x0B, US, i, 0)) + text[4 * i : 4 * i + 4].encode().ljust(4, b"\0") for i in range(6)
    ]


@pytest.mark.parametrize("device", DEVICES.values(), ids=DEVICES)
def test_every_device_answers_with_its_own_name(device: type[VirtualNode]) -> None:
    codec, descriptions = protocol.Codec(), protocol.Descriptions()
    outcomes = [codec.decode(f.arbitration_id, f.data) for f in ask(device(), 0x00, 0x00)]
    identity = outcomes[0]
    assert isinstance(identity, protocol.NodeIdentity)
    assert (identity.source, identity.destination, identity.device) == (device.DEVICE, US, device.DEVICE)
    assert (identity.model, identity.firmware, identity.specification) == (device.MODEL, 1, 1)
    texts = [descriptions.feed(o) for o in outcomes[1:] if isinstance(o, protocol.NodeDescription)]
    assert texts[-1] == device.NAME
    assert not any(texts[:-1])


def test_a_short_name_ends_with_a_nul() -> None:
    class Four(VirtualNode):
        NAME = "Four"

    assert [f.data[4:] for f in ask(Four(), 0, 0)[1:]] == [b"Four", b"\0\0\0\0"]


@pytest.mark.parametrize("data", ["00 45", "05 33", "02 33 40", "00", "", "ff 44", "00 44 01 91 01 00 00 00"])
def test_messages_for_other_nodes_are_not_answered(data: str) -> None:
    assert ask(Fuel(), *bytes.fromhex(data)) == []


def test_its_report_contains_everything_with_limits() -> None:
    report = ask(Fuel(), 0x05, 0x00)
    assert on(report, 0x226)[0] == bytes((0x44, 0, 0, *struct.pack("<H", round(VIEW["FUELQ1"] * 100))))
    assert [data[2] for data in on(report, 0x226)] == [0x00, 0x10, 0x20, 0x50, 0x40]
    assert {f.arbitration_id for f in report} == {0x226, 0x227, 0x21A}


def test_a_disabled_parameter_is_not_sent_not_even_in_a_report_until_enabled() -> None:
    node = Fuel()
    assert ask(node, 0x03, 0x44, 0x26, 0x02) == [SimFrame(0x724, bytes.fromhex("03 91 00"))]
    said = [f for _, f in spoken(node, 12.0)] + ask(node, 0x05, 0x44, now=12.0)
    assert on(said, 0x226) == []
    assert on(said, 0x227)
    node.power_cycle()
    assert on(node.due(13.0, VIEW), 0x226) == []  # it remembers
    assert ask(node, 0x04, 0x44, 0x26, 0x02, now=13.0) == [SimFrame(0x724, bytes.fromhex("04 91 00"))]
    assert on(ask(node, 0x05, 0x44, now=13.0), 0x226)


def test_it_knows_only_its_own_parameters() -> None:
    assert ask(Fuel(), 0x03, 0x44, 0x83, 0x01) == [SimFrame(0x724, bytes.fromhex("03 91 01"))]
    assert ask(Fuel(), 0x04, 0x44, 0x83, 0x01) == [SimFrame(0x724, bytes.fromhex("04 91 01"))]


def test_a_broadcast_can_disable_all_nodes_but_not_enable_or_rename_them() -> None:
    node = Fuel()
    assert ask(node, 0x03, 0x00, 0x26, 0x02) == [SimFrame(0x724, bytes.fromhex("03 91 00"))]
    assert ask(node, 0x04, 0x00, 0x26, 0x02) == []
    assert node.memory.disabled == {0x226}
    assert ask(node, 0x02, 0x00, 0x50) == []
    assert node.id == 0x44


def test_a_new_node_id_answers_and_stays() -> None:
    node = Fuel()
    assert ask(node, 0x02, 0x44, 0x50) == [SimFrame(NODE_SPECIFIC + 0x50, bytes.fromhex("02 91 00"))]
    assert ask(node, 0x00, 0x44) == []
    node.power_cycle()
    said = node.due(1.0, VIEW)
    assert {f.data[0] for f in said if f.arbitration_id < NODE_SPECIFIC} == {0x50}
    assert {f.arbitration_id for f in said if f.arbitration_id > NODE_SPECIFIC} == {NODE_SPECIFIC + 0x50}


def test_zero_is_not_a_node_id() -> None:
    node = Fuel()
    assert ask(node, 0x02, 0x44, 0x00) == []
    assert node.id == 0x44
    with pytest.raises(ValueError, match="0 is not a node id"):
        Fuel(0)


def test_a_change_of_bit_rate_is_answered_a_second_later_after_silence() -> None:
    node = Fuel()
    assert ask(node, 0x01, 0x00, 0x02) == []
    assert node.memory.bit_rate == 2
    node.received(NODE_SPECIFIC + US, b"\0\0")
    assert node.due(0.5, VIEW) == []
    assert node.due(0.99, VIEW) == []
    back = node.due(1.01, VIEW)
    assert back[0] == SimFrame(0x724, bytes.fromhex("01 91"))
    assert on(back, 0x226)
    assert not [f for f in back if f.data[:1] == b"\0"]  # requests in the meantime were missed
    node.power_cycle()
    assert node.memory.bit_rate == 2


@pytest.mark.parametrize("rate", [0, 5, 200])
def test_an_unknown_bit_rate_is_refused(rate: int) -> None:
    assert ask(Fuel(), 0x01, 0x44, rate) == [SimFrame(0x724, bytes.fromhex("01 91 ff"))]


def test_answers_to_others_requests_are_not_taken_for_requests() -> None:
    for answer in ("01 44", "01 44 ff", "02 44 00", "03 44 00", "04 44 01", "0a 44 00"):
        assert ask(Fuel(), *bytes.fromhex(answer)) == [], answer


def test_its_configuration_can_be_read_and_set() -> None:
    node = Fuel(serial=77)
    assert ask(node, 0x0A, 0x44, 0x01, 0x00) == [SimFrame(0x724, bytes.fromhex("0a 91 00 4d 00 00 00"))]
    assert ask(node, 0x0A, 0x44, 0x02, 0x00) == [SimFrame(0x724, bytes.fromhex("0a 91 00 0a 00"))]
    assert ask(node, 0x09, 0x44, 0x02, 0x00, 0x3C, 0x00) == [SimFrame(0x724, bytes.fromhex("09 91 00"))]
    assert ask(node, 0x0A, 0x44, 0x02, 0x00) == [SimFrame(0x724, bytes.fromhex("0a 91 00 3c 00"))]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ("09 44 09 00 01", 1),  # unknown key
        ("09 44 01 00 01 00 00 00", 2),  # read-only
        ("09 44 02 00 00 00", 3),  # out of range
        ("09 44 02 00 01", 4),  # wrong type
        ("09 44 02 00 01 00 01", 4),
        ("0a 44 09 00", 1),
    ],
)
def test_configuration_errors_are_reported(request_: str, error: int) -> None:
    data = bytes.fromhex(request_)
    assert ask(Fuel(), *data) == [SimFrame(0x724, bytes((data[0], US, error)))]


def test_too_many_requests_cause_overruns() -> None:
    node = Fuel()
    node.due(0.0, VIEW)
    for _ in range(INBOX + 5):
        node.received(NODE_SPECIFIC + US, bytes((0x03, 0x44, 0x83, 0x01)))
    assert node.overruns == 5
    assert len(node.due(0.0, VIEW)) == INBOX


def test_its_own_clock_can_be_wrong() -> None:
    node = Ahrs()
    node.clock_rate = 1.5
    assert len([f for _, f in spoken(node, 10.0) if f.arbitration_id == 0x180]) == pytest.approx(300, abs=3)


# -- settings, knobs and switches --------------------------------------------------------------------------------------


def test_the_altimeter_setting_can_be_set_and_moves_the_altitude() -> None:
    node = AirData()
    (answer,) = ask(node, 0x0C, 0x90, 0x01, 0x18, 0x79)  # 0x190 = 31.000
    assert answer == SimFrame(0x190, bytes.fromhex("32 00 00 18 79"))
    altitude = struct.unpack("<i", on(ask(node, 0x05, 0x32), 0x184)[0][3:])[0]
    assert altitude - 5000 == pytest.approx(1000 * (31.0 - 29.9213), rel=0.15)  # about 1000 ft per inch


@pytest.mark.parametrize(
    "data",
    [
        "0c 90 01 ff ff",  # 65.535 inHg
        "0c 90 01 18",  # cut short
        "0c 90 09 18 79",  # index 1
        "0d 90 01 18 79",  # index 32
        "0c 83 01 18 79",  # the airspeed cannot be set
    ],
)
def test_an_invalid_setting_is_refused(data: str) -> None:
    node = AirData()
    assert ask(node, *bytes.fromhex(data)) == []
    assert node.setting is None


def test_the_course_can_be_set() -> None:
    assert ask(Gps(), 0x0C, 0xC9, 0x01, 0x34, 0x08) == [SimFrame(0x1C9, bytes.fromhex("c1 00 00 34 08"))]  # 210.0°
    assert ask(Gps(), 0x0C, 0xC9, 0x01, 0x11, 0x0E) == []  # 360.1°


def test_the_dimmer_can_be_set() -> None:
    assert ask(Panel(), 0x0C, 0x84, 0x05, 40) == [SimFrame(0x584, bytes.fromhex("d0 00 00 28"))]
    assert ask(Panel(), 0x0C, 0x84, 0x05, 101) == []


def test_knobs_and_switches_are_sent_at_once_and_steps_counted_once() -> None:
    panel = Panel()
    panel.due(0.0, VIEW)
    panel.turn(0, 3)
    panel.turn(1, -2)
    panel.press(7)
    panel.switch(9)
    panel.switch(39)
    assert panel.due(0.01, VIEW) == [
        SimFrame(0x300, bytes.fromhex("d0 00 00 03 00 fe ff 80")),
        SimFrame(0x308, bytes.fromhex("d0 00 00 00 02 00 00 80")),
    ]
    assert panel.due(0.02, VIEW) == []
    panel.press(7, False)
    panel.switch(9, False)
    assert panel.due(0.03, VIEW) == [
        SimFrame(0x300, bytes.fromhex("d0 00 00 00 00 00 00 00")),
        SimFrame(0x308, bytes.fromhex("d0 00 00 00 00 00 00 80")),
    ]
    steps = [struct.unpack("<h", f.data[3:5])[0] for _, f in spoken(panel, 3.0) if f.arbitration_id == 0x300]
    assert len(steps) in (2, 3)
    assert set(steps) == {0}


def test_a_report_includes_the_pending_steps() -> None:
    panel = Panel()
    panel.due(0.0, VIEW)
    panel.turn(0, 5)
    panel.received(NODE_SPECIFIC + US, b"\x05\xd0")
    assert [data[3:5] for data in on(panel.due(0.01, VIEW), 0x300)] == [b"\x05\0"]


def test_a_node_alarm_is_sent_under_the_id_of_the_node() -> None:
    node = Engine()
    node.due(0.0, VIEW)
    node.alarm(0x0102, b"\x2a\x00")
    assert node.due(0.0, VIEW) == [SimFrame(0x40, bytes.fromhex("02 01 2a 00"))]


# -- faults ------------------------------------------------------------------------------------------------------------


def broken(device: type[VirtualNode], fault: str, **options: Any) -> list[SimFrame]:
    """The frames of a device in the second second after the fault began."""
    station = Station(device())
    station.due(0.0, VIEW)
    station.begin(FAULTS[fault](**options))
    return [f for tick in range(1, 81) for f in station.due(tick / 40, VIEW)][0 if fault == "power-off" else 1 :]


def kinds(frames: list[SimFrame]) -> Counter[str]:
    codec = protocol.Codec()
    return Counter(codec.decode(f.arbitration_id, f.data, extended=f.extended, remote=f.remote).kind for f in frames)


@pytest.mark.parametrize("fault", ["silent", "power-off"])
def test_a_silent_node_neither_sends_nor_receives(fault: str) -> None:
    assert broken(Fuel, fault) == []
    station = Station(Fuel())
    station.begin(FAULTS[fault]())
    station.received(SimFrame(NODE_SPECIFIC + US, b"\0\0"))
    assert station.node.heard == 0


def test_a_node_restarts_after_a_loss_of_power() -> None:
    station = Station(Fuel())
    assert len(station.due(0.0, VIEW)) > 10
    off = FAULTS["power-off"]()
    station.begin(off)
    assert station.due(5.0, VIEW) == []
    station.end(off)
    station.end(off)
    assert len(station.due(6.0, VIEW)) > 10


@pytest.mark.parametrize(
    ("device", "fault", "options", "kind"),
    [
        (Fuel, "wrong-length", {"by": -1}, "short"),
        (Fuel, "zero-length", {}, "short"),
        (Fuel, "extended", {}, "not-for-us"),
        (Fuel, "remote", {}, "not-for-us"),
        (Fuel, "undefined-meta", {}, "undefined-meta"),
        (Fuel, "reserved", {}, "reserved"),
        (Fuel, "two-way", {"channel": 15, "rate": 50}, "two-way"),
    ],
)
def test_the_codec_recognises_each_fault(device: type[VirtualNode], fault: str, options: Any, kind: str) -> None:
    assert kinds(broken(device, fault, **options))[kind] > 10
    assert kinds([f for _, f in spoken(device(), 2.0)])[kind] == 0


@pytest.mark.parametrize("fault", ["wrong-length", "zero-length", "extended", "remote"])
def test_malformed_frames_leave_no_valid_value_of_a_node(fault: str) -> None:
    assert kinds(broken(Fuel, fault))["value"] == 0


def test_trailing_bytes_are_harmless() -> None:
    frames = broken(Fuel, "wrong-length", by=2)
    assert {len(f.data) for f in frames if f.arbitration_id == 0x226} == {7}
    assert kinds(frames)["short"] == 0


@pytest.mark.parametrize(("fault", "flag"), [("annunciating", 1), ("suspect", 2), ("failed", 4)])
def test_all_values_or_a_single_one_can_be_flagged(fault: str, flag: int) -> None:
    flags = {f.data[2] for f in broken(Fuel, fault) if f.arbitration_id < NODE_SPECIFIC and f.data[2] < 16}
    assert flags == {flag}
    flags = {f.data[2] for f in broken(Fuel, fault, parameter=0x226) if f.arbitration_id == 0x227 and f.data[2] < 16}
    assert flags == {0}


@pytest.mark.parametrize(("infinite", "payload"), [(False, "0000c07f"), (True, "0000807f")])
def test_a_position_can_be_nan(infinite: bool, payload: str) -> None:
    frames = broken(Gps, "not-a-number", infinite=infinite)
    assert set(on(frames, 0x1C3)) == {bytes.fromhex("c10000" + payload)}
    codec = protocol.Codec()
    outcomes = [codec.decode(f.arbitration_id, f.data) for f in frames if f.arbitration_id == 0x1C4]
    assert outcomes
    assert all(isinstance(o, protocol.Value) and o.failure for o in outcomes)


def test_a_babbling_node_never_stops_sending() -> None:
    frames = broken(Fuel, "babbling", rate=1000.0, id=0)
    assert on(frames, 0).count(b"\xff" * 8) == pytest.approx(2000, abs=60)
    assert on(frames, 0x226)


def test_by_default_a_babbling_node_repeats_itself() -> None:
    assert kinds(broken(Fuel, "babbling", rate=1000.0))["value"] > 1000


def test_garbage_is_of_every_kind_and_reproducible_by_seed() -> None:
    frames = broken(Fuel, "garbage", rate=5000.0, seed=3)
    assert set(kinds(frames)) >= {"value", "unknown", "reserved", "two-way", "short", "alarm", "not-for-us"}
    assert frames == broken(Fuel, "garbage", rate=5000.0, seed=3)
    assert frames != broken(Fuel, "garbage", rate=5000.0, seed=4)


def test_a_duplicate_contradicts_the_node_under_its_own_id() -> None:
    frames = broken(Engine, "duplicate-node")
    live = {data for data in on(frames, 0x220) if data[2] == 0}
    assert live == {bytes.fromhex("40 00 00 ee 1b"), bytes.fromhex("40 00 00 5f 1b")}  # 71.5 and 70.07 psi


def test_a_duplicate_answers_too() -> None:
    station = Station(Engine())
    station.begin(FAULTS["duplicate-node"]())
    station.due(0.0, VIEW)
    station.received(SimFrame(NODE_SPECIFIC + US, bytes((0x0A, 0x40, 0x01, 0x00))))
    answers = [data for data in on(station.due(0.0, VIEW), NODE_SPECIFIC + 0x40) if data[0] == 0x0A]
    assert [struct.unpack("<I", data[3:])[0] for data in answers] == [1064, 1065]


def test_a_second_device_sends_the_same_parameters_from_another_node() -> None:
    assert {data[0] for data in on(broken(Engine, "duplicate-node", id=66), 0x220)} == {0x40, 66}


def test_a_frozen_node_repeats_one_moment() -> None:
    station = Station(Fuel())
    frozen = FAULTS["frozen"]()
    station.begin(frozen)
    station.due(0.0, VIEW)
    assert {data[3:] for data in on(station.due(1.0, view(FUELQ2=3.0)), 0x227)} == {b"\xbd\x06"}
    station.end(frozen)
    assert on(station.due(2.0, view(FUELQ2=3.0)), 0x227) == [bytes.fromhex("44 00 00 2c 01")]


def test_a_clock_drifts_only_during_the_fault() -> None:
    station = Station(Ahrs())
    station.due(0.0, VIEW)
    drift = FAULTS["clock-drift"](by=-0.5)  # type: ignore[call-arg]
    station.begin(drift)
    slow = [f for tick in range(1, 401) for f in station.due(tick / 40, VIEW)]
    station.end(drift)
    right = [f for tick in range(401, 801) for f in station.due(tick / 40, VIEW)]
    assert len(on(slow, 0x180)) == pytest.approx(100, abs=2)
    assert len(on(right, 0x180)) == pytest.approx(200, abs=2)


def test_a_node_with_an_old_library_answers_in_the_old_form() -> None:
    station = Station(Fuel())
    station.begin(FAULTS["old-library"]())

    def answers(*data: int) -> list[bytes]:
        station.due(0.0, VIEW)
        station.received(SimFrame(NODE_SPECIFIC + US, bytes(data)))
        return [f.data for f in station.due(0.0, VIEW)]

    assert answers(0x03, 0x44, 0x26, 0x02) == []
    assert answers(0x01, 0x44, 9) == [bytes((1, US, 1))]
    assert answers(0x02, 0x44, 0x55) == [bytes((2, US))]


def test_a_deaf_node_sends_but_answers_nothing() -> None:
    station = Station(Fuel())
    station.begin(FAULTS["deaf"]())
    assert station.due(0.0, VIEW)
    station.received(SimFrame(NODE_SPECIFIC + US, b"\0\0"))
    assert station.due(0.0, VIEW) == []


@pytest.mark.parametrize(
    "frame", [SimFrame(0x771, b"\0\0", extended=True), SimFrame(0x771, remote=True), SimFrame(0x771)]
)
def test_nodes_ignore_frames_for_others(frame: SimFrame) -> None:
    station = Station(Fuel())
    station.due(0.0, VIEW)
    station.received(frame)
    assert station.due(0.0, VIEW) == []


@pytest.mark.parametrize(
    ("fault", "options", "wrong"),
    [
        ("babbling", {"rate": 0.0}, "rate"),
        ("babbling", {"id": 0x800}, "id"),
        ("babbling", {"rate": math.nan}, "rate"),
        ("wrong-length", {"by": 9}, "by"),
        ("clock-drift", {"by": -1.0}, "by"),
        ("two-way", {"channel": 16}, "channel"),
        ("duplicate-node", {"id": 0}, "id"),
    ],
)
def test_options_of_faults_are_checked(fault: str, options: Any, wrong: str) -> None:
    with pytest.raises(ValueError, match=f"^{wrong}: "):
        FAULTS[fault](**options)


@pytest.mark.parametrize("first", FAULTS)
def test_any_two_faults_may_meet(first: str) -> None:
    """A fault gets what another one has made of a frame: a frame without data, too short, or of another kind."""
    for second in FAULTS:
        station = Station(Controls())
        for fault in (first, second):
            station.begin(FAULTS[fault]())
        for n in range(4):
            for command in (b"\x00\x01", b"\x01\x01\x09", b"\x02\x01\x55", b"\x03\x01\x26\x02"):
                station.received(SimFrame(NODE_SPECIFIC + US, command))
            station.due(n / 2, VIEW)
