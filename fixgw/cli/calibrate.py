"""The command that writes a curve from readings taken while a tank is filled: calibrate."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from statistics import fmean
from typing import Any, NamedTuple

from fixgw.cli import EXIT_DONE, Subparsers, add_client_options, add_command, complain, seconds, text
from fixgw.cli.client import ask_about, connect, new_client
from fixgw.errors import FixgwError, counted

LOOK_S = 0.2  # between two requests for the status
PATIENCE_S = 10.0  # for a fresh reading
MARGIN = 0.1  # of the span of the readings: a sender beyond its ends by more is open or shorted
DIGITS = 5  # of a reading
END = ("done", "end", "quit", "q")


class Raw(NamedTuple):
    """A reading as the driver's status shows it. `number` counts the readings."""

    reading: float | None
    units: str
    number: int
    ohms: float | None

    def __str__(self) -> str:
        if self.reading is None:
            return "no reading"
        ohms = "" if self.ohms is None else f" ({self.ohms:.4g} ohms)"
        return f"{self.reading:.{DIGITS}g} {self.units}".rstrip() + ohms


class Point(NamedTuple):
    reading: float
    value: float


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        subparsers,
        "calibrate",
        calibrate,
        "The gateway must run, with a curve for KEY: any will do. Bring the sensor to a known value (fill the tank),\n"
        "wait until it has settled, type the value and press Enter. Enter alone shows the present reading, `undo`\n"
        "removes the last point, and `done` or Ctrl-D ends. Nothing is changed in the gateway: the curve is printed,\n"
        "to replace the `curve:` of the key in the configuration.",
        "  fixgw calibrate FUELQ1\n"
        "  fixgw calibrate FUELQ1 --output left-tank.yaml\n"
        "  fixgw calibrate FUELQ1 --connection adc",
    )
    parser.add_argument("key", metavar="KEY", help="the key that the sensor writes")
    parser.add_argument("--connection", metavar="NAME", help="the connection, if several of them read KEY")
    parser.add_argument("--output", metavar="FILE", help="write the curve to a new file as well")
    parser.add_argument(
        "--seconds", type=seconds, default=2.0, help="how long to average the reading for a point (default: 2)"
    )
    add_client_options(parser)


def calibrate(args: argparse.Namespace) -> int:
    if args.output and os.path.exists(args.output):  # before the user fills a tank for it
        return complain(f"{args.output} exists already: choose another file")
    client = new_client(args)
    connect(client)
    try:
        units = ask_about(client, args.key, client.report).units
        name = _connection(client.status(), args.key, args.connection)

        def look() -> Raw:
            found = find(client.status(), args.key).get(name)
            if found is None:
                raise FixgwError(f"{name} no longer has a reading of {args.key}: `fixgw status` says why")
            return found

        points = _ask(args.key, units, look, args.seconds)
    finally:
        client.disconnect()
    if len(points) < 2:
        return complain(f"a curve needs at least two points; there {'is' if len(points) == 1 else 'are'} {len(points)}")
    curve = "\n".join(curve_lines(points)) + "\n"
    print(curve, end="")
    if args.output:
        with open(args.output, "x", encoding="utf-8") as file:
            file.write(curve)
    return EXIT_DONE


def find(tree: dict[str, Any], key: str) -> dict[str, Raw]:
    """The readings of `key` in the status of a gateway, by connection."""
    found = {}
    for name, connection in (tree.get("connections") or {}).items():
        status = connection.get("status") if isinstance(connection, dict) else None
        facts = ((status or {}).get("readings") or {}).get(key) if isinstance(status, dict) else None
        if isinstance(facts, dict):
            found[name] = Raw(facts.get("reading"), facts.get("units", ""), facts.get("number", 0), facts.get("ohms"))
    return found


