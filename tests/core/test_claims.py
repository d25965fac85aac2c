"""Claims: only one connection of a configuration can use a pin, a port or an address on a bus."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixgw import configuration
from fixgw.errors import ConfigurationError

_numbers = itertools.count()

PLUGIN = '''"""A plugin for tests."""
from fixgw.plugin import Options, PluginBase

class Settings(Options, kw_only=True, frozen=True):
    lamps: tuple[int, ...] = ()
    key: str = ""

class Plugin(PluginBase):
    Options = Settings

    @classmethod
    def check(cls, options, db):
        if options.key and options.key not in db:
            yield "key", f"no item {options.key!r}"

    @classmethod
    def claims(cls, options):
        for number, lamp in enumerate(options.lamps):
            yield f"LAMP{lamp}", f"lamps.{number}"
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[str]:
    path = list(sys.path)
    name = f"claims_test_{next(_numbers)}"
    (tmp_path / f"{name}.py").write_text(PLUGIN)
    yield name
    sys.path[:] = path
    sys.modules.pop(name, None)


def problems(directory: Path, text: str) -> list[str]:
    main = directory / "main.yaml"
    main.write_text(text)
    return [str(problem).replace(f"{directory}/", "") for problem in configuration.check(main)]


def test_two_connections_with_the_same_claim_are_reported_with_both_positions(tmp_path: Path, plugin: str) -> None:
    text = f"connections:\n  a: {{module: {plugin}, lamps: [1, 2]}}\n  b: {{module: {plugin}, lamps: [3, 2]}}\n"
    line = text.splitlines()
    there, here = line[1].index("2]") + 1, line[2].index("2]") + 1
    assert problems(tmp_path, text) == [
        f"main.yaml:3:{here}: lamps[1]: LAMP2 is already used by connection 'a', at main.yaml:2:{there}"
    ]


def test_two_entries_of_one_connection_with_the_same_claim_are_reported_too(tmp_path: Path, plugin: str) -> None:
    text = f"connections:\n  a: {{module: {plugin}, lamps: [7, 7]}}\n"
    (found,) = problems(tmp_path, text)
    assert "lamps[1]: LAMP7 is already used by this connection, at main.yaml:2:" in found


def test_a_connection_with_other_problems_still_makes_its_claims(tmp_path: Path, plugin: str) -> None:
    text = f"connections:\n  a: {{module: {plugin}, lamps: [1], key: 7}}\n  b: {{module: {plugin}, lamps: [1]}}\n"
    first, second = problems(tmp_path, text)
    assert "key: expected text" in first
    assert "LAMP1 is already used by connection 'a'" in second


def test_claims_are_checked_even_without_a_usable_database(tmp_path: Path, plugin: str) -> None:
    text = f"database file: missing.yaml\nconnections:\n  a: {{module: {plugin}, lamps: [1, 1]}}\n"
    assert any("LAMP1 is already used" in problem for problem in problems(tmp_path, text))


def test_a_connection_that_is_not_loaded_claims_nothing(tmp_path: Path, plugin: str) -> None:
    text = (
        f"connections:\n  a: {{module: {plugin}, lamps: [1], load: no}}\n  b: {{module: {plugin}, lamps: [1]}}\n"
        f"  c: {{module: {plugin}, lamps: [2]}}\n"
    )
    assert problems(tmp_path, text) == []


def test_a_serial_port_has_one_user_under_any_of_its_names(tmp_path: Path) -> None:
    (tmp_path / "by-id").symlink_to(tmp_path / "ttyUSB0")
    text = "connections:\n" + "".join(
        f"  {name}: {{module: fixgw.drivers.nmea0183, port: {tmp_path}/{port}}}\n"
        for name, port in [("a", "ttyUSB0"), ("b", "by-id"), ("c", "ttyUSB1")]
    )
    (found,) = problems(tmp_path, text)
    assert "port: ttyUSB0 is already used by connection 'a', at main.yaml:2:" in found


def test_a_network_port_can_have_several_users(tmp_path: Path) -> None:
    text = "connections:\n" + "".join(
        f"  {name}: {{module: fixgw.drivers.nmea0183, port: 'socket://localhost:5000'}}\n" for name in "ab"
    )
    assert problems(tmp_path, text) == []


def test_two_servers_of_any_kind_on_one_port_are_reported(tmp_path: Path) -> None:
    text = (
        "connections:\n"
        "  a: {module: fixgw.plugins.netfix}\n"
        "  b: {module: fixgw.plugins.netfix, host: 0.0.0.0}\n"
        "  c: {module: fixgw.drivers.serial_bridge, port: /dev/ttyS0, tcp_port: 3490}\n"
        "  d: {module: fixgw.plugins.netfix, port: 3491}\n"
        "  e: {module: fixgw.plugins.netfix, host: 192.168.1.5}\n"
        "  f: {module: fixgw.plugins.netfix, host: 127.0.0.1}\n"
        "  g: {module: fixgw.plugins.netfix, host: panel}\n"
        "  h: {module: fixgw.plugins.netfix, port: 3492, host: '::'}\n"
        "  i: {module: fixgw.plugins.netfix, port: 3492, host: 127.0.0.1}\n"
        "  x: {module: fixgw.plugins.netfix, type: client, outputs: [{host: x, send: [IAS]}]}\n"
    )
    found = problems(tmp_path, text)
    assert [problem.partition(": ")[2] for problem in found] == [
        "port: TCP port 3490 is already used by connection 'a', at main.yaml:2:3",
        "tcp_port: TCP port 3490 is already used by connection 'a', at main.yaml:2:3",
        "port: TCP port 3490 is already used by connection 'a', at main.yaml:2:3",
        "port: TCP port 3490 is already used by connection 'a', at main.yaml:2:3",
        "port: TCP port 3492 is already used by connection 'h', at main.yaml:9:43",
    ]


def test_a_wrong_entry_does_not_hide_the_claims_of_others(tmp_path: Path) -> None:
    text = (
        "connections:\n"
        "  panel:\n"
        "    module: fixgw.drivers.gpio\n"
        "    buttons:\n"
        "      - {key: BTN1, pin: 99}\n"
        "      - {key: BTN2, pin: 17}\n"
        "      - {key: BTN3, pin: 17}\n"
        "      - {key: NOSUCH, pin: 18}\n"
    )
    assert problems(tmp_path, text) == [
        "main.yaml:5:26: buttons[0].pin: expected whole number, 0 to 53, got the number 99",
        "main.yaml:7:26: buttons[2].pin: GPIO17 is already used by this connection, at main.yaml:6:26",
        "main.yaml:8:15: buttons[3].key: the database has no item 'NOSUCH'",
    ]


def test_entries_that_are_all_wrong_are_reported_only_once(tmp_path: Path) -> None:
    text = "connections:\n  panel:\n    module: fixgw.drivers.gpio\n    buttons: [{key: BTN1, pin: 99}]\n"
    (found,) = problems(tmp_path, text)
    assert "buttons[0].pin: expected whole number" in found


def test_entries_of_a_mapping_are_checked_one_by_one_too(tmp_path: Path) -> None:
    text = (
        "connections:\n"
        "  eis:\n"
        "    module: fixgw.drivers.eis\n"
        "    port: /dev/ttyS0\n"
        "    aux: {1: {key: 5}, 2: {key: NOSUCH}}\n"
    )
    first, second = problems(tmp_path, text)
    assert "aux.1.key: expected text" in first
    assert "aux.2.key: the database has no item 'NOSUCH'" in second


WIDER = '''"""Another plugin for tests."""
from fixgw.errors import Advice, Problem
from fixgw.plugin import Options, PluginBase

class Entry(Options, kw_only=True, frozen=True):
    name: str
    part: str = ""

class Settings(Options, kw_only=True, frozen=True):
    others: tuple[Entry, ...] = ()
    map: str = ""
    say: str = ""

class Plugin(PluginBase):
    Options = Settings

    @classmethod
    def check(cls, options, db):
        for number, entry in enumerate(options.others):
            if entry.name == "odd":
                yield f"others[{number}].name", "is odd"

    @classmethod
    def claims(cls, options):
        for number, entry in enumerate(options.others):
            if entry.part:
                yield entry.part, f"others.{number}.part"

    @classmethod
    def references(cls, options):
        for number, entry in enumerate(options.others):
            yield entry.name, f"others[{number}].name"

    @classmethod
    def carries_votes(cls, options):
        return options.say == "vote"

    @classmethod
    def advise(cls, options, db):
        if options.say == "here":
            yield Advice("elsewhere", 3, 4, "an advice of its own")
            yield "", "about all of it"
        if options.say:
            yield "say", "mind this"
'''


@pytest.fixture
def wider(tmp_path: Path) -> Iterator[str]:
    path = list(sys.path)
    name = f"claims_test_{next(_numbers)}"
    (tmp_path / f"{name}.py").write_text(WIDER)
    yield name
    sys.path[:] = path
    sys.modules.pop(name, None)


def test_a_connection_that_another_names_must_exist_and_should_be_loaded(tmp_path: Path, wider: str) -> None:
    others = "{name: b}, {name: idle}, {name: empty}"
    text = (
        f"connections:\n  a: {{module: {wider}, others: [{others}]}}\n  b: {{module: {wider}, say: vote}}\n"
        f"  idle: {{module: {wider}, load: no}}\n  empty:\n"
    )
    assert problems(tmp_path, text) == []
    loaded = configuration.load(tmp_path / "main.yaml")
    line = text.splitlines()[1]
    assert [(a.line, a.column, a.message) for a in loaded.advice[:2]] == [
        (2, line.index("idle") + 1, "others[1].name: idle is not loaded (load: no)"),
        (2, line.index("empty") + 1, "others[2].name: empty is not loaded (empty)"),
    ]
    assert [c.carries_votes for c in loaded.connections] == [False, True]
    text = text.replace("{name: b}", "{name: 5}, {name: 6}, {name: bb}")
    assert [p.partition(" ")[2] for p in problems(tmp_path, text)] == [
        "others[0].name: expected text, got the number 5",
        "others[1].name: expected text, got the number 6",
        "others[2].name: no connection 'bb' (did you mean 'b'?)",
    ], "an entry has the number that it has in the file"


def test_advice_of_a_plugin_has_a_position(tmp_path: Path, wider: str) -> None:
    text = f"connections:\n  a: {{module: {wider}, say: here}}\n  b:\n    module: {wider}\n    say: x\n"
    assert problems(tmp_path, text) == []
    assert [str(a).replace(f"{tmp_path}/", "") for a in configuration.load(tmp_path / "main.yaml").advice] == [
        "main.yaml:2:3: advice: about all of it",
        f"main.yaml:2:{text.splitlines()[1].index('here') + 1}: advice: say: mind this",
        "main.yaml:5:10: advice: say: mind this",
        "elsewhere:3:4: advice: an advice of its own",
    ]
    (tmp_path / "main.yaml").write_text(text + "    others: [{name: odd}]\n")
    with pytest.raises(ConfigurationError) as caught:
        configuration.load(tmp_path / "main.yaml")
    assert [p.message for p in caught.value.problems] == [
        "others[0].name: is odd",
        "others[0].name: no connection 'odd'",
    ]
    assert len(caught.value.advice) == 3, "none about options that are wrong"


@pytest.mark.parametrize(
    ("first", "second", "taken"),
    [
        ("X", "X", "X"),
        ("X of a", "X of b", ""),
        ("X of a", "X of a", "X"),
        ("X of a", "X", "X"),
        ("X", "X of a", "X"),
        ("X of a", "Y of a", ""),
        ("X", "Y", ""),
    ],
)
def test_a_part_and_the_whole_of_a_resource_exclude_each_other(
    tmp_path: Path, wider: str, first: str, second: str, taken: str
) -> None:
    text = "connections:\n" + "".join(
        f"  {name}: {{module: {wider}, others: [{{name: a, part: {part}}}]}}\n"
        for name, part in zip("ab", (first, second), strict=True)
    )
    found = [problem.partition(", at")[0].partition(" ")[2] for problem in problems(tmp_path, text)]
    assert found == ([f"others[0].part: {taken} is already used by connection 'a'"] if taken else [])
