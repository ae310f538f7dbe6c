"""Upstreams in which images have company: with the referrers API (the bundled server), and without it."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from registry_server.oci.companion_tags import fallback_tag
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.media_types import OCI_CONFIG, OCI_EMPTY, OCI_INDEX, OCI_MANIFEST
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.records import TagRecord
from tests.support.registries import running_registry
from tests.support_misbehaving import Misbehaving, misbehaving
from tests.tasks.runs import mirror, opened, store_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tasks.results.report import Report
    from tests.support.registries import Registry

APP = RepositoryName("app")
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
SBOM, BUNDLE = "application/spdx+json", "application/vnd.dev.sigstore.bundle.v0.3+json"


class Holder(Protocol):
    """A registry that can be filled."""

    @property
    def url(self) -> str: ...

    def keep(self, body: bytes, blobs: Sequence[bytes], tag: str = "") -> Descriptor:
        """A manifest and its blobs."""
        ...

    def asked(self) -> Counter[str]:
        """Since the last call: "HEAD manifest" -> 3."""
        ...


@dataclass
class WithApi:
    registry: Registry

    @property
    def url(self) -> str:
        return self.registry.url

    def keep(self, body: bytes, blobs: Sequence[bytes], tag: str = "") -> Descriptor:
        repository = self.registry.store.repository(APP)
        for blob in blobs:
            repository.put_blob(Descriptor("a/b", Digest.of(blob), len(blob)), blob)
        made = repository.put_manifest(parse_manifest(body))
        if tag:
            record = TagRecord(made.digest, made.media_type, made.size, pushed=0.0)
            repository.put_tag(Tag(tag), record)
        return made

    def asked(self) -> Counter[str]:
        return self.registry.requests.counts()


@dataclass
class WithoutApi:
    """What refers to something stands in an index under a tag, as cosign 3.0 writes it: with wrong types."""

    server: Misbehaving
    lists: dict[Digest, list[Descriptor]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://{self.server.host}"

    def keep(self, body: bytes, blobs: Sequence[bytes], tag: str = "") -> Descriptor:
        for blob in blobs:
            self.server.add_blob(APP, blob)
        manifest = parse_manifest(body)
        made = manifest.descriptor()
        self.server.add_manifest(APP, tag or made.digest, body, made.media_type)
        if manifest.subject is not None:
            self.list_under(manifest.subject.digest, made)
        return made

    def list_under(self, subject: Digest, made: Descriptor) -> None:
        self.lists.setdefault(subject, []).append(Descriptor(made.media_type, made.digest, made.size))
        entries = [each.to_json() | {"artifactType": OCI_EMPTY} for each in self.lists[subject]]
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        self.server.add_manifest(APP, fallback_tag(subject), json.dumps(index).encode(), OCI_INDEX)

    def asked(self) -> Counter[str]:
        kinds = ("referrers", "manifests", "blobs", "tags")
        named = [
            (each, next((kind for kind in kinds if f"/{kind}/" in each.path), ""))
            for each in self.server.seen
        ]
        self.server.seen.clear()
        return Counter(
            f"{each.method} {kind.rstrip('s') if kind != 'referrers' else kind}"
            for each, kind in named
            if kind
        )


@contextmanager
def holders(folder: Path, *, api: bool) -> Iterator[Holder]:
    if api:
        with running_registry(folder / "upstream") as registry:
            yield WithApi(registry)
    else:
        with misbehaving() as server:
            yield WithoutApi(server)


def add_image(upstream: Holder, tag: str, **more: Any) -> Descriptor:
    """One layer, named after the tag."""
    layer = tag.encode()
    return upstream.keep(_manifest(OCI_CONFIG, LAYER, layer, **more), [b"{}", layer], tag)


def attach(
    upstream: Holder,
    subject: Descriptor,
    artifact_type: str,
    content: bytes,
    *,
    annotations: Mapping[str, str] | None = None,
    layer_type: str = "application/octet-stream",
    layer_annotations: Mapping[str, str] | None = None,
    config: str = OCI_EMPTY,
) -> Descriptor:
    """Something that refers to `subject`."""
    more: dict[str, Any] = {"artifactType": artifact_type, "subject": _plain(subject)}
    if annotations:
        more["annotations"] = dict(annotations)
    body = json.loads(_manifest(config, layer_type, content, **more))
    if layer_annotations:
        body["layers"][0]["annotations"] = dict(layer_annotations)
    return upstream.keep(json.dumps(body).encode(), [b"{}", content])


def _plain(descriptor: Descriptor) -> dict[str, Any]:
    return Descriptor(descriptor.media_type, descriptor.digest, descriptor.size).to_json()


def _manifest(config: str, layer_type: str, layer: bytes, **more: Any) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": config, "digest": Digest.of(b"{}"), "size": 2},
        "layers": [{"mediaType": layer_type, "digest": Digest.of(layer), "size": len(layer)}],
    }
    return json.dumps(document | more).encode()


def index_of(upstream: Holder, tag: str, *children: Descriptor) -> Descriptor:
    entries = [_plain(child) for child in children]
    return upstream.keep(
        json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode(), [], tag
    )


def run(folder: Path, upstream: Holder, *content: dict[str, Any], **more: Any) -> Report:
    with opened(folder, upstream.url, *content, **more) as running:
        return mirror(running)


def stored(folder: Path, *found: Descriptor) -> list[bool]:
    """Whether each is a manifest here, and all that it needs."""
    repository = store_of(folder).repository(APP)
    return [repository.exists and repository.has_blob(each.digest) for each in found]


def listed(folder: Path, subject: Descriptor) -> set[Digest]:
    return {each.digest for each in store_of(folder).repository(APP).referrers(subject.digest)}
