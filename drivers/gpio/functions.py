"""What pins do: each class connects some pins to some keys, and runs on the polling thread.

The library's thread only records the time and level of each edge in a bounded queue (`Line`). Whenever the queue has
been emptied, the level is read again, so an edge that was never reported is only late.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from logging import Logger
from typing import Generic, TypeVar

import msgspec

from fixgw.database import BAD, FAIL, OLD, Database, Item, Value
from fixgw.drivers.gpio import protocol
from fixgw.drivers.gpio.options import RATES, TOTALS, Button, Dimmer, Encoder, Options, Output, Pulses, Selector
from fixgw.drivers.links.pins import Edge, Pins, Pull
from fixgw.errors import BadValue, DeviceError
from fixgw.kit import expression
from fixgw.kit.sources import START, may_leave
from fixgw.state import Keeper

LOOK_S = 0.2  # between two checks of outputs and levels when nothing happens: it finds lost edges and lost chips
FOLLOW_S = 0.02  # outputs follow their keys no faster
POLLING_TICK_S = 0.002  # the same for inputs without edge detection
MAX_CALLBACK_DELAY_S = 0.05  # a callback may come this long after its edge
RATE_INTERVAL_S = 0.1  # between two rates
SAVE_INTERVAL_S = 10.0  # between two saves of a rising total
MAX_EDGES = 10_000
NEVER = float("inf")

Level = TypeVar("Level")


class Total(msgspec.Struct, frozen=True):
    """A totaliser as saved. `gap` says what is missing from it; `flowing`: pulses were still coming."""

    value: float
    gap: str = ""
    flowing: bool = False


class Totals:
    """The totalisers of one connection, which survive restarts."""

    def __init__(self, keeper: Keeper, log: Logger) -> None:
        self.keeper = keeper
        self._known: dict[str, Total] = {}
        try:
            if data := keeper.load():
                self._known = msgspec.json.decode(data, type=dict[str, Total])
        except msgspec.MsgspecError as error:
            log.warning("cannot use %s, starting again from scratch: %s", keeper.path, error)

    def get(self, key: str) -> Total | None:
        return self._known.get(key)

    def keep(self, key: str, total: Total) -> None:
        if self._known.get(key) != total:
            self._known[key] = total
            self.keeper.keep(msgspec.json.encode(self._known))


class Common:
    """State shared by the functions of one connection."""

    def __init__(
        self,
        pins: Pins,
        db: Database,
        source: str,
        clock: Callable[[], float],
        count: Callable[[str, int], None],
        wake: Callable[[], None],
        totals: Totals | None = None,
        simulated_too: bool = False,
    ) -> None:
        self.pins = pins
        self.db = db
        self.source = source
        self.clock = clock
        self.count = count
        self.wake = wake
        self.totals = totals
        self._simulated_too = simulated_too

    def may_leave(self, source: str) -> bool:
        """Whether a value with this source may change an output."""
        return may_leave(source, self.source, self._simulated_too)

    def write(self, item: Item, value: Value | float, flags: int = 0, reason: str = "") -> None:
        try:
            item.write(value, self.source, flags, reason, mask=BAD | FAIL)
        except BadValue:  # the item is defined with another type
            self.count("misfits", 1)

    def refresh(self, item: Item) -> None:
        """Write a lasting position again before its item ages, if the item has a tolerance."""
        reading = item.said
        ours = reading.source == self.source and not reading.fail
        if item.tolerance and ours and reading.age(self.db.clock()) > item.tolerance / 2:
            self.write(item, reading.value)


class Function:
    """Some pins and what they do. Used only on the polling thread."""

    #: When to call `poll` again at the latest, in monotonic seconds.
    due = NEVER
    #: The problem, if there is one; otherwise empty.
    trouble = ""

    def __init__(self, common: Common) -> None:
        self.common = common
        self.pins = common.pins

    def open(self, now: float) -> None:
        """Set the pins up. Raises DeviceError."""
        raise NotImplementedError

    def is_waiting(self) -> bool:
        """Whether there is something to do before `due`."""
        return False

    def poll(self, now: float) -> None:
        """Do what is due at `now`, if it is `due` or `is_waiting`. Raises DeviceError if the chip is gone."""
        raise NotImplementedError

    def lost(self, reason: str) -> None:
        """The pins can no longer be read."""

    def rest(self) -> None:
        """Put the outputs into their safe state before the gateway stops. Raises DeviceError."""

    def status(self) -> Iterator[tuple[int, str]]:
        """Each pin and its present state. Any thread."""
        raise NotImplementedError


class Line(Generic[Level]):
    """One or several inputs that are read together, and their queued edges: (time, number, level)."""

    def __init__(
        self, common: Common, numbers: Sequence[int], pull: Pull, read: Callable[[], Level], edge: Edge = "both"
    ) -> None:
        self.read = read
        #: True if there is no edge detection.
        self.polled = False
        self.overflow = 0
        self._common = common
        self._numbers = numbers
        self._pull = pull
        self._edge = edge
        self._edges: deque[tuple[float, int, Level]] = deque()

    def open(self) -> Level:
        """Set up the pins; return the level."""
        pins = self._common.pins
        self._edges.clear()
        for number in self._numbers:
            pins.input(number, self._pull)
        watched = [
            pins.watch(number, self._make_callback(index), self._edge) for index, number in enumerate(self._numbers)
        ]
        self.polled = not all(watched)
        return self.read()

    def _make_callback(self, index: int) -> Callable[[], None]:
        """Make the callback of one pin, which runs on the library's thread."""
        edges, read, clock, wake = self._edges, self.read, self._common.clock, self._common.wake

        def note() -> None:
            now = clock()
            if len(edges) >= MAX_EDGES:
                self.overflow += 1
                return
            try:
                edges.append((now, index, read()))
            except DeviceError:
                pass  # the polling thread will see the error and handle it
            wake()

        return note

    def is_waiting(self) -> bool:
        """Whether there are edges to take."""
        return bool(self._edges)

    def take(self) -> list[tuple[float, int, Level]]:
        """Return the edges since the last call."""
        edges = self._edges
        return [edges.popleft() for _ in range(len(edges))]

    def overflowed(self) -> bool:
        """Whether the queue has been full since the last call; counts the lost edges."""
        lost, self.overflow = self.overflow, 0
        if lost:
            self._common.count("lost edges", lost)
        return lost > 0


