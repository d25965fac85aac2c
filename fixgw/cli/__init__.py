"""The command line: ``fixgw`` runs a gateway and talks to one; ``fixgwc`` only talks.

Each command lives in a module that is imported only when it is asked for. Such a module has
``add_parser(subparsers)``, which adds its commands and sets ``run``, a function from the parsed arguments to the exit
code, as their default. A driver or plugin that is a package brings a command of its own name with a module `command`
like that; the first line of its docstring is the summary.

Exit codes: 0 done; 1 not done, one sentence on stderr says why; 2 wrong usage; 3 and 4 from a gateway (see
`fixgw.service`); 130 interrupted; 141 whoever read the output has gone.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from glob import glob
from importlib import import_module
from typing import Any, NamedTuple, NoReturn

from fixgw import __version__
from fixgw.errors import FixgwError, did_you_mean

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_READER_GONE = 141

Subparsers = argparse._SubParsersAction  # what `add_parser` of a command's module is given
Run = Callable[[argparse.Namespace], int]


class Command(NamedTuple):
    module: str  # in this package, or with its whole name
    summary: str


SERVER: dict[str, Command] = {
    "run": Command("server", "run the gateway; `fixgw` alone does the same"),
    "demo": Command("demo", "run it with a built-in flying aircraft: no device needed"),
    "check": Command("server", "say everything that is wrong with a configuration"),
    "doctor": Command("doctor", "say whether everything is ready: devices, permissions, values, the machine"),
    "config": Command("server", "find, copy, show or describe a configuration"),
    "plugins": Command("server", "what can be connected, and with which options"),
    "new": Command("new", "start a driver or plugin of your own, from a template that passes its tests"),
    "sim": Command("sim", "virtual instruments for a bench: CAN-FIX nodes, serial instruments, a panel"),
}
CLIENT: dict[str, Command] = {
    "list": Command("client", "which keys there are"),
    "read": Command("client", "the value and flags of keys, now"),
    "write": Command("client", "write a value"),
    "flag": Command("client", "set or clear a flag"),
    "report": Command("client", "how a key is defined: type, units, range, aux values"),
    "watch": Command("watch", "see values change, live"),
    "explain": Command("client", "where a value comes from, and why it is flagged"),
    "status": Command("client", "how the gateway and its connections are doing"),
    "console": Command("console", "type these commands one after the other, with completion"),
}

EXAMPLES = """\
first flight:
  fixgw demo                        in one terminal
  fixgw watch IAS ALT VS HEAD       in another

your own aircraft:
  fixgw config init ~/.config/fixgw   a copy of the configuration, to edit
  fixgw check                         is it right?
  fixgw doctor                        is everything there that it needs?
  fixgw run                           fly
  fixgw status                        is everything well?
  fixgw explain IAS                   and if not, why not?

`fixgw COMMAND --help` says more about each command.
"""
CLIENT_EXAMPLES = """\
  fixgwc                            a console
  fixgwc --host 192.168.1.10        a console to the gateway of another machine
  fixgwc watch IAS ALT VS HEAD

`fixgwc COMMAND --help` says more about each command.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """``fixgw``. Returns the exit code; never raises for what a person typed."""
    devices = brought()
    top = _top_parser(
        "fixgw", {"A gateway": SERVER, "Talking to a running gateway": CLIENT, "Talking to devices": devices}, EXAMPLES
    )
    add_run_options(top)
    return _run(top, {**devices, **SERVER, **CLIENT}, "run", argv)


def client_main(argv: Sequence[str] | None = None) -> int:
    """``fixgwc``: the commands that talk to a running gateway; a console when none is named."""
    top = _top_parser("fixgwc", {"Commands": CLIENT}, CLIENT_EXAMPLES)
    add_client_options(top)
    return _run(top, CLIENT, "console", argv)


def brought() -> dict[str, Command]:
    """The commands that drivers and plugins bring, found without importing them."""
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
    summary = (SERVER.get(name) or CLIENT.get(name) or brought()[name]).summary
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
    """The options of ``fixgw run``, which ``fixgw`` alone takes too."""
    parser.add_argument(
        "--config-file",
        metavar="FILE",
        help="the configuration; default: $FIXGW_CONFIG, ~/.config/fixgw/default.yaml, /etc/fixgw/default.yaml, or "
        "else the packaged one",
    )
    parser.add_argument("--log-config", metavar="FILE", help="YAML for Python's logging.config.dictConfig")
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument("--verbose", action="store_true", help="log what goes on")
    loudness.add_argument("--debug", action="store_true", help="log everything")


def add_client_options(parser: argparse._ActionsContainer) -> None:
    """The options of every command that talks to a running gateway."""
    parser.add_argument(
        "--host",
        default=os.environ.get("FIXGW_HOST", "127.0.0.1"),
        help="where the gateway listens (default: $FIXGW_HOST or 127.0.0.1)",
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=os.environ.get("FIXGW_PORT", "3490"),
        help="its NetFIX port (default: $FIXGW_PORT or 3490)",
    )
    parser.add_argument(
        "--timeout", type=seconds, default=2.0, metavar="SECONDS", help="longest wait for an answer (default: 2)"
    )


def complain(message: str) -> int:
    """Say on stderr why a command could not be done; returns the exit code for that."""
    print(f"fixgw: {message}", file=sys.stderr)
    return EXIT_FAILED


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port number, 1 to 65535")
    return int(text)


def key_value(text: str) -> tuple[str, Any]:
    """``KEY=VALUE`` of the command line; VALUE is JSON, or else text."""
    import json

    key, equals, value = text.partition("=")
    if not key.isidentifier() or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return number


def _top_parser(prog: str, groups: dict[str, dict[str, Command]], examples: str) -> argparse.ArgumentParser:
    lines = []
    for title, commands in groups.items():
        lines += [f"{title}:", *(f"  {name:<9} {command.summary}" for name, command in commands.items()), ""]
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
    # The command's own arguments are left to its parser, so that only one command's module is ever imported.
    rest = parser.add_argument("words", nargs=argparse.PARSER, help=argparse.SUPPRESS)
    rest.required = False
    return parser


def _run(top: argparse.ArgumentParser, commands: dict[str, Command], default: str, argv: Sequence[str] | None) -> int:
    _open_missing_streams()
    try:
        try:
            args = _parse(top, commands, default, list(sys.argv[1:] if argv is None else argv))
            run: Run = args.run
            code = run(args)
            sys.stdout.flush()
            return code
        except SystemExit as leaving:  # argparse has said what there was to say
            sys.stdout.flush()
            return leaving.code if isinstance(leaving.code, int) else EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # somebody like `head` has seen enough
        _forget_output()
        return EXIT_READER_GONE
    except FixgwError as error:
        return complain(str(error))
    except OSError as error:
        try:
            sys.stdout.flush()
        except OSError:  # it was the output that failed: a full disk
            _forget_output()
        words = error.strerror or str(error)
        return complain(f"{error.filename}: {words}" if error.filename else words)


def _forget_output() -> None:
    """What is still buffered must not fail again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_missing_streams() -> None:
    """Who starts us with ``>&-`` wants to hear nothing; but the descriptor must not become a socket's."""
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
    """Points to ``--help`` instead of repeating the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")
