"""What is pushed, listed, pulled and deleted: one of each kind of content that registries have to keep."""

from __future__ import annotations

import base64
import json
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from registry_server.oci.digest import Digest
from registry_server.oci.media_types import OCI_CONFIG, OCI_EMPTY, OCI_INDEX, OCI_MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
EMPTY = b"{}"


@dataclass(frozen=True)
class Document:
    """A manifest or index. By `tag` if it has one and no `tags`, and by digest in any case."""

    body: bytes
    media_type: str
    tag: str = ""
    tags: tuple[str, ...] = ()  # set with the query of one PUT by digest
    subject: Digest | None = None
    algorithm: str = "sha256"

    @property
    def digest(self) -> Digest:
        return Digest.of(self.body, self.algorithm)


@dataclass
class DataSet:
    """Blobs and documents in the order in which they are pushed; they are deleted the other way round."""

    name: str
    algorithm: str = "sha256"
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    documents: list[Document] = field(default_factory=list)

    def blob(self, content: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        """Push it; its descriptor."""
        descriptor = self.absent(content, media_type, **more)
        self.blobs[descriptor["digest"]] = content
        return descriptor

    def absent(self, content: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        """The descriptor of something that is not pushed."""
        digest = Digest.of(content, self.algorithm)
        return {"mediaType": media_type, "digest": digest, "size": len(content), **more}

    def document(self, media_type: str, tag: str = "", **content: Any) -> dict[str, Any]:
        """Push it; its descriptor."""
        tags = content.pop("tags", ())
        text = {"schemaVersion": 2, "mediaType": media_type, **content}
        body = json.dumps(text).encode()
        subject = content.get("subject", {}).get("digest")
        self.documents.append(Document(body, media_type, tag, tags, subject, self.algorithm))
        return {"mediaType": media_type, "digest": Digest.of(body, self.algorithm), "size": len(body)}

    def image(self, tag: str = "", *, layer_type: str = LAYER, **more: Any) -> dict[str, Any]:
        config = self.blob(json.dumps({"architecture": "amd64", "of": _noise(20).hex()}).encode(), OCI_CONFIG)
        layers = more.pop("layers", None)
        found = [self.blob(_noise(500), layer_type) for _ in range(2)] if layers is None else layers
        return self.document(OCI_MANIFEST, tag, config=config, layers=found, **more)

    def index(self, tag: str = "", *children: dict[str, Any], **more: Any) -> dict[str, Any]:
        return self.document(OCI_INDEX, tag, manifests=list(children), **more)

    def artifact(self, tag: str = "", **more: Any) -> dict[str, Any]:
        config, layer = self.blob(EMPTY, OCI_EMPTY), self.blob(_noise(100), "text/plain")
        given = {"artifactType": "application/vnd.example.test", "config": config, "layers": [layer]}
        return self.document(OCI_MANIFEST, tag, **(given | more))


_random = random.Random(1)  # noqa: S311 - the same content in each run


def _noise(length: int) -> bytes:
    return _random.randbytes(length)


def _image(data: DataSet) -> None:
    data.image("image")


def _image_uncompressed(data: DataSet) -> None:
    data.image("image-uncompressed", layer_type="application/vnd.oci.image.layer.v1.tar")


def _large_manifest(data: DataSet) -> None:
    annotations = {f"org.example.{number}": "x" * 10_000 for number in range(390)}
    data.image("large-manifest", annotations=annotations)


def _index(data: DataSet) -> None:
    data.index("index", data.image(), data.image())


def _nested_index(data: DataSet) -> None:
    data.index("nested-index", data.index("", data.image(), data.image()), data.image())


def _empty_index(data: DataSet) -> None:
    data.index("empty-index")


def _artifact(data: DataSet) -> None:
    data.artifact("artifact")


def _artifact_index(data: DataSet) -> None:
    data.index("artifact-index", data.artifact(), data.artifact(), artifactType="application/vnd.example.set")


def _artifact_without_layers(data: DataSet) -> None:
    data.artifact("artifact-without-layers", layers=[data.blob(EMPTY, OCI_EMPTY)])


def _artifacts_with_subject(data: DataSet) -> None:
    subject = data.image("image-with-referrers")
    data.artifact(subject=subject, annotations={"org.example.key": "value"})
    data.artifact("tagged-referrer", subject=subject, artifactType="application/vnd.example.other")
    data.image(subject=subject)  # its artifact type is the media type of its config


def _index_with_subject(data: DataSet) -> None:
    data.index(
        "index-referrer", data.artifact(), subject=data.image("subject"), artifactType="application/x.set"
    )


def _missing_subject(data: DataSet) -> None:
    data.artifact("missing-subject", subject=data.absent(b"nowhere", OCI_MANIFEST))


def _data_field(data: DataSet) -> None:
    content = _noise(50)
    embedded = base64.b64encode(content).decode()
    data.artifact("data-field", layers=[data.blob(content, "text/plain", data=embedded)])


def _non_distributable(data: DataSet) -> None:
    foreign = data.absent(_noise(50), FOREIGN, urls=["https://registry.example/layer"])
    data.image("non-distributable-layers", layers=[foreign, data.blob(_noise(9), LAYER)])


def _custom_fields(data: DataSet) -> None:
    custom: dict[str, Any] = {"org.example.custom": {"deep": [1, 2.5, None, "é"]}, "reserved": True}
    data.index("custom-fields", data.image(**custom) | custom, **custom)


def _no_layers(data: DataSet) -> None:
    data.image("no-layers", layers=[])


def _sparse(data: DataSet) -> None:
    absent = DataSet("never pushed").image()
    data.image("sparse-image", layers=[data.absent(_noise(50), LAYER)])
    data.index("sparse-index", data.image(), absent)


def _by_digest_only(data: DataSet) -> None:
    data.index("", data.image(), data.image(), subject=data.image())


def _tag_parameter(data: DataSet) -> None:
    data.image(tags=tuple(f"tag-{data.algorithm}-{number}" for number in range(10)))


_MAKERS: tuple[tuple[Callable[[DataSet], None], str], ...] = (
    *((maker, "sha256") for maker in (
        _image, _image_uncompressed, _large_manifest, _index, _nested_index, _empty_index, _artifact,
        _artifact_index, _artifact_without_layers, _artifacts_with_subject, _index_with_subject,
        _missing_subject, _data_field, _non_distributable, _custom_fields, _no_layers,
        _sparse, _tag_parameter,
    )),
    (_by_digest_only, "sha512"),
    (_tag_parameter, "sha512"),
)  # fmt: skip


def data_sets() -> list[DataSet]:
    found = []
    for maker, algorithm in _MAKERS:
        name = maker.__name__.strip("_").replace("_", "-")
        data = DataSet(f"{name}-{algorithm}", algorithm)
        maker(data)
        found.append(data)
    return found
