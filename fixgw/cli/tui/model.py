"""What the pages show beside the values: health, alerts, log, explanations and trends.

`Model` asks the gateway for what the page on the screen needs, on a thread of its own, so that drawing never waits.
A gateway may answer anything, or not know a question: then the page says so.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fixgw.cli import alerts, log, text
from fixgw.cli.client import shown
from fixgw.cli.feed import Feed
from fixgw.cli.terminal import Row
from fixgw.clock import now
from fixgw.database import BAD, FAIL, OLD
from fixgw.errors import FixgwError, NotConnected, Refused, RequestTimeout
from fixgw.history import OVERRIDDEN
from fixgw.kit.sources import OVERRIDE
from fixgw.logmemory import MAX_LINES

if TYPE_CHECKING:
    from fixgw.netfix.client import Trace

STEP_S = 0.5  # between two values of a trend
MINUTE_S, SPAN_S = 60, 900  # of the trends of the rows on the screen, and of the chosen one
TREND_STEPS = int(SPAN_S / STEP_S)
MAX_TRENDS = 64  # keys
TURN_S = 0.1
EXPLAIN_S = 1.0
LOG_S = 1.0
#: Between two looks at the health, where it is the page on the screen and elsewhere; the head of each page has it.
HEALTH_S, VERDICT_S = 2.0, 5.0
UNKNOWN_S = 8.0  # a verdict that is older than this is none
STALE_S = 4.0  # and so is an explanation
SAID_S = 8.0  # for how long the answer to a command is shown

Facts = Mapping[str, Any]


class Trend:
    """The usable values of a key, one each `STEP_S`, None where there was none."""

    def __init__(self) -> None:
        self.values: deque[float | None] = deque(maxlen=TREND_STEPS)
        self._last = 0  # the step of the newest

    def add(self, value: float | None, at: float) -> None:
        """Note the value of this moment. Steps left out, because nobody could note them, are gaps."""
        step = int(at / STEP_S)
        if not self.values:
            self._last = step - 1
        self.values.extend([None] * min(step - self._last - 1, TREND_STEPS))
        if step > self._last:
            self.values.append(value)
            self._last = step

    def put_before(self, trace: Trace, at: float) -> None:
        """Take what a gateway remembers for the time before the first value of our own."""
        unusable = OLD | BAD | FAIL | OVERRIDDEN
        usable = [None if bits & unusable else value for value, bits in zip(trace.values, trace.flags, strict=True)]
        if not self.values:
            self.add(None, at)
        first = (self._last - len(self.values) + 1) * STEP_S
        found: list[float | None] = []
        for n in range(1, TREND_STEPS - len(self.values) + 1):
            place = len(usable) - 1 - round((trace.newest - first + n * STEP_S) / trace.step)
            if place < 0:
                break
            found.append(usable[place] if place < len(usable) else None)
        self.values.extendleft(found)


class Model:
    """Any thread may read the attributes. The app sets `page`, `chosen`, `wide` and `visible`, and calls `tick`."""

    def __init__(self, feed: Feed, clock: Callable[[], float] = now) -> None:
        self.feed = feed
        self._clock = clock
        #: What is on the screen: the page's name, the key of the chosen row, whether its inputs are shown too, and the
        #: keys whose last minute is drawn.
        self.page = ""
        self.chosen = ""
        self.wide = False
        self.visible: tuple[str, ...] = ()
        self._explained: tuple[str, list[str], float] = "", [], float("-inf")
        self.status: Facts = {}
        self.health: list[str] = ["waiting for the health of the gateway"]
        self.verbose = False
        #: The alerts, by id, with their cells; and their latest changes.
        self.alerts: dict[str, tuple[str, ...]] = {}
        self.changes: list[str] = []
        self.lines: deque[tuple[str, str]] = deque(maxlen=MAX_LINES)  # of the log: level and text
        self.trends: dict[str, Trend] = {}  # the one used last at the end
        #: What the gateway cannot tell, by page, in words.
        self.cannot: dict[str, str] = {}
        self._status_at = float("-inf")
        self._said = "", float("-inf")
        self._due: dict[str, float] = {}
        self._after = 0  # the last line of the log that we have
        self._connections = 0
        self._seeded: set[tuple[str, int]] = set()  # keys, and for how many seconds
        self._traces: queue.SimpleQueue[tuple[str, Trace]] = queue.SimpleQueue()  # that `tick` has to take
        self._orders: queue.SimpleQueue[Callable[[], str]] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._stopping = False

    # -- for the screen ------------------------------------------------------------------------------------------------

    @property
    def verdict(self) -> tuple[str, str]:
        """The health in one line, with its colour."""
        if self.unknown:
            return ("health not reported" if "health" in self.cannot else "health unknown"), text.YELLOW
        health = str(self.status.get("health", "unknown")).upper()
        colour = {"OK": text.GREEN, "DEGRADED": text.YELLOW}.get(health, text.RED)
        return text.printable(f"{health}: {self.status.get('summary', '')}"), colour

    @property
    def unknown(self) -> bool:
        """Whether health and alerts are those of some time ago."""
        return self._clock() - self._status_at > UNKNOWN_S

    def explanation(self, key: str) -> list[str]:
        """The explanation of a key in lines; none while there is none, or only an old one."""
        about, lines, at = self._explained
        return lines if about == key and self._clock() - at < STALE_S else []

    @property
    def said(self) -> str:
        """The answer to the latest command, for a while."""
        words, at = self._said
        return words if self._clock() - at < SAID_S else ""

    def do(self, command: Callable[[], str]) -> None:
        """Have a command carried out; what it returns or raises is what it `said`."""
        self._orders.put(command)
        self._wake.set()

    def wake(self) -> None:
        """The page or the row has changed: ask for what it needs at once."""
        self._due.clear()
        self._wake.set()

    def tick(self) -> None:
        """Note the values of the trends. The app calls this twice a second or more often."""
        at = self._clock()
        while not self._traces.empty():
            key, trace = self._traces.get()
            self.trend(key).put_before(trace, at)
        lost = bool(self.feed.trouble(at))
        for key, trend in list(self.trends.items()):
            row = self.feed.rows.get(key)
            trend.add(None if lost or row is None else usable(row), at)

    def trend(self, key: str) -> Trend:
        """The trend of a key, which begins now if there is none."""
        trend = self.trends.pop(key, None) or Trend()
        self.trends[key] = trend
        if len(self.trends) > MAX_TRENDS:
            oldest = next(iter(self.trends))
            del self.trends[oldest]
            self._seeded -= {(oldest, MINUTE_S), (oldest, SPAN_S)}
        return trend

    # -- the thread ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        threading.Thread(target=self._work, name="tui", daemon=True).start()

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()

    def _work(self) -> None:
        while not self._stopping:
            self._wake.wait(TURN_S)
            self._wake.clear()
            self.turn()

    def turn(self) -> None:
        """Carry out commands, and ask for what is due."""
        while not self._orders.empty():
            try:
                words = self._orders.get()()
            except FixgwError as error:
                words = str(error)
            except Exception as error:  # whatever a gateway of another make answers
                words = f"{type(error).__name__}: {error}"
            self._said = text.printable(words), self._clock()
        if self.feed.trouble(self._clock()):
            return
        if self._connections != self.feed.connections:
            self._connections = self.feed.connections
            self._after = 0
            self.lines.clear()
            self.cannot.clear()
            self._seeded.clear()
            self._status_at = float("-inf")
            self._due.clear()
        self._ask("health", HEALTH_S if self.page in ("health", "alerts") else VERDICT_S, self._look_at_health)
        if self.page == "data":
            if self.chosen:
                self._ask("explain", EXPLAIN_S, self._explain)
            self._ask("trends", STEP_S, self._seed)
        if self.page == "log":
            self._ask("log", LOG_S, self._read_log)

    def _ask(self, what: str, every: float, question: Callable[[], None]) -> None:
        if what in self.cannot or self._clock() < self._due.get(what, float("-inf")):
            return
        self._due[what] = self._clock() + every
        try:
            question()
        except (NotConnected, RequestTimeout):
            pass  # the screen is covered then
        except Refused:
            self.cannot[what] = "this gateway does not tell"
        except Exception as error:  # whatever a gateway of another make answers
            self.cannot[what] = text.printable(
                f"the gateway's answer is not understood: {type(error).__name__}: {error}"
            )

    def _look_at_health(self) -> None:
        tree = self.feed.client.status()
        self.health = text.status_lines(tree, self.verbose)
        status: Facts = {}
        for facts in (tree.get("connections") or {}).values():
            if facts.get("module") == alerts.MODULE:
                status = facts.get("status") or {}
        presented = alerts.presented(status)
        self.alerts = {id: tuple(map(str, alerts.described(id, each))) for id, each in presented.items()}
        self.changes = text.table(reversed(alerts.changes(status)))
        self.status, self._status_at = tree, self._clock()
        if status:
            self.cannot.pop("alerts", None)
        else:
            self.cannot["alerts"] = "this gateway judges no alerts: see `fixgw plugins alerts`"

    def _explain(self) -> None:
        key, client = self.chosen.partition(".")[0], self.feed.client
        units = self.feed.units
        facts = client.explain(key)

        def show(about: Facts) -> text.Shown:
            return shown(about["key"], about.get("units") or "", about, units)

        lines = text.explanation(facts, show(facts), text.feeding(facts, lambda: self.status.get("connections") or {}))
        if self.wide:
            lines += text.derivation(facts, client.explain, show)
        self._explained = key, lines, self._clock()

    def _read_log(self) -> None:
        for line in self.feed.client.log(after=self._after):
            self.lines.extend((str(line.level), each) for each in log.as_text(line))
            self._after = line.number

    def _seed(self) -> None:
        """Ask for the past of the trends that are new."""
        for keys, seconds in ((self.visible, MINUTE_S), ((self.chosen,), SPAN_S)):
            new = [
                key for key in keys if key in self.feed.rows and "." not in key and (key, seconds) not in self._seeded
            ]
            for found in self.feed.client.history(new, seconds).items():
                self._traces.put(found)
            self._seeded.update((key, seconds) for key in new)


def usable(row: Row) -> float | None:
    """Its value, if it is a number, and neither old, bad, failed nor overridden."""
    value = row.value
    if isinstance(value, bool) or not isinstance(value, int | float) or row.source.startswith(OVERRIDE):
        return None
    return None if row.flags & (OLD | BAD | FAIL) else float(value)
