"""Loading plugins: where they are found, and the messages when they are not."""

from __future__ import annotations

import importlib
import itertools
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fixgw.plugin
from fixgw import loader
from fixgw.configuration import incumbent
from fixgw.errors import BadModule, BadPlugin
from fixgw.loader import PLUGINS
from fixgw.plugin import PluginBase

_numbers = itertools.count()

GUIDE = """
import plugin
class Plugin(plugin.PluginBase):
    pass
"""


@pytest.fixture(autouse=True)
def clean_path() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("loader_test_"):
            del sys.modules[name]


@pytest.fixture
def module(tmp_path: Path) -> Callable[[str], str]:
    """Create a module from a text on the path, and return its name."""
    loader.add_to_path([tmp_path])

    def make(text: str) -> str:
        name = f"loader_test_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return make


def reason(name: str) -> str:
    with pytest.raises(BadModule) as caught:
        loader.load_plugin(name)
    assert caught.value.module == name
    assert isinstance(caught.value, ImportError)
    return caught.value.reason


def test_a_module_anywhere_on_the_path_is_a_plugin(module: Callable[[str], str]) -> None:
    cls = loader.load_plugin(module(GUIDE))
    assert issubclass(cls, PluginBase)


def test_the_name_plugin_is_a_module_of_the_gateway(module: Callable[[str], str]) -> None:
    loader.load_plugin(module(GUIDE))
    assert sys.modules["plugin"] is fixgw.plugin


def test_the_name_of_a_driver_as_a_plugin_finds_the_driver() -> None:
    assert loader.load_plugin("fixgw.plugins.nmea0183") is loader.load_plugin("fixgw.drivers.nmea0183")


def test_a_module_of_the_plugin_path_may_be_named_like_ours_unless_another_hides_it(
    module: Callable[[str], str], tmp_path: Path
) -> None:
    name = module(GUIDE)
    assert loader.load_plugin(f"fixgw.plugins.{name}").__module__ == name
    (tmp_path / "colorsys.py").write_text(GUIDE)  # Python's own comes first
    assert reason("fixgw.plugins.colorsys").startswith("there is no module 'fixgw.plugins.colorsys'")


@pytest.mark.parametrize("error", [ImportError("no"), ValueError("no")])
def test_a_module_that_another_finder_refuses_is_not_that_of_the_plugin_path(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loader_test_refused.py").write_text(GUIDE)
    loader.add_to_path([tmp_path])

    class Refuses:
        @staticmethod
        def find_spec(name: str, path: object, target: object = None) -> None:
            if name == "loader_test_refused":
                raise error

    monkeypatch.setattr(sys, "meta_path", [Refuses, *sys.meta_path])
    assert "no module" in reason("fixgw.plugins.loader_test_refused")


def test_a_directory_that_is_on_the_path_already_can_be_made_part_of_the_plugin_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for directory in (first, second):
        directory.mkdir()
        (directory / "loader_test_there.py").write_text(GUIDE)
    sys.path.append(str(first))
    assert "no module" in reason("fixgw.plugins.loader_test_there"), "it need not be one for plugins"
    monkeypatch.chdir(tmp_path)
    loader.add_to_path(["first", "second"])
    assert sys.path[-2:] == [str(first), str(second)]
    module = sys.modules[loader.load_plugin("fixgw.plugins.loader_test_there").__module__]
    assert module.__file__ == str(first / "loader_test_there.py")


def test_a_plugin_is_found_under_its_own_name() -> None:
    assert loader.load_plugin("fixgw.plugins.skel").__module__ == "fixgw.plugins.skel"


def test_directories_are_appended_to_the_path_once(tmp_path: Path) -> None:
    loader.add_to_path([tmp_path, str(tmp_path)])
    loader.add_to_path([tmp_path])
    assert sys.path[-1] == str(tmp_path)
    assert sys.path.count(str(tmp_path)) == 1


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("fixgw.plugins.skell", "fixgw.plugins.skel"),
        ("fixgw.plugins.nmea183", "fixgw.plugins.nmea0183"),
        ("fixgw.drivers.nmea018", "fixgw.drivers.nmea0183"),
        ("fixgw.plugin.skel", "fixgw.plugins.skel"),
        ("fixgw.netfx", "fixgw.plugins.netfix"),
        ("nmea0183x", "fixgw.plugins.nmea0183"),
        ("fixgw.plugins.grand_rapid_eis", "fixgw.plugins.grand_rapids_eis"),
        ("fixgw.plugins.rpi_virtualwires", "fixgw.plugins.rpi_virtualwire"),
    ],
)
def test_an_unknown_module_gets_a_suggestion(name: str, suggestion: str) -> None:
    assert reason(name) == f"there is no module {name!r} (did you mean {suggestion!r}?)"


