"""Reads scenarios, and reports everything that is wrong with a file at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from msgspec import Struct

from fixgw.configuration.options import fitting, problems
from fixgw.configuration.reader import Positions, Reader, described
from fixgw.errors import ConfigurationError, Problem, did_you_mean
from fixgw.hw_sim.aircraft import Aircraft, misfit
from fixgw.hw_sim.bench.expect import (
    ALERT_WORDS,
    FLAG_WORDS,
    AlertIs,
    Claim,
    Each,
    HasFlags,
    Holds,
    Is,
    SourceIs,
    Unchanged,
    Watch,
    within_and_for,
)
from fixgw.hw_sim.can.devices import DEVICES, Panel
from fixgw.hw_sim.scenario import actions
from fixgw.hw_sim.scenario.actions import End
from fixgw.hw_sim.scenario.expansion import Block, Expansion, Parameters, Scalar, Step, names_in, resolve
from fixgw.hw_sim.scenario.forms import (
    ALONE,
    BLOCKS,
    FAULTS_OF,
    KINDS,
    Event,
    Expected,
    File,
    Flight,
    NodeOptions,
    Parameter,
    Scenario,
    form_of,
    instruments,
    moment,
)
from fixgw.kit.expression import BadExpression
from fixgw.kit.options import convert

#: The words of a step that say when it begins, and its name.
TIMING = ("at", "after", "when", "whenever", "deadline", "name")


def load(path: Path | str, given: Mapping[str, Scalar] | None = None, seed: int | None = None) -> Scenario:
    """Read a scenario, with the values `given` to its parameters and the `seed` of its random faults.

    Without one that of the file counts, or else one is drawn. Raises `ConfigurationError` with everything that is
    wrong with it.
    """
    reader, value, at = _read(path)
    scenario = _scenario(value, at, reader, given or {}, seed) if isinstance(value, dict) else None
    if scenario is None or reader.problems:
        raise ConfigurationError(reader.sorted_problems())
    return scenario


def declared(path: Path | str) -> dict[str, Parameter]:
    """The parameters that a file declares, as far as they can be read: `load` reports what is wrong with them."""
    reader, value, at = _read(path)
    written = value.get("parameters") if isinstance(value, dict) else None
    return Parameters(written, at.at(["parameters"]), reader.problems).all


def _read(path: Path | str) -> tuple[Reader, Any, Positions]:
    reader = Reader(path)
    value, at = reader.read(reader.main)
    if not isinstance(value, dict) and not reader.problems:
        reader.report(at, f"expected a mapping with events:, got {described(value)}")
    return reader, value, at


def _scenario(
    value: dict[str, Any], at: Positions, reader: Reader, given: Mapping[str, Scalar], seed: int | None
) -> Scenario | None:
    """Build the scenario; None if there are problems, which are appended to those of the reader."""
    found = reader.problems
    known = Parameters(value.get("parameters"), at.at(["parameters"]), found)
    values = known.values(given, Positions(str(reader.main)), found, "")
    plain = {key: member for key, member in value.items() if key not in ("parameters", "events")}
    nodes = plain.get("nodes")
    devices = {
        str(name): str((options if isinstance(options, dict) else {}).get("device") or name)
        for name, options in (nodes if isinstance(nodes, dict) else dict.fromkeys(DEVICES)).items()
    }
    own_seed = plain.get("seed")
    expansion = Expansion(reader, devices, own_seed if seed is None and isinstance(own_seed, int) else seed)
    plain = expansion.substitute(plain, at, values)
    found += problems({**plain, **{key: value[key] for key in ("parameters", "events") if key in value}}, File, at)
    file = convert(fitting(plain, File)[0], File)
    _check_nodes(plain.get("nodes"), at, found)
    start = plain.get("flight", {}).get("start") if isinstance(plain.get("flight"), dict) else None
    if isinstance(start, str):
        try:
            moment(start)
        except ValueError:
            found.append(at.at(["flight", "start"]).problem(f"flight.start: {start!r} is not a date and time"))
    _check_wires(file, at, found)
    block = Block(str(reader.main), values, names={}, playing=(str(reader.main.resolve()),))
    expansion.expand(value.get("events"), at.at(["events"]), "events", block)
    events = [_event(number, step, devices, found) for number, step in enumerate(expansion.steps)]
    _check_loops(expansion.steps, events, found)
    for step, event in zip(expansion.steps, events, strict=True):
        if event is not None and file.duration is not None and _starts_at(event) >= file.duration:
            found.append(step.place.problem(f"{step.label}: the scenario is over before {_starts_at(event):g} s"))
    if found:
        return None
    return Scenario(
        {name: options or NodeOptions() for name, options in (file.nodes or dict.fromkeys(DEVICES)).items()},
        file.flight or Flight(),
        tuple(sorted((event for event in events if event is not None), key=lambda event: event.at)),
        file.duration,
        file.description,
        file.bit_rate * 1000,
        _configuration(file.configuration, at),
        expansion.seed,
        values,
        file.wires,
        file.senders,
    )


def _configuration(name: str | None, at: Positions) -> str:
    """The path of the configuration, or the name of a packaged one."""
    if name is None:
        return ""
    beside = Path(at.at(["configuration"]).file).parent / name
    return str(beside) if beside.exists() or "/" in name or "." in name else name


def _check_wires(file: File, at: Positions, found: list[Problem]) -> None:
    from fixgw.hw_sim.everything import CONVERTERS

    for name, device in file.wires.items():
        known = (*instruments(), "can0")
        if device not in known:
            words = f"wires.{name}: no device {device!r}{did_you_mean(device, known)}"
            found.append(at.at(["wires", name]).problem(words))
    for name, senders in file.senders.items():
        place = at.at(["senders"])
        if name not in CONVERTERS:
            words = f"senders: no converter {name!r}{did_you_mean(name, CONVERTERS)}"
            found.append(place.keys[name].problem(words))
        for number, sender in enumerate(senders):
            if len({value for value, _ in sender.points}) < len(sender.points):
                where = place.at([name, number, "points"])
                found.append(where.problem(f"senders.{name}[{number}].points: a value has two voltages"))


def _starts_at(event: Event) -> float:
    return event.at if event.after is None and event.when is None else 0.0


def _check_nodes(nodes: Any, at: Positions, found: list[Problem]) -> None:
    ids: dict[int, str] = {}
    for name, options in nodes.items() if isinstance(nodes, dict) else dict.fromkeys(DEVICES).items():
        options = options if isinstance(options, dict) else {}
        device, place = str(options.get("device") or name), at.at(["nodes", name])
        if device not in DEVICES:
            where = place.at(["device"]) if "device" in options else at.at(["nodes"]).keys[name]
            found.append(where.problem(f"nodes.{name}: no device {device!r}{did_you_mean(device, DEVICES)}"))
            continue
        id = options.get("id") or DEVICES[device].DEVICE
        if isinstance(id, int) and (other := ids.setdefault(id, str(name))) != name:
            found.append(
                at.at(["nodes"])
                .keys[name]
                .problem(
                    f"nodes.{name}: its node id {id} is already that of {other!r}; give it another, "
                    "or use the fault 'duplicate-node'"
                )
            )
    if nodes == {}:
        found.append(at.at(["nodes"]).problem("nodes: there are none"))


def _check_loops(steps: list[Step], events: list[Event | None], found: list[Problem]) -> None:
    """Report steps that wait for one another."""
    for number, event in enumerate(events):
        seen = {number}
        while event is not None and event.after is not None:
            if event.after == number:
                found.append(steps[number].place.problem(f"{steps[number].label}: it waits for itself"))
            if event.after in seen:
                break
            seen.add(event.after)
            event = events[event.after]


# -- one event ---------------------------------------------------------------------------------------------------------


def _event(number: int, step: Step, devices: Mapping[str, str], found: list[Problem]) -> Event | None:
    entry, at, name = step.entry, step.place, step.label
    kinds = [kind for kind in KINDS if kind in entry]
    if len(kinds) != 1:
        known = (*KINDS, *BLOCKS)
        got = " and ".join(kinds) or f"none{_meant(entry, known)}"
        found.append(at.problem(f"{name}: expected one of {', '.join(known)}, got {got}"))
        return None
    kind = kinds[0]
    target = kind
    targets = [t for t in FAULTS_OF if t in entry]
    whom: Any = ""
    if kind == "set" and not targets:
        target = "aircraft"
    elif kind not in (*ALONE, "expect"):
        if len(targets) != 1:
            meant = "" if targets else _meant(entry, FAULTS_OF)
            found.append(at.problem(f"{name}: expected either node: or instrument:{meant}"))
            return None
        target = targets[0]
        whom = entry[target]
        names: Iterable[str] = devices if target == "node" else instruments()
        if isinstance(whom, str) and names and whom not in names:
            found.append(at.at([target]).problem(f"{name}: no {target} {whom!r}{did_you_mean(whom, names)}"))
    form: type[Struct] | None = KINDS[kind]
    if form is None:
        fault, faults = str(entry["fault"]), FAULTS_OF[target]
        if fault not in faults:
            found.append(at.at(["fault"]).problem(f"{name}: no fault {fault!r}{did_you_mean(fault, faults)}"))
            return None
        form = form_of(faults[fault])
    elif kind in ("turn", "press", "switch") and not _is_panel(target, str(whom), devices):
        found.append(at.at([target]).problem(f"{name}: {whom!r} has nothing to {kind}; only a panel has"))
    elif kind == "alarm" and target != "node":
        found.append(at.at([target]).problem(f"{name}: {whom!r} has no alarm; only a node has"))
    wrong = list(problems(entry, form, at, name))
    if kind == "expect" and isinstance(entry["expect"], dict):
        wrong += problems(entry["expect"], Expected, at.at(["expect"]), f"{name}.expect")
    found += wrong
    if wrong:
        return None
    if kind == "set" and (unfit := _unfit(entry, target)):
        option, why = unfit
        found.append(at.at([option]).problem(f"{name}: {why}"))
        return None
    after = None
    if step.after is not None:
        wanted, block = step.after
        after = resolve(wanted, block)
        if after is None:
            words = f"{name}.after: no event {wanted!r}{did_you_mean(wanted, names_in(block))}"
            found.append(at.at(["after"]).problem(words))
            return None
    try:
        event = _expectation(entry) if kind == "expect" else _build_event(kind, target, entry)
    except Misfit as error:
        found.append(at.at(["expect", error.option]).problem(f"{name}.expect: {error}"))
        return None
    except ValueError as error:
        found.append(at.problem(f"{name}: {error}"))
        return None
    event = event._replace(id=number, at=step.at, after=after, when=step.when, place=str(at))
    if event.claim is None:
        return event
    words = f"{_when(step)}{event.words}"
    return event._replace(words=words, begin=partial(_expect, event._replace(words=words)))


def _meant(entry: Mapping[str, Any], known: Iterable[str]) -> str:
    """Which of the `known` words one of the event's probably is, as the end of a sentence."""
    words = (str(key) for key in entry if key not in (*TIMING, *KINDS))
    return next(filter(None, (did_you_mean(word, known) for word in words)), "")


