"""Lists that come in pages: by Link, else by `last=` (distribution-spec, "Listing Tags")."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx

from tasks.upstream.errors import UpstreamProtocolError
from tasks.upstream.realm import origin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.upstream.errors import Where

PAGE = 1000  # what we ask for; more is refused by distribution since CVE-2023-2253
MAX_PAGES = 10_000
MAX_ENTRIES = 2_000_000
_MAX_LINK = 8192  # characters
_LINK = re.compile(r'<([^<>]*)>((?:\s*;\s*[\w*]+\s*(?:=\s*(?:"[^"]*"|[^\s;,"]*))?)*)')
_NEXT = re.compile(r';\s*rel\s*=\s*(?:"\s*(?:[^"]*\s)?next(?:\s[^"]*)?"|next\b)', re.IGNORECASE)


def next_link(headers: httpx.Headers, current: httpx.URL, where: Where) -> httpx.URL | None:
    """The page after `current` by RFC 8288, relative or absolute.

    Raises `UpstreamProtocolError` when it is on another host: our credentials go with it.
    """
    for target, parameters in _LINK.findall(headers.get("Link", "")[:_MAX_LINK]):
        if _NEXT.search(parameters):
            try:
                url = current.join(target)
            except httpx.InvalidURL as error:
                raise UpstreamProtocolError(where, "its Link to the next page is not a URL") from error
            if origin(url) != origin(current):
                raise UpstreamProtocolError(where, f"its next page is on another host ({url.host}); refused")
            return url
    return None


def next_last(page: Sequence[str], new: int, *, always: bool) -> str | None:
    """The query of the page after `page`, of which `new` entries were new, where there was no Link.

    Registries that cut a list without saying so cut it at a round number. `always`: ask until nothing new
    comes, because the list is asked for once a run and a missing end would go unnoticed.
    """
    if not page or not new or not (always or len(page) % 50 == 0):
        return None
    return f"n={PAGE}&last={quote(page[-1], safe='')}"


def names(found: object, what: str, where: Where) -> list[str]:
    """The list in a page; `null` is what old Go registries write for an empty one."""
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise UpstreamProtocolError(where, f"{what} is not a list of names")
    return found