@pytest.mark.parametrize("name", ["publisher", "curves", "signal_k"])
def test_what_names_have_in_common_is_no_reason_for_a_suggestion(name: str) -> None:
    assert reason(f"fixgw.plugins.{name}") == f"there is no module 'fixgw.plugins.{name}'"


def test_a_misspelled_user_module_gets_a_suggestion_too(tmp_path: Path) -> None:
    (tmp_path / "loader_test_thermometer.py").write_text(GUIDE)
    loader.add_to_path([tmp_path])
    assert reason("loader_test_thermometr").endswith("(did you mean 'loader_test_thermometer'?)")
    assert reason("opcodes") == "there is no module 'opcodes'"  # Python's own modules are never plugins


@pytest.mark.parametrize("name", ["", ".", "..x", "a..b", "no/module", "nothing like it at all", "fixgw.plugins."])
def test_an_invalid_module_name_is_an_ordinary_error(name: str) -> None:
    assert reason(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "import loader_test_nowhere\n",
            "the module exists, but it needs 'loader_test_nowhere', which was not found",
        ),
        ("from fixgw import nowhere\n", "the module exists, but importing it failed"),
        ("x = 1\ndef (\n", "the module exists, but has an error in line 2: "),
        ("x = 1\nraise RuntimeError('no\\nluck')\n", "failed at NAME.py:2: RuntimeError: no luck"),
        ("import sys\nsys.exit('wrong machine')\n", "failed at NAME.py:2: SystemExit: wrong machine"),
        ("raise GeneratorExit\n", "failed at NAME.py:1: GeneratorExit"),
        (
            "from fixgw.errors import MissingLibrary\nraise MissingLibrary('RPi.GPIO', 'rpi')\n",
            "RPi.GPIO is not installed: ",
        ),
        ("x = 1\n", "the module NAME has no class Plugin"),
        ("def Plugin(name, config): pass\n", "Plugin in the module NAME is not a class"),
        ("class Plugin: pass\n", "Plugin in the module NAME is not derived from PluginBase"),
    ],
)
def test_an_unusable_module_is_refused_with_the_reason(module: Callable[[str], str], text: str, expected: str) -> None:
    name = module(text)
    assert expected.replace("NAME", name) in reason(name)


@pytest.mark.parametrize(
    ("text", "absent"),
    [
        (None, True),
        ("x = 1\n", True),
        ("Plugin = 5\n", False),
        ("class Plugin: pass\n", False),
        ("import loader_test_nowhere\n", False),
    ],
)
def test_a_plugin_that_cannot_be_used_is_not_absent(
    module: Callable[[str], str], text: str | None, absent: bool
) -> None:
    with pytest.raises(BadModule) as caught:
        loader.load_plugin("loader_test_nowhere" if text is None else module(text))
    assert caught.value.absent is absent


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("raise GeneratorExit\n", "the module exists, but importing it failed at NAME.py:1: GeneratorExit"),
        ("raise ModuleNotFoundError('no luck')\n", "failed at NAME.py:1: ModuleNotFoundError: no luck"),
        ("import loader_test\n", "the module exists, but it needs 'loader_test', which was not found"),
        ("def f():\n    raise OSError(2, 'gone')\nf()\n", "failed at NAME.py:2: FileNotFoundError: [Errno 2] gone"),
    ],
)
def test_the_reason_ends_with_what_was_raised(module: Callable[[str], str], text: str, expected: str) -> None:
    name = module(text)
    assert reason(name).endswith(expected.replace("NAME", name))


