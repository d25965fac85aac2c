"""A GPS receiver that gpsd looks after: position, track, altitude, time and satellites, by gpsd's JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar

from msgspec import Meta, field

from fixgw.drivers.gpsd.protocol import ATTITUDE, CLIMB, HEADING, KEYS, Client, Heading, without_place
from fixgw.drivers.links.instrument import KEYS_OPTION, ChangesWithin, Instrument, Keys
from fixgw.drivers.links.serial import NetworkOptions
from fixgw.errors import DeviceError
from fixgw.kit.anonymous import Shift, clean_stream
from fixgw.kit.raw import Heard

ANSWERS_S = 15.0  # gpsd answers a request within two seconds, even while it looks for its receiver


class GpsdOptions(NetworkOptions, frozen=True, kw_only=True):
    """Options for a connection to gpsd."""

    SCHEME: ClassVar[str] = "tcp"

    host: Annotated[str, Meta(min_length=1, description="Where gpsd runs")] = "127.0.0.1"
    port: Annotated[
        Annotated[int, Meta(ge=1, le=65535)] | Annotated[str, Meta(min_length=1)],
        Meta(description="gpsd's TCP port, or `tcp://HOST:PORT`"),
    ] = 2947
    device: Annotated[
        str,
        Meta(
            max_length=200,
            description="The receiver to use, as gpsd names it, such as `/dev/ttyUSB0`, if it has several; by default "
            "the first that reports",
        ),
    ] = ""
    climb: Annotated[
        bool, Meta(description="Write VS from the GPS, which lags behind: for want of a better source")
    ] = False
    attitude: Annotated[
        bool, Meta(description="Write PITCH and ROLL from a sensor that gpsd reads; it is made for boats, and slow")
    ] = False
    heading: Annotated[
        Heading | None,
        Meta(
            description="Write HEAD from a compass that gpsd reads, and whether its heading is `magnetic` or `true`, "
            "which gpsd does not say. A true one needs the magnetic variation, which gpsd computes for its receiver"
        ),
    ] = None
    keys: Annotated[Keys, KEYS_OPTION] = field(default_factory=dict)
    changes_within: ChangesWithin = field(default_factory=dict)


class Plugin(Instrument[GpsdOptions]):
    """One receiver of one gpsd."""

    KEYS = KEYS | {*CLIMB, *ATTITUDE, *HEADING}
    _protocol: Client

    def protocol(self) -> Client:
        options = self.options
        return Client(
            self.clock,
            self.counts,
            device=options.device,
            climb=options.climb,
            attitude=options.attitude,
            heading=options.heading,
        )

    @classmethod
    def writes(cls, options: GpsdOptions) -> Iterable[str]:
        wanted = {*KEYS}
        wanted.update(CLIMB if options.climb else (), ATTITUDE if options.attitude else ())
        wanted.update(HEADING if options.heading else ())
        return [name for key in wanted if (name := options.keys.get(key, key)) is not None]

    @classmethod
    def anonymise(cls, options: GpsdOptions, entries: list[Heard], shift: Shift, alone: bool) -> list[Heard] | None:
        return clean_stream(entries, lambda data: without_place(data, shift))

    def open(self) -> None:
        super().open()
        self._opened_at = self.clock()

    def poll(self, timeout: float) -> None:
        for request in self._protocol.requests():
            if self.send(request) < len(request):
                raise DeviceError(f"{self.options.url}: gpsd takes no requests")
        super().poll(timeout)
        if self.clock() - max(self._opened_at, self.heard_at) > ANSWERS_S:
            raise DeviceError(f"{self.options.url}: gpsd does not answer")

    def get_status(self) -> Mapping[str, Any]:
        protocol = self._protocol
        return {**super().get_status(), "receiver": protocol.device, "fix": protocol.trouble or "good"}
