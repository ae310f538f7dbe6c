"""What a rule's `select` expression sees of an image. It costs GETs: asked last, and only of changes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from registry_server.oci.descriptor import Platform
from registry_server.oci.digest import Digest
from registry_server.oci.errors import DigestMismatch
from registry_server.oci.manifest import Manifest, parse_manifest

if TYPE_CHECKING:
    from registry_server.oci.descriptor import Descriptor
    from tasks.images import Image
    from tasks.run import MirrorRun

_MAX_CONFIG_BYTES = 8 * 1024 * 1024
_PREFERRED = (Platform("linux", "amd64"), Platform())


def describe(run: MirrorRun, image: Image) -> dict[str, Any]:
    """The document that `profiles.selection.DOCUMENT` lists.

    Of an index, `manifest` is the index; `config` (and labels, created) is that of one child: of the rule's
    first platform if it names some, else linux/amd64, else the first.
    """
    manifest = _fetch(run, image, None)
    config = _config(run, image, manifest)
    inner = config.get("config") if isinstance(config.get("config"), dict) else {}
    return {
        "repository": image.source,
        "tag": str(image.reference),
        "digest": str(image.digest),
        "mediaType": manifest.media_type,
        "manifest": json.loads(manifest.body),
        "config": config,
        "annotations": dict(manifest.annotations or {}),
        "labels": (inner or {}).get("Labels") or {},
        "platforms": _platforms(manifest, config),
        "created": config.get("created"),
    }


def _fetch(run: MirrorRun, image: Image, child: Descriptor | None) -> Manifest:
    digest = child.digest if child else image.digest
    fetched = run.upstream.manifest(image.source, digest, expected=child)
    return parse_manifest(fetched.body, fetched.media_type)


def _config(run: MirrorRun, image: Image, manifest: Manifest) -> dict[str, Any]:
    if manifest.is_index:
        child = _child(manifest, image)
        return _config(run, image, _fetch(run, image, child)) if child else {}
    if manifest.config is None or not manifest.config.media_type.endswith("json"):
        return {}
    if manifest.config.size > _MAX_CONFIG_BYTES:
        return {}
    try:
        document = json.loads(_fetch_config(run, image, manifest.config))
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


@dataclass(slots=True)
class _InMemory:
    """A sink for a blob that is small enough to look at."""

    content: bytearray = field(default_factory=bytearray)

    @property
    def offset(self) -> int:
        return len(self.content)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.content += data

    def restart(self) -> None:
        self.content.clear()


def _fetch_config(run: MirrorRun, image: Image, config: Descriptor) -> bytes:
    """Raises `DigestMismatch`: a selection must not rest on what somebody else wrote."""
    if config.data is not None:
        return config.data
    sink = _InMemory()
    run.upstream.blob(image.source, config, sink)
    content = bytes(sink.content)
    actual = Digest.of(content, config.digest.algorithm)
    if actual != config.digest:
        raise DigestMismatch(expected=config.digest, actual=actual)
    return content


def _child(index: Manifest, image: Image) -> Descriptor | None:
    for wanted in (*image.platforms, *_PREFERRED):
        for child in index.manifests:
            if wanted.accepts(child.platform or Platform()):
                return child
    return None


def _platforms(manifest: Manifest, config: dict[str, Any]) -> list[str]:
    if manifest.is_index:
        return [str(child.platform) for child in manifest.manifests if child.platform]
    if config.get("architecture"):
        return [
            str(
                Platform(
                    str(config.get("os", "")), str(config["architecture"]), str(config.get("variant", ""))
                )
            )
        ]
    return []
