"""Finds, reads and checks the configuration, and turns it into what the gateway runs.

A configuration contains only what it changes. Without ``database file``, ``initialization files`` or ``logging`` the
packaged ones apply; ``database overlay`` changes items and their fields on top of the definition. Every string may use
two names: ``{CONFIG}`` is the directory of the main file, ``{PACKAGE}`` that of the packaged configuration.

Nothing here opens a device or writes a file.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

import fixgw.config
from fixgw import loader
from fixgw.clock import now as clock_now
from fixgw.configuration import options
from fixgw.configuration.items import Initial, Items, apply_initial, read_definitions, read_initial, units_by_key
from fixgw.configuration.options import Row
from fixgw.configuration.options import rows as option_rows
from fixgw.configuration.reader import Positions, Reader, described
from fixgw.database import Clock, Database, Definition
from fixgw.errors import Advice, BadModule, ConfigurationError, Problem, counted, did_you_mean
from fixgw.kit.options import convert
from fixgw.kit.sources import mark_simulated
from fixgw.kit.update import FALSE_WORDS, TRUE_WORDS
from fixgw.plugin import CONFIGPATH, PluginBase

__all__ = [
    "Configuration",
    "Connection",
    "Row",
    "check",
    "examine",
    "find",
    "load",
    "load_in_part",
    "load_safe",
    "option_rows",
    "packaged",
    "packaged_values",
]

NAME = "default.yaml"
ENVIRONMENT = "FIXGW_CONFIG"
MANY_SETTINGS = 20  # with this many of our settings and none declared, the definition is the incumbent's
INCUMBENT = "makerplane/fixgw/config"  # where the incumbent keeps its configuration, in the home directory


class Main(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename=lambda name: name.replace("_", " "),
):
    """The sections of the main file."""

    connections: Annotated[
        dict[str, dict[Any, Any]], msgspec.Meta(description="Connections by name, each with its module and options.")
    ]
    database_file: Annotated[str, msgspec.Meta(description="The database definition; default: the packaged one.")] = ""
    database_overlay: Annotated[
        str | dict[Any, Any] | list[Any],
        msgspec.Meta(
            description="Changes to the definition: entries, variables with entries, or files that contain them."
        ),
    ] = ""
    initialization_files: Annotated[
        list[str] | str,
        msgspec.Meta(description="Files with initial values; later ones win; default: the packaged one."),
    ] = []
    auto_start: Annotated[bool, msgspec.Meta(description="Whether systemd may start the gateway.")] = True
    plugin_path: Annotated[list[str] | str, msgspec.Meta(description="Additional directories with plugins.")] = []
    logging: Annotated[
        dict[str, Any],
        msgspec.Meta(description="In the format of logging.config.dictConfig; default: the packaged one."),
    ] = {}


class Common(msgspec.Struct, frozen=True, kw_only=True):
    """The options that every connection has, whatever its plugin."""

    module: Annotated[str, msgspec.Meta(description="The plugin's module.", min_length=1)]
    load: Annotated[
        bool | str,
        msgspec.Meta(description="Whether to load it: yes, no, or a name under enabled: in preferences.yaml."),
    ] = True
    on_failure: Annotated[
        Literal["restart", "ignore", "stop"],
        msgspec.Meta(description="What to do when it fails; stop means the whole gateway."),
    ] = "restart"
    restart_delay: Annotated[
        float, msgspec.Meta(description="Seconds before the first restart; doubled each time.", gt=0, le=3600)
    ] = 1.0
    restart_delay_max: Annotated[
        float, msgspec.Meta(description="The longest delay before a restart, in seconds.", gt=0, le=86400)
    ] = 60.0
    start_timeout: Annotated[
        float, msgspec.Meta(description="Seconds within which run() must return.", gt=0, le=600)
    ] = 5.0
    stop_timeout: Annotated[
        float, msgspec.Meta(description="Seconds within which stop() must return.", gt=0, le=600)
    ] = 3.0
    source: Annotated[
        Annotated[str, msgspec.Meta(pattern=r"^[^;\s]+$")] | None,
        msgspec.Meta(
            description="The source name of its writes; default: the connection's name. A simulator's begins with "
            "`sim/`."
        ),
    ] = None


#: The names of the options in `Common`.
COMMON = tuple(f.encode_name for f in msgspec.structs.fields(Common))


@dataclass(frozen=True, kw_only=True)
class Connection:
    """A connection to load. Two of them are equal if a reload need not restart the connection.

    `options` are the plugin's, with CONFIGPATH; `meta` has their positions; `contents` has the contents of the files
    that options name. Times are in seconds.
    """

    name: str
    module: str
    plugin: type[PluginBase]
    options: dict[str, Any]
    contents: dict[str, Any] = field(default_factory=dict, repr=False)
    meta: Positions = field(default_factory=lambda: Positions(""), compare=False, repr=False)
    on_failure: str = "restart"
    restart_delay: float = 1.0
    restart_delay_max: float = 60.0
    start_timeout: float = 5.0
    stop_timeout: float = 3.0
    source: str = ""
    #: Whether it sends this gateway's vote to others.
    carries_votes: bool = field(default=False, compare=False)
    #: If it is written for the incumbent: the module that it names, and the translations.
    written: str = field(default="", compare=False)
    translated: tuple[Advice, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        source = self.source or self.name
        object.__setattr__(self, "source", mark_simulated(source) if self.plugin.simulates else source)


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A configuration without problems. It is immutable, so any thread may use it.

    `advice` points out accepted settings that may have another meaning than they seem to.
    """

    file: Path
    directory: Path
    connections: tuple[Connection, ...] = ()
    #: The connections that are not loaded, and why.
    unloaded: Mapping[str, str] = field(default_factory=dict)
    logging: dict[str, Any] | None = None
    definitions: tuple[Definition, ...] = ()
    #: (key or ``KEY.aux``, value as text)
    initial: tuple[Initial, ...] = ()
    auto_start: bool = True
    #: Every file that was read, in that order.
    files: tuple[str, ...] = ()
    #: Connections with problems, and what these are.
    refused: Mapping[str, tuple[Problem, ...]] = field(default_factory=dict)
    advice: tuple[Advice, ...] = ()
    #: What ``{NAME}`` in strings stands for, besides the names that every configuration has.
    variables: Mapping[str, str] = field(default_factory=dict)

    def make_database(self, clock: Clock = clock_now) -> Database:
        """Create a database with all items and their initial values. Does not start its ageing thread."""
        database = Database(self.definitions, clock)
        apply_initial(database, self.initial)
        return database

    def effective(self) -> dict[str, Any]:
        """What the gateway runs, as JSON data; it may have secrets (`fixgw.configuration.secrets`)."""
        return {
            "file": str(self.file),
            "items": len(self.definitions),
            "auto start": self.auto_start,
            "connections": {
                c.name: {
                    "module": c.module,
                    "source": c.source,
                    **{name: getattr(c, name) for name in COMMON if name not in ("module", "load", "source")},
                    **{key: value for key, value in c.options.items() if key != CONFIGPATH},
                }
                for c in self.connections
            },
            "not loaded": dict(self.unloaded),
        }


