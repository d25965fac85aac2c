"""Turns edges into debounced levels, button presses, turns of a knob, selector positions and pulse rates.

The caller supplies times in monotonic seconds; nothing here reads a clock or a pin. A contact is True when closed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T")

SHORT_PRESS_S = 0.1  # duration of a short press in the database, where it appears only once it is over
MAX_STAMPS = 4096


class Debouncer(Generic[T]):
    """Accepts a level once it has not changed for `period` seconds. Call `tick` when it is `due`, or later."""

    def __init__(self, period: float, level: T) -> None:
        self.period = period
        #: The accepted level.
        self.level = level
        #: When the last level fed will be accepted if it persists; None if it is accepted already.
        self.due: float | None = None
        self._raw = level

    def feed(self, now: float, level: T) -> None:
        """Report that the contact has `level` now."""
        if level != self._raw:
            self._raw = level
            self.due = None if level == self.level else now + self.period

    def tick(self, now: float) -> bool:
        """Let time pass; return whether the accepted `level` has changed."""
        if self.due is None or now < self.due:
            return False
        self.due = None
        self.level = self._raw
        return True


class Action(Enum):
    """What a button does to its keys."""

    PRESS = "press"
    RELEASE = "release"
    LONG_PRESS = "long press"
    LONG_RELEASE = "long release"


class Button:
    """Turns a debounced contact into actions.

    With `long_after` seconds a press is either short or long, and a short one is reported only when it is over. With
    `repeat` seconds a button that is held for `repeat_after` seconds is pressed again and again.
    """

    def __init__(self, long_after: float | None = None, repeat: float = 0.0, repeat_after: float = 0.5) -> None:
        #: When to call `tick`; None when there is nothing to wait for.
        self.due: float | None = None
        self.pressed = False
        self._on = False  # the value of the key
        self._long = False
        self._long_after = long_after
        self._repeat = repeat
        self._repeat_after = repeat_after

    def change(self, now: float, pressed: bool) -> Iterator[Action]:
        """The contact has closed (`pressed`) or opened."""
        before, self.pressed = self.pressed, pressed
        self.due = None
        if not before and not pressed:  # held since before we started, and now released: not a press
            return
        if pressed:
            yield from self._set(False)  # a short press may still be on
            if self._long_after is not None:
                self.due = now + self._long_after
                return
            yield from self._set(True)
            if self._repeat:
                self.due = now + self._repeat_after
        elif self._long:
            self._long = False
            yield Action.LONG_RELEASE
        elif self._long_after is not None:
            yield from self._set(True)
            self.due = now + SHORT_PRESS_S
        else:
            yield from self._set(False)

    def tick(self, now: float) -> Iterator[Action]:
        """Let time pass."""
        if self.due is None or now < self.due:
            return
        self.due = None
        if not self.pressed:
            yield from self._set(False)
        elif self._long_after is not None:
            self._long = True
            yield Action.LONG_PRESS
        else:
            yield from self._set(not self._on)
            self.due = now + self._repeat / 2

    def _set(self, on: bool) -> Iterator[Action]:
        if on != self._on:
            self._on = on
            yield Action.PRESS if on else Action.RELEASE


#: The two contacts of a knob -> the quarter of its cycle. Clockwise, the first contact closes first.
PHASE = {(False, False): 0, (True, False): 1, (True, True): 2, (False, True): 3}
Contacts = tuple[bool, bool]


class Quadrature:
    """Turns the contacts of a rotary encoder into detents. `steps` of the four quarters of a cycle make one detent.

    Each quarter changes the count by one in either direction, so a bouncing contact adds nothing. A detent is reported
    when the knob arrives in it: `home` is the quarter in which it rests, 0 with both contacts open. If two quarters
    change at once, an edge was lost (`missed`), and the knob is assumed to have kept its direction.
    """

    def __init__(self, steps: int = 4, contacts: Contacts = (False, False), home: int = 0) -> None:
        self.contacts = contacts
        self.missed = 0
        self.home = home
        self._steps = steps
        self._phase = PHASE[contacts]
        self._direction = 0
        self._count = self.from_home  # quarters since the last detent; between two detents, from the nearest
        if self._count > steps / 2:
            self._count -= steps

    @property
    def from_home(self) -> int:
        """Quarters from the resting position, clockwise; 0 at rest."""
        return (self._phase - self.home) % self._steps

    def settle(self) -> None:
        """Take the present position as the resting position."""
        self.home, self._count = self._phase % self._steps, 0

    def feed(self, contacts: Contacts) -> int:
        """Report the contacts; return the detents turned since the last call, clockwise positive."""
        phase = PHASE[contacts]
        move = (phase - self._phase) % 4
        if move == 0:
            return 0
        if move == 2:
            self.missed += 1
            move = 2 * self._direction
        else:
            move = self._direction = 1 if move == 1 else -1
        self.contacts, self._phase = contacts, phase
        self._count += move
        if self.from_home:
            return 0
        detents = (abs(self._count) + self._steps // 2) // self._steps
        detents, self._count = detents if self._count > 0 else -detents, 0
        return detents


#: Which of the two contacts changed, and both as read when the edge was reported, which may be late.
KnobEdge = tuple[int, Contacts]


class Knob:
    """A `Quadrature` fed from the edges that a library reports: in order, but late, and sometimes not at all.

    The edges of one contact alternate. From the old levels and the order of the edges we can therefore reconstruct
    every state in between, even if the levels read at an edge were already later ones. We accept the reconstruction if
    it ends at the present levels and if every state that was read occurs in it soon enough. Otherwise an edge may still
    be on its way: we wait `patience` seconds for it, and then use the states that were read.

    The resting position differs between knobs: both contacts open, both closed, or one closed. We assume that the knob
    is at rest when we begin, unless `home` says otherwise. If it then comes to rest at another position twice in a row,
    that is the resting position.
    """

    REST_S = 0.3  # without an edge

    def __init__(self, steps: int, contacts: Contacts, patience: float = 0.05, home: int | None = None) -> None:
        self._quadrature = Quadrature(steps, contacts, PHASE[contacts] % steps if home is None else home)
        self._moved_at: float | None = None  # None while it rests
        self._elsewhere = 0  # quarters from home, where it last came to rest; 0: at home
        self._patience = patience
        self._edges: list[KnobEdge] = []
        self._waiting: float | None = None

    @property
    def contacts(self) -> Contacts:
        return self._quadrature.contacts

    @property
    def missed(self) -> int:
        return self._quadrature.missed

    @property
    def home(self) -> int:
        """The quarter of the resting position."""
        return self._quadrature.home

    @property
    def waiting(self) -> bool:
        """Whether the edges do not agree with the levels yet."""
        return self._waiting is not None

    def poll(self, now: float, edges: Sequence[KnobEdge], contacts: Contacts) -> int:
        """Return the detents turned, clockwise positive, from the `edges` since the last call and the present
        `contacts`."""
        self._edges += edges
        states = self._alternating()
        if states is None or (states or [self.contacts])[-1] != contacts:
            if self._waiting is None:
                self._waiting = now
            if now - self._waiting < self._patience:
                return 0
            states = [read for _, read in self._edges] + [contacts]
        self._waiting = None
        self._edges.clear()
        if states and states != [self.contacts]:
            self._moved_at = now
        elif self._moved_at is not None and now - self._moved_at >= self.REST_S:
            self._moved_at = None
            self._rest()
        return sum(self._quadrature.feed(state) for state in states)

    def _rest(self) -> None:
        """Learn the resting position."""
        before, self._elsewhere = self._elsewhere, self._quadrature.from_home
        if self._elsewhere and self._elsewhere == before:
            self._quadrature.settle()
            self._elsewhere = 0

    def _alternating(self) -> list[Contacts] | None:
        """The state after each edge; None if that contradicts the states that were read."""
        first, second = self.contacts
        states: list[Contacts] = []
        for contact, _ in self._edges:
            first, second = (first, not second) if contact else (not first, second)
            states.append((first, second))
        for number, (_, read) in enumerate(self._edges):
            if read not in states[number : number + 4]:
                return None
        return states


class Acceleration:
    """Steps per detent: 1 when the knob is turned slowly (`SLOW`, in detents a second), `most` when turned fast."""

    SLOW = 6.0
    FAST = 30.0

    def __init__(self, most: float) -> None:
        self._most = most
        self._last = float("-inf")
        self._clockwise = True

    def factor(self, now: float, detents: int) -> int:
        """The factor for `detents` turned until `now`; a change of direction is never accelerated."""
        since, self._last = now - self._last, now
        same, self._clockwise = (detents > 0) == self._clockwise, detents > 0
        if not same:
            return 1
        rate = abs(detents) / max(since, 1e-3)
        share = min(max((rate - self.SLOW) / (self.FAST - self.SLOW), 0.0), 1.0)
        return round(1.0 + (self._most - 1.0) * share)


def add_within(value: float, change: float, low: float | None, high: float | None, wrap: bool, whole: bool) -> float:
    """Add `change` to `value` within the range. With `wrap` the ends of the range meet: `whole` numbers go from `high`
    to `low` in one step, while for others, such as headings, both ends are the same value."""
    total = round(value + change, 9)  # 29.92 + 0.01 is 29.93
    if low is None or high is None:
        return max(total, low) if low is not None else min(total, high) if high is not None else total
    if wrap:
        return round(low + (total - low) % (high - low + whole), 9)
    return min(max(total, low), high)


def position(closed: Iterable[bool]) -> int | None:
    """The number of a selector's closed contact, from 0; None if all are open. Raises ValueError if several are
    closed."""
    found = [number for number, contact in enumerate(closed) if contact]
    if len(found) > 1:
        raise ValueError("several contacts are closed")
    return next(iter(found), None)


class PulseRate:
    """Measures pulses a second, averaged over whole periods within the last `window` seconds.

    When the pulses stop, the rate falls; after `timeout` seconds it is zero. A pulse less than `shortest` seconds after
    the last one used is interference: it is counted in `glitches` and ignored.
    """

    def __init__(self, now: float, window: float = 1.0, timeout: float = 2.0, shortest: float = 0.0) -> None:
        self.used = 0
        self.glitches = 0
        self._window = window
        self._timeout = timeout
        self._shortest = shortest
        self._since = now  # the last pulse, or the start
        self._stamps: deque[float] = deque(maxlen=MAX_STAMPS)
        self._refused: deque[float] = deque(maxlen=MAX_STAMPS)

    def feed(self, stamp: float) -> bool:
        """Report a pulse at time `stamp`; return whether it is used."""
        if self._stamps and stamp - self._stamps[-1] < self._shortest:
            self.glitches += 1
            self._refused.append(stamp)
            return False
        self.used += 1
        self._since = stamp
        self._stamps.append(stamp)
        return True

    def rate(self, now: float) -> float | None:
        """Pulses a second; None while there are too few to tell."""
        stamps = self._stamps
        if now - self._since > self._timeout:
            stamps.clear()
            return 0.0
        while len(stamps) > 2 and stamps[0] < now - self._window:
            stamps.popleft()
        if len(stamps) < 2 or stamps[-1] <= stamps[0]:
            return None
        span = stamps[-1] - stamps[0]
        # The next pulse comes now at the earliest, so the rate cannot be higher than the second.
        return min((len(stamps) - 1) / span, len(stamps) / max(now - stamps[0], span))

    def noisy(self, now: float) -> bool:
        """Whether more pulses in the window were refused than used, so that the rate cannot be trusted."""
        while self._refused and self._refused[0] < now - self._window:
            self._refused.popleft()
        return len(self._refused) > len(self._stamps)

    def restart(self, now: float) -> None:
        """Start again, because pulses were missed."""
        self._stamps.clear()
        self._since = now


def duty(value: float, low: float, high: float, gamma: float) -> float:
    """The duty cycle, 0 to 1, at which a lamp looks as bright as `value` between `low` and `high`."""
    share = min(max((value - low) / (high - low), 0.0), 1.0)
    return float(share**gamma)