def _connection(tree: dict[str, Any], key: str, wanted: str | None) -> str:
    """The connection that reads `key`. Raises `FixgwError`."""
    found = find(tree, key)
    if wanted is not None and wanted not in found:
        raise FixgwError(f"connection {wanted!r} has no reading of {key}")
    if not found:
        raise FixgwError(
            f"no connection has a reading of {key}: a running one that is connected and has a `curve` for it shows it "
            "in `fixgw status --verbose`, under `readings`"
        )
    if wanted is None and len(found) > 1:
        raise FixgwError(f"{key} is read by {', '.join(found)}: choose one with --connection")
    return wanted or next(iter(found))


def _ask(key: str, units: str, look: Callable[[], Raw], wait: float) -> list[Point]:
    """Take points until the user has finished."""
    points: list[Point] = []
    print(
        f"{key} in {units or 'its units'}: type the value, `undo` or `done`; Enter shows the reading.", file=sys.stderr
    )
    for line in _lines(lambda: f"{key} reads {look()}; value: "):
        word = line.strip().lower()
        if not word:
            continue
        if word in END:
            break
        if word == "undo":
            print(f"removed {points.pop().value:g}" if points else "there is no point yet", file=sys.stderr)
            continue
        try:
            value = float(word)
        except ValueError:
            value = float("nan")
        if abs(value) >= float("inf") or value != value:
            print(f"{line.strip()!r} is not a number", file=sys.stderr)
            continue
        taken = [raw for raw in fresh(look, wait) if raw.reading is not None]
        if not taken:
            print(f"no new reading within {max(wait, PATIENCE_S):g} s: is the sensor connected?", file=sys.stderr)
            continue
        readings = [raw.reading for raw in taken if raw.reading is not None]
        mean, noise = float(f"{fmean(readings):.{DIGITS}g}"), max(readings) - min(readings)
        same = [p for p in points if abs(p.reading - mean) <= noise or p.reading == mean]
        if any(p.value != value for p in same):
            print(f"it still reads as it did at {same[0].value:g}, so this point was not taken", file=sys.stderr)
            continue
        points = [p for p in points if p not in same and p.value != value] + [Point(mean, value)]
        print(
            f"point {len(points)}: {taken[-1]._replace(reading=mean)} is {value:g} {units}".rstrip()
            + f"; {counted(len(readings), 'reading')} within {noise:.2g}",
            file=sys.stderr,
        )
    values = [p.value for p in sorted(points)]
    if values not in (sorted(values), sorted(values, reverse=True)):
        print("caution: the value does not rise or fall throughout; look at the points below", file=sys.stderr)
    return points


def _lines(prompt: Callable[[], str]) -> Iterator[str]:
    """The user's input, line by line. The prompt goes to stderr: stdout is for the curve."""
    while True:
        print(prompt(), end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not sys.stdin.isatty() or not line:
            print(file=sys.stderr)
        if not line:
            return
        yield line


def fresh(look: Callable[[], Raw], wait: float, clock: Callable[[], float] = time.monotonic) -> Iterator[Raw]:
    """The readings taken from now on, for `wait` seconds; for the first one, up to `PATIENCE_S`."""
    last, began, some = look().number, clock(), False
    while clock() - began < (wait if some else max(wait, PATIENCE_S)):
        time.sleep(LOOK_S)
        raw = look()
        if raw.number != last:
            last, some = raw.number, some or raw.reading is not None
            yield raw


def curve_lines(points: list[Point]) -> list[str]:
    """The YAML of the curve. A reading a little beyond an end is full or empty; far beyond it the sender is broken."""
    ordered = sorted(points)
    low, high = ordered[0].reading, ordered[-1].reading
    margin = (high - low) * MARGIN
    limits = ", ".join(f"{edge:.{DIGITS}g}" for edge in (low - margin, high + margin))
    pairs = [f"  - [{text.value_text(p.reading)}, {text.value_text(p.value)}]" for p in ordered]
    return ["curve:", "  points:", *pairs, "  beyond: clamp", f"  limits: [{limits}]"]
