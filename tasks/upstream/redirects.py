"""Following redirects without taking our credentials along."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from tasks.upstream.errors import UpstreamProtocolError
from tasks.upstream.realm import is_plain, origin

if TYPE_CHECKING:
    from tasks.upstream.errors import Where

MAX_REDIRECTS = 5


def redirected(request: httpx.Request, response: httpx.Response, where: Where) -> httpx.Request:
    """The request that a redirect asks for, without our credentials when it leads elsewhere."""
    location = response.headers.get("Location", "")
    try:
        url = request.url.join(location) if location else None
    except httpx.InvalidURL:
        url = None
    if url is None or not is_plain(url):
        raise UpstreamProtocolError(where, f"it redirects ({response.status_code}) to no usable address")
    if request.url.scheme == "https" and url.scheme == "http":
        raise UpstreamProtocolError(where, f"it redirects from https to http ({url.host}); refused")
    headers = httpx.Headers(request.headers)
    del headers["Host"]
    if origin(url) != origin(request.url):
        for secret in ("Authorization", "Cookie"):
            headers.pop(secret, None)
    return httpx.Request(request.method, url, headers=headers)
