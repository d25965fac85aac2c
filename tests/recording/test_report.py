"""The report: a flight with known times, fuel, greatest values and limits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from fixgw import cli
from fixgw.cli import reading
from fixgw.cli.report import names_a_flight
from fixgw.kit.update import FAIL
from fixgw.recording import Alert
from fixgw.recording.report import Report, as_json, report
from fixgw.recording.sampling import Span, span_of
from tests.recording.flights import START, InMemory, recording

UNITS = {"IAS": "knots", "GS": "knots", "TACH1": "rpm", "FUELF1": "gal/hr", "CHT11": "degC", "ALT": "ft"}


class Phase(NamedTuple):
    """What lasts from the end of the one before until `until`, in seconds: speeds in knots, and so on."""

    until: int
    rpm: int
    gs: float = 0.0
    ias: float = 0.0
    vs: float = 0.0
    flow: float = 0.0


FLIGHT = (
    Phase(10, 0),
    Phase(60, 900, flow=2.0),  # the engine starts at 10
    Phase(120, 1200, gs=10.0, flow=3.6),  # off block at 60
    Phase(400, 2600, gs=90.0, ias=90.0, vs=500.0, flow=12.0),  # rolls at 120
    Phase(600, 2200, gs=50.0, ias=50.0, vs=-400.0, flow=7.2),
    Phase(660, 1000, gs=12.0, flow=2.0),  # slow from 600
    Phase(700, 900, flow=2.0),  # on block at 660
    Phase(720, 0),  # the engine stops at 700
)
BURNT = (50 * 2.0 + 60 * 3.6 + 280 * 12.0 + 200 * 7.2 + 100 * 2.0) / 3600


def changes(phases: tuple[Phase, ...] = FLIGHT) -> Iterator[tuple[Any, ...]]:
    for t in range(phases[-1].until):
        now = next(p for p in phases if t < p.until)
        values = {"TACH1": now.rpm, "GS": now.gs, "IAS": now.ias, "VS": now.vs, "FUELF1": now.flow, "ALT": 500.0 + t}
        yield from ((t, k, v) for k, v in values.items())


class WithAux(InMemory):
    """A recording with aux values."""

    aux: tuple[tuple[float, dict[str, Any]], ...] = ()

    def messages(self, topic: str, until: float) -> Iterator[Any]:
        class Message(NamedTuple):
            time: float
            data: bytes

        assert topic == "/aux"
        yield from (Message(START + t, json.dumps(found).encode()) for t, found in self.aux if START + t <= until)


def found(flight: InMemory, span: Span | None = None) -> Report:
    return report(flight, span or span_of(flight))


def seconds(*times: float | None) -> list[float | None]:
    return [None if t is None else round(t - START, 1) for t in times]


def test_times_of_a_flight() -> None:
    seen = found(recording(changes(), units=UNITS))
    assert seconds(seen.engine_start, seen.engine_stop) == pytest.approx([11, 705], abs=1.1)  # as the phases say
    assert seconds(seen.block_off, seen.block_on) == pytest.approx([60, 660], abs=0.3)
    assert seconds(*seen.takeoffs) == pytest.approx([121], abs=0.3)
    assert seconds(*seen.landings) == pytest.approx([600], abs=0.3)
    assert seen.flight_s == pytest.approx(479, abs=0.5)
    assert seen.block_s == pytest.approx(600, abs=0.5)
    assert not seen.began_in_flight
    assert not seen.ended_in_flight


def test_fuel_by_the_flow_the_totalizer_or_the_quantity() -> None:
    seen = found(recording(changes(), units=UNITS))
    assert seen.fuel_used == pytest.approx(BURNT, rel=0.01)
    assert (seen.fuel_unit, seen.fuel_source) == ("gal", "fuel flow")
    half = [c for c in changes() if c[1] != "FUELF1" or c[0] < 300]
    half += [(300, "FUELF1", None, FAIL)]
    half += [(t, "FUELUSED", 10.0 + t / 100 - (2.0 if t > 500 else 0.0)) for t in range(100, 700, 100)]
    seen = found(recording(sorted(half, key=lambda c: c[0]), units={**UNITS, "FUELUSED": "l"}))
    assert seen.fuel_used == pytest.approx(4.0)
    assert (seen.fuel_unit, seen.fuel_source) == ("l", "totalizer")
    tank = [c for c in changes() if c[1] != "FUELF1"] + [(719, "FUELQT", 30.0), (720, "IAS", 0.0)]
    seen = found(recording([(0, "FUELQT", 40.0), *tank]))
    assert (seen.fuel_used, seen.fuel_source) == (10.0, "fuel quantity")
    assert found(recording([(0, "IAS", 1.0), (1, "IAS", 1.0)])).fuel_used is None


def test_a_recording_that_begins_and_ends_in_flight() -> None:
    seen = found(recording([c for c in changes() if 200 <= c[0] < 500], units=UNITS))
    assert seen.began_in_flight
    assert seen.ended_in_flight
    assert (seen.takeoffs, seen.landings, seen.block_off, seen.block_on) == ([], [], None, None)
    assert (seen.engine_start, seen.engine_stop) == (None, None)
    assert seen.flight_s == pytest.approx(299, abs=1)


def test_a_rejected_take_off_is_none_and_a_touch_and_go_is_one() -> None:
    rejected = (Phase(10, 900), Phase(20, 2600, gs=50, ias=50), Phase(60, 900, gs=10), Phase(70, 900))
    seen = found(recording(changes(rejected)))
    assert seen.takeoffs == seen.landings == []
    assert seen.flight_s == 0.0
    air, roll = Phase(0, 2600, gs=90, ias=90), Phase(0, 2600, gs=30, ias=30)
    twice = (Phase(10, 900), air._replace(until=100), roll._replace(until=110), air._replace(until=200))
    seen = found(recording(changes((*twice, Phase(260, 900)))))
    assert (len(seen.takeoffs), len(seen.landings)) == (2, 2)


def test_without_a_speed_over_the_ground_the_block_is_the_engine() -> None:
    seen = found(recording([c for c in changes() if c[1] != "GS"], units=UNITS))
    assert (seen.block_off, seen.block_on) == (seen.engine_start, seen.engine_stop)
    assert seen.block_off is not None


def test_an_hour_without_a_recording_is_not_flown() -> None:
    later = [(t + (3600 if t >= 300 else 0), *rest) for t, *rest in changes()]
    seen = found(recording(later, units=UNITS))
    assert seen.fuel_used == pytest.approx(BURNT, rel=0.05)


def test_greatest_and_least_values_with_their_instants() -> None:
    more = [(300.5, "CHT11", 210.0), (300.6, "CHT11", 400.0, FAIL), (350, "CHT11", 210.0), (640, "VOLT", 11.0)]
    more += [(300, "VOLT", 13.9), (310, "VOLT", 13.7), (320, "NOTES", "x")]
    seen = found(recording(sorted([*changes(), *more], key=lambda c: c[0]), units=UNITS))
    extremes = {(e.key, e.kind): (e.value, e.unit, round(e.time - START, 1)) for e in seen.extremes}
    assert extremes["CHT11", "greatest"] == (210.0, "degC", 300.5)
    assert extremes["VOLT", "least in flight"] == (13.7, "", 310.0)
    assert extremes["IAS", "greatest"] == (90.0, "knots", 120.0)
    assert ("NOTES", "greatest") not in extremes
    assert [e.key for e in seen.extremes][:3] == ["IAS", "GS", "ALT"]


def test_alerts_that_were_active() -> None:
    states = [
        (100, "oil", "pending", "caution"),
        (101, "oil", "active", "caution"),
        (105, "oil", "active", "warning"),
        (106, "oil", "acknowledged", "warning"),
        (120, "oil", "latched", "warning"),
        (130, "oil", "normal", "warning"),
        (200, "volts", "active", "caution"),
    ]
    alerts = [Alert(START + t, name, state, level, name.upper()) for t, name, state, level in states]
    seen = found(recording(changes(), alerts))
    told = [(e.what, e.level, *seconds(e.since, e.until)) for e in seen.excesses]
    assert told == [("OIL", "warning", 101.0, 120.0), ("VOLTS", "caution", 200.0, None)]
    part = found(recording(changes(), alerts), Span(START + 110, START + 150))
    assert [(e.what, *seconds(e.since, e.until)) for e in part.excesses] == [("OIL", 110.0, 120.0)]


def test_values_beyond_recorded_limits() -> None:
    oil = [(5, 0.0), (50, 60.0), (200, 20.0), (201, 18.0), (202, 60.0), (204, 19.0), (206, 60.0), (400, 20.0)]
    more = [(t, "OILP1", v) for t, v in oil] + [(410, "OILP1", 20.0, FAIL)]
    flight = recording(sorted([*changes(), *more], key=lambda c: c[0]), units=UNITS)
    with_aux = WithAux(flight.about, flight.everything)
    with_aux.aux = ((0, {"OILP1.lowAlarm": 25.0, "OILP1.Min": 0.0, "IAS.Vne": 89.0}), (600, {"IAS.Vne": None}))
    told = [(e.what, e.level, *seconds(e.since, e.until), e.limit, e.worst) for e in found(with_aux).excesses]
    assert told == [
        ("IAS Vne", "warning", 120.0, 400.0, 89.0, 90.0),
        ("OILP1 lowAlarm", "warning", 200.0, 206.0, 25.0, 18.0),
        ("OILP1 lowAlarm", "warning", 400.0, 410.0, 25.0, 20.0),
    ]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(flight: InMemory, *words: str) -> str:
        monkeypatch.setattr(reading, "open_recording", lambda _: flight)
        assert cli.main(["report", "x.mcap", *words]) == 0
        return capsys.readouterr().out

    return run


def test_the_command_prints_text_or_json(command: Callable[..., str]) -> None:
    alerts = [Alert(START + 200, "oil", "active", "warning", "OIL \x1b[31mLOW")]
    flight = recording(changes(), alerts, units=UNITS, ident="N1", simulated=True)
    text = command(flight)
    for words in ("N1, SIMULATED", "take-off", "14:07:01", "flight time", "0:08", "gal, by the fuel flow", "90 knots"):
        assert words in text
    assert "\\x1b[31mLOW" in text
    read = json.loads(command(flight, "--json"))
    assert read["takeoffs"] == ["2026-05-16T14:07:01Z"]
    assert read["exceedances"][0]["until"] is None
    assert read == as_json(found(flight))


def test_without_a_date_times_count_from_the_beginning(command: Callable[..., str]) -> None:
    flight = recording(((500.0 + c[0], *c[1:]) for c in changes()), units=UNITS, dated=False)
    assert "+2:01" in command(flight)
    assert json.loads(command(flight, "--json"))["takeoffs"] == [pytest.approx(121, abs=0.3)]
    assert "14:07:01" in command(flight, "--start", "2026-05-16T14:05")
    assert "No alerts" in command(flight)


@pytest.mark.parametrize("word", ["20260516-140500-1", "a.mcap", "./IAS", "fdr/2024.json", "first-flight"])
def test_flights_are_told_from_keys(word: str) -> None:
    assert names_a_flight(word)


@pytest.mark.parametrize("word", ["IAS", "IAS.Vne", "EGT*", "CHT1[1-4]", "OILP?"])
def test_keys_are_told_from_flights(word: str) -> None:
    assert not names_a_flight(word)
