"""The command console: an interactive prompt for the client commands."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from fixgw.cli import (
    CLIENT,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    Subparsers,
    add_client_options,
    add_command,
    complain,
)
from fixgw.cli import alerts as alerts_command
from fixgw.cli import client as client_commands
from fixgw.cli import playback as playback_command
from fixgw.cli import watch as watch_command
from fixgw.cli.client import OFF, ON, Action, connect, new_client
from fixgw.database import FLAG_NAMES
from fixgw.errors import FixgwError, NotConnected, did_you_mean

if TYPE_CHECKING:
    from fixgw.netfix import Client

PROMPT = "fixgw> "
HISTORY_LINES = 1000
QUIT_WORDS = ("quit", "exit", "q")
ELSEWHERE = ("console", "calibrate", "tui", "wait")  # they make no sense in a console
COMMANDS = [name for name in CLIENT if name not in ELSEWHERE]
KEY_FIRST = ("write", "flag")  # these take one key, then something else; the others take any number of keys


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        subparsers,
        "console",
        run,
        "The console takes the client commands of `fixgw`. The tab key completes commands, keys, aux values and\n"
        "flags, and the history is kept between sessions. `help` lists the commands; `quit` or Ctrl-D leaves. The\n"
        "console also reads commands from a pipe; its exit code is then 1 if any of them failed.",
        "  fixgw console\n  echo 'read IAS ALT' | fixgw console",
    )
    add_client_options(parser)


def run(args: argparse.Namespace) -> int:
    console = Console(args)
    try:
        return console.run_interactively() if sys.stdin.isatty() else console.run_from_pipe()
    finally:
        console.close()


class Console:
    """Runs commands. It connects when a command needs it, so the gateway may restart between two commands."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.client: Client = new_client(args)
        self.completion = Completion(self._keys, self._aux)
        self._where = {"host": args.host, "port": args.port, "timeout": args.timeout}
        parser_class: type[argparse.ArgumentParser] = _Parser
        subparsers = argparse.ArgumentParser().add_subparsers(parser_class=parser_class)
        client_commands.add_parser(subparsers, connection=False)
        watch_command.add_parser(subparsers, connection=False)
        alerts_command.add_parser(subparsers, connection=False)
        playback_command.add_parser(subparsers, connection=False)
        self._parsers: dict[str, argparse.ArgumentParser] = dict(subparsers.choices)
        for name, parser in self._parsers.items():
            parser.prog = name

    def close(self) -> None:
        self.client.disconnect()

    # -- input ---------------------------------------------------------------------------------------------------------

    def run_from_pipe(self) -> int:
        worst = EXIT_DONE
        for line in sys.stdin:
            if line.strip() in QUIT_WORDS:
                break
            worst = max(worst, self.do(line))
        return EXIT_FAILED if worst else EXIT_DONE

    def run_interactively(self) -> int:
        with History(self.completion):
            print("`help` lists the commands, `quit` leaves.")
            try:
                connect(self.client)
            except FixgwError as error:
                complain(str(error))
            while True:
                try:
                    line = input(PROMPT)
                    if line.strip() in QUIT_WORDS:
                        return EXIT_DONE
                    self.do(line)
                except EOFError:
                    print()
                    return EXIT_DONE
                except KeyboardInterrupt:  # drop the line
                    print()

    # -- one command ---------------------------------------------------------------------------------------------------

    def do(self, line: str) -> int:
        """Run one command and return its exit code. Raises only `BrokenPipeError`."""
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            return complain(f"{error}".lower())
        if not words:
            return EXIT_DONE
        try:
            code = self._do(*words)
            sys.stdout.flush()
            return code
        except SystemExit as leaving:  # the parser has printed the message
            return leaving.code if isinstance(leaving.code, int) else EXIT_FAILED
        except KeyboardInterrupt:
            print()
            return EXIT_INTERRUPTED
        except BrokenPipeError:
            raise
        except (FixgwError, OSError) as error:
            return complain(str(error))

    def _do(self, name: str, *words: str) -> int:
        if name in ("help", "?"):
            return self._help(words)
        parser = self._parsers.get(name)
        if parser is None:
            return complain(f"there is no command {name!r}{did_you_mean(name, COMMANDS)}; `help` lists them")
        args = parser.parse_args(words, argparse.Namespace(**self._where))
        action: Action | None = getattr(args, "action", None)
        if action is None:
            run: Callable[[argparse.Namespace], int] = args.run
            return run(args)
        connect(self.client)
        try:
            return action(self.client, args)
        except NotConnected:  # the connection was lost since the last command; the gateway may be back
            connect(self.client)
            return action(self.client, args)

    def _help(self, words: Sequence[str]) -> int:
        for word in words:
            if word not in self._parsers:
                return complain(f"there is no command {word!r}{did_you_mean(word, COMMANDS)}")
            self._parsers[word].print_help()
        if not words:
            for name in COMMANDS:
                print(f"  {name:<9} {CLIENT[name].summary}")
            print("  quit      leave the console\n\n`help COMMAND` describes one command.")
        return EXIT_DONE

    # -- requests for completion ---------------------------------------------------------------------------------------

    def _keys(self) -> list[str]:
        connect(self.client)
        return [key for key in self.client.list() if key.isprintable()]

    def _aux(self, key: str) -> list[str]:
        connect(self.client)
        return [f"{key}.{name}" for name in self.client.report(key).aux if name.isprintable()]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: {message}; see `help {self.prog}`\n")


