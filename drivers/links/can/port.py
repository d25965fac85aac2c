"""`Port`, the interface that every kind of CAN adapter offers to a bus, and `BusOptions`, its configuration."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any

from msgspec import Meta

from fixgw.drivers.links.can.frame import Frame
from fixgw.plugin import Options

BATCH_FRAMES = 256  # the most frames that one read returns

Count = Callable[..., None]  # called with the name of a counter and, if it is not 1, how much to add


class Port:
    """An open CAN interface. One thread calls `read` and `accept`; any may call `write` and `flush`, one at a time."""

    #: Whether `write` may block until the device is ready.
    blocking = False
    #: Whether the interface can send CAN FD frames.
    fd = False

    def read(self, timeout: float) -> list[Frame]:
        """Return the frames that have arrived, at most about `BATCH_FRAMES`; none after `timeout` seconds.

        Raises OSError if the interface is gone.
        """
        raise NotImplementedError

    def write(self, frame: Frame) -> bool:
        """Send a frame. Returns False if there is no room for it now.

        Raises OSError if the interface is gone, and any other exception if it cannot send this frame.
        """
        raise NotImplementedError

    def flush(self) -> bool:
        """Send the rest of what was written before. Returns False if there is no room for it now."""
        return True

    def accept(self, ids: Collection[int] | None) -> None:
        """Let through at least these identifiers (None: all) and error frames, if the interface can filter."""

    def close(self) -> None:
        """Close the interface; a `write` that is waiting then fails. Never raises."""

    def state(self) -> str:
        """The controller's state now, as in `BusError`; empty if the interface cannot tell."""
        return ""

    def trouble(self) -> str:
        """What is wrong although the interface is open; empty if nothing is. Any thread may call this."""
        return ""

    def facts(self) -> Mapping[str, Any]:
        """What the interface knows about itself, for the status. Any thread may call this."""
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
        str | int,
        Meta(description="Name of the bus in that interface: `can0`, `/dev/ttyACM0`, a multicast group or a number"),
    ] = "can0"
    bitrate: Annotated[
        Annotated[int, Meta(ge=1000, le=1000000)] | None,
        Meta(description="Bits per second. For SocketCAN interfaces the operating system sets it"),
    ] = None
    fd: Annotated[bool, Meta(description="Use CAN FD, if the interface supports it")] = False
    listen_only: Annotated[bool, Meta(description="Never send; an slcan adapter then acknowledges no frames")] = False
    receive_buffer: Annotated[
        int, Meta(ge=4096, le=67108864, description="Bytes of receive buffer to request, to absorb bursts")
    ] = 4194304
    send_queue: Annotated[
        int,
        Meta(
            ge=1,
            le=65536,
            description="Maximum number of frames waiting to be sent; a full queue drops the lowest priority",
        ),
    ] = 1024
    gather: Annotated[
        float,
        Meta(
            ge=0,
            le=50,
            description="Milliseconds to let frames gather while they arrive in quick succession, which saves much "
            "work. The first frame after a pause is never delayed. 0 hands over each at once",
        ),
    ] = 5.0
    extra: Annotated[
        dict[str, Any], Meta(description="Other arguments for the interface, by their names in python-can")
    ] = {}
