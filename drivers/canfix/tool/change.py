"""The `fixgw canfix` commands that send frames and change nodes; and the choice of the bus for all commands."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from fixgw.cli import EXIT_DONE, EXIT_FAILED, complain, text
from fixgw.drivers.canfix import CanfixOptions, Plugin, mapping
from fixgw.drivers.canfix import protocol as cf
from fixgw.drivers.canfix import table as tables
from fixgw.drivers.canfix.table import Field, Parameter, Payload, Table
from fixgw.drivers.canfix.tool import dbc
from fixgw.drivers.canfix.tool import text as words
from fixgw.drivers.canfix.tool.bus import CONFIGURATOR, Bus, set_bitrate
from fixgw.drivers.canfix.tool.survey import Survey
from fixgw.drivers.links.can import log as can_log
from fixgw.drivers.links.can.frame import Frame
from fixgw.errors import BadValue, DeviceError, NetfixError, did_you_mean
from fixgw.kit.phases import FLYING_KT

Args = argparse.Namespace
Action = Callable[[Args], int]

LISTEN_S = 2.0  # how long to listen before a dangerous command
BIT_RATE_TIMEOUT_S = 3.0  # how long nodes may take to answer after a change of bit rate
EXCLUSIVE = ("slcan", "serial", "gs_usb")  # interfaces that serve one program at a time
FIELD_TYPES = ("BYTE", "WORD", "SHORT", "USHORT", "INT", "UINT", "DINT", "UDINT", "FLOAT")
SILENCE = "check the connection and the bit rate; `fixgw canfix nodes` lists the nodes on the bus"


# -- choosing the bus --------------------------------------------------------------------------------------------------


def bus_options(args: Args) -> CanfixOptions:
    """The options of the bus: those of the configured connection, overridden by the arguments."""
    base = CanfixOptions() if args.interface else _configured_options(args)
    if args.interface and not args.channel:
        raise BadValue("--interface", f"name the {args.interface} channel as well, with --channel")
    channel = args.channel
    overrides = {
        "interface": args.interface,
        "channel": int(channel) if channel and channel.isdecimal() else channel,
        "bitrate": args.bitrate,
        "table": args.table,
        "extra": {**base.extra, **dict(args.option)},
    }
    merged = msgspec.structs.asdict(base) | {name: value for name, value in overrides.items() if value is not None}
    try:
        return msgspec.convert(merged, CanfixOptions)
    except msgspec.ValidationError as error:
        raise BadValue("the bus", str(error)) from error


def _configured_options(args: Args) -> CanfixOptions:
    """The options of the chosen CAN-FIX connection."""
    from fixgw import configuration
    from fixgw.plugin import CONFIGPATH

    path = configuration.find(args.config_file)
    found = {c.name: c for c in configuration.load(path).connections if issubclass(c.plugin, Plugin)}
    name = args.connection
    if name is None and len(found) > 1:
        raise BadValue("--connection", f"{path} has several CAN-FIX connections: choose one of {', '.join(found)}")
    if name is None and not found:
        if args.channel:
            return CanfixOptions()
        raise BadValue("the bus", f"{path} has no CAN-FIX connection: name the bus with --interface and --channel")
    if name is not None and name not in found:
        raise BadValue("--connection", f"{path} has no enabled CAN-FIX connection {name!r}{did_you_mean(name, found)}")
    connection = found[name] if name is not None else next(iter(found.values()))
    given = {option: value for option, value in connection.options.items() if option != CONFIGPATH}
    return msgspec.convert(given, CanfixOptions)


@contextmanager
def open_bus(args: Args) -> Iterator[Bus]:
    """Open the chosen bus. Raises `DeviceError` with a hint."""
    options = bus_options(args)
    bus = Bus(options, cf.Codec(tables.load(options.table)), getattr(args, "node", CONFIGURATOR))
    try:
        bus.open()
    except DeviceError as error:
        present = options.interface in EXCLUSIVE and not str(error).startswith("there is no")
        hint = " (is the gateway using it? An adapter serves one program at a time)" if present else ""
        raise DeviceError(f"{error}{hint}") from error
    try:
        yield bus
    finally:
        bus.close()


def survey(bus: Bus, duration: float, ask: int | None = 0) -> Survey:
    """Like `Bus.survey`, with a notice when run on a terminal."""
    if duration and sys.stderr.isatty():
        print(f"listening for {duration:g} s ...", file=sys.stderr)
    return bus.survey(duration, ask)


# -- sending -----------------------------------------------------------------------------------------------------------


def send(args: Args) -> int:
    if (args.frame is None) == (args.parameter is None or args.value is None):
        return complain("give either PARAMETER and VALUE, or --frame")
    table = tables.load(bus_options(args).table)
    if args.frame is not None:
        frame, update = args.frame, None
    else:
        parameter, index = words.find_parameter(table, args.parameter)
        index = index if args.index is None else args.index
        value = words.parse_value(parameter, args.value)
        if args.set:
            return _set_parameter(args, cf.ParameterSet(args.node, parameter, index, value))
        update = cf.update(
            parameter,
            value,
            args.node,
            index=index,
            meta=args.meta or 0,
            annunciate=args.annunciate,
            quality=args.bad,
            failure=args.fail,
        )
        frame = Frame(*update.encode(strict=not args.any))
    with open_bus(args) as bus:
        if not args.force and (refusal := _refusal_in_flight(args, survey(bus, LISTEN_S, ask=None))):
            return complain(refusal)
        return _send_repeatedly(args, bus, frame, words.describe_message(table, update) if update else "")


def _send_repeatedly(args: Args, bus: Bus, frame: Frame, meaning: str) -> int:
    left = args.count or (None if args.rate else 1)
    pause = 1.0 / (args.rate or 1.0)
    due = time.monotonic()
    sent = 0
    try:
        while left is None or sent < left:
            if sent:
                due += pause
                for _ in bus.listen(max(0.0, due - time.monotonic())):
                    pass
            bus.send(frame)
            sent += 1
    except KeyboardInterrupt:
        pass  # the usual way to end it
    times = "" if sent == 1 else f", {text.times(sent)}"
    print(f"sent {can_log.line(frame, '', 0.0).split()[-1]}  {meaning}".rstrip() + times)
    return EXIT_DONE


def _set_parameter(args: Args, request: cf.ParameterSet) -> int:
    """Ask the parameter's owner to adopt a value, and wait until the owner sends it."""
    parameter = request.parameter
    name, frame = words.title_of(parameter, request.index), request.encode(strict=not args.any)
    wanted = parameter.read(bytes(3) + parameter.write(request.value, strict=False))  # as the owner will send it
    last: cf.Value | None = None
    with open_bus(args) as bus:
        bus.send(frame)
        for heard in bus.listen(args.timeout):
            outcome = heard.outcome
            if isinstance(outcome, cf.Value) and (outcome.parameter, outcome.index) == (parameter, request.index):
                last = outcome
                if outcome.value == wanted:
                    meaning = words.describe_message(bus.codec.table, outcome)
                    print(f"node {words.format_node(outcome.node)} now sends {meaning}")
                    return EXIT_DONE
    if last is None:
        return complain(f"no node sends {name}: {SILENCE}")
    value = words.format_value(parameter, last.value)
    return complain(f"{name} was not set: node {words.format_node(last.node)} still sends {value}")


