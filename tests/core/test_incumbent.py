"""Configurations of the incumbent: accepted as they are, explained, and imported."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from fixgw import configuration
from fixgw.cli import main
from fixgw.configuration import Configuration, importing, incumbent
from fixgw.drivers.mgl_rdac.protocol import CHANNELS
from fixgw.errors import Advice, ConfigurationError, FixgwError, Problem
from fixgw.gateway import Gateway

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

DATA = Path(__file__).parents[1] / "data"
#: The incumbent's variables, by its documented keys: two fuel tanks, forty touch buttons, four radios.
VARIABLES = {"e": 1, "c": 4, "a": 8, "b": 16, "r": 6, "t": 2, "n": 5, "s": 40, "d": 4, "w": 3, "g": 4}


def read_entries() -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    with open(DATA / "fix-keys.csv", newline="") as file:
        for row in csv.DictReader(file):
            item: dict[str, Any] = {"key": row["key"], "description": f"{row['key']} %e", "type": row["type"]}
            for name in ("min", "max", "initial"):
                if row[name] and row["type"] in ("float", "int"):
                    item[name] = float(row[name]) if row["type"] == "float" else int(row[name])
                elif row[name]:
                    item[name] = row[name] == "True" if row["type"] == "bool" else row[name]
            item |= {"units": row["units"], "tol": int(row["tol_ms"]), "aux": row["aux"].split()}
            groups.setdefault(row["group"], []).append(item)
    return groups


@cache
def database_files() -> dict[str, str]:
    """The incumbent's database, a file for each group."""
    groups = read_entries()
    files = {
        f"database/{group}.yaml": yaml.safe_dump({"items": members}, sort_keys=False)
        for group, members in groups.items()
    }
    includes = [{"include": f"database/{group}.yaml"} for group in (*groups, "custom")]
    files["database.yaml"] = yaml.safe_dump({"variables": VARIABLES, "entries": includes}, sort_keys=False)
    return files


