"""One image, from the store alone: its platforms, layers, configuration, history and companions.

Everything here was written by strangers. A config that is not what the specification says is shown as far as
it can be read (image-spec, "Image Configuration").
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from profiles.model.destination import STORE
from registry_server.oci.companion_tags import runs_somewhere
from registry_server.oci.errors import MirrorflowError
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import Tag

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flows.reporting.tag_status import TagStatus
    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.oci.manifest import Manifest
    from registry_server.store.records import TagRecord
    from registry_server.store.repository import Repository

_MOST_CONFIG: Final = 1 << 20  # bytes
_MOST_ENTRIES: Final = 200  # of each list
_DEEPEST: Final = 4  # companions of companions
HELM_CONFIG: Final = "application/vnd.cncf.helm.config.v1+json"


@dataclass(frozen=True, slots=True)
class Platform:
    """An image of an index. `stored`: False for one that is left out on purpose, or is missing."""

    name: str
    digest: Digest
    size: int | None
    stored: bool


@dataclass(frozen=True, slots=True)
class Companion:
    """A referrer of an image, and what refers to that."""

    digest: Digest
    kind: str
    size: int
    companions: Sequence[Companion]


@dataclass(frozen=True, slots=True)
class HistoryStep:
    """What made a layer. `empty`: it made none."""

    created: str
    command: str
    empty: bool


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What the config blob says; texts as they are there."""

    created: str = ""
    platform: str = ""
    settings: Sequence[tuple[str, str]] = ()
    labels: Sequence[tuple[str, str]] = ()
    environment: Sequence[str] = ()
    history: Sequence[HistoryStep] = ()


@dataclass(frozen=True, slots=True)
class ImageView:
    """`record`: what the tag names, None where the image was asked for by its digest."""

    repository: str
    reference: str
    descriptor: Descriptor
    record: TagRecord | None
    manifest: Manifest
    config: ImageConfig
    platforms: Sequence[Platform]
    companions: Sequence[Companion]

    @property
    def size(self) -> int:
        """Bytes of the config and of all layers."""
        return sum(each.size for each in self.manifest.blobs)

    @property
    def is_chart(self) -> bool:
        return self.manifest.config is not None and self.manifest.config.media_type == HELM_CONFIG


@dataclass(frozen=True, slots=True)
class TagRow:
    """A tag in the list of a repository. `size` in bytes, None where it is not known."""

    status: TagStatus
    pushed: float | None
    size: int | None
    platforms: Sequence[str]
    companions: int


def tag_rows(repository: Repository, rows: Iterable[TagStatus]) -> list[TagRow]:
    """With what their manifests say."""
    return [_tag_row(repository, row) for row in rows]


def _tag_row(repository: Repository, row: TagStatus) -> TagRow:
    in_store = row.destination == STORE and Tag.is_valid(row.reference)
    record = repository.tag(Tag(row.reference)) if in_store else None
    manifest = _manifest(repository, record.digest) if record else None
    if record is None or manifest is None:
        return TagRow(row, None, None, (), 0)
    platforms = platforms_of(repository, manifest)
    sizes = [each.size for each in platforms if each.size is not None] if manifest.is_index else None
    return TagRow(
        row,
        record.pushed,
        sum(each.size for each in manifest.blobs) if sizes is None else sum(sizes),
        [each.name for each in platforms if each.stored and "/" in each.name],
        len(repository.referrers(record.digest)),
    )


def image_view(repository: Repository, reference: Tag | Digest) -> ImageView:
    """Raises `ManifestUnknown`, `RepositoryUnknown`, `StoreDamaged`, `ManifestInvalid`."""
    descriptor, body = repository.read_manifest(reference)
    manifest = parse_manifest(body, descriptor.media_type)
    return ImageView(
        str(repository.name),
        str(reference),
        descriptor,
        repository.tag(reference) if isinstance(reference, Tag) else None,
        manifest,
        read_config(_small_blob(repository, manifest.config)),
        platforms_of(repository, manifest),
        companions_of(repository, descriptor.digest),
    )


def platforms_of(repository: Repository, manifest: Manifest) -> list[Platform]:
    """Of an index; empty for anything else. The size is that of its config and layers, where it is stored."""
    found = []
    for child in manifest.manifests[:_MOST_ENTRIES]:
        below = _manifest(repository, child.digest)
        size = None if below is None else sum(each.size for each in below.blobs)
        found.append(Platform(_platform_name(child), child.digest, size, below is not None))
    return found


def companions_of(repository: Repository, digest: Digest, depth: int = 0) -> list[Companion]:
    """What is on record as a referrer, and what refers to that."""
    if depth == _DEEPEST:
        return []
    return [
        Companion(each.digest, _kind(each), each.size, companions_of(repository, each.digest, depth + 1))
        for each in repository.referrers(digest)[:_MOST_ENTRIES]
    ]


def read_config(content: bytes | None) -> ImageConfig:
    """What can be read of it; an empty one for what is no JSON object."""
    try:
        body = json.loads(content or b"{}")
    except (ValueError, RecursionError):
        body = {}
    if not isinstance(body, dict):
        return ImageConfig()
    run = _object(body.get("config"))
    return ImageConfig(
        created=_text(body.get("created")),
        platform="/".join(filter(None, (_text(body.get(key)) for key in ("os", "architecture", "variant")))),
        settings=list(_settings(run)),
        labels=sorted((str(key), _text(value)) for key, value in _object(run.get("Labels")).items()),
        environment=_texts(run.get("Env")),
        history=[_step(_object(each)) for each in _list(body.get("history"))],
    )


def _settings(run: dict[str, Any]) -> Iterable[tuple[str, str]]:
    for key in ("User", "WorkingDir", "StopSignal"):
        if value := _text(run.get(key)):
            yield key, value
    for key in ("Entrypoint", "Cmd"):
        if words := _texts(run.get(key)):
            yield key, json.dumps(words)
    for key in ("ExposedPorts", "Volumes"):
        if names := sorted(map(str, _object(run.get(key)))):
            yield key, ", ".join(names[:_MOST_ENTRIES])


def _step(body: dict[str, Any]) -> HistoryStep:
    return HistoryStep(
        _text(body.get("created")), _text(body.get("created_by")), body.get("empty_layer") is True
    )


def _kind(companion: Descriptor) -> str:
    return companion.artifact_type or companion.media_type


def _platform_name(child: Descriptor) -> str:
    """`linux/arm64/v8`. BuildKit keeps attestations as entries for `unknown/unknown`."""
    platform = child.platform
    if platform is None or not runs_somewhere([platform]):
        return child.artifact_type or "attestation"
    return str(platform)


def _manifest(repository: Repository, digest: Digest) -> Manifest | None:
    try:
        descriptor, body = repository.read_manifest(digest)
        return parse_manifest(body, descriptor.media_type)
    except MirrorflowError:
        return None


def _small_blob(repository: Repository, config: Descriptor | None) -> bytes | None:
    """None for what is not here, too large or damaged."""
    if config is None or not repository.has_blob(config.digest):
        return None
    return repository.pool_content(config.digest, at_most=_MOST_CONFIG)


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value[:_MOST_ENTRIES] if isinstance(value, list) else []


def _text(value: object) -> str:
    return value[:4000] if isinstance(value, str) else ""


def _texts(value: object) -> list[str]:
    return [_text(each) for each in _list(value) if isinstance(each, str)]
