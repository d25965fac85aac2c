"""Tools for a CAN-FIX bus: list the nodes, monitor traffic, send requests."""

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
These commands use the bus directly, with or without a running gateway. They use the bus of the configuration's CAN-FIX
connection, unless --interface and --channel name another. A USB or serial adapter serves one program at a time: stop
the gateway first, or ask the gateway instead with `fixgw canfix nodes --gateway`.

Commands that change a node (node-id, bitrate, disable, enable, config set) ask for confirmation. They are refused
while IAS or GS is above 30 knots, on the bus or in the running gateway.

`fixgw canfix COMMAND --help` describes each command."""
EXAMPLES = """\
  fixgw canfix nodes
  fixgw canfix nodes --interface slcan --channel /dev/ttyACM0 --bitrate 250000
  fixgw canfix monitor IAS 'EGT*'
  fixgw canfix monitor --log candump-2025-07-21.log
  fixgw canfix disable 64 CHT11"""


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    group = add_command(subparsers, "canfix", _require_command, DESCRIPTION, EXAMPLES)
    commands = group.add_subparsers(metavar="COMMAND", required=True, title="commands")
    _add_show_commands(commands)
    _add_send_commands(commands)
    _add_change_commands(commands)
    _add_config_commands(commands)


def _require_command(args: argparse.Namespace) -> int:
    return EXIT_USAGE  # never reached: argparse requires a command


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


def _add_show_commands(commands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = _add(
        commands,
        "nodes",
        show.nodes,
        "list the nodes on the bus and their health",
        "Asks every node to identify itself, then listens. HEALTH begins with what the node reports about itself,\n"
        "`good` or its error bits. Values that it marks as failed, alarms, silence, and an id shared by two devices\n"
        "follow. Conflicts, which are parameters sent by more than one node, are listed below the nodes.",
        "nodes\nnodes --long\nnodes --gateway\nnodes --log candump-2025-07-21.log\nnodes --json",
    )
    parser.add_argument(
        "--duration", type=seconds, default=3.0, metavar="SECONDS", help="how long to listen (default: 3)"
    )
    parser.add_argument("--long", action="store_true", help="include every status report, and parameters with rates")
    parser.add_argument("--quiet", action="store_true", help="listen only; send nothing")
    parser.add_argument("--gateway", action="store_true", help="ask the running gateway instead of using the bus")
    parser.add_argument("--json", action="store_true", help="print JSON")
    _add_log(parser)
    _add_bus(parser, sends=True)
    add_client_options(parser.add_argument_group("the gateway"))

    parser = _add(
        commands,
        "monitor",
        show.monitor,
        "show the traffic on the bus, decoded",
        "On a terminal each parameter has one line, updated in place. In a pipe, with --lines, or from a log, each\n"
        "frame has one line: seconds, identifier, node, key, message. Press q or Ctrl-C to stop.\n\n"
        "PARAMETER is an identifier (0x183), a range of identifiers (0x200-0x27F), a pattern ('EGT*'), or part of a\n"
        "name or key.",
        "monitor\nmonitor IAS ALT 0x500\nmonitor --from 64 --lines\nmonitor --raw > flight.log\n"
        "monitor airspeed --log flight.log --json",
    )
    parser.add_argument("patterns", metavar="PARAMETER", nargs="*", help="show only these")
    parser.add_argument("--from", dest="source", type=_parse_node, metavar="NODE", help="show only this node's frames")
    parser.add_argument("--raw", action="store_true", help="print frames undecoded, in candump's log format")
    parser.add_argument("--lines", action="store_true", help="print one line per frame, even on a terminal")
    parser.add_argument("--json", action="store_true", help="print one JSON object per frame")
    parser.add_argument("--count", type=_parse_count, metavar="N", help="stop after N frames")
    parser.add_argument("--duration", type=seconds, metavar="SECONDS", help="stop after this time")
    _add_log(parser)
    _add_bus(parser)

    parser = _add(
        commands,
        "dbc",
        change.write_dbc,
        "write the parameter table as a DBC file",
        "For SavvyCAN, cantools, Wireshark and other analysis tools.",
        "dbc > canfix.dbc\ndbc --table 2023 --output canfix-2023.dbc",
    )
    parser.add_argument("--output", metavar="FILE", help="the file to write (default: standard output)")
    _add_table(parser)

    parser = _add(
        commands,
        "map",
        change.write_map,
        "write the default map for editing",
        "The map holds every parameter that has a key in the configured database. Name your edited file as the\n"
        "connection's `mapfile`.",
        "map > map.yaml",
    )
    _add_table(parser)
    parser.add_argument("--config-file", metavar="FILE", help="use the database of this configuration")


def _add_send_commands(commands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = _add(
        commands,
        "send",
        change.send,
        "send a parameter or any other frame",
        "Sends the parameter as if this computer had measured it: displays will believe it. With --set it asks the\n"
        "parameter's owner to adopt the value instead, as for an altimeter setting or a frequency, and waits for the\n"
        "owner to send the new value. Give VALUE in the parameter's units: several numbers separated by commas, times\n"
        "as 15:04:05, bits as 0b101, text as it is.\n\n"
        "Without --set the command is refused in flight.",
        "send IAS 101.5\nsend 0x500 190 --index 2 --fail\nsend IAS 158 --meta Vne\nsend BARO 29.92 --set\n"
        "send IAS 101.5 --rate 10\nsend --frame 183#FF0000F703",
    )
    parser.add_argument(
        "parameter", metavar="PARAMETER", nargs="?", help="identifier (0x183), name, or key (IAS, EGT13)"
    )
    parser.add_argument("value", metavar="VALUE", nargs="?")
    parser.add_argument("--index", type=_parse_index, metavar="N", help="which instance: cylinder 1 is 0 (default: 0)")
    parser.add_argument("--meta", metavar="NAME", help="send this limit instead of the value: Vne, 'High Alarm'")
    parser.add_argument("--annunciate", action="store_true", help="set the annunciate flag: alert the pilot")
    parser.add_argument("--bad", action="store_true", help="set the bad flag: the value is suspect")
    parser.add_argument("--fail", action="store_true", help="set the fail flag: the value must not be used")
    parser.add_argument("--any", action="store_true", help="allow values outside the parameter's range")
    parser.add_argument("--set", action="store_true", help="ask the parameter's owner to adopt the value")
    parser.add_argument("--frame", type=_parse_frame, metavar="ID#DATA", help="send this frame, in hexadecimal")
    parser.add_argument(
        "--count", type=_parse_count, metavar="N", help="send N times (default: once; with --rate: until stopped)"
    )
    parser.add_argument("--rate", type=_parse_rate, metavar="HZ", help="send this often each second (default: 1)")
    _add_bus(parser, sends=True)
    parser.add_argument("--force", action="store_true", help="send even in flight; do not listen first")
    add_client_options(parser.add_argument_group("the gateway to ask whether the aircraft is flying"))

    parser = _add(
        commands,
        "report",
        change.report,
        "ask a node to send all its parameters now",
        "Prints every enabled parameter with its limits, as last received within --duration.",
        "report 64\nreport all --json",
    )
    parser.add_argument("destination", metavar="NODE", type=_parse_node_or_all, help="a node id, or all")
    parser.add_argument(
        "--duration", type=seconds, default=1.0, metavar="SECONDS", help="how long to listen (default: 1)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    _add_bus(parser, sends=True)


def _add_change_commands(commands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = _add(
        commands,
        "node-id",
        change.node_id,
        "change a node's id",
        "The node keeps its new id permanently and answers from it. A node that cannot change its id does not answer.",
        "node-id 64 65\nnode-id 0x40 0x41 --yes",
    )
    parser.add_argument("destination", metavar="NODE", type=_parse_node)
    parser.add_argument("new", metavar="NEW", type=_parse_node, help="an unused id, 1 to 255")
    _add_dangerous(parser)

    parser = _add(
        commands,
        "bitrate",
        change.bitrate,
        "change the bit rate of the bus",
        "All nodes change at once and keep the new rate permanently. A slcan adapter follows automatically. Change a\n"
        "SocketCAN interface by hand (the command prints how), and `bitrate:` in the configuration as well.",
        "bitrate 250\nbitrate 500 --only 64",
    )
    parser.add_argument("rate", metavar="KBITS", type=_parse_kbps, help="125, 250, 500 or 1000 kbit/s")
    parser.add_argument(
        "--only", dest="destination", type=_parse_node, default=0, metavar="NODE", help="change only this node"
    )
    _add_dangerous(parser)

    for name, run, summary, description in (
        (
            "disable",
            change.disable,
            "stop a node from sending a parameter",
            "The parameter stays disabled until you enable it again.",
        ),
        ("enable", change.enable, "let a node send a parameter again", ""),
    ):
        parser = _add(
            commands,
            name,
            run,
            summary,
            description,
            f"{name} 64 CHT11\n{name} 64 0x500 0x502 --yes",
        )
        node_type = _parse_node_or_all if name == "disable" else _parse_node
        parser.add_argument("destination", metavar="NODE", type=node_type)
        parser.add_argument("parameters", metavar="PARAMETER", nargs="+", help="identifier (0x183), name, or key")
        _add_dangerous(parser)


def _add_config_commands(commands: Subparsers[argparse.ArgumentParser]) -> None:
    config = commands.add_parser(
        "config",
        help="read or change a node's configuration",
        description="Read or change a node's configuration. The node's manufacturer defines the keys.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = config.add_subparsers(metavar="get|set", required=True)
    parser = _add(
        commands,
        "get",
        change.config_get,
        "read values of a node's configuration",
        "Prints the bytes, and the value as --type or as every type that fits.",
        "config get 64 2\nconfig get 64 1 2 --type UINT --json",
    )
    parser.add_argument("destination", metavar="NODE", type=_parse_node)
    parser.add_argument("keys", metavar="KEY", nargs="+", type=_parse_key, help="0 to 65535")
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
        "change a value of a node's configuration",
        "Reads the value back to confirm it.",
        "config set 64 2 30 --type UINT\nconfig set 64 2 --hex 1E00",
    )
    parser.add_argument("destination", metavar="NODE", type=_parse_node)
    parser.add_argument("key", metavar="KEY", type=_parse_key, help="0 to 65535")
    parser.add_argument("value", metavar="VALUE", nargs="?")
    parser.add_argument(
        "--type", choices=change.FIELD_TYPES, metavar="TYPE", help=f"one of {', '.join(change.FIELD_TYPES)}"
    )
    parser.add_argument("--hex", type=_parse_hex, metavar="BYTES", help="one to four raw bytes instead of VALUE")
    _add_dangerous(parser)


# -- shared options ----------------------------------------------------------------------------------------------------


def _add_log(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log", metavar="FILE", help="read this candump log instead of the bus; - for standard input")


def _add_table(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--table",
        type=int,
        choices=tables.REVISIONS,
        help="parameter identifiers of this year; 2023 for older devices (default: as configured, else the newest)",
    )


def _add_bus(parser: argparse.ArgumentParser, sends: bool = False) -> None:
    bus = parser.add_argument_group("the bus")
    bus.add_argument(
        "--connection", metavar="NAME", help="the bus of this connection (default: the only CAN-FIX connection)"
    )
    bus.add_argument("--config-file", metavar="FILE", help="use this configuration (default: as for `fixgw run`)")
    bus.add_argument("--interface", metavar="NAME", help="socketcan, slcan, gs_usb, udp_multicast ...")
    bus.add_argument("--channel", help="can0, /dev/ttyACM0 ...; with --log: only frames from this channel")
    bus.add_argument("--bitrate", type=int, metavar="BITS", help="bits per second, for adapters that need to be told")
    bus.add_argument(
        "--option",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        type=key_value,
        help="another python-can option for this interface; may be repeated",
    )
    if sends:
        bus.add_argument(
            "--node",
            type=_parse_node,
            default=CONFIGURATOR,
            help=f"the node id that this program uses (default: {CONFIGURATOR}, configuration software)",
        )
    _add_table(bus)


def _add_timeout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout", type=seconds, default=2.0, metavar="SECONDS", help="longest wait for an answer (default: 2)"
    )


def _add_dangerous(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    parser.add_argument("--force", action="store_true", help="skip all checks, and proceed even in flight")
    _add_bus(parser, sends=True)
    add_client_options(parser.add_argument_group("the gateway to ask whether the aircraft is flying"))


# -- parsing arguments -------------------------------------------------------------------------------------------------


def _parse_integer(text: str, low: int, high: int, what: str) -> int:
    try:
        number = int(text, 0)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}, {low} to {high}")
    return number


def _parse_node(text: str) -> int:
    return _parse_integer(text, 1, 255, "a node id")


def _parse_node_or_all(text: str) -> int:
    return 0 if text.lower() == "all" else _parse_node(text)


def _parse_index(text: str) -> int:
    return _parse_integer(text, 0, 255, "an index")


def _parse_key(text: str) -> int:
    return _parse_integer(text, 0, 0xFFFF, "a key")


def _parse_count(text: str) -> int:
    return _parse_integer(text, 1, 1_000_000_000, "a number of frames")


def _parse_kbps(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number in cf.BitRateSet.RATES.values():
        return number
    raise argparse.ArgumentTypeError(f"{text!r} is not 125, 250, 500 or 1000 kbit/s")


def _parse_rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0.0 < rate <= 1000.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate, more than 0 and at most 1000 per second")
    return rate


def _parse_frame(text: str) -> Frame:
    recorded = can_log.parse(f"(0.0) - {text}")
    if recorded is None or recorded.frame.flags & ERROR:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a frame such as 183#320000D204 (or 183#R for a remote frame)"
        )
    return recorded.frame


def _parse_hex(text: str) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if not 1 <= len(data) <= 4:
        raise argparse.ArgumentTypeError(f"{text!r} is not one to four bytes in hexadecimal")
    return data