class Stock:
    """A copy of the stock tree, to vary."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "makerplane" / "fixgw" / "config"
        shutil.copytree(DATA / "incumbent", self.directory)
        for name, text in database_files().items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text)

    def enable(self, *names: str) -> None:
        self.write("preferences.yaml.custom", yaml.safe_dump({"enabled": dict.fromkeys(names, True)}))

    def change(self, name: str, old: str, new: str) -> None:
        text = (self.directory / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def load(self) -> Configuration:
        return configuration.load(self.directory / "default.yaml")

    def check(self) -> tuple[list[str], list[str]]:
        """Problems and advice, as ``"netfix.yaml:7: message"``."""
        try:
            return [], self.brief(self.load().advice)
        except ConfigurationError as error:
            return self.brief(error.problems), self.brief(error.advice)

    @staticmethod
    def brief(found: Any) -> list[str]:
        return [f"{os.path.basename(f.file)}:{f.line}: {f.message}" for f in found]


@pytest.fixture
def stock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stock:
    monkeypatch.setattr("fixgw.net.access.own_networks", list)  # the tests do not depend on the computer's networks
    return Stock(tmp_path)


#: What the stock tree loads, and we have.
STOCK = {"netfix", "annunciate", "compute", "system"}


# -- the unchanged tree ------------------------------------------------------------------------------------------------


def test_the_stock_tree_is_accepted_with_advice(stock: Stock) -> None:
    problems, advice = stock.check()
    assert problems == []
    expected = (
        r"netfix.yaml:5: host: only this computer may connect.*allow.*write",
        r"netfix.yaml:7: buffer_size: has no effect",
        r"netfix.yaml:8: timeout: has no effect",
        r"default.yaml:3: \d+ keys are settings here",
    )
    for pattern in expected:
        assert any(re.match(pattern, line) for line in advice), (pattern, advice)
    loaded = stock.load()
    assert {c.name for c in loaded.connections} == STOCK
    assert {"compute", "annunciate", "system"} - STOCK <= loaded.unloaded.keys()


def test_settings_of_the_incumbent_are_settings_here(stock: Stock) -> None:
    loaded = stock.load()
    settings = {d.key for d in loaded.definitions if d.setting}
    assert {"BARO", "BTN1", "TSBTN127", "ENC1"} <= settings
    assert "IAS" not in settings
    kept = {d.key for d in loaded.definitions if d.keep}
    assert "BARO" in kept, "or an altimeter setting would be lost at a restart"
    assert "BTN1" not in kept
    database = loaded.make_database()
    assert not database.item("TSBTN127").reading.old
    assert not database.item("BARO").reading.old


def test_limits_beyond_the_range_are_clamped_with_advice(stock: Stock) -> None:
    stock.write("custom.ini", "TACH1.highAlarm = 12000\n")
    problems, advice = stock.check()
    assert problems == []
    assert "custom.ini:1: TACH1.highAlarm: 12000 is outside the range, 0 to 10000; taken as 10000" in advice
    assert stock.load().make_database().item("TACH1").aux["highAlarm"] == 10000


ACCEPTED = {
    "DEMO": "fixgw.plugins.demo",
    "CANFIX": "fixgw.plugins.canfix",
    "MEGASQUIRT": "fixgw.plugins.megasquirt",
    "MGL": "fixgw.drivers.mgl_rdac",
    "MGL_SERIAL": "fixgw.plugins.mgl_serial",
    "SHADIN": "fixgw.plugins.shadin",
    "EIS": "fixgw.drivers.eis",
    "DYNON": "fixgw.drivers.dynon_d10",
    "GARMIN_GNX375": "fixgw.plugins.garmin_gnx375",
    "GPSD": "fixgw.plugins.gpsd",
    "IFLY": "fixgw.plugins.ifly",
    "MAVLINK": "fixgw.plugins.mavlink",
    "XPLANE": "fixgw.plugins.xplane",
    "FLIGHT_GEAR": "fixgw.plugins.fgfs",
    "RTL_433": "fixgw.plugins.rtl_433",
    "STROM_PI": "fixgw.drivers.strompi",
    "BNO055": "fixgw.drivers.i2c_bno055",
    "BMP085": "fixgw.drivers.i2c_bmp",
    "MCP3008": "fixgw.drivers.spi_mcp3008",
    "BUTTON": "fixgw.drivers.gpio",
    "ROTARY": "fixgw.drivers.gpio",
    "X728": "fixgw.drivers.ups_x728",
    "QUORUM": "fixgw.plugins.quorum",
    "DIMMER": "fixgw.plugins.dimmer",
    "COMMAND": "fixgw.plugins.command",
    "TEST": "fixgw.plugins.test",
    "DATA_RECORDER": "fixgw.plugins.data_recorder",
    "DATA_PLAYBACK": "fixgw.plugins.replay",
    "STRATUX": "fixgw.plugins.stratux",
}
ABSENT = ("DB_PERSISTER", "RAIS", "RPI_VIRTUALWIRE")


@pytest.mark.parametrize(("preference", "module"), ACCEPTED.items())
def test_each_preference_loads_our_module(stock: Stock, preference: str, module: str) -> None:
    stock.enable(preference)
    assert stock.check()[0] == []
    (added,) = (c for c in stock.load().connections if c.name not in STOCK)
    assert added.module == module


@pytest.mark.parametrize("preference", ABSENT)
def test_a_missing_module_gives_advice_and_the_rest_starts(stock: Stock, preference: str) -> None:
    stock.enable(preference)
    problems, advice = stock.check()
    assert problems == []
    left_out = [line for line in advice if "left out" in line]
    assert len(left_out) == len({"compute", "annunciate", "system"} - STOCK) + 1
    assert {c.name for c in stock.load().connections} == STOCK


LINKS = ("STRATUX", "GPSD", "MAVLINK", "XPLANE", "FLIGHT_GEAR", "IFLY", "GARMIN_GNX375", "RTL_433", "DIMMER", "SYSTEM")


def test_connections_to_what_flies_beside_us_run_though_nothing_is_there(stock: Stock) -> None:
    stock.enable(*LINKS)
    stock.change("connections/netfix.yaml", "port: 3490", "port: 0")
    problems, advice = stock.check()
    assert problems == []
    assert any("pressure_kPa is in kPa, the key in psi: set `scale: 0.1450377`" in line for line in advice)
    gateway = Gateway(stock.load())
    gateway.start()
    try:
        deadline = time.monotonic() + 1.0
        gateway.supervise(lambda: time.monotonic() > deadline)
        connections = gateway.get_status()["connections"]
        names = {"stratux", "gpsd", "mavlink", "xplane", "fgfs", "ifly", "gnx375", "rtl_433", "dimmer", "system"}
        assert names <= {*connections}
        assert {(name, each["state"], each["restarts"]) for name, each in connections.items() if name in names} == {
            (name, "running", 0) for name in names
        }
    finally:
        began = time.monotonic()
        gateway.stop()
    assert time.monotonic() - began < 4.0


def test_all_preferences_together(stock: Stock) -> None:
    names = set(ACCEPTED) - {"DEMO", "BMP085"} | set(ABSENT)
    stock.enable(*names)
    assert stock.check()[0] == []
    assert len(stock.load().connections) == len(ACCEPTED) - 2 + len(STOCK)


def test_load_yes_works_like_a_preference(stock: Stock) -> None:
    stock.change("connections/later.yaml", "load: COMPUTE", "load: yes")
    assert stock.check()[0] == []


def test_an_unknown_module_is_a_problem(stock: Stock) -> None:
    stock.change("connections/later.yaml", "fixgw.plugins.compute", "fixgw.plugins.computer")
    (problem,) = stock.check()[0]
    assert problem.startswith("later.yaml:3: module fixgw.plugins.computer: there is no module")


def test_safe_mode_serves_netfix(stock: Stock) -> None:
    safe, problems = configuration.load_safe(stock.directory / "default.yaml")
    assert problems == []
    assert [c.name for c in safe.connections] == ["netfix"]
    assert "BARO" in safe.make_database()


# -- changes by a user -------------------------------------------------------------------------------------------------


def test_custom_entries_add_and_change_items(stock: Stock) -> None:
    stock.write("database/custom.yaml", "items:\n  - {key: SMOKE, type: bool}\n  - {key: IAS, max: 300}\n")
    assert stock.check()[0] == []
    database = stock.load().make_database()
    assert (database.item("SMOKE").type, database.item("IAS").max) == ("bool", 300)


@pytest.mark.parametrize("text", ["", "# only a comment\n", "items:\n", "items: []\n"])
def test_an_empty_items_file_is_accepted(stock: Stock, text: str) -> None:
    stock.write("database/custom.yaml", text)
    assert stock.check()[0] == []


def test_a_connection_file_with_only_comments_is_empty(stock: Stock) -> None:
    stock.write("connections/canfix.yaml", "# canfix:\n#   load: CANFIX\n")
    assert stock.check()[0] == []
    stock.write("default.yaml", 'database file: "{CONFIG}/database.yaml"\nconnections:\n  a: {include: empty.yaml}\n')
    stock.write("empty.yaml", "# nothing\n")
    problems, advice = stock.check()
    assert problems == []
    assert "default.yaml:3: connection a is empty, and not loaded" in advice


def test_an_include_prefers_the_file_next_to_it_and_gives_advice(stock: Stock) -> None:
    stock.write("connections/port.yaml", "port: 24001\n")
    stock.write("port.yaml", "port: 24002\n")
    stock.change("connections/netfix.yaml", "  port: 3490\n", "  include: port.yaml\n")
    problems, advice = stock.check()
    assert problems == []
    assert stock.load().connections[0].options["port"] == 24001
    (line,) = [line for line in advice if "is used" in line]
    assert line.startswith("netfix.yaml:6: port.yaml: ")
    assert line.endswith(f"although there is {stock.directory / 'port.yaml'} too")
    (stock.directory / "connections/port.yaml").unlink()
    stock.change("preferences.yaml", "includes:\n", "includes:\n  port.yaml: elsewhere.yaml\n")
    stock.write("elsewhere.yaml", "port: 24003\n")
    assert stock.load().connections[0].options["port"] == 24002
    (stock.directory / "port.yaml").unlink()
    assert stock.load().connections[0].options["port"] == 24003


def test_a_mapping_beside_an_include_is_merged_with_advice(stock: Stock) -> None:
    stock.enable("MEGASQUIRT")
    stock.write("connections/ms.yaml", "items: {rpm: TACH1, map: MAP1}\n")
    stock.change(
        "connections/canfix.yaml",
        "items: {rpm: TACH1, map: MAP1, clt: H2OT1}",
        "items: {clt: H2OT1}\n  include: ms.yaml",
    )
    problems, advice = stock.check()
    assert problems == []
    line = "items: is merged with what is included, which adds rpm, map; the incumbent replaces it whole"
    assert any(text.endswith(f": {line}") for text in advice)
    assert stock.load().connections[1].options["items"] == {"rpm": "TACH1", "map": "MAP1", "clt": "H2OT1"}


def test_our_own_configurations_get_no_advice_about_the_incumbent(tmp_path: Path) -> None:
    (tmp_path / "n.yaml").write_text("rate_limit: {IAS: 2}\n")
    main = tmp_path / "default.yaml"
    main.write_text("connections: {n: {module: fixgw.plugins.netfix, rate_limit: {ALT: 3}, include: n.yaml}}\n")
    assert configuration.load(main).advice == ()


@pytest.mark.parametrize("kind", ["client", "both"])
def test_gateways_under_clients_become_outputs(stock: Stock, kind: str) -> None:
    stock.change("connections/netfix.yaml", "type: server", f"type: {kind}")
    more = "  clients: [{host: 10.0.0.2, port: 3490}, {host: 10.0.0.3}]\n  outputs: [QVOTE1, BARO]\n"
    stock.write("connections/netfix.yaml", (stock.directory / "connections/netfix.yaml").read_text() + more)
    assert stock.check()[0] == []
    (netfix,) = (c for c in stock.load().connections if c.name == "netfix")
    assert netfix.options["outputs"] == [
        {"host": "10.0.0.2", "port": 3490, "send": ["QVOTE1", "BARO"]},
        {"host": "10.0.0.3", "send": ["QVOTE1", "BARO"]},
    ]
    assert "clients" not in netfix.options


def test_an_unknown_key_is_still_a_problem(stock: Stock) -> None:
    stock.change("connections/netfix.yaml", "type: server", "type: client\n  clients: [{host: a}]\n  outputs: [NOPE]")
    (problem,) = stock.check()[0]
    assert re.match(r"netfix.yaml:\d: outputs\[0\]\.send\[0\]: no item 'NOPE'", problem)


# -- row by row --------------------------------------------------------------------------------------------------------

ROWS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "canfix": ({"revision": 3}, {"firmware": 3}),
    "mgl_serial": ({"port": "p", "engine_no": 2, "input1": "A"}, {"port": "p", "keys": {"input1": "A"}}),
    "grand_rapids_eis": ({"port": "p", "model": 2004}, {"port": "p", "cylinders": 2}),
    "dynon": ({"port": "p"}, {"port": "p"}),
    "rpi_bno055": ({}, {}),
    "rpi_bmp085": ({"tkey": "CAT"}, {"temperature": "CAT"}),
    "rpi_mcp3008": (
        {"vkey2": "VOLT", "cs": 7, "hardw": True},
        {"device": 1, "channels": [{"key": "VOLT", "input": 1, "curve": {"linear": {"factor": 1.0}}}]},
    ),
    "rpi_button": ({"btnkey": "BTN1", "btnpin": 4, "rdelay": 1}, {"buttons": [{"pin": 4, "key": "BTN1"}]}),
    "rpi_rotary_encoder": (
        {"pina": 1, "pinb": 2, "rkey": "BARO", "incr": 0.01, "stcount": 3, "btn": False, "btnpin": 5},
        {"encoders": [{"a": 1, "b": 2, "key": "BARO", "step": 0.01}]},
    ),
    "X728": ({"shutdown_after": 60}, {"shutdown": {"after": 3600}}),
    "strom_pi": ({"port": "p", "shutdown_after": 0.5}, {"port": "p", "shutdown": {"after": 30.0}}),
    "mgl": (
        {"node": 1, "device": 1, "mapfile": "m", "rdac": {"default_id": 33, "send": [{"OILP": "OILP1"}]}},
        {"rdac": 2, "role": "send", "channels": {"oil_pressure": {"key": "OILP1"}}},
    ),
    "mavlink": (
        {"port": "p", "options": {"gps": True}, "pascal_offset": -120},
        {"port": "p", "options": {"gps": True, "pascal_offset": -120}},
    ),
    "data_playback": ({"frequency": 500, "files": ["a.json"]}, {"files": ["a.json"], "loop": True}),
    "netfix": (
        {"buffer_size": 1, "timeout": 1, "type": "both", "clients": [], "outputs": []},
        {"type": "both", "outputs": []},
    ),
}


def translated(name: str, options: dict[str, Any]) -> incumbent.Case:
    module = incumbent.MODULES[name]
    return incumbent.translate(f"fixgw.plugins.{name}", module.ours, options, configuration.reader.Positions("f", 1, 1))


@pytest.mark.parametrize("name", incumbent.MODULES)
def test_each_row_of_the_table(name: str) -> None:
    theirs, ours = ROWS[name]
    case = translated(name, theirs)
    assert case.problems == []
    assert case.options == ours


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("rpi_mcp3008", {"vkey1": "VOLT", "clk": 18}, "clk: GPIO18 is not supported: wire the converter to SPI0"),
        ("mgl_serial", {"port": "p"}, "state what each input measures"),
        ("mgl", {"rdac": {"get": {"TC1": "A"}, "send": {"TC1": "A"}}}, "rdac: a connection either listens"),
        ("mgl", {"rdac": {"get": {"TC99": "A"}}}, "rdac: TC99: text 'A' is not understood"),
        ("rpi_button", {"btnkey": "BTN1"}, "both `btnkey` and `btnpin`"),
        ("rpi_rotary_encoder", {"pina": 1}, "`pina`, `pinb` and `rkey`"),
        ("X728", {"shutdown_after": "soon"}, "shutdown_after: expected minutes, got text 'soon'"),
        ("netfix", {"clients": [1]}, "clients: expected a list of {host, port}"),
    ],
)
def test_an_option_that_cannot_be_translated_is_a_problem_with_the_reason(
    name: str, options: dict[str, Any], reason: str
) -> None:
    assert translated(name, options).problems[0].message.startswith(reason)


HOST = "`host` is not given: it defaults to 127.0.0.1 here, to every interface in the incumbent"
VOLTS = "the inputs are read in volts, `channels: [{key: "
NO_PULSE = "the computer shuts down in order, but no pulse cuts the power unless you set `off_pin: 26`"
LEFT_OUT = "outputs: the gateways under `clients` are left out, because `outputs` lists no keys to write to them"
CURVE = {"linear": {"factor": 1.0}}
KEYS = {"AIRPRESS": "P", "PALT": None, "ALT": None, "VS": None}
GROUPS = dict.fromkeys(("airspeed", "groundspeed", "gps", "ahrs", "accel", "pressure"), True)


@pytest.mark.parametrize(
    ("name", "theirs", "ours", "advice"),
    [
        ("canfix", {"revision": 3}, {"firmware": 3}, ["revision: read as `firmware`"]),
        ("canfix", {}, {}, []),
        ("netfix", {"host": "h", "timeout": 1}, {"host": "h"}, ["timeout: has no effect: reads do not wait here"]),
        ("netfix", {"type": "client", "timeout": 1}, {"type": "client"}, ["timeout: has no effect"]),
        ("netfix", {"buffer_size": 1}, {}, ["buffer_size: has no effect: the size of a read", HOST]),
        ("netfix", {"clients": 5}, {"clients": 5}, []),
        (
            "netfix",
            {"clients": [{"host": "a"}], "outputs": ["IAS"]},
            {},
            ["outputs: a server does not write to other gateways; set `type: both` for that", HOST],
        ),
        ("netfix", {"type": "client", "clients": [{"host": "a"}]}, {"type": "client", "outputs": []}, [LEFT_OUT]),
        ("netfix", {"type": "both", "clients": []}, {"type": "both", "outputs": []}, []),
        (
            "netfix",
            {"outputs": ["A"]},
            {},
            ["outputs: left out: keys without `clients: [{host, port}]` go nowhere", HOST],
        ),
        ("netfix", {"outputs": []}, {"outputs": []}, []),
        ("netfix", {"outputs": [{"host": "x"}, "A"]}, {"outputs": [{"host": "x"}, "A"]}, []),
        (
            "netfix",
            {"type": "both", "host": "h", "clients": [{"host": "a"}], "outputs": [{"host": "x"}]},
            {"type": "both", "host": "h", "outputs": [{"host": "x"}]},
            [LEFT_OUT],
        ),
        (
            "netfix",
            {"type": "client", "clients": [{"host": "a", "port": 5}], "outputs": [{"host": "x"}, "IAS"]},
            {"type": "client", "outputs": [{"host": "x"}, {"host": "a", "port": 5, "send": ["IAS"]}]},
            ["outputs: the gateways to write to are read as `outputs: [{host: a, port: 5, send: [IAS]}]`"],
        ),
        (
            "mgl_serial",
            {"port": "p", "keys": {"input1": "A"}, "ch_2": "B", "channel3": "C", "in_4": "D"},
            {"port": "p", "keys": {"input1": "A", "input2": "B", "input3": "C", "input4": "D"}},
            [
                f"{theirs}: read as `keys: {{{ours}}}`"
                for theirs, ours in (("ch_2", "input2: B"), ("channel3", "input3: C"), ("in_4", "input4: D"))
            ],
        ),
        (
            "mgl_serial",
            {"port": "p", "engine_no": 1, "input1": "A"},
            {"port": "p", "keys": {"input1": "A"}},
            ["engine_no: has no effect: the engine is part of each key", "input1: read as"],
        ),
        (
            "grand_rapids_eis",
            {"model": 2004},
            {"cylinders": 2},
            ["module", "model: read as `cylinders: 2`; the driver recognises"],
        ),
        (
            "grand_rapids_eis",
            {"model": "4000"},
            {"cylinders": 4},
            ["module", "model: read as `cylinders: 4`; the driver"],
        ),
        ("grand_rapids_eis", {"model": "x"}, {}, ["module", "model: has no effect: the driver recognises the model"]),
        ("grand_rapids_eis", {"model": 4000, "cylinders": 6}, {"cylinders": 6}, ["module", "model: has no effect"]),
        (
            "rpi_bmp085",
            {"pkey": "P"},
            {"keys": KEYS},
            [
                "module",
                "pkey: read as `keys: {AIRPRESS: P, PALT: null, ALT: null, VS: null}`; without the `null` entries",
            ],
        ),
        ("rpi_bmp085", {"pkey": 5}, {"pkey": 5}, ["module"]),
        (
            "rpi_mcp3008",
            {"vkey1": "A", "vkey8": "B", "clk": 11, "miso": 9, "mosi": 10, "cs": 8},
            {"channels": [{"key": "A", "input": 0, "curve": CURVE}, {"key": "B", "input": 7, "curve": CURVE}]},
            [
                "module",
                VOLTS + "A, input: 0",
                *(
                    f"{name}: has no effect: GPIO{pin} belongs to the hardware bus SPI0"
                    for name, pin in (("clk", 11), ("miso", 9), ("mosi", 10), ("cs", 8))
                ),
            ],
        ),
        (
            "rpi_mcp3008",
            {"cs": 7, "hardw": False},
            {"device": 1},
            ["module", "hardw: has no effect: the converter", "cs: has no effect: GPIO7"],
        ),
        (
            "rpi_button",
            {"btnkey": "B", "btnpin": 4, "rdelay": 1},
            {"buttons": [{"pin": 4, "key": "B"}]},
            [
                "module",
                "rdelay: has no effect: contacts are debounced for 0.02 s",
                "btnkey: read as `buttons: [{pin: 4, key: B}]`; the contact is assumed to go to ground",
            ],
        ),
        ("rpi_button", {"buttons": []}, {"buttons": []}, ["module"]),
        (
            "rpi_rotary_encoder",
            {"pina": 1, "pinb": 2, "rkey": "B", "stcount": 2, "btn": True, "btnkey": "K", "btnpin": 3, "btnincr": 1},
            {"encoders": [{"a": 1, "b": 2, "key": "B", "steps": 2}]},
            [
                "module",
                "btn: pressing has no effect: a knob cannot change another key",
                "rkey: read as `encoders: [{a: 1, b: 2",
            ],
        ),
        (
            "rpi_rotary_encoder",
            {"pina": 1, "pinb": 2, "rkey": "B", "stcount": 3, "btn": False},
            {"encoders": [{"a": 1, "b": 2, "key": "B"}]},
            ["module", "stcount: must be 1, 2 or 4 here (contact changes per detent); 4 is assumed", "rkey: read as"],
        ),
        (
            "X728",
            {"shutdown_after": 60},
            {"shutdown": {"after": 3600}},
            ["module", "shutdown_after: read as `shutdown: {after: 3600}`; minutes converted to seconds", NO_PULSE],
        ),
        (
            "X728",
            {"shutdown_after": 1.5, "off_pin": 26},
            {"off_pin": 26, "shutdown": {"after": 90.0}},
            ["module", "shutdown_after: read as `shutdown: {after: 90.0}`"],
        ),
        ("X728", {"shutdown_after": 0}, {}, ["module", "shutdown_after: means never, the default here"]),
        ("X728", {"shutdown_after": True}, {}, ["module", "shutdown_after: means never"]),
        ("X728", {}, {}, ["module"]),
        (
            "mgl",
            {"rdac": 3, "node": 1, "device": 2, "mapfile": "m"},
            {"rdac": 3},
            [
                "module",
                "device: has no effect: an RDAC is recognised by its own number, `rdac`",
                "node: has no effect",
                "mapfile: is not read: put its contents under `channels`",
            ],
        ),
        (
            "mgl",
            {"rdac": {"get": [{"TC1": "A"}, {"key": "B", "name": "RPM_1"}]}},
            {"rdac": 1, "channels": {"thermocouple_1": {"key": "A"}, "rpm_1": {"key": "B"}}},
            ["module", "rdac: read as `rdac: 1` and `channels: {thermocouple_1: {key: A}, rpm_1: {key: B}}`"],
        ),
        (
            "mgl",
            {"rdac": {"send": {"FUEL_L1": "F"}, "get": None}},
            {"rdac": 1, "role": "send", "channels": {"fuel_level_1": {"key": "F"}}},
            ["module", "rdac: read as `rdac: 1` and `channels: {fuel_level_1: {key: F}}`"],
        ),
        (
            "mavlink",
            {"pascal_offset": 5, "min_airspeed": 1},
            {"options": {"pascal_offset": 5, "min_airspeed": 1, **GROUPS}},
            ["pascal_offset: read as `options: {pascal_offset}`", "min_airspeed: read as `options: {min_airspeed}`"],
        ),
        (
            "mavlink",
            {"pascal_offset": 5, "options": {"gps": False}},
            {"options": {"pascal_offset": 5, "gps": False}},
            ["pascal_offset: read as"],
        ),
        ("mavlink", {"pascal_offset": 5, "options": 3}, {"pascal_offset": 5, "options": 3}, []),
        (
            "data_playback",
            {"loop": False, "frequency": 1},
            {"loop": False},
            [
                "module fixgw.plugins.data_playback: fixgw.plugins.replay replaces it; it plays for ever",
                "frequency: has no effect: the recording says how far apart",
            ],
        ),
        ("data_playback", {}, {"loop": True}, ["module"]),
        (
            "dynon",
            {},
            {},
            ["module fixgw.plugins.dynon: fixgw.drivers.dynon_d10 replaces it; SkyView displays have their own"],
        ),
        (
            "rpi_bno055",
            {},
            {},
            ["module fixgw.plugins.rpi_bno055: fixgw.drivers.i2c_bno055 replaces it; check the axes: `forward`"],
        ),
    ],
)
def test_a_translation_says_what_has_another_meaning(
    name: str, theirs: dict[str, Any], ours: dict[str, Any], advice: list[str]
) -> None:
    case = translated(name, theirs)
    assert (case.options, case.problems) == (ours, [])
    assert len(case.advice) == len(advice), case.advice
    for found, words in zip(case.advice, advice, strict=True):
        assert found.message.startswith(words)


def test_what_is_said_of_an_option_has_its_position_under_any_name(tmp_path: Path) -> None:
    main = tmp_path / "default.yaml"
    main.write_text(
        "connections:\n  a:\n    module: fixgw.plugins.X728\n    shutdown_after: 5\n    off_pin: 99\n"
        "  b:\n    module: fixgw.plugins.mgl\n    rdac:\n      get: {TC1: NONE}\n"
        "  c:\n    module: fixgw.plugins.rpi_bmp085\n    tkey: 5\n    include: gone.yaml\n"
    )
    with pytest.raises(ConfigurationError) as caught:
        configuration.load(main)
    assert [(p.line, p.column, p.message.partition(":")[0]) for p in caught.value.problems] == [
        (5, 14, "off_pin"),
        (6, 3, "channels.thermocouple_1.key"),
        (12, 11, "temperature"),
        (13, 14, f"cannot read {tmp_path}/gone.yaml"),
    ]
    assert [(a.line, a.column) for a in caught.value.advice] == [(3, 13), (4, 5), (7, 13), (8, 5), (11, 13), (12, 5)]


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        (
            "rpi_mcp3008",
            dict.fromkeys(("clk", "miso", "mosi", "cs"), 1),
            [
                "clk: GPIO1 is not supported: wire the converter to SPI0, here SCLK, GPIO11",
                "miso: GPIO1 is not supported: wire the converter to SPI0, here MISO, GPIO9",
                "mosi: GPIO1 is not supported: wire the converter to SPI0, here MOSI, GPIO10",
                "cs: GPIO1 is not supported: wire the converter to SPI0, here CE0, GPIO8",
            ],
        ),
        ("mgl_serial", {"port": "p", "engine_no": 1, "odd": 1}, ["state what each input measures"]),
        ("mgl_serial", {"port": "p", "baud": 9600}, ["state what each input measures"]),
        ("mgl_serial", {"port": "p", "odd": 1}, []),
        ("mgl_serial", {"port": "p", "input5": "A", "input1": 5}, []),
        ("rpi_button", {"btnpin": 4}, ["both `btnkey` and `btnpin` are required"]),
        (
            "mgl",
            {"rdac": {"get": ["x", {"TC1": "A"}, {"TC2": ["B"]}]}},
            ["rdac: text 'x' is not understood: name the channel", "rdac: TC2: a list of 1 is not understood"],
        ),
        (
            "mgl",
            {"rdac": {"get": {"OILT": {"key": "K", "calibration": [[0, 1], [2]]}}}},
            ["rdac: OILT: a mapping is not understood"],
        ),
        ("mgl", {"rdac": {"get": {"OILT": {"key": "K", "more": "L"}}}}, ["rdac: OILT: a mapping is not understood"]),
        (
            "netfix",
            {"type": "both", "clients": [{"port": 1}, {"host": "a"}], "outputs": ["A"]},
            ["clients: expected a list of {host, port}, or the number"],
        ),
        ("X728", {"shutdown_after": [5]}, ["shutdown_after: expected minutes, got a list of 1"]),
    ],
)
def test_each_option_that_cannot_be_translated_is_reported(
    name: str, options: dict[str, Any], expected: list[str]
) -> None:
    found = translated(name, options).problems
    assert len(found) == len(expected), found
    assert all(p.message.startswith(words) for p, words in zip(found, expected, strict=True))


def test_only_the_incumbents_names_are_translated() -> None:
    nowhere = configuration.reader.Positions("f", 1, 1)
    assert incumbent.known("X728") is incumbent.known("mine.X728") is None
    assert incumbent.absent("rais") == incumbent.absent("fixgw.plugins.netfix") == ""
    assert incumbent.absent("fixgw.plugins.gui").startswith("left out")
    case = incumbent.translate("mine.canfix", "fixgw.drivers.canfix", {"revision": 3}, nowhere)
    assert (case.options, case.advice, case.problems) == ({"revision": 3}, [], [])


@pytest.mark.parametrize("rubbish", [None, "text", 5, [], [1], {"a": 1}, [[1, 2]], {"get": 3}, True])
@pytest.mark.parametrize("name", incumbent.MODULES)
def test_no_option_makes_a_translation_raise(name: str, rubbish: Any) -> None:
    words = {"clients", "outputs", "keys", "model", "rdac", "pkey", "tkey", "vkey1", "cs", "shutdown_after", "stcount"}
    words |= {"revision", "input1", "btnkey", "btnpin", "pina", "pinb", "rkey", "incr", "btn", "cdi_full_scale_nm"}
    for word in words:
        translated(name, {word: rubbish})
    translated(name, dict.fromkeys(words, rubbish))


def test_a_number_in_quotes_is_one_and_a_model_may_have_its_name() -> None:
    assert translated("X728", {"shutdown_after": "5"}).options == {"shutdown": {"after": 300}}
    assert translated("strom_pi", {"port": "p", "shutdown_after": 0}).options == {"port": "p"}
    assert translated("grand_rapids_eis", {"port": "p", "model": "EIS 6000"}).options == {"port": "p", "cylinders": 6}


def test_one_gateway_and_one_key_need_no_list() -> None:
    options = {"type": "client", "clients": {"host": "a", "port": 1, "buffer_size": 1024}, "outputs": "IAS"}
    case = translated("netfix", options)
    assert case.problems == []
    assert case.options == {"type": "client", "outputs": [{"host": "a", "port": 1, "send": ["IAS"]}]}


@pytest.mark.parametrize(("theirs", "ours"), [(31, 31), (32, 1), (47, 16), (48, 48), (2, 2)])
def test_the_address_of_an_rdac_is_its_number(theirs: int, ours: int) -> None:
    assert translated("mgl", {"rdac": {"default_id": theirs, "get": {"MAP": "MAP1"}}}).options["rdac"] == ours


def test_the_names_of_channels_are_known() -> None:
    names = incumbent.RDAC_CHANNELS
    assert set(names.values()) == set(CHANNELS)
    assert [
        names[n] for n in ("TC12", "AUX2", "RPM1", "FF2", "FL1", "OILTEMP", "FUELPRESS", "COOL", "ITEMP", "AMPS")
    ] == [
        *("thermocouple_12", "aux_2", "rpm_1", "fuel_flow_2", "fuel_level_1"),
        *("oil_temperature", "fuel_pressure", "coolant", "temperature", "current"),
    ]


def test_calibrations_are_inverted_and_sorted() -> None:
    theirs = {"rdac": {"get": {"OILT": {"key": "OILT1", "calibration": [[0, 4000], [150, 400]]}}}}
    assert translated("mgl", theirs).options["channels"] == {
        "oil_temperature": {"key": "OILT1", "curve": {"points": [[400, 150], [4000, 0]]}}
    }
    assert set(incumbent.RDAC_CHANNELS.values()) <= set(CHANNELS)


# -- explain and check -------------------------------------------------------------------------------------------------


def test_explain_says_what_was_translated_and_why(stock: Stock, capsys: pytest.CaptureFixture[str]) -> None:
    stock.enable("X728", "RAIS")
    assert main(["config", "explain", "x728", "--config-file", str(stock.directory)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "x728: fixgw.drivers.ups_x728",
        "  written as module fixgw.plugins.X728",
        "  shutdown: {after: 3600}",
        "  line 8: module fixgw.plugins.X728: fixgw.drivers.ups_x728 replaces it",
        "  line 8: shutdown_after: read as `shutdown: {after: 3600}`; minutes converted to seconds",
        "  line 8: the computer shuts down in order, but no pulse cuts the power unless you set `off_pin: 26`",
    ]
    assert main(["config", "explain", "--config-file", str(stock.directory)]) == 0
    out = capsys.readouterr().out
    assert "\nrais: not loaded, module fixgw.plugins.rais: left out" in out
    assert main(["config", "explain", "x729", "--config-file", str(stock.directory)]) == 1
    assert "did you mean 'x728'?" in capsys.readouterr().err


def test_explain_shows_what_is_understood_beside_what_is_not(stock: Stock, capsys: pytest.CaptureFixture[str]) -> None:
    stock.enable("MCP3008", "X728")
    stock.change("connections/pi.yaml", "clk: 11", "clk: 18")
    assert main(["config", "explain", "--config-file", str(stock.directory)]) == 1
    out, err = capsys.readouterr()
    assert "\nx728: fixgw.drivers.ups_x728\n  written as module fixgw.plugins.X728\n" in out
    assert "\nmcp3008: 1 problem\n  line 3: clk: GPIO18 is not supported" in out
    assert "pi.yaml:3:" in err
    assert main(["config", "explain", "mcp3008", "--config-file", str(stock.directory)]) == 1
    assert main(["config", "explain", "x728", "--config-file", str(stock.directory)]) == 0


OURS = {
    "canfix": "{}",
    "dynon_d10": "{port: p}",
    "eis": "{port: p}",
    "gpio": "{buttons: [{pin: 4, key: BTN1}]}",
    "i2c_bmp": "{}",
    "i2c_bno055": "{}",
    "mavlink": "{port: p}",
    "mgl_rdac": "{}",
    "mgl_serial": "{port: p, keys: {input1: OILP1}}",
    "netfix": "{}",
    "nmea0183": "{port: p}",
    "replay": "{files: [a.json]}",
    "spi_mcp3008": "{channels: [{key: VOLT, input: 0, curve: {linear: {factor: 1}}}]}",
    "strompi": "{port: p}",
    "ups_x728": "{shutdown: {after: 60}}",
}


@pytest.mark.parametrize("module", [m.ours for m in incumbent.MODULES.values()])
@pytest.mark.parametrize("wrong", [{"odd": 1}, {"prot": "p"}, {"keys": 4}, {"shutdown": 3}, {"buttons": 5}])
def test_a_wrong_option_of_ours_keeps_its_own_message(tmp_path: Path, module: str, wrong: dict[str, Any]) -> None:
    from fixgw import loader
    from fixgw.configuration import options

    # Options are checked before keys, so that a short database does.
    (tmp_path / "items.yaml").write_text("entries: [{key: OILP1, type: float}]\n")
    short = module.rpartition(".")[2]
    for name in (module, f"fixgw.plugins.{short}"):
        for given in ({**yaml.safe_load(OURS[short]), **wrong}, wrong):
            main = {"database file": "items.yaml", "connections": {"a": {"module": name, **given}}}
            (tmp_path / "default.yaml").write_text(yaml.safe_dump(main))
            kind = loader.load_plugin(name).Options
            assert kind is not None
            expected = {p.message for p in options.problems(given, kind, configuration.reader.Positions("f", 1, 1))}
            with pytest.raises(ConfigurationError) as caught:
                configuration.load(tmp_path / "default.yaml")
            assert expected <= {p.message.partition(" (did you mean")[0] for p in caught.value.problems} | {
                p.message for p in caught.value.problems
            }
            assert caught.value.advice == []


def test_check_prints_advice_and_succeeds(stock: Stock, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(stock.directory)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith(f"OK: {len(STOCK)} connections, ")
    assert len(out) > 4
    assert all(": advice: " in line for line in out[1:])
    assert main(["check", str(stock.directory), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {f["kind"] for f in found} == {"advice"}
    stock.change("connections/netfix.yaml", "port: 3490", "port: no")
    assert main(["check", str(stock.directory), "--json"]) == 1
    assert {f["kind"] for f in json.loads(capsys.readouterr().out)} == {"advice", "problem"}


# -- import ------------------------------------------------------------------------------------------------------------


def digest(directory: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def facts(loaded: Configuration, files: bool = True) -> Any:
    """The facts that must be equal on both sides; files by their contents."""
    return [
        (
            c.name,
            c.plugin,
            {k: normal(v) for k, v in c.options.items() if k not in ("CONFIGPATH", "mapfile")},
            c.contents,
        )
        for c in loaded.connections
    ]


def normal(value: Any) -> Any:
    """Paths without the `..` of ``{CONFIG}/../fdr``."""
    if isinstance(value, list):
        return [normal(member) for member in value]
    return os.path.normpath(value) if isinstance(value, str) and "/../" in value else value


@pytest.mark.parametrize("preferences", [(), tuple(set(ACCEPTED) - {"DEMO", "BMP085"}), ("DEMO", "BMP085", *ABSENT)])
def test_an_imported_configuration_behaves_the_same(stock: Stock, tmp_path: Path, preferences: tuple[str, ...]) -> None:
    stock.enable(*preferences)
    stock.write("custom.ini", "TACH1.highAlarm = 12000\nBTN1 = True\n")
    before = digest(stock.directory)
    new = tmp_path / "new"
    report = importing.bring_over(stock.directory, new)
    assert digest(stock.directory) == before
    assert report.problems == []
    theirs, ours = stock.load(), configuration.load(new / "default.yaml")
    assert ours.definitions == theirs.definitions
    assert ours.initial == theirs.initial
    assert ours.logging == theirs.logging
    assert facts(ours) == facts(theirs)
    assert (ours.auto_start, ours.file) == (theirs.auto_start, new / "default.yaml")
    # The new tree does not need the old one.
    shutil.rmtree(stock.directory)
    assert facts(configuration.load(new / "default.yaml")) == facts(theirs)
    left = [a for a in ours.advice if "map" not in a.file]
    assert not any("read as" in a.message or "replaces it" in a.message for a in left)


def test_the_report_accounts_for_each_connection(stock: Stock, tmp_path: Path) -> None:
    stock.enable("X728", "DB_PERSISTER", "MCP3008")
    stock.change("connections/pi.yaml", "clk: 11", "clk: 18")
    stock.write("custom.ini", "TACH1.highAlarm = 12000\nOAT.highWarn = 50\n")
    new = tmp_path / "new"
    report = importing.bring_over(stock.directory, new)
    text = "\n".join(report.lines())
    assert report.problems == []
    assert "x728: fixgw.drivers.ups_x728" in report.taken
    assert "x728: shutdown_after: read as `shutdown: {after: 3600}`; minutes converted to seconds" in report.translated
    assert any(line.startswith("custom.ini:1: TACH1.highAlarm: 12000 is outside") for line in report.translated)
    assert any(line.startswith("custom.ini:2: OAT has no aux value 'highWarn'") for line in report.dropped)
    assert any(line.startswith("mcp3008: clk: GPIO18 is not supported") for line in report.dropped)
    assert any(line.startswith("db_persister: module fixgw.plugins.db_persister: left out") for line in report.dropped)
    assert text.endswith(f"OK: {new}/default.yaml; `fixgw check` confirms it")
    written = (new / "default.yaml").read_text()
    assert "\n  # clk: GPIO18 is not supported" in written
    assert "# OAT.highWarn = 50" in (new / "initial" / "custom.ini").read_text()
    assert (new / "initial" / "initial.ini").read_text() == (stock.directory / "initial.ini").read_text()


def test_a_tree_may_use_the_packaged_files(stock: Stock, tmp_path: Path) -> None:
    stock.change("default.yaml", "{CONFIG}/database.yaml", "{PACKAGE}/database.yaml")
    stock.change("default.yaml", "{CONFIG}/initial.ini", "{PACKAGE}/initial.ini")
    report = importing.bring_over(stock.directory, tmp_path / "new")
    assert report.problems == []
    theirs, ours = stock.load(), configuration.load(tmp_path / "new" / "default.yaml")
    assert (ours.definitions, ours.initial) == (theirs.definitions, theirs.initial)


def test_a_map_is_imported_with_its_includes(stock: Stock, tmp_path: Path) -> None:
    stock.enable("CANFIX")
    stock.write("canfix/outputs.yaml", "items:\n  - {fixid: BARO, canid: 0x190, owner: yes}\n")
    stock.write("canfix/map.yaml", "inputs:\n  - {canid: 0x183, fixid: IAS}\noutputs:\n  - include: outputs.yaml\n")
    theirs = facts(stock.load())
    importing.bring_over(stock.directory, tmp_path / "new")
    shutil.rmtree(stock.directory)
    assert facts(configuration.load(tmp_path / "new" / "default.yaml")) == theirs


def test_what_is_in_the_old_tree_comes_along(stock: Stock, tmp_path: Path) -> None:
    files = {
        "brought_mine.py": "from brought_helper import Plugin\n",
        "brought_helper.py": "import plugin\nclass Plugin(plugin.PluginBase):\n    pass\n",
        "brought_pack/__init__.py": "from brought_mine import Plugin\n",
        "code/brought_other.py": "from brought_mine import Plugin\n",
        "tables/tank.csv": "1,2\n",
        "log/fixgw.log": "years of lines\n",
    }
    for name, text in files.items():
        (stock.directory / name).parent.mkdir(exist_ok=True)
        stock.write(name, text)
    logging = """\
  version: 1
  handlers: {file: {class: logging.FileHandler, filename: "{CONFIG}/log/fixgw.log"}}
  root: {handlers: [file]}
