"""How functions are evaluated: when an input changes, on the thread that wrote it, with one update of each output.

An evaluation never waits: two threads that change inputs of one function at the same time agree by a lock that they
only try. Who does not get it leaves the work to the one that has it, which then starts again with the newest readings.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from operator import ne
from typing import Any, ClassVar, NamedTuple

from fixgw.database import BAD, FAIL, NEVER, OLD, SECFAIL, Item, Reading, Subscription, Value
from fixgw.errors import BadValue, UnknownKey
from fixgw.kit.airdata import Undefined
from fixgw.kit.sources import SIMULATED, START, derived_source, mark_of, simulated, unmarked
from fixgw.plugins.compute.entry import Setup

PASSED = OLD | BAD | FAIL | SECFAIL  # the flags that go from an input to the output
WRITTEN = BAD | FAIL | SECFAIL
DOUBTFUL = OLD | BAD | FAIL
MAX_ROUNDS = 100  # evaluations in a row, because inputs keep changing meanwhile
HUNG_S = 1.0  # an evaluation that takes longer hangs in a subscriber of its output

NOT_LEADING = "this gateway does not lead"
STOPPED = "it is not computed any more"

#: What a formula returns for each output; None means that there is no value for it now.
Result = float | None | tuple[float | None, ...]


class Outcome(NamedTuple):
    """A result with flags of its own, and the reason for them."""

    values: Result
    flags: int
    reason: str


def failing(item: Item, reading: Reading) -> str:
    """What is wrong with an input, in words."""
    if reading.flags & FAIL:
        return f"{item.key} failed"
    if reading.stamp == NEVER:
        return f"{item.key} was never written"
    if reading.flags & BAD:
        return f"{item.key} is bad"
    if reading.flags & OLD:
        return f"{item.key} is old"
    return f"{item.key} has no backup"


class Computation:
    """One configured function. `start` and `stop` are called on the gateway's thread, `tick` on the plugin's, and
    `changed` on any.

    A subclass overrides `evaluate`, which one thread at a time calls.
    """

    #: Whether the outputs follow the inputs, so that they become old when this gateway no longer leads.
    follows: ClassVar[bool] = True
    #: Seconds between calls of `tick`; 0 if it needs none.
    interval: float = 0.0
    copies_aux: bool = False
    #: What is wrong with it, for the plugin's health.
    trouble: str = ""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.plugin = setup.plugin
        self.items = setup.items
        self.outputs = setup.outputs
        self.own = self.plugin.source
        #: The sources of what this connection writes.
        self._mine = frozenset(mark + unmarked(self.own) for mark in ("", *SIMULATED))
        self.clock = self.plugin.db.clock
        self._quorum = self.plugin.quorum
        self._needs_lead = setup.entry.require_leader
        self._led = True
        self._whole = tuple(item.type == "int" for item in self.outputs)
        self._zeros = tuple(_zero(item) for item in self.outputs)
        #: For each output why it is not written now; empty if it is.
        self.why_not = [""] * len(self.outputs)
        self._sources: list[str] = []
        self._source = self.own
        self._lock = threading.Lock()
        self._pending = False
        self._over = False
        self._blocked_by: threading.Lock | None = None
        self._blocked_since = 0.0
        self._subscriptions: list[Subscription] = []

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        db = self.plugin.db
        for item in dict.fromkeys(self.items):
            on_aux = self._aux_changed if self.copies_aux and item is self.items[0] else None
            self._subscriptions.append(db.subscribe(item.key, self.changed, on_aux))
        if self.copies_aux:
            for name, value in list(self.items[0].aux.items()):
                if value is not None and self.outputs[0].aux.get(name, value) is None:
                    self._aux_changed(self.items[0].key, name, value)
        self.renew()

    def stop(self) -> None:
        for subscription in self._subscriptions:
            subscription.close()
        self._over = True  # a writer may be on its way to us
        if self.follows:
            self.disown(STOPPED, lasting_only=True)

    def renew(self) -> None:
        """Evaluate with the present readings."""
        self._pending = True
        self._settle()

    def tick(self, now: float) -> None:
        """Called every `interval` seconds on the plugin's thread."""

    def facts(self) -> dict[str, Any]:
        """More to show in the status."""
        return {}

    @property
    def leads(self) -> bool:
        return not self._needs_lead or self._quorum.leader

    def look_for_lead(self) -> None:
        """Notice that this gateway leads now, or does not any more."""
        leads = self.leads
        if leads is not self._led:
            self._led = leads
            if leads:
                self.renew()
            elif self.follows:
                self.disown(NOT_LEADING)

    def disown(self, reason: str, lasting_only: bool = False) -> None:
        """Make the outputs old that come from here; with `lasting_only`, those that would never age."""
        for item in self.outputs:
            reading = item.said
            if not reading.old and self.is_ours(reading) and not (lasting_only and item.tolerance):
                item.flag(OLD, OLD, reading.source, reason)

    def is_ours(self, reading: Reading) -> bool:
        return reading.source in self._mine

    # -- evaluating ----------------------------------------------------------------------------------------------------

    def changed(self, key: str, reading: Reading) -> None:
        """An input has changed. Any thread."""
        self._pending = True
        self._settle()

    def evaluate(self) -> None:
        """Compute the outputs from the present readings of the inputs, and write them."""
        raise NotImplementedError

    def _settle(self) -> None:
        """Evaluate, and again if inputs changed meanwhile, unless another thread does."""
        for _ in range(MAX_ROUNDS):
            if not self._pending or self._over or (lock := self._free_lock()) is None:
                return
            try:
                self._pending = False
                self.evaluate()
            finally:
                if lock is not self._lock:  # it took too long, and another thread has taken over: start again
                    self._pending = True
                lock.release()
        self.plugin.db.complain(
            "%s: its inputs keep changing while it is computed", self.outputs[0].key, about=f"compute {self.own}"
        )

    def _free_lock(self) -> threading.Lock | None:
        """The lock, acquired; None if another thread has it."""
        lock = self._lock
        if lock.acquire(False):
            self._blocked_by = None
            return lock
        now = self.clock()
        if self._blocked_by is not lock:
            self._blocked_by, self._blocked_since = lock, now
        elif now - self._blocked_since > HUNG_S:
            self._blocked_by = None
            self._lock = lock = threading.Lock()
            lock.acquire()
            return lock
        return None

    # -- writing -------------------------------------------------------------------------------------------------------

    def source_of(self, readings: Sequence[Reading], mark: str = "") -> str:
        """The source of what is derived from `readings`: simulated if one of them is, or by the `mark`."""
        sources = [mark, *[reading.source for reading in readings]]
        if sources != self._sources:
            self._source = derived_source(sources, self.own)
            self._sources = sources
        return self._source

    def put(self, index: int, value: Any, flags: int, reason: str, source: str) -> None:
        """Write one output, with its flags, in one update."""
        item = self.outputs[index]
        self.why_not[index] = ""
        if self._whole[index]:
            value = round(value)
        if item.tolerance and self._yields(item, source):
            return
        if flags & OLD:
            said = item.said
            if said.value == value and said.source == source and not said.checked:  # do not renew its age
                item.flag(flags, PASSED, source, reason)
                return
        item.write(value, source, flags & ~OLD, reason, WRITTEN, reason if flags & OLD else "")

    def put_all(self, values: Sequence[float | None], flags: int, reason: str, source: str) -> None:
        for index, value in enumerate(values[: len(self.outputs)]):
            if value is None:
                self.withhold(index, "it is not defined now")
            elif math.isfinite(value):
                self.put(index, value, flags, reason, source)
            else:
                self.put(index, self._zeros[index], flags | FAIL, "the result is not a number", source)

    def put_failure(self, flags: int, reason: str, source: str) -> None:
        for index, zero in enumerate(self._zeros):
            self.put(index, zero, flags | FAIL, reason, source)

    def withhold(self, index: int, reason: str) -> None:
        """Do not write the output, which ages; if it never does, it becomes old at once."""
        self.why_not[index] = reason
        item = self.outputs[index]
        reading = item.said
        if not item.tolerance and not reading.old and self.is_ours(reading):
            item.flag(OLD, OLD, reading.source, reason)

    def _yields(self, item: Item, source: str) -> bool:
        """Whether another unranked source keeps the item good: what is measured is better than what is computed. Real
        values do not yield to simulated ones."""
        reading = item.said
        if reading.source in self._mine or item.ranked or not reading.good or reading.source in START:
            return False
        return not item.definition.setting and (simulated(source) or not simulated(reading.source))

    # -- aux values ----------------------------------------------------------------------------------------------------

    def _aux_changed(self, key: str, name: str, value: Value | None) -> None:
        """Copy an aux value of the first input to that of the same name of the output, if it has one."""
        output = self.outputs[0]
        if name in output.aux and output.aux[name] != value:
            try:
                output.write_aux(name, value, self.own)
            except (BadValue, UnknownKey) as error:  # a fraction for a whole number
                self.plugin.db.complain("%s", error, about=f"{output.key}.{name}")


