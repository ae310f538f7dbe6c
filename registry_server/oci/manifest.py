"""Reading manifests and indexes strictly enough that two readers cannot disagree about them.

What is refused and why: image-spec manifest.md and image-index.md, and CVE-2021-41190 (one body, read as
an image by one client and as an index by another). Unknown fields and media types are always accepted.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from registry_server.oci import media_types
from registry_server.oci.descriptor import Descriptor, Platform
from registry_server.oci.digest import Digest
from registry_server.oci.errors import InvalidName, ManifestInvalid
from registry_server.oci.strict_json import load_object, refuse_case_variants, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_MANIFEST_BYTES = 4 * 1024 * 1024  # what distribution, containers/image and zot accept
_MAX_SIZE = 2**63 - 1
_REMEMBERED: Final = 16 * 1024  # bytes of a manifest that is remembered; nearly all have less
# RFC 6838 section 4.2, without parameters: it becomes a Content-Type, so a line break in it is an attack.
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")
_PRINTABLE = re.compile(r"[\x20-\x7e]{1,255}")
# image-spec descriptor.md "Digests": algorithms that we do not know, in places where we need not.
_ANY_DIGEST = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")
_MANIFEST_KEYS = (
    *("schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "blobs"),
    *("fsLayers", "history", "subject", "annotations"),
)
_DESCRIPTOR_KEYS = ("mediaType", "artifactType", "digest", "size", "urls", "annotations", "platform", "data")


@dataclass(frozen=True, slots=True)
class Manifest:
    """A parsed manifest or index; `body` holds the exact bytes, which alone are ever stored or served."""

    body: bytes
    media_type: str
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    manifests: tuple[Descriptor, ...] = ()
    subject: Descriptor | None = None
    artifact_type: str | None = None
    annotations: Mapping[str, str] | None = None

    @property
    def is_index(self) -> bool:
        return self.media_type in media_types.INDEXES

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Config and layers that a registry holds, each digest once, foreign layers left out."""
        return self.blobs_with(foreign=False)

    def blobs_with(self, *, foreign: bool) -> tuple[Descriptor, ...]:
        """Config and layers, each digest once."""
        found = (*((self.config,) if self.config else ()), *self.layers)
        return tuple({blob.digest: blob for blob in found if foreign or not blob.is_foreign}.values())

    def descriptor(self, algorithm: str = "sha256") -> Descriptor:
        """Of the manifest itself, as a referrers list shows it (distribution-spec, "Listing Referrers")."""
        artifact_type = self.artifact_type
        if artifact_type is None and self.config is not None:
            artifact_type = self.config.media_type or None
        return Descriptor(
            media_type=self.media_type,
            digest=Digest.of(self.body, algorithm),
            size=len(self.body),
            artifact_type=artifact_type,
            annotations=dict(self.annotations or {}),
        )


def parse_manifest(body: bytes, declared: str | None = None, *, same_kind: bool = False) -> Manifest:
    """Parse and validate; `declared` is the media type of the Content-Type or of the parent's descriptor.

    `same_kind`: one of Docker's types where the body has OCI's, or the reverse, is accepted, and the body's
    counts. An image that is announced as an index never is, nor the reverse (CVE-2021-41190).
    Raises `ManifestInvalid` saying which rule is broken. Schema 1 raises it too: see `is_schema1`.
    """
    if len(body) > MAX_MANIFEST_BYTES:
        raise ManifestInvalid(
            f"the manifest has {len(body)} bytes; at most {MAX_MANIFEST_BYTES} are accepted"
        )
    return (_parsed_lately if len(body) <= _REMEMBERED else _parsed)(body, declared, same_kind)


def _parsed(body: bytes, declared: str | None, same_kind: bool) -> Manifest:  # noqa: FBT001 - as lru_cache has it
    document = load_object(body)
    refuse_case_variants(document, _MANIFEST_KEYS, "the manifest")
    media_type = _media_type(document, declared, same_kind=same_kind)
    if document.get("schemaVersion") != 2 or isinstance(document["schemaVersion"], bool | float):
        raise ManifestInvalid(f"schemaVersion is {shown(document.get('schemaVersion'))}; expected 2")
    annotations = _annotations(document.get("annotations"), "annotations")
    return Manifest(
        body=body,
        media_type=media_type,
        config=_descriptor(document["config"], "config") if document.get("config") is not None else None,
        layers=_descriptors(document, "layers") + _descriptors(document, "blobs"),
        manifests=_descriptors(document, "manifests"),
        subject=_subject(document.get("subject")),
        artifact_type=_text(document.get("artifactType"), "artifactType") or None,
        annotations=annotations,
    )


