"""Which hosts may connect: networks as people write them, and the addresses of callers."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable, Iterator
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_network,
)

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

LOOPBACK = ("127.0.0.0/8", "::1")
SIOCGIFADDR, SIOCGIFNETMASK = 0x8915, 0x891B  # netdevice(7)
MAPPED_BITS = 96  # the bits of an IPv6 address that precede a mapped IPv4 address


def network(text: str) -> Network:
    """Parse a network, ``"192.168.1.0/24"`` or a single address. Raises ValueError with the reason.

    IPv4 in IPv6 notation (``::ffff:127.0.0.0/104``) becomes an IPv4 network, as `address_of` makes callers IPv4 too.
    """
    found = ip_network(text, strict=False)
    if isinstance(found, IPv6Network) and (mapped := IPv6Interface(text).ip.ipv4_mapped) is not None:
        if found.prefixlen < MAPPED_BITS:
            raise ValueError(
                f"{text!r} mixes IPv4 and IPv6: write the IPv4 network (for example 127.0.0.0/8) and the IPv6 network "
                "as two entries"
            )
        return ip_network((mapped, found.prefixlen - MAPPED_BITS), strict=False)
    return found


def address_of(host: str) -> Address:
    """Parse an address as a socket names its peer. Drops the zone and unmaps IPv4. Raises ValueError."""
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def is_loopback(host: str) -> bool:
    """Whether only this computer reaches what listens on `host`, a name or an address."""
    try:
        return address_of(host).is_loopback
    except ValueError:
        return host == "localhost"


def own_networks() -> list[str]:
    """The private IPv4 networks to which this computer is connected, such as ``"192.168.1.0/24"``; Linux only."""
    return list(dict.fromkeys(str(interface.network) for interface in _interfaces() if interface.is_private))


def own_addresses() -> list[str]:
    """The IPv4 addresses by which others reach this computer; Linux only."""
    return list(dict.fromkeys(str(interface.ip) for interface in _interfaces()))


def _interfaces() -> Iterator[IPv4Interface]:
    with contextlib.suppress(ImportError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        from fcntl import ioctl

        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode())
            with contextlib.suppress(OSError):  # this interface has no address
                address, mask = (
                    socket.inet_ntoa(ioctl(sock, what, request)[20:24]) for what in (SIOCGIFADDR, SIOCGIFNETMASK)
                )
                interface = IPv4Interface(f"{address}/{mask}")
                if not interface.is_loopback:
                    yield interface


class Networks:
    """Allowed networks; ``address in networks``. Raises ValueError if one of the texts is not a network."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._networks = [network(text) for text in texts]

    def __contains__(self, address: Address) -> bool:
        return any(address in allowed for allowed in self._networks)


def problems(option: str, texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Report what is wrong with an option that lists networks, for a plugin's `check`."""
    for n, text in enumerate(texts):
        try:
            network(text)
        except ValueError as error:
            yield f"{option}.{n}", str(error)
