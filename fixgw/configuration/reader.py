"""Reads YAML, keeps the file, line and column of every value, and collects all problems instead of the first only.

The files may use these additions to YAML:

- ``include: FILE`` (or a list of files) in a mapping merges the files' mappings there. Entries beside it win, mapping
  by mapping; of several files, later ones win.
- ``- include: FILE`` in a list inserts the file's ``items:`` there.
- FILE is a path relative to the directory of the including file, or else of the main file, or a name from ``includes:``
  in ``preferences.yaml``: the first that exists. A file without content includes nothing.
- ``preferences.yaml`` beside the main file has ``includes:`` (name -> file) and ``enabled:`` (name -> yes or no);
  ``preferences.yaml.custom`` overrides it.
- ``{CONFIG}`` in a string is the directory of the main file; a `Reader` may define more names.

Scalars are those of YAML 1.1 as PyYAML reads them, except that dates and base-60 numbers stay text and ``1e6`` is a
number. Size, number of values, depth and number of files are limited.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from stat import S_ISREG
from typing import Any, NoReturn, TypeVar

import yaml

from fixgw.errors import Advice, Problem, did_you_mean
from fixgw.kit.update import FALSE_WORDS, TRUE_WORDS

__all__ = ["Positions", "Reader", "described", "instead"]

MAX_BYTES = 2_000_000  # of one file
MAX_FILES = 200
MAX_CHAIN = 20  # files that include one another
MAX_VALUES = 200_000  # in all files together, counting every alias
MAX_DEPTH = 50

_FindingT = TypeVar("_FindingT", Problem, Advice)

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Given(threading.local):
    texts: Mapping[str, str] = {}


_given = _Given()


@contextmanager
def instead(texts: Mapping[Path, str]) -> Iterator[None]:
    """Within this context, readers in this thread take these texts for the contents of the files at these paths."""
    before, _given.texts = _given.texts, {os.path.realpath(path): text for path, text in texts.items()}
    try:
        yield
    finally:
        _given.texts = before


class Positions:
    """The `file`, `line` and `column` (from 1) of a value, and the positions of everything in it.

    ``positions["port"]`` or ``positions[3]`` is the position of that member; `keys` has those of a mapping's keys.
    `partial` is True if some of the value could not be read, which has been reported.
    """

    __slots__ = ("_members", "column", "file", "keys", "line", "partial")

    def __init__(self, file: str, line: int = 0, column: int = 0) -> None:
        self.file = file
        self.line = line
        self.column = column
        self.keys: dict[Any, Positions] = {}
        self._members: dict[Any, Positions] = {}
        self.partial = False

    def __getitem__(self, key: Any) -> Positions:
        return self._members[key]

    def __contains__(self, key: Any) -> bool:
        return key in self._members

    def at(self, path: Iterable[Any]) -> Positions:
        """The position at `path`, or of the last member on the way that exists. Indices may be text."""
        here = self
        for step in path:
            members = here._members
            if step not in members and isinstance(step, str) and step.isdecimal():
                step = int(step)
            if step not in members:
                break
            here = members[step]
        return here

    def entry(self, key: Any) -> Positions:
        """``self[key]`` with the position of the key, for a problem with the whole of what `key` names."""
        member, key_at = self[key], self.keys[key]
        entry = Positions(key_at.file, key_at.line, key_at.column)
        entry.keys, entry._members, entry.partial = member.keys, member._members, member.partial
        return entry

    def problem(self, message: str) -> Problem:
        return Problem(self.file, self.line, self.column, message)

    def advice(self, message: str, instead: str = "") -> Advice:
        return Advice(self.file, self.line, self.column, message, instead)

    def renamed(self, names: Mapping[Any, Any]) -> Positions:
        """The same, for a mapping whose keys have other names since it was read."""
        other = Positions(self.file, self.line, self.column)
        other.keys = {names.get(key, key): at for key, at in self.keys.items()}
        other._members = {names.get(key, key): at for key, at in self._members.items()}
        other.partial = self.partial
        return other

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class _Abandon(Exception):
    """Raised when a file cannot be read any further. The reason has been reported."""


class _Open:
    """A list or mapping that is not yet complete."""

    __slots__ = ("anchor", "key", "key_at", "merges", "positions", "value")

    def __init__(self, value: Any, positions: Positions, anchor: str | None) -> None:
        self.value = value
        self.positions = positions
        self.anchor = anchor
        self.key: Any = _NO_KEY
        self.key_at = positions
        self.merges: list[tuple[Any, Positions]] = []

    @property
    def wants_key(self) -> bool:
        return self.key is _NO_KEY and isinstance(self.value, dict)


_NO_KEY = object()
_MERGE = object()  # the key "<<"


class Reader:
    """Reads the files of one configuration. Never raises on their contents; collects `problems` and `advice`.

    In strings, ``{NAME}`` is replaced by its value in `variables`; CONFIG is always one of them. `directory` is that of
    the configuration (CONFIGPATH), if `main` is not its main file but, for example, a plugin's map.
    """

    def __init__(
        self, main: Path | str, variables: Mapping[str, str] | None = None, directory: Path | str | None = None
    ) -> None:
        self.main = Path(os.path.abspath(main))
        self.directory = Path(os.path.abspath(directory)) if directory else self.main.parent
        self.problems: list[Problem] = []
        self.advice: list[Advice] = []
        #: Whether the configuration seems to come from the incumbent, and advice to give in that case.
        self.migrated = False
        self.differences: list[Advice] = []
        #: Every file, in the order in which they were first opened.
        self.files: list[str] = [str(self.main)]
        self.includes: dict[str, str] = {}
        self.enabled: dict[str, bool] = {}
        self._variables = {"{CONFIG}": str(self.directory)}
        self._variables.update((f"{{{name}}}", value) for name, value in (variables or {}).items())
        self._opened = 0
        self._values = 0
        self._stack: list[str] = []  # the files being read, outermost first
        self._depth = 0
        self._read_preferences()

    # -- for callers ---------------------------------------------------------------------------------------------------

    def report(self, at: Positions, message: str) -> None:
        self.problems.append(at.problem(message))

    def sorted_problems(self) -> list[Problem]:
        """All problems, without repetition, in the order of the files and of their lines."""
        return self._sorted(self.problems)

    def sorted_advice(self) -> list[Advice]:
        """The same for `advice`."""
        return self._sorted(self.advice)

    def _sorted(self, found: Iterable[_FindingT]) -> list[_FindingT]:
        order = {file: index for index, file in enumerate(self.files)}
        return sorted(dict.fromkeys(found), key=lambda p: (order.get(p.file, len(order)), p.line, p.column))

    def locate(self, name: str, at: Positions | None = None) -> Path:
        """Find the file that `name` means; `at` is where the name occurs: the file may be beside that one."""
        folders = [self.directory] if at is None else [Path(at.file).parent, self.directory]
        paths = [folder / name for folder in folders]
        if name in self.includes:
            paths += [folder / self.includes[name] for folder in reversed(folders)]
        there = [os.path.abspath(path) for path in paths if os.path.exists(path)]
        if not there:
            return Path(os.path.abspath(self.directory / self.includes.get(name, name)))
        for other in there[1:]:
            if at is not None and os.path.realpath(other) != os.path.realpath(there[0]):
                self.advice.append(at.advice(f"{name}: {there[0]} is used, although there is {other} too"))
                break
        return Path(there[0])

    def text(self, path: Path, at: Positions | None = None) -> str | None:
        """Read the text of a file. Returns None if that fails, and reports it at `at`, where the file is named."""
        file = str(path)
        here = at or Positions(file)
        self._opened += 1
        if self._opened > MAX_FILES:
            if self._opened == MAX_FILES + 1:
                self.report(here, f"more than {MAX_FILES} files are included")
            return None
        if file not in self.files:
            self.files.append(file)
        if _given.texts and (given := _given.texts.get(os.path.realpath(file))) is not None:
            return given
        try:
            with open(path, "rb", opener=_open_at_once) as stream:
                if not S_ISREG(os.fstat(stream.fileno()).st_mode):
                    raise OSError(None, "is not a file")
                data = stream.read(MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self.report(here, f"cannot read {file}: {reason}" if at else f"cannot be read: {reason}")
            return None
        if len(data) > MAX_BYTES:
            self.report(Positions(file), f"is larger than {MAX_BYTES:,} bytes")
            return None
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            before = data[: error.start]
            line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
            self.report(Positions(file, line, column), f"is not UTF-8 text: byte 0x{data[error.start]:02x}")
            return None

    def read(self, path: Path, at: Positions | None = None) -> tuple[Any, Positions]:
        """Read a YAML file and what it includes. Returns its value, None if it is empty, and its positions.

        `at` is where the file is named; if it cannot be read, that is reported there. If a file cannot be read in full,
        its positions are `partial`.
        """
        file = str(path)
        real = file if "\0" in file else os.path.realpath(file)
        failed = Positions(file)
        failed.partial = True
        if len(self._stack) >= MAX_CHAIN:
            self.report(at or failed, f"more than {MAX_CHAIN} files, each included by the one before")
            return None, failed
        if real in self._stack:
            self.report(at or failed, f"include loop: {' -> '.join(os.path.basename(f) for f in [*self._stack, real])}")
            return None, failed
        text = self.text(path, at)
        if text is None:
            return None, failed
        self._stack.append(real)
        try:
            return self._parse(file, text)
        except _Abandon:
            return None, failed
        finally:
            self._stack.pop()

    # -- preferences ---------------------------------------------------------------------------------------------------

    def _read_preferences(self) -> None:
        preferences: tuple[Any, Positions] = {}, Positions("")
        for name in ("preferences.yaml", "preferences.yaml.custom"):
            path = self.directory / name
            if os.path.lexists(path):
                value, at = self.read(path)
                if isinstance(value, dict):
                    preferences = _overlay(preferences, (value, at))
                elif value is not None:
                    self.report(at, f"expected a mapping with includes: and enabled:, got {described(value)}")
        known: dict[str, tuple[type, str, dict[str, Any]]] = {
            "includes": (str, "the path of a file", self.includes),
            "enabled": (bool, "yes or no", self.enabled),
        }
        value, at = preferences
        for section, entries in value.items():
            if section not in known:
                if meant := did_you_mean(str(section), known):
                    self.report(at.keys[section], f"unknown key {section!r}{meant}")
                else:
                    self.advice.append(at.keys[section].advice(f"{section}: has no effect"))
                continue
            kind, words, target = known[section]
            if entries is not None and not isinstance(entries, dict):
                self.report(at[section], f"{section}: expected a mapping, got {described(entries)}")
                continue
            for name, entry in (entries or {}).items():
                if kind is bool and isinstance(entry, str) and entry.lower() in TRUE_WORDS | FALSE_WORDS:
                    entry = entry.lower() in TRUE_WORDS
                if isinstance(entry, kind):
                    target[str(name)] = entry
                else:
                    self.report(at[section][name], f"{name}: expected {words}, got {described(entry)}")

    # -- parsing -------------------------------------------------------------------------------------------------------

    def _parse(self, file: str, text: str) -> tuple[Any, Positions]:
        """Build the value in one pass over the parser's events, reading includes on the way."""
        anchors: dict[str, tuple[Any, Positions] | None] = {}
        stack: list[_Open] = []
        result: tuple[Any, Positions] | None = None
        base = self._depth
        documents = 0
        try:
            loader = _Loader(text)
            while True:
                event = loader.get_event()
                kind = type(event)
                if kind in _NO_VALUE:
                    if kind is yaml.StreamEndEvent:
                        break
                    documents += kind is yaml.DocumentStartEvent
                    if documents == 2:
                        self._abandon(_mark(file, event), "a second document: a file may have only one")
                    continue
                if kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                    frame = stack.pop()
                    value, at = frame.value, frame.positions
                    self._depth = base + len(stack)
                    if kind is yaml.MappingEndEvent:
                        if frame.merges:
                            value, at = self._merge(frame)
                        # the list handles an entry that is only `- include:`
                        if "include" in value and not (len(value) == 1 and stack and isinstance(stack[-1].value, list)):
                            value, at = self._include(value, at)
                    anchor = frame.anchor
                else:
                    at = _mark(file, event)
                    anchor = event.anchor
                    self._spend(at, 1)
                    if kind is yaml.AliasEvent:
                        value, at = self._alias(anchors, at, anchor)
                        anchor = None
                    elif kind is yaml.ScalarEvent:
                        value = self._scalar(event, at, bool(stack) and stack[-1].wants_key)
                    else:
                        if event.tag not in (None, "!", _TAG + "map", _TAG + "seq"):
                            self.report(at, f"the tag {event.tag} is not supported")
                        if anchor is not None:
                            anchors[anchor] = None  # cannot be used inside itself
                        stack.append(_Open({} if kind is yaml.MappingStartEvent else [], at, anchor))
                        self._depth = base + len(stack)
                        continue
                if anchor is not None and value is not _MERGE:
                    anchors[anchor] = value, at
                if not stack:
                    result = value, at
                else:
                    self._attach(stack[-1], value, at)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            at = Positions(file, mark.line + 1, mark.column + 1) if mark else Positions(file, 1, 1)
            self._abandon(*_syntax(error, at, text))
        except yaml.reader.ReaderError as error:
            self._abandon(_position_of_control(file, text), f"not YAML: {error.reason}")
        finally:
            self._depth = base
        return result or (None, Positions(file, 1, 1))

    def _abandon(self, at: Positions, message: str) -> NoReturn:
        self.report(at, message)
        raise _Abandon

    def _spend(self, at: Positions, values: int, depth: int = 0) -> None:
        self._values += values
        if self._values > MAX_VALUES:
            self._abandon(at, f"more than {MAX_VALUES:,} values, counting aliases and includes")
        if self._depth + depth > MAX_DEPTH:
            self._abandon(at, f"nested more than {MAX_DEPTH} levels deep")

    def _alias(
        self, anchors: Mapping[str, tuple[Any, Positions] | None], at: Positions, name: str
    ) -> tuple[Any, Positions]:
        target = anchors.get(name)
        if target is None:
            wrong = (
                "refers to something that contains it"
                if name in anchors
                else "is not defined before this: put it in quotes if it is text"
            )
            self._abandon(at, f"*{name} {wrong}")
        value, where = target
        if isinstance(value, (dict, list)):
            values, deep = _measure(value)
            self._spend(at, values, deep)
            value = _copy(value)
        return value, where

    def _scalar(self, event: Any, at: Positions, is_key: bool) -> Any:
        tag = event.tag
        if tag is None or tag == "!":
            if not event.implicit[0]:  # quoted, or a block
                return self._substitute(event.value, is_key)
            if event.value == "<<" and is_key:
                return _MERGE
            value = _resolve(event.value)
            return self._substitute(value, is_key) if type(value) is str else value
        if tag == _TAG + "str":
            return self._substitute(event.value, is_key)
        value = _resolve(event.value)
        if tag == _TAG + "float" and type(value) is int:
            return float(value)
        if tag != _TAG + _TAG_OF[type(value)]:
            self.report(at, f"the tag {tag} is not supported here")
        return value

    def _substitute(self, text: str, is_key: bool) -> str:
        if "{" in text and not is_key:
            for name, value in self._variables.items():
                text = text.replace(name, value)
        return text

    def _attach(self, frame: _Open, value: Any, at: Positions) -> None:
        """Add a complete value to the list or mapping that contains it."""
        if isinstance(frame.value, list):
            if isinstance(value, dict) and len(value) == 1 and "include" in value:
                self._splice(frame, value, at)
            else:
                frame.positions._members[len(frame.value)] = at
                frame.value.append(value)
        elif frame.key is _NO_KEY:
            if isinstance(value, (dict, list)):
                self.report(at, f"a key must be text or a number, not {described(value)}")
                value = str(at)
            frame.key, frame.key_at = value, at
        else:
            key, key_at = frame.key, frame.key_at
            frame.key = _NO_KEY
            if key is _MERGE:
                frame.merges.append((value, at))
                return
            if key in frame.value:
                first = frame.positions.keys[key].line
                self.report(key_at, f"{key!r} occurs twice; the first is in line {first}")
                return
            frame.value[key] = value
            frame.positions.keys[key] = key_at
            frame.positions._members[key] = at

    def _merge(self, frame: _Open) -> tuple[Any, Positions]:
        """Handle YAML's ``<<: *anchor``, which merges one level; entries of the mapping itself win."""
        value, at = frame.value, frame.positions
        for merged, where in frame.merges:
            members = [(m, where[i]) for i, m in enumerate(merged)] if isinstance(merged, list) else [(merged, where)]
            for member, member_at in members:
                if not isinstance(member, dict):
                    self.report(where, f"<<: expected a mapping, got {described(member)}")
                    continue
                for key, entry in member.items():
                    if key not in value:
                        value[key] = entry
                        at.keys[key] = member_at.keys[key]
                        at._members[key] = member_at[key]
        return value, at

    # -- includes ------------------------------------------------------------------------------------------------------

    def _included(self, names: Any, at: Positions) -> Iterable[tuple[Any, Positions]]:
        """Yield the values of the files that an ``include`` names; None for a file that cannot be read."""
        if names is None:
            return
        several = isinstance(names, list)
        for index, name in enumerate(names if several else [names]):
            where = at[index] if several else at
            if isinstance(name, str) and name and name.isprintable():
                yield self.read(self.locate(name, where), where)
            else:
                self.report(where, f"include: expected the name of a file, got {described(name)}")

    def _include(self, own: dict[Any, Any], at: Positions) -> tuple[dict[Any, Any], Positions]:
        names, where = own.pop("include"), at._members.pop("include")
        at.keys.pop("include")
        merged: tuple[dict[Any, Any], Positions] = {}, Positions(at.file, at.line, at.column)
        for value, value_at in self._included(names, where):
            if isinstance(value, dict):
                merged = _overlay(merged, (value, value_at))
            elif value is not None or value_at.partial:
                merged[1].partial = True
                if not value_at.partial:
                    self.report(where, f"{os.path.basename(value_at.file)}: expected a mapping, got {described(value)}")
        for key, entry in own.items():
            theirs = merged[0].get(key)
            if isinstance(entry, dict) and isinstance(theirs, dict) and (more := [k for k in theirs if k not in entry]):
                words = f"{key}: is merged with what is included, which adds {', '.join(map(str, more))}"
                self.differences.append(at.keys[key].advice(f"{words}; the incumbent replaces it whole"))
        return _overlay(merged, (own, at))

    def _splice(self, frame: _Open, entry: dict[Any, Any], at: Positions) -> None:
        for value, value_at in self._included(entry["include"], at["include"]):
            if not value_at.partial and (value is None or value == {"items": None}):
                continue
            if not isinstance(value, dict) or not isinstance(value.get("items"), list) or len(value) > 1:
                frame.positions.partial = True
                if not value_at.partial:
                    name = os.path.basename(value_at.file)
                    self.report(at["include"], f"{name}: expected a mapping with a list 'items:' and nothing else")
                continue
            items_at = value_at["items"]
            frame.positions.partial |= items_at.partial
            for index, item in enumerate(value["items"]):
                frame.positions._members[len(frame.value)] = items_at[index]
                frame.value.append(item)


