"""Stratux, iLevil and other ADS-B receivers that speak GDL 90: position, attitude, pressure altitude and traffic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from fixgw.drivers.gdl90 import Report
from fixgw.drivers.links.instrument import KEYS_OPTION, ChangesWithin, Instrument, Keys
from fixgw.drivers.links.serial import UDP, Allow, Host, NetworkOptions, NetworkPort
from fixgw.drivers.stratux.protocol import KEYS, Airspeed, Decoder
from fixgw.kit import traffic
from fixgw.kit.place import is_possible
from fixgw.kit.publish import DerivingPublisher
from fixgw.net import endpoint


class StratuxOptions(NetworkOptions, frozen=True, kw_only=True):
    """Options for a receiver. Without any, it works in the network of a Stratux."""

    host: Host = "0.0.0.0"
    port: NetworkPort = 4000
    baud: Annotated[
        Annotated[int, Meta(ge=50, le=4000000)] | Literal["auto"],
        Meta(description="Bits per second of a serial line; the specification says 38400"),
    ] = 38400
    allow: Allow = ("127.0.0.0/8", "::1", "192.168.10.0/24")
    airspeed: Annotated[
        Airspeed,
        Meta(
            description="How the sender means the airspeed in Stratux's attitude report: in whole `knots` or in "
            "`tenths`. Stratux itself does not send it"
        ),
    ] = "knots"
    keys: Annotated[Keys, KEYS_OPTION] = field(default_factory=dict)
    changes_within: ChangesWithin = field(default_factory=dict)


class Plugin(Instrument[StratuxOptions]):
    """One receiver."""

    KEYS = KEYS
    whole_datagrams = True

    def __post_init__(self) -> None:
        super().__post_init__()
        options = self.options
        self.publisher = DerivingPublisher(self, self.counts, self.complain, options.keys, options.changes_within)
        self._datagrams = endpoint.scheme_of(options.url) == UDP
        self._targets = traffic.table(self.db)

    def protocol(self) -> Decoder:
        self._decoder = Decoder(
            self.clock, self.counts, airspeed=self.options.airspeed, traffic=self._report, owned=self._own
        )
        return self._decoder

    def received(self, data: bytes) -> bool:
        try:
            return super().received(data)
        finally:
            if self._datagrams:  # frames do not go on in the next
                self._decoder.interrupt()

    def get_status(self) -> Mapping[str, Any]:
        return {
            **super().get_status(),
            "receiver": self._decoder.name,
            "targets": self._targets.status(self.source),
        }

    def lost(self, reason: str) -> None:
        super().lost(reason)
        self._targets.own(self.name, None)

    def _own(self, address: int) -> None:
        self._targets.own(self.name, address)

    def _report(self, said: Report, message: bytes) -> None:
        if said.lat is None or said.lon is None or not is_possible(said.lat, said.lon):
            said, message = said._replace(lat=None, lon=None), b""
        self._targets.put(
            traffic.Target(
                said.address,
                said.address_type,
                callsign=said.callsign or None,
                lat=said.lat,
                lon=said.lon,
                altitude_ft=said.altitude_ft,
                ground_speed_kt=said.ground_speed_kt,
                track_deg=said.track_deg if said.track_kind == "true_track" else None,
                vertical_speed_fpm=said.vertical_speed_fpm,
                on_ground=not said.airborne,
                emergency=bool(said.emergency),
                emitter=said.emitter,
                source=self.source,
                report=message,
            )
        )
