"""Garmin navigators (GNX 375, GTN, GNS and others): position and guidance from their aviation output or NMEA 0183."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta

from fixgw.drivers.garmin_gnx375.protocol import KEYS, Receiver
from fixgw.drivers.links.instrument import Instrument, InstrumentOptions
from fixgw.kit.anonymous import Shift, clean_stream, sentences
from fixgw.kit.raw import Heard


class NavigatorOptions(InstrumentOptions, frozen=True, kw_only=True):
    """Options for a Garmin navigator."""

    baud: Annotated[
        Annotated[int, Meta(ge=50, le=4000000)] | Literal["auto"],
        Meta(description="Bits per second; the aviation output has 9600, NMEA 0183 the rate that is set there"),
    ] = 9600
    cdi_full_scale_nm: Annotated[
        float,
        Meta(
            ge=0.05,
            le=20.0,
            description="Cross-track distance in nautical miles that CDI shows as full scale; the navigator has 5 or 2 "
            "en route, 1 in a terminal area, 0.3 on an approach",
        ),
    ] = 5.0
    directions: Annotated[
        Literal["magnetic", "true"],
        Meta(description="What the navigator is set to show, and sends in its aviation output"),
    ] = "magnetic"


class Plugin(Instrument[NavigatorOptions]):
    """One navigator on one line."""

    KEYS = KEYS
    _protocol: Receiver

    def protocol(self) -> Receiver:
        options = self.options
        return Receiver(
            self.clock,
            self.counts,
            true_directions=options.directions == "true",
            full_scale=options.cdi_full_scale_nm,
        )

    @classmethod
    def anonymise(
        cls, options: NavigatorOptions, entries: list[Heard], shift: Shift, alone: bool
    ) -> list[Heard] | None:
        """NMEA 0183 only: the aviation output contains the route."""
        if any(isinstance(entry.data, bytes) and b"\x02" in entry.data for entry in entries):
            return None
        return clean_stream(entries, lambda data: sentences(data, shift))

    def get_status(self) -> Mapping[str, Any]:
        protocol = self._protocol
        return {**super().get_status(), "format": protocol.format or "none yet", "fix": protocol.trouble or "good"}
