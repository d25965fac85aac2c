"""MGL's TP-3: hand-made golden frames, framing, robustness, and the virtual instrument."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.database import FAIL
from fixgw.drivers.mgl_serial.protocol import INPUTS, KEYS, OFF, Decoder
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.bench.wired import SerialBench
from fixgw.hw_sim.devices.mgl_serial import Tp3
from fixgw.kit.update import Update

GOLDEN, WITH_AN_END_INSIDE = (
    bytes.fromhex(line.partition("#")[0])
    for line in (Path(__file__).parents[1] / "data" / "mgl_serial" / "tp3.hex").read_text().splitlines()
    if line.partition("#")[0].strip()
)


def decoded(data: bytes, **options: object) -> dict[str, Update]:
    return {update.key: update for update in Decoder(**options).feed(data)}  # type: ignore[arg-type]


def adds_up(decoder: Decoder) -> bool:
    counts = decoder.counts
    return counts["received"] == counts["used"] + counts["ignored"] + sum(counts[r] for r in decoder.REFUSALS)


def framed(payload: bytes, address: int = 1, message: int = 8) -> bytes:
    covered = bytes((address, message, len(payload))) + payload
    checksum = 0xA5
    for byte in covered:
        checksum ^= byte
    return b"\x02" + covered + bytes((checksum, 3))


def test_a_pressure_a_temperature_a_voltage_and_an_unused_input() -> None:
    updates = decoded(GOLDEN)
    assert updates["input1"].value == pytest.approx(62.3)
    assert updates["input2"].value == 93.0
    assert updates["input3"].value == pytest.approx(13.8)
    assert updates["input4"] == Update("input4", None, FAIL, OFF)


def test_a_frame_can_contain_the_byte_that_ends_it() -> None:
    assert decoded(WITH_AN_END_INSIDE)["input1"].value == pytest.approx(77.1)


def test_temperatures_can_be_below_zero() -> None:
    assert decoded(framed(bytes.fromhex("0002 FFEC 0000 0000 0000")))["input1"].value == -20.0


def test_an_input_whose_type_does_not_match_the_unit_fails_its_key() -> None:
    updates = decoded(GOLDEN, units={"input1": "degC", "input2": "degC"})
    assert set(updates) == {"input1", "input2"}, "the others are not in use"
    assert updates["input1"] == Update("input1", None, FAIL, "the input is a pressure, but the key is in degC")
    assert updates["input2"].flags == 0


def test_a_fuel_level_is_scaled() -> None:
    frame = framed(bytes.fromhex("0004 0064 0000 0000 0000"))
    assert decoded(frame, units={"input1": "gal"}, level=0.264172)["input1"].value == pytest.approx(26.4172)


def test_another_address_is_another_instrument() -> None:
    decoder = Decoder(address=7)
    assert decoder.feed(GOLDEN) == []
    assert decoder.counts["ignored"] == 1
    assert decoder.feed(framed(GOLDEN[4:14], address=7)) == Decoder().feed(GOLDEN)


def test_messages_of_another_type_come_from_another_instrument() -> None:
    decoder = Decoder()
    assert decoder.feed(framed(GOLDEN[4:14], message=1)) == []
    assert decoder.counts["ignored"] == 1
    assert adds_up(decoder)
    assert decoder.trouble == "messages have type 1 instead of 8: this is not a TP-3"
    decoder.feed(framed(GOLDEN[4:14], message=1))
    assert decoder.feed(GOLDEN)
    assert not decoder.trouble


def test_what_another_address_sends_says_nothing_about_ours() -> None:
    decoder = Decoder(address=1)
    troubles = [decoder.trouble]
    for address, message in ((7, 1), (1, 1), (7, 8)):
        decoder.feed(framed(GOLDEN[4:14], address, message))
        troubles.append(decoder.trouble)
    assert troubles == ["", "", *["messages have type 1 instead of 8: this is not a TP-3"] * 2]
    assert (decoder.counts["ignored"], decoder.counts["used"]) == (3, 0)


def test_what_was_refused_is_shown() -> None:
    decoder = Decoder()
    assert decoder.refused == ""
    good = framed(bytes.fromhex("0005 008A 0000 0000 0000"))
    spoiled = good[:14] + bytes((good[14] ^ 1, 3))
    decoder.feed(spoiled + b"junk")
    assert decoder.refused == f"bad checksum: {spoiled.hex(' ')}"
    endless = good[:15] + b"\x04"
    decoder.feed(endless)
    assert decoder.refused == f"no end: {endless.hex(' ')}"


@pytest.mark.parametrize("length", [9, 11])
def test_a_wrong_length_is_refused_as_soon_as_it_has_come(length: int) -> None:
    decoder = Decoder()
    decoder.feed(bytes((2, 1, 8, length)))
    assert decoder.counts["wrong length"] == 1
    assert decoder.refused == f"wrong length: 02 01 08 {length:02x}"


def test_absurd_values_and_unknown_types_are_refused_and_counted() -> None:
    decoder = Decoder()
    updates = decoder.feed(framed(bytes.fromhex("0925 7FFF 7FFF 0000 0000")))
    assert [u.value for u in updates] == [None, None, None, None]
    assert [u.reason for u in updates] == [
        "the instrument sends an absurd value: a voltage of 3276.7 V",
        "the instrument sends an absurd value: a temperature of 32767 degC",
        "the instrument sends an absurd value: an input of unknown type 9",
        OFF,
    ]
    assert decoder.counts["absurd values"] == 3, "the fourth is off"


def test_a_stream_can_be_cut_anywhere() -> None:
    stream = GOLDEN + WITH_AN_END_INSIDE + GOLDEN
    whole = Decoder().feed(stream)
    for cut in range(len(stream)):
        decoder = Decoder()
        assert decoder.feed(stream[:cut]) + decoder.feed(stream[cut:]) == whole


def test_a_frame_without_its_end_does_not_swallow_the_next() -> None:
    for length in range(1, len(GOLDEN)):
        decoder = Decoder()
        assert decoder.feed(GOLDEN[:length] + WITH_AN_END_INSIDE) == Decoder().feed(WITH_AN_END_INSIDE)
        assert adds_up(decoder)


@pytest.mark.parametrize("at", range(1, 16))
def test_a_wrong_byte_is_noticed(at: int) -> None:
    spoiled = bytearray(GOLDEN)
    spoiled[at] ^= 0x40
    decoder = Decoder()
    assert decoder.feed(bytes(spoiled) + bytes(16)) == []
    assert decoder.counts["received"] == sum(decoder.counts[r] for r in decoder.REFUSALS) >= 1


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([GOLDEN, WITH_AN_END_INSIDE, b"\x02\x01\x08\x0a"]))))
def test_no_input_raises_and_all_of_it_is_counted(chunks: list[bytes]) -> None:
    decoder = Decoder()
    for chunk in chunks:
        for update in decoder.feed(chunk):
            assert update.key in KEYS
    assert adds_up(decoder)
    assert len(decoder._buffer) < 16


class Line:
    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


def test_the_virtual_instrument_reports_the_aircraft() -> None:
    aircraft, instrument = Aircraft(datetime(2025, 7, 21, 15, 0, tzinfo=UTC)), Tp3(Line())
    instrument.failed = {"FUELQ1"}
    updates = decoded(instrument.frames(aircraft, 0.0)[0])
    truth = aircraft.values()
    for name, key, within in zip(INPUTS, ("OILP1", "OILT1", "VOLT"), (0.06, 0.6, 0.06), strict=False):
        assert updates[name].value == pytest.approx(truth[key], abs=within)
    assert updates["input4"].reason == OFF


# -- the contract that all drivers pass --------------------------------------------------------------------------------


class TestContract(Contract):
    subject = SerialBench.of(
        "fixgw.drivers.mgl_serial",
        Tp3,
        "OILP1 OILT1 VOLT FUELQ1",
        options={"keys": {"input1": "OILP1", "input2": "OILT1", "input3": "VOLT", "input4": "FUELQ1"}},
        within={"FUELQ1": 0.5},
        absurd={"OILP1": 2000.0, "OILT1": 2000.0},
        unknown=("VOLT",),
    )