class Debounced(Function, Generic[Level]):
    """Contacts that are read together and debounced."""

    def __init__(self, common: Common, numbers: Sequence[int], pull: Pull, read: Callable[[], Level], period: float):
        super().__init__(common)
        self.line: Line[Level] = Line(common, numbers, pull, read)
        self._period = period
        self._debouncer: protocol.Debouncer[Level] | None = None

    def open(self, now: float) -> None:
        level = self.line.open()
        self._debouncer = protocol.Debouncer(self._period, level)
        self.begin(now, level)
        self.due = now

    def is_waiting(self) -> bool:
        return self.line.is_waiting()

    def poll(self, now: float) -> None:
        debouncer = self._debouncer
        assert debouncer is not None
        for when, _, level in self.line.take():
            self._tick(debouncer, when)
            debouncer.feed(when, level)
        self.line.overflowed()
        self._tick(debouncer, now)
        debouncer.feed(now, self.line.read())
        self._tick(debouncer, now)
        self.passed(now)
        self.due = min(now + (POLLING_TICK_S if self.line.polled else LOOK_S), debouncer.due or NEVER)

    def _tick(self, debouncer: protocol.Debouncer[Level], now: float) -> None:
        due = debouncer.due
        if debouncer.tick(now) and due is not None:
            self.changed(due, debouncer.level)

    def begin(self, now: float, level: Level) -> None:
        """The first level, just read."""
        raise NotImplementedError

    def changed(self, now: float, level: Level) -> None:
        """A new level has been accepted."""
        raise NotImplementedError

    def passed(self, now: float) -> None:
        """Let time pass."""


