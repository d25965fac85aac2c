"""The gateway's answers as text for people: pure functions."""

from __future__ import annotations

import math
import re
import shutil
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fixgw.database import ANNUNCIATE, BAD, FAIL, FLAG_LETTERS, FLAG_NAMES, INITIAL, KEPT, OLD, SECFAIL
from fixgw.errors import printable as printable  # where the commands look for it
from fixgw.kit.sources import unmarked

MAX_DEPTH = 4  # of what a value is computed from
MOST_FEEDERS = 5  # connections that are named for one key
BUTTON = "BTN"  # in the key of a button
LARGE = 1e12  # numbers from here on are shown with an exponent
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]*|)")

RESET = "\x1b[0m"
BOLD = "\x1b[1m"
DIM = "\x1b[2m"
RED = "\x1b[31m"
GREEN = "\x1b[32m"
YELLOW = "\x1b[33m"


def show(*lines: str) -> None:
    """Print lines that contain texts from a gateway. Without colours: only printable characters reach the
    terminal."""
    print("".join(f"{printable(line)}\n" for line in lines), end="")


def value_text(value: Any, digits: int = 9) -> str:
    """A value for people; floats are rounded to `digits` digits (a position needs nine)."""
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    if isinstance(value, str):
        return printable(repr(value) if not value or value != value.strip() else value)
    return str(value)


def short_text(value: Any) -> str:
    """A value in at most seven digits and five decimals."""
    if isinstance(value, float) and abs(value) >= 1e-3:
        value = round(value, 5)
    return value_text(value, 7)


class Shown(NamedTuple):
    """How people see the values of an item: converted to `units`, with `decimals` digits after the point."""

    units: str = ""
    decimals: int | None = None  # None: as many as the value has
    factor: float = 1.0
    summand: float = 0.0

    def text(self, value: Any, otherwise: Callable[[Any], str] = value_text) -> str:
        """The value alone; `otherwise` writes what has no decimals."""
        if isinstance(value, int | float) and not isinstance(value, bool) and self._converts:
            value = value * self.factor + self.summand
        if isinstance(value, float) and self.decimals is not None and abs(value) < LARGE:
            words = f"{value:.{self.decimals}f}"
            return words if words.strip("-0.") else words.removeprefix("-")
        return otherwise(value)

    def limit(self, value: Any) -> str:
        """An aux value: a person has set it, so it keeps its decimals unless it is converted."""
        return self.text(value) if self._converts else value_text(value)

    def with_units(self, value: Any) -> str:
        return f"{self.text(value)} {self.units}".rstrip()

    @property
    def _converts(self) -> bool:
        return (self.factor, self.summand) != (1.0, 0.0)


def as_given(facts: Mapping[str, Any]) -> Shown:
    """In the gateway's units, with all decimals."""
    return Shown(facts.get("units") or "")


def shown_decimals(decimals: int | None, factor: float) -> int | None:
    """The decimals of a value after a conversion: one fewer if the number is ten times as great, and so on."""
    return None if decimals is None else min(9, max(0, decimals - int(math.log10(factor))))


def fraction(cell: str) -> int:
    """The length of a number from its point on; 0 if `cell` is no number."""
    match = _NUMBER.fullmatch(cell)
    return len(match[1]) if match else 0


def aligned(cells: Sequence[str]) -> list[str]:
    """The cells of a column with the points of numbers below each other. Other texts stay as they are."""
    behind = max(map(fraction, cells), default=0)
    padded = [cell + " " * (behind - fraction(cell)) if _NUMBER.fullmatch(cell) else cell for cell in cells]
    width = max((len(cell) for cell, given in zip(padded, cells, strict=True) if _NUMBER.fullmatch(given)), default=0)
    return [cell.rjust(width) if _NUMBER.fullmatch(given) else cell for cell, given in zip(padded, cells, strict=True)]


BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float | None], width: int, low: float | None = None, high: float | None = None) -> str:
    """`values` as a line of at most `width` bars, the newest at the right; blank where all of a bar's values are None.

    A bar shows the one of its values that is farthest from the middle, so that a short dip is seen. `low` and `high`
    are those of the values unless they are given.
    """
    known = [value for value in values if value is not None]
    if not known or width < 1:
        return ""
    low = min(known) if low is None else low
    high = max(known) if high is None else high
    middle, half = low / 2 + high / 2, high / 2 - low / 2
    count = min(width, len(values))
    line = ""
    for n in range(count):
        part = values[n * len(values) // count : (n + 1) * len(values) // count]
        there = [value for value in part if value is not None]
        if not there:
            line += " "
            continue
        value = max(there, key=lambda v: abs(v - middle))
        place = (value / 2 - low / 2) / half if half else 0.5
        line += BARS[min(7, max(0, int(place * 8)))]
    return line


def flag_words(flags: int) -> str:
    """The names of the flags, or ``good`` when none is set."""
    return ", ".join(name for bit, name in FLAG_NAMES.items() if bit & flags) or "good"


def flag_list(flags: int) -> list[str]:
    return [name for bit, name in FLAG_NAMES.items() if bit & flags]


def flag_colour(flags: int) -> str:
    """Red: do not use the value. Yellow: caution. Green: good."""
    if flags & (BAD | FAIL):
        return RED
    return YELLOW if flags & (ANNUNCIATE | OLD | SECFAIL) else GREEN


def flag_bit(word: str) -> int:
    """The flag with this name or letter ("aobfs"); 0 when there is none."""
    word = word.lower()
    return FLAG_LETTERS.get(word, 0) or next((bit for bit, name in FLAG_NAMES.items() if name == word), 0)


def ago(seconds: float | None) -> str:
    """``0.1 s ago``, ``5 min ago``, or ``never`` for None."""
    return "never" if seconds is None else f"{duration(seconds)} ago"


def duration(seconds: float) -> str:
    """``0.05 s``, ``12 s``, ``5 min``, ``3.2 h``, ``2 days``."""
    if seconds < 9.95:
        return f"{seconds:.2g} s" if seconds >= 0.1 else f"{seconds:.2f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.0f} days"


def times(n: int) -> str:
    return "once" if n == 1 else f"{n:,} times"


def table(rows: Iterable[Sequence[str]], indent: str = "", width: int | None = None) -> list[str]:
    """`rows` as lines with aligned columns, two spaces apart; cut to `width` if given."""
    rows = [[printable(str(cell)) for cell in row] for row in rows]
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows)))]
    lines = [indent + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=False)).rstrip() for row in rows]
    return [line[:width] for line in lines] if width else lines


def screen_width() -> int:
    return max(40, shutil.get_terminal_size((100, 24)).columns)


def wrapped(text: str, indent: str = "") -> list[str]:
    lines = textwrap.wrap(text, min(100, screen_width()), initial_indent=indent, subsequent_indent=indent)
    return [printable(line) for line in lines]


# -- status ------------------------------------------------------------------------------------------------------------


def connection_lines(connections: Mapping[str, Any]) -> list[str]:
    """Connections of the status tree in all detail."""
    lines = _connection_table(connections)
    for name, connection in connections.items():
        own = connection.get("status")
        lines += ["", f"{name}:", *(_tree(own, "  ") if own else ["  no details"])]
    return lines


def _connection_table(connections: Mapping[str, Any]) -> list[str]:
    header = ["connection", "state", "health", "restarts", "module"]
    rows = [
        [name, _state(c), _health(c), _text(c.get("restarts", 0)), _text(c.get("module"))]
        for name, c in connections.items()
    ]
    return table([header, *rows])


def status_lines(status: Mapping[str, Any], verbose: bool = False) -> list[str]:
    """The status tree as text: health, connections, database; with `verbose`, all details."""
    lines = [f"{str(status.get('health', 'unknown')).upper()}: {status.get('summary', '')}"]
    facts = [f"fixgw {status.get('version', '?')}"]
    if "uptime" in status:
        facts.append(f"up {duration(status['uptime'])}")
    process = status.get("process") or {}
    facts += [f"{name} {_number(value)}" for name, value in process.items() if name != "pid"]
    lines.append(", ".join(facts))
    configuration = status.get("configuration") or {}
    if configuration.get("file"):
        lines.append(f"configuration {configuration['file']}")
    lines += [f"  {problem}" for problem in configuration.get("problems") or ()]
    connections = status.get("connections") or {}
    if connections:
        lines += ["", *(connection_lines(connections) if verbose else _connection_table(connections))]
    database = status.get("database") or {}
    if database:
        conflicts = database.get("conflicts") or {}
        counts = [f"{_number(v)} {k}" for k, v in database.items() if isinstance(v, int | float)]
        lines += ["", f"database: {', '.join(counts)}"]
        if conflicts:
            lines.append("keys written by two sources:")
            lines += table(((key, _text(who)) for key, who in conflicts.items()), "  ")
    if verbose:
        shown = {"health", "summary", "version", "uptime", "process", "configuration", "connections", "database"}
        rest = {k: v for k, v in status.items() if k not in shown}
        if rest:
            lines += ["", *_tree(rest, "")]
    return lines


def _state(connection: Mapping[str, Any]) -> str:
    """The state of a connection. One that runs without doing what it should is not "running" for people."""
    state = _text(connection.get("state"))
    return "not well" if state == "running" and connection.get("health") not in ("ok", "", None) else state