plugin path: "{CONFIG}/code"
"""
    stock.change("default.yaml", "auto start: yes", "auto start: no")
    main = stock.directory / "default.yaml"
    stock.write("default.yaml", main.read_text().partition("logging:\n")[0] + "logging:\n" + logging)
    options = 'table: "{CONFIG}/tables/tank.csv", output: "{CONFIG}/out/x", beside: "{CONFIG}/../other"'
    stock.write(
        "connections/demo.yaml",
        f"a: {{module: brought_mine, {options}}}\nb: {{module: brought_pack}}\nc: {{module: brought_other}}\n",
    )
    assert stock.check()[0] == []
    new = tmp_path / "new"
    report = importing.bring_over(stock.directory, new)
    assert report.problems == []
    assert "brought_mine.py: your own code" in report.taken
    beside = str(stock.directory.parent / "other")
    shutil.rmtree(stock.directory)
    loaded = configuration.load(new / "default.yaml")
    assert not loaded.auto_start
    assert loaded.logging is not None
    assert loaded.logging["handlers"]["file"]["filename"] == f"{new}/log/fixgw.log"
    assert (new / "log").is_dir()
    assert not (new / "log/fixgw.log").exists(), "a log is not part of a configuration"
    options_of = {c.name: c.options for c in loaded.connections}
    assert (options_of["a"]["table"], options_of["a"]["output"]) == (f"{new}/tables/tank.csv", f"{new}/out/x")
    assert options_of["a"]["beside"] == beside
    assert (new / "tables/tank.csv").read_text() == "1,2\n"
    assert {"b", "c"} <= options_of.keys()
    for name, text in files.items():
        assert not name.endswith(".py") or (new / name).read_text() == text


def test_whom_the_old_one_let_in_is_asked_for(
    stock: Stock, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fixgw.net.access.own_networks", lambda: ["10.1.0.0/16"])
    assert main(["config", "import", str(stock.directory), "--to", str(tmp_path / "closed")]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "netfix: host:" in line]
    assert line.endswith("such as 10.1.0.0/16: `fixgw config import --allow 10.1.0.0/16` writes them")
    assert "allow" not in configuration.load(tmp_path / "closed/default.yaml").connections[0].options
    networks = "10.1.0.0/16,192.168.7.1"
    assert main(["config", "import", str(stock.directory), "--to", str(tmp_path / "open"), "--allow", networks]) == 0
    options = configuration.load(tmp_path / "open/default.yaml").connections[0].options
    assert options["allow"] == options["write"] == ["127.0.0.0/8", "::1", "10.1.0.0/16", "192.168.7.1/32"]
    assert main(["config", "import", str(stock.directory), "--to", str(tmp_path / "x"), "--allow", "everybody"]) == 2


def bring_over(directory: Path, text: str, *networks: str, **files: str) -> tuple[importing.Report, str]:
    """Import a small tree, of which ``a__b_ini`` is the file a/b.ini. The report, and the new main file without the
    comment that begins it."""
    old = directory / "old"
    for name, content in {"default_yaml": text, **files}.items():
        path = old / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    report = importing.bring_over(old, directory / "new", networks)
    first, _, rest = (directory / "new" / "default.yaml").read_text().partition("\n\n")
    assert first == f"# Imported from {old}, which `fixgw config import` did not change."
    return report, rest


OWN = "variables: {c: 2}\nentries:\n  - {key: BTNc, type: bool}\n  - {key: IAS, aux: [Max]}\n  - {key: BARO}\n"


@pytest.mark.parametrize(
    "overlay",
    [
        "more.yaml",
        "[more.yaml, again.yaml]",
        "[{key: MINE}]",
        "{variables: {c: 3}, entries: [{key: MINE}]}",
        "[{key: MINE}, {key: IAS, max: 200}]",
    ],
)
def test_an_overlay_is_taken_over(tmp_path: Path, overlay: str) -> None:
    main = f"connections:\ndatabase file: own.yaml\ndatabase overlay: {overlay}\n"
    files = {"more_yaml": "- {key: MORE}\n- {key: TWICE}\n", "own_yaml": OWN}
    files["again_yaml"] = "variables: {c: 4}\nentries: [{key: AGAIN}, {key: TWICE, max: 3}]\n"
    bring_over(tmp_path, main, **files)
    theirs = configuration.load(tmp_path / "old" / "default.yaml")
    shutil.rmtree(tmp_path / "old")
    ours = configuration.load(tmp_path / "new" / "default.yaml")
    assert [(d.key, d.max, d.type) for d in ours.definitions] == [(d.key, d.max, d.type) for d in theirs.definitions]
    assert "MINE" in overlay or {"MORE", "TWICE"} <= {d.key for d in ours.definitions}


@pytest.mark.parametrize("overlay", ["'{PACKAGE}/database/ahrs.yaml'", "['{PACKAGE}/database/ahrs.yaml']"])
def test_a_packaged_file_is_named_and_not_copied(tmp_path: Path, overlay: str) -> None:
    report, text = bring_over(tmp_path, f"connections:\ndatabase overlay: {overlay}\n")
    name = overlay.replace("'", '"')
    assert text == f"database overlay: {name}\n\nconnections: {{}}\n"
    assert [path.name for path in report.files] == ["default.yaml"]


def test_settings_that_the_incumbent_cannot_mark_are_marked(tmp_path: Path) -> None:
    more = "  a: {module: fixgw.plugins.db_persister}\n"
    main = f"database file: own.yaml\ninitialization files: v.ini\nconnections:\n{more}"
    report, text = bring_over(tmp_path, main, own_yaml=OWN, v_ini="IAS = 5\nBTN2 = True\nBTN1 = maybe\n")
    assert (tmp_path / "new" / "database.yaml").read_text() == (
        "variables: {c: 2}\nentries:\n  - {key: BTNc, type: bool, setting: yes}\n  - {key: IAS, aux: [Max]}\n"
        "  - {key: BARO, setting: yes, keep: yes}\n"
    )
    assert (tmp_path / "new" / "initial" / "settings.ini").read_text() == (
        'BTN1 = "False"\nBTN2 = "True"\nBARO = "0.0"\n'
    )
    assert (tmp_path / "new" / "initial" / "v.ini").read_text() == (
        "IAS = 5\nBTN2 = True\n# BTN1 = maybe  # BTN1: 'maybe' is not True or False\n"
    )
    assert text == (
        "database file: database.yaml\ninitialization files: [initial/settings.ini, initial/v.ini]\n\nconnections:\n\n"
        "  # module fixgw.plugins.db_persister: left out: fixgw.plugins.recorder replaces it, and takes patterns of "
        "keys: `keys: [EGT*, TACH1]`\n  # a: {module: fixgw.plugins.db_persister}\n"
    )
    assert report.taken == ["4 items, in the same order", "4 initial values"]
    assert report.translated == [
        "database entries that now have `setting: yes`: 2. The pilot sets them, so they are good before anything "
        "writes them, and never bad"
    ]
    assert report.dropped[0].startswith("v.ini:3: BTN1: 'maybe' is not")
    assert [p.name for p in report.files] == ["database.yaml", "settings.ini", "v.ini", "default.yaml"]
    assert report.problems == []


@pytest.mark.parametrize("load", ["yes", "no"])
def test_only_options_that_a_plugin_of_that_name_does_not_take_are_translated(tmp_path: Path, load: str) -> None:
    mine = "from fixgw.plugin import PluginBase\n\n\nclass Plugin(PluginBase):\n    pass\n"
    main = f"""
        plugin path: [code]
        connections:
          theirs: {{load: {load}, module: fixgw.plugins.mavlink, type: udp, port: 14550, min_airspeed: 10}}
          ours: {{load: {load}, module: fixgw.plugins.mavlink, type: udp, port: 14551, options: {{min_airspeed: 10}}}}
          mine: {{load: {load}, module: freeform, min_airspeed: 10}}
        """
    _, text = bring_over(tmp_path, main, code__freeform_py=mine)
    assert f"    # min_airspeed: read as `options: {{min_airspeed}}`\n    load: {load}\n" in text
    assert f"  ours:\n    load: {load}\n" in text
    assert "    port: 14551\n    options: {min_airspeed: 10}\n" in text
    assert f"  mine:\n    load: {load}\n    module: freeform\n    min_airspeed: 10\n" in text


def test_settings_that_are_marked_stay_as_they_are(tmp_path: Path) -> None:
    own = "entries:\n  - {key: BARO, setting: no}\n  - {key: MINE, setting: yes}\n"
    report, text = bring_over(tmp_path, "connections:\ndatabase file: own.yaml\n", own_yaml=own)
    assert (tmp_path / "new" / "database.yaml").read_text() == own
    assert text == "database file: database.yaml\n\nconnections: {}\n"
    assert report.translated == []


@pytest.mark.parametrize(
    ("names", "written"),
    [
        ("v.ini", "initial/v.ini"),
        ("[v.ini, a/v.ini, b/v.ini]", "initial/v.ini, initial/v-2.ini, initial/v-3.ini"),
        ("'{PACKAGE}/initial.ini'", '"{PACKAGE}/initial.ini"'),
        ("[]", ""),
        ("", ""),
    ],
)
def test_initial_values_are_taken_over(tmp_path: Path, names: str, written: str) -> None:
    files = {"v_ini": "IAS = 1\n", "a__v_ini": "IAS = 2\nALT = 2\n", "b__v_ini": "# three\n"}
    report, text = bring_over(tmp_path, f"initialization files: {names}\nconnections:\n", **files)
    line = f"initialization files: [{written}]\n"
    assert text == f"{line}\nconnections: {{}}\n"
    theirs, ours = (configuration.load(tmp_path / tree / "default.yaml") for tree in ("old", "new"))
    if names:
        assert ours.initial == theirs.initial
    assert report.taken == [f"{len(theirs.initial)} initial value{'s' * (len(theirs.initial) != 1)}"]


def test_a_value_beyond_several_ranges_stays(tmp_path: Path) -> None:
    own = "entries:\n  - {key: A1, max: 5}\n  - {key: A2, max: 6}\n  - {key: B, min: 1}\n"
    values = "A* = 9\nB= 0\nA1 = 7 # high\n"
    main = "connections:\ndatabase file: own.yaml\ninitialization files: [v.ini, gone.ini]\n"
    report, _ = bring_over(tmp_path, main, own_yaml=own, v_ini=values)
    assert (tmp_path / "new" / "initial" / "v.ini").read_text() == (
        "A* = 9\nB = 1.0  # B: 0 is outside the range, 1.0 to any; taken as 1.0\n"
        "A1 = 5.0  # A1: 7 is outside the range, any to 5.0; taken as 5.0\n"
    )
    assert report.dropped == [f"{tmp_path}/old/gone.ini: cannot be read"]
    assert [line.partition(":")[0] for line in report.translated] == ["v.ini", "v.ini"]


def test_connections_that_do_not_run_are_taken_over_too(tmp_path: Path) -> None:
    (tmp_path / "old" / "code" / "__pycache__").mkdir(parents=True)
    (tmp_path / "old" / "code" / "__pycache__" / "x.pyc").write_text("no")
    report, text = bring_over(
        tmp_path,
        "auto start: no\nplugin path: [code, /opt/fixgw, .]\nconnections:\n"
        "  off: {load: no, module: fixgw.plugins.gui}\n  number: 5\n"
        "  x728: {load: no, module: fixgw.plugins.X728, shutdown_after: 5, source: s, on_failure: }\n"
        "  ours: {load: no, module: fixgw.drivers.nmea0183, port: p}\n"
        "  plain: {load: no, module: fixgw.drivers.canfix}\n"
        "  theirs: {load: no, module: some.other, a: '{CONFIG}/code', b: [1, {c: x}]}\n"
        "  gone: {load: no, module: fixgw.plugins.gui}\n"
        "  wrong: {load: no, module: fixgw.plugins.rpi_button, btnpin: 5}\n"
        "  empty:\n"
        "  bad: {module: fixgw.drivers.nmea0183, prot: p}\n",
        code__x_py="x = 1\n",
        mine_py="y = 1\n",
    )
    why = "fixgw.plugins.X728: fixgw.drivers.ups_x728 replaces it"
    assert (
        text
        == f"""\
