"""What kind of place an address is, so that a registry cannot send us into our own network (SSRF).

A registry may send us to its own host, and to addresses that are no nearer to us than its own: one on the
internet may name others on the internet, one in a private network may name its neighbours, and nobody may
name link-local addresses, where clouds keep their credentials.
"""

from __future__ import annotations

import ipaddress
from enum import IntEnum
from typing import TYPE_CHECKING

from tasks.upstream.errors import UpstreamProtocolError

if TYPE_CHECKING:
    from tasks.upstream.errors import Where

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Nearness(IntEnum):
    PUBLIC = 0
    PRIVATE = 1
    LOOPBACK = 2
    FORBIDDEN = 3


def nearness(address: str) -> Nearness:
    """Of an IPv4 or IPv6 address as text. What is not one is public: a name says nothing."""
    try:
        found = _plain(ipaddress.ip_address(address.partition("%")[0].strip("[]")))
    except ValueError:
        return Nearness.PUBLIC
    if found.is_loopback:
        return Nearness.LOOPBACK
    if found.is_link_local or found.is_unspecified or found.is_multicast:
        return Nearness.FORBIDDEN
    # Neither private nor global: carrier-grade NAT, documentation, reserved.
    return Nearness.PUBLIC if found.is_global else Nearness.PRIVATE


def _plain(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address inside of an IPv6 one, if that is what it is."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def check_address(address: str, home: Nearness, host: str, where: Where) -> None:
    """`home`: how near the registry itself is. Raises `UpstreamProtocolError`."""
    found = nearness(address)
    if found > min(home, Nearness.LOOPBACK):
        raise UpstreamProtocolError(
            where, f"it sends us to {host}, a {found.name.lower()} address ({address}); refused"
        )
