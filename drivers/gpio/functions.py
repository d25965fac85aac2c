"""What pins do: each class ties some pins to some keys, and decides on the polling thread.

Edges are noted by the library's thread - when, and at which level - in a bounded queue (`Line`); nothing else happens
there. A level is read once more whenever the queue has been emptied, so that an edge that nobody told of is only late.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from logging import Logger
from typing import Generic, TypeVar

import msgspec

from fixgw.database import BAD, FAIL, INITIAL, OLD, Database, Item, Value
from fixgw.drivers.gpio import protocol
from fixgw.drivers.gpio.options import RATES, TOTALS, Button, Dimmer, Encoder, Options, Output, Pulses, Selector
from fixgw.drivers.links.pins import Edge, Pins, Pull
from fixgw.errors import BadValue, DeviceError
from fixgw.kit import expression
from fixgw.state import Keeper

TICK = 0.05  # seconds from one look at outputs and levels to the next, when no edge comes
POLLED = 0.002  # the same for inputs without edge detection
LATEST = 0.05  # seconds that a callback may come after its edge
RATE_EVERY = 0.1  # seconds from one rate to the next
KEEP_EVERY = 10.0  # seconds from one time that a rising total is saved to the next
MAX_EDGES = 10_000
NEVER = float("inf")

Level = TypeVar("Level")


class Total(msgspec.Struct, frozen=True):
    """A totaliser as it is kept: with `gap`, what it lacks; `flowing`: pulses were still coming."""

    value: float
    gap: str = ""
    flowing: bool = False


class Totals:
    """The totalisers of one connection, kept through restarts."""

    def __init__(self, keeper: Keeper, log: Logger) -> None:
        self.keeper = keeper
        self._known: dict[str, Total] = {}
        try:
            if data := keeper.load():
                self._known = msgspec.json.decode(data, type=dict[str, Total])
        except msgspec.MsgspecError as error:
            log.warning("%s is of no use, starting afresh: %s", keeper.path, error)

    def get(self, key: str) -> Total | None:
        return self._known.get(key)

    def keep(self, key: str, total: Total) -> None:
        if self._known.get(key) != total:
            self._known[key] = total
            self.keeper.keep(msgspec.json.encode(self._known))


class Common:
    """What the functions of one connection share."""

    def __init__(
        self,
        pins: Pins,
        db: Database,
        source: str,
        clock: Callable[[], float],
        count: Callable[[str, int], None],
        wake: Callable[[], None],
        totals: Totals | None = None,
    ) -> None:
        self.pins = pins
        self.db = db
        self.source = source
        self.clock = clock
        self.count = count
        self.wake = wake
        self.totals = totals

    def write(self, item: Item, value: Value | float, flags: int = 0, reason: str = "") -> None:
        try:
            item.write(value, self.source, flags, reason, mask=BAD | FAIL)
        except BadValue:  # the database's definition has another type
            self.count("misfits", 1)

    def refresh(self, item: Item) -> None:
        """A position that lasts is still known: write it again before it ages, where items of its kind do."""
        reading = item.reading
        ours = reading.source == self.source and not reading.fail
        if item.tolerance and ours and reading.age(self.db.clock()) > item.tolerance / 2:
            self.write(item, reading.value)


class Function:
    """Some pins and what they do. All on the polling thread."""

    #: When `poll` is to be called again, monotonic seconds, at the latest.
    due = NEVER
    #: What is wrong with it, for people.
    trouble = ""

    def __init__(self, common: Common) -> None:
        self.common = common
        self.pins = common.pins

    def open(self, now: float) -> None:
        """Set the pins up. Raises DeviceError."""
        raise NotImplementedError

    def poll(self, now: float) -> None:
        """Do what is to be done now. Raises DeviceError when the chip has gone."""
        raise NotImplementedError

    def lost(self, reason: str) -> None:
        """The pins cannot be read any more."""

    def rest(self) -> None:
        """Leave the outputs as they should be when nobody looks after them. Raises DeviceError."""

    def status(self) -> Iterator[tuple[int, str]]:
        """Each pin and what it does now. Any thread."""
        raise NotImplementedError


class Line(Generic[Level]):
    """An input, or some that are read together, and the edges that have come: (time, number, level)."""

    def __init__(
        self, common: Common, numbers: Sequence[int], pull: Pull, read: Callable[[], Level], edge: Edge = "both"
    ) -> None:
        self.read = read
        #: Whether there is no edge detection.
        self.polled = False
        self.overflow = 0
        self._common = common
        self._numbers = numbers
        self._pull = pull
        self._edge = edge
        self._edges: deque[tuple[float, int, Level]] = deque()

    def open(self) -> Level:
        """Set up; returns the level."""
        pins = self._common.pins
        self._edges.clear()
        for number in self._numbers:
            pins.input(number, self._pull)
        watched = [pins.watch(number, self._noted(index), self._edge) for index, number in enumerate(self._numbers)]
        self.polled = not all(watched)
        return self.read()

    def _noted(self, index: int) -> Callable[[], None]:
        """The callback of one pin; on the library's thread."""
        edges, read, clock, wake = self._edges, self.read, self._common.clock, self._common.wake

        def note() -> None:
            now = clock()
            if len(edges) >= MAX_EDGES:
                self.overflow += 1
                return
            try:
                edges.append((now, index, read()))
            except DeviceError:
                pass  # the polling thread sees it too, and deals with it
            wake()

        return note

    def take(self) -> list[tuple[float, int, Level]]:
        """The edges since the last time."""
        edges = self._edges
        return [edges.popleft() for _ in range(len(edges))]

    def overflowed(self) -> bool:
        """Whether edges found the queue full since the last time; counts them."""
        lost, self.overflow = self.overflow, 0
        if lost:
            self._common.count("lost edges", lost)
        return lost > 0


