"""The commands that make one request to a running gateway: list, read, write, flag, report, explain, status."""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from fixgw.cli import (
    EXIT_DONE,
    EXIT_FAILED,
    Subparsers,
    add_client_options,
    add_command,
    add_units_option,
    complain,
    text,
)
from fixgw.database import FLAG_LETTERS, FLAG_NAMES, OLD, Database, Definition, Item
from fixgw.errors import BadValue, FixgwError, NotConnected, Refused, RequestTimeout, UnknownKey, did_you_mean
from fixgw.kit.sources import START, unmarked
from fixgw.kit.units import preferred

if TYPE_CHECKING:
    from fixgw.netfix import Client, Report, Sample

RESTART_PATIENCE_S = 30.0
WRITES_ON_S = 1.0  # who wrote a value this short a time ago will write it again
T = TypeVar("T")
Action = Callable[["Client", argparse.Namespace], int]

ON = ("on", "1", "true", "yes", "set")
OFF = ("off", "0", "false", "no", "clear")


def add_parser(subparsers: Subparsers[argparse.ArgumentParser], connection: bool = True) -> None:
    """Add the commands; without `connection`, leave out ``--host`` and the other connection options."""

    def add(name: str, action: Action, description: str, examples: str) -> argparse.ArgumentParser:
        parser = add_command(subparsers, name, talk, description, examples)
        parser.set_defaults(action=action)
        parser.add_argument("--json", action="store_true", help="print JSON")
        if connection:
            add_client_options(parser)
        return parser

    parser = add(
        "list",
        list_keys,
        "A pattern with *, ? or [] must match the whole key; any other word matches keys that contain it or, if\n"
        "there are none, whose description contains it or whose units it is. Buttons (EGTBTN1) are left out unless\n"
        "the pattern says BTN, is *, or matches nothing else; so it is with the patterns of other commands.",
        "  fixgw list\n  fixgw list 'CHT1?' OIL\n  fixgw list -l GPS",
    )
    parser.add_argument("patterns", metavar="PATTERN", nargs="*", help="list only keys that match one of these")
    parser.add_argument("-l", "--long", action="store_true", help="include units and description")

    parser = add(
        "read",
        read,
        "Prints value, units and flags (`good` when none is set). JSON has all decimals, and the gateway's units.",
        "  fixgw read IAS\n  fixgw read IAS.Vne 'EGT*'",
    )
    parser.add_argument("keys", metavar="KEY", nargs="+", help="a key, an aux value (IAS.Vne), or a pattern ('EGT*')")
    add_units_option(parser)

    parser = add(
        "write",
        write,
        "Prints the value as stored: the gateway clamps it to the item's range. Without FLAGS, the flags stay as they\n"
        "are. With FLAGS, these flags are set and the others cleared, in the same step as the value. Put `--` before\n"
        "a value that begins with a minus sign but is not a plain number.",
        "  fixgw write BARO 29.92\n  fixgw write IAS.Vne 180\n  fixgw write OAT 20.5 bf\n  fixgw write OAT 20.5 none",
    )
    parser.add_argument("key", metavar="KEY", help="a key, or an aux value (IAS.Vne; None unsets it)")
    parser.add_argument("value", metavar="VALUE")
    parser.add_argument(
        "flags",
        metavar="FLAGS",
        nargs="?",
        type=_flags,
        help="any of the letters a (annunciate), b (bad), f (fail), s (secfail), or none",
    )

    parser = add(
        "flag",
        flag,
        "FLAG is a name or its first letter: annunciate, old, bad, fail, secfail.",
        "  fixgw flag IAS fail on\n  fixgw flag IAS f off",
    )
    parser.add_argument("key", metavar="KEY")
    parser.add_argument("flag", metavar="FLAG", type=_flag)
    parser.add_argument("setting", metavar="on|off", type=_setting)

    parser = add("report", report, "Aux values are shown as currently set.", "  fixgw report IAS")
    parser.add_argument("keys", metavar="KEY", nargs="+", help="a key or a pattern")

    parser = add(
        "explain",
        explain,
        "Shows the sources of the value, the reason for each flag, and when the value was last good; for one that is\n"
        "missing, the connections that should feed it, and their health.",
        "  fixgw explain IAS",
    )
    parser.add_argument("keys", metavar="KEY", nargs="+", help="a key or a pattern")
    add_units_option(parser)

    parser = add(
        "status",
        status,
        "The first line is the overall health. A table of the connections follows, with the reason for any that is\n"
        "not healthy. The exit code is 1 when the gateway, or one of the CONNECTIONs given, is not healthy.",
        "  fixgw status\n  fixgw status gps\n  fixgw status --verbose\n  fixgw status --json",
    )
    parser.add_argument("connections", metavar="CONNECTION", nargs="*", help="show only these, with all their details")
    parser.add_argument("--verbose", action="store_true", help="include all details that connections report")

    parser = add(
        "restart",
        restart,
        "Stops the connection, reads its plugin's code again, with the modules of the plugin's own package, and\n"
        "starts it. The options stay as the gateway has read them; SIGHUP (`systemctl reload fixgw`) reads those.",
        "  fixgw restart thermometer",
    )
    parser.add_argument("connection", metavar="CONNECTION")


