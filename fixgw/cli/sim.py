"""``fixgw sim``: virtual instruments for bench tests, without a gateway."""

from __future__ import annotations

import argparse
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fixgw import loader
from fixgw.cli import EXIT_DONE, Subparsers, add_command, address, complain, key_value, seconds, stop_on_signal
from fixgw.errors import did_you_mean

if TYPE_CHECKING:
    from fixgw.hw_sim.network import NetworkInstrument
    from fixgw.hw_sim.scenario import Scenario
    from fixgw.hw_sim.serial import SerialInstrument


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    group = add_command(
        subparsers,
        "sim",
        run_can,
        "  all      the instruments of one aircraft together, each on its own path\n"
        "  can      CAN-FIX nodes on a CAN bus: air data, AHRS, engine monitor, fuel, GPS, controls, panel\n"
        "  serial   an instrument on a virtual serial port: engine monitor, EFIS, GPS, ...\n"
        "  network  what exchanges datagrams: a flight simulator, GDL 90 and NMEA 0183 for tablets, ...\n"
        "  panel    operate the virtual pins of a running gateway: knobs, buttons, switches, lamps\n\n"
        "`fixgw sim can --help` and so on describe each one.",
        "  fixgw sim all --dir bench\n  fixgw sim can --interface socketcan --channel vcan0\n"
        "  fixgw sim can --slcan can0 --scenario misbehaving\n"
        "  fixgw sim serial eis --pty /tmp/eis\n  fixgw sim panel",
    )
    kinds = group.add_subparsers(dest="what", required=True, metavar="all|can|serial|network|panel")
    _add_all(kinds)
    _add_can(kinds)
    _add_serial(kinds)
    _add_network(kinds)
    _add_panel(kinds)


