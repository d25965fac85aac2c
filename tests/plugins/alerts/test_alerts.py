"""The plugin `alerts`: the cases in tests/data/alerts.json, and what the page promises beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.plugins.alerts.conftest import Flight

CASES = json.loads((Path(__file__).parents[2] / "data" / "alerts.json").read_text())
Fly = Callable[[dict[str, Any] | str], Flight]


def alerts(*given: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {"alerts": {"load": True, "module": "fixgw.plugins.alerts", "alerts": list(given), **options}}


def command(flight: Flight, words: str) -> str:
    """What a client's command answers."""
    offered = flight.world.offered("alerts")
    assert offered is not None
    answer = offered(words)
    flight.step()
    return answer


def status(flight: Flight) -> dict[str, Any]:
    return dict(flight.plugins["alerts"].get_status())


def state(flight: Flight, id: str) -> str:
    return str(status(flight)[id]["state"])


@pytest.mark.parametrize("case", CASES["cases"], ids=[c["id"] for c in CASES["cases"]])
def test_case(case: dict[str, Any], fly: Fly) -> None:
    flight = fly(alerts(*case["alerts"]))
    for name, value in case.get("aux", {}).items():
        flight.db.write(name, value)
    flight.begin()
    for step in case["steps"]:
        flight.at(step["t"])
        for key, value in step.get("write", {}).items():
            flight.write(key, value)
        for name, value in step.get("aux", {}).items():
            flight.db.write(name, value)
        flight.step()
        if "ack" in step:
            assert command(flight, f"ack {step['ack']}") == ""
        if "shelve" in step:
            assert command(flight, "shelve {} {}".format(*step["shelve"])) == ""
        for id, expected in step.get("expect", {}).items():
            assert state(flight, id) == expected, step
        for id, level in step.get("level", {}).items():
            assert status(flight)[id]["level"] == level, step
        for key, flag in step.get("flags", {}).items():
            assert flight.db.read(key).annunciate is bool(flag), step


@pytest.mark.parametrize("case", CASES["phases"], ids=[c["id"] for c in CASES["phases"]])
def test_phases_through_the_keys(case: dict[str, Any], fly: Fly) -> None:
    flight = fly(alerts())
    flight.db.write("IAS.Vs0", None)
    flight.begin()
    for step in case["steps"]:
        flight.clock.now = 1000.0 + step["t"]
        flight.db.age()
        if "vs0" in step:
            flight.db.write("IAS.Vs0", step["vs0"])
        for name, key in (("rpm", "TACH1"), ("ias", "IAS"), ("gs", "GS"), ("palt", "PALT"), ("vs", "VS")):
            flight.write(key, [0, "f"] if step.get(name) is None else [step[name], ""])
        flight.step()
        assert flight.db.read("FLTPHASE").value == step["phase"], step


# -- levels, patterns, phases ------------------------------------------------------------------------------------------

CHT = {
    "id": "cht",
    "each": "CHT1*",
    "text": "CHT {n} HIGH",
    "hysteresis": 3,
    "levels": [{"level": "caution", "above": "highWarn"}, {"level": "warning", "above": "highAlarm"}],
}
OIL = {"id": "oil", "key": "OILP1", "text": "OIL PRESSURE LOW", "level": "warning", "below": 25, "hysteresis": 2}


def test_levels(fly: Fly) -> None:
    flight = fly(alerts(CHT))
    flight.begin()

    def now(value: float) -> tuple[str, str]:
        flight.write("CHT13", value)
        flight.step()
        report = status(flight)["cht.CHT13"]
        return report["state"], report["level"]

    assert now(100) == ("normal", "warning")
    assert now(230) == ("active", "caution")
    assert flight.db.read("ALERTMSG").value == "CHT 3 HIGH"
    assert command(flight, "ack cht.CHT13") == ""
    assert now(230) == ("acknowledged", "caution")
    assert now(265) == ("active", "warning"), "a higher level is a new occurrence"
    assert now(255) == ("acknowledged", "caution"), "and falling back to the one that was acknowledged is none"
    assert now(265) == ("active", "warning")
    assert command(flight, "ack cht") == "", "the id of the pattern stands for all"
    assert now(258) == ("acknowledged", "warning"), "within the hysteresis"
    assert now(230) == ("acknowledged", "caution")
    assert now(265) == ("active", "warning")
    assert now(100) == ("normal", "warning")
    assert now(230) == ("active", "caution"), "never acknowledged in advance"


