"""NetFIX for displays, consoles and other gateways.

``type: server`` serves clients, ``type: client`` mirrors keys to and from other gateways (`outputs`), and
``type: both`` does both.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fixgw import database, plugin, state
from fixgw.errors import PluginFail, Problem, did_you_mean
from fixgw.identity import identity
from fixgw.net import access, listener
from fixgw.net.access import LOOPBACK
from fixgw.netfix.sentence import PORT
from fixgw.plugins.netfix.mirror import Link, matching
from fixgw.plugins.netfix.peer import Topic
from fixgw.plugins.netfix.server import STOP_TIMEOUT_S, Server
from fixgw.plugins.netfix.versions import versions_of
from fixgw.world import Way

Names = tuple[str, ...]


class Output(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another gateway, and the keys to send there and to receive from there."""

    host: Annotated[str, Meta(min_length=1, description="The other gateway's host name or address.")]
    port: Annotated[int, Meta(ge=1, le=65535, description="The other gateway's NetFIX port.")] = PORT
    send: Annotated[Names, Meta(description="Keys or patterns, such as `EGT*`, to write there.")] = ()
    receive: Annotated[Names, Meta(description="Keys or patterns to receive from there.")] = ()


class Options(plugin.Options, frozen=True):
    """Options of the `netfix` plugin."""

    type: Annotated[
        Literal["server", "client", "both"],
        Meta(description="Serve clients, mirror keys to and from other gateways (`outputs`), or both."),
    ] = "server"
    host: Annotated[
        str, Meta(description="Address to listen on; `0.0.0.0` is every IPv4 interface, `::` every interface.")
    ] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="Port to listen on; 0 takes any free one.")] = PORT
    clients: Annotated[
        int, Meta(ge=1, le=10000, description="Maximum number of clients; further ones are refused.")
    ] = 100
    clients_per_host: Annotated[
        Annotated[int, Meta(ge=1, le=10000)] | None,
        Meta(description="Maximum number of clients from one host, so that it cannot shut out the others"),
    ] = None
    allow: Annotated[Names, Meta(description="Networks whose hosts may connect.")] = LOOPBACK
    write: Annotated[Names, Meta(description="Networks whose hosts may write values and flags.")] = LOOPBACK
    admin: Annotated[Names, Meta(description="Networks whose hosts may stop the gateway; none unless set.")] = ()
    outputs: Annotated[tuple[Output, ...], Meta(description="Other gateways to mirror keys to and from.")] = ()
    rate_limit: Annotated[
        dict[str, Annotated[float, Meta(gt=0)]],
        Meta(description="Maximum updates per second, by key or pattern (`EGT*: 4`); changed flags are sent at once."),
    ] = {}
    refresh: Annotated[
        bool,
        Meta(
            description="When a client writes back exactly the value that it has just received, make the value fresh "
            "again, even if another source owns the item."
        ),
    ] = False
    history: Annotated[
        bool,
        Meta(
            description="Remember the values of the last 15 minutes from the start on, at most 3 MB. Otherwise the "
            "gateway remembers them once a client has asked."
        ),
    ] = False
    send_buffer: Annotated[
        int, Meta(ge=4096, le=16777216, description="Bytes that the operating system may buffer for one client.")
    ] = 131072
    reply_buffer: Annotated[
        int, Meta(ge=4096, le=16777216, description="Bytes of unread answers after which a client's requests wait.")
    ] = 262144
    stall_timeout: Annotated[
        float, Meta(ge=1, le=3600, description="Seconds without reading after which a client is dropped.")
    ] = 60.0


