"""``fixgw demo``: the whole gateway, real drivers and all, on virtual instruments of a virtual aircraft."""

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
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from fixgw.cli import EXIT_DONE, Subparsers, add_command, complain, seconds
from fixgw.cli.sim import chosen_scenario, tell

if TYPE_CHECKING:
    from fixgw.configuration import Configuration
    from fixgw.gateway import Gateway
    from fixgw.hw_sim.panel import Panel
    from fixgw.hw_sim.panel_server import PanelServer
    from fixgw.hw_sim.scenario import Scenario
    from fixgw.hw_sim.world import World

LONGEST_LOG = 64 * 1024 * 1024  # bytes
PATIENCE = 5.0  # seconds that displays wait for good values
#: Without these displays fall over.
VITAL = ("IAS", "ALT", "VS")


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        subparsers,
        "demo",
        run,
        "An aircraft flies circuits for ever. Its virtual instruments, nodes on a CAN-FIX bus, an NMEA 0183 GPS, a\n"
        "serial engine monitor and a panel on pins, speak to the real drivers; what none of them measures is written\n"
        "directly. Displays connect as in flight. Needs no device, no network, no configuration, and leaves nothing\n"
        "behind.",
        "  fixgw demo\n  fixgw demo --everything           every driver that there is, each with its virtual device\n"
        "  fixgw demo --replay gps.log       a recorded GPS instead of the virtual one\n"
        "  fixgw demo --host 0.0.0.0         for a display on another computer",
    )
    parser.add_argument(
        "--replay", metavar="FILE", type=Path, help="an NMEA 0183 log, replayed at its own pace in place of the GPS"
    )
    parser.add_argument(
        "--scenario", metavar="FILE", help="what happens to the instruments and when: a file, or one of the package"
    )
    parser.add_argument(
        "--everything",
        action="store_true",
        help="one of every driver, each with its virtual device; where several measure the same, the best is taken",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to serve on (default: 127.0.0.1)")
    parser.add_argument("--port", type=_port, default=3490, help="NetFIX port (default: 3490; 0: any free one)")
    parser.add_argument("--duration", type=seconds, metavar="SECONDS", help="end by itself after so long")
    parser.add_argument("--verbose", action="store_true", help="log what goes on")


def run(args: argparse.Namespace) -> int:
    """Fly until Ctrl-C, SIGTERM or `duration`; 0 then, 1 when it could not start."""
    early = _EarlySignals()
    from fixgw import configuration

    logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING, format="%(levelname)s: %(message)s")
    replay: bytes | None = None
    if args.replay:
        try:
            with args.replay.open("rb") as file:
                replay = file.read(LONGEST_LOG)
        except OSError as error:
            return complain(f"cannot read {args.replay}: {error.strerror}")
        if b"$" not in replay:
            return complain(f"{args.replay} holds no NMEA 0183 sentence")
    scenario, why = chosen_scenario(args)
    if scenario is None:
        return complain(why)
    if trouble := _cannot_listen(args.host, args.port):
        return complain(trouble)
    with tempfile.TemporaryDirectory(prefix="fixgw-demo-") as directory:
        variables = {"SIM": directory, "GPS": "replay/gps" if replay is not None else "sim/gps"}
        loaded = configuration.load(
            configuration.packaged() / ("demo-everything.yaml" if args.everything else "demo.yaml"), variables
        )
        code = _fly(_serving_on(loaded, args.host, args.port), Path(directory), replay, scenario, args, early)
    if code != EXIT_DONE:
        from fixgw.service import leave

        leave(code)  # what hangs must not hold up the exit
    return code


class _EarlySignals:
    """Takes SIGINT, SIGTERM and SIGHUP until the gateway does, so that what was begun is also cleaned up."""

    def __init__(self) -> None:
        self._gateway: Gateway | None = None
        self.came = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._take)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        if self._gateway is not None:
            self._gateway.request_stop()

    def hand_to(self, gateway: Gateway) -> None:
        self._gateway = gateway
        if self.came:
            gateway.request_stop()


def _fly(
    configuration: Configuration,
    directory: Path,
    replay: bytes | None,
    scenario: Scenario,
    args: argparse.Namespace,
    early: _EarlySignals,
) -> int:
    from fixgw.gateway import Gateway
    from fixgw.hw_sim import world
    from fixgw.hw_sim.panel import Panel

    # What nodes tell the gateway to remember is forgotten with the flight.
    os.environ["STATE_DIRECTORY"] = str(directory)
    instruments = tuple(c for c in configuration.connections if c.name not in ("demo", "netfix"))
    gateway = Gateway(dataclasses.replace(configuration, connections=instruments))
    early.hand_to(gateway)
    ends = [end for end in (args.duration, scenario.duration) if end is not None]
    timer = threading.Timer(min(ends, default=0.0), gateway.request_stop, kwargs={"why": "the time is over"})
    timer.daemon = True
    panel = Panel()
    flying = world.bench(directory, replay, scenario, tell, panel, args.everything)
    hands = _lend(directory / "panel", panel)
    try:
        gateway.start()
        missing = _take_off(gateway, flying, VITAL if replay is not None else _from_instruments(configuration))
        if not early.came:
            gateway.adopt(configuration)
            print(_what_runs(gateway, directory, args, missing, hands), flush=True)
        if ends:
            timer.start()
        return gateway.run_forever()
    finally:
        timer.cancel()
        if hands is not None:
            hands.close()
        gateway.stop()
        flying.stop()


