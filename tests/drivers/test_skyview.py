"""Dynon SkyView: the messages in its guide, damaged data, and the virtual display at the other end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.database import FAIL, Database
from fixgw.drivers.dynon import CLOCK_STOPPED, UNKNOWN
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
        "ALT": 1762.6,  # 29.95 inHg: 0.03 more than standard, at about 900 ft an inch
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
    assert not any(update.flags for update in Decoder(Clock()).feed(ENGINE + b"\r\n"))
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
    reason = "the display sends '+0000G', but the key is in degC"
    assert found["CAT"] == Update("CAT", None, FAIL, reason)
    assert [u.key for u in Decoder(clock, inputs=inputs).feed(ENGINE + b"\r\n")].count("FUELP1") == 1


@pytest.mark.parametrize(
    ("unit", "text", "value"),
    [
        ("degC", b"-0928C", -92.8),
        ("psi", b"+0164P", 16.4),
        ("gal", b"+0263G", 26.3),
        ("%", b"-0012T", -12.0),
        ("deg", b"+0012T", 12.0),
    ],
)
@pytest.mark.parametrize(("number", "at"), [(1, 124), (2, 130), (13, 196)])
def test_each_unit_of_a_general_purpose_input(
    clock: Clock, unit: str, text: bytes, value: float, number: int, at: int
) -> None:
    decoder = Decoder(clock, inputs={number: ("INPUT", unit)})
    assert decoded(decoder, resent(ENGINE, at, text))["INPUT"] == Update("INPUT", value)


@pytest.mark.parametrize("text", [b"ZZZZZZ", b"+XXXXC", b"XXXXXX", b"00928C", b"+092CC"])
def test_a_missing_input_fails(clock: Clock, text: bytes) -> None:
    decoder = Decoder(clock, inputs={12: ("H2OT1", "degC")})
    assert decoded(decoder, resent(ENGINE, 190, text))["H2OT1"] == Update("H2OT1", None, FAIL, UNKNOWN)


def test_each_of_the_thermocouples_can_be_read(clock: Clock) -> None:
    for number in range(1, 15):
        decoder = Decoder(clock, thermocouples={number: "CAT"})
        at = 68 + 4 * (number - 1)
        assert values(decoder, resent(ENGINE, at, b"+123"))["CAT"] == 123.0
        assert decoded(decoder, resent(ENGINE, at, b"XXXX"))["CAT"] == Update("CAT", None, FAIL, UNKNOWN)


def test_the_engine_speed_is_right_with_one_magneto_off(decoder: Decoder) -> None:
    assert values(decoder, resent(ENGINE, 19, b"00002340"))["TACH1"] == 2340
    assert values(decoder, resent(ENGINE, 19, b"2350XXXX"))["TACH1"] == 2350
    assert values(decoder, resent(ENGINE, 19, b"23502340"))["TACH1"] == 2350
    assert values(decoder, resent(ENGINE, 19, b"00000000"))["TACH1"] == 0, "it stands"
    assert decoded(decoder, resent(ENGINE, 19, b"XXXXXXXX"))["TACH1"] == Update("TACH1", None, FAIL, UNKNOWN)
    assert decoder.counts["absurd values"] == 0
    first = decoded(decoder, resent(ENGINE, 19, b"XXXX2 50"))["TACH1"]
    assert first == Update("TACH1", None, FAIL, UNKNOWN), "the first says why"


def test_returned_fuel_is_not_counted_as_burnt(clock: Clock) -> None:
    decoder = Decoder(clock, return_flow=True)
    assert values(decoder, resent(ENGINE, 30, b"310204"))["FUELF1"] == 10.6
    assert values(decoder, resent(ENGINE, 30, b"310310"))["FUELF1"] == 0.0
    assert values(decoder, resent(ENGINE, 30, b"310312"))["FUELF1"] == 0.0, "sensors are not that exact"
    unknown = Update("FUELF1", None, FAIL, UNKNOWN)
    for text in (b"310XXX", b"XXX204", b"XXXXXX"):
        assert decoded(decoder, resent(ENGINE, 30, text))["FUELF1"] == unknown
    assert values(Decoder(clock), resent(ENGINE, 30, b"310XXX"))["FUELF1"] == 31.0
    assert decoded(Decoder(clock), resent(ENGINE, 30, b"XXX204"))["FUELF1"] == unknown


@pytest.mark.parametrize(
    ("at", "text", "key"), [(28, b"XXXXXX", "PALT"), (57, b"XXX", "BARO"), (28, b"ZZZZZZ", "PALT")]
)
def test_values_that_the_display_does_not_know_fail(decoder: Decoder, at: int, text: bytes, key: str) -> None:
    found = decoded(decoder, resent(ADAHRS, at, text))
    assert {u for u in found.values() if u.flags} == {Update(k, None, FAIL, UNKNOWN) for k in (key, "ALT")}
    assert decoder.counts["absurd values"] == 0


@pytest.mark.parametrize("text", [b"361", b"3 1", b"-01"])
def test_impossible_values_are_failed_and_counted(decoder: Decoder, text: bytes) -> None:
    found = decoded(decoder, resent(ADAHRS, 21, text))
    reason = f"the display sends {text.decode()!r}, which is impossible"
    assert found["HEAD"] == Update("HEAD", None, FAIL, reason)
    assert decoder.counts["absurd values"] == 1


def test_a_zero_has_no_sign(decoder: Decoder) -> None:
    assert str(values(decoder, resent(ADAHRS, 16, b"-0000"))["ROLL"]) == "0.0"
    assert str(values(decoder, resent(ADAHRS, 38, b"+00"))["ALAT"]) == "0.0"


def test_percentages_become_an_angle_of_attack_if_the_stall_angle_is_known(clock: Clock) -> None:
    assert values(Decoder(clock, stall_angle=15.0), ADAHRS + b"\r\n")["AOA"] == pytest.approx(1.95)  # 13 %
    assert "AOA" not in decoded(Decoder(clock), ADAHRS + b"\r\n")


def test_there_is_no_time_without_a_gps(decoder: Decoder) -> None:
    found = decoded(decoder, resent(ADAHRS, 4, b"--------"))
    assert {found[key] for key in TIME} == {
        Update(key, None, FAIL, "the display has no GPS time yet") for key in ("TIMEZ", "TIMEZH", "TIMEZM", "TIMEZS")
    }
    assert found["PITCH"].value == -1.4


@pytest.mark.parametrize("time", [b"24000000", b"23600000", b"23596000", b"2359595X"])
def test_a_time_that_is_none_fails(decoder: Decoder, time: bytes) -> None:
    assert decoded(decoder, resent(ADAHRS, 4, time))["TIMEZ"].flags == FAIL


def test_the_time_is_told_once_a_second(decoder: Decoder) -> None:
    def times(time: bytes) -> list[object]:
        return [u.value for u in decoder.feed(resent(ADAHRS, 4, time)) if u.key in TIME]

    assert times(b"23595900") == ["23:59:59", 23, 59, 59]
    assert times(b"23595915") == []
    assert times(b"00000000") == ["00:00:00", 0, 0, 0]
    assert times(b"--------") == [None] * 4
    assert times(b"00000015") == ["00:00:00", 0, 0, 0], "it has failed since"


def test_a_display_without_a_gps_is_trusted_although_its_time_stands_still(clock: Clock, decoder: Decoder) -> None:
    for _ in range(10):
        assert values(decoder, resent(ADAHRS, 4, b"--------"))["PITCH"] == -1.4
        clock.now += 1.0
    assert decoder.trouble == ""


def test_a_hung_display_is_not_trusted(clock: Clock) -> None:
    decoder = Decoder(clock, inputs={12: ("H2OT1", "degC")})
    said = values(decoder, ALL)
    clock.now += 5.0
    assert {u.key for u in decoder.feed(ALL) if not u.flags} == said.keys() - {*TIME}
    clock.now += 0.1
    failed = decoder.feed(ALL)
    assert {(u.value, u.flags, u.reason) for u in failed} == {(None, FAIL, CLOCK_STOPPED)}
    assert {u.key for u in failed} >= said.keys() | {"COURSE", "CDI", "GSI"}
    assert {u.key for u in decoder.feed(ENGINE + b"\r\n")} >= {"TACH1", "FUELF1", "H2OT1", "CHT11"}
    for raw in (ADAHRS, SYSTEM, ENGINE):
        assert decoder.trouble == CLOCK_STOPPED
        assert values(decoder, resent(raw, 4, b"21145200")) or raw is SYSTEM
    assert decoder.trouble == ""


def test_a_display_that_hangs_on_one_message_fails_the_values_of_the_others(clock: Clock, decoder: Decoder) -> None:
    said = values(decoder, ALL)
    decoder.feed(ADAHRS + b"\r\n")
    clock.now += 5.1
    failed = decoded(decoder, ADAHRS + b"\r\n")
    assert said.keys() <= failed.keys()
    assert {u.flags for u in failed.values()} == {FAIL}
    assert "COURSE" not in failed, "it never had a value"
    again = decoder.feed(ADAHRS + b"\r\n")
    assert not {"HOBBS1", "TACH1"} & {u.key for u in again}, "once is enough"
    assert {u.reason for u in again} == {CLOCK_STOPPED}


def test_messages_of_a_version_with_another_layout_are_refused(decoder: Decoder) -> None:
    assert decoder.feed(b"!2118132412302+00101590+0500020050+16XXX30L00U02R000001110E6\r\n") == []
    assert decoder.counts["ignored"] + decoder.counts["bad checksum"] == 1
    assert decoder.trouble.startswith("!21 messages")
    longer = SYSTEM[:2] + b"3" + SYSTEM[3:-2] + b"0"
    assert decoder.feed(longer + b"%02X\r\n" % (sum(longer) % 256)) == []
    assert decoder.trouble == "!23 messages have an unknown version; is the SkyView software older than 5.1?"
    decoder.feed(ADAHRS + b"\r\n")
    decoder._clock.now += 5.1  # type: ignore[attr-defined]
    decoder.feed(ADAHRS + b"\r\n")
    assert decoder.trouble == CLOCK_STOPPED, "that is worse"


def test_messages_of_another_type_are_ignored(decoder: Decoder) -> None:
    for length, reason in ((223, "ignored"), (224, "wrong length")):
        body = b"!41".ljust(length - 2, b"x")
        assert decoder.feed(body + b"%02X\r\n" % (sum(body) % 256)) == []
        assert decoder.counts[reason] == 1
    assert decoder.trouble == ""


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
    assert decoder.refused == ""
    assert decoder.feed(wrong + b"%02X\r\n" % (sum(wrong) % 256)) == []
    assert decoder.counts["wrong length"] == decoder.counts["received"] == 1
    assert decoder.refused == f"wrong length: {wrong + b'%02X' % (sum(wrong) % 256)!r}"


def test_what_lies_between_messages_is_no_message(decoder: Decoder) -> None:
    decoder.feed(b"noise\r\n" + ADAHRS[:-2] + ADAHRS[-2:].lower() + b"\n\n\rnoise" + SYSTEM + b"\r" + ENGINE + b"\n")
    assert (decoder.counts["used"], decoder.counts["received"]) == (3, 3)


def test_an_endless_message_is_refused_and_not_kept(decoder: Decoder) -> None:
    decoder.feed(b"!" + b"1" * 1000)
    assert len(decoder._buffer) <= len(ENGINE) + 1
    assert len(decoder.feed(b"1\r\n" + ADAHRS + b"\r\n")) == 18
    assert (decoder.counts["wrong length"], decoder.counts["received"]) == (1, 2)
    decoder.feed(ENGINE + b"x")
    assert decoder.feed(b"\r\n") == []
    assert decoder.counts["wrong length"] == 2


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


@pytest.mark.parametrize(("option", "most"), [("thermocouples", 14), ("inputs", 13)])
def test_inputs_that_do_not_exist_cannot_be_named(clock: Clock, option: str, most: int) -> None:
    for number in (1, most):
        options = msgspec.convert({"port": "x", option: {number: "H2OT1"}}, SkyviewOptions)
        decoder = Decoder(
            clock,
            thermocouples=options.thermocouples,
            inputs={n: (key, "degC") for n, key in options.inputs.items()},
        )
        assert "H2OT1" in decoded(decoder, ENGINE + b"\r\n")
    for number in (0, most + 1):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"port": "x", option: {number: "H2OT1"}}, SkyviewOptions)


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
