"""``python -m benchmarks [--record] [MODULE ...]``: measure, and compare with the budgets and the recorded run.

``python -m benchmarks --against HOST:PORT`` measures a running NetFIX gateway of any make; see `benchmarks._against`.

Each run also times a loop of plain Python. If a measurement depends on the processor (times, shares of a core, rates),
the ratio is corrected by that loop: a ratio of 1.3 means that the gateway became slower, not that the machine is
slower. The budgets apply to the machines of continuous integration, and are not corrected.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from timeit import repeat
from typing import Any

import benchmarks
from benchmarks import Row
from fixgw.errors import counted

BASELINE = Path(__file__).with_name("baseline.json")
WIDTHS = "{:<62} {:>12} {:<12} {:>10}  {:<4} {:>7}"


def modules() -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules(benchmarks.__path__) if not m.name.startswith("_"))


def calibrate() -> float:
    """Microseconds of a fixed piece of plain Python: calls, attributes, a dictionary, floats, strings.

    The best of many short runs, so that other work on the machine hardly matters.
    """

    class Thing:
        def __init__(self, value: float) -> None:
            self.value = value

    def work() -> None:
        seen: dict[str, Thing] = {}
        for n in range(1000):
            thing = Thing(n * 0.5)
            seen[f"KEY{n % 100}"] = thing
            if thing.value < 0:
                seen.clear()

    return min(repeat(work, number=1, repeat=400)) * 1e6


def ratio(row: Row, calibration: float, recorded: dict[str, Any] | None) -> float | None:
    """How many times worse than recorded (below 1: better), corrected for the machine; None without a record."""
    _, value, unit, _, better = row
    if recorded is None or recorded["unit"] != unit or not value or not recorded["value"]:
        return None
    slowness = calibration / recorded["calibration"]
    if unit.endswith("/s"):
        value *= slowness
    elif unit in ("µs", "ms", "s", "% of a core"):
        value /= slowness
    before: float = recorded["value"]
    return value / before if better == "lower" else before / value


def met(row: Row) -> bool:
    _, value, _, budget, better = row
    return value <= budget if better == "lower" else value >= budget


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def line(row: Row, calibration: float, recorded: dict[str, Any] | None) -> str:
    name, value, unit, budget, better = row
    compared = ratio(row, calibration, recorded)
    return WIDTHS.format(
        name,
        number(value),
        unit,
        ("≤ " if better == "lower" else "≥ ") + number(budget),
        "met" if met(row) else "NOT",
        "" if compared is None else f"{compared:.2f}",
    )


def measure_another(address: str, pid: int | None) -> int:
    """Print the rows that any NetFIX gateway can be asked for. Returns the exit code."""
    from benchmarks._against import Gateway

    host, _, port = address.rpartition(":")
    print(f"{address}, calibration {calibrate():.0f} µs")
    try:
        with Gateway(host, int(port), pid) as gateway:
            for name, value, unit, _, _ in gateway.rows():
                print(f"{name:<76} {number(value):>10} {unit}", flush=True)
    except (OSError, ValueError) as error:
        print(f"{address}: {error}")
        return 1
    return 0


def run(names: Iterable[str], record: bool) -> int:
    baseline: dict[str, Any] = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    python = f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}"
    print(f"{python}, calibration {calibrate():.0f} µs; a ratio above 1 is worse than recorded")
    print(WIDTHS.format("measurement", "measured", "", "budget", "", "ratio").rstrip(), flush=True)
    failures = missed = 0
    for name in names:
        calibration = calibrate()  # again for each module: the speed of a machine changes under load
        try:
            heading = ""
            for row in importlib.import_module(f"benchmarks.{name}").rows():
                if row[0].startswith(" "):  # it belongs to the row above
                    key = f"{name}: {heading}, {row[0].strip()}"
                else:
                    heading = row[0]
                    key = f"{name}: {heading}"
                print(line(row, calibration, baseline.get(key)).rstrip(), flush=True)
                missed += not met(row)
                if record:
                    baseline[key] = {
                        "value": float(f"{row[1]:.4g}"),
                        "unit": row[2],
                        "calibration": round(calibration, 1),
                    }
        except Exception as error:
            failures += 1
            print(f"{name}: {type(error).__name__}: {error}", flush=True)
    if record:
        BASELINE.write_text(json.dumps(baseline, indent=2, ensure_ascii=False, sort_keys=True) + "\n")
    if missed:
        print(f"{counted(missed, 'budget')} not met")
    return 1 if failures or missed else 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the cost of the gateway.")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"one of {', '.join(modules())}; default: all")
    parser.add_argument("--record", action="store_true", help=f"save the results in {BASELINE.name}, for comparison")
    parser.add_argument("--against", metavar="HOST:PORT", help="measure a running NetFIX gateway of any make instead")
    parser.add_argument("--pid", type=int, help="its process on this computer, for CPU, wake-ups and memory")
    options = parser.parse_args(arguments)
    if options.against:
        return measure_another(options.against, options.pid)
    if unknown := set(options.modules) - set(modules()):
        parser.error(f"no such module: {', '.join(sorted(unknown))}")
    return run(options.modules or modules(), options.record)


if __name__ == "__main__":
    sys.exit(main())
