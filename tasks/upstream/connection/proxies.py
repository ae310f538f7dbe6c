"""Which proxy a request goes through, from HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY.

Read as Go does (golang.org/x/net/http/httpproxy), because docker, containerd, skopeo and crane do so with the
same variables. What curl reads beside it is read too: ALL_PROXY, names separated by spaces, `[::1]`.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import httpx

from tasks.upstream.errors import ProxyInvalid

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address
    Network = ipaddress.IPv4Network | ipaddress.IPv6Network

ORIGINAL: Final = "MIRRORFLOW_NO_PROXY"
"""Where NO_PROXY stays as it was when `for_httpx` writes a shorter one."""

_SCHEMES: Final = ("http", "https", "socks5", "socks5h")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_VARIABLES: Final = {"http": ("HTTP_PROXY", "ALL_PROXY"), "https": ("HTTPS_PROXY", "ALL_PROXY")}
_HTTPX_READS: Final = re.compile(r"[\w.*-]+(/\d+|:\d+)?")
_HOST_PORT: Final = re.compile(r"(?P<host>\[[^]]*\]|[^:]*)(?::(?P<port>\d+))?")


@dataclass(frozen=True, slots=True)
class Proxy:
    """`context` is for an https proxy itself."""

    url: httpx.URL
    context: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class _Exception:
    """One element of NO_PROXY. `name` begins with a dot where subdomains match, `exact` where it does."""

    network: Network | None = None
    name: str = ""
    exact: bool = False
    port: int | None = None

    def covers(self, host: str, address: Address | None, port: int | None) -> bool:
        if self.port is not None and self.port != port:
            return False
        if self.network is not None:
            return address is not None and address in self.network
        return host.endswith(self.name) or (self.exact and host == self.name[1:])


@dataclass(frozen=True, slots=True)
class Proxies:
    """The settings of one environment. `by_scheme` has the variable and its value."""

    by_scheme: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    exceptions: tuple[_Exception, ...] = ()

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Proxies:
        """Upper case goes first, as in Go. A CGI program ignores HTTP_PROXY, which a client's header sets."""
        exceptions = _exceptions(environ.get(ORIGINAL, _value(environ, "NO_PROXY")[1]))
        if exceptions is None:
            return cls()
        found = {}
        for scheme, names in _VARIABLES.items():
            for name in names:
                variable, value = _value(environ, name)
                if value and not (variable == "HTTP_PROXY" and "REQUEST_METHOD" in environ):
                    found[scheme] = (variable, value)
                    break
        return cls(found, exceptions)

    def proxy_for(self, url: httpx.URL) -> httpx.URL | None:
        """None: `url` is asked directly. Raises `ProxyInvalid`."""
        setting = self.by_scheme.get(url.scheme)
        if setting is None or self._is_direct(url):
            return None
        return _proxy_url(*setting)

    def _is_direct(self, url: httpx.URL) -> bool:
        host = url.raw_host.decode("ascii", "replace").lower().rstrip(".")
        address = _address(host)
        if host == "localhost" or (address is not None and address.is_loopback):
            return True
        port = url.port or _DEFAULT_PORTS.get(url.scheme)
        return any(each.covers(host, address, port) for each in self.exceptions)


def for_httpx(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables with which Prefect's httpx reaches a Prefect server on this machine.

    It sends requests to 127.0.0.1 through a proxy, and raises for networks of IPv6 and for `[::1]`. Both
    spellings are set, because Python prefers the lower case.
    """
    text = environ.get(ORIGINAL, _value(environ, "NO_PROXY")[1])
    if not text and not any(_value(environ, name)[1] for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")):
        return {}
    items = (item.strip("[]") for item in re.split(r"[\s,]+", text))
    kept = [item for item in items if _HTTPX_READS.fullmatch(item) or _address(item) is not None]
    value = ",".join(dict.fromkeys([*kept, "localhost", "127.0.0.1", "::1"]))
    return {"NO_PROXY": value, "no_proxy": value, ORIGINAL: text}


def _value(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    for variable in (name, name.lower()):
        if value := environ.get(variable, "").strip():
            return variable, value
    return name, ""


def _proxy_url(variable: str, text: str) -> httpx.URL:
    """The value is not shown in the error: it may hold a password."""
    try:
        url = httpx.URL(text if "://" in text else f"http://{text}")
    except httpx.InvalidURL:
        raise ProxyInvalid(f"{variable}: not a URL; write e.g. http://proxy.example:3128") from None
    if url.scheme not in _SCHEMES or not url.host:
        found = f"a proxy of the kind {url.scheme!r} is not supported" if url.host else "it names no host"
        raise ProxyInvalid(f"{variable}: {found}; write e.g. http://proxy.example:3128")
    return url


def _exceptions(text: str) -> tuple[_Exception, ...] | None:
    """None for `*`: everything is asked directly."""
    items = re.split(r"[\s,]+", text.lower())
    if "*" in items:
        return None
    return tuple(found for item in items if (found := _exception(item)) is not None)


def _exception(item: str) -> _Exception | None:
    """None for what no host can match, which is ignored as Go does."""
    if (network := _network(item)) is not None:
        return _Exception(network=network)
    match = _HOST_PORT.fullmatch(item)
    if match is None or not match["host"].strip("[]"):
        return None
    port = int(match["port"]) if match["port"] else None
    host = match["host"].strip("[]").rstrip(".")
    if (network := _network(host)) is not None:
        return _Exception(network=network, port=port)
    name = host.removeprefix("*")  # `*.example.com` and `.example.com` are the subdomains of example.com
    if not name.strip("."):
        return None
    return _Exception(name=f".{name.lstrip('.')}", exact=not name.startswith("."), port=port)


def _network(text: str) -> Network | None:
    """`10.0.0.0/8`, `::1`: an address is a network of one."""
    base, slash, length = text.partition("/")
    address = _address(base)
    if address is None:
        return None
    try:
        return ipaddress.ip_network(f"{address}{slash}{length}", strict=False)
    except ValueError:
        return None


def _address(text: str) -> Address | None:
    try:
        found = ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
