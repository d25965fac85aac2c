"""The commands of `fixgw canfix` that look and change nothing: nodes, monitor."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any

from fixgw.cli import EXIT_DONE, EXIT_FAILED, text
from fixgw.database import ANNUNCIATE, BAD, FAIL
from fixgw.drivers.canfix import protocol as cf
from fixgw.drivers.canfix import table as tables
from fixgw.drivers.canfix.table import Table
from fixgw.drivers.canfix.tool import text as words
from fixgw.drivers.canfix.tool.bus import Bus
from fixgw.drivers.canfix.tool.change import Args, opened, survey
from fixgw.drivers.canfix.tool.survey import SILENT, Heard, Member, Survey, decode, surveyed
from fixgw.drivers.links.can import log as can_log
from fixgw.drivers.links.can.frame import ERROR, EXTENDED, Frame
from fixgw.errors import BadValue

REDRAW = 0.2  # seconds
MOST_ROWS = 5000  # on the screen, even if somebody babbles


def _recorded(args: Args, codec: cf.Codec) -> Iterator[Heard]:
    """What is in the log."""
    try:
        with nullcontext(sys.stdin) if args.log == "-" else open(args.log, encoding="ascii", errors="replace") as lines:
            for recorded in can_log.read(lines, args.channel):
                yield decode(codec, recorded.frame, recorded.channel)
    except FileNotFoundError:
        raise BadValue("--log", f"there is no file {args.log}") from None


# -- nodes -------------------------------------------------------------------------------------------------------------


def nodes(args: Args) -> int:
    if args.gateway:
        found = _known_to_the_gateway(args)
    elif args.log:
        codec = cf.Codec(tables.load(args.table or tables.CURRENT))
        found = _as_facts(surveyed(_recorded(args, codec)))
    else:
        with opened(args) as bus:
            heard = survey(bus, args.duration, ask=None if args.quiet else 0)
            found = _as_facts(heard)
            found["notes"] += _notes(bus, heard)
    if args.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print("\n".join(_node_lines(found, args.long)))
    return EXIT_DONE if found["nodes"] else EXIT_FAILED


def _as_facts(found: Survey) -> dict[str, Any]:
    return {
        "nodes": [_member_facts(member, found) for _, member in sorted(found.nodes.items())],
        "conflicts": [
            {"id": parameter.identifier, "name": parameter.name, "nodes": senders}
            for parameter, senders in found.conflicts().items()
        ],
        "notes": [f"the bus is {found.controller}"] if found.controller not in ("", "active") else [],
        "frames": found.frames,
        "seconds": round(found.seconds, 3),
    }


def _member_facts(member: Member, found: Survey) -> dict[str, Any]:
    identity = member.identity
    return {
        "node": member.number,
        "type": identity and identity.device,
        "type_name": identity and words.device(identity.device),
        "model": identity and identity.model,
        "firmware": identity and identity.firmware,
        "description": member.description or None,
        "health": member.health(found.now),
        "rate": round(found.rate(member.frames), 1),
        "last_seen": round(found.now - member.last, 1),
        "twins": member.twins,
        "status": {
            said.name: said.value.hex(" ") if isinstance(said.value, bytes) else said.value
            for _, said in sorted(member.status.items())
        },
        "alarms": {str(code): times for code, times in sorted(member.alarms.items())},
        "parameters": {
            f"0x{identifier:03X}": round(found.rate(frames), 1)
            for identifier, frames in sorted(member.parameters.items())
        },
    }


def _notes(bus: Bus, found: Survey) -> list[str]:
    notes = []
    if not found.frames:
        notes.append("nobody says anything: is the bus powered and terminated, and the bit rate right?")
    if bus.node in found.nodes:
        notes.append(f"node {words.node(bus.node)} is our own id: choose another with --node")
    return notes


def _known_to_the_gateway(args: Args) -> dict[str, Any]:
    """What the running gateway's CAN-FIX connections know of their nodes, in the same form."""
    from fixgw.cli.client import connect, new_client

    client = new_client(args)
    connect(client)
    try:
        status = client.status()
    finally:
        client.disconnect()
    found: dict[str, Any] = {"nodes": [], "conflicts": [], "notes": []}
    for name, connection in status.get("connections", {}).items():
        own = connection.get("status") or {}
        if not str(connection.get("module", "")).endswith("canfix") or args.connection not in (None, name):
            continue
        for number, known in (own.get("nodes") or {}).items():
            found["nodes"].append(_known_facts(int(number), known))
        for identifier, senders in (own.get("conflicts") or {}).items():
            numbers = [int(number) for number in re.findall(r"\d+", senders)]
            found["conflicts"].append({"id": int(identifier, 16), "name": _name(identifier), "nodes": numbers})
        if connection.get("health") != "ok":
            found["notes"].append(f"{name}: {connection.get('reason') or connection.get('health')}")
    if not found["nodes"]:
        found["notes"].append("the gateway knows of no CAN-FIX node")
    return found


