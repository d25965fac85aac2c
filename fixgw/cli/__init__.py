"""The command line: ``fixgw`` runs a gateway or talks to one; ``fixgwc`` only talks to one.

Each command's module is imported only when the command is used. The module provides ``add_parser(subparsers)``, which
adds its commands and sets their default ``run``, a function that takes the parsed arguments and returns the exit code.
A driver or plugin package can provide a command named after itself with such a module, called `command`; the first line
of the module's docstring is the summary.

Exit codes: 0 success; 1 failure, explained in one sentence on stderr; 2 wrong usage; 3 and 4 from a gateway (see
`fixgw.service`); 130 interrupted; 141 the reader of the output has gone.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from glob import glob
from importlib import import_module
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from fixgw import __version__
from fixgw.errors import FixgwError, did_you_mean

if TYPE_CHECKING:
    import threading
    from types import FrameType

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_READER_GONE = 141
SAME_SIGNAL_S = 0.5  # `timeout` sends a signal to the process, and again to its group

Subparsers = argparse._SubParsersAction  # the argument of each command module's `add_parser`
Run = Callable[[argparse.Namespace], int]


class Command(NamedTuple):
    module: str  # within this package, or fully qualified
    summary: str


SERVER: dict[str, Command] = {
    "run": Command("server", "run the gateway; `fixgw` alone does the same"),
    "demo": Command("demo", "run a gateway with a simulated aircraft; needs no hardware"),
    "check": Command("server", "list all problems in a configuration"),
    "doctor": Command("doctor", "check that everything is ready: devices, permissions, values, the computer"),
    "config": Command("server", "find, copy or show a configuration, or print its schema"),
    "plugins": Command("server", "list drivers and plugins, and describe their options"),
    "install-extra": Command("extra", "install optional libraries: for I2C, SPI, GPIO, some CAN adapters"),
    "new": Command("new", "create a driver or plugin from a template that passes its tests"),
    "flights": Command("flights", "list recorded flights, and mark those to keep"),
    "record": Command("record", "record the raw data of links, or complete a recording that was cut"),
    "export": Command("export", "write a recorded flight in the format of another program"),
    "replay": Command("replay", "run a capture of bytes and frames through the drivers, and compare the outcome"),
    "plot": Command("plot", "draw a recorded flight: a page with charts and a map that needs no network"),
    "bench": Command("bench", "fly scenarios on a bench, and judge what the gateway makes of them"),
    "sim": Command("sim", "virtual instruments for a bench: CAN-FIX nodes, serial instruments, a panel"),
    "proxy": Command("proxy", "stand between a display and a gateway: what it asks for, and when it is told"),
}
CLIENT: dict[str, Command] = {
    "list": Command("client", "list keys"),
    "read": Command("client", "print the current value and flags of keys"),
    "write": Command("client", "write a value"),
    "flag": Command("client", "set or clear a flag"),
    "report": Command("report", "write a bug report; or print the definition of keys, or what happened in a flight"),
    "watch": Command("watch", "watch values change"),
    "tui": Command("tui", "all of a gateway on a full screen: values, health, alerts, log, panel"),
    "wait": Command("wait", "wait until keys have usable values, before a display starts"),
    "explain": Command("client", "explain where a value comes from and why it is flagged"),
    "alerts": Command("alerts", "show what needs attention, and acknowledge it"),
    "playback": Command("playback", "control the replay of a recording: pause, speed, seek"),
    "override": Command("override", "show a value of your own to everybody for a while, to try a display or an alert"),
    "log": Command("log", "show the latest lines of the log, of all or of some connections"),
    "status": Command("client", "show the health of the gateway and its connections"),
    "restart": Command("client", "restart a connection with its current code on disk"),
    "calibrate": Command("calibrate", "write a sender's curve from raw readings, while a tank is filled"),
    "console": Command("console", "type these commands interactively, with completion"),
}

EXAMPLES = """\
first flight:
  fixgw demo                        in one terminal
  fixgw watch IAS ALT VS HEAD       in another

your own aircraft:
  fixgw config init ~/.config/fixgw   copy the configuration, then edit it
  fixgw check                         is the configuration valid?
  fixgw doctor                        are the devices and the computer ready?
  fixgw run                           fly
  fixgw status                        is everything healthy?
  fixgw explain IAS                   and if not, why not?

`fixgw COMMAND --help` describes each command.
"""
CLIENT_EXAMPLES = """\
  fixgwc                            open a console
  fixgwc --host 192.168.1.10        open a console to the gateway on another computer
  fixgwc watch IAS ALT VS HEAD

