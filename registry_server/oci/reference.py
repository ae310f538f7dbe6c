"""Names of repositories and tags, and references built from them (distribution-spec, "Pulling manifests").

Each is a `str` that can only be made from valid text, so a path or URL built from one cannot escape.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from registry_server.oci.digest import Digest
from registry_server.oci.errors import InvalidName

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)
# Many clients limit host[:port]/name to 255 characters (distribution-spec, note on <name>).
_MAX_REPOSITORY = 255
_SHOWN = 80


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


class RepositoryName(str):
    """E.g. `library/nginx`. Raises `InvalidName` (NAME_INVALID)."""

    __slots__ = ()

    @classmethod
    def is_valid(cls, text: str) -> bool:
        return len(text) <= _MAX_REPOSITORY and _REPOSITORY.fullmatch(text) is not None

    def __new__(cls, text: str) -> Self:
        if isinstance(text, cls):
            return text
        if len(text) > _MAX_REPOSITORY:
            raise InvalidName(
                f"the repository name {_shown(text)} is longer than {_MAX_REPOSITORY} characters"
            )
        if not cls.is_valid(text):
            raise InvalidName(
                f"{_shown(text)} is not a repository name; expected lower-case letters, digits "
                "and single separators, e.g. 'library/nginx'"
            )
        return super().__new__(cls, text)


class Tag(str):
    """E.g. `1.25-alpine`. Raises `InvalidName` (NAME_INVALID)."""

    __slots__ = ()

    @classmethod
    def is_valid(cls, text: str) -> bool:
        """For what others list: upstreams send what they like."""
        return _TAG.fullmatch(text) is not None

    def __new__(cls, text: str) -> Self:
        if isinstance(text, cls):
            return text
        if not cls.is_valid(text):
            raise InvalidName(
                f"{_shown(text)} is not a tag; expected up to 128 letters, digits, '.', '_' and '-', "
                "not beginning with '.' or '-'"
            )
        return super().__new__(cls, text)

    @classmethod
    def checked(cls, text: str) -> Self:
        """Of a text for which `is_valid` was true: it is not looked at again."""
        return super().__new__(cls, text)


def parse_reference(text: str) -> Tag | Digest:
    """What follows `/manifests/`: a digest if it has a colon, else a tag. Raises `InvalidName`."""
    return Digest(text) if ":" in text else Tag(text)


@dataclass(frozen=True, order=True, slots=True)
class ImageName:
    """One image of one registry, without the registry: `library/nginx:1.25` or `library/nginx@sha256:…`."""

    repository: RepositoryName
    reference: Tag | Digest

    @classmethod
    def parse(cls, text: str, *, default_tag: str = "") -> Self:
        """From `repo:tag` or `repo@digest`; a bare `repo` needs `default_tag`. Raises `InvalidName`."""
        repository, at, digest = text.partition("@")
        if at:
            # `repo:tag@digest` is pinned by the digest; the tag is a comment there.
            return cls(RepositoryName(repository.partition(":")[0]), Digest(digest))
        repository, colon, tag = text.partition(":")
        if not colon and not default_tag:
            raise InvalidName(f"{_shown(text)} names no tag; write '{text}:TAG' or '{text}@sha256:…'")
        return cls(RepositoryName(repository), Tag(tag if colon else default_tag))

    def __str__(self) -> str:
        return f"{self.repository}{'@' if isinstance(self.reference, Digest) else ':'}{self.reference}"