def _add_all(kinds: Subparsers[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "all",
        description="The virtual instruments of one simulated aircraft together, each on its own path in a directory,\n"
        "for any gateway or display: serial ports, slcan adapters for CAN buses, and programs that exchange\n"
        "datagrams. The command prints where each of them is. What they send and what they get is recorded\n"
        "in DIR/sent.mcap, which `fixgw replay` reads.",
        epilog="The same scenario, with a start and a seed, has the same bytes each time. It stops at the end of the\n"
        "scenario, or on Ctrl-C.\n\n"
        "examples:\n  fixgw sim all --dir bench\n  fixgw sim all --dir bench can0 gps eis --scenario loose.yaml\n"
        "  fixgw sim all --dir bench --duration 60 --seed 7",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "instruments", nargs="*", metavar="NAME", help="those to have (default: one of each; can0 is the CAN-FIX bus)"
    )
    parser.add_argument("--dir", required=True, metavar="DIR", help="where to make the paths; made if it is not there")
    parser.add_argument("--host", default="127.0.0.1", help="address of the programs (default: 127.0.0.1)")
    parser.add_argument("--scenario", metavar="FILE", help="the nodes, the flight, and events")
    add_model(parser)
    add_seed(parser)
    parser.add_argument("--no-record", action="store_true", help="do not record what is sent")
    parser.add_argument("--duration", type=seconds, metavar="SECONDS", help="stop after this time")
    parser.set_defaults(run=run_all)


def run_all(args: argparse.Namespace) -> int:
    from fixgw.cli.sim_all import run

    return run(args)


def _add_can(kinds: Subparsers[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "can",
        description="Virtual CAN-FIX nodes, driven by a simulated aircraft, on a bus that other programs can use: any\n"
        "python-can interface, or a virtual slcan adapter. The nodes behave like real ones (heartbeat,\n"
        "identification, limits, disable and enable), and a scenario can make them misbehave.",
        epilog="A scenario is a YAML file, or the name of a packaged scenario; the packaged files show how to write\n"
        "one. The command stops at the end of the scenario or the replay, or on Ctrl-C.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--interface", metavar="NAME", help="a python-can interface such as socketcan")
    parser.add_argument("--channel", help="the interface's channel, such as can0")
    parser.add_argument(
        "--bitrate",
        type=int,
        choices=(125_000, 250_000, 500_000, 1_000_000),
        help="the bus's bit rate (default: the scenario's; an interface's own setting is not changed)",
    )
    parser.add_argument(
        "--option",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        type=key_value,
        help="another python-can option for this interface; may be repeated",
    )
    parser.add_argument(
        "--slcan",
        metavar="PATH",
        action="append",
        default=[],
        help="create a virtual slcan adapter at PATH; may be repeated: each program needs an adapter of its own",
    )
    parser.add_argument(
        "--instrument",
        metavar="NAME",
        action="append",
        default=[],
        help="in place of the CAN-FIX nodes, an instrument that speaks another protocol: megasquirt or rdac",
    )
    parser.add_argument(
        "--scenario", metavar="FILE", help="the nodes and events (default: one healthy node of each kind)"
    )
    add_seed(parser)
    parser.add_argument(
        "--replay",
        metavar="LOG",
        help="replay a `candump -l` log, instead of the nodes, or in addition to those of a --scenario",
    )
    parser.add_argument(
        "--speed",
        type=_parse_speed,
        default=1.0,
        metavar="FACTOR",
        help="speed of the replay (default: 1; 0: as fast as possible)",
    )
    parser.add_argument("--duration", type=seconds, metavar="SECONDS", help="stop after this time")
    parser.set_defaults(run=run_can)


def _add_serial(kinds: Subparsers[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "serial",
        description="A virtual instrument, driven by a simulated aircraft, on a pseudo-terminal, for any gateway,\n"
        "display or test program. It sends the same data as the real instrument, at the same rate and speed.",
        epilog="Without a name, the command lists the instruments. It stops at the end of the scenario, or on Ctrl-C.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("instrument", nargs="?", help="its name, or a module of yours in this folder")
    parser.add_argument("--pty", metavar="PATH", help="where to create the port (default: a temporary path)")
    parser.add_argument("--baud", type=int, help="baud rate (default: the real instrument's)")
    parser.add_argument("--scenario", metavar="FILE", help="the flight, and events that happen to the instrument")
    add_seed(parser)
    parser.add_argument("--duration", type=seconds, metavar="SECONDS", help="stop after this time")
    parser.set_defaults(run=run_serial)


def _add_network(kinds: Subparsers[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "network",
        description="A virtual program or receiver on the network, driven by a simulated aircraft, that exchanges\n"
        "datagrams with a gateway, a display or an app on a tablet, as the real one does.",
        epilog="Without a name, the command lists them. It stops at the end of the scenario, or on Ctrl-C.\n\n"
        "examples:\n  fixgw sim network stratux --to 192.168.4.20:4000    GDL 90 for an app on a tablet\n"
        "  fixgw sim network gps --to 192.168.4.255:10110      NMEA 0183 for a whole network\n"
        "  fixgw sim network xplane --to 127.0.0.1:49001",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("instrument", nargs="?", metavar="program", help="its name")
    parser.add_argument("--host", help="address to receive at (default: 127.0.0.1; of instruments: any)")
    parser.add_argument("--port", type=int, help="port to receive at (default: the real one's; of instruments: any)")
    parser.add_argument(
        "--to",
        metavar="HOST:PORT",
        type=address,
        help="where to send what nobody asks for, also a broadcast address (default of\n"
        "instruments: the real one's port of this computer)",
    )
    add_model(parser)
    add_seed(parser)
    parser.add_argument("--scenario", metavar="FILE", help="the flight, and events that happen to an instrument")
    parser.add_argument("--duration", type=seconds, metavar="SECONDS", help="stop after this time")
    parser.set_defaults(run=run_network)


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        choices=("simple", "jsbsim"),
        help="what flies the aircraft: JSBSim is FlightGear's flight model of a Cessna 172 (library JSBSim)",
    )


def add_seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seed", type=int, metavar="N", help="of the turbulence: the same number gives the same flight (default: 0)"
    )


def _add_panel(kinds: Subparsers[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "panel",
        description="Operate the virtual pins of a running gateway such as `fixgw demo`: press buttons, turn knobs,\n"
        "see lamps. On a terminal, the page explains the keys. In a pipe, each change is a line (pin, direction,\n"
        "level, pull resistor, duty cycle in percent, part, separated by tabs), and commands are read line by line\n"
        "until the input ends: press N [SECONDS], release N, turn KNOB DETENTS, switch N 0|1, drive PIN 0|1, let PIN,\n"
        "turn-pins A B DETENTS, pulses PIN HZ, unplug, plug. Parts are numbered from 0, as in scenarios; pins have\n"
        "their BCM numbers.",
        epilog="examples:\n  fixgw sim panel\n  echo 'turn 0 -3' | fixgw sim panel",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "path",
        nargs="?",
        default="",
        help="the panel's socket (default: $FIXGW_PANEL, or the one that the gateway has announced)",
    )
    parser.set_defaults(run=run_panel)


def run_panel(args: argparse.Namespace) -> int:
    from fixgw.cli.panel import run

    return run(args)


def run_serial(args: argparse.Namespace) -> int:
    """Fly until the end of the scenario or `duration`, Ctrl-C or SIGTERM."""
    from fixgw.hw_sim.devices import instrument as find
    from fixgw.hw_sim.devices import instruments
    from fixgw.hw_sim.pty import VirtualPort

    if args.instrument is None:
        width = max(map(len, instruments()))
        for name, kind in instruments().items():
            print(f"{name:{width}}  {kind.BAUD:6} baud  {kind.WHAT}")
        return EXIT_DONE
    loader.add_to_path([Path.cwd()])
    try:
        kind = find(args.instrument)
    except ModuleNotFoundError as error:
        if error.name not in (args.instrument, None):
            return complain(f"{args.instrument}: {error}")
        return complain(f"no instrument {args.instrument!r}{did_you_mean(args.instrument, instruments())}")
    except Exception as error:  # a user's module may raise anything
        return complain(f"{args.instrument}: {type(error).__name__}: {error}")
    if args.baud is not None and args.baud <= 0:
        return complain(f"--baud: {args.baud} is not a baud rate")
    scenario, problem = choose_scenario(args)
    if scenario is None:
        return complain(problem)
    try:
        port = VirtualPort(args.pty)
    except OSError as error:
        return complain(f"cannot create {args.pty}: {error.strerror}")
    instrument = kind(port)
    instrument.baud = args.baud or instrument.baud
    with stop_on_signal() as over:
        _run_instrument(instrument, f"{kind.NAME} at {port.path}, {instrument.baud} baud, 8N1", scenario, args, over)
    print(f"{instrument.rounds} rounds, {port.written} bytes read, {port.dropped} bytes not read", flush=True)
    return EXIT_DONE


def run_network(args: argparse.Namespace) -> int:
    """Fly until the end of `duration`, Ctrl-C or SIGTERM."""
    from fixgw.hw_sim.devices import instruments, network_instruments

    programs = network_instruments()
    senders = {name: kind for name, kind in instruments().items() if kind.UDP_PORT}
    if args.instrument is None:
        width = max(map(len, (*programs, *senders)))
        for name, kind in programs.items():
            print(f"{name:{width}}  port {kind.PORT:5}  {kind.WHAT}")
        for name, sender in senders.items():
            print(f"{name:{width}}  to   {sender.UDP_PORT:5}  {sender.WHAT}")
        return EXIT_DONE
    if args.instrument not in programs and args.instrument not in senders:
        return complain(f"no program {args.instrument!r}{did_you_mean(args.instrument, (*programs, *senders))}")
    scenario, problem = choose_scenario(args)
    if scenario is None:
        return complain(problem)
    if args.instrument in senders:
        return _send_datagrams(senders[args.instrument], args.to, scenario, args)
    host = args.host or "127.0.0.1"
    try:
        program = programs[args.instrument](host, args.port)
    except (OSError, OverflowError) as error:
        return complain(f"cannot receive at {host} port {args.port or programs[args.instrument].PORT}: {error}")
    if args.to is not None:
        program.send_to(args.to)
    with stop_on_signal() as over:
        _run_program(program, scenario, args.duration, over)
    return EXIT_DONE


def _send_datagrams(
    kind: type[SerialInstrument], to: tuple[str, int] | None, scenario: Scenario, args: argparse.Namespace
) -> int:
    from fixgw.hw_sim.datagrams import DatagramLine, whole

    try:
        line = DatagramLine(to or ("127.0.0.1", kind.UDP_PORT), args.host or "", args.port or 0)
    except (OSError, OverflowError) as error:
        return complain(f"cannot receive at {args.host or 'any address'} port {args.port or 0}: {error}")
    with stop_on_signal() as over:
        _run_instrument(whole(kind)(line), f"{kind.NAME} sends to {line.path}", scenario, args, over)
    print(f"{line.written} bytes sent, {line.dropped} not sent", flush=True)
    return EXIT_DONE


def _run_program(program: NetworkInstrument, scenario: Scenario, duration: float | None, over: threading.Event) -> None:
    from fixgw.hw_sim.world import World

    world = World(scenario.aircraft())
    world.attach(program)
    world.duration, world.over = duration, over
    try:
        print(f"{program.NAME} at {program.host} port {program.port}\nPress Ctrl-C to stop.", flush=True)
        world.start()
        over.wait()
    finally:
        world.stop()
    print(f"{program.sent} datagrams sent, {program.received} received", flush=True)


def _run_instrument(
    instrument: SerialInstrument, where: str, scenario: Scenario, args: argparse.Namespace, over: threading.Event
) -> None:
    """Let it send until it is `over`, and close it."""
    from fixgw.hw_sim.scenario import Director, Play
    from fixgw.hw_sim.world import World

    world = World(scenario.aircraft())
    world.attach(instrument)
    if args.scenario:
        play = Play(scenario._replace(nodes={}), None, print_event, {instrument.NAME: instrument})
        world.attach(Director(play, over))
    world.duration, world.over = end_of(scenario, args), over
    try:
        print(f"{where}\nPress Ctrl-C to stop.", flush=True)
        world.start()
        over.wait()
    finally:
        world.stop()


def end_of(scenario: Scenario, args: argparse.Namespace) -> float | None:
    """How long to fly, in seconds of the flight; None: until somebody stops it."""
    return min((end for end in (args.duration, scenario.duration) if end is not None), default=None)


def print_event(at: float, words: str) -> None:
    """Print an event of a scenario, `at` seconds after its start."""
    print(f"{at:8.2f} s  {words}", flush=True)


def choose_scenario(args: argparse.Namespace) -> tuple[Scenario | None, str]:
    """The scenario that the arguments name, by default one without events; or None and the problem."""
    import msgspec

    from fixgw.hw_sim import scenario as scenarios

    chosen = scenarios.everything()
    if args.scenario:
        chosen = scenarios.load(scenarios.find(args.scenario))
    if model := getattr(args, "model", None):
        chosen = chosen._replace(flight=msgspec.structs.replace(chosen.flight, model=model))
    if (seed := getattr(args, "seed", None)) is not None:
        chosen = chosen._replace(flight=msgspec.structs.replace(chosen.flight, seed=seed))
    if chosen.flight.model == "jsbsim" and find_spec("jsbsim") is None:
        return None, "the flight model needs the library JSBSim: pip install JSBSim (x86-64 only)"
    return chosen, ""


def run_can(args: argparse.Namespace) -> int:
    """Fly until the end of the scenario, replay or `duration`, Ctrl-C or SIGTERM."""
    from fixgw.hw_sim import scenario as scenarios
    from fixgw.hw_sim.devices import can_instruments

    if not args.interface and not args.slcan:
        return complain("name the bus: --interface and --channel, or --slcan PATH")
    if bool(args.interface) != bool(args.channel):
        return complain("use --interface and --channel together")
    if args.replay and not Path(args.replay).exists():
        return complain(f"--replay: there is no file {args.replay}")
    if args.replay and (problem := _why_unreadable(args.replay)):
        return complain(f"--replay: {problem}")
    for name in args.instrument:
        if name not in can_instruments():
            return complain(f"no instrument {name!r}{did_you_mean(name, can_instruments())}")
    scenario, problem = choose_scenario(args)
    if scenario is None:
        return complain(problem)
    if args.instrument:
        rate = can_instruments()[args.instrument[0]].BITRATE
        scenario = scenario._replace(nodes={}, bit_rate=rate)
    if args.replay and not args.scenario:
        scenario = scenarios.Scenario({})
    if args.bitrate:
        scenario = scenario._replace(bit_rate=args.bitrate)
    with stop_on_signal() as over:
        _run_bus(scenario, args, over)
    return EXIT_DONE


def _why_unreadable(log: str) -> str:
    """Why nothing of `log` could be replayed; empty when something can."""
    from fixgw.hw_sim.can.replay import read_log

    entries = read_log(log)
    if next(iter(entries), None) is not None:
        return ""
    return f"{log} has no frame: {entries.skipped} lines were not understood; record with candump -l"


def _run_bus(scenario: Scenario, args: argparse.Namespace, over: threading.Event) -> None:
    from fixgw.hw_sim.can.bus import CanBus
    from fixgw.hw_sim.can.replay import read_log
    from fixgw.hw_sim.can.segment import Segment
    from fixgw.hw_sim.can.slcan import VirtualSlcan
    from fixgw.hw_sim.devices import can_instruments
    from fixgw.hw_sim.world import World

    world = World(scenario.aircraft())
    instruments: dict[str, Any] = {}
    first, *others = args.slcan or [None]
    # Frames wait for the steps of the flight, so that their order does not depend on the computer's pace. A log has its
    # own pace.
    bus = CanBus(scenario, first, print_event, instruments, Segment(scenario.bit_rate, stepped=not args.replay))
    instruments |= {name: can_instruments()[name](bus.segment) for name in args.instrument}
    adapters = [VirtualSlcan(bus.segment, path) for path in others]
    bus.over = world.over = over
    world.duration = end_of(scenario, args)
    began = time.monotonic()
    try:
        if args.interface:
            options: dict[str, Any] = dict(args.option)
            if args.bitrate:
                options["bitrate"] = args.bitrate
            bus.join(args.interface, args.channel, **options)
        print(_describe(bus, scenario, args), flush=True)
        world.attach(bus)
        for instrument in (*instruments.values(), bus.segment):
            world.attach(instrument)
        world.start()
        if args.replay:
            bus.replay(log := read_log(args.replay), args.speed or None)
            if log.skipped:
                print(f"{log.skipped} lines of {args.replay} were not understood, and left out", flush=True)
        if args.scenario or not args.replay:
            over.wait()
    finally:
        world.stop()
        for adapter in adapters:
            adapter.close()
        bus.close()
    flown = time.monotonic() - began
    print(f"{bus.segment.frames} frames in {flown:.1f} s", flush=True)


def _describe(bus: Any, scenario: Scenario, args: argparse.Namespace) -> str:
    lines = [scenario.description] if scenario.description else []
    lines += [f"  node {s.node.id} (0x{s.node.id:02x})  {name}: {s.node.NAME}" for name, s in bus.play.stations.items()]
    if args.replay:
        lines.append(f"replaying {args.replay}")
    if args.interface:
        lines.append(f"on {args.interface} {args.channel}")
    lines += [f"  {name}" for name in args.instrument]
    lines += [f"on an slcan adapter at {path}, {scenario.bit_rate // 1000} kbit/s" for path in args.slcan]
    return "\n".join([*lines, "Press Ctrl-C to stop."])


def _parse_speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = -1.0
    if not 0.0 <= speed <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a factor, 0 or more")
    return speed
