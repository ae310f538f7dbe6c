"""Conditional requests (RFC 9110, section 13). The entity tag of all content is its quoted digest."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from registry_server.oci.digest import Digest
    from registry_server.store.records import TagRecord


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
