"""Descriptors and platforms (image-spec descriptor.md, image-index.md)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from registry_server.oci.errors import InvalidName
from registry_server.oci.media_types import is_foreign

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry_server.oci.digest import Digest

# As containerd and docker write it: the version of the system in parentheses.
_PLATFORM = re.compile(r"(?:([^/()]+)(?:\(([A-Za-z0-9._-]+)\))?/)?([^/()]+)(?:/([^/()]+))?")
_DEFAULT_VARIANT = {"arm64": "v8", "arm": "v7"}


@dataclass(frozen=True, order=True, slots=True)
class Platform:
    """What an entry of an index runs on. An empty field of a *wanted* platform means "any".

    `os_version` is `os.version` of image-spec image-index.md, which Windows images have.
    """

    os: str = ""
    architecture: str = ""
    variant: str = ""
    os_version: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """From `os[(version)]/arch[/variant]` or a bare architecture. Raises `InvalidName`."""
        found = _PLATFORM.fullmatch(text)
        if found is None:
            raise InvalidName(
                f"{text!r} is not a platform; write 'linux/amd64', 'linux/arm/v7', 'arm64' or "
                "'windows(10.0.17763)/amd64'"
            )
        system, version, architecture, variant = (each or "" for each in found.groups())
        return cls(system, architecture, variant, version)

    def accepts(self, other: Platform) -> bool:
        """Whether a wish for this platform takes `other`. arm64 without a variant is v8, arm is v7.

        A version takes those that go on from it: 10.0.17763 takes 10.0.17763.5458.
        """
        return (
            self.os in ("", other.os)
            and f"{other.os_version}.".startswith(f"{self.os_version}." if self.os_version else "")
            and self.architecture in ("", other.architecture)
            and (
                not self.variant
                or self.variant == (other.variant or _DEFAULT_VARIANT.get(other.architecture, ""))
            )
        )

    def __str__(self) -> str:
        version = f"({self.os_version})" if self.os_version else ""
        return "/".join(part for part in (f"{self.os}{version}", self.architecture, self.variant) if part)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a piece of content is and how many bytes (`size`) have which digest."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, compare=False)
    urls: tuple[str, ...] = ()
    data: bytes | None = field(default=None, compare=False, repr=False)

    @property
    def is_foreign(self) -> bool:
        """Not distributed by registries. `urls` alone do not make a layer foreign (image-spec layer.md)."""
        return is_foreign(self.media_type)

    def to_json(self) -> dict[str, Any]:
        """As it stands in a manifest, an index or a referrers list."""
        body: dict[str, Any] = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.platform is not None:
            fields = {"architecture": self.platform.architecture, "os": self.platform.os}
            more = {"variant": self.platform.variant, "os.version": self.platform.os_version}
            body["platform"] = fields | {key: value for key, value in more.items() if value}
        if self.artifact_type is not None:
            body["artifactType"] = self.artifact_type
        if self.annotations:
            body["annotations"] = dict(self.annotations)
        return body