def _name(identifier: str) -> str:
    parameter = tables.load().get(int(identifier, 16))
    return parameter.name if parameter else ""


def _known_facts(number: int, known: Mapping[str, Any]) -> dict[str, Any]:
    told = dict(known)
    kind = int(told.pop("type"), 16) if "type" in told else None
    rates = told.pop("rates", {})
    facts = {
        "node": number,
        "type": kind,
        "type_name": None if kind is None else words.device(kind),
        "model": told.pop("model", None),
        "firmware": told.pop("firmware", None),
        "description": told.pop("description", "") or None,
        "last_seen": told.pop("last seen", 0.0),
        "rate": round(sum(rates.values()), 1),
        "parameters": rates,
    }
    alarms = {str(told.pop("alarm")): told.pop("alarms")} if "alarm" in told else {}
    health = [words.status(cf.NodeStatus(number, 0, told["Node Status"]))] if "Node Status" in told else []
    health += [f"alarm {code}" for code in alarms]
    if facts["last_seen"] > SILENT:
        health.append(f"silent for {facts['last_seen']:.0f} s")
    return facts | {"health": ", ".join(health), "alarms": alarms, "twins": False, "status": told}


def _node_lines(found: Mapping[str, Any], long: bool) -> Iterator[str]:
    rows = [("NODE", "TYPE", "MODEL", "FIRMWARE", "DESCRIPTION", "FRAMES/S", "HEALTH")]
    for node in found["nodes"]:
        known = node["type"] is not None
        rows.append(
            (
                words.node(node["node"]),
                f"{node['type_name']} (0x{node['type']:02X})" if known else "does not say",
                f"0x{node['model']:06X}" if known else "-",
                str(node["firmware"]) if known else "-",
                node["description"] or "-",
                f"{node['rate']:.1f}",
                node["health"] or "-",
            )
        )
    lines = text.table(rows)
    if len(rows) > 1:
        yield lines[0]
    for node, line in zip(found["nodes"], lines[1:], strict=True):
        yield line
        if long:
            yield from (f"    {name}: {value}" for name, value in node["status"].items())
            for identifier, rate in node["parameters"].items():
                yield f"    {identifier} {_name(identifier)}, {rate:g} a second"
    if found["conflicts"]:
        yield "conflicts: parameters that several nodes send (`fixgw canfix disable` settles it)"
        for conflict in found["conflicts"]:
            senders = " and ".join(map(words.node, conflict["nodes"]))
            yield f"  0x{conflict['id']:03X} {conflict['name']}: nodes {senders}"
    yield from found["notes"]


# -- monitor -----------------------------------------------------------------------------------------------------------


def monitor(args: Args) -> int:
    try:
        if args.log:
            table = tables.load(args.table or tables.CURRENT)
            _check(args, table)
            _print_frames(args, table, _recorded(args, cf.Codec(table)))
            return EXIT_DONE
        with opened(args) as bus:
            _check(args, bus.codec.table)
            lines = args.raw or args.lines or args.json or not sys.stdout.isatty()
            if lines or os.environ.get("TERM", "dumb") == "dumb":
                channel = os.path.basename(str(bus.options.channel)) or "can"
                _print_frames(args, bus.codec.table, bus.listen(args.duration), channel)
            else:
                _Screen(args, bus).run()
    except KeyboardInterrupt:
        pass  # the usual way to end it
    return EXIT_DONE


def _check(args: Args, table: Table) -> None:
    for pattern in args.patterns:
        words.check(table, pattern)


def _wanted(args: Args, table: Table, heard: Heard) -> bool:
    """Whether this is what somebody wants to see."""
    outcome = heard.outcome
    if args.source is not None and words.sender(outcome) != args.source:
        return False
    if not args.patterns:
        return True
    parameter = getattr(outcome, "parameter", None)
    if parameter is None:
        return any(words.names(pattern, heard.frame.arbitration_id) for pattern in args.patterns)
    index = getattr(outcome, "index", 0)
    return any(words.matches(table, parameter, index, pattern) for pattern in args.patterns)


