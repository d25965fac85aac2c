"""The commands of `fixgw canfix` that send, ask and change, and which bus all of them use."""

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
from fixgw.drivers.canfix.node import FLYING_KT
from fixgw.drivers.canfix.table import Field, Parameter, Payload, Table
from fixgw.drivers.canfix.tool import dbc
from fixgw.drivers.canfix.tool import text as words
from fixgw.drivers.canfix.tool.bus import CONFIGURATOR, Bus, set_bitrate
from fixgw.drivers.canfix.tool.survey import Survey
from fixgw.drivers.links.can import log as can_log
from fixgw.drivers.links.can.frame import Frame
from fixgw.errors import BadValue, DeviceError, NetfixError, did_you_mean

Args = argparse.Namespace
Action = Callable[[Args], int]

LISTEN = 2.0  # seconds of listening before anything dangerous
BIT_RATE_ANSWERS = 3.0  # seconds after a change of the bit rate within which nodes have to answer
REDRAW = 0.2  # seconds
EXCLUSIVE = ("slcan", "serial", "gs_usb")  # interfaces that serve one program at a time
FIELD_TYPES = ("BYTE", "WORD", "SHORT", "USHORT", "INT", "UINT", "DINT", "UDINT", "FLOAT")
SILENCE = "is it on the bus, and the bit rate right? `fixgw canfix nodes` lists who is there"


# -- which bus ---------------------------------------------------------------------------------------------------------


def options(args: Args) -> CanfixOptions:
    """What the arguments say of the bus; for the rest, what the configuration does."""
    used = CanfixOptions() if args.interface else _configured(args)
    if args.interface and not args.channel:
        raise BadValue("--interface", f"which one? Name it with --channel, as {args.interface} calls it")
    channel = args.channel
    said = {
        "interface": args.interface,
        "channel": int(channel) if channel and channel.isdecimal() else channel,
        "bitrate": args.bitrate,
        "table": args.table,
        "extra": {**used.extra, **dict(args.option)},
    }
    given = msgspec.structs.asdict(used) | {name: value for name, value in said.items() if value is not None}
    try:
        return msgspec.convert(given, CanfixOptions)
    except msgspec.ValidationError as error:
        raise BadValue("the bus", str(error)) from error


def _configured(args: Args) -> CanfixOptions:
    """The options of the connection that is meant."""
    from fixgw import configuration
    from fixgw.plugin import CONFIGPATH

    path = configuration.find(args.config_file)
    found = {c.name: c for c in configuration.load(path).connections if issubclass(c.plugin, Plugin)}
    name = args.connection
    if name is None and len(found) > 1:
        raise BadValue("--connection", f"which of {', '.join(found)}? {path} has several CAN-FIX connections")
    if name is None and not found:
        if args.channel:
            return CanfixOptions()
        raise BadValue("the bus", f"{path} has no CAN-FIX connection: say which bus with --interface and --channel")
    if name is not None and name not in found:
        raise BadValue(
            "--connection", f"{path} has no CAN-FIX connection {name!r} that is loaded{did_you_mean(name, found)}"
        )
    connection = found[name] if name is not None else next(iter(found.values()))
    given = {option: value for option, value in connection.options.items() if option != CONFIGPATH}
    return msgspec.convert(given, CanfixOptions)


@contextmanager
def opened(args: Args) -> Iterator[Bus]:
    """The bus that the arguments mean. Raises `DeviceError` with what to do about it."""
    used = options(args)
    bus = Bus(used, cf.Codec(tables.load(used.table)), getattr(args, "node", CONFIGURATOR))
    try:
        bus.open()
    except DeviceError as error:
        there = used.interface in EXCLUSIVE and not str(error).startswith("there is no")
        hint = " (does the gateway use it? An adapter serves one program at a time)" if there else ""
        raise DeviceError(f"{error}{hint}") from error
    try:
        yield bus
    finally:
        bus.close()


def survey(bus: Bus, duration: float, ask: int | None = 0) -> Survey:
    """As `Bus.survey`; whoever waits for it at a terminal is told so."""
    if duration and sys.stderr.isatty():
        print(f"listening for {duration:g} s ...", file=sys.stderr)
    return bus.survey(duration, ask)


# -- sending -----------------------------------------------------------------------------------------------------------


