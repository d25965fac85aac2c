"""Navigators on NMEA 0183: RMB, APB, XTE and BOD, their signs and references, and lost guidance."""

from __future__ import annotations

import math
from functools import reduce
from operator import xor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.database import BAD, FAIL
from fixgw.drivers.nmea import GUIDANCE_KEYS, KEYS, Receiver
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.bench.wired import SerialBench
from fixgw.hw_sim.devices.nmea0183 import Navigator
from fixgw.kit.update import Update

RMC = "GPRMC,123519,A,4807.038,N,01131.324,E,022.4,084.4,230394,003.1,W"  # variation 3.1 degrees west
RMC_VOID = "GPRMC,123520,V,,,,,,,230394,,"


class Panel:
    """Sentences in, the last update of each key out."""

    def __init__(self, full_scale: float = 1.0) -> None:
        self.receiver = Receiver(lambda: 0.0, None, full_scale)
        self.updates: dict[str, Update] = {}

    def hear(self, *bodies: str) -> set[str]:
        """The keys that the sentences changed."""
        changed = {}
        for body in bodies:
            checksum = reduce(xor, body.encode(), 0)
            changed.update({u.key: u for u in self.receiver.feed(f"${body}*{checksum:02X}\r\n".encode())})
        self.updates.update(changed)
        return set(changed)

    def value(self, key: str) -> Any:
        assert not self.updates[key].flags, self.updates[key]
        return self.updates[key].value


@pytest.fixture
def panel() -> Panel:
    return Panel()


def golden() -> list[str]:
    text = (Path(__file__).parents[1] / "data" / "nmea0183_navigators.txt").read_text()
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_the_sentence_in_the_manual_is_understood() -> None:
    panel = Panel()
    (skymap,) = golden()
    for update in panel.receiver.feed(skymap.encode() + b"\r\n"):
        panel.updates[update.key] = update
    assert panel.receiver.counts["used"] == 1
    assert panel.value("WPNAME") == "2"
    assert panel.value("WPLAT") == pytest.approx(51 + 42.20 / 60)
    assert panel.value("WPLON") == pytest.approx(-(2 + 17.10 / 60))
    assert panel.value("XTRACK") == panel.value("CDI") == 0.0
    assert math.copysign(1.0, panel.value("CDI")) == 1.0


@pytest.mark.parametrize(
    "body",
    [
        "GPRMB,A,0.40,L,ORIG,DEST,4917.24,N,12309.57,W,001.3,052.5,000.5,V",
        "GPAPB,A,A,0.40,L,N,V,V,011,M,DEST,011,M,011,M",
        "GPXTE,A,A,0.40,L,N",
    ],
)
def test_steer_left_means_right_of_the_track(panel: Panel, body: str) -> None:
    panel.hear(body)
    assert panel.value("XTRACK") == 0.40
    assert panel.value("CDI") == -0.40
    panel.hear(body.replace(",L,", ",R,"))
    assert panel.value("XTRACK") == -0.40
    assert panel.value("CDI") == 0.40


def test_cdi_is_a_fraction_of_full_scale_and_is_clamped() -> None:
    panel = Panel(full_scale=0.3)
    panel.hear("GPXTE,A,A,0.15,R,N")
    assert panel.value("CDI") == pytest.approx(0.5)
    panel.hear("GPXTE,A,A,4.00,R,N")
    assert panel.value("CDI") == 1.0
    assert panel.value("XTRACK") == -4.0


def test_a_cross_track_error_at_the_limit_is_suspect_but_the_needle_is_not(panel: Panel) -> None:
    panel.hear("GPXTE,A,A,9.99,L,N")
    assert panel.value("CDI") == -1.0
    assert panel.updates["XTRACK"] == Update("XTRACK", 9.99, BAD, "the navigator shows at most 9.99 nmi")
    panel.hear("GPXTE,A,A,100.0,R,N")
    assert (panel.updates["XTRACK"].value, panel.value("CDI")) == (-100.0, 1.0)
    panel.hear("GPXTE,A,A,9.98,R,N")
    assert panel.value("XTRACK") == -9.98
    panel.hear("GPXTE,A,A,9.99,L,N,E")
    assert "dead reckoning" in panel.updates["XTRACK"].reason, "that comes first"


def test_course_and_bearing_are_magnetic(panel: Panel) -> None:
    panel.hear("GPAPB,A,A,0.10,R,N,V,V,011.4,M,DEST,012.6,M,013,M,A")
    assert panel.value("COURSE") == 11.4
    assert panel.value("WPHEAD") == "013"
    assert panel.value("WPNAME") == "DEST"


def test_true_directions_wait_for_the_variation(panel: Panel) -> None:
    apb = "GPAPB,A,A,0.10,R,N,V,V,359.0,T,DEST,357.0,T,357,T"
    assert {"COURSE", "WPHEAD"} & panel.hear(apb) == set()
    panel.hear(RMC, apb)
    assert panel.value("COURSE") == pytest.approx(2.1)  # 359.0 + 3.1 west
    assert panel.value("WPHEAD") == "000"  # 357.0 + 3.1


