"""Garmin: the text output of G3X displays (air data, attitude, engine, GPS), and of navigators such as the GNX 375."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from fixgw.drivers.g3x.protocol import KEYS, NAVIGATOR, Decoder, without_place
from fixgw.drivers.links.instrument import Instrument, InstrumentOptions
from fixgw.kit.anonymous import Shift, clean_stream
from fixgw.kit.raw import Heard


class G3xOptions(InstrumentOptions, frozen=True, kw_only=True):
    """Options for a Garmin device that sends text."""

    baud: Annotated[
        Annotated[int, Meta(ge=50, le=4000000)] | Literal["auto"],
        Meta(description="Bits per second: 115200 from a G3X, 9600 from the aviation output of a navigator"),
    ] = 115200


class Plugin(Instrument[G3xOptions]):
    """One display or navigator on one line."""

    KEYS = KEYS

    @classmethod
    def anonymise(cls, options: G3xOptions, entries: list[Heard], shift: Shift, alone: bool) -> list[Heard] | None:
        """Not a navigator's data, which contains the route."""
        if any(isinstance(entry.data, bytes) and NAVIGATOR in entry.data for entry in entries):
            return None
        return clean_stream(entries, lambda data: without_place(data, shift))

    def protocol(self) -> Decoder:
        return Decoder(self.clock, self.counts)
