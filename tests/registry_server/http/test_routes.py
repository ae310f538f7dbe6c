from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_server.http.routes import (
    Base,
    BlobOf,
    Catalog,
    ManifestOf,
    NoSuchEndpoint,
    Referrers,
    Route,
    Tags,
    UploadOf,
    parse_route,
)
from registry_server.oci.digest import Digest
from registry_server.oci.errors import InvalidName, MirrorflowError
from registry_server.oci.reference import RepositoryName as Name
from registry_server.oci.reference import Tag

DIGEST = Digest.of(b"content")
LONG_DIGEST = Digest.of(b"content", "sha512")


@pytest.mark.parametrize(
    ("path", "route"),
    [
        pytest.param("/v2/", Base(), id="base"),
        pytest.param("/v2", Base(), id="base-without-slash"),
        pytest.param("/v2/_catalog", Catalog(), id="catalog"),
        pytest.param("/v2/alpine/tags/list", Tags(Name("alpine")), id="tags"),
        pytest.param(
            "/v2/a/b/c/manifests/3.19", ManifestOf(Name("a/b/c"), Tag("3.19")), id="manifest-by-tag"
        ),
        pytest.param(f"/v2/a/manifests/{DIGEST}", ManifestOf(Name("a"), DIGEST), id="manifest-by-digest"),
        pytest.param(f"/v2/a/blobs/{LONG_DIGEST}", BlobOf(Name("a"), LONG_DIGEST), id="blob-sha512"),
        pytest.param(f"/v2/a/referrers/{DIGEST}", Referrers(Name("a"), DIGEST), id="referrers"),
        pytest.param("/v2/a/blobs/uploads/", UploadOf(Name("a"), ""), id="upload-start"),
        pytest.param("/v2/a/blobs/uploads", UploadOf(Name("a"), ""), id="upload-start-without-slash"),
        pytest.param("/v2/a/blobs/uploads/7f-3", UploadOf(Name("a"), "7f-3"), id="upload-session"),
        # Repositories that are called like endpoints.
        pytest.param(
            "/v2/a/manifests/manifests/1", ManifestOf(Name("a/manifests"), Tag("1")), id="its-image"
        ),
        pytest.param("/v2/manifests/manifests/1", ManifestOf(Name("manifests"), Tag("1")), id="manifests"),
        pytest.param(
            "/v2/a/blobs/uploads/manifests/1",
            ManifestOf(Name("a/blobs/uploads"), Tag("1")),
            id="a-blobs-uploads",
        ),
        pytest.param(
            f"/v2/a/blobs/uploads/blobs/{DIGEST}", BlobOf(Name("a/blobs/uploads"), DIGEST), id="its-blob"
        ),
        pytest.param("/v2/a/blobs/uploads/tags/list", Tags(Name("a/blobs/uploads")), id="its-tags"),
        pytest.param(
            "/v2/a/blobs/uploads/blobs/uploads/", UploadOf(Name("a/blobs/uploads"), ""), id="its-upload"
        ),
        pytest.param("/v2/a/tags/list/tags/list", Tags(Name("a/tags/list")), id="a-tags-list"),
        pytest.param(
            "/v2/a/tags/manifests/list", ManifestOf(Name("a/tags"), Tag("list")), id="a-tag-called-list"
        ),
        # Escapes are decoded, once.
        pytest.param(f"/v2/a/blobs/sha256%3A{DIGEST.hex}", BlobOf(Name("a"), DIGEST), id="escaped-colon"),
        pytest.param("/v2/%61/tags/list", Tags(Name("a")), id="escaped-letter"),
    ],
)
def test_a_path_is_read_from_its_end(path: str, route: Route) -> None:
    assert parse_route(path.encode()) == route


@pytest.mark.parametrize(
    "path",
    [
        "/", "", "/v1/", "/v2x", "/v3/a/tags/list", "//v2/", "/v2/a", "/v2/a/manifests", "/v2/manifests/1",
        "/v2/tags/list", "/v2/a/tags", "/v2/a/tags/all", "/v2/_oci/ext/discover", "http://other/v2/",
        f"/v2/blobs/{DIGEST}",
    ],
)  # fmt: skip
def test_other_paths_are_no_endpoints(path: str) -> None:
    with pytest.raises(NoSuchEndpoint):
        parse_route(path.encode())


@pytest.mark.parametrize(
    ("path", "code"),
    [
        pytest.param("/v2/../etc/manifests/1", "NAME_INVALID", id="up"),
        pytest.param("/v2/a/../../b/tags/list", "NAME_INVALID", id="up-and-over"),
        pytest.param("/v2/a/%2e%2e/manifests/1", "NAME_INVALID", id="escaped-up"),
        pytest.param("/v2/a/%2E%2e/manifests/1", "NAME_INVALID", id="escaped-up-mixed-case"),
        pytest.param("/v2/a/%252e%252e/manifests/1", "NAME_INVALID", id="escaped-twice"),
        pytest.param("/v2/a/./tags/list", "NAME_INVALID", id="here"),
        pytest.param("/v2/a%2fb/tags/list", "NAME_INVALID", id="escaped-slash"),
        pytest.param("/v2/a%2Fmanifests%2F1", "NAME_INVALID", id="escaped-slashes-only"),
        pytest.param("/v2/a\\b/tags/list", "NAME_INVALID", id="backslash"),
        pytest.param("/v2/a%5cb/tags/list", "NAME_INVALID", id="escaped-backslash"),
        pytest.param("/v2/a/manifests/1%00", "NAME_INVALID", id="nul"),
        pytest.param("/v2/a/manifests/1%0a", "NAME_INVALID", id="newline-at-the-end"),
        pytest.param("/v2/a/manifests/%zz", "NAME_INVALID", id="broken-escape"),
        pytest.param("/v2/a/manifests/%", "NAME_INVALID", id="cut-escape"),
        pytest.param("/v2/a/manifests/%c3%a9", "NAME_INVALID", id="not-ascii"),
        pytest.param("/v2/a//manifests/1", "NAME_INVALID", id="empty-segment"),
        pytest.param("/v2/A/manifests/1", "NAME_INVALID", id="upper-case"),
        pytest.param("/v2/a/manifests/.hidden", "NAME_INVALID", id="tag-with-a-dot-first"),
        pytest.param(f"/v2/{'a' * 256}/tags/list", "NAME_INVALID", id="too-long"),
        pytest.param("/v2/a/manifests/sha256:abc", "DIGEST_INVALID", id="short-digest"),
        pytest.param(f"/v2/a/blobs/{DIGEST.upper()}", "DIGEST_INVALID", id="upper-case-digest"),
        pytest.param("/v2/a/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", "DIGEST_INVALID", id="weak-digest"),
        pytest.param(f"/v2/a/blobs/{DIGEST}%0a", "DIGEST_INVALID", id="digest-and-newline"),
        pytest.param("/v2/a/referrers/latest", "DIGEST_INVALID", id="referrers-of-a-tag"),
    ],
)
def test_names_that_break_the_grammar_are_refused(path: str, code: str) -> None:
    with pytest.raises(InvalidName) as refused:
        parse_route(path.encode())
    assert refused.value.code == code


@given(st.binary(max_size=60))
def test_no_path_makes_anything_but_a_route_or_a_clear_error(tail: bytes) -> None:
    for path in (tail, b"/v2/" + tail, b"/v2/a/" + tail + b"/manifests/1"):
        try:
            route = parse_route(path)
        except MirrorflowError:
            continue
        repository = getattr(route, "repository", "a")
        assert Name(str(repository)) == repository
        assert ".." not in repository.split("/")
