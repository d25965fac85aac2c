"""A virtual bank of pins with the interface of RPi.GPIO: a module for programs, and a bank for people and tests.

The module's functions act on one bank, `BANK` (in a rig, on that of the rig), as those of the real library act on the
one chip: a program that is told to import ``fixgw.hw_sim.gpio`` instead of ``RPi.GPIO`` finds every function, constant
and kind of error there. The other side of the pins (buttons, knobs, sensors, lamps) is the `Bank`: `Bank.drive`,
`Bank.press`, `Bank.turn`,
`Bank.pulses`, `Bank.level`, `Bank.unplug` ..., for any thread of the same process.

Callbacks for all pins run on one separate thread, in the order of the edges, as with the real libraries. Not
modelled: currents and voltages (a pin is high or low), the pulses of a PWM output (only its duty cycle can be read),
and other functions of the pins than input and output. A pin that nothing drives or pulls keeps its last level.

Source: documentation of RPi.GPIO 0.7 and rpi-lgpio 0.6 (constants, kinds of errors, one thread, what cleanup releases).
"""

from __future__ import annotations

import queue
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any, NamedTuple

from fixgw.hw_sim.own import own

VERSION = "0.7.2"
RPI_INFO = {
    "P1_REVISION": 3,
    "REVISION": "d04170",
    "TYPE": "Virtual bank of pins",
    "MANUFACTURER": "fixgw",
    "PROCESSOR": "none",
    "RAM": "none",
}
RPI_REVISION = 3

UNKNOWN, BOARD, BCM = -1, 10, 11
OUT, IN = 0, 1
LOW, HIGH = 0, 1
PUD_OFF, PUD_DOWN, PUD_UP = 20, 21, 22
RISING, FALLING, BOTH = 31, 32, 33
SERIAL, SPI, I2C, HARD_PWM = 40, 41, 42, 43

PINS = 28
#: Position on the 40-pin header -> BCM number; the other positions are supply and ground.
HEADER = dict(
    zip(
        [3, 5, 7, 8, 10, 11, 12, 13, 15, 16, 18, 19, 21, 22, 23, 24, 26, 27, 28, 29, 31, 32, 33, 35, 36, 37, 38, 40],
        [2, 3, 4, 14, 15, 17, 18, 27, 22, 23, 24, 10, 9, 25, 11, 8, 7, 0, 1, 5, 6, 12, 13, 19, 16, 26, 20, 21],
        strict=True,
    )
)
MAX_WAITING = 10_000  # edges waiting for callbacks; the kernel's buffer is limited too
MAX_HISTORY = 10_000

Callback = Callable[[int], object]


class PinState(NamedTuple):
    """The state of a pin.

    `pull` is `PUD_UP`, `PUD_DOWN` or `PUD_OFF`; `driven` is None while nothing drives the pin; `duty` is in percent, or
    None while there are no pulses.
    """

    direction: int | None
    level: bool
    pull: int
    driven: bool | None
    watched: bool
    duty: float | None


class _Pin:
    """One pin: its set-up by the program, and what is connected to it."""

    def __init__(self) -> None:
        self.direction: int | None = None
        self.pull = PUD_OFF
        self.driven: bool | None = None
        self.level = False
        self.edge: int | None = None
        self.callbacks: list[Callback] = []
        self.bounce = 0.0  # seconds
        self.last_event = float("-inf")
        self.missed_first = False
        self.detected = False
        self.pwm: PWM | None = None
        self.occupied = False

    def forget(self) -> None:
        """Forget the program's set-up; the wiring stays."""
        self.direction, self.pull, self.edge, self.pwm = None, PUD_OFF, None, None
        self.callbacks, self.detected, self.occupied = [], False, False