def _zero(item: Item) -> Any:
    """What a failed output shows: 0, held to the range."""
    if item.type == "bool":
        return False
    if item.type == "str":
        return ""
    low = item.min if item.min is not None else 0.0
    high = item.max if item.max is not None else 0.0
    zero = min(max(0.0, low), max(high, low))
    return int(zero) if item.type == "int" else float(zero)


# -- the kinds of computations -----------------------------------------------------------------------------------------


class Formula(Computation):
    """A formula of as many values as it has inputs. It raises `Undefined` if they have no result, and ValueError or
    ArithmeticError if they cannot be right."""

    def __init__(self, setup: Setup, calculate: Callable[..., Result | Outcome], *, copies_aux: bool = False) -> None:
        super().__init__(setup)
        self._calculate = calculate
        self.copies_aux = copies_aux
        self._judged: tuple[list[int], str] = [], ""

    def evaluate(self) -> None:
        if self._needs_lead and not self._quorum.leader:
            return
        readings = [item.reading for item in self.items]
        flags, reason = self.judge(readings)
        if flags is None:
            return
        self.settle_outputs(readings, flags, reason, [r.value for r in readings])

    def judge(self, readings: Sequence[Reading]) -> tuple[int | None, str]:
        """The flags that the inputs pass on, and why; None if one was never written, so that nothing can be said."""
        flags = 0
        for reading in readings:
            flags |= reading.flags
        flags &= PASSED
        if not flags:
            return 0, ""
        if not flags & (OLD | FAIL):  # mostly: a backup is missing, as before
            each = [reading.flags for reading in readings]
            if each != self._judged[0]:
                self._judged = each, self._say_what_is_wrong(readings)
            return flags, self._judged[1]
        if not flags & FAIL and any(r.stamp == NEVER for r in readings):
            return None, ""
        return flags, self._say_what_is_wrong(readings)

    def _say_what_is_wrong(self, readings: Sequence[Reading]) -> str:
        wrong = (failing(i, r) for i, r in zip(self.items, readings, strict=True) if r.flags & PASSED)
        return ", ".join(dict.fromkeys(wrong))

    def settle_outputs(self, readings: Sequence[Reading], flags: int, reason: str, arguments: Sequence[Any]) -> None:
        """Write the result for `arguments`, or why it cannot be computed."""
        source = self.source_of(readings)
        if flags & FAIL:
            self.put_failure(flags, reason, source)
            return
        try:
            given = self._calculate(*arguments)
        except Undefined as why:
            for index in range(len(self.outputs)):
                self.withhold(index, str(why))
            return
        except (ArithmeticError, ValueError) as error:
            values = ", ".join(f"{i.key} {r.value}" for i, r in zip(self.items, readings, strict=True))
            self.put_failure(flags, f"cannot be computed from {values}: {error}", source)
            return
        result: Result
        if isinstance(given, Outcome):
            flags |= given.flags
            reason = ", ".join(filter(None, (reason, given.reason)))
            result = given.values
        else:
            result = given
        self.put_all(result if isinstance(result, tuple) else (result,), flags, reason, source)


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