def send(args: Args) -> int:
    if (args.frame is None) == (args.parameter is None or args.value is None):
        return complain("send what? PARAMETER and VALUE, or --frame")
    used = options(args)
    table = tables.load(used.table)
    if args.frame is not None:
        frame, update = args.frame, None
    else:
        parameter, index = words.find(table, args.parameter)
        index = index if args.index is None else args.index
        value = words.read_value(parameter, args.value)
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
    with opened(args) as bus:
        if not args.force and (refusal := _in_flight(args, survey(bus, LISTEN, ask=None))):
            return complain(refusal)
        return _send_again_and_again(args, bus, frame, words.message(table, update) if update else "")


def _send_again_and_again(args: Args, bus: Bus, frame: Frame, said: str) -> int:
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
    print(f"sent {can_log.line(frame, '', 0.0).split()[-1]}  {said}".rstrip() + times)
    return EXIT_DONE


def _set_parameter(args: Args, request: cf.ParameterSet) -> int:
    """Ask the owner, and wait until it says so."""
    parameter = request.parameter
    name, frame = words.title(parameter, request.index), request.encode(strict=not args.any)
    wanted = parameter.read(bytes(3) + parameter.write(request.value, strict=False))  # as it comes back
    says: cf.Value | None = None
    with opened(args) as bus:
        bus.send(frame)
        for heard in bus.listen(args.timeout):
            outcome = heard.outcome
            if isinstance(outcome, cf.Value) and (outcome.parameter, outcome.index) == (parameter, request.index):
                says = outcome
                if outcome.value == wanted:
                    print(f"node {words.node(outcome.node)} now says {words.message(bus.codec.table, outcome)}")
                    return EXIT_DONE
    if says is None:
        return complain(f"nobody sends {name}: {SILENCE}")
    return complain(f"node {words.node(says.node)} still says {words.value(parameter, says.value)}: {name} was not set")


def report(args: Args) -> int:
    last: dict[tuple[int, int, int, int], cf.ParameterUpdate] = {}
    with opened(args) as bus:
        table = bus.codec.table
        bus.send(cf.NodeReport(args.node, args.destination).encode())
        for heard in bus.listen(args.duration):
            outcome = heard.outcome
            if isinstance(outcome, cf.ParameterUpdate) and args.destination in (0, outcome.node):
                last[outcome.node, outcome.parameter.identifier, outcome.index, outcome.meta] = outcome
    if not last:
        silent = (
            f"node {words.node(args.destination)} reports nothing" if args.destination else "nobody reports anything"
        )
        return complain(f"{silent} within {args.duration:g} s: {SILENCE}")
    found = [last[place] for place in sorted(last)]
    if args.json:
        print(json.dumps([words.facts(table, update) for update in found], indent=2, ensure_ascii=False))
    else:
        print("\n".join(text.table(_report_row(table, update) for update in found)))
    return EXIT_DONE


def _report_row(table: Table, update: cf.ParameterUpdate) -> tuple[str, ...]:
    return (
        str(update.node),
        f"{update.parameter.identifier:03X}",
        words.name(table, update),
        words.title(update.parameter, update.index, update.meta),
        words.value(update.parameter, update.value),
        ", ".join(words.flags(update.code)) or "good",
    )


# -- what needs care ---------------------------------------------------------------------------------------------------


def _in_flight(args: Args, found: Survey) -> str:
    """Why nothing is to be changed now: a sentence; empty when nothing speaks against it."""
    reasons = found.flight() + _gateway_flight(args)
    if not reasons:
        return ""
    return f"refused: {', '.join(reasons)}, so this aircraft flies. On the ground, --force does it all the same"


def _gateway_flight(args: Args) -> list[str]:
    """What the running gateway knows that speaks for flight; nothing when there is none."""
    from fixgw.cli.client import new_client

    reasons = []
    try:
        with new_client(args) as client:
            for key in ("IAS", "GS"):
                try:
                    said = client.read(key)
                except NetfixError:
                    continue
                if not said.fail and isinstance(said.value, int | float) and said.value > FLYING_KT:
                    reasons.append(f"{key} is {said.value:.0f} knots, says the gateway")
    except NetfixError:
        pass
    return reasons


