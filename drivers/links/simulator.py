"""The link of flight simulators: datagrams from one program, which is also sent values from the database.

A driver derives from `SimulatorPoller` and says what to ask for (`requests`) and what to send (`outgoing`). Its values
are simulated ones: the source of the connection begins with ``sim/``, so that nothing passes them on as real.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from fixgw.drivers.links.instrument import Instrument
from fixgw.drivers.links.serial import LinkOptions
from fixgw.kit.outward import Outward
from fixgw.kit.update import Update, Value
from fixgw.net import endpoint
from fixgw.net.access import LOOPBACK, Networks, address_of
from fixgw.net.udp import UdpLink
from fixgw.plugin import TypeVar

if TYPE_CHECKING:
    from fixgw.net.access import Address

SILENT = "the simulator is silent"
#: Simulators put much into one datagram.
MAX_DATAGRAM_BYTES = 16_384


class SimulatorLink(UdpLink):
    """Exchanges datagrams with a simulator: it listens at `to`, a host and a port, or nobody knows yet where (None)."""

    def __init__(
        self,
        here: endpoint.Endpoint,
        to: tuple[str, int] | None,
        refuse: Callable[[str, Address], object],
        clock: Callable[[], float],
        allow: Iterable[str],
    ) -> None:
        self.to: Any = None
        #: The only host whose datagrams are accepted; None for all that are allowed.
        self.partner: Address | None = None
        if to is not None:
            family = socket.AF_INET6 if ":" in here.host else socket.AF_INET
            self.to = socket.getaddrinfo(*to, family, socket.SOCK_DGRAM)[0][4]
            allow = [*allow, self.to[0]]
        super().__init__(here, refuse, clock, allow=Networks(allow), whole=True, limit=MAX_DATAGRAM_BYTES)

    def aim(self, to: Any) -> None:
        """Exchange datagrams with the simulator at the socket address `to` alone."""
        self.to = to
        self.partner = address_of(to[0])

    def write(self, data: bytes) -> int:
        return len(data) if self.to is not None and self.send(data, self.to) else 0

    def _accepts(self, sender: Address) -> bool:
        return self.partner in (None, sender) and super()._accepts(sender)


OptionsT = TypeVar("OptionsT", bound=LinkOptions, default=LinkOptions)


class SimulatorPoller(Instrument[OptionsT]):
    """A simulator. `requests` is called at every poll, `outgoing` `rate` times a second."""

    simulates: ClassVar[bool] = True
    whole_datagrams: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        # What ages does so in good time; what does not, such as an altimeter setting, holds until it is set again.
        self.outward = Outward(self.db.read, lambda: self.db.clock(), lambda: self.source, math.inf)
        self._send_at = math.inf
        self._silent = False
        self._whole: dict[str, bool] = {}

    # -- to override ---------------------------------------------------------------------------------------------------

    #: How many times a second to send, in Hz; 0 = nothing is sent.
    send_rate: float = 0.0

    def requests(self) -> Iterable[bytes]:
        """The requests that are due."""
        return ()

    def outgoing(self) -> Iterable[bytes]:
        """The values to send now."""
        return ()

    # -- for drivers to call -------------------------------------------------------------------------------------------

    def value(self, key: str) -> Value | None:
        """What may be sent as `key`; None if it is not good, or if it came from this simulator."""
        reading = self.outward.reading(key)
        return None if reading is None or reading.source == self.source else reading.value

    # -- the contract --------------------------------------------------------------------------------------------------

    def open(self) -> None:
        super().open()
        self._send_at = self.clock() if self.send_rate else math.inf

    def poll(self, timeout: float) -> None:
        for request in self.requests():
            self.send(request)
        super().poll(max(0.0, min(timeout, self._send_at - self.clock())))
        if (now := self.clock()) >= self._send_at:
            self._send_at = max(self._send_at + 1.0 / self.send_rate, now)
            for data in self.outgoing():
                self.count("sent" if self.send(data) else "not sent")

    def idle(self) -> None:
        silent = self.clock() - self.heard_at > self.patience_s
        if silent and not self._silent:  # a datagram socket is never lost, so this is all that tells
            self.publisher.fail(SILENT)
        self._silent = silent

    def received(self, data: bytes) -> bool:
        self._silent = False
        return super().received(data)

    def poll_by(self) -> float:
        return self._send_at

    def take(self, feed: Callable[[], list[Update]]) -> bool:
        return super().take(lambda: [self._fit(update) for update in feed()])

    def _fit(self, update: Update) -> Update:
        """`update` with a whole number if the item has whole numbers: simulators send fractions of revolutions."""
        key, value = update.key, update.value
        if isinstance(value, float) and math.isfinite(value):
            if key not in self._whole:
                self._whole[key] = key in self.db and self.db.item(key).type == "int"
            if self._whole[key]:
                return update._replace(value=round(value))
        return update


def check_host(option: str, host: str, port: int) -> Iterable[tuple[str, str]]:
    """Describe what is wrong with an option that names a host."""
    try:
        endpoint.parse(str(endpoint.Endpoint("udp", host, port)))
    except ValueError as error:
        yield option, str(error)


def here_for(host: str) -> str:
    """The address of this computer at which to talk to `host`: one that others cannot reach if it is this computer."""
    try:
        address = address_of(host)
    except ValueError:
        return "127.0.0.1" if host == "localhost" else "0.0.0.0"
    if address in Networks(LOOPBACK):
        return host
    return "0.0.0.0" if address.version == 4 else "::"
