"""The Grand Rapids EIS: frames worked out by hand, damage on the line, and the virtual EIS at the other end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.database import FAIL, Database
from fixgw.drivers.eis import EisOptions, Plugin
from fixgw.drivers.eis.protocol import HEADER, KEYS, MODELS, Decoder, beyond
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench.base import packaged_database
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.bench.gateways import Airplane
from fixgw.hw_sim.bench.network import TcpBench, UdpBench
from fixgw.hw_sim.bench.wired import SerialBench
from fixgw.hw_sim.bench.words import Expect, StartGateway, s
from fixgw.hw_sim.devices.eis import Eis, Eis2004, frame
from fixgw.kit.curve import CurveSpec, Linear
from fixgw.kit.update import Update

DATA = Path(__file__).parents[1] / "data" / "eis"


def golden(name: str) -> bytes:
    lines = (DATA / f"{name}.hex").read_text().splitlines()
    return bytes.fromhex("".join(line.partition("#")[0] for line in lines))


FRAME, FRAME_2004 = golden("4000"), golden("2004")
DEGREE = 0.001


class Nowhere:
    def write(self, data: bytes, /) -> None: ...

    def plug(self) -> None: ...

    def unplug(self) -> None: ...

    def close(self) -> None: ...


def decoded(decoder: Decoder, data: bytes) -> dict[str, Update]:
    return {update.key: update for update in decoder.feed(data)}


def values(decoder: Decoder, data: bytes) -> dict[str, object]:
    return {key: update.value for key, update in decoded(decoder, data).items() if not update.flags}


def settled(**options: object) -> Decoder:
    """A decoder that has recognised a model 4000."""
    decoder = Decoder(**options)  # type: ignore[arg-type]
    decoder.model = MODELS[1]
    return decoder


def changed(data: bytes, words: dict[int, int]) -> bytes:
    """A frame with some words replaced, by their offset after the header, and the right checksum."""
    payload = bytearray(data[len(HEADER) : -1])
    for at, word in words.items():
        payload[at : at + 2] = word.to_bytes(2)
    return frame(bytes(payload))


def adds_up(decoder: Decoder) -> bool:
    counts = decoder.counts
    return counts["received"] == counts["used"] + counts["ignored"] + sum(counts[r] for r in decoder.REFUSALS)


# -- values ------------------------------------------------------------------------------------------------------------


def test_the_golden_frame_of_a_4000() -> None:
    assert len(FRAME) == 73
    assert values(settled(), FRAME) == {
        "TACH1": 2400,
        "CHT11": pytest.approx(173.889, abs=DEGREE),
        "CHT12": pytest.approx(165.556, abs=DEGREE),
        "CHT13": pytest.approx(185.0, abs=DEGREE),
        "CHT14": pytest.approx(167.778, abs=DEGREE),
        "EGT11": pytest.approx(726.667, abs=DEGREE),
        "EGT12": pytest.approx(715.556, abs=DEGREE),
        "EGT13": pytest.approx(748.889, abs=DEGREE),
        "EGT14": pytest.approx(721.111, abs=DEGREE),
        "VOLT": 13.9,
        "FUELF1": 8.5,
        "OAT": pytest.approx(-24.444, abs=DEGREE),
        "OILT1": pytest.approx(88.889, abs=DEGREE),
        "OILP1": 72.0,
        "HOBBS1": 310.3,
        "FUELQT": 24.0,
        "FTIME": pytest.approx(1.21556, abs=0.00001),  # 1:12:56
    }


def test_the_golden_frame_of_a_2004_with_air_data() -> None:
    assert len(FRAME_2004) == 48
    decoder = Decoder(air_data=True)
    assert values(decoder, FRAME_2004 + HEADER) == {
        "TACH1": 2650,
        "CHT11": pytest.approx(115.556, abs=DEGREE),
        "CHT12": pytest.approx(126.667, abs=DEGREE),
        "EGT11": pytest.approx(660.0, abs=DEGREE),
        "EGT12": pytest.approx(671.111, abs=DEGREE),
        "IAS": 85.0,
        "ALT": 3500.0,
        "VS": -100.0,
        "BARO": 30.14,
        "VOLT": 13.5,
        "FUELF1": 4.6,
        "OAT": pytest.approx(10.0),
        "H2OT1": pytest.approx(82.222, abs=DEGREE),
        "OILT1": pytest.approx(98.889, abs=DEGREE),
        "OILP1": 55.0,
        "HOBBS1": 8.1,
        "FUELQT": 6.5,
        "FTIME": pytest.approx(0.09167, abs=0.00001),  # 0:05:30
    }
    assert decoder.model is not None
    assert decoder.model.name == "2004"


def test_an_engine_speed_is_a_whole_number() -> None:
    assert type(values(settled(), FRAME)["TACH1"]) is int


def test_only_existing_cylinders_are_written() -> None:
    assert {k for k in decoded(settled(cylinders=2), FRAME) if k[:3] in ("CHT", "EGT")} == {
        "CHT11",
        "CHT12",
        "EGT11",
        "EGT12",
    }
    six = decoded(settled(cylinders=6), FRAME)
    assert six["CHT16"].flags == FAIL
    assert six["CHT16"].value is None


def test_air_data_that_the_eis_does_not_have_is_not_written() -> None:
    assert not {"IAS", "ALT", "VS", "BARO"} & decoded(settled(), FRAME).keys()
    assert not {"IAS", "ALT", "VS", "BARO"} & decoded(Decoder(air_data=False), FRAME_2004 + HEADER).keys()


def test_air_data_is_present_once_it_is_not_zero_in_three_frames() -> None:
    found = values(Decoder(), 3 * FRAME_2004 + HEADER)
    assert (found["IAS"], found["ALT"], found["VS"], found["BARO"]) == (85.0, 3500.0, -100.0, 30.14)
    decoder = settled()
    assert not {"IAS", "ALT"} & values(decoder, changed(FRAME, {30: 50, 32: 0})).keys()
    found = values(decoder, 3 * changed(FRAME, {30: 0, 32: 100}))
    assert ("IAS" in found, found["ALT"]) == (False, 100.0)
    found = values(decoder, 3 * changed(FRAME, {30: 20, 32: 0}))  # once present, it may be zero
    assert (found["IAS"], found["ALT"], found["VS"]) == (20.0, 0.0, 0.0)


def test_two_wrong_frames_are_no_altimeter() -> None:
    """A frame with two wrong bits may pass the checksum. Believed, it would show a height of 0 from then on."""
    decoder, wrong = settled(), changed(FRAME, {30: 0, 32: 4096})
    nothing = changed(FRAME, {30: 0, 32: 0})
    for data in (wrong, nothing, wrong, wrong, nothing, wrong, nothing):
        assert not {"IAS", "ALT", "VS", "BARO"} & decoded(decoder, data).keys()


@pytest.mark.parametrize(("at", "keys"), [(30, {"IAS"}), (32, {"ALT", "VS", "BARO"})])
def test_an_eis_may_have_an_altimeter_or_an_airspeed_indicator_only(at: int, keys: set[str]) -> None:
    nothing = {30: 0, 32: 0}
    found = decoded(settled(), 3 * changed(FRAME, nothing | {at: 100}))
    assert {"IAS", "ALT", "VS", "BARO"} & found.keys() == keys


def test_the_keys_that_an_eis_can_write() -> None:
    cylinders = {f"{kind}1{n}" for kind in ("CHT", "EGT") for n in range(1, 7)}
    engine = {"TACH1", "OILT1", "OILP1", "H2OT1", "VOLT", "FUELF1", "FUELQT", "HOBBS1", "FTIME"}
    assert cylinders | engine | {"IAS", "ALT", "VS", "BARO", "OAT"} == KEYS
    assert beyond(4) == {"CHT15", "CHT16", "EGT15", "EGT16"}


def test_the_second_tachometer_can_go_to_another_key() -> None:
    data = changed(FRAME, {66: 2380})
    assert "PROP1" not in decoded(settled(), data)
    assert values(settled(tach2="PROP1"), data)["PROP1"] == 2380
    assert decoded(settled(tach2="PROP1"), changed(FRAME, {66: 12_000}))["PROP1"].flags == FAIL


@pytest.mark.parametrize(("minutes", "seconds"), [(60, 0), (0, 60), (255, 255)])
def test_an_impossible_flight_time_fails(minutes: int, seconds: int) -> None:
    assert values(settled(), changed(FRAME, {59: 0x023B, 60: 0x3B3B}))["FTIME"] == pytest.approx(2 + 3599 / 3600)
    decoder = settled()
    update = decoded(decoder, changed(FRAME, {59: 0x0200 | minutes, 60: minutes << 8 | seconds}))["FTIME"]
    text = f"the EIS sends 2:{minutes:02}:{seconds:02}, which is impossible"
    assert update == Update("FTIME", None, FAIL, text)
    assert decoder.counts["absurd values"] == 1


def test_a_frame_followed_by_silence_is_complete() -> None:
    for data, model in ((FRAME, "4000/6000"), (FRAME_2004, "2004")):
        decoder = Decoder()
        assert decoder.feed(data) == []
        assert decoder.pause()
        assert decoder.model
        assert decoder.model.name == model
        assert decoder.pause() == []
        decoder.feed(data)
        assert decoder.counts["used"] == 2
        assert adds_up(decoder)
    half = Decoder()
    half.feed(FRAME[:60])
    assert half.pause() == []
    half.feed(FRAME[60:] + HEADER)
    assert half.counts["used"] == 1


def test_miles_per_hour_and_degrees_celsius_can_be_configured() -> None:
    decoder = Decoder(air_data=True, airspeed="mph", temperature="C")
    found = values(decoder, FRAME_2004 + HEADER)
    assert found["IAS"] == 73.86  # 85 x 1.609344 / 1.852, to the hundredth
    assert found["OAT"] == 50.0


def test_a_temperature_of_zero_means_no_sensor() -> None:
    update = decoded(settled(), FRAME)["H2OT1"]
    assert (update.value, update.flags) == (None, FAIL)
    assert "no sensor" in update.reason


def test_impossible_values_are_failed_and_counted() -> None:
    payload = bytearray(FRAME[3:-1])
    payload[0:2] = b"\xff\xf0"  # 65520 rpm
    payload[2:4] = b"\xff\xec"  # a temperature below zero, in a field without a sign
    decoder = settled()
    found = decoded(decoder, frame(bytes(payload)))
    for key in ("TACH1", "CHT11"):
        assert (found[key].value, found[key].flags) == (None, FAIL)
    assert found["TACH1"].reason == "the EIS sends 65520, which is impossible"
    assert found["CHT12"].flags == 0
    assert decoder.counts["absurd values"] == 2
    assert decoder.counts["used"] == 1


def test_auxiliary_inputs_are_read_as_configured() -> None:
    psi, volts = CurveSpec(linear=Linear(factor=0.1)).curve(), CurveSpec(points=[(0, 0.0), (5, 5.0)]).curve()
    decoder = settled(aux={1: ("FUELP1", psi), 3: ("ANLG1", volts)})
    found = decoded(decoder, FRAME)
    assert found["FUELP1"].value == pytest.approx(5.5)
    assert (found["ANLG1"].value, found["ANLG1"].flags) == (None, FAIL)  # 12 is off its curve
    assert found["ANLG1"].reason == "the EIS sends 12 for auxiliary input 3, which is impossible"
    assert decoder.counts["absurd values"] == 1


# -- frames ------------------------------------------------------------------------------------------------------------


def test_only_the_first_frame_waits_for_the_next_header() -> None:
    decoder = Decoder()
    assert decoder.feed(FRAME) == []
    assert decoder.feed(HEADER[:1]) == []
    assert len(decoded(decoder, HEADER[1:])) == 22
    assert len(decoded(decoder, FRAME[3:])) == 22
    assert decoder.counts["used"] == 2


@pytest.mark.parametrize("data", [FRAME, FRAME_2004], ids=["4000", "2004"])
def test_a_stream_can_be_cut_anywhere(data: bytes) -> None:
    for cut in range(len(data) + 1):
        decoder = Decoder()
        decoder.feed(data + data[:cut])
        decoder.feed(data[cut:])
        assert decoder.counts["used"] == 2
        assert decoder._buffer == b""


def test_garbage_between_frames_hides_no_frame() -> None:
    decoder = settled()
    for junk in (b"\xfe", b"\xfe\xff", b"\xff\xfe", b"hello", b"\x00" * 500):
        decoder.feed(junk + FRAME)
    assert decoder.counts["used"] == 5


def test_a_frame_without_its_end_does_not_swallow_the_next() -> None:
    for length in range(3, len(FRAME)):
        decoder = settled()
        decoder.feed(FRAME[:length] + FRAME + FRAME + HEADER)
        assert decoder.counts["used"] == 2, length
        assert decoder.counts["received"] == 3, length
        assert adds_up(decoder)


@pytest.mark.parametrize("cut", [1, 2])
def test_a_header_cut_in_two_is_found(cut: int) -> None:
    decoder = settled()
    assert decoder.feed(b"hello" * 100 + FRAME[:cut]) == []
    assert len(decoder._buffer) < len(HEADER), "only what may be the beginning of a header is kept"
    decoder.feed(FRAME[cut:])
    assert decoder.counts["used"] == 1


def test_now_and_then_a_bad_frame_does_not_make_the_model_doubtful() -> None:
    bad = FRAME[:-1] + bytes((FRAME[-1] ^ 1,))
    decoder = settled()
    for _ in range(4):
        decoder.feed(bad + bad)
        assert len(decoder.feed(FRAME)) == 22, "at once, without the next header"
    decoder.feed(bad + bad + bad)
    assert decoder.model is None
    assert decoder.feed(FRAME) == []


def test_what_was_refused_is_shown() -> None:
    decoder = settled()
    assert decoder.refused == ""
    bad = FRAME[:-1] + bytes((FRAME[-1] ^ 1,))
    decoder.feed(bad)
    assert decoder.refused == f"bad checksum: {bad.hex(' ')}"
    decoder.feed(FRAME[:20] + FRAME + FRAME)
    assert decoder.refused == f"wrong length: {(FRAME[:20] + FRAME)[:73].hex(' ')}"
    assert decoder.counts["wrong length"] == 1


def test_a_frame_with_such_values_that_has_lost_its_end_does_not_swallow_the_next() -> None:
    payload = bytearray(FRAME[3:-1])
    payload[39:42] = HEADER
    whole = frame(bytes(payload))
    for length in range(45, len(whole) - len(HEADER) + 1):
        decoder = settled()
        decoder.feed(whole[:length] + whole + whole + HEADER)
        assert decoder.counts["used"] == 2, length
        assert not decoder.counts["bad checksum"], "its length shows it; a checksum can be right by chance"


@pytest.mark.parametrize(("at", "used"), [(38, 0), (39, 1), (40, 0)])
def test_only_there_can_values_look_like_a_header(at: int, used: int) -> None:
    payload = bytearray(FRAME[3:-1])
    payload[at : at + 3] = HEADER
    decoder = settled()
    decoder.feed(frame(bytes(payload)) + FRAME)
    assert decoder.counts["used"] == used + 1


def test_a_wrong_byte_loses_only_its_own_frame() -> None:
    for at in range(3, len(FRAME)):
        decoder = settled()
        decoder.feed(FRAME[:at] + bytes((FRAME[at] ^ 0x40,)) + FRAME[at + 1 :] + FRAME + HEADER)
        assert decoder.counts["used"] == 1, at
        assert sum(decoder.counts[r] for r in decoder.REFUSALS) == 1, at
        assert decoder.refused


def test_values_that_look_like_a_header_are_read_as_values() -> None:
    payload = bytearray(FRAME[3:-1])
    payload[39:42] = HEADER  # carburettor -2 F, sinking at 100 ft/min, -2 F outside
    decoder = settled()
    assert values(decoder, frame(bytes(payload)))["OAT"] == pytest.approx(-18.889, abs=DEGREE)


def test_another_model_on_the_same_line_is_recognised() -> None:
    decoder = settled()
    decoder.feed(FRAME_2004 * 5 + HEADER)
    assert decoder.model is not None
    assert decoder.model.name == "2004"
    assert decoder.counts["used"] == 2
    assert adds_up(decoder)


stream = st.lists(
    st.one_of(st.binary(max_size=60), st.sampled_from([FRAME, FRAME_2004, HEADER, FRAME[:40]])), max_size=8
)


@given(stream, st.integers(1, 100))
def test_no_input_raises_and_the_counters_add_up(parts: list[bytes], step: int) -> None:
    decoder = Decoder(cylinders=6, air_data=True)
    data = b"".join(parts)
    for at in range(0, len(data), step):
        for update in decoder.feed(data[at : at + step]):
            assert update.key in KEYS
            assert (update.value is None) == bool(update.flags)
        assert len(decoder._buffer) < 76
    assert adds_up(decoder)


# -- the virtual EIS ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("model", [Eis, Eis2004])
def test_the_virtual_eis_reports_the_aircraft(model: type[Eis]) -> None:
    aircraft, eis = Aircraft(), model(Nowhere())
    eis.air_data = True
    tenth = 0.0501
    within = {
        "VOLT": tenth,
        "FUELF1": tenth,
        "FUELQT": tenth,
        "HOBBS1": tenth,
        "VS": 50.0,
        "BARO": 0.005,
        "FTIME": 0.0003,
    }
    for _ in range(20):
        aircraft.step(30.0)
        truth = {**aircraft.values(), "BARO": aircraft.qnh, "FTIME": aircraft.flight_time / 3600}
        found = values(Decoder(air_data=True), eis.frames(aircraft, 0.0)[0] + HEADER)
        assert len(found) == (22 if model is Eis else 18)
        for key, value in found.items():
            degrees = key[:3] in ("CHT", "EGT", "OAT") or key in ("OILT1", "H2OT1")
            assert value == pytest.approx(truth[key], abs=0.5 / 1.8 if degrees else within.get(key, 0.5)), key


def test_a_missing_sensor_fails_its_key() -> None:
    eis = Eis(Nowhere())
    eis.failed = {"OILT1", "EGT12"}
    found = decoded(settled(cylinders=4), eis.frames(Aircraft(), 0.0)[0])
    assert {key for key, update in found.items() if update.flags} == {"OILT1", "EGT12"}


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def db() -> Database:
    return packaged_database()


def problems(db: Database, **aux: object) -> list[tuple[str, str]]:
    options = msgspec.convert({"port": "/dev/ttyUSB0", "aux": {1: aux}}, EisOptions)
    return list(Plugin.check(options, db))


def test_an_auxiliary_input_is_written_to_its_own_item(db: Database) -> None:
    assert problems(db, key="FUELP1", curve={"linear": {"factor": 0.1}}) == []
    assert problems(db, key="OILT1") == [("aux.1.key", "the EIS already sends OILT1 in a separate field")]
    ((option, message),) = problems(db, key="FULP1")
    assert option == "aux.1.key"
    assert "FUELP1" in message


def test_a_curve_in_another_unit_is_questioned(db: Database) -> None:
    ((option, _),) = problems(db, key="FUELP1", curve={"thermistor": {"r25": 1e4, "beta": 3950, "pull_up": 1e4}})
    assert option == "aux.1.curve"


# -- on a line ---------------------------------------------------------------------------------------------------------


def test_values_are_written_to_the_items_named_in_keys(
    gateway: StartGateway, expect: Expect, aircraft: Airplane
) -> None:
    moved = {"TACH1": "PROP1", "CHT11": "CHT15", "EGT11": None}
    running = gateway({"right": {"module": "fixgw.drivers.eis", "cylinders": 1, "keys": moved}}, right=Eis)
    aircraft["TACH1"], aircraft["CHT11"] = 2400, 173.9
    expect("PROP1").reads(2400).comes_from("right").by(3 * s)
    expect("CHT15").within(1, of=173.9).now()
    assert not [key for key in moved if running.read(key).source == "right"]


# -- the contract that all drivers pass --------------------------------------------------------------------------------


class TestContract(Contract):
    subject = SerialBench.of(
        "fixgw.drivers.eis",
        Eis,
        "TACH1 CHT11 CHT14 EGT11 EGT14 OILT1 OILP1 H2OT1 VOLT FUELF1 FUELQT OAT HOBBS1 FUELP1 MAP1",
        options={
            "aux": {n: {"key": k, "curve": {"linear": {"factor": 0.1}}} for n, k in enumerate(("FUELP1", "MAP1"), 1)}
        },
        within={"OAT": 0.3, "FUELF1": 0.06},
        absurd={"TACH1": 30_000, "CHT11": 1500.0, "VOLT": 90.0},
        unknown=("CHT11", "EGT14"),
    )


class TestContractOverTcp(Contract):
    subject = replace(TestContract.subject, bench=TcpBench)


class TestContractOverUdp(Contract):
    subject = replace(TestContract.subject, bench=UdpBench)
