"""Dynon EFIS-D6, D10, D10A, D60 and D100: attitude, air data, acceleration and, on request, angle of attack."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from fixgw.drivers.dynon import StallAngle
from fixgw.drivers.dynon_d10.protocol import KEYS, Decoder
from fixgw.drivers.links.instrument import Instrument, InstrumentOptions


class D10Options(InstrumentOptions, frozen=True, kw_only=True):
    """Options for a D10."""

    baud: Annotated[
        Annotated[int, Meta(ge=50, le=4000000)] | Literal["auto"],
        Meta(description="Bits per second; these displays use 115200"),
    ] = 115200
    stall_angle: StallAngle = None


class Plugin(Instrument[D10Options]):
    """One display on one line."""

    KEYS = KEYS

    def protocol(self) -> Decoder:
        return Decoder(self.clock, self.counts, self.options.stall_angle)