def _health(connection: Mapping[str, Any]) -> str:
    health, reason = _text(connection.get("health", "")), _text(connection.get("reason", ""))
    if reason and reason not in health:
        health = reason if health in ("", "ok", _text(connection.get("state"))) else f"{health}: {reason}"
    again = connection.get("next start in")
    return f"{health} (restarts in {duration(again)})" if again else health


def _tree(tree: Mapping[str, Any], indent: str) -> list[str]:
    lines = []
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            lines += [f"{indent}{_text(key)}:", *_tree(value, indent + "  ")]
        elif isinstance(value, list | tuple) and value:
            lines.append(f"{indent}{_text(key)}:")
            for entry in value:
                if isinstance(entry, Mapping):
                    lines += [f"{indent}  -", *_tree(entry, indent + "    ")]
                else:
                    lines.append(f"{indent}  - {_text(entry)}")
        else:
            lines.append(f"{indent}{_text(key)}: {_text(value)}")
    return lines


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _text(value: Any) -> str:
    if value is None or value in ([], {}):
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return printable(str(value))


# -- explain -----------------------------------------------------------------------------------------------------------

_MEANING = {
    "annunciate": "outside its normal limits: alert the pilot",
    "old": "not updated in time",
    "bad": "suspect",
    "fail": "must not be used",
    "secfail": "a backup source has failed",
}

_START_SOURCES = {
    INITIAL: "the configuration, a start value not set since (initial)",
    KEPT: "before the restart, not set since (kept)",
}


def explanation(facts: Mapping[str, Any], shown: Shown | None = None, feeders: Sequence[str] = ()) -> list[str]:
    """The result of `Item.explain` in sentences, among them those of `feeding`."""
    shown = shown or as_given(facts)
    key = facts["key"]
    flags: Mapping[str, str] = facts.get("flags") or {}
    written = facts.get("age") is not None
    lines = []
    if facts.get("description"):
        lines.append(f"{key}: {facts['description']}")
    if written:
        lines.append(f"{key} = {shown.with_units(facts['value'])}, {_verdict(flags)}.")
        source = facts.get("source") or "an unnamed source"
        lines.append(f"From {_START_SOURCES.get(source, source)}, {ago(facts['age'])}.")
        if (left := facts.get("override_seconds")) is not None:
            lines.append(f"It is overridden, for {duration(left)} more: `fixgw override release {key}` ends that.")
    else:
        lines.append(f"{key} has never been written (it shows {shown.with_units(facts['value'])}).")
    for name, reason in flags.items():
        if written or name != "old":
            because = f": {reason}" if reason else ""
            lines.append(f"  {name} ({_MEANING.get(name, 'set')}){because}.")
    if written and any(name in flags for name in ("old", "bad", "fail")):
        last = facts.get("last_good")
        lines.append("It has never been good." if last is None else f"It was last good {ago(last)}.")
    lines += feeders
    lines += _source_lines(facts, shown)
    tolerance = facts.get("tolerance") or 0
    lines.append(
        f"It becomes old after {duration(tolerance)} without an update." if tolerance else "It never becomes old."
    )
    low, high = facts.get("range") or (None, None)
    if low is not None or high is not None:
        lines.append(f"Its range is {range_text(low, high, shown.limit)} {shown.units}".rstrip() + ".")
    counts = f"Written {times(facts.get('writes', 0))}"
    if facts.get("refused"):
        counts += f", refused {times(facts['refused'])}"
    lines.append(counts + ".")
    if facts.get("conflicts"):
        lines.append(
            f"Two sources write it, {facts.get('source')} and {facts.get('conflict_with')} "
            f"({times(facts['conflicts'])} so far): rank them, or remove one."
        )
    aux = {name: value for name, value in (facts.get("aux") or {}).items() if value is not None}
    if written and (beyond := _beyond_limit(facts["value"], aux, shown)):
        lines.append(beyond)
    if aux:
        lines.append("Aux values: " + ", ".join(f"{name} {shown.limit(value)}" for name, value in aux.items()) + ".")
    return lines


def feeding(facts: Mapping[str, Any], connections: Callable[[], Mapping[str, Any]]) -> list[str]:
    """Which connections should feed a key that is missing, and why they do not.

    `connections` returns the connections of the status tree; it is called only if there is something to say.
    """
    written = facts.get("age") is not None
    names = facts.get("feeders")
    if not isinstance(names, list) or (written and not {"old", "fail"} & set(facts.get("flags") or ())):
        return []
    if not names and (written or facts.get("computed")):
        return []
    if not names:
        return ["No connection of the configuration says that it feeds it. A client of NetFIX may."]
    known = connections()
    return [f"Connection {name} should feed it, {_state_of(known.get(name))}." for name in names[:MOST_FEEDERS]]


