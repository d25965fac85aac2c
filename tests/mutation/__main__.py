"""Mutation testing: changes the code a little, and asks whether a test notices; see CONTRIBUTING.md.

    make mutate                                 # a sample of each room
    make mutate SAMPLE=100 SEED=7 ARGS="kit net"
    make mutate PATH=fixgw/kit/curve.py         # all mutants of a file

Fails if the tests of a room notice fewer than 90 % of its mutants, without those that are explained.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from .explained import is_explained
from .mutants import Mutant, mutate, places
from .sandbox import LOADING, Reach, Sandbox

CLONE = Path(__file__).parents[2]
IMPORT = re.compile(r"^(?:from (\S+) )?import (.+)$", re.MULTILINE)
AT_LEAST = 0.9  # of the mutants of a room are noticed
PROGRESS = 10  # mutants between lines that say how far it is
LONGEST_S = 180.0  # the longest tests for a mutant are left out if together they would take longer


class Room(NamedTuple):
    code: tuple[str, ...]
    tests: tuple[str, ...]  #: with {driver} for the name of the driver


def _tests(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"tests/{folder}/test_{name}.py" for name in names)


# Of the tests of a room, those are run that reach the line that is changed.
ROOMS = {
    "core": Room(
        ("fixgw/*.py",),
        _tests("core", "*")
        + _tests("service", "[!ds]*", "doctor", "service*")
        + _tests("cli", *(f"cli_{command}" for command in ("client", "console", "dispatch", "doctor", "log")))
        + _tests("cli", "cli_record_raw", "cli_replay", "cli_server")
        + _tests("plugins", "replay", "small_ones")
        + _tests("drivers", "canfix_votes")
        + _tests("recording", "raw"),
    ),
    "database": Room(
        ("fixgw/database/*.py",),
        _tests("core", "database*", "batch", "annunciate", "claims", "override", "legacy_api", "rawitem", "feeders")
        + _tests("core", "reports", "settings", "worlds")
        + _tests("plugins", "compare"),
    ),
    "configuration": Room(
        ("fixgw/configuration/*.py",),
        _tests("core", "configuration", "reader", "items", "options", "secrets", "incumbent", "claims", "units"),
    ),
    "kit": Room(
        ("fixgw/kit/*.py",),
        _tests("core", "candump", "complaints", "curve", "expression", "feeders", "lines", "majority", "options")
        + _tests(
            "core", "airdata", "outward", "override", "phases", "place", "plugin_base", "publish", "raw", "rawreplay"
        )
        + _tests("core", "sources", "stepper", "traffic", "units", "update")
        + _tests("plugins/compute", "*")
        + _tests("recording", "raw", "anonymous")
        + _tests("drivers", "nmea0183_out"),
    ),
    "net": Room(("fixgw/net/*.py",), _tests("net", "*")),
    "links": Room(
        ("drivers/links/**/*.py",),
        _tests("drivers/links", "*")
        + _tests("drivers/links/can", "*")
        + _tests("drivers", "gpio_driver", "rtl_433")
        + _tests("service", "doctor"),
    ),
    "protocols": Room(
        ("drivers/*/protocol.py",),
        _tests("drivers", "{driver}", "{driver}_pro*", "ranges") + _tests("recording", "anonymous"),
    ),
}
#: For modules that no test of their room imports, the tests of those that use them.
THROUGH_OTHERS = {
    "drivers/links/can/instrument.py": _tests("drivers", "megasquirt"),
    "drivers/links/can/log.py": _tests("drivers", "canfix_tools"),
    "drivers/links/can/python_can.py": _tests("drivers/links/can", "bus"),
    "drivers/links/chips.py": _tests("core", "rawreplay"),
    "drivers/links/instrument.py": _tests("core", "plugin_base") + _tests("drivers", "eis"),
    "drivers/links/opening.py": _tests("drivers/links", "serial") + _tests("drivers/links/can", "bus"),
    "drivers/links/recorded.py": _tests("drivers/links", "raw_tap"),
    "drivers/links/simulator.py": _tests("drivers", "xplane", "fgfs"),
    "fixgw/configuration/playback.py": _tests("cli", "cli_playback"),
    "fixgw/kit/navigation.py": _tests("plugins/compute", "compute_formulas", "compute_vectors"),
    "fixgw/kit/place.py": _tests("drivers", "stratux", "xgps", "gpsd"),
}


class Result(NamedTuple):
    """How the mutants of a room fared."""

    explained: int
    hung: int
    failed: int
    survivors: list[Mutant]

    @property
    def noticed(self) -> float:
        """The share of the mutants that are not explained."""
        killed = self.hung + self.failed
        return killed / (killed + len(self.survivors)) if killed else float(not self.survivors)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make mutate", description="Test the tests.")
    parser.add_argument(
        "what", nargs="*", metavar="FILE|ROOM", help=f"files of the clone, or {', '.join(ROOMS)} (default: all rooms)"
    )
    parser.add_argument("--sample", type=int, help="mutants per room (default: 25; of files, all)")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="of the sample")
    args = parser.parse_args()
    rooms = {name: code_of(room) for name, room in ROOMS.items()}
    named = {file for files in rooms.values() for file in files} & {*args.what}
    if unknown := {*args.what} - named - {*ROOMS}:
        parser.error(f"neither a room nor a file in one: {', '.join(sorted(unknown))}")
    sample = args.sample or (0 if named else 25)
    print(f"seed {args.seed}", flush=True)
    sandbox = Sandbox(CLONE, lambda text: print(text, flush=True))
    bad = []
    for name, room in rooms.items():
        files = [file for file in room if not args.what or name in args.what or file in named]
        if not files:
            continue
        result = judge(sandbox, name, draw(sandbox.root, files, sample, random.Random(f"{args.seed} {name}")))
        report(name, result)
        if result.noticed < AT_LEAST:
            bad.append(name)
    sandbox.remove()
    print(f"too many survive in {', '.join(bad)}" if bad else "enough are noticed")
    return int(bool(bad))


def code_of(room: Room) -> list[str]:
    return sorted({str(path.relative_to(CLONE)) for pattern in room.code for path in CLONE.glob(pattern)})


def draw(root: Path, files: list[str], sample: int, chance: random.Random) -> Iterator[Mutant]:
    """Mutants of these files, at different places each; with no `sample`, all."""
    found = [place for file in files for place in places(root, file)]
    if not sample:
        yield from (mutant for place in found for change in place.changes if (mutant := mutate(root, place, change)))
    for place in chance.sample(found, min(sample, len(found))):
        if mutant := mutate(root, place, chance.choice(place.changes)):
            yield mutant


def judge(sandbox: Sandbox, room: str, mutants: Iterator[Mutant]) -> Result:
    explained, outcomes, survivors = 0, [], []
    for number, mutant in enumerate(mutants, 1):
        if number % PROGRESS == 0:
            print(f"{room}: mutant {number}", flush=True)
        if is_explained(mutant):
            explained += 1
            continue
        outcomes.append(outcome(sandbox, room, mutant))
        if not outcomes[-1]:
            survivors.append(mutant)
            print(f"\n{mutant.file}, {mutant.function or 'the module'}\n{mutant.diff}\n", flush=True)
    return Result(explained, outcomes.count("hung"), outcomes.count("failed"), survivors)


def outcome(sandbox: Sandbox, room: str, mutant: Mutant) -> str:
    """How the tests of the room noticed the mutant, those that import the module first; empty if they did not."""
    own, others = files_of_tests(sandbox.root, room, mutant.file)
    for files in (own, others):
        tests = tests_of(sandbox, files, mutant, about_it=files is own)
        if tests and (noticed := sandbox.outcome(mutant.file, mutant.code, tests)):
            return noticed
    return ""


def tests_of(sandbox: Sandbox, files: list[str], mutant: Mutant, about_it: bool) -> dict[str, float]:
    """The tests that reach the lines of a mutant, with their times. If the lines are run before the first test, when
    files are loaded, those are all tests that reach its file; if the tests are `about_it`, also the others, which may
    look at a constant."""
    near: dict[str, Reach] = {}
    nearest: dict[str, Reach] = {}
    for file in files:
        reaches = sandbox.reach(file)
        there = {test: reach for test, reach in reaches.items() if test != LOADING and mutant.file in reach.lines}
        near |= there
        if not mutant.lines.isdisjoint(reaches[LOADING].lines.get(mutant.file, [])):
            nearest |= {t: reach for t, reach in reaches.items() if t != LOADING} if about_it else there
        nearest |= {t: reach for t, reach in there.items() if not mutant.lines.isdisjoint(reach.lines[mutant.file])}
    left = LONGEST_S
    tests: dict[str, float] = {}
    for test, reach in sorted((nearest or near).items(), key=lambda item: item[1].seconds):
        left -= reach.seconds
        if left < 0 and tests:
            break
        tests[test] = reach.seconds
    return tests


def files_of_tests(root: Path, room: str, file: str) -> tuple[list[str], list[str]]:
    """The files of tests for a module: those that are about it, and the others of its room."""
    name = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    module = f"fixgw.{name.removeprefix('fixgw.')}"
    driver = Path(file).parent.name
    found = {path for pattern in ROOMS[room].tests for path in root.glob(pattern.format(driver=driver))}
    own = {path for path in found if module in imports(path)}
    own.update(root / tests for tests in THROUGH_OTHERS.get(file, ()))
    return [str(p.relative_to(root)) for p in sorted(own)], [str(p.relative_to(root)) for p in sorted(found - own)]


@cache
def imports(path: Path) -> set[str]:
    """What a file of tests imports, by full names."""
    names = set()
    for package, what in IMPORT.findall(path.read_text(encoding="utf-8")):
        names.add(package)
        names.update(f"{package}.{name.split()[0]}".lstrip(".") for name in what.split(",") if name.strip())
    return names


def report(room: str, result: Result) -> None:
    killed = result.failed + result.hung
    hung = f" ({result.hung} hung)" if result.hung else ""
    survived = len(result.survivors)
    print(
        f"{room}: {killed + survived + result.explained} mutants, {killed} killed{hung}, {survived} survived, "
        f"{result.explained} explained: {result.noticed:.0%}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