class Aggregate(Computation):
    """One number for any number of inputs. What was never written, or failed, may be left out."""

    def __init__(self, setup: Setup, reduce: Callable[[list[Any]], float], *, copies_aux: bool = False) -> None:
        super().__init__(setup)
        self.copies_aux = copies_aux
        self._reduce: Callable[[list[Any]], float] = sum if reduce is mean else reduce
        self._divisor = len(self.items) if reduce is mean else 1
        self._skips = setup.option("failed") == "skip"
        self._ignores = setup.option("missing") == "ignore"
        self._write = self.outputs[0].write
        # While all inputs are good: their values, places and sources, and the time until which none of them is overdue
        # unless it is written again. One more write then needs no look at the others, and no lock: who finds, after
        # its own write, that another input has been `newest` since, evaluates again.
        self._values: list[Any] = []
        self._slots: dict[str, tuple[int, str]] = {}
        self._newest: object = None
        output = self.outputs[0]
        self._simple = len(set(self.items)) == len(self.items) and not self._whole[0] and not output.tolerance
        self._good_until = NEVER

    def changed(self, key: str, reading: Reading) -> None:
        if not reading.flags and reading.stamp < self._good_until and (self._quorum.leader or not self._needs_lead):
            values = self._values
            slot, source = self._slots[key]
            if reading.source == source:
                values[slot] = reading.value
                self._newest = reading
                self._write(self._reduce(values) / self._divisor, self._source, 0, "", WRITTEN)
                if self._newest is reading:
                    return
        self._pending = True
        self._settle()

    def stop(self) -> None:
        self._good_until = NEVER
        super().stop()

    def evaluate(self) -> None:
        self._good_until = NEVER
        if self._needs_lead and not self._quorum.leader:
            return
        newest = self._newest = object()
        readings = [item.reading for item in self.items]
        values: list[Any] = []
        flags = 0
        wrong: list[str] = []
        absent = failed = False
        for item, reading in zip(self.items, readings, strict=True):
            if not reading.flags & PASSED:
                values.append(reading.value)
                continue
            if reading.flags & FAIL and self._skips:
                failed = True
                wrong.append(failing(item, reading))
                continue
            if reading.stamp == NEVER and not reading.flags & FAIL:
                absent = True
                if not self._ignores:
                    wrong.append(failing(item, reading))
                    flags |= OLD
                continue
            wrong.append(failing(item, reading))
            flags |= reading.flags & PASSED
            values.append(reading.value)
        reason = ", ".join(dict.fromkeys(wrong))
        source = self.source_of(readings)
        if failed:
            flags |= BAD if values else FAIL
        if flags & FAIL:
            self.put_failure(flags, reason, source)
        elif values:
            result = self._reduce(values) / (len(values) if self._divisor > 1 else 1)
            self.put_all((result,), flags, reason, source)
            if self._simple and not (flags or absent or failed):
                pairs = list(zip(self.items, readings, strict=True))
                self._values = values
                self._slots = {item.key: (n, reading.source) for n, (item, reading) in enumerate(pairs)}
                self._good_until = min((r.stamp + i.tolerance for i, r in pairs if i.tolerance), default=math.inf)
        if self._newest is not newest:
            self._pending = True