def _lend(path: Path, panel: Panel) -> PanelServer | None:
    """Let `fixgw sim panel` at the panel; the flight does not depend on it."""
    from fixgw.hw_sim.panel_server import PanelServer

    try:
        return PanelServer(path, panel)
    except OSError as error:
        logging.getLogger(__name__).warning("no hand can get at the panel: %s: %s", path, error.strerror)
        return None


def _from_instruments(configuration: Configuration) -> tuple[str, ...]:
    """The keys that the virtual instruments bring, or patterns of such."""
    demo = next(c for c in configuration.connections if c.name == "demo")
    return tuple(demo.options["except"])


def _take_off(gateway: Gateway, flying: World, patterns: tuple[str, ...]) -> list[str]:
    """Switch the instruments on as soon as the CAN-FIX driver listens, so that it hears the report that each node
    begins with, and wait until what they bring is good; returns the keys that are not."""
    items = [item for item in gateway.database.items() if any(fnmatchcase(item.key, p) for p in patterns)]
    deadline = time.monotonic() + PATIENCE

    def missing() -> list[str]:
        return [item.key for item in items if not item.reading.good]

    def wait(done: Callable[[], bool]) -> None:
        gateway.supervise(lambda: done() or time.monotonic() > deadline, every=0.02)

    wait(lambda: "can" not in gateway.troubles())
    flying.start()
    wait(lambda: not missing())
    return missing()


def _serving_on(configuration: Configuration, host: str, port: int) -> Configuration:
    """The configuration with its NetFIX server on `host` and `port`."""
    options: dict[str, object] = {"host": host, "port": port}
    if not _is_loopback(host):  # somebody asked for it to be reached from elsewhere
        options["allow"] = options["write"] = ["0.0.0.0/0", "::/0"]
    connections = [
        dataclasses.replace(c, options={**c.options, **options}) if c.name == "netfix" else c
        for c in configuration.connections
    ]
    return dataclasses.replace(configuration, connections=tuple(connections))


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _cannot_listen(host: str, port: int) -> str:
    """Why the NetFIX server could not listen there; empty when it can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        if port and error.errno == errno.EADDRINUSE:
            return (
                f"port {port} is taken, probably by another gateway (`fixgw status` asks it); "
                "end that one, or choose another port with --port"
            )
        return f"cannot listen on {host} port {port}: {str(error.strerror or error).partition(' (')[0]}"
    return ""


def _what_runs(
    gateway: Gateway, directory: Path, args: argparse.Namespace, missing: list[str], hands: PanelServer | None
) -> str:
    from fixgw.hw_sim.can.devices import DEVICES

    port = getattr(gateway.runners["netfix"].plugin, "port", args.port)
    command = sys.argv[0] if sys.argv[0].endswith("/fixgw") and not shutil.which("fixgw") else "fixgw"
    where = "" if _is_loopback(args.host) or args.host in ("0.0.0.0", "::") else f" --host {args.host}"
    where += "" if port == 3490 else f" --port {port}"
    gps = f"{args.replay}, replayed" if args.replay else "virtual GPS"
    others = ""
    if args.everything:
        from fixgw.hw_sim.everything import NAMES

        others = f"  and {', '.join(NAMES)}\n"
    warning = f"Not good yet, `{command} status{where}` may say why: {', '.join(missing)}\n" if missing else ""
    at_hand = "" if hands is None else f"\n  {command} sim panel" + ("" if hands.publish() else f" {hands.path}")
    return f"""\
A virtual aircraft is flying. The real drivers read its instruments:
  {directory}/can0  CAN-FIX bus with the nodes {", ".join(DEVICES)}
  {directory}/gps   {gps}, NMEA 0183
  {directory}/eis   virtual Grand Rapids EIS engine monitor
  virtual pins of a Raspberry Pi, with knobs, buttons, switches, lamps and a fuel flow transducer
{others}What none of them measures comes straight from the aircraft, by the demo plugin.
{warning}NetFIX serves on {args.host} port {port}. Look at it from another terminal:
  {command} watch{where} IAS ALT VS HEAD LAT LONG
  {command} status{where} --verbose
  {command} explain{where} IAS{at_hand}
Ctrl-C ends it."""


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port number, 0 to 65535")
    return int(text)
