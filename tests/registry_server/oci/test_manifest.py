"""Every refusal of an ambiguous or damaged manifest, and the oddities that must be accepted."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from registry_server.oci import media_types
from registry_server.oci.digest import Digest
from registry_server.oci.errors import ManifestInvalid
from registry_server.oci.manifest import MAX_MANIFEST_BYTES, is_schema1, parse_manifest, total_size

CONTENT = b"content"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
FOREIGN_TYPE = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
SHA384 = "sha384:" + "0" * 96


def descriptor(content: bytes = CONTENT, media_type: str = LAYER_TYPE, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": Digest.of(content), "size": len(content), **more}


CONFIG = descriptor(b"{}", media_types.OCI_CONFIG)
CHILD = descriptor(b"child", media_types.OCI_MANIFEST)
IMAGE: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": media_types.OCI_MANIFEST,
    "config": CONFIG,
    "layers": [descriptor()],
}
INDEX: dict[str, Any] = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [CHILD]}


def body(document: Any, **changes: Any) -> bytes:
    return json.dumps({**document, **changes} if changes else document).encode()


def without(document: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in keys}


def layer(**changes: Any) -> bytes:
    """An image whose only layer is changed; None takes a key away."""
    changed = {key: value for key, value in {**descriptor(), **changes}.items() if value is not None}
    return body(IMAGE, layers=[changed])


def raw(text: str) -> bytes:
    """An image with `text` as further keys, for what json.dumps cannot write."""
    return body(IMAGE)[:-1] + b", " + text.encode() + b"}"


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b"<html>", "not JSON", id="a-login-page"),
        pytest.param(body(IMAGE)[:-1], "not JSON.*line 1 column", id="truncated"),
        pytest.param(body(IMAGE) + b"{}", "not JSON", id="something-behind-it"),
        pytest.param(b"\xef\xbb\xbf" + body(IMAGE), "not JSON", id="byte-order-mark"),
        pytest.param(raw('"x": NaN'), "NaN", id="a-constant-that-only-python-reads"),
        pytest.param(raw('"x": ' + "9" * 5000), "cannot be read", id="a-number-too-long-for-python"),
        pytest.param(body(IMAGE).decode().encode("utf-16"), "not UTF-8", id="utf-16"),
        pytest.param(raw('"x": "\xff"').replace(b"\xc3\xbf", b"\xff"), "not UTF-8", id="latin-1"),
        pytest.param(b"[]", "JSON list", id="list"),
        pytest.param(b"null", "JSON NoneType", id="null"),
        pytest.param(body(IMAGE) + b" " * MAX_MANIFEST_BYTES, "at most", id="too-big"),
        pytest.param(b"[" * 100_000, "cannot be read|not JSON", id="depth-bomb-that-never-ends"),
        pytest.param(raw('"x": ' + "[" * 50_000 + "]" * 50_000), "cannot be read", id="depth-bomb"),
        pytest.param(raw('"x": ' + "[" * 40 + "]" * 40), "more than 32 levels", id="too-deep"),
        pytest.param(raw('"x": ' + '{"a":' * 40 + "1" + "}" * 40), "more than 32", id="too-deep-objects"),
    ],
)
def test_what_is_not_a_json_object_is_refused(sent: bytes, reason: str) -> None:
    with pytest.raises(ManifestInvalid, match=reason):
        parse_manifest(sent)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        pytest.param(raw('"mediaType": "a/b"'), "'mediaType' stands twice", id="key"),
        pytest.param(raw('"layers": []'), "'layers' stands twice", id="layers"),
        pytest.param(raw('"x": {"a": 1, "a": 1}'), "'a' stands twice", id="deep-inside"),
        pytest.param(raw('"a": 1, "\\u0061": 2'), "'a' stands twice", id="escaped-the-second-time"),
        pytest.param(raw('"Layers": []'), "write 'layers'", id="other-case-of-a-key-that-is-there"),
        pytest.param(raw('"Manifests": []'), "write 'manifests'", id="other-case-of-a-key-that-is-not"),
        pytest.param(raw('"MEDIATYPE": "a/b"'), "write 'mediaType'", id="all-upper-case"),
        pytest.param(raw('"layer\\u017f": []'), "write 'layers'", id="long-s-that-go-folds"),
        pytest.param(raw('"Subject": {}'), "write 'subject'", id="subject"),
        pytest.param(raw('"FSLayers": []'), "write 'fsLayers'", id="schema1"),
        pytest.param(raw('"History": []'), "write 'history'", id="history"),
        pytest.param(raw('"SchemaVersion": 1'), "write 'schemaVersion'", id="version"),
        pytest.param(layer(Digest="x"), r"layers\[0\].*write 'digest'", id="digest-of-a-layer"),
        pytest.param(layer(SIZE=1), "write 'size'", id="size-of-a-layer"),
    ],
)
def test_a_body_that_two_parsers_read_differently_is_refused(sent: bytes, reason: str) -> None:
    with pytest.raises(ManifestInvalid, match=reason):
        parse_manifest(sent)


def test_finding_the_key_that_stands_twice_takes_linear_time() -> None:
    many = ", ".join(f'"k{number}": 0' for number in range(200_000))
    with pytest.raises(ManifestInvalid, match="'k199999' stands twice"):
        parse_manifest(raw(f'{many}, "k199999": 0'))


@pytest.mark.parametrize("version", [None, 1, 3, "2", 2.0, True, [], {}])
def test_another_schema_version_is_refused(version: Any) -> None:
    with pytest.raises(ManifestInvalid, match="schemaVersion"):
        parse_manifest(body(IMAGE, schemaVersion=version))


def test_a_missing_schema_version_is_refused() -> None:
    with pytest.raises(ManifestInvalid, match="schemaVersion is None"):
        parse_manifest(body(without(IMAGE, "schemaVersion")))


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        pytest.param({**IMAGE, "manifests": [CHILD]}, "must not have .*'manifests'", id="image-and-index"),
        pytest.param({**INDEX, "layers": []}, "must not have .*'layers'", id="index-with-layers"),
        pytest.param({**INDEX, "config": CONFIG}, "must not have .*'config'", id="index-with-config"),
        pytest.param({**IMAGE, "fsLayers": []}, "must not have .*'fsLayers'", id="image-and-schema1"),
        pytest.param({**IMAGE, "history": []}, "must not have .*'history'", id="image-with-history"),
        pytest.param({**INDEX, "history": []}, "must not have .*'history'", id="index-with-history"),
        pytest.param(
            {**without(IMAGE, "mediaType"), "manifests": [CHILD]}, "must not have", id="both-and-no-type"
        ),
        pytest.param({**IMAGE, "mediaType": media_types.OCI_INDEX}, "must not have", id="image-called-index"),
        pytest.param({**INDEX, "mediaType": media_types.OCI_MANIFEST}, "must not have", id="index-as-image"),
        pytest.param({**IMAGE, "mediaType": media_types.DOCKER_LIST}, "must not have", id="image-as-list"),
        pytest.param(without(IMAGE, "config"), "needs the key 'config'", id="no-config"),
        pytest.param(without(IMAGE, "layers"), "needs the key 'layers'", id="no-layers"),
        pytest.param(without(INDEX, "manifests"), "needs the key 'manifests'", id="no-manifests"),
        pytest.param({"schemaVersion": 2}, "neither", id="nothing-to-go-by"),
        pytest.param({**IMAGE, "config": None}, "config is null", id="config-null"),
    ],
)
def test_an_ambiguous_or_incomplete_shape_is_refused(document: dict[str, Any], reason: str) -> None:
    with pytest.raises(ManifestInvalid, match=reason):
        parse_manifest(body(document))


@pytest.mark.parametrize(
    "media_type",
    [
        pytest.param("", id="empty"),
        pytest.param(5, id="number"),
        pytest.param("a", id="no-subtype"),
        pytest.param("a/b\r\nX-Evil: 1", id="header-injection"),
        pytest.param("a/b; charset=utf-8", id="parameters"),
        pytest.param("a/é", id="outside-ascii"),
        pytest.param("a/" + "b" * 200, id="too-long"),
    ],
)
def test_a_media_type_that_cannot_be_a_content_type_is_refused(media_type: Any) -> None:
    with pytest.raises(ManifestInvalid, match="mediaType is"):
        parse_manifest(body(IMAGE, mediaType=media_type))


@pytest.mark.parametrize(
    ("sent", "declared"),
    [
        (body(IMAGE), media_types.OCI_INDEX),
        (body(IMAGE), media_types.DOCKER_MANIFEST),
        (body(INDEX), "application/vnd.oci.image.manifest.v1+json; charset=utf-8"),
        pytest.param(body(without(IMAGE, "mediaType")), media_types.OCI_INDEX, id="shape-contradicts"),
        pytest.param(body(without(INDEX, "mediaType")), media_types.OCI_MANIFEST, id="shape-contradicts-2"),
    ],
)
def test_a_manifest_that_is_not_what_was_announced_is_refused(sent: bytes, declared: str) -> None:
    with pytest.raises(ManifestInvalid):
        parse_manifest(sent, declared)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        pytest.param(layer(mediaType=None), "mediaType", id="no-type"),
        pytest.param(layer(mediaType=""), "mediaType", id="empty-type"),
        pytest.param(layer(mediaType=7), "expected text", id="type-is-a-number"),
        pytest.param(layer(mediaType="a/b\nc"), "mediaType", id="line-break"),
        pytest.param(layer(digest=None), "digest", id="no-digest"),
        pytest.param(layer(digest=7), "digest", id="digest-is-a-number"),
        pytest.param(layer(digest="sha256:../../x"), "digest", id="digest-is-a-path"),
        pytest.param(layer(digest=Digest.of(b"").upper()), "digest", id="upper-case"),
        pytest.param(layer(digest=SHA384), "digest", id="unknown-algorithm"),
        pytest.param(layer(digest=f"sha256:{'z' * 64}", urls=["https://a"]), "digest", id="broken-and-urls"),
        pytest.param(layer(size=None), "size", id="no-size"),
        pytest.param(layer(size="7"), "size", id="size-is-text"),
        pytest.param(layer(size=7.0), "size", id="size-is-a-float"),
        pytest.param(layer(size=True), "size", id="size-is-a-bool"),
        pytest.param(layer(size=-1), "size", id="negative"),
        pytest.param(layer(size=2**63), "size", id="more-than-an-int64"),
        pytest.param(layer(urls="https://a"), "urls", id="urls-is-text"),
        pytest.param(layer(urls=[1]), "urls", id="urls-of-numbers"),
        pytest.param(layer(annotations={"a": 1}), "annotations", id="annotation-is-a-number"),
        pytest.param(layer(annotations=["a"]), "annotations", id="annotations-is-a-list"),
        pytest.param(layer(platform="linux"), "platform", id="platform-is-text"),
        pytest.param(layer(platform={"os": 1}), "platform.os", id="os-is-a-number"),
        pytest.param(layer(artifactType=1), "artifactType", id="artifact-type-is-a-number"),
        pytest.param(layer(data="%%%"), "not base64", id="data-is-not-base64"),
        pytest.param(layer(data="é"), "not base64", id="data-is-not-ascii"),
        pytest.param(layer(data=1), "data", id="data-is-a-number"),
        pytest.param(layer(data=base64.b64encode(b"cont").decode()), "data is not", id="data-too-short"),
        pytest.param(layer(data=base64.b64encode(b"CONTENT").decode()), "data is not", id="data-other-bytes"),
        pytest.param(body(IMAGE, layers={}), "layers is a dict", id="layers-is-an-object"),
        pytest.param(body(IMAGE, layers=[[]]), "expected a descriptor", id="layer-is-a-list"),
        pytest.param(body(IMAGE, layers=[None]), "expected a descriptor", id="layer-is-null"),
        pytest.param(body(IMAGE, config="x"), "config is a str", id="config-is-text"),
        pytest.param(body(INDEX, manifests="x"), "manifests is a str", id="manifests-is-text"),
        pytest.param(body(IMAGE, subject=[]), "subject is a list", id="subject-is-a-list"),
        pytest.param(body(IMAGE, subject={"digest": "x"}), "subject", id="subject-without-size"),
        pytest.param(body(IMAGE, annotations={"a": None}), "annotations", id="annotation-is-null"),
        pytest.param(body(IMAGE, annotations=[]), "annotations", id="annotations-of-the-manifest"),
        pytest.param(body(IMAGE, artifactType=5), "artifactType", id="artifact-type"),
    ],
)
def test_a_broken_descriptor_is_refused_and_named(sent: bytes, reason: str) -> None:
    with pytest.raises(ManifestInvalid, match=reason) as caught:
        parse_manifest(sent)
    assert len(str(caught.value)) < 400


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