`fixgwc COMMAND --help` describes each command.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``fixgw`` and return the exit code. Wrong usage never raises."""
    devices = package_commands()
    top = _top_parser(
        "fixgw", {"A gateway": SERVER, "Talking to a running gateway": CLIENT, "Talking to devices": devices}, EXAMPLES
    )
    add_run_options(top)
    return _run(top, {**devices, **SERVER, **CLIENT}, "run", argv)


def client_main(argv: Sequence[str] | None = None) -> int:
    """Run ``fixgwc``: the commands that talk to a running gateway; without a command, the console."""
    top = _top_parser("fixgwc", {"Commands": CLIENT}, CLIENT_EXAMPLES)
    add_client_options(top)
    return _run(top, CLIENT, "console", argv)


def package_commands() -> dict[str, Command]:
    """The commands that driver and plugin packages provide, found without importing them."""
    package = os.path.dirname(os.path.dirname(__file__))
    commands = {}
    for kind in ("drivers", "plugins"):
        for found in sorted(glob(os.path.join("*", "command.py"), root_dir=os.path.join(package, kind))):
            with open(os.path.join(package, kind, found), encoding="utf-8") as file:
                summary = file.readline().strip('". \n')
            name = os.path.dirname(found)
            commands[name] = Command(f"fixgw.{kind}.{name}.command", summary[:1].lower() + summary[1:])
    return commands


def add_command(
    subparsers: Subparsers[argparse.ArgumentParser], name: str, run: Run, description: str, examples: str = ""
) -> argparse.ArgumentParser:
    """Add the command `name`; `description` follows its summary in ``--help``."""
    summary = (SERVER.get(name) or CLIENT.get(name) or package_commands()[name]).summary
    parser = subparsers.add_parser(
        name,
        description=f"{summary[0].upper()}{summary[1:]}.\n\n{description}".strip(),
        epilog=f"examples:\n{examples}" if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    return parser


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``fixgw run``, which ``fixgw`` alone accepts too."""
    parser.add_argument(
        "--config-file",
        metavar="FILE",
        help="the configuration; default: $FIXGW_CONFIG, ~/.config/fixgw/default.yaml, /etc/fixgw/default.yaml, "
        "~/makerplane/fixgw/config/default.yaml, or the packaged one, in this order",
    )
    parser.add_argument("--log-config", metavar="FILE", help="YAML for Python's logging.config.dictConfig")
    parser.add_argument(
        "--playback-start-time",
        metavar="TIME",
        type=local_time,
        help="play what the `data_recorder` of the configuration recorded from then on, such as 2024-02-10T19:59:50, "
        "with its NetFIX server and nothing else; ends 5 s after the end",
    )
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument("--verbose", action="store_true", help="log normal activity as well")
    loudness.add_argument("--debug", action="store_true", help="log everything, for debugging")


def local_time(text: str) -> datetime:
    """A time in ISO form, for options."""
    try:
        time = datetime.fromisoformat(text)
        time.timestamp()
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 2024-02-10T19:59:50") from None
    return time


def add_client_options(
    parser: argparse._ActionsContainer,
    timeout: str = "longest wait for an answer (default: 2)",
    default: float | None = 2.0,
) -> None:
    """Add the options shared by all commands that talk to a running gateway; `timeout` describes that option."""
    parser.add_argument(
        "--host",
        default=os.environ.get("FIXGW_HOST", "127.0.0.1"),
        help="the gateway's address (default: $FIXGW_HOST or 127.0.0.1)",
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=os.environ.get("FIXGW_PORT", "3490"),
        help="its NetFIX port (default: $FIXGW_PORT or 3490)",
    )
    parser.add_argument("--timeout", type=seconds, default=default, metavar="SECONDS", help=timeout)


def add_units_option(parser: argparse._ActionsContainer, where: str = "") -> None:
    """Add the choice of units for people; `where` says where it holds, if not everywhere."""
    parser.add_argument(
        "--units",
        metavar="UNITS",
        type=_units,
        default=os.environ.get("FIXGW_UNITS", ""),
        help="show values in us, aviation or metric units, or in units such as degF,mph; several are separated by "
        f"commas{where} (default: $FIXGW_UNITS, or the gateway's units)",
    )


def _units(words: str) -> dict[str, str]:
    from fixgw.kit.units import preferences

    try:
        return preferences(words)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def complain(message: str) -> int:
    """Print on stderr why a command failed, and return the exit code for failure."""
    from fixgw.errors import printable

    lines = [printable(line) for line in f"fixgw: {message}".splitlines()]  # a message may quote a gateway's text
    print(*lines, sep="\n", file=sys.stderr)
    return EXIT_FAILED


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port number, 1 to 65535")
    return int(text)


def address(text: str, default_port: int | None = None) -> tuple[str, int]:
    """Parse ``HOST:PORT``, or ``HOST`` alone if there is a default. An IPv6 address is in brackets."""
    from fixgw.net.endpoint import parse

    bare = ":" not in text.rpartition("]")[2]
    try:
        endpoint = parse(f"tcp://{text}:{default_port}" if bare and default_port else f"tcp://{text}")
    except ValueError as error:
        words = str(error).removeprefix("only a host and a port may follow tcp://: ").replace("tcp://", "")
        raise argparse.ArgumentTypeError(f"{text!r}: {words}") from None
    return endpoint.host, endpoint.port


