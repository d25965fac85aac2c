"""The configuration as a whole: found, merged with the packaged one, checked completely, copied and described."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixgw import configuration, loader
from fixgw.configuration import Configuration, Connection
from fixgw.configuration.schema import schema
from fixgw.configuration.tree import MANIFEST, SCHEMA, aircraft, copy_tree, write_schema
from fixgw.errors import Advice, ConfigurationError
from fixgw.plugin import Options, PluginBase

_numbers = itertools.count()

PLUGIN = '''"""A plugin for tests."""
from collections.abc import Iterable
from typing import Annotated, Literal
import msgspec
from fixgw.plugin import Options, PluginBase

class Output(Options, kw_only=True, frozen=True):
    key: str
    every: Annotated[int, msgspec.Meta(ge=1)] = 1

class Settings(Options, kw_only=True, frozen=True):
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 5000
    mode: Literal["fast", "slow"] = "fast"
    outputs: tuple[Output, ...] = ()

    def __post_init__(self) -> None:
        if self.port == 6666:
            raise ValueError("port 6666 is taken")

class Plugin(PluginBase):
    Options = Settings

    @classmethod
    def check(cls, options, db) -> Iterable[tuple[str, str]]:
        for number, output in enumerate(options.outputs):
            if output.key == "CRASH":
                raise ZeroDivisionError("of the plugin's own")
            if output.key not in db:
                yield f"outputs.{number}.key", f"no item {output.key!r}"
'''


@pytest.fixture(autouse=True)
def clean_path() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("config_test_"):
            del sys.modules[name]


class Tree:
    """A directory with a configuration."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.main = directory / "main.yaml"
        self.plugin = f"config_test_{next(_numbers)}"
        self.write(self.plugin + ".py", PLUGIN)

    def write(self, name: str, text: str) -> None:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("PLUGIN", self.plugin))

    def load(self, text: str, **variables: str) -> Configuration:
        self.write("main.yaml", text)
        return configuration.load(self.main, variables)

    def problems(self, text: str) -> list[str]:
        """The problems of a main file, without the directory; a ``^`` in the text is left out."""
        self.write("main.yaml", text.replace("^", ""))
        found = configuration.check(self.main)
        return [str(p).replace(f"{self.directory}{os.sep}", "").replace(self.plugin, "PLUGIN") for p in found]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


# -- finding -----------------------------------------------------------------------------------------------------------


def test_the_file_named_on_the_command_line_comes_first(tmp_path: Path) -> None:
    environ = {"FIXGW_CONFIG": "/elsewhere.yaml", "XDG_CONFIG_HOME": str(tmp_path)}
    assert configuration.find("mine.yaml", environ) == Path("mine.yaml")
    assert configuration.find(None, environ) == Path("/elsewhere.yaml")
    assert configuration.find(tmp_path, environ) == tmp_path / "default.yaml"