def talk(args: argparse.Namespace) -> int:
    """Connect to the gateway and perform the command's action."""
    client = new_client(args)
    connect(client)
    try:
        action: Action = args.action
        return action(client, args)
    finally:
        client.disconnect()


def new_client(args: argparse.Namespace, **options: Any) -> Client:
    from fixgw.netfix import Client

    return Client(args.host, args.port, args.timeout, **options)


def connect(client: Client) -> None:
    """Connect unless already connected. Raises `NotConnected` with advice."""
    try:
        client.connect()
    except NotConnected as error:
        raise NotConnected(_describe_unreachable(client, error.__cause__)) from error


def _describe_unreachable(client: Client, error: BaseException | None = None) -> str:
    """Say that the gateway cannot be reached, with advice."""
    where = f"no gateway answers at {client.host}:{client.port}"
    if client.host in ("127.0.0.1", "localhost", "::1"):
        return f"{where}: start one with `fixgw run`, or try `fixgw demo`"
    reason = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
    return f"{where}{reason}: is one running there, and do its `host` and `allow` options admit this computer?"


# -- keys --------------------------------------------------------------------------------------------------------------


def is_pattern(word: str) -> bool:
    return any(c in word for c in "*?[")


def matching(pattern: str, known: Iterable[str]) -> list[str]:
    """The `known` keys that `pattern` matches, in any case, without buttons unless it says so: EGT* is not EGTBTN1."""
    pattern = pattern.upper()
    found = [key for key in known if fnmatchcase(key.upper(), pattern)]
    if pattern.strip("*") == "" or text.BUTTON in pattern:
        return found
    return [key for key in found if text.BUTTON not in key.upper()] or found


def expand(client: Client, words: Iterable[str], known: Sequence[str] | None = None) -> list[str]:
    """Replace patterns in `words` by the keys that match, of the `known` ones or else of those that the gateway has.
    Without duplicates. Raises `FixgwError` if none matches."""
    keys: dict[str, None] = {}
    for word in words:
        if not is_pattern(word):
            keys[word] = None
            continue
        known = client.list() if known is None else known
        found = matching(word, known)
        if not found:
            raise FixgwError(f"no item matches {word!r}")
        keys.update(dict.fromkeys(found))
    return list(keys)


def ask_about(client: Client, key: str, ask: Callable[[str], T]) -> T:
    """Call ``ask(key)``, and turn the gateway's refusal into a sentence.

    Raises `UnknownKey`, with the nearest known key, or `FixgwError` when the gateway does not permit the request.
    """
    try:
        return ask(key)
    except Refused as error:
        if error.code == "001":
            raise unknown_key(client, key) from None
        if error.code == "005":
            raise _not_permitted(client) from None
        raise


def _not_permitted(client: Client) -> FixgwError:
    return FixgwError(
        f"the gateway at {client.host} does not allow writes from this computer: see the `write` option of its netfix "
        "connection"
    )


def status_of(client: Client, module: str, absent: str) -> Mapping[str, Any]:
    """The status of the connection with this module. Raises `FixgwError` if it does not run, or if it is `absent`."""
    connections: Mapping[str, Any] = client.status().get("connections", {})
    for name, facts in connections.items():
        if facts.get("module") == module:
            if not facts.get("running"):
                raise FixgwError(f"{name} does not run: {facts.get('health')}")
            status: Mapping[str, Any] = facts.get("status", {})
            return status
    raise FixgwError(absent)


def give(client: Client, command: str, words: str, module: str, absent: str) -> str:
    """Give a command that a connection with this module offers; see `status_of`. Returns why it was not done."""
    try:
        return client.command(command, words)
    except Refused as error:
        if error.code == "005":
            raise _not_permitted(client) from None
        status_of(client, module, absent)
        raise