class Plugin(plugin.PluginBase[Options]):
    """The server, the links to other gateways, or both."""

    runs_by_itself = True
    safe = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.server: Server | None = None
        self.links: list[Link] = []
        self._trouble = ""
        self._way: Way | None = None  # if a link sends this gateway's vote for a leader
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that the server listens on; once it runs, the actual port if the option is 0."""
        return self.server.port if self.server is not None else self.options.port

    @classmethod
    def advise(cls, options: Options, db: database.Database) -> Iterable[tuple[str, str]]:
        if options.type != "client" and options.allow == LOOPBACK and not access.is_loopback(options.host):
            text = "only this computer may connect; name the networks of others in `allow: [192.168.1.0/24]`"
            yield "host", f"{text}, and in `write` those that may write"

    def run(self) -> None:
        o = self.options
        if o.type != "server":
            self.links = [
                Link(self.db, self.source, out.host, out.port, out.send, out.receive, self.log, self._written)
                for out in o.outputs
            ]
        if o.type != "client":
            self._listen()
        versions_of(self.db, identity(self.db)).restore(state.path(f"netfix-{self.name}"), self.log)
        self._way = self.quorum.ways.get(self.name)
        if self._way is not None:
            self._way.works = lambda: any(link.connected for link in self._voting())
        for link in self.links:
            link.start()

    def _voting(self) -> Iterable[Link]:
        """The links that send this gateway's vote."""
        key = self.quorum.vote_key
        return (link for link in self.links if key is not None and link.sends(key))

    def _written(self, topics: Collection[Topic], when: float) -> None:
        """Note that this gateway's vote has been written to another one. Called on a link's thread."""
        if self._way is not None and (self.quorum.vote_key, "") in topics:
            self._way.sent_at = when

    def _listen(self) -> None:
        o = self.options
        self.server = Server(
            self.db,
            source=self.source,
            host=o.host,
            port=o.port,
            clients=o.clients,
            clients_per_host=o.clients_per_host,
            allow=o.allow,
            write=o.write,
            admin=o.admin,
            rate_limit=o.rate_limit,
            refresh=o.refresh,
            send_buffer=o.send_buffer,
            reply_buffer=o.reply_buffer,
            stall_timeout=o.stall_timeout,
            collect_status=lambda: self._gateway.status(),
            alive=self._show_life,
            quit=self.quit,
            restart=self._gateway.restart,
            offers=self._gateway.offered,
            history=self._gateway.history,
            log=self.log,
        )
        if o.history:
            self._gateway.history.start()
        try:
            self.server.open()
        except OSError:
            self.server.close()
            self.server = None
            raise
        self._thread = threading.Thread(target=self._serve, args=(self.server,), name=self.name, daemon=True)
        self._thread.start()
        self.log.info("listening on %s port %d", o.host, self.server.port)

    def _show_life(self, now: float) -> None:
        self.alive = now

    def _serve(self, server: Server) -> None:
        try:
            server.run()
        except Exception as error:
            self._trouble = f"the server's thread died: {error!r}"
            self.log.exception("the server's thread died")
        finally:
            self.running = False

    def stop(self) -> None:
        if self._way is not None:
            self._way.close()
        for link in self.links:
            link.stop()
        if self.server is not None and self._thread is not None:
            self.server.stop()
            self._thread.join(STOP_TIMEOUT_S)
            if self._thread.is_alive():
                raise PluginFail(f"{self.name}: the server's thread did not stop within {STOP_TIMEOUT_S} s")
        for link in self.links:
            link.join()
        versions_of(self.db, identity(self.db)).close()

    def health(self) -> str:
        lost = [f"not connected to {link.name}" for link in self.links if not (link.connected and link.alive)]
        return self._trouble or "; ".join(lost)

    def get_status(self) -> Mapping[str, Any]:
        status = self.server.status() if self.server is not None else {}
        if self.links:
            status["outputs"] = {link.name: link.status() for link in self.links}
        return status

    @classmethod
    def claims(cls, options: Options) -> Iterable[tuple[str, str]]:
        if options.type != "client" and options.port:
            yield listener.claim(options.host, options.port), "port"

    @classmethod
    def carries_votes(cls, options: Options) -> bool:
        votes = [f"QVOTE{number}" for number in range(1, 100)]
        return options.type != "server" and any(matching(votes, output.send) for output in options.outputs)

    @classmethod
    def check(cls, options: Options, db: database.Database) -> Iterable[Problem | tuple[str, str]]:
        for option in ("allow", "write", "admin"):
            yield from access.problems(option, getattr(options, option))
        if options.type == "client" and not options.outputs:
            yield "type", "a client needs 'outputs': the keys to exchange with other gateways"
        if options.type == "server" and options.outputs:
            yield "outputs", "outputs need type 'both' or 'client'"
        for n, output in enumerate(options.outputs):
            for option in ("send", "receive"):
                for m, pattern in enumerate(getattr(output, option)):
                    yield from _check_pattern(f"outputs.{n}.{option}.{m}", pattern, db)
            if not (output.send or output.receive):
                yield f"outputs.{n}", "neither sends nor receives anything"
        for pattern in options.rate_limit:
            yield from _check_pattern(f"rate_limit.{pattern}", pattern, db)


def _check_pattern(option: str, pattern: str, db: database.Database) -> Iterable[tuple[str, str]]:
    if not matching(db, [pattern]):
        yield option, f"no item {pattern!r}{did_you_mean(pattern, db)}"