def _when(step: Step) -> str:
    """When an expectation begins, as the beginning of its words."""
    later = f"{step.at:g} s after " if step.at else "after "
    if step.after is not None:
        return f"{later}{step.after[0]}: "
    if step.when is not None:
        word = "whenever" if step.when.always else "when"
        return f"{later if step.at else ''}{word} {step.when.expression.text}: "
    return f"at {step.at:g} s: "


def _expect(event: Event, watch: Watch) -> None:
    assert event.claim is not None
    watch.expect(event.claim, event.within, event.lasting or 0.0, event.words, event.place)


@cache
def _keys() -> Mapping[str, Any]:
    """What can be set: the keys that the aircraft has, with a value of each."""
    return Aircraft().values()


def _unfit(entry: Mapping[str, Any], target: str) -> tuple[str, str] | None:
    """Which option of an event that sets a value does not fit, and why; None if all do."""
    from fixgw.hw_sim.devices import instruments

    key, value = entry["set"], entry["to"]
    if key not in _keys():
        return "set", f"the aircraft has no {key!r}{did_you_mean(key, _keys())}"
    if why := misfit(value, _keys()[key]):
        return "to", f"{key} {why}"
    if target == "instrument" and entry["instrument"] not in instruments():
        return "instrument", "only instruments on serial lines can see a value of their own: set it for all"
    return None