def test_bod_gives_the_course_with_the_reference_of_its_sender(panel: Panel) -> None:
    panel.hear("GPBOD,099.3,T,105.6,M,POINTB,")
    assert panel.value("COURSE") == 105.6
    assert panel.value("WPNAME") == "POINTB"
    panel.hear(RMC, "GPBOD,099.3,T,,M,POINTB,")
    assert panel.value("COURSE") == pytest.approx(102.4)


@pytest.mark.parametrize(
    "void",
    [
        "GPRMB,V,0.66,L,,DEST,4917.24,N,12309.57,W,001.3,052.5,000.5,V",
        "GPRMB,A,0.66,L,,DEST,4917.24,N,12309.57,W,001.3,052.5,000.5,V,N",
        "GPRMB,A,0.66,L,,DEST,4917.24,N,12309.57,W,001.3,052.5,000.5,V,S",
        "GPAPB,V,A,0.10,R,N,V,V,011,M,DEST,011,M,011,M",
        "GPAPB,A,V,0.10,R,N,V,V,011,M,DEST,011,M,011,M",
        "GPXTE,V,V,,,N",
        "GPXTE,,,0.1,L,N",
    ],
)
def test_lost_guidance_fails_all_its_keys_at_once(panel: Panel, void: str) -> None:
    panel.hear(RMC, "GPRMB,A,0.4,L,,DEST,4917.24,N,12309.57,W,001.3,052.5,000.5,V", "GPBOD,,T,105.6,M,DEST,")
    panel.hear(void)
    for key in GUIDANCE_KEYS:
        assert panel.updates[key].value is None
        assert panel.updates[key].flags == FAIL
        assert panel.updates[key].reason
    assert panel.hear("GPBOD,,T,105.6,M,DEST,") == set()
    assert not panel.updates["LAT"].flags


def test_a_gps_without_a_flight_plan_leaves_a_selected_course_alone(panel: Panel) -> None:
    assert "COURSE" not in panel.hear("GPRMB,V,,,,,,,,,,,,V,N")


def test_dead_reckoning_makes_guidance_suspect(panel: Panel) -> None:
    panel.hear("GPXTE,A,A,0.10,R,N,E")
    assert panel.updates["CDI"].flags == panel.updates["XTRACK"].flags == BAD


@pytest.mark.parametrize("fields", ["abc,R,N", "0.1,X,N", "0.1,,N", ",R,N", "100.1,R,N", "0.1,R,K", "-0.1,R,N"])
def test_an_unreadable_cross_track_error_fails(panel: Panel, fields: str) -> None:
    panel.hear("GPXTE,A,A,0.10,R,N", f"GPXTE,A,A,{fields}")
    for key in ("CDI", "XTRACK"):
        assert panel.updates[key] == Update(key, None, FAIL, "the navigator's cross-track error is missing or absurd")


def test_a_zero_has_no_sign(panel: Panel) -> None:
    for side in ("L", "R", ""):
        panel.hear(f"GPXTE,A,A,0.00,{side},")
        assert str(panel.value("CDI")) == "0.0"


@pytest.mark.parametrize(("degrees", "shown"), [("0.4", "000"), ("359.4", "359"), ("359.6", "000"), ("360.0", "000")])
def test_a_bearing_has_three_digits(panel: Panel, degrees: str, shown: str) -> None:
    panel.hear(f"GPAPB,A,A,0.10,R,N,V,V,360.0,M,DEST,{degrees},M,013,M,A")
    assert panel.value("WPHEAD") == shown
    assert panel.value("COURSE") == 0.0


def test_a_direction_without_a_reference_or_beyond_a_circle_is_not_taken(panel: Panel) -> None:
    for course in ("011,,DEST", "011,K,DEST", "361,M,DEST", ",M,DEST"):
        assert "COURSE" not in panel.hear(f"GPAPB,A,A,0.10,R,N,V,V,{course},013,M,013,M,A")
    assert "WPNAME" not in panel.hear("GPAPB,A,A,0.10,R,N,V,V,011.4,M, ,012.6,M,013,M,A")
    assert "WPNAME" not in panel.hear("GPBOD,099.3,T,105.6,M, ,")


def test_guidance_is_no_better_than_the_fix_of_the_same_receiver(panel: Panel) -> None:
    estimated = "GPRMC,123519,A,4807.038,N,01131.324,E,022.4,084.4,230394,003.1,W,E"
    panel.hear(estimated, "GPRMB,A,0.4,L,,DEST,4917.24,N,12309.57,W,001.3,052.5,000.5,V", "GPBOD,,T,105.6,M,DEST,")
    for key in ("XTRACK", "CDI", "WPNAME", "WPLAT", "WPLON", "WPHEAD", "COURSE"):
        assert panel.updates[key].value is not None
        assert (panel.updates[key].flags, panel.updates[key].reason) == (BAD, panel.updates["LAT"].reason)


