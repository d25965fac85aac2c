"""The server: a loop in the plugin's thread, its connections, and what all clients share."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream, SSLIOStream
from tornado.web import Application

from fixgw.errors import DeviceError
from fixgw.net.access import Address
from fixgw.net.listener import Listener
from fixgw.plugins.web import api, guard, outside
from fixgw.plugins.web.hub import Hub
from fixgw.world import World

if TYPE_CHECKING:
    from fixgw.plugins.web import Options

MAX_HEADER_BYTES = 16 * 1024
MAX_BODY_BYTES = 1024 * 1024
MAX_MESSAGE_BYTES = 64 * 1024
IDLE_S = 60.0  # without a request, and for all of a request
PING_S = 10.0
CONNECTIONS = 6  # that a browser opens for one page
STOP_S = 0.5
SECOND_S = 1.0


class Server:
    """Listens, and serves until it is told to stop. Names of files are relative to `folder`.

    `open` and `close` may be called from any thread.
    """

    def __init__(
        self,
        world: World,
        options: Options,
        folder: Path,
        name: str,
        source: str,
        log: logging.Logger,
        counts: dict[str, int],
    ) -> None:
        self.hub = Hub(world, options, name, source, log, counts)
        self._tls = _tls(options, folder)
        self._listener = Listener(
            options.host,
            options.port,
            allow=(*options.allow, *options.write, *options.admin),
            most=options.clients * CONNECTIONS,
            most_per_host=max(2, options.clients // 2) * CONNECTIONS,
            complain=self.hub.complain,
            counts=counts,
        )
        self._stop: asyncio.Event | None = None
        self._http: HTTPServer | None = None
        self._connections: set[IOStream] = set()

    @property
    def port(self) -> int:
        return self._listener.port

    def open(self) -> None:
        """Listen. Raises `DeviceError`."""
        self._listener.open()

    def close(self) -> None:
        self._listener.close()

    def wake(self) -> None:
        """Make `run` return. Any thread."""
        loop, stop = self.hub.loop, self._stop
        if loop is not None and stop is not None:
            with suppress(RuntimeError):  # it has returned
                loop.call_soon_threadsafe(stop.set)

    def run(self, stopping: threading.Event, alive: Callable[[], object]) -> None:
        """Serve until `stopping` is set and `wake` was called. Calls `alive` about once a second."""
        asyncio.run(self._run(stopping, alive))

    def status(self) -> Mapping[str, Any]:
        hub = self.hub
        return {"port": self.port, "pages": len(hub.streams), "connections": len(self._connections), **hub.counts}

    async def _run(self, stopping: threading.Event, alive: Callable[[], object]) -> None:
        hub = self.hub
        self._stop = asyncio.Event()
        hub.loop = loop = asyncio.get_running_loop()
        for logger in ("tornado.access", "tornado.general"):  # whoever sends nonsense could fill the log
            logging.getLogger(logger).setLevel(logging.ERROR)
        application = Application(
            api.routes(hub),
            default_handler_class=guard.NotFound,
            default_handler_args={"hub": hub},
            log_function=lambda handler: None,
            websocket_ping_interval=PING_S,
            websocket_max_message_size=MAX_MESSAGE_BYTES,
        )
        self._http = HTTPServer(
            application,
            max_header_size=MAX_HEADER_BYTES,
            max_body_size=MAX_BODY_BYTES,
            idle_connection_timeout=IDLE_S,
            body_timeout=IDLE_S,
        )
        hub.world.alert_listeners[hub.note_alert] = None
        subscription = hub.db.subscribe("*", on_aux=hub.note_aux, quick=True)
        self._listener.watch(_Readers(loop, self._accept))
        try:
            while not stopping.is_set():
                alive()
                self._listener.resume()
                hub.look()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), SECOND_S)
        finally:
            subscription.close()
            hub.world.alert_listeners.pop(hub.note_alert, None)
            outside.end_all()
            hub.collector.stop()
            with suppress(ValueError, OSError):
                loop.remove_reader(self._listener.fileno())
            self._listener.close()
            await self._hang_up()

    async def _hang_up(self) -> None:
        """Tell the clients, and close all connections."""
        for stream in list(self.hub.streams):
            stream.close(1001, "the gateway stops")
        assert self._http is not None
        with suppress(TimeoutError):
            await asyncio.wait_for(self._http.close_all_connections(), STOP_S)
        for connection in list(self._connections):
            connection.close()

    def _accept(self) -> None:
        assert self._http is not None
        for caller in self._listener.accept():
            try:
                connection = self._wrap(caller.sock, caller.address)
            except OSError:  # it has gone
                caller.sock.close()
                self._listener.left(caller.address)
                continue
            self._connections.add(connection)
            try:
                self._http.handle_stream(connection, (str(caller.address), caller.port))
            except Exception as error:
                self.hub.complain("%s was turned away", caller, about="connection", error=error)
                connection.close()

    def _wrap(self, sock: socket.socket, address: Address) -> IOStream:
        limit = 2 * MAX_BODY_BYTES
        if self._tls is None:
            return _Connection(sock, self, address, max_buffer_size=limit)
        secured = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        return _SecureConnection(secured, self, address, max_buffer_size=limit)

    def left(self, connection: IOStream, address: Address) -> None:
        if connection in self._connections:
            self._connections.discard(connection)
            self._listener.left(address)


class _Connection(IOStream):
    """A connection that tells the server when it is closed."""

    def __init__(self, sock: socket.socket, server: Server, address: Address, **options: Any) -> None:
        self._server, self._address = server, address
        super().__init__(sock, **options)

    def close_fd(self) -> None:
        super().close_fd()
        self._server.left(self, self._address)


class _SecureConnection(SSLIOStream):
    def __init__(self, sock: socket.socket, server: Server, address: Address, **options: Any) -> None:
        self._server, self._address = server, address
        super().__init__(sock, **options)

    def close_fd(self) -> None:
        super().close_fd()
        self._server.left(self, self._address)


class _Readers:
    """The loop, as a listener wants it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ready: Callable[[], object]) -> None:
        self._loop, self._ready = loop, ready

    def register(self, fileobj: int, events: int, /) -> object:
        return self._loop.add_reader(fileobj, self._ready)

    def unregister(self, fileobj: int, /) -> object:
        return self._loop.remove_reader(fileobj)


def _tls(options: Options, folder: Path) -> ssl.SSLContext | None:
    """Raises `DeviceError` if the certificate cannot be used."""
    if not options.certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate, key = (folder / Path(name).expanduser() for name in (options.certificate, options.key))
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ValueError) as error:
        raise DeviceError(f"{certificate} and {key} cannot be used for https: {error}") from error
    return context