def report(args: Args) -> int:
    last: dict[tuple[int, int, int, int], cf.ParameterUpdate] = {}
    with open_bus(args) as bus:
        table = bus.codec.table
        bus.send(cf.NodeReport(args.node, args.destination).encode())
        for heard in bus.listen(args.duration):
            outcome = heard.outcome
            if isinstance(outcome, cf.ParameterUpdate) and args.destination in (0, outcome.node):
                last[outcome.node, outcome.parameter.identifier, outcome.index, outcome.meta] = outcome
    if not last:
        silent = f"node {words.format_node(args.destination)} sent nothing" if args.destination else "no node answered"
        return complain(f"{silent} within {args.duration:g} s: {SILENCE}")
    found = [last[place] for place in sorted(last)]
    if args.json:
        print(json.dumps([words.as_dict(table, update) for update in found], indent=2, ensure_ascii=False))
    else:
        print("\n".join(text.table(_report_row(table, update) for update in found)))
    return EXIT_DONE


def _report_row(table: Table, update: cf.ParameterUpdate) -> tuple[str, ...]:
    return (
        str(update.node),
        f"{update.parameter.identifier:03X}",
        words.name_of(table, update),
        words.title_of(update.parameter, update.index, update.meta),
        words.format_value(update.parameter, update.value),
        ", ".join(words.flag_names(update.code)) or "good",
    )


