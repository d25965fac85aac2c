"""`Pins`, the pins of a computer through the RPi.GPIO interface, and the common parts of the drivers that use them.

Several libraries offer that interface: rpi-lgpio (all Raspberry Pis with a current kernel, and the only one for the
Pi 5) and RPi.GPIO (older ones) under the same name, others for other boards, and `fixgw.hw_sim.gpio`, a virtual bank of
pins. The configuration names the one to import. Pins have their BCM numbers: 17 is GPIO17, wherever it is on the
header.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any, Literal

from msgspec import Meta

from fixgw.clock import now
from fixgw.drivers.links.recorded import RecordedPins
from fixgw.errors import DeviceError, MissingLibrary
from fixgw.extras import install_hint
from fixgw.kit import raw
from fixgw.plugin import Device, Finding, Options

#: BCM numbers; the 40-pin header has 2 to 27.
Pin = Annotated[int, Meta(ge=0, le=53, description="Pin, by its BCM number: 17 is GPIO17")]
Pull = Literal["up", "down", "none"]
Edge = Literal["both", "rising", "falling"]

REAL = "RPi.GPIO"


class PinOptions(Options, frozen=True, kw_only=True):
    """The options of every driver that uses pins."""

    library: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$",
            description="Module with the RPi.GPIO interface; `fixgw.hw_sim.gpio` is a virtual bank of pins",
        ),
    ] = REAL


def resource(pin: int) -> str:
    """The name of a pin in `PluginBase.claims`."""
    return f"GPIO{pin}"


def preflight(library: str) -> Iterable[Device | Finding]:
    """Report what a driver that uses pins needs, for `PluginBase.preflight`."""
    try:
        found = importlib.util.find_spec(library) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        yield Finding("problem", f"no module {library}", MissingLibrary(library, "rpi" if library == REAL else "").fix)
    if library == REAL:
        yield Device("/dev/gpiochip0", "gpio")


class Pins:
    """The pins of one connection. One thread opens and closes them; the library's threads may call `read` too.

    Several connections may share a library: each touches only its own pins, and the last to give up a chip that is gone
    closes it for all. Every method raises `DeviceError` if the library fails.
    """

    _lock = threading.Lock()
    _users: Counter[str] = Counter()

    def __init__(self, library: str = REAL) -> None:
        self.library = library
        self._module: Any = None
        self._raw = raw.Point()
        self._feed: raw.Feed | None = None
        self._name = ""
        self._clock: Callable[[], float] = now
        self._levels: dict[int, bool] = {}  # as read last
        self._polled: list[int] = []
        self._inputs: set[int] = set()
        self._outputs: set[int] = set()
        self._watched: set[int] = set()
        self._dimmed: dict[int, Any] = {}

    def tie(self, point: raw.Point, connection: str, clock: Callable[[], float]) -> None:
        """Let recorders hear of levels and edges, under the name of the connection. Call this before `open`."""
        self._raw, self._name, self._clock = point, connection, clock
        self._feed = point.feed(connection)

    def set_up(self) -> None:
        """Tell recorders that the pins are in use now."""
        self._raw.opened("pins", self._name, self.facts)

    def lost(self, reason: str) -> None:
        """Tell recorders that they are not."""
        self._raw.lost("pins", self._name, self._clock(), reason)

    def levels(self) -> list[raw.Heard]:
        """The levels of the pins that have been read."""
        stamp = self._clock()
        return [raw.Heard(self._name, stamp, "in", raw.PinLevel(*level)) for level in self._levels.copy().items()]

    def facts(self) -> list[raw.Heard]:
        """What a recorder that joins later must know: the levels, and which pins have no edge detection."""
        opened = raw.Event("pins", "opened", ",".join(map(str, self._polled)))
        return [*self.levels(), raw.Heard(self._name, self._clock(), "in", opened)]

    def require(self) -> None:
        """Raise `MissingLibrary` if the library is not installed. Does not import it."""
        if self._feed is not None:
            return
        with suppress(ImportError, ValueError):
            if importlib.util.find_spec(self.library) is not None:
                return
        raise MissingLibrary(self.library, "rpi" if self.library == REAL else "")

    def open(self) -> None:
        """Open the chip. Raises `DeviceError`, and `MissingLibrary` if the library is not installed."""
        self._levels, self._polled = {}, []
        if self._feed is not None:
            self._module = RecordedPins(self._feed)
            return
        self.require()
        if self.library == REAL:
            # On import lgpio creates a pipe in its working directory, which by default may not be writable.
            runtime = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
            os.environ.setdefault("LG_WD", runtime or tempfile.gettempdir())
        hint = f" (current Raspberry Pis need rpi-lgpio: {install_hint(REAL, 'rpi')})" if self.library == REAL else ""
        with self._lock, self._device_errors(f"cannot use {self.library}{hint}"):
            module = importlib.import_module(self.library)  # off a Raspberry Pi this raises RuntimeError
            module.setwarnings(False)  # about pins that an earlier process left configured
            module.setmode(module.BCM)
            self._users[self.library] += 1
            self._module = module

    def input(self, pin: int, pull: Pull = "none") -> None:
        """Make `pin` an input. The internal resistor (about 50 kilohm) pulls it to 3.3 V, to ground, or is off."""
        module = self._module
        with self._device_errors(f"GPIO{pin}"):
            pulls = {"up": module.PUD_UP, "down": module.PUD_DOWN, "none": module.PUD_OFF}
            module.setup(pin, module.IN, pull_up_down=pulls[pull])
            self._inputs.add(pin)

    def watch(self, pin: int, callback: Callable[[], object], edge: Edge = "both") -> bool:
        """Call `callback` at every edge of an input, on the library's thread. Returns False without edge detection.

        An edge before or just after this call may be missed, so `read` the level afterwards. The callback must be
        quick.
        """
        module = self._module
        edges = {"both": module.BOTH, "rising": module.RISING, "falling": module.FALLING}
        try:
            module.add_event_detect(pin, edges[edge], callback=lambda channel: self._note_edge(pin, callback))
        except RuntimeError:  # RPi.GPIO on kernels where sysfs numbers its chip from 512
            self.read(pin)  # raises if the real reason is that the chip is gone
            self._polled.append(pin)
            return False
        except Exception as error:
            raise DeviceError(f"GPIO{pin}: {error}") from error
        self._watched.add(pin)
        return True

    def read(self, pin: int) -> bool:
        """Whether `pin` is high. For an output, the level it was set to."""
        try:
            high = bool(self._module.input(pin))
        except Exception as error:
            raise DeviceError(f"GPIO{pin}: {error}") from error
        if self._levels.get(pin) is not high:
            self._levels[pin] = high
            if self._raw.taps:
                self._raw.pass_on(self._name, self._clock(), "in", raw.PinLevel(pin, high))
        return high

    def _note_edge(self, pin: int, callback: Callable[[], object]) -> None:
        """On the library's thread."""
        callback()  # first: recorders need the levels that it reads before the edge
        if self._raw.taps:
            edge = raw.PinLevel(pin, self._levels.get(pin, False), edge=True)
            self._raw.pass_on(self._name, self._clock(), "in", edge)

    def output(self, pin: int, high: bool) -> None:
        """Make `pin` an output that starts `high` or low, without a glitch."""
        module = self._module
        with self._device_errors(f"GPIO{pin}"):
            module.setup(pin, module.OUT, initial=module.HIGH if high else module.LOW)
            self._outputs.add(pin)

    def write(self, pin: int, high: bool) -> None:
        with self._device_errors(f"GPIO{pin}"):
            self._module.output(pin, self._module.HIGH if high else self._module.LOW)

    def dim(self, pin: int, duty: float, frequency: float = 200.0) -> None:
        """Send pulses of `frequency` hertz to an output, high for `duty` of the time, 0 to 1."""
        with self._device_errors(f"GPIO{pin}"):
            if pin in self._dimmed:
                self._dimmed[pin].ChangeDutyCycle(100.0 * duty)
            else:
                self._dimmed[pin] = self._module.PWM(pin, frequency)
                self._dimmed[pin].start(100.0 * duty)

    def stop_dimming(self, pin: int, high: bool) -> None:
        """End the pulses of `dim` and leave the output `high` or low."""
        with self._device_errors(f"GPIO{pin}"):
            self._dimmed.pop(pin).stop()
        self.write(pin, high)

    def close(self, lost: bool = False) -> None:
        """Give up the pins, which frees the inputs. Never raises; may be called twice.

        Outputs keep their level, because a relay is better off with a defined level than with none. If the chip was
        `lost`, everything is given up so that it can be opened again.
        """
        module, self._module = self._module, None
        if module is None or self._feed is not None:
            return
        for pin in self._watched:
            with suppress(Exception):
                module.remove_event_detect(pin)
        for pulses in self._dimmed.values():
            with suppress(Exception):
                pulses.stop()
        for pin in self._inputs | (self._outputs if lost else set()):
            with suppress(Exception):
                module.cleanup(pin)
        self._inputs, self._outputs, self._watched, self._dimmed = set(), set(), set(), {}
        with self._lock:
            self._users[self.library] -= 1
            if lost and not self._users[self.library]:
                try:
                    module.cleanup()  # frees everything; only then does rpi-lgpio close its chip
                except Exception:  # it cannot if the chip is really gone; then it must be imported again
                    sys.modules.pop(self.library, None)

    @staticmethod
    @contextmanager
    def _device_errors(what: str) -> Iterator[None]:
        """Raise DeviceError, with `what` in front, for whatever the library raises."""
        try:
            yield
        except Exception as error:  # lgpio raises its own kinds of error
            raise DeviceError(f"{what}: {str(error) or type(error).__name__}") from error