def test_python_s_own_import_code_is_no_place_to_look_for_an_error() -> None:
    assert reason("") == "the module exists, but importing it failed: ValueError: Empty module name"


@pytest.mark.parametrize("name", ["loader_test_nowhere.at.all", "fixgw.loader.other", "fixgw.plugins.a.b"])
def test_a_module_in_a_package_that_does_not_exist_is_absent(name: str) -> None:
    assert reason(name) == f"there is no module {name!r}"


def test_an_interrupt_while_a_module_is_imported_is_passed_on(module: Callable[[str], str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        loader.load_plugin(module("raise KeyboardInterrupt\n"))


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("import plugin\nclass Plugin(plugin.PluginBase): ...\n", True),
        ("from .other import Reader as Plugin\n", True),
        ("Plugin = Reader\n", True),
        ("Plugin: type = Reader\n", True),
        ("class Plugins: ...\n", False),
        ("if False:\n    class Plugin: ...\n", False),
        ("from plugin import PluginBase\n", False),
        ("print(Plugin)\n", False),
    ],
)
def test_only_a_neighbour_with_a_plugin_is_suggested(tmp_path: Path, text: str, is_one: bool) -> None:
    package = f"loader_test_{next(_numbers)}"
    loader.add_to_path([tmp_path])
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / package / "thermometer.py").write_text(text)
    (tmp_path / package / "_thermometr.py").write_text(GUIDE)
    suggestion = f" (did you mean '{package}.thermometer'?)" if is_one else ""
    assert reason(f"{package}.thermometr") == f"there is no module '{package}.thermometr'{suggestion}"


@pytest.mark.parametrize("how", ["in an archive", "a directory", ImportError("no"), ValueError("no")])
def test_a_neighbour_that_cannot_be_read_is_not_suggested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str | Exception
) -> None:
    package = f"loader_test_{next(_numbers)}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("")
    place = tmp_path
    if how == "a directory":
        (tmp_path / package / "thermometer.py").mkdir()
    else:
        (tmp_path / package / "thermometer.py").write_text(GUIDE)
    if how == "in an archive":
        place = Path(shutil.make_archive(str(tmp_path / "archive"), "zip", tmp_path))

    class Refuses:
        @staticmethod
        def find_spec(name: str, path: object, target: object = None) -> None:
            if name == f"{package}.thermometer" and isinstance(how, Exception):
                raise how

    monkeypatch.setattr(sys, "meta_path", [Refuses, *sys.meta_path])
    loader.add_to_path([place])
    assert reason(f"{package}.thermometr") == f"there is no module '{package}.thermometr'"


def test_a_module_is_found_although_the_clock_of_its_directory_is_coarse(tmp_path: Path) -> None:
    """Python looks again into a directory whose time has changed, which may be so only after two seconds."""

    def write(name: str, text: str) -> None:
        before = tmp_path.stat()
        (tmp_path / f"{name}.py").write_text(text)
        os.utime(tmp_path, ns=(before.st_atime_ns, before.st_mtime_ns))

    first, second = f"loader_test_{next(_numbers)}", f"loader_test_{next(_numbers)}"
    sys.path.append(str(tmp_path))
    reason(first)
    sys.path.remove(str(tmp_path))
    write(first, GUIDE)
    loader.add_to_path([tmp_path])
    plugin = loader.load_plugin(first)
    write(second, GUIDE)
    (tmp_path / f"{first}.py").write_text(f"import {second}\n{GUIDE}")
    assert loader.reload_plugin(plugin) is not plugin


