"""Bosch BMP085, BMP180, BMP280 and BMP388 pressure sensors: altitude and vertical speed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from msgspec import Meta, field

from fixgw.drivers.i2c_bmp import protocol
from fixgw.drivers.links.chips import Address, I2cOptions, I2cPoller, KeysOption, Rate
from fixgw.errors import DeviceError, UnknownKey, did_you_mean
from fixgw.kit.sources import derived_source
from fixgw.plugin import Device, Feeds, Finding

if TYPE_CHECKING:
    from fixgw.database import Database


class Options(I2cOptions, frozen=True, kw_only=True):
    """Options for a pressure sensor."""

    address: Address = 0x77
    rate: Rate = 20.0
    keys: KeysOption = field(default_factory=dict)
    vs_time: Annotated[
        float,
        Meta(
            ge=0.1,
            le=20.0,
            description="Time constant in seconds of the vertical speed's filter, which is applied twice",
        ),
    ] = 0.7
    temperature: Annotated[
        str,
        Meta(
            description="Key for the chip's temperature in °C, such as CAT; the chip is warmer than the air around it"
        ),
    ] = ""


class Plugin(I2cPoller[Options]):
    """One pressure sensor on the static line or in the cabin. The chip's type is detected."""

    KEYS: ClassVar[frozenset[str]] = protocol.KEYS
    stuck_after_s: ClassVar[float] = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.counts.update({"nothing measured": 0, "absurd values": 0})
        self._chip: protocol.Chip | None = None
        self._air = protocol.AirData(lambda: self.clock(), self.options.vs_time, self.options.temperature)

    @classmethod
    def check(cls, options: Options, db: Database) -> Iterable[tuple[str, str]]:
        yield from super().check(options, db)
        if options.temperature and options.temperature not in db:
            yield (
                "temperature",
                f"the database has no item {options.temperature!r}{did_you_mean(options.temperature, db)}",
            )

    @classmethod
    def writes(cls, options: Options) -> Iterable[str]:
        return [*super().writes(options), *([options.temperature] if options.temperature else [])]

    @classmethod
    def preflight(cls, options: Options) -> Iterable[Device | Feeds | Finding]:
        yield from super().preflight(options)
        names = (options.keys.get(key, key) for key in sorted(protocol.KEYS))
        yield Feeds(tuple(name for name in (*names, options.temperature) if name))

    def feeds(self) -> Iterable[str]:
        return (*protocol.KEYS, self.options.temperature) if self.options.temperature else protocol.KEYS

    def get_status(self) -> Mapping[str, Any]:
        return {"chip": self._chip.NAME if self._chip else "none yet", **super().get_status()}

    def begin(self) -> None:
        kind = self._identify()
        register, command, seconds = kind.RESET
        self.write(register, command)
        self.pause(seconds)
        try:
            self._chip = kind(self.read_surely(kind.CALIBRATION[0], kind.calibration_length()))
        except ValueError as error:
            raise DeviceError(f"{self.place}: {error}") from None
        for register, value in kind.SETUP:
            self.write(register, value)
        self.pause(0.1)  # wait for the first filtered result

    def _identify(self) -> type[protocol.Chip]:
        for kind in protocol.CHIPS:
            register, values = kind.ID
            if self.read(register, 1)[0] in values:
                return kind
        raise DeviceError(f"{self.place} is not a pressure sensor that this driver knows")

    def sample(self) -> str:
        assert self._chip is not None
        raw = b""
        for step in self._chip.STEPS:
            if step.command is not None:
                self.write(*step.command)
                self.pause(step.wait)
                if self.stopping.is_set():  # it may not be ready yet
                    return "nothing measured"
            raw += self.read_surely(step.data, step.length)
        for register, value in self._chip.SETUP[-1:]:
            if self.read(register, 1)[0] != value:
                raise OSError("the chip has lost its configuration")
        measured = self._chip.measured(raw)
        if measured is None:
            return "nothing measured"
        inches, sure, setting = self._setting()
        updates = self._air.updates(*measured, inches, sure)
        if updates is None:
            self.complain("%s: %.0f Pa at %.1f degC is absurd", self.place, measured[1], measured[0])
            return "absurd values"
        self.require_change(raw)
        for update in updates:  # only the indicated altitude is derived from the altimeter setting
            of_setting = update.key == "ALT"
            self.publisher.publish([update], derived_source([setting], self.source) if of_setting else "")
        return ""

    def _setting(self) -> tuple[object, bool, str]:
        try:
            reading = self.db.read("BARO")
        except UnknownKey:
            return protocol.STANDARD_SETTING_INHG, True, ""
        return reading.value, reading.good, reading.source
