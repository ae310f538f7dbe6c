"""Which page of a list comes next: by Link, else by `last=` (distribution-spec, "Listing Tags"). No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from tasks.upstream.errors import UpstreamProtocolError
from tasks.upstream.login.realm import joined, origin

if TYPE_CHECKING:
    from collections.abc import Sequence

    import httpx

    from tasks.upstream.errors import Where

PAGE = 1000  # what we ask for; more is refused by distribution since CVE-2023-2253
MAX_PAGES = 10_000
MAX_ENTRIES = 2_000_000
MAX_BYTES = 128 * 1024 * 1024  # of all pages: as many entries as MAX_ENTRIES, of 64 bytes each
MAX_IDLE_PAGES = 100  # in a row, with no entry that was not there before
_MAX_LINK = 8192  # characters
_MAX_NAME = 255  # characters; no tag and no repository has more
_LINK = re.compile(r'<([^<>]*)>((?:\s*;\s*[\w*]+\s*(?:=\s*(?:"[^"]*"|[^\s;,"]*))?)*)')
_NO_BRACKETS = re.compile(r'\s*([^\s<>;,"]+)(\s*;[^<>]*)')  # quay.io wrote Links so
_REL = re.compile(r';\s*rel\s*=\s*(?:"([^"]*)"|([^\s;,"]*))', re.IGNORECASE)


def next_link(headers: httpx.Headers, answered: httpx.URL, where: Where) -> httpx.URL | None:
    """The page that Link (RFC 8288) names, relative to the URL that answered.

    Only path and query are taken of a Link to another origin, which a registry behind a proxy writes: so the
    page is asked of whoever answered, and no credentials go elsewhere. Raises `UpstreamProtocolError`.
    """
    header = headers.get("Link", "")
    if len(header) > _MAX_LINK:
        raise UpstreamProtocolError(where, f"its Link header has more than {_MAX_LINK} characters")
    target = _target(header)
    if target is None:
        return None
    url = joined(answered, target)
    if url is None:
        raise UpstreamProtocolError(where, "its Link to the next page is not a URL")
    if url.scheme not in ("http", "https"):
        raise UpstreamProtocolError(where, "its Link to the next page is not an http or https URL")
    if origin(url) != origin(answered) or url.userinfo:
        url = answered.copy_with(raw_path=url.raw_path)
    return url.copy_with(fragment=None)


def _target(header: str) -> str | None:
    for target, parameters in _LINK.findall(header):
        if _is_next(parameters):
            return str(target)
    match = _NO_BRACKETS.fullmatch(header)
    return match[1] if match and _is_next(match[2]) else None


def _is_next(parameters: str) -> bool:
    """Whether `next` is one of the relation types in `rel`, which spaces separate (RFC 8288 section 3.3)."""
    return any("next" in (quoted or bare).lower().split() for quoted, bare in _REL.findall(parameters))


@dataclass(slots=True)
class Trail:
    """The pages of one list so far, so that a list that never ends is an error and not a short list."""

    pages: int = 0
    linked: bool = False
    _visited: set[str] = field(default_factory=set)
    _idle: int = 0

    def visit(self, url: httpx.URL, new: int) -> None:
        """`url` answered with a page that had `new` entries that were not there before."""
        self.pages += 1
        self._visited.add(str(url.copy_with(fragment=None) if url.fragment else url))  # a copy is parsed anew
        self._idle = 0 if new else self._idle + 1

    def follow(self, link: httpx.URL, where: Where) -> httpx.URL:
        """The URL of the next page. Raises `UpstreamProtocolError` where this would never end."""
        self.linked = True
        if str(link) in self._visited:
            raise UpstreamProtocolError(
                where, f"page {self.pages} of its list links to a page before it: the list has no end"
            )
        if self._idle >= MAX_IDLE_PAGES:
            raise UpstreamProtocolError(
                where, f"its list has no end: {MAX_IDLE_PAGES} pages in a row had nothing new"
            )
        if self.pages >= MAX_PAGES:
            raise UpstreamProtocolError(where, f"its list has more than {MAX_PAGES} pages")
        self._visited.add(str(link))
        return link


def is_perhaps_cut(page: Sequence[str], new: int, *, always: bool) -> bool:
    """Whether to ask for names after the last one although there was no Link, which the specification does
    not have: `last=` is our own guess.

    Registries that cut a list without saying so cut it at a round number. `always`: ask until nothing new
    comes, because the list is asked for once a run and a missing end would go unnoticed.
    """
    return bool(page and new) and (always or len(page) % 50 == 0)


def first_query(*, sized: bool) -> str:
    return f"?n={PAGE}" if sized else ""


def query_after(last: str, *, sized: bool) -> str:
    return f"?{f'n={PAGE}&' if sized else ''}last={quote(last, safe='')}"


def names(found: object, what: str, where: Where) -> list[str]:
    """The list in a page; `null` is what old Go registries write for an empty one.

    Names that are too long to be valid are cut, with a "…" at the end: they stay invalid and are counted so,
    and take no memory.
    """
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise UpstreamProtocolError(where, f"{what} is not a list of names")
    return [each if len(each) <= _MAX_NAME else f"{each[:_MAX_NAME]}…" for each in found]
