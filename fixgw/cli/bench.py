"""``fixgw bench``: flies scenarios and judges what a gateway makes of them."""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fixgw.cli import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    Subparsers,
    add_command,
    address,
    complain,
    stop_on_signal,
    text,
)
from fixgw.cli.sim import print_event
from fixgw.errors import FixgwError, counted, did_you_mean
from fixgw.netfix.sentence import PORT

if TYPE_CHECKING:
    from fixgw.cli.junit import Report
    from fixgw.cli.trials import Flown
    from fixgw.hw_sim.scenario import Scenario

EXIT_CANNOT = EXIT_USAGE  # a file could not be run
LONGEST_LAPSE_S = 10.0  # most values age sooner


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    group = add_command(
        subparsers,
        "bench",
        run_files,
        "  run      fly scenarios, and say which of their expectations came true\n\n"
        "`fixgw bench run --help` describes it.",
        "  fixgw bench run oil-pressure\n  fixgw bench run *.yaml --junit results.xml",
    )
    kinds = group.add_subparsers(dest="what", required=True, metavar="run")
    parser = kinds.add_parser(
        "run",
        description="Flies scenarios with the real drivers of a gateway, and judges what it publishes by what the\n"
        "files expect. Each FILE is a scenario, or the name of a packaged one. By default, time is virtual: a\n"
        "flight takes as long as the computer needs for it, nothing is opened, and the same file has the same\n"
        "outcome. With --live, the instruments are on virtual devices in real time; with --device, on real\n"
        "adapters.",
        epilog="exit codes: 0 everything came true, 1 something did not, 2 a file could not be run\n\n"
        "examples:\n"
        "  fixgw bench run oil-pressure\n"
        "  fixgw bench run tests/*.yaml --junit results.xml\n"
        "  fixgw bench run gremlins --seed 7 --set faults=20\n"
        "  fixgw bench run mine.yaml --config-file ~/.config/fixgw/default.yaml\n"
        "  fixgw bench run hour --lapse 1\n"
        "  fixgw bench run mine.yaml --live\n"
        "  fixgw bench run mine.yaml --gateway 192.168.1.10 --device gps=/dev/ttyUSB0 --device can=socketcan:can0",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help="scenarios, or the names of packaged ones")
    parser.add_argument("--live", action="store_true", help="in real time, with virtual devices")
    parser.add_argument(
        "--device",
        metavar="NAME=WHERE",
        action="append",
        default=[],
        type=_device,
        help="in real time, with this instrument on a real serial port, or this CAN instrument (`can`: the nodes) on "
        "INTERFACE:CHANNEL of python-can; may be repeated",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--gateway",
        metavar="HOST[:PORT]",
        type=partial(address, default_port=PORT),
        help="in real time, judge the gateway that runs there, by NetFIX",
    )
    where.add_argument(
        "--config-file",
        metavar="FILE",
        default="",
        help="the configuration to judge; default: the one that the scenario names, or that of `fixgw demo`",
    )
    parser.add_argument(
        "--lapse",
        metavar="SECONDS",
        type=_lapse,
        help="on the virtual clock, fly by steps of so many seconds while nothing happens and nothing is being judged; "
        "each device sends once a step",
    )
    parser.add_argument("--junit", metavar="FILE", type=Path, help="write the results as JUnit XML")
    parser.add_argument("--seed", metavar="N", type=int, help="the seed of random faults; default: the scenario's")
    parser.add_argument(
        "--set",
        metavar="NAME=VALUE",
        dest="given",
        action="append",
        default=[],
        type=_setting,
        help="the value of a parameter of the scenario; may be repeated",
    )
    parser.add_argument("--verbose", action="store_true", help="print events as well, and the log of the gateway")
    parser.set_defaults(usage_error=parser.error)