def _print_frames(args: Args, table: Table, source: Iterator[Heard], channel: str = "") -> None:
    """A line for each frame."""
    live = not args.log
    # A log has the time of day, or whatever its recorder had; what is live gets it from here.
    offset = datetime.now(UTC).timestamp() - time.monotonic() if live else 0.0
    start: float | None = None
    left = args.count
    for heard in source:
        start = heard.time if start is None else start
        if args.duration is not None and heard.time - start > args.duration:
            return
        if not _wanted(args, table, heard):
            continue
        if args.raw:
            line = can_log.line(heard.frame, heard.channel or channel, heard.time + offset)
        elif args.json:
            line = json.dumps(
                {"time": round(heard.time + offset, 6), "id": heard.frame.arbitration_id}
                | words.facts(table, heard.outcome)
                | {"data": heard.frame.data.hex()},
                ensure_ascii=False,
            )
        else:
            line = f"{heard.time - start:9.3f}  {_line(table, heard)}"
        print(line, flush=live)
        if left is not None:
            left -= 1
            if not left:
                return


def _identifier(frame: Frame) -> str:
    return f"{frame.arbitration_id:0{8 if frame.flags & EXTENDED else 3}X}"


def _line(table: Table, heard: Heard) -> str:
    """Identifier, node, key, what it says."""
    outcome = heard.outcome
    if heard.frame.flags & ERROR:
        return f"{'ERR':>3}  {'-':>3}  {'':12}  {words.bus_error(heard.frame)}"
    said = words.message(table, outcome)
    if isinstance(outcome, cf.Dropped):
        said = f"{said}: {heard.frame.data.hex(' ')}".rstrip(": ")
    node = words.sender(outcome) or "-"
    return f"{_identifier(heard.frame)}  {node:>3}  {words.name(table, outcome):12}  {said}"


class _Screen:
    """Each parameter on a line of its own, and each other kind of message of each node."""

    def __init__(self, args: Args, bus: Bus) -> None:
        from fixgw.cli.terminal import Table as Page

        self.args = args
        self.bus = bus
        self.page = Page([])
        self._rows: dict[Any, Any] = {}

    def run(self) -> None:
        """Show what comes until q is pressed, or it is enough."""
        from fixgw.cli.terminal import SCROLLS, Terminal

        args, began = self.args, time.monotonic()
        left = args.count
        title = f"CAN-FIX on {self.bus.options.interface} {self.bus.options.channel}"
        colour = not os.environ.get("NO_COLOR")
        with Terminal() as terminal:
            while args.duration is None or time.monotonic() - began < args.duration:
                for heard in self.bus.listen(REDRAW):
                    if _wanted(args, self.bus.codec.table, heard):
                        self._take(heard)
                        left = None if left is None else left - 1
                        if left == 0:
                            return
                width, height = os.get_terminal_size(sys.stdout.fileno())
                terminal.show(self.page.draw(time.monotonic(), width or 80, height or 24, title, colour))
                for key in terminal.keys(0.0):
                    if key in ("q", "Q", "\x04"):
                        return
                    self.page.top += SCROLLS.get(key, 0)

    def _take(self, heard: Heard) -> None:
        from fixgw.cli.terminal import Row

        outcome, table = heard.outcome, self.bus.codec.table
        node, identifier = words.sender(outcome), heard.frame.arbitration_id
        flags, value, units = 0, "", ""
        if isinstance(outcome, cf.ParameterUpdate):
            parameter, index, meta = outcome.parameter, outcome.index, outcome.meta
            place: tuple[Any, ...] = (identifier, index, meta, node)
            about, units = words.title(parameter, index, meta), parameter.units
            value = words.value(parameter, outcome.value, units=False)
            flags = ANNUNCIATE * outcome.annunciate | BAD * outcome.quality | FAIL * outcome.failure
        else:
            place = (identifier, type(outcome).__name__, getattr(outcome, "type", 0), node)
            about = words.bus_error(heard.frame) if heard.frame.flags & ERROR else words.message(table, outcome)
        row = self._rows.get(place)
        if row is None:
            if len(self._rows) >= MOST_ROWS:
                return
            # A dot in the name of a row: it has no flags of its own.
            name = f"{_identifier(heard.frame)} {words.name(table, outcome)}".strip() + ("" if value else ".")
            row = self._rows[place] = Row(name, units)
            order = sorted(self._rows, key=lambda at: (at[0], [f"{part:>3}" for part in at[1:]]))
            self.page.rows = [self._rows[at] for at in order]
        row.description = f"{about}, from {node}" if value and node else f"{node or ''}  {about}".strip()
        row.update(value or None, flags, heard.time)
