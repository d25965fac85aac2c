"""What edges mean: debounced levels, buttons, turns of a knob, positions of a selector, rates of pulses.

Times are monotonic seconds that the caller brings; nothing here reads a clock or a pin. Contacts are True when closed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T")

SHORT_PRESS = 0.1  # seconds that a short press lasts in the database, where it is known only when it is over
MAX_STAMPS = 4096


class Debouncer(Generic[T]):
    """A level that counts once it has not changed for `period` seconds. Call `tick` when it is `due`, or later."""

    def __init__(self, period: float, level: T) -> None:
        self.period = period
        #: The level that counts.
        self.level = level
        #: When the last one fed will count, if it stays; None when it does already.
        self.due: float | None = None
        self._raw = level

    def feed(self, now: float, level: T) -> None:
        """The contact has `level` now."""
        if level != self._raw:
            self._raw = level
            self.due = None if level == self.level else now + self.period

    def tick(self, now: float) -> bool:
        """Whether `level` has changed."""
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
    """What becomes of a debounced contact. With `long_after` seconds, a press is short or long, and known to be short
    only when it is over; with `repeat` seconds, holding is pressing again and again, after `repeat_after`."""

    def __init__(self, long_after: float | None = None, repeat: float = 0.0, repeat_after: float = 0.5) -> None:
        #: When `tick` is to be called; None when there is nothing to wait for.
        self.due: float | None = None
        self.pressed = False
        self._on = False  # what the key says
        self._long = False
        self._long_after = long_after
        self._repeat = repeat
        self._repeat_after = repeat_after

    def change(self, now: float, pressed: bool) -> Iterator[Action]:
        """The contact has closed, or opened."""
        before, self.pressed = self.pressed, pressed
        self.due = None
        if (
            not before and not pressed
        ):  # let go of after it had been held since before anybody looked: that was no press
            return
        if pressed:
            yield from self._set(False)  # a short press that still lasts
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
            self.due = now + SHORT_PRESS
        else:
            yield from self._set(False)

    def tick(self, now: float) -> Iterator[Action]:
        """Time has passed."""
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


#: The two contacts of a knob -> the quarter of its cycle; clockwise, the first closes first.
PHASE = {(False, False): 0, (True, False): 1, (True, True): 2, (False, True): 3}
Contacts = tuple[bool, bool]


class Quadrature:
    """The contacts of a rotary encoder in, detents out. `steps` of the four quarters of a cycle make a detent.

    Each quarter moves the count by one, there and back: a bouncing contact goes to and fro and adds nothing. A detent
    counts when the knob is in it. Two quarters at once (`missed`: something came too fast) are taken to continue the
    way it was turning.
    """

    def __init__(self, steps: int = 4, contacts: Contacts = (False, False)) -> None:
        self.contacts = contacts
        self.missed = 0
        self._steps = steps
        self._phase = PHASE[contacts]
        self._direction = 0
        self._count = self._phase % steps  # quarters since the last detent; from the nearest, if it stands between two
        if self._count > steps / 2:
            self._count -= steps

    def feed(self, contacts: Contacts) -> int:
        """Detents turned since the last one, clockwise positive."""
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
        if phase % self._steps:
            return 0
        detents = (abs(self._count) + self._steps // 2) // self._steps
        detents, self._count = detents if self._count > 0 else -detents, 0
        return detents


#: Of an edge: which of the two contacts it was of, and both as they were read when it was told of, which may be late.
KnobEdge = tuple[int, Contacts]


class Knob:
    """A `Quadrature` fed from edges as a library tells of them: in order, but late, and sometimes not at all.

    A contact's edges alternate, so that from the old levels, and from which contact each edge was of, every state
    between is known, even if what was read at the edge was already a later one. That is believed if it ends in the
    levels that there are, and if everything read was a state still to come. Otherwise an edge is on its way, and there
    is time to wait for it, `patience` seconds; after that, what was read is all there is.
    """

    def __init__(self, steps: int, contacts: Contacts, patience: float = 0.05) -> None:
        self._quadrature = Quadrature(steps, contacts)
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
    def waiting(self) -> bool:
        """Whether edges do not add up, yet."""
        return self._waiting is not None

    def poll(self, now: float, edges: Sequence[KnobEdge], contacts: Contacts) -> int:
        """Detents turned, clockwise positive; `edges` have come since the last time, `contacts` are as they are now."""
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
        return sum(self._quadrature.feed(state) for state in states)

    def _alternating(self) -> list[Contacts] | None:
        """The state after each edge, if that agrees with what was read."""
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
    """How many steps a detent is worth: 1 at a leisurely turn (`SLOW`, detents a second), `most` at a fast one."""

    SLOW = 6.0
    FAST = 30.0

    def __init__(self, most: float = 1.0) -> None:
        self._most = most
        self._last = float("-inf")
        self._clockwise = True

    def factor(self, now: float, detents: int) -> int:
        """For `detents` turned until `now`; one in the other direction is never accelerated."""
        since, self._last = now - self._last, now
        same, self._clockwise = (detents > 0) == self._clockwise, detents > 0
        if not same or self._most <= 1.0:
            return 1
        rate = abs(detents) / max(since, 1e-3)
        share = min(max((rate - self.SLOW) / (self.FAST - self.SLOW), 0.0), 1.0)
        return round(1.0 + (self._most - 1.0) * share)


def added(value: float, change: float, low: float | None, high: float | None, wrap: bool, whole: bool) -> float:
    """`value` + `change` within the range, of which the ends meet if it is to `wrap`: a `whole` number's are one apart,
    a heading's are the same."""
    total = round(value + change, 9)  # 29.92 + 0.01 is 29.93
    if low is None or high is None:
        return max(total, low) if low is not None else min(total, high) if high is not None else total
    if wrap:
        return round(low + (total - low) % (high - low + whole), 9)
    return min(max(total, low), high)


