"""The import rules (docs/architecture.md), the cost of importing, and the public names."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CORE_LIBRARIES = {"yaml", "msgspec"}
#: The libraries of extras, which read and write files, or talk to the shell.
FILE_LIBRARIES = {
    "fixgw/cli": {"argcomplete"},
    "fixgw/cli/tui": {"textual", "rich"},
    "fixgw/recording": {"mcap", "zstandard", "lz4", "plotly"},
    "fixgw/recording/exports": {"pyarrow"},
}
HARDWARE_LIBRARIES = {"serial", "can", "RPi", "gpiod", "smbus2", "spidev"}
#: Modules for files, sockets, threads and time.
WORLDLY = {"socket", "threading", "select", "selectors", "subprocess", "logging", *HARDWARE_LIBRARIES}
#: The modules of drivers for the command line.
COMMANDS = {"drivers/canfix/command.py", "drivers/canfix/tool/change.py", "drivers/canfix/tool/show.py"}
# The demonstration flies the virtual aircraft, `fixgw sim` runs the virtual devices, and the page operates them.
MAY_SIMULATE = {
    "plugins/demo.py",
    "plugins/web/bench.py",
    "fixgw/cli/bench.py",
    "fixgw/cli/demo.py",
    "fixgw/cli/gallery.py",
    "fixgw/cli/junit.py",
    "fixgw/cli/panel.py",
    "fixgw/cli/sim.py",
    "fixgw/cli/sim_all.py",
    "fixgw/cli/trials.py",
}
# Scenarios are files that people write: the code for configurations reads and checks them.
READS_FILES = {"tests/hw_sim/scenario": ("msgspec", "fixgw.configuration", "fixgw.errors", "fixgw.kit")}
# The bench runs a plugin on a database; two of its modules are only for pytest.
ON_THE_BENCH = (
    *("msgspec", "fixgw.configuration", "fixgw.database", "fixgw.loader", "fixgw.plugin"),
    *("fixgw.kit", "fixgw.errors"),
)
# A golden capture is replayed, a rig joins devices to the links that a replay feeds, and a test runs whole gateways.
ALSO = {
    "tests/hw_sim/bench/golden.py": ("fixgw.rawreplay", "fixgw.recording", "fixgw.state"),
    "tests/hw_sim/bench/rig.py": ("fixgw.recording", "fixgw.stepper"),
    "tests/hw_sim/bench/gateways.py": ("fixgw.gateway", "fixgw.identity", "fixgw.netfix", "fixgw.world"),
    "tests/hw_sim/bench/plugin.py": ("fixgw.netfix",),
}
FOR_PYTEST = {"tests/hw_sim/bench/contract.py", "tests/hw_sim/bench/plugin.py"}


@cache
def imports(path: Path, types: bool = True) -> frozenset[str]:
    """The absolute names of all modules that `path` imports, at the top or inside functions; without `types`, not those
    that only a type checker sees."""
    return frozenset(_imports(path, types))


def _imports(path: Path, types: bool) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.If)
            and isinstance(node.test, ast.Name)
            and node.test.id == "TYPE_CHECKING"
            and not types
        ):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                assert path.is_relative_to(ROOT / "tests"), f"{path}: relative import"
                continue
            if node.module in ("fixgw", "fixgw.drivers", "fixgw.plugins", "fixgw.hw_sim"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            elif node.module is not None:
                yield node.module


def files(*folders: str) -> list[Path]:
    found = []
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).parts
            if (
                parts[0] == "fixgw"
                and len(parts) > 1
                and parts[1] in ("drivers", "plugins", "config", "systemd", "hw_sim")
            ):
                continue
            found.append(path)
    assert found, folders
    return found


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def top(module: str) -> str:
    return module.partition(".")[0]


def inside(module: str, *packages: str) -> bool:
    return any(module == p or module.startswith(p + ".") for p in packages)


@pytest.mark.parametrize("path", files("fixgw"), ids=named)
def test_the_core_knows_no_driver_no_plugin_and_no_simulator(path: Path) -> None:
    for module in imports(path):
        assert not inside(module, "fixgw.drivers", "fixgw.plugins"), module
        if named(path) not in MAY_SIMULATE:
            assert not inside(module, "fixgw.hw_sim"), module
    libraries = CORE_LIBRARIES | FILE_LIBRARIES.get(named(path.parent), set())
    for module in imports(path, types=False):
        assert top(module) in sys.stdlib_module_names | libraries | {"fixgw"}, module


@pytest.mark.parametrize("path", files("fixgw/recording"), ids=named)
def test_recordings_are_files_and_nothing_else(path: Path) -> None:
    for module in imports(path, types=False):
        assert top(module) not in WORLDLY - {"logging"}, module
        assert not inside(module, "fixgw.database", "fixgw.gateway", "fixgw.world", "fixgw.plugin"), module


@pytest.mark.parametrize("path", files("plugins"), ids=named)
def test_a_plugin_knows_the_core_and_itself(path: Path) -> None:
    own = "fixgw.plugins." + path.relative_to(ROOT / "plugins").parts[0].removesuffix(".py")
    for module in imports(path):
        if inside(module, "fixgw.plugins"):
            assert inside(module, own), module
        assert not inside(module, "fixgw.drivers"), module
        if named(path) not in MAY_SIMULATE:
            assert not inside(module, "fixgw.hw_sim"), module


@pytest.mark.parametrize("path", files("drivers"), ids=named)
def test_a_driver_knows_the_core_its_family_and_the_links(path: Path) -> None:
    family = path.relative_to(ROOT / "drivers").parts[0].removesuffix(".py")
    shared = {p.stem for p in (ROOT / "drivers").glob("*.py")} | {"links"} if family != "links" else {"links"}
    for module in imports(path):
        if inside(module, "fixgw.drivers"):
            assert module.split(".")[2] in {family, *shared}, module
        assert not inside(module, "fixgw.plugins", "fixgw.hw_sim"), module
        if named(path) not in COMMANDS:
            assert not inside(module, "fixgw.cli", "fixgw.gateway", "fixgw.runner"), module


@pytest.mark.parametrize("path", files("fixgw/kit"), ids=named)
def test_the_kit_has_no_io_and_no_threads(path: Path) -> None:
    for module in imports(path, types=False):
        assert top(module) not in WORLDLY, module
        assert top(module) != "fixgw" or inside(module, "fixgw.kit", "fixgw.errors"), module


@pytest.mark.parametrize("path", files("fixgw/net"), ids=named)
def test_sockets_know_nothing_of_the_data_that_they_carry(path: Path) -> None:
    for module in imports(path, types=False):
        assert top(module) != "fixgw" or inside(
            module, "fixgw.net", "fixgw.kit", "fixgw.errors", "fixgw.backoff", "fixgw.clock"
        ), module


@pytest.mark.parametrize(
    "path", [p for p in files("fixgw") if "cli" not in p.parts and p.name != "__main__.py"], ids=named
)
def test_nothing_imports_the_command_line(path: Path) -> None:
    for module in imports(path):
        assert not inside(module, "fixgw.cli"), module


@pytest.mark.parametrize("path", files("tests/hw_sim"), ids=named)
def test_a_simulator_uses_none_of_our_codecs(path: Path) -> None:
    allowed: tuple[str, ...] = READS_FILES.get(named(path.parent), ())
    if path.is_relative_to(ROOT / "tests/hw_sim/bench"):
        allowed += ON_THE_BENCH + ALSO.get(named(path), ())
    if named(path) in FOR_PYTEST:
        allowed += ("pytest",)
    if named(path) == "tests/hw_sim/jsbsim_aircraft.py":
        allowed += ("jsbsim",)
    for module in imports(path):
        if inside(module, *allowed):
            continue
        assert top(module) in sys.stdlib_module_names | HARDWARE_LIBRARIES | {"fixgw"}, module
        if top(module) == "fixgw":
            assert inside(module, "fixgw.hw_sim"), module


PROTOCOLS = sorted((ROOT / "drivers").glob("*/protocol.py"))


@pytest.mark.slow
@pytest.mark.parametrize("path", PROTOCOLS, ids=named)
def test_a_protocol_is_sans_io_including_all_its_imports(path: Path) -> None:
    """Loaded by itself, without its package, a protocol imports no I/O module at any depth."""
    family = f"fixgw.drivers.{path.parent.name}"
    package = (
        f"import types; p = types.ModuleType('{family}'); p.__path__ = ['{path.parent}']; sys.modules['{family}'] = p"
    )
    loaded = modules_of(f"{package}; import {family}.protocol")
    assert not {top(module) for module in loaded} & WORLDLY
    ours = {
        module
        for module in loaded
        if top(module) == "fixgw" and not inside(module, family, "fixgw.kit", "fixgw.errors")
    }
    assert ours <= {"fixgw", "fixgw.drivers", *(f"fixgw.drivers.{p.stem}" for p in (ROOT / "drivers").glob("*.py"))}
    for module in imports(path, types=False):
        assert not inside(module, "fixgw.drivers.links"), module


@pytest.mark.slow
def test_nothing_uses_the_folders_by_their_bare_names() -> None:
    bare = re.compile(r"^\s*(?:from|import) (?:drivers|plugins|hw_sim|config|systemd)\b", re.MULTILINE)
    for path in files("fixgw", "drivers", "plugins", "tests", "benchmarks"):
        assert not bare.search(path.read_text()), path


def modules_of(statement: str) -> set[str]:
    """Every module that `statement` imports."""
    code = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def loaded_by(statement: str) -> set[str]:
    return {top(m) for m in modules_of(statement)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import fixgw", {"yaml", "msgspec", "logging", "threading"}),
        ("import fixgw.netfix", {"yaml", "serial", "can", "asyncio"}),
        ("import fixgw.gateway", {"serial", "can", "asyncio", "http", "email", "multiprocessing", "readline"}),
        ("import fixgw.cli", {"serial", "can", "asyncio", "yaml", "readline", "multiprocessing"}),
        ("import fixgw.plugins.netfix", {"serial", "can", "asyncio"}),
        ("import fixgw.drivers.nmea0183", {"serial", "can", "asyncio"}),
        ("import fixgw.drivers.canfix", {"can", "fixgw.drivers.canfix.monitor", "fixgw.drivers.canfix.tool"}),
        ("import fixgw.hw_sim.bench.clock", {"pytest", "yaml", "msgspec", "threading"}),
        ("import fixgw.hw_sim.bench.plugin", {"yaml", "msgspec"}),
    ],
)
def test_importing_stays_light(statement: str, heavy: set[str]) -> None:
    assert not loaded_by(statement) & heavy


def test_every_driver_passes_the_contract_suite() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests/drivers").glob("test_*.py"))
    subjects = set(re.findall(r"\.of\(\s*\"fixgw\.drivers\.(\w+)\"", tests))
    assert subjects == {path.parent.name for path in (ROOT / "drivers").glob("*/__init__.py")} - {"links"}


@pytest.mark.slow
def test_the_default_configuration_loads_nothing_for_absent_devices() -> None:
    load = "from fixgw import configuration, gateway; configuration.load(configuration.packaged() / 'default.yaml')"
    modules = modules_of(f"{load}.make_database()")
    assert "fixgw.plugins.netfix" in modules
    assert not {m for m in modules if inside(m, "fixgw.drivers", "fixgw.hw_sim", *HARDWARE_LIBRARIES)}


PROMISED = re.findall(r"^\| `([\w.]+)` \| `([\w ]+)` \|$", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize(("module", "promised"), PROMISED)
def test_public_names_are_unchanged(module: str, promised: str) -> None:
    found = importlib.import_module(module)
    assert [name for name in promised.split() if not hasattr(found, name)] == []


def test_plugin_base_keeps_what_existing_plugins_use() -> None:
    from fixgw.plugin import PluginBase

    plugin = PluginBase("x", {})
    promised = """name log config config_meta running quorum start run stop shutdown quit is_running get_status
        db_read db_write db_list db_get_item db_callback_add db_callback_del"""
    for name in promised.split():
        assert hasattr(plugin, name), name
