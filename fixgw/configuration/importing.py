"""Imports a configuration of the incumbent: writes a tree of ours from it, and leaves the old tree unchanged.

The new tree holds one main file with every connection as we understand it, the database definition in one file, and
copies of the initial values and of the files that options name. Comments in it and the report say what was translated,
and what could not be.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fixgw import configuration, loader, state
from fixgw.configuration import COMMON, Configuration, Connection, incumbent, options
from fixgw.configuration.items import format_initial
from fixgw.configuration.reader import MAX_BYTES, Positions, Reader, described
from fixgw.configuration.tree import MANIFEST
from fixgw.configuration.writer import block, flow
from fixgw.errors import Advice, BadModule, ConfigurationError, FixgwError, Problem, counted, printable
from fixgw.net import access

__all__ = ["Report", "bring_over", "old_tree"]

NETFIX = "fixgw.plugins.netfix"
EVERY_INTERFACE = ("0.0.0.0", "::", "")


@dataclass
class Report:
    """The result of an import. `problems` are those of the new configuration."""

    source: Path
    target: Path
    files: list[Path] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    translated: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    advice: list[Advice] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """The report as text for the user."""
        yield f"from {self.source}"
        for title, entries in (
            ("taken over", self.taken),
            ("translated", self.translated),
            ("not taken over", self.dropped),
            ("written", list(map(str, self.files))),
            ("remaining problems", list(map(str, self.problems))),
            ("advice", list(map(str, self.advice))),
        ):
            if entries:
                yield f"{title}:"
                yield from (f"  {entry}" for entry in dict.fromkeys(entries))
        if not self.problems:
            yield f"OK: {self.target / configuration.NAME}; `fixgw check` confirms it"


SYSTEM = Path("/etc/fixgw")


def old_tree(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The directory of the incumbent's configuration, if it is in one of the usual places."""
    home = Path(environ.get("HOME") or os.path.expanduser("~"))
    for directory in (home / configuration.INCUMBENT, SYSTEM, Path(sys.prefix, "etc/fixgw")):
        if (directory / configuration.NAME).is_file() and not (directory / MANIFEST).exists():
            return directory
    return None


def bring_over(
    source: str | os.PathLike[str] | None, target: str | os.PathLike[str], networks: Sequence[str] = ()
) -> Report:
    """Write the tree in `source` as one of ours into the directory `target`. Default: the incumbent's usual place.

    Hosts in `networks` may use its NetFIX servers on all interfaces, as every host may with the incumbent.

    Raises `FixgwError` when `target` must not be written to, `ConfigurationError` when the main file cannot be read,
    and OSError.
    """
    found = Path(source).expanduser() if source else old_tree()
    if found is None:
        raise FixgwError("no configuration of the incumbent found: name its directory, `fixgw config import DIR`")
    main = found / configuration.NAME if found.is_dir() else found
    new = Path(target).expanduser()
    old_real, new_real = main.resolve().parent, new.resolve()
    if new_real == old_real or old_real in new_real.parents or new_real in old_real.parents:
        raise FixgwError(
            f"{new} is part of the configuration to import, which stays as it is: name another directory with --to"
        )
    if (new / configuration.NAME).exists():
        raise FixgwError(f"{new / configuration.NAME} exists and is not overwritten: name another directory with --to")
    return _Import(main, new, networks).write()