class Bank:
    """A chip with 28 pins. Any thread; callbacks run on the bank's own thread, or `at_once`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, at_once: bool = False) -> None:
        self.clock = clock
        self._at_once = at_once
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._waiting: queue.Queue[tuple[Callback, int] | None] | None = None
        self._delivering = 0
        self.reset()

    def reset(self) -> None:
        """Start afresh: nothing connected, nothing set up."""
        self._end_thread()
        with self._lock:
            #: Every change of an output, latest last: (time, pin, level).
            self.history: deque[tuple[float, int, bool]] = deque(maxlen=MAX_HISTORY)
            #: Whether edge detection works; RPi.GPIO has none on current kernels.
            self.edge_detection = True
            #: Whether the first edge after setting up the detection is lost, as may happen with rpi-lgpio.
            self.misses_first_edge = False
            #: Edges lost because too many others were waiting for callbacks.
            self.lost_edges = 0
            #: The exceptions of callbacks, latest last.
            self.callback_errors: deque[str] = deque(maxlen=100)
            self._pins = [_Pin() for _ in range(PINS)]
            self._mode = UNKNOWN
            self._warn = True
            self._gone = False
            self._stale = False  # the program holds a chip that is gone; `cleanup` releases it

    # -- for hands and tests -------------------------------------------------------------------------------------------

    def drive(self, pin: int, high: bool) -> None:
        """Connect `pin` to 3.3 V or ground."""
        self._connect(pin, bool(high))

    def release(self, pin: int, bounce: int = 0) -> None:
        """Disconnect `pin`: its pull resistor holds it, or it keeps its level. `bounce` as in `press`."""
        pressed = self._pins[pin].driven
        if pressed is not None:
            for _ in range(bounce):
                self._connect(pin, None)
                self._connect(pin, pressed)
        self._connect(pin, None)

    def press(self, pin: int, bounce: int = 0) -> None:
        """Connect `pin` to the side opposite its pull resistor; the contact opens again `bounce` times first."""
        closed = self._pins[pin].pull == PUD_DOWN
        for _ in range(bounce):
            self._connect(pin, closed)
            self._connect(pin, None)
        self._connect(pin, closed)

    def turn(self, a: int, b: int, detents: int, rate: float | None = None, bounce: int = 0) -> None:
        """Turn a knob by `detents` of four steps, clockwise if positive; return when it has been turned.

        `rate` is in detents per second; with None, each step waits for the previous edge's callback. Both contacts are
        open in a detent, and `a` closes first clockwise; each contact opens and closes `bounce` times more.
        """
        first, second = (a, b) if detents > 0 else (b, a)
        begin = self.clock()
        moves = [(first, True), (second, True), (first, False), (second, False)] * abs(detents)
        for step, (pin, close) in enumerate(moves, 1):
            (self.press if close else self.release)(pin, bounce)
            if rate is None:
                self.flush()
            else:
                time.sleep(max(0.0, begin + step / (4 * rate) - self.clock()))

    def pulses(self, pin: int, hz: float, count: int | None = None) -> Pulses:
        """Start low pulses on `pin`, `hz` a second, on a separate thread, until `count` is reached or they are
        stopped."""
        return Pulses(self, pin, hz, count)

    def level(self, pin: int) -> bool:
        """Whether `pin` is high."""
        return self._pins[pin].level

    def direction(self, pin: int) -> int | None:
        """`IN` or `OUT`; None if the pin is not set up."""
        return self._pins[pin].direction

    def duty(self, pin: int) -> float | None:
        """Duty cycle of a PWM output in percent; None while there are no pulses."""
        pwm = self._pins[pin].pwm
        return pwm.duty if pwm is not None else None

    def watched(self, pin: int) -> bool:
        """Whether the program is notified of edges on `pin`."""
        return self._pins[pin].edge is not None

    def state(self, pin: int) -> PinState:
        """Everything about `pin` at one moment."""
        with self._lock:
            p = self._pins[pin]
            return PinState(p.direction, p.level, p.pull, p.driven, p.edge is not None, self.duty(pin))

    @property
    def plugged(self) -> bool:
        """Whether the chip is present."""
        return not self._gone

    def occupy(self, pin: int) -> None:
        """Let another program make `pin` an output."""
        self._pins[pin].occupied = True

    def unplug(self) -> None:
        """Remove the chip: every call raises from now on, and pins keep their last levels."""
        with self._lock:
            self._gone = self._stale = True

    def plug(self) -> None:
        """Put the chip back with nothing set up. To use it, the program must first release the old one (`cleanup`), but
        not if callbacks run at once: programs share a bank of this process, but not that of a rig."""
        with self._lock:
            self._gone = False
            self._stale = self._stale and not self._at_once
            for pin in range(PINS):
                self._pins[pin].forget()
                self._settle(pin)

    def flush(self, timeout: float = 10.0) -> None:
        """Wait until every edge so far has been reported. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._delivering, timeout):
                raise TimeoutError("a callback has not returned")

    def _connect(self, pin: int, level: bool | None) -> None:
        with self._lock:
            self._pins[pin].driven = level
            self._settle(pin)

    def _settle(self, number: int) -> None:
        """Determine the level of a pin, and notify those who watch it."""
        pin = self._pins[number]
        if pin.direction == OUT:
            return
        level = pin.level
        if pin.driven is not None:
            level = pin.driven
        elif pin.pull != PUD_OFF:
            level = pin.pull == PUD_UP
        if level == pin.level:
            return
        pin.level = level
        if pin.edge is None or self._gone or pin.edge not in (BOTH, RISING if level else FALLING):
            return
        if self.misses_first_edge and not pin.missed_first:
            pin.missed_first = True
            return
        now = self.clock()
        if now - pin.last_event < pin.bounce:
            return
        pin.last_event = now
        pin.detected = True
        if not self._at_once:  # otherwise there is nobody who could wait
            self._changed.notify_all()
        for callback in pin.callbacks:
            self._tell(callback, number)

    # -- the callbacks' thread -----------------------------------------------------------------------------------------

    def _tell(self, callback: Callback, pin: int) -> None:
        if self._at_once:
            self._call(callback, self._channel(pin))
            return
        if self._waiting is None:
            self._waiting = queue.Queue(MAX_WAITING)
            threading.Thread(target=self._deliver, args=(self._waiting,), name="virtual pins", daemon=True).start()
        try:
            self._waiting.put_nowait((callback, self._channel(pin)))
            self._delivering += 1
        except queue.Full:
            self.lost_edges += 1

    def _deliver(self, waiting: queue.Queue[tuple[Callback, int] | None]) -> None:
        while (told := waiting.get()) is not None:
            self._call(*told)
            with self._changed:
                self._delivering -= 1
                self._changed.notify_all()

    def _call(self, callback: Callback, channel: int) -> None:
        try:
            callback(channel)
        except Exception as error:  # the real libraries print it and continue
            self.callback_errors.append(f"channel {channel}: {error!r}")

    def _end_thread(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.put(None)

    # -- for programs: RPi.GPIO ----------------------------------------------------------------------------------------

    def setmode(self, mode: int) -> None:
        if mode not in (BCM, BOARD):
            raise ValueError("the mode must be BCM or BOARD")
        with self._lock:
            if self._gone and not self._stale:
                raise RuntimeError("there is no chip")
            if self._mode not in (UNKNOWN, mode):
                raise ValueError("the other mode has already been set")
            self._mode = mode

    def getmode(self) -> int | None:
        return None if self._mode == UNKNOWN else self._mode

    def setwarnings(self, wanted: bool) -> None:
        self._warn = bool(wanted)

    def setup(
        self,
        channel: int | Sequence[int],
        direction: int,
        pull_up_down: int = PUD_OFF,
        initial: int | None = None,
    ) -> None:
        if direction not in (IN, OUT):
            raise ValueError("the direction must be IN or OUT")
        if direction == OUT and pull_up_down != PUD_OFF:
            raise ValueError("outputs have no pull resistor")
        if direction == IN and initial is not None:
            raise ValueError("inputs have no initial level")
        if pull_up_down not in (PUD_OFF, PUD_UP, PUD_DOWN):
            raise ValueError("the resistor must be PUD_UP, PUD_DOWN or PUD_OFF")
        with self._lock:
            for number in self._numbers(channel):
                self._look()
                pin = self._pins[number]
                if pin.occupied and self._warn:
                    warnings.warn(f"channel {number} is in use already; going on", RuntimeWarning, stacklevel=3)
                pin.direction, pin.pull = direction, pull_up_down
                if direction == IN:
                    self._settle(number)
                elif initial is not None:
                    self._put(number, bool(initial))

    def input(self, channel: int) -> int:
        with self._lock:
            self._look()
            pin = self._pins[self._number(channel)]
            if pin.direction is None:
                raise RuntimeError("set the channel up first")
            return int(pin.level)

    def output(self, channel: int | Sequence[int], value: int | Sequence[int]) -> None:
        with self._lock:
            numbers = self._numbers(channel)
            values = [value] * len(numbers) if isinstance(value, int) else list(value)
            if len(values) != len(numbers):
                raise RuntimeError("the numbers of values and channels differ")
            self._look()
            for number, level in zip(numbers, values, strict=True):
                if self._pins[number].direction != OUT:
                    raise RuntimeError("the channel is not an OUTPUT")
                self._put(number, bool(level))

    def add_event_detect(
        self, channel: int, edge: int, callback: Callback | None = None, bouncetime: int | None = None
    ) -> None:
        pin = self._watch(channel, edge, bouncetime)
        if callback is not None:
            self._hear(pin, callback)

    def add_event_callback(self, channel: int, callback: Callback) -> None:
        with self._lock:
            pin = self._pins[self._number(channel)]
            if pin.edge is None:
                raise RuntimeError("call add_event_detect before add_event_callback")
            self._hear(pin, callback)

    def event_detected(self, channel: int) -> bool:
        with self._lock:
            pin = self._pins[self._number(channel)]
            detected, pin.detected = pin.detected, False
            return detected

    def remove_event_detect(self, channel: int) -> None:
        with self._lock:
            pin = self._pins[self._number(channel)]
            pin.edge, pin.callbacks, pin.detected = None, [], False
            none_left = all(p.edge is None for p in self._pins)
        if none_left:
            self._end_thread()

    def wait_for_edge(
        self, channel: int, edge: int, bouncetime: int | None = None, timeout: int | None = None
    ) -> int | None:
        """`timeout` is in milliseconds; returns the channel, or None if there was no edge."""
        if timeout is not None and timeout <= 0:
            raise ValueError("the timeout must be greater than 0")
        pin = self._watch(channel, edge, bouncetime)
        try:
            with self._changed:
                came = self._changed.wait_for(lambda: pin.detected, None if timeout is None else timeout / 1000.0)
            return channel if came else None
        finally:
            self.remove_event_detect(channel)

    def gpio_function(self, channel: int) -> int:
        with self._lock:
            self._look()
            pin = self._pins[self._number(channel)]
            return OUT if pin.direction == OUT or pin.occupied else IN

    def cleanup(self, channel: int | Sequence[int] | None = None) -> None:
        with self._lock:
            if channel is None:
                numbers: Iterable[int] = range(PINS)
                if self._warn and not self._stale and all(pin.direction is None for pin in self._pins):
                    warnings.warn("no channel has been set up: nothing to clean up", RuntimeWarning, stacklevel=3)
                self._mode, self._stale = UNKNOWN, False
            else:
                numbers = self._numbers(channel)
            for number in numbers:
                self._pins[number].forget()
                self._settle(number)
            none_left = all(p.edge is None for p in self._pins)
        if none_left:
            self._end_thread()

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        if self._gone or self._stale:
            raise RuntimeError("the chip does not answer")

    def _number(self, channel: int) -> int:
        if self._mode == UNKNOWN:
            raise RuntimeError("set a numbering mode first: setmode(BCM) or setmode(BOARD)")
        if isinstance(channel, int):
            if self._mode == BCM and 0 <= channel < PINS:
                return channel
            if self._mode == BOARD and channel in HEADER:
                return HEADER[channel]
        raise ValueError(f"there is no channel {channel!r}")

    def _numbers(self, channel: int | Sequence[int]) -> list[int]:
        return [self._number(c) for c in ([channel] if isinstance(channel, int) else channel)]

    def _channel(self, number: int) -> int:
        return number if self._mode == BCM else next(c for c, n in HEADER.items() if n == number)

    def _put(self, number: int, high: bool) -> None:
        if self._pins[number].level != high:
            self._pins[number].level = high
            self.history.append((self.clock(), number, high))

    def _watch(self, channel: int, edge: int, bouncetime: int | None) -> _Pin:
        if edge not in (RISING, FALLING, BOTH):
            raise ValueError("the edge must be RISING, FALLING or BOTH")
        if bouncetime is not None and bouncetime <= 0:
            raise ValueError("bouncetime must be greater than 0")
        with self._lock:
            self._look()
            pin = self._pins[self._number(channel)]
            if pin.direction != IN:
                raise RuntimeError("set the channel up as an input first")
            if pin.edge is not None:
                raise RuntimeError("edge detection is already enabled for this channel")
            if not self.edge_detection:
                raise RuntimeError("failed to add edge detection")
            pin.edge, pin.bounce = edge, (bouncetime or 0) / 1000.0
            pin.detected, pin.missed_first, pin.last_event = False, False, float("-inf")
            return pin

    def _hear(self, pin: _Pin, callback: Callback) -> None:
        if not callable(callback):
            raise TypeError("the callback is not callable")
        with self._lock:
            pin.callbacks.append(callback)


class Pulses:
    """Pulses on one pin; use it as a context manager, or call `stop`. `sent` counts them."""

    def __init__(self, bank: Bank, pin: int, hz: float, count: int | None) -> None:
        self.sent = 0
        self.hz = hz
        self._bank, self._pin, self._count = bank, pin, count
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"pulses on GPIO{pin}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        due = self._bank.clock()
        while not self._stopping.is_set() and self.sent != self._count:
            self._bank.drive(self._pin, False)
            self._bank.drive(self._pin, True)
            self.sent += 1
            due += 1.0 / self.hz
            self._stopping.wait(max(0.0, due - self._bank.clock()))

    def wait(self, timeout: float = 30.0) -> None:
        """Wait until the last one has been sent. Raises TimeoutError."""
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise TimeoutError(f"only {self.sent} pulses were sent")

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def __enter__(self) -> Pulses:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


class PWM:
    """Pulses on an output of the bank; `duty` is in percent, None before `start` and after `stop`."""

    def __init__(self, channel: int, frequency: float) -> None:
        self._bank = bank()
        self._pin = self._bank._pins[self._bank._number(channel)]
        self._bank._look()
        if self._pin.direction != OUT:
            raise RuntimeError("set the channel up as an output first")
        if self._pin.pwm is not None:
            raise RuntimeError("there is already a PWM on this channel")
        self.duty: float | None = None
        self.ChangeFrequency(frequency)
        self._pin.pwm = self

    def start(self, dutycycle: float) -> None:
        self._bank._look()
        self.duty = self._check_duty(dutycycle)

    def ChangeDutyCycle(self, dutycycle: float) -> None:
        self._bank._look()
        self.duty = self._check_duty(dutycycle)

    def ChangeFrequency(self, frequency: float) -> None:
        if frequency <= 0.0:
            raise ValueError("the frequency must be greater than 0")
        self.frequency = frequency

    def stop(self) -> None:
        self.duty = None
        if self._pin.pwm is self:
            self._pin.pwm = None

    @staticmethod
    def _check_duty(dutycycle: float) -> float:
        if not 0.0 <= dutycycle <= 100.0:
            raise ValueError("the duty cycle must be from 0.0 to 100.0")
        return dutycycle


#: The bank of this process.
BANK = Bank()


def bank() -> Bank:
    """The bank that the module's functions act on: that of this process or of a rig."""
    return own("bank", lambda: BANK)


def _of_the_bank(name: str) -> Any:
    @wraps(getattr(Bank, name))
    def call(*args: Any, **more: Any) -> Any:
        return getattr(bank(), name)(*args, **more)

    return call


setmode = _of_the_bank("setmode")
getmode = _of_the_bank("getmode")
setwarnings = _of_the_bank("setwarnings")
setup = _of_the_bank("setup")
input = _of_the_bank("input")
output = _of_the_bank("output")
add_event_detect = _of_the_bank("add_event_detect")
add_event_callback = _of_the_bank("add_event_callback")
event_detected = _of_the_bank("event_detected")
remove_event_detect = _of_the_bank("remove_event_detect")
wait_for_edge = _of_the_bank("wait_for_edge")
gpio_function = _of_the_bank("gpio_function")
cleanup = _of_the_bank("cleanup")