def test_the_users_own_file_comes_before_the_packaged_one(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    if not Path("/etc/fixgw/default.yaml").exists():
        assert configuration.find(None, environ) == configuration.packaged() / "default.yaml"
    (tmp_path / "fixgw").mkdir()
    (tmp_path / "fixgw" / "default.yaml").write_text("connections:\n")
    assert configuration.find(None, environ) == tmp_path / "fixgw" / "default.yaml"


def test_the_usual_places_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(os.path, "exists", lambda path: asked.append(str(path)))
    monkeypatch.setenv("HOME", "/home/ann")
    places = ["/home/ann/.config/fixgw", "/etc/fixgw", "/home/ann/makerplane/fixgw/config"]
    for environ in ({}, {"HOME": "/home/ann"}, {"FIXGW_CONFIG": "", "XDG_CONFIG_HOME": ""}):
        asked.clear()
        assert configuration.find("", environ) == configuration.packaged() / "default.yaml"
        assert asked == [f"{place}/default.yaml" for place in places]
    assert configuration.find("~/mine.yaml", {}) == Path("/home/ann/mine.yaml")


def test_finding_the_configuration_writes_nothing(tmp_path: Path) -> None:
    configuration.find(None, {"XDG_CONFIG_HOME": str(tmp_path)})
    assert list(tmp_path.iterdir()) == []


# -- the packaged configuration ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["default.yaml", "demo.yaml"])
def test_the_packaged_configurations_have_no_problems(name: str) -> None:
    variables = {"SIM": "/tmp/sim", "GPS": "sim/gps"}
    assert configuration.check(configuration.packaged() / name, variables) == []


def test_the_packaged_values_are_those_of_the_packaged_configuration() -> None:
    loaded = configuration.load(configuration.packaged() / "default.yaml")
    configuration.packaged_values.cache_clear()
    assert configuration.packaged_values() == dict(loaded.initial)
    assert loaded.initial


def test_all_packaged_initial_values_have_an_item() -> None:
    # Named explicitly, so every line must find an item.
    config = configuration.load(configuration.packaged() / "default.yaml")
    database = config.make_database()
    assert len(config.initial) > 100
    assert database.read("BARO").good
    assert database.read_aux("IAS.Vne") is not None


def test_omitted_parts_of_a_configuration_are_the_packaged_ones(tree: Tree) -> None:
    config = tree.load("connections:\n  x:\n    module: PLUGIN\n")
    packaged = configuration.load(configuration.packaged() / "default.yaml")
    assert config.definitions == packaged.definitions
    assert config.initial == packaged.initial
    assert config.logging == packaged.logging
    assert config.logging is not None
    assert [c.name for c in config.connections] == ["x"]
    assert config.directory == tree.directory
    assert config.auto_start is True
    assert config.files[0] == str(tree.main)
    assert {"database.yaml", "initial.ini"} <= {Path(f).name for f in config.files}
    assert len(set(config.files)) == len(config.files)


def test_the_sections_of_the_main_file_have_the_defaults_that_are_documented() -> None:
    assert {row.name: row[1:3] for row in configuration.option_rows(configuration.Main)} == {
        "connections": ("mapping of name to mapping", "required"),
        "database file": ("text", '""'),
        "database overlay": ("text or mapping or list of anything", '""'),
        "initialization files": ("list of text or text", "[]"),
        "auto start": ("yes/no", "yes"),
        "plugin path": ("list of text or text", "[]"),
        "logging": ("mapping", "{}"),
    }


def test_the_packaged_configuration_loads_quickly(tree: Tree) -> None:
    tree.load("connections: {x: {module: PLUGIN}}")
    took = []
    for _ in range(3):
        before = time.thread_time()
        configuration.load(tree.main)
        took.append(time.thread_time() - before)
    assert min(took) < 0.15  # takes 0.04 s; a busy computer is slower


# -- items and values --------------------------------------------------------------------------------------------------


def test_an_overlay_changes_items_of_the_packaged_definition(tree: Tree) -> None:
    config = tree.load(
        "connections:\ndatabase overlay:\n  - {key: IAS, max: 300}\n  - {key: CHTec, tol: 5000}\n  - {key: MINE}\n"
    )
    items = {d.key: d for d in config.definitions}
    assert (items["IAS"].max, items["IAS"].units) == (300.0, "knots")
    assert (items["CHT11"].tolerance, items["CHT14"].tolerance) == (5000, 5000)
    assert "MINE" in items


@pytest.mark.parametrize(
    "overlay",
    [
        "database overlay: {variables: {c: 6}, entries: [{key: MINE}]}",
        "database overlay: mine.yaml",
        "database overlay: [more.yaml, mine.yaml]",
        "database overlay: {include: mine.yaml}",
    ],
)
def test_an_overlay_can_change_the_variables_and_be_in_a_file(tree: Tree, overlay: str) -> None:
    tree.write("mine.yaml", "variables: {c: 6}\nentries: [{key: MINE}]\n")
    tree.write("more.yaml", "variables: {c: 5}\nentries: [{key: MINE}, {key: MORE}]\n")
    keys = {d.key for d in tree.load(f"connections:\n{overlay}\n").definitions}
    assert {"CHT16", "EGT16", "MINE"} <= keys


def test_packaged_values_for_cylinders_that_do_not_exist_are_ignored(tree: Tree) -> None:
    config = tree.load("connections:\ndatabase overlay: {variables: {c: 2}}\n")
    assert "CHT13" not in config.make_database()


def test_custom_values_can_follow_the_packaged_ones(tree: Tree) -> None:
    tree.write("mine.ini", "IAS.Vne = 123\n")
    config = tree.load("connections:\ninitialization files: ['{PACKAGE}/initial.ini', mine.ini]\n")
    database = config.make_database()
    assert (database.read_aux("IAS.Vne"), database.read("BARO").value) == (123.0, 29.92)


@pytest.mark.parametrize(
    ("files", "advised"),
    [
        ('["{CONFIG}/mine.ini"]', True),
        ('"{CONFIG}/mine.ini"', True),
        ('["{PACKAGE}/initial.ini", "{CONFIG}/mine.ini"]', False),
        ('["{CONFIG}/copy.ini"]', False),
        ("[]", False),
    ],
)
def test_values_that_replace_the_packaged_ones_are_pointed_out(tree: Tree, files: str, advised: bool) -> None:
    tree.write("mine.ini", "IAS.Vne = 140\n")
    tree.write("copy.ini", (configuration.packaged() / "initial.ini").read_text())
    advice = tree.load(f"initialization files: {files}\nconnections: {{}}\n").advice
    assert [("put {PACKAGE}/initial.ini first" in a.message, a.line) for a in advice] == [(True, 1)] * advised
    own = "entries: [{key: IAS, aux: [Vne]}]\n"
    tree.write("own.yaml", own)
    main = 'database file: "{CONFIG}/own.yaml"\ninitialization files: ["{CONFIG}/mine.ini"]\nconnections: {}\n'
    assert tree.load(main).advice == (), "a custom definition has its own values"


@pytest.mark.parametrize(("given", "lost"), [("A = 1\nB = 1\n", ""), ("A = 1\n", ""), ("E = 1\n", "A, B, D.Max")])
def test_more_than_half_of_the_packaged_values_must_be_lost_to_be_pointed_out(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, given: str, lost: str
) -> None:
    tree.write("packaged/default.yaml", "connections:\ndatabase file: d.yaml\ninitialization files: [v.ini]\n")
    tree.write("packaged/d.yaml", "entries: [{key: A}, {key: B}, {key: C}, {key: D, aux: [Max]}, {key: E}]\n")
    tree.write("packaged/v.ini", "\nA = 5\nB = 5\n# F = 5\nC* = 5\nD.Max = 5\n")
    tree.write("mine.ini", given)
    monkeypatch.setattr(configuration, "packaged", lambda: tree.directory / "packaged")
    words = (
        "initialization files: these replace the packaged values, so that 3 values such as A, B, D.Max are not set; "
    )
    expected = [words + "to keep them, put {PACKAGE}/initial.ini first in the list"] if lost else []
    loaded = tree.load("connections:\ninitialization files: mine.ini\n")
    assert [a.message for a in loaded.advice] == expected
    tree.write("packaged/d.yaml", "entries: [{key: A, min: low}]\n")
    assert "packaged/d.yaml:1:25: min: expected a number" in "".join(tree.problems("connections:\n"))


@pytest.mark.parametrize(("count", "marked"), [(19, 0), (20, 20)])
def test_a_definition_with_many_of_our_settings_and_no_mark_is_the_incumbents(
    tree: Tree, count: int, marked: int
) -> None:
    configuration._packaged_settings.cache_clear()
    packaged = configuration.load(configuration.packaged() / "default.yaml").definitions
    ours = [d for d in packaged if d.setting and not d.tolerance][:count]
    entries = [{"key": d.key, "type": d.type} for d in ours]
    tree.write("db.yaml", yaml.safe_dump({"entries": entries}))
    tree.write("v.ini", f"{ours[3].key} = 1\n")
    main = "connections:\ndatabase file: db.yaml\ninitialization files: v.ini\n"
    loaded = tree.load(main)
    assert [(d.key, d.keep) for d in loaded.definitions if d.setting] == [(d.key, d.keep) for d in ours[:marked]]
    assert len(loaded.initial) == (marked or 1)
    assert dict(loaded.initial)[ours[3].key] == "1"
    few = ", ".join(sorted(d.key for d in ours)[:3])
    words = (
        f"2:16: advice: {marked} keys are settings here, such as {few}: a person sets them, so they are good before "
    )
    assert [str(a).partition("main.yaml:")[2] for a in loaded.advice] == [f"{words}they are written, and never bad"] * (
        marked > 0
    )
    tree.write("db.yaml", yaml.safe_dump({"entries": [*entries, {"key": "MINE", "setting": True}]}))
    assert [d.key for d in tree.load(main).definitions if d.setting] == ["MINE"], "it declares its settings itself"
    for other in ({"type": "str" if ours[0].type != "str" else "int"}, {"tol": 1000}):
        tree.write("db.yaml", yaml.safe_dump({"entries": [{**entries[0], **other}, *entries[1:]]}))
        assert not any(d.setting for d in tree.load(main).definitions), "that is another item"


def test_a_module_of_the_incumbent_tells_that_the_definition_is_its_too(tree: Tree) -> None:
    tree.write("db.yaml", "entries: [{key: BARO}, {key: IAS}]\n")
    main = "database file: db.yaml\nconnections: {a: {module: MODULE}}\n"
    for module, marked in (("db_persister", ["BARO"]), ("netfix", []), ("data_playback, files: [a]", ["BARO"])):
        loaded = tree.load(main.replace("MODULE", f"fixgw.plugins.{module}"))
        assert [d.key for d in loaded.definitions if d.setting] == marked


def test_a_custom_definition_gets_no_packaged_values(tree: Tree) -> None:
    tree.write("db.yaml", "entries: [{key: BARO}]\n")
    config = tree.load("connections:\ndatabase file: db.yaml\n")
    assert [d.key for d in config.definitions] == ["BARO"]
    assert config.initial == ()


def test_the_database_has_the_values_on_the_given_clock(tree: Tree) -> None:
    tree.write("db.yaml", "entries: [{key: A, tol: 100}, {key: B, min: 0, max: 5, aux: [Max]}]\n")
    tree.write("a.ini", "A = 1\nB = 2\nB.Max = 4\n")
    tree.write("b.ini", "B = 3\n")
    config = tree.load("connections:\ndatabase file: db.yaml\ninitialization files: [a.ini, b.ini]\n")
    now = 50.0
    database = config.make_database(lambda: now)
    a, b = database.read("A"), database.read("B")
    assert (a.value, a.flag_text, a.reason(8), a.source) == (1.0, "01000", "initial value", "initial")
    assert (b.value, b.flag_text, b.stamp) == (3.0, "00000", 50.0)
    assert database.read_aux("B.Max") == 4.0
    now = 60.0
    database.age()
    assert database.read("A").reason(8) == "initial value"
    assert database.read("B").good


# -- connections -------------------------------------------------------------------------------------------------------


def test_a_connection_has_the_common_options_and_those_of_its_plugin(tree: Tree) -> None:
    config = tree.load(
        "connections:\n  gps:\n    load: yes\n    module: PLUGIN\n    port: 77\n    on_failure: stop\n"
        "    restart_delay: 2\n    source: sim/gps\n    outputs: [{key: IAS}]\n  other:\n    module: PLUGIN\n"
    )
    gps, other = config.connections
    assert isinstance(gps, Connection)
    assert gps.options == {"port": 77, "outputs": [{"key": "IAS"}], "CONFIGPATH": str(tree.directory)}
    assert (gps.on_failure, gps.restart_delay, gps.source, gps.module) == ("stop", 2, "sim/gps", tree.plugin)
    assert (other.on_failure, other.restart_delay, other.restart_delay_max) == ("restart", 1.0, 60.0)
    assert (other.start_timeout, other.stop_timeout, other.source) == (5.0, 3.0, "other")
    assert issubclass(gps.plugin, PluginBase)
    assert str(gps.meta["port"]) == f"{tree.main}:5:11"


def test_the_common_options_have_the_defaults_and_limits_that_are_documented() -> None:
    rows = {row.name: row[1:3] for row in configuration.option_rows(configuration.Common)}
    assert rows == {
        "module": ("text, at least 1 long", "required"),
        "load": ("yes/no or text", "yes"),
        "on_failure": ("restart, ignore or stop", "restart"),
        "restart_delay": ("number, more than 0 and at most 3600", "1.0"),
        "restart_delay_max": ("number, more than 0 and at most 86400", "60.0"),
        "start_timeout": ("number, more than 0 and at most 600", "5.0"),
        "stop_timeout": ("number, more than 0 and at most 600", "3.0"),
        "source": (r"text, of the form ^[^;\s]+$", "none"),
    }
    plain = configuration.Connection(name="x", module="m", plugin=PluginBase, options={})
    for name in ("on_failure", "restart_delay", "restart_delay_max", "start_timeout", "stop_timeout"):
        assert str(getattr(plain, name)) == rows[name][1]


def test_a_connection_is_equal_if_only_its_position_has_changed(tree: Tree) -> None:
    before = tree.load("connections:\n  a: {module: PLUGIN, port: 5}\n").connections
    moved = tree.load("# one line more\nconnections:\n  a: {port: 5, module: PLUGIN}\n").connections
    changed = tree.load("connections:\n  a: {module: PLUGIN, port: 6}\n").connections
    assert before == moved
    assert before != changed
    (a,) = before
    assert replace(a, carries_votes=True, written="m", translated=(Advice("f", 1, 1, "x"),)) == a
    assert replace(a, contents={"map": 1}) != a


def test_a_translated_connection_is_equal_to_the_same_in_our_words(tree: Tree) -> None:
    (theirs,) = tree.load("connections: {a: {module: fixgw.plugins.canfix, revision: 3}}").connections
    (ours,) = tree.load("connections: {a: {module: fixgw.plugins.canfix, firmware: 3}}").connections
    assert theirs == ours
    assert [a.message for a in theirs.translated] == ["revision: read as `firmware`"]
    assert ours.translated == ()


def test_variables_reach_the_options(tree: Tree) -> None:
    config = tree.load("connections: {a: {module: PLUGIN, outputs: [{key: '{WHICH}'}]}}", WHICH="IAS")
    assert config.connections[0].options["outputs"] == [{"key": "IAS"}]
    assert config.variables == {"WHICH": "IAS"}
    assert configuration.check(tree.main, {"WHICH": "NONE"})[0].message == "outputs[0].key: no item 'NONE'"


def test_a_plugin_without_declared_options_accepts_any(tree: Tree) -> None:
    tree.write("config_test_plain.py", "import plugin\nclass Plugin(plugin.PluginBase):\n    pass\n")
    config = tree.load("connections: {a: {module: config_test_plain, what: ever, 5: [{}]}}")
    assert config.connections[0].options == {"what": "ever", 5: [{}], "CONFIGPATH": str(tree.directory)}


def test_a_connection_that_is_not_loaded_is_checked_but_not_imported(tree: Tree) -> None:
    tree.write("preferences.yaml", "enabled: {CANFIX: no}\n")
    config = tree.load(
        "connections:\n  a: {load: no, module: config_test_absent}\n  b: {load: QUORUM, module: also.absent}\n"
    )
    assert config.connections == ()
    assert config.unloaded == {"a": "load: no", "b": "load: QUORUM, which is not enabled"}
    assert tree.problems("connections:\n  a: {load: no, module: 5, restart_delay: x}\n  b: 7\n  c: {load: no}\n") == [
        "main.yaml:2:25: module: expected text, at least 1 long, got the number 5",
        "main.yaml:2:43: restart_delay: expected number, more than 0 and at most 3600, got text 'x'",
        "main.yaml:3:6: connections.b: expected mapping, got the number 7",
        "main.yaml:4:3: 'module' is missing",
    ]


def test_plugins_are_found_in_the_plugin_path(tree: Tree) -> None:
    tree.write("more/config_test_far.py", "import plugin\nclass Plugin(plugin.PluginBase):\n    pass\n")
    for path in ("more", "[more]"):
        config = tree.load(f"plugin path: {path}\nconnections: {{a: {{module: config_test_far}}}}")
    assert config.connections[0].plugin.__module__ == "config_test_far"


def test_modules_are_looked_for_in_the_plugin_path_and_beside_the_main_file(tree: Tree) -> None:
    def found(text: str) -> list[Path]:
        tree.write("main.yaml", text)
        return configuration.module_directories(tree.main)

    assert found("plugin path: more\n") == [tree.directory / "more", tree.directory]
    assert found("plugin path: [more, 5, '{CONFIG}/b']\n") == [
        tree.directory / "more",
        tree.directory / "b",
        tree.directory,
    ]
    assert found("plugin path: {a: b}\n") == found("[\n") == found("5\n") == [tree.directory]
    packaged = configuration.packaged()
    assert configuration.module_directories(packaged / "default.yaml") == []


def test_what_runs_can_be_told_as_data(tree: Tree) -> None:
    config = tree.load(
        "auto start: no\nconnections:\n  a: {module: PLUGIN, port: 6000, source: b, on_failure: stop}\n"
        "  c: {module: PLUGIN, load: no}\n"
    )
    told = config.effective()
    assert json.loads(json.dumps(told)) == told
    assert told == {
        "file": str(tree.main),
        "items": len(config.definitions),
        "auto start": False,
        "connections": {
            "a": {
                "module": tree.plugin,
                "source": "b",
                "on_failure": "stop",
                "port": 6000,
                "restart_delay": 1.0,
                "restart_delay_max": 60.0,
                "start_timeout": 5.0,
                "stop_timeout": 3.0,
            }
        },
        "not loaded": {"c": config.unloaded["c"]},
    }


def test_of_somebody_elses_configuration_only_our_own_modules_are_loaded(tree: Tree) -> None:
    text = (
        "connections:\n  a: {module: PLUGIN}\n  b: {module: fixgw.plugins.netfix}\n"
        "  c: {module: fixgw.plugins.netfix, port: {NUMBER}}\n"
    )
    tree.write("main.yaml", text.replace("{NUMBER}", "none"))
    foreign = configuration.load_foreign(tree.main)
    assert [c.name for c in foreign.connections] == ["b"]
    assert foreign.unloaded == {"a": "its module does not belong to the gateway"}
    assert foreign.refused["c"][0].message == "port: expected whole number, 0 to 65535, got text 'none'"
    assert tree.plugin not in sys.modules
    tree.write("main.yaml", text.replace("{NUMBER}", "3500") + "database file: gone.yaml\n")
    with pytest.raises(ConfigurationError, match=r"gone\.yaml"):
        configuration.load_foreign(tree.main)
    code = "plugin path: more\nlogging: {version: 1, formatters: {f: {(): PLUGIN.Plugin}}}\n"
    tree.write("main.yaml", text.replace("{NUMBER}", "none") + code)
    loaded = configuration.load_foreign(tree.main, {"PACKAGE": "/elsewhere"})
    assert [c.name for c in loaded.connections] == ["b"]
    assert str(tree.directory) not in sys.path
    assert tree.plugin not in sys.modules
    tree.write("main.yaml", "- a\n")
    with pytest.raises(ConfigurationError, match="expected a mapping with connections"):
        configuration.load_foreign(tree.main)


# -- safe mode ---------------------------------------------------------------------------------------------------------


def test_with_invalid_yaml_safe_mode_uses_the_packaged_configuration(tree: Tree) -> None:
    tree.write("main.yaml", "connections: [")
    loaded, problems = configuration.load_safe(tree.main)
    assert len(problems) == 1
    assert [c.module for c in loaded.connections] == ["fixgw.plugins.netfix"]
    assert len(loaded.definitions) > 150
    assert loaded.file == tree.main


def test_without_a_configuration_safe_mode_uses_the_packaged_one(tmp_path: Path) -> None:
    loaded, problems = configuration.load_safe(tmp_path / "nowhere" / "default.yaml")
    assert problems
    assert [c.name for c in loaded.connections] == ["netfix"]


SAFE = """
database file: database.yaml
initialization files: [v.ini]
auto start: no
plugin path: more
logging: {version: 1, root: {level: DEBUG}}
connections:
  a: {load: yes, module: PLUGIN}
"""


def test_a_valid_configuration_keeps_its_database_in_safe_mode(tree: Tree) -> None:
    tree.write("database.yaml", "entries: [{key: MINE, type: float}]\n")
    tree.write("v.ini", "MINE = 5\n")
    tree.write("main.yaml", SAFE)
    loaded, problems = configuration.load_safe(tree.main)
    default = configuration.load(configuration.packaged() / "default.yaml")
    assert problems == []
    assert [d.key for d in loaded.definitions] == ["MINE"]
    assert loaded.initial == (("MINE", "5"),)
    assert [c.module for c in loaded.connections] == ["fixgw.plugins.netfix"]
    assert loaded.unloaded == {"a": "safe mode"}
    assert loaded.auto_start
    assert loaded.logging == default.logging
    assert tree.plugin not in sys.modules
    tree.write("main.yaml", SAFE + "  b: {module: fixgw.plugins.netfix, port: 5}\n")
    assert [c.name for c in configuration.load_safe(tree.main)[0].connections] == ["b"]
    tree.write("main.yaml", SAFE + "  b: {module: fixgw.plugins.netfix, port: 5}\n  c: 5\n")
    loaded, problems = configuration.load_safe(tree.main)
    assert [p.message for p in problems] == ["connections.c: expected mapping, got the number 5"]
    assert [c.name for c in loaded.connections] == ["b"], "a port of its own is kept"
    assert loaded.definitions == default.definitions
    assert loaded.initial == default.initial
    tree.write("main.yaml", "connections:\ndatabase file: '{PACKAGE}/database.yaml'\n")
    loaded, problems = configuration.load_safe(tree.main)
    assert (loaded.definitions, problems) == (default.definitions, [])


def test_safe_mode_starts_whatever_happens(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    default = configuration.load(configuration.packaged() / "default.yaml")
    monkeypatch.setattr(configuration, "load", lambda path: default)
    monkeypatch.setattr(configuration, "examine", lambda *args: 1 // 0)
    loaded, problems = configuration.load_safe(tree.main)
    assert [str(p) for p in problems] == [f"{tree.main}: ZeroDivisionError: integer division or modulo by zero"]
    assert [c.name for c in loaded.connections] == ["netfix"]
    assert (loaded.file, loaded.definitions) == (tree.main, default.definitions)


# -- installations -----------------------------------------------------------------------------------------------------


def test_the_tree_of_an_existing_installation_loads(tree: Tree) -> None:
    tree.write(
        "main.yaml",
        "database file: '{CONFIG}/database.yaml'\nauto start: no\n"
        "initialization files: ['{CONFIG}/fg.ini', 'custom.ini']\n"
        "connections:\n  include: [GPS, connections/can.yaml]\n  quiet: {load: QUIET, module: not.here}\n"
        "logging: {include: LOGGING}\n",
    )
    tree.write(
        "preferences.yaml",
        "includes: {GPS: connections/gps.yaml, LOGGING: logging.yaml, ENGINE: database/engine.yaml}\n"
        "enabled: {GPS: no, CAN: yes}\n",
    )
    tree.write("preferences.yaml.custom", "enabled: {GPS: yes}\nincludes: {ENGINE: database/rotax.yaml}\n")
    tree.write("connections/gps.yaml", "gps: {load: GPS, module: PLUGIN, include: gps_options.yaml}\n")
    tree.write("connections/gps_options.yaml", "port: 4\n")
    tree.write("connections/can.yaml", "can: {load: CAN, module: PLUGIN}\n")
    tree.write("database.yaml", "variables: {e: 1, c: 4}\nentries:\n  - key: IAS\n  - include: ENGINE\n")
    tree.write("database/rotax.yaml", "items:\n  - {key: EGTec, max: 900, aux: [Max]}\n  - include: tach.yaml\n")
    tree.write("database/tach.yaml", "items: [{key: TACHe, type: int}]\n")
    tree.write("fg.ini", "EGT11.Max = 700\nIAS = 10\n")
    tree.write("custom.ini", "EGT11.Max = 750\n")
    tree.write("logging.yaml", "version: 1\nroot: {level: INFO}\n")
    config = configuration.load(tree.main)
    assert [c.name for c in config.connections] == ["gps", "can"]
    assert config.connections[0].options["port"] == 4
    assert dict(config.unloaded) == {"quiet": "load: QUIET, which is not enabled"}
    assert config.auto_start is False
    assert [d.key for d in config.definitions] == ["IAS", "EGT11", "EGT12", "EGT13", "EGT14", "TACH1"]
    assert config.make_database().read_aux("EGT11.Max") == 750.0
    assert config.logging == {"version": 1, "root": {"level": "INFO"}}
    assert [Path(f).name for f in config.files[:3]] == ["main.yaml", "preferences.yaml", "preferences.yaml.custom"]


# -- problems ----------------------------------------------------------------------------------------------------------


def test_every_problem_is_reported_at_once_in_the_order_of_the_files(tree: Tree) -> None:
    tree.write("db.yaml", "variables: {c: 2}\nentries:\n  - {key: IAS, tpye: int}\n  - {key: CHTc, min: 9, max: 8}\n")
    tree.write("values.ini", "# values\nIAS = fast\nCHT1 = 5\nALT = 5\n")
    tree.write("more.yaml", "third: {prot: 5, module: PLUGIN}\nthird: {}\n")
    tree.write("preferences.yaml", "enable: {GPS: yes}\n")
    report = tree.problems(
        """\
database file: db.yaml
initialization files: [values.ini, gone.ini]
databse overlay: []
auto start: maybe
connections:
  include: more.yaml
  first:
    module: PLUGIN
    port: many
    mode: fsat
    outputs:
      - {key: IAS, every: 0}
      - {evry: 2}
    on_failure: restrat
    restart_delay: -1
  second:
    module: fixgw.plugins.skell
  fourth:
    module: PLUGIN
    port: 6666
  fifth:
    module: PLUGIN
    outputs: [{key: IAS}, {key: VS}]
  sixth: {module: PLUGIN, outputs: [{key: CRASH}]}
  seventh: gps
  fourth:
    load: no
logging:
  version: 1
  handlers:
    console: {class: logging.StreamHandlr, formatter: plain}
    file: {class: logging.FileHandler, filename: /nowhere/at/all/log, levl: INFO}
  root: {level: CHATTY, handlers: [consol]}
"""
    )
    assert report == [
        "main.yaml:2:36: cannot read gone.ini: No such file or directory",
        "main.yaml:3:1: unknown option 'databse overlay' (did you mean 'database overlay'?)",
        "main.yaml:4:13: auto start: expected yes/no, got text 'maybe'",
        "main.yaml:9:11: port: expected whole number, 1 to 65535, got text 'many'",
        "main.yaml:10:11: mode: expected fast or slow, got text 'fsat' (did you mean 'fast'?)",
        "main.yaml:12:27: outputs[0].every: expected whole number, at least 1, got the number 0",
        "main.yaml:13:9: outputs[1]: 'key' is missing",
        "main.yaml:13:10: outputs[1]: unknown option 'evry' (did you mean 'every'?)",
        "main.yaml:14:17: on_failure: expected restart, ignore or stop, got text 'restrat' (did you mean 'restart'?)",
        "main.yaml:15:20: restart_delay: expected number, more than 0 and at most 3600, got the number -1",
        "main.yaml:17:13: module fixgw.plugins.skell: there is no module 'fixgw.plugins.skell' (did you mean "
        "'fixgw.plugins.skel'?)",
        "main.yaml:18:3: port 6666 is taken",
        "main.yaml:23:33: outputs[1].key: no item 'VS'",
        "main.yaml:24:3: the plugin could not check its options: ZeroDivisionError: of the plugin's own",
        "main.yaml:25:12: connections.seventh: expected mapping, got text 'gps'",
        "main.yaml:26:3: 'fourth' occurs twice; the first is in line 18",
        "main.yaml:31:22: logging: handlers.console: Cannot resolve 'logging.StreamHandlr': No module named "
        "'logging.StreamHandlr'",
        "main.yaml:31:55: logging: handlers.console: formatter 'plain' is not defined",
        "main.yaml:32:50: logging: handlers.file: the directory /nowhere/at/all does not exist",
        "main.yaml:32:71: logging: handlers.file: unknown key 'levl' (did you mean 'level'?)",
        "main.yaml:33:17: logging: root: level: no level 'CHATTY'",
        "main.yaml:33:36: logging: root: handler 'consol' is not defined (did you mean 'console'?)",
        "preferences.yaml:1:1: unknown key 'enable' (did you mean 'enabled'?)",
        "more.yaml:1:9: unknown option 'prot' (did you mean 'port'?)",
        "more.yaml:2:1: 'third' occurs twice; the first is in line 1",
        "db.yaml:3:16: unknown field 'tpye' (did you mean 'type'?)",
        "db.yaml:4:22: min: 9.0 is more than max, 8.0",
        "values.ini:2:7: IAS: 'fast' is not a number",
        "values.ini:4:1: no item 'ALT'",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "main.yaml:1:1: expected a mapping with connections:, got nothing"),
        ("connections: {a: {include: gone.yaml}}", "main.yaml:1:28: cannot read gone.yaml: No such file or directory"),
        ("connections: {a: {include: list.yaml}}", "main.yaml:1:28: list.yaml: expected a mapping, got a list of 1"),
        ("connections: {a: {include: deep.yaml}}", "deep.yaml:1:10: cannot read gone.yaml: No such file or directory"),
        ("include: gone.yaml", "main.yaml:1:10: cannot read gone.yaml: No such file or directory"),
        (
            "connections: {a: {module: PLUGIN, outputs: [{key: NONE}]}}\ndatabase file: 5",
            "main.yaml:2:16: database file: expected text, got the number 5",
        ),
        ("- a", "main.yaml:1:1: expected a mapping with connections:, got a list of 1"),
        ("auto start: no", "main.yaml:1:1: 'connections' is missing"),
        ("connections: 5", "main.yaml:1:14: connections: expected mapping of name to mapping, got the number 5"),
        ("connections: {5: {module: x}}", "main.yaml:1:15: connections: the key 5: expected text, got the number 5"),
        ("connections:\nlogging: 5", "main.yaml:2:10: logging: expected mapping, got the number 5"),
        ("connections:\ndatabase file: 5", "main.yaml:2:16: database file: expected text, got the number 5"),
        ("connections:\ndatabase file: no.yaml", "main.yaml:2:16: cannot read no.yaml: No such file or directory"),
        ("connections:\nplugin path: [5]", "main.yaml:2:15: plugin path[0]: expected text, got the number 5"),
        ("connections: {a: {module: PLUGIN, port: 6666}}", "main.yaml:1:15: port 6666 is taken"),
        (
            "connections: {a: {source: a b, module: PLUGIN}}",
            "main.yaml:1:27: source: expected text, of the form ^[^;\\s]+$, got text 'a b'",
        ),
        (
            "connections: {a: {load: 1, module: PLUGIN}}",
            "main.yaml:1:25: load: expected yes/no or text, got the number 1",
        ),
        (
            "connections: {a: {modul: x, module: PLUGIN}}",
            "main.yaml:1:19: unknown option 'modul' (did you mean 'module'?)",
        ),
        (
            "connections:\ninitialization files: list.yaml\n",
            "list.yaml:1:1: expected KEY = value, or KEY.aux = value",
        ),
    ],
)
def test_a_problem_has_its_position_and_message(tree: Tree, text: str, expected: str) -> None:
    tree.write("list.yaml", "[1]\n")
    tree.write("deep.yaml", "include: gone.yaml\n")
    assert tree.problems(text) == [expected], "and no consequence of it is a problem too"


def test_what_two_connections_share_is_reported_once(tree: Tree) -> None:
    found = tree.problems(
        "connections:\n  a: &a\n    port: 0\n    module: PLUGIN\n  b: *a\n  c: {port: 0, module: PLUGIN}\n"
    )
    assert [problem.partition(" ")[0] for problem in found] == ["main.yaml:3:11:", "main.yaml:6:13:"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("^{}", "'version: 1' is missing"),
        ("{version: ^2}", "'version: 1' is missing"),
        ("{version: ^yes}", "'version: 1' is missing"),
        ("{version: 1, formatters: {5: ^{}}}", "formatters.5: expected a mapping, got the number 5"),
        ("{version: 1, loggers: {x: ^[]}}", "loggers.x: expected a mapping, got a list of 0"),
        (
            "{version: 1, filters: {^f: {(): nowhere.at_all}}}",
            "filters.f: Cannot resolve 'nowhere.at_all': No module named 'nowhere'",
        ),
        ("{version: 1, root: {level: ^yes}}", "root: level: no level True"),
        ("{version: 1, root: {level: ^info}}", "root: level: no level 'info' (did you mean 'INFO'?)"),
        ("{version: 1, loggers: {x: {^handler: []}}}", "loggers.x: unknown key 'handler' (did you mean 'handlers'?)"),
        ("{version: 1, loggers: {x: {handlers: [^5]}}}", "loggers.x: handler 5 is not defined"),
        (
            "{version: 1, handlers: {a: {class: logging.NullHandler, filters: [^f]}}}",
            "handlers.a: filter 'f' is not defined",
        ),
        (
            "{version: 1, handlers: {a: {class: logging.NullHandler, level: ^loud}}}",
            "handlers.a: level: no level 'loud'",
        ),
        (
            "{version: 1, handlers: {a: {(): x.y, what: ever, formatter: ^f}}}",
            "handlers.a: formatter 'f' is not defined",
        ),
        ("{version: 1, handlers: {a: {class: ^5}}}", "handlers.a: the number 5 is not a handler class"),
        (
            "{version: 1, handlers: {a: {class: ^logging.info}}}",
            "handlers.a: text 'logging.info' is not a handler class",
        ),
        (
            "{version: 1, handlers: {a: {class: logging.NullHandler, ^filter: []}}}",
            "handlers.a: unknown key 'filter' (did you mean 'filters'?)",
        ),
        ("{version: 1, ^handler: {}}", "unknown key 'handler' (did you mean 'handlers'?)"),
        ("{version: 1, root: ^5}", "root: expected a mapping, got the number 5"),
        ("{version: 1, root: {^levl: INFO}}", "root: unknown key 'levl' (did you mean 'level'?)"),
        ("{version: 1, root: {level: ^[1]}}", "root: level: no level [1]"),
        ("{version: 1, root: {handlers: ^x}}", "root: handlers: expected a list of names, got text 'x'"),
        ("{version: 1, handlers: ^[1]}", "handlers: expected a mapping, got a list of 1"),
        ("{version: 1, handlers: {a: ^5}}", "handlers.a: expected a mapping, got the number 5"),
        ("{version: 1, handlers: {^a: {}}}", "handlers.a: 'class' is missing"),
        (
            "{version: 1, handlers: {a: {class: ^logging.Logger}}}",
            "handlers.a: text 'logging.Logger' is not a handler class",
        ),
        ("{version: 1, handlers: {^a: {class: logging.FileHandler}}}", "handlers.a: 'filename' is missing"),
        (
            "{version: 1, formatters: {^f: {format: '%(levelname'}}}",
            "formatters.f: Invalid format '%(levelname' for '%' style",
        ),
        ("{version: 1, loggers: {x: {filters: [^f]}}}", "loggers.x: filter 'f' is not defined"),
    ],
)
def test_a_logging_section_is_checked_without_being_applied(tree: Tree, text: str, expected: str) -> None:
    text = f"logging: {text}"
    assert tree.problems(f"connections:\n{text}\n") == [f"main.yaml:2:{text.index('^') + 1}: logging: {expected}"]


