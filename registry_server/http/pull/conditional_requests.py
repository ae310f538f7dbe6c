"""Conditional requests and ranges (RFC 9110, sections 13 and 14), as far as registries need them.

The entity tag of all content is its quoted digest. One range of bytes is served at a time.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from registry_server.oci.digest import Digest
    from registry_server.store.records import TagRecord

_ONE_RANGE = re.compile(r"\s*bytes\s*=\s*([0-9]{0,20})-([0-9]{0,20})\s*", re.ASCII | re.IGNORECASE)
_LONGEST = 128  # characters; what is longer is many ranges, which are ignored anyway


def entity_tag(digest: Digest) -> str:
    """E.g. `"sha256:9f86…"`, with the quotes."""
    return f'"{digest}"'


def is_unchanged(if_none_match: str | None, digest: Digest) -> bool:
    """Whether a client that sends this If-None-Match has the content already (then: 304).

    Bare digests without quotes are taken too: some registry clients send them.
    """
    if if_none_match is None:
        return False
    known = {_opaque(tag) for tag in if_none_match.split(",")}
    return "*" in known or str(digest) in known


def precondition(headers: Mapping[str, str]) -> Callable[[TagRecord | None], bool] | None:
    """What a PUT demands of the tag as it is now, from If-Match and If-None-Match; None if nothing.

    Writers of the referrers tag schema use it so as not to lose each other's entries.
    """
    match, none_match = headers.get("If-Match"), headers.get("If-None-Match")
    if match is None and none_match is None:
        return None

    def holds(current: TagRecord | None) -> bool:
        if match is not None and (current is None or not is_unchanged(match, current.digest)):
            return False
        return none_match is None or current is None or not is_unchanged(none_match, current.digest)

    return holds


def range_applies(if_range: str | None, digest: Digest) -> bool:
    """Whether Range holds: no If-Range, or exactly this content. Dates and weak tags never match."""
    return if_range is None or if_range.strip() == entity_tag(digest)


def _opaque(tag: str) -> str:
    """Weak comparison (RFC 9110, 8.8.3.2): without `W/` and quotes."""
    return tag.strip().removeprefix("W/").strip('"')


class RangeNotSatisfiable(MirrorflowError):
    """Answered with 416 and `Content-Range: bytes */size`."""

    def __init__(self, header: str, size: int) -> None:
        super().__init__(f"the range {header[:_LONGEST]!r} does not fit content of {size} bytes")
        self.size = size


def parse_range(header: str | None, size: int) -> range | None:
    """The positions to send of `size` bytes, or None for all of them.

    Several ranges, other units and what is no range at all are ignored, as RFC 9110 allows. An end before
    its start is refused (the conformance suite wants that), and so is a range without a byte in it. Empty
    content has no range that could be written down: it is sent as it is, like Go's file server does.
    Raises `RangeNotSatisfiable`.
    """
    if header is None or size == 0 or len(header) > _LONGEST:
        return None
    match = _ONE_RANGE.fullmatch(header)
    if match is None or match[1] == match[2] == "":
        return None
    start, stop = _bounds(match[1], match[2], size)
    if start >= stop:
        raise RangeNotSatisfiable(header, size)
    return range(start, stop)


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:  # the last N bytes
        return max(0, size - int(last)), size
    if not last:
        return int(first), size
    return int(first), min(int(last) + 1, size)
