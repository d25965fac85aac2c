"""`Judge`, the base of the plugins that judge alerts: it feeds an engine from the database."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping
from typing import ClassVar

from fixgw.alerts.engine import Change, Engine
from fixgw.database import FAIL, OLD, Item, Reading, Subscription, Value
from fixgw.kit.expression import Reference
from fixgw.kit.sources import simulated
from fixgw.plugin import Follower, TypeVar
from fixgw.plugin import Options as PluginOptions

__all__ = ["Judge", "margin_of"]

MAX_AUX = 1000  # changes of aux values that wait to be judged

OptionsT = TypeVar("OptionsT", bound=PluginOptions)


class Judge(Follower[OptionsT]):
    """Judges alerts on its own thread, at the start and after every change of what they look at.

    Override `build`, which adds the alerts to `engine`. `lock` guards the engine: this thread judges, and others may
    acknowledge. Nothing waits while it is held.
    """

    replays: ClassVar[bool] = True
    gather: ClassVar[float] = 0.05
    look_interval: ClassVar[float] = 0.1
    tick_interval: ClassVar[float] = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.clock = self.db.clock
        self.lock = threading.Lock()
        self.engine = Engine(self._look, self._may_count)
        self._items: dict[str, Item] = {}
        self._changed_aux: deque[str] = deque(maxlen=MAX_AUX)
        self._subscriptions: list[Subscription] = []
        self._flagged: dict[str, str] = {}
        self._began = False

    # -- to override ---------------------------------------------------------------------------------------------------

    def build(self) -> None:
        """Add the alerts to `engine`."""
        raise NotImplementedError

    def recorded(self, changes: list[Change]) -> None:
        """Note changes of state. Called on the plugin's thread."""

    # -- the contract --------------------------------------------------------------------------------------------------

    def follows(self) -> Iterable[str]:
        return self.engine.keys

    def follow(self) -> None:
        self.build()
        self._items = {key: self.db.item(key) for key in self.engine.keys}
        super().follow()
        limited = [key for key, item in self._items.items() if item.aux]
        self._subscriptions = [self.db.subscribe(key, on_aux=self._note_aux, quick=True) for key in limited]

    def changed(self, readings: dict[str, Reading]) -> None:
        self.judge(readings)

    def step(self, timeout: float) -> bool:
        changed = super().step(timeout)
        if self._changed_aux:
            lost = len(self._changed_aux) == MAX_AUX
            keys = {self._changed_aux.popleft() for _ in range(len(self._changed_aux))}
            self.judge(self._items if lost else keys)
        return changed

    def tick(self, now: float) -> None:
        if self.engine.busy or not self._began:
            self.judge(())

    def stop(self) -> None:
        try:
            super().stop()
        finally:
            for subscription in self._subscriptions:
                subscription.close()

    # -- judging -------------------------------------------------------------------------------------------------------

    def judge(self, keys: Iterable[str]) -> None:
        """Judge the alerts that look at `keys`, and set the annunciate flags. For the plugin's thread."""
        with self.lock:
            self.engine.judge(self.clock(), keys if self._began else None)
            self._began = True
        self.present()

    def present(self) -> None:
        """Set the annunciate flags, and record what has changed. For the plugin's thread."""
        with self.lock:
            flags = self.engine.flags()
            changes = self.engine.take_changes()
        self._set_flags(flags)
        if changes:
            self.recorded(changes)

    def _set_flags(self, flags: Mapping[str, str]) -> None:
        if flags == self._flagged:
            return
        for key in self._flagged:
            if key not in flags:
                self.db.item(key).annunciate(False, owner=self.name)
        for key, reason in flags.items():
            if self._flagged.get(key) != reason:
                try:
                    self.db.item(key).annunciate(True, reason, self.name)
                except ValueError as error:  # too many owners
                    self.complain("%s", error, about=key)
        self._flagged = dict(flags)

    def _note_aux(self, key: str, name: str, value: Value | None) -> None:
        self._changed_aux.append(key)
        self.wake()

    def _look(self, reference: Reference) -> Value | None:
        item = self._items[reference.key]
        name = reference.attribute
        if name and not reference.is_flag:
            return item.aux.get(name)
        reading = item.reading
        if name:
            return bool(getattr(reading, name))
        return None if reading.flags & (OLD | FAIL) else reading.value

    def _may_count(self, key: str) -> bool:
        return not simulated(self._items[key].reading.source)


def margin_of(given: float | str, item: Item) -> float:
    """A hysteresis in the units of `item`; ``"n%"`` is a share of its range. Raises ValueError."""
    if isinstance(given, str):
        number, percent, rest = given.partition("%")
        try:
            size = float(number)
            if rest.strip():
                raise ValueError
        except ValueError:
            raise ValueError(f"{given!r} is neither a number nor a share of the range such as 1%") from None
        if percent and (item.min is None or item.max is None):
            raise ValueError(f"{item.key} has no range of which {given} could be a share")
        given = size / 100 * ((item.max or 0) - (item.min or 0)) if percent else size
    if not 0 <= given < float("inf"):
        raise ValueError(f"{given:g} is not 0 or more")
    return float(given)