# -- dangerous commands ------------------------------------------------------------------------------------------------


def _refusal_in_flight(args: Args, found: Survey) -> str:
    """A refusal when the aircraft appears to be flying; empty otherwise."""
    reasons = found.signs_of_flight() + _signs_of_flight_in_gateway(args)
    if not reasons:
        return ""
    return f"refused, the aircraft appears to be flying: {', '.join(reasons)}. If it is on the ground, use --force"


def _signs_of_flight_in_gateway(args: Args) -> list[str]:
    """The speeds above `FLYING_KT` in the running gateway, if any, as clauses for a message."""
    from fixgw.cli.client import new_client

    reasons = []
    try:
        with new_client(args) as client:
            for key in ("IAS", "GS"):
                try:
                    sample = client.read(key)
                except NetfixError:
                    continue
                if not sample.fail and isinstance(sample.value, int | float) and sample.value > FLYING_KT:
                    reasons.append(f"{key} is {sample.value:.0f} knots according to the gateway")
    except NetfixError:
        pass
    return reasons


def _do_carefully(args: Args, plan: str, destination: int, do: Callable[[Bus, Survey], int]) -> int:
    """Check that the command is safe, ask for confirmation, and call `do`. `plan` is a sentence for the question."""
    if not args.yes and not sys.stdin.isatty():
        return complain(f"{plan} Confirm with --yes when there is no terminal")
    with open_bus(args) as bus:
        found = survey(bus, 0.0 if args.force else LISTEN_S)
        if not args.force:
            if refusal := _refusal_in_flight(args, found):
                return complain(refusal)
            if bus.node in found.nodes:
                return complain(
                    f"another device on this bus is node {words.format_node(bus.node)}: choose another id with --node"
                )
        if not args.yes:
            for line in _describe_plan(found, destination, plan):
                text.show(line)
            if not _ask_for_confirmation():
                return complain("nothing was changed")
        return do(bus, found)


def _describe_plan(found: Survey, destination: int, plan: str) -> Iterator[str]:
    yield plan
    for number, member in sorted(found.nodes.items()):
        if destination in (0, number):
            kind = words.describe_device(member.identity.device) if member.identity else "unidentified"
            yield "  " + ", ".join(filter(None, (f"node {words.format_node(number)}", kind, member.description)))
    if destination and destination not in found.nodes:
        yield f"  node {words.format_node(destination)} has not been heard"
    if not found.knows_speed:
        yield "No node on the bus sends a speed: make sure that the aircraft is stationary."


