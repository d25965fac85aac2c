"""Plays scenarios: `Play`, and what plays without a bus (`Director`) and without time (`frames`)."""

from __future__ import annotations

import heapq
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import count
from math import inf
from typing import Any

from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench.expect import Watch
from fixgw.hw_sim.can.devices import look
from fixgw.hw_sim.can.segment import SimFrame
from fixgw.hw_sim.can.slcan import VirtualSlcan
from fixgw.hw_sim.scenario.actions import End
from fixgw.hw_sim.scenario.forms import MAX_ROUNDS, Event, Scenario
from fixgw.kit.expression import Look, Reference
from fixgw.kit.update import Value

STEP_S = 0.025  # of `frames`


class _Waiting:
    """An event that waits for its condition."""

    def __init__(self, event: Event) -> None:
        self.event = event
        self.was_true = False
        self.times = 0


class Play:
    """A scenario in progress; it begins with the first `due`. No thread, socket or clock; one thread at a time.

    `tell` is called with every event: its time, and words. Events of the adapter need an `adapter`; those of
    instruments find their target among the `instruments`, by name. Without a `watch`, nothing is expected. Conditions
    look at what the watch has seen of the gateway, or else at the aircraft.
    """

    def __init__(
        self,
        scenario: Scenario,
        adapter: VirtualSlcan | None = None,
        tell: Callable[[float, str], object] | None = None,
        instruments: Mapping[str, Any] | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.scenario = scenario
        self.stations = scenario.stations()
        self._targets: dict[tuple[str, str], Any] = {("node", name): s for name, s in self.stations.items()}
        self._targets |= {("instrument", name): i for name, i in (instruments or {}).items()}
        if adapter is not None:
            self._targets["adapter", ""] = adapter
        #: Judges what is expected; set it before the first `due`.
        self.watch = watch
        self._tell = tell
        self._began: float | None = None
        self._number = count()
        self._todo: list[tuple[float, int, str, End]] = []
        self._going: dict[int, End] = {}  # what ends the events that have begun
        self._followers: dict[int, list[Event]] = {}
        self._waiting: list[_Waiting] = []
        self._happened = 0.0  # when something happened last
        #: How often each event has begun, by its id.
        self.begun: Counter[int] = Counter()
        self._changes: deque[Scenario | None] = deque()  # from other threads
        #: The scenario whose events happen; None if there is none.
        self.current: Scenario | None = scenario if scenario.events else None
        self._plan(scenario)

    def change(self, scenario: Scenario | None) -> None:
        """End what is going on, and let the events of another `scenario` happen instead, from now on; or nothing more.

        Only its events count, and its duration: the nodes and the aircraft stay as they are. Any thread may call this.
        """
        self._changes.append(scenario)

    def over(self, now: float) -> bool:
        """Whether the scenario has an end, and has reached it."""
        duration = self.scenario.duration
        return duration is not None and self._began is not None and now - self._began >= duration

    def quiet(self, now: float) -> tuple[float, float]:
        """Seconds since something happened, or since the beginning, and until something happens by its time (or
        infinity). What waits for a condition or for another event does not count; while an expectation is undecided,
        something happens."""
        now -= now if self._began is None else self._began
        undecided = self.watch is not None and self.watch.pending
        return 0.0 if undecided else now - self._happened, (self._todo[0][0] if self._todo else inf) - now

    def due(self, now: float, aircraft: Aircraft) -> list[tuple[str, list[SimFrame]]]:
        """Return what each node sends at `now`, in monotonic seconds."""
        if self._began is None:
            self._began = now
            self._targets["aircraft", ""] = aircraft
        while self._changes:
            self._begin_anew(self._changes.popleft(), now)
        self._do_what_is_due(now - self._began)
        if self._waiting:
            self._look_at_conditions(now - self._began, aircraft)
            self._do_what_is_due(now - self._began)
        view = look(aircraft)
        return [(name, station.due(now, view)) for name, station in self.stations.items()]

    def not_begun(self) -> list[Event]:
        """The events of the scenario that have never begun."""
        return [event for event in self.scenario.events if not self.begun[event.id]]

    def targetless(self) -> list[Event]:
        """The events of the scenario that happen to something that is not here."""
        return [event for event in self.scenario.events if not self._is_here(event)]

    def without_effect(self) -> list[Event]:
        """The events that cannot happen to what is here: an adapter of which they are `UNABLE`."""
        return [e for e in self.scenario.events if e.words in getattr(self._target(e), "UNABLE", ())]

    def _target(self, event: Event) -> Any:
        return self._targets.get((event.kind, event.what))

    def _is_here(self, event: Event) -> bool:
        return event.kind in ("aircraft", "expect") or (event.kind, event.what) in self._targets

    def _do_what_is_due(self, now: float) -> None:
        while self._todo and self._todo[0][0] <= now:
            at, _, words, do = heapq.heappop(self._todo)
            self._happened = now
            if self._tell is not None and words:
                self._tell(at, words)
            do()

    def _at(self, time: float, words: str, do: End) -> None:
        heapq.heappush(self._todo, (time, next(self._number), words, do))

    def _begin(self, event: Event, at: float, words: str) -> None:
        self.begun[event.id] += 1
        for follower in self._followers.get(event.id, ()):
            self._schedule(follower, at)
        whom = self.watch if event.kind == "expect" else self._target(event)
        end = event.begin(whom) if whom is not None else None
        if end is None:
            return
        number = next(self._number)
        self._going[number] = end
        if event.lasting is not None:
            self._at(at + event.lasting, f"{words} is over", partial(self._end, number))

    def _end(self, number: int) -> None:
        if end := self._going.pop(number, None):
            end()

    def _plan(self, scenario: Scenario) -> None:
        self._followers = {}
        self._waiting = []
        self.begun.clear()
        for event in scenario.events:
            if event.after is not None:
                self._followers.setdefault(event.after, []).append(event)
            elif event.when is not None:
                self._waiting.append(_Waiting(event))
            else:
                self._schedule(event, 0.0)

    def _schedule(self, event: Event, base: float) -> None:
        at = base + event.at
        absent = "" if self._is_here(event) else " is not here"
        words = f"{event.what or f'the {event.kind}'}{absent}: {event.words}"
        self._at(at, "" if event.kind == "expect" else words, partial(self._begin, event, at, words))

    def _look_at_conditions(self, now: float, aircraft: Aircraft) -> None:
        view = _aircrafts_own(aircraft) if self.watch is None else self.watch.view.look
        for waiting in list(self._waiting):
            condition = waiting.event.when
            assert condition is not None
            if condition.deadline is not None and now > condition.deadline and not waiting.times:
                self._waiting.remove(waiting)
            elif now >= condition.since:
                is_true = bool(condition.expression(view))
                if is_true and not waiting.was_true:
                    waiting.times += 1
                    self._schedule(waiting.event, now)
                    if not condition.always or waiting.times >= MAX_ROUNDS:
                        self._waiting.remove(waiting)
                waiting.was_true = is_true

    def _begin_anew(self, scenario: Scenario | None, now: float) -> None:
        self._todo.clear()
        self._followers, self._waiting = {}, []
        for number in [*self._going]:
            self._end(number)
        self.scenario = self.scenario._replace(duration=None)
        self._began, self._happened = now, 0.0
        self.current = scenario
        if scenario is not None:
            self._plan(scenario)
            if scenario.duration is not None:
                self._at(scenario.duration, "the scenario is over", partial(self.change, None))


def _aircrafts_own(aircraft: Aircraft) -> Look:
    values = aircraft.values()

    def value_of(reference: Reference) -> Value | None:
        if reference.is_flag:
            return False
        return None if reference.attribute else values.get(reference.key)

    return value_of


class Director:
    """Plays a scenario without a bus, as an instrument of a world; `over` is set at its end."""

    def __init__(self, play: Play, over: threading.Event) -> None:
        self._play = play
        self._over = over

    def tick(self, aircraft: Aircraft, now: float) -> None:
        if self._play.over(now):
            self._over.set()
        else:
            self._play.due(now, aircraft)

    def close(self) -> None:
        """Nothing to release."""


def frames(scenario: Scenario, duration: float | None = None, step: float = STEP_S) -> Iterator[tuple[float, SimFrame]]:
    """Play as fast as possible: yields (seconds from the beginning, frame) for `duration` seconds.

    Without `duration` that of the scenario applies; one without an end continues forever. The nodes receive each
    other's frames; the bus carries everything at once, whatever its bit rate.
    """
    if duration is not None:
        scenario = scenario._replace(duration=duration)
    aircraft, play = scenario.aircraft(), Play(scenario)
    for tick in count():
        now = tick * step
        if play.over(now):
            return
        for name, sent in play.due(now, aircraft):
            for frame in sent:
                for other, station in play.stations.items():
                    if other != name:
                        station.received(frame)
                yield now, frame
        aircraft.step(step)