def later(path: Path, text: str) -> None:
    """Change a file so that its time differs, however coarse the clock of the file system is."""
    before = path.stat().st_mtime_ns
    path.write_text(text)
    os.utime(path, ns=(before + 10**9, before + 10**9))


def test_code_has_changed_since_it_was_first_read(tmp_path: Path) -> None:
    loader.add_to_path([tmp_path])
    package = tmp_path / "loader_test_whole"
    (package / "deep").mkdir(parents=True)
    for name in ("__init__.py", "deep/__init__.py", "other.py"):
        (package / name).write_text("")
    (package / "deep" / "driver.py").write_text("import loader_test_whole.other\n" + GUIDE)
    (package / "late.py").write_text("")
    (tmp_path / "loader_test_whole_else.py").write_text("")
    plugin = loader.load_plugin("loader_test_whole.deep.driver")
    assert not loader.code_has_changed(plugin)
    for name in ("loader_test_whole.late", "loader_test_whole_else"):
        importlib.import_module(name)
    later(tmp_path / "loader_test_whole_else.py", "x = 1\n")
    assert not loader.code_has_changed(plugin), "one was not read with it, the other is not part of it"
    later(package / "other.py", "x = 1\n")
    assert loader.code_has_changed(plugin), "all of the topmost package is its code"
    assert loader.load_plugin("loader_test_whole.deep.driver") is plugin
    assert loader.code_has_changed(plugin), "it still runs the old code"
    other = sys.modules["loader_test_whole_else"]
    new = loader.reload_plugin(plugin)
    assert new is not plugin
    assert not loader.code_has_changed(new)
    assert sys.modules["loader_test_whole_else"] is other
    (package / "other.py").unlink()
    assert not loader.code_has_changed(new), "there is nothing to read"


def test_a_plugin_in_a_directory_that_is_no_package_can_be_reloaded(tmp_path: Path) -> None:
    loader.add_to_path([tmp_path])
    (tmp_path / "loader_test_loose").mkdir()
    (tmp_path / "loader_test_loose" / "driver.py").write_text(GUIDE)
    plugin = loader.load_plugin("loader_test_loose.driver")
    assert loader.reload_plugin(plugin) is not plugin


def test_the_code_of_a_driver_of_the_gateway_is_that_of_its_device() -> None:
    nmea = loader.load_plugin("fixgw.drivers.nmea0183").__module__
    loader.load_plugin("fixgw.drivers.eis")
    code = set(loader._code_of(nmea))
    assert nmea in code
    assert all(name == nmea or name.startswith(f"{nmea}.") for name in code)
    eis = set(loader._code_of("fixgw.drivers.eis"))
    assert {"fixgw.drivers.eis", "fixgw.drivers.eis.protocol"} <= eis
    assert set(loader._code_of("fixgw.drivers.eis.protocol")) == eis
    assert set(loader._code_of("fixgw.plugin")) == {"fixgw.plugin"}, "never all of the gateway"
    assert loader._code_of("fixgw.loader_test_nowhere") == {}


def test_a_class_that_was_not_loaded_as_a_plugin_has_not_changed() -> None:
    assert not loader.code_has_changed(PluginBase)


def test_after_a_reload_that_fails_the_modules_are_those_of_before(tmp_path: Path) -> None:
    loader.add_to_path([tmp_path])
    package = tmp_path / "loader_test_reloaded"
    package.mkdir()
    (package / "__init__.py").write_text("from .part import VERSION\n" + GUIDE)
    (package / "part.py").write_text("VERSION = 1\n")
    old = loader.load_plugin("loader_test_reloaded")
    before = {name: module for name, module in sys.modules.items() if name.startswith("loader_test_reloaded")}
    (package / "new.py").write_text("")
    (package / "__init__.py").write_text("from . import new, part\nraise ValueError('half done')\n")
    assert loader.code_has_changed(old)
    with pytest.raises(BadModule, match="half done"):
        loader.reload_plugin(old)
    assert {name: module for name, module in sys.modules.items() if name.startswith("loader_test_reloaded")} == before
    assert loader.code_has_changed(old), "it can be corrected and read again"
    (package / "__init__.py").write_text(GUIDE)
    assert loader.reload_plugin(old) is not old