def key_value(text: str) -> tuple[str, Any]:
    """Parse ``KEY=VALUE``; VALUE is JSON or, failing that, text."""
    import json

    key, equals, value = text.partition("=")
    if not key.isidentifier() or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def seconds(text: str) -> float:
    """Parse a positive number of seconds."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return number


def span(text: str) -> float:
    """Parse a time such as ``60``, ``60s``, ``10m`` or ``1h`` into seconds."""
    import re

    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([a-z]*)", text)
    unit = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}.get(match[2]) if match else None
    if match is None or unit is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 60, 60s, 10m or 1h")
    return float(match[1]) * unit


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """Provide an event that Ctrl-C and SIGTERM set, so that nothing is left behind. A later one ends it at once.
    On the main thread."""
    import signal
    import threading
    import time

    over = threading.Event()
    impatient_at = inf

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal impatient_at
        if time.monotonic() >= impatient_at:
            raise KeyboardInterrupt
        if not over.is_set():
            impatient_at = time.monotonic() + SAME_SIGNAL_S
        over.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield over
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _top_parser(prog: str, groups: dict[str, dict[str, Command]], examples: str) -> argparse.ArgumentParser:
    lines = []
    for title, commands in groups.items():
        lines += [f"{title}:", *(f"  {name:<14} {command.summary}" for name, command in commands.items()), ""]
    parser = argparse.ArgumentParser(
        prog=prog,
        usage=f"{prog} [COMMAND] [OPTIONS]",
        description="FIX Gateway: a central database of flight information, and the plugins around it.\n\n"
        + "\n".join(lines),
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{prog} {__version__}")
    return parser


def _run(top: argparse.ArgumentParser, commands: dict[str, Command], default: str, argv: Sequence[str] | None) -> int:
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what may stand at its cursor
        try:
            from fixgw.cli.completion import complete
        except ImportError:
            return EXIT_FAILED
        complete(top, commands)
    _open_missing_streams()
    try:
        try:
            args = _parse(top, commands, default, list(sys.argv[1:] if argv is None else argv))
            run: Run = args.run
            code = run(args)
            sys.stdout.flush()
            return code
        except SystemExit as leaving:  # argparse has printed the message
            sys.stdout.flush()
            return leaving.code if isinstance(leaving.code, int) else EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # a reader such as `head` has closed the pipe
        _discard_output()
        return EXIT_READER_GONE
    except FixgwError as error:
        return complain(str(error))
    except OSError as error:
        try:
            sys.stdout.flush()
        except OSError:  # the output itself failed, on a full disk for example
            _discard_output()
        words = error.strerror or str(error)
        return complain(f"{error.filename}: {words}" if error.filename else words)


def _discard_output() -> None:
    """Send stdout to /dev/null, so that flushing its buffer at exit cannot fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_missing_streams() -> None:
    """Open /dev/null for standard streams that were closed (``>&-``), so that no socket gets their descriptors."""
    for name, fd, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            try:
                os.fstat(fd)
            except OSError:
                os.dup2(os.open(os.devnull, os.O_RDWR), fd)
            setattr(sys, name, open(fd, mode, closefd=False))  # noqa: SIM115


def _parse(
    top: argparse.ArgumentParser, commands: dict[str, Command], default: str, argv: list[str]
) -> argparse.Namespace:
    # Each command parses its own arguments, so only the module of the command in use is imported.
    rest = top.add_argument("words", nargs=argparse.PARSER, help=argparse.SUPPRESS)
    rest.required = False
    words: list[str] = top.parse_args(argv).words or []
    before = argv[: len(argv) - len(words)]
    name, *after = words or [default]
    if name not in commands:
        top.error(f"there is no command {name!r}{did_you_mean(name, commands)}; --help lists them")
    subparsers = argparse.ArgumentParser(prog=top.prog).add_subparsers(parser_class=_Parser)
    module = commands[name].module
    import_module(module if "." in module else f"fixgw.cli.{module}").add_parser(subparsers)
    parser: argparse.ArgumentParser = subparsers.choices[name]
    return parser.parse_args(before + after)


class _Parser(argparse.ArgumentParser):
    """Accepts options anywhere, and refers to ``--help`` instead of repeating the usage."""

    _mixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and if an argument is left over behind an option, parse options and arguments separately."""
        known, rest = super().parse_known_args(args, namespace)
        if self._mixing or not rest or any(word.startswith("-") for word in rest):
            return known, rest
        if any(action.nargs in (argparse.PARSER, argparse.REMAINDER) for action in self._get_positional_actions()):
            return known, rest
        self._mixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._mixing = False

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")
