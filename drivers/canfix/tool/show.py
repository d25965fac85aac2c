"""The `fixgw canfix` commands that only show: nodes, monitor."""

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
from fixgw.drivers.canfix.tool.change import Args, open_bus, survey
from fixgw.drivers.canfix.tool.survey import SILENT_AFTER_S, Heard, Member, Survey, decode, survey_of
from fixgw.drivers.links.can import log as can_log
from fixgw.drivers.links.can.frame import ERROR
from fixgw.errors import BadValue

REDRAW_S = 0.2
MAX_ROWS = 5000  # on the screen, even if a node babbles


def _read_log(args: Args, codec: cf.Codec) -> Iterator[Heard]:
    """Decode the frames of the log."""
    try:
        with nullcontext(sys.stdin) if args.log == "-" else open(args.log, encoding="ascii", errors="replace") as lines:
            for recorded in can_log.read(lines, args.channel):
                yield decode(codec, recorded.frame, recorded.channel)
    except FileNotFoundError:
        raise BadValue("--log", f"there is no file {args.log}") from None


# -- nodes -------------------------------------------------------------------------------------------------------------


def nodes(args: Args) -> int:
    if args.gateway:
        found = _ask_gateway(args)
    elif args.log:
        codec = cf.Codec(tables.load(args.table or tables.CURRENT))
        found = _survey_as_dict(survey_of(_read_log(args, codec)))
    else:
        with open_bus(args) as bus:
            heard = survey(bus, args.duration, ask=None if args.quiet else 0)
            found = _survey_as_dict(heard)
            found["notes"] += _notes(bus, heard)
    if args.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        text.show(*_node_lines(found, args.long))
    return EXIT_DONE if found["nodes"] else EXIT_FAILED


def _survey_as_dict(found: Survey) -> dict[str, Any]:
    return {
        "nodes": [_member_as_dict(member, found) for _, member in sorted(found.nodes.items())],
        "conflicts": [
            {"id": parameter.identifier, "name": parameter.name, "nodes": senders}
            for parameter, senders in found.conflicts().items()
        ],
        "notes": [f"the bus is {found.controller}"] if found.controller not in ("", "active") else [],
        "frames": found.frames,
        "seconds": round(found.seconds, 3),
    }


