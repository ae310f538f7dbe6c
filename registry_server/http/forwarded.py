"""The address of a client behind load balancers that the profile trusts (`http.trustedProxies`).

`X-Forwarded-For` is read from its end: what a trusted proxy has added there is believed, and nothing that
stands before an address which is not trusted. Anybody can send the rest.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from starlette.types import Scope

    Network = ipaddress.IPv4Network | ipaddress.IPv6Network
    Address = ipaddress.IPv4Address | ipaddress.IPv6Address

PROXIED: Final = "mirrorflow.proxied"  # in a scope: a trusted proxy made the connection
ACCEL: Final = "mirrorflow.accel"  # in a scope: the location below which that proxy finds our files
_HEADER: Final = b"x-forwarded-for"
_MOST: Final = 20  # proxies in a row
_LONGEST: Final = 2000  # bytes of the header's end


class NetworkInvalid(MirrorflowError, ValueError):
    """Not an address, and not a network."""


def parse_network(text: str) -> Network:
    """`10.0.0.0/8`, `fd00::/8` or a single address. Raises `NetworkInvalid`."""
    try:
        return ipaddress.ip_network(text.strip())
    except ValueError as error:
        raise NetworkInvalid(f"{text!r} is not an address or a network: {error}") from error


class TrustedProxies:
    """Replaces the address of a connection that a trusted proxy has made by that of the client.

    `accel`: see `ServerOptions.accel_redirect`.
    """

    def __init__(self, networks: Iterable[str], accel: str = "") -> None:
        """Raises `NetworkInvalid`."""
        self._accel = accel
        self._networks = tuple(map(parse_network, networks))
        self._trusts = lru_cache(maxsize=1024)(self._is_trusted)

    def apply(self, scope: Scope) -> None:
        """Change `client` of an ASGI scope, and note in it that the proxy's headers may be believed."""
        connection = scope.get("client")
        if not self._networks or not connection:
            return
        address = _address(connection[0])
        if address is None or not self._trusts(address):
            return
        scope[PROXIED] = True
        scope[ACCEL] = self._accel
        scope["client"] = (str(self._first_untrusted(address, _chain(scope["headers"]))), 0)

    def _first_untrusted(self, address: Address, chain: Sequence[str]) -> Address:
        """From the last proxy backwards; the last one that is known where what comes before is no address."""
        for text in reversed(chain):
            found = _address(text)
            if found is None:
                return address
            address = found
            if not self._trusts(found):
                return found
        return address

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def _chain(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    value = b",".join(content for name, content in headers if name == _HEADER)
    return value[-_LONGEST:].decode("latin-1").split(",")[-_MOST:] if value else []


def _address(text: str) -> Address | None:
    """With or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`."""
    plain = text.strip()
    if plain.startswith("["):
        plain = plain[1:].partition("]")[0]
    elif plain.count(":") == 1:
        plain = plain.partition(":")[0]
    try:
        found = ipaddress.ip_address(plain)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
