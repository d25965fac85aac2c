"""The exceptions of the gateway.

    FixgwError
    ├── UnknownKey (KeyError)              no such item or aux value
    ├── BadValue (ValueError)              a value that an item does not accept
    ├── ConfigurationError (ValueError)    all `Problem`s of a configuration
    ├── BadModule (ImportError)            a plugin's module is missing or unusable
    ├── BadPlugin (TypeError)              a plugin's class cannot be used as it is
    ├── MissingLibrary (ImportError)       an optional library is not installed
    ├── DeviceError (OSError)              a device is missing or was lost
    ├── PluginFail (RuntimeError)          a plugin could not stop cleanly
    └── NetfixError
        ├── NotConnected (ConnectionError) no gateway at the other end
        ├── RequestTimeout (TimeoutError)  the gateway did not answer in time
        └── Refused (ValueError)           the gateway answered with an error code

Each leaf also derives from the matching built-in exception: ``except KeyError`` catches UnknownKey too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

MAX_MESSAGE_CHARS = 1000  # of a problem, as it is shown: names in a file may have any length


def printable(text: str) -> str:
    """One line of `text` from somewhere else, safe for a terminal.

    Text from a file, a gateway, a node or a plugin may contain escape sequences, which a terminal would obey, or
    characters that reverse the rest of the line. They are shown as in Python's source text.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class FixgwError(Exception):
    """Root of the tree."""


class UnknownKey(FixgwError, KeyError):
    """There is no such item or aux value; `key` is the name that was requested.

    The message suggests the nearest of the `known` names. The search takes a millisecond, and a client may request many
    keys that do not exist, so it runs only when the message is printed.
    """

    def __init__(self, key: str, known: Iterable[str] = ()) -> None:
        self.key = key
        self.known = known if isinstance(known, Collection) else tuple(known)
        super().__init__(key)

    def __str__(self) -> str:
        return f"no item {self.key!r}{did_you_mean(self.key, self.known)}"


class BadValue(FixgwError, ValueError):
    """A value that an item does not accept; nothing was stored.

    `reason` is ``"type"`` (cannot be converted), ``"number"`` (NaN or infinite), ``"text"`` (too long, or with
    control characters) or ``"range"`` (outside the range of a frame on a bus).
    """

    def __init__(self, key: str, message: str, reason: str = "type") -> None:
        self.key = key
        self.reason = reason
        super().__init__(f"{key}: {message}")


class Problem(NamedTuple):
    """One problem in a configuration. Lines and columns count from 1; 0 means the whole file.

    Its message repeats what is in the files; shown as text, it is not too long and safe for a terminal.
    """

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        message = self.message
        if len(message) > MAX_MESSAGE_CHARS:
            message = message[: MAX_MESSAGE_CHARS - 3] + "..."
        return printable(f"{place}: {message}")


class Advice(NamedTuple):
    """An accepted setting that has another meaning here. Positions as in `Problem`.

    `instead` is the value used, if it differs from the written one.
    """

    file: str
    line: int
    column: int
    message: str
    instead: str = ""

    def __str__(self) -> str:
        return str(Problem(self.file, self.line, self.column, f"advice: {self.message}"))


class ConfigurationError(FixgwError, ValueError):
    """The configuration cannot be used; `problems` lists all reasons, in file order. `advice` is about the rest."""

    def __init__(self, problems: Sequence[Problem], advice: Sequence[Advice] = ()) -> None:
        self.problems = list(problems)
        self.advice = list(advice)
        super().__init__("\n".join(map(str, self.problems)))


class BadModule(FixgwError, ImportError):
    """A plugin's module is missing, cannot be imported, or contains no plugin; `reason` has the details.

    `absent` says that there is no plugin of that name, in contrast to one that cannot be used.
    """

    def __init__(self, module: str, reason: str, absent: bool = False) -> None:
        self.module = module
        self.reason = reason
        self.absent = absent
        super().__init__(reason)


class BadPlugin(FixgwError, TypeError):
    """A plugin's class cannot be used as it is; the message says what its author has to change."""


class MissingLibrary(FixgwError, ImportError):
    """A library is not installed. `fix` is the command that installs it where this gateway is installed, with the
    `extra` that includes it; empty for a library that is not one of ours."""

    def __init__(self, library: str, extra: str = "") -> None:
        from fixgw.extras import install_hint

        self.library = library
        self.extra = extra
        self.fix = install_hint(library, extra)
        super().__init__(f"{library} is not installed" + (f": {self.fix}" if self.fix else ""))


class DeviceError(FixgwError, OSError):
    """A device is missing, was lost or does not answer. Try again later."""


class PluginFail(FixgwError, RuntimeError):
    """A plugin could not stop cleanly: part of it still runs, and ends only with the process."""


class NetfixError(FixgwError):
    """A request to a gateway failed."""


class NotConnected(NetfixError, ConnectionError):
    """There is no connection to the gateway."""


class RequestTimeout(NetfixError, TimeoutError):
    """The gateway did not answer in time."""


class Refused(NetfixError, ValueError):
    """The gateway answered with an error; `code` is its three digits (``"001"`` unknown key, ``"002"`` subscription or
    flag, ``"003"`` value, ``"004"`` command, ``"005"`` permission)."""

    MEANINGS = {
        "001": "unknown key",
        "002": "no such flag, or wrong subscription",
        "003": "bad or missing value",
        "004": "unknown command",
        "005": "not permitted",
    }

    def __init__(self, request: str, code: str, advice: str = "") -> None:
        self.request = request
        self.code = code
        meaning = self.MEANINGS.get(code, "error " + code)
        super().__init__(f"{request}: {meaning}: {advice}" if advice else f"{request}: {meaning}")


def counted(n: int, what: str) -> str:
    """``"1 problem"``, ``"2 problems"``."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def nearest(name: str, known: Iterable[str]) -> str:
    """The nearest known name; empty if there is none."""
    from difflib import get_close_matches

    if len(name) > 100:  # the time for the search grows with the square of the length
        return ""
    folded: dict[str, str] = {}
    for k in sorted({str(k) for k in list(known)}):
        folded.setdefault(k.lower(), k)
    near = get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return folded[near[0]] if near else ""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The nearest known name, as the end of a sentence; empty if there is none."""
    near = nearest(name, known)
    return f" (did you mean {near!r}?)" if near else ""
