"""Which endpoint of the distribution API a request names (distribution-spec, "Endpoints").

A repository may be called `a/manifests` or `a/blobs/uploads`, so a path is read from its end; and a route
is made of validated names only, so whoever decides about access decides about exactly what is then read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import unquote_to_bytes

from registry_server.oci.digest import Digest
from registry_server.oci.errors import InvalidName, NotFound
from registry_server.oci.reference import RepositoryName, parse_reference

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry_server.oci.reference import Tag

_PREFIX = b"/v2"
_REMEMBERED = 512  # bytes
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9a-fA-F]{2})")
# An escaped separator would become one only for a reader that decodes once more than we do.
_FORBIDDEN = re.compile(rb"%2f|%5c|%00|[\\\x00]", re.IGNORECASE)


class NoSuchEndpoint(NotFound):
    """Not a path of the distribution API."""

    # The specification has a closed list of codes; this one comes nearest.
    code = "UNSUPPORTED"


@dataclass(frozen=True, slots=True)
class Base:
    """`/v2/`: is this a registry?"""

    kind: ClassVar[str] = "base"


@dataclass(frozen=True, slots=True)
class Catalog:
    """`/v2/_catalog`: the repositories."""

    kind: ClassVar[str] = "catalog"


@dataclass(frozen=True, slots=True)
class Tags:
    """`/v2/<name>/tags/list`."""

    repository: RepositoryName
    kind: ClassVar[str] = "tags"


@dataclass(frozen=True, slots=True)
class ManifestOf:
    """`/v2/<name>/manifests/<reference>`."""

    repository: RepositoryName
    reference: Tag | Digest
    kind: ClassVar[str] = "manifest"


@dataclass(frozen=True, slots=True)
class BlobOf:
    """`/v2/<name>/blobs/<digest>`."""

    repository: RepositoryName
    digest: Digest
    kind: ClassVar[str] = "blob"


@dataclass(frozen=True, slots=True)
class UploadOf:
    """`/v2/<name>/blobs/uploads/[<session>]`; an empty `session` opens one."""

    repository: RepositoryName
    session: str
    kind: ClassVar[str] = "upload"


@dataclass(frozen=True, slots=True)
class Referrers:
    """`/v2/<name>/referrers/<digest>`."""

    repository: RepositoryName
    digest: Digest
    kind: ClassVar[str] = "referrers"


Route = Base | Catalog | Tags | ManifestOf | BlobOf | UploadOf | Referrers


def parse_route(raw_path: bytes) -> Route:
    """The endpoint that the path of a request line names; escapes are decoded once.

    Raises `NoSuchEndpoint`, and `InvalidName` for a name, tag or digest that breaks the grammar.
    """
    # A cluster asks for the same paths over and over. Long ones are left out: they would fill the memory.
    return _remembered(raw_path) if len(raw_path) <= _REMEMBERED else _parsed(raw_path)


def _parsed(raw_path: bytes) -> Route:
    segments = _segments(raw_path)
    if segments in ([], [""]):
        return Base()
    if segments == ["_catalog"]:
        return Catalog()
    match segments:
        case [*name, "tags", "list"] if name:
            return Tags(_repository(name))
        case [*name, "blobs", "uploads"] if name:
            return UploadOf(_repository(name), "")
        case [*name, "blobs", "uploads", session] if name:
            return UploadOf(_repository(name), session)
        case [*name, kind, last] if name and kind in _BY_KIND:
            return _BY_KIND[kind](_repository(name), last)
    raise NoSuchEndpoint(
        f"{_shown(raw_path)} is not an endpoint of the distribution API, e.g. /v2/<name>/manifests/<tag>"
    )


_remembered = lru_cache(maxsize=4096)(_parsed)

_BY_KIND: dict[str, Callable[[RepositoryName, str], Route]] = {
    "manifests": lambda name, last: ManifestOf(name, parse_reference(last)),
    "blobs": lambda name, last: BlobOf(name, Digest(last)),
    "referrers": lambda name, last: Referrers(name, Digest(last)),
}


def _repository(segments: list[str]) -> RepositoryName:
    return RepositoryName("/".join(segments))


def _segments(raw_path: bytes) -> list[str]:
    """What follows `/v2`, decoded once and segment by segment."""
    if raw_path != _PREFIX and not raw_path.startswith(_PREFIX + b"/"):
        raise NoSuchEndpoint(f"there is nothing at {_shown(raw_path)}; the distribution API begins at /v2/")
    if _FORBIDDEN.search(raw_path) or _BROKEN_ESCAPE.search(raw_path):
        raise InvalidName(
            f"the path {_shown(raw_path)} contains an escape or a character that names cannot have"
        )
    return [_decoded(segment, raw_path) for segment in raw_path.split(b"/")[2:]]


def _decoded(segment: bytes, raw_path: bytes) -> str:
    try:
        text = unquote_to_bytes(segment).decode("ascii")
    except UnicodeDecodeError:
        raise InvalidName(f"the path {_shown(raw_path)} contains a character outside ASCII") from None
    if text in (".", ".."):
        raise InvalidName(f"the path {_shown(raw_path)} has a segment {text!r}, which names cannot have")
    return text


def _shown(raw_path: bytes) -> str:
    text = raw_path[:120].decode("ascii", "backslashreplace")
    return repr(text if len(raw_path) <= 120 else text + "…")
