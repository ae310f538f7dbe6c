"""Content of every kind: pushed, listed, pulled, referred to, deleted (distribution-spec, conformance/)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci.digest import Digest
from registry_server.oci.media_types import OCI_INDEX, OCI_MANIFEST
from tests.registry_server.conformance import checks
from tests.registry_server.conformance.checks import (
    ACCEPTED,
    BAD,
    CREATED,
    MISSING,
    OK,
    REPO,
    expect,
    location,
    with_digest,
)
from tests.registry_server.conformance.data_sets import DataSet, Document, data_sets

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx


@pytest.mark.parametrize("data", data_sets(), ids=lambda data: data.name)
def test_content_is_kept_as_it_is(conforming: httpx.Client, data: DataSet) -> None:
    for digest, content in data.blobs.items():
        opened = expect(conforming.post(f"/v2/{REPO}/blobs/uploads/"), ACCEPTED)
        answer = conforming.put(with_digest(location(opened), digest), content=content)
        checks.blob_was_pushed(conforming, answer, REPO, digest, content)
    for document in data.documents:
        _push(conforming, document)
    _tags_are_listed(conforming, data)
    for document in data.documents:
        for reference in _references(document):
            url = f"/v2/{REPO}/manifests/{reference}"
            checks.manifest_is_there(conforming, url, document.digest, document.media_type, document.body)
    _referrers_are_listed(conforming, data)
    _delete(conforming, data)


def _references(document: Document) -> list[str]:
    return [*([document.tag] if document.tag else []), *document.tags, document.digest]


def _push(client: httpx.Client, document: Document) -> None:
    """end-7: in chunks without a length, as the suite does it; by digest, and by tag where it has one."""
    query = "?" + "&".join(f"tag={tag}" for tag in document.tags) if document.tags else ""
    for reference in [document.digest + query, *([document.tag] if document.tag else [])]:
        answer = client.put(
            f"/v2/{REPO}/manifests/{reference}",
            content=_pieces(document.body),
            headers={"Content-Type": document.media_type},
        )
        expect(answer, CREATED)
        assert answer.headers["Docker-Content-Digest"] == document.digest
        assert answer.headers.get("OCI-Subject") == document.subject
        where = location(answer)
        checks.manifest_is_there(client, where, document.digest, document.media_type, document.body)
        if query and reference.endswith(query):
            assert set(answer.headers["OCI-Tag"].split(", ")) == set(document.tags)


def _pieces(body: bytes) -> Iterator[bytes]:
    yield from (body[start : start + 1_000_000] for start in range(0, len(body), 1_000_000))


def _tags_are_listed(client: httpx.Client, data: DataSet) -> None:
    """end-8: all in one page, and `last` in the middle parts them."""
    wanted = {tag for document in data.documents for tag in _references(document)[:-1]}
    listed = expect(client.get(f"/v2/{REPO}/tags/list"), OK).json()["tags"]
    assert wanted <= set(listed)
    assert listed == sorted(listed)
    if listed:
        middle = listed[len(listed) // 2]
        rest = expect(client.get(f"/v2/{REPO}/tags/list", params={"last": middle}), OK).json()["tags"]
        assert rest == [tag for tag in listed if tag > middle]


def _referrers_are_listed(client: httpx.Client, data: DataSet) -> None:
    """end-12: each with what its manifest says, and by type when a type is asked for."""
    for subject in {document.subject for document in data.documents if document.subject}:
        wanted = [_entry(each) for each in data.documents if each.subject == subject]
        listed = _referrers(client, f"{subject}")
        assert _sorted(listed.json()["manifests"]) == _sorted(wanted)
        for kind in {entry["artifactType"] for entry in wanted if "artifactType" in entry}:
            filtered = _referrers(client, f"{subject}?artifactType={kind.replace('+', '%2B')}")
            assert filtered.headers["OCI-Filters-Applied"] == "artifactType"
            of_kind = [entry for entry in wanted if entry.get("artifactType") == kind]
            assert _sorted(filtered.json()["manifests"]) == _sorted(of_kind)


def _referrers(client: httpx.Client, reference: str) -> httpx.Response:
    answer = expect(client.get(f"/v2/{REPO}/referrers/{reference}"), OK)
    assert answer.headers["Content-Type"] == OCI_INDEX
    assert (answer.json()["schemaVersion"], answer.json()["mediaType"]) == (2, OCI_INDEX)
    return answer


def _entry(document: Document) -> dict[str, Any]:
    body = json.loads(document.body)
    entry: dict[str, Any] = {
        "mediaType": document.media_type,
        "digest": document.digest,
        "size": len(document.body),
    }
    kind = body.get("artifactType") or body.get("config", {}).get("mediaType")
    if kind:  # an index without one has none
        entry["artifactType"] = kind
    return entry | ({"annotations": body["annotations"]} if "annotations" in body else {})


def _sorted(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(entries, key=lambda entry: str(entry["digest"]))


def _delete(client: httpx.Client, data: DataSet) -> None:
    """end-9, end-10: tags, then manifests with parents first, then blobs; each is gone at once."""
    for document in reversed(data.documents):
        for tag in _references(document)[:-1]:
            expect(client.delete(f"/v2/{REPO}/manifests/{tag}"), ACCEPTED)
            expect(client.head(f"/v2/{REPO}/manifests/{tag}"), MISSING)
    for document in reversed(data.documents):
        expect(client.delete(f"/v2/{REPO}/manifests/{document.digest}"), ACCEPTED)
        expect(client.head(f"/v2/{REPO}/manifests/{document.digest}"), MISSING)
    for document in data.documents:
        if document.subject:
            assert _referrers(client, document.subject).json()["manifests"] == []
    for digest in data.blobs:
        checks.blob_is_deleted(client, REPO, digest)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_manifest_under_a_wrong_digest_is_refused(conforming: httpx.Client, algorithm: str) -> None:
    body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()
    digest = Digest.of(b"something else", algorithm)
    answer = conforming.put(
        f"/v2/{REPO}/manifests/{digest}", content=body, headers={"Content-Type": OCI_INDEX}
    )
    expect(answer, BAD)
    expect(conforming.head(f"/v2/{REPO}/manifests/{digest}"), MISSING)


def test_a_digest_of_no_known_form_is_refused(conforming: httpx.Client) -> None:
    url = f"/v2/{REPO}/manifests/sha256:baddigeststring"
    expect(conforming.put(url, content=b"{}", headers={"Content-Type": OCI_MANIFEST}), BAD)
    expect(conforming.get(url), BAD, MISSING)


@pytest.mark.parametrize("reference", ["missing", Digest.of(b"missing"), Digest.of(b"missing", "sha512")])
@pytest.mark.parametrize("repository", [REPO, "conformance/never"])
def test_a_manifest_that_is_not_there_is_404(
    conforming: httpx.Client, repository: str, reference: str
) -> None:
    for method in ("GET", "HEAD"):
        expect(conforming.request(method, f"/v2/{repository}/manifests/{reference}"), MISSING)


def test_a_repository_that_never_was_has_no_tags_and_no_referrers(conforming: httpx.Client) -> None:
    expect(conforming.get("/v2/"), OK)
    expect(conforming.get("/v2/conformance/never/tags/list"), OK, MISSING)
    answer = expect(conforming.get(f"/v2/conformance/never/referrers/{Digest.of(b'nothing')}"), OK)
    assert answer.headers["Content-Type"] == OCI_INDEX
    body = answer.json()
    assert (body["schemaVersion"], body["mediaType"], body["manifests"]) == (2, OCI_INDEX, [])