def packaged() -> Path:
    """The directory of the packaged configuration."""
    # importlib.resources would give the same, but add 10 ms to the start.
    return Path(os.path.abspath(fixgw.config.__path__[0]))


def find(explicit: str | os.PathLike[str] | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """Find the main file: `explicit` or $FIXGW_CONFIG even if they do not exist (a directory means its default.yaml),
    otherwise the first default.yaml that exists in ~/.config/fixgw, /etc/fixgw and ~/makerplane/fixgw/config, or the
    packaged one."""
    named = explicit or environ.get(ENVIRONMENT)
    if named:
        path = Path(named).expanduser()
        return path / NAME if path.is_dir() else path
    user = environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    incumbent = Path(environ.get("HOME") or os.path.expanduser("~"), INCUMBENT)
    for directory in (Path(user) / "fixgw", Path("/etc/fixgw"), incumbent):
        if os.path.exists(directory / NAME):
            return directory / NAME
    return packaged() / NAME


def load(path: str | os.PathLike[str], variables: Mapping[str, str] | None = None) -> Configuration:
    """Read and check the configuration whose main file is `path`; ``{NAME}`` in strings becomes ``variables[NAME]``.

    Imports the modules of the connections to load. Raises only `ConfigurationError`, which has all problems in the
    order of the files.
    """
    reader = Reader(os.fspath(path), {"PACKAGE": str(packaged()), **(variables or {})})
    configuration = examine(reader)
    if configuration is None or reader.problems:
        raise ConfigurationError(reader.sorted_problems(), reader.sorted_advice())
    return replace(configuration, variables=dict(variables or {}))


def load_in_part(path: str | os.PathLike[str]) -> tuple[Configuration, list[Problem]]:
    """Read a configuration to show it to people: its usable parts, and its problems.

    Raises `ConfigurationError` when its main file cannot be read.
    """
    reader = Reader(os.fspath(path), {"PACKAGE": str(packaged())})
    configuration = examine(reader)
    if configuration is None:
        raise ConfigurationError(reader.sorted_problems(), reader.sorted_advice())
    return configuration, reader.sorted_problems()


def load_safe(path: str | os.PathLike[str]) -> tuple[Configuration, list[Problem]]:
    """Return the configuration that safe mode runs, which always works, and the problems of the rest.

    It is the configuration at `path`, but with only those connections whose modules are `safe` (NetFIX), and without
    anything else that loads code from elsewhere. If its database is not usable, or if it has no such connection, the
    packaged one's is used instead.
    """
    default = load(packaged() / NAME)
    safe_ones = tuple(connection for connection in default.connections if connection.plugin.safe)
    reader = Reader(os.fspath(path), {"PACKAGE": str(packaged())})
    own = None
    try:
        own = examine(reader, frozenset(c.module for c in safe_ones))
        problems = reader.sorted_problems()
    except Exception as error:  # safe mode must start, and report it, whatever it is
        problems = [Problem(os.fspath(path), 0, 0, f"{type(error).__name__}: {error}")]
    own = own or replace(default, file=Path(path), connections=())
    basis = default if problems else own
    safe = replace(
        own,
        connections=own.connections or safe_ones,
        definitions=basis.definitions,
        initial=basis.initial,
        logging=default.logging,
        auto_start=True,
    )
    return safe, problems


def load_foreign(path: str | os.PathLike[str], variables: Mapping[str, str] | None = None) -> Configuration:
    """Load somebody else's configuration without running their code: only connections with the gateway's own modules.

    A connection that cannot be loaded is in `unloaded` or `refused`. Raises `ConfigurationError` for problems of all
    else.
    """
    reader = Reader(os.fspath(path), {**(variables or {}), "PACKAGE": str(packaged())})
    configuration = examine(reader, loader.own_modules(), "its module does not belong to the gateway")
    refused = {id(p) for problems in configuration.refused.values() for p in problems} if configuration else set()
    problems = [problem for problem in reader.sorted_problems() if id(problem) not in refused]
    if configuration is None or problems:
        raise ConfigurationError(problems, reader.sorted_advice())
    return configuration


def check(path: str | os.PathLike[str], variables: Mapping[str, str] | None = None) -> list[Problem]:
    """All problems of a configuration; empty if it is usable. Advice is not a problem."""
    try:
        load(path, variables)
    except ConfigurationError as error:
        return error.problems
    return []


# -- reading -----------------------------------------------------------------------------------------------------------


def examine(reader: Reader, only: Collection[str] | None = None, why: str = "safe mode") -> Configuration | None:
    """The usable part of a configuration; None if its main file cannot be read. Problems and advice go to `reader`.

    `only` are the modules to trust, and `why` says why others are not loaded; None trusts all.
    """
    content, at = reader.read(reader.main)
    if not isinstance(content, dict):
        if not at.partial:
            reader.report(at, f"expected a mapping with connections:, got {described(content)}")
        return None
    connections = content.get("connections")
    main = {k: v for k, v in content.items() if v is not None}  # ignore empty sections
    if "connections" in content and connections is None:
        main["connections"] = {}
    if isinstance(connections, dict):  # a connection with nothing after its name is empty
        connections = main["connections"] = {k: {} if v is None else v for k, v in connections.items()}
    if only is not None:
        main = {k: v for k, v in main.items() if k not in ("plugin path", "logging")}
    sections = dict(main)  # without the options of connections, which are checked one by one below
    if isinstance(connections, dict):
        sections["connections"] = {k: {} if isinstance(v, dict) else v for k, v in connections.items()}
    reader.problems += options.problems(sections, Main, at)

    defaults = _Defaults(reader)
    items, initial, database = _read_items(reader, main, at, defaults)

    directories = _module_directories(reader, main) if only is None else []
    loader.add_to_path(directories)
    for directory in directories:
        if not directory.is_dir():
            reader.advice.append(at.at(["plugin path"]).advice(f"plugin path: there is no directory {directory}"))

    loaded: list[Connection] = []
    unloaded: dict[str, str] = {}
    refused: dict[str, tuple[Problem, ...]] = {}
    claimed: dict[str, tuple[str, Positions]] = {}
    mentioned: list[tuple[str, Positions, str]] = []
    for name, value in connections.items() if isinstance(connections, dict) else ():
        if only is not None and isinstance(value, dict) and str(value.get("module")) not in only:
            unloaded[str(name)] = why
        elif isinstance(name, str) and isinstance(value, dict):
            entry = at["connections"].entry(name)
            if not value and not entry.partial:  # the included file is empty
                reader.advice.append(entry.advice(f"connection {name} is empty, and not loaded"))
                unloaded[name] = "empty"
                continue
            before = len(reader.problems)
            connection = _read_connection(
                reader, name, value, entry, unloaded, claimed, mentioned, database if items.complete else None
            )
            if connection is not None:
                loaded.append(connection)
            elif name not in unloaded:
                refused[name] = tuple(reader.problems[before:])
    names = list(connections) if isinstance(connections, dict) else []
    for name, there, option in mentioned if only is None else ():
        if name not in names:
            reader.report(there, f"{option}: no connection {name!r}{did_you_mean(name, names)}")
        elif name in unloaded:
            reader.advice.append(there.advice(f"{option}: {name} is not loaded ({unloaded[name]})"))

    logging = main.get("logging")
    if isinstance(logging, dict):
        from fixgw.configuration import logs  # imported late, as it loads modules that nothing else needs

        try:
            reader.problems += logs.problems(logging, at["logging"])
        except Exception as error:  # a custom formatter or filter may raise anything
            reader.report(at["logging"], f"logging: {type(error).__name__}: {error}")
    else:
        logging = defaults.value.get("logging")
    if "database file" in main and (reader.migrated or len(items.definitions) >= MANY_SETTINGS):
        _mark_settings(reader, items.definitions, initial, at["database file"])
    if reader.migrated:
        reader.advice += reader.differences
    return Configuration(
        file=reader.main,
        directory=reader.directory,
        connections=tuple(loaded),
        unloaded=unloaded,
        logging=logging,
        definitions=tuple(items.definitions),
        initial=tuple(initial),
        auto_start=bool(main.get("auto start", True)),
        files=tuple(reader.files),
        refused=refused,
        advice=tuple(reader.sorted_advice()),
    )


def _mark_settings(reader: Reader, definitions: list[Definition], initial: list[Initial], at: Positions) -> None:
    """Make the settings of the packaged definition settings here too, with an initial value: the incumbent's files
    cannot mark settings, and there an item that was never written is good."""
    from fixgw.configuration import incumbent

    if any(d.setting for d in definitions):
        return
    names = incumbent.settings(definitions, _packaged_settings())  # and whether they are kept
    reader.migrated |= len(names) >= MANY_SETTINGS
    if not names or not reader.migrated:
        return
    few = ", ".join(sorted(names)[:3])
    words = "a person sets them, so they are good before they are written, and never bad"
    reader.advice.append(at.advice(f"{len(names)} keys are settings here, such as {few}: {words}"))
    definitions[:] = [
        msgspec.structs.replace(d, setting=True, keep=names[d.key]) if d.key in names else d for d in definitions
    ]
    database = Database(definitions)
    values = {d.key: str(database.item(d.key).reading.value) for d in definitions if d.key in names}
    initial[:] = {**values, **dict(initial)}.items()


def module_directories(path: str | os.PathLike[str]) -> list[Path]:
    """The directories in which the configuration at `path` finds modules. Never raises on its contents."""
    reader = Reader(os.fspath(path), {"PACKAGE": str(packaged())})
    content, _ = reader.read(reader.main)
    return _module_directories(reader, content if isinstance(content, dict) else {})


def _module_directories(reader: Reader, main: Mapping[Any, Any]) -> list[Path]:
    plugin_path = main.get("plugin path", [])
    names = [plugin_path] if isinstance(plugin_path, str) else plugin_path if isinstance(plugin_path, list) else []
    own = [] if reader.directory == packaged() else [reader.directory]
    return [*(reader.locate(name) for name in names if isinstance(name, str)), *own]


class _Defaults:
    """The packaged configuration, which supplies omitted parts of others."""

    def __init__(self, reader: Reader) -> None:
        main = packaged() / NAME
        self._for = reader
        self.value: dict[str, Any] = {}
        self.reader = reader
        if reader.main != main:
            self.reader = Reader(main)
            self.value = self.reader.read(main)[0] or {}

    def close(self) -> None:
        if self.reader is not self._for:
            self._for.problems += self.reader.problems
            self._for.advice += self.reader.advice
            self._for.files += [f for f in self.reader.files if f not in self._for.files]


def _packaged_definitions() -> list[Definition]:
    reader = Reader(packaged() / NAME, {"PACKAGE": str(packaged())})
    main, at = reader.read(reader.main)
    document = reader.read(reader.locate(main["database file"]), at["database file"])
    return read_definitions(reader, [document]).definitions


@cache
def _packaged_units() -> dict[str, str]:
    """The units in which drivers write, by key."""
    return units_by_key(_packaged_definitions())


@cache
def _packaged_settings() -> tuple[Definition, ...]:
    return tuple(d for d in _packaged_definitions() if d.setting)


@cache
def packaged_values() -> dict[str, str]:
    """The values in the packaged ``initial.ini``, as text by key or ``KEY.aux``: those of no particular aircraft."""
    definitions = _packaged_definitions()
    reader, items = Reader(packaged() / NAME), Items(definitions, set(), True)
    return dict(read_initial(reader, [(packaged() / "initial.ini", None)], items, Database(definitions)))


def _read_items(
    reader: Reader, main: dict[str, Any], at: Positions, defaults: _Defaults
) -> tuple[Items, list[Initial], Database]:
    """Read the items and their initial values. Also returns a database with both, to check options against."""
    documents: list[tuple[Any, Positions]] = []
    own = main.get("database file")
    if isinstance(own, str):
        documents.append(reader.read(reader.locate(own), at["database file"]))
    elif own is None and (file := defaults.value.get("database file")):
        documents.append(defaults.reader.read(defaults.reader.locate(file)))
    overlay = main.get("database overlay")
    if isinstance(overlay, str):
        documents.append(reader.read(reader.locate(overlay), at["database overlay"]))
    elif isinstance(overlay, list) and all(isinstance(name, str) for name in overlay):
        overlays = at["database overlay"]
        documents += [reader.read(reader.locate(name), overlays[i]) for i, name in enumerate(overlay)]
    elif isinstance(overlay, (dict, list)):
        documents.append((overlay, at["database overlay"]))
    items = read_definitions(reader, documents, _packaged_units, str(packaged()))
    if not documents:
        items = items._replace(complete=False)  # without a definition we cannot tell which keys are missing

    names, names_at = main.get("initialization files"), at.at(["initialization files"])
    files: list[tuple[Path, Positions | None]] = [
        (reader.locate(name), names_at.at([index]))
        for index, name in enumerate([names] if isinstance(names, str) else names if isinstance(names, list) else ())
        if isinstance(name, str)
    ]
    own_values = "initialization files" in main
    if not own_values and own is None:
        files = [(defaults.reader.locate(f), None) for f in defaults.value.get("initialization files") or ()]
    # Values from files that the configuration does not name may have no item.
    lenient = not own_values or not items.complete
    database = Database(items.definitions)
    initial = read_initial(reader, files, items, database, lenient)
    apply_initial(database, initial)
    if files and own_values and own is None:
        _mind_packaged_values(reader, defaults, {path for path, _ in files}, dict(initial), names_at)
    defaults.close()
    return items, initial, database


def _mind_packaged_values(
    reader: Reader, defaults: _Defaults, files: Collection[Path], given: Mapping[str, str], at: Positions
) -> None:
    """Give advice if the initialization files of a configuration displace the packaged ones without covering their
    values."""
    lost: list[str] = []
    count = 0
    for name in defaults.value.get("initialization files") or ():
        path = defaults.reader.locate(name)
        if path in files:
            return
        keys = [line.partition("=")[0].strip() for line in (defaults.reader.text(path) or "").splitlines()]
        keys = [key for key in keys if key and not key.startswith("#")]
        count += len(keys)
        lost += [key for key in keys if key not in given and not any(c in key for c in "*?[")]
    if len(lost) > count / 2:
        few = ", ".join(lost[:3])
        reader.advice.append(
            at.advice(
                f"initialization files: these replace the packaged values, so that {counted(len(lost), 'value')} such "
                f"as {few} are not set; to keep them, put {{PACKAGE}}/initial.ini first in the list"
            )
        )


def _read_connection(
    reader: Reader,
    name: str,
    value: dict[Any, Any],
    at: Positions,
    unloaded: dict[str, str],
    claimed: dict[str, tuple[str, Positions]],
    mentioned: list[tuple[str, Positions, str]],
    database: Database | None,
) -> Connection | None:
    """Read one connection. Returns None if it has problems or is not to be loaded; then it is in `unloaded`.

    `claimed` maps each resource that a connection claims to the connection's name and the position of the claim.
    `mentioned` gets the names of other connections in its options, with the positions and names of the options.
    """
    before = len(reader.problems)
    common = {k: v for k, v in value.items() if k in COMMON and v is not None}
    own = {k: v for k, v in value.items() if k not in COMMON}
    reader.problems += options.problems(common, Common, at)
    wanted = common.get("load", True)
    if isinstance(wanted, str) and wanted not in reader.enabled and wanted.lower() in TRUE_WORDS | FALSE_WORDS:
        wanted = wanted.lower() in TRUE_WORDS  # in quotes, or a word that YAML does not know
    if isinstance(wanted, str) and wanted not in reader.enabled:
        names = [*reader.enabled, "yes", "no", "true", "false"]
        another = any(wanted.rstrip("0123456789") == name.rstrip("0123456789") for name in reader.enabled)  # CANFIX2
        # Otherwise it is a preference that is not enabled.
        if not reader.enabled or (did_you_mean(wanted, names) and not another):
            known = "yes or no, or a name in enabled: of preferences.yaml"
            reader.report(at["load"], f"load: expected {known}, got {wanted!r}{did_you_mean(wanted, names)}")
            wanted = True  # to look at its other options, too
    if not (reader.enabled.get(wanted, False) if isinstance(wanted, str) else wanted):
        unloaded[name] = f"load: {wanted}, which is not enabled" if isinstance(wanted, str) else "load: no"
        return None
    module = common.get("module")
    if not isinstance(module, str) or not module:
        return None
    written = ""
    translated: tuple[Advice, ...] = ()
    try:
        plugin = loader.load_plugin(module)
        own = options.without_blanks(own, plugin.Options) if plugin.Options is not None else own
        translate = plugin.Options is not None and any(options.problems(own, plugin.Options, at))
    except BadModule as error:
        found = _find_module(reader, name, module, error, at, unloaded)
        if found is None:
            reader.migrated |= name in unloaded
            return None
        written, (module, plugin), translate = module, found, True
    if translate:
        from fixgw.configuration import incumbent  # only then

        case = incumbent.translate(written or module, module, own, at)
        own, at, translated = case.options, case.at, tuple(case.advice)
        reader.advice += case.advice
        reader.problems += case.problems
        reader.migrated |= bool(case.advice)
        if case.problems:
            return None
    carries_votes = False
    contents = _read_own_files(reader, plugin, own)
    given = {**own, CONFIGPATH: str(reader.directory)}
    try:
        checked, places = _check_options(reader, plugin, own, given, at, database)
        if checked is not None:
            asked = ((resource, _as_written(_steps(option), places)) for resource, option in plugin.claims(checked))
            _check_claims(reader, name, asked, own, at, claimed)
            for other, option in plugin.references(checked):
                path = _as_written(_steps(option), places)
                mentioned.append((other, at.at(path), _spelled(path, own)))
            carries_votes = plugin.carries_votes(checked)
            if database is not None and len(reader.problems) == before:
                reader.advice += [_advice(found, at, own) for found in plugin.advise(checked, database)]
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        reader.report(at, f"the plugin could not check its options: {text}")
    if len(reader.problems) > before:
        return None
    facts = {k: v for k, v in common.items() if k not in ("load", "module")}
    return Connection(
        name=name,
        module=module,
        plugin=plugin,
        options=given,
        contents=contents,
        meta=at,
        written=written,
        translated=translated,
        carries_votes=carries_votes,
        **facts,
    )


def _find_module(
    reader: Reader, name: str, module: str, error: BadModule, at: Positions, unloaded: dict[str, str]
) -> tuple[str, type[PluginBase]] | None:
    """Our counterpart of a `module` of the incumbent that cannot be loaded because of `error`. If there is none, report
    it and return None."""
    from fixgw.configuration import incumbent

    if error.absent and (reason := incumbent.absent(module)):
        reader.advice.append(at["module"].advice(f"module {module}: {reason}"))
        unloaded[name] = f"module {module}: {reason}"
        return None
    try:
        if error.absent and (known := incumbent.known(module)):
            return known.ours, loader.load_plugin(known.ours)
    except BadModule as other:
        error = other
    reader.report(at["module"], f"module {module}: {error}")
    return None


def _read_own_files(reader: Reader, plugin: type[PluginBase], own: dict[Any, Any]) -> dict[str, Any]:
    """Return the contents of the files that options name, by option. Makes the names in `own` absolute paths.

    The plugin reports what is wrong with the files, because it knows what belongs in them.
    """
    contents = {}
    for option in options.files(plugin.Options) if plugin.Options is not None else ():
        if isinstance(own.get(option), str) and own[option]:
            path = reader.locate(own[option])
            file = Reader(path, directory=reader.directory)
            own[option], contents[option] = str(path), file.read(path)[0]
            reader.files += [f for f in file.files if f not in reader.files]
    return contents


def _check_options(
    reader: Reader,
    plugin: type[PluginBase],
    own: dict[Any, Any],
    given: dict[str, Any],
    at: Positions,
    database: Database | None,
) -> tuple[Any, dict[str, list[int]]]:
    """Check options against their declaration, then let the plugin check them. Returns the usable ones, or None, and
    the places of entries in lists that lack others."""
    checked: Any = given
    found: list[Problem] = []
    written, places = own, dict[str, list[int]]()
    if plugin.Options is not None:
        found = list(options.problems(own, plugin.Options, at, also_known=COMMON))
        reader.problems += found
        # The plugin gets the options that fit, so that one wrong option does not hide what is wrong with the others.
        if found:
            own, places = options.fitting(own, plugin.Options)
        try:
            checked = convert(own, plugin.Options)
        except msgspec.ValidationError:  # a required option is wrong, or options contradict each other
            return None, places
    for problem in plugin.check(checked, database) if database is not None else ():
        if isinstance(problem, Problem):
            reader.problems.append(problem)
        else:
            option, text = problem
            path = _steps(option)
            if path[0] in own if path else not found:  # otherwise it is about a wrong or unreadable option
                path = _as_written(path, places)
                reader.report(at.at(path), f"{_spelled(path, written)}: {text}" if path else text)
    return checked, places


def _as_written(path: list[str], places: Mapping[str, list[int]]) -> list[str]:
    """`path` with the number of its entry among all entries, instead of that among the valid ones."""
    where = places.get(path[0]) if len(path) > 1 else None
    return [path[0], str(where[int(path[1])]), *path[2:]] if where and path[1].isdecimal() else path


def _spelled(path: Iterable[str], value: Any) -> str:
    """A path in `value` as messages and tables write it: ``buttons[2].pin``."""
    words = ""
    for part in path:
        if isinstance(value, list | tuple):
            words += f"[{part}]"
            value = value[int(part)] if part.isdecimal() and int(part) < len(value) else None
        else:
            words += f".{part}"
            value = (
                value.get(part, value.get(int(part)) if part.isdecimal() else None) if isinstance(value, dict) else None
            )
    return words.removeprefix(".")


def _steps(option: str) -> list[str]:
    """The way to an option: ``outputs.2.key`` or ``outputs[2].key``."""
    return option.replace("[", ".").replace("]", "").split(".") if option else []


def _advice(found: Advice | tuple[str, str], at: Positions, written: Any) -> Advice:
    if isinstance(found, Advice):
        return found
    option, text = found
    path = _steps(option)
    return at.at(path).advice(f"{_spelled(path, written)}: {text}" if path else text)


def _check_claims(
    reader: Reader,
    name: str,
    claims: Iterable[tuple[str, list[str]]],
    own: dict[Any, Any],
    at: Positions,
    claimed: dict[str, tuple[str, Positions]],
) -> None:
    """Report the resources of connection `name` that are already claimed, as a whole or in part."""
    for resource, path in claims:
        here = at.at(path)
        whole, part, _ = resource.partition(" of ")
        same = {resource, whole} if part else {r for r in claimed if r.partition(" of ")[0] == whole}
        if taken := next((claimed[r] for r in claimed if r in same), None):
            other, there = taken
            who = "this connection" if other == name else f"connection {other!r}"
            reader.report(here, f"{_spelled(path, own)}: {whole} is already used by {who}, at {there}")
        else:
            claimed[resource] = (name, here)
