"""Simulators that send lines of text to tablets (XGPS, XATT, XTRAFFIC): X-Plane, bridges of MSFS, Aerofly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta, field

from fixgw.drivers import efb_text
from fixgw.drivers.links.instrument import KEYS_OPTION, ChangesWithin, Instrument, Keys
from fixgw.drivers.links.serial import UDP, Host, NetworkOptions, NetworkPort
from fixgw.drivers.xgps.protocol import KEYS, Decoder
from fixgw.kit import traffic
from fixgw.net import endpoint


class XgpsOptions(NetworkOptions, frozen=True, kw_only=True):
    """Options for a simulator. Without any, it has to be on this computer."""

    host: Host = "0.0.0.0"
    port: NetworkPort = 49002
    variation: Annotated[
        Annotated[float, Meta(ge=-180.0, le=180.0)] | None,
        Meta(
            description="Magnetic variation in degrees where the simulator flies, east positive. It sends a true "
            "heading, so that without it HEAD is not written"
        ),
    ] = None
    keys: Annotated[Keys, KEYS_OPTION] = field(default_factory=dict)
    changes_within: ChangesWithin = field(default_factory=dict)


class Plugin(Instrument[XgpsOptions]):
    """One simulator."""

    KEYS = KEYS
    simulates = True
    whole_datagrams = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._datagrams = endpoint.scheme_of(self.options.url) == UDP
        self._targets = traffic.table(self.db)

    def protocol(self) -> Decoder:
        return Decoder(self.clock, self.counts, self.options.variation, self._report)

    def received(self, data: bytes) -> bool:
        return super().received(data + b"\n" if self._datagrams else data)  # a line ends with its datagram

    def get_status(self) -> Mapping[str, Any]:
        return {**super().get_status(), "targets": self._targets.status(self.source)}

    def _report(self, said: efb_text.Traffic) -> None:
        self._targets.put(
            traffic.Target(
                said.address,
                callsign=said.callsign or None,
                lat=said.lat,
                lon=said.lon,
                altitude_ft=said.altitude_ft,
                ground_speed_kt=said.ground_speed_kt,
                track_deg=said.track_deg % 360.0,
                vertical_speed_fpm=said.vertical_speed_fpm,
                on_ground=not said.airborne,
                source=self.source,
            )
        )