def _is_panel(target: str, whom: str, devices: Mapping[str, str]) -> bool:
    return whom == "panel" if target == "instrument" else DEVICES.get(devices.get(whom, "panel")) is Panel


def _build_event(kind: str, target: str, entry: dict[str, Any]) -> Event:
    """Raises ValueError for values that are out of range or do not go together."""
    which, lasting = entry[kind], entry.get("for")
    words = f"{kind} {which}"
    begin: Callable[[Any], End | None]
    if kind == "fault":
        words = which
        said = (*TIMING, "node", "instrument", "for", kind)
        make = partial(FAULTS_OF[target][which], **{k: value for k, value in entry.items() if k not in said})
        make()
        begin = partial(actions.break_, make)
    elif kind == "adapter":
        words = which
        begin = actions.ADAPTER[which]
    elif kind == "aircraft":
        words = which
        begin = actions.AIRCRAFT[which]
    elif kind == "alarm":
        text = entry.get("data", "")
        try:
            data = bytes.fromhex(text)
        except ValueError:
            raise ValueError(f"data: {text!r} is not bytes in hex") from None
        if len(data) > 6:
            raise ValueError(f"data: {len(data)} bytes, but at most 6 fit")
        begin = partial(actions.alarm, which, data)
    elif kind == "set":
        value = type(_keys()[which])(entry["to"])
        words = f"{which} is {value}"
        begin = partial(actions.hold, (which, value))
    elif kind == "press":
        lasting = entry.get("for", 0.2)
        begin = partial(actions.press, which)
    elif kind == "turn":
        words += f" by {entry['by']}"
        begin = partial(actions.turn, which, entry["by"])
    else:
        on = entry.get("to", True)
        words += " on" if on else " off"
        begin = partial(actions.switch, which, on)
    return Event(0.0, target, entry.get(target, "") if kind not in ALONE else "", words, begin, lasting)


