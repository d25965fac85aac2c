"""The status tree: what every plugin reports about itself, and what the gateway knows about it.

`get_dict` returns the tree, `get_string` the same for people. Any thread may call them. They return within about a
second whatever the plugins do, and contain only what JSON can represent.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice
from typing import Any

from fixgw import world

MAX_DEPTH = 8
MAX_ENTRIES = 1000  # of one mapping or list
MAX_TEXT_LENGTH = 2000
MAX_TREE_VALUES = 10_000  # in one tree
MAX_TREE_TEXT = 1_000_000  # characters in one tree, including keys
CUT = "…"
COLLECTING_DUTY = 0.01  # the share of the time that a `Collector` may spend, which delays other threads
COLLECTING_PAUSE_S = 1.0  # the longest pause after collecting


def get_dict() -> dict[str, Any]:
    """The status tree of the process's first gateway, in the order to show it; empty if no gateway is running."""
    return world.first().status()


def get_string(tree: dict[str, Any] | None = None) -> str:
    """A status tree, by default that of the first gateway, as indented lines."""
    return "\n".join(_lines(get_dict() if tree is None else tree, 0))


def _lines(tree: Any, depth: int) -> list[str]:
    lines = []
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if isinstance(value, (dict, list)):
            lines.append(f"{'  ' * depth}{key}:")
            lines.extend(_lines(value, depth + 1))
        else:
            lines.append(f"{'  ' * depth}{key}: {'' if value is None else value}")
    return lines


class Budget:
    """The numbers of values and characters that a tree may still contain. `plain` reduces them."""

    def __init__(self, values: int = MAX_TREE_VALUES, text: int = MAX_TREE_TEXT) -> None:
        self.given = values, text
        self.values = values
        self.text = text

    @property
    def used(self) -> float:
        """The share of the values or of the text that is used up, whichever is greater, 0 to 1."""
        values, text = self.given
        return max(1 - self.values / values, 1 - self.text / text) if values and text else 1.0

    @property
    def spent(self) -> bool:
        return self.values <= 0 or self.text <= 0

    def cut(self, text: str) -> str:
        """Cut `text` to the length that is still allowed."""
        most = min(MAX_TEXT_LENGTH, max(self.text, 0))
        kept = text if len(text) <= most else text[:most] + CUT
        self.text -= len(kept)
        return kept


def plain(value: Any, budget: Budget | None = None) -> Any:
    """Reduce `value` to what JSON can represent, within `budget`. Anything else becomes text.

    A mapping or list that contains itself, or more than the budget allows, is cut off with ``…``.
    """
    return _plain(value, budget or Budget(), ())


def _plain(value: Any, budget: Budget, around: tuple[int, ...]) -> Any:
    budget.values -= 1
    if value is None or (isinstance(value, int) and value.bit_length() <= 64):
        return value
    if isinstance(value, int):  # Python refuses to convert thousands of digits
        return "a huge number"
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return budget.cut(value)
    if isinstance(value, (bytes, bytearray)):
        return budget.cut(str(value[:MAX_TEXT_LENGTH]))
    if isinstance(value, Collection):
        if id(value) in around or len(around) == MAX_DEPTH:  # its text may be as large as the tree
            return CUT
        inside = (*around, id(value))
        if not isinstance(value, Mapping):
            return [CUT if v is CUT else _plain(v, budget, inside) for v in _entries(value, budget)]
        found = {}
        for entry in _entries(value.items(), budget):
            if entry is CUT:
                found[CUT] = CUT
            else:
                found[budget.cut(str(entry[0]))] = _plain(entry[1], budget, inside)
        return found
    return budget.cut(str(value))


def _entries(of: Any, budget: Budget) -> Iterator[Any]:
    """Yield the entries of a mapping or list, and `CUT` if there are more."""
    entries: list[Any] = []
    for _ in range(3):  # another thread may change it at the same time
        try:
            entries = list(islice(iter(of), MAX_ENTRIES + 1))
            entries[MAX_ENTRIES:] = [CUT] * (len(entries) > MAX_ENTRIES)
            break
        except RuntimeError:
            continue
    else:
        entries = [CUT]
    for entry in entries:
        if budget.spent:
            yield CUT
            return
        yield entry


def share(trees: dict[str, tuple[dict[str, Any], float]]) -> dict[str, dict[str, Any]]:
    """Fit several trees, each with the share of a budget that it has used (`Budget.used`), into one budget.

    Trees that use less than an equal share stay as they are. The others are cut to an equal share of the rest.
    """
    left, kept = 1.0, {}
    waiting = sorted(trees, key=lambda name: trees[name][1])
    for n, name in enumerate(waiting):
        tree, used = trees[name]
        equal = left / (len(waiting) - n)
        if used > equal:
            tree = plain(tree, Budget(int(MAX_TREE_VALUES * equal), int(MAX_TREE_TEXT * equal)))
            used = equal
        kept[name] = tree
        left -= used
    return {name: kept[name] for name in trees}


class Collector:
    """Collects the status tree for clients, on a separate thread, because a plugin may be slow to report.

    `done` is called on that thread after each time. All clients that ask meanwhile get the next tree.
    """

    def __init__(self, collect: Callable[[], Mapping[str, Any]], done: Callable[[], object]) -> None:
        self._collect = collect
        self._done = done
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.tree: Mapping[str, Any] = {}
        self.result = ""  # the tree as JSON
        self.asked = 0  # the number of requests; `result` answers those up to `answered`
        self.answered = 0

    def ask(self) -> int:
        """Request a new status tree. Returns the request's number, to compare with `answered`."""
        self.asked += 1
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="status", daemon=True)
            self._thread.start()
        self._wanted.set()
        return self.asked

    def stop(self) -> None:
        self._stopping.set()
        self._wanted.set()

    def _work(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._stopping.is_set():
                return
            number = self.asked
            cost = time.thread_time()
            try:
                tree = self._collect()
                text = dump(tree)
            except Exception as error:
                tree = {"health": "failed", "summary": f"cannot collect the status: {error!r}"}
                text = json.dumps(tree)
            self.tree, self.result = tree, text
            self.answered = number
            self._done()
            self._stopping.wait(min((time.thread_time() - cost) / COLLECTING_DUTY, COLLECTING_PAUSE_S))


def dump(tree: Any, levels: int = 3) -> str:
    """JSON of a status tree, branch by branch: while the library writes one, no other thread can run."""
    if not (levels and isinstance(tree, dict) and all(isinstance(key, str) for key in tree)):
        text = json.dumps(tree, default=str)
        time.sleep(0)  # lets other threads run
        return text
    return "{" + ", ".join([f"{json.dumps(key)}: {dump(tree[key], levels - 1)}" for key in tree]) + "}"