class ButtonFunction(Debounced[bool]):
    def __init__(self, common: Common, option: Button) -> None:
        closed = option.active == "high"
        read = lambda: self.pins.read(option.pin) is closed  # noqa: E731
        super().__init__(common, [option.pin], option.resistor, read, option.debounce)
        self._option = option
        self._item = common.db.item(option.key)
        self._long_item = common.db.item(option.long_key) if option.long_key else None
        self._button = self._released()

    def _released(self) -> protocol.Button:
        option = self._option
        long_after = option.long_after if self._long_item is not None else None
        return protocol.Button(long_after, option.repeat, option.repeat_after)

    def begin(self, now: float, level: bool) -> None:
        """A button that is held when the gateway starts counts as pressed, but toggles nothing."""
        self._button = self._released()
        if self._option.mode == "momentary":
            self.common.write(self._item, False)
        if self._long_item is not None:
            self.common.write(self._long_item, False)
        elif level and self._option.mode == "momentary":
            self._do(self._button.change(now, level))

    def changed(self, now: float, level: bool) -> None:
        self.common.count("presses", int(level))
        self._do(self._button.change(now, level))

    def passed(self, now: float) -> None:
        self._do(self._button.tick(now))
        if self._option.mode == "momentary":
            self.common.refresh(self._item)

    def poll(self, now: float) -> None:
        super().poll(now)
        self.due = min(self.due, self._button.due or NEVER)

    def _do(self, actions: Iterator[protocol.Action]) -> None:
        for action in actions:
            match action:
                case protocol.Action.PRESS if self._option.mode == "toggle":
                    self.common.write(self._item, not self._item.said.value)
                case protocol.Action.PRESS | protocol.Action.RELEASE if self._option.mode == "momentary":
                    self.common.write(self._item, action is protocol.Action.PRESS)
                case protocol.Action.LONG_PRESS | protocol.Action.LONG_RELEASE if self._long_item is not None:
                    self.common.write(self._long_item, action is protocol.Action.LONG_PRESS)

    def lost(self, reason: str) -> None:
        if self._option.mode == "momentary":  # a toggle keeps its state
            self._item.flag(FAIL, FAIL, self.common.source, reason)
        if self._long_item is not None:
            self._long_item.flag(FAIL, FAIL, self.common.source, reason)

    def status(self) -> Iterator[tuple[int, str]]:
        state = "pressed" if self._button.pressed else "released"
        yield self._option.pin, f"button {self._option.key}: {state}{_polled(self.line)}"


class EncoderFunction(Function):
    def __init__(self, common: Common, option: Encoder) -> None:
        super().__init__(common)
        closed = option.active == "high"
        read = lambda: (self.pins.read(option.a) is closed, self.pins.read(option.b) is closed)  # noqa: E731
        self.line: Line[protocol.Contacts] = Line(common, [option.a, option.b], option.resistor, read)
        self._option = option
        self._item = common.db.item(option.key)
        self._acceleration = protocol.Acceleration(option.acceleration)
        self._begin((False, False))

    def open(self, now: float) -> None:
        self._begin(self.line.open())
        self.due = now

    def is_waiting(self) -> bool:
        return self.line.is_waiting()

    def _begin(self, contacts: protocol.Contacts, home: int | None = None) -> None:
        patience = 0.0 if self.line.polled else MAX_CALLBACK_DELAY_S
        self._knob = protocol.Knob(self._option.steps, contacts, patience, home)

    def poll(self, now: float) -> None:
        edges = self.line.take()
        contacts = self.line.read()
        if self.line.overflowed():
            self._begin(contacts, self._knob.home)
        missed = self._knob.missed
        if turned := self._knob.poll(now, [(contact, read) for _, contact, read in edges], contacts):
            self._turn(edges[-1][0] if edges else now, turned)
        if self._knob.missed > missed:
            self.common.count("missed steps", self._knob.missed - missed)
        self.due = now + (POLLING_TICK_S if self.line.polled or self._knob.waiting else LOOK_S)

    def _turn(self, now: float, detents: int) -> None:
        self.common.count("detents", abs(detents))
        option, item = self._option, self._item
        whole = item.type == "int"
        change = detents * self._acceleration.factor(now, detents) * option.step
        total = protocol.add_within(float(item.said.value), change, item.min, item.max, option.wrap, whole)
        self.common.write(item, round(total) if whole else total)

    def status(self) -> Iterator[tuple[int, str]]:
        for pin, closed in zip((self._option.a, self._option.b), self._knob.contacts, strict=True):
            yield pin, f"knob {self._option.key}: {'closed' if closed else 'open'}{_polled(self.line)}"


