"""Which token services may see our credentials (CVE-2026-33540 and its relatives).

A registry names its token service itself, so a registry that is hostile, or whoever answers in its place,
could name any: credentials go to the registry's own host, to the same registrable domain, to what the
profile names under `tokenServices`, or nowhere.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

import httpx

from tasks.upstream.errors import UpstreamProtocolError

if TYPE_CHECKING:
    from collections.abc import Collection

    from tasks.upstream.errors import Where

# Below these anybody can have a name. No copy of the public suffix list, which would be stale: what
# registries are found under, and `co.uk` and its like by their shape.
_SHARED = frozenset(
    {
        "amazonaws.com",
        "azurecr.io",
        "azurewebsites.net",
        "cloudfront.net",
        "github.io",
        "herokuapp.com",
        "jfrog.io",
        "pkg.dev",
        "run.app",
        "windows.net",
    }
)
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
_SECOND_LEVEL = frozenset({"ac", "co", "com", "edu", "gob", "gov", "mil", "ne", "net", "or", "org"})


def origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)


def joined(base: httpx.URL, text: str) -> httpx.URL | None:
    """The address `text`, which may be relative to `base`; None for what is none."""
    try:
        return base.join(text)
    except (httpx.InvalidURL, ValueError):  # the latter is of urllib, by which httpx joins
        return None


def is_plain(url: httpx.URL) -> bool:
    """An absolute http(s) URL of a host, without a user."""
    return url.scheme in ("http", "https") and not url.userinfo and bool(_HOST.fullmatch(url.host))


def check_realm(
    realm: str,
    registry: httpx.URL,
    where: Where,
    *,
    credentials: bool,
    allowed: Collection[str] = (),
) -> httpx.URL:
    """The token service that `registry` names; `allowed` are the entry's `tokenServices`.

    Raises `UpstreamProtocolError` when it may not be asked.
    """
    try:
        url = httpx.URL(realm)
    except httpx.InvalidURL as error:
        raise UpstreamProtocolError(where, "the realm of its token service is not a URL") from error
    if not is_plain(url):
        raise UpstreamProtocolError(
            where, f"the realm of its token service is not a plain URL: {_shown(url)}"
        )
    if registry.scheme == "https" and url.scheme == "http":
        raise UpstreamProtocolError(where, f"its token service is not https: {_shown(url)}; refused")
    if credentials and not related(url.host, registry.host) and _shown(url) not in allowed:
        raise UpstreamProtocolError(
            where,
            f"its token service is under another domain, {_shown(url)}, which must not see the credentials "
            f'of {registry.host}; add `tokenServices: ["{_shown(url)}"]` to the registry entry if it is the '
            "registry's, or remove the credentials to go anonymously",
        )
    return url


def related(one: str, other: str) -> bool:
    """The same host, or hosts of one owner as far as names tell."""
    if one == other:
        return True
    domain = _registrable(one)
    return bool(domain) and domain == _registrable(other)


def _registrable(host: str) -> str:
    """`example.co.uk` of `registry.example.co.uk`; "" where names tell nothing: addresses, `registry`."""
    labels = host.rstrip(".").lower().split(".")
    if _is_address(host) or len(labels) < 2 or not all(labels):
        return ""
    domestic = len(labels[-1]) == 2 and labels[-2] in _SECOND_LEVEL
    wanted = 3 if domestic else 2
    if len(labels) < wanted or ".".join(labels[-2:]) in _SHARED:
        return ""
    return ".".join(labels[-wanted:])


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _shown(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode()}"
