"""Dynon SkyView: the messages in its guide, damaged data, and the virtual display at the other end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.database import FAIL, Database
from fixgw.drivers.dynon import CLOCK_STOPPED
from fixgw.drivers.skyview import Plugin, SkyviewOptions
from fixgw.drivers.skyview.protocol import HARNESS, KEYS, TIME, Decoder
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench.base import packaged_database
from fixgw.hw_sim.bench.clock import Clock
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.bench.network import TcpBench, UdpBench
from fixgw.hw_sim.bench.wired import SerialBench
from fixgw.hw_sim.devices.skyview import COOLANT, STALL_ANGLE, SkyView
from fixgw.kit.update import Update

# From the SkyView System Installation Guide, Revision R, Appendix E.
ADAHRS, SYSTEM, ENGINE = (Path(__file__).parents[1] / "data" / "skyview" / "guide.txt").read_bytes().split()
ALL = b"".join(raw + b"\r\n" for raw in (ADAHRS, SYSTEM, ENGINE))


class Nowhere:
    def write(self, data: bytes, /) -> None: ...

    def plug(self) -> None: ...

    def unplug(self) -> None: ...

    def close(self) -> None: ...


def decoded(decoder: Decoder, data: bytes) -> dict[str, Update]:
    return {update.key: update for update in decoder.feed(data)}


def values(decoder: Decoder, data: bytes) -> dict[str, object]:
    return {key: update.value for key, update in decoded(decoder, data).items() if not update.flags}


def adds_up(decoder: Decoder) -> bool:
    counts = decoder.counts
    return counts["received"] == counts["used"] + counts["ignored"] + sum(counts[r] for r in decoder.REFUSALS)


def resent(raw: bytes, at: int, text: bytes) -> bytes:
    """A message with its characters replaced from number `at` (counted from 1), and the right checksum."""
    body = raw[: at - 1] + text + raw[at - 1 + len(text) : -2]
    return body + b"%02X\r\n" % (sum(body) % 256)


@pytest.fixture
def decoder(clock: Clock) -> Decoder:
    return Decoder(clock)


# -- values ------------------------------------------------------------------------------------------------------------


def test_the_attitude_and_air_data_of_the_guide_are_decoded(decoder: Decoder) -> None:
    assert values(decoder, ADAHRS + b"\r\n") == {
        "PITCH": -1.4,
        "ROLL": 0.0,
        "HEAD": 331.0,
        "IAS": 81.1,
        "PALT": 1736.0,
        "ALT": pytest.approx(1736 + 0.03 * 925, abs=2.0),  # 29.95 inHg: 925 ft an inch near the ground
        "ROT": 0.3,
        "ALAT": 0.03,
        "ANORM": 1.0,
        "VS": -330.0,
        "OAT": 11.0,
        "TAS": 83.1,
        "BARO": 29.95,
        "DALT": 1650.0,
        "TIMEZ": "21:14:47",
        "TIMEZH": 21,
        "TIMEZM": 14,
        "TIMEZS": 47,
    }


def test_the_system_message_of_the_guide_has_no_navigation(decoder: Decoder) -> None:
    found = decoded(decoder, SYSTEM + b"\r\n")
    assert {key: (u.value, u.flags) for key, u in found.items()} == dict.fromkeys(
        ("COURSE", "CDI", "GSI"), (None, FAIL)
    )


def test_guidance_is_decoded(decoder: Decoder) -> None:
    raw = resent(resent(SYSTEM, 28, b"087")[:-2], 35, b"+16-50")
    assert values(decoder, raw) == {"COURSE": 87.0, "CDI": 0.16, "GSI": -0.5}


def test_the_engine_message_of_the_guide_is_decoded(decoder: Decoder) -> None:
    cylinders = range(1, 7)
    assert values(decoder, ENGINE + b"\r\n") == {
        "OILP1": 60.0,
        "OILT1": 93.0,
        "TACH1": 2363,
        "MAP1": 27.2,
        "FUELF1": 5.7,
        "FUELP1": 16.4,
        "FUELQ1": 26.3,
        "FUELQ2": 26.3,
        "FUELQT": 0.0,
        "VOLT": 28.0,
        "CURRNT": 12.0,
        "HOBBS1": 1.3,
        **{f"CHT1{c}": 197.0 for c in cylinders},
        **{f"EGT1{c}": 592.0 for c in cylinders},
    }


def test_the_harness_lists_the_last_cylinder_first() -> None:
    assert [HARNESS[n] for n in (1, 2, 11, 12)] == ["CHT16", "EGT16", "CHT11", "EGT11"]


def test_thermocouples_can_be_wired_in_another_order(clock: Clock) -> None:
    found = values(Decoder(clock, thermocouples={14: "EGT12"}), ENGINE + b"\r\n")
    assert found["EGT12"] == 197.0
    assert "EGT11" not in found


def test_general_purpose_inputs_are_read_as_configured(clock: Clock) -> None:
    inputs = {4: ("FUELP1", "psi"), 9: ("FUELQ3", "gal"), 12: ("H2OT1", "degC"), 1: ("TRIMP", "%"), 8: ("CAT", "degC")}
    found = decoded(Decoder(clock, inputs=inputs), ENGINE + b"\r\n")
    assert [found[key].value for key in ("FUELP1", "FUELQ3", "H2OT1", "TRIMP")] == [16.4, 26.3, 92.8, -12.0]
    assert (found["CAT"].value, found["CAT"].flags) == (None, FAIL)  # it is in gallons
    assert [u.key for u in Decoder(clock, inputs=inputs).feed(ENGINE + b"\r\n")].count("FUELP1") == 1


@pytest.mark.parametrize("text", [b"ZZZZZZ", b"+XXXXC", b"XXXXXX"])
def test_a_missing_input_fails(clock: Clock, text: bytes) -> None:
    decoder = Decoder(clock, inputs={12: ("H2OT1", "degC")})
    assert decoded(decoder, resent(ENGINE, 190, text))["H2OT1"].flags == FAIL


def test_the_engine_speed_is_right_with_one_magneto_off(decoder: Decoder) -> None:
    assert values(decoder, resent(ENGINE, 19, b"00002340"))["TACH1"] == 2340
    assert values(decoder, resent(ENGINE, 19, b"2350XXXX"))["TACH1"] == 2350
    assert decoded(decoder, resent(ENGINE, 19, b"XXXXXXXX"))["TACH1"].flags == FAIL


def test_returned_fuel_is_not_counted_as_burnt(clock: Clock) -> None:
    decoder = Decoder(clock, return_flow=True)
    assert values(decoder, resent(ENGINE, 30, b"310204"))["FUELF1"] == 10.6
    assert decoded(decoder, resent(ENGINE, 30, b"310XXX"))["FUELF1"].flags == FAIL


def test_values_that_the_display_does_not_know_fail(decoder: Decoder) -> None:
    found = decoded(decoder, resent(ADAHRS, 28, b"XXXXXX"))
    assert {key for key, u in found.items() if u.flags} == {"PALT", "ALT"}
    assert decoder.counts["absurd values"] == 0


def test_impossible_values_are_failed_and_counted(decoder: Decoder) -> None:
    found = decoded(decoder, resent(ADAHRS, 21, b"361"))
    assert (found["HEAD"].value, found["HEAD"].flags) == (None, FAIL)
    assert decoder.counts["absurd values"] == 1


def test_percentages_become_an_angle_of_attack_if_the_stall_angle_is_known(clock: Clock) -> None:
    assert values(Decoder(clock, stall_angle=15.0), ADAHRS + b"\r\n")["AOA"] == pytest.approx(1.95)  # 13 %
    assert "AOA" not in decoded(Decoder(clock), ADAHRS + b"\r\n")


def test_there_is_no_time_without_a_gps(decoder: Decoder) -> None:
    found = decoded(decoder, resent(ADAHRS, 4, b"--------"))
    assert {found[key].flags for key in TIME} == {FAIL}
    assert found["PITCH"].value == -1.4


def test_a_hung_display_is_not_trusted(clock: Clock) -> None:
    decoder = Decoder(clock, inputs={12: ("H2OT1", "degC")})
    assert values(decoder, ALL)
    clock.now += 5.1
    assert {u.flags for u in decoder.feed(ALL)} == {FAIL}
    assert decoder.trouble == CLOCK_STOPPED
    for raw in (ADAHRS, SYSTEM, ENGINE):
        decoder.feed(resent(raw, 4, b"21145200"))
    assert decoder.trouble == ""


def test_a_display_that_hangs_on_one_message_fails_the_values_of_the_others(clock: Clock, decoder: Decoder) -> None:
    said = values(decoder, ALL)
    decoder.feed(ADAHRS + b"\r\n")
    clock.now += 5.1
    failed = decoded(decoder, ADAHRS + b"\r\n")
    assert said.keys() <= failed.keys()
    assert {u.flags for u in failed.values()} == {FAIL}
    assert "HOBBS1" not in decoded(decoder, ADAHRS + b"\r\n"), "once is enough"


def test_messages_of_a_version_with_another_layout_are_refused(decoder: Decoder) -> None:
    assert decoder.feed(b"!2118132412302+00101590+0500020050+16XXX30L00U02R000001110E6\r\n") == []
    assert decoder.counts["ignored"] + decoder.counts["bad checksum"] == 1
    longer = SYSTEM[:2] + b"3" + SYSTEM[3:-2] + b"0"
    assert decoder.feed(longer + b"%02X\r\n" % (sum(longer) % 256)) == []
    assert "!23" in decoder.trouble


def test_messages_of_another_version_with_the_same_length_are_read(decoder: Decoder) -> None:
    for raw in (ADAHRS, SYSTEM, ENGINE):
        assert values(decoder, resent(raw, 3, b"9")) == values(Decoder(lambda: 0.0), raw + b"\r\n")
    assert not decoder.trouble


# -- lines -------------------------------------------------------------------------------------------------------------


def test_a_stream_can_be_cut_anywhere(clock: Clock) -> None:
    for cut in range(len(ALL) + 1):
        decoder = Decoder(clock)
        decoder.feed(ALL[:cut])
        decoder.feed(ALL[cut:])
        assert decoder.counts["used"] == 3


def test_a_message_without_its_end_does_not_swallow_the_next(clock: Clock) -> None:
    for length in range(1, len(ENGINE)):
        decoder = Decoder(clock)
        decoder.feed(ENGINE[:length] + ADAHRS + b"\r\n")
        assert decoder.counts["used"] == 1
        assert decoder.counts["received"] == 2
        assert adds_up(decoder)


@pytest.mark.parametrize("wrong", [ADAHRS[:-3], ADAHRS[:-2] + b"0"])
def test_a_message_of_another_length_is_refused_although_its_checksum_is_right(decoder: Decoder, wrong: bytes) -> None:
    assert decoder.feed(wrong + b"%02X\r\n" % (sum(wrong) % 256)) == []
    assert decoder.counts["wrong length"] == decoder.counts["received"] == 1


def test_a_wrong_character_loses_only_its_own_message(clock: Clock) -> None:
    for at in range(3, len(ADAHRS)):
        decoder = Decoder(clock)
        decoder.feed(ADAHRS[:at] + bytes((ADAHRS[at] ^ 2,)) + ADAHRS[at + 1 :] + b"\r\n" + ALL)
        assert decoder.counts["used"] == 3, at
        assert decoder.counts["bad checksum"] == 1, at


@given(st.lists(st.one_of(st.binary(max_size=80), st.sampled_from([ALL, ADAHRS, ENGINE[:100], b"!"])), max_size=8))
def test_no_input_raises_and_the_counters_add_up(parts: list[bytes]) -> None:
    decoder = Decoder(lambda: 0.0, stall_angle=16.0, inputs={3: ("TRIMP", "%")}, return_flow=True)
    for part in parts:
        for update in decoder.feed(part):
            assert update.key in KEYS | {"TRIMP"}
            assert (update.value is None) == bool(update.flags)
        assert len(decoder._buffer) <= len(ENGINE) + 1
    assert adds_up(decoder)


# -- the virtual display -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_virtual_display_reports_the_aircraft(clock: Clock) -> None:
    aircraft, display = Aircraft(), SkyView(Nowhere())
    decoder = Decoder(clock, stall_angle=STALL_ANGLE, inputs={COOLANT: ("H2OT1", "degC")})
    whole = {"HEAD", "COURSE", "PALT", "ALT", "DALT", "OAT", "OILT1", "OILP1", *HARNESS.values()}
    within = {
        **dict.fromkeys(whole, 0.51),
        "VS": 5.1,
        "ALAT": 0.006,
        "AOA": 0.081,
        "BARO": 0.006,
        "CDI": 0.011,
        "GSI": 0.011,
        "TACH1": 0,
        "ALT": 6.0,
    }
    seen = set()
    for _ in range(60):
        aircraft.step(7.0)
        clock.now += 1.0
        found = values(decoder, b"".join(display.frames(aircraft, clock.now)))
        truth = {**aircraft.values(), "BARO": aircraft.qnh}
        for key, value in found.items():
            seen.add(key)
            if key in TIME:
                assert value == truth[key]
                continue
            expected = float(truth[key])
            if key in ("HEAD", "COURSE"):
                expected = min((expected - 360.0, expected, expected + 360.0), key=lambda t: abs(t - value))  # type: ignore[operator]
            assert value == pytest.approx(expected, abs=within.get(key, 0.0501)), key
    assert seen == (KEYS | {"H2OT1"}) - {"CHT15", "CHT16", "EGT15", "EGT16"}
    assert decoder.counts["absurd values"] == 0


def test_values_that_the_virtual_display_does_not_know_fail(clock: Clock) -> None:
    display = SkyView(Nowhere())
    display.messages = "1"
    display.failed = {"IAS", "HEAD"}
    found = decoded(Decoder(clock), b"".join(display.frames(Aircraft(), 0.0)))
    assert {key for key, u in found.items() if u.flags} == {"IAS", "HEAD"}


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def db() -> Database:
    return packaged_database()


@pytest.mark.parametrize(
    ("option", "key", "problem"),
    [
        ("inputs", "H2OT1", None),
        ("inputs", "H2OT", "H2OT1"),
        ("inputs", "IAS", "knots"),
        ("thermocouples", "EGT13", None),
        ("thermocouples", "EGT", "no item"),
    ],
)
def test_items_are_checked(db: Database, option: str, key: str, problem: str | None) -> None:
    options = msgspec.convert({"port": "/dev/ttyUSB0", option: {12: key}}, SkyviewOptions)
    found = list(Plugin.check(options, db))
    assert [at for at, _ in found] == ([f"{option}.12"] if problem else [])
    assert all(problem is not None and problem in message for _, message in found)


# -- the contract that all drivers pass --------------------------------------------------------------------------------


class TestContract(Contract):
    subject = SerialBench.of(
        "fixgw.drivers.skyview",
        SkyView,
        "PITCH ROLL HEAD IAS TAS ALT PALT DALT ROT VS ALAT ANORM OAT COURSE CDI GSI TIMEZ TACH1 OILP1 OILT1 MAP1 FUELF1"
        " FUELP1 FUELQ1 FUELQ2 VOLT CURRNT HOBBS1 CHT11 CHT14 EGT11 EGT14 H2OT1",
        options={"inputs": {12: "H2OT1"}},
        within={"HEAD": 0.5, "VS": 5.0, "OAT": 0.5, "GSI": 0.011, "ANORM": 0.05},
        absurd={"PITCH": 95.0, "ROLL": 190.0, "OILT1": 500.0},
        unknown=("IAS", "OILP1", "EGT11"),
        repeats=True,
    )


class TestContractOverTcp(Contract):
    subject = replace(TestContract.subject, bench=TcpBench)


class TestContractOverUdp(Contract):
    subject = replace(TestContract.subject, bench=UdpBench)