class SelectorFunction(Debounced[tuple[bool, ...]]):
    def __init__(self, common: Common, option: Selector) -> None:
        closed = option.active == "high"
        read = lambda: tuple(self.pins.read(pin) is closed for pin in option.pins)  # noqa: E731
        super().__init__(common, option.pins, option.resistor, read, option.debounce)
        self._option = option
        self._item = common.db.item(option.key)
        self._closed: tuple[bool, ...] = ()

    def begin(self, now: float, level: tuple[bool, ...]) -> None:
        self.changed(now, level)

    def changed(self, now: float, level: tuple[bool, ...]) -> None:
        self._closed = level
        try:
            place = protocol.position(level)
        except ValueError as error:
            self.trouble = str(error)
            closed = ", ".join(f"GPIO{pin}" for pin, c in zip(self._option.pins, level, strict=True) if c)
            self.lost(f"{error}: {closed}")
            return
        value = self._option.none if place is None else self._option.positions[place]
        if value is None:
            self.trouble = "no contact is closed"
            self.lost(self.trouble)
            return
        self.trouble = ""
        self.common.write(self._item, value)

    def passed(self, now: float) -> None:
        self.common.refresh(self._item)

    def lost(self, reason: str) -> None:
        self._item.flag(FAIL, FAIL, self.common.source, reason)

    def status(self) -> Iterator[tuple[int, str]]:
        for pin, closed in zip(self._option.pins, self._closed, strict=False):
            yield pin, f"selector {self._option.key}: {'closed' if closed else 'open'}{_polled(self.line)}"


