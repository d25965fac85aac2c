"""Geekworm X728 uninterruptible power supply: battery, loss of supply, and orderly shutdown."""

from __future__ import annotations

from collections.abc import Iterable, Set
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta, field

from fixgw.drivers import ups
from fixgw.drivers.links.chips import Address, I2cOptions, I2cPoller, KeysOption, Rate
from fixgw.drivers.links.pins import REAL, Pin, Pins, resource
from fixgw.drivers.links.pins import preflight as pins_preflight
from fixgw.drivers.ups_x728 import protocol
from fixgw.errors import DeviceError
from fixgw.kit import raw
from fixgw.plugin import Device, Feeds, Finding

if TYPE_CHECKING:
    from fixgw.database import Database

PULSE_S = 3.0


class Options(I2cOptions, frozen=True, kw_only=True):
    """Options for an X728."""

    address: Address = 0x36
    rate: Rate = 2.0
    keys: KeysOption = field(default_factory=dict)
    lost_pin: Annotated[
        Pin | None, Meta(description="Pin (BCM number) that goes high when the supply is lost; none: not watched")
    ] = 6
    off_pin: Annotated[
        Pin | None,
        Meta(
            description="Pin on which a pulse of 3 s, before the shutdown, tells the board to cut the power when the "
            "computer is down; 26, or 13 on boards of version 1; none: the power stays on",
        ),
    ] = None
    pins: Annotated[
        str, Meta(description="Module with the RPi.GPIO interface; `fixgw.hw_sim.gpio` is a virtual bank of pins")
    ] = REAL
    shutdown: ups.ShutdownOption = None


class Plugin(I2cPoller[Options]):
    """One board: its fuel gauge on I2C, its signals on pins."""

    KEYS: ClassVar[frozenset[str]] = ups.KEYS

    def __post_init__(self) -> None:
        super().__post_init__()
        options = self.options
        self.counts["absurd values"] = 0
        self._pins = Pins(options.pins)
        self._pulse_ends: float | None = None
        self._shutdown = None
        if options.shutdown is not None and not self.replaying:
            self._shutdown = ups.Shutdown(options.shutdown, lambda: self.db, self.log, self._pulse)

    @classmethod
    def check(cls, options: Options, db: Database) -> Iterable[tuple[str, str]]:
        yield from super().check(options, db)
        yield from ups.check_shutdown(options.shutdown, db)
        if options.shutdown is not None and options.lost_pin is None:
            yield "shutdown", "without `lost_pin` a loss of supply cannot be detected"

    @classmethod
    def claims(cls, options: Options) -> Iterable[tuple[str, str]]:
        yield from super().claims(options)
        for option in ("lost_pin", "off_pin"):
            if (pin := getattr(options, option)) is not None:
                yield resource(pin), option

    @classmethod
    def preflight(cls, options: Options) -> Iterable[Device | Feeds | Finding]:
        yield from super().preflight(options)
        if options.lost_pin is not None or options.off_pin is not None:
            yield from pins_preflight(options.pins)
        yield Feeds(tuple(n for key in sorted(_feeds(options)) if (n := options.keys.get(key, key))))

    def feeds(self) -> Set[str]:
        return _feeds(self.options)

    def health(self) -> str:
        return super().health() or (self._shutdown.trouble if self._shutdown else "")

    def run(self) -> None:
        self._pins.tie(raw.point(self.db), self.name, self.clock)
        if self.options.lost_pin is not None or self.options.off_pin is not None:
            self._pins.require()
        super().run()

    def begin(self) -> None:
        options = self.options
        if options.lost_pin is not None or options.off_pin is not None:
            self._pins.open()
        if options.lost_pin is not None:
            self._pins.input(options.lost_pin, "down")  # an undriven pin must not signal a loss
        if options.off_pin is not None:
            self._pins.output(options.off_pin, False)
        self._read()

    def facts(self) -> list[raw.Heard]:
        return [*self._pins.levels(), *super().facts()]

    def close(self) -> None:
        with suppress(DeviceError):
            if self._pulse_ends is not None:
                self._end_pulse()
        self._pins.close()
        super().close()

    def sample(self) -> str:
        lost = self._supply_lost()
        battery = self._read()
        if battery is None:
            return "absurd values"
        volts, percent = battery
        known = self.feeds()
        self.publisher.publish([u for u in protocol.updates(volts, percent, lost) if u.key in known])
        if self._shutdown is not None:
            self._shutdown.update(lost, percent, self.clock())
        return ""

    def _supply_lost(self) -> bool:
        if self.options.lost_pin is None:
            return False
        try:
            return self._pins.read(self.options.lost_pin)
        except DeviceError:
            self._pins.close(lost=True)
            raise

    def _read(self) -> tuple[float, float] | None:
        return protocol.battery(self.read_surely(protocol.VOLTAGE, 2), self.read_surely(protocol.CHARGE, 2))

    def _pulse(self, now: float) -> bool:
        """Start, continue or end the pulse; return whether the board has been notified, or cannot be."""
        if self.options.off_pin is None:
            return True
        try:
            if self._pulse_ends is None:
                self._pins.write(self.options.off_pin, True)
                self._pulse_ends = now + PULSE_S
            if now < self._pulse_ends:
                return False
            self._end_pulse()
        except DeviceError as error:
            self.log.error("could not notify the board: %s", error)
        return True

    def _end_pulse(self) -> None:
        self._pulse_ends = None
        if self.options.off_pin is not None:
            self._pins.write(self.options.off_pin, False)


def _feeds(options: Options) -> Set[str]:
    """Without the pin, the state of the supply is unknown."""
    return ups.KEYS if options.lost_pin is not None else {"BAT_VOLTAGE", "BAT_REMAINING"}