# The manifest of an image is parsed when it arrives, when it is stored and when its tag is set.
_parsed_lately = lru_cache(maxsize=64)(_parsed)


def parse_entries(body: bytes) -> tuple[tuple[Descriptor, ...], tuple[str, ...]]:
    """The entries of an index that can be read, and of each other one what is wrong with it.

    For lists that others add to (referrers): one bad entry takes no other with it. Raises `ManifestInvalid`
    for what is no index at all.
    """
    document = load_object(body)
    entries = document.get("manifests")
    if not isinstance(entries, list | None):
        raise ManifestInvalid(f"manifests is a {type(entries).__name__}; expected a list of descriptors")
    index = parse_manifest(json.dumps({**document, "manifests": []}).encode(), media_types.OCI_INDEX)
    assert index.is_index, "parse_manifest was told so"
    found, problems = [], []
    for number, entry in enumerate(entries or ()):
        try:
            found.append(_descriptor(entry, f"manifests[{number}]"))
        except ManifestInvalid as error:
            problems.append(str(error))
    return tuple(found), tuple(problems)


def is_schema1(body: bytes, declared: str | None = None) -> bool:
    """Docker's schema 1: its digest does not cover its body, so it can be neither verified nor kept."""
    if declared and media_types.without_parameters(declared) in media_types.SCHEMA1:
        return True
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("schemaVersion") == 1


def _media_type(document: Mapping[str, Any], declared: str | None, *, same_kind: bool) -> str:
    declared = media_types.without_parameters(declared) if declared else ""
    written = _text(document.get("mediaType"), "mediaType")  # empty: Go tools write that for none
    if media_types.is_generic(declared) or (same_kind and media_types.is_same_kind(declared, written)):
        declared = ""
    if written and declared and media_types.without_parameters(written) != declared:
        raise ManifestInvalid(
            f"the manifest says it is {shown(written)}, but it was announced as {shown(declared)}"
        )
    media_type = written or declared or _shape(document)
    if not _MEDIA_TYPE.fullmatch(media_type):
        raise ManifestInvalid(f"mediaType is {shown(media_type)}; expected type/subtype as in RFC 6838")
    _check_shape(document, media_type)
    return media_type


def _shape(document: Mapping[str, Any]) -> str:
    """For documents that do not say what they are (image-spec: mediaType SHOULD be set)."""
    if "fsLayers" in document:
        return media_types.DOCKER_SCHEMA1
    if "manifests" in document:
        return media_types.OCI_INDEX
    if "config" in document or "layers" in document:
        return media_types.OCI_MANIFEST
    raise ManifestInvalid("the document has neither `manifests` nor `config` and `layers`, and no mediaType")


_IMAGE_KEYS = ("config", "layers")
_INDEX_KEYS = ("manifests",)
_FOREIGN_TO = {
    **dict.fromkeys(media_types.INDEXES, (*_IMAGE_KEYS, "fsLayers", "history", "blobs")),
    **dict.fromkeys(media_types.IMAGES, (*_INDEX_KEYS, "fsLayers", "history", "blobs")),
    media_types.OCI_ARTIFACT_MANIFEST: (*_INDEX_KEYS, *_IMAGE_KEYS, "fsLayers", "history"),
}
_REQUIRED = {
    **dict.fromkeys(media_types.INDEXES, _INDEX_KEYS),
    **dict.fromkeys(media_types.IMAGES, _IMAGE_KEYS),
}


def _check_shape(document: Mapping[str, Any], media_type: str) -> None:
    """An image has `config` and `layers` and nothing of an index; and the other way round."""
    for key in _FOREIGN_TO.get(media_type, ()):
        if key in document:
            raise ManifestInvalid(f"a manifest of type {media_type} must not have the key {key!r}")
    for key in _REQUIRED.get(media_type, ()):
        if key not in document:
            raise ManifestInvalid(f"a manifest of type {media_type} needs the key {key!r}")
    if media_type in media_types.IMAGES and document["config"] is None:
        raise ManifestInvalid("config is null; expected a descriptor")


