"""Parses and checks the other end of a network link: ``tcp://HOST:PORT`` and the like."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from fixgw.net.access import Address

_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")
_NUMBERS = re.compile(r"[0-9.]+")
# Stricter than urllib.parse, which also accepts user names, paths and queries.
_URL = re.compile(r"(?P<scheme>[^:]*)://(?P<host>\[[^\]]*\]|[^:/?#@\[\]]*)(?::(?P<port>[^:/?#@]*))?(?P<rest>.*)")


class Endpoint(NamedTuple):
    """`host` is an address or a name, `port` 1 to 65535."""

    scheme: str
    host: str
    port: int

    @property
    def address(self) -> Address | None:
        """The host as an address; None if it is a name."""
        from fixgw.net.access import address_of  # loads `ipaddress`, which serial lines do not need

        try:
            return address_of(self.host)
        except ValueError:
            return None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def scheme_of(text: str) -> str:
    """The scheme of a URL, in lower case: ``"tcp"`` for ``"tcp://..."``. Empty if `text` is not a URL."""
    scheme, separator, _ = text.partition("://")
    return scheme.lower() if separator else ""


def parse(url: str) -> Endpoint:
    """Parse a URL. Raises ValueError with the reason."""
    scheme = scheme_of(url)
    example = f"write {scheme}://HOST:PORT"
    parts = _URL.fullmatch(url)
    if parts is None or parts["rest"]:
        raise ValueError(f"only a host and a port may follow {scheme}://: {example}")
    host = parts["host"].strip("[]")
    if not host:
        raise ValueError(f"no host: {example}")
    if not parts["port"]:
        raise ValueError(f"no port: {example}")
    if not (re.fullmatch("[0-9]{1,5}", parts["port"]) and 0 < int(parts["port"]) < 65536):
        raise ValueError("the port must be a number from 1 to 65535")
    endpoint = Endpoint(scheme, host, int(parts["port"]))
    if endpoint.address is None and (len(host) > 253 or not _NAME.fullmatch(host) or _NUMBERS.fullmatch(host)):
        raise ValueError(f"{host!r} is neither an address nor a host name")
    return endpoint