def _state_of(connection: Mapping[str, Any] | None) -> str:
    """The state and health of a connection, to follow a comma."""
    if connection is None:
        return "and is not there any more"
    state, health = _text(connection.get("state", "unknown")), _health(connection)
    if state == "running":
        return "and is well, but does not send it" if health in ("", "ok") else f"and is not well: {health}"
    return f"but is {state}" + (f": {health.removeprefix(f'{state}: ')}" if health not in ("", state) else "")


def derivation(
    facts: Mapping[str, Any],
    explain: Callable[[str], Mapping[str, Any]],
    show: Callable[[Mapping[str, Any]], Shown] = as_given,
) -> list[str]:
    """How the key is computed, and from which inputs, down to their sources.

    `explain` returns the facts of a key, `show` how to show its values, given these.
    """
    lines: list[str] = []
    for computed in facts.get("computed") or ():
        lines.append(f"{computed['by']} computes it with the function {computed['function']}: {computed['formula']}.")
        lines += table(_input_rows(computed["inputs"], explain, show, (facts["key"],)), "  ")
    return lines


def _input_rows(
    keys: Iterable[str],
    explain: Callable[[str], Mapping[str, Any]],
    show: Callable[[Mapping[str, Any]], Shown],
    above: tuple[str, ...],
) -> Iterator[tuple[str, ...]]:
    for key in keys:
        facts = explain(key)
        indent = "  " * (len(above) - 1)
        if facts.get("age") is None:
            yield f"{indent}{key}", "-", "never written", ""
        else:
            source = facts.get("source") or "an unnamed source"
            value = show(facts).with_units(facts["value"])
            where = f"from {_START_SOURCES.get(source, source)}, {ago(facts['age'])}"
            yield f"{indent}{key}", value, _verdict(facts.get("flags") or {}), where
        computed = [c for c in facts.get("computed") or () if unmarked(c["by"]) == unmarked(facts.get("source") or "")]
        if computed and key not in above and len(above) < MAX_DEPTH:
            yield f"{indent}  = {computed[0]['function']} of", "", "", ""
            yield from _input_rows(computed[0]["inputs"], explain, show, (*above, key))


def _beyond_limit(value: Any, aux: Mapping[str, Any], shown: Shown) -> str:
    """Say that the value is beyond one of its limits, which is why a display colours it; empty if it is not."""

    def is_number(given: Any) -> bool:
        return isinstance(given, (int, float)) and not isinstance(given, bool)

    for level, colour in (("Alarm", "red"), ("Warn", "yellow")):
        for side, place in (("low", "below"), ("high", "above")):
            limit = aux.get(side + level)
            if is_number(value) and is_number(limit) and (value < limit if side == "low" else value > limit):
                return f"It is {place} {side}{level}, {shown.limit(limit)} {shown.units}: displays show it {colour}."
    return ""


def _source_lines(facts: Mapping[str, Any], shown: Shown) -> list[str]:
    sources: Sequence[Mapping[str, Any]] = facts.get("sources") or ()
    ranking: Sequence[str] = facts.get("ranking") or ()
    if len(sources) < 2 and not ranking and facts.get("override_seconds") is None:
        return []
    lines = [f"Sources, best first: {', '.join(ranking)}." if ranking else "Sources (the latest write is published):"]
    if changes := facts.get("source_changes"):
        lines.append(f"It has changed from one to another {'once' if changes == 1 else f'{changes} times'}.")
    rows = [
        [
            "*" if s.get("published") else " ",
            str(s["source"]),
            shown.with_units(s["value"]),
            ", ".join(s.get("flags") or ()) or "good",
            ago(s.get("age")),
            _difference(s, shown),
            "" if not ranking else "unranked" if s.get("rank") is None else f"rank {s['rank'] + 1}",
        ]
        for s in sources
    ]
    return lines + table(rows, "  ")


def _difference(source: Mapping[str, Any], shown: Shown) -> str:
    """How far the value of a source is from the published one."""
    difference = source.get("difference")
    if source.get("published") or difference is None:
        return ""
    return f"{difference * shown.factor:+.6g} {shown.units}".rstrip()


def _verdict(flags: Mapping[str, str]) -> str:
    return ", ".join(flags) or "good"


def range_text(low: Any, high: Any, write: Callable[[Any], str] = value_text) -> str:
    if low is None:
        return f"up to {write(high)}"
    return f"{write(low)} and above" if high is None else f"{write(low)} to {write(high)}"
