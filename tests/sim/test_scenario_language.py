"""The language of scenarios: what begins after something else, parameters, loops, played files, random faults, and
expectations."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fixgw.database import OLD
from fixgw.errors import ConfigurationError
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench.expect import Facts, Watch
from fixgw.hw_sim.bench.judging import Trial
from fixgw.hw_sim.scenario import Event, Play, Scenario, declared, load
from fixgw.hw_sim.scenario.forms import MAX_DEPTH, MAX_STEPS

Write = Callable[..., Path]


@pytest.fixture
def written(tmp_path: Path) -> Write:
    """A scenario file with these events, and whatever else it has."""

    def write(*events: str, rest: str = "", name: str = "made") -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(f"nodes: {{air: , engine: , panel: }}\n{rest}events:\n" + "".join(f"  - {e}\n" for e in events))
        return path

    return write


def problems(path: Path, **given: Any) -> list[str]:
    """The problems of a scenario: lines, columns and messages."""
    with pytest.raises(ConfigurationError) as caught:
        load(path, given)
    return [f"{p.line}:{p.column}: {p.message}" for p in caught.value.problems]


def planned(scenario: Scenario) -> list[tuple[float, str, str, float | None]]:
    return [(event.at, event.what, event.words, event.lasting) for event in scenario.events]


def played(
    scenario: Scenario, seconds: float, watch: Watch | None = None, step: float = 0.1
) -> list[tuple[float, str]]:
    """What happens when, in a flight in smooth air."""
    told: list[tuple[float, str]] = []
    aircraft = scenario.aircraft()
    play = Play(scenario, None, lambda at, words: told.append((round(at, 3), words)), watch=watch)
    for tick in range(int(seconds / step) + 1):
        play.due(tick * step, aircraft)
        aircraft.step(step)
    return told


# -- parameters --------------------------------------------------------------------------------------------------------


def test_parameters_have_defaults_and_can_be_given(written: Write) -> None:
    path = written(
        "{at: $begin, set: OILP1, to: $psi}",
        "{at: 0, expect: 'OILP1 < $psi'}",
        "{at: 0, set: WPNAME, to: '$$$name!'}",
        rest="parameters: {psi: 12, begin: {default: 1, min: 0, max: 9}, name: HOME, long: 60}\nduration: $long\n",
    )
    scenario = load(path)
    assert scenario.duration == 60
    assert planned(scenario) == [
        (0.0, "", "at 0 s: OILP1 < 12", 0.0),
        (0.0, "", "WPNAME is $HOME!", None),
        (1.0, "", "OILP1 is 12.0", None),
    ]
    scenario = load(path, {"psi": "8.5", "begin": 2, "name": "7"})  # texts, as the command line gives them
    assert planned(scenario)[1:] == [(0.0, "", "WPNAME is $7!", None), (2.0, "", "OILP1 is 8.5", None)]
    assert scenario.parameters == {"psi": 8.5, "begin": 2, "name": "7", "long": 60}
    assert declared(path)["begin"].max == 9


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"psii": 3}, "0:0: no parameter 'psii' (did you mean 'psi'?)"),
        ({"psi": 101}, "0:0: psi: 101 is more than 100"),
        ({"psi": "low"}, "0:0: psi: 'low' is not a number"),
        ({"psi": "nan"}, "0:0: psi: nan is not a number"),
        ({"what": "rpm"}, "0:0: what: 'rpm' is not one of oil, fuel"),
        ({"lit": "maybe"}, "0:0: lit: 'maybe' is not yes or no"),
    ],
)
def test_a_value_that_a_parameter_cannot_have_is_refused(written: Write, given: dict[str, Any], problem: str) -> None:
    rest = "parameters: {psi: {default: 12, min: 0, max: 100}, lit: yes, what: {default: oil, choices: [oil, fuel]}}\n"
    path = written("{at: 1, set: OILP1, to: $psi}", rest=rest)
    assert load(path, {"lit": "off", "what": "fuel"}).parameters == {"psi": 12, "lit": False, "what": "fuel"}
    assert problems(path, **given) == [problem]


def test_everything_wrong_with_parameters_is_said_at_once(written: Write) -> None:
    path = written(
        "{at: $tme, set: OILP1, to: $x}",
        rest="parameters:\n  time: {default: 3, min: 5}\n  x: {min: 1}\n  y: {default: 1, mix: 3}\n  a-b: 1\n",
    )
    assert problems(path) == [
        "3:9: parameters.time: its default is less than 5",
        "4:6: parameters.x: 'default' is missing",
        "5:19: parameters.y: unknown option 'mix' (did you mean 'min'?)",
        "6:3: parameters.a-b: expected a name of letters, digits and _",
        "8:10: no parameter 'tme' (did you mean 'time'?)",
        "8:32: no parameter 'x'",
    ]


# -- after, when, whenever ---------------------------------------------------------------------------------------------


def test_a_step_begins_after_another(written: Write) -> None:
    path = written(
        "{after: second, at: 0.5, node: panel, press: 1}",
        "{at: 1, node: engine, fault: silent, for: 2, name: first}",
        "{after: first, at: 1, node: air, fault: deaf, for: 1, name: second}",
    )
    assert played(load(path), 5) == [
        (1.0, "engine: silent"),
        (2.0, "air: deaf"),
        (2.5, "panel: press 1"),
        (2.7, "panel: press 1 is over"),
        (3.0, "engine: silent is over"),
        (3.0, "air: deaf is over"),
    ]
    assert load(path).end == 3.0


def test_a_step_begins_when_something_is_true_of_the_aircraft(written: Write) -> None:
    """Without a gateway there is nothing else to look at."""
    path = written(
        "{at: 2, set: OILP1, to: 12, for: 3}",
        "{when: 'OILP1 < 15', at: 0.5, node: panel, press: 1, for: 0.1}",
        "{when: 'OILP1 < 5', node: panel, press: 2}",
        "{when: 'OILP1.old or OILP1.lowWarn > 3', node: panel, press: 3}",
    )
    assert [words for at, words in played(load(path), 6) if "press" in words] == [
        "panel: press 1",
        "panel: press 1 is over",
    ]


def test_whenever_means_each_time_and_when_the_first(written: Write) -> None:
    rest = "flight: {turbulence: 0}\n"
    steps = [f"{{at: {at}, set: OILP1, to: 12, for: 1}}" for at in (1, 3, 5)]
    often = written(*steps, "{whenever: 'OILP1 < 15', node: panel, turn: 0, by: 1}", rest=rest)
    assert [at for at, words in played(load(often), 7) if "turn" in words] == [1.0, 3.0, 5.0]
    once = written(*steps, "{when: 'OILP1 < 15', node: panel, turn: 0, by: 1}", rest=rest)
    assert [at for at, words in played(load(once), 7) if "turn" in words] == [1.0]


def test_a_condition_looks_at_what_the_gateway_publishes(written: Write) -> None:
    path = written("{when: 'OILP1 < 15', node: panel, turn: 0, by: 1}", "{at: 0, set: OILP1, to: 12}")
    watch = Watch({"OILP1": Facts("psi")})
    assert len(played(load(path), 2, watch)) == 1
    watch.show(0.0, "OILP1", 12.0, OLD)
    assert len(played(load(path), 2, watch)) == 1
    watch.show(0.0, "OILP1", 12.0)
    assert len(played(load(path), 2, watch)) == 2


def test_a_condition_has_a_deadline(written: Write) -> None:
    late = written("{at: 3, set: OILP1, to: 12}", "{when: 'OILP1 < 15', deadline: 2, node: panel, turn: 0, by: 1}")
    assert [words for _, words in played(load(late), 5)] == ["the aircraft: OILP1 is 12.0"]
    assert load(late).end == 2.0
    open_ended = written("{when: 'OILP1 < 15', node: panel, turn: 0, by: 1}")
    assert load(open_ended).end is None
    assert load(written("{when: 'OILP1 < 15', node: panel, turn: 0, by: 1}", rest="duration: 9\n")).end == 9


def test_a_scenario_that_takes_over_has_its_own_names_and_conditions(written: Write) -> None:
    first = load(
        written("{at: 1, node: air, fault: deaf, name: x}", "{when: 'ALT > 0', at: 1, node: air, fault: deaf}")
    )
    second = load(
        written("{at: 1, node: panel, press: 1, name: x}", "{after: x, node: panel, press: 2}", name="second")
    )
    told: list[str] = []
    play = Play(first, None, lambda _, words: told.append(words))
    aircraft = first.aircraft()
    play.due(0.0, aircraft)
    play.change(second)
    for now in (0.5, 1.6, 2.6):
        play.due(now, aircraft)
    assert [words for words in told if "over" not in words] == ["panel: press 1", "panel: press 2"]


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ("{after: frst, node: air, fault: deaf}", "4:13: events[1].after: no event 'frst' (did you mean 'first'?)"),
        (
            "{after: first, when: 'ALT > 1', node: air, fault: deaf}",
            "4:5: events[1]: expected only one of after and when",
        ),
        ("{when: 'ALT >', node: air, fault: deaf}", "4:12: events[1].when: not a valid expression (column 5)"),
        ("{when: 3, node: air, fault: deaf}", "4:12: events[1].when: expected text, got the number 3"),
        (
            "{at: 1, deadline: 2, node: air, fault: deaf}",
            "4:5: events[1]: only what waits for a condition (when:) has a deadline",
        ),
        ("{at: 1, name: first, node: air, fault: deaf}", "4:19: events[1]: there is already an event 'first'"),
        ("{after: me, name: me, node: air, fault: deaf}", "4:5: events[1]: it waits for itself"),
        ("{at: 1, node: air, falt: deaf}", "4:5: events[1]: expected one of fault, "),
        ("{at: 1, node: air, falt: deaf}", "got none (did you mean 'fault'?)"),
        ("{at: 1, nod: air, fault: deaf}", "expected either node: or instrument: (did you mean 'node'?)"),
        ("{at: , node: air, fault: deaf}", "4:5: events[1]: 'at' is missing"),
        ("{when: , node: air, fault: deaf}", "4:5: events[1]: 'at' is missing"),
        ("{at: , play: none}", "events[1]: no scenario 'none'"),
    ],
)
def test_a_step_that_cannot_begin_is_reported(written: Write, step: str, problem: str) -> None:
    (found,) = problems(written("{at: 1, node: air, fault: deaf, name: first}", step))
    assert problem in found


def test_steps_that_wait_for_one_another_are_found(written: Write) -> None:
    path = written(*(f"{{after: s{(n + 1) % 3}, name: s{n}, node: air, fault: deaf}}" for n in range(3)))
    assert problems(path) == [f"{n + 3}:5: events[{n}]: it waits for itself" for n in range(3)]


# -- loops -------------------------------------------------------------------------------------------------------------


def test_steps_are_repeated(written: Write) -> None:
    path = written(
        "{at: 10, repeat: 2, every: 20, as: n, events: [{at: 1, node: panel, switch: $n, name: flip}, "
        "{after: flip, at: 2, node: panel, switch: $n, to: no}]}"
    )
    assert played(load(path), 35) == [
        (11.0, "panel: switch 1 on"),
        (13.0, "panel: switch 1 off"),
        (31.0, "panel: switch 2 on"),
        (33.0, "panel: switch 2 off"),
    ]
    assert load(path).end == 33.0


def test_steps_are_done_for_each_of_a_list(written: Write) -> None:
    path = written(
        "{at: 1, each: [gps, eis], as: device, every: 5, events: "
        "[{at: 0, instrument: $device, fault: unplug, for: $long}, "
        "{at: 1, each: [1, 2], as: n, events: [{at: $n, node: panel, press: $n}]}]}",
        rest="parameters: {long: 2}\n",
    )
    assert planned(load(path)) == [
        (1.0, "gps", "unplug", 2),
        (3.0, "panel", "press 1", 0.2),
        (4.0, "panel", "press 2", 0.2),
        (6.0, "eis", "unplug", 2),
        (8.0, "panel", "press 1", 0.2),
        (9.0, "panel", "press 2", 0.2),
    ]


def test_a_group_of_steps_waits_together(written: Write) -> None:
    path = written(
        "{at: 2, node: panel, press: 0, name: pressed}",
        "{after: pressed, at: 1, events: [{at: 1, node: panel, press: 1}, {at: 2, node: panel, press: 2}]}",
        "{when: 'ALT > 0', at: 5, events: [{at: 1, node: panel, press: 3}]}",
    )
    assert [(at, words) for at, words in played(load(path), 7) if "over" not in words] == [
        (2.0, "panel: press 0"),
        (4.0, "panel: press 1"),
        (5.0, "panel: press 2"),
        (6.0, "panel: press 3"),
    ]


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ("{at: 1, repeat: -1, events: []}", "3:21: events[0].repeat: expected whole number, 0 to 1000"),
        ("{at: 1, repeat: 2}", "3:5: events[0]: 'events' is missing"),
        ("{at: 1, each: [1], events: []}", "3:5: events[0]: 'as' is missing"),
        ("{at: 1, each: x, as: n, events: []}", "3:19: events[0].each: expected list"),
        ("{at: 1, repeat: 2, evry: 3, events: []}", "3:24: events[0]: unknown option 'evry' (did you mean 'every'?)"),
        ("{at: 1, repeat: 2, events: [{at: $n, node: air, fault: deaf}]}", "3:38: no parameter 'n'"),
        ("{after: x, events: [{when: 'ALT > 1', node: air, fault: deaf}]}", "already wait for something"),
        ("{at: 1, events: [{at: 1, node: air, fault: def}]}", "3:48: events[0].events[0]: no fault 'def'"),
    ],
)
def test_a_loop_that_makes_no_sense_is_reported(written: Write, step: str, problem: str) -> None:
    found = problems(written(step))
    assert any(problem in each for each in found), found


def test_loops_are_bounded(written: Write) -> None:
    inner = "{at: 0, node: panel, turn: 0, by: 1}"
    path = written(f"{{at: 0, repeat: 1000, events: [{{at: 0, repeat: 1000, events: [{inner}]}}]}}")
    assert problems(path) == [f"0:0: more than {MAX_STEPS} events"]
    for _ in range(MAX_DEPTH + 1):
        inner = f"{{at: 0, events: [{inner}]}}"
    assert [p.partition(": ")[2] for p in problems(written(inner))] == [
        "events[0]" + ".events[0]" * MAX_DEPTH + f": more than {MAX_DEPTH} blocks within one another"
    ]


# -- other files -------------------------------------------------------------------------------------------------------


def test_another_file_is_played_with_its_parameters(written: Write) -> None:
    written(
        "{at: 1, set: OILP1, to: $psi, for: 2, name: leak}",
        "{after: leak, at: 1, node: panel, press: 0}",
        rest="parameters: {psi: {default: 12, max: 50}}\nduration: 5\n",
        name="leak",
    )
    path = written("{at: 10, play: leak.yaml}", "{at: 20, play: leak.yaml, with: {psi: 5}}", rest="duration: 40\n")
    assert [(at, words) for at, words in played(load(path), 30) if "over" not in words] == [
        (11.0, "the aircraft: OILP1 is 12.0"),
        (12.0, "panel: press 0"),
        (21.0, "the aircraft: OILP1 is 5.0"),
        (22.0, "panel: press 0"),
    ]


def test_a_packaged_scenario_is_played_by_its_name(written: Write) -> None:
    assert (10.0, "panel", "turn 0 by 3", None) in planned(load(written("{at: 5, play: cruise}")))


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ("{at: 1, play: crise}", "3:19: events[0]: no scenario 'crise' (did you mean 'cruise'?)"),
        ("{at: 1, play: other.yaml, with: {psii: 3}}", "events[0].with: no parameter 'psii' (did you mean 'psi'?)"),
        ("{at: 1, play: other.yaml, with: {psi: x}}", "events[0].with: psi: 'x' is not a number"),
        ("{at: 1, play: made.yaml}", "3:19: events[0]: it plays itself: made.yaml -> made.yaml"),
        ("{at: 1, play: loop.yaml}", "events[0]: it plays itself: made.yaml -> loop.yaml -> made.yaml"),
        ("{at: 1, play: wrong.yaml}", "4:19: events[0]: no node 'ait' (did you mean 'air'?)"),
        ("{at: 1, play: wrong.yaml}", "2:1: unknown option 'duratoin' (did you mean 'duration'?)"),
    ],
)
def test_a_file_that_cannot_be_played_is_reported(written: Write, step: str, problem: str) -> None:
    written("{at: 1, set: OILP1, to: $psi}", rest="parameters: {psi: 12}\n", name="other")
    written("{at: 1, play: made.yaml}", name="loop")
    written("{at: 1, node: ait, fault: deaf}", rest="duratoin: 5\n", name="wrong")
    found = problems(written(step))
    assert any(problem in each for each in found), found


# -- random faults -----------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_faults(written: Write) -> None:
    path = written("{at: 10, random: 20, during: 60, for: [2, 4]}", "{at: 90, random: 5, during: 1, faults: [drop]}")
    one, again, other = (load(path, seed=seed) for seed in (7, 7, 8))
    assert planned(one) == planned(again) != planned(other)
    assert (one.seed, other.seed) == (7, 8)
    assert len(one.events) == 25
    assert all(10 <= e.at <= 70 and 2 <= (e.lasting or 0) <= 4 for e in one.events[:20])
    assert {e.words for e in one.events[20:]} == {"drop"}
    assert {e.what for e in load(path, seed=9).events} <= {"air", "engine", "panel", "gps", "eis"}


def test_a_seed_that_nobody_gives_is_drawn_and_known(written: Write) -> None:
    path = written("{at: 10, random: 20, during: 60}")
    drawn = load(path)
    assert drawn.seed is not None
    assert planned(load(path, seed=drawn.seed)) == planned(drawn)
    assert load(written("{at: 10, random: 20, during: 60}", rest="seed: 3\n")).seed == 3
    assert load(written("{at: 10, node: air, fault: deaf}"), seed=3).seed is None


def test_random_faults_of_one_target_do_not_overlap(written: Write) -> None:
    path = written("{at: 0, random: 40, during: 100, for: [1, 2], instruments: [gps, eis], faults: [unplug]}")
    events: list[Event] = list(load(path, seed=1).events)
    for name in ("gps", "eis"):
        spans = [(e.at, e.at + (e.lasting or 0)) for e in events if e.what == name]
        assert all(a[1] <= b[0] for a, b in pairwise(spans))


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ("{at: 1, random: 3}", "'during' is missing"),
        ("{at: 1, random: 3, during: 9, faults: [drp]}", "events[0]: no fault 'drp' (did you mean 'drop'?)"),
        ("{at: 1, random: 3, during: 9, nodes: [ait]}", "no node 'ait' (did you mean 'air'?)"),
        ("{at: 1, random: 3, during: 9, instruments: [gps], faults: [babbling]}", "none of these faults can happen"),
        ("{at: 1, random: 3, during: 9, for: 3}", "events[0].for: expected list"),
    ],
)
def test_random_faults_that_make_no_sense_are_reported(written: Write, step: str, problem: str) -> None:
    found = problems(written(step))
    assert any(problem in each for each in found), found


# -- expectations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expect", "title"),
    [
        ("{key: ALT, is: 5000, tolerance: 50}", "ALT is 5,000 ± 50"),
        ("{key: ALT, min: 1, max: 2}", "ALT is at least 1 and is at most 2"),
        ("{key: BTN1, is: yes}", "BTN1 is yes"),
        ("{key: ALT}", "ALT is good"),
        ("{key: [ALT, IAS], flags: [old, not bad]}", "each of ALT, IAS is old and not bad"),
        ("{key: 'EGT*', except: EGT11, is: 700}", "EGT* is 700 (except EGT11)"),
        ("{key: ALT, source: sim/eis}", "ALT comes from sim/eis"),
        ("{key: ALT, is: 3, flags: good}", "ALT is 3; ALT is good"),
        ("{alert: oil-pressure}", "alert oil-pressure is raised"),
        ("{alert: oil-pressure, is: cleared}", "alert oil-pressure is cleared"),
        ("{alert: oil-pressure, level: warning}", "alert oil-pressure is raised as warning"),
        ("{unchanged: '*', except: ['EGT*', ALT]}", "* does not change, except EGT*, ALT"),
        ("'ALT > 3000 and not ALT.old'", "ALT > 3000 and not ALT.old"),
    ],
)
def test_what_can_be_expected(written: Write, expect: str, title: str) -> None:
    scenario = load(written(f"{{at: 5, within: 2, for: 3, expect: {expect}}}"))
    (event,) = scenario.expectations
    assert event.words == f"at 5 s: {title} within 2 s for 3 s"
    assert event.place.endswith("made.yaml:3:5")
    assert scenario.end == 10.0


@pytest.mark.parametrize(
    ("expect", "problem"),
    [
        ("{}", "events[0].expect: expected one of key, alert, unchanged, got none"),
        ("{key: A, alert: b}", "events[0].expect: expected one of key, alert, unchanged, got key and alert"),
        ("{ky: A}", "3:22: events[0].expect: unknown option 'ky' (did you mean 'key'?)"),
        ("{alert: b, min: 3}", "3:37: events[0].expect: min: does not go together with alert:"),
        ("{key: A, flags: olf}", "3:37: events[0].expect: flags: 'olf' is not a flag (did you mean 'old'?)"),
        ("{key: A, tolerance: 3}", "3:41: events[0].expect: tolerance: needs a number (is:)"),
        ("{key: A, is: x, tolerance: 3}", "3:48: events[0].expect: tolerance: needs a number (is:)"),
        ("{alert: b, is: rised}", "3:36: events[0].expect: is: 'rised' is nothing that an alert can be"),
        ("{alert: b, level: red}", "events[0].expect.level: expected advisory, caution or warning, got text 'red'"),
        ("'ALT >'", "3:21: events[0].expect: not a valid expression"),
        ("3", "3:21: events[0].expect: expected text or mapping, got the number 3"),
    ],
)
def test_an_expectation_that_makes_no_sense_is_reported(written: Write, expect: str, problem: str) -> None:
    (found,) = problems(written(f"{{at: 5, expect: {expect}}}"))
    assert problem in found


def test_expectations_begin_and_are_judged(written: Write) -> None:
    scenario = load(
        written(
            "{at: 1, node: panel, press: 0, name: pressed}",
            "{after: pressed, within: 2, expect: {key: BTN1, is: yes}}",
            "{at: 2, expect: {key: OILP1, is: 55}}",
            "{when: 'OILP1 < 20', expect: {key: OILP1, is: 12}}",
            "{whenever: 'OILP1 < 20', at: 1, expect: {key: OILP1, is: 13}}",
            "{when: 'OILP1 > 99', deadline: 4, expect: {key: OILP1}}",
            "{when: 'OILP1 > 99', deadline: 4, node: panel, press: 1, name: never}",
            "{after: never, expect: {key: OILP1}}",
            rest="duration: 10\n",
        )
    )
    play = Play(scenario)
    trial = Trial(play, {"BTN1": Facts(), "OILP1": Facts("psi")}, 10.0)
    aircraft = scenario.aircraft()
    assert list(trial.impossible()) == []
    shown: dict[float, tuple[str, Any]] = {0.0: ("OILP1", 55.0), 2.5: ("BTN1", True), 3.0: ("OILP1", 12.0)}
    for tick in range(101):
        now = 1000.0 + tick / 10
        if tick / 10 in shown:
            trial.note_value(now, *shown[tick / 10])
        play.due(now, aircraft)
        trial.settle(now)
    verdicts = {v.title: (v.met, v.words) for v in trial.finish()}
    assert verdicts == {
        "after pressed: BTN1 is yes within 2 s": (True, "BTN1 was yes at 2.5 s, after 1.5 s"),
        "at 2 s: OILP1 is 55": (True, "OILP1 was 55 psi at 2 s"),
        "when OILP1 < 20: OILP1 is 12": (True, "OILP1 was 12 psi at 3.1 s"),
        "1 s after whenever OILP1 < 20: OILP1 is 13": (False, "OILP1 was 12 psi, 1 psi too low at 4.1 s"),
        "when OILP1 > 99: OILP1 is good": (False, "it never began: OILP1 > 99 was not true within 4 s"),
        "panel: press 1": (False, "it never happened: OILP1 > 99 was not true within 4 s"),
        "after never: OILP1 is good": (False, "it never began: what it waits for never happened"),
    }


def test_what_is_expected_several_times_is_numbered_and_an_alert_that_is_no_more_is_cleared(written: Write) -> None:
    events = (
        "{at: 0, repeat: 2, every: 1, events: [{at: 0, expect: {alert: oil}}]}",
        "{at: 1, expect: {alert: oil, is: cleared}}",
    )
    play = Play(load(written(*events)))
    trial = Trial(play, {}, 10.0)
    aircraft = Aircraft()
    for now, status in ((0.0, {"oil": {"state": "active", "level": "warning", "text": "OIL"}}), (1.0, {"muted": 3})):
        play.due(now, aircraft)
        trial.note_alerts(now, status)
        trial.settle(now)
    assert trial.over.is_set()
    assert [(v.title, v.met) for v in trial.finish()] == [
        ("at 0 s: alert oil is raised", True),
        ("at 1 s: alert oil is raised", False),
        ("at 1 s: alert oil is cleared", True),
    ]
    often = Play(load(written("{whenever: 'OILP1 > 3', expect: {key: OILP1}}", rest="duration: 9\n")))
    trial = Trial(often, {"OILP1": Facts()}, 9.0)
    for now, value in enumerate((5.0, 1.0, 5.0, 5.0)):
        trial.note_value(now, "OILP1", value)
        trial.settle(now)
        often.due(now, aircraft)
        trial.settle(now)
    assert [v.title.rpartition(": ")[2] for v in trial.finish()] == ["OILP1 is good", "OILP1 is good (time 2)"]


def test_a_gateway_that_has_gone_fails_what_is_left(written: Write) -> None:
    scenario = load(written("{at: 0, expect: {key: OILP1}}", "{at: 5, expect: {key: OILP1}}", rest="duration: 10\n"))
    play = Play(scenario)
    trial = Trial(play, {"OILP1": Facts("psi")}, 10.0)
    trial.note_value(1000.0, "OILP1", 55.0)
    play.due(1000.0, scenario.aircraft())
    trial.settle(1000.0)
    assert [(v.met, v.words) for v in trial.finish("the gateway has gone")] == [
        (True, "OILP1 was 55 psi at 0 s"),
        (False, "it never began: the gateway has gone"),
    ]


def test_keys_that_the_gateway_does_not_have_are_found_before_the_flight(written: Write) -> None:
    path = written("{at: 0, expect: {key: OILP}}", "{at: 0, expect: 'ALT > 3'}", "{at: 0, expect: {unchanged: 'X*'}}")
    assert [
        each.rpartition("made.yaml:")[2] for each in Trial(Play(load(path)), {"OILP1": Facts()}, 9).impossible()
    ] == [
        "3:5: the gateway has no key OILP (did you mean 'OILP1'?)",
        "4:5: the gateway has no key ALT",
        "5:5: the gateway has no key that matches X*",
    ]