def test_a_latching_alert_keeps_the_level_that_nobody_saw(fly: Fly) -> None:
    flight = fly(alerts({**CHT, "latch": True}))
    flight.begin()
    for value in (265, 230, 100):
        flight.write("CHT13", value)
        flight.step()
    assert (state(flight, "cht.CHT13"), status(flight)["cht.CHT13"]["level"]) == ("latched", "warning")
    assert flight.db.read("ALERTMSG").value == "CHT 3 HIGH (WAS)"
    assert flight.db.read("MASTERW").value is True
    assert not flight.db.read("CHT13").annunciate
    assert command(flight, "ack all") == ""
    assert state(flight, "cht.CHT13") == "normal"


def test_a_latching_alert_is_not_acknowledged_by_falling_back_to_a_level_that_was(fly: Fly) -> None:
    flight = fly(alerts({**CHT, "latch": True}))
    flight.begin()
    flight.write("CHT13", 230)
    flight.step()
    assert command(flight, "ack cht") == ""
    for value in (265, 230):
        flight.write("CHT13", value)
        flight.step()
    assert state(flight, "cht.CHT13") == "active", "nobody has seen the warning"
    flight.write("CHT13", 100)
    flight.step()
    assert flight.db.read("ALERTMSG").value == "CHT 3 HIGH (WAS)"


def test_the_key_of_an_alert_need_not_be_in_its_condition(fly: Fly) -> None:
    """The key is annunciated, and its value recorded."""
    flight = fly(alerts({"id": "a", "key": "OILP1", "when": "TACH1 > 500", "level": "warning", "text": " "}))
    flight.begin()
    flight.write("OILP1", 60)
    flight.write("TACH1", 600)
    flight.step()
    assert state(flight, "a") == "active"
    assert flight.db.read("OILP1").annunciate
    assert flight.db.read("ALERTMSG").value == "A", "a blank text is none"
    assert status(flight)["alert log"][-1]["value"] == 60


def test_hundreds_of_keys(fly: Fly) -> None:
    flight = fly(alerts({"id": "touch", "each": "TSBTN*", "when": "{key}", "text": "{key} {n}", "level": "advisory"}))
    flight.begin()
    assert len([id for id in status(flight) if id.startswith("touch.")]) == 200
    flight.write("TSBTN517", True)
    flight.step()
    assert flight.db.read("ALERTMSG").value == "TSBTN517 517"
    assert flight.db.read("ALERTS").value == 1
    for key in flight.db.matching("TSBTN*"):
        flight.write(key, True)
    flight.step()
    assert flight.db.read("ALERTS").value == 200
    assert command(flight, "ack touch") == ""
    assert {r["state"] for id, r in status(flight).items() if id.startswith("touch.")} == {"acknowledged"}


def test_phases_inhibit_and_delays_begin_anew(fly: Fly) -> None:
    flight = fly(alerts({"id": "door", "when": "BTN2", "text": "DOOR", "phases": ["ground"], "on_delay": 1}))
    flight.write("BTN2", True)
    flight.begin()
    assert state(flight, "door") == "inhibited", "the engine is off"
    flight.write("IAS", 0)
    flight.write("TACH1", 800)
    flight.step()
    assert (flight.db.read("FLTPHASE").value, state(flight, "door")) == ("ground", "pending")
    flight.at(1)
    assert state(flight, "door") == "active"


def test_take_off_holds_back_cautions_but_no_warnings(fly: Fly) -> None:
    volts = {"id": "volts", "key": "VOLT", "below": 12, "level": "caution"}
    flight = fly(alerts(OIL, volts, CHT, hold_back=["takeoff", "landing"]))

    def write(seconds: float, **values: float) -> None:
        flight.at(seconds)
        for key, value in {"TACH1": 2500, "GS": 40, "VOLT": 14, "OILP1": 60, "CHT11": 100, **values}.items():
            flight.write(key, value)
        flight.step()

    write(0, IAS=0)
    flight.begin()
    write(1, IAS=45)
    write(2, IAS=48)
    assert flight.db.read("FLTPHASE").value == "takeoff"
    write(3, IAS=60, VOLT=11, OILP1=10, CHT11=230)
    assert [state(flight, id) for id in ("oil", "volts", "cht.CHT11")] == ["active", "normal", "normal"]
    write(4, IAS=60, VOLT=11, OILP1=10, CHT11=265)
    assert status(flight)["cht.CHT11"] | {"for": 0} == {
        "state": "active",
        "level": "warning",
        "text": "CHT 1 HIGH",
        "for": 0,
    }
    write(5, IAS=60, VOLT=11, CHT11=230)
    write(30, IAS=60, VOLT=11, CHT11=230)
    assert flight.db.read("FLTPHASE").value == "air"
    assert state(flight, "volts") == "active", "it is presented when the take-off is over"


