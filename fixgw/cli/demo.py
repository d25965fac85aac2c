"""``fixgw demo``: a complete gateway with real drivers, connected to the virtual instruments of a virtual aircraft."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from fixgw.cli import EXIT_DONE, Subparsers, add_command, complain, seconds
from fixgw.cli.sim import add_model, choose_scenario, print_event
from fixgw.errors import FixgwError, MissingLibrary
from fixgw.net.access import is_loopback, own_addresses

if TYPE_CHECKING:
    from fixgw.configuration import Configuration
    from fixgw.gateway import Gateway
    from fixgw.hw_sim.panel import Panel
    from fixgw.hw_sim.panel_server import PanelServer
    from fixgw.hw_sim.scenario import Scenario
    from fixgw.hw_sim.world import World

MAX_LOG_BYTES = 64 * 1024 * 1024
WEB_PORT = 8080
TAKE_OFF_TIMEOUT_S = 5.0  # how long displays wait for good values
#: Connections that start when the instruments' values are good.
LATER = ("demo", "alerts", "netfix", "web", "recorder")
#: Displays do not work without these keys.
VITAL = ("IAS", "ALT", "VS")


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        subparsers,
        "demo",
        run,
        "A simulated aircraft flies circuits until you stop it. Its virtual instruments feed the real drivers: nodes\n"
        "on a CAN-FIX bus, an NMEA 0183 GPS, a serial engine monitor and a panel on GPIO pins. Values that none of\n"
        "them measures are written directly. Displays connect as they would in flight. The demo needs no hardware,\n"
        "network or configuration, and leaves no files behind but the recording that you ask for.",
        "  fixgw demo\n  fixgw demo --everything           run every driver with its virtual device\n"
        "  fixgw demo --example motor-glider fly an aircraft of the gallery\n"
        "  fixgw demo --replay gps.log       replay a recorded GPS instead of the virtual one\n"
        "  fixgw demo --replay flight.mcap   replay a recorded flight\n"
        "  fixgw demo --with mine.yaml       try a plugin or display of your own on live data\n"
        "  fixgw demo --record               record the flight\n"
        "  fixgw demo --host 0.0.0.0         let a display on another computer connect",
    )
    parser.add_argument(
        "--with",
        dest="own",
        metavar="FILE",
        type=Path,
        help="run the connections of this configuration, too, with its items",
    )
    parser.add_argument(
        "--replay",
        metavar="FILE",
        type=Path,
        help="replay this, at its own pace: an NMEA 0183 log instead of the virtual GPS, or the recording of a flight "
        "instead of the whole aircraft",
    )
    parser.add_argument(
        "--scenario",
        metavar="FILE",
        help="events that happen to the instruments: a file, or the name of a packaged scenario",
    )
    parser.add_argument(
        "--example",
        metavar="NAME",
        help="fly an aircraft of the gallery instead, or the one in this folder (`fixgw config init --example list`)",
    )
    parser.add_argument(
        "--everything",
        action="store_true",
        help="run every driver with its virtual device; where several measure the same value, the best is used",
    )
    add_model(parser)
    parser.add_argument(
        "--record", metavar="DIR", nargs="?", const="", help="record the flight, in DIR or where `fixgw flights` looks"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=_port, default=3490, help="NetFIX port (default: 3490; 0: any free port)")
    parser.add_argument(
        "--web-port",
        type=_port,
        metavar="PORT",
        help=f"port of the page for browsers (default: {WEB_PORT} if it is free, or else any free port)",
    )
    parser.add_argument("--duration", type=seconds, metavar="SECONDS", help="stop after this time")
    parser.add_argument("--verbose", action="store_true", help="log normal activity as well")


def run(args: argparse.Namespace) -> int:
    """Fly until Ctrl-C, SIGTERM or the end of `duration`, and return 0; return 1 if the demo cannot start."""
    if args.record is not None and find_spec("mcap") is None:
        return complain(str(MissingLibrary("mcap", "record")))
    early = _EarlySignals()
    from fixgw import configuration, journal
    from fixgw.hw_sim.network import own_host

    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    for handler in logging.root.handlers:  # only the memory keeps normal activity (`fixgw log`)
        handler.setLevel(logging.INFO if args.verbose else logging.WARNING)
    journal.set_up()
    replay: bytes | None = None
    if args.replay and _is_recording(args.replay):
        return _replay(args, early)
    if args.replay:
        try:
            with args.replay.open("rb") as file:
                replay = file.read(MAX_LOG_BYTES)
        except OSError as error:
            return complain(f"cannot read {args.replay}: {error.strerror}")
        if b"$" not in replay:
            return complain(f"{args.replay} contains neither NMEA 0183 sentences nor a recorded flight")
    if args.example is not None:
        return _fly_example(args)
    scenario, problem = choose_scenario(args)
    if scenario is None:
        return complain(problem)
    if trouble := _check_addresses(args):
        return complain(trouble)
    with tempfile.TemporaryDirectory(prefix="fixgw-demo-") as directory:
        gps = "replay/gps" if replay is not None else "sim/gps"
        variables = {"SIM": directory, "GPS": gps, "HOST": own_host()}
        loaded = configuration.load(
            configuration.packaged() / ("demo-everything.yaml" if args.everything else "demo.yaml"), variables
        )
        later: tuple[str, ...] = LATER
        if args.own:
            own = configuration.load(configuration.find(args.own))
            loaded, later = _together(loaded, own), (*LATER, *(c.name for c in own.connections))
        if args.record is not None:
            loaded = _recording(loaded, args.record)
        loaded = _serving_on(loaded, args)
        code = _fly(loaded, Path(directory), replay, scenario, args, early, later)
    if code != EXIT_DONE:
        from fixgw.service import leave

        leave(code)  # exit even if a thread hangs
    return code


def _fly_example(args: argparse.Namespace) -> int:
    from fixgw.cli import gallery

    others = {"--scenario": args.scenario, "--with": args.own, "--replay": args.replay, "--everything": args.everything}
    others |= {"--record": args.record is not None, "--model": args.model}
    if given := [name for name, value in others.items() if value]:
        return complain(f"--example has a flight and instruments of its own: leave out {' and '.join(given)}")
    if trouble := _check_addresses(args):
        return complain(trouble)
    try:
        gallery.fly(gallery.find(args.example), _servers(args), args.duration)
    except FixgwError as error:
        return complain(str(error))
    return EXIT_DONE


def _recording(loaded: Configuration, directory: str) -> Configuration:
    """The configuration with a recorder."""
    from fixgw import loader
    from fixgw.configuration import Connection
    from fixgw.recording.flight import default_directory

    module = "fixgw.plugins.recorder"
    options = {"directory": str(Path(directory).resolve() if directory else default_directory())}
    recorder = Connection(name="recorder", module=module, plugin=loader.load_plugin(module), options=options)
    return dataclasses.replace(loaded, connections=(*loaded.connections, recorder))


def _is_recording(path: Path) -> bool:
    """Whether the file is the recording of a flight."""
    from fixgw.recording import RecordingError, open_recording

    try:
        open_recording(path).close()
    except (RecordingError, OSError):
        return False
    return True


def _replay(args: argparse.Namespace, early: _EarlySignals) -> int:
    """Play a recorded flight for displays, again and again."""
    from fixgw import configuration
    from fixgw.gateway import Gateway

    if args.scenario or args.everything:
        return complain("a recorded flight has no virtual instruments: leave out --scenario and --everything")
    if trouble := _check_addresses(args):
        return complain(trouble)
    loaded = configuration.load(
        configuration.packaged() / "demo-replay.yaml", {"FILE": str(args.replay.expanduser().absolute())}
    )
    if args.own:
        loaded = _together(loaded, configuration.load(configuration.find(args.own)))
    with tempfile.TemporaryDirectory(prefix="fixgw-demo-") as directory:
        os.environ["STATE_DIRECTORY"] = directory
        gateway = Gateway(_serving_on(loaded, args))
        early.hand_to(gateway)
        timer = threading.Timer(args.duration or 0.0, gateway.request_stop, kwargs={"why": "the time is up"})
        timer.daemon = True
        try:
            gateway.start()
            command, where, port = _how_to_reach(gateway, args)
            print(
                f"{args.replay} is played, again and again.\n"
                f"{_page(gateway, args.host)}"
                f"NetFIX listens on {args.host} port {port}. Try these commands in another terminal:\n"
                f"  {command} watch{where} IAS ALT VS HEAD LAT LONG\n"
                f"  {command} playback{where}\n"
                f"  {command} playback{where} seek +5:00\n"
                "Press Ctrl-C to stop.",
                flush=True,
            )
            if args.duration:
                timer.start()
            return gateway.run_forever()
        finally:
            timer.cancel()
            gateway.stop()


class _EarlySignals:
    """Takes SIGINT, SIGTERM and SIGHUP until the gateway does, so that an early signal still leads to a clean stop."""

    def __init__(self) -> None:
        self._gateway: Gateway | None = None
        self.received = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._take)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.received = True
        if self._gateway is not None:
            self._gateway.request_stop()

    def hand_to(self, gateway: Gateway) -> None:
        self._gateway = gateway
        if self.received:
            gateway.request_stop()


def _fly(
    configuration: Configuration,
    directory: Path,
    replay: bytes | None,
    scenario: Scenario,
    args: argparse.Namespace,
    early: _EarlySignals,
    later: Collection[str],
) -> int:
    from fixgw.gateway import Gateway
    from fixgw.hw_sim.everything import bench
    from fixgw.hw_sim.panel import Panel

    # Keep the state that the drivers save in the temporary directory.
    os.environ["STATE_DIRECTORY"] = str(directory)
    instruments = tuple(c for c in configuration.connections if c.name not in later)
    gateway = Gateway(dataclasses.replace(configuration, connections=instruments))
    early.hand_to(gateway)
    ends = [end for end in (args.duration, scenario.duration) if end is not None]
    timer = threading.Timer(min(ends, default=0.0), gateway.request_stop, kwargs={"why": "the time is up"})
    timer.daemon = True
    panel = Panel()
    flying = bench(directory, replay, scenario, print_event, panel, args.everything)
    panel_server = _serve_panel(directory / "panel", panel)
    try:
        gateway.start()
        missing = _take_off(gateway, flying, VITAL if replay is not None else _from_instruments(configuration))
        if not early.received:
            gateway.adopt(configuration)
            print(_describe(gateway, directory, args, missing, panel_server), flush=True)
        if ends:
            timer.start()
        return gateway.run_forever()
    finally:
        timer.cancel()
        if panel_server is not None:
            panel_server.close()
        gateway.stop()
        flying.stop()


def _together(demo: Configuration, own: Configuration) -> Configuration:
    """The demo's configuration and another: its connections replace those of the same name, and so do its items, where
    they differ from the packaged ones."""
    from fixgw import configuration

    packaged = {d.key: d for d in configuration.load(configuration.packaged() / configuration.NAME).definitions}
    definitions = {d.key: d for d in demo.definitions}
    definitions |= {d.key: d for d in own.definitions if d != packaged.get(d.key)}
    connections = {c.name: c for c in (*demo.connections, *own.connections)}
    return dataclasses.replace(demo, definitions=tuple(definitions.values()), connections=tuple(connections.values()))


def _serve_panel(path: Path, panel: Panel) -> PanelServer | None:
    """Let `fixgw sim panel` operate the panel. The demo continues without it if that is not possible."""
    from fixgw.hw_sim.panel_server import PanelServer

    try:
        return PanelServer(path, panel)
    except OSError as error:
        logging.getLogger(__name__).warning("`fixgw sim panel` cannot be used: %s: %s", path, error.strerror)
        return None


def _from_instruments(configuration: Configuration) -> tuple[str, ...]:
    """The keys, or patterns of keys, that the virtual instruments provide."""
    demo = next(c for c in configuration.connections if c.name == "demo")
    return tuple(demo.options["except"])


def _take_off(gateway: Gateway, flying: World, patterns: tuple[str, ...]) -> list[str]:
    """Switch the instruments on and wait until their values are good; return the keys that are not.

    First wait for the CAN-FIX driver to listen, so that it hears the report that each node sends at the start.
    """
    items = [item for item in gateway.database.items() if any(fnmatchcase(item.key, p) for p in patterns)]
    deadline = time.monotonic() + TAKE_OFF_TIMEOUT_S

    def missing() -> list[str]:
        return [item.key for item in items if not item.reading.good]

    def wait(done: Callable[[], bool]) -> None:
        gateway.supervise(lambda: done() or time.monotonic() > deadline, every=0.02)

    wait(lambda: "can" not in gateway.troubles())
    flying.start()
    wait(lambda: not missing())
    return missing()


def _servers(args: argparse.Namespace) -> dict[str, dict[str, object]]:
    """The options of the servers, by name, that say where they listen; without the page if its library is not there."""
    port = args.web_port
    if port is None:
        port = WEB_PORT if args.port and not _check_address(args.host, WEB_PORT) else 0
    servers: dict[str, dict[str, object]] = {
        "netfix": {"host": args.host, "port": args.port},
        "web": {"host": args.host, "port": port},
    }
    if not is_loopback(args.host):  # --host asks for access from other computers
        everybody = ["0.0.0.0/0", "::/0"]
        servers["netfix"] |= {"allow": everybody, "write": everybody}
        servers["web"] |= {"allow": everybody, "open": True}
    if find_spec("tornado") is None:
        del servers["web"]
    return servers


def _serving_on(configuration: Configuration, args: argparse.Namespace) -> Configuration:
    """The configuration with its servers where the arguments say; without the page if its library is not there."""
    servers = _servers(args)
    connections = [
        dataclasses.replace(c, options={**c.options, **servers.get(c.name, {})})
        for c in configuration.connections
        if c.name != "web" or "web" in servers
    ]
    return dataclasses.replace(configuration, connections=tuple(connections))


def _check_addresses(args: argparse.Namespace) -> str:
    trouble = _check_address(args.host, args.port)
    if not trouble and args.web_port is not None and find_spec("tornado") is not None:
        trouble = _check_address(args.host, args.web_port, "--web-port")
    return trouble


def _check_address(host: str, port: int, option: str = "--port") -> str:
    """The reason that the NetFIX server cannot listen on an address; empty when it can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        if port and error.errno == errno.EADDRINUSE:
            return (
                f"port {port} is in use, probably by another gateway (check with `fixgw status`); "
                f"stop that gateway, or choose another port with {option}"
            )
        return f"cannot listen on {host} port {port}: {str(error.strerror or error).partition(' (')[0]}"
    return ""


