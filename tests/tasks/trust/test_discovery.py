"""Where signatures are looked for, and how much of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci.digest import Digest
from registry_server.oci.media_types import OCI_EMPTY, OCI_INDEX, OCI_MANIFEST
from tasks.trust.discovery import MOST_REFERRERS, MOST_SIGNATURES, SMALL, Search, discover
from tasks.trust.formats.simple_signing import MEDIA_TYPE
from tasks.trust.verdict import SIGNED_BY_COSIGN
from tests.tasks.trust.material import BUNDLE_TYPE, Repository, subject_of

if TYPE_CHECKING:
    from collections.abc import Collection

IMAGE = b'{"an": "image"}'
DIGEST = Digest.of(IMAGE)
ALL = ("bundle", "legacy", "notation")
COSIGN_CONFIG = "application/vnd.dev.cosign.artifact.sig.v1+json"


def _found(repository: Repository, formats: Collection[str] = ALL, *, attestations: bool = True) -> list[str]:
    return [each.format for each in discover(repository, Search(DIGEST, formats, attestations))]


def _reasons(repository: Repository) -> list[str]:
    found = discover(repository, Search(DIGEST, ALL, attestations=True))
    return [getattr(each, "reason", "") for each in found]


def _layer(content: bytes = b"{}", media_type: str = MEDIA_TYPE) -> tuple[bytes, dict[str, Any]]:
    layer = {"mediaType": media_type, "digest": Digest.of(content), "size": len(content)}
    return content, layer | {"annotations": {}}


def _with_bundle(*, api: bool = True) -> Repository:
    repository = Repository(api=api)
    repository.attach(subject_of(IMAGE), b'{"a": 1}', BUNDLE_TYPE, artifact_type=BUNDLE_TYPE)
    return repository


@pytest.mark.parametrize(
    "api", [True, False], ids=["referrers API", "fallback tag with a wrong artifactType"]
)
def test_bundles_are_found_in_both_lists_of_referrers(api: bool) -> None:  # noqa: FBT001 - a table
    assert _found(_with_bundle(api=api)) == ["bundle"]


def test_what_an_old_bundle_has_no_artifact_type_for_its_layer_says(repository: Repository) -> None:
    content, layer = _layer(b"{}", "application/vnd.dev.sigstore.bundle+json;version=0.2")
    config = {"mediaType": OCI_EMPTY, "digest": Digest.of(b"{}"), "size": 2}
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]}
    repository.put(manifest | {"subject": subject_of(IMAGE)}, [content])
    assert _found(repository) == ["bundle"]


def test_cosigns_older_form_is_found_as_a_referrer_too(repository: Repository) -> None:
    content, layer = _layer()
    config = {"mediaType": COSIGN_CONFIG, "digest": Digest.of(b"{}"), "size": 2}
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]}
    repository.put(manifest | {"subject": subject_of(IMAGE)}, [content])
    assert _found(repository) == ["cosign"]


def test_tags_are_asked_for_where_they_may_be_and_not_where_they_are_not(repository: Repository) -> None:
    repository.sign_legacy(DIGEST, [_layer()])
    assert _found(repository) == ["cosign"]
    repository.knows_tags = True
    repository.asked.clear()
    assert _found(repository) == ["cosign"]
    assert not any(".att" in call for call in repository.asked)


def test_attestation_tags_are_asked_for_only_when_one_is_needed(repository: Repository) -> None:
    repository.sign_legacy(DIGEST, [_layer(b"{}", "application/vnd.dsse.envelope.v1+json")], "att")
    assert _found(repository, attestations=False) == []
    assert _found(repository) == ["attestation"]


def test_formats_that_nobody_uses_are_not_fetched() -> None:
    repository = _with_bundle()
    assert _found(repository, ("notation",)) == []
    assert "blob" not in repository.asked


def test_a_bundle_of_another_subject_is_not_one_of_this_image() -> None:
    repository = Repository()
    repository.attach(subject_of(b"other"), b"{}", BUNDLE_TYPE, artifact_type=BUNDLE_TYPE)
    other = repository.listed.pop(Digest.of(b"other"))
    repository.listed[DIGEST] = other
    assert _reasons(repository) == ["its subject is another image"]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("manifests", "it is listed as a referrer and is not there"),
        ("blobs", "its content is not there"),
    ],
)
def test_what_is_listed_and_not_there_does_not_count(kind: str, reason: str) -> None:
    repository = _with_bundle()
    getattr(repository, kind).clear()
    assert _reasons(repository) == [reason]


def test_content_that_is_not_what_its_digest_promises_does_not_count() -> None:
    repository = _with_bundle()
    for digest in repository.blobs:
        repository.blobs[digest] = b'{"b": 1}'
    assert "digest promises" in _reasons(repository)[0]
    for digest in list(repository.manifests):
        repository.manifests[digest] += b" "
    assert "does not have the digest" in _reasons(repository)[0]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", json.dumps({"schemaVersion": 2}).encode()])
def test_manifests_that_are_none_do_not_count(body: bytes) -> None:
    repository = Repository(api=False)
    repository.manifests[f"sha256-{DIGEST.hex}"] = body
    repository.manifests[f"sha256-{DIGEST.hex}.sig"] = body
    assert _found(repository) == ["unknown"]


def test_a_fallback_tag_that_is_no_index_lists_nothing() -> None:
    repository = Repository(api=False)
    repository.put(_signature_manifest(), [b"{}"], f"sha256-{DIGEST.hex}")
    assert _found(repository) == []


def _signature_manifest() -> dict[str, Any]:
    config = {"mediaType": OCI_EMPTY, "digest": Digest.of(b"{}"), "size": 2}
    return {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [_layer()[1]]}


def test_only_so_many_signatures_are_looked_at(repository: Repository) -> None:
    repository.sign_legacy(DIGEST, [_layer(str(number).encode()) for number in range(MOST_SIGNATURES + 5)])
    reasons = _reasons(repository)
    assert len(reasons) == MOST_SIGNATURES + 1
    assert reasons[-1] == f"only the first {MOST_SIGNATURES} signatures are looked at"
    assert repository.asked.count("blob") <= MOST_SIGNATURES + 1


def test_only_so_many_referrers_are_fetched(repository: Repository) -> None:
    for number in range(MOST_REFERRERS + 50):
        content = str(number).encode()
        repository.attach(subject_of(IMAGE), content, "text/spdx", artifact_type="a/sbom")
    repository.attach(subject_of(IMAGE), b"{}", BUNDLE_TYPE, artifact_type=BUNDLE_TYPE)
    # What says that it is a signature comes first.
    assert _found(repository) == ["bundle", "unknown"]
    assert len([call for call in repository.asked if "sha256:" in call]) == MOST_REFERRERS


def _sign(repository: Repository, predicate: str, number: int) -> None:
    content = json.dumps({"number": number}).encode()
    layer = {"mediaType": BUNDLE_TYPE, "digest": Digest.of(content), "size": len(content)}
    manifest = _signature_manifest() | {"artifactType": BUNDLE_TYPE, "layers": [layer]}
    annotations = {"dev.sigstore.bundle.predicateType": predicate}
    repository.put(manifest | {"subject": subject_of(IMAGE), "annotations": annotations}, [content])


@pytest.mark.parametrize("api", [True, False], ids=["referrers API", "fallback tag"])
def test_attestations_of_other_predicates_do_not_crowd_out_a_signature(api: bool) -> None:  # noqa: FBT001
    repository = Repository(api=api)
    for number in range(MOST_SIGNATURES + 50):
        _sign(repository, "https://slsa.dev/provenance/v1", number)
    _sign(repository, SIGNED_BY_COSIGN, -1)
    first = next(discover(repository, Search(DIGEST, ALL, predicates={SIGNED_BY_COSIGN})))
    assert getattr(first, "content", b"") == b'{"number": -1}'
    assert repository.asked.count("blob") == 1


def test_a_large_signature_is_looked_at_after_the_small_ones(repository: Repository) -> None:
    repository.attach(subject_of(IMAGE), b" " * (SMALL + 1), BUNDLE_TYPE, artifact_type=BUNDLE_TYPE)
    repository.attach(subject_of(IMAGE), b"{}", BUNDLE_TYPE, artifact_type=BUNDLE_TYPE)
    sizes = [len(getattr(each, "content", b"")) for each in discover(repository, Search(DIGEST, ALL))]
    assert sizes == [2, SMALL + 1]


@pytest.mark.parametrize(
    ("media_type", "size"),
    [(MEDIA_TYPE, 65 * 1024), (BUNDLE_TYPE, 33 * 2**20), ("application/jose+json", 2**23)],
)
def test_what_is_too_large_is_not_fetched(repository: Repository, media_type: str, size: int) -> None:
    layer = {"mediaType": media_type, "digest": DIGEST, "size": size}
    kind = {BUNDLE_TYPE: BUNDLE_TYPE, MEDIA_TYPE: COSIGN_CONFIG}.get(
        media_type, "application/vnd.cncf.notary.signature"
    )
    manifest = _signature_manifest() | {"artifactType": kind, "layers": [layer]}
    repository.put(manifest | {"subject": subject_of(IMAGE)})
    assert f"it has {size} bytes" in _reasons(repository)[0]
    assert "blob" not in repository.asked


def test_all_signatures_together_have_a_limit(repository: Repository) -> None:
    large = 30 * 2**20
    for number in range(4):
        content = bytes([number]) * large
        repository.attach(subject_of(IMAGE), content, BUNDLE_TYPE, artifact_type=BUNDLE_TYPE)
    reasons = _reasons(repository)
    assert reasons[:2] == ["", ""]
    assert all("together" in reason for reason in reasons[2:])


def test_an_index_among_the_referrers_is_no_signature(repository: Repository) -> None:
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "subject": subject_of(IMAGE)}
    repository.put(index)
    assert _found(repository) == []


@pytest.fixture
def repository() -> Repository:
    return Repository()