def _member_as_dict(member: Member, found: Survey) -> dict[str, Any]:
    identity = member.identity
    return {
        "node": member.number,
        "type": identity and identity.device,
        "type_name": identity and words.describe_device(identity.device),
        "model": identity and identity.model,
        "firmware": identity and identity.firmware,
        "description": member.description or None,
        "health": member.health(found.now),
        "rate": round(found.rate(member.frames), 1),
        "last_seen": round(found.now - member.last, 1),
        "twins": member.twins,
        "status": {
            status.name: status.value.hex(" ") if isinstance(status.value, bytes) else status.value
            for _, status in sorted(member.status.items())
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
        notes.append("nothing received: is the bus powered and terminated, and is the bit rate right?")
    if bus.node in found.nodes:
        notes.append(f"another device is node {words.format_node(bus.node)}, as we are: choose another id with --node")
    return notes


def _ask_gateway(args: Args) -> dict[str, Any]:
    """The nodes known to the running gateway's CAN-FIX connections, in the same form as `_survey_as_dict`."""
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
            found["nodes"].append(_seen_as_dict(int(number), known))
        for identifier, senders in (own.get("conflicts") or {}).items():
            numbers = [int(number) for number in re.findall(r"\d+", senders)]
            found["conflicts"].append({"id": int(identifier, 16), "name": _name(identifier), "nodes": numbers})
        if connection.get("health") != "ok":
            found["notes"].append(f"{name}: {connection.get('reason') or connection.get('health')}")
    if not found["nodes"]:
        found["notes"].append("the gateway has not heard any CAN-FIX node")
    return found


def _name(identifier: str) -> str:
    parameter = tables.load().get(int(identifier, 16))
    return parameter.name if parameter else ""


def _seen_as_dict(number: int, seen: Mapping[str, Any]) -> dict[str, Any]:
    status = dict(seen)
    kind = int(status.pop("type"), 16) if "type" in status else None
    rates = status.pop("rates", {})
    facts = {
        "node": number,
        "type": kind,
        "type_name": None if kind is None else words.describe_device(kind),
        "model": status.pop("model", None),
        "firmware": status.pop("firmware", None),
        "description": status.pop("description", "") or None,
        "last_seen": status.pop("last seen", 0.0),
        "rate": round(sum(rates.values()), 1),
        "parameters": rates,
    }
    alarms = {str(status.pop("alarm")): status.pop("alarms")} if "alarm" in status else {}
    health = []
    if "Node Status" in status:
        health.append(words.describe_status(cf.NodeStatus(number, 0, status["Node Status"])))
    health += [f"alarm {code}" for code in alarms]
    if facts["last_seen"] > SILENT_AFTER_S:
        health.append(f"silent for {facts['last_seen']:.0f} s")
    return facts | {"health": ", ".join(health), "alarms": alarms, "twins": False, "status": status}


def _node_lines(found: Mapping[str, Any], long: bool) -> Iterator[str]:
    rows = [("NODE", "TYPE", "MODEL", "FIRMWARE", "DESCRIPTION", "FRAMES/S", "HEALTH")]
    for node in found["nodes"]:
        known = node["type"] is not None
        rows.append(
            (
                words.format_node(node["node"]),
                f"{node['type_name']} (0x{node['type']:02X})" if known else "unidentified",
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
                yield f"    {identifier} {_name(identifier)}, {rate:g} per second"
    if found["conflicts"]:
        yield "conflicts: parameters sent by more than one node (`fixgw canfix disable` stops one of them)"
        for conflict in found["conflicts"]:
            senders = " and ".join(map(words.format_node, conflict["nodes"]))
            yield f"  0x{conflict['id']:03X} {conflict['name']}: nodes {senders}"
    yield from found["notes"]


# -- monitor -----------------------------------------------------------------------------------------------------------


def monitor(args: Args) -> int:
    try:
        if args.log:
            table = tables.load(args.table or tables.CURRENT)
            _check_patterns(args, table)
            _print_frames(args, table, _read_log(args, cf.Codec(table)))
            return EXIT_DONE
        with open_bus(args) as bus:
            _check_patterns(args, bus.codec.table)
            lines = args.raw or args.lines or args.json or not sys.stdout.isatty()
            if lines or os.environ.get("TERM", "dumb") == "dumb":
                channel = os.path.basename(str(bus.options.channel)) or "can"
                _print_frames(args, bus.codec.table, bus.listen(args.duration), channel)
            else:
                _Screen(args, bus).run()
    except KeyboardInterrupt:
        pass  # the usual way to end it
    return EXIT_DONE


def _check_patterns(args: Args, table: Table) -> None:
    for pattern in args.patterns:
        words.check_pattern(table, pattern)


def _is_wanted(args: Args, table: Table, heard: Heard) -> bool:
    """Whether the arguments select this frame."""
    outcome = heard.outcome
    if args.source is not None and cf.sender_of(outcome) != args.source:
        return False
    if not args.patterns:
        return True
    parameter = getattr(outcome, "parameter", None)
    if parameter is None:
        return any(words.matches_identifier(pattern, heard.frame.arbitration_id) for pattern in args.patterns)
    index = getattr(outcome, "index", 0)
    return any(words.matches_parameter(table, parameter, index, pattern) for pattern in args.patterns)


def _print_frames(args: Args, table: Table, source: Iterator[Heard], channel: str = "") -> None:
    """Print one line per frame."""
    live = not args.log
    # A log carries the time of day, or whatever clock its recorder had; live frames get the time of day here.
    offset = datetime.now(UTC).timestamp() - time.monotonic() if live else 0.0
    start: float | None = None
    left = args.count
    for heard in source:
        start = heard.time if start is None else start
        if args.duration is not None and heard.time - start > args.duration:
            return
        if not _is_wanted(args, table, heard):
            continue
        if args.raw:
            line = can_log.line(heard.frame, heard.channel or channel, heard.time + offset)
        elif args.json:
            line = json.dumps(
                {"time": round(heard.time + offset, 6), "id": heard.frame.arbitration_id}
                | words.as_dict(table, heard.outcome)
                | {"data": heard.frame.data.hex()},
                ensure_ascii=False,
            )
        else:
            line = f"{heard.time - start:9.3f}  {_format_frame(table, heard)}"
        print(text.printable(line), flush=live)
        if left is not None:
            left -= 1
            if not left:
                return


def _format_frame(table: Table, heard: Heard) -> str:
    """Identifier, node, key and message."""
    outcome = heard.outcome
    if heard.frame.flags & ERROR:
        return f"{'ERR':>3}  {'-':>3}  {'':12}  {words.describe_bus_error(heard.frame)}"
    message = words.describe_message(table, outcome)
    if isinstance(outcome, cf.Dropped):
        message = f"{message}: {heard.frame.data.hex(' ')}".rstrip(": ")
    node = cf.sender_of(outcome) or "-"
    return f"{words.format_identifier(heard.frame)}  {node:>3}  {words.name_of(table, outcome):12}  {message}"


class _Screen:
    """One line for each parameter, and one for each other kind of message from each node."""

    def __init__(self, args: Args, bus: Bus) -> None:
        from fixgw.cli.terminal import Table as Page

        self.args = args
        self.bus = bus
        self.page = Page([])
        self._rows: dict[Any, Any] = {}

    def run(self) -> None:
        """Show frames until q is pressed, or until the count or duration is reached."""
        from fixgw.cli.terminal import Terminal

        args, began = self.args, time.monotonic()
        left = args.count
        title = f"CAN-FIX on {self.bus.options.interface} {self.bus.options.channel}"
        colour = not os.environ.get("NO_COLOR")
        with Terminal() as terminal:
            while args.duration is None or time.monotonic() - began < args.duration:
                for heard in self.bus.listen(REDRAW_S):
                    if _is_wanted(args, self.bus.codec.table, heard):
                        self._take(heard)
                        left = None if left is None else left - 1
                        if left == 0:
                            return
                width, height = os.get_terminal_size(sys.stdout.fileno())
                terminal.show(self.page.draw(time.monotonic(), width or 80, height or 24, title, colour))
                for key in terminal.keys(0.0):
                    if key == "\x04" or (not self.page.press(key) and key in ("q", "Q")):
                        return

    def _take(self, heard: Heard) -> None:
        from fixgw.cli.terminal import Row

        outcome, table = heard.outcome, self.bus.codec.table
        node, identifier = cf.sender_of(outcome), heard.frame.arbitration_id
        flags, value, units = 0, "", ""
        if isinstance(outcome, cf.ParameterUpdate):
            parameter, index, meta = outcome.parameter, outcome.index, outcome.meta
            place: tuple[Any, ...] = (identifier, index, meta, node)
            about, units = words.title_of(parameter, index, meta), parameter.units
            value = words.format_value(parameter, outcome.value, units=False)
            flags = ANNUNCIATE * outcome.annunciate | BAD * outcome.quality | FAIL * outcome.failure
        else:
            place = (identifier, type(outcome).__name__, getattr(outcome, "type", 0), node)
            about = (
                words.describe_bus_error(heard.frame)
                if heard.frame.flags & ERROR
                else words.describe_message(table, outcome)
            )
        row = self._rows.get(place)
        if row is None:
            if len(self._rows) >= MAX_ROWS:
                return
            # A dot in a row's name tells `Row` that it has no flags.
            name = f"{words.format_identifier(heard.frame)} {words.name_of(table, outcome)}".strip() + (
                "" if value else "."
            )
            row = self._rows[place] = Row(name, units)
            order = sorted(self._rows, key=lambda at: (at[0], [f"{part:>3}" for part in at[1:]]))
            self.page.rows = [self._rows[at] for at in order]
        row.description = f"{about}, from {node}" if value and node else f"{node or ''}  {about}".strip()
        row.update(value or None, flags, heard.time)