def test_a_handler_may_take_anything(tree: Tree) -> None:
    tree.write(
        "config_test_handlers.py",
        "import logging\n\nclass Any(logging.Handler):\n    def __init__(self, need, **more): ...\n\n"
        "class Odd(logging.Handler):\n    __signature__ = 5\n",
    )
    section = "logging: {version: 1, handlers: {a: {class: config_test_handlers.HOW, what: ever}}}\n"
    queue = "logging: {version: 1, handlers: {a: {class: logging.handlers.QueueHandler, queue: x, handlers: [b]}}}\n"
    assert tree.problems(f"connections:\n{section.replace('HOW', 'Any')}") == []
    assert tree.problems(f"connections:\n{queue}") == []
    (found,) = tree.problems(f"connections:\n{section.replace('HOW', 'Odd')}")
    assert found.startswith("main.yaml:2:10: logging: TypeError: ")


def test_causes_of_an_error_in_a_logging_section_are_told_without_repetition(tree: Tree) -> None:
    tree.write(
        "config_test_causes.py",
        "def make():\n    try:\n        raise KeyError\n    except KeyError as error:\n"
        "        raise ValueError('x  y') from error\n",
    )
    assert tree.problems("connections:\nlogging: {version: 1, formatters: {f: {(): config_test_causes.make}}}\n") == [
        "main.yaml:2:36: logging: formatters.f: x y: KeyError"
    ]