def position(closed: Iterable[bool]) -> int | None:
    """Which one of a selector's contacts is closed, from 0; None for none. Raises ValueError for several."""
    found = [number for number, contact in enumerate(closed) if contact]
    if len(found) > 1:
        raise ValueError("several contacts are closed")
    return found[0] if found else None


class PulseRate:
    """Pulses a second, averaged over whole periods in a window of the last `window` seconds.

    When pulses stop the rate falls, and after `timeout` seconds it is zero. Pulses less
    than `shortest` seconds after the last one used are interference: counted in `glitches`, and otherwise ignored.
    """

    def __init__(self, now: float, window: float = 1.0, timeout: float = 2.0, shortest: float = 0.0) -> None:
        self.used = 0
        self.glitches = 0
        self._window = window
        self._timeout = timeout
        self._shortest = shortest
        self._since = now  # when there was last a pulse, or hope of one
        self._stamps: deque[float] = deque(maxlen=MAX_STAMPS)
        self._refused: deque[float] = deque(maxlen=MAX_STAMPS)

    def feed(self, stamp: float) -> bool:
        """A pulse came at `stamp`; returns whether it is used."""
        if self._stamps and stamp - self._stamps[-1] < self._shortest:
            self.glitches += 1
            self._refused.append(stamp)
            return False
        self.used += 1
        self._since = stamp
        self._stamps.append(stamp)
        return True

    def rate(self, now: float) -> float | None:
        """Pulses a second; None when that cannot be told yet."""
        stamps = self._stamps
        if now - self._since > self._timeout:
            stamps.clear()
            return 0.0
        while len(stamps) > 2 and stamps[0] < now - self._window:
            stamps.popleft()
        if len(stamps) < 2 or stamps[-1] <= stamps[0]:
            return None
        rate = (len(stamps) - 1) / (stamps[-1] - stamps[0])
        # At best the next pulse comes now: it is no faster than that.
        return min(rate, len(stamps) / (now - stamps[0])) if now > stamps[-1] else rate

    def noisy(self, now: float) -> bool:
        """Whether in the window more pulses were refused than used: then the rate is not to be trusted."""
        while self._refused and self._refused[0] < now - self._window:
            self._refused.popleft()
        return len(self._refused) > len(self._stamps)

    def restart(self, now: float) -> None:
        """Pulses have been missed: begin anew."""
        self._stamps.clear()
        self._since = now


def duty(value: float, low: float, high: float, gamma: float) -> float:
    """The share of time, 0 to 1, that a lamp is to be on to look as bright as `value` between `low` and `high`."""
    share = min(max((value - low) / (high - low), 0.0), 1.0)
    return float(share**gamma)