def administer(client: Client, ask: Callable[[], T]) -> T:
    """Call ``ask()``, and turn the refusal of a gateway that this computer may not administer into a sentence."""
    try:
        return ask()
    except Refused as error:
        if error.code == "005":
            raise FixgwError(
                f"the gateway at {client.host} does not allow this computer to administer it: set the option `admin` "
                'of its netfix connection, such as `admin: [127.0.0.0/8, "::1"]`'
            ) from None
        raise


def unknown_key(client: Client, key: str) -> UnknownKey:
    base, dot, _ = key.partition(".")
    known = client.list()
    if dot and base in known:
        return UnknownKey(key, [f"{base}.{name}" for name in client.report(base).aux])
    return UnknownKey(key, known)


def _each(client: Client, keys: Iterable[str], show: Callable[[str], None]) -> int:
    """Call `show` for each key. Complain about unknown keys and continue with the others."""
    code = EXIT_DONE
    for key in keys:
        try:
            ask_about(client, key, show)
        except UnknownKey as error:
            code = complain(str(error))
    return code


# -- arguments ---------------------------------------------------------------------------------------------------------


def _flag(word: str) -> int:
    bit = text.flag_bit(word)
    if not bit:
        names = ", ".join(f"{letter} {FLAG_NAMES[bit]}" for letter, bit in FLAG_LETTERS.items())
        raise argparse.ArgumentTypeError(f"there is no flag {word!r}; the flags are {names}")
    return bit


def flags_of(word: str) -> int:
    """Parse ``bf``, ``bad,fail`` or ``none`` into bits."""
    if word.lower() == "none":
        return 0
    bits = 0
    for part in re.split(r"[,+ ]+", word):
        for name in [part] if text.flag_bit(part) else part:
            bits |= _flag(name)
    return bits


def _flags(word: str) -> int:
    bits = flags_of(word)
    if bits & OLD:
        raise argparse.ArgumentTypeError("`old` depends on the value's age; `fixgw flag KEY old on` can still set it")
    return bits


def _setting(word: str) -> bool:
    if word.lower() in ON + OFF:
        return word.lower() in ON
    raise argparse.ArgumentTypeError(f"{word!r} is neither on nor off")


# -- actions -----------------------------------------------------------------------------------------------------------


def list_keys(client: Client, args: argparse.Namespace) -> int:
    patterns = [p if is_pattern(p) else f"*{p}*" for p in args.patterns]
    known = client.list()
    matched = {key for pattern in patterns or ["*"] for key in matching(pattern, known)}
    keys = [key for key in known if key in matched]
    if not keys:
        units = {word.upper() for word in args.patterns}
        reports = client.report_many(known)
        described = {each for pattern in patterns for each in matching(pattern, [r.description for r in reports])}
        keys = [r.key for r in reports if r.description in described or r.units.upper() in units]
    if patterns and not keys:
        raise FixgwError(f"no key, description or units match {' or '.join(map(repr, args.patterns))}")
    if args.json:
        found = {r.key: _definition(r) for r in client.report_many(keys)} if args.long else keys
        print(json.dumps(found, indent=2))
    elif args.long:
        rows = [(r.key, r.units, r.description) for r in client.report_many(keys)]
        text.show(*text.table(rows))
    else:
        text.show(*keys)
    return EXIT_DONE


def read(client: Client, args: argparse.Namespace) -> int:
    samples: dict[str, Sample] = {}
    units: dict[str, str] = {}

    def ask(key: str) -> None:
        units[key] = client.report(key.partition(".")[0]).units
        samples[key] = client.read(key)

    code = _each(client, expand(client, args.keys), ask)
    if args.json:
        print(json.dumps({key: _facts(s, units[key]) for key, s in samples.items()}, indent=2))
    elif samples:
        shown = presentation(client, units, args.units)
        values = text.aligned([_value(s, shown[key]) for key, s in samples.items()])
        rows = zip(samples.items(), values, strict=True)
        text.show(*text.table((key, value, shown[key].units, _flag_words(s)) for (key, s), value in rows))
    return code


def presentation(client: Client, units: Mapping[str, str], chosen: Mapping[str, str]) -> dict[str, text.Shown]:
    """How people see values whose keys and units these are, if they have `chosen` units for quantities."""
    try:
        known = client.definitions()
    except Refused:  # a gateway without this command
        known = {}
    return {key: shown(key, unit, known.get(key.partition(".")[0]), chosen) for key, unit in units.items()}