# -- keys --------------------------------------------------------------------------------------------------------------


def test_the_keys_for_lamps_and_displays(fly: Fly) -> None:
    flight = fly(
        alerts(
            OIL,
            {"id": "volts", "key": "VOLT", "below": 12, "level": "caution", "text": "VOLTS"},
            {"id": "door", "when": "BTN2", "level": "advisory", "text": "DOOR"},
        )
    )
    flight.begin()

    def keys() -> tuple[Any, ...]:
        names = ("ALERTLEVEL", "ALERTMSG", "ALERTS", "MASTERW", "MASTERC")
        return tuple(flight.db.read(key).value for key in names)

    assert keys() == (0, "", 0, False, False)
    assert all(flight.db.read(k).good for k in ("ALERTLEVEL", "ALERTMSG", "ALERTS", "MASTERW", "MASTERC", "ALERTTONE"))
    flight.write("BTN2", True)
    flight.step()
    assert keys() == (1, "DOOR", 1, False, False)
    flight.write("VOLT", 11)
    flight.step()
    assert keys() == (2, "VOLTS", 2, False, True)
    flight.write("OILP1", 10)
    flight.step()
    assert keys() == (3, "OIL PRESSURE LOW", 3, True, True)
    flight.write("ALERTACK", True)
    flight.step()
    assert keys() == (3, "OIL PRESSURE LOW", 3, False, True), "the warning alone, as it was of the highest level"
    flight.write("ALERTACK", True)
    flight.step()
    assert keys()[4] is True, "a button that stays pressed is one press"
    for pressed in (False, True):
        flight.write("ALERTACK", pressed)
    flight.step()
    assert keys() == (3, "OIL PRESSURE LOW", 3, False, False)
    assert [flight.db.read(k).annunciate for k in ("OILP1", "VOLT", "BTN2")] == [True, True, False]


def test_a_press_that_came_before_an_alert_does_not_acknowledge_it(fly: Fly) -> None:
    flight = fly(alerts(OIL))
    flight.begin()
    flight.write("ALERTACK", True)
    flight.clock.now += 0.01
    flight.write("OILP1", 10)
    flight.step()
    flight.step()
    assert state(flight, "oil") == "active"


def test_a_client_that_never_releases_the_button(fly: Fly) -> None:
    flight = fly(alerts(OIL))
    flight.begin()
    for seconds in (0, 10, 20):
        flight.at(seconds)
        flight.write("OILP1", 10)
        flight.step()
        assert state(flight, "oil") == "active"
        flight.write("ALERTACK", True)
        flight.step()
        assert state(flight, "oil") == "acknowledged"
        flight.write("OILP1", 60)
        flight.step()


def test_a_button_that_sticks_acknowledges_once(fly: Fly) -> None:
    flight = fly(alerts(OIL))
    flight.begin()
    flight.write("ALERTACK", True)
    for seconds in range(1, 20):
        flight.at(seconds)
        flight.write("ALERTACK", True)
        flight.write("OILP1", 10)
        flight.step()
    assert state(flight, "oil") == "active"


def test_a_short_press_counts(fly: Fly) -> None:
    flight = fly(alerts(OIL))
    flight.begin()
    flight.write("OILP1", 10)
    flight.step()
    flight.write("ALERTACK", True)
    flight.write("ALERTACK", False)
    flight.step()
    assert state(flight, "oil") == "acknowledged"


def test_keys_are_repeated_and_fail_when_the_logic_stops(fly: Fly) -> None:
    flight = fly(alerts(OIL))
    flight.begin()
    for seconds in range(1, 20):
        flight.at(seconds)
        assert flight.db.read("ALERTLEVEL").good
    flight.plugins["alerts"].finish()
    assert flight.db.read("ALERTLEVEL").fail
    assert flight.db.read("MASTERW").fail


