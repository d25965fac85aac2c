"""Shadin air data and fuel computers: airspeed, altitudes, temperature, vertical speed, fuel flow and remaining."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from fixgw.drivers.links.instrument import Instrument, InstrumentOptions
from fixgw.drivers.shadin.protocol import KEYS, Decoder


class ShadinOptions(InstrumentOptions, frozen=True, kw_only=True):
    """Options for a Shadin computer."""

    baud: Annotated[
        Annotated[int, Meta(ge=50, le=4000000)] | Literal["auto"],
        Meta(description="Bits per second; every Shadin computer uses 9600"),
    ] = 9600
    magnetic_heading: Annotated[
        bool,
        Meta(description="Write HEAD, because this computer sends the magnetic heading; some send the true heading"),
    ] = False


class Plugin(Instrument[ShadinOptions]):
    """One computer on one line."""

    KEYS = KEYS

    def protocol(self) -> Decoder:
        return Decoder(self.counts, self.options.magnetic_heading)