class Debounced(Function, Generic[Level]):
    """Contacts that are looked at together, of which a level counts that lasts."""

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
        self.due = min(now + (POLLED if self.line.polled else TICK), debouncer.due or NEVER)

    def _tick(self, debouncer: protocol.Debouncer[Level], now: float) -> None:
        due = debouncer.due
        if debouncer.tick(now) and due is not None:
            self.changed(due, debouncer.level)

    def begin(self, now: float, level: Level) -> None:
        """The first level, just read."""
        raise NotImplementedError

    def changed(self, now: float, level: Level) -> None:
        """Another level has lasted."""
        raise NotImplementedError

    def passed(self, now: float) -> None:
        """Time has passed."""


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
        """A button that is held when the gateway starts is pressed, but that is no press to toggle anything."""
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
                    self.common.write(self._item, not self._item.reading.value)
                case protocol.Action.PRESS | protocol.Action.RELEASE if self._option.mode == "momentary":
                    self.common.write(self._item, action is protocol.Action.PRESS)
                case protocol.Action.LONG_PRESS | protocol.Action.LONG_RELEASE if self._long_item is not None:
                    self.common.write(self._long_item, action is protocol.Action.LONG_PRESS)

    def lost(self, reason: str) -> None:
        if self._option.mode == "momentary":  # what a toggle was set to stays set
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

    def _begin(self, contacts: protocol.Contacts) -> None:
        self._knob = protocol.Knob(self._option.steps, contacts, 0.0 if self.line.polled else LATEST)

    def poll(self, now: float) -> None:
        edges = self.line.take()
        contacts = self.line.read()
        if self.line.overflowed():
            self._begin(contacts)
        missed = self._knob.missed
        if turned := self._knob.poll(now, [(contact, read) for _, contact, read in edges], contacts):
            self._turn(edges[-1][0] if edges else now, turned)
        if self._knob.missed > missed:
            self.common.count("missed steps", self._knob.missed - missed)
        self.due = now + (POLLED if self.line.polled or self._knob.waiting else TICK)

    def _turn(self, now: float, detents: int) -> None:
        self.common.count("detents", abs(detents))
        option, item = self._option, self._item
        whole = item.type == "int"
        change = detents * self._acceleration.factor(now, detents) * option.step
        total = protocol.add_within(float(item.reading.value), change, item.min, item.max, option.wrap, whole)
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
    """A rate, and what has passed. Its edges wake nobody: it is looked at ten times a second."""

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
        self._gap = ""  # why the total lacks something
        self._flowing = False
        self._kept = common.clock()
        self._rate = protocol.PulseRate(common.clock(), option.window, option.timeout, option.shortest)
        self._watched = False
        self._level = False
        self._unheard = 0  # times that the level had changed without an edge
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
        if self._total is not None and self._total.reading.fail:  # left so by a connection that has been stopped
            self._gap = self._gap or "pulses were missed"
        self.due = now

    def _note(self) -> None:
        """On the library's thread."""
        if len(self._stamps) >= MAX_EDGES:
            self._overflow += 1
        else:
            self._stamps.append(self.common.clock())

    def poll(self, now: float) -> None:
        if now < self.due:
            return
        self.due = now + RATE_EVERY
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
            f"GPIO{self._option.pin} has no edge detection, without which no rate can be told"
            if not self._watched or self._unheard >= 3
            else "more pulses than can be counted"
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
        """The total goes on where it was, unless somebody has set it meanwhile."""
        total, totals = self._total, self.common.totals
        if total is None or totals is None or total.reading.source not in ("", INITIAL):
            return
        if (kept := totals.get(total.key)) is not None:
            self._gap = kept.gap or ("pulses were missed while the gateway did not run" if kept.flowing else "")
            self.common.write(total, kept.value, BAD * bool(self._gap), self._gap)

    def _add(self, pulses: int, now: float, turned: bool) -> None:
        """`turned`: pulses have begun to come, or ended."""
        total, totals = self._total, self.common.totals
        if total is None:
            return
        reading = total.reading
        anew = bool(reading.source) and reading.source != self.common.source
        if anew:
            self._gap = ""  # somebody has set it: what was missing before is of no account
        amount = float(reading.value) + pulses * self._passed
        self.common.write(total, amount, BAD * bool(self._gap), self._gap)
        if totals is not None and (anew or turned or now - self._kept >= KEEP_EVERY):
            self._kept = now
            totals.keep(total.key, Total(amount, self._gap, self._flowing))

    def lost(self, reason: str) -> None:
        self._hertz = None
        self._item.flag(FAIL, FAIL, self.common.source, reason)
        if self._total is not None and reason:
            if self.common.totals is not None and self._total.reading.source == self.common.source:
                kept = Total(float(self._total.reading.value), self._gap, self._flowing)
                self.common.totals.keep(self._total.key, kept)
            self._gap = f"pulses were missed: {reason}"
            self._total.flag(FAIL, FAIL, self.common.source, reason)

    def status(self) -> Iterator[tuple[int, str]]:
        rate = "unknown" if self._hertz is None else f"{self._hertz:.1f} Hz"
        yield self._option.pin, f"pulses {self._option.key}: {rate}"