def _carefully(args: Args, plan: str, destination: int, do: Callable[[Bus, Survey], int]) -> int:
    """Look whether it may be done, ask whether it shall be, and do it. `plan` is a sentence about it."""
    if not args.yes and not sys.stdin.isatty():
        return complain(f"{plan} Nobody is here to confirm that: --yes does")
    with opened(args) as bus:
        found = survey(bus, 0.0 if args.force else LISTEN)
        if not args.force:
            if refusal := _in_flight(args, found):
                return complain(refusal)
            if bus.node in found.nodes:
                return complain(f"node {words.node(bus.node)} is somebody else on this bus: choose an id with --node")
        if not args.yes:
            for line in _about(found, destination, plan):
                print(line)
            if not _confirmed():
                return complain("nothing was done")
        return do(bus, found)


def _about(found: Survey, destination: int, plan: str) -> Iterator[str]:
    yield plan
    for number, member in sorted(found.nodes.items()):
        if destination in (0, number):
            kind = words.device(member.identity.device) if member.identity else "does not say what it is"
            yield "  " + ", ".join(filter(None, (f"node {words.node(number)}", kind, member.description)))
    if destination and destination not in found.nodes:
        yield f"  node {words.node(destination)} has not been heard"
    if not found.speeds:
        yield "Nobody on the bus says how fast the aircraft is: make sure that it stands."


