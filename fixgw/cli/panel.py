"""``fixgw sim panel``: operate a running gateway's virtual pins, on a terminal or with commands in a pipe."""

from __future__ import annotations

import argparse
import json
import os
import select
import socket
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

from fixgw.cli import EXIT_DONE, EXIT_FAILED, complain, text
from fixgw.cli.terminal import REVERSE, Line, Terminal, paint, size
from fixgw.errors import FixgwError

PRESS_S = 0.2  # how long a key press holds a button down
POLL_S = 0.25  # how often to check the size of the terminal
LOST = "lost the connection to the panel"
CELL_WIDTH = 40  # the minimum width of a pin in the table, in characters
MAX_LINE_BYTES = 100_000  # no panel sends a longer line

#: Keys that turn a knob: which, and how far.
TURNS = {
    **dict.fromkeys(("\x1b[D", "a"), (0, -1)),
    **dict.fromkeys(("\x1b[C", "d"), (0, 1)),
    **dict.fromkeys(("\x1b[B", "j"), (1, -1)),
    **dict.fromkeys(("\x1b[A", "l"), (1, 1)),
}
SWITCHES = "st"
State = dict[str, Any]


def run(args: argparse.Namespace) -> int:
    """Run until q, Ctrl-C, SIGTERM or the end of the input. Returns 1 when there is no panel, or no longer one."""
    try:
        path, link = find(args.path)
    except FixgwError as error:
        return complain(str(error))
    try:
        if sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
            return run_on_terminal(link, path)
        return run_in_pipe(link)
    except KeyboardInterrupt:
        return EXIT_DONE  # the usual way to stop
    finally:
        link.close()


def find(path: str | None = None) -> tuple[str, Link]:
    """Connect to the panel at `path`, or at the usual path, which is returned with the link. Raises `FixgwError`."""
    from fixgw.hw_sim import panel_server

    path = path or panel_server.default_path()
    try:
        return path, Link(panel_server.connect(path))
    except OSError as error:
        raise FixgwError(
            f"no panel at {path}: {str(error.strerror or error).lower()}; `fixgw demo` provides one, and so does a "
            "gateway with `library: fixgw.hw_sim.panel_pins`"
        ) from error


class Link:
    """The connection to the panel. Use it from one thread only."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = b""
        self.open = True

    def fileno(self) -> int:
        return self._connection.fileno()

    def send(self, command: str) -> None:
        try:
            self._connection.sendall(f"{command}\n".encode())
        except OSError:
            self.open = False

    def finish(self) -> None:
        """Tell the panel that no more commands follow. It closes the connection after the last answer."""
        try:
            self._connection.shutdown(socket.SHUT_WR)
        except OSError:
            self.open = False

    def receive(self) -> list[State]:
        """Wait for data and return the messages received. Clears `open` when the panel has gone."""
        try:
            data = self._connection.recv(65536)
        except OSError:
            data = b""
        *lines, self._received = (self._received + data).split(b"\n")
        try:
            messages = [json.loads(line) for line in lines]
        except ValueError:
            messages, data = [], b""
        self.open = self.open and bool(data) and len(self._received) < MAX_LINE_BYTES
        return [message for message in messages if isinstance(message, dict)]

    @property
    def waiting(self) -> bool:
        """Whether `receive` would return at once."""
        return bool(select.select([self._connection], [], [], 0.0)[0])

    def close(self) -> None:
        self._connection.close()


# -- in a pipe ---------------------------------------------------------------------------------------------------------


def run_in_pipe(link: Link) -> int:
    """Print a line for each change, and send the commands from standard input."""
    code = EXIT_DONE
    before: list[str] = []
    stdin, rest = sys.stdin.fileno(), b""
    files: list[Any] = [link, stdin]
    while link.open:
        ready, _, _ = select.select(files, [], [])
        if stdin in ready:
            data = os.read(stdin, 4096)
            *lines, rest = (rest + data).split(b"\n") if data else [rest, b""]
            for line in lines:
                link.send(line.decode("utf-8", "replace"))
            if not data:
                files.remove(stdin)
                link.finish()
        if link in ready:
            for message in link.receive():
                if "error" in message:
                    code = complain(message["error"])
                    continue
                now = list(state_lines(message))
                for words in now:
                    if words not in before:
                        print(words)
                before = now
            sys.stdout.flush()
    return code if stdin not in files else complain(LOST)


def state_lines(state: State) -> Iterator[str]:
    """The state as lines: the chip, each pin that is set up or driven, and the positions of the knobs."""
    yield f"chip\t{'plugged' if state['plugged'] else 'unplugged'}"
    parts = part_names(state)
    for number, pin in visible_pins(state):
        level, duty = ("low", "high")[pin["level"]], pin["duty"]
        words = (pin["direction"], level, pin["pull"], None if duty is None else f"{duty:g}", parts.get(int(number)))
        yield "\t".join((f"GPIO{number}", *(word or "" for word in words)))
    for at, knob in enumerate((state["panel"] or {}).get("knobs", ())):
        yield f"knob {at}\t{knob['position']}"


def visible_pins(state: State) -> list[tuple[str, dict[str, Any]]]:
    """The pins that the gateway has set up, or that are driven from outside."""
    return [(n, p) for n, p in state["pins"].items() if p["direction"] is not None or p["driven"] is not None]


def part_names(state: State, first: int = 0) -> dict[int, str]:
    """The names of the panel's parts by pin, numbered from `first`."""
    if (panel := state["panel"]) is None:
        return {}
    parts = {pin: f"button {n}" for n, pin in enumerate(buttons(panel), first)}
    parts |= {pin: f"switch {n}" for n, pin in enumerate(panel["switches"], first)}
    parts |= {knob[contact]: f"knob {n} {contact}" for n, knob in enumerate(panel["knobs"], first) for contact in "ab"}
    return parts | {pin: f"lamp {name}" for name, pin in panel["lamps"].items()} | {panel["light"]: "light"}