class _Import:
    """The import of one configuration from one directory into another."""

    def __init__(self, main: Path, new: Path, networks: Sequence[str]) -> None:
        self.networks = networks
        self.reader = Reader(main, {"PACKAGE": str(configuration.packaged())})
        self.reader.migrated = True
        old = configuration.examine(self.reader)
        if old is None:
            raise ConfigurationError(self.reader.sorted_problems())
        self.old: Configuration = old
        plain = Reader(main, {"PACKAGE": "{PACKAGE}"})
        content, self.at = plain.read(plain.main)
        self.content: dict[Any, Any] = content
        self.plain = plain
        self.new = new
        self.report = Report(self.reader.directory, new)
        self.written: dict[str, bytes] = {}  # path in the new tree -> contents
        self.directories: set[str] = set()  # paths in the new tree that are written to later
        self.settings: list[str] = []  # keys that become settings

    def write(self) -> Report:
        lines = [f"# Imported from {self.reader.directory}, which `fixgw config import` did not change.", ""]
        lines += self._database()
        lines += self._initial()
        if "auto start" in self.content:
            lines.append(f"auto start: {flow(self.content['auto start'])}")
        lines += self._code()
        lines += ["", "connections:" if self.content.get("connections") else "connections: {}"]
        for name, value in (self.content.get("connections") or {}).items():
            lines += self._connection(name, value)
        if logging := self.content.get("logging"):
            lines += ["", "logging:", *block(self._moved(logging, copy=False), "  ")]
        self.written[configuration.NAME] = ("\n".join(lines) + "\n").encode()
        for name, data in self.written.items():
            state.replace(self.new / name, data)
            self.report.files.append(self.new / name)
        for name in self.directories:
            (self.new / name).mkdir(parents=True, exist_ok=True)
        self.report.translated += [a.message for a in self.reader.differences]
        try:
            self.report.advice = list(configuration.load(self.new / configuration.NAME).advice)
        except ConfigurationError as error:
            self.report.problems, self.report.advice = error.problems, error.advice
        return self.report

    def _moved(self, value: Any, copy: bool = True) -> Any:
        """`value` with its paths in the old tree replaced by those in the new one. With `copy`, copy the files too."""
        if isinstance(value, dict):
            return {key: self._moved(member, copy) for key, member in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._moved(member, copy) for member in value]
        if not isinstance(value, str) or not value.startswith(f"{self.reader.directory}{os.sep}"):
            return value
        path = Path(os.path.normpath(value))
        try:
            name = path.relative_to(self.reader.directory).as_posix()
        except ValueError:  # {CONFIG}/../elsewhere
            return str(path)
        if copy and path.is_file():
            if path.stat().st_size > MAX_BYTES:
                self.report.dropped.append(f"{path}: stays where it is: more than {MAX_BYTES:,} bytes")
                return value
            self.written.setdefault(name, path.read_bytes())
        elif path.is_dir():
            self.directories.add(name)
        else:
            self.directories.add(os.path.dirname(name))
        return f"{{CONFIG}}/{name}"

    def _code(self) -> Iterator[str]:
        """The user's own plugins: copy those in the old tree, and leave others where they are."""
        old = self.reader.directory
        for found in [*old.glob("*.py"), *(init.parent for init in old.glob("*/__init__.py"))]:
            self._take_code(found)
        names = self.content.get("plugin path") or []
        directories = []
        for directory in (self.reader.locate(name) for name in ([names] if isinstance(names, str) else names)):
            if directory == old:
                continue  # the directory of the main file is searched anyway
            if old in directory.parents:
                self._take_code(directory)
                directories.append(f"{{CONFIG}}/{directory.relative_to(old).as_posix()}")
            else:
                directories.append(str(directory))
        if directories:
            yield f"plugin path: {flow(directories)}"

    def _take_code(self, found: Path) -> None:
        for path in sorted(found.rglob("*")) if found.is_dir() else [found]:
            name = path.relative_to(self.reader.directory).as_posix()
            if path.is_file() and "__pycache__" not in path.parts and path.stat().st_size <= MAX_BYTES:
                if name not in self.written:
                    self.report.taken.append(f"{name}: your own code")
                self.written[name] = path.read_bytes()

    # -- items ---------------------------------------------------------------------------------------------------------

    def _database(self) -> Iterator[str]:
        overlay = self.content.get("database overlay")
        if isinstance(overlay, str):
            overlay = self._overlay(overlay)
        elif isinstance(overlay, list) and all(isinstance(name, str) for name in overlay):
            overlay = [self._overlay(name) for name in overlay]
        if overlay:
            yield f"database overlay: {flow(overlay)}"
        name = self.content.get("database file")
        if not isinstance(name, str):
            return
        if name.startswith("{PACKAGE}"):
            yield f"database file: {flow(name)}"
            return
        document = self._document(name)
        lines = []
        variables = document.get("variables") if isinstance(document, dict) else None
        if variables:
            lines.append(f"variables: {flow(variables)}")
        settings = {d.key for d in self.old.definitions if d.setting}
        kept = {d.key for d in self.old.definitions if d.keep}
        marked = 0
        declared = any(isinstance(entry, dict) and "setting" in entry for entry in _entries(document))
        self.settings = [] if declared else [d.key for d in self.old.definitions if d.setting]
        lines.append("entries:")
        for entry in _entries(document):
            if isinstance(entry, dict) and not declared and _all_of(str(entry.get("key")), settings, self.old):
                entry = {**entry, "setting": True}
                if _all_of(str(entry["key"]), kept, self.old):
                    entry["keep"] = True
                marked += 1
            lines.append(f"  - {flow(entry)}")
        self.written["database.yaml"] = ("\n".join(lines) + "\n").encode()
        self.report.taken.append(counted(len(self.old.definitions), "item") + ", in the same order")
        if marked:
            self.report.translated.append(
                f"database entries that now have `setting: yes`: {marked}. The pilot sets them, so they are good "
                "before anything writes them, and never bad"
            )
        yield "database file: database.yaml"

    def _overlay(self, name: str) -> str:
        """Copy a file with changes to the definition, and what it includes, into the new tree. Return its new name."""
        if not name or name.startswith("{PACKAGE}"):
            return name
        target = self._free("overlay.yaml")
        self.written[target] = ("\n".join(block(self._document(name), "")) + "\n").encode()
        return target

    def _document(self, name: str) -> Any:
        return self.plain.read(self.plain.locate(name))[0]

    def _initial(self) -> Iterator[str]:
        names = self.content.get("initialization files") or []
        files = []
        if self.settings:
            values = dict(self.old.initial)
            lines = [format_initial(key, values[key]) for key in self.settings]
            self.written["initial/settings.ini"] = ("\n".join(lines) + "\n").encode()
            files.append("initial/settings.ini")
        for name in [names] if isinstance(names, str) else names:
            if name.startswith("{PACKAGE}"):
                files.append(name)
                continue
            path = self.plain.locate(name)
            text = self.plain.text(path)
            if text is None:
                self.report.dropped.append(f"{path}: cannot be read")
                continue
            target = self._free(f"initial/{path.name}")
            self.written[target] = self._corrected(path, text).encode()
            files.append(target)
        self.report.taken.append(f"{counted(len(self.old.initial), 'initial value')}")
        if files or "initialization files" in self.content:
            yield f"initialization files: {flow(files)}"

    def _corrected(self, path: Path, text: str) -> str:
        """The lines of a file with initial values: those out of range are clamped, wrong ones become comments."""
        lines = text.splitlines()
        wrong = {p.line: p.message for p in self.reader.problems if p.file == str(path)}
        beyond: dict[int, list[Advice]] = {}
        for advice in self.reader.advice:
            if advice.file == str(path) and advice.instead:
                beyond.setdefault(advice.line, []).append(advice)
        for number, message in wrong.items():
            if 0 < number <= len(lines):
                self.report.dropped.append(f"{path.name}:{number}: {message}")
                lines[number - 1] = f"# {lines[number - 1]}  # {message}"
        for number, found in beyond.items():
            if len({a.instead for a in found}) == 1 and number not in wrong:
                key = lines[number - 1].partition("=")[0].rstrip()
                self.report.translated.append(f"{path.name}:{number}: {found[0].message}")
                lines[number - 1] = f"{key} = {found[0].instead}  # {found[0].message}"
        return "\n".join(lines) + "\n"

    def _free(self, name: str) -> str:
        """`name`, with a number added if it is already taken."""
        stem, dot, ending = name.rpartition(".")
        number = 2
        while name in self.written:
            name = f"{stem}-{number}{dot}{ending}"
            number += 1
        return name

    # -- connections ---------------------------------------------------------------------------------------------------

    def _connection(self, name: Any, value: Any) -> Iterator[str]:
        loaded = next((c for c in self.old.connections if c.name == name), None)
        yield ""
        if value is None or value == {}:
            yield from self._left_out(name, value, "it is empty")
        elif not isinstance(name, str):
            yield from self._left_out(name, value, f"the name of a connection must be text, not {described(name)}")
        elif not isinstance(value, dict):
            yield from self._left_out(name, value, f"expected a mapping, got {described(value)}")
        elif loaded is not None:
            yield from self._loaded(loaded, value)
        elif name in self.old.refused:
            yield from self._left_out(name, value, *(p.message for p in self.old.refused[name]))
        else:
            yield from self._unloaded(name, value)

    def _loaded(self, connection: Connection, value: dict[Any, Any]) -> Iterator[str]:
        own = {k: v for k, v in connection.options.items() if k != "CONFIGPATH"}
        kind = connection.plugin.Options
        for option in options.files(kind) if kind is not None else ():
            if own.get(option):
                own[option] = self._copy(Path(own[option]), connection.contents.get(option))
        own = self._moved(own)
        notes = [a.message for a in connection.translated]
        if connection.module == NETFIX and (note := _let_in(own, self.networks)):
            notes.append(note)
        self.report.taken.append(f"{connection.name}: {connection.module}")
        self.report.translated += [f"{connection.name}: {note}" for note in notes]
        yield from _entry(connection.name, True, connection.module, value, own, notes)

    def _unloaded(self, name: str, value: dict[Any, Any]) -> Iterator[str]:
        """A connection that is disabled, or whose module is not available."""
        module = str(value.get("module"))
        own = {k: v for k, v in value.items() if k not in COMMON}
        own = self._moved(own)
        reason = incumbent.absent(module)
        if reason and not _is_there(module):
            yield from self._left_out(name, value, f"module {module}: {reason}")
            return
        ours, case = _translated(module, own, self.at["connections"][name])
        if case is not None and case.problems:
            yield from self._left_out(name, value, *(p.message for p in case.problems))
            return
        self.report.taken.append(f"{name}: {ours}, disabled")
        notes = [a.message for a in case.advice] if case else []
        yield from _entry(name, False, ours, value, case.options if case else own, notes)

    def _left_out(self, name: Any, value: Any, *why: str) -> Iterator[str]:
        self.report.dropped += [f"{flow(name)}: {reason}" for reason in why]
        yield from (f"  # {printable(reason)}" for reason in why)
        for line in block({name: value}, "  "):
            yield f"  # {line[2:]}"

    def _copy(self, path: Path, content: Any) -> str:
        """Copy a file that an option names, and what it includes, into the new tree. Return its new name."""
        try:
            name = path.relative_to(self.reader.directory).as_posix()
        except ValueError:
            name = path.name
        data = path.read_bytes()
        if self.written.get(name) == data:  # two connections share it
            return name
        name = self._free(name)
        included = b"include" in data and isinstance(content, dict)
        self.written[name] = ("\n".join(block(content, "")) + "\n").encode() if included else data
        return name