_TAG = "tag:yaml.org,2002:"
_TAG_OF = {str: "str", int: "int", float: "float", bool: "bool", type(None): "null"}
_NO_VALUE = (yaml.StreamStartEvent, yaml.StreamEndEvent, yaml.DocumentStartEvent, yaml.DocumentEndEvent)

_INT = re.compile(r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0o[0-7_]+|0[0-7_]*|[1-9][0-9_]*)\Z")
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?\Z")
_WORDS: dict[str, Any] = {"": None, "~": None}
for _words, _value in (("null", None), ("true yes on", True), ("false no off", False)):
    _WORDS.update((form, _value) for w in _words.split() for form in (w, w.capitalize(), w.upper()))
for _word in ("inf", "Inf", "INF"):
    _WORDS |= {f".{_word}": float("inf"), f"+.{_word}": float("inf"), f"-.{_word}": float("-inf")}
_WORDS |= dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan"))


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # do not wait for a FIFO


@lru_cache(4096)
def _resolve(text: str) -> Any:
    """Convert a plain scalar to null, bool, int, float or text."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    try:
        if _INT.match(text):
            plain = text.replace("_", "")
            octal = plain.lstrip("+-")
            return int(plain, 8 if len(octal) > 1 and octal[0] == "0" and octal[1] not in "box" else 0)
        if _FLOAT.match(text):
            return float(text.replace("_", ""))
    except ValueError:  # thousands of digits, or none
        pass
    return text


def _mark(file: str, event: Any) -> Positions:
    mark = event.start_mark
    return Positions(file, mark.line + 1, mark.column + 1)


def _measure(value: Any) -> tuple[int, int]:
    """The number of values in `value`, and their depth."""
    if not isinstance(value, (dict, list)):
        return 1, 0
    members = [_measure(v) for v in (value.values() if isinstance(value, dict) else value)]
    return 1 + sum(n for n, _ in members), 1 + max((d for _, d in members), default=0)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _copy(v) for k, v in value.items()}
    return [_copy(v) for v in value] if isinstance(value, list) else value


def _overlay(base: tuple[Any, Positions], over: tuple[Any, Positions]) -> tuple[Any, Positions]:
    """Merge mapping `over` into mapping `base`, recursively. `over` replaces anything that is not a mapping."""
    (value, base_at), (added, over_at) = base, over
    value = dict(value)
    at = Positions(over_at.file, over_at.line, over_at.column)
    at.keys = {**base_at.keys, **over_at.keys}
    at._members = {**base_at._members, **over_at._members}
    at.partial = base_at.partial or over_at.partial
    for key, entry in added.items():
        if isinstance(entry, dict) and isinstance(value.get(key), dict):
            value[key], at._members[key] = _overlay((value[key], base_at[key]), (entry, over_at[key]))
        else:
            value[key] = entry
    return value, at


def _syntax(error: yaml.MarkedYAMLError, at: Positions, text: str) -> tuple[Positions, str]:
    """Explain a YAML syntax error in words that a builder understands, and find its position."""
    problem = error.problem or "cannot be read"
    lines = text.split("\n")
    line = lines[at.line - 1] if at.line <= len(lines) else ""
    if line[at.column - 1 : at.column] == "\t":
        return at, "a tab where YAML does not allow one: indent with spaces"
    start = error.context_mark
    opened = f", opened in line {start.line + 1}," if start else ""
    if "mapping values are not allowed" in problem:
        return _misplaced_colon(at, lines)
    if "cannot start any token" in problem:
        return at, f"a value cannot begin with {line[at.column - 1 : at.column]!r}: put it in quotes"
    if error.context in ("while scanning an alias", "while scanning an anchor"):
        return at, f"a word cannot begin with {'*' if 'alias' in error.context else '&'!r}: put it in quotes"
    if "could not find expected ':'" in problem and start and "".join(lines[start.line : start.line + 1]).strip():
        return _missing_colon(at.file, start.line, lines[start.line])
    if "escape" in problem:
        return at, "in double quotes a backslash has a special meaning: use single quotes"
    if "block sequence entries are not allowed" in problem:
        return at, "a list entry ('- ...') begins on its own line, below its key"
    if "block scalar" in (error.context or ""):
        return at, "after '|' or '>' the text begins in the next line; put a word that begins with it in quotes"
    if "block mapping" in (error.context or "") and line[: at.column - 1].rstrip()[-1:] in ("'", '"'):
        return at, "text after the quote that closes the value: put all of it in quotes, or none"
    if "quoted scalar" in (error.context or ""):
        return at, f"a quote{opened} is never closed"
    brace = lines[start.line][start.column : start.column + 1] if start and start.line < len(lines) else ""
    if brace and brace in "[{":
        return at, f"the {brace!r}{opened} is not closed, or a comma is missing before this"
    if "block collection" in (error.context or "") and "block mapping" not in (error.context or ""):
        return at, "expected another list entry ('- ...'): this line is indented like the list above it"
    if "block mapping" in (error.context or ""):
        if line[at.column - 1 : at.column + 1] == "- ":
            return at, "a list entry ('- ...') among keys: indent it, below the key to which the list belongs"
        before = _line_before(at, lines)
        if before and ":" not in before[1] and not before[1].lstrip().startswith("- "):
            return _missing_colon(at.file, *before)
        return at, f"this line's indentation, {_spaces(line)}, matches no line above it"
    return at, f"not YAML: {error.context}: {problem}" if error.context else f"not YAML: {problem}"


def _misplaced_colon(at: Positions, lines: list[str]) -> tuple[Positions, str]:
    """Explain a colon where no mapping can begin. Usually a colon is missing in the line before."""
    line = lines[at.line - 1] if at.line <= len(lines) else ""
    key, colon, value = line.partition(": ")
    if colon and len(key) < at.column - 1:
        return at, f"a second ': ' in one line: put the value in quotes, {key.strip()}: {value.strip()!r}"
    if before := _line_before(at, lines):
        words = before[1]
        if ":" not in words:
            return _missing_colon(at.file, *before)
        if _indent(line) > _indent(words):
            deeper = f"indented deeper than the line before it ({_spaces(words)}), which already has a value"
            return at, deeper
    return at, "a colon is not allowed here"


def _line_before(at: Positions, lines: list[str]) -> tuple[int, str] | None:
    """The number, from 0, and the text of the last line before `at` that has more than a comment."""
    for number in range(min(at.line - 2, len(lines) - 1), -1, -1):
        if words := lines[number].partition("#")[0].rstrip():
            return number, words
    return None


def _missing_colon(file: str, number: int, words: str) -> tuple[Positions, str]:
    key = words.lstrip("- ") or words
    return Positions(file, number + 1, len(words) - len(key) + 1), f"a colon is missing: '{key.split()[0]}:'"


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _spaces(line: str) -> str:
    return f"{_indent(line)} space{'s' * (_indent(line) != 1)}"


_CONTROL = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _position_of_control(file: str, text: str) -> Positions:
    before = _CONTROL.split(text)[0]
    return Positions(file, before.count("\n") + 1, len(before) - before.rfind("\n"))


def described(value: Any) -> str:
    """Describe a value from a configuration: ``"text 'abc'"``."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    try:
        text = repr(value)
    except ValueError:  # more digits than Python converts
        return "a huge number"
    text = text if len(text) <= 50 else text[:47] + "..."
    return f"text {text}" if isinstance(value, str) else f"the number {text}"
