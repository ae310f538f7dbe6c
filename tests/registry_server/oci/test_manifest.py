"""What a manifest says, and the oddities that must be accepted."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from registry_server.oci import media_types
from registry_server.oci.digest import Digest
from registry_server.oci.errors import ManifestInvalid
from registry_server.oci.manifest import is_schema1, parse_manifest, total_size
from tests.registry_server.oci.documents import (
    CHILD,
    CONFIG,
    CONTENT,
    FOREIGN_TYPE,
    IMAGE,
    INDEX,
    SHA384,
    body,
    descriptor,
    layer,
    without,
)


@pytest.mark.parametrize(
    ("document", "declared", "media_type"),
    [
        (IMAGE, None, media_types.OCI_MANIFEST),
        (INDEX, media_types.OCI_INDEX, media_types.OCI_INDEX),
        pytest.param(IMAGE, "application/json", media_types.OCI_MANIFEST, id="type-that-says-nothing"),
        pytest.param(IMAGE, "text/plain; charset=utf-8", media_types.OCI_MANIFEST, id="as-old-quay-does"),
        pytest.param(
            without(IMAGE, "mediaType"),
            media_types.DOCKER_MANIFEST,
            media_types.DOCKER_MANIFEST,
            id="declared",
        ),
        pytest.param(without(IMAGE, "mediaType"), None, media_types.OCI_MANIFEST, id="by-shape"),
        pytest.param(without(INDEX, "mediaType"), None, media_types.OCI_INDEX, id="index-by-shape"),
        pytest.param({**IMAGE, "unknown": {"deep": [1]}}, None, media_types.OCI_MANIFEST, id="unknown-field"),
        pytest.param({**IMAGE, "layers": []}, None, media_types.OCI_MANIFEST, id="no-layers"),
        pytest.param({**IMAGE, "layers": None}, None, media_types.OCI_MANIFEST, id="null-of-old-go-tools"),
        pytest.param({**INDEX, "manifests": []}, None, media_types.OCI_INDEX, id="empty-index"),
        pytest.param(
            {**IMAGE, "mediaType": "application/vnd.x.y"}, None, "application/vnd.x.y", id="unknown"
        ),
        pytest.param({**IMAGE, "annotations": None}, None, media_types.OCI_MANIFEST, id="null-annotations"),
        pytest.param(
            {**IMAGE, "annotations": {"Layers": "x", "layers": "y"}},
            None,
            media_types.OCI_MANIFEST,
            id="annotation-keys-are-free",
        ),
    ],
)
def test_oddities_that_are_accepted(document: dict[str, Any], declared: str | None, media_type: str) -> None:
    manifest = parse_manifest(body(document), declared)
    assert manifest.media_type == media_type
    assert manifest.body == body(document)
    assert manifest.is_index is (media_type == media_types.OCI_INDEX)


def test_an_image_in_full() -> None:
    manifest = parse_manifest(body(IMAGE, subject=CHILD, annotations={"a": "b"}, artifactType="x/y"))
    assert manifest.config is not None
    assert manifest.config.to_json() == CONFIG
    assert [each.to_json() for each in manifest.layers] == [descriptor()]
    assert manifest.subject is not None
    assert manifest.subject.digest == CHILD["digest"]
    assert manifest.artifact_type == "x/y"
    assert manifest.annotations == {"a": "b"}


def test_each_blob_is_named_once_and_foreign_layers_are_left_out() -> None:
    foreign = descriptor(b"windows", FOREIGN_TYPE, urls=["https://example.com/layer"])
    with_urls = descriptor(b"other", urls=["https://example.com/other"])
    manifest = parse_manifest(body(IMAGE, layers=[descriptor(), descriptor(), foreign, with_urls]))
    assert len(manifest.layers) == 4
    assert [blob.digest for blob in manifest.blobs] == [
        Digest.of(b"{}"),
        Digest.of(CONTENT),
        Digest.of(b"other"),
    ]
    assert total_size(manifest.layers) == len(CONTENT) + len(b"windows") + len(b"other")


def test_platforms_of_an_index() -> None:
    entry = CHILD | {"platform": {"os": "linux", "architecture": "arm", "variant": "v7", "features": ["x"]}}
    manifest = parse_manifest(body(INDEX, manifests=[entry, CHILD]))
    assert [str(each.platform) for each in manifest.manifests] == ["linux/arm/v7", "None"]


def test_embedded_data_is_what_the_descriptor_names() -> None:
    manifest = parse_manifest(layer(data=base64.b64encode(CONTENT).decode()))
    assert manifest.layers[0].data == CONTENT


@pytest.mark.parametrize(
    "digest",
    [SHA384, "blake3:" + "0" * 64, "multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8"],
)
def test_a_subject_of_an_unknown_algorithm_is_no_reason_to_refuse_the_image(digest: str) -> None:
    manifest = parse_manifest(body(IMAGE, subject=descriptor() | {"digest": digest}))
    assert manifest.subject is None


def test_a_layer_that_only_its_urls_have_may_use_an_unknown_algorithm() -> None:
    elsewhere = descriptor(b"x", FOREIGN_TYPE, urls=["https://example.com/x"]) | {"digest": SHA384}
    assert parse_manifest(body(IMAGE, layers=[elsewhere, descriptor()])).blobs[1:] == (
        parse_manifest(body(IMAGE)).layers
    )


def test_the_blobs_of_an_oci_artifact_manifest_are_its_layers() -> None:
    artifact = {"mediaType": media_types.OCI_ARTIFACT_MANIFEST, "schemaVersion": 2, "blobs": [descriptor()]}
    assert [each.to_json() for each in parse_manifest(body(artifact)).blobs] == [descriptor()]


@pytest.mark.parametrize(
    ("document", "artifact_type"),
    [
        pytest.param(IMAGE, media_types.OCI_CONFIG, id="the-type-of-the-config"),
        pytest.param({**IMAGE, "artifactType": "x/y"}, "x/y", id="its-own"),
        pytest.param(INDEX, None, id="none-for-an-index"),
        pytest.param({**INDEX, "artifactType": "x/y"}, "x/y", id="an-index-may-have-one"),
    ],
)
def test_how_a_referrers_list_shows_a_manifest(document: dict[str, Any], artifact_type: str | None) -> None:
    found = parse_manifest(body(document, annotations={"a": "b"})).descriptor("sha512")
    assert found.artifact_type == artifact_type
    assert found.annotations == {"a": "b"}
    assert found.digest == Digest.of(body(document, annotations={"a": "b"}), "sha512")


@pytest.mark.parametrize(
    ("sent", "declared", "expected"),
    [
        (b'{"schemaVersion": 1, "fsLayers": []}', None, True),
        (b"whatever", media_types.DOCKER_SCHEMA1_SIGNED, True),
        (b"whatever", f"{media_types.DOCKER_SCHEMA1}; charset=utf-8", True),
        (body(IMAGE), None, False),
        (b"[1]", None, False),
        (b"not json", None, False),
        (b"[" * 100_000, None, False),
    ],
)
def test_schema_1_is_recognised(sent: bytes, declared: str | None, *, expected: bool) -> None:
    assert is_schema1(sent, declared) is expected


def test_schema_1_is_no_manifest() -> None:
    with pytest.raises(ManifestInvalid, match="schemaVersion is 1"):
        parse_manifest(b'{"schemaVersion": 1, "fsLayers": []}')


def test_a_manifest_that_was_read_a_moment_ago_is_still_judged_by_how_it_is_announced() -> None:
    sent = body(without(IMAGE, "mediaType"))
    for _ in range(2):
        assert parse_manifest(sent, media_types.OCI_MANIFEST).media_type == media_types.OCI_MANIFEST
        assert parse_manifest(sent, media_types.DOCKER_MANIFEST).media_type == media_types.DOCKER_MANIFEST
        with pytest.raises(ManifestInvalid):
            parse_manifest(sent, media_types.OCI_INDEX)
    docker = body({**IMAGE, "mediaType": media_types.DOCKER_MANIFEST})
    assert (
        parse_manifest(docker, media_types.OCI_MANIFEST, same_kind=True).media_type
        == media_types.DOCKER_MANIFEST
    )
    with pytest.raises(ManifestInvalid):
        parse_manifest(docker, media_types.OCI_MANIFEST)
