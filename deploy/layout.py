"""An OCI image layout on disk (image-spec image-layout.md): reading a base image, and writing another one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from registry_server.oci.descriptor import Descriptor, Platform
from registry_server.oci.digest import Digest
from registry_server.oci.errors import MirrorflowError
from registry_server.oci.media_types import INDEXES, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

_REF_NAME: Final = "org.opencontainers.image.ref.name"


class LayoutUnusable(MirrorflowError):
    """No layout, or not what an image can be made of."""


def parse_platform(document: dict[str, Any]) -> Platform:
    """Of a descriptor's `platform`, or of a config."""
    return Platform(
        str(document.get("os", "")), str(document.get("architecture", "")), str(document.get("variant", ""))
    )


@dataclass(frozen=True, slots=True)
class Layout:
    folder: Path

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Raises `LayoutUnusable`."""
        if not (folder / "oci-layout").is_file():
            raise LayoutUnusable(
                f"{folder}: is no OCI image layout; make one: skopeo copy docker://… oci:{folder}"
            )
        return cls(folder)

    @classmethod
    def create(cls, folder: Path) -> Self:
        """A new one, or one that is there already."""
        (folder / "blobs/sha256").mkdir(parents=True, exist_ok=True)
        (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        return cls(folder)

    def images(self) -> Iterator[tuple[Platform, dict[str, Any]]]:
        """Every image of a platform, with its manifest. Raises `LayoutUnusable`."""
        found = list(self._images(json.loads((self.folder / "index.json").read_text())))
        if not found:
            raise LayoutUnusable(f"{self.folder}: has no image of a platform")
        yield from found

    def _images(self, index: dict[str, Any]) -> Iterator[tuple[Platform, dict[str, Any]]]:
        for entry in index["manifests"]:
            document = self.json(entry["digest"])
            if entry.get("mediaType") in INDEXES or "manifests" in document:
                yield from self._images(document)
            elif (platform := parse_platform(self.json(document["config"]["digest"]))).os not in (
                "",
                "unknown",
            ):
                yield platform, document

    def blob(self, digest: str) -> bytes:
        """Raises `LayoutUnusable` for what is not there, or has another digest."""
        path = self._path(digest)
        content = path.read_bytes() if path.is_file() else None
        if content is None or self.digest_of(content) != digest:
            raise LayoutUnusable(f"{self.folder}: the blob {digest} is missing or damaged")
        return content

    def json(self, digest: str) -> dict[str, Any]:
        """Raises `LayoutUnusable`."""
        found = json.loads(self.blob(digest))
        if not isinstance(found, dict):
            raise LayoutUnusable(f"{self.folder}: {digest} is no JSON object")
        return found

    def copy(self, other: Layout, digest: str) -> None:
        self._path(digest).write_bytes(other.blob(digest))

    def add(self, content: bytes, media_type: str) -> Descriptor:
        digest = Digest.of(content)
        self._path(digest).write_bytes(content)
        return Descriptor(media_type, digest, len(content))

    def add_image(self, config: dict[str, Any], layers: Sequence[dict[str, Any]]) -> Descriptor:
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.add(_encoded(config), OCI_CONFIG).to_json(),
            "layers": [_oci(layer) for layer in layers],
        }
        return self.add(_encoded(manifest), OCI_MANIFEST)

    def tag(self, images: Sequence[tuple[Platform, Descriptor]], name: str) -> Descriptor:
        """One image for each platform, under one name; the other names of the layout stay."""
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": _entries(images)}
        made = self.add(_encoded(index), OCI_INDEX)
        path = self.folder / "index.json"
        kept = json.loads(path.read_text())["manifests"] if path.is_file() else []
        others = [each for each in kept if each.get("annotations", {}).get(_REF_NAME) != name]
        entry = {**made.to_json(), "annotations": {_REF_NAME: name}}
        path.write_bytes(_encoded({"schemaVersion": 2, "manifests": [*others, entry]}))
        return made

    @staticmethod
    def digest_of(content: bytes) -> str:
        return str(Digest.of(content))

    def _path(self, digest: str) -> Path:
        checked = Digest(digest)
        return self.folder / "blobs" / checked.algorithm / checked.hex


def _entries(images: Iterable[tuple[Platform, Descriptor]]) -> list[dict[str, Any]]:
    return [
        {**image.to_json(), "platform": {key: value for key, value in _fields(platform) if value}}
        for platform, image in images
    ]


def _fields(platform: Platform) -> tuple[tuple[str, str], ...]:
    return (("architecture", platform.architecture), ("os", platform.os), ("variant", platform.variant))


def _oci(layer: dict[str, Any]) -> dict[str, Any]:
    """Docker's layers are the same bytes under another name; one manifest has one family of names."""
    return {
        **layer,
        "mediaType": layer["mediaType"].replace(
            "docker.image.rootfs.diff.tar.gzip", "oci.image.layer.v1.tar+gzip"
        ),
    }


def _encoded(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