def test_simulated_values_are_marked_in_what_follows_from_them(fly: Fly) -> None:
    flight = fly(alerts(OIL))
    flight.begin()
    assert flight.db.read("ALERTLEVEL").source == "alerts"
    flight.db.write("OILP1", 10, "sim/eis")
    flight.step()
    assert flight.db.read("ALERTLEVEL").source == "sim/alerts"
    flight.at(1)
    flight.db.write("OILP1", 10, "eis")
    flight.at(1.5)
    assert flight.db.read("ALERTLEVEL").source == "alerts"


def test_no_key_is_required(fly: Fly, tmp_path: Path) -> None:
    (tmp_path / "database.yaml").write_text("entries: [{key: OILP1, min: 0, max: 200, tol: 2000}]")
    flight = fly(
        """
        database file: "{CONFIG}/database.yaml"
        connections:
          alerts:
            load: yes
            module: fixgw.plugins.alerts
            alerts: [{id: oil, key: OILP1, below: 25, level: warning}]
        """
    )
    flight.begin()
    flight.write("OILP1", 10)
    flight.step()
    assert state(flight, "oil") == "active"
    assert status(flight)["flight phase"] == "ground", "without a key, there is no engine"


# -- sounds ------------------------------------------------------------------------------------------------------------


def tones(flight: Flight, *times: float, **values: float) -> list[int]:
    """How often the tone changes up to each of `times`."""
    heard = []
    for seconds in times:
        before = flight.db.read("ALERTTONE").value
        flight.at(seconds)
        for key, value in values.items():
            flight.write(key, value)
        flight.step()
        heard.append(int(flight.db.read("ALERTTONE").value != before))
    return heard


def test_a_warning_sounds_every_three_seconds_until_it_is_acknowledged(fly: Fly) -> None:
    flight = fly(alerts(OIL))
    flight.begin()
    assert tones(flight, 1, 2, 3, 4, 5, 6, 7, OILP1=10) == [1, 0, 0, 1, 0, 0, 1]
    command(flight, "ack oil")
    assert tones(flight, 8, 9, 10, 11, 12, OILP1=10) == [0, 0, 0, 0, 0]


def test_a_caution_sounds_once_and_an_advisory_never(fly: Fly) -> None:
    volts = {"id": "volts", "key": "VOLT", "below": 12, "level": "caution"}
    flight = fly(alerts(volts, {"id": "door", "when": "BTN2", "level": "advisory"}))
    flight.begin()
    assert tones(flight, 1, 2, 5, 9, VOLT=11) == [1, 0, 0, 0]
    assert tones(flight, 10, 11, BTN2=True) == [0, 0]


def test_mute(fly: Fly) -> None:
    flight = fly(alerts(OIL))
    flight.begin()
    assert tones(flight, 1, OILP1=10) == [1]
    flight.write("ALERTMUTE", True)
    flight.step()
    assert status(flight)["muted for"] == 60
    assert flight.db.read("ALERTMSG").value == "OIL PRESSURE LOW", "never the text"
    assert tones(flight, 4, 10, 60, OILP1=10) == [0, 0, 0]
    assert tones(flight, 61, 62, 64, OILP1=10) == [1, 0, 1]


def test_an_alert_that_comes_and_goes_is_intermittent(fly: Fly) -> None:
    flight = fly(alerts(OIL))
    flight.begin()
    sounds = []
    for n in range(20):
        sounds += tones(flight, n + 0.1, OILP1=10)
        tones(flight, n + 0.6, OILP1=60)
    assert sum(sounds) == 6, "once more, when it is marked"
    tones(flight, 20, OILP1=10)
    assert status(flight)["oil"]["intermittent"] is True
    assert flight.db.read("MASTERW").value is True
    assert sum(tones(flight, *range(21, 40), OILP1=10)) == 0
    assert sum(tones(flight, *range(40, 90), OILP1=10)) > 0, "it stays: no longer intermittent"
    assert "intermittent" not in status(flight)["oil"]


# -- shelving ----------------------------------------------------------------------------------------------------------