def shown(key: str, unit: str, definition: Any, chosen: Mapping[str, str]) -> text.Shown:
    """The same for one key; `definition` has its decimals, if it is a mapping."""
    decimals = definition.get("decimals") if isinstance(definition, Mapping) else None
    decimals = decimals if isinstance(decimals, int) and 0 <= decimals <= 9 else None
    base, dot, _ = key.partition(".")
    wanted, factor, summand = preferred(base, unit, chosen)
    if dot and wanted == unit:
        decimals = None  # a person has set it
    return text.Shown(wanted, text.shown_decimals(decimals, factor), factor, summand)


def _value(sample: Sample, shown: text.Shown) -> str:
    return "-" if sample.value is None else shown.text(sample.value)


def _flag_words(sample: Sample) -> str:
    """An aux value has no flags."""
    return "" if "." in sample.key else text.flag_words(sample.flags)


def _facts(sample: Sample, units: str) -> dict[str, Any]:
    facts: dict[str, Any] = {"value": sample.value, "units": units}
    if "." not in sample.key:
        facts |= {"flags": text.flag_list(sample.flags), "good": sample.good}
    return facts


def _show(client: Client, sample: Sample, args: argparse.Namespace) -> None:
    units = client.report(sample.key.partition(".")[0]).units
    if args.json:
        print(json.dumps({sample.key: _facts(sample, units)}, indent=2))
    else:
        cells = sample.key, _value(sample, text.Shown(units)), units, _flag_words(sample)
        text.show("  ".join(cell for cell in cells if cell))


def write(client: Client, args: argparse.Namespace) -> int:
    key, value = args.key, args.value
    definition = ask_about(client, key.partition(".")[0], client.report)
    # Write to a copy of the item first, to learn why the gateway would refuse the value or how it would clamp it. Do
    # not read the key before writing: the gateway ignores a client that writes back what it has just read.
    trial = trial_item(definition)
    unset = "." in key and value == "None"
    wanted = None if unset else trial.convert(value)
    if args.flags is None:
        sample = ask_about(client, key, lambda k: client.write(k, value))
        _show(client, sample, args)
        if "." in key:
            return EXIT_DONE
        if not _is_same(sample.value, trial.write(wanted).value):
            return complain(f"{key} was not set: a better source prevails; `fixgw explain {key}` names it")
        _advise_of_writers(client, key)
        return EXIT_DONE
    if "." in key:
        raise BadValue(key, "an aux value has no flags")
    names = {name: bool(args.flags & bit) for bit, name in FLAG_NAMES.items() if bit != OLD}
    client.send(key, value, **names)
    sample = client.read(key)
    _show(client, sample, args)
    stored = trial.write(wanted).value
    # The gateway does not answer a value sentence, and it sets `bad` itself when it clamps a value.
    if not _is_same(sample.value, stored) or sample.flags & args.flags != args.flags:
        return complain(f"{key} was not set: this computer may not write, or another source writes {key} too")
    _advise_of_writers(client, key)
    return EXIT_DONE


def _advise_of_writers(client: Client, key: str) -> None:
    """Say so if what we have just set is replaced at once, because a connection keeps writing it."""
    try:
        facts = client.explain(key)
    except Refused:  # a gateway without `explain`
        return
    for each in facts.get("sources") or () if facts.get("tolerance") else ():
        name, age = each.get("source") or "", each.get("age")
        if age is not None and age < WRITES_ON_S and not unmarked(name).startswith("netfix/") and name not in START:
            complain(f"{name} keeps writing {key}, and replaces this: `fixgw override {key} VALUE` holds a value")
            return


def _is_same(answer: Any, stored: Any) -> bool:
    """Whether the gateway answers what was stored. A float has fewer digits in the answer."""
    if isinstance(stored, float) and isinstance(answer, float):
        return math.isclose(answer, stored, rel_tol=1e-6, abs_tol=1e-6)
    return bool(answer == stored)


def trial_item(report: Report) -> Item:
    """An item with the type and range of the reported one, to try what the gateway would do with a value."""
    limits: dict[str, Any] = {"min": report.min, "max": report.max} if report.type in ("float", "int") else {}
    return Database([Definition(key=report.key, type=report.type, **limits)]).item(report.key)  # type: ignore[arg-type]


def flag(client: Client, args: argparse.Namespace) -> int:
    letter = next(letter for letter, bit in FLAG_LETTERS.items() if bit == args.flag)
    if "." in args.key:
        raise BadValue(args.key, "an aux value has no flags")
    ask_about(client, args.key, lambda key: client.flag(key, letter, args.setting))
    sample = client.read(args.key)
    _show(client, sample, args)
    if args.setting and not sample.flags & args.flag:
        word = FLAG_NAMES[args.flag]
        return complain(f"{args.key} is not {word}: another source is published now; see `fixgw explain {args.key}`")
    _advise_of_writers(client, args.key)
    return EXIT_DONE


