"""GPS receivers that speak NMEA 0183: position, ground speed, track, altitude, time and satellites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from fixgw.drivers.instrument import Instrument, InstrumentOptions
from fixgw.drivers.nmea0183.protocol import KEYS, Receiver
from fixgw.plugin import Options as PluginOptions


class Options(InstrumentOptions, frozen=True, kw_only=True):
    """Options of an NMEA 0183 receiver."""


class Plugin(Instrument):
    """One receiver on one line. What it says is written as it comes; what it cannot say is failed, or left to age."""

    Options: ClassVar[type[PluginOptions] | None] = Options
    KEYS = KEYS

    def protocol(self) -> Receiver:
        return Receiver(self.clock, self.counts)

    def get_status(self) -> Mapping[str, Any]:
        return {**super().get_status(), "fix": self._protocol.trouble or "good"}