def test_a_warning_is_shelved_for_a_minute_at_most_unless_allowed(fly: Fly) -> None:
    flight = fly(alerts(OIL, {"id": "oil2", "key": "OILP1", "level": "warning", "below": 30, "shelve": True}))
    flight.begin()
    flight.write("OILP1", 10)
    flight.step()
    assert command(flight, "shelve oil 600") == "oil is a warning: it can be shelved for at most 60 s"
    assert command(flight, "shelve oil2 600") == ""
    assert command(flight, "shelve oil 60") == ""
    assert [state(flight, "oil"), state(flight, "oil2")] == ["shelved", "shelved"]
    assert flight.db.read("ALERTS").value == 0
    assert flight.db.read("OILP1").annunciate
    flight.write("OILP1", 60)
    flight.step()
    assert not flight.db.read("OILP1").annunciate
    flight.write("OILP1", 10)
    flight.step()
    assert command(flight, "shelve oil 0") == ""
    assert state(flight, "oil") == "active"
    assert state(flight, "oil2") == "shelved"


def test_commands_say_what_is_wrong(fly: Fly) -> None:
    flight = fly(alerts(OIL))
    flight.begin()
    assert command(flight, "ack oli") == "there is no alert 'oli' (did you mean 'oil'?)"
    assert command(flight, "ack oil") == "oil is normal: there is nothing to acknowledge"
    assert command(flight, "ack all") == "there is nothing to acknowledge"
    assert command(flight, "ack level:panic").startswith("there is no level 'panic'")
    assert command(flight, "shelve oil soon") == "'soon' is not a time from 0 to 86400 s"
    assert command(flight, "shelve oil nan") == "'nan' is not a time from 0 to 86400 s"
    assert command(flight, "dance").startswith("the commands are")
    assert command(flight, " ").startswith("the commands are")


# -- notices -----------------------------------------------------------------------------------------------------------


def test_notices_of_other_connections_are_presented(fly: Fly) -> None:
    flight = fly(alerts(OIL))
    flight.begin()
    notices = flight.world.notices
    notices.put("compare", "IAS", "caution", "IAS\nMISCOMPARE\x1b 104 / 96")
    flight.step()
    assert status(flight)["compare.IAS"]["state"] == "active"
    assert flight.db.read("ALERTMSG").value == "IAS MISCOMPARE 104 / 96"
    assert command(flight, "ack compare.IAS") == ""
    notices.put("compare", "IAS", "caution", "IAS MISCOMPARE 104 / 95")
    flight.step()
    assert state(flight, "compare.IAS") == "acknowledged", "other words are no news"
    assert flight.db.read("ALERTMSG").value == "IAS MISCOMPARE 104 / 95"
    notices.put("compare", "IAS", "warning", "IAS MISCOMPARE 104 / 65")
    flight.step()
    assert state(flight, "compare.IAS") == "active", "a higher level is"
    notices.put("compare", "over speed; really", "advisory", "OVER")
    flight.step()
    assert "compare.over-speed-really" in status(flight)
    notices.clear("compare")
    flight.step()
    assert state(flight, "compare.IAS") == "normal"
    flight.at(62)
    assert not [id for id in status(flight) if id.startswith("compare.")]
    assert flight.db.read("ALERTS").value == 0


def test_a_notice_that_comes_and_goes_is_intermittent(fly: Fly) -> None:
    flight = fly(alerts())
    flight.begin()
    engine = flight.plugins["alerts"].engine
    tone = engine.tone
    for second in range(12):
        flight.world.notices.put("compare", "IAS", "caution", "IAS MISCOMPARE")
        flight.at(second)
        assert flight.db.read("ALERTS").value == 1
        flight.world.notices.clear("compare")
        flight.at(second + 0.5)
    assert engine.alerts["compare.IAS"].intermittent
    assert engine.tone - tone == 6
    for number in range(200):
        flight.world.notices.put("compare", f"{number}", "caution", "NEW")
        flight.step()
        flight.world.notices.clear("compare")
        flight.step()
    assert len(engine.alerts) < 100, "bounded"
    flight.at(200)
    assert not engine.alerts


def test_a_notice_may_not_take_the_place_of_an_alert(fly: Fly) -> None:
    flight = fly(alerts({**OIL, "id": "compare.IAS"}))
    flight.begin()
    flight.world.notices.put("compare", "IAS", "caution", "IAS MISCOMPARE")
    flight.step()
    assert status(flight)["compare.IAS"]["state"] == "normal"
    assert status(flight)["compare.IAS~"]["state"] == "active"


# -- the record --------------------------------------------------------------------------------------------------------