# -- expectations ------------------------------------------------------------------------------------------------------


class Misfit(ValueError):
    """An `option` of an expectation does not fit the others."""

    def __init__(self, option: str, message: str) -> None:
        self.option = option
        super().__init__(message)


def _expectation(entry: Mapping[str, Any]) -> Event:
    """Raises `Misfit`."""
    written = entry["expect"]
    if isinstance(written, str):
        try:
            claim: Claim = Holds(written)
        except BadExpression as error:
            raise Misfit("", str(error)) from None
    else:
        claim = _claim(written)
    within, lasting = float(entry.get("within", 0.0)), float(entry.get("for", 0.0))
    words = f"{claim}{within_and_for(within, lasting)}"

    return Event(0.0, "expect", "", words, _nothing, lasting, claim=claim, within=within)


def _nothing(target: Any) -> None:
    """The beginning of an expectation is set when its words and place are known."""


#: What goes together with what an expectation is about.
ABOUT = {
    "key": {"is", "tolerance", "min", "max", "flags", "source", "except"},
    "alert": {"is", "level"},
    "unchanged": {"except"},
}


def _claim(written: Mapping[str, Any]) -> Claim:
    about = [word for word in ABOUT if word in written]
    if len(about) != 1:
        raise Misfit("", f"expected one of {', '.join(ABOUT)}, got {' and '.join(about) or 'none'}")
    for word in written:
        if word not in (about[0], *ABOUT[about[0]]):
            raise Misfit(word, f"{word}: does not go together with {about[0]}:")
    return _CLAIMS[about[0]](written)


def _of_key(written: Mapping[str, Any]) -> Claim:
    value, tolerance = written.get("is"), written.get("tolerance")
    if tolerance is not None and (value is None or isinstance(value, str | bool)):
        raise Misfit("tolerance", "tolerance: needs a number (is:)")
    flags = _texts(written.get("flags", ()))
    for word in flags:
        if word.removeprefix("not ") not in FLAG_WORDS:
            raise Misfit("flags", f"flags: {word!r} is not a flag{did_you_mean(word, FLAG_WORDS)}")

    def make(key: str) -> list[Claim]:
        claims: list[Claim] = []
        if (not flags and "source" not in written) or {"is", "min", "max"} & written.keys():
            claims.append(Is(key, value, tolerance or 0.0, written.get("min"), written.get("max")))
        if flags:
            claims.append(HasFlags(key, flags))
        if "source" in written:
            claims.append(SourceIs(key, written["source"]))
        return claims

    keys = _texts(written["key"])
    if len(keys) == 1 and not set("*?[") & set(keys[0]) and len(claims := make(keys[0])) == 1:
        return claims[0]
    return Each(keys, make, _texts(written.get("except", ())))


def _of_alert(written: Mapping[str, Any]) -> Claim:
    state = written.get("is", "raised")
    if state not in ALERT_WORDS:
        meant = did_you_mean(str(state), ALERT_WORDS)
        raise Misfit("is", f"is: {state!r} is nothing that an alert can be{meant}")
    return AlertIs(written["alert"], state, written.get("level", ""))


def _of_changes(written: Mapping[str, Any]) -> Claim:
    return Unchanged(_texts(written["unchanged"]), _texts(written.get("except", ())))


def _texts(words: Any) -> tuple[str, ...]:
    return (words,) if isinstance(words, str) else tuple(words)


_CLAIMS: Mapping[str, Callable[[Mapping[str, Any]], Claim]] = {
    "key": _of_key,
    "alert": _of_alert,
    "unchanged": _of_changes,
}
