"""A prompt on the terminal in which the gateway runs.

    connections:
      command: {module: fixgw.plugins.command, prompt: "FIX>", quit: yes}

`fixgw console` does more, from anywhere.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from typing import Annotated, TextIO

from msgspec import Meta

from fixgw import plugin
from fixgw.database import ANNUNCIATE, FLAG_LETTERS, OLD, Reading, Subscription
from fixgw.errors import FixgwError
from fixgw.kit.update import FALSE_WORDS, TRUE_WORDS
from fixgw.plugin import Worker
from fixgw.status import get_string

WAIT_S = 0.2
LONGEST_LINE = 4096
MAX_UNPRINTED = 1000
FLAGS = {letter: flag for letter, flag in FLAG_LETTERS.items() if flag != OLD}
ON_WORDS, OFF_WORDS = TRUE_WORDS | {"high"}, FALSE_WORDS | {"low"}
NO_TERMINAL = "no terminal: use `fixgw console`"


class Options(plugin.Options, frozen=True):
    """Options of the `command` plugin."""

    prompt: Annotated[str, Meta(description="Text of the prompt")] = "FIX>"
    quit: Annotated[bool, Meta(description="Leaving the prompt stops the gateway")] = True


class Misuse(FixgwError):
    """A command that is wrong, and why."""


class Plugin(Worker[Options]):
    """Reads commands from standard input if that is a terminal; otherwise it does nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        #: A test may replace them.
        self.input: TextIO | None = sys.stdin
        self.output: TextIO = sys.stdout
        self._subscriptions: dict[str, Subscription] = {}
        self._news: dict[str, Reading] = {}
        self._commands: dict[str, Callable[[list[str]], object]] = {
            "read": self._read,
            "write": self._write,
            "list": lambda words: self._say(*sorted(self.db)),
            "report": self._report,
            "sub": self._subscribe,
            "unsub": self._unsubscribe,
            "flag": self._flag,
            "status": lambda words: self._say(get_string(self._gateway.status())),
            "help": lambda words: self._say(" ".join(self._commands), "quit exit"),
        }

    def work(self) -> None:
        source = self.input
        if source is None or source.closed or not source.isatty():
            self.log.info("%s", NO_TERMINAL)
            self.count(NO_TERMINAL)
            while not self.stopping.wait(1.0):
                self.show_life()
            return
        number, waiting = source.fileno(), b""
        self._prompt()
        while not self.stopping.is_set():
            self.show_life()
            self._tell_news()
            if not _in_foreground(number):  # to read would stop the whole process, with SIGTTIN
                self.stopping.wait(WAIT_S)
                continue
            if not select.select([number], [], [], WAIT_S)[0]:
                continue
            try:
                data = os.read(number, LONGEST_LINE)
            except OSError:  # the terminal is gone
                data = b""
            if not data:
                self._leave()
                return
            *lines, waiting = (waiting + data).split(b"\n")
            waiting = waiting[-LONGEST_LINE:]
            for line in lines:
                words = line.decode("utf-8", "replace").split()
                if words and words[0] in ("quit", "exit"):
                    self._leave()
                    return
                self.do(words)
                self._prompt()

    def do(self, words: list[str]) -> None:
        """Run one command. Whatever is wrong with it is printed."""
        if not words:
            return
        self.count("commands")
        command = self._commands.get(words[0].lower())
        try:
            if command is None:
                raise Misuse(f"there is no command {words[0]!r}; `help` lists them")
            command(words[1:])
        except (FixgwError, KeyError, ValueError) as error:
            self._say(str(error))

    def finish(self) -> None:
        for subscription in self._subscriptions.values():
            subscription.close()
        self._subscriptions.clear()

    def _leave(self) -> None:
        self._say("")
        if self.options.quit:
            self.quit()
        self.done("left")

    # -- commands ------------------------------------------------------------------------------------------------------

    def _read(self, words: list[str]) -> None:
        (key,) = _arguments(words, "read KEY")
        self._say(f"{key} = {self.db_read(key)}")

    def _write(self, words: list[str]) -> None:
        if len(words) < 2:
            raise Misuse("write KEY VALUE")
        key, value = words[0], " ".join(words[1:])
        self.db.write(key, value, self.source)

    def _report(self, words: list[str]) -> None:
        (key,) = _arguments(words, "report KEY")
        facts = self.db.item(key).explain()
        self._say(*(f"{name}: {fact}" for name, fact in facts.items() if fact not in (None, [], {})))

    def _subscribe(self, words: list[str]) -> None:
        (key,) = _arguments(words, "sub KEY")
        self.db.item(key)
        if key not in self._subscriptions:
            self._subscriptions[key] = self.db.subscribe(key, self._note, quick=True)

    def _unsubscribe(self, words: list[str]) -> None:
        (key,) = _arguments(words, "unsub KEY")
        subscription = self._subscriptions.pop(key, None)
        if subscription is None:
            raise Misuse(f"{key} is not subscribed to")
        subscription.close()

    def _flag(self, words: list[str]) -> None:
        key, letter, setting = _arguments(words, f"flag KEY {'|'.join(FLAGS)} true|false")
        if letter not in FLAGS or setting.lower() not in ON_WORDS | OFF_WORDS:
            raise Misuse(f"flag KEY {'|'.join(FLAGS)} true|false")
        on, item = setting.lower() in ON_WORDS, self.db.item(key)
        if FLAGS[letter] == ANNUNCIATE:
            item.annunciate(on, "set at the prompt", self.source)
        else:
            item.flag(FLAGS[letter] if on else 0, FLAGS[letter], self.source)

    # -- output --------------------------------------------------------------------------------------------------------

    def _note(self, key: str, reading: Reading) -> None:
        if len(self._news) < MAX_UNPRINTED:
            self._news[key] = reading

    def _tell_news(self) -> None:
        while self._news:
            key = next(iter(self._news))
            self._say(f"{key} = {self._news.pop(key).as_tuple()}")

    def _prompt(self) -> None:
        self._print(self.options.prompt)

    def _say(self, *lines: str) -> None:
        self._print("".join(f"{line}\n" for line in lines))

    def _print(self, text: str) -> None:
        try:
            self.output.write(text)
            self.output.flush()
        except (OSError, ValueError):  # nobody reads it any more
            self.count("not printed")


def _in_foreground(terminal: int) -> bool:
    """Whether this process may read the terminal. True also if it is not the one that controls the process."""
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return True


def _arguments(words: list[str], usage: str) -> list[str]:
    if len(words) != len(usage.split()) - 1:
        raise Misuse(usage)
    return words
