"""bench run: scenarios are flown and judged, in virtual time, in real time, on adapters, and at gateways elsewhere."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest

from fixgw.cli import trials
from fixgw.cli.alerts import ABSENT
from fixgw.hw_sim import scenario as scenarios
from fixgw.hw_sim.bench import rig as rigs
from fixgw.hw_sim.bench.rig import AFTER_S, FINE_S, STEP_S, VARIABLES, Rig

if TYPE_CHECKING:
    from tests.cli.conftest import Bench, Result

    Cli = Callable[..., Result]

pytestmark = pytest.mark.slow

ENGINE = """\
connections:
  eis: {load: yes, module: fixgw.drivers.eis, source: sim/eis, port: "{SIM}/eis", cylinders: 4}
"""
HEAD = "description: An engine\nconfiguration: engine.yaml\nnodes: {air: }\n"
GOOD = "{at: 0, within: 2, expect: {key: OILP1, min: 30, max: 95}}"
WRONG = "{at: 1, expect: {key: OILP1, is: 5000, tolerance: 5}}"
RANDOM = "{at: 0.1, random: 6, during: 1, for: [0.1, 0.2], instruments: [eis], faults: [drop, truncate]}"


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., str]:
    """A scenario for a gateway that has nothing but an engine monitor."""
    (tmp_path / "engine.yaml").write_text(ENGINE)

    def write(*events: str, name: str = "made", head: str = HEAD) -> str:
        path = tmp_path / f"{name}.yaml"
        path.write_text(f"{head}events:\n" + "".join(f"  - {event}\n" for event in events))
        return str(path)

    return write


def suites(path: Path) -> list[ElementTree.Element]:
    """The suites of a file of results, whose form is checked: what JUnit's readers rely on."""
    root = ElementTree.parse(path).getroot()
    assert root.tag == "testsuites"
    for suite in root:
        assert suite.tag == "testsuite"
        assert {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"} == suite.attrib.keys()
        cases = suite.findall("testcase")
        assert [each.tag for each in suite if each.tag != "testcase"] in ([], ["properties"])
        assert int(suite.attrib["tests"]) == len(cases)
        assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure"))
        assert int(suite.attrib["errors"]) == len(suite.findall("testcase/error"))
        for case in cases:
            assert case.attrib.keys() == {"classname", "name", "time"}
            assert float(case.attrib["time"]) >= 0
            assert all(each.tag in ("failure", "error") and each.attrib.keys() == {"message"} for each in case)
    return list(root)


# -- packaged scenarios ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", scenarios.shipped())
def test_a_packaged_scenario_comes_true_on_the_virtual_clock(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"gremlins": {"seconds": 5}, "hour": {"rounds": 1, "length": 25}}.get(name, {})
    scenario = scenarios.load(scenarios.shipped()[name], given)
    monkeypatch.setattr(rigs, "AFTER_S", 1.0)
    lapse = 1.0 if name == "hour" else None
    flown = trials.fly_virtually(scenario, trials.configuration_for(scenario, "", VARIABLES), step=0.1, lapse=lapse)
    assert [verdict for verdict in flown.verdicts if not verdict.met] == []
    assert len(flown.verdicts) > 3


# -- in virtual time ---------------------------------------------------------------------------------------------------


def test_a_flight_is_judged_and_has_the_same_outcome_each_time(cli: Cli, written: Callable[..., str]) -> None:
    file = written(GOOD, "{at: 2, set: OILP1, to: 12, name: leak}", "{after: leak, within: 1, expect: 'OILP1 < 15'}")
    code, out, err = cli("bench", "run", file)
    assert (code, err) == (0, "")
    assert out == (
        f"{file}: An engine\n"
        "  met     at 0 s: OILP1 is at least 30 and is at most 95 within 2 s "
        "(OILP1 was 77 psi at 0.225 s, after 0.225 s)\n"
        "  met     after leak: OILP1 < 15 within 1 s "
        "(OILP1 < 15 was true: OILP1 was 12 psi at 2.1 s, after 0.1 s)\n"
        "  met     no connection of the gateway fails (none failed)\n"
        "3 of 3 expectations met (2 s of flight)\n"
    )
    assert cli("bench", "run", file).out == out


def test_a_lapse_is_none_while_something_is_judged(
    cli: Cli, written: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[float] = []
    advance = Rig._advance

    def note(rig: Rig, seconds: float) -> None:
        steps.append(seconds)
        advance(rig, seconds)

    monkeypatch.setattr(Rig, "_advance", note)
    file = written("{at: 60, within: 0.3, for: 15, expect: OILP1 > 20}")
    assert cli("bench", "run", file, "--lapse", "1").code == 0
    fine = sum(seconds for seconds in steps if seconds <= FINE_S)
    assert fine == pytest.approx(AFTER_S + 1.0 + 15.0, abs=0.2)
    assert len(steps) == pytest.approx(fine / STEP_S + 60 - AFTER_S - 1.0, abs=2)


def test_what_did_not_come_true_is_said_with_its_place(cli: Cli, written: Callable[..., str], tmp_path: Path) -> None:
    file, junit = written(GOOD, WRONG), tmp_path / "out.xml"
    code, out, _ = cli("bench", "run", file, "--junit", str(junit))
    assert code == 1
    assert (
        "  FAILED  at 1 s: OILP1 is 5,000 ± 5\n"
        f"          OILP1 was 77 psi, 4,920 psi too low at 1 s\n          {file}:6:5\n"
    ) in out
    assert out.endswith("2 of 3 expectations met (1 s of flight)\n")
    (suite,) = suites(junit)
    failure = suite.find("testcase[@name='at 1 s: OILP1 is 5,000 ± 5']/failure")
    assert failure is not None
    assert failure.text == f"{file}:6:5: OILP1 was 77 psi, 4,920 psi too low at 1 s"


def test_events_are_printed_on_request(cli: Cli, written: Callable[..., str]) -> None:
    out = cli("bench", "run", written(WRONG, "{at: 0.2, instrument: eis, fault: drop, for: 0.5}"), "--verbose").out
    assert "    0.20 s  eis: drop\n    0.70 s  eis: drop is over\n" in out


def test_random_faults_have_a_seed_that_is_printed_and_repeats_them(
    cli: Cli, written: Callable[..., str], tmp_path: Path
) -> None:
    file, junit = written(GOOD, RANDOM), tmp_path / "out.xml"
    out = cli("bench", "run", file, "--verbose").out
    drawn = re.search(r"^  seed (\d+) \(for the same faults again: --seed \1\)$", out, re.MULTILINE)
    assert drawn
    assert cli("bench", "run", file, "--verbose", "--seed", drawn[1], "--junit", str(junit)).out == out
    assert cli("bench", "run", file, "--verbose", "--seed", str(int(drawn[1]) + 1)).out != out
    (suite,) = suites(junit)
    assert {p.attrib["name"]: p.attrib["value"] for p in suite.iter("property")} == {"seed": drawn[1]}


def test_parameters_are_set(cli: Cli, written: Callable[..., str]) -> None:
    one = written("{at: 1, expect: 'OILP1 < $psi'}", head=f"{HEAD}parameters: {{psi: 12}}\n")
    other = written(GOOD, name="other")
    assert cli("bench", "run", one).code == 1
    assert cli("bench", "run", one, other, "--set", "psi=99").code == 0  # the other file has no such parameter
    assert cli("bench", "run", one, "--set", "psi=low") == (2, "", f"fixgw: {one}: psi: 'low' is not a number\n")
    assert cli("bench", "run", one, other, "--set", "pis=9") == (
        2,
        "",
        "fixgw: --set: no parameter 'pis' (did you mean 'psi'?)\n",
    )


def test_the_problems_of_all_files_are_said_at_once(cli: Cli, written: Callable[..., str], tmp_path: Path) -> None:
    one = written("{at: 1, expect: {key: OILP1, flags: olf}}", "{at: 1, expct: x}")
    head = f"{HEAD}duration: 9\nbit_rate: 3\nwires: {{gps: gsp}}\nparameters: {{psi: {{default: 1, min: 2}}}}\n"
    other = written("{at: 1, node: ait, fault: deaf}", f"{{at: 10, {GOOD[8:]}", name="other", head=head)
    good, junit = written(GOOD, name="good"), tmp_path / "out.xml"
    code, out, err = cli("bench", "run", one, other, good, "gremlin", "--junit", str(junit))
    assert (code, out) == (2, "")
    lines = err.splitlines()
    places = [line.partition(".yaml:")[2].partition(" ")[0] for line in lines[:-1]]
    assert places == ["5:41:", "6:5:", "5:11:", "6:14:", "7:19:", "9:19:", "10:5:"]
    assert lines[-1].startswith("no scenario 'gremlin' (did you mean 'gremlins'?): give a file, or one of cruise,")
    errors = [(suite.attrib["name"], str(suite.findtext("testcase/error"))) for suite in suites(junit)]
    assert [name for name, _ in errors] == [one, other, "gremlin"]
    assert "\n".join(text for _, text in errors) == err.removeprefix("fixgw: ").rstrip("\n")


def test_build_servers_can_tell_all_results_apart(cli: Cli, written: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    junit = tmp_path / "out.xml"
    files = [written(GOOD, GOOD), written(GOOD, name="other/made", head=HEAD.replace("engine", "../engine"))]
    assert cli("bench", "run", *files, "--junit", str(junit)).code == 0
    cases = [(c.attrib["classname"], c.attrib["name"]) for suite in suites(junit) for c in suite.iter("testcase")]
    assert len({*cases}) == len(cases) == 5
    assert cases[-1][0] == ".".join((*tmp_path.parts[1:], "other", "made"))


@pytest.mark.parametrize(
    ("event", "outcome"),
    [
        (
            "{at: 1, within: 60, expect: 'OILP1 < 5'}",
            "OILP1 < 5 was false: OILP1 was 77 psi, when the run ended at 2 s",
        ),
        (
            "{at: 1, for: 60, expect: 'OILP1 > 5'}",
            "OILP1 > 5 was true: OILP1 was 77 psi, but the run ended 59 s too early",
        ),
        ("{when: 'OILP1 < 5', expect: 'OILP1 < 6'}", "it never began: OILP1 < 5 was not true"),
        (
            "{whenever: 'OILP1 < 5', deadline: 1, expect: 'OILP1 < 6'}",
            "it never began: OILP1 < 5 was not true within 1 s",
        ),
    ],
)
def test_what_is_never_decided_has_failed(cli: Cli, written: Callable[..., str], event: str, outcome: str) -> None:
    code, out, _ = cli("bench", "run", written(event, head=f"{HEAD}duration: 2\n"))
    assert code == 1
    assert outcome in out


@pytest.mark.parametrize(
    ("events", "complaint"),
    [
        (["{at: 1, expect: {key: OILP}}"], "{file}:5:5: the gateway has no key OILP (did you mean 'OILP1'?)"),
        (["{at: 1, expect: 'ALT > FOO'}"], "{file}:5:5: the gateway has no key FOO"),
        (
            ["{at: 1, expect: {alert: oil-pressure, is: cleared}}"],
            "{file}:5:5: the gateway has no connection with the module fixgw.plugins.alerts: see `fixgw plugins",
        ),
        (["{at: 1, instrument: eis, fault: drop}"], "{file}: it expects nothing"),
        (
            ["{when: 'OILP1 < 5', expect: OILP1}"],
            "{file}: it waits for something that may never be: give it a duration:",
        ),
        ([GOOD, "{at: 1, instrument: rdac, fault: unplug}"], "{file}:6:5: rdac is not on this bench"),
        ([GOOD, "{at: 1, node: air, fault: deaf}"], "{file}:6:5: air is not on this bench"),
        ([GOOD, "{at: 1, adapter: mute}"], "{file}:6:5: the adapter is not on this bench"),
    ],
)
def test_a_file_that_cannot_be_run_says_why(
    cli: Cli, written: Callable[..., str], tmp_path: Path, events: list[str], complaint: str
) -> None:
    file, junit = written(*events), tmp_path / "out.xml"
    other = written(GOOD, name="other")
    code, out, err = cli("bench", "run", file, other, "--junit", str(junit))
    assert code == 2
    assert complaint.format(file=file) in err
    assert out.endswith("2 of 2 expectations met, 1 file could not be run (0 s of flight)\n")
    first, second = suites(junit)
    assert (first.attrib["errors"], second.attrib["errors"]) == ("1", "0")


def test_what_has_no_effect_in_virtual_time_is_refused(cli: Cli, written: Callable[..., str]) -> None:
    file = written("{at: 0, expect: IAS}", "{at: 1, adapter: mute}", "{at: 1, adapter: jammed}", head="")
    assert cli("bench", "run", file)[::2] == (
        2,
        f"fixgw: {file}: {file}:3:5: the adapter: 'mute' has no effect on this bench\n",
    )


def test_a_configuration_that_cannot_be_loaded_is_reported(cli: Cli, written: Callable[..., str]) -> None:
    file = written(GOOD, head="configuration: nowhere.yaml\n")
    code, _, err = cli("bench", "run", file)
    assert code == 2
    assert "nowhere.yaml: cannot be read: No such file or directory" in err


def test_results_that_cannot_be_written_stop_the_run_before_it_begins(
    cli: Cli, written: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / "no" / "out.xml"
    assert cli("bench", "run", written(GOOD), "--junit", str(path)) == (
        2,
        "",
        f"fixgw: --junit: {path}: No such file or directory\n",
    )


def test_results_may_contain_anything(tmp_path: Path) -> None:
    from fixgw.cli.junit import Report, document
    from fixgw.hw_sim.bench.judging import Verdict

    words = "<&'\"> \x1b[31m \x00 \ud800 ±"
    (tmp_path / "x.xml").write_bytes(
        document([Report(words, [Verdict(words, words, False, words)], 1.0, {"a": words})])
    )
    (suite,) = suites(tmp_path / "x.xml")
    assert suite.attrib["name"] == "<&'\"> ?[31m ? ? ±"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("", "the following arguments are required: FILE"),
        ("x --device gps=/dev/x", "--device needs the gateway that has the other end: --gateway or --config-file"),
        ("x --device gps=a --device gps=b --gateway h", "--device: an instrument is named twice"),
        ("x --device gps=a --device eis=a --gateway h", "--device: gps and eis have the same port"),
        ("x --live --gateway h", "--live has virtual devices of its own: leave it out with --gateway and --device"),
        ("x --device gsp=a", "argument --device: no instrument 'gsp' (did you mean 'gps'?)"),
        ("x --device gps", "argument --device: 'gps' is not NAME=WHERE, such as gps=/dev/ttyUSB0"),
        (
            "x --device can=can0",
            "argument --device: 'can=can0' is not can=INTERFACE:CHANNEL, such as can=socketcan:can0",
        ),
        ("x --gateway h:0", "argument --gateway: 'h:0': the port must be a number from 1 to 65535"),
        ("x --gateway h --config-file f", "argument --config-file: not allowed with argument --gateway"),
        ("x --set psi", "argument --set: 'psi' is not NAME=VALUE"),
        ("x --seed x", "argument --seed: invalid int value: 'x'"),
        ("x --lapse 0", "argument --lapse: '0' is not a number of seconds above 0, up to 10"),
        ("x --lapse nan", "argument --lapse: 'nan' is not a number of seconds above 0, up to 10"),
        ("x --lapse 1 --live", "--lapse is for the virtual clock: leave it out with --live, --gateway and --device"),
    ],
)
def test_wrong_usage_is_refused(cli: Cli, arguments: str, complaint: str) -> None:
    code, out, err = cli("bench", "run", *arguments.split())
    assert (code, out) == (2, "")
    assert err.startswith(f"fixgw bench run: {complaint}")


# -- in real time ------------------------------------------------------------------------------------------------------


def test_a_gateway_is_judged_in_real_time(cli: Cli, written: Callable[..., str]) -> None:
    code, out, err = cli("bench", "run", written(GOOD, "{at: 0.5, expect: {key: OILP1, source: sim/eis}}"), "--live")
    assert (code, err) == (0, "")
    assert "  met     at 0.5 s: OILP1 comes from sim/eis (OILP1 came from sim/eis at 0.5" in out
    assert os.environ.get("STATE_DIRECTORY") is None


def test_a_gateway_that_stops_fails_what_is_left(
    cli: Cli, written: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    switch_on = trials.OwnGateway.switch_on

    def and_stop(gateway: trials.OwnGateway) -> None:
        switch_on(gateway)
        threading.Timer(0.5, gateway._gateway.request_stop).start()

    monkeypatch.setattr(trials.OwnGateway, "switch_on", and_stop)
    file = written(GOOD, "{at: 0, within: 60, expect: 'OILP1 < 1'}", "{at: 5, expect: 'OILP1 > 1'}")
    code, out, _ = cli("bench", "run", file, "--live")
    assert code == 1
    assert re.search(r"FAILED  at 0 s: OILP1 < 1 within 60 s\n +the gateway has stopped at 0\.\d+ s\n", out)
    assert re.search(r"FAILED  at 5 s: OILP1 > 1\n +it never began: the gateway has stopped\n", out)


class Cable:
    """Two serial ports with a cable between them."""

    def __init__(self) -> None:
        self._pairs = [pty.openpty() for _ in range(2)]
        for _, slave in self._pairs:
            tty.setraw(slave)
        self.ends = [os.ttyname(slave) for _, slave in self._pairs]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._carry)
        self._thread.start()

    def _carry(self) -> None:
        (one, _), (other, _) = self._pairs
        while not self._over.is_set():
            for end in select.select([one, other], [], [], 0.05)[0]:
                os.write(other if end == one else one, os.read(end, 4096))

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        for pair in self._pairs:
            for end in pair:
                os.close(end)


@pytest.fixture
def cable() -> Iterator[Cable]:
    made = Cable()
    yield made
    made.close()


def test_instruments_send_through_real_adapters(
    cli: Cli, written: Callable[..., str], tmp_path: Path, cable: Cable
) -> None:
    """Two files use the same port, one after the other."""
    (tmp_path / "own.yaml").write_text(
        f"connections:\n  eis: {{load: yes, module: fixgw.drivers.eis, port: {cable.ends[1]}, cylinders: 4}}\n"
        "  can: {load: yes, module: fixgw.drivers.canfix, interface: virtual, channel: bench-of-tests}\n"
    )
    plugs = "{at: 0.6, instrument: eis, fault: unplug, for: 0.2}", "{at: 0.6, adapter: unplugged, for: 0.2}"
    good = GOOD, "{at: 0, within: 2, expect: {key: IAS, min: 70, max: 90}}", "{at: 1, within: 2, expect: 'IAS > 70'}"
    files = written(*good, *plugs, name="one"), written(*good, *plugs, name="two")
    devices = "--device", f"eis={cable.ends[0]}", "--device", "can=virtual:bench-of-tests"
    code, out, err = cli("bench", "run", *files, *devices, "--config-file", str(tmp_path / "own.yaml"))
    assert (code, err) == (0, "")
    assert out.count("  met     at 0 s: IAS is at least 70 and is at most 90 within 2 s (IAS was 78.0 knots") == 2


@pytest.mark.parametrize(
    ("devices", "complaint"),
    [
        (["eis=/dev/no-such-port"], "cannot open /dev/no-such-port: No such file or directory"),
        (["eis={busy}"], "cannot open {busy}: another program uses it"),
        (["can=nonsense:x"], "cannot open nonsense x: "),
        (["gps={busy}2"], "cannot open {busy}2: "),
        (["can=virtual:x"], "made.yaml:6:5: eis is not on this bench: name its adapter with --device"),
        (["can=virtual:x"], "made.yaml:7:5: the adapter: 'jammed' has no effect on this bench"),
    ],
)
def test_an_adapter_that_cannot_be_had_is_reported(
    cli: Cli, written: Callable[..., str], tmp_path: Path, cable: Cable, devices: list[str], complaint: str
) -> None:
    import serial

    file = written(GOOD, "{at: 1, instrument: eis, fault: drop}", "{at: 1, adapter: jammed}")
    words = [word.format(busy=cable.ends[0]) for device in devices for word in ("--device", device)]
    with serial.Serial(cable.ends[0], exclusive=True):
        code, _, err = cli("bench", "run", file, *words, "--config-file", str(tmp_path / "engine.yaml"))
    assert code == 2
    assert complaint.format(busy=cable.ends[0]) in err


# -- gateways elsewhere ------------------------------------------------------------------------------------------------


def test_a_gateway_elsewhere_is_judged_as_a_display_sees_it(bench: Bench, cli: Cli, tmp_path: Path) -> None:
    bench.db.write("ALT", 3000.0, "sim/x")
    bench.db.write("IAS.Vne", 150.0)
    threading.Timer(0.8, lambda: bench.db.write("ALT", 4870.0, "sim/y")).start()
    path = tmp_path / "scenario.yaml"
    path.write_text(
        "events:\n"
        "  - {at: 0, expect: {key: ALT, is: 3000, source: sim/x}}\n"
        "  - {at: 0, expect: {key: IAS.Vne, is: 150}}\n"
        "  - {at: 0, within: 9, expect: {key: ALT, source: sim/y}}\n"
        "  - {when: 'ALT > 4000', deadline: 9, expect: {key: ALT, is: 5000, tolerance: 100}}\n"
    )
    code, out, err = cli("bench", "run", str(path), "--gateway", f"127.0.0.1:{bench.port}")
    assert (code, err) == (1, "")
    assert "ALT was 4,870 ft, 30 ft too low at " in out
    assert out.splitlines()[-1].startswith("3 of 4 expectations met")


def test_a_gateway_elsewhere_that_goes_fails_what_is_left(bench: Bench, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text("events: [{at: 0, within: 60, expect: 'ALT > 9000'}, {at: 50, expect: 'ALT > 9000'}]\n")
    stopping = threading.Timer(0.6, bench.stop)
    stopping.start()
    code, out, _ = cli("bench", "run", str(path), "--gateway", f"127.0.0.1:{bench.port}")
    stopping.join()
    assert code == 1
    assert re.search(rf"the gateway at 127.0.0.1 port {bench.port} has gone at \d", out)
    assert f"it never began: the gateway at 127.0.0.1 port {bench.port} has gone" in out


def test_alerts_are_expected_only_of_a_gateway_that_judges_them(
    bench: Bench, cli: Cli, written: Callable[..., str]
) -> None:
    file = written("{at: 0, expect: {alert: oil}}")
    for words in (("--live",), ("--gateway", f"127.0.0.1:{bench.port}")):
        code, _, err = cli("bench", "run", file, *words)
        assert (code, err) == (2, f"fixgw: {file}: {file}:5:5: {ABSENT}\n")


def test_a_gateway_elsewhere_has_nothing_of_an_aircraft_without_instruments(
    bench: Bench, cli: Cli, tmp_path: Path
) -> None:
    path = tmp_path / "scenario.yaml"
    events = "{at: 0, expect: 'ALT > 9000'}", "{at: 1, aircraft: oil-leak}", "{at: 2, set: OILP1, to: 12}"
    path.write_text("events:\n" + "".join(f"  - {event}\n" for event in events))
    code, _, err = cli("bench", "run", str(path), "--gateway", f"127.0.0.1:{bench.port}")
    unseen = "no instrument of this bench sees what happens to the aircraft: name its adapter with --device"
    assert (code, err) == (2, f"fixgw: {path}: {path}:3:5: {unseen}\n{path}:4:5: {unseen}\n")


def test_no_gateway_there_is_reported(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text("events: [{at: 0, expect: 'ALT > 9000'}]\n")
    code, _, err = cli("bench", "run", str(path), "--gateway", "127.0.0.1:1")
    assert (code, err) == (2, f"fixgw: {path}: no gateway at 127.0.0.1 port 1: Connection refused\n")


# -- ends --------------------------------------------------------------------------------------------------------------


def started(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fixgw", "bench", "run", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_and_keeps_what_is_known(
    written: Callable[..., str], tmp_path: Path, ending: signal.Signals
) -> None:
    short = written(GOOD, name="short", head=f"{HEAD}duration: 0.5\n")
    endless = written("{at: 3000, expect: 'OILP1 > 1'}", name="endless")
    place, junit = tmp_path / "tmp", tmp_path / "out.xml"
    place.mkdir()
    process = started(
        short,
        endless,
        "--live",
        "--junit",
        str(junit),
        env={**os.environ, "TMPDIR": str(place), "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        assert any(line.startswith(endless) for line in process.stdout)
        process.send_signal(ending)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, err) == (130, "")
    assert list(place.iterdir()) == []
    (suite,) = suites(junit)
    assert suite.attrib["name"] == short


def test_a_reader_that_goes_ends_the_run(written: Callable[..., str]) -> None:
    process = started(written(GOOD), written(GOOD, name="other"), "--verbose")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(60) == 141
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