def test_code_of_the_same_size_and_second_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python takes the compiled file for that of both."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "loader_test_same.py"

    def write(value: int) -> None:
        file.write_text(f"from plugin import PluginBase\nclass Plugin(PluginBase):\n    VALUE = {value}\n")
        os.utime(file, (1_700_000_000, 1_700_000_000))

    write(1)
    plugin: Any = loader.load_plugin("loader_test_same")
    assert plugin.VALUE == 1
    write(2)
    plugin = loader.reload_plugin(plugin)
    assert plugin.VALUE == 2


def test_the_constructor_gets_the_arguments_that_it_takes() -> None:
    class Two(PluginBase):
        def __init__(self, name: str, config: dict[str, Any]) -> None:
            super().__init__(name, config)

    class Three(PluginBase):
        def __init__(self, name: str, config: dict[str, Any], config_meta: Any) -> None:
            super().__init__(name, config, config_meta)

    class Any_(PluginBase):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)

    for cls, meta in ((Two, None), (Three, "meta"), (Any_, "meta"), (PluginBase, "meta")):
        plugin = loader.make_plugin(cls, "name", {"a": 1}, "meta")
        assert (type(plugin), plugin.name, plugin.config, plugin.config_meta) == (cls, "name", {"a": 1}, meta)


def test_a_constructor_that_the_gateway_cannot_use_is_refused_with_what_to_write() -> None:
    class One(PluginBase):
        def __init__(self, name: str) -> None:
            raise AssertionError("it is not called")

    class Parentless(PluginBase):
        def __init__(self, name: str, config: dict[str, Any]) -> None:
            pass

    with pytest.raises(
        BadPlugin, match=r"One takes \(name: '?str'?\).*; the gateway calls it with \(name, config\): def"
    ):
        loader.make_plugin(One, "name", {})
    with pytest.raises(BadPlugin, match=r"Parentless does not call its parent's: super\(\).__init__\(name, config\)$"):
        loader.make_plugin(Parentless, "name", {})


def test_a_constructor_of_unknown_signature_gets_all_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(cls: type) -> None:
        raise ValueError("no signature found")

    monkeypatch.setattr("inspect.signature", unknown)
    assert loader.make_plugin(PluginBase, "name", {}, "meta").config_meta == "meta"


def test_exceptions_of_a_constructor_are_passed_on() -> None:
    class Broken(PluginBase):
        def __init__(self, name: str, config: dict[str, Any]) -> None:
            raise TypeError("of its own")

    with pytest.raises(TypeError, match="of its own"):
        loader.make_plugin(Broken, "name", {})


def test_everything_packaged_is_available_and_described() -> None:
    found = {info.module: info for info in loader.available()}
    assert {"fixgw.plugins.skel", "fixgw.plugins.netfix", "fixgw.drivers.nmea0183"} <= set(found)
    assert "fixgw.drivers.links.serial" not in found  # shared by drivers, not a driver itself
    for info in found.values():
        assert info.error is None
        assert info.summary.endswith(".")
        assert info.options is not None
        assert info.distribution == ""
        assert not info.name.startswith("_")
    assert [info.name for info in found.values()] == sorted(info.name for info in found.values())
    assert found["fixgw.plugins.skel"].options is loader.load_plugin("fixgw.plugins.skel").Options
    assert found["fixgw.drivers.nmea0183"].name == "nmea0183"