def _how_to_reach(gateway: Gateway, args: argparse.Namespace) -> tuple[str, str, int]:
    """The command to type, its options that name the gateway, and the port."""
    port: int = getattr(gateway.runners["netfix"].plugin, "port", args.port)
    command = sys.argv[0] if sys.argv[0].endswith("/fixgw") and not shutil.which("fixgw") else "fixgw"
    where = "" if is_loopback(args.host) or args.host in ("0.0.0.0", "::") else f" --host {args.host}"
    return command, where + ("" if port == 3490 else f" --port {port}"), port


def _page(gateway: Gateway, host: str) -> str:
    """The line that says where the page is; empty if there is none."""
    runner = gateway.runners.get("web")
    plugin: Any = None if runner is None else runner.plugin
    if plugin is None or not plugin.is_running():
        return ""
    addresses = [plugin.address]
    if host in ("0.0.0.0", "::"):
        addresses += [f"http://{own}:{plugin.port}/" for own in own_addresses()]
    return f"The page for browsers: {', '.join(addresses)}\n"


def _describe(
    gateway: Gateway, directory: Path, args: argparse.Namespace, missing: list[str], panel_server: PanelServer | None
) -> str:
    from fixgw.hw_sim.can.devices import DEVICES

    command, where, port = _how_to_reach(gateway, args)
    gps = f"{args.replay}, replayed" if args.replay else "virtual GPS"
    others = f"  and the connections of {args.own}\n" if args.own else ""
    if args.everything:
        from fixgw.hw_sim.everything import NAMES

        others = f"  and {', '.join(NAMES)}\n{others}"
    warning = ""
    if missing:
        warning = f"Not good yet: {', '.join(missing)}. `{command} status{where}` may show why.\n"
    panel_command = ""
    if panel_server is not None:
        panel_command = f"\n  {command} sim panel" + ("" if panel_server.publish() else f" {panel_server.path}")
    return f"""\
A virtual aircraft is flying. The real drivers read its instruments:
  {directory}/can0  CAN-FIX bus with the nodes {", ".join(DEVICES)}
  {directory}/gps   {gps}, NMEA 0183
  {directory}/eis   virtual Grand Rapids EIS engine monitor
  virtual pins of a Raspberry Pi, with knobs, buttons, switches, lamps and a fuel flow transducer
{others}The demo plugin writes the values that none of them measures.
{warning}{_page(gateway, args.host)}NetFIX listens on {args.host} port {port}. Try these commands in another terminal:
  {command} watch{where} IAS ALT VS HEAD LAT LONG
  {command} alerts{where}
  {command} status{where} --verbose
  {command} explain{where} IAS{panel_command}
Press Ctrl-C to stop."""


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port number, 0 to 65535")
    return int(text)