def _let_in(own: dict[Any, Any], networks: Sequence[str]) -> str:
    """Let `networks` use a NetFIX server on all interfaces. Return the advice for the user."""
    if own.get("type") == "client" or own.get("host") not in EVERY_INTERFACE or {"allow", "write"} & own.keys():
        return ""
    if networks:
        own["allow"] = own["write"] = [*access.LOOPBACK, *networks]
        who = f"here only this computer and {_and(networks)} may"
        return f"host: {own['host']} lets everybody connect and write there; {who}"
    near = access.own_networks() or ["192.168.1.0/24"]
    return (
        f"host: {own['host']} lets everybody connect and write there; here only this computer may, until `allow` and "
        f"`write` name other networks, such as {_and(near)}: `fixgw config import --allow {','.join(near)}` writes them"
    )


def _and(words: Sequence[str]) -> str:
    return " and ".join(words)


def _is_there(module: str) -> bool:
    try:
        loader.load_plugin(module)
    except BadModule as error:
        return not error.absent
    return True


def _translated(module: str, own: dict[Any, Any], at: Positions) -> tuple[str, incumbent.Case | None]:
    """Our module, and its options if they had to be translated."""
    ours = module
    try:
        plugin = loader.load_plugin(module)
    except BadModule as error:
        known = incumbent.known(module) if error.absent else None
        if known is None:
            return module, None
        ours = known.ours
    else:
        if plugin.Options is None or not any(options.problems(own, plugin.Options, at)):
            return module, None
    return ours, incumbent.translate(module, ours, own, at)


def _entries(document: Any) -> list[Any]:
    entries = document.get("entries") if isinstance(document, dict) else document
    return entries if isinstance(entries, list) else []


def _all_of(key: str, settings: set[str], old: Configuration) -> bool:
    """Whether all items that the key of an entry expands to are among `settings`."""
    base = key.rstrip("abcdefghijklmnopqrstuvwxyz")
    pattern = re.compile(re.escape(base) + r"\d+" * (len(key) - len(base)))
    found = [d.key for d in old.definitions if pattern.fullmatch(d.key)]
    return bool(found) and settings.issuperset(found)


def _entry(
    name: str, load: bool, module: str, value: dict[Any, Any], own: Mapping[Any, Any], notes: list[str]
) -> Iterator[str]:
    """A connection in the main file."""
    common = {k: v for k, v in value.items() if k in COMMON and k not in ("load", "module") and v is not None}
    yield f"  {flow(name)}:"
    yield from (f"    # {printable(note)}" for note in notes)
    yield f"    load: {flow(load)}"
    yield f"    module: {flow(module)}"
    yield from block({**common, **own}, "    ") if common or own else ()
