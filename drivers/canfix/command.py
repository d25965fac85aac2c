"""Tools for a CAN-FIX bus: who is on it, what is said, requests to nodes."""

from __future__ import annotations

import argparse

from fixgw.cli import EXIT_USAGE, Subparsers, add_client_options, add_command, key_value, seconds
from fixgw.drivers.canfix import protocol as cf
from fixgw.drivers.canfix import table as tables
from fixgw.drivers.canfix.tool import change, show
from fixgw.drivers.canfix.tool.bus import CONFIGURATOR
from fixgw.drivers.links.can import log as can_log
from fixgw.drivers.links.can.frame import ERROR, Frame

DESCRIPTION = """\
They use the bus themselves, beside the gateway or without it. Which bus: that of the configuration's CAN-FIX
connection, or --interface and --channel. A USB or serial adapter serves one program at a time: stop the gateway first,
or ask it with `fixgw canfix nodes --gateway`.

What changes a node (node-id, bitrate, disable, enable, config set) asks before it does so, and is refused while IAS or
GS, on the bus or in the running gateway, is above 30 knots.

`fixgw canfix COMMAND --help` says more about each command."""
EXAMPLES = """\
  fixgw canfix nodes
  fixgw canfix nodes --interface slcan --channel /dev/ttyACM0 --bitrate 250000
  fixgw canfix monitor IAS 'EGT*'
  fixgw canfix monitor --log candump-2025-07-21.log
  fixgw canfix disable 64 CHT11"""


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    group = add_command(subparsers, "canfix", _none, DESCRIPTION, EXAMPLES)
    commands = group.add_subparsers(metavar="COMMAND", required=True, title="commands")
    _add_looking(commands)
    _add_sending(commands)
    _add_changing(commands)
    _add_config(commands)


def _none(args: argparse.Namespace) -> int:
    return EXIT_USAGE  # argparse has insisted on a command