class PulsesFunction(Function):
    """A rate and a total. Edges do not wake the thread; it looks ten times a second."""

    def __init__(self, common: Common, option: Pulses) -> None:
        super().__init__(common)
        self._option = option
        self._item = common.db.item(option.key)
        self._total = common.db.item(option.total_key) if option.total_key else None
        factor = 1.0 if option.per == "second" else RATES[option.per, self._item.units]
        self._per_pulse = factor / option.pulses
        self._passed = TOTALS[option.per, self._total.units] / option.pulses if self._total is not None else 0.0
        self._stamps: deque[float] = deque()
        self._overflow = 0
        self._gap = ""  # why the total is incomplete
        self._flowing = False
        self._kept = common.clock()
        self._rate = protocol.PulseRate(common.clock(), option.window, option.timeout, option.shortest)
        self._watched = False
        self._level = False
        self._unheard = 0  # times that the level changed without an edge
        self._hertz: float | None = None

    def open(self, now: float) -> None:
        option = self._option
        self._stamps.clear()
        self.pins.input(option.pin, option.pull)
        self._watched = self.pins.watch(option.pin, self._note, option.edge)
        self._level = self.pins.read(option.pin)
        self._rate.restart(now)
        self._unheard = 0
        self._restore()
        if self._total is not None and self._total.reading.fail:  # left by a stopped connection
            self._gap = self._gap or "pulses were missed"
        self.due = now

    def _note(self) -> None:
        """On the library's thread."""
        if len(self._stamps) >= MAX_EDGES:
            self._overflow += 1
        else:
            self._stamps.append(self.common.clock())

    def poll(self, now: float) -> None:
        self.due = now + RATE_INTERVAL_S
        level = self.pins.read(self._option.pin)
        stamps = [self._stamps.popleft() for _ in range(len(self._stamps))]
        glitches = self._rate.glitches
        used = sum(self._rate.feed(stamp) for stamp in stamps)
        self.common.count("pulses", used)
        self.common.count("glitches", self._rate.glitches - glitches)
        self._unheard = 0 if stamps else self._unheard + (level != self._level)
        self._level = level
        lost, self._overflow = self._overflow, 0
        if lost:
            self.common.count("lost edges", lost)
            self._gap = "pulses were lost"
            self._rate.restart(now)
        self.trouble = (
            f"GPIO{self._option.pin} has no edge detection, so its pulses cannot be counted"
            if not self._watched or self._unheard >= 3
            else "too many pulses to count"
            if lost
            else ""
        )
        self._hertz = None if self.trouble else self._rate.rate(now)
        flowed, self._flowing = self._flowing, bool(used) or (self._flowing and self._hertz != 0.0)
        self._add(used, now, flowed is not self._flowing)
        if self.trouble:
            self._item.flag(FAIL, FAIL, self.common.source, self.trouble)
        elif self._hertz is not None:
            value = self._hertz * self._per_pulse
            noisy = self._rate.noisy(now)
            reason = "more interference than pulses" if noisy else ""
            self.common.write(self._item, round(value) if self._item.type == "int" else value, BAD * noisy, reason)

    def _restore(self) -> None:
        """Continue from the saved total, unless it has been set in the meantime."""
        total, totals = self._total, self.common.totals
        if total is None or totals is None or total.said.source not in ("", *START):
            return
        if (kept := totals.get(total.key)) is not None:
            self._gap = kept.gap or ("pulses were missed while the gateway was not running" if kept.flowing else "")
            self.common.write(total, kept.value, BAD * bool(self._gap), self._gap)

    def _add(self, pulses: int, now: float, turned: bool) -> None:
        """`turned`: pulses have just started or stopped."""
        total, totals = self._total, self.common.totals
        if total is None:
            return
        reading = total.said
        anew = bool(reading.source) and reading.source != self.common.source
        if anew:
            self._gap = ""  # it has been set: earlier gaps no longer matter
        amount = float(reading.value) + pulses * self._passed
        self.common.write(total, amount, BAD * bool(self._gap), self._gap)
        if totals is not None and (anew or turned or now - self._kept >= SAVE_INTERVAL_S):
            self._kept = now
            totals.keep(total.key, Total(amount, self._gap, self._flowing))

    def lost(self, reason: str) -> None:
        self._hertz = None
        self._item.flag(FAIL, FAIL, self.common.source, reason)
        if self._total is not None and reason:
            if self.common.totals is not None and self._total.said.source == self.common.source:
                kept = Total(float(self._total.said.value), self._gap, self._flowing)
                self.common.totals.keep(self._total.key, kept)
            self._gap = f"pulses were missed: {reason}"
            self._total.flag(FAIL, FAIL, self.common.source, reason)

    def status(self) -> Iterator[tuple[int, str]]:
        rate = "unknown" if self._hertz is None else f"{self._hertz:.1f} Hz"
        yield self._option.pin, f"pulses {self._option.key}: {rate}"


class Following(Function):
    """An output that follows keys."""

    #: The keys that decide the level.
    keys: Sequence[str] = ()

    def __init__(self, common: Common) -> None:
        super().__init__(common)
        self._polled_at = -NEVER

    def follow(self, key: str = "", *what: object) -> None:
        """One of the `keys` has changed. Any thread."""
        due = self._polled_at + FOLLOW_S
        if due < self.due:
            self.due = due
            self.common.wake()

    def poll(self, now: float) -> None:
        self._polled_at = now
        self.due = now + LOOK_S  # before looking at the keys: a later change is seen
        self.set(now)

    def set(self, now: float) -> None:
        """Give the pin the level that the keys decide. Raises DeviceError."""
        raise NotImplementedError