def buttons(panel: dict[str, Any]) -> list[int]:
    """The pins of the separate buttons, then of the buttons in the knobs."""
    return [*panel["buttons"], *(knob["push"] for knob in panel["knobs"])]


# -- on a terminal -----------------------------------------------------------------------------------------------------


def run_on_terminal(link: Link, path: str) -> int:
    """Show the page and redraw it at every change, until q is pressed."""
    page = Page(path, colour=not os.environ.get("NO_COLOR"))
    with Terminal() as terminal:
        shape = (0, 0)
        while link.open:
            before, shape = shape, size()
            if page.state is not None:
                terminal.show(page.draw(*shape), anew=shape != before)
            for key in terminal.keys(POLL_S, link.fileno()):
                if key in ("q", "Q", "\x04"):
                    return EXIT_DONE
                for command in page.commands(key.replace("\x1bO", "\x1b[")):
                    link.send(command)
            if link.waiting:
                page.take(link.receive())
    complain(page.trouble or LOST)
    return EXIT_FAILED


class Page:
    """The contents of the screen, and the meaning of keys."""

    def __init__(self, path: str, colour: bool, leave: str = "q quits") -> None:
        self.path = path
        self.leave = leave  # how to leave it, in words
        self.colour = colour
        self.state: State | None = None
        self.chosen = ""  # the number of a pin
        self.trouble = ""

    def take(self, messages: list[State]) -> None:
        for message in messages:
            if "error" in message:
                self.trouble = message["error"]
            else:
                self.state = message

    def commands(self, key: str) -> list[str]:
        """The commands that a key sends to the panel."""
        state = self.state
        if state is None:
            return []
        self.trouble = ""
        panel, pins = state["panel"], state["pins"]
        inputs = [number for number, pin in visible_pins(state) if pin["direction"] != "out"]
        if key == "u":
            return ["unplug" if state["plugged"] else "plug"]
        if key in ("\t", "\x1b[Z") and inputs:
            step = 1 if key == "\t" else -1
            at = inputs.index(self.chosen) + step if self.chosen in inputs else min(0, step)
            self.chosen = inputs[at % len(inputs)]
        elif key == " " and self.chosen in inputs:
            pin = pins[self.chosen]
            return [f"let {self.chosen}" if is_driven(pin) else f"drive {self.chosen} {int(pin['pull'] == 'down')}"]
        elif panel is None:
            if key in TURNS and self.chosen in inputs[:-1]:
                other = inputs[inputs.index(self.chosen) + 1]
                return [f"turn-pins {self.chosen} {other} {TURNS[key][1]}"]
        elif key in TURNS and TURNS[key][0] < len(panel["knobs"]):
            return ["turn {} {}".format(*TURNS[key])]
        elif key in SWITCHES and SWITCHES.index(key) < len(panel["switches"]):
            number = SWITCHES.index(key)
            return [f"switch {number} {int(not is_driven(pins[str(panel['switches'][number])]))}"]
        elif key.isdecimal() and 1 <= int(key) <= len(buttons(panel)):
            return [f"press {int(key) - 1} {PRESS_S}"]
        return []

    def draw(self, width: int, height: int) -> list[str]:
        """At most `height` lines of at most `width` visible characters."""
        return [paint(line, width, self.colour) for line in self.lay_out(width, height)]

    def lay_out(self, width: int, height: int) -> list[Line]:
        """The same in parts, whose last one may be too wide."""
        assert self.state is not None
        state, panel = self.state, self.state["panel"]
        chip = [] if state["plugged"] else [(", UNPLUGGED", text.RED)]
        lines: list[Line] = [[("Virtual pins", text.BOLD), *chip, (f" at {self.path}", text.BOLD)]]
        keys = f"space closes and opens its contact, u unplugs the chip, {self.leave}"
        if panel is not None:
            lines += [*self._parts(panel), []]
            keys = f"1-{len(buttons(panel))} press, arrows or a d, j l turn, s t switch, tab selects a pin, {keys}"
        else:
            keys = f"tab selects a pin, arrows turn a knob on it and the next, {keys}"
        words, colour = (self.trouble, text.RED) if self.trouble else (keys, text.DIM)
        footer = [[(line, colour)] for line in textwrap.wrap(words, max(1, width))[: max(1, height // 4)]]
        lines += self._table(width, max(1, height - len(lines) - len(footer)))
        return [*lines[: height - len(footer)], *footer]

    def _parts(self, panel: dict[str, Any]) -> list[Line]:
        assert self.state is not None
        pins = self.state["pins"]

        def contact(name: str, pin: int, words: str, colour: str) -> Line:
            closed = is_driven(pins[str(pin)])
            return [
                (f"  {name} ", ""),
                (f" {words} " if closed else " - ".center(len(words) + 2), colour if closed else ""),
            ]

        lamps: Line = []
        for name, pin in panel["lamps"].items():
            lit = pins[str(pin)]["direction"] == "out" and bool(pins[str(pin)]["level"])
            lamps += [
                ("  ", ""),
                (f" {name} LIT  " if lit else f" {name} dark ", text.YELLOW + REVERSE if lit else text.DIM),
            ]
        bright = brightness(pins[str(panel["light"])])
        bar = round(bright / 5.0)
        knobs: Line = []
        for n, knob in enumerate(panel["knobs"]):
            knobs.append((f"  {n + 1}: {knob['position']:+d}".ljust(12), ""))
            knobs += contact(f"[{len(panel['buttons']) + n + 1}]", knob["push"], "PUSHED", text.GREEN + REVERSE)
        pressed: Line = []
        for n, pin in enumerate(panel["buttons"], 1):
            pressed += contact(f"[{n}]", pin, "PRESSED", text.GREEN + REVERSE)
        switches: Line = []
        for key, pin in zip(SWITCHES, panel["switches"], strict=False):
            on = is_driven(pins[str(pin)])
            switches += [(f"  [{key}] ", ""), (" ON " if on else " off", text.GREEN + REVERSE if on else "")]
        light = [("  ", ""), ("#" * bar, text.YELLOW), (f"{'.' * (20 - bar)} {bright:.0f} %", "")]
        rows = {"lamps": lamps, "light": light, "knobs": knobs, "buttons": pressed, "switches": switches}
        return [[(f"{name:<9}", ""), *row] for name, row in rows.items()]

    def _table(self, width: int, height: int) -> list[Line]:
        """The pins in as many columns as fit; if not all fit, those around the selected pin."""
        assert self.state is not None
        pins, parts = visible_pins(self.state), part_names(self.state, 1)
        if not pins:
            return [[("No pins have been set up.", text.DIM)]]
        columns = max(1, min(width // CELL_WIDTH, -(-len(pins) // max(1, height - 1))))
        cell = max(CELL_WIDTH, min(width // columns, 60))
        rows = min(max(1, height - 1), -(-len(pins) // columns))
        numbers = [number for number, _ in pins]
        at = numbers.index(self.chosen) if self.chosen in numbers else 0
        top = max(0, min(at - rows * columns // 2, len(pins) - rows * columns))
        pins = pins[top : top + rows * columns]
        header = f"  {'PIN':<7}{'DIR':<4}{'LEVEL':<6}{'PULL':<5}{'DUTY':<6}PART".ljust(cell)
        table: list[Line] = [[(header * columns, text.DIM)]]
        for row in range(rows):
            line: Line = []
            for number, pin in pins[row::rows]:
                duty = "" if pin["duty"] is None else f"{pin['duty']:.0f}%"
                words = (
                    f"{'>' if number == self.chosen else ' '} GPIO{number:<3}{pin['direction'] or '-':<4}"
                    f"{('low', 'high')[pin['level']]:<6}{pin['pull'] or '-':<5}{duty:<6}{parts.get(int(number), '')}"
                )
                line.append((words[: cell - 1].ljust(cell), text.BOLD if number == self.chosen else ""))
            table.append(line)
        return table


def is_driven(pin: dict[str, Any]) -> bool:
    """Whether the contact on a pin is closed."""
    return pin["driven"] is not None


def brightness(pin: dict[str, Any]) -> float:
    """The duty cycle of an output in percent."""
    if pin["direction"] != "out":
        return 0.0
    return float(pin["duty"]) if pin["duty"] is not None else 100.0 * pin["level"]
