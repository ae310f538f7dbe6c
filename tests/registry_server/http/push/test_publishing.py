"""Pushing manifests and tags, and deleting: what is answered, and what is there afterwards."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.http.push.push_limits import PushLimits
from registry_server.oci import media_types
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName, Tag
from tests.registry_server.http.pushing import code, image, index, push_blob, push_image, put_manifest
from tests.support.registries import running_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.registries import Registry

ALGORITHMS = ["sha256", "sha512"]
NOWHERE = Digest.of(b"nowhere")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """One that can be written to."""
    with running_registry(tmp_path_factory.mktemp("registry"), writable=True) as found:
        yield found


def _image(registry: Registry, text: str, name: str = "a", **more: Any) -> bytes:
    """An image of its own, with its blobs pushed and itself not."""
    return image(
        push_blob(registry.client, b"{}", name), push_blob(registry.client, text.encode(), name), **more
    )


def test_a_manifest_is_pushed_by_tag(registry: Registry) -> None:
    body = _image(registry, "by tag")
    answer = put_manifest(registry.client, body, "1.0")
    digest = Digest.of(body)
    assert answer.status_code == 201
    assert answer.headers["Docker-Content-Digest"] == digest
    assert answer.headers["ETag"] == f'"{digest}"'
    assert answer.headers["Location"] == f"/v2/a/manifests/{digest}"
    assert not {"OCI-Tag", "OCI-Subject", "Warning"} & set(answer.headers)
    for reference in ("1.0", digest):
        found = registry.client.get(f"/v2/a/manifests/{reference}")
        assert (found.content, found.headers["Content-Type"]) == (body, media_types.OCI_MANIFEST)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_manifest_is_pushed_by_digest_with_tags(registry: Registry, algorithm: str) -> None:
    body = _image(registry, f"by {algorithm}")
    digest = Digest.of(body, algorithm)
    tags = [f"{algorithm}-{number}" for number in range(10)]
    query = "?" + "&".join(f"tag={tag}" for tag in [*tags, tags[0]])
    answer = put_manifest(registry.client, body, digest, query=query)
    assert answer.status_code == 201
    assert answer.headers["Docker-Content-Digest"] == digest
    assert answer.headers["OCI-Tag"] == ", ".join(tags)
    for tag in tags:
        assert registry.client.head(f"/v2/a/manifests/{tag}").headers["Docker-Content-Digest"] == digest


def test_a_manifest_without_a_tag_is_there_by_digest_only(registry: Registry) -> None:
    body = _image(registry, "untagged", name="untagged")
    assert put_manifest(registry.client, body, Digest.of(body), "untagged").status_code == 201
    assert registry.client.get("/v2/untagged/tags/list").json() == {"name": "untagged", "tags": []}
    assert registry.client.get(f"/v2/untagged/manifests/{Digest.of(body)}").content == body


@pytest.mark.parametrize(
    ("reference", "query", "expected"),
    [
        pytest.param(NOWHERE, "", (400, "DIGEST_INVALID"), id="another-digest"),
        pytest.param("sha256:abc", "", (400, "DIGEST_INVALID"), id="no-digest"),
        pytest.param("-bad", "", (400, "NAME_INVALID"), id="no-tag"),
        pytest.param("ok", "?tag=.bad", (400, "NAME_INVALID"), id="no-tag-in-the-query"),
        pytest.param(
            "ok", "?" + "&".join(f"tag=t{n}" for n in range(200)), (414, "UNSUPPORTED"), id="many-tags"
        ),
    ],
)
def test_a_reference_that_cannot_be_is_refused(
    registry: Registry, reference: str, query: str, expected: tuple[int, str]
) -> None:
    body = _image(registry, "refused")
    assert code(put_manifest(registry.client, body, reference, query=query)) == expected
    assert registry.client.head(f"/v2/a/manifests/{Digest.of(body)}").status_code == 404


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param(b"", media_types.OCI_MANIFEST, id="empty"),
        pytest.param(b"{", media_types.OCI_MANIFEST, id="half"),
        pytest.param(b"[" * 100_000, media_types.OCI_MANIFEST, id="deep"),
        pytest.param(b'{"schemaVersion":2}', media_types.OCI_MANIFEST, id="hollow"),
        pytest.param(b'{"schemaVersion":2,"manifests":[]}', media_types.OCI_MANIFEST, id="index-as-image"),
        pytest.param(
            b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}',
            media_types.OCI_MANIFEST, id="two-types",
        ),
        pytest.param(b'{"schemaVersion":1,"fsLayers":[]}', media_types.DOCKER_SCHEMA1, id="schema-1"),
        pytest.param(b'{"schemaVersion":2,"manifests":[]}', "text/html", id="for-browsers"),
        pytest.param(b'{"schemaVersion":2,"manifests":[]}', "image/svg+xml", id="for-browsers-too"),
        pytest.param(b'{"schemaVersion":2,"manifests":[]}', "no type", id="no-media-type"),
    ],
)  # fmt: skip
def test_what_is_no_manifest_is_refused(registry: Registry, body: bytes, content_type: str) -> None:
    answer = registry.client.put(
        "/v2/a/manifests/bad", content=body, headers=[(b"Content-Type", content_type.encode())]
    )
    assert code(answer) == (400, "MANIFEST_INVALID")
    assert registry.client.head("/v2/a/manifests/bad").status_code == 404


def test_one_body_is_one_thing(registry: Registry) -> None:
    """CVE-2021-41190: the same digest is not another type to another client."""
    body = b'{"schemaVersion":2,"layers":[],"note":"no media type in it"}'
    put = {"Content-Type": "application/vnd.example.one+json"}
    other = {"Content-Type": "application/vnd.example.two+json"}
    assert registry.client.put("/v2/a/manifests/one", content=body, headers=put).status_code == 201
    assert registry.client.put("/v2/a/manifests/again", content=body, headers=put).status_code == 201
    assert code(registry.client.put("/v2/a/manifests/two", content=body, headers=other)) == (
        400,
        "MANIFEST_INVALID",
    )
    assert registry.client.head("/v2/a/manifests/one").headers["Content-Type"] == put["Content-Type"]


@pytest.mark.parametrize("padding", [-1, 0, 1])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_manifest_has_up_to_4_mib(registry: Registry, padding: int, *, chunked: bool) -> None:
    body = index(annotations={"padding": ""})
    body = index(annotations={"padding": "x" * (4 * 1024 * 1024 + padding - len(body))})
    answer = registry.client.put(
        "/v2/a/manifests/large",
        content=iter([body]) if chunked else body,
        headers={"Content-Type": media_types.OCI_INDEX},
    )
    if padding <= 0:
        assert answer.status_code == 201
    else:
        assert code(answer) == (413, "SIZE_INVALID")


def test_a_much_too_large_manifest_is_refused_and_the_client_hears_it(registry: Registry) -> None:
    body = bytes(7 * 1024 * 1024)
    answer = registry.client.put("/v2/a/manifests/large", content=body)
    assert code(answer) == (413, "SIZE_INVALID")


def test_a_sparse_index_is_kept_and_says_so(registry: Registry) -> None:
    there, elsewhere = _image(registry, "there"), image(push_blob(registry.client, b"{}"))
    put_manifest(registry.client, there, Digest.of(there))
    body = index(there, elsewhere)
    answer = put_manifest(registry.client, body, "sparse")
    assert answer.status_code == 201
    assert Digest.of(elsewhere) in answer.headers["Warning"]
    assert Digest.of(there) not in answer.headers["Warning"]
    record = registry.store.repository(RepositoryName("a")).tag(Tag("sparse"))
    assert record is not None
    assert record.sparse == (Digest.of(elsewhere),)
    assert "Warning" not in put_manifest(registry.client, index(there), "whole").headers


def test_an_image_whose_blobs_are_not_here_is_kept_with_a_warning(registry: Registry) -> None:
    body = image(push_blob(registry.client, b"{}"), push_blob(registry.client, b"elsewhere only", "b"))
    answer = put_manifest(registry.client, body, "sparse-image")
    assert answer.status_code == 201
    assert answer.headers["Warning"].startswith('299 - "')
    outer = put_manifest(registry.client, index(body), "with-a-sparse-image")
    assert outer.status_code == 201


def test_a_registry_may_want_images_to_be_complete(tmp_path: Path) -> None:
    limits = PushLimits(require_blobs=1)
    with running_registry(tmp_path, writable=True, limits=limits) as registry:
        body = image(push_blob(registry.client, b"{}"), push_blob(registry.client, b"layer", "b"))
        answer = put_manifest(registry.client, body, "1.0")
        assert code(answer) == (400, "MANIFEST_BLOB_UNKNOWN")
        assert answer.json()["errors"][0]["detail"] == [{"digest": Digest.of(b"layer")}]
        push_blob(registry.client, b"layer")
        assert put_manifest(registry.client, body, "1.0").status_code == 201
        assert put_manifest(registry.client, index(b'{"mediaType":"a/b"}'), "sparse").status_code == 201


def test_content_that_a_manifest_brings_along_is_a_blob(registry: Registry) -> None:
    content = b"embedded"
    entry = {"mediaType": "text/plain", "digest": Digest.of(content), "size": 8, "data": "ZW1iZWRkZWQ="}
    body = json.loads(_image(registry, "embedding", "embedding")) | {"layers": [entry]}
    answer = put_manifest(registry.client, json.dumps(body).encode(), "latest", "embedding")
    assert (answer.status_code, answer.headers.get("Warning")) == (201, None)
    assert registry.client.get(f"/v2/embedding/blobs/{Digest.of(content)}").content == content


class TestConditions:
    """If-Match and If-None-Match on tags: nobody overwrites what he has not seen."""

    def test_a_tag_is_replaced_by_who_knows_it(self, registry: Registry) -> None:
        old, new = push_image(registry.client, "cas", b"old"), _image(registry, "new")
        stale = f'"{NOWHERE}"'
        refused = put_manifest(registry.client, new, "cas", **{"If-Match": stale})
        assert code(refused) == (412, "DENIED")
        assert registry.client.get("/v2/a/manifests/cas").content == old
        known = f'"{Digest.of(old)}"'
        assert put_manifest(registry.client, new, "cas", **{"If-Match": known}).status_code == 201
        assert put_manifest(registry.client, old, "cas", **{"If-Match": known}).status_code == 412
        assert put_manifest(registry.client, old, "cas", **{"If-Match": "*"}).status_code == 201

    def test_a_tag_that_is_not_there_matches_nothing(self, registry: Registry) -> None:
        body = _image(registry, "absent")
        assert put_manifest(registry.client, body, "absent", **{"If-Match": "*"}).status_code == 412
        assert put_manifest(registry.client, body, "absent", **{"If-None-Match": "*"}).status_code == 201
        assert put_manifest(registry.client, body, "absent", **{"If-None-Match": "*"}).status_code == 412


class TestReferrers:
    @staticmethod
    def _listed(registry: Registry, subject: str, name: str = "a") -> list[dict[str, Any]]:
        answer = registry.client.get(f"/v2/{name}/referrers/{subject}")
        assert answer.headers["Content-Type"] == media_types.OCI_INDEX
        found: list[dict[str, Any]] = answer.json()["manifests"]
        return found

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_a_referrer_may_come_before_its_subject(self, registry: Registry, algorithm: str) -> None:
        subject = _image(registry, f"subject {algorithm}")
        digest = Digest.of(subject, algorithm)
        entry = {"mediaType": media_types.OCI_MANIFEST, "digest": digest, "size": len(subject)}
        referrer = _image(
            registry, "referrer", subject=entry, artifactType="text/x-test", annotations={"a": "b"}
        )
        answer = put_manifest(registry.client, referrer, Digest.of(referrer))
        assert answer.headers["OCI-Subject"] == digest
        assert digest in answer.headers["Warning"]
        assert put_manifest(registry.client, subject, digest).status_code == 201
        assert "Warning" not in put_manifest(registry.client, referrer, Digest.of(referrer)).headers
        assert self._listed(registry, digest) == [
            {
                "mediaType": media_types.OCI_MANIFEST,
                "digest": Digest.of(referrer),
                "size": len(referrer),
                "artifactType": "text/x-test",
                "annotations": {"a": "b"},
            }
        ]
        assert registry.client.delete(f"/v2/a/manifests/{Digest.of(referrer)}").status_code == 202
        assert self._listed(registry, digest) == []

    def test_an_index_that_a_client_kept_is_heard(self, registry: Registry) -> None:
        """Referrers of a registry without the list, copied with the tag that stood for it."""
        subject = push_image(registry.client, "subject", b"layer", name="kept")
        digest = Digest.of(subject)
        entry = {"mediaType": media_types.OCI_MANIFEST, "digest": digest, "size": len(subject)}
        kept = _image(registry, "kept", "kept", subject=entry)
        stranger = _image(registry, "of something else", "kept")
        for body in (kept, stranger):
            put_manifest(registry.client, body, Digest.of(body), "kept")
        fallback = index(kept, stranger, image(push_blob(registry.client, b"{}", "kept"), note="gone"))
        put_manifest(registry.client, fallback, digest.replace(":", "-"), "kept")
        # As a store looks like that was filled by copying files.
        folder = registry.store.root / "repos/kept/_r/referrers" / digest.replace(":", "-")
        (folder / Digest.of(kept).replace(":", "-")).unlink()
        (listed,) = self._listed(registry, digest, "kept")
        assert listed["digest"] == Digest.of(kept)

    def test_a_fallback_tag_that_is_no_index_is_passed_over(self, registry: Registry) -> None:
        subject = push_image(registry.client, "odd", b"odd")
        push_image(registry.client, Digest.of(subject).replace(":", "-"), b"not an index")
        assert self._listed(registry, Digest.of(subject)) == []


def test_a_namespace_is_accepted_on_pulls(registry: Registry) -> None:
    """containerd names the registry that it means (distribution-spec, "Registry Proxying")."""
    body = push_image(registry.client, "ns", b"ns")
    layer = Digest.of(b"ns")
    for path in ("manifests/ns", f"manifests/{Digest.of(body)}", f"blobs/{layer}", "tags/list"):
        assert registry.client.get(f"/v2/a/{path}?ns=docker.io").status_code == 200


def test_what_is_pushed_is_in_the_catalog(registry: Registry) -> None:
    push_image(registry.client, "latest", b"listed", name="listed/here")
    assert "listed/here" in registry.client.get("/v2/_catalog").json()["repositories"]
