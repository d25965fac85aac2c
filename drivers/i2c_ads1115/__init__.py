"""Texas Instruments ADS1115 and ADS1015 analog-to-digital converters, with a calibration curve for each channel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta

from fixgw.database import FAIL
from fixgw.drivers import analog
from fixgw.drivers.i2c_ads1115 import protocol
from fixgw.drivers.links.chips import Address, I2cOptions, I2cPoller
from fixgw.errors import DeviceError
from fixgw.kit.update import Update
from fixgw.plugin import Device, Feeds, Finding

if TYPE_CHECKING:
    from fixgw.database import Database

MAX_POLLS = 5  # checks whether a conversion has ended, after the time that it should take


class Channel(analog.Channel, frozen=True, kw_only=True, forbid_unknown_fields=True):
    input: Annotated[
        Annotated[int, Meta(ge=0, le=3)] | Literal["0", "1", "2", "3", "0-1", "0-3", "1-3", "2-3"],
        Meta(description="Single-ended input, 0 to 3, or the difference between two, such as `0-1`"),
    ]
    range: Annotated[
        float,
        Meta(
            description="Full-scale voltage: 6.144, 4.096, 2.048, 1.024, 0.512 or 0.256; an input must never exceed "
            "the supply"
        ),
    ] = 4.096

    def __post_init__(self) -> None:
        if self.range not in protocol.RANGES:
            raise ValueError(f"range: choose one of {', '.join(map(str, protocol.RANGES))}")


class Options(I2cOptions, frozen=True, kw_only=True):
    """Options for an ADS1115."""

    address: Address = 0x48
    supply: Annotated[
        float, Meta(gt=0.0, le=6.0, description="Supply voltage of the pull-up resistors of thermistors and senders")
    ] = 3.3
    conversions: Annotated[
        Literal[8, 16, 32, 64, 128, 250, 475, 860],
        Meta(
            description="Conversions per second; slower ones are less noisy. Every channel is read `rate` times per "
            "second"
        ),
    ] = 250
    channels: Annotated[list[Channel], Meta(min_length=1, max_length=8, description="What is wired to the converter")]


class Plugin(I2cPoller[Options]):
    """One converter, whose channels are read one after the other."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.counts["out of range"] = 0
        self._inputs = [(c, analog.Input(c, self.options.supply)) for c in self.options.channels]

    @classmethod
    def check(cls, options: Options, db: Database) -> Iterable[tuple[str, str]]:
        yield from super().check(options, db)
        yield from analog.check_channels(options.channels, db)
        if len(options.channels) * options.rate * 1.2 > options.conversions:
            yield (
                "rate",
                f"{len(options.channels)} channels at this rate need more conversions",
            )

    @classmethod
    def writes(cls, options: Options) -> Iterable[str]:
        return [channel.key for channel in options.channels]

    @classmethod
    def preflight(cls, options: Options) -> Iterable[Device | Feeds | Finding]:
        yield from super().preflight(options)
        yield Feeds(tuple(cls.writes(options)))

    def feeds(self) -> Iterable[str]:
        return self.writes(self.options)

    def get_status(self) -> Mapping[str, Any]:
        readings = analog.raw_readings(each for _, each in self._inputs) if self.connected else {}
        return {**super().get_status(), "readings": readings}

    def begin(self) -> None:
        for _, each in self._inputs:
            each.begin()
        self._convert(self.options.channels[0])

    def sample(self) -> str:
        for channel, each in self._inputs:
            volts = protocol.volts(self._convert(channel), channel.range)
            if self.stopping.is_set():
                break
            if volts is None:
                each.begin()
                self.count("out of range")
                reason = f"beyond the range of {channel.range} V"
                self.publisher.publish([Update(channel.key, None, FAIL, reason)])
            else:
                update = each.update(volts, self.clock())
                self.count("out of range", update.value is None)
                self.publisher.publish([update])
        return ""

    def _convert(self, channel: Any) -> bytes:
        """Run one conversion. Raises OSError, also if the chip did not accept its configuration."""
        config = protocol.config(str(channel.input), channel.range, self.options.conversions)
        self.write(protocol.CONFIG, *config.to_bytes(2, "big"))
        wait = 1.1 / self.options.conversions  # its clock may be off by 10 %
        for _ in range(MAX_POLLS):
            self.pause(wait)
            found = int.from_bytes(self.read(protocol.CONFIG, 2), "big")
            if (found ^ config) & protocol.ECHOED:
                raise OSError(f"its configuration is 0x{found:04x}, but 0x{config:04x} was written")
            if found & protocol.READY:
                return self.read_surely(protocol.RESULT, 2)
            wait = 0.002
        raise DeviceError(f"{self.place}: its conversions never finish")