def report(client: Client, args: argparse.Namespace) -> int:
    found: dict[str, dict[str, Any]] = {}

    def ask(key: str) -> None:
        definition = client.report(key)
        found[key] = {
            **_definition(definition),
            "aux": {name: client.read(f"{key}.{name}").value for name in definition.aux},
        }

    code = _each(client, expand(client, args.keys), ask)
    if args.json:
        print(json.dumps(found, indent=2))
        return code
    for n, (key, facts) in enumerate(found.items()):
        text.show(*([""] if n else []), *_report_lines(key, facts))
    return code


def _definition(report: Report) -> dict[str, Any]:
    facts = {name: getattr(report, name) for name in report.__struct_fields__ if name != "key"}
    if report.type not in ("float", "int"):
        facts["min"] = facts["max"] = None
    return {**facts, "aux": list(report.aux)}


def _report_lines(key: str, facts: dict[str, Any]) -> list[str]:
    rows = [("type", facts["type"]), ("units", facts["units"] or "-")]
    if facts["min"] is not None or facts["max"] is not None:
        rows.append(("range", text.range_text(facts["min"], facts["max"])))
    tolerance = facts["tolerance"]
    rows.append(("becomes old", f"after {tolerance} ms without an update" if tolerance else "never"))
    aux = facts["aux"].items()
    rows += [("aux", f"{name} = {'-' if value is None else text.value_text(value)}") for name, value in aux]
    return [f"{key}: {facts['description']}", *text.table(rows, "  ")]


def explain(client: Client, args: argparse.Namespace) -> int:
    found: dict[str, dict[str, Any]] = {}

    def ask(key: str) -> None:
        found[key] = client.explain(key)

    def show(facts: Mapping[str, Any]) -> text.Shown:
        return shown(facts["key"], facts.get("units") or "", facts, args.units)

    @cache
    def connections() -> Mapping[str, Any]:
        return client.status().get("connections") or {}

    code = _each(client, expand(client, args.keys), ask)
    if args.json:
        print(json.dumps(found, indent=2))
        return code
    for n, facts in enumerate(found.values()):
        how = show(facts)
        lines = text.explanation(facts, how, text.feeding(facts, connections))
        text.show(*([""] if n else []), *lines, *text.derivation(facts, client.explain, show))
    return code


def status(client: Client, args: argparse.Namespace) -> int:
    tree = client.status()
    if args.connections:
        return _connection_status(tree.get("connections") or {}, args)
    if args.json:
        print(json.dumps(tree, indent=2))
    else:
        text.show(*text.status_lines(tree, args.verbose))
    return EXIT_DONE if tree.get("health") == "ok" else EXIT_FAILED


def _connection_status(connections: dict[str, Any], args: argparse.Namespace) -> int:
    chosen = {}
    for name in args.connections:
        if name not in connections:
            raise FixgwError(f"there is no connection {name!r}{did_you_mean(name, connections)}")
        chosen[name] = connections[name]
    if args.json:
        print(json.dumps(chosen, indent=2))
    else:
        text.show(*text.connection_lines(chosen))
    return EXIT_DONE if all(facts.get("health") == "ok" for facts in chosen.values()) else EXIT_FAILED


def restart(client: Client, args: argparse.Namespace) -> int:
    import time

    name = args.connection
    asked = time.monotonic()
    if refused := administer(client, lambda: client.restart(name)):
        return complain(refused)
    while True:
        try:
            facts = client.status().get("connections", {}).get(name, {})
        except (NotConnected, RequestTimeout):  # it is the connection that answers here
            facts = {}
        state = facts.get("state")
        again = bool(facts) and facts.get("for", 0.0) <= time.monotonic() - asked
        if again and state not in ("loaded", "starting", "stopping", "stopped"):
            break
        if again and state == "stopped" and (facts.get("reason") or time.monotonic() - asked > RESTART_PATIENCE_S):
            break
        if time.monotonic() - asked > RESTART_PATIENCE_S:
            return complain(f"{name} was not restarted within {RESTART_PATIENCE_S:g} s: {state}")
        time.sleep(0.1)
    health = facts.get("health", "")
    well = state == "running" or (state == "stopped" and health == "ok")
    said = ", with its current code and the options that the gateway has read; SIGHUP reads new ones" if well else ""
    text.show(f"{name}: {state}" + (f", {health}" if health not in ("", "ok") else said))
    return EXIT_DONE if well else EXIT_FAILED
