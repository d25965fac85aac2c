"""Finds and loads plugins: any module on the Python path that has a class ``Plugin``.

The name ``fixgw.plugins.<name>`` means ``fixgw.drivers.<name>`` if there is no such plugin, and then ``<name>`` in the
directories of the plugin path. ``<name>`` alone, or after ``fixgw.plugins.``, also finds the module that an installed
distribution announces under this name as an entry point of the group ``fixgw.plugins``. Modules that use
``import plugin`` get `fixgw.plugin`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import logging
import os
import pkgutil
import re
import sys
import threading
from collections.abc import Iterable
from functools import cache, lru_cache
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import fixgw.plugin
from fixgw.errors import BadModule, BadPlugin, MissingLibrary, nearest
from fixgw.plugin import Options, PluginBase

if TYPE_CHECKING:
    from importlib.metadata import Distribution

__all__ = ["PluginInfo", "add_to_path", "available", "code_has_changed", "load_plugin", "make_plugin", "reload_plugin"]

log = logging.getLogger(__name__)

PLUGINS = "fixgw.plugins."
DRIVERS = "fixgw.drivers."

_reading = threading.RLock()
#: The module of a plugin -> its files -> the time of their last change before they were read, in nanoseconds.
_read: dict[str, dict[str, int]] = {}


_plugin_path: list[str] = []  # the directories that `add_to_path` has been given


def add_to_path(directories: Iterable[Path | str]) -> None:
    """Also search `directories` for modules; last, so that they hide no other module."""
    wanted = list(dict.fromkeys(map(os.path.abspath, directories)))
    new = [d for d in wanted if d not in sys.path]
    sys.path.extend(new)
    _plugin_path.extend(d for d in wanted if d not in _plugin_path)
    if new:
        importlib.invalidate_caches()


def load_plugin(module_name: str) -> type[PluginBase]:
    """Import a module and return its class ``Plugin``. Raises `BadModule`, which says what to do."""
    module = _import(module_name)
    plugin = getattr(module, "Plugin", None)
    if plugin is None:
        raise BadModule(module_name, f"the module {module.__name__} has no class Plugin", absent=True)
    if not isinstance(plugin, type):
        raise BadModule(module_name, f"Plugin in the module {module.__name__} is not a class")
    if not issubclass(plugin, PluginBase):
        raise BadModule(module_name, f"Plugin in the module {module.__name__} is not derived from PluginBase")
    _read.setdefault(module.__name__, {})
    for path, changed in _files_of(module.__name__).items():
        _read[module.__name__].setdefault(path, changed)
    return plugin


def code_has_changed(plugin: type[PluginBase]) -> bool:
    """Whether a file of the plugin's own code has changed on disk since it was read."""
    name = plugin.__module__
    read = _read.get(name, {})
    return any(read.get(path, changed) != changed for path, changed in _files_of(name).items())


def reload_plugin(plugin: type[PluginBase]) -> type[PluginBase]:
    """Read the plugin's module, and the other modules of its package, again. Returns the new class.

    Running plugins keep the code that they have. Raises `BadModule`; then the old code stays.
    """
    name = plugin.__module__
    with _reading:
        old = _code_of(name)
        for module_name, module in old.items():
            # Python compares its compiled files only by size and whole seconds.
            with contextlib.suppress(OSError, AttributeError, TypeError, NotImplementedError):
                os.unlink(importlib.util.cache_from_source(module.__file__ or ""))
            del sys.modules[module_name]
        importlib.invalidate_caches()
        before = _read.pop(name, {})
        try:
            return load_plugin(name)
        except BaseException:
            for module_name in _code_of(name):
                del sys.modules[module_name]
            sys.modules.update(old)
            _read[name] = before
            raise


def _code_of(plugin_module: str) -> dict[str, ModuleType]:
    """The modules that belong to the code of the plugin in `plugin_module`, by name.

    These are the ones in the same package: that of the device below ``fixgw.drivers.`` and ``fixgw.plugins.``,
    otherwise the topmost one.
    """
    parts = plugin_module.split(".")
    home = ".".join(parts[:3] if plugin_module.startswith((PLUGINS, DRIVERS)) else parts[:1])
    if home == "fixgw":
        return {plugin_module: sys.modules[plugin_module]} if plugin_module in sys.modules else {}
    inside = f"{home}."
    return {n: m for n, m in list(sys.modules.items()) if n == home or n.startswith(inside)}


def _files_of(plugin_module: str) -> dict[str, int]:
    """The files of a plugin's code that have been read, and the time of their last change, in nanoseconds."""
    files = {}
    for module in _code_of(plugin_module).values():
        if path := getattr(module, "__file__", None):
            with contextlib.suppress(OSError):
                files[path] = os.stat(path).st_mtime_ns
    return files


