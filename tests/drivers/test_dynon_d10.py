"""Dynon's D10 family: the line in its guide, damaged data, and the virtual display at the other end."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.database import FAIL
from fixgw.drivers.dynon import CLOCK_STOPPED, UNKNOWN
from fixgw.drivers.dynon_d10.protocol import KEYS, Decoder
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench.clock import Clock
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.bench.wired import SerialBench
from fixgw.hw_sim.devices.dynon_d10 import D10, STALL_ANGLE
from fixgw.kit.update import Update

# From the EFIS-D10A and EFIS-D100 Pilot's User Guides.
GUIDE = (Path(__file__).parents[1] / "data" / "dynon_d10" / "guide.txt").read_bytes().strip()
LINE = GUIDE + b"\r\n"
# The same with the lowest bit of the status cleared: the last digit 7 becomes 6, and the checksum A4 becomes A3.
OTHER = GUIDE[:46] + b"6" + GUIDE[47:49] + b"A3\r\n"


class Nowhere:
    def write(self, data: bytes, /) -> None: ...

    def plug(self) -> None: ...

    def unplug(self) -> None: ...

    def close(self) -> None: ...


def values(decoder: Decoder, data: bytes) -> dict[str, object]:
    return {update.key: update.value for update in decoder.feed(data) if not update.flags}


def adds_up(decoder: Decoder) -> bool:
    counts = decoder.counts
    return counts["received"] == counts["used"] + counts["ignored"] + sum(counts[r] for r in decoder.REFUSALS)


def resent(line: bytes, at: int, text: bytes) -> bytes:
    """`line` with its characters replaced from number `at` (counted from 1), and the right checksum."""
    body = line[: at - 1] + text + line[at - 1 + len(text) : 49]
    return body + b"%02X\r\n" % (sum(body) % 256)


@pytest.fixture
def decoder(clock: Clock) -> Decoder:
    return Decoder(clock)


# -- values ------------------------------------------------------------------------------------------------------------


def test_the_line_in_the_guide_is_decoded(decoder: Decoder) -> None:
    found = values(decoder, LINE)
    assert found == {
        "PITCH": 5.8,
        "ROLL": -5.4,
        "HEAD": 130.0,
        "IAS": pytest.approx(233.261, abs=0.001),  # 120.0 m/s x 3600 / 1852
        "ALAT": 0.01,  # -01: 0.01 g to the right
        "ANORM": 1.5,
        "PALT": pytest.approx(29990.16, abs=0.01),  # 9141 m / 0.3048
        "VS": 66.0,  # 1.1 ft/s x 60
    }


def test_the_status_tells_the_kind_of_altitude_and_whether_there_is_a_rate_of_turn(decoder: Decoder) -> None:
    found = values(decoder, OTHER)
    assert found["ALT"] == pytest.approx(29990.16, abs=0.01)
    assert found["ROT"] == 1.1
    assert not {"PALT", "VS"} & found.keys()


def test_percentages_become_an_angle_of_attack_if_the_stall_angle_is_known(clock: Clock) -> None:
    decoder = Decoder(clock, stall_angle=18.0)
    assert values(decoder, resent(GUIDE, 40, b"50"))["AOA"] == 9.0
    assert "AOA" not in values(Decoder(clock), resent(GUIDE, 40, b"50"))


@pytest.mark.parametrize(
    ("status", "odd"), [(b"000000", False), (b"fffffF", True), (b"000002", False), (b"100001", True)]
)
def test_only_the_lowest_bit_of_the_status_matters(decoder: Decoder, status: bytes, odd: bool) -> None:
    assert ("PALT" in values(decoder, resent(GUIDE, 42, status))) is odd


@pytest.mark.parametrize(("at", "text", "key"), [(18, b"361", "HEAD"), (9, b"+901", "PITCH"), (13, b"-1801", "ROLL")])
def test_impossible_values_are_failed_and_counted(decoder: Decoder, at: int, text: bytes, key: str) -> None:
    (update,) = [u for u in decoder.feed(resent(GUIDE, at, text)) if u.flags]
    assert update == Update(key, None, FAIL, f"the display sends {text.decode()!r}, which is impossible")
    assert decoder.counts["absurd values"] == 1
    assert decoder.counts["used"] == 1


def test_values_that_the_display_does_not_know_fail(decoder: Decoder) -> None:
    (update,) = [u for u in decoder.feed(resent(GUIDE, 21, b"XXXX")) if u.flags]
    assert update == Update("IAS", None, FAIL, UNKNOWN)
    assert decoder.counts["absurd values"] == 0


@pytest.mark.parametrize("status", [b"status", b"x00001", b"00001x"])
def test_a_line_without_a_status_is_ignored(decoder: Decoder, status: bytes) -> None:
    assert decoder.feed(resent(GUIDE, 42, status)) == []
    assert decoder.counts["ignored"] == 1


def test_a_hung_display_is_not_trusted(decoder: Decoder, clock: Clock) -> None:
    said = values(decoder, resent(OTHER, 1, LINE[:8]) + LINE)
    clock.now += 5.0
    assert values(decoder, LINE) == values(Decoder(clock), LINE)
    assert decoder.trouble == ""
    clock.now += 0.1
    updates = decoder.feed(LINE)
    assert {(u.value, u.flags, u.reason) for u in updates} == {(None, FAIL, CLOCK_STOPPED)}
    assert {u.key for u in updates} == said.keys(), "also those of the other kind of line"
    assert decoder.trouble == CLOCK_STOPPED
    assert {u.key for u in decoder.feed(LINE)} == values(Decoder(clock), LINE).keys(), "once is enough"
    assert values(decoder, resent(GUIDE, 7, b"22"))
    assert decoder.trouble == ""


def test_the_time_has_eight_digits(decoder: Decoder, clock: Clock) -> None:
    """A display hangs although its pitch changes, and does not if only the last digit runs."""
    decoder.feed(LINE)
    clock.now += 5.1
    assert values(decoder, resent(GUIDE, 8, b"8"))
    clock.now += 5.1
    assert not values(decoder, resent(GUIDE, 8, b"8-058"))


# -- lines -------------------------------------------------------------------------------------------------------------


def test_a_stream_can_be_cut_anywhere(clock: Clock) -> None:
    for cut in range(len(LINE) + 1):
        decoder = Decoder(clock)
        decoder.feed(LINE + LINE[:cut])
        decoder.feed(LINE[cut:])
        assert decoder.counts["used"] == 2


def test_a_line_without_its_end_does_not_swallow_the_next(clock: Clock) -> None:
    for length in range(1, len(GUIDE) + 1):
        decoder = Decoder(clock)
        decoder.feed(GUIDE[:length] + LINE)
        assert decoder.counts["used"] == 1 + (length == len(GUIDE)), length
        assert adds_up(decoder)


def test_a_wrong_character_loses_only_its_own_line(clock: Clock) -> None:
    for at in range(len(GUIDE)):
        decoder = Decoder(clock)
        decoder.feed(LINE[:at] + bytes((LINE[at] ^ 1,)) + LINE[at + 1 :] + LINE)
        assert decoder.counts["used"] == 1, at
        assert decoder.counts["bad checksum"] == 1, at
        assert decoder.refused.startswith("bad checksum: b")


def test_noise_before_a_line_is_refused_and_the_line_is_read(decoder: Decoder) -> None:
    assert decoder.refused == ""
    decoder.feed(b"noise" + GUIDE[:49] + GUIDE[49:].lower() + b"\n\r\r\n" + LINE)
    assert (decoder.counts["used"], decoder.counts["wrong length"], decoder.counts["received"]) == (2, 1, 3)
    assert decoder.refused == "wrong length: b'noise'"
    decoder = Decoder(Clock())
    decoder.feed(b"x" * 500)
    assert len(decoder._buffer) == 103
    decoder.feed(LINE)
    assert (decoder.counts["used"], decoder.counts["wrong length"], decoder.counts["received"]) == (1, 1, 2)


@pytest.mark.slow
@given(st.lists(st.one_of(st.binary(max_size=80), st.sampled_from([LINE, OTHER, LINE[:30]])), max_size=8))
def test_no_input_raises_and_the_counters_add_up(parts: list[bytes]) -> None:
    decoder = Decoder(lambda: 0.0, stall_angle=16.0)
    for part in parts:
        for update in decoder.feed(part):
            assert update.key in KEYS
            assert (update.value is None) == bool(update.flags)
        assert len(decoder._buffer) <= 2 * len(GUIDE) + 1
    assert adds_up(decoder)


# -- the virtual display -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_virtual_display_reports_the_aircraft(clock: Clock) -> None:
    aircraft, display = Aircraft(), D10(Nowhere())
    decoder = Decoder(clock, stall_angle=STALL_ANGLE)
    within = {"IAS": 0.1, "ALT": 1.7, "PALT": 1.7, "VS": 3.1, "HEAD": 0.51, "ALAT": 0.006, "AOA": 0.081}
    seen = set()
    for _ in range(60):
        aircraft.step(7.0)
        display.tick(aircraft, clock.now)
        clock.now += 1.0
        for key, value in values(decoder, display.frames(aircraft, clock.now)[0]).items():
            seen.add(key)
            truth = float(aircraft.values()[key])
            if key == "HEAD":
                truth = min((truth - 360.0, truth, truth + 360.0), key=lambda t: abs(t - value))  # type: ignore[operator]
            assert value == pytest.approx(truth, abs=within.get(key, 0.0501)), key
    assert seen == KEYS
    assert decoder.counts["absurd values"] == 0


# -- the contract that all drivers pass --------------------------------------------------------------------------------


class TestContract(Contract):
    subject = SerialBench.of(
        "fixgw.drivers.dynon_d10",
        D10,
        "PITCH ROLL HEAD IAS ALT PALT ROT VS ALAT ANORM AOA",
        options={"stall_angle": STALL_ANGLE},
        within={"HEAD": 0.5, "VS": 3.0, "AOA": 0.08, "ANORM": 0.05},
        absurd={"PITCH": 95.0, "ROLL": 190.0},
        repeats=True,
    )