auto start: no
plugin path: ["{{CONFIG}}/code", /opt/fixgw]

connections:

  # the name of a connection must be text, not no
  # no: {{load: no, module: fixgw.plugins.gui}}

  # expected a mapping, got the number 5
  # number: 5

  x728:
    # module {why}
    # shutdown_after: read as `shutdown: {{after: 300}}`; minutes converted to seconds
    # the computer shuts down in order, but no pulse cuts the power unless you set `off_pin: 26`
    load: no
    module: fixgw.drivers.ups_x728
    source: s
    shutdown: {{after: 300}}

  ours:
    load: no
    module: fixgw.drivers.nmea0183
    port: p

  plain:
    load: no
    module: fixgw.drivers.canfix

  theirs:
    load: no
    module: some.other
    a: "{{CONFIG}}/code"
    b: [1, {{c: x}}]

  # module fixgw.plugins.gui: left out: `fixgw watch` and `fixgw status` show the gateway in a terminal
  # gone: {{load: no, module: fixgw.plugins.gui}}

  # both `btnkey` and `btnpin` are required
  # wrong: {{load: no, module: fixgw.plugins.rpi_button, btnpin: 5}}

  # it is empty
  # empty: null

  # unknown option 'prot' (did you mean 'port'?)
  # 'port' is missing
  # bad: {{module: fixgw.drivers.nmea0183, prot: p}}
