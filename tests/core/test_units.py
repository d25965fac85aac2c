"""Units are fixed: drivers write in those of the packaged definition, whatever a definition says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fixgw import configuration
from fixgw.errors import ConfigurationError
from fixgw.kit.units import (
    FEET_PER_METRE,
    INHG_PER_KPA,
    KMH_PER_KNOT,
    KNOTS_PER_KMH,
    KNOTS_PER_MPH,
    KNOTS_PER_MPS,
    LITRES_PER_GALLON,
    PASCALS_PER_INHG,
    QUANTITIES,
    SYNONYMS,
    SYSTEMS,
    ZERO_CELSIUS_K,
    conversion,
    known_unit,
    preferences,
    preferred,
)


def problems(directory: Path, text: str, definition: str = "") -> list[str]:
    configuration._packaged_units.cache_clear()
    (directory / "gateway.yaml").write_text(f"connections: {{}}\n{text}")
    if definition:
        (directory / "database.yaml").write_text(definition)
    try:
        configuration.load(directory / "gateway.yaml")
    except ConfigurationError as error:
        return [str(problem) for problem in error.problems]
    return []


@pytest.mark.parametrize(
    ("key", "units"),
    [
        ("OAT", "degF"),
        ("OAT", "F"),
        ("OAT", "Kelvins"),
        ("IAS", "mph"),
        ("ALT", "m"),
        ("EGT11", "degF"),
        ("IAS", "whit"),
    ],
)
def test_an_overlay_with_another_unit_is_refused_at_its_position(tmp_path: Path, key: str, units: str) -> None:
    found = problems(tmp_path, f"database overlay:\n  - {{key: {key}, units: {units}}}\n")
    assert len(found) == 1
    assert "gateway.yaml:3:" in found[0]
    assert f"drivers write {key} in" in found[0]
    assert "leave `units` out" in found[0]


@pytest.mark.parametrize(
    ("key", "units"),
    [
        ("OAT", "C"),
        ("IAS", "kts"),
        ("ALT", "feet"),
        ("ROT", "Deg/sec"),
        ("XTRACK", "nM"),
        ("TACH1", "RPM"),
        ("VOLT", "v"),
    ],
)
def test_a_synonym_of_the_unit_is_accepted(tmp_path: Path, key: str, units: str) -> None:
    assert problems(tmp_path, f"database overlay:\n  - {{key: {key}, units: {units}}}\n") == []


def test_a_template_is_refused_once_and_a_custom_item_can_have_any_unit(tmp_path: Path) -> None:
    overlay = (
        "database overlay:\n  - {key: EGTec, units: degF}\n  - {key: SMOKE, units: pt}\n  - {key: OAT, min: -80}\n"
    )
    assert len(problems(tmp_path, overlay)) == 1


def test_a_custom_definition_can_reword_units_but_not_change_them(tmp_path: Path) -> None:
    own = "variables: {e: 2, c: 8}\nentries:\n  - {key: OAT, units: degF}\n  - {key: IAS, units: speedy}\n"
    found = problems(tmp_path, "database file: '{CONFIG}/database.yaml'\n", own + "  - {key: EGTec, units: F}\n")
    assert len(found) == 2
    assert "OAT" in found[0]
    assert "EGT11" in found[1]


def test_a_wrong_unit_is_found_behind_all_others(tmp_path: Path) -> None:
    own = "entries:\n  - {key: A}\n  - {key: B, units: 5}\n  - {key: SMOKE, units: pt}\n  - {key: IAS, units: kts}\n"
    own += "  - {key: ALT, units: ft}\n  - {key: TAS, units: speedy}\n  - {key: OAT, units: degF}\n"
    units = [p for p in problems(tmp_path, "database file: '{CONFIG}/database.yaml'\n", own) if "drivers write" in p]
    assert len(units) == 1
    assert "database.yaml:8:23: units: drivers write OAT in degC, and degF would be a wrong label" in units[0]


def test_a_copy_of_the_packaged_definition_is_compared_only_where_it_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "config"
    shutil.copytree(configuration.packaged(), tree)
    with monkeypatch.context() as patch:
        patch.setattr(configuration, "_packaged_units", lambda: pytest.fail("read the packaged definition again"))
        configuration.load(tree / "default.yaml")
    ahrs = tree / "database" / "ahrs.yaml"
    ahrs.write_text(ahrs.read_text().replace("units: knots", "units: mph"))
    with pytest.raises(ConfigurationError) as error:
        configuration.load(tree / "default.yaml")
    assert "drivers write IAS in knots" in str(error.value)


def test_every_name_means_one_unit() -> None:
    for name, others in SYNONYMS.items():
        for other in (name, *others):
            assert known_unit(other.upper()) == name, other


PAIRS = """
°: deg, dps: deg/s, °C: degC, fahrenheit: degF, °C/min: degC/min, °F/min: degF/min, kelvin: K, radians: rad, kts: knots,
mi/h: mph, kmh: km/h, mps: m/s, feet: ft, metres: m, kilometers: km, nm: nmi, miles: mi, fpm: ft/min, in hg: inHg,
mbar: hPa, pascal: Pa, kilopascal: kPa, lb/in2: psi, us  gal: gal, liters: l, lbs: lb, kilograms: kg, gph: gal/hr,
lph: l/h, pph: lb/h, 1/min: rpm, volts: V, amps: A, watts: W, hrs: h, minutes: min, sec: s, gs: g, percent: %,
hertz: Hz, kilohertz: kHz, megahertz: MHz, warning level: level, pulse: pulses, %/100: fraction
"""


def test_what_people_write_is_understood() -> None:
    words = dict(pair.split(": ") for pair in PAIRS.strip().replace(",\n", ", ").split(", "))
    assert {word: known_unit(word) for word in words} == words
    assert set(words.values()) == {name for name, others in SYNONYMS.items() if others}
    assert known_unit("furlongs") is None


@pytest.mark.parametrize(
    ("unit", "wanted", "factor", "summand"),
    [
        ("degC", "degF", 1.8, 32.0),
        ("degC", "K", 1.0, 273.15),
        ("degC/min", "degF/min", 1.8, 0.0),
        ("mph", "km/h", 1.609344, 0.0),
        ("knots", "km/h", 1.852, 0.0),
        ("m/s", "ft/min", 196.8503937, 0.0),
        ("m/s", "km/h", 3.6, 0.0),
        ("ft", "m", 0.3048, 0.0),
        ("km", "m", 1000.0, 0.0),
        ("nmi", "km", 1.852, 0.0),
        ("mi", "ft", 5280.0, 0.0),
        ("inHg", "hPa", 33.86389, 0.0),
        ("bar", "kPa", 100.0, 0.0),
        ("bar", "psi", 14.50377377, 0.0),
        ("hPa", "Pa", 100.0, 0.0),
        ("gal", "l", 3.785411784, 0.0),
        ("gal/hr", "l/h", 3.785411784, 0.0),
        ("lb", "kg", 0.45359237, 0.0),
        ("rad", "deg", 57.29577951, 0.0),
        ("fraction", "%", 100.0, 0.0),
        ("h", "min", 60.0, 0.0),
        ("min", "s", 60.0, 0.0),
        ("MHz", "kHz", 1000.0, 0.0),
        ("kHz", "Hz", 1000.0, 0.0),
    ],
)
def test_conversions_go_both_ways(unit: str, wanted: str, factor: float, summand: float) -> None:
    assert conversion(unit, wanted) == pytest.approx((factor, summand), rel=1e-9)
    assert conversion(wanted, unit) == pytest.approx((1.0 / factor, -summand / factor), rel=1e-9)


def test_constants_are_those_of_the_definitions() -> None:
    assert pytest.approx(3.280839895) == FEET_PER_METRE
    assert (KMH_PER_KNOT, LITRES_PER_GALLON, ZERO_CELSIUS_K) == (1.852, 3.785411784, 273.15)
    assert pytest.approx(1.0) == KMH_PER_KNOT * KNOTS_PER_KMH
    assert pytest.approx(3.6) == KNOTS_PER_MPS * KMH_PER_KNOT
    assert pytest.approx(0.868976242) == KNOTS_PER_MPH
    assert pytest.approx(1000.0, rel=1e-6) == PASCALS_PER_INHG * INHG_PER_KPA


# -- what people prefer ------------------------------------------------------------------------------------------------


def test_systems_and_units_may_be_mixed_and_later_ones_win() -> None:
    chosen = preferences("us, MPH,hpa")
    assert (chosen["temperature"], chosen["speed"], chosen["air pressure"]) == ("degF", "mph", "hPa")
    assert preferences("") == {}


@pytest.mark.parametrize("words", ["imperial", "us,furlongs", "rpm", "deg"])
def test_other_words_are_refused(words: str) -> None:
    with pytest.raises(ValueError, match="neither a system of units nor a unit to choose: us, aviation, metric, degC"):
        preferences(words)


def test_each_system_has_a_unit_for_each_quantity_and_each_can_be_converted() -> None:
    for units in QUANTITIES.values():
        assert all(known_unit(unit) == unit and conversion(units[0], unit) for unit in units)
    for name in SYSTEMS:
        assert preferences(name).keys() == QUANTITIES.keys()


@pytest.mark.parametrize(
    ("key", "unit", "words", "value", "shown"),
    [
        ("CHT11", "degC", "us", 100.0, (212.0, "degF")),
        ("CHT11", "C", "us", -40.0, (-40.0, "degF")),
        ("CHTROC11", "degC/min", "us", 10.0, (18.0, "degF/min")),
        ("EGTSPAN1", "degC", "us", 10.0, (18.0, "degF")),  # a difference
        ("EGTDT1", "degC", "us", 10.0, (18.0, "degF")),
        ("CHTDT1", "degC", "us", 10.0, (18.0, "degF")),
        ("EGTPK11", "degC", "us", -10.0, (-18.0, "degF")),
        ("IAS", "knots", "mph", 100.0, (115.0779, "mph")),
        ("BARO", "inHg", "metric", 29.92, (1013.2, "hPa")),
        ("OILP1", "psi", "metric", 60.0, (4.1369, "bar")),
        ("VS", "ft/min", "metric", 1000.0, (5.08, "m/s")),
        ("ALT", "ft", "metric", 1000.0, (304.8, "m")),
        ("XTRACK", "nmi", "metric", 1.0, (1.852, "km")),
        ("FUELF1", "gal/hr", "aviation", 10.0, (37.854, "l/h")),
        ("TACH1", "rpm", "metric", 2400, (2400, "rpm")),
        ("TAS", "knots", "aviation", 100.0, (100.0, "knots")),
        ("X", "", "us", 1.0, (1.0, "")),
        ("X", "furlongs", "us", 1.0, (1.0, "furlongs")),
        ("X", "kts", "knots", 100.0, (100.0, "kts")),  # as its builder writes it
    ],
)
def test_values_in_preferred_units(key: str, unit: str, words: str, value: float, shown: tuple[float, str]) -> None:
    wanted, factor, summand = preferred(key, unit, preferences(words))
    assert value * factor + summand == pytest.approx(shown[0], rel=1e-4)
    assert wanted == shown[1]


def test_the_differences_among_the_packaged_temperatures_are_known() -> None:
    definitions = configuration.load(configuration.packaged() / "default.yaml").definitions
    words = ("minus", "deviation", "below its peak")
    differences = {d.key for d in definitions if d.units == "degC" and any(w in d.description for w in words)}
    assert differences == {
        d.key for d in definitions if d.units == "degC" and not preferred(d.key, "degC", {"temperature": "degF"})[2]
    }
