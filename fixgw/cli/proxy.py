"""The command proxy: shows what a display asks a gateway for, and when it is told."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fixgw.cli import EXIT_DONE, EXIT_FAILED, Subparsers, add_command, address, complain, seconds, stop_on_signal, text
from fixgw.cli.narrate import GATHER_S as GATHERED_S
from fixgw.cli.narrate import Narrator, summary_lines
from fixgw.clock import now
from fixgw.errors import FixgwError
from fixgw.kit.complaints import Complaints
from fixgw.kit.raw import Event as LinkEvent
from fixgw.kit.raw import Heard
from fixgw.net import access
from fixgw.net.relay import Relay, Side
from fixgw.netfix.overheard import Conversation, Event, plain
from fixgw.netfix.sentence import PORT

if TYPE_CHECKING:
    from fixgw.recording.capture import Capture
    from fixgw.recording.container import Writer

log = logging.getLogger(__name__)

LISTEN_PORT = 3600
GATHER_S, LOOK_S = 0.05, 0.2  # what passes within this time is shown together; we wait this long for it
FLUSH_S = 1.0  # between writes to the disk
PIECE_BYTES = 200  # of memory for a piece, beside its data
MAX_WAITING_BYTES = 8 << 20  # that have passed, and are not shown yet; of more, we only say that they are missing
SWITCH_S = 0.0005  # the longest that showing holds up passing on
LINK = "netfix"  # the beginning of the names of the links in a recording


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        subparsers,
        "proxy",
        run,
        "Stands between displays and a gateway: give the display the proxy's port. Everything is passed on unchanged\n"
        "and at once, and shown here: commands and how long their answers took, what is written, refused or never\n"
        "answered, how often each key is told, changes of flags. Ctrl-C ends it, with a summary of each client.\n\n"
        "The gateway sees the proxy's address instead of the display's, and gives the display the permissions of this\n"
        "computer; therefore only this computer may connect unless --allow names others.\n\n"
        "--record keeps all bytes with their times, in an MCAP file; --show shows it like a live connection.",
        "  fixgw proxy\n"
        "  fixgw proxy --listen 3600 --to 192.168.1.10:3490 --record display.mcap\n"
        "  fixgw proxy --listen 0.0.0.0:3600 --allow 192.168.1.20\n"
        "  fixgw proxy --json --duration 60 | jq 'select(.what == \"answered\" and .seconds > 0.1)'\n"
        "  fixgw proxy --show display.mcap --all",
    )
    parser.add_argument(
        "--listen",
        metavar="[HOST:]PORT",
        type=_listening,
        default=("127.0.0.1", LISTEN_PORT),
        help=f"where displays connect (default: 127.0.0.1:{LISTEN_PORT})",
    )
    parser.add_argument(
        "--to",
        metavar="HOST[:PORT]",
        type=partial(address, default_port=PORT),
        default=("127.0.0.1", PORT),
        help=f"the gateway (default: 127.0.0.1:{PORT})",
    )
    parser.add_argument(
        "--allow", metavar="NETWORK", type=_network, action="append", help="a host or network that may connect, too"
    )
    parser.add_argument(
        "--record", metavar="FILE", type=Path, help="keep everything in this file, whose name ends with .mcap"
    )
    parser.add_argument("--show", metavar="FILE", type=Path, help="show what was recorded instead")
    parser.add_argument("--all", action="store_true", help="show each command and each update")
    parser.add_argument("--json", action="store_true", help="print a JSON object for each event and each summary")
    parser.add_argument(
        "--every", metavar="SECONDS", type=seconds, default=10.0, help="how often updates are summed up (default: 10)"
    )
    parser.add_argument("--duration", metavar="SECONDS", type=seconds, help="stop after this time")


def _listening(word: str) -> tuple[str, int]:
    host, _, port = word.rpartition(":")
    host = host or "127.0.0.1"
    return (address(f"{host}:1")[0], 0) if port == "0" else address(f"{host}:{port}")  # 0: any free one


def _network(word: str) -> str:
    try:
        access.network(word)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return word


# -- what has happened -------------------------------------------------------------------------------------------------


class Piece(NamedTuple):
    """Something that the relay has seen. `data` are bytes that passed, or words."""

    what: str  # opened, reached, passed, hung, closed, missed
    client: int
    at: float
    side: Side | None = None
    data: bytes | str = b""


class Gathering:
    """Takes note of what the relay sees, on its thread, and lets another thread take it. Bounded."""

    def __init__(self) -> None:
        self._pieces: deque[Piece] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        self._missed: dict[int, float] = {}
        self._news = threading.Event()

    def opened(self, number: int, at: float, name: str) -> None:
        self._note(Piece("opened", number, at, None, name))

    def reached(self, number: int, at: float) -> None:
        self._note(Piece("reached", number, at))

    def passed(self, number: int, at: float, sender: Side, data: bytes) -> None:
        self._note(Piece("passed", number, at, sender, data))

    def hung(self, number: int, at: float, side: Side, waiting: int) -> None:
        self._note(Piece("hung", number, at, side, str(waiting)))

    def closed(self, number: int, at: float, by: Side | None, why: str) -> None:
        self._note(Piece("closed", number, at, by, why))

    def _note(self, piece: Piece) -> None:
        size = PIECE_BYTES + len(piece.data)
        with self._lock:
            if self._bytes + size > MAX_WAITING_BYTES or piece.client in self._missed:
                self._missed.setdefault(piece.client, piece.at)
            else:
                self._bytes += size
                self._pieces.append(piece)
        self._news.set()

    def take(self, timeout: float) -> list[Piece]:
        """What has been noted, in order; waits for something, at most `timeout` seconds."""
        self._news.wait(timeout)
        self._news.clear()
        with self._lock:
            pieces = [*self._pieces, *(Piece("missed", client, at) for client, at in self._missed.items())]
            self._pieces.clear()
            self._missed.clear()
            self._bytes = 0
        return pieces


# -- telling it --------------------------------------------------------------------------------------------------------


class Teller:
    """Tells people or programs what the pieces mean. `offset` turns times into Unix time."""

    def __init__(self, args: argparse.Namespace, offset: float) -> None:
        self._json: bool = args.json
        self._offset = offset
        self._narrator = Narrator(offset, args.every, args.all)
        self._clients: dict[int, tuple[Conversation, str]] = {}

    def begin(self, host: str, port: int, gateway: tuple[str, int]) -> None:
        """Tell where displays may connect."""
        if self._json:
            self._print([{"what": "listening", "at": now(), "host": host, "port": port, "gateway": [*gateway]}])
        else:
            print(f"{host} port {port} leads to the gateway at {gateway[0]} port {gateway[1]}. Ctrl-C ends it.")
        sys.stdout.flush()

    def tell(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            if self._json:
                self._print(self._objects(piece))
            else:
                text.show(*self._lines(piece))

    def tick(self, at: float) -> None:
        """Tell what is due, at the time `at`."""
        if not self._json:
            text.show(*self._narrator.tick(at))
        sys.stdout.flush()

    def end(self, at: float) -> None:
        """Tell the rest, and sum up the clients that are still connected."""
        for number in [*self._clients]:
            self.tell([Piece("closed", number, at, None, "")])
        self.tick(at + GATHERED_S)

    def _conversation(self, piece: Piece) -> Conversation:
        if piece.client not in self._clients:
            name = piece.data if piece.what == "opened" and isinstance(piece.data, str) else "?"
            self._clients[piece.client] = Conversation(piece.client, piece.at), name
        return self._clients[piece.client][0]

    def _hear(self, piece: Piece) -> list[Event]:
        conversation = self._conversation(piece)
        if piece.what == "missed":
            conversation.miss()
        elif piece.what == "closed":
            return conversation.end(piece.at)
        elif piece.what == "passed" and piece.side is not None and isinstance(piece.data, bytes):
            return conversation.hear(piece.at, piece.side, piece.data)
        return []

    def _objects(self, piece: Piece) -> Iterator[Any]:
        """The piece for programs."""
        for event in self._hear(piece):
            yield plain(event)
        if piece.what != "passed":
            facts: dict[str, Any] = {"what": piece.what, "at": piece.at, "client": piece.client}
            if piece.side is not None:
                facts["side"] = piece.side
            if piece.data:
                facts["words"] = piece.data
            yield facts
        if piece.what == "closed":
            conversation, name = self._clients.pop(piece.client)
            yield {"what": "summary", "at": piece.at, "from": name, **plain(conversation.summary(piece.at))}

    def _print(self, objects: Iterable[dict[str, Any]]) -> None:
        for each in objects:
            each["time"] = datetime.fromtimestamp(each["at"] + self._offset, UTC).isoformat()
            print(json.dumps(each))

    def _lines(self, piece: Piece) -> Iterator[str]:
        """The piece for people."""
        for event in self._hear(piece):
            yield from self._narrator.take(event)
        if piece.what == "passed":
            return
        yield from self._narrator.flush(piece.client)
        conversation, name = self._clients[piece.client]
        if words := _words(piece, conversation):
            yield self._narrator.say(piece.at, piece.client, words)
        if piece.what == "closed":
            del self._clients[piece.client]
            self._narrator.forget(piece.client)
            yield from summary_lines(conversation.summary(piece.at), name)


def _words(piece: Piece, conversation: Conversation) -> str:
    who = {"client": "the client", "server": "the gateway"}.get(piece.side or "", "")
    if piece.what == "opened":
        return f"connected from {piece.data!s}"
    if piece.what == "reached":
        return f"the gateway accepted it after {1e3 * (piece.at - conversation.since):.3g} ms"
    if piece.what == "hung":
        return f"{who} takes nothing: {piece.data!s} bytes wait" if piece.data != "0" else f"{who} takes data again"
    if piece.what == "missed":
        return "not shown: some of what passed, because the output was too slow"
    why = str(piece.data)
    if who and why:
        return f"{who} {why}" if why.startswith(("cannot", "vanished")) else f"{who} broke the connection: {why}"
    return f"{who} closed the connection" if who else why


# -- recording ---------------------------------------------------------------------------------------------------------


class Recorder:
    """Writes pieces to a file. If that fails, it says so and stops; what passes is not affected."""

    def __init__(self, path: Path, offset: float, start: float) -> None:
        from fixgw.recording.container import PART, SUFFIX, Writer

        if path.suffix != SUFFIX:
            raise FixgwError(f"{path}: the name of a recording ends with {SUFFIX}")
        if path.exists():
            raise FixgwError(f"{path} exists already: move it away, or choose another name")
        self.path = path
        self._writer: Writer | None = Writer(path.with_name(path.name.removesuffix(SUFFIX) + PART), {}, {})
        self._writer.write_time(start, start + offset, "")
        self._flush_at = start
        self._places: dict[int, int] = {}  # of the clients: channels are used again

    def write(self, pieces: Iterable[Piece], at: float) -> None:
        from fixgw.recording.capture import write_raw

        if self._writer is None:
            return
        write_raw(self._writer, [heard for piece in pieces for heard in self._heard(piece)], at)
        if at >= self._flush_at:
            self._flush_at = at + FLUSH_S
            self._guarded(self._writer.flush)

    def close(self) -> None:
        if self._writer is not None:
            self._guarded(self._writer.finish)

    def _guarded(self, write: Callable[[], object]) -> None:
        assert self._writer is not None
        try:
            write()
        except OSError as error:
            complain(f"{self.path}: {error.strerror}; the recording has stopped")
            self._writer.abandon()
            self._writer = None

    def _heard(self, piece: Piece) -> Iterator[Heard]:
        """A piece as a recording has it: what a client sends comes in."""
        if piece.client not in self._places:
            taken = {*self._places.values()}
            self._places[piece.client] = next(place for place in count(1) if place not in taken)
        name = f"{LINK} {self._places[piece.client]}"
        if isinstance(piece.data, bytes) and piece.what in ("passed", "missed"):
            yield Heard(name, piece.at, "in" if piece.side == "client" else "out", piece.data)
        elif piece.what == "opened":
            yield Heard(name, piece.at, "in", LinkEvent("client", "opened", str(piece.data)))
        elif piece.what == "reached":
            yield Heard(name, piece.at, "in", LinkEvent("server", "opened"))
        elif piece.what == "closed":
            yield Heard(name, piece.at, "in", LinkEvent(piece.side or LINK, "lost", str(piece.data)))
            del self._places[piece.client]


def recorded(capture: Capture) -> Iterator[Piece]:
    """The pieces of a recording, in order."""
    numbers = count(1)
    clients: dict[str, int] = {}
    for heard in capture.entries():
        if not isinstance(heard, Heard) or not heard.connection.startswith(LINK):
            continue
        name, at, direction, data = heard
        if name not in clients or (isinstance(data, LinkEvent) and data[:2] == ("client", "opened")):
            clients[name] = next(numbers)
        number = clients[name]
        if isinstance(data, bytes):
            yield Piece("passed", number, at, "client" if direction == "in" else "server", data)
        elif isinstance(data, LinkEvent) and data.what == "opened":
            yield Piece("opened" if data.link == "client" else "reached", number, at, None, data.detail)
        elif isinstance(data, LinkEvent) and data.what == "lost":
            by: Side | None = "client" if data.link == "client" else "server" if data.link == "server" else None
            yield Piece("closed", number, at, by, data.detail)


# -- running -----------------------------------------------------------------------------------------------------------


def run(args: argparse.Namespace) -> int:
    if args.show is not None:
        return show(args)
    offset = datetime.now(UTC).timestamp() - now()
    gathering = Gathering()
    host, port = args.listen
    allow = (*access.LOOPBACK, *(args.allow or ()))
    relay = Relay(host, port, args.to, gathering, Complaints(log, now), allow=allow)
    try:
        relay.open()
        recorder = None if args.record is None else Recorder(args.record, offset, now())
        teller = Teller(args, offset)
        teller.begin(host, relay.port, args.to)
        with stop_on_signal() as over:
            return _watch(relay, gathering, teller, recorder, over, args.duration)
    finally:
        relay.close()


def _watch(
    relay: Relay,
    gathering: Gathering,
    teller: Teller,
    recorder: Recorder | None,
    over: threading.Event,
    duration: float | None,
) -> int:
    """Show what passes, until the end."""
    thread = threading.Thread(target=relay.run, name="proxy", daemon=True)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    until = float("inf") if duration is None else now() + duration

    def look(timeout: float) -> None:
        pieces = gathering.take(timeout)
        if recorder is not None:
            recorder.write(pieces, now())
        teller.tell(pieces)

    try:
        thread.start()
        while not over.wait(GATHER_S) and thread.is_alive() and now() < until:
            look(LOOK_S)
            teller.tick(now())
    finally:
        broken = not thread.is_alive()
        relay.stop()
        thread.join()
        sys.setswitchinterval(interval)
        look(0.0)
        if recorder is not None:
            recorder.close()
        teller.end(now())
    return EXIT_FAILED if broken else EXIT_DONE


def show(args: argparse.Namespace) -> int:
    """Show a recording."""
    from fixgw.recording.capture import McapCapture

    with closing(McapCapture(args.show)) as capture:
        teller = Teller(args, capture.offset or 0.0)
        at = capture.start
        for piece in recorded(capture):
            at = max(at, piece.at)
            teller.tick(at)
            teller.tell([piece])
        teller.end(at)
    return EXIT_DONE
