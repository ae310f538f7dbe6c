"""Making small but real images: what a build tool would push, from a seed instead of a Dockerfile.

Everything is deterministic, so that the same image has the same digest each time.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry_server.oci import media_types
from registry_server.oci.descriptor import Descriptor, Platform
from registry_server.oci.digest import Digest
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import Tag
from registry_server.store.records import TagRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from registry_server.store.repository import Repository

_OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_IN_TOTO = "application/vnd.in-toto+json"
_EMPTY = b"{}"
_PUSHED = 1_709_251_200.0  # 2024-03-01T00:00:00Z

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64", "v8")
ARM_V7 = Platform("linux", "arm", "v7")
UNKNOWN = Platform("unknown", "unknown")


@dataclass(frozen=True, slots=True)
class Layer:
    """A gzipped tar, and the digest of the tar itself, which the config lists."""

    content: bytes
    diff_id: Digest


def layer(name: str, size: int) -> Layer:
    """A layer with one file of `size` bytes that nothing compresses, under `/opt/<name>`."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        entry = tarfile.TarInfo(f"opt/{name}")
        entry.size, entry.mtime, entry.mode = size, int(_PUSHED), 0o644
        archive.addfile(entry, io.BytesIO(_noise(name, size)))
    return Layer(gzip.compress(tar.getvalue(), compresslevel=1, mtime=0), Digest.of(tar.getvalue()))


def _noise(seed: str, size: int) -> bytes:
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big")
    return random.Random(number).randbytes(size)  # noqa: S311 - repeatable, and not secret


class ImageMaker:
    """Puts images into one repository: contents first, then manifests, then tags."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def image(
        self,
        layers: Iterable[Layer],
        platform: Platform = AMD64,
        *,
        created: str = "2024-03-01T00:00:00Z",
        labels: Mapping[str, str] | None = None,
        docker: bool = False,
    ) -> Descriptor:
        """An image for one platform, OCI or Docker schema 2."""
        layers = list(layers)
        config = {
            "created": created,
            **_platform_json(platform),
            "config": {"Labels": dict(labels or {}), "Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": [each.diff_id for each in layers]},
            "history": [{"created": created, "created_by": "mirrorflow sample"} for _ in layers],
        }
        layer_type = _DOCKER_LAYER if docker else _OCI_LAYER
        config_type = media_types.DOCKER_CONFIG if docker else media_types.OCI_CONFIG
        body = {
            "config": self._blob(config_type, _json(config)).to_json(),
            "layers": [self._blob(layer_type, each.content).to_json() for each in layers],
        }
        return self._manifest(media_types.DOCKER_MANIFEST if docker else media_types.OCI_MANIFEST, body)

    def index(
        self, children: Iterable[tuple[Descriptor, Platform | None]], *, docker: bool = False
    ) -> Descriptor:
        """An OCI index or a Docker manifest list."""
        entries = [
            child.to_json() | ({"platform": _platform_json(platform)} if platform else {})
            for child, platform in children
        ]
        kind = media_types.DOCKER_LIST if docker else media_types.OCI_INDEX
        return self._manifest(kind, {"manifests": entries})

    def multi_platform(
        self, layers: Mapping[Platform, Iterable[Layer]], *, docker: bool = False, attested: bool = False
    ) -> Descriptor:
        """One image a platform; `attested` adds what BuildKit adds: provenance for `unknown/unknown`."""
        images: list[tuple[Descriptor, Platform | None]] = [
            (self.image(each, platform, docker=docker), platform) for platform, each in layers.items()
        ]
        if attested:
            images.append((self.attestation(images[0][0]), UNKNOWN))
        return self.index(images, docker=docker)

    def attestation(self, of: Descriptor) -> Descriptor:
        """As BuildKit attaches it: a child of the index that names its image in annotations."""
        statement = {
            "_type": "https://in-toto.io/Statement/v0.1",
            "subject": [{"digest": {"sha256": of.digest.hex}}],
        }
        config = {**_platform_json(UNKNOWN), "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}
        body = {
            "config": self._blob(media_types.OCI_CONFIG, _json(config)).to_json(),
            "layers": [self._blob(_IN_TOTO, _json(statement)).to_json()],
        }
        made = self._manifest(media_types.OCI_MANIFEST, body)
        marks = {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": str(of.digest),
        }
        return Descriptor(made.media_type, made.digest, made.size, annotations=marks)

    def artifact(
        self,
        artifact_type: str | None,
        content: bytes,
        *,
        content_type: str,
        subject: Descriptor | None = None,
        config: tuple[str, bytes] = (media_types.OCI_EMPTY, _EMPTY),
        annotations: Mapping[str, str] | None = None,
    ) -> Descriptor:
        """Something that is no image (image-spec manifest.md, "Guidelines for Artifact Usage").

        Without an `artifact_type` the type of the config says what it is, as with Helm charts.
        """
        body: dict[str, Any] = {
            "config": self._blob(*config).to_json(),
            "layers": [self._blob(content_type, content).to_json()],
        }
        if artifact_type is not None:
            body["artifactType"] = artifact_type
        if subject is not None:
            body["subject"] = subject.to_json()
        if annotations:
            body["annotations"] = dict(annotations)
        return self._manifest(media_types.OCI_MANIFEST, body)

    def tag(self, descriptor: Descriptor, *names: str) -> None:
        for name in names:
            record = TagRecord(descriptor.digest, descriptor.media_type, descriptor.size, _PUSHED)
            self._repository.put_tag(Tag(name), record)

    def _blob(self, media_type: str, content: bytes) -> Descriptor:
        descriptor = Descriptor(media_type, Digest.of(content), len(content))
        if not self._repository.has_blob(descriptor.digest):
            self._repository.put_blob(descriptor, content)
        return descriptor

    def _manifest(self, media_type: str, body: Mapping[str, Any]) -> Descriptor:
        document = {"schemaVersion": 2, "mediaType": media_type, **body}
        made = self._repository.put_manifest(parse_manifest(_json(document), media_type))
        # What a parent says about a child is its own business: type, digest and size only.
        return Descriptor(made.media_type, made.digest, made.size)


def _platform_json(platform: Platform) -> dict[str, str]:
    fields = {"architecture": platform.architecture, "os": platform.os}
    return fields | ({"variant": platform.variant} if platform.variant else {})


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