def _ask_for_confirmation() -> bool:
    try:
        return input("Proceed? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def node_id(args: Args) -> int:
    old, new = args.destination, args.new

    def do(bus: Bus, found: Survey) -> int:
        if new in found.nodes and not args.force:
            return complain(f"node {words.format_node(new)} is already on the bus: two nodes must not share an id")
        if bus.ask(cf.NodeIdSet(bus.node, old, new), args.timeout, answers_as=new) is not None:
            print(f"node {words.format_node(old)} is now node {words.format_node(new)}")
            return EXIT_DONE
        there = bus.survey(args.timeout / 2, ask=old).nodes
        if old in there:
            return complain(f"node {words.format_node(old)} kept its id: it cannot change it, or is not permitted to")
        return complain(f"node {words.format_node(old)} does not answer: {SILENCE}")

    if old == new:
        return complain(f"node {words.format_node(old)} already has that id")
    plan = f"Node {words.format_node(old)} will permanently become node {words.format_node(new)}."
    return _do_carefully(args, plan, old, do)


def bitrate(args: Args) -> int:
    destination, kbps = args.destination, args.rate

    def do(bus: Bus, found: Survey) -> int:
        asked = {destination} if destination else set(found.nodes)
        followed, answers = set_bitrate(bus, destination, kbps, BIT_RATE_TIMEOUT_S, asked)
        asked |= set(answers)
        changed = sorted(n for n in asked if n in answers and answers[n].success)
        refused = sorted(n for n in asked if n in answers and not answers[n].success)
        silent = sorted(asked - set(answers))
        for what, numbers in ((f"now at {kbps} kbit/s", changed), ("refused", refused), ("no answer", silent)):
            if numbers:
                print(f"{what}: {', '.join(map(words.format_node, numbers))}")
        if followed:
            print(f"Now set `bitrate: {kbps * 1000}` in the configuration.")
        elif bus.options.interface == "socketcan":
            channel = bus.options.channel
            print(f"This computer's interface is unchanged. Change it with:\n  sudo ip link set {channel} down")
            print(f"  sudo ip link set {channel} up type can bitrate {kbps * 1000}")
            print("Then check the nodes: fixgw canfix nodes")
            return EXIT_FAILED if refused else EXIT_DONE
        if changed and not refused and not silent:
            return EXIT_DONE
        if changed and refused:
            return complain("the bus now has two bit rates: change it back, or disconnect the nodes that refused")
        return complain(f"some nodes did not confirm the change: {SILENCE}")

    if destination:
        plan = (
            f"Node {words.format_node(destination)} will permanently change to {kbps} kbit/s, and then no longer hear "
            "the other nodes."
        )
    else:
        plan = f"All nodes will permanently change to {kbps} kbit/s."
    return _do_carefully(args, plan, destination, do)


def disable(args: Args) -> int:
    return _switch_parameters(args, cf.DisableParameter)


def enable(args: Args) -> int:
    return _switch_parameters(args, cf.EnableParameter)


def _switch_parameters(args: Args, request: type[cf.DisableParameter] | type[cf.EnableParameter]) -> int:
    table = tables.load(bus_options(args).table)
    parameters = [words.find_parameter(table, word)[0] for word in args.parameters]
    off = request is cf.DisableParameter
    destination = args.destination

    def switch(bus: Bus, parameter: Parameter) -> bool:
        name = f"0x{parameter.identifier:03X} {parameter.name}"
        asked = request(bus.node, destination, parameter.identifier)
        if destination:
            answer = bus.ask(asked, args.timeout)
            answers = {} if answer is None else {destination: answer}
        else:
            answers = bus.ask_all(asked, args.timeout)
        for number, answer in sorted(answers.items()):
            if answer.success:
                print(f"node {words.format_node(number)} {'disabled' if off else 'enabled'} {name}")
            elif destination:
                complain(f"node {words.format_node(number)} refused {name}: {words.describe_error(answer)}")
        if not answers:
            silent = f"node {words.format_node(destination)} does not answer" if destination else "no node answered"
            complain(f"{silent}: {SILENCE}")
        elif not destination and not any(answer.success for answer in answers.values()):
            complain(f"no node sends {name}")
        return any(answer.success for answer in answers.values())

    def do(bus: Bus, found: Survey) -> int:
        done = [switch(bus, parameter) for parameter in parameters]
        return EXIT_DONE if all(done) else EXIT_FAILED

    names = ", ".join(f"0x{parameter.identifier:03X} {parameter.name}" for parameter in parameters)
    who = f"Node {words.format_node(destination)}" if destination else "Every node"
    plan = f"{who} will {'no longer send' if off else 'send again'}: {names}."
    return _do_carefully(args, plan, destination, do)


# -- a node's configuration --------------------------------------------------------------------------------------------


def config_get(args: Args) -> int:
    found: list[dict[str, Any]] = []
    code = EXIT_DONE
    with open_bus(args) as bus:
        for key in args.keys:
            data = _read_key(bus, args.destination, key, args.timeout)
            if isinstance(data, str):
                code = complain(data)
                continue
            found.append({"node": args.destination, "key": key, "data": data.hex(), **_readings(data, args.type)})
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        for one in found:
            meanings = ", ".join(f"{k} {text.short_text(v)}" for k, v in one.items() if k.isupper())
            print(f"key {one['key']}: {bytes.fromhex(one['data']).hex(' ')}  ({meanings})")
    return code


def _read_key(bus: Bus, destination: int, key: int, timeout: float) -> bytes | str:
    """The node's value for `key`, or a sentence that says why there is none."""
    answer = bus.ask(cf.ConfigurationQuery(bus.node, destination, key), timeout)
    if answer is None:
        return f"node {words.format_node(destination)} does not answer: {SILENCE} (not every node has a configuration)"
    if answer.error:
        return f"node {words.format_node(destination)}, key {key}: {words.describe_error(answer)}"
    return answer.data


def _readings(data: bytes, only: str | None) -> dict[str, Payload]:
    """`data` as every type that fits, or only as the type `only`."""
    found: dict[str, Payload] = {}
    for name in [only] if only else FIELD_TYPES:
        field = Field("", name)
        # Some nodes send four bytes whatever the type.
        if len(data) == field.size or (only and len(data) > field.size):
            value = words.to_json(field.read(bytes(tables.VALUE_AT) + data))
            if value is not None:
                found[name] = value
    return found


def config_set(args: Args) -> int:
    if (args.hex is None) == (args.value is None) or (args.value is not None and args.type is None):
        return complain("give either VALUE with --type, or --hex")
    data = args.hex
    if data is None:
        field = Field(f"key {args.key}", args.type)
        data = field.write(words.parse_number(field, args.value))
    destination, key = args.destination, args.key

    def do(bus: Bus, found: Survey) -> int:
        answer = bus.ask(cf.ConfigurationSet(bus.node, destination, key, data), args.timeout)
        if answer is None:
            return complain(f"node {words.format_node(destination)} does not answer: {SILENCE}")
        if answer.error:
            return complain(f"node {words.format_node(destination)} refused key {key}: {words.describe_error(answer)}")
        now = _read_key(bus, destination, key, args.timeout)
        if isinstance(now, str):
            print(f"key {key} of node {words.format_node(destination)} is set, but could not be read back")
            return EXIT_DONE
        print(f"key {key} of node {words.format_node(destination)} is now {now.hex(' ')}")
        return EXIT_DONE if now[: len(data)] == data else complain(f"it should be {data.hex(' ')}")

    plan = f"Node {words.format_node(destination)} will permanently set key {key} to {data.hex(' ')}."
    return _do_carefully(args, plan, destination, do)


# -- the parameter table -----------------------------------------------------------------------------------------------


def write_dbc(args: Args) -> int:
    data = dbc.write(tables.load(args.table or tables.CURRENT)).encode(dbc.ENCODING)
    if args.output:
        Path(args.output).write_bytes(data)
    elif sys.stdout.isatty():
        print(data.decode(dbc.ENCODING), end="")
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
    return EXIT_DONE


def write_map(args: Args) -> int:
    from fixgw import configuration

    database = configuration.load(configuration.find(args.config_file)).make_database()
    print(mapping.format_default(tables.load(args.table or tables.CURRENT), database), end="")
    return EXIT_DONE
