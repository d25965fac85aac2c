"""The command report: of keys, their definition; of a flight, what happened; of neither, a file for a bug report."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from datetime import UTC, datetime

from fixgw.cli import EXIT_DONE, Subparsers, add_client_options, add_command, client
from fixgw.cli.client import talk
from fixgw.cli.reading import FLIGHT_HELP, Bar, add_part, flight_of, period
from fixgw.cli.text import printable, table
from fixgw.errors import FixgwError
from fixgw.recording.report import Excess, Report, as_json, report

SUFFIXES = (".mcap", ".part", ".json")
MOST_EXCESSES = 50  # in the text; JSON has more


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        subparsers,
        "report",
        run,
        "Of keys, a running gateway prints type, units, range, and the aux values as currently set.\n\n"
        "Without KEY and FLIGHT, it writes fixgw-report-DATE-TIME.txt for a bug report: versions, configuration,\n"
        "status, log and the findings of `fixgw doctor`. Passwords and the like are masked; look it through all the\n"
        "same. It works without a running gateway, too.\n\n"
        "Of a recorded flight: block and flight times, fuel used, the greatest values and when they were reached,\n"
        "alerts, and values beyond the limits in the aux values of their keys. Times are UTC.",
        "  fixgw report\n  fixgw report IAS\n  fixgw report 20260516-140500-1\n  fixgw report flight.mcap --json",
    )
    parser.add_argument("what", metavar="KEY|FLIGHT", nargs="*", help=f"keys or patterns; or {FLIGHT_HELP}")
    parser.add_argument("--json", action="store_true", help="print JSON, for a logbook or a script")
    add_part(parser.add_argument_group("of a flight"))
    add_client_options(parser.add_argument_group("of keys, and for a bug report"))


def run(args: argparse.Namespace) -> int:
    if not args.what:
        if args.json:
            raise FixgwError("--json is for keys and flights: name them")
        from fixgw.cli import bugreport

        return bugreport.run(args)
    if not any(map(names_a_flight, args.what)):
        return talk(argparse.Namespace(**{**vars(args), "keys": args.what, "action": client.report}))
    if len(args.what) > 1:
        raise FixgwError("one flight at a time, and no keys with it")
    (args.flight,) = args.what
    with flight_of(args) as (recording, span):
        bar = Bar()
        try:
            found = report(recording, span, bar)
        finally:
            bar.close()
        if args.json:
            print(json.dumps(as_json(found), indent=2))
        else:
            print("\n".join(lines(found)))
    return EXIT_DONE


def names_a_flight(word: str) -> bool:
    """Whether a word is the name or the path of a recording, and neither a key nor a pattern for keys."""
    return word[:1].isdigit() or "/" in word or word.endswith(SUFFIXES) or ("-" in word and "[" not in word)


def lines(found: Report) -> Iterator[str]:
    """The report as text."""
    about = found.about
    marks = ", SIMULATED" if about.simulated else ""
    yield printable(f"{about.name}: {about.ident or 'no ident'}{marks}, {period(about, found.span.shift)}")
    yield ""
    if found.began_in_flight:
        yield "The recording begins in flight."
    if found.ended_in_flight:
        yield "The recording ends in flight."
    yield from table(_times(found), "  ")
    if found.extremes:
        yield from ("", "Greatest values, and least values in flight")
        yield from table(
            (
                [
                    e.key,
                    "" if e.kind == "greatest" else "least",
                    f"{e.value:.4g} {e.unit}".rstrip(),
                    _clock(found, e.time),
                ]
                for e in found.extremes
            ),
            "  ",
        )
    yield ""
    if not found.excesses:
        yield "No alerts, and nothing beyond the recorded limits."
        return
    yield "Alerts, and values beyond their limits"
    yield from table((_excess(found, e) for e in found.excesses[:MOST_EXCESSES]), "  ")
    if len(found.excesses) > MOST_EXCESSES:
        yield f"  and {len(found.excesses) - MOST_EXCESSES} more: --json has them"


def _times(found: Report) -> Iterator[tuple[str, ...]]:
    yield from (
        (words, _clock(found, time))
        for words, time in (("engine started", found.engine_start), ("off block", found.block_off))
    )
    for number in range(max(len(found.takeoffs), len(found.landings))):
        if found.began_in_flight:
            pairs = (("landing", found.landings), ("take-off", found.takeoffs))
        else:
            pairs = (("take-off", found.takeoffs), ("landing", found.landings))
        yield from ((words, _clock(found, times[number])) for words, times in pairs if number < len(times))
    yield "on block", _clock(found, found.block_on)
    yield "engine stopped", _clock(found, found.engine_stop)
    yield "block time", "unknown" if found.block_s is None else hours(found.block_s)
    yield "flight time", hours(found.flight_s)
    fuel = (
        "unknown" if found.fuel_used is None else f"{found.fuel_used:.1f} {found.fuel_unit}, by the {found.fuel_source}"
    )
    yield "fuel used", fuel


def _excess(found: Report, excess: Excess) -> list[str]:
    until = _clock(found, excess.until) if excess.until is not None else "the end"
    seconds = (found.span.until if excess.until is None else excess.until) - excess.since
    worst = f"{excess.worst:.4g}, limit {excess.limit:.4g}" if excess.worst is not None else ""
    return [excess.level, excess.what, f"{_clock(found, excess.since)} to {until}", f"{seconds:.0f} s", worst]


def _clock(found: Report, time: float | None) -> str:
    """The time of day, UTC; minutes and seconds from the beginning if the recording has no date."""
    if time is None:
        return "unknown"
    if found.about.dated or found.span.shift:
        return datetime.fromtimestamp(time + found.span.shift, UTC).strftime("%H:%M:%S")
    minutes, seconds = divmod(round(time - found.about.start), 60)
    return f"+{minutes}:{seconds:02d}"


def hours(seconds: float) -> str:
    """``1:05``, hours and minutes."""
    minutes = round(seconds / 60.0)
    return f"{minutes // 60}:{minutes % 60:02d}"