def test_a_good_logging_section_is_kept_as_it_is(tree: Tree) -> None:
    section = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"f": {"format": "{message}", "style": "{"}},
        "filters": {"only": {"name": "fixgw"}},
        "handlers": {
            "out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "f"},
            "file": {
                "class": "logging.handlers.RotatingFileHandler",
                "filename": "{CONFIG}/log",
                "maxBytes": 1000,
                "level": "DEBUG",
                "filters": ["only"],
                "delay": True,
            },
        },
        "loggers": {"fixgw": {"level": 10, "handlers": ["out"], "propagate": False}},
        "root": {"handlers": ["file"], "level": "WARNING"},
    }
    config = tree.load(yaml.safe_dump({"connections": {}, "logging": section}))
    assert config.logging is not None
    assert config.logging["handlers"]["file"]["filename"] == f"{tree.directory}/log"
    assert config.logging["formatters"] == section["formatters"]
    assert not (tree.directory / "log").exists()


def test_a_missing_file_is_one_problem(tmp_path: Path) -> None:
    (problem,) = configuration.check(tmp_path / "gone.yaml")
    assert str(problem) == f"{tmp_path}/gone.yaml: cannot be read: No such file or directory"


def test_a_definition_that_cannot_be_read_is_not_reported_for_every_key(tree: Tree) -> None:
    tree.write("db.yaml", "entries: [\n")
    tree.write("v.ini", "IAS = 5\nIAS = x\n")
    assert tree.problems(
        "database file: db.yaml\ninitialization files: v.ini\n"
        "connections: {a: {module: PLUGIN, outputs: [{key: IAS}]}}\n"
    ) == ["db.yaml:2:1: not YAML: while parsing a flow node: did not find expected node content"]