def _add(
    commands: Subparsers[argparse.ArgumentParser],
    name: str,
    run: change.Action,
    summary: str,
    description: str,
    examples: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.\n\n{description}".strip(),
        epilog="examples:\n" + "\n".join(f"  fixgw canfix {line}" for line in examples.splitlines()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    return parser


def _add_looking(commands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = _add(
        commands,
        "nodes",
        show.nodes,
        "who is on the bus, and how they are",
        "Asks every node who it is, and listens. HEALTH is what a node says of itself: `good`, or its error bits;\n"
        "then values that it marks as failed, alarms, and whether it has fallen silent. Below the nodes: conflicts,\n"
        "which are parameters that two nodes send, and ids that two devices have.",
        "nodes\nnodes --long\nnodes --gateway\nnodes --log candump-2025-07-21.log\nnodes --json",
    )
    parser.add_argument("--duration", type=seconds, default=3.0, metavar="SECONDS", help="how long (default: 3)")
    parser.add_argument("--long", action="store_true", help="with all that they say of themselves, and parameters")
    parser.add_argument("--quiet", action="store_true", help="just listen, ask nobody")
    parser.add_argument("--gateway", action="store_true", help="as the running gateway knows them; not on the bus")
    parser.add_argument("--json", action="store_true", help="print JSON")
    _add_log(parser)
    _add_bus(parser, sends=True)
    add_client_options(parser.add_argument_group("the gateway"))

    parser = _add(
        commands,
        "monitor",
        show.monitor,
        "what is said on the bus, decoded",
        "On a terminal each parameter has a line, which changes in place; into a pipe, with --lines, or from a log,\n"
        "each frame has one: seconds, identifier, node, key, what it says. Ends with q or Ctrl-C.\n\n"
        "PARAMETER is an identifier (0x183) or a range of them (0x200-0x27F), a pattern ('EGT*'), or part of a name\n"
        "or key.",
        "monitor\nmonitor IAS ALT 0x500\nmonitor --from 64 --lines\nmonitor --raw > flight.log\n"
        "monitor airspeed --log flight.log --json",
    )
    parser.add_argument("patterns", metavar="PARAMETER", nargs="*", help="only these")
    parser.add_argument("--from", dest="source", type=_node, metavar="NODE", help="only what this node says")
    parser.add_argument("--raw", action="store_true", help="frames as candump logs them, not decoded")
    parser.add_argument("--lines", action="store_true", help="a line for each frame, also on a terminal")
    parser.add_argument("--json", action="store_true", help="print a JSON object for each frame")
    parser.add_argument("--count", type=_count, metavar="N", help="end after so many frames")
    parser.add_argument("--duration", type=seconds, metavar="SECONDS", help="end after so long")
    _add_log(parser)
    _add_bus(parser)

    parser = _add(
        commands,
        "dbc",
        change.write_dbc,
        "write the parameter table as a DBC file",
        "For SavvyCAN, cantools, Wireshark and other analysers.",
        "dbc > canfix.dbc\ndbc --table 2023 --output canfix-2023.dbc",
    )
    parser.add_argument("--output", metavar="FILE", help="where to (default: standard output)")
    _add_table(parser)

    parser = _add(
        commands,
        "map",
        change.write_map,
        "write the default map, to edit",
        "Every parameter that the configured database has a key for; name the file as mapfile: of the connection.",
        "map > map.yaml",
    )
    _add_table(parser)
    parser.add_argument("--config-file", metavar="FILE", help="the configuration whose database it is for")


def _add_sending(commands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = _add(
        commands,
        "send",
        change.send,
        "send a parameter, or any frame",
        "The parameter goes out as a measurement of our own: displays take it for true. With --set its owner is asked\n"
        "to take on the value instead, which is how an altimeter setting or a frequency is changed, and what the\n"
        "owner then says is waited for. VALUE is in the parameter's units; several numbers with commas between them,\n"
        "times as 15:04:05, bits as 0b101, text as it is.\n\n"
        "Except with --set it is refused in flight.",
        "send IAS 101.5\nsend 0x500 190 --index 2 --fail\nsend IAS 158 --meta Vne\nsend BARO 29.92 --set\n"
        "send IAS 101.5 --rate 10\nsend --frame 183#FF0000F703",
    )
    parser.add_argument(
        "parameter", metavar="PARAMETER", nargs="?", help="identifier (0x183), name, or key (IAS, EGT13)"
    )
    parser.add_argument("value", metavar="VALUE", nargs="?")
    parser.add_argument("--index", type=_byte, metavar="N", help="which instance: cylinder 1 is 0 (default: 0)")
    parser.add_argument("--meta", metavar="NAME", help="not the value, but this limit of it: Vne, 'High Alarm'")
    parser.add_argument("--annunciate", action="store_true", help="mark it as to be shown to the pilot")
    parser.add_argument("--bad", action="store_true", help="mark it as suspect")
    parser.add_argument("--fail", action="store_true", help="mark it as failed")
    parser.add_argument("--any", action="store_true", help="also outside the parameter's range")
    parser.add_argument("--set", action="store_true", help="ask its owner to take on the value")
    parser.add_argument("--frame", type=_frame, metavar="ID#DATA", help="this frame, in hexadecimal")
    parser.add_argument(
        "--count", type=_count, metavar="N", help="send so often (default: once; with --rate: for ever)"
    )
    parser.add_argument("--rate", type=_rate, metavar="HZ", help="so many times a second (default: 1)")
    _add_bus(parser, sends=True)
    parser.add_argument("--force", action="store_true", help="even in flight; do not listen before")
    add_client_options(parser.add_argument_group("the gateway that may know of a flight"))

    parser = _add(
        commands,
        "report",
        change.report,
        "have a node send everything now",
        "Every enabled parameter with its limits, each as it was last heard within --duration.",
        "report 64\nreport all --json",
    )
    parser.add_argument("destination", metavar="NODE", type=_node_or_all, help="a node, or all")
    parser.add_argument("--duration", type=seconds, default=1.0, metavar="SECONDS", help="how long (default: 1)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    _add_bus(parser, sends=True)


def _add_changing(commands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = _add(
        commands,
        "node-id",
        change.node_id,
        "give a node another id",
        "The node keeps it for good, and answers from the new id; one that cannot take it says nothing.",
        "node-id 64 65\nnode-id 0x40 0x41 --yes",
    )
    parser.add_argument("destination", metavar="NODE", type=_node)
    parser.add_argument("new", metavar="NEW", type=_node, help="1 to 255, not in use")
    _add_dangerous(parser)

    parser = _add(
        commands,
        "bitrate",
        change.bitrate,
        "change the bit rate of the bus",
        "Every node is told at once, changes, and keeps the rate for good. A slcan adapter goes along; a SocketCAN\n"
        "interface has to be changed by hand (the command says how). So has `bitrate:` in the configuration.",
        "bitrate 250\nbitrate 500 --only 64",
    )
    parser.add_argument("rate", metavar="KBITS", type=_kbps, help="125, 250, 500 or 1000 kbit/s")
    parser.add_argument("--only", dest="destination", type=_node, default=0, metavar="NODE", help="tell just this node")
    _add_dangerous(parser)

    for name, run, summary, description in (
        (
            "disable",
            change.disable,
            "forbid a node to send a parameter",
            "It keeps to that until it is enabled again.",
        ),
        ("enable", change.enable, "allow a node to send a parameter again", ""),
    ):
        parser = _add(
            commands,
            name,
            run,
            summary,
            description,
            f"{name} 64 CHT11\n{name} 64 0x500 0x502 --yes",
        )
        parser.add_argument("destination", metavar="NODE", type=_node_or_all if name == "disable" else _node)
        parser.add_argument("parameters", metavar="PARAMETER", nargs="+", help="identifier (0x183), name, or key")
        _add_dangerous(parser)


def _add_config(commands: Subparsers[argparse.ArgumentParser]) -> None:
    config = commands.add_parser(
        "config",
        help="read or set what a node can be configured with",
        description="Read or set what a node can be configured with. Which keys there are, and what they mean, its\n"
        "maker says.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = config.add_subparsers(metavar="get|set", required=True)
    parser = _add(
        commands,
        "get",
        change.config_get,
        "read what a node is configured with",
        "Prints the bytes, and the value as --type or as every type that they may be.",
        "config get 64 2\nconfig get 64 1 2 --type UINT --json",
    )
    parser.add_argument("destination", metavar="NODE", type=_node)
    parser.add_argument("keys", metavar="KEY", nargs="+", type=_key, help="0 to 65535")
    parser.add_argument(
        "--type", choices=change.FIELD_TYPES, metavar="TYPE", help=f"one of {', '.join(change.FIELD_TYPES)}"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    _add_bus(parser, sends=True)
    _add_timeout(parser)
    parser = _add(
        commands,
        "set",
        change.config_set,
        "set what a node is configured with",
        "And reads it back.",
        "config set 64 2 30 --type UINT\nconfig set 64 2 --hex 1E00",
    )
    parser.add_argument("destination", metavar="NODE", type=_node)
    parser.add_argument("key", metavar="KEY", type=_key, help="0 to 65535")
    parser.add_argument("value", metavar="VALUE", nargs="?")
    parser.add_argument(
        "--type", choices=change.FIELD_TYPES, metavar="TYPE", help=f"one of {', '.join(change.FIELD_TYPES)}"
    )
    parser.add_argument("--hex", type=_hex, metavar="BYTES", help="up to four bytes as they are, instead of VALUE")
    _add_dangerous(parser)


# -- options that several have -----------------------------------------------------------------------------------------


def _add_log(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log", metavar="FILE", help="not the bus, but this candump log; - for standard input")


def _add_table(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--table",
        type=int,
        choices=tables.REVISIONS,
        help="identifiers as of that year; 2023 for older devices (default: as configured, else the newest)",
    )


def _add_bus(parser: argparse.ArgumentParser, sends: bool = False) -> None:
    bus = parser.add_argument_group("the bus")
    bus.add_argument(
        "--connection", metavar="NAME", help="that of this connection (default: the only one that is CAN-FIX)"
    )
    bus.add_argument("--config-file", metavar="FILE", help="in this configuration (default: as for `fixgw run`)")
    bus.add_argument("--interface", metavar="NAME", help="socketcan, slcan, gs_usb, udp_multicast ...")
    bus.add_argument("--channel", help="can0, /dev/ttyACM0 ...; for a log: only what came from there")
    bus.add_argument("--bitrate", type=int, metavar="BITS", help="bits per second, for adapters that are told")
    bus.add_argument(
        "--option",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        type=key_value,
        help="anything else that python-can takes for this interface; may be repeated",
    )
    if sends:
        bus.add_argument(
            "--node",
            type=_node,
            default=CONFIGURATOR,
            help=f"our own node id; no other may have it (default: {CONFIGURATOR}, configuration software)",
        )
    _add_table(bus)


def _add_timeout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout", type=seconds, default=2.0, metavar="SECONDS", help="longest wait for an answer (default: 2)"
    )


def _add_dangerous(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do it without asking")
    parser.add_argument("--force", action="store_true", help="even in flight; neither listen nor look before")
    _add_bus(parser, sends=True)
    add_client_options(parser.add_argument_group("the gateway that may know of a flight"))


# -- words of the command line -----------------------------------------------------------------------------------------


def _whole(text: str, low: int, high: int, what: str) -> int:
    try:
        number = int(text, 0)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}, {low} to {high}")
    return number


def _node(text: str) -> int:
    return _whole(text, 1, 255, "a node id")


def _node_or_all(text: str) -> int:
    return 0 if text.lower() == "all" else _node(text)


def _byte(text: str) -> int:
    return _whole(text, 0, 255, "an index")


def _key(text: str) -> int:
    return _whole(text, 0, 0xFFFF, "a key")


def _count(text: str) -> int:
    return _whole(text, 1, 1_000_000_000, "a number of frames")


def _kbps(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number in cf.BitRateSet.RATES.values():
        return number
    raise argparse.ArgumentTypeError(f"{text!r} is not 125, 250, 500 or 1000 kbit/s")


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0.0 < rate <= 1000.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate up to 1000 a second")
    return rate


def _frame(text: str) -> Frame:
    recorded = can_log.parse(f"(0.0) - {text}")
    if recorded is None or recorded.frame.flags & ERROR:
        raise argparse.ArgumentTypeError(f"{text!r} is no frame like 183#320000D204, R for a remote one")
    return recorded.frame


def _hex(text: str) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if not 1 <= len(data) <= 4:
        raise argparse.ArgumentTypeError(f"{text!r} is not one to four bytes in hexadecimal")
    return data
