"""iFly EFB and other apps that send NMEA 0183 in UDP datagrams: guidance to the waypoint, position and track."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, field

from fixgw.drivers.links.instrument import KEYS_OPTION, ChangesWithin, Instrument, Keys
from fixgw.drivers.links.serial import UDP, Allow, Host, NetworkOptions, NetworkPort
from fixgw.drivers.nmea import KEYS, Receiver
from fixgw.kit.anonymous import Shift, clean_stream, sentences
from fixgw.kit.raw import Heard
from fixgw.net import endpoint

if TYPE_CHECKING:
    from fixgw.net.udp import UdpLink

EVERY_ADDRESS = "0.0.0.0"


class IflyOptions(NetworkOptions, frozen=True, kw_only=True):
    """Options for an app that sends NMEA 0183. Without any, they fit iFly EFB."""

    host: Host = "192.168.1.1"
    port: NetworkPort = 2000
    allow: Allow = ("127.0.0.0/8", "::1", "192.168.1.0/24")
    full_scale: Annotated[
        float,
        Meta(ge=0.05, le=20.0, description="Cross-track distance in nautical miles that CDI shows as full scale"),
    ] = 1.0
    keys: Annotated[Keys, KEYS_OPTION] = field(default_factory=dict)
    changes_within: ChangesWithin = field(default_factory=dict)


class Plugin(Instrument[IflyOptions]):
    """One app on one tablet."""

    KEYS = KEYS
    whole_datagrams = True
    _protocol: Receiver

    def protocol(self) -> Receiver:
        return Receiver(self.clock, self.counts, self.options.full_scale)

    @classmethod
    def anonymise(cls, options: IflyOptions, entries: list[Heard], shift: Shift, alone: bool) -> list[Heard] | None:
        return clean_stream(entries, lambda data: sentences(data, shift))

    def listen(self, at: endpoint.Endpoint) -> UdpLink:
        """At every address of this computer if it does not have the one that the app sends to, which may come later."""
        try:
            return super().listen(at)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
        self.complain("this computer does not have the address %s: listening on every address", at.host)
        return super().listen(at._replace(host=EVERY_ADDRESS))

    def received(self, data: bytes) -> bool:
        if endpoint.scheme_of(self.options.url) == UDP:
            data += b"\n"  # the end of a datagram ends a sentence
        return super().received(data)

    def get_status(self) -> Mapping[str, Any]:
        return {**super().get_status(), "fix": self._protocol.trouble or "good"}
