"""Shadin computers: hand-made golden frames, framing, robustness, and the virtual computer."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.database import FAIL
from fixgw.drivers.shadin.protocol import KEYS, SENSOR, UNKNOWN, Decoder
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.bench.wired import SerialBench
from fixgw.hw_sim.devices.shadin import Shadin
from fixgw.kit.update import Update

DATA = Path(__file__).parents[1] / "data" / "shadin"
G, Z = ((DATA / f"{name}.txt").read_bytes() for name in "gz")


def decoded(data: bytes, heading: bool = False) -> dict[str, Update]:
    return {update.key: update for update in Decoder(heading=heading).feed(data)}


def values(data: bytes) -> dict[str, Any]:
    return {key: update.value for key, update in decoded(data).items() if not update.flags}


def framed(body: bytes, letter: bytes = b"G") -> bytes:
    body = b"\x02" + body
    return body + letter + b"*%03d\r\n\x03" % (sum(body) % 256)


def adds_up(decoder: Decoder) -> bool:
    counts = decoder.counts
    return counts["received"] == counts["used"] + counts["ignored"] + sum(counts[r] for r in decoder.REFUSALS)


def test_a_frame_of_format_g_is_decoded() -> None:
    assert values(G) == pytest.approx(
        {
            "IAS": 104.0,
            "TAS": 112.0,
            "PALT": 5480.0,
            "DALT": 6010.0,
            "OAT": -4.0,
            "ROT": 3.0,
            "VS": -510.0,
            "FUELF1": 9.2,
            "FUELQT": 35.8,
            "ALT": 5360.0,
            "BARO": 30.05,
        }
    )
    assert decoded(G)["FUELF2"] == Update("FUELF2", None, FAIL, UNKNOWN)


def test_format_z_has_its_checksum_under_another_letter() -> None:
    assert values(Z) == pytest.approx(
        {"IAS": 87.0, "TAS": 91.0, "PALT": -120.0, "DALT": 350.0, "OAT": 17.0, "VS": 420.0, "FUELF1": 10.1}
    )


FUEL_COMPUTER = (  # from an FC-10 without air data
    *("A---", "B---", "C---", "D ----", "E ----", "F --", "G --", "H---", "I---", "J --", "K ---", "L---"),
    *("M0000", "N00000", "O{}", "P00000", "Q000"),
)


@pytest.mark.parametrize(("flow", "checksum", "value"), [("0101", 53, 10.1), ("0000", 51, 0.0)])
def test_a_fuel_computer_sends_blanks_for_unknown_signs(flow: str, checksum: int, value: float) -> None:
    body = b"\x02" + "".join(f"Z{line}\r\n" for line in FUEL_COMPUTER).format(flow).encode()
    assert sum(body) % 256 == checksum
    decoder = Decoder()
    updates = {u.key: u for u in decoder.feed(body + f"ZR{checksum:03}\r\n".encode() + b"\x03")}
    assert updates["FUELF1"].value == pytest.approx(value)
    assert updates["FUELF2"].value == 0.0
    for key in ("IAS", "TAS", "PALT", "DALT", "OAT", "ROT", "VS"):
        assert updates[key] == Update(key, None, FAIL, UNKNOWN)
    assert not decoder.trouble
    assert decoder.counts["used"] == decoder.counts["received"] == 1


def test_an_unreadable_line_fails_only_its_own_key() -> None:
    decoder = Decoder()
    updates = {u.key: u for u in decoder.feed(framed(b"GA1x4\r\nGB112\r\nGD\r\nGE+12345678901\r\nGK +12\r\n"))}
    assert updates["TAS"] == Update("TAS", 112.0)
    absurd = "the computer sends an absurd value: "
    assert {u for u in updates.values() if u.flags} == {
        Update("IAS", None, FAIL, f"{absurd}'1x4'"),
        Update("PALT", None, FAIL, UNKNOWN),
        Update("DALT", None, FAIL, f"{absurd}'+12345678901'"),
        Update("VS", None, FAIL, f"{absurd}' +12'"),
    }
    assert decoder.counts["absurd values"] == 3
    assert decoder.counts["used"] == 1
    (long,) = decoder.feed(framed(b"GA" + b"1" * 30 + b"\r\n"))
    assert long.reason == f"{absurd}'{'1' * 20}'"


def test_the_true_temperature_replaces_an_unknown_outside_temperature() -> None:
    assert values(framed(b"GF---\r\nGG-06\r\n"))["OAT"] == -6.0
    assert values(framed(b"GG-06\r\n"))["OAT"] == -6.0
    for lines in (b"GF-04\r\nGG-06\r\n", b"GG-06\r\nGF-04\r\n", b"GF-04\r\nGG---\r\n", b"GF-04\r\n"):
        (outside,) = Decoder().feed(framed(lines))
        assert outside == Update("OAT", -4.0), "otherwise that is what counts"
    for lines in (b"GF---\r\n", b"GF---\r\nGG---\r\n", b"GG---\r\n"):
        assert Decoder().feed(framed(lines)) == [Update("OAT", None, FAIL, UNKNOWN)]


def test_a_checksum_up_to_the_error_indicator_is_accepted_too() -> None:
    summed = b"\x02GA104\r\nGQ000\r\n"
    rest = b"GR0035.8\r\nGa+0536\r\n"
    assert values(summed + rest + b"G*%03d\r\n\x03" % (sum(summed) % 256))["ALT"] == 5360.0
    decoder = Decoder()
    assert decoder.feed(summed + rest + b"G*%03d\r\n\x03" % (sum(summed) % 256 ^ 1)) == []
    assert decoder.counts["bad checksum"] == 1


def test_the_heading_is_written_only_if_it_is_known_to_be_magnetic() -> None:
    assert "HEAD" not in decoded(G)
    assert decoded(G, heading=True)["HEAD"].value == 247.0


def test_unknown_values_fail() -> None:
    updates = decoded(framed(b"GA---\r\nGD+----\r\nGF---\r\nGG---\r\n"))
    assert {u.key for u in updates.values()} == {"IAS", "PALT", "OAT"}
    assert all(u.value is None and u.flags == FAIL and u.reason == UNKNOWN for u in updates.values())


def test_an_error_of_the_temperature_sensor_fails_the_temperature_and_is_reported() -> None:
    decoder = Decoder()
    updates = {u.key: u for u in decoder.feed(framed(b"GA104\r\nGF+17\r\nGG+16\r\nGQ001\r\n"))}
    assert updates["OAT"] == Update("OAT", None, FAIL, SENSOR)
    assert updates["IAS"].flags == 0
    assert decoder.trouble == SENSOR
    decoder.feed(framed(b"GQ016\r\n"))
    assert decoder.trouble == "the computer reports error 016"
    decoder.feed(G)
    assert not decoder.trouble
    assert decoder.feed(framed(b"GG+16\r\nGQ001\r\n")) == [Update("OAT", None, FAIL, SENSOR)]
    for none in (b"GQ---\r\n", b"GQ   \r\n", b"GQ000\r\n", b"GA104\r\n"):
        decoder.feed(framed(none))
        assert decoder.trouble == "", none


def test_absurd_values_are_refused_and_counted() -> None:
    decoder = Decoder()
    updates = decoder.feed(framed(b"Gb05.00\r\nGL361\r\nGD+9999\r\n"))
    assert all(u.value is None and u.flags == FAIL for u in updates)
    assert decoder.counts["absurd values"] == 2, "the heading is not used"


@pytest.mark.parametrize(
    ("letter", "accepted", "refused"),
    [
        ("D", ("-200", "6000"), ("-200.05", "6000.05")),
        ("E", ("-1000", "6000"), ("-1000.05", "6000.05")),
        ("K", ("-999", "999"), ("-999.05", "999.05")),
        ("a", ("-200", "6000"), ("-200.05", "6000.05")),
    ],
)
def test_tens_of_feet_have_exact_limits(letter: str, accepted: tuple[str, str], refused: tuple[str, str]) -> None:
    for text in (*accepted, *refused):
        (update,) = Decoder().feed(framed(f"G{letter}{text}\r\n".encode()))
        assert (update.flags == FAIL) is (text in refused), text


@pytest.mark.parametrize("wrong", [2, -10, 1])
def test_only_the_sum_of_whole_lines_is_a_checksum(wrong: int) -> None:
    """Not that of STX alone, nor one without the last character."""
    body = b"\x02GA104\r\n"
    checksum = wrong if wrong == 2 else (sum(body) + wrong) % 256
    decoder = Decoder()
    assert decoder.feed(body + b"G*%03d\r\n\x03" % checksum) == []
    assert decoder.counts["bad checksum"] == 1


def test_a_stream_can_be_cut_anywhere() -> None:
    whole = Decoder().feed(G + Z + G)
    for cut in range(len(G + Z)):
        decoder = Decoder()
        assert decoder.feed((G + Z + G)[:cut]) + decoder.feed((G + Z + G)[cut:]) == whole


def test_a_frame_without_its_end_does_not_swallow_the_next() -> None:
    for length in range(1, len(G) - 1, 5):
        decoder = Decoder()
        assert decoder.feed(G[:length] + Z) == Decoder().feed(Z)
        assert decoder.counts["truncated"] == 1
        assert adds_up(decoder)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (G.replace(b"GA104", b"GA105"), "bad checksum"),
        (b"\x02GA104\r\n\x03", "no checksum"),
        (framed(b"GA104\r\n").replace(b"*", b"S"), "no checksum"),
        (framed(b"GA104\r\n", b"A"), "no checksum"),
        (framed(b"GA104\r\n")[:-3] + b"\x03", "no checksum"),
        (framed(b""), "malformed"),
        (framed(b"GA104"), "malformed"),
        (framed(b"XA104\r\n"), "malformed"),
        (framed(b"G1104\r\n"), "malformed"),
        (framed(b"GA104\r\nZB112\r\n"), "malformed"),
        (framed(b"GA104\r\nG\r\n"), "malformed"),
        (b"\x02" + b"GA104\r\n" * 100 + b"\x03", "too long"),
    ],
)
def test_invalid_frames_are_refused(frame: bytes, reason: str) -> None:
    decoder = Decoder()
    assert decoder.feed(frame) == []
    assert decoder.counts[reason] == decoder.counts["received"] == 1
    shown = frame[:512] if reason == "too long" else frame[:-1]
    assert decoder.refused == f"{reason}: {shown!r}"
    assert decoder.feed(G) == Decoder().feed(G)


@pytest.mark.parametrize(("length", "used"), [(512, 1), (513, 0)])
def test_a_frame_has_up_to_512_bytes(length: int, used: int) -> None:
    """From STX to before ETX, at once or in pieces."""
    frame = framed(b"GA104\r\n" + b"Gx".ljust(length - 17, b"1") + b"\r\n")
    assert len(frame) == length + 1
    for pieces in ((frame,), (frame[:-1], frame[-1:])):
        decoder = Decoder()
        for piece in pieces:
            decoder.feed(piece)
        assert (decoder.counts["used"], decoder.counts["too long"]) == (used, 1 - used)


def test_what_lies_between_frames_is_no_frame() -> None:
    decoder = Decoder()
    assert decoder.refused == ""
    assert decoder.feed(b"noise\x03" + G + b"\x03noise" + Z) == [*Decoder().feed(G), *Decoder().feed(Z)]
    assert decoder.counts["received"] == 2
    assert decoder.feed(b"\x02GA1\xff4\r\n" + G) == Decoder().feed(G)
    assert decoder.refused == "truncated: b'\\x02GA1'"


@given(st.lists(st.one_of(st.binary(max_size=80), st.sampled_from([G, Z, b"\x02", b"GA104\r\n"]))))
def test_no_input_raises_and_all_of_it_is_counted(chunks: list[bytes]) -> None:
    decoder = Decoder()
    for chunk in chunks:
        for update in decoder.feed(chunk):
            assert update.key in KEYS
    assert adds_up(decoder)
    assert len(decoder._buffer) <= 512


class Line:
    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


@pytest.mark.slow
@pytest.mark.parametrize("letter", ["G", "S", "Z"])
@pytest.mark.parametrize("minutes", [0, 4, 17])
def test_the_virtual_computer_reports_the_aircraft(minutes: int, letter: str) -> None:
    aircraft = Aircraft(datetime(2025, 7, 21, 15, 0, tzinfo=UTC))
    for _ in range(minutes * 60):
        aircraft.step(1.0)
    known = values(Shadin(Line(), format=letter).frames(aircraft, 0.0)[0])
    truth = {**aircraft.values(), "BARO": aircraft.qnh}
    coarse = {"PALT": 5.0, "DALT": 5.0, "ALT": 5.0, "VS": 5.0, "FUELF1": 0.05, "FUELQT": 0.05}
    for key in known:
        assert known[key] == pytest.approx(truth[key], abs=coarse.get(key, 0.501)), key
    assert ("FUELQT" in known) is (letter != "Z")


def test_a_sensor_that_fails_at_the_computer_fails_its_key() -> None:
    computer = Shadin(Line(), format="G")
    computer.failed = {"OAT", "FUELF1"}
    updates = decoded(computer.frames(Aircraft(datetime(2025, 7, 21, 15, 0, tzinfo=UTC)), 0.0)[0])
    assert updates["OAT"].flags == updates["FUELF1"].flags == FAIL


# -- the contract that all drivers pass --------------------------------------------------------------------------------


class TestContract(Contract):
    subject = SerialBench.of(
        "fixgw.drivers.shadin",
        partial(Shadin, format="G"),
        "IAS TAS PALT DALT OAT VS FUELF1 FUELQT ALT",
        within={"OAT": 0.5, "FUELF1": 0.06},
        absurd={"IAS": 5000.0, "OAT": 300.0},
        unknown=("OAT", "FUELF1"),
    )
