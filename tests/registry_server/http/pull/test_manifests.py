"""Manifests by GET and HEAD from a running server (distribution-spec, "Pulling manifests")."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from flows.demo.sample_images import AMD64, ARM64, layer
from registry_server.oci import media_types
from registry_server.oci.digest import Digest
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import RepositoryName
from registry_server.store.records import TagRecord
from tests.support.stored_files import file_of

if TYPE_CHECKING:
    from registry_server.oci.descriptor import Descriptor
    from tests.support.registries import Registry

LAYER = layer("manifests", 1000)


@pytest.fixture(scope="module")
def image(registry: Registry) -> Descriptor:
    maker = registry.maker("library/image")
    made = maker.image([LAYER])
    maker.tag(made, "1.0")
    return made


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_manifest_is_the_same_by_tag_and_by_digest(
    registry: Registry, image: Descriptor, method: str
) -> None:
    for reference in ("1.0", image.digest):
        answer = registry.client.request(method, f"/v2/library/image/manifests/{reference}")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == image.media_type  # exactly: no charset
        assert answer.headers["Content-Length"] == str(image.size)
        assert answer.headers["Docker-Content-Digest"] == image.digest
        assert answer.headers["ETag"] == f'"{image.digest}"'
        assert answer.headers["Docker-Distribution-API-Version"] == "registry/2.0"
        assert "Content-Encoding" not in answer.headers
        if method == "GET":
            assert Digest.of(answer.content) == image.digest
        else:
            assert answer.content == b""


def test_only_what_a_digest_names_is_immutable(registry: Registry, image: Descriptor) -> None:
    by_digest = registry.client.head(f"/v2/library/image/manifests/{image.digest}")
    assert "immutable" in by_digest.headers["Cache-Control"]
    assert "Cache-Control" not in registry.client.head("/v2/library/image/manifests/1.0").headers


@pytest.mark.parametrize("docker", [True, False], ids=["docker", "oci"])
def test_indexes_keep_their_type(registry: Registry, *, docker: bool) -> None:
    maker = registry.maker("library/multi")
    index = maker.multi_platform({AMD64: [LAYER], ARM64: [LAYER]}, docker=docker)
    answer = registry.client.get(f"/v2/library/multi/manifests/{index.digest}")
    expected = media_types.DOCKER_LIST if docker else media_types.OCI_INDEX
    assert answer.headers["Content-Type"] == expected
    for child in parse_manifest(answer.content, expected).manifests:
        assert registry.client.head(f"/v2/library/multi/manifests/{child.digest}").status_code == 200


def test_what_a_client_accepts_changes_nothing(registry: Registry, image: Descriptor) -> None:
    headers = {"Accept": media_types.DOCKER_SCHEMA1, "Accept-Encoding": "gzip, zstd;q=1.0"}
    answer = registry.client.get("/v2/library/image/manifests/1.0", headers=headers)
    assert answer.headers["Content-Type"] == image.media_type
    assert answer.headers["Content-Length"] == str(image.size)


def test_a_manifest_that_was_put_as_sha512_is_served_as_sha512(registry: Registry) -> None:
    repository = registry.store.repository(RepositoryName("library/sha512"))
    empty = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": []}
    body = json.dumps(empty).encode()
    digest = Digest.of(body, "sha512")
    made = repository.put_manifest(parse_manifest(body), digest)
    registry.maker("library/sha512").tag(made, "long")
    for reference in (digest, "long"):
        answer = registry.client.get(f"/v2/library/sha512/manifests/{reference}")
        assert answer.headers["Docker-Content-Digest"] == digest
        assert answer.content == body


def test_a_manifest_that_its_upstream_calls_a_page_can_do_nothing_in_a_browser(registry: Registry) -> None:
    """The page of the mirror has the same origin, and the browser the password of who looks at it."""
    repository = registry.store.repository(RepositoryName("library/page"))
    text = {"annotations": {"a": "<script>fetch('/v2/library/image/manifests/1.0')</script>"}}
    body = json.dumps({"schemaVersion": 2, "mediaType": "text/html", **text}).encode()
    made = repository.put_manifest(parse_manifest(body))
    answer = registry.client.get(f"/v2/library/page/manifests/{made.digest}")
    assert answer.headers["Content-Type"] == "text/html"
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_client_that_has_it_gets_304_without_a_body(
    registry: Registry, image: Descriptor, method: str
) -> None:
    headers = {"If-None-Match": f'"{image.digest}"'}
    answer = registry.client.request(method, "/v2/library/image/manifests/1.0", headers=headers)
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["ETag"] == f'"{image.digest}"'
    assert answer.headers["Docker-Content-Digest"] == image.digest


def test_a_tag_that_moved_is_not_304(registry: Registry, image: Descriptor) -> None:
    headers = {"If-None-Match": f'"{Digest.of(b"older")}"'}
    answer = registry.client.get("/v2/library/image/manifests/1.0", headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        pytest.param("library/image/manifests/none", 404, "MANIFEST_UNKNOWN", id="tag"),
        pytest.param(f"library/image/manifests/{Digest.of(b'none')}", 404, "MANIFEST_UNKNOWN", id="digest"),
        pytest.param("library/none/manifests/1.0", 404, "NAME_UNKNOWN", id="repository"),
        pytest.param("library/image/manifests/sha256:bad", 400, "DIGEST_INVALID", id="bad-digest"),
        pytest.param("Library/image/manifests/1.0", 400, "NAME_INVALID", id="bad-name"),
        pytest.param("library%2fimage/manifests/1.0", 400, "NAME_INVALID", id="escaped-slash"),
    ],
)
def test_a_miss_says_what_is_missing(
    registry: Registry, image: Descriptor, path: str, status: int, code: str
) -> None:
    answer = registry.client.get(f"/v2/{path}")
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/json")
    (error,) = answer.json()["errors"]
    assert error.keys() == {"code", "message", "detail"}
    assert error["code"] == code
    head = registry.client.head(f"/v2/{path}")
    assert (head.status_code, head.content) == (status, b"")


def test_a_manifest_of_another_repository_is_unknown(registry: Registry, image: Descriptor) -> None:
    registry.maker("library/other").image([layer("another", 10)])
    answer = registry.client.get(f"/v2/library/other/manifests/{image.digest}")
    assert answer.json()["errors"][0]["code"] == "MANIFEST_UNKNOWN"


@pytest.mark.parametrize(
    "name", ["a/manifests", "a/blobs/uploads", "a/tags/list", "manifests", "blobs/uploads"]
)
def test_a_repository_may_be_called_like_an_endpoint(registry: Registry, name: str) -> None:
    maker = registry.maker(name)
    made = maker.image([LAYER])
    maker.tag(made, "list")
    answer = registry.client.get(f"/v2/{name}/manifests/list")
    assert answer.headers["Docker-Content-Digest"] == made.digest
    assert registry.client.get(f"/v2/{name}/tags/list").json() == {"name": name, "tags": ["list"]}
    blob = registry.client.get(f"/v2/{name}/blobs/{Digest.of(LAYER.content)}")
    assert blob.content == LAYER.content


def test_the_manifest_that_a_damaged_pool_holds_is_not_served(registry: Registry) -> None:
    made = registry.maker("library/damaged").image([layer("damaged", 10)])
    path = file_of(registry.store.repository(RepositoryName("library/damaged")), made.digest)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"sha256", b"sha999", 1))
    answer = registry.client.get(f"/v2/library/damaged/manifests/{made.digest}")
    assert answer.status_code == 500
    assert str(registry.store.root) not in answer.text  # paths are for the log


def test_a_tag_of_a_lost_manifest_is_unknown(registry: Registry, image: Descriptor) -> None:
    record = TagRecord(Digest.of(b"lost"), media_types.OCI_MANIFEST, 4, 0.0)
    tags = registry.store.root / "repos/library/image/_r/tags"
    kept = json.loads((tags / "1.0").read_text())
    (tags / "lost").write_text(json.dumps(kept | {"digest": record.digest}))
    try:
        assert registry.client.get("/v2/library/image/manifests/lost").status_code == 404
    finally:
        (tags / "lost").unlink()
