"""Docker images that are odd, and such as nobody should send, converted to OCI."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from registry_server.oci import media_types
from registry_server.oci.conversion import REFERENCE
from registry_server.oci.digest import Digest
from registry_server.store.maintenance.scrub import find_missing
from tests.tasks.convert_manifest.docker_images import (
    CONVERT,
    GZIP,
    IMAGE,
    NAME,
    TAG,
    add_docker,
    add_docker_image,
    add_docker_list,
    add_referrer,
    config_of,
    document,
    tagged,
)
from tests.tasks.runs import add_document, asked, assert_complete, rows, store_of, sync, visible

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support_misbehaving import Misbehaving


def nested(upstream: Misbehaving) -> None:
    inner = add_docker_list(upstream, NAME, "inner", "amd64")
    add_docker(upstream, NAME, "1.25", media_types.DOCKER_LIST, manifests=[inner.to_json(), inner.to_json()])


def attested(upstream: Misbehaving) -> None:
    child = add_docker_image(upstream, NAME, "child")
    statement = upstream.add_blob(NAME, b"statement", "application/vnd.in-toto+json")
    config = upstream.add_blob(NAME, b"{}", media_types.OCI_CONFIG)
    fields = {"config": config.to_json(), "layers": [statement.to_json()]}
    attestation = add_document(upstream, NAME, "att", media_types.OCI_MANIFEST, **fields)
    about = {"vnd.docker.reference.type": "attestation-manifest", REFERENCE: str(child.digest)}
    unknown = {"platform": {"os": "unknown", "architecture": "unknown"}, "annotations": about}
    entries = [child.to_json(), attestation.to_json() | unknown]
    add_docker(upstream, NAME, "1.25", media_types.OCI_INDEX, manifests=entries)


def subject_in_the_index(upstream: Misbehaving) -> None:
    """It stands before what it is about, whose new name it needs."""
    child = add_docker_image(upstream, NAME, "child")
    sbom = add_referrer(upstream, child, "application/spdx+json", "sbom")
    add_docker(upstream, NAME, "1.25", media_types.OCI_INDEX, manifests=[sbom.to_json(), child.to_json()])


def of_unknown_types(upstream: Misbehaving) -> None:
    entries = [
        upstream.add_blob(NAME, b"cache", "application/vnd.buildkit.cacheconfig.v0").to_json(),
        upstream.add_blob(NAME, b"thing", "application/vnd.example.thing").to_json(),
        add_docker_image(upstream, NAME, "child").to_json(),
    ]
    add_docker(upstream, NAME, "1.25", media_types.DOCKER_LIST, manifests=entries)


def with_odd_layers(upstream: Misbehaving) -> None:
    empty = upstream.add_blob(NAME, b"", GZIP).to_json()
    embedded = {"mediaType": GZIP, "digest": Digest.of(b"data"), "size": 4}
    foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    layers = [
        empty,
        empty,
        embedded | {"data": base64.b64encode(b"data").decode()},
        {"mediaType": foreign, "digest": Digest.of(b"?"), "size": 7, "urls": ["http://169.254.169.254/x"]},
    ]
    add_docker_image(upstream, NAME, "1.25", layers=layers)


def no_layers(upstream: Misbehaving) -> None:
    add_docker_image(upstream, NAME, "1.25", layers=None)


def plugin(upstream: Misbehaving) -> None:
    config = upstream.add_blob(NAME, b"{}", "application/vnd.docker.plugin.v1+json")
    add_docker_image(upstream, NAME, "1.25", config=config.to_json())


def empty_list(upstream: Misbehaving) -> None:
    add_docker(upstream, NAME, "1.25", media_types.DOCKER_LIST, manifests=[])


ODD = (
    nested,
    attested,
    subject_in_the_index,
    of_unknown_types,
    with_odd_layers,
    no_layers,
    plugin,
    empty_list,
)


@pytest.mark.parametrize("make", ODD, ids=lambda make: make.__name__)
def test_odd_images_are_converted_whole(
    upstream: Misbehaving, tmp_path: Path, make: Callable[[Misbehaving], None]
) -> None:
    make(upstream)
    report = sync(tmp_path, upstream, CONVERT)
    assert report.complete, rows(report)
    assert_complete(store_of(tmp_path), IMAGE)
    assert list(find_missing(store_of(tmp_path))) == []
    assert tagged(tmp_path).converted_from is not None
    seen = [document(tmp_path, TAG)]
    for found in seen:
        assert found["mediaType"].startswith("application/vnd.oci.")
        names = {each["digest"] for each in found.get("manifests", ())}
        for each in found.get("manifests", ()):
            assert not each["mediaType"].startswith("application/vnd.docker.")
            assert each.get("annotations", {}).get(REFERENCE, each["digest"]) in names
            if each["mediaType"] in media_types.MANIFESTS:
                seen.append(document(tmp_path, each["digest"]))
                subject = seen[-1].get("subject", each)
                assert subject["digest"] in names
    assert not any("169.254" in each.target for each in upstream.seen)
    asked(upstream)
    assert sync(tmp_path, upstream, CONVERT).unchanged == 1
    assert asked(upstream) == {"HEAD manifests": 1}


def too_big(upstream: Misbehaving) -> None:
    add_docker_image(upstream, NAME, "1.25", note="x" * (5 * 2**20))


def too_big_child(upstream: Misbehaving) -> None:
    child = add_docker_image(upstream, NAME, "child", note="x" * (5 * 2**20))
    add_docker(upstream, NAME, "1.25", media_types.DOCKER_LIST, manifests=[child.to_json()])


def wrong_size(upstream: Misbehaving) -> None:
    child = add_docker_image(upstream, NAME, "child").to_json()
    manifests = [child | {"size": child["size"] + 1}]
    add_docker(upstream, NAME, "1.25", media_types.DOCKER_LIST, manifests=manifests)


def endless_number(upstream: Misbehaving) -> None:
    config = json.dumps(config_of(upstream, NAME).to_json())
    body = f'{{"schemaVersion": 2, "config": {config}, "layers": [], "x": 1e999}}'.encode()
    upstream.add_manifest(NAME, "1.25", body, media_types.DOCKER_MANIFEST)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (too_big, "more than 4194304 bytes"),
        (too_big_child, "more than 4194304 bytes"),
        (wrong_size, "expected"),
        (endless_number, "cannot be written again"),
    ],
    ids=["too big", "too big below", "wrong size below", "a number that is none"],
)
def test_hostile_images_fail_alone_and_leave_nothing_visible(
    upstream: Misbehaving, tmp_path: Path, make: Callable[[Misbehaving], None], reason: str
) -> None:
    make(upstream)
    add_docker_image(upstream, NAME, "good")
    rule = CONVERT | {"images": [IMAGE, f"{NAME}:good"]}
    report = sync(tmp_path, upstream, rule)
    assert reason in rows(report)[IMAGE].reason
    assert visible(store_of(tmp_path)) == [f"{NAME}:good"]


def test_schema_1_is_left_out_with_its_reason(upstream: Misbehaving, tmp_path: Path) -> None:
    body = b'{"schemaVersion": 1, "fsLayers": [], "history": []}'
    upstream.add_manifest(NAME, "1.25", body, media_types.DOCKER_SCHEMA1_SIGNED)
    assert "schema 1" in rows(sync(tmp_path, upstream, CONVERT))[IMAGE].reason