def test_why_there_is_no_guidance(panel: Panel) -> None:
    panel.hear(RMC, "GPXTE,A,A,0.10,R,N")
    for body, reason in (
        ("GPXTE,V,A,0.10,R,N", "the navigator gives no guidance: no waypoint, or no fix"),
        ("GPXTE,A,A,0.10,R,N,N", "the navigator gives no guidance: no waypoint, or no fix"),
        ("GPXTE,A,A,0.10,R,N,S", "the receiver is in simulator mode"),
        ("GPXTE,A,A,0.10,R,N,M", "the receiver's position was entered by hand"),
    ):
        panel.hear(body)
        assert panel.updates["XTRACK"] == Update("XTRACK", None, FAIL, reason)


def test_a_waypoint_without_a_position_fails_its_position(panel: Panel) -> None:
    for place in ("9917.24,N,12309.57,W", "4917.24,N,18109.57,W", ",,12309.57,W", "4917.24,N,,", "0000.0,N,00000.0,E"):
        panel.hear(f"GPRMB,A,0.4,L,,DEST,{place},001.3,052.5,000.5,V")
        for key in ("WPLAT", "WPLON"):
            assert panel.updates[key] == Update(key, None, FAIL, "the waypoint's position is missing or absurd")
    panel.hear("GPRMB,A,0.4,L,,DEST,0000.0,N,12309.57,W,001.3,052.5,000.5,V")
    assert panel.value("WPLAT") == 0.0
    assert panel.value("WPNAME") == "DEST"


def test_a_navigator_without_a_position_is_healthy_while_it_guides(panel: Panel) -> None:
    assert panel.receiver.trouble
    panel.hear("GPAPB,A,A,0.10,R,N,V,V,011,M,DEST,011,M,011,M")
    assert panel.receiver.trouble == ""
    panel.hear(RMC_VOID)
    assert panel.receiver.trouble == "no fix"


FIELD = st.sampled_from(["", "A", "V", "N", "L", "R", "T", "M", "W", "DEST", "4807.038", "01131.3", "0.5", "-1", "1e9"])


@given(st.sampled_from(["RMB", "APB", "XTE", "BOD", "RMC"]), st.lists(FIELD, max_size=16))
def test_only_known_keys_are_written_for_any_fields(kind: str, fields: list[str]) -> None:
    panel = Panel()
    assert panel.hear(RMC, f"GP{kind},{','.join(fields)}") <= KEYS
    assert panel.receiver.counts["used"] == 2


# -- with the virtual navigator ----------------------------------------------------------------------------------------


class Wire:
    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.updates: dict[str, Update] = {}

    def write(self, data: bytes) -> None:
        self.updates.update({u.key: u for u in self.receiver.feed(data)})

    def close(self) -> None:
        pass


def flown(navigator: Navigator, seconds: float = 2.0) -> Aircraft:
    aircraft = Aircraft()
    aircraft.step(120.0)
    for i in range(round(seconds * 40)):
        navigator.tick(aircraft, i * 0.025)
        aircraft.step(0.025)
    return aircraft


def test_the_virtual_navigator_flies_the_leg_of_the_aircraft() -> None:
    wire = Wire(Receiver(lambda: 0.0))
    truth = flown(Navigator(wire)).values()
    for key, within in {"XTRACK": 0.02, "CDI": 0.02, "COURSE": 0.1, "WPLAT": 1e-6, "WPLON": 1e-6}.items():
        assert wire.updates[key].flags == 0
        assert wire.updates[key].value == pytest.approx(truth[key], abs=within), key
    assert wire.updates["WPNAME"].value == truth["WPNAME"]
    assert int(str(wire.updates["WPHEAD"].value)) == pytest.approx(int(str(truth["WPHEAD"])), abs=1)


def test_the_virtual_navigator_stops_guiding_without_a_plan_or_a_fix() -> None:
    for attribute in ("guiding", "fix"):
        wire = Wire(Receiver(lambda: 0.0))
        navigator = Navigator(wire)
        setattr(navigator, attribute, False)
        flown(navigator)
        assert wire.updates["CDI"].flags == FAIL
        assert wire.updates["LAT"].flags == (FAIL if attribute == "fix" else 0)


# -- the contract that all drivers pass --------------------------------------------------------------------------------


class TestContract(Contract):
    subject = SerialBench.of(
        "fixgw.drivers.nmea0183",
        Navigator,
        "LAT LONG XTRACK CDI COURSE WPLAT WPLON WPNAME WPHEAD",
        within={"XTRACK": 0.011, "CDI": 0.011},
        absurd={"GS": 5000.0},
        repeats=True,
    )