def test_the_gateways_own_modules_have_the_names_of_its_plugins_drivers_and_of_the_incumbent() -> None:
    own = loader.own_modules()
    assert {"fixgw.plugins.skel", "fixgw.plugins.nmea0183", "fixgw.drivers.nmea0183"} <= own
    assert {PLUGINS + name for name in incumbent.MODULES} <= own
    assert not {"fixgw.drivers.skel", "skel", "nmea0183"} & own


def test_a_plugin_that_cannot_be_imported_is_listed_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fixgw.plugins

    (tmp_path / "loader_test_broken.py").write_text("import loader_test_nowhere\n")
    monkeypatch.setattr(fixgw.plugins, "__path__", [*fixgw.plugins.__path__, str(tmp_path)])
    found = {info.name: info for info in loader.available()}
    assert "loader_test_nowhere" in (found["loader_test_broken"].error or "")
    assert found["skel"].error is None


# -- plugins of other distributions ------------------------------------------------------------------------------------


def announce(directory: Path, distribution: str, version: str, **modules: str) -> None:
    """What pip leaves of a distribution that announces these modules by these names."""
    facts = directory / f"{distribution.replace('-', '_')}-{version}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    lines = [f"{name} = {module}" for name, module in modules.items()]
    (facts / "entry_points.txt").write_text("\n".join(["[fixgw.plugins]", *lines, ""]))


@pytest.mark.parametrize("name", ["thermo", "fixgw.plugins.thermo"])
def test_an_announced_plugin_is_found_by_its_short_name(
    module: Callable[[str], str], tmp_path: Path, name: str
) -> None:
    announce(tmp_path, "fixgw-thermo", "1.2", thermo=module(GUIDE))
    assert issubclass(loader.load_plugin(name), PluginBase)


def test_an_announced_plugin_is_listed_with_its_distribution(module: Callable[[str], str], tmp_path: Path) -> None:
    name = module('"""Reads a thermometer."""' + GUIDE)
    announce(tmp_path, "fixgw-thermo", "1.2", thermo=name, broken="loader_test_nowhere", empty=module(""))
    listed = loader.available()
    assert [info[:2] for info in listed] == sorted(info[:2] for info in listed)
    found = {info.name: info for info in listed if info.distribution}
    assert set(found) == {"thermo", "broken", "empty"}
    assert list(loader.announced()) == ["broken", "empty", "thermo"]
    assert (found["thermo"].options, found["thermo"].error) == (None, None)
    assert found["thermo"][1:3] == (name, "Reads a thermometer.")
    assert found["thermo"].distribution == "fixgw-thermo 1.2"
    assert (found["broken"].error or "").startswith("there is no module 'loader_test_nowhere'")
    assert "no class Plugin" in (found["empty"].error or "")


def test_the_class_describes_a_plugin_whose_module_does_not(module: Callable[[str], str], tmp_path: Path) -> None:
    text = 'import plugin\nclass Plugin(plugin.PluginBase):\n    """Reads it.\n\n    More.\n    """\n'
    both = '"""The module.\n\nMore."""\n' + text
    announce(tmp_path, "fixgw-thermo", "1.2", one=module(text), other=module(both))
    found = {info.name: info.summary for info in loader.available() if info.distribution}
    assert found == {"one": "Reads it.", "other": "The module."}


def test_a_distribution_that_is_installed_meanwhile_is_found(module: Callable[[str], str], tmp_path: Path) -> None:
    name = module(GUIDE)
    sys.path.append(str(tmp_path / "there_is_no_such_directory"))
    assert "thermo" not in loader.announced()
    announce(tmp_path, "fixgw-thermo", "1.2", thermo=name)
    os.utime(tmp_path, (1_700_000_000, 1_700_000_000))
    assert loader.announced()["thermo"] == (name, "fixgw-thermo 1.2")


