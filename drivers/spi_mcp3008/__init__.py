"""Microchip MCP3008 and MCP3004 analog-to-digital converters on SPI, with a calibration curve for each channel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta

from fixgw.drivers import analog
from fixgw.drivers.links.chips import SpiOptions, SpiPoller
from fixgw.drivers.spi_mcp3008 import protocol
from fixgw.plugin import Device, Feeds, Finding

if TYPE_CHECKING:
    from fixgw.database import Database


class Channel(analog.Channel, frozen=True, kw_only=True, forbid_unknown_fields=True):
    input: Annotated[
        Annotated[int, Meta(ge=0, le=7)]
        | Literal["0", "1", "2", "3", "4", "5", "6", "7", "0-1", "1-0", "2-3", "3-2", "4-5", "5-4", "6-7", "7-6"],
        Meta(description="Single-ended input, 0 to 7, or its difference from its neighbour, such as `0-1`"),
    ]


class Options(SpiOptions, frozen=True, kw_only=True):
    """Options for an MCP3008."""

    reference: Annotated[float, Meta(gt=0.0, le=6.0, description="Voltage at the chip's reference input")] = 3.3
    channels: Annotated[list[Channel], Meta(min_length=1, max_length=16, description="What is wired to the converter")]


class Plugin(SpiPoller[Options]):
    """One converter, whose channels are read one after the other."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.counts["out of range"] = 0
        self._inputs = [(str(c.input), analog.Input(c, self.options.reference)) for c in self.options.channels]

    @classmethod
    def check(cls, options: Options, db: Database) -> Iterable[tuple[str, str]]:
        yield from super().check(options, db)
        yield from analog.check_channels(options.channels, db)

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
        self._readings()

    def sample(self) -> str:
        readings = self._readings()
        now = self.clock()
        updates = [each.update(volts, now) for (_, each), volts in zip(self._inputs, readings, strict=True)]
        self.count("out of range", sum(update.value is None for update in updates))
        self.publisher.publish(updates)
        return ""

    def _readings(self) -> list[float]:
        """The voltage of each channel. Raises OSError, also if nothing shows that a chip is there."""
        readings = [self._volts(name) for name, _ in self._inputs]
        if not any(readings) and not any(self._volts(name) for name in protocol.SINGLE_ENDED):
            raise OSError("no chip answers, or all its inputs are at 0 V")
        return readings

    def _volts(self, inputs: str) -> float:
        counts = protocol.counts(self.transfer(protocol.request(inputs)))
        if counts is None:
            raise OSError("no chip answers")
        volts: float = counts * self.options.reference / protocol.STEPS
        return volts