def _confirmed() -> bool:
    try:
        return input("Do it? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def node_id(args: Args) -> int:
    old, new = args.destination, args.new

    def do(bus: Bus, found: Survey) -> int:
        if new in found.nodes and not args.force:
            return complain(f"node {words.node(new)} is on the bus already: two nodes with one id disturb each other")
        if bus.ask(cf.NodeIdSet(bus.node, old, new), args.timeout, answers_as=new) is not None:
            print(f"node {words.node(old)} is now node {words.node(new)}")
            return EXIT_DONE
        there = bus.survey(args.timeout / 2, ask=old).nodes
        if old in there:
            return complain(f"node {words.node(old)} keeps its id: it cannot take another, or must not")
        return complain(f"node {words.node(old)} does not answer: {SILENCE}")

    if old == new:
        return complain(f"node {words.node(old)} has that id")
    return _carefully(args, f"Node {words.node(old)} becomes node {words.node(new)}, for good.", old, do)


def bitrate(args: Args) -> int:
    destination, kbps = args.destination, args.rate

    def do(bus: Bus, found: Survey) -> int:
        asked = {destination} if destination else set(found.nodes)
        went_along, answers = set_bitrate(bus, destination, kbps, BIT_RATE_ANSWERS, asked)
        asked |= set(answers)
        changed = sorted(n for n in asked if n in answers and answers[n].success)
        refused = sorted(n for n in asked if n in answers and not answers[n].success)
        silent = sorted(asked - set(answers))
        for what, numbers in ((f"now at {kbps} kbit/s", changed), ("refused", refused), ("no answer", silent)):
            if numbers:
                print(f"{what}: {', '.join(map(words.node, numbers))}")
        if went_along:
            print(f"In the configuration `bitrate:` has to be {kbps * 1000} now.")
        elif bus.options.interface == "socketcan":
            channel = bus.options.channel
            print(f"This computer's interface stays as it is. To let it follow:\n  sudo ip link set {channel} down")
            print(f"  sudo ip link set {channel} up type can bitrate {kbps * 1000}")
            print("Then look who is there: fixgw canfix nodes")
            return EXIT_FAILED if refused else EXIT_DONE
        if changed and not refused and not silent:
            return EXIT_DONE
        if changed and refused:
            return complain("the bus has two bit rates now: change it back, or disconnect those that refused")
        return complain(f"not every node has confirmed it: {SILENCE}")

    only = f"only node {words.node(destination)}, which then no longer hears the others" if destination else "all nodes"
    return _carefully(args, f"The bit rate becomes {kbps} kbit/s, for good: {only}.", destination, do)


def disable(args: Args) -> int:
    return _switch(args, cf.DisableParameter)


def enable(args: Args) -> int:
    return _switch(args, cf.EnableParameter)


def _switch(args: Args, request: type[cf.DisableParameter] | type[cf.EnableParameter]) -> int:
    table = tables.load(options(args).table)
    parameters = [words.find(table, word)[0] for word in args.parameters]
    off = request is cf.DisableParameter
    destination = args.destination

    def one(bus: Bus, parameter: Parameter) -> bool:
        name = f"0x{parameter.identifier:03X} {parameter.name}"
        asked = request(bus.node, destination, parameter.identifier)
        if destination:
            answer = bus.ask(asked, args.timeout)
            answers = {} if answer is None else {destination: answer}
        else:
            answers = bus.ask_all(asked, args.timeout)
        for number, answer in sorted(answers.items()):
            if answer.success:
                print(
                    f"node {words.node(number)} {'no longer sends' if off else 'sends'} {name}{'' if off else ' again'}"
                )
            elif destination:
                complain(f"node {words.node(number)} refuses {name}: {words.error(answer)}")
        if not answers:
            silent = f"node {words.node(destination)} does not answer" if destination else "no node answers"
            complain(f"{silent}: {SILENCE}")
        elif not destination and not any(answer.success for answer in answers.values()):
            complain(f"no node sends {name}")
        return any(answer.success for answer in answers.values())

    def do(bus: Bus, found: Survey) -> int:
        done = [one(bus, parameter) for parameter in parameters]
        return EXIT_DONE if all(done) else EXIT_FAILED

    names = ", ".join(f"0x{parameter.identifier:03X} {parameter.name}" for parameter in parameters)
    verb = "must no longer send" if off else "sends again"
    who = f"Node {words.node(destination)}" if destination else "Every node"
    return _carefully(args, f"{who} {verb}: {names}.", destination, do)


# -- configuration of a node -------------------------------------------------------------------------------------------


def config_get(args: Args) -> int:
    found: list[dict[str, Any]] = []
    code = EXIT_DONE
    with opened(args) as bus:
        for key in args.keys:
            data = _query(bus, args.destination, key, args.timeout)
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


def _query(bus: Bus, destination: int, key: int, timeout: float) -> bytes | str:
    """What the node has under `key`, or why not."""
    answer = bus.ask(cf.ConfigurationQuery(bus.node, destination, key), timeout)
    if answer is None:
        return f"node {words.node(destination)} does not answer: {SILENCE}, and not every node has a configuration"
    if answer.error:
        return f"node {words.node(destination)}, key {key}: {words.error(answer)}"
    return answer.data


def _readings(data: bytes, only: str | None) -> dict[str, Payload]:
    """`data` as every type that it may be, or as one."""
    found: dict[str, Payload] = {}
    for name in [only] if only else FIELD_TYPES:
        field = Field("", name)
        # Some nodes send all four bytes, whatever the type.
        if len(data) == field.size or (only and len(data) > field.size):
            value = words.plain(field.read(bytes(tables.VALUE_AT) + data))
            if value is not None:
                found[name] = value
    return found


def config_set(args: Args) -> int:
    if (args.hex is None) == (args.value is None) or (args.value is not None and args.type is None):
        return complain("set it to what? VALUE with --type, or --hex")
    data = args.hex
    if data is None:
        field = Field(f"key {args.key}", args.type)
        data = field.write(words.number(field, args.value))
    destination, key = args.destination, args.key

    def do(bus: Bus, found: Survey) -> int:
        answer = bus.ask(cf.ConfigurationSet(bus.node, destination, key, data), args.timeout)
        if answer is None:
            return complain(f"node {words.node(destination)} does not answer: {SILENCE}")
        if answer.error:
            return complain(f"node {words.node(destination)} refuses key {key}: {words.error(answer)}")
        now = _query(bus, destination, key, args.timeout)
        if isinstance(now, str):
            print(f"key {key} of node {words.node(destination)} is set; it cannot be read back")
            return EXIT_DONE
        print(f"key {key} of node {words.node(destination)} is now {now.hex(' ')}")
        return EXIT_DONE if now[: len(data)] == data else complain("that is not what it was set to")

    plan = f"Node {words.node(destination)}: key {key} becomes {data.hex(' ')}, for good."
    return _carefully(args, plan, destination, do)


# -- the table ---------------------------------------------------------------------------------------------------------


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
    print(mapping.as_text(tables.load(args.table or tables.CURRENT), database), end="")
    return EXIT_DONE