def test_an_announced_plugin_replaces_none_of_the_gateway(module: Callable[[str], str], tmp_path: Path) -> None:
    announce(tmp_path, "bold", "1", eis=module(GUIDE), skel=module(GUIDE))
    assert loader.load_plugin("fixgw.plugins.eis").__module__ == "fixgw.drivers.eis"
    assert loader.load_plugin("fixgw.plugins.skel").__module__ == "fixgw.plugins.skel"


def test_plugins_of_the_same_name_are_listed_in_the_order_of_their_modules(tmp_path: Path) -> None:
    loader.add_to_path([tmp_path])
    announce(tmp_path, "bold", "1", eis="another.eis")
    assert [info.module for info in loader.available() if info.name == "eis"] == ["another.eis", "fixgw.drivers.eis"]


def test_an_announced_module_that_does_not_exist_names_its_distribution(tmp_path: Path) -> None:
    loader.add_to_path([tmp_path])
    announce(tmp_path, "fixgw-thermo", "1.2", thermo="loader_test_nowhere")
    assert reason("thermo") == ("fixgw-thermo 1.2 announces the module 'loader_test_nowhere', which does not exist")
    with pytest.raises(BadModule) as caught:
        loader.load_plugin("thermo")
    assert not caught.value.absent


@pytest.mark.parametrize("text", ["[fixgw.plugins]\nthermo = !!!\n", "[others]\nthermo\n"])
def test_a_distribution_with_damaged_entry_points_stops_no_other(
    module: Callable[[str], str], tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    name = module(GUIDE)
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    sys.path.insert(0, str(earlier))
    announce(earlier, "a-damaged", "1")
    (earlier / "a_damaged-1.dist-info" / "entry_points.txt").write_text(text)
    announce(tmp_path, "fixgw-thermo", "1.2", thermo=name)
    assert loader.load_plugin("thermo").__module__ == name
    assert "the entry points of a-damaged cannot be read" in caplog.text


def test_a_distribution_with_damaged_metadata_stops_no_other(
    module: Callable[[str], str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = module(GUIDE)
    announce(tmp_path, "a-damaged", "1", thermo="elsewhere")
    (tmp_path / "a_damaged-1.dist-info" / "METADATA").write_bytes(b"\xff")
    announce(tmp_path, "fixgw-thermo", "1.2", thermo=name)
    assert loader.load_plugin("thermo").__module__ == name
    assert f"the entry points of a distribution in {tmp_path}" in caplog.text


def test_a_misspelled_announced_plugin_gets_a_suggestion(module: Callable[[str], str], tmp_path: Path) -> None:
    announce(tmp_path, "fixgw-thermo", "1.2", thermometer=module(GUIDE))
    assert "did you mean 'thermometer'?" in reason("thermometr")


def test_of_two_distributions_that_announce_one_name_the_first_by_name_counts(
    module: Callable[[str], str], tmp_path: Path
) -> None:
    first, second = module(GUIDE), module(GUIDE)
    announce(tmp_path, "b-thermo", "1", thermo=second)
    announce(tmp_path, "a-thermo", "1", thermo=first)
    assert loader.load_plugin("thermo").__module__ == first


@pytest.mark.parametrize("order", [("a-thermo", "b-thermo"), ("b-thermo", "a-thermo")])
def test_the_first_by_name_counts_wherever_it_is_on_the_path(tmp_path: Path, order: tuple[str, str]) -> None:
    for number, distribution in enumerate(order):
        directory = tmp_path / str(number)
        directory.mkdir()
        loader.add_to_path([directory])
        announce(directory, distribution, "1", thermo="some.module")
    assert loader.announced()["thermo"].distribution == "a-thermo 1"


def test_of_a_distribution_that_is_installed_twice_the_first_on_the_path_counts(tmp_path: Path) -> None:
    for version in ("2", "1"):
        directory = tmp_path / version
        directory.mkdir()
        loader.add_to_path([directory])
        announce(directory, "fixgw-thermo", version, thermo="some.module")
    assert loader.announced()["thermo"].distribution == "fixgw-thermo 2"