def test_a_plugin_can_report_problems_in_its_own_file(tree: Tree) -> None:
    tree.write(
        "config_test_mapped.py",
        "import plugin\nfrom fixgw.errors import Problem\nclass Plugin(plugin.PluginBase):\n"
        "    @classmethod\n    def check(cls, options, db):\n"
        "        yield Problem(options['mapfile'], 3, 4, 'is odd')\n        yield '', 'and so is this'\n",
    )
    assert tree.problems("connections: {a: {module: config_test_mapped, mapfile: map.yaml}}") == [
        "main.yaml:1:15: and so is this",
        "map.yaml:3:4: is odd",
    ]


TEXT = st.text("abcmn:-[]{}&*!|>'\"#%@, \n\t?<~0", max_size=60)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["PLUGIN", "main.yaml", "IAS", "include"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["module", "load", "port", "include", "version", "key"]), inner, max_size=3)
    ),
    max_leaves=6,
)
MAINS = st.dictionaries(
    st.sampled_from(
        [
            "connections",
            "logging",
            "database file",
            "database overlay",
            "initialization files",
            "plugin path",
            "include",
        ]
    ),
    VALUES | st.dictionaries(st.sampled_from(["a", "root", "handlers", "entries", "variables"]), VALUES, max_size=3),
)


