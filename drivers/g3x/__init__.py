"""Garmin: the text output of G3X displays (air data, attitude, engine, GPS), and of navigators such as the GNX 375."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from fixgw.drivers.g3x.protocol import KEYS, Decoder
from fixgw.drivers.links.instrument import Instrument, InstrumentOptions


class G3xOptions(InstrumentOptions, frozen=True, kw_only=True):
    """Options for a Garmin device that sends text."""

    baud: Annotated[
        Annotated[int, Meta(ge=50, le=4000000)] | Literal["auto"],
        Meta(description="Bits per second: 115200 from a G3X, 9600 from the aviation output of a navigator"),
    ] = 115200


class Plugin(Instrument[G3xOptions]):
    """One display or navigator on one line."""

    KEYS = KEYS

    def protocol(self) -> Decoder:
        return Decoder(self.clock, self.counts)