class OutputFunction(Function):
    def __init__(self, common: Common, option: Output) -> None:
        super().__init__(common)
        self._option = option
        self._when = expression.Expression(option.when)
        self._items = {reference.key: common.db.item(reference.key) for reference in self._when.references}
        self._on: bool | None = None

    def open(self, now: float) -> None:
        self.pins.output(self._option.pin, self._level(self._option.safe))
        self.due = now

    def poll(self, now: float) -> None:
        if now < self.due:
            return
        self.due = now + TICK
        wanted = self._when(self._look)
        self._on = None if wanted is None else bool(wanted)
        lit = self._option.safe if self._on is None else self._on
        if self._on and self._option.blink:
            lit = int(now * self._option.blink * 2) % 2 == 0
        self.pins.write(self._option.pin, self._level(lit))  # every time: that is how a lost chip is noticed

    def rest(self) -> None:
        self.pins.write(self._option.pin, self._level(self._option.safe))

    def _level(self, on: bool) -> bool:
        return on is (self._option.active == "high")

    def _look(self, reference: expression.Reference) -> Value | None:
        item = self._items[reference.key]
        if reference.is_flag:
            return bool(getattr(item.reading, reference.attribute))
        if reference.attribute:
            return item.aux[reference.attribute]
        return None if item.reading.flags & (OLD | FAIL) else item.reading.value

    def status(self) -> Iterator[tuple[int, str]]:
        safe = f"safe state ({'on' if self._option.safe else 'off'}): not known"
        yield self._option.pin, f"output {self._option.when}: {safe if self._on is None else _on_off(self._on)}"


class DimmerFunction(Function):
    def __init__(self, common: Common, option: Dimmer) -> None:
        super().__init__(common)
        self._option = option
        self._item = common.db.item(option.key)
        self._duty = -1.0

    def open(self, now: float) -> None:
        self.pins.output(self._option.pin, False)
        self._duty = -1.0
        self._set(self._option.safe / 100.0)
        self.due = now

    def poll(self, now: float) -> None:
        if now < self.due:
            return
        self.due = now + TICK
        self.pins.read(self._option.pin)  # notices a lost chip
        item, option = self._item, self._option
        if item.reading.flags & (OLD | FAIL):
            self._set(option.safe / 100.0)
        else:
            assert item.min is not None
            assert item.max is not None
            self._set(protocol.duty(float(item.reading.value), item.min, item.max, option.gamma))

    def rest(self) -> None:
        self.pins.still(self._option.pin, self._option.safe >= 50.0)

    def _set(self, duty: float) -> None:
        if duty != self._duty:
            self.pins.dim(self._option.pin, duty, self._option.frequency)
            self._duty = duty

    def status(self) -> Iterator[tuple[int, str]]:
        yield self._option.pin, f"dimmer {self._option.key}: {max(self._duty, 0.0):.0%}"


def all_functions(options: Options, common: Common) -> list[Function]:
    """The functions that `options` ask for. Raises `UnknownKey`, `BadExpression`: what the check would have said."""
    knobs = [encoder.button for encoder in options.encoders if encoder.button is not None]
    return [
        *(OutputFunction(common, option) for option in options.outputs),  # first: lamps and relays get their level
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
