"""Writes the manual pages from the parsers of the commands: ``python systemd/debian/manual.py DIRECTORY``.

``fixgw.1`` and ``fixgwc.1`` list the commands; each has a page of its own, such as ``fixgw-watch.1``, with what its
``--help`` says.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from fixgw import __version__, cli  # noqa: E402
from fixgw.install import CONFIGURATION  # noqa: E402

WIDTH = 80  # of usage lines, whatever the terminal


def pages() -> dict[str, str]:
    """All manual pages by their names."""
    found = {f"{name}.1": manual(name) for name in ("fixgw", "fixgwc")}
    for name, command in {**cli.SERVER, **cli.CLIENT, **cli.package_commands()}.items():
        found[f"fixgw-{name}.1"] = command_page(name, command)
    return found


def manual(name: str) -> str:
    """The page of ``fixgw`` or ``fixgwc``."""
    groups = {"COMMANDS": cli.CLIENT}
    summary, examples = "talk to a FIX Gateway", cli.CLIENT_EXAMPLES
    if name == "fixgw":
        groups = {"A GATEWAY": cli.SERVER, "A RUNNING GATEWAY": cli.CLIENT, "DEVICES": cli.package_commands()}
        summary, examples = "run a FIX Gateway, or talk to one", cli.EXAMPLES
    lines = [_title(name), ".SH NAME", f"{name} \\- {summary}"]
    lines += [".SH SYNOPSIS", f".B {name}", "[COMMAND] [OPTIONS]", ".SH DESCRIPTION"]
    lines += ["A central database of flight information, and the plugins around it.", ".PP"]
    lines += ["\\fBfixgw\\-\\fR\\fICOMMAND\\fR(1) is the page of a command, for example \\fBfixgw\\-watch\\fR(1)."]
    for title, commands in groups.items():
        lines.append(f".SH {title}")
        for command, about in commands.items():
            lines += [".TP", f".B {roff(command)}", roff(about.summary)]
    lines += [".SH EXAMPLES", ".nf", *(roff(line) for line in examples.splitlines()), ".fi"]
    lines += [".SH ENVIRONMENT"]
    for variable, what in (
        ("FIXGW_CONFIG", "the configuration"),
        ("FIXGW_HOST", "the address of the gateway to talk to"),
        ("FIXGW_PORT", "its port"),
        ("FIXGW_UNITS", "the units in which people see values, such as us,mph"),
    ):
        lines += [".TP", f".B {variable}", what]
    lines += [".SH FILES", ".TP", f".I {CONFIGURATION}/default.yaml", "the configuration of the service"]
    lines += [".TP", ".I ~/.config/fixgw/default.yaml", "that of a user, which comes first"]
    lines += [".SH EXIT STATUS", "0 success; 1 failure, explained on standard error; 2 wrong usage; 130 interrupted."]
    lines += [".SH SEE ALSO", ".BR systemctl (1)", ".PP"]
    lines += [".I /usr/share/doc/fixgw/html/index.html", "is the whole documentation, in the package fixgw\\-doc."]
    return "\n".join(lines) + "\n"


def command_page(name: str, command: cli.Command) -> str:
    """The page of one command, with the commands below it."""
    subparsers = argparse.ArgumentParser(prog="fixgw").add_subparsers()
    import_module(command.module if "." in command.module else f"fixgw.cli.{command.module}").add_parser(subparsers)
    lines = [_title(f"fixgw-{name}"), ".SH NAME", f"fixgw\\-{roff(name)} \\- {roff(command.summary)}"]
    lines += _sections(subparsers.choices[name], "SH")
    lines += [".SH SEE ALSO", ".BR fixgw (1)"]
    return "\n".join(lines) + "\n"


def _sections(parser: argparse.ArgumentParser, level: str) -> Iterator[str]:
    parser.formatter_class = partial(argparse.RawDescriptionHelpFormatter, width=WIDTH)
    if level == "SH":
        yield ".SH SYNOPSIS"
    yield from (".nf", *map(roff, _usage(parser)), ".fi")
    if parser.description:
        yield from ((".SH DESCRIPTION" if level == "SH" else ".PP"), ".nf")
        yield from (*map(roff, parser.description.strip().splitlines()), ".fi")
    formatter = parser._get_formatter()
    below: dict[str, argparse.ArgumentParser] = {}
    title = ".SH OPTIONS" if level == "SH" else ".PP"
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            below.update(action.choices)
            continue
        if action.help == argparse.SUPPRESS or isinstance(action, argparse._HelpAction):
            continue
        if title:
            yield title
            title = ""
        words = formatter._format_action_invocation(action)
        yield from (".TP", f".B {roff(words)}", roff(formatter._expand_help(action)) if action.help else "\\&")
    if parser.epilog:
        first, *examples = parser.epilog.strip().splitlines()
        yield from ((f".SH {roff(first.rstrip(':').upper())}" if level == "SH" else ".PP"), ".nf")
        yield from (*map(roff, examples if level == "SH" else [first, *examples]), ".fi")
    for name, each in below.items():
        yield f".SH {roff(name.upper())}"
        yield from _sections(each, "SS")


def _usage(parser: argparse.ArgumentParser) -> list[str]:
    return parser.format_usage().removeprefix("usage: ").rstrip().splitlines()


def _title(name: str) -> str:
    return f'.TH {roff(name.upper())} 1 "" "fixgw {__version__}"'


def roff(text: str) -> str:
    """`text` in a manual page: no letter of it is a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for file, page in pages().items():
        (directory / file).write_text(page, encoding="utf-8")
