"""A page for browsers on phones, tablets and desks: health, values, engine, alarms, trends, configuration.

What it speaks: `fixgw.plugins.web.api`. Tornado, of the extra `web`, is only imported when a connection of this module
starts. Its loop has a thread of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from fixgw import plugin
from fixgw.database import Database
from fixgw.errors import MissingLibrary
from fixgw.net import listener
from fixgw.net.access import LOOPBACK, is_loopback, problems

if TYPE_CHECKING:
    from fixgw.plugins.web.server import Server

PORT = 8080
Names = tuple[str, ...]


class Options(plugin.Options, frozen=True):
    """Options of the `web` plugin."""

    host: Annotated[
        str, Meta(description="Address to listen on; `0.0.0.0` is every IPv4 interface, `::` every interface.")
    ] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="Port to listen on; 0 takes any free one.")] = PORT
    allow: Annotated[Names, Meta(description="Networks whose hosts may see the page.")] = LOOPBACK
    write: Annotated[
        Names, Meta(description="Networks whose hosts may write values and acknowledge alerts; none unless set.")
    ] = ()
    admin: Annotated[
        Names,
        Meta(description="Networks whose hosts may change the configuration and restart connections; none unless set."),
    ] = ()
    open: Annotated[
        bool, Meta(description="Whether hosts of `allow` may see values without being paired (`fixgw web pair`).")
    ] = False
    names: Annotated[
        Names, Meta(description="Names under which browsers call this computer, besides its address and `localhost`.")
    ] = ()
    rate: Annotated[float, Meta(ge=2, le=50, description="Messages per second that a browser may ask for.")] = 10.0
    clients: Annotated[int, Meta(ge=1, le=100, description="Maximum number of pages that are open at a time.")] = 20
    bench: Annotated[
        bool,
        Meta(description="Show the bench: overrides, the virtual panel, scenarios. Not for an aircraft that flies."),
    ] = False
    panel: Annotated[
        str, Meta(description="Path of the virtual panel's socket; default: where `fixgw sim panel` looks for it.")
    ] = ""
    certificate: Annotated[
        str, Meta(description="File with the certificate for https, in PEM format; relative to the configuration.")
    ] = ""
    key: Annotated[str, Meta(description="File with the private key of the certificate, in PEM format.")] = ""


class Plugin(plugin.Worker[Options]):
    """The server of the page."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.server: Server | None = None

    @property
    def port(self) -> int:
        """The port that the server listens on; once it runs, the actual port if the option is 0."""
        return self.server.port if self.server is not None else self.options.port

    @property
    def address(self) -> str:
        """What to type into a browser on this computer."""
        o = self.options
        host = "127.0.0.1" if o.host in ("0.0.0.0", "::", "") else o.host
        host = f"[{host}]" if ":" in host else host
        return f"{'https' if o.certificate else 'http'}://{host}:{self.port}/"

    def run(self) -> None:
        try:
            from fixgw.plugins.web.server import Server
        except ModuleNotFoundError as error:
            raise MissingLibrary(error.name or "tornado", "web") from error
        folder = Path(self.config.get(plugin.CONFIGPATH) or "")
        self.server = Server(self._gateway, self.options, folder, self.name, self.source, self.log, self.counts)
        self.server.open()
        self._gateway.history.start()
        super().run()
        self.log.info("the page is at %s", self.address)

    def work(self) -> None:
        assert self.server is not None
        self.server.run(self.stopping, self.show_life)

    def wake(self) -> None:
        if self.server is not None:
            self.server.wake()

    def stop(self) -> None:
        super().stop()
        if self.server is not None:
            self.server.close()

    def get_status(self) -> Mapping[str, Any]:
        return self.server.status() if self.server is not None else {}

    @classmethod
    def claims(cls, options: Options) -> Iterable[tuple[str, str]]:
        if options.port:
            yield listener.claim(options.host, options.port), "port"

    @classmethod
    def check(cls, options: Options, db: Database) -> Iterable[tuple[str, str]]:
        for option in ("allow", "write", "admin"):
            yield from problems(option, getattr(options, option))
        if bool(options.certificate) != bool(options.key):
            yield "certificate" if options.certificate else "key", "https needs both `certificate` and `key`"

    @classmethod
    def advise(cls, options: Options, db: Database) -> Iterable[tuple[str, str]]:
        if not is_loopback(options.host) and options.allow == LOOPBACK:
            text = "only this computer may see the page; name the networks of others in `allow: [192.168.1.0/24]`"
            yield "host", text

    @classmethod
    def preflight(cls, options: Options) -> Iterable[plugin.Finding]:
        from fixgw.extras import install_hint  # which loads much, for the doctor

        if find_spec("tornado") is None:
            yield plugin.Finding("problem", "the page needs the library tornado", install_hint("tornado", "web"))
        if find_spec("segno") is None:
            yield plugin.Finding("warning", "the QR code for pairing needs segno", install_hint("segno", "web"))