class Completion:
    """Completes words for readline.

    `keys` and `aux` ask the gateway; when they raise a `FixgwError`, there is nothing to offer.
    """

    def __init__(self, keys: Callable[[], list[str]], aux: Callable[[str], list[str]]) -> None:
        self._keys = keys
        self._aux = aux
        self._found: list[str] = []

    def candidates(self, before: Sequence[str], word: str) -> list[str]:
        """The possible completions of `word`, which follows the words `before`."""
        if not before:
            return [c for c in (*COMMANDS, "help", "quit") if c.startswith(word)]
        command, *given = before
        if command == "help":
            return [c for c in COMMANDS if c.startswith(word)]
        if command not in COMMANDS or command == "status":
            return []
        if command in KEY_FIRST and given:
            if command == "write":
                choices: Sequence[str] = ()
            else:
                choices = tuple(FLAG_NAMES.values()) if len(given) == 1 else (ON[0], OFF[0]) if len(given) == 2 else ()
            return [c for c in choices if c.startswith(word)]
        return self._key_candidates(word)

    def _key_candidates(self, word: str) -> list[str]:
        base, dot, name = word.partition(".")
        try:
            if dot:
                start = f"{base}.{name}".lower()
                return [c for c in self._aux(base) if c.lower().startswith(start)]
            return [key for key in self._keys() if key.upper().startswith(word.upper())]
        except FixgwError:
            return []

    def __call__(self, word: str, state: int) -> str | None:
        """The interface for readline's `set_completer`, which hides exceptions."""
        import readline

        if state == 0:
            line = readline.get_line_buffer()[: readline.get_begidx()]
            self._found = self.candidates(line.split(), word)
        if state >= len(self._found):
            return None
        only = len(self._found) == 1
        return self._found[state] + (" " if only else "")


class History:
    """A context manager for line editing, completion, and a history that is kept between sessions."""

    def __init__(self, completion: Completion) -> None:
        self._completion = completion
        state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
        self._file = Path(state) / "fixgw" / "history"

    def __enter__(self) -> None:
        try:
            import readline
        except ImportError:  # Python was built without readline: use a plain prompt
            return
        readline.set_history_length(HISTORY_LINES)
        readline.set_completer_delims(" \t\n")
        readline.set_completer(self._completion)
        editline = "libedit" in (readline.__doc__ or "")
        readline.parse_and_bind("bind ^I rl_complete" if editline else "tab: complete")
        try:
            readline.read_history_file(self._file)
        except OSError:
            pass

    def __exit__(self, *exc: object) -> None:
        try:
            import readline
        except ImportError:
            return
        readline.set_completer(None)
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(self._file)
        except OSError:
            pass
