"""What every CAN interface looks like to the bus that uses it: `Port`; and how one is configured: `BusOptions`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any

from msgspec import Meta

from fixgw.drivers.links.can.frame import Frame
from fixgw.plugin import Options

BATCH = 256  # frames handed on at once, at most

Count = Callable[..., None]  # what, and how many more of it


class Port:
    """An open CAN interface. `read` and `accept` are for one thread, `write` and `flush` for one at a time."""

    #: Whether `write` may wait for the device.
    blocking = False
    #: Whether CAN FD frames can be sent.
    fd = False

    def read(self, timeout: float) -> list[Frame]:
        """What has come, about `BATCH` frames at most; none after `timeout` seconds. Raises OSError when it is gone."""
        raise NotImplementedError

    def write(self, frame: Frame) -> bool:
        """Send; False when there is no room just now. Raises OSError when the interface is gone, and anything else
        when it cannot send this frame."""
        raise NotImplementedError

    def flush(self) -> bool:
        """Hand over the rest of what has been written; False when there is no room for it just now."""
        return True

    def accept(self, ids: Collection[int] | None) -> None:
        """Let through at least these identifiers (None: all) and errors; for interfaces that can filter."""

    def close(self) -> None:
        """Close; what waits in `write` then fails. Never raises."""

    def state(self) -> str:
        """What the controller is now, as in `BusError`, if that can be asked; otherwise empty."""
        return ""

    def trouble(self) -> str:
        """What is wrong though the interface is open; empty when nothing is. Any thread."""
        return ""

    def facts(self) -> Mapping[str, Any]:
        """What the interface says about itself, for the status. Any thread."""
        return {}


class BusOptions(Options, frozen=True, kw_only=True):
    interface: Annotated[
        str,
        Meta(
            min_length=1,
            description="`socketcan`, `slcan` (serial adapters), `gs_usb`, `serial`, `udp_multicast`, `virtual`, "
            "`socketcand`, or any other interface of python-can",
        ),
    ] = "socketcan"
    channel: Annotated[
        str | int, Meta(description="What the interface calls it: `can0`, `/dev/ttyACM0`, a multicast group, a number")
    ] = "can0"
    bitrate: Annotated[
        Annotated[int, Meta(ge=1000, le=1000000)] | None,
        Meta(description="Bits per second. SocketCAN interfaces get theirs from the system"),
    ] = None
    fd: Annotated[bool, Meta(description="Use CAN FD, where the interface can")] = False
    listen_only: Annotated[bool, Meta(description="Never send; slcan adapters do not even acknowledge")] = False
    receive_buffer: Annotated[
        int, Meta(ge=4096, le=67108864, description="Bytes of receive buffer to ask of the system, for bursts")
    ] = 4194304
    send_queue: Annotated[
        int,
        Meta(ge=1, le=65536, description="Frames that may wait to be sent; when it is full the lowest priority goes"),
    ] = 1024
    extra: Annotated[
        dict[str, Any], Meta(description="Further arguments for the interface, named as python-can names them")
    ] = {}