def test_the_record_and_the_totals(fly: Fly) -> None:
    flight = fly(alerts(CHT))
    flight.begin()
    for second, value in enumerate((100, 230, 241, 235, 100, 100)):
        flight.at(second)
        flight.write("CHT13", value)
        flight.step()
    log = status(flight)["alert log"]
    assert [(e["id"], e["from"], e["to"]) for e in log] == [
        ("cht.CHT13", "normal", "active"),
        ("cht.CHT13", "active", "normal"),
    ]
    assert log[0]["value"] == 230
    assert log[1] | {"time": ""} == {
        "time": "",
        "id": "cht.CHT13",
        "text": "CHT 3 HIGH",
        "level": "caution",
        "from": "active",
        "to": "normal",
        "phase": "off",
        "value": 100,
        "limit": 224,
        "seconds": 3,
        "worst": 241,
    }
    assert status(flight)["beyond limits"] == {"cht.CHT13": {"beyond": {"caution": 3.0}, "times": 1, "worst": 241}}
    flight.plugins["alerts"].stop()
    again = fly(alerts(CHT))
    again.begin()
    assert status(again)["beyond limits"]["cht.CHT13"]["times"] == 1, "over the life of the engine"
    again.write("CHT13", 250)
    again.step()
    again.at(1)
    again.write("CHT13", 100)
    again.step()
    total = status(again)["beyond limits"]["cht.CHT13"]
    assert total == {"beyond": {"caution": 4.0}, "times": 2, "worst": 250}


def test_simulated_values_do_not_count(fly: Fly) -> None:
    flight = fly(alerts(CHT))
    flight.begin()
    for second in range(3):
        flight.at(second)
        flight.db.write("CHT13", 250, "sim/eis")
        flight.step()
    assert state(flight, "cht.CHT13") == "active"
    assert status(flight)["beyond limits"] == {}


def test_time_without_data_does_not_count(fly: Fly) -> None:
    flight = fly(alerts(CHT))
    flight.begin()
    flight.write("CHT13", 250)
    flight.step()
    flight.at(1000)
    flight.write("CHT13", 250)
    flight.step()
    assert status(flight)["beyond limits"]["cht.CHT13"]["beyond"] == {}


