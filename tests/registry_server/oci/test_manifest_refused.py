"""Every refusal of an ambiguous or damaged manifest."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from registry_server.oci import media_types
from registry_server.oci.digest import Digest
from registry_server.oci.errors import ManifestInvalid
from registry_server.oci.manifest import MAX_MANIFEST_BYTES, parse_manifest
from tests.registry_server.oci.documents import (
    CHILD,
    CONFIG,
    IMAGE,
    INDEX,
    SHA384,
    body,
    layer,
    raw,
    without,
)


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
