"""Judges a scenario while it is flown: what all ways to fly it have in common.

    trial = Trial(play, facts, 60.0)      # before it begins to play
    trial.impossible()                    # what can never be so with this gateway
    trial.note(at, key, reading)          # any thread: what the gateway publishes
    trial.settle(now)                     # everything until now has been noted
    trial.finish()                        # the verdicts

No clock and no thread of its own: the caller says what time it is.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from fixgw.hw_sim.bench.expect import Facts, Seen, View, Watch

if TYPE_CHECKING:
    from fixgw.database import Reading
    from fixgw.hw_sim.aircraft import Aircraft
    from fixgw.hw_sim.scenario import Event, Play
    from fixgw.kit.update import Value


class Verdict(NamedTuple):
    """What was expected, where it is written, whether it came true, what happened instead, and the seconds it took."""

    title: str
    place: str
    met: bool
    words: str
    took: float = 0.0


class Trial:
    """A scenario and a gateway: shows what the gateway publishes to the `Watch` of the `play`. Also an instrument of a
    world, after those that play; the watch belongs to that thread.

    `over` is set `end` seconds after the beginning, or, if the scenario has no duration, as soon as all is decided.
    """

    def __init__(self, play: Play, facts: Mapping[str, Facts], end: float) -> None:
        self.over = threading.Event()
        self._play = play
        self._end = end
        self.watch = play.watch = Watch(facts)
        self._noted: deque[tuple[float, str, Reading | Seen]] = deque()
        self._alerts: deque[tuple[float, Mapping[str, Mapping[str, Any]]]] = deque()
        self._now: float | None = None

    def impossible(self) -> Iterator[str]:
        """Expectations that can never come true with this gateway, and why, each with its place."""
        view = View(self.watch.view.facts)
        for event in self._play.scenario.expectations:
            if event.claim is not None and (why := event.claim.wrong(view)):
                yield f"{event.place}: {why}"

    # -- what the gateway publishes; any thread ------------------------------------------------------------------------

    def note(self, at: float, key: str, reading: Reading) -> None:
        self._noted.append((at, key, reading))

    def note_value(self, at: float, key: str, value: Value | None, flags: int = 0, source: str = "") -> None:
        """A value of a key, or of an aux value (``KEY.name``)."""
        self._noted.append((at, key, Seen(value, flags, source)))

    def note_alerts(self, at: float, status: Mapping[str, Any]) -> None:
        """The status of the alert logic (`fixgw.plugins.alerts`)."""
        self._alerts.append(
            (at, {id: each for id, each in status.items() if isinstance(each, dict) and "state" in each})
        )

    # -- time ----------------------------------------------------------------------------------------------------------

    def settle(self, now: float) -> None:
        """Judge by everything that was noted until `now`. Does nothing when it is over."""
        if self.over.is_set():
            return
        if self._now is None:
            self.watch.zero = self._now = now
        noted, watch = self._noted, self.watch
        while noted:
            at, key, what = noted.popleft()
            if at < self._now:
                at = self._now
            self._now = at = min(at, now)
            if "." in key:
                watch.show_aux(at, key, what.value)
            else:
                watch.show(at, key, what.value, what.flags, what.source)
        while self._alerts:
            at, alerts = self._alerts.popleft()
            at = min(max(at, self._now), now)
            for id, each in alerts.items():
                self.watch.show_alert(at, id, each["state"], each["level"], each["text"])
            for id in self.watch.view.alerts.keys() - alerts.keys():  # that of a notice, which is no more
                self.watch.show_alert(at, id, "normal")
        self._now = now
        self.watch.pass_to(now)
        if now - self.watch.zero >= self._end or self._is_decided():
            self.over.set()

    def _is_decided(self) -> bool:
        """Whether nothing more can be decided, and nothing else is to happen."""
        scenario = self._play.scenario
        if self.watch.pending or scenario.duration is not None or not scenario.expectations:
            return False
        return not any(e.when is not None and e.when.always for e in scenario.events) and not any(
            e.kind == "expect" or e.when is not None for e in self._play.not_begun()
        )

    def tick(self, aircraft: Aircraft, now: float) -> None:
        self.settle(now)

    def close(self) -> None:
        """Nothing to release."""

    # -- the end -------------------------------------------------------------------------------------------------------

    def finish(self, gone: str = "") -> list[Verdict]:
        """End the trial, and give a verdict on each expectation. `gone` says why the gateway is no longer there."""
        now = self._now or 0.0
        if gone:
            self.watch.fail(now, f"{gone} at {now - self.watch.zero:.1f} s")
        self.watch.end(now)
        verdicts = []
        times: Counter[str] = Counter()
        for each in self.watch.expectations:
            times[each.title] += 1
            title = f"{each.title} (time {times[each.title]})" if times[each.title] > 1 else each.title
            verdicts.append(Verdict(title, each.place, each.outcome == "met", each.words, each.took or 0.0))
        for event in self._play.not_begun():
            if event.kind == "expect":
                verdicts.append(Verdict(event.words, event.place, False, f"it never began: {gone or _why_not(event)}"))
            elif event.when is not None:
                title = f"{event.what or event.kind}: {event.words}"
                verdicts.append(Verdict(title, event.place, False, f"it never happened: {gone or _why_not(event)}"))
        return verdicts


def _why_not(event: Event) -> str:
    if event.when is None:
        return "what it waits for never happened"
    within = "" if event.when.deadline is None else f" within {event.when.deadline:g} s"
    return f"{event.when.expression.text} was not true{within}"