"""
    )
    assert report.taken == [
        *(f"{len(configuration.packaged_values())} initial values",),
        "mine.py: your own code",
        "code/x.py: your own code",
        *("x728: fixgw.drivers.ups_x728, disabled", "ours: fixgw.drivers.nmea0183, disabled"),
        *("plain: fixgw.drivers.canfix, disabled", "theirs: some.other, disabled"),
    ]
    assert [line.partition(":")[0] for line in report.dropped] == [
        *("no", "number", "gone", "wrong", "empty", "bad", "bad")
    ]
    assert not (tmp_path / "new" / "code" / "__pycache__").exists()
    assert (tmp_path / "new" / "code" / "x.py").read_text() == "x = 1\n"


def test_files_and_directories_that_options_name_come_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "MAX_BYTES", 100)
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "in").mkdir(parents=True)
    (old / "kept_plugin.py").write_text("import plugin\nclass Plugin(plugin.PluginBase):\n    pass\n")
    (old / "large_plugin.py").write_text("x" * 101)
    options = ", ".join(f"{name[:3]}: '{{CONFIG}}/{name}'" for name in ("in", "small", "large", "out/log"))
    report, text = bring_over(
        tmp_path,
        f"connections:\n  a: {{module: kept_plugin, {options}, list: ['{{CONFIG}}/small', /etc/x, 5]}}\n",
        small="x" * 100,
        large="x" * 101,
    )
    assert text.partition("kept_plugin\n")[2].splitlines() == [
        '    in: "{CONFIG}/in"',
        '    sma: "{CONFIG}/small"',
        f"    lar: {old}/large",
        '    out: "{CONFIG}/out/log"',
        '    list: ["{CONFIG}/small", /etc/x, 5]',
    ]
    assert report.dropped == [f"{old}/large: stays where it is: more than 100 bytes"]
    assert report.problems == []
    assert {str(path.relative_to(new)) for path in new.rglob("*")} - {"__pycache__"} == {
        *("default.yaml", "kept_plugin.py", "small", "in", "out")
    }


def test_a_map_in_use_twice_is_copied_once(tmp_path: Path) -> None:
    maps = (
        "mapfile: canfix/map.yaml, channel: can0",
        "mapfile: canfix/map.yaml, channel: can1",
        f"mapfile: {tmp_path}/map.yaml",
    )
    (tmp_path / "map.yaml").write_text("inputs: []\n")
    lines = "".join(f"  c{n}: {{module: fixgw.drivers.canfix, {options}}}\n" for n, options in enumerate(maps))
    own = "inputs:\n  - {canid: 0x183, fixid: IAS}\n"
    report, text = bring_over(tmp_path, f"connections:\n{lines}", canfix__map_yaml=own, map_yaml="taken: 1\n")
    assert re.findall("mapfile: (.*)", text) == ["canfix/map.yaml", "canfix/map.yaml", "map.yaml"]
    assert (tmp_path / "new" / "canfix" / "map.yaml").read_text() == own
    assert (tmp_path / "new" / "map.yaml").read_text() == "inputs: []\n"
    assert report.problems == []


@pytest.mark.parametrize(
    ("options", "networks", "expected"),
    [
        (
            "host: 0.0.0.0",
            (),
            "here only this computer may, until `allow` and `write` name other networks, such as 10.0.0.0/8 and "
            "192.168.1.0/24: `fixgw config import --allow 10.0.0.0/8,192.168.1.0/24` writes them",
        ),
        ("host: '::'", ("10.0.0.0/8", "fd00::/8"), "here only this computer and 10.0.0.0/8 and fd00::/8 may"),
        ("host: 0.0.0.0, allow: [10.0.0.0/8]", ("10.0.0.0/8",), ""),
        ("host: 0.0.0.0, write: [10.0.0.0/8]", ("10.0.0.0/8",), ""),
        ("host: 127.0.0.1", ("10.0.0.0/8",), ""),
        ("type: client, outputs: [{host: x, send: [IAS]}]", ("10.0.0.0/8",), ""),
    ],
)
def test_who_may_connect_to_an_imported_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str, networks: tuple[str, ...], expected: str
) -> None:
    monkeypatch.setattr("fixgw.net.access.own_networks", lambda: ["10.0.0.0/8", "192.168.1.0/24"])
    report, text = bring_over(tmp_path, f"connections: {{n: {{module: fixgw.plugins.netfix, {options}}}}}", *networks)
    words = [line.partition("lets everybody connect and write there; ")[2] for line in report.translated]
    assert words == ([expected] if expected else [])
    wanted = ", ".join(f'"{n}"' if n[0].isdecimal() or ":" in n else n for n in ("127.0.0.0/8", "::1", *networks))
    opened = bool(networks and expected)
    assert (f"allow: [{wanted}]" in text, f"write: [{wanted}]" in text) == (opened, opened)


def test_the_report_tells_all(tmp_path: Path) -> None:
    report = importing.Report(tmp_path / "old", tmp_path / "new")
    ok = f"OK: {tmp_path}/new/default.yaml; `fixgw check` confirms it"
    assert list(report.lines()) == [f"from {tmp_path}/old", ok]
    report.taken += ["a", "a", "b"]
    report.translated += ["c"]
    report.dropped += ["d"]
    report.files += [Path("e")]
    report.advice += [Advice("f", 1, 2, "g")]
    lines = [f"from {tmp_path}/old", "taken over:", "  a", "  b", "translated:", "  c", "not taken over:", "  d"]
    lines += ["written:", "  e"]
    assert list(report.lines()) == [*lines, "advice:", "  f:1:2: advice: g", ok]
    report.problems += [Problem("f", 3, 4, "h")]
    assert list(report.lines()) == [*lines, "remaining problems:", "  f:3:4: h", "advice:", "  f:1:2: advice: g"]


def test_the_old_tree_is_looked_for_in_the_incumbents_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, prefix = tmp_path / "makerplane/fixgw/config", tmp_path / "prefix/etc/fixgw"
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.setattr(importing, "SYSTEM", tmp_path / "etc/fixgw")  # this computer may have one
    monkeypatch.setenv("HOME", str(tmp_path))
    for directory in (prefix, home):
        directory.mkdir(parents=True)
        (directory / "default.yaml").write_text("connections:\n")
        assert importing.old_tree({}) == importing.old_tree({"HOME": str(tmp_path)}) == directory
    assert importing.old_tree({"HOME": "/nowhere"}) == prefix
    (home / ".packaged.sha256").write_text("")
    assert importing.old_tree({}) == prefix, "the tree at home is a copy of ours"
    (prefix / "default.yaml").unlink()
    assert importing.old_tree({}) is None
    with pytest.raises(FixgwError, match="no configuration of the incumbent found: name its directory"):
        importing.bring_over(None, tmp_path / "new")


def test_a_main_file_can_be_named_and_must_be_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "mine.yaml").write_text("connections:\n")
    report = importing.bring_over("~/old/mine.yaml", "~/new")
    assert (report.source, report.target) == (tmp_path / "old", tmp_path / "new")
    assert (tmp_path / "new" / "default.yaml").exists()
    (tmp_path / "old" / "mine.yaml").write_text("- a\n")
    with pytest.raises(ConfigurationError, match="expected a mapping with connections"):
        importing.bring_over("~/old/mine.yaml", "~/other")


@pytest.mark.parametrize("where", [".", "inside", ".."])
def test_an_import_never_writes_into_the_old_tree(stock: Stock, where: str) -> None:
    before = digest(stock.directory)
    with pytest.raises(FixgwError, match="stays as it is"):
        importing.bring_over(stock.directory, stock.directory / where)
    link = stock.directory.parents[2] / "link"
    link.symlink_to(stock.directory)
    with pytest.raises(FixgwError, match="stays as it is"):
        importing.bring_over(stock.directory, link)
    assert digest(stock.directory) == before


def test_an_import_never_overwrites_a_configuration(stock: Stock, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    (new / "default.yaml").write_text("connections: {}\n")
    with pytest.raises(FixgwError, match="exists and is not overwritten"):
        importing.bring_over(stock.directory, new)
    assert (new / "default.yaml").read_text() == "connections: {}\n"


def test_import_finds_the_old_tree_in_its_usual_place(
    stock: Stock, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert importing.old_tree({"HOME": str(tmp_path)}) == stock.directory
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["config", "import", "--to", str(tmp_path / "new")]) == 0
    assert f"from {stock.directory}" in capsys.readouterr().out


def test_run_prefers_our_tree_to_the_old_one(tmp_path: Path) -> None:
    tree = Stock(tmp_path).directory
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / ".config")}
    if not Path("/etc/fixgw/default.yaml").exists():
        assert configuration.find(None, home) == tree / "default.yaml"
    (tmp_path / ".config/fixgw").mkdir(parents=True)
    (tmp_path / ".config/fixgw/default.yaml").write_text("connections: {}\n")
    assert configuration.find(None, home) == tmp_path / ".config/fixgw/default.yaml"


# -- documentation -----------------------------------------------------------------------------------------------------


def test_the_migration_page_names_every_module() -> None:
    page = (ROOT / "docs" / "migration.md").read_text()
    for name in (*incumbent.MODULES, *incumbent.ABSENT):
        assert f"`{name}`" in page, name


def test_every_module_in_the_table_exists() -> None:
    from fixgw import loader

    for module in incumbent.MODULES.values():
        loader.load_plugin(module.ours)


def test_advice_is_printed_like_a_problem() -> None:
    assert str(Advice("f", 1, 2, "words")) == "f:1:2: advice: words"
