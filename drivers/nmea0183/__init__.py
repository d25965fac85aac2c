"""GPS receivers and navigators that speak NMEA 0183: position, track, altitude, time and guidance to a waypoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta

from fixgw.drivers.links.instrument import Instrument, InstrumentOptions
from fixgw.drivers.nmea import KEYS, Receiver
from fixgw.kit.anonymous import Shift, clean_stream, sentences
from fixgw.kit.raw import Heard


class ReceiverOptions(InstrumentOptions, frozen=True, kw_only=True):
    """Options for an NMEA 0183 receiver."""

    full_scale: Annotated[
        float,
        Meta(
            ge=0.05,
            le=20.0,
            description="Cross-track distance in nautical miles that a navigator's CDI shows as full scale; commonly "
            "5 or 2 en route, 1 in a terminal area, 0.3 on an approach",
        ),
    ] = 1.0


class Plugin(Instrument[ReceiverOptions]):
    """One receiver on one line. Writes what it reports at once; what it cannot report is failed, or left to age."""

    KEYS = KEYS

    def protocol(self) -> Receiver:
        return Receiver(self.clock, self.counts, self.options.full_scale)

    @classmethod
    def anonymise(cls, options: ReceiverOptions, entries: list[Heard], shift: Shift, alone: bool) -> list[Heard] | None:
        return clean_stream(entries, lambda data: sentences(data, shift))

    def get_status(self) -> Mapping[str, Any]:
        return {**super().get_status(), "fix": self._protocol.trouble or "good"}