@pytest.mark.parametrize("damage", [b"[]", b'{"totals": {"cht": 3}}', b"\xff"])
def test_totals_that_cannot_be_read_are_left(fly: Fly, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    from fixgw import state as kept

    kept.save(kept.path("alerts-alerts"), damage)
    flight = fly(alerts(CHT))
    flight.begin()
    assert status(flight)["beyond limits"] == {}
    assert "starting without totals" in caplog.text


def test_a_full_disk_is_no_reason_to_stop(fly: Fly, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import os

    from fixgw import state as kept

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(kept, "replace", full)
    flight = fly(alerts(CHT))
    flight.begin()
    for second, value in enumerate((250, 250, 100)):
        flight.at(second)
        flight.write("CHT13", value)
        flight.step()
    plugin = flight.plugins["alerts"]
    plugin.stop()
    assert "No space left" in plugin.health() or "the disk" in plugin.health()


# -- in the worst case -------------------------------------------------------------------------------------------------


def test_a_flapping_alert_does_not_flood_the_record(fly: Fly, caplog: pytest.LogCaptureFixture) -> None:
    flight = fly(alerts(OIL))
    flight.begin()
    for n in range(400):
        flight.clock.now += 0.05
        flight.write("OILP1", 10 if n % 2 else 60)
        flight.step()
    log = status(flight)["alert log"]
    assert len(log) < 15
    assert status(flight)["oil"]["intermittent"] is True
    assert len(caplog.records) < 10
    assert status(flight)["beyond limits"]["oil"]["times"] == 200, "but every occurrence counts"


def test_a_restart_in_flight(fly: Fly) -> None:
    flight = fly(alerts(OIL))
    flight.write("IAS", 100)
    flight.write("OILP1", 10)
    flight.write("ALERTTONE", 77)
    flight.begin()
    assert flight.db.read("FLTPHASE").value == "air"
    assert state(flight, "oil") == "active"
    assert flight.db.read("ALERTTONE").value == 78


def test_the_flag_is_ours_alone(fly: Fly) -> None:
    flight = fly(
        {
            **alerts(OIL, {**OIL, "id": "oil-too", "below": 30, "text": "OIL"}),
            "annunciate": {"load": True, "module": "fixgw.plugins.annunciate", "items": [{"key": "OILP1"}]},
        }
    )
    flight.begin()
    flight.write("OILP1", 10)
    flight.step()
    item = flight.db.item("OILP1")
    assert item.annunciators == {
        "alerts": "OIL PRESSURE LOW; OIL",
        "annunciate": "beyond lowAlarm or highAlarm",
    }
    flight.write("OILP1", 28)
    flight.step()
    assert item.annunciators == {"alerts": "OIL"}


def test_flags_are_released_in_the_order_in_which_they_were_set(fly: Fly) -> None:
    """So that two flights of one scenario do not differ."""
    keys = [f"EGT1{n}" for n in range(1, 7)]
    flight = fly(alerts(*({**OIL, "id": key.lower(), "key": key, "below": 30, "text": key} for key in keys)))
    flight.begin()
    for key in reversed(keys):
        flight.write(key, 10.0)
    flight.step()
    for key in keys:
        flight.write(key, 100.0)
    released: list[str] = []
    for key in keys:
        flight.db.subscribe(key, lambda key, reading: released.append(key))
    flight.step()
    assert released == keys[::-1]


def test_many_moves_of_a_limit_are_not_lost(fly: Fly) -> None:
    flight = fly(alerts({**OIL, "below": "lowAlarm"}, CHT))
    flight.begin()
    flight.write("OILP1", 40)
    flight.write("CHT11", 100)
    flight.step()
    flight.db.write("OILP1.lowAlarm", 50)
    for n in range(3000):
        flight.db.write("CHT11.highWarn", 200 + n % 7)
    flight.step()
    assert state(flight, "oil") == "active"


def test_people_and_values_at_once(fly: Fly) -> None:
    """Acknowledging, shelving and asking from other threads, while the values change."""
    import threading

    flight = fly(alerts(OIL, CHT, {"id": "volts", "key": "VOLT", "below": "lowWarn", "latch": True}))
    flight.begin()
    offered = flight.world.offered("alerts")
    assert offered is not None
    failed: list[BaseException] = []
    over = threading.Event()

    def ask() -> None:
        try:
            while not over.is_set():
                for words in ("ack all", "shelve cht 1", "shelve cht 0", "ack level:warning", "mute"):
                    offered(words)
                flight.plugins["alerts"].get_status()
        except BaseException as error:
            failed.append(error)

    def write() -> None:
        try:
            while not over.is_set():
                for value in (10, 60):
                    flight.write("OILP1", value)
                    flight.write("VOLT", value / 5)
                    flight.db.write("CHT11.highWarn", 100 + value)
                    flight.write("CHT11", 150)
                    flight.write("ALERTACK", value == 10)
                    flight.world.notices.put("compare", "x", "caution", str(value))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for work in (ask, ask, write)]
    for thread in threads:
        thread.start()
    for _ in range(150):
        flight.clock.now += 0.02
        flight.plugins["alerts"].step(0.0)
    over.set()
    for thread in threads:
        thread.join()
    assert failed == []
    flight.write("OILP1", 60)
    flight.write("VOLT", 14)
    flight.write("CHT11", 20)
    flight.world.notices.clear("compare")
    flight.step()
    offered("ack all")
    flight.at(200)
    assert flight.db.read("ALERTS").value == 0
    assert {r["state"] for r in status(flight).values() if isinstance(r, dict) and "state" in r} == {"normal"}
    assert not flight.db.item("OILP1").annunciators


@pytest.mark.parametrize(("gap", "after_on", "after_off"), [(2.9, "active", "normal"), (3.2, "pending", "active")])
def test_a_delay_begins_anew_after_a_long_time_without_data(
    gap: float, after_on: str, after_off: str, fly: Fly
) -> None:
    low = {"id": "low", "key": "OILP1", "level": "warning", "below": 25, "text": "LOW", "on_delay": 2, "off_delay": 2}
    flight = fly(alerts(low))
    flight.begin()
    at = 0.0

    def see(value: Any, seconds: float) -> str:
        nonlocal at
        at += seconds
        flight.at(at)
        flight.write("OILP1", value)
        flight.step()
        return state(flight, "low")

    assert see(20, 1) == "pending"
    assert see([0, "f"], 0.5) == "pending"
    assert see([20, ""], gap) == after_on
    see(20, 1)
    assert see(20, 1) == "active"
    assert see(60, 1) == "active"
    assert see([0, "f"], 0.5) == "active"
    assert see([60, ""], gap) == after_off
    see(60, 1)
    assert see(60, 1) == "normal"