class Events(Computation):
    """Acts on each write of an input, and not on changes of its flags or age. Ignores what is old, bad or failed."""

    follows: ClassVar[bool] = False

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._by_key = {item.key: item for item in self.items}
        self._seen = {item.key: (item.writes, item.reading.stamp) for item in self.items}
        self._waiting: deque[Reading] = deque(maxlen=1000)

    def renew(self) -> None:
        """What was written before the start, or while another gateway led, is no event."""

    def changed(self, key: str, reading: Reading) -> None:
        # Two writes may share a time stamp; and when two threads write at once, the count is ahead of the reading.
        seen = (self._by_key[key].writes, reading.stamp)
        if seen == self._seen[key]:
            return
        self._seen[key] = seen
        if not reading.flags & DOUBTFUL and self.leads:
            self._waiting.append(reading)
            self._pending = True
            self._settle()

    def evaluate(self) -> None:
        while self._waiting:
            self.happened(self._waiting.popleft())

    def happened(self, reading: Reading) -> None:
        """An input was written. One thread at a time calls this."""
        raise NotImplementedError


class Moment(NamedTuple):
    """When a process is evaluated, by the database's clock, which of its inputs were written since the last time, and
    the flags that `each` of them passes on."""

    now: float
    written: tuple[bool, ...]
    each: tuple[int, ...]

    @property
    def good(self) -> bool:
        """Whether no input is old, bad or failed: only then it may be remembered."""
        return not any(flags & DOUBTFUL for flags in self.each)


class Process(Formula):
    """A formula with a memory: rates, averages over time, what has been learnt. Goes on while another gateway leads.

    ``calculate(moment, *values)`` is called as the function of a `Formula` is, and `forget` when an input failed. While
    all inputs are good, it is called every `pace` seconds at most.
    """

    def __init__(
        self,
        setup: Setup,
        calculate: Callable[..., Result | Outcome],
        forget: Callable[[], None] = lambda: None,
        pace: float = 0.0,
    ) -> None:
        super().__init__(setup, calculate)
        self._forget = forget
        self._pace = pace
        self._no_flags = (0,) * len(self.items)
        self._skip_until = NEVER
        #: That of simulated inputs, at the last evaluation; see `mark_of`.
        self.mark = ""
        self._seen: list[tuple[int, float]] = [(item.writes, item.reading.stamp) for item in self.items]

    def evaluate(self) -> None:
        readings = [item.reading for item in self.items]
        flags, reason = self.judge(readings)
        now = self.clock()
        self._skip_until = NEVER if flags or not self._pace else now + self._pace
        seen = [(item.writes, reading.stamp) for item, reading in zip(self.items, readings, strict=True)]
        before, self._seen = self._seen, seen
        if flags is None:
            return
        mark = mark_of(self.source_of(readings))
        if mark != self.mark:  # what was learnt from simulated data must not pass for real
            self.mark = mark
            self.start_afresh()
        if flags & FAIL:
            self._forget()
        written = tuple(map(ne, seen, before))
        each = tuple([r.flags & PASSED for r in readings]) if flags else self._no_flags
        moment = Moment(now, written, each)
        self.settle_outputs(readings, flags, reason, [moment, *[r.value for r in readings]])

    def start_afresh(self) -> None:
        """Forget everything: the inputs are simulated now, or no longer."""
        self._forget()

    def changed(self, key: str, reading: Reading) -> None:
        if reading.flags or reading.stamp >= self._skip_until:
            super().changed(key, reading)

    def put(self, index: int, value: Any, flags: int, reason: str, source: str) -> None:
        if self.leads:
            super().put(index, value, flags, reason, source)

    def withhold(self, index: int, reason: str) -> None:
        if self.leads:
            super().withhold(index, reason)
