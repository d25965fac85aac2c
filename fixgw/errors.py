"""Everything that the gateway raises on purpose.

    FixgwError
    ├── UnknownKey (KeyError)              no such item or aux value
    ├── BadValue (ValueError)              a value that an item cannot take
    ├── ConfigurationError (ValueError)    one or more `Problem`s, all of them
    ├── BadModule (ImportError)            a plugin's module is missing or of no use
    ├── MissingLibrary (ImportError)       an optional library is not installed
    ├── DeviceError (OSError)              a device is missing, or went away
    ├── PluginFail (RuntimeError)          a plugin could not stop cleanly
    └── NetfixError
        ├── NotConnected (ConnectionError) no gateway at the other end
        ├── RequestTimeout (TimeoutError)  the gateway did not answer in time
        └── Refused (ValueError)           the gateway answered with an error code

Each leaf also inherits the matching builtin, so that both ``except UnknownKey`` and ``except KeyError`` read well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple


class FixgwError(Exception):
    """Root of the tree."""


class UnknownKey(FixgwError, KeyError):
    """No such item or aux value; `key` is what was asked for.

    The nearest of the `known` names is looked for when the message is wanted: a client may ask for much that does not
    exist, and the search takes a millisecond.
    """

    def __init__(self, key: str, known: Iterable[str] = ()) -> None:
        self.key = key
        self.known = known if isinstance(known, Collection) else tuple(known)
        super().__init__(key)

    def __str__(self) -> str:
        return f"no item {self.key!r}{did_you_mean(self.key, self.known)}"


class BadValue(FixgwError, ValueError):
    """A value that an item cannot take; nothing was stored.

    `reason` is ``"type"`` (cannot be converted), ``"number"`` (NaN or infinite), ``"text"`` (too long, or with
    control characters) or ``"range"`` (more than a frame on a bus can carry).
    """

    def __init__(self, key: str, message: str, reason: str = "type") -> None:
        self.key = key
        self.reason = reason
        super().__init__(f"{key}: {message}")


class Problem(NamedTuple):
    """One thing wrong with a configuration; lines and columns count from 1, 0 means the file as a whole."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        if not self.line:
            return f"{self.file}: {self.message}"
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


class ConfigurationError(FixgwError, ValueError):
    """The configuration cannot be used; `problems` holds every reason, in the order of the files."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(map(str, self.problems)))


class BadModule(FixgwError, ImportError):
    """A plugin's module is missing, cannot be imported, or holds no plugin; `reason` says which, and what of it."""

    def __init__(self, module: str, reason: str) -> None:
        self.module = module
        self.reason = reason
        super().__init__(reason)


class MissingLibrary(FixgwError, ImportError):
    """A library is not installed; the message says how to install it: through the `extra` that brings it, if any."""

    def __init__(self, library: str, extra: str = "") -> None:
        self.library = library
        self.extra = extra
        super().__init__(f"{library} is not installed: pip install " + (f"'fixgw[{extra}]'" if extra else library))


class DeviceError(FixgwError, OSError):
    """A device is missing, went away or does not answer; worth trying again later."""


class PluginFail(FixgwError, RuntimeError):
    """A plugin could not stop cleanly: something of it still runs, and only leaving the process ends it."""


class NetfixError(FixgwError):
    """A request to a gateway did not succeed."""


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

    def __init__(self, request: str, code: str) -> None:
        self.request = request
        self.code = code
        super().__init__(f"{request}: {self.MEANINGS.get(code, 'error ' + code)}")


def counted(n: int, what: str) -> str:
    """``"1 problem"``, ``"2 problems"``."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The nearest known name as the tail of a sentence, or nothing."""
    from difflib import get_close_matches

    if len(name) > 100:  # the search takes time with the square of it
        return ""
    names = {str(k) for k in list(known)}
    folded: dict[str, str] = {}
    for k in sorted(names):
        folded.setdefault(k.lower(), k)
    near = get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return f" (did you mean {folded[near[0]]!r}?)" if near else ""