def _pair(text: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not {form}")
    return name, value


def _device(text: str) -> tuple[str, str]:
    from fixgw.hw_sim.devices import can_instruments, instruments

    name, where = _pair(text, "NAME=WHERE, such as gps=/dev/ttyUSB0")
    on_bus = ("can", *can_instruments())
    if name not in on_bus and name not in instruments():
        meant = did_you_mean(name, (*on_bus, *instruments()))
        raise argparse.ArgumentTypeError(f"no instrument {name!r}{meant}")
    if name in on_bus and not all(where.partition(":")):
        raise argparse.ArgumentTypeError(f"{text!r} is not {name}=INTERFACE:CHANNEL, such as {name}=socketcan:can0")
    return name, where


def _lapse(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds <= LONGEST_LAPSE_S:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0, up to {LONGEST_LAPSE_S:g}")
    return seconds


def _setting(text: str) -> tuple[str, str]:
    return _pair(text, "NAME=VALUE")


def run_files(args: argparse.Namespace) -> int:
    """Run every file, print and write the results, and return the exit code."""
    _check_usage(args)
    reports: list[Report] = []
    with stop_on_signal() as interrupted, ExitStack() as stack:
        if args.junit is not None:  # now, not after an hour of flight
            from fixgw.cli.junit import document

            try:
                junit = stack.enter_context(open(args.junit, "wb"))
            except OSError as error:
                complain(f"--junit: {args.junit}: {error.strerror}")
                return EXIT_CANNOT
            stack.callback(lambda: junit.write(document(reports)))
        stack.enter_context(_quiet(args.verbose))
        scenarios, troubled = _load(args)
        if troubled:
            complain("\n".join(report.trouble for report in troubled))
            reports += troubled
            return EXIT_CANNOT
        for name, scenario in scenarios.items():
            report = _run(name, scenario, args, interrupted)
            if interrupted.is_set():
                return EXIT_INTERRUPTED
            reports.append(report)
    _summarize(reports)
    if any(report.trouble for report in reports):
        return EXIT_CANNOT
    return EXIT_FAILED if any(report.failed for report in reports) else EXIT_DONE


def _check_usage(args: argparse.Namespace) -> None:
    devices = dict(args.device)
    if len(devices) < len(args.device):
        args.usage_error("--device: an instrument is named twice")
    shared = [name for name, where in devices.items() if list(devices.values()).count(where) > 1]
    if shared:
        args.usage_error(f"--device: {' and '.join(shared)} have the same port")
    if args.live and (args.gateway or devices):
        args.usage_error("--live has virtual devices of its own: leave it out with --gateway and --device")
    if args.lapse and (args.live or args.gateway or devices):
        args.usage_error("--lapse is for the virtual clock: leave it out with --live, --gateway and --device")
    if devices and not (args.gateway or args.config_file):
        args.usage_error("--device needs the gateway that has the other end: --gateway or --config-file")


@contextmanager
def _quiet(verbose: bool) -> Iterator[None]:
    """Log nothing, or, if `verbose`, what the gateway logs."""
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
        yield
        return
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _load(args: argparse.Namespace) -> tuple[dict[str, Scenario], list[Report]]:
    """The scenarios by file, and a report on each file that has problems; nothing is flown then."""
    from fixgw.cli.junit import Report
    from fixgw.hw_sim import scenario as scenarios

    given = dict(args.given)
    known: set[str] = set()
    loaded: dict[str, Scenario] = {}
    troubled: list[Report] = []
    for name in dict.fromkeys(args.files):
        try:
            path = scenarios.find(name)
            declared = scenarios.declared(path)
            known |= declared.keys()
            loaded[name] = scenarios.load(path, {n: given[n] for n in given if n in declared}, args.seed)
        except FixgwError as error:
            troubled.append(Report(name, [], trouble=str(error)))
    if not troubled and (unknown := [name for name in given if name not in known]):
        words = "\n".join(f"--set: no parameter {name!r}{did_you_mean(name, known)}" for name in unknown)
        troubled.append(Report("--set", [], trouble=words))
    return loaded, troubled


def _run(name: str, scenario: Scenario, args: argparse.Namespace, interrupted: threading.Event) -> Report:
    from fixgw.cli.junit import Report

    text.show(f"{name}: {scenario.description}" if scenario.description else name)
    properties: dict[str, object] = {}
    if scenario.seed is not None:
        properties["seed"] = scenario.seed
        print(f"  seed {scenario.seed} (for the same faults again: --seed {scenario.seed})", flush=True)
    if scenario.parameters:
        properties.update(scenario.parameters)
        text.show(f"  with {', '.join(f'{name}={value}' for name, value in scenario.parameters.items())}")
    try:
        if not scenario.expectations:
            raise FixgwError("it expects nothing")
        flown = _fly(scenario, args, interrupted)
    except BrokenPipeError:  # the reader of the output has gone
        raise
    except (FixgwError, OSError) as error:
        complain(f"{name}: {error}")
        return Report(name, [], 0.0, properties, str(error))
    for verdict in () if interrupted.is_set() else flown.verdicts:
        if verdict.met:
            text.show(f"  met     {verdict.title} ({verdict.words})")
        else:
            places = [f"          {verdict.place}"] if verdict.place else []
            text.show(f"  FAILED  {verdict.title}", f"          {verdict.words}", *places)
    return Report(name, flown.verdicts, flown.seconds, properties)


def _fly(scenario: Scenario, args: argparse.Namespace, interrupted: threading.Event) -> Flown:
    """Raises FixgwError or OSError if that is not possible."""
    from fixgw.cli import trials
    from fixgw.hw_sim.network import own_host

    tell = _tell if args.verbose else None
    if not (args.live or args.device or args.gateway):
        from fixgw.hw_sim.bench.rig import VARIABLES

        virtual = trials.configuration_for(scenario, args.config_file, VARIABLES)
        return trials.fly_virtually(scenario, virtual, tell, interrupted=interrupted, lapse=args.lapse)
    with tempfile.TemporaryDirectory(prefix="fixgw-bench-") as directory, ExitStack() as stack:
        stack.enter_context(_state_in(directory))
        folder = Path(directory)
        loaded = None  # the gateway is elsewhere
        if not args.gateway:
            variables = {"SIM": directory, "GPS": "sim/gps", "HOST": own_host()}
            loaded = trials.configuration_for(scenario, args.config_file, variables)
            if not args.config_file:
                loaded = trials.on_free_ports(loaded)
        if args.device or loaded is None:
            world = trials.on_adapters(scenario, dict(args.device), folder, tell)
        else:
            world = trials.bench(scenario, loaded, folder, tell)
        stack.callback(world.stop)
        subject = trials.GatewayElsewhere(*args.gateway) if loaded is None else trials.OwnGateway(loaded)
        missing = "" if args.live else ": name its adapter with --device"
        return trials.fly_live(scenario, subject, world, interrupted, missing)


def _tell(at: float, words: str) -> None:
    with suppress(BrokenPipeError):  # this may be the thread that flies; the results will notice
        print_event(at, words)


@contextmanager
def _state_in(directory: str) -> Iterator[None]:
    """Keep what drivers save in a directory."""
    before = os.environ.get("STATE_DIRECTORY")
    os.environ["STATE_DIRECTORY"] = directory
    try:
        yield
    finally:
        if before is None:
            del os.environ["STATE_DIRECTORY"]
        else:
            os.environ["STATE_DIRECTORY"] = before


def _summarize(reports: list[Report]) -> None:
    verdicts = [verdict for report in reports for verdict in report.verdicts]
    met = sum(verdict.met for verdict in verdicts)
    words = [f"{met} of {counted(len(verdicts), 'expectation')} met"]
    if troubled := sum(bool(report.trouble) for report in reports):
        words.append(f"{counted(troubled, 'file')} could not be run")
    print(f"{', '.join(words)} ({sum(report.seconds for report in reports):.0f} s of flight)", flush=True)
