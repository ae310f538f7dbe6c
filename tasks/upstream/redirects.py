"""Following redirects without taking our credentials along: they belong to one origin (RFC 6454)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from tasks.upstream.errors import UpstreamProtocolError
from tasks.upstream.login.realm import is_plain, joined, origin

if TYPE_CHECKING:
    from tasks.upstream.errors import Where

MAX_REDIRECTS = 5


def keeps_login(source: httpx.URL, target: httpx.URL) -> bool:
    """Whether what `source` may see, `target` may see too: the same origin, or the same host behind TLS."""
    if origin(source) == origin(target):
        return True
    return source.host == target.host and (source.scheme, target.scheme) == ("http", "https")


def redirected(request: httpx.Request, response: httpx.Response, where: Where) -> httpx.Request:
    """The request that a redirect asks for, without our credentials when it leads to another origin.

    What we send is sent to where the profile says, or where the registry says that an upload goes.
    """
    if request.method not in ("GET", "HEAD"):
        raise UpstreamProtocolError(
            where, f"it redirects a {request.method} ({response.status_code}); refused"
        )
    url = _target(request, response)
    if url is None:
        raise UpstreamProtocolError(where, f"it redirects ({response.status_code}) to no usable address")
    if request.url.scheme == "https" and url.scheme == "http":
        raise UpstreamProtocolError(where, f"it redirects from https to http ({url.host}); refused")
    headers = httpx.Headers(request.headers)
    del headers["Host"]
    if origin(url) != origin(request.url):
        for secret in ("Authorization", "Cookie"):
            headers.pop(secret, None)
    return httpx.Request(request.method, url, headers=headers)


def redirected_within(
    request: httpx.Request, response: httpx.Response, *, token: bool
) -> httpx.Request | None:
    """The request that a redirect of a login asks for; None where it is none, or leads elsewhere.

    `token`: it goes to a token service and carries a password or a token, so it stays where `keeps_login`
    says. Otherwise it is for a challenge, which belongs to one origin.
    """
    url = _target(request, response) if response.has_redirect_location else None
    if url is None or not keeps_login(request.url, url):
        return None
    if not token and origin(request.url) != origin(url):
        return None
    if request.method != "GET" and response.status_code not in (307, 308):
        return None  # RFC 9110, 15.4: others may turn it into a GET, which loses the body
    headers = httpx.Headers(request.headers)
    del headers["Host"]
    return httpx.Request(request.method, url, headers=headers, content=request.read())


def _target(request: httpx.Request, response: httpx.Response) -> httpx.URL | None:
    location = response.headers.get("Location", "")
    url = joined(request.url, location) if location else None
    return url if url is not None and is_plain(url) else None
