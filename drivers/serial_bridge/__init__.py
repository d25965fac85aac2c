"""Serves a serial port to programs on a network: each client receives every byte, and some may send."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from msgspec import Meta

from fixgw.database import Database
from fixgw.drivers.links.serial import SerialOptions, SerialPoller
from fixgw.drivers.serial_bridge.server import Server, Write
from fixgw.errors import DeviceError, PluginFail
from fixgw.net import access, listener
from fixgw.plugin import Poller

JOIN_S = 2.0  # how long `stop` waits for the server's thread


class BridgeOptions(SerialOptions, frozen=True, kw_only=True):
    """Options of a serial bridge."""

    baud: Annotated[int, Meta(ge=50, le=4000000, description="Bits per second")] = 9600
    tcp_port: Annotated[int, Meta(ge=0, le=65535, description="TCP port to listen on; 0 takes any free one")]
    host: Annotated[
        str, Meta(description="Address to listen on; `0.0.0.0` is every IPv4 interface, `::` every interface")
    ] = "127.0.0.1"
    allow: Annotated[tuple[str, ...], Meta(description="Networks whose hosts may connect")] = access.LOOPBACK
    write: Annotated[
        Write,
        Meta(
            description="Clients that may write to the serial port: `none`, the `one` that has been connected longest, "
            "or `all`, mixed as they arrive"
        ),
    ] = "none"
    clients: Annotated[
        int, Meta(ge=1, le=100, description="Maximum number of clients; further ones are disconnected")
    ] = 8
    buffer: Annotated[
        int,
        Meta(ge=1024, le=16777216, description="Bytes queued for a slow client; it loses what exceeds this"),
    ] = 65536
    stall_timeout: Annotated[
        float, Meta(ge=1.0, le=3600.0, description="Seconds without reading after which a client is dropped")
    ] = 30.0


class Plugin(SerialPoller[BridgeOptions]):
    """One port and its clients. They stay connected while the device is unplugged."""

    replays = False  # it serves the network, and writes nothing to the database

    def __post_init__(self) -> None:
        super().__post_init__()
        self._writing = threading.Lock()  # held to use the port: the server's thread writes to it, ours closes it
        self._server: Server | None = None
        self._server_thread: threading.Thread | None = None

    @property
    def tcp_port(self) -> int:
        """The port that the server listens on; once it runs, the actual port if the option is 0."""
        return self._server.port if self._server is not None else self.options.tcp_port

    # -- the contract --------------------------------------------------------------------------------------------------

    @classmethod
    def check(cls, options: BridgeOptions, db: Database) -> Iterable[tuple[str, str]]:
        yield from super().check(options, db)
        yield from access.problems("allow", options.allow)

    @classmethod
    def claims(cls, options: BridgeOptions) -> Iterable[tuple[str, str]]:
        yield from super().claims(options)
        if options.tcp_port:
            yield listener.claim(options.host, options.tcp_port), "tcp_port"

    def run(self) -> None:
        options = self.options
        server = Server(
            options.host,
            options.tcp_port,
            self._write,
            allow=options.allow,
            writers=options.write,
            clients=options.clients,
            buffer=options.buffer,
            stall=options.stall_timeout,
            counts=self.counts,
            log=self.log,
        )
        server.open()
        self._server = server
        self._server_thread = threading.Thread(
            target=self._serve, args=(server,), name=f"{self.name} server", daemon=True
        )
        self._server_thread.start()
        self.log.info("listening on %s port %d", options.host, server.port)
        super().run()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
        super().stop()
        if self._server_thread is not None:
            self._server_thread.join(JOIN_S)
            if self._server_thread.is_alive():
                raise PluginFail(f"{self.name}: the server's thread did not stop within {JOIN_S:g} s")

    def health(self) -> str:
        return Poller.health(self)  # silence is normal: the device may have nothing to say

    def get_status(self) -> Mapping[str, Any]:
        connections = self._server.connections() if self._server is not None else []
        return {**super().get_status(), "listening on": self.tcp_port, "connections": connections}

    def close(self) -> None:
        with self._writing:
            super().close()

    def received(self, data: bytes) -> bool:
        assert self._server is not None
        self._server.broadcast(data)
        return True

    # -- the server's thread -------------------------------------------------------------------------------------------

    def _serve(self, server: Server) -> None:
        try:
            server.run()
        finally:
            self.running = False

    def _write(self, data: bytes) -> int | None:
        with self._writing:
            if not self.connected or self.port is None:
                return None
            try:
                return self.send(data)
            except DeviceError:  # our own thread will notice
                return None