def make_plugin(cls: type[PluginBase], name: str, config: dict[str, Any], meta: Any = None) -> PluginBase:
    """Create a plugin: ``cls(name, config, meta)``, or ``cls(name, config)`` if its constructor takes no more.

    Raises `BadPlugin` for a constructor that takes neither, or that does not call its parent's.
    """
    arguments: tuple[Any, ...] = (name, config, meta)
    with contextlib.suppress(ValueError):  # the signature is unknown
        signature = inspect.signature(cls)
        for arguments in ((name, config, meta), (name, config)):
            with contextlib.suppress(TypeError):
                signature.bind(*arguments)
                break
        else:
            raise BadPlugin(
                f"the constructor of {cls.__module__}.{cls.__qualname__} takes {signature}; the gateway calls it "
                "with (name, config): def __init__(self, name, config, config_meta=None)"
            )
    plugin = cls(*arguments)
    if not plugin.is_complete():
        raise BadPlugin(
            f"the constructor of {cls.__module__}.{cls.__qualname__} does not call its parent's: "
            "super().__init__(name, config)"
        )
    return plugin


class PluginInfo(NamedTuple):
    """A plugin that comes with the gateway or with another distribution, then `distribution` has its name and version.

    `error` says why it is not usable here; None if it is.
    """

    name: str
    module: str
    summary: str
    options: type[Options] | None
    error: str | None
    distribution: str = ""


class Announced(NamedTuple):
    """An entry point: the module of somebody else's plugin, and the name and version of its distribution."""

    module: str
    distribution: str


def announced() -> dict[str, Announced]:
    """The plugins that installed distributions announce in the group ``fixgw.plugins``, by name.

    If several announce the same name, the first distribution by name counts.
    """
    return _announced_in(tuple((directory, _changed(directory)) for directory in sys.path))


@lru_cache(1)
def _announced_in(path: tuple[tuple[str, int | None], ...]) -> dict[str, Announced]:
    from importlib.metadata import distributions  # takes 20 ms

    found: dict[str, Announced] = {}
    for each in distributions():
        try:
            modules = {point.name: point.module for point in each.entry_points.select(group=PLUGINS.rstrip("."))}
            by = f"{each.name} {each.version}" if modules else ""
        except Exception as error:  # whatever the library raises for files that are damaged or of another format
            log.warning("the entry points of %s cannot be read: %s", _name_of(each), error)
            continue
        for name, module in modules.items():
            if name not in found or by.split()[0] < found[name].distribution.split()[0]:
                found[name] = Announced(module, by)
    return dict(sorted(found.items()))


def _name_of(distribution: Distribution) -> str:
    with contextlib.suppress(Exception):  # its name is in another file that may be damaged
        return distribution.name
    return f"a distribution in {distribution.locate_file('')}"


def _changed(directory: str) -> int | None:
    try:
        return os.stat(directory).st_mtime_ns
    except OSError:
        return None


def own_modules() -> frozenset[str]:
    """The names by which configurations may name the gateway's own plugins and drivers."""
    from fixgw.configuration.incumbent import MODULES

    plugins, drivers = set(_modules_in(PLUGINS)), set(_modules_in(DRIVERS))
    return frozenset((*(PLUGINS + name for name in (*plugins, *drivers, *MODULES)), *(DRIVERS + n for n in drivers)))


def available() -> list[PluginInfo]:
    """All plugins in `fixgw.plugins` and `fixgw.drivers`, and those that are `announced`, by name. Imports them all."""
    own = (_info(name, package + name) for package in (PLUGINS, DRIVERS) for name in _modules_in(package))
    found = [info for info in own if info is not None]
    for name, (module, distribution) in announced().items():
        info = _info(name, module) or PluginInfo(name, module, "", None, f"the module {module} has no class Plugin")
        found.append(info._replace(distribution=distribution))
    return sorted(found, key=lambda info: (info.name, info.module))


def _info(name: str, module_name: str) -> PluginInfo | None:
    """What there is to say about a plugin; None if the module has none, because others share it."""
    try:
        module = _import(module_name)
        if not hasattr(module, "Plugin"):
            return None
        cls = load_plugin(module_name)
    except BadModule as error:
        return PluginInfo(name, module_name, "", None, error.reason)
    text = inspect.cleandoc(module.__doc__ or cls.__doc__ or "")
    return PluginInfo(name, module_name, text.partition("\n")[0], cls.Options, None)