@pytest.mark.slow
@given(st.builds(yaml.safe_dump, MAINS) | TEXT | TEXT.map(lambda t: f"connections:\n  {t}"))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_text_makes_load_raise_anything_but_a_configuration_error(tree: Tree, text: str) -> None:
    tree.write("main.yaml", text)
    if configuration.check(tree.main):
        with pytest.raises(ConfigurationError):
            configuration.load(tree.main)
    else:
        configuration.load(tree.main).make_database()


# -- schema ------------------------------------------------------------------------------------------------------------


def test_the_schema_knows_the_main_file_and_every_plugins_options() -> None:
    described = schema()
    assert json.loads(json.dumps(described)) == described
    assert described["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    default = yaml.safe_load((configuration.packaged() / "default.yaml").read_text())
    assert set(default) <= set(described["properties"])
    assert described["additionalProperties"] is False
    connection = described["$defs"]["connection"]
    assert {"load", "module", "on_failure", "restart_delay", "source"} <= set(connection["properties"])
    choices = {name: c["then"] for c in connection["allOf"] for name in c["if"]["properties"]["module"]["enum"]}
    assert {"fixgw.plugins.nmea0183", "fixgw.drivers.nmea0183", "fixgw.plugins.netfix"} <= set(choices)
    for options in default["connections"].values():
        known = choices[options["module"]] if "module" in options else connection  # an included file may name it
        assert set(options) <= set(known["properties"])
    assert {"required": ["include"]} in connection["anyOf"]
    assert all(c["if"]["required"] == ["module"] for c in connection["allOf"]), "an included file may name it"
    names = [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
    for part in (described, described["properties"]["connections"], connection, *choices.values()):
        assert part["properties"]["include"]["anyOf"] == names
    assert "port" in choices["fixgw.drivers.nmea0183"]["required"]


BY_PATTERN = '''
"""By pattern."""
from typing import Annotated
import msgspec
from fixgw.plugin import Options, PluginBase

class Output(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    key: str

class Settings(Options, frozen=True, kw_only=True):
    host: str = "x"
    outputs: Annotated[
        dict[int, Output], msgspec.Meta(extra={"pattern": r"idx(\\d+)"}, description="An output, by its number.")
    ] = msgspec.field(default_factory=dict)

class Plugin(PluginBase[Settings]):
    @classmethod
    def check(cls, options: Settings, db):
        for number, output in options.outputs.items():
            if output.key not in db:
                yield f"idx{number}.key", f"no item {output.key!r}"
'''


def test_options_by_pattern_are_checked_reach_the_plugin_and_are_in_the_schema(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.write("config_test_pattern.py", BY_PATTERN)
    connection = "connections:\n  x:\n    module: config_test_pattern\n    idx3: {key: IAS}\n    idx12: {key: ALT}\n"
    tree.write("main.yaml", connection)
    (loaded,) = configuration.load(tree.main).connections
    made = loaded.plugin("x", dict(loaded.options))
    assert {number: output.key for number, output in made.options.outputs.items()} == {3: "IAS", 12: "ALT"}
    tree.write("main.yaml", connection.replace("ALT", "ALTT") + "    idz4: {key: IAS}\n    idx5: {kee: IAS}\n")
    assert [str(p).partition("main.yaml:")[2] for p in configuration.check(tree.main)] == [
        "5:18: idx12.key: no item 'ALTT'",
        "6:5: unknown option 'idz4' (did you mean 'idx4'?)",
        "7:11: idx5: 'key' is missing",
        "7:12: idx5: unknown option 'kee' (did you mean 'key'?)",
    ]
    info = loader.PluginInfo("pattern", "config_test_pattern", "By pattern.", made.Options, None)
    monkeypatch.setattr(loader, "available", lambda: [info])
    then = schema()["$defs"]["connection"]["allOf"][0]["then"]
    assert "outputs" not in then["properties"]
    assert then["patternProperties"] == {
        r"^(?:idx(\d+))$": {
            "$ref": "#/$defs/config_test_pattern.Output",
            "description": "An output, by its number.",
        }
    }


def test_the_schema_knows_plugins_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    class One(Options, kw_only=True, frozen=True):
        port: int

    class Two(Options, frozen=True):
        pass

    infos = [
        loader.PluginInfo("near", "fixgw.plugins.near", "No options.", None, None),
        loader.PluginInfo("gps", "fixgw.drivers.gps", "A receiver.", One, None),
        loader.PluginInfo("own", "somewhere.else", "From a package.", Two, None, "package 1.0"),
    ]
    monkeypatch.setattr(loader, "available", lambda: infos)
    described = schema()
    connection = described["$defs"]["connection"]
    assert connection["properties"]["module"]["examples"] == [
        *("fixgw.drivers.gps", "fixgw.plugins.gps", "fixgw.plugins.near", "own", "somewhere.else")
    ]
    gps, own = connection["allOf"]
    assert gps["if"]["properties"]["module"]["enum"] == ["fixgw.drivers.gps", "fixgw.plugins.gps"]
    assert own["if"]["properties"]["module"]["enum"] == ["somewhere.else", "own"]
    assert gps["then"]["description"] == "A receiver."
    assert set(gps["then"]["properties"]) == {*configuration.COMMON, "include", "port"}
    assert (gps["then"]["required"], own["then"]["required"]) == (["port"], [])
    assert gps["then"]["additionalProperties"] is False
    assert "patternProperties" not in gps["then"]
    assert connection["anyOf"] == [{"required": ["module"]}, {"required": ["include"]}]
    assert connection["type"] == "object"
    assert described["title"] == "FIX Gateway configuration"
    assert described["properties"]["connections"]["additionalProperties"] == {"$ref": "#/$defs/connection"}
    assert described["required"] == ["connections"]


def test_every_reference_in_the_schema_has_a_target() -> None:
    described = schema()

    def references(part: Any) -> Iterator[str]:
        if isinstance(part, dict):
            for key, value in part.items():
                if key == "$ref":
                    yield value
                else:
                    yield from references(value)
        elif isinstance(part, list):
            for value in part:
                yield from references(value)

    found = set(references(described))
    assert "#/$defs/connection" in found
    assert {r.removeprefix("#/$defs/") for r in found} <= set(described["$defs"])


# -- copying -----------------------------------------------------------------------------------------------------------


def test_the_aircraft_of_the_gallery_can_be_copied(tmp_path: Path) -> None:
    gallery = aircraft()
    assert len(gallery) >= 6
    for name, folder in gallery.items():
        assert folder.name == name
        copied = [path for path, action in copy_tree(tmp_path / name, folder) if action == "written"]
        assert tmp_path / name / "default.yaml" in copied


def test_the_tree_is_copied_only_once(tmp_path: Path) -> None:
    report = copy_tree(tmp_path / "new" / "dir")
    assert {action for _, action in report} == {"written"}
    names = {str(path.relative_to(tmp_path / "new" / "dir")) for path, _ in report}
    assert {"default.yaml", "database.yaml", "initial.ini", "database/engine.yaml"} <= names
    assert not any(name.endswith(".py") for name in names)
    assert configuration.check(tmp_path / "new" / "dir" / "default.yaml") == []
    assert {action for _, action in copy_tree(tmp_path / "new" / "dir")} == {"the same"}


def test_only_data_files_are_copied_and_their_digests_can_be_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    for name in ("b.yaml", "a/c.ini", ".hidden", ".git/x", "code.py", "code.pyc", "__pycache__/x"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "b.yaml").symlink_to("nowhere")
    assert copy_tree("~/copy", source) == [(copy / "a/c.ini", "written"), (copy / "b.yaml", "kept, yours differs")]
    (copy / "b.yaml").unlink()
    for action in ("written", "the same"):
        assert copy_tree("~/copy", source) == [(copy / "a/c.ini", "the same"), (copy / "b.yaml", action)]
        lines = [f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n" for name in ("a/c.ini", "b.yaml")]
        assert (copy / MANIFEST).read_text() == "".join(lines)
    assert write_schema("~/copy") == (copy / SCHEMA, "written")


def test_an_edited_copy_is_kept_and_a_missing_file_restored(tmp_path: Path) -> None:
    copy_tree(tmp_path)
    (tmp_path / "default.yaml").write_text("connections:\n")
    (tmp_path / "initial.ini").unlink()
    actions = {path.name: action for path, action in copy_tree(tmp_path)}
    assert actions["default.yaml"] == "kept, yours differs"
    assert actions["initial.ini"] == "written"
    assert (tmp_path / "default.yaml").read_text() == "connections:\n"


def test_editors_find_the_schema_beside_the_main_file_and_it_follows_the_gateway(tmp_path: Path) -> None:
    copy_tree(tmp_path)
    assert write_schema(tmp_path) == (tmp_path / SCHEMA, "written")
    first = (tmp_path / "default.yaml").read_text().splitlines()[0]
    assert json.loads((tmp_path / first.removeprefix("# yaml-language-server: $schema=")).read_text()) == schema()
    assert write_schema(tmp_path)[1] == "the same"
    (tmp_path / SCHEMA).write_text("{}")
    assert write_schema(tmp_path)[1] == "written"
    assert json.loads((tmp_path / SCHEMA).read_text()) == schema()


def test_a_later_change_of_the_packaged_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = tmp_path / "packaged"
    packaged.mkdir()
    monkeypatch.setattr("fixgw.configuration.tree.packaged", lambda: packaged)
    for version in ("one", "two", "three"):
        (packaged / "a.yaml").write_text(version)
        (packaged / "b.yaml").write_text("always")
        report = {path.name: action for path, action in copy_tree(tmp_path / "copy")}
        (tmp_path / "copy" / "b.yaml").write_text("edited")
    assert report == {
        "a.yaml": "kept, yours differs; the packaged one has changed since it was copied",
        "b.yaml": "kept, yours differs",
    }
    assert (tmp_path / "copy" / "a.yaml").read_text() == "one"


def test_a_write_error_is_an_os_error_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        copy_tree(tmp_path / "file")
    (tmp_path / "copy" / "database.yaml").mkdir(parents=True)
    actions = {path.name: action for path, action in copy_tree(tmp_path / "copy")}
    assert actions["database.yaml"] == "kept, yours differs"
    assert [p.name for p in (tmp_path / "copy").iterdir() if p.name.startswith(".")] == [".packaged.sha256"]


def test_a_wrong_option_does_not_hide_the_findings_of_the_plugin(tmp_path: Path) -> None:
    (tmp_path / "default.yaml").write_text(
        "connections:\n  a:\n    module: fixgw.plugins.skel\n    interval: often\n    write: IASS\n    litsen: IAS\n"
    )
    found = [str(p).partition(":")[2] for p in configuration.check(tmp_path / "default.yaml")]
    assert [line.partition(":")[0] for line in found] == ["4", "5", "6"]
    assert "'IASS'" in found[1]


@pytest.mark.parametrize(
    ("written", "loaded"),
    [('"yes"', 1), ("yes", 1), ('"no"', 0), ("no", 0), ("'on'", 1), ("Y", 1), ("n", 0), ("'False'", 0)],
)
def test_a_quoted_yes_or_no_means_yes_or_no(tmp_path: Path, written: str, loaded: int) -> None:
    (tmp_path / "default.yaml").write_text(f"connections: {{a: {{load: {written}, module: fixgw.plugins.skel}}}}\n")
    assert len(configuration.load(tmp_path / "default.yaml").connections) == loaded


def test_a_plugin_path_that_leads_nowhere_is_pointed_out(tree: Tree) -> None:
    for path in ("gone", "[gone]", "\n  -gone\n"):
        (advice,) = tree.load(f"plugin path: {path}\nconnections: {{}}\n").advice
        assert advice.message.startswith(f"plugin path: there is no directory {tree.directory}/")


NETFIX = "  n: {load: yes, module: fixgw.plugins.netfix}\n"


@pytest.mark.parametrize(
    "text",
    [
        f"initialization files:\nlogging:\nplugin path:\ndatabase overlay:\nconnections:\n{NETFIX}",
        f"database overlay: empty.yaml\nconnections:\n{NETFIX}",
        f"database overlay: items.yaml\nconnections:\n{NETFIX}",
        f"database overlay: entries.yaml\nconnections:\n{NETFIX}",
        f"connections:\n  include:\n{NETFIX}",
        f"connections:\n  include: [empty.yaml, empty.yaml]\n{NETFIX}",
        "connections:\n  n: {load: yes, module: fixgw.plugins.netfix, allow: , clients: , outputs: , host: }\n",
        f"connections:\n{NETFIX}  m: {{load: no, module: fixgw.plugins.megasquirt, items: }}\n",
    ],
)
def test_what_says_nothing_changes_nothing(tree: Tree, text: str) -> None:
    tree.write("preferences.yaml", "includes:\nenabled:\n")
    tree.write("empty.yaml", "# nothing\n")
    tree.write("items.yaml", "items:\n")
    tree.write("entries.yaml", "entries:\n")
    loaded = tree.load(text)
    assert loaded.advice == ()
    assert loaded == replace(tree.load(f"connections:\n{NETFIX}"), files=loaded.files, unloaded=loaded.unloaded)


def test_nothing_means_something_where_an_option_takes_it(tree: Tree) -> None:
    (x728,) = tree.load("connections:\n  x: {module: fixgw.drivers.ups_x728, lost_pin: , rate: }\n").connections
    assert {k: v for k, v in x728.options.items() if k != "CONFIGPATH"} == {"lost_pin": None}


def test_a_connection_with_nothing_after_its_name_is_empty(tree: Tree) -> None:
    loaded = tree.load(f"connections:\n  a:\n{NETFIX}")
    assert [a.message for a in loaded.advice] == ["connection a is empty, and not loaded"]
    assert loaded.unloaded == {"a": "empty"}
    assert [c.name for c in loaded.connections] == ["n"]


def test_common_options_with_nothing_after_them_have_their_defaults(tree: Tree) -> None:
    text = "connections: {a: {load: , on_failure: , source: , restart_delay: , module: PLUGIN}}"
    (a,) = tree.load(text).connections
    assert (a.on_failure, a.source, a.restart_delay) == ("restart", "a", 1.0)


def test_a_configuration_is_shown_in_part_with_its_problems_and_advice(tree: Tree) -> None:
    tree.write("main.yaml", "connections:\n  a: {module: PLUGIN}\n  b: {module: PLUGIN, port: 0}\nplugin path: gone\n")
    loaded, problems = configuration.load_in_part(tree.main)
    assert [c.name for c in loaded.connections] == ["a"]
    assert [p.line for p in problems] == [3]
    assert [p.line for p in loaded.refused["b"]] == [3]
    with pytest.raises(ConfigurationError) as caught:
        configuration.load(tree.main)
    assert ([p.line for p in caught.value.problems], [a.line for a in caught.value.advice]) == ([3], [4])
    tree.write("preferences.yaml", "mine: {}\n")
    tree.write("main.yaml", "- a\n")
    with pytest.raises(ConfigurationError, match="expected a mapping with connections") as caught:
        configuration.load_in_part(tree.main)
    assert [a.message for a in caught.value.advice] == ["mine: has no effect"]


# -- whether to load ---------------------------------------------------------------------------------------------------


def test_a_misspelled_load_hides_no_other_problem(tree: Tree) -> None:
    problems = tree.problems("connections:\n  gps: {load: yse, module: fixgw.drivers.nmea0183, port: /dev/x, bud: 9}\n")
    assert [problem.split()[1:3] for problem in problems] == [["load:", "expected"], ["unknown", "option"]]


@pytest.mark.parametrize(
    ("enabled", "load", "problem"),
    [
        (
            None,
            "yse",
            "load: expected yes or no, or a name in enabled: of preferences.yaml, got 'yse' (did you mean 'yes'?)",
        ),
        (None, "ture", "got 'ture' (did you mean 'true'?)"),
        ("{N: yes}", "N", ""),  # a preference may have such a name, too
        (None, "COMPUTE", "load: expected yes or no, or a name in enabled: of preferences.yaml, got 'COMPUTE'"),
        ("{CANFIX: yes}", "CANFX", "got 'CANFX' (did you mean 'CANFIX'?)"),
        ("{CANFIX: yes}", "CANFIX", ""),
        ("{CANFIX: yes}", "QUORUM", ""),  # a preference that is not enabled
        ("{CANFIX: yes}", "CANFIX2", ""),  # likewise, not a misspelling
    ],
)
def test_a_misspelled_load_is_reported(tree: Tree, enabled: str | None, load: str, problem: str) -> None:
    if enabled is not None:
        tree.write("preferences.yaml", f"enabled: {enabled}\n")
    found = tree.problems(f"connections:\n  gps: {{load: {load}, module: fixgw.drivers.nmea0183, port: /dev/null}}\n")
    assert [p for p in found if problem in p] if problem else found == []