def _descriptors(document: Mapping[str, Any], key: str) -> tuple[Descriptor, ...]:
    found = document.get(key)
    if found is None:  # absent, or the `null` that old Go tools write for an empty list
        return ()
    if not isinstance(found, list):
        raise ManifestInvalid(f"{key} is a {type(found).__name__}; expected a list of descriptors")
    return tuple(
        _descriptor(item, f"{key}[{number}]") for number, item in enumerate(found) if not _is_elsewhere(item)
    )


def _is_elsewhere(item: Any) -> bool:
    """Content that only its `urls` have, under an algorithm that we cannot check: never ours to keep."""
    return isinstance(item, dict) and bool(item.get("urls")) and _is_unknown_digest(item.get("digest"))


def _is_unknown_digest(text: Any) -> bool:
    if not isinstance(text, str) or text.startswith(("sha256:", "sha512:")):
        return False
    return _ANY_DIGEST.fullmatch(text) is not None


def _subject(found: Any) -> Descriptor | None:
    """None too for a subject that no repository of ours can hold (an algorithm that we do not know)."""
    if found is None or (isinstance(found, dict) and _is_unknown_digest(found.get("digest"))):
        return None
    return _descriptor(found, "subject")


def _descriptor(item: Any, where: str) -> Descriptor:
    if not isinstance(item, dict):
        raise ManifestInvalid(f"{where} is a {type(item).__name__}; expected a descriptor")
    refuse_case_variants(item, _DESCRIPTOR_KEYS, where)
    size = item.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _MAX_SIZE:
        raise ManifestInvalid(f"{where}.size is {shown(size)}; expected a number of bytes")
    media_type = _text(item.get("mediaType"), f"{where}.mediaType")
    # Required by image-spec descriptor.md, and left empty by some builders: such content is of no known type.
    if media_type and not _PRINTABLE.fullmatch(media_type):
        raise ManifestInvalid(f"{where}.mediaType is {shown(media_type)}; expected type/subtype")
    digest = _digest(item.get("digest"), where)
    return Descriptor(
        media_type=media_type,
        digest=digest,
        size=size,
        platform=_platform(item.get("platform"), f"{where}.platform"),
        artifact_type=_text(item.get("artifactType"), f"{where}.artifactType") or None,
        annotations=_annotations(item.get("annotations"), f"{where}.annotations"),
        urls=_urls(item.get("urls"), f"{where}.urls"),
        data=_data(item.get("data"), digest, size, f"{where}.data"),
    )


def _digest(text: Any, where: str) -> Digest:
    try:
        return Digest(text if isinstance(text, str) else repr(text))
    except InvalidName as error:
        raise ManifestInvalid(f"{where}.digest: {error}") from error


def _text(found: Any, where: str) -> str:
    if found is None:
        return ""
    if not isinstance(found, str):
        raise ManifestInvalid(f"{where} is {shown(found)}; expected text")
    return found


def _texts(found: Any, where: str) -> list[str]:
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise ManifestInvalid(f"{where} is not a list of texts")
    return found


def _urls(found: Any, where: str) -> tuple[str, ...]:
    return () if found is None else tuple(_texts(found, where))


def _annotations(found: Any, where: str) -> dict[str, str]:
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ManifestInvalid(f"{where} is not a map of texts to texts")
    return found


def _platform(found: Any, where: str) -> Platform | None:
    if found is None:
        return None
    if not isinstance(found, dict):
        raise ManifestInvalid(f"{where} is a {type(found).__name__}; expected an object")
    fields = ("os", "architecture", "variant", "os.version")
    return Platform(*(_text(found.get(name), f"{where}.{name}") for name in fields))


def _data(found: Any, digest: Digest, size: int, where: str) -> bytes | None:
    """Embedded content (image-spec descriptor.md, `data`): useful only when it is what it says."""
    if found is None:
        return None
    try:
        data = base64.b64decode(_text(found, where), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ManifestInvalid(f"{where} is not base64") from error
    if len(data) != size or Digest.of(data, digest.algorithm) != digest:
        raise ManifestInvalid(f"{where} is not the content that the descriptor names")
    return data


def total_size(descriptors: Iterable[Descriptor]) -> int:
    """Bytes, each digest counted once."""
    return sum({each.digest: each.size for each in descriptors}.values())
