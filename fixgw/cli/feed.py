"""The values of a gateway as they change, for the commands that show them: `Feed` keeps a `Row` for each key."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from fixgw.cli import text
from fixgw.cli.client import ask_about, connect, expand, is_pattern, new_client, presentation
from fixgw.cli.terminal import Row, Segment
from fixgw.clock import now
from fixgw.database import FAIL, OLD
from fixgw.errors import FixgwError, NetfixError, NotConnected, Refused, RequestTimeout
from fixgw.kit.sources import OVERRIDE, START, mark_of

if TYPE_CHECKING:
    from fixgw.netfix import Sample

ASK_S = 0.25  # between two questions by which we know that the gateway is there
LOST_S = 1.5  # without an answer for this long, nothing is current
SOURCES_S = 2.0  # between two looks at the sources
#: What we say of values that are not real, by the mark of their source.
UNREAL = {"sim/": "SIMULATED", "replay/": "REPLAY"}

#: The keys of what `alert_words` says.
ALERT_KEYS = ("ALERTLEVEL", "ALERTS", "ALERTMSG")
ALERT_LEVELS = (("ADVISORY", text.BOLD), ("CAUTION", text.YELLOW), ("WARNING", text.RED))


def _nothing(*_: object) -> None:
    """Do nothing."""


class Feed:
    """Keeps rows up to date, over a connection that it restores when it is lost.

    `words` are keys and patterns; none means all keys. `also` are keys that get a row in `others`, if the gateway has
    them. `changed` is called with each row and with whether that is an update; otherwise it was read on connecting.
    `lost` is called when the connection is lost. Any thread may call them, `changed` with `lock` held.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        words: Iterable[str] = (),
        also: Iterable[str] = (),
        *,
        changed: Callable[[Row, bool], object] = _nothing,
        lost: Callable[[], object] = _nothing,
    ) -> None:
        self._words = tuple(words)
        self._known: list[str] = []
        self._also = tuple(also)
        self.units: dict[str, str] = args.units
        self._changed = changed
        self._lost = lost
        self.client = new_client(args, reconnect=True, on_connect=self._on_connect, on_disconnect=self._on_disconnect)
        self.address = f"{args.host}:{args.port}"
        self.rows: dict[str, Row] = {}
        self.others: dict[str, Row] = {}
        self.revision = 0  # counts how often `rows` was replaced, because the gateway came back with other keys
        self.connections = 0  # made so far
        self.answers = 0  # to questions whether the gateway is there
        #: The sources of all keys that were ever written, by key; empty if the gateway does not tell.
        self.sources: dict[str, str] = {}
        #: Guards the rows.
        self.lock = threading.Lock()
        self._early: set[str] | None = set()  # keys updated before all were read; None after it
        self._away = False
        self._complete = False  # all rows have been read since the connection was made
        self._answered = now()  # when the last question was asked that has been answered
        self._tells_sources = True
        self._sources_due = 0.0
        self._stopping = threading.Event()

    # -- life ----------------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Connect and read the keys' definitions. Raises `NotConnected` or `UnknownKey`."""
        connect(self.client)
        for word in self._words:
            if not is_pattern(word):
                ask_about(self.client, word, self.client.read)
        self._define(self._list())

    def start(self, ask: bool = True) -> None:
        """Subscribe to the keys, then read them all once. With `ask`, keep asking the gateway from now on, so that
        `trouble` is right."""
        self._subscribe((*self.rows, *self.others))
        self._read_all()
        threading.Thread(target=self._look_after, args=(ask,), name="feed", daemon=True).start()

    def close(self) -> None:
        self._stopping.set()
        self.client.disconnect()

    # -- what is known -------------------------------------------------------------------------------------------------

    def trouble(self, at: float) -> str:
        """Why nothing that is shown is current, at that time (`fixgw.clock.now`); empty if all is well."""
        if self._away:
            return f"connection lost, reconnecting to {self.address}"
        silent_s = at - self._answered
        if silent_s > LOST_S:
            return f"no answer from {self.address} for {text.duration(silent_s)}"
        return "" if self._complete else f"reading the values of {self.address}"

    @property
    def overridden(self) -> list[str]:
        """The keys that somebody overrides."""
        return [key for key, source in self.sources.items() if source.startswith(OVERRIDE)]

    @property
    def unreal(self) -> list[str]:
        """In words, what is not real in this gateway: SIMULATED, REPLAY, 2 OVERRIDES."""
        marks = {mark_of(source) for source in self.sources.values()}
        words = [word for mark, word in UNREAL.items() if mark in marks]
        count = len(self.overridden)
        return [*words, *([f"{count} OVERRIDE{'S' * (count > 1)}"] if count else [])]

    # -- definitions ---------------------------------------------------------------------------------------------------

    def _list(self) -> list[str]:
        """The keys that one can ask for; a gateway may list anything."""
        return [key for key in self.client.list() if key.isprintable() and ";" not in key]

    def _define(self, known: list[str]) -> None:
        """Make rows for the keys; those that were there before keep theirs."""
        client = self.client
        try:
            keys = expand(client, self._words or ["*"], known)
        except FixgwError:
            if not self.rows:
                raise
            keys = list(self.rows)  # what matched has gone; it may come back
        others = [key for key in self._also if key in known]
        new = [key for key in keys if key not in self.rows and _base(key) in known]
        about = {report.key: report for report in client.report_many(dict.fromkeys(map(_base, new)))}
        rows = {key: Row(key, about[_base(key)].units, about[_base(key)].description) for key in new}
        for key, shown in presentation(client, {key: row.units for key, row in rows.items()}, self.units).items():
            rows[key].shown = shown
        with self.lock:
            self.rows = {key: rows.get(key) or self.rows.get(key) or Row(key) for key in keys}
            self.others = {key: self.rows.get(key) or self.others.get(key) or Row(key) for key in others}
            self.revision += 1
        self._known = known

    def _subscribe(self, keys: Iterable[str]) -> None:
        for base in dict.fromkeys(map(_base, keys)):
            with suppress(Refused):  # the gateway came back with other keys
                self.client.subscribe(base, self._on_update)

    def _on_connect(self) -> None:
        with self.lock:
            self._early, self._complete, self._tells_sources = set(), False, True
            self.connections += 1

    def _read_again(self) -> None:
        known = self._list()
        if known != self._known:
            before = {*self.rows, *self.others}
            self._define(known)
            self._subscribe([key for key in (*self.rows, *self.others) if key not in before])
        self._read_all()

    def _read_all(self) -> None:
        """Read every key: the gateway does not send values that have not changed, or that changed in the meantime."""
        asked = now()
        rows = list({**self.others, **self.rows}.values())
        try:
            samples: list[Sample | None] = [*self.client.read_many([row.key for row in rows])]
        except Refused:  # the gateway came back with different keys
            samples = [self._read(row.key) for row in rows]
        ages = self._ask_sources()
        at = now()
        with self.lock:
            self._away, self._complete, self._answered = False, True, asked
            early, self._early = self._early or (), None
            for row, sample in zip(rows, samples, strict=True):
                row.source = self.sources.get(row.key, "")
                if row.key not in early:  # an update is newer than the value read
                    updated = at - ages[row.key] if row.key in ages else None
                    row.show(sample.value if sample else None, sample.flags if sample else OLD, updated)
                if sample:
                    self._changed(row, False)

    def _read(self, key: str) -> Sample | None:
        try:
            return self.client.read(key)
        except Refused:
            return None

    # -- while it runs -------------------------------------------------------------------------------------------------

    def _on_update(self, sample: Sample) -> None:
        row = self.rows.get(sample.key) or self.others.get(sample.key)
        if row is None:
            return
        with self.lock:
            row.update(sample.value, sample.flags, now())
            if self._early is not None:
                self._early.add(row.key)
                return
            self._changed(row, True)

    def _on_disconnect(self) -> None:
        with self.lock:
            news, self._away = not self._away, True
            self._complete = False
        if news and not self._stopping.is_set():
            self._lost()

    def _look_after(self, ask: bool) -> None:
        """Read everything again after a new connection, and `ask` the gateway whether it is there."""
        while not self._stopping.wait(ASK_S):
            asked = now()
            with suppress(NetfixError):
                if not self.client.connected or (self._complete and not ask):
                    continue
                if not self._complete:
                    self._read_again()
                elif self._tells_sources and asked >= self._sources_due:
                    self._correct(self._ask_sources(), asked)
                else:
                    self.client.report_many(self._known[:1])
                self._answered = asked
                self.answers += 1

    def _ask_sources(self) -> dict[str, float]:
        """Note the sources of all keys. Returns the ages of their values; none if the gateway does not tell them."""
        self._sources_due = now() + SOURCES_S
        try:
            origins = self.client.sources() if self._tells_sources else {}
        except (NotConnected, RequestTimeout):
            raise
        except NetfixError:
            self._tells_sources, origins = False, {}
        self.sources = {key: origin.source for key, origin in origins.items()}
        return {key: origin.age for key, origin in origins.items() if origin.source not in START}

    def _correct(self, ages: dict[str, float], asked: float) -> None:
        """Note the sources, and set the ages right: an update that had to wait on its way looked new on arrival."""
        at = now()
        with self.lock:
            for key, row in self.rows.items():
                row.source = self.sources.get(key, "")
                age = ages.get(key)
                if age is not None and (row.updated is None or at - age < row.updated < asked):
                    row.updated = at - age


def alert_words(*rows: Row) -> Segment:
    """What the alerts say, given the rows of `ALERT_KEYS`; empty if none were ever judged."""
    if len(rows) < len(ALERT_KEYS) or rows[0].silent:
        return "", ""
    level, count, message = rows
    if level.flags & (OLD | FAIL) or not isinstance(level.value, int):
        return "ALERTS ARE NOT JUDGED: the alert logic has stopped", text.RED
    if not level.value or not isinstance(count.value, int):
        return "no alerts", text.DIM
    more = f" and {count.value - 1} more" if count.value > 1 else ""
    name, shade = ALERT_LEVELS[min(level.value, 3) - 1]
    return text.printable(f"{name} {message.value}{more}"), shade


def _base(key: str) -> str:
    return key.partition(".")[0]
