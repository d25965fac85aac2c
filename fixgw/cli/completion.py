"""Completes command lines in a shell, with argcomplete (extra `completion`): commands, options, and what a running
gateway has: keys, aux values and connections. A gateway that does not answer within `PATIENCE_S` completes nothing."""

from __future__ import annotations

import argparse
import os
import shlex
import threading
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import argcomplete
from argcomplete.lexers import split_line

from fixgw.errors import FixgwError

if TYPE_CHECKING:
    from fixgw.cli import Command
    from fixgw.netfix import Client

PATIENCE_S = 0.3
Ask = Callable[["Client", str], Iterable[str]]


def complete(top: argparse.ArgumentParser, commands: Mapping[str, Command]) -> None:
    """Print what may stand at the cursor of the shell's command line, and exit. `top` parses what precedes a command.

    Only the module of the command in the line is imported.
    """
    quote, prefix, _, words, _ = split_line(os.environ["COMP_LINE"], int(os.environ["COMP_POINT"]))
    words = words[int(os.environ["_ARGCOMPLETE"]) - 1 :]
    name = next((word for word in words[1:] if word in commands), "")
    if name:
        at = words.index(name, 1)
        # Options before the command are the command's, as `fixgw.cli` has it.
        line = f"{shlex.join([words[0], name, *words[1:at], *words[at + 1 :]])} {quote}{prefix}"
        os.environ.update(COMP_LINE=line, COMP_POINT=str(len(line.encode())), _ARGCOMPLETE="1")
        top = argparse.ArgumentParser(add_help=False)
    subparsers = top.add_subparsers(parser_class=argparse.ArgumentParser)
    if name:
        module = commands[name].module
        import_module(module if "." in module else f"fixgw.cli.{module}").add_parser(subparsers)
        add_completers(subparsers.choices[name])
    else:
        for each, command in commands.items():
            subparsers.add_parser(each, help=command.summary)
    argcomplete.autocomplete(top, always_complete_options=False, exclude=["-h", "--help"], validator=_matches)


def _matches(candidate: str, prefix: str) -> bool:
    return candidate.upper().startswith(prefix.upper())


def add_completers(parser: argparse.ArgumentParser) -> None:
    """Tell the parser, and those below it, what arguments may be, by the names that their help has for them."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                add_completers(below)
            continue
        names = str(action.metavar or "").partition("|")[0]
        completer = COMPLETERS.get(names)
        if completer is None and not action.option_strings and names not in FILES and action.nargs != 0:
            completer = _nothing
        if completer is not None:
            action.completer = completer  # type: ignore[attr-defined]


def _asking(ask: Ask) -> Callable[..., list[str]]:
    """A completer that asks the gateway which the command line names."""

    def completer(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
        found: list[str] = []

        def work() -> None:
            from fixgw.netfix import Client

            host = getattr(parsed_args, "host", None) or os.environ.get("FIXGW_HOST", "127.0.0.1")
            port = getattr(parsed_args, "port", None) or os.environ.get("FIXGW_PORT", "3490")
            try:
                with Client(host, int(port), PATIENCE_S, reconnect=False) as client:
                    found.extend([each for each in ask(client, prefix) if each.isprintable()])
            except (FixgwError, ValueError):
                pass

        thread = threading.Thread(target=work, name="completion", daemon=True)  # looking up a host name may take longer
        thread.start()
        thread.join(PATIENCE_S)
        return list(found)

    return completer


def _keys(client: Client, prefix: str) -> Iterable[str]:
    base, dot, _ = prefix.upper().partition(".")
    return [f"{base}.{name}" for name in client.report(base).aux] if dot else client.list()


def _connections(client: Client, prefix: str) -> Iterable[str]:
    return client.status().get("connections") or {}


def _words(*words: str) -> Callable[..., list[str]]:
    return lambda **_: list(words)


_nothing = _words()
FILES = ("FILE", "FLIGHT", "CAPTURE", "DIR", "DIRECTORY", "PATH")
COMPLETERS: dict[str, Callable[..., list[str]]] = {
    "KEY": _asking(_keys),
    "PATTERN": _asking(_keys),
    "CONNECTION": _asking(_connections),
    "FLAG": _words("annunciate", "old", "bad", "fail", "secfail"),
    "on": _words("on", "off"),
    "UNITS": _words("us", "aviation", "metric", "degF", "mph", "hPa", "gal", "l"),
}