class OutputFunction(Following):
    def __init__(self, common: Common, option: Output) -> None:
        super().__init__(common)
        self._option = option
        self._when = expression.Expression(option.when)
        self._items = {reference.key: common.db.item(reference.key) for reference in self._when.references}
        self.keys = tuple(self._items)
        self._on: bool | None = None

    def open(self, now: float) -> None:
        self.pins.output(self._option.pin, self._level(self._option.safe))
        self.due = now

    def set(self, now: float) -> None:
        wanted = self._when(self._look)
        self._on = None if wanted is None else bool(wanted)
        lit = self._option.safe if self._on is None else self._on
        if self._on and self._option.blink:
            phase = now * self._option.blink * 2
            lit = int(phase) % 2 == 0
            self.due = min(self.due, (int(phase) + 1) / (self._option.blink * 2))
        self.pins.write(self._option.pin, self._level(lit))  # write every time, to notice a lost chip

    def rest(self) -> None:
        self.pins.write(self._option.pin, self._level(self._option.safe))

    def _level(self, on: bool) -> bool:
        return on is (self._option.active == "high")

    def _look(self, reference: expression.Reference) -> Value | None:
        item = self._items[reference.key]
        if reference.attribute and not reference.is_flag:
            source = item.aux_sources.get(reference.attribute, "")
            return item.aux[reference.attribute] if self.common.may_leave(source) else None
        reading = item.reading
        if not self.common.may_leave(reading.source):
            return None
        if reference.is_flag:
            return bool(getattr(reading, reference.attribute))
        return None if reading.flags & (OLD | FAIL) else reading.value

    def status(self) -> Iterator[tuple[int, str]]:
        safe = f"unknown, so in its safe state ({'on' if self._option.safe else 'off'})"
        yield self._option.pin, f"output {self._option.when}: {safe if self._on is None else _on_off(self._on)}"


class DimmerFunction(Following):
    def __init__(self, common: Common, option: Dimmer) -> None:
        super().__init__(common)
        self._option = option
        self._item = common.db.item(option.key)
        self.keys = (option.key,)
        self._duty = -1.0

    def open(self, now: float) -> None:
        self.pins.output(self._option.pin, False)
        self._duty = -1.0
        self._set(self._option.safe / 100.0)
        self.due = now

    def set(self, now: float) -> None:
        self.pins.read(self._option.pin)  # to notice a lost chip
        item, option, reading = self._item, self._option, self._item.reading
        if reading.flags & (OLD | FAIL) or not self.common.may_leave(reading.source):
            self._set(option.safe / 100.0)
        else:
            assert item.min is not None
            assert item.max is not None
            self._set(protocol.duty(float(reading.value), item.min, item.max, option.gamma))

    def rest(self) -> None:
        self.pins.stop_dimming(self._option.pin, self._option.safe >= 50.0)

    def _set(self, duty: float) -> None:
        if duty != self._duty:
            self.pins.dim(self._option.pin, duty, self._option.frequency)
            self._duty = duty

    def status(self) -> Iterator[tuple[int, str]]:
        yield self._option.pin, f"dimmer {self._option.key}: {max(self._duty, 0.0):.0%}"


def all_functions(options: Options, common: Common) -> list[Function]:
    """Build the functions in `options`. Raises `UnknownKey` and `BadExpression`, which `check` would have reported."""
    knobs = [encoder.button for encoder in options.encoders if encoder.button is not None]
    return [
        # first, so that lamps and relays get their level
        *(OutputFunction(common, option) for option in options.outputs),
        *(DimmerFunction(common, option) for option in options.dimmers),
        *(ButtonFunction(common, option) for option in (*options.buttons, *knobs)),
        *(EncoderFunction(common, option) for option in options.encoders),
        *(SelectorFunction(common, option) for option in options.selectors),
        *(PulsesFunction(common, option) for option in options.pulses),
    ]


def _polled(line: Line[Level]) -> str:
    return ", polled" if line.polled else ""


def _on_off(on: bool) -> str:
    return "on" if on else "off"
