"""Which form a mirrored image takes here: its own, byte for byte, or another one that is made from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from registry_server.oci.descriptor import Platform

if TYPE_CHECKING:
    from collections.abc import Mapping

# Goes up when conversion.py writes other bytes than before: then every tag is made anew, from what is here.
VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Form:
    """Falsy: the image is kept as it is.

    `oci`: converted to OCI; `rewrite`: indexes are cut down to `platforms`, which are sorted (() means all),
    with BuildKit's attestation manifests or without (`attestations`). The platforms that are left out matter
    to a converted index too: it names them as the upstream does.
    """

    oci: bool = False
    rewrite: bool = False
    platforms: tuple[Platform, ...] = ()
    version: int = VERSION
    attestations: bool = True

    def __bool__(self) -> bool:
        return self.oci or self.rewrite

    def __str__(self) -> str:
        """In words, e.g. `converted to OCI, cut down to linux/amd64`."""
        parts = ["converted to OCI"] if self.oci else []
        parts += [f"cut down to {', '.join(map(str, self.platforms))}"] if self.rewrite else []
        parts += [] if self.attestations else ["without attestation manifests"]
        return ", ".join(parts) or "kept as it is"

    def to_json(self) -> dict[str, Any]:
        platforms = [str(each) for each in self.platforms]
        body = {"version": self.version, "oci": self.oci, "rewrite": self.rewrite, "platforms": platforms}
        return body if self.attestations else body | {"attestations": False}

    @classmethod
    def from_json(cls, body: Mapping[str, Any] | None) -> Form:
        """Raises LookupError, TypeError or ValueError. None is an image that is kept as it is."""
        if body is None:
            return KEPT
        platforms = tuple(Platform.parse(each) for each in body["platforms"])
        attestations = body.get("attestations", True) is True
        return cls(bool(body["oci"]), bool(body["rewrite"]), platforms, int(body["version"]), attestations)


KEPT: Final = Form()