def _modules_in(package: str) -> list[str]:
    """The names of the modules in a package such as ``fixgw.plugins.``; none if there is no such package."""
    try:
        path = importlib.import_module(package.rstrip(".")).__path__
    except (ImportError, AttributeError):
        return []
    return [m.name for m in pkgutil.iter_modules(path) if not m.name.startswith("_")]


@cache
def _own_plugins() -> list[str]:
    return [PLUGINS + n for package in (PLUGINS, DRIVERS) for n in _plugins_in(package)]


def _plugins_in(package: str) -> list[str]:
    """Those of `_modules_in` that have a class ``Plugin``, judged by their text, without running it."""
    return [name for name in _modules_in(package) if _mentions_plugin(f"{package.rstrip('.')}.{name}")]


def _mentions_plugin(module: str) -> bool:
    text = ""
    with contextlib.suppress(ImportError, ValueError, OSError):
        if (spec := importlib.util.find_spec(module)) and spec.origin:
            text = Path(spec.origin).read_text("utf-8", "replace")
    return re.search(r"^(class Plugin\b|Plugin\s*[=:]|from .* import .*\bPlugin\b)", text, re.MULTILINE) is not None


def _import(name: str) -> ModuleType:
    sys.modules.setdefault("plugin", fixgw.plugin)
    candidates = [name]
    if name.startswith(PLUGINS):
        short = name.removeprefix(PLUGINS)
        candidates.append(DRIVERS + short)
        if _is_on_plugin_path(short):
            candidates.append(short)
    module = _first(name, candidates)
    if module is None and (entry := announced().get(name.removeprefix(PLUGINS))):
        module = _first(name, [entry.module])
        if module is None:
            raise BadModule(name, f"{entry.distribution} announces the module {entry.module!r}, which does not exist")
    if module is not None:
        return module
    raise BadModule(name, f"there is no module {name!r}{_suggestion(name)}", absent=True)


def _first(name: str, candidates: Iterable[str]) -> ModuleType | None:
    """Import the first of the modules that exists. Raises `BadModule` for one that cannot be imported."""
    for candidate in candidates:
        try:
            return importlib.import_module(candidate)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if isinstance(error, ModuleNotFoundError) and _is_about(error, candidate):
                continue
            raise BadModule(name, _explain_import_error(error)) from error
    return None


def _is_on_plugin_path(name: str) -> bool:
    """Whether `name` is a module in the directories of the plugin path, and not hidden by another of that name."""
    spec = PathFinder.find_spec(name, _plugin_path) if name.isidentifier() else None
    found = None
    with contextlib.suppress(ImportError, ValueError):
        found = importlib.util.find_spec(name) if spec and spec.origin else None
    return found is not None and found == spec


def _is_about(error: ModuleNotFoundError, module: str) -> bool:
    """Whether the module that was not found is `module` itself, or a package that should contain it."""
    return error.name is not None and f"{module}.".startswith(f"{error.name}.")


def _explain_import_error(error: BaseException) -> str:
    if isinstance(error, MissingLibrary):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"the module exists, but it needs {error.name!r}, which was not found"
    if isinstance(error, SyntaxError):
        return f"the module exists, but has an error in line {error.lineno}: {error.msg}"
    where = _last_line(error)
    text = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
    return f"the module exists, but importing it failed{where}: {text}"


def _last_line(error: BaseException) -> str:
    """Where the error was raised, if that was in Python code."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or trace.tb_frame.f_code.co_filename.startswith("<frozen"):
        return ""
    return f" at {os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"


def _suggestion(name: str) -> str:
    """The module that `name` may have meant, as the end of a sentence; empty if there is none like it.

    Only the last parts of names are compared: what plugins have in common says nothing about what was meant.
    """
    parent, _, last = name.rpartition(".")
    whole: dict[str, str] = {}
    for known in sorted(_names_like(name), key=lambda known: known.rpartition(".")[0] != parent):
        whole.setdefault(known.rpartition(".")[2], known)
    near = nearest(last, whole)
    return f" (did you mean {whole[near]!r}?)" if near else ""


def _names_like(name: str) -> list[str]:
    """Modules that `name` may have meant: those of the gateway and of the incumbent, and its neighbours."""
    from fixgw.configuration.incumbent import ABSENT, MODULES

    names = [*_own_plugins()]
    names += [PLUGINS + n for n in (*MODULES, *ABSENT)]
    parent, dot, _ = name.rpartition(".")
    if not dot:
        names += sorted({m.name for m in pkgutil.iter_modules()} - sys.stdlib_module_names)
        names += announced()
    elif parent in sys.modules:
        names += [f"{parent}.{n}" for n in _plugins_in(parent)]
    return names
